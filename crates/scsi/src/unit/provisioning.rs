//! Logical block provisioning: how much space there is, and the thresholds that say it runs short
//! (SBC-3 4.7.3.7).
//!
//! Resources are counted in *threshold sets* of [`SET_BYTES`]. A threshold has a range of one set around its count:
//! what enters it from the side where all is well is told at its far end, and may be told again only after the
//! near end was passed on the way back. So nothing is told twice for writes and unmaps that go to and fro.

use super::attention::UnitAttention;
use super::mode::ModeState;
use super::{LogicalUnit, config::BlockSize};
use crate::media::Resources;

/// Bytes of a threshold set: fine enough for a small volume, and 2³² of them are 4 PiB.
const SET_BYTES: u64 = 1 << SET_SHIFT;
const SET_SHIFT: u32 = 20;

/// What a threshold watches: PARAMETER CODE of the log page, THRESHOLD RESOURCE of the mode page.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Kind {
    /// What the pool still has, which decreases.
    Available,
    /// What the volume takes, which increases.
    Used,
}

impl Kind {
    /// In the order of their descriptors.
    pub(super) const ALL: [Self; 2] = [Self::Available, Self::Used];

    /// The resource's number in the log page (SBC-3 table 211).
    pub(super) const fn parameter_code(self) -> u16 {
        match self {
            Self::Available => 0x0001,
            Self::Used => 0x0002,
        }
    }

    const fn attention(self) -> UnitAttention {
        match self {
            Self::Available => UnitAttention::SoftThresholdReached,
            Self::Used => UnitAttention::UsedThresholdReached,
        }
    }

    /// RESOURCE COUNT: what is available rounded down, what is used rounded up.
    pub(super) fn count(self, resources: Resources) -> u32 {
        let sets = match self {
            Self::Available => resources.available_bytes / SET_BYTES,
            Self::Used => resources.used_bytes.div_ceil(SET_BYTES),
        };
        u32::try_from(sets).unwrap_or(u32::MAX)
    }
}

/// One soft threshold.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(super) struct Threshold {
    /// It is watched.
    pub(super) enabled: bool,
    /// The center of its range, in threshold sets.
    pub(super) count: u32,
}

/// Where a resource is, seen from a threshold.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Side {
    Well,
    Inside,
    Reached,
}

impl Threshold {
    fn side(self, kind: Kind, resources: Resources) -> Side {
        let center = u64::from(self.count) * SET_BYTES;
        let (low, high) = (center.saturating_sub(SET_BYTES / 2), center + SET_BYTES / 2);
        let (value, reached, well) = match kind {
            Kind::Available => {
                let value = resources.available_bytes;
                (value, value <= low, value > high)
            }
            Kind::Used => {
                let value = resources.used_bytes;
                (value, value >= high, value < low)
            }
        };
        let nothing_used = kind == Kind::Used && value == 0;
        match (reached, well || nothing_used) {
            (true, _) => Side::Reached,
            (_, true) => Side::Well,
            _ => Side::Inside,
        }
    }
}

/// When an administrator wants hosts to be warned; percents from 1 to 100.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct SpaceWarning {
    /// So much of the pool is taken.
    pub pool_used_percent: Option<u8>,
    /// So much of the volume's size is taken.
    pub volume_used_percent: Option<u8>,
}

/// What a unit knows of space.
#[derive(Clone, Debug, Default)]
pub(super) struct Space {
    warning: SpaceWarning,
    resources: Option<Resources>,
    /// Thresholds that were told, and whose resource has not come back since.
    told: [bool; 2],
}

impl Space {
    /// The thresholds that follow from the administrator's wish, for a volume of `size_bytes`.
    pub(super) fn default_thresholds(&self, size_bytes: u64) -> [Threshold; 2] {
        let pool_bytes = self.resources.map_or(0, |resources| resources.pool_bytes);
        let available = self.warning.pool_used_percent.filter(|_| pool_bytes > 0).map(|percent| {
            let free_percent = 100_u8.saturating_sub(percent);
            share(pool_bytes, free_percent)
        });
        let used = self.warning.volume_used_percent.map(|percent| share(size_bytes, percent));
        [available, used].map(|bytes| match bytes {
            Some(bytes) => {
                let count = u32::try_from(bytes / SET_BYTES).unwrap_or(u32::MAX);
                Threshold { enabled: true, count }
            }
            None => Threshold::default(),
        })
    }
}

/// `percent` percent of `bytes`, without overflow.
fn share(bytes: u64, percent: u8) -> u64 {
    let percent = u64::from(percent.min(100));
    bytes / 100 * percent + bytes % 100 * percent / 100
}

impl LogicalUnit {
    /// THRESHOLD EXPONENT: blocks in a threshold set as a power of two.
    pub(super) fn threshold_exponent(block_size: BlockSize) -> u8 {
        u8::try_from(SET_SHIFT - block_size.shift()).unwrap_or(0)
    }

    /// When hosts are to be warned. It becomes the default of the thresholds, and takes effect where no host has set
    /// its own: every nexus is then told that mode parameters changed.
    pub fn set_space_warning(&mut self, warning: SpaceWarning) {
        self.change_space(|space| space.warning = warning);
    }

    /// The pool or the volume has more or less space now. Every nexus is told of a threshold that this reaches.
    pub fn resources_changed(&mut self, resources: Resources) {
        self.change_space(|space| space.resources = Some(resources));
    }

    fn change_space(&mut self, change: impl FnOnce(&mut Space)) {
        if !self.config.thin {
            return;
        }
        let former = self.default_mode().thresholds;
        let known = self.space.resources.is_some();
        change(&mut self.space);
        let now = self.default_mode().thresholds;
        let mut thresholds = self.mode.thresholds;
        for ((threshold, former), now) in thresholds.iter_mut().zip(former).zip(now) {
            if *threshold == former {
                *threshold = now;
            }
        }
        if thresholds != self.mode.thresholds {
            self.mode.thresholds = thresholds;
            // What the unit learns of itself while it starts is no change.
            if known {
                self.raise_all(UnitAttention::ModeParametersChanged, None);
            }
        }
        self.check_thresholds();
    }

    /// Mode parameters after a reset.
    pub(super) fn default_mode(&self) -> ModeState {
        let size_bytes = self.blocks << self.config.block_size.shift();
        ModeState::default_of(&self.config, self.space.default_thresholds(size_bytes))
    }

    /// Tells what has been reached and was not told, and forgets having told what is well again.
    pub(super) fn check_thresholds(&mut self) {
        let Some(resources) = self.space.resources else { return };
        let mut told = self.space.told;
        for ((kind, threshold), told) in Kind::ALL.into_iter().zip(self.mode.thresholds).zip(&mut told) {
            let watched = threshold.enabled && self.mode.threshold_reports;
            match threshold.side(kind, resources) {
                Side::Reached if watched && !*told => {
                    *told = true;
                    self.raise_all(kind.attention(), None);
                }
                Side::Well => *told = false,
                _ => *told &= watched,
            }
        }
        self.space.told = told;
    }

    /// After a host has changed thresholds: one that it has set anew is told even if it is reached already.
    pub(super) fn thresholds_set(&mut self, former: ModeState) {
        let now = self.mode.thresholds.iter().zip(former.thresholds);
        for (told, (now, former)) in self.space.told.iter_mut().zip(now) {
            *told &= *now == former;
        }
        self.check_thresholds();
    }
}
