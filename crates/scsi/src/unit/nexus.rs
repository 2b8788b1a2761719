//! The I_T nexuses that can reach a logical unit, and what is kept for each.

use super::attention::{Attentions, UnitAttention};
use super::reservation::{Registrant, Standing};

/// Names an I_T nexus (SAM-5 4.5): one initiator port at one target port. Given by the target, never
/// reused while the nexus is known to a unit.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct NexusId(pub u64);

/// The target port a nexus came through.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct TargetPort {
    /// The target's iSCSI name.
    pub target_name: String,
    /// TARGET PORTAL GROUP TAG; with the name it makes the port's SCSI name (RFC 7143 4.4.1).
    pub portal_group_tag: u16,
    /// RELATIVE TARGET PORT IDENTIFIER, not 0.
    pub relative_id: u16,
}

/// What the unit is told about a nexus.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct NexusInfo {
    /// The initiator port's SCSI name: iSCSI name and ISID, as in `iqn.x,i,0x00023d000001`.
    pub initiator_port: String,
    /// Where it came in.
    pub target_port: TargetPort,
    /// This host was granted reading only.
    pub read_only: bool,
    /// The same initiator port was here before and was lost: it hears I_T NEXUS LOSS OCCURRED instead of
    /// POWER ON, RESET, OR BUS DEVICE RESET OCCURRED.
    pub returned: bool,
}

#[derive(Clone, Debug)]
pub(crate) struct Nexus {
    pub(crate) id: NexusId,
    pub(crate) info: NexusInfo,
    pub(crate) attentions: Attentions,
    /// It by its names, which reservations go by.
    pub(crate) registrant: Registrant,
    pub(crate) standing: Standing,
}

/// Sorted by id: found by a handful of comparisons, walked in order.
#[derive(Clone, Debug, Default)]
pub(crate) struct Nexuses(Vec<Nexus>);

impl Nexuses {
    pub(crate) fn add(&mut self, id: NexusId, info: NexusInfo) {
        let mut attentions = Attentions::default();
        attentions.raise(if info.returned {
            UnitAttention::NexusLoss
        } else {
            UnitAttention::PowerOnOrReset
        });
        let (registrant, standing) = (Registrant::of(&info), Standing::default());
        let nexus = Nexus { id, info, attentions, registrant, standing };
        match self.0.binary_search_by_key(&id, |nexus| nexus.id) {
            Ok(at) => {
                if let Some(slot) = self.0.get_mut(at) {
                    *slot = nexus;
                }
            }
            Err(at) => self.0.insert(at, nexus),
        }
    }

    pub(crate) fn remove(&mut self, id: NexusId) -> bool {
        let found = self.0.binary_search_by_key(&id, |nexus| nexus.id);
        found.map(|at| self.0.remove(at)).is_ok()
    }

    pub(crate) fn get(&self, id: NexusId) -> Option<&Nexus> {
        let at = self.0.binary_search_by_key(&id, |nexus| nexus.id).ok()?;
        self.0.get(at)
    }

    pub(crate) fn get_mut(&mut self, id: NexusId) -> Option<&mut Nexus> {
        let at = self.0.binary_search_by_key(&id, |nexus| nexus.id).ok()?;
        self.0.get_mut(at)
    }

    pub(crate) fn len(&self) -> usize {
        self.0.len()
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = &Nexus> {
        self.0.iter()
    }

    pub(crate) fn each(&mut self, change: impl FnMut(&mut Nexus)) {
        self.0.iter_mut().for_each(change);
    }

    /// Raises `attention` for every nexus but `except`.
    pub(crate) fn raise(&mut self, attention: UnitAttention, except: Option<NexusId>) {
        let others = self.0.iter_mut().filter(|nexus| Some(nexus.id) != except);
        others.for_each(|nexus| nexus.attentions.raise(attention));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn info(returned: bool) -> NexusInfo {
        let target_port =
            TargetPort { target_name: "iqn.2026-01.test:t".into(), portal_group_tag: 1, relative_id: 1 };
        NexusInfo { initiator_port: "iqn.host,i,0x1".into(), target_port, read_only: false, returned }
    }

    #[test]
    fn nexuses_are_found_whatever_the_order_they_came_in() {
        let mut nexuses = Nexuses::default();
        for id in [5, 1, 9, 3, 5] {
            nexuses.add(NexusId(id), info(false));
        }
        assert_eq!(nexuses.len(), 4);
        for id in [1, 3, 5, 9] {
            assert_eq!(nexuses.get(NexusId(id)).unwrap().id, NexusId(id));
        }
        assert!(nexuses.remove(NexusId(3)));
        assert!(!nexuses.remove(NexusId(3)));
        assert!(nexuses.get_mut(NexusId(3)).is_none());
    }

    #[test]
    fn raising_spares_the_cause() {
        let mut nexuses = Nexuses::default();
        nexuses.add(NexusId(1), info(true));
        nexuses.add(NexusId(2), info(false));
        nexuses.raise(UnitAttention::ModeParametersChanged, Some(NexusId(1)));
        let first = &mut nexuses.get_mut(NexusId(1)).unwrap().attentions;
        assert_eq!((first.take(), first.take()), (Some(UnitAttention::NexusLoss), None));
        let second = &mut nexuses.get_mut(NexusId(2)).unwrap().attentions;
        assert_eq!(second.take(), Some(UnitAttention::PowerOnOrReset));
        assert_eq!(second.take(), Some(UnitAttention::ModeParametersChanged));
    }
}
