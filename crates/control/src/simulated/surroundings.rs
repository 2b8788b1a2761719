//! Targets, time and threads, simulated.

use super::SPREAD;
use crate::{
    CopyFacts, Error, ErrorKind, Frontend, InitiatorName, KeptReservations, PortalGroupTag, PortalSet,
    ReservationFacts, ReservationKeeper, ReservationRecord, Result, SessionFacts, SpaceWarning, VolumeId,
    VolumeRecord,
};
use block::{BoxFuture, Runtime, Sanitization, Task, Volume};
use parking_lot::Mutex;
use std::collections::{BTreeMap, BTreeSet};
use std::future::ready;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

/// Targets that remember what they were told; sessions are made by the test.
#[derive(Default)]
pub struct SimFrontend {
    published: Mutex<BTreeSet<VolumeId>>,
    sizes: Mutex<BTreeMap<VolumeId, u64>>,
    warnings: Mutex<BTreeMap<VolumeId, SpaceWarning>>,
    offload: Mutex<BTreeMap<VolumeId, bool>>,
    sessions: Mutex<Vec<SessionFacts>>,
    targets: Mutex<Vec<InitiatorName>>,
    kept: Mutex<BTreeMap<VolumeId, KeptReservations>>,
    reservations: Mutex<BTreeMap<VolumeId, ReservationFacts>>,
    portals: Mutex<Vec<SocketAddr>>,
    taken: Mutex<Vec<SocketAddr>>,
    paths: Mutex<PortalSet>,
}

impl SimFrontend {
    /// As if this session had logged in.
    pub fn log_in(&self, session: SessionFacts) {
        self.sessions.lock().push(session);
    }

    /// As if hosts had reserved this.
    pub fn reserve(&self, id: VolumeId, reservations: ReservationFacts) {
        self.reservations.lock().insert(id, reservations);
    }

    /// The reservations a volume was published with, and where to keep others.
    pub fn kept(&self, id: VolumeId) -> Option<(Option<ReservationRecord>, ReservationKeeper)> {
        self.kept.lock().get(&id).map(|kept| (kept.record.clone(), kept.keeper.clone()))
    }

    /// Portals at these addresses cannot be opened.
    pub fn take_addresses(&self, addresses: &[SocketAddr]) {
        *self.taken.lock() = addresses.to_vec();
    }

    /// The portals as last told.
    pub fn told_portals(&self) -> PortalSet {
        self.paths.lock().clone()
    }

    /// The targets of several volumes that were last told to have changed.
    pub fn told_targets(&self) -> Vec<InitiatorName> {
        std::mem::take(&mut self.targets.lock())
    }

    /// The targets of several volumes, by number, that the volume was published with.
    pub fn kept_targets(&self, id: VolumeId) -> Option<BTreeMap<u8, String>> {
        self.kept.lock().get(&id).map(|kept| kept.targets.clone())
    }

    /// The volumes with a target.
    pub fn published(&self) -> Vec<VolumeId> {
        self.published.lock().iter().copied().collect()
    }

    /// When hosts of a volume are warned.
    pub fn warning(&self, id: VolumeId) -> Option<SpaceWarning> {
        self.warnings.lock().get(&id).copied()
    }

    /// The size that hosts were last told, if any.
    pub fn told_size(&self, id: VolumeId) -> Option<u64> {
        self.sizes.lock().get(&id).copied()
    }

    /// Whether copies may be offloaded, as hosts were last told, if they were.
    pub fn told_offload(&self, id: VolumeId) -> Option<bool> {
        self.offload.lock().get(&id).copied()
    }
}

impl Frontend for SimFrontend {
    fn publish(
        &self,
        record: &VolumeRecord,
        _volume: Arc<dyn Volume>,
        reservations: KeptReservations,
    ) -> Result<()> {
        self.published.lock().insert(record.id);
        self.kept.lock().insert(record.id, reservations);
        Ok(())
    }

