//! A session as its connection sees it: the units it may use, and the wait for its predecessor.

use crate::copies::Requester;
use crate::directory::{Access, Authentication, UnitGrant};
use crate::memory::Gauge;
use crate::registry::{Admitted, Port, Registry, SessionEntry};
use crate::unit::LogicalUnitHandle;
use block::BoxFuture;
use iscsi::target::CommandSizer;
use scsi::{Lun, NexusId, NexusInfo, TargetNumber, TargetPort, UnitAttention};
use std::cell::Cell;
use std::sync::Arc;
use tokio::sync::watch;

/// A session that was let in. Dropping it takes its nexus from the units and tells the registry that it is over,
/// so it must live as long as anything of it touches a medium.
pub(crate) struct Session {
    pub(crate) entry: Arc<SessionEntry>,
    pub(crate) nexus: NexusId,
    target: TargetNumber,
    /// What was demanded at login.
    proven: Authentication,
    /// Sorted by number.
    units: Vec<Served>,
    predecessors: Vec<watch::Receiver<bool>>,
    returned: bool,
    data_out_max: u32,
    gauge: Arc<Gauge>,
    /// One command may take memory for its data though there is none left: each session gets on.
    spare: Cell<bool>,
    registry: Arc<Registry>,
}

/// A unit that the session may use.
struct Served {
    grant: UnitGrant,
    /// The unit's stamp after the last reset by this session. What the connection delivers after a reset is newer
    /// than it: the connection has ended the rest itself. But its header may have been read before the reset was
    /// carried out, as one read can bring both.
    floor: Cell<u64>,
}

impl Session {
    /// Lets the session's nexus into its units.
    pub(crate) fn new(
        admitted: Admitted,
        access: Access,
        data_out_max: u32,
        gauge: Arc<Gauge>,
        registry: Arc<Registry>,
    ) -> Self {
        let nexus = NexusId(admitted.entry.id.0);
        let mut session = Self {
            nexus,
            target: access.number,
            proven: access.authentication,
            units: Vec::new(),
            predecessors: admitted.predecessors,
            returned: admitted.returned,
            entry: admitted.entry,
            data_out_max,
            gauge,
            spare: Cell::new(true),
            registry,
        };
        for grant in access.units {
            session.attach(grant);
        }
        session
    }

