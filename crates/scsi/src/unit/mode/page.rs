//! The mode pages, to and from their bytes.

use super::ModeState;
use crate::unit::provisioning::{Kind, Threshold};

/// A mode page that is supported.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Page {
    /// 01h (SBC-3 6.5.8).
    ReadWriteErrorRecovery,
    /// 08h (SBC-3 6.5.6).
    Caching,
    /// 0Ah (SPC-4 7.5.8).
    Control,
    /// 1Ch (SBC-3 6.5.7).
    InformationalExceptions,
    /// 1Ch/02h (SBC-3 6.5.9), of thin units only.
    LogicalBlockProvisioning,
}

/// Byte 7 bit of the read-write error recovery page.
const LBPERE: u8 = 0x80;
/// Byte 2 bit of the caching page.
const WCE: u8 = 0x04;
/// Byte 2 bit of the control page.
const D_SENSE: u8 = 0x04;
/// Byte 4 bit of the control page.
const SWP: u8 = 0x08;
/// Byte 0 bit of pages with a subpage code, whose length field has two bytes.
const SPF: u8 = 0x40;
/// Byte 0 bit of a threshold descriptor.
const ENABLED: u8 = 0x80;
/// Offset of the first threshold descriptor in its page, and bytes of each.
const DESCRIPTORS_AT: usize = 16;
const DESCRIPTOR_LEN: usize = 8;

/// Where the threshold of the pool's space has its descriptor in the Logical Block Provisioning page.
pub(in crate::unit) const AVAILABLE_DESCRIPTOR: u64 = 16;
/// Where the threshold of the volume's own space has its.
pub(in crate::unit) const USED_DESCRIPTOR: u64 = 24;

impl Page {
    /// In ascending order, as page 3Fh returns them.
    pub(super) const ALL: [Self; 5] = [
        Self::ReadWriteErrorRecovery,
        Self::Caching,
        Self::Control,
        Self::InformationalExceptions,
        Self::LogicalBlockProvisioning,
    ];

    /// PAGE CODE and SUBPAGE CODE.
    pub(super) const fn code(self) -> (u8, u8) {
        match self {
            Self::ReadWriteErrorRecovery => (0x01, 0),
            Self::Caching => (0x08, 0),
            Self::Control => (0x0a, 0),
            Self::InformationalExceptions => (0x1c, 0),
            Self::LogicalBlockProvisioning => (0x1c, 0x02),
        }
    }

    /// Whether a unit that is `thin` or not has it.
    pub(super) fn exists(self, thin: bool) -> bool {
        thin || self != Self::LogicalBlockProvisioning
    }

    /// All bytes, with those of the header.
    pub(super) const fn len(self) -> usize {
        match self {
            Self::Caching => 20,
            Self::ReadWriteErrorRecovery | Self::Control | Self::InformationalExceptions => 12,
            Self::LogicalBlockProvisioning => DESCRIPTORS_AT + 2 * DESCRIPTOR_LEN,
        }
    }

    /// Bytes of the header: with a subpage code it has one byte more for that and one for the length.
    pub(super) const fn header_len(self) -> usize {
        if self.code().1 == 0 { 2 } else { 4 }
    }

    /// The header: codes and PAGE LENGTH, which counts what follows. PS is clear: nothing is saved.
    pub(super) fn header(self) -> Vec<u8> {
        let (code, subpage) = self.code();
        let len = u8::try_from(self.len() - self.header_len()).unwrap_or(u8::MAX);
        if subpage == 0 { vec![code, len] } else { vec![SPF | code, subpage, 0, len] }
    }

    /// The page with `state`, and the values nobody can change unless `fixed` is off.
    pub(super) fn encode(self, state: ModeState, fixed: bool) -> Vec<u8> {
        let flag = |set: bool, mask: u8| if set { mask } else { 0 };
        let mut page = self.header();
        match self {
            // Retries and limits are not the host's to choose: 0.
            Self::ReadWriteErrorRecovery => {
                page.extend_from_slice(&[0, 0, 0, 0, 0, flag(state.threshold_reports, LBPERE)]);
            }
            Self::Caching => page.push(flag(state.write_cache, WCE)),
            Self::Control => {
                // GLTSD; QUEUE ALGORITHM MODIFIER 1: commands are reordered freely.
                let (logging, queuing) = if fixed { (0x02, 0x10) } else { (0, 0) };
                let protect = flag(state.software_write_protect, SWP);
                page.extend_from_slice(&[flag(state.descriptor_sense, D_SENSE) | logging, queuing, protect]);
            }
            // DEXCPT: there are no informational exceptions.
            Self::InformationalExceptions => page.push(flag(fixed, 0x08)),
            // SITUA clear: every nexus is told.
            Self::LogicalBlockProvisioning => {
                page.resize(DESCRIPTORS_AT, 0);
                let descriptors = Kind::ALL.into_iter().zip(state.thresholds);
                descriptors.for_each(|(kind, threshold)| push_threshold(&mut page, kind, threshold, fixed));
            }
        }
        page.resize(self.len(), 0);
        page
    }

    /// `state` as changed by `page`, whose length has been checked.
    pub(super) fn decode(self, page: &[u8], mut state: ModeState) -> ModeState {
        let bit = |at: usize, mask: u8| page.get(at).is_some_and(|byte| byte & mask != 0);
        match self {
            Self::ReadWriteErrorRecovery => state.threshold_reports = bit(7, LBPERE),
            Self::Caching => state.write_cache = bit(2, WCE),
            Self::Control => {
                state.descriptor_sense = bit(2, D_SENSE);
                state.software_write_protect = bit(4, SWP);
            }
            Self::InformationalExceptions => {}
            Self::LogicalBlockProvisioning => {
                let descriptors = page.get(DESCRIPTORS_AT..).unwrap_or(&[]).chunks_exact(DESCRIPTOR_LEN);
                for (threshold, descriptor) in state.thresholds.iter_mut().zip(descriptors) {
                    *threshold = threshold_of(descriptor);
                }
            }
        }
        state
    }
}

/// A threshold descriptor. THRESHOLD TYPE is always 000b: a soft threshold, counted in threshold sets.
fn push_threshold(page: &mut Vec<u8>, kind: Kind, threshold: Threshold, fixed: bool) {
    const DECREASING: u8 = 0;
    const INCREASING: u8 = 1;
    let arming = match kind {
        Kind::Available => DECREASING,
        Kind::Used => INCREASING,
    };
    let [_, resource] = kind.parameter_code().to_be_bytes();
    let (arming, resource) = if fixed { (arming, resource) } else { (0, 0) };
    let enabled = if threshold.enabled { ENABLED } else { 0 };
    page.extend_from_slice(&[enabled | arming, resource, 0, 0]);
    page.extend_from_slice(&threshold.count.to_be_bytes());
}

fn threshold_of(descriptor: &[u8]) -> Threshold {
    let &[flags, _, _, _, a, b, c, d] = descriptor else { return Threshold::default() };
    Threshold { enabled: flags & ENABLED != 0, count: u32::from_be_bytes([a, b, c, d]) }
}
