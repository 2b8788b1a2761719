//! Mode parameters: the pages, and what of them a host can change (SPC-4 7.5, SBC-3 6.5).
//!
//! They belong to the unit, not to a nexus, and a reset brings the defaults back: nothing is saved.

mod page;
mod select;
mod sense;

pub(super) use page::{AVAILABLE_DESCRIPTOR, USED_DESCRIPTOR};

use super::LogicalUnitConfig;
use super::provisioning::Threshold;

/// What hosts can set.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct ModeState {
    /// WCE: writes may be acknowledged from a cache. Can be set only if the volume has one.
    pub(super) write_cache: bool,
    /// SWP: writes are refused.
    pub(super) software_write_protect: bool,
    /// D_SENSE: sense data in descriptor format.
    pub(super) descriptor_sense: bool,
    /// LBPERE: thresholds that are reached are told. Can be set only if the volume is thin.
    pub(super) threshold_reports: bool,
    /// The thresholds, in the order of [`Threshold::ALL`].
    pub(super) thresholds: [Threshold; 2],
}

impl ModeState {
    /// The state of a unit that was just made or reset, with these thresholds.
    pub(super) fn default_of(config: &LogicalUnitConfig, thresholds: [Threshold; 2]) -> Self {
        Self {
            write_cache: config.write_cache,
            software_write_protect: false,
            descriptor_sense: false,
            threshold_reports: config.thin,
            thresholds,
        }
    }

    /// The state in which every bit that can be changed is set, and no other: PC = 01b.
    fn changeable(config: &LogicalUnitConfig) -> Self {
        Self {
            write_cache: config.write_cache,
            software_write_protect: true,
            descriptor_sense: true,
            threshold_reports: config.thin,
            thresholds: [Threshold { enabled: true, count: u32::MAX }; 2],
        }
    }
}