    /// Ready when nothing of the sessions whose place this one took touches a medium any more. None if that is so.
    pub(crate) fn take_predecessors(&mut self) -> Option<BoxFuture<'static, ()>> {
        let mut predecessors = std::mem::take(&mut self.predecessors);
        predecessors.retain(|over| !*over.borrow());
        if predecessors.is_empty() {
            return None;
        }
        Some(Box::pin(async move {
            for mut over in predecessors {
                // An error means that it is gone altogether.
                let _ = over.wait_for(|over| *over).await;
            }
        }))
    }

    /// The data of a command is complete, or nobody waits for it any more: the next one may go beyond the limit.
    pub(crate) fn data_came(&self) {
        self.spare.set(true);
    }

    /// Its connection is gone. What it has on a medium may take its time.
    pub(crate) fn disconnected(&self) {
        self.registry.session_disconnected(&self.entry);
    }

    fn served(&self, lun: iscsi::Lun) -> Option<&Served> {
        let lun = Lun::from_wire(lun.0)?;
        let index = self.units.binary_search_by_key(&lun, |served| served.grant.lun).ok()?;
        self.units.get(index)
    }

    pub(crate) fn unit(&self, lun: iscsi::Lun) -> Option<&Arc<LogicalUnitHandle>> {
        self.served(lun).map(|served| &served.grant.unit)
    }

    /// In whose name it copies.
    pub(crate) fn requester(&self) -> Requester {
        let entry = &self.entry;
        let target = entry.port.as_ref().map(|port| port.target.clone()).unwrap_or_default();
        Requester { initiator: entry.initiator.clone(), target, peer: entry.peer, local: entry.local }
    }

    pub(crate) fn units(&self) -> impl Iterator<Item = &Arc<LogicalUnitHandle>> {
        self.units.iter().map(|served| &served.grant.unit)
    }

    pub(crate) fn luns(&self) -> Vec<Lun> {
        self.units.iter().map(|served| served.grant.lun).collect()
    }

    /// The list of units, asked for through one of them. The host need not hear from the others any more that it has
    /// changed (SPC-4 6.33).
    pub(crate) fn report_luns(&self) -> Vec<Lun> {
        self.units().for_each(|unit| unit.luns_reported(self.nexus));
        self.luns()
    }

    /// This session has reset `unit`, whose stamp was `stamp` right after.
    pub(crate) fn has_reset(&self, unit: &Arc<LogicalUnitHandle>, stamp: u64) {
        for served in self.units.iter().filter(|served| Arc::ptr_eq(&served.grant.unit, unit)) {
            served.floor.set(stamp);
        }
    }

    /// The stamp of a command that is delivered now and whose header was stamped with `stamp`; 0 stays 0.
    pub(crate) fn stamp_at_delivery(&self, lun: iscsi::Lun, stamp: u64) -> u64 {
        let floor = self.served(lun).map_or(0, |served| served.floor.get());
        if stamp == 0 { 0 } else { stamp.max(floor) }
    }

    /// Puts the session on a new footing: units may come, go, or change whether they may be written.
    ///
    /// What is new it gets only if what it proved at login is what has to be proven now.
    pub(crate) fn reauthorized(&mut self, access: Access) {
        let mut new = access.units;
        if access.authentication != self.proven {
            let has = |grant: &UnitGrant| self.units().any(|unit| Arc::ptr_eq(unit, &grant.unit));
            new.retain(has);
        }
        let old = std::mem::take(&mut self.units);
        let mut list_changed = false;
        for mut served in old {
            let grant = &mut served.grant;
            let same = |other: &UnitGrant| other.lun == grant.lun && Arc::ptr_eq(&other.unit, &grant.unit);
            match new.iter().position(same) {
                Some(index) => {
                    let read_only = new.swap_remove(index).read_only;
                    if read_only != grant.read_only {
                        grant.unit.set_nexus_read_only(self.nexus, read_only);
                    }
                    grant.read_only = read_only;
                    self.units.push(served);
                }
                None => {
                    grant.unit.detach(self.nexus);
                    list_changed = true;
                }
            }
        }
        let kept: Vec<_> = self.units().cloned().collect();
        list_changed |= !new.is_empty();
        for grant in new {
            self.attach(grant);
        }
        if list_changed {
            kept.iter().for_each(|unit| unit.raise(self.nexus, UnitAttention::ReportedLunsChanged));
        }
    }

    fn attach(&mut self, grant: UnitGrant) {
        match self.units.binary_search_by_key(&grant.lun, |other| other.grant.lun) {
            Ok(_) => tracing::error!(lun = grant.lun.number(), "the directory gave this number twice"),
            Err(index) => {
                grant.unit.attach(self.nexus, self.nexus_info(grant.read_only));
                self.units.insert(index, Served { grant, floor: Cell::new(0) });
            }
        }
    }

    fn nexus_info(&self, read_only: bool) -> NexusInfo {
        let (initiator_port, target_port) = match &self.entry.port {
            Some(port) => (port.initiator_port(), port.target_port(self.target)),
            None => unreachable!("discovery sessions have no units"),
        };
        NexusInfo { initiator_port, target_port, read_only, returned: self.returned }
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        for unit in self.units() {
            unit.detach(self.nexus);
        }
        self.registry.session_over(&self.entry);
    }
}

impl CommandSizer for Session {
    fn data_out_len(&self, lun: iscsi::Lun, cdb: &[u8]) -> u32 {
        let Some(unit) = self.unit(lun) else { return 0 };
        scsi::data_out_len(cdb, unit.block_size_bytes()).min(self.data_out_max)
    }

    fn stamp(&self, lun: iscsi::Lun) -> u64 {
        self.unit(lun).map_or(0, |unit| unit.stamp())
    }

    fn has_room(&self, bytes: u32) -> bool {
        let bytes = usize::try_from(bytes).unwrap_or(usize::MAX);
        self.gauge.has_room(bytes) || self.spare.replace(false)
    }
}

/// Before a session there are no commands, and so no data.
pub(crate) struct NoSession;

impl CommandSizer for NoSession {
    fn data_out_len(&self, _: iscsi::Lun, _: &[u8]) -> u32 {
        0
    }
}

impl Port {
    /// The initiator port's SCSI name (RFC 7143 §4.4.1).
    fn initiator_port(&self) -> String {
        format!("{},i,0x{}", self.initiator, self.isid)
    }

    fn target_port(&self, target: TargetNumber) -> TargetPort {
        let relative_id = target.relative_port(self.group.0);
        TargetPort { target_name: self.target.clone(), portal_group_tag: self.group.0, relative_id }
    }
}
