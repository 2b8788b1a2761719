//! Asymmetric logical unit access (SPC-4 5.15.2): the target port groups of a unit, and what each admits.
//!
//! The list is the unit's state, the same whichever path asks: hosts ask on one path and believe it of all. It
//! comes from outside; hosts may change a group's state with SET TARGET PORT GROUPS unless the group is pinned.

mod ports;
mod report;
mod set;

use super::LogicalUnit;
use super::attention::UnitAttention;
use super::nexus::NexusId;
use crate::command::Reach;
use crate::sense::{AdditionalSense, Sense, SenseKey};

pub use ports::TargetNumber;
pub(super) use ports::Targets;

/// TARGET PORT GROUP. It has one port of each target that has the unit; that of the unit's own has the same number.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct PortGroupId(pub u16);

/// ASYMMETRIC ACCESS STATE (SPC-4 5.15.2.4 and table 306).
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub enum AccessState {
    /// Serves everything, as well as any path does.
    #[default]
    ActiveOptimized,
    /// Serves everything; other paths are better.
    ActiveNonOptimized,
    /// Answers what describes the unit and what reserves it, no I/O.
    Standby,
    /// Answers only what says so and what may change it.
    Unavailable,
    /// Nothing can come through its port.
    Offline,
    /// On the way from one state to another: hosts try again.
    Transitioning,
}

impl AccessState {
    /// The four-bit code.
    pub const fn code(self) -> u8 {
        match self {
            Self::ActiveOptimized => 0x0,
            Self::ActiveNonOptimized => 0x1,
            Self::Standby => 0x2,
            Self::Unavailable => 0x3,
            Self::Offline => 0xe,
            Self::Transitioning => 0xf,
        }
    }

    /// What a host may ask for: the primary states (SPC-4 6.45). Offline is a matter of ports, not of requests.
    const fn requested(code: u8) -> Option<Self> {
        match code {
            0x0 => Some(Self::ActiveOptimized),
            0x1 => Some(Self::ActiveNonOptimized),
            0x2 => Some(Self::Standby),
            0x3 => Some(Self::Unavailable),
            _ => None,
        }
    }

    /// Whether a command that reaches as far as `reach` runs in this state, and what it ends with if not.
    fn admits(self, reach: Reach) -> Result<(), Sense> {
        let (least, additional) = match self {
            Self::ActiveOptimized | Self::ActiveNonOptimized => return Ok(()),
            Self::Standby => (Reach::Standby, AdditionalSense::PORT_IN_STANDBY),
            Self::Unavailable => (Reach::Unavailable, AdditionalSense::PORT_UNAVAILABLE),
            Self::Offline => (Reach::Unavailable, AdditionalSense::NOT_READY_OFFLINE),
            Self::Transitioning => (Reach::Transition, AdditionalSense::ACCESS_STATE_TRANSITION),
        };
        if reach >= least { Ok(()) } else { Err(Sense::new(SenseKey::NotReady, additional)) }
    }
}

/// A target port group as the unit is told of it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct PortGroup {
    /// Which one.
    pub id: PortGroupId,
    /// Its state.
    pub state: AccessState,
    /// PREF: hosts should rather use this one.
    pub preferred: bool,
    /// Hosts may not change the state.
    pub pinned: bool,
}

impl PortGroup {
    /// An active, optimized group that hosts may change.
    pub const fn new(id: PortGroupId) -> Self {
        Self { id, state: AccessState::ActiveOptimized, preferred: false, pinned: false }
    }
}

/// What put a group into its state (STATUS CODE, SPC-4 table 307).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Cause {
    /// 00h: it has been in it from the start.
    None,
    /// 01h: SET TARGET PORT GROUPS.
    Explicit,
    /// 02h: this side.
    Implicit,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Group {
    /// As it was told from outside.
    told: PortGroup,
    /// The state it is in.
    state: AccessState,
    cause: Cause,
}

/// The groups, by number.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct PortGroups(Vec<Group>);

impl Default for PortGroups {
    /// One group with one port, number 1, which serves.
    fn default() -> Self {
        Self(vec![Group::new(PortGroup::new(PortGroupId(1)))])
    }
}

impl Group {
    const fn new(told: PortGroup) -> Self {
        Self { told, state: told.state, cause: Cause::None }
    }

    /// What becomes of the group when it is told `told`: a state that a host has set stays until it is told another
    /// one than before.
    fn retold(self, told: PortGroup) -> Self {
        if told.state == self.state {
            return Self { told, ..self };
        }
        if told.state == self.told.state && !told.pinned {
            return Self { told, ..self };
        }
        Self { told, state: told.state, cause: Cause::Implicit }
    }

