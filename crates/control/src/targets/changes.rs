//! Changes to targets: making and deleting them, mapping volumes and taking them out.

use super::{TargetLun, TargetMapping, TargetRecord, TargetView};
use crate::file::FileChange;
use crate::portals::TAG_MAX;
use crate::volumes::in_use;
use crate::{
    Error, ErrorKind, Force, Group, IQN_PREFIX, InitiatorName, Name, Outcome, Result, SessionFacts, State,
    VolumeId,
};

/// Takes a target number that is free; numbers are 1 to 255.
fn free_number(state: &State, object: &str) -> Result<u8> {
    let free = (1..=u8::MAX).find(|number| state.targets().all(|target| target.number != *number));
    free.ok_or_else(|| Error::invalid(object, "a group has at most 255 targets of several volumes"))
}

/// Ports are told apart by the target's number and the portal group's tag, of eight bits each. Groups that were made
/// when tags could be larger stay as they are, but rule such targets out.
fn check_tags(state: &State, object: &str) -> Result<()> {
    let Some(group) = state.portals.groups.iter().find(|group| group.tag.0 > TAG_MAX) else { return Ok(()) };
    let message = format!(
        "portal group {} has a number above {TAG_MAX}, with which targets of several volumes do not go; move its portals \
         to a group of a lower number first",
        group.tag.0
    );
    Err(Error::invalid(object, message))
}

impl Group {
    /// All targets of several volumes, by name.
    #[must_use]
    pub fn targets(&self) -> Vec<TargetView> {
        let state = self.state.read();
        let mut views: Vec<_> = state.targets().map(|record| state.target_view(record)).collect();
        views.sort_by(|one, other| one.record.name.as_str().cmp(other.record.name.as_str()));
        views
    }

    /// One target, by name or iSCSI name.
    ///
    /// # Errors
    /// `NotFound`.
    pub fn target(&self, target: &str) -> Result<TargetView> {
        let state = self.state.read();
        Ok(state.target_view(state.find_target(target)?))
    }

    /// The sessions of a target of several volumes.
    #[must_use]
    pub fn sessions_of_target(&self, target: &TargetRecord) -> Vec<SessionFacts> {
        let mut sessions = self.sessions();
        sessions.retain(|session| session.target.as_ref() == Some(&target.iqn));
        sessions
    }

    /// Makes a target without volumes. One that is there is no error.
    ///
    /// # Errors
    /// `Invalid` for the name, or if there are too many.
    pub async fn create_target(&self, name: &str) -> Result<(Outcome, TargetView)> {
        let name = Name::parse(name)?;
        let object = format!("target {name}");
        let _change = self.changes.lock().await;
        if let Ok(there) = self.target(name.as_str()) {
            return Ok((Outcome::Unchanged, there));
        }
        check_tags(&self.state.read(), &object)?;
        let record = TargetRecord {
            iqn: self.new_target_iqn(&name)?,
            number: free_number(&self.state.read(), &object)?,
            name,
            mappings: Vec::new(),
            created_unix_ms: self.runtime.unix_time_ms(),
        };
        self.persist(vec![FileChange::PutTarget(record.clone())]).await?;
        tracing::info!(target_name = %record.name, iqn = %record.iqn, "target created");
        let mut state = self.state.write();
        let view = state.target_view(&record);
        state.targets.insert(record.iqn.clone(), record);
        Ok((Outcome::Created, view))
    }

    /// After its name, or if something else is called that already, with a number behind.
    fn new_target_iqn(&self, name: &Name) -> Result<InitiatorName> {
        let plain = InitiatorName::parse(&format!("{IQN_PREFIX}{}", name.iqn_part()))?;
        let state = self.state.read();
        if !state.is_target_name(&plain) {
            return Ok(plain);
        }
        let id = uuid::Builder::from_random_bytes(self.runtime.random_id()).into_uuid();
        InitiatorName::parse(&format!("{plain}-{id}"))
    }

    /// Deletes a target; its volumes stay, each with the target of its own.
    ///
    /// # Errors
    /// `NotFound`; `InUse` while there are sessions, without force.
    pub async fn delete_target(&self, target: &str, force: Force) -> Result<(Outcome, TargetView)> {
        let _change = self.changes.lock().await;
        let view = self.target(target)?;
        let sessions = self.sessions_of_target(&view.record);
        if !sessions.is_empty() && force == Force::No {
            return Err(in_use(format!("target {}", view.record.name), &sessions));
        }
        self.persist(vec![FileChange::RemoveTarget(view.record.iqn.clone())]).await?;
        self.state.write().targets.remove(&view.record.iqn);
        self.frontend.targets_changed(vec![view.record.iqn.clone()]).await;
        tracing::info!(target_name = %view.record.name, "target deleted");
        Ok((Outcome::Deleted, view))
    }

