//! What a session of a target sees: decided from the state alone.

use super::{TargetLun, TargetRecord, TargetView};
use crate::access::fit;
use crate::state::VolumeEntry;
use crate::{Error, Grant, HostId, LoginAttempt, MappingView, Name, Refusal, Result, State, VolumeId};
use std::cmp::Reverse;
use std::collections::BTreeMap;

/// A volume that a session may use.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct UnitAccess {
    /// Its number in the target.
    pub lun: TargetLun,
    /// The volume.
    pub volume: VolumeId,
    /// It may only be read.
    pub read_only: bool,
}

/// What an initiator may do with a target, a volume's own or one of several volumes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TargetAccess {
    /// Name of the volume or the target, for people.
    pub name: Name,
    /// 0 for a volume's own target, else the target's number.
    pub number: u8,
    /// The host the initiator is of.
    pub host: HostId,
    /// The volumes, by number.
    pub units: Vec<UnitAccess>,
}

impl TargetAccess {
    /// What it may do with a volume.
    #[must_use]
    pub fn unit(&self, volume: VolumeId) -> Option<UnitAccess> {
        self.units.iter().find(|unit| unit.volume == volume).copied()
    }
}

impl State {
    /// All targets of several volumes.
    pub fn targets(&self) -> impl Iterator<Item = &TargetRecord> {
        self.targets.values()
    }

    /// The target of this iSCSI name, whatever its case.
    #[must_use]
    pub fn target(&self, iqn: &str) -> Option<&TargetRecord> {
        self.targets.values().find(|target| target.iqn.as_str().eq_ignore_ascii_case(iqn))
    }

    /// The targets of several volumes with a volume that can be used now: those that a login can be let in to.
    pub fn served_targets(&self) -> impl Iterator<Item = &TargetRecord> {
        let served = |volume: VolumeId| {
            let entry = self.volumes.get(&volume);
            entry.is_some_and(|entry| !entry.leaving && entry.offline.is_none())
        };
        self.targets.values().filter(move |target| target.mappings.iter().any(|at| served(at.volume)))
    }

    /// The iSCSI names of the targets of several volumes, by number.
    #[must_use]
    pub fn target_numbers(&self) -> BTreeMap<u8, String> {
        self.targets.values().map(|target| (target.number, target.iqn.to_string())).collect()
    }

    /// The targets that a volume is in, besides its own.
    pub fn targets_of(&self, volume: VolumeId) -> impl Iterator<Item = &TargetRecord> {
        self.targets.values().filter(move |target| target.lun_of(volume).is_some())
    }

    pub(super) fn find_target(&self, text: &str) -> Result<&TargetRecord> {
        let by_name = self.targets.values().find(|target| target.name.is(text));
        by_name.or_else(|| self.target(text)).ok_or_else(|| Error::not_found("target", text))
    }

    /// Decides what a session of a target may do, of either kind of target.
    ///
    /// # Errors
    /// Why it may not be there.
    pub fn authorize_target(
        &self,
        attempt: LoginAttempt<'_>,
        target: &str,
    ) -> std::result::Result<TargetAccess, Refusal> {
        match self.target(target) {
            Some(record) => self.authorize_shared(attempt, record),
            None => self.authorize_own(attempt, target),
        }
    }

    fn authorize_own(
        &self,
        attempt: LoginAttempt<'_>,
        target: &str,
    ) -> std::result::Result<TargetAccess, Refusal> {
        let access = self.authorize(attempt, target)?;
        let name = self.volume(access.volume).ok_or(Refusal::NotFound)?.name.clone();
        let unit = UnitAccess { lun: TargetLun::ZERO, volume: access.volume, read_only: access.read_only };
        Ok(TargetAccess { name, number: 0, host: access.host, units: vec![unit] })
    }

    fn authorize_shared(
        &self,
        attempt: LoginAttempt<'_>,
        target: &TargetRecord,
    ) -> std::result::Result<TargetAccess, Refusal> {
        let access = self.access_in(attempt, target, |entry| !entry.leaving).ok_or(Refusal::NotFound)?;
        if access.units.is_empty() { Err(Refusal::Offline) } else { Ok(access) }
    }

    /// What a session that is in a target has, for lists: also volumes that may be about to be deleted.
    #[must_use]
    pub fn session_access(&self, attempt: LoginAttempt<'_>, target: &TargetRecord) -> Option<TargetAccess> {
        self.access_in(attempt, target, |_| true)
    }

    /// What an initiator may do with those volumes of a target that count. One that is offline is not in the list for
    /// now: the others are served.
    fn access_in(
        &self,
        attempt: LoginAttempt<'_>,
        target: &TargetRecord,
        counts: fn(&VolumeEntry) -> bool,
    ) -> Option<TargetAccess> {
        let host = self.host_in(attempt, target, counts)?;
        let granted = self.granted_in(target, host).filter(|(_, entry, _)| counts(entry));
        let served = granted.filter(|(_, entry, _)| entry.offline.is_none());
        let unit = |(lun, entry, grant): (TargetLun, &VolumeEntry, Grant)| UnitAccess {
            lun,
            volume: entry.record.id,
            read_only: grant.read_only,
        };
        let units = served.map(unit).collect();
        Some(TargetAccess { name: target.name.clone(), number: target.number, host, units })
    }

    /// The host that an initiator is in a target: of those that were granted any of its volumes that count, one that
    /// names the initiator before one for any.
    fn host_in(
        &self,
        attempt: LoginAttempt<'_>,
        target: &TargetRecord,
        counts: fn(&VolumeEntry) -> bool,
    ) -> Option<HostId> {
        let fitting = self.hosts.values().filter_map(|host| Some((fit(host, attempt)?, Reverse(host.id))));
        let granted = |host: HostId| self.granted_in(target, host).any(|(_, entry, _)| counts(entry));
        fitting.filter(|(_, host)| granted(host.0)).max().map(|(_, host)| host.0)
    }

    /// The volumes of a target that a host was granted, by number.
    fn granted_in<'a>(
        &'a self,
        target: &'a TargetRecord,
        host: HostId,
    ) -> impl Iterator<Item = (TargetLun, &'a VolumeEntry, Grant)> {
        target.mappings.iter().filter_map(move |mapping| {
            let entry = self.volumes.get(&mapping.volume)?;
            let grant = entry.record.effective_grants().find(|grant| grant.host == host)?;
            Some((mapping.lun, entry, grant))
        })
    }

    /// The targets of several volumes that discovery shows to an initiator, whether or not they can be served now.
    pub fn targets_visible_to(&self, attempt: LoginAttempt<'_>) -> impl Iterator<Item = &TargetRecord> {
        let shown =
            move |target: &&TargetRecord| self.host_in(attempt, target, |entry| !entry.leaving).is_some();
        self.targets.values().filter(shown)
    }

    pub(super) fn target_view(&self, record: &TargetRecord) -> TargetView {
        let mapping = |mapping: &super::TargetMapping| {
            let volume = self.volume(mapping.volume)?;
            let host = |grant: Grant| Some((self.hosts.get(&grant.host)?.name.to_string(), grant.read_only));
            let hosts = volume.effective_grants().filter_map(host).collect();
            Some(MappingView { lun: mapping.lun, volume: volume.name.to_string(), hosts })
        };
        TargetView { record: record.clone(), mappings: record.mappings.iter().filter_map(mapping).collect() }
    }
}