    fn withdraw(&self, record: &VolumeRecord) -> BoxFuture<'_, ()> {
        self.published.lock().remove(&record.id);
        self.sessions.lock().retain(|session| session.volume != Some(record.id));
        Box::pin(ready(()))
    }

    fn grown(&self, id: VolumeId, size_bytes: u64) {
        self.sizes.lock().insert(id, size_bytes);
    }

    fn reservations(&self, id: VolumeId) -> Option<ReservationFacts> {
        let served = self.published.lock().contains(&id);
        served.then(|| self.reservations.lock().get(&id).cloned().unwrap_or_default())
    }

    fn clear_reservations(&self, id: VolumeId) -> BoxFuture<'_, Result<Option<ReservationFacts>>> {
        let before = self.reservations(id);
        self.reservations.lock().remove(&id);
        Box::pin(ready(Ok(before)))
    }

    fn space_warning(&self, id: VolumeId, warning: SpaceWarning) {
        self.warnings.lock().insert(id, warning);
    }

    fn offload_changed(&self, record: &VolumeRecord) {
        self.offload.lock().insert(record.id, record.offload);
    }

    fn copy_facts(&self, _: VolumeId) -> CopyFacts {
        CopyFacts::default()
    }

    fn sanitization(&self, _: VolumeId) -> Sanitization {
        Sanitization::Idle
    }

    fn sessions(&self) -> Vec<SessionFacts> {
        self.sessions.lock().clone()
    }

    fn targets_changed(&self, targets: Vec<InitiatorName>) -> BoxFuture<'_, ()> {
        *self.targets.lock() = targets;
        Box::pin(ready(()))
    }

    fn access_changed(&self, record: &VolumeRecord) -> BoxFuture<'_, ()> {
        let grant_of = |host| record.grants.iter().find(|grant| Some(grant.host) == host);
        let mut sessions = self.sessions.lock();
        sessions.retain(|session| session.volume != Some(record.id) || grant_of(session.host).is_some());
        for session in sessions.iter_mut().filter(|session| session.volume == Some(record.id)) {
            session.read_only = grant_of(session.host).is_none_or(|grant| grant.read_only);
        }
        Box::pin(ready(()))
    }

    fn open_portal(&self, address: SocketAddr, _tag: PortalGroupTag) -> Result<SocketAddr> {
        if self.taken.lock().contains(&address) {
            let message = "another program has the address";
            return Err(Error::new(ErrorKind::AddressInUse, format!("portal {address}"), message));
        }
        self.portals.lock().push(address);
        Ok(address)
    }

    fn close_portal(&self, address: SocketAddr) -> BoxFuture<'_, ()> {
        self.portals.lock().retain(|portal| *portal != address);
        Box::pin(ready(()))
    }

    fn open_portals(&self) -> Vec<SocketAddr> {
        self.portals.lock().clone()
    }

    fn portals_changed(&self, portals: PortalSet) {
        *self.paths.lock() = portals;
    }

    /// Sessions go at once.
    fn empty_portals(&self, portals: Vec<SocketAddr>, _within: Duration) {
        self.sessions.lock().retain(|session| !portals.contains(&session.portal));
    }
}

/// Time that stands still, and identities that are counted.
#[derive(Default)]
pub struct SimRuntime {
    identities: AtomicU64,
    loses_work: AtomicBool,
    passed_ms: AtomicU64,
}

impl SimRuntime {
    /// Lets time pass.
    pub fn advance(&self, duration: Duration) {
        let passed_ms = u64::try_from(duration.as_millis()).unwrap_or(0);
        self.passed_ms.fetch_add(passed_ms, Ordering::Relaxed);
    }

    /// From now on blocking work, such as writing the group's file, comes to nothing; or is done again.
    pub fn lose_work(&self, loses: bool) {
        self.loses_work.store(loses, Ordering::Relaxed);
    }
}

impl Runtime for SimRuntime {
    fn now(&self) -> Duration {
        Duration::ZERO
    }

    fn unix_time_ms(&self) -> u64 {
        1_790_000_000_000 + self.passed_ms.load(Ordering::Relaxed)
    }

    fn sleep(&self, duration: Duration) -> BoxFuture<'static, ()> {
        Box::pin(tokio::time::sleep(duration))
    }

    fn spawn(&self, task: Task) {
        tokio::spawn(task);
    }

    fn run_blocking(&self, work: Box<dyn FnOnce() + Send + 'static>) -> BoxFuture<'static, ()> {
        if !self.loses_work.load(Ordering::Relaxed) {
            work();
        }
        Box::pin(ready(()))
    }

    fn random_id(&self) -> [u8; 16] {
        let number = u128::from(self.identities.fetch_add(1, Ordering::Relaxed) + 1);
        number.wrapping_mul(SPREAD).to_be_bytes()
    }
}