    /// Puts a volume into a target, under the lowest free number if none is said. Hosts that have the volume granted
    /// and the target open are told.
    ///
    /// # Errors
    /// `NotFound`; `Exists` if the number is taken, or the volume there under another; `Invalid` if the target is full.
    pub async fn map_volume(
        &self,
        target: &str,
        volume: &str,
        lun: Option<TargetLun>,
    ) -> Result<(Outcome, TargetView)> {
        let _change = self.changes.lock().await;
        let mut record = self.target_record(target)?;
        let object = format!("target {}", record.name);
        let volume = self.volume(volume)?.record;
        if let Some(there) = record.lun_of(volume.id) {
            if lun.is_none_or(|lun| lun == there) {
                return Ok((Outcome::Unchanged, self.target(target)?));
            }
            let message = format!(
                "volume {} is there as LUN {there}; unmap it first: hosts take another number for another disk",
                volume.name
            );
            return Err(Error::new(ErrorKind::Exists, object, message));
        }
        let lun = lun.or_else(|| record.lowest_free());
        let lun = lun.ok_or_else(|| Error::invalid(&object, "all its LUNs, 0 to 255, are taken"))?;
        if let Some(other) = record.volume_at(lun) {
            let other = self.volume(&other.to_string())?.record.name;
            let message = format!("LUN {lun} is volume {other}; choose another, or leave --lun out");
            return Err(Error::new(ErrorKind::Exists, object, message));
        }
        record.insert(TargetMapping { lun, volume: volume.id });
        let view = self.change_target(record).await?;
        tracing::info!(target_name = %view.record.name, volume = %volume.name, %lun, "volume mapped");
        Ok((Outcome::Changed, view))
    }

    /// Takes a volume out of a target. What hosts have on the way to it is answered, what comes later ends with LOGICAL
    /// UNIT NOT SUPPORTED; other volumes of the target are not disturbed.
    ///
    /// # Errors
    /// `NotFound`.
    pub async fn unmap_volume(&self, target: &str, volume: &str) -> Result<(Outcome, TargetView)> {
        let _change = self.changes.lock().await;
        let mut record = self.target_record(target)?;
        let volume = self.volume(volume)?.record;
        if record.lun_of(volume.id).is_none() {
            return Ok((Outcome::Unchanged, self.target(target)?));
        }
        record.mappings.retain(|mapping| mapping.volume != volume.id);
        let view = self.change_target(record).await?;
        tracing::info!(target_name = %view.record.name, volume = %volume.name, "volume unmapped");
        Ok((Outcome::Changed, view))
    }

    /// The record to change. What it says of volumes that are no more is left out.
    fn target_record(&self, target: &str) -> Result<TargetRecord> {
        let state = self.state.read();
        let mut record = state.find_target(target)?.clone();
        record.mappings.retain(|mapping| state.volumes.contains_key(&mapping.volume));
        Ok(record)
    }

    async fn change_target(&self, record: TargetRecord) -> Result<TargetView> {
        let kept = self.state.read().kept_form(&record);
        self.persist(vec![FileChange::PutTarget(kept)]).await?;
        self.state.write().targets.insert(record.iqn.clone(), record.clone());
        self.frontend.targets_changed(vec![record.iqn.clone()]).await;
        self.target(record.iqn.as_str())
    }

    /// Takes a volume that was deleted out of every target.
    pub(crate) fn forget_mappings(&self, volume: VolumeId) -> Vec<FileChange> {
        let mut state = self.state.write();
        let mut changed: Vec<TargetRecord> = state.targets_of(volume).cloned().collect();
        for record in &mut changed {
            record.mappings.retain(|mapping| mapping.volume != volume);
            state.targets.insert(record.iqn.clone(), record.clone());
        }
        changed.iter().map(|record| FileChange::PutTarget(state.kept_form(record))).collect()
    }

    /// Has the sessions of targets see volumes of theirs that have come back.
    pub(crate) async fn volumes_are_back(&self, volumes: &[VolumeId]) {
        let targets: Vec<_> = {
            let state = self.state.read();
            let concerned = |target: &&TargetRecord| {
                target.mappings.iter().any(|mapping| volumes.contains(&mapping.volume))
            };
            state.targets().filter(concerned).map(|target| target.iqn.clone()).collect()
        };
        if !targets.is_empty() {
            self.frontend.targets_changed(targets).await;
        }
    }
}

impl State {
    /// Whether a target of either kind has this name.
    pub(crate) fn is_target_name(&self, iqn: &InitiatorName) -> bool {
        self.targets.contains_key(iqn) || self.volume_records().any(|record| record.iqn == *iqn)
    }

    /// The record as the file keeps it: without volumes that are gone with the process.
    fn kept_form(&self, record: &TargetRecord) -> TargetRecord {
        let volatile = |volume| {
            let pool = self.volume(volume).and_then(|record| self.pools.get(&record.pool));
            pool.is_some_and(|pool| pool.record.volatile)
        };
        let mut kept = record.clone();
        kept.mappings.retain(|mapping| !volatile(mapping.volume));
        kept
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{GroupRecord, PortalGroupTag, PortalSet};

    /// SPC-4 4.6.5.2: with a number of eight bits and a larger tag two ports would have one identifier.
    #[test]
    fn a_portal_group_of_a_large_number_rules_targets_of_several_volumes_out() {
        let name = Name::parse("g").unwrap();
        let record = GroupRecord { version: 1, id: String::new(), name, discovery: None, isns: None };
        let mut state = State::new(record);
        for (tag, fits) in [(1, true), (TAG_MAX, true), (TAG_MAX + 1, false)] {
            state.portals = PortalSet::of(&[]);
            state.portals.groups[0].tag = PortalGroupTag(tag);
            let checked = check_tags(&state, "target farm");
            assert_eq!(checked.is_ok(), fits);
            let message = checked.err().map(|error| error.message).unwrap_or_default();
            assert!(fits || message.contains("portal group 256"), "{message}");
        }
    }
}
