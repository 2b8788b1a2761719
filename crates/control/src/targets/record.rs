//! What is remembered of a target, and how people see it.

use crate::{Error, InitiatorName, Name, Result, VolumeId};
use serde::{Deserialize, Serialize};
use std::fmt;

/// Number of a volume in a target: 0 to 255, the numbers that every host's drivers ask for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct TargetLun(u8);

impl TargetLun {
    /// The number 0.
    pub const ZERO: Self = Self(0);

    /// All numbers, lowest first.
    pub(crate) fn all() -> impl Iterator<Item = Self> {
        (0..=u8::MAX).map(Self)
    }

    /// The number.
    #[must_use]
    pub fn number(self) -> u16 {
        self.0.into()
    }
}

impl TryFrom<u64> for TargetLun {
    type Error = Error;

    fn try_from(number: u64) -> Result<Self> {
        let in_range = u8::try_from(number).map(Self);
        in_range.map_err(|_| Error::invalid(format!("LUN {number}"), "a LUN is a number from 0 to 255"))
    }
}

impl fmt::Display for TargetLun {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// A volume in a target.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct TargetMapping {
    /// Its number.
    pub lun: TargetLun,
    /// The volume.
    pub volume: VolumeId,
}

/// A target of several volumes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TargetRecord {
    /// Name.
    pub name: Name,
    /// iSCSI name; for life.
    pub iqn: InitiatorName,
    /// 1 to 255; tells its ports from those of other targets of the same volume. For life.
    pub number: u8,
    /// What is in it, by number.
    pub mappings: Vec<TargetMapping>,
    /// When it was created, in ms since 1970.
    pub created_unix_ms: u64,
}

impl TargetRecord {
    /// The number of a volume in it.
    #[must_use]
    pub fn lun_of(&self, volume: VolumeId) -> Option<TargetLun> {
        self.mappings.iter().find(|mapping| mapping.volume == volume).map(|mapping| mapping.lun)
    }

    pub(super) fn volume_at(&self, lun: TargetLun) -> Option<VolumeId> {
        self.mappings.iter().find(|mapping| mapping.lun == lun).map(|mapping| mapping.volume)
    }

    pub(super) fn lowest_free(&self) -> Option<TargetLun> {
        TargetLun::all().find(|lun| self.volume_at(*lun).is_none())
    }

    pub(super) fn insert(&mut self, mapping: TargetMapping) {
        self.mappings.push(mapping);
        self.mappings.sort_by_key(|mapping| mapping.lun);
    }
}

/// A volume in a target, as people see it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MappingView {
    /// Its number.
    pub lun: TargetLun,
    /// Name of the volume.
    pub volume: String,
    /// Names of the hosts that see it, and whether they may only read.
    pub hosts: Vec<(String, bool)>,
}

/// A target as people see it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TargetView {
    /// What is remembered of it.
    pub record: TargetRecord,
    /// What is in it, by number.
    pub mappings: Vec<MappingView>,
}