    /// What hosts see of it.
    const fn visible(self) -> (PortGroupId, AccessState, bool) {
        (self.told.id, self.state, self.told.preferred)
    }
}

impl PortGroups {
    /// Takes the list as it is now. Whether hosts see a difference.
    fn take(&mut self, mut told: Vec<PortGroup>) -> bool {
        told.sort_by_key(|group| group.id);
        told.dedup_by_key(|group| group.id);
        let merged = told.into_iter().map(|told| match self.get(told.id) {
            Some(known) => known.retold(told),
            None => Group::new(told),
        });
        let merged: Vec<Group> = merged.collect();
        let before = std::mem::replace(&mut self.0, merged);
        !before.into_iter().map(Group::visible).eq(self.0.iter().copied().map(Group::visible))
    }

    fn get(&self, id: PortGroupId) -> Option<Group> {
        self.0.iter().find(|group| group.told.id == id).copied()
    }

    fn get_mut(&mut self, id: PortGroupId) -> Option<&mut Group> {
        self.0.iter_mut().find(|group| group.told.id == id)
    }
}

impl LogicalUnit {
    /// Takes the target port groups as they are now, in any order; of a number that comes twice, the first. Every
    /// nexus is told that access states changed, unless hosts see no difference. What a host has set with SET TARGET
    /// PORT GROUPS stays, unless the group's state differs from the one given before or is pinned.
    pub fn set_port_groups(&mut self, groups: Vec<PortGroup>) {
        let changed = self.port_groups.take(groups);
        self.meet_ports();
        if changed {
            self.raise_all(UnitAttention::AccessStateChanged, None);
        }
    }

    /// The state of every target port group, by number.
    pub fn access_states(&self) -> impl Iterator<Item = (PortGroupId, AccessState)> {
        self.port_groups.0.iter().map(|group| (group.told.id, group.state))
    }

    /// The state of the group that `nexus` came through. A session whose group was taken away meanwhile is served to
    /// its end.
    pub(super) fn access_state(&self, nexus: NexusId) -> AccessState {
        let group = self.nexuses.get(nexus).map(|nexus| PortGroupId(nexus.info.target_port.portal_group_tag));
        group
            .and_then(|id| self.port_groups.get(id))
            .map_or(AccessState::ActiveOptimized, |group| group.state)
    }

    /// Whether a command with this reach runs on the path of `nexus` (SPC-4 5.15.2.4 and 5.15.2.5).
    pub(super) fn check_path(&self, nexus: NexusId, reach: Reach) -> Result<(), Sense> {
        // Most commands come by active paths of units that have one or two groups: a short search.
        self.access_state(nexus).admits(reach)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn group(id: u16, state: AccessState) -> PortGroup {
        PortGroup { state, ..PortGroup::new(PortGroupId(id)) }
    }

    #[test]
    fn what_a_host_has_set_stays_until_the_group_is_told_another_state() {
        use AccessState::{ActiveNonOptimized, ActiveOptimized, Standby, Unavailable};
        let mut groups = PortGroups::default();
        groups.get_mut(PortGroupId(1)).unwrap().state = Standby;
        assert!(!groups.take(vec![group(1, ActiveOptimized)]), "told the same again");
        assert!(groups.take(vec![group(2, ActiveOptimized), group(1, ActiveOptimized)]), "a group more");
        assert_eq!(groups.get(PortGroupId(1)).unwrap().state, Standby);
        assert!(groups.take(vec![group(1, ActiveNonOptimized), group(2, ActiveOptimized)]));
        assert_eq!(groups.get(PortGroupId(1)).unwrap().state, ActiveNonOptimized);
        groups.get_mut(PortGroupId(2)).unwrap().state = Unavailable;
        let pinned = PortGroup { pinned: true, ..group(2, ActiveOptimized) };
        assert!(groups.take(vec![group(1, ActiveNonOptimized), pinned]));
        assert_eq!(groups.get(PortGroupId(2)).unwrap().state, ActiveOptimized);
        assert_eq!(groups.get(PortGroupId(2)).unwrap().cause, Cause::Implicit);
    }

    #[test]
    fn the_first_of_a_number_counts() {
        let mut groups = PortGroups::default();
        groups.take(vec![group(3, AccessState::Standby), group(3, AccessState::Offline)]);
        assert_eq!(groups.0.len(), 1);
        assert_eq!(groups.get(PortGroupId(3)).unwrap().state, AccessState::Standby);
    }
}
