//! Targets, time and threads, simulated.

use super::SPREAD;
use crate::{Frontend, Result, SessionFacts, VolumeId, VolumeRecord};
use block::{BoxFuture, Runtime, Task, Volume};
use parking_lot::Mutex;
use std::collections::{BTreeMap, BTreeSet};
use std::future::ready;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

/// Targets that remember what they were told; sessions are made by the test.
#[derive(Default)]
pub struct SimFrontend {
    published: Mutex<BTreeSet<VolumeId>>,
    sizes: Mutex<BTreeMap<VolumeId, u64>>,
    sessions: Mutex<Vec<SessionFacts>>,
}

impl SimFrontend {
    /// As if this session had logged in.
    pub fn log_in(&self, session: SessionFacts) {
        self.sessions.lock().push(session);
    }

    /// The volumes with a target.
    pub fn published(&self) -> Vec<VolumeId> {
        self.published.lock().iter().copied().collect()
    }

    /// The size that hosts were last told, if any.
    pub fn told_size(&self, id: VolumeId) -> Option<u64> {
        self.sizes.lock().get(&id).copied()
    }
}

impl Frontend for SimFrontend {
    fn publish(&self, record: &VolumeRecord, _volume: Arc<dyn Volume>) -> Result<()> {
        self.published.lock().insert(record.id);
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

    fn sessions(&self) -> Vec<SessionFacts> {
        self.sessions.lock().clone()
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
}

/// Time that stands still, and identities that are counted.
#[derive(Default)]
pub struct SimRuntime {
    identities: AtomicU64,
    loses_work: AtomicBool,
}

impl SimRuntime {
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
        1_790_000_000_000
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
