//! Targets of several volumes: what a session sees in one, and changes of that while sessions are there.

use crate::targets::Targets;
use control::{ConnectionFacts, InitiatorName, LoginAttempt, State, TargetAccess, UnitAccess, VolumeId};
use scsi::TargetNumber;
use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;
use target::{ConnectionInfo, LogicalUnitHandle, SessionId, SessionInfo, UnitGrant, UnitUse};

/// How long sessions may take to see what is theirs now, and how often is looked.
const SETTLE_TIME_MAX: Duration = Duration::from_secs(15);
const SETTLE_LOOK: Duration = Duration::from_millis(10);

/// A unit and the sessions that used it before a change.
pub(crate) struct Users {
    volume: VolumeId,
    unit: Arc<LogicalUnitHandle>,
    sessions: Vec<SessionId>,
}

/// What a session may do in its target now.
fn access_of(state: &State, info: &SessionInfo) -> Option<TargetAccess> {
    let attempt = LoginAttempt { initiator: &info.initiator, source: info.peer.ip() };
    state.authorize_target(attempt, info.target.as_deref()?).ok()
}

/// A connection as the model has it.
pub(crate) fn connection(info: ConnectionInfo) -> ConnectionFacts {
    let digests = info.digests.map(|digests| (digests.header, digests.data));
    ConnectionFacts { cid: info.cid.0, source: info.peer, portal: info.portal, digests }
}

impl Targets {
    /// The units of a session, without those that are not served just now.
    pub(crate) fn unit_grants(&self, access: &TargetAccess) -> Vec<UnitGrant> {
        let grant = |access: &UnitAccess| {
            let (lun, unit) = (scsi::Lun::new(access.lun.number())?, self.unit(access.volume)?);
            Some(UnitGrant { lun, unit, read_only: access.read_only })
        };
        access.units.iter().filter_map(grant).collect()
    }

    /// Has the sessions of these targets look again at what they may do.
    pub(crate) fn tell_targets<'a>(&self, targets: impl IntoIterator<Item = &'a InitiatorName>) {
        if let Some(server) = self.server() {
            targets.into_iter().for_each(|iqn| server.target_changed(iqn.as_str()));
        }
    }

    /// The targets that a volume is in, besides its own.
    pub(crate) fn targets_with(&self, volume: VolumeId) -> Vec<InitiatorName> {
        self.with_group(|state| state.targets_of(volume).map(|target| target.iqn.clone()).collect())
            .unwrap_or_default()
    }

    pub(crate) fn other_targets(&self, volume: VolumeId) -> Vec<TargetNumber> {
        self.with_group(|state| state.targets_of(volume).map(|target| TargetNumber(target.number)).collect())
            .unwrap_or_default()
    }

    /// Tells every unit through which targets it is reached.
    pub(crate) fn number_ports(&self) {
        let numbers = |state: &State| {
            let mut numbers: HashMap<VolumeId, Vec<TargetNumber>> = HashMap::new();
            for target in state.targets() {
                for mapping in &target.mappings {
                    numbers.entry(mapping.volume).or_default().push(TargetNumber(target.number));
                }
            }
            numbers
        };
        let known = self.with_group(|state| (state.target_numbers(), numbers(state)));
        let Some((names, mut numbers)) = known else { return };
        // Until what was registered through it is retired, a target that is gone keeps its name.
        self.target_names.write().extend(names);
        for (volume, unit) in self.all_units() {
            unit.set_other_targets(numbers.remove(&volume).unwrap_or_default());
        }
    }

    /// Has nobody keep what was registered through a target that is no more: another will have its number.
    pub(crate) async fn retire_targets(&self) {
        let Some(names) = self.with_group(State::target_numbers) else { return };
        let existing: Vec<TargetNumber> = names.keys().map(|number| TargetNumber(*number)).collect();
        for (volume, unit) in self.all_units() {
            if tokio::time::timeout(SETTLE_TIME_MAX, unit.retire_targets(&existing)).await.is_err() {
                tracing::warn!(%volume, "registrations through a deleted target are still being changed");
            }
        }
        *self.target_names.write() = names;
    }

    /// The sessions that use a volume now.
    pub(crate) fn users_of(&self, volume: VolumeId) -> Vec<Users> {
        let unit = self.unit(volume).into_iter();
        unit.map(|unit| users(volume, unit, |_| true)).collect()
    }

    /// The sessions of targets, by what they use now.
    pub(crate) fn users_in(&self, targets: &[InitiatorName]) -> Vec<Users> {
        let sessions = self.server().map(|server| server.sessions()).unwrap_or_default();
        let in_targets = |info: &&SessionInfo| {
            let target = info.target.as_deref();
            target.is_some_and(|name| targets.iter().any(|iqn| iqn.as_str().eq_ignore_ascii_case(name)))
        };
        let concerned: Vec<SessionId> = sessions.iter().filter(in_targets).map(|info| info.id).collect();
        let units = self.all_units().into_iter();
        let users = units.map(|(volume, unit)| users(volume, unit, |id| concerned.contains(&id)));
        users.filter(|users| !users.sessions.is_empty()).collect()
    }

    /// Waits until no session does any more to a volume what it may not do now: sessions that lost it are off it, those
    /// that may only read write no more, and what they had on the way has ended.
    pub(crate) async fn until_settled(&self, users: Vec<Users>) {
        let settled = async {
            for users in &users {
                while self.is_behind(users) {
                    tokio::time::sleep(SETTLE_LOOK).await;
                }
                users.unit.quiet(&self.restricted(users)).await;
            }
        };
        if tokio::time::timeout(SETTLE_TIME_MAX, settled).await.is_err() {
            tracing::warn!("commands that were under way before a change of access are slow to end");
        }
    }

    /// What these sessions may do with the volume now: nothing, or whether they may only read.
    fn rights(&self, users: &Users) -> HashMap<SessionId, bool> {
        let infos = self.server().map(|server| server.sessions()).unwrap_or_default();
        let infos = infos.iter().filter(|info| users.sessions.contains(&info.id));
        let right = |state: &State, info: &SessionInfo| {
            let unit = access_of(state, info)?.unit(users.volume)?;
            Some((info.id, unit.read_only))
        };
        self.with_group(|state| infos.filter_map(|info| right(state, info)).collect()).unwrap_or_default()
    }

    /// Whether a session still has more than it may.
    fn is_behind(&self, users: &Users) -> bool {
        let rights = self.rights(users);
        let behind =
            |used: &UnitUse| rights.get(&used.session).is_none_or(|read_only| *read_only && !used.read_only);
        users.unit.uses().iter().filter(|used| users.sessions.contains(&used.session)).any(behind)
    }

    /// The sessions that have less than all.
    fn restricted(&self, users: &Users) -> Vec<SessionId> {
        let rights = self.rights(users);
        let mut sessions = users.sessions.clone();
        sessions.retain(|session| rights.get(session).is_none_or(|read_only| *read_only));
        sessions
    }
}

fn users(volume: VolumeId, unit: Arc<LogicalUnitHandle>, concerned: impl Fn(SessionId) -> bool) -> Users {
    let mut sessions: Vec<SessionId> = unit.uses().iter().map(|used| used.session).collect();
    sessions.retain(|session| concerned(*session));
    Users { volume, unit, sessions }
}
