//! What the model asks of a pool engine.

use crate::{
    Cache, Error, ErrorKind, Holding, KeyChange, PoolId, PoolKeys, PoolSecret, PoolSpace, Result, VolumeId,
};
use block::{BoxFuture, ByteRange, Media, Volume};
use std::sync::Arc;

/// What is known of a pool's disk.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DiskFacts {
    /// Where it is, without a size.
    pub path: String,
    /// Size in bytes.
    pub size_bytes: u64,
    /// What its bytes are on.
    pub media: Media,
}

/// A pool's space, in bytes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct PoolUsage {
    /// Space for volumes' data.
    pub size_bytes: u64,
    /// Of it holding data that volumes refer to.
    pub used_bytes: u64,
    /// What can still be written.
    pub free_bytes: u64,
}

/// What a pool needs to know of a new volume.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct VolumeSpec {
    /// Size in bytes.
    pub size_bytes: u64,
    /// Reserve all its space.
    pub thick: bool,
    /// When writes are acknowledged.
    pub cache: Cache,
    /// Encrypt what is written to it.
    pub encrypted: bool,
}

/// A part of what differs between two volumes or snapshots.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Difference {
    /// Ranges of bytes, in order.
    pub ranges: Vec<ByteRange>,
    /// From where on to ask for more, in bytes; none at the end.
    pub next: Option<u64>,
}

/// How far a pool is with detaching a volume.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Detachment {
    /// Bytes of the volume that were looked at.
    pub done_bytes: u64,
    /// Of so many.
    pub size_bytes: u64,
    /// Why it does not go on for now; none if it does.
    pub waits: Option<String>,
}

/// A record that the pool keeps for the model.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FactChange {
    /// Kind of record.
    pub kind: &'static str,
    /// Its name among those of the kind.
    pub name: String,
    /// Its new content; none removes it.
    pub content: Option<Vec<u8>>,
}

/// A record as it is read back: name and content.
pub type NamedFact = (String, Vec<u8>);

/// Makes and opens pools.
pub trait Engine: Send + Sync + 'static {
    /// Makes a pool of the disks, given as `PATH`, `PATH:SIZE` or `ram:SIZE`.
    ///
    /// # Errors
    /// `InUse` for a disk that is in a pool or used otherwise; `NoSpace`, `Invalid` for one too small; `Device`.
    fn create_pool(&self, name: String, disks: Vec<String>) -> BoxFuture<'_, Result<Arc<dyn PoolEngine>>>;

    /// Opens a pool on its disks, given as paths.
    ///
    /// # Errors
    /// `NotFound` or `Device` for missing disks; `Format` for disks of another pool; `Corrupt`.
    fn open_pool(&self, id: PoolId, disks: Vec<String>) -> BoxFuture<'_, Result<Arc<dyn PoolEngine>>>;
}

/// An open pool. What is said to be done is done durably when the future is ready.
pub trait PoolEngine: Send + Sync + 'static {
    /// Its identity, which is on its disks.
    fn id(&self) -> PoolId;

    /// Its disks.
    fn disks(&self) -> Vec<DiskFacts>;

    /// Its space.
    fn usage(&self) -> PoolUsage;

    /// What an administrator should know of its state, if it is not well.
    fn warning(&self) -> Option<String>;

    /// What is known of its keys; none if it has none.
    fn keys(&self) -> Option<PoolKeys> {
        None
    }

    /// Changes its keys, or unlocks it.
    ///
    /// # Errors
    /// `Denied` for a secret that opens nothing; `Locked` if the pool has to be unlocked first; `Exists` for keys that are
    /// there already; `Invalid` for a secret that cannot be used, and if there are no keys; `NotFound` for an empty slot.
    fn change_keys(&self, change: KeyChange<PoolSecret>) -> BoxFuture<'_, Result<()>> {
        drop(change);
        Box::pin(std::future::ready(Err(Error::new(ErrorKind::Invalid, "pool", "it takes no keys"))))
    }

    /// The volumes that are there.
    fn volumes(&self) -> Vec<VolumeId>;

    /// Every record kept for the model under a kind.
    fn facts(&self, kind: &'static str) -> BoxFuture<'_, Result<Vec<NamedFact>>>;

    /// Keeps or forgets a record.
    fn put_fact(&self, fact: FactChange) -> BoxFuture<'_, Result<()>>;

    /// Makes a volume and keeps the record: both or none.
    ///
    /// # Errors
    /// `NoSpace` for a thick one that does not fit.
    fn create_volume(&self, id: VolumeId, spec: VolumeSpec, fact: FactChange) -> BoxFuture<'_, Result<()>>;

    /// Makes snapshots of volumes, given as volume and snapshot, all at one instant, and keeps the records: all or
    /// none. What was acknowledged before is in; what was issued after something that is not in had been acknowledged is
    /// not in.
    ///
    /// # Errors
    /// `NoSpace`, also for thick volumes that do not fit a second time.
    fn snapshot_volumes(
        &self,
        snapshots: Vec<(VolumeId, VolumeId)>,
        facts: Vec<FactChange>,
    ) -> BoxFuture<'_, Result<()>>;

    /// Makes a thin volume with the content that a volume or snapshot has, and keeps the record: both or none.
    ///
    /// # Errors
    /// As [`PoolEngine::snapshot_volumes`].
    fn clone_volume(&self, source: VolumeId, clone: VolumeId, fact: FactChange) -> BoxFuture<'_, Result<()>>;

    /// Gives a volume the content of a snapshot, which stays, makes what it held the snapshot `safety`, and keeps the
    /// record: all or none. The volume keeps its size.
    ///
    /// # Errors
    /// As [`PoolEngine::snapshot_volumes`].
    fn roll_back_volume(
        &self,
        volume: VolumeId,
        snapshot: VolumeId,
        safety: VolumeId,
        fact: FactChange,
    ) -> BoxFuture<'_, Result<()>>;

    /// Begins to make a volume and its family, which are its own snapshots and what was cloned from it, independent of all
    /// else, and keeps the record: both or none. It goes on in the background.
    ///
    /// # Errors
    /// `NoSpace`.
    fn detach_volume(
        &self,
        volume: VolumeId,
        family: Vec<VolumeId>,
        fact: FactChange,
    ) -> BoxFuture<'_, Result<()>>;

    /// Does not go on with that, and keeps the record: both or none.
    fn cancel_detach(&self, volume: VolumeId, fact: FactChange) -> BoxFuture<'_, Result<()>>;

    /// How far it is with that; none if it is not at it.
    fn detachment(&self, volume: VolumeId) -> Option<Detachment>;

    /// What differs between two volumes or snapshots, from a byte on; about `ranges_max` ranges at the most. It takes as
    /// long as there are changes.
    ///
    /// # Errors
    /// `NotFound`; what reading says.
    fn difference(
        &self,
        one: VolumeId,
        other: VolumeId,
        from: u64,
        ranges_max: usize,
    ) -> BoxFuture<'_, Result<Difference>>;

    /// Bytes written to a volume since its last snapshot, or between that before and this snapshot.
    fn written_bytes(&self, id: VolumeId) -> u64;

    /// Opens a volume; opening it again gives the same one.
    fn open_volume(&self, id: VolumeId) -> BoxFuture<'_, Result<Arc<dyn Volume>>>;

    /// Space that a volume's data takes, in bytes.
    fn volume_used_bytes(&self, id: VolumeId) -> u64;

    /// Where its space is.
    fn space(&self) -> PoolSpace;

    /// What a volume or snapshot held when that was last counted; none if it was not.
    fn holding(&self, id: VolumeId) -> Option<Holding>;

    /// Counts what volumes and snapshots hold, if that has changed and was not counted just now.
    ///
    /// # Errors
    /// `Offline` if the pool is being closed.
    fn count_space(&self) -> BoxFuture<'_, Result<()>>;

    /// Which volumes snapshots are of, as snapshot and volume.
    fn set_owners(&self, owners: Vec<(VolumeId, VolumeId)>);

    /// When a volume was made, in ms since 1970, and how much it and its snapshots may take, in bytes; none for as much as
    /// there is. Not kept.
    fn set_limit(&self, id: VolumeId, since_unix_ms: u64, bytes: Option<u64>);

    /// How much of the pool's size may be filled, in bytes; none for all. Not kept.
    fn set_pool_limit(&self, bytes: Option<u64>);

    /// What a volume with a limit and its snapshots have taken, in bytes; none without one.
    fn taken_bytes(&self, id: VolumeId) -> Option<u64>;

    /// Has space be called short when there is no more left than `low_bytes`; with `relief`, writes that find no room wait
    /// a while for somebody to make some. Not kept.
    fn watch_space(&self, low_bytes: u64, relief: bool);

    /// How often space was short.
    fn shortages(&self) -> u64;

    /// Is ready once space was short more than `times` times.
    fn shortage_after(&self, times: u64) -> BoxFuture<'_, ()>;

    /// Deleted volumes and snapshots still give space back.
    fn is_giving_back(&self) -> bool;

    /// Grows a volume and changes the record: both or none.
    ///
    /// # Errors
    /// `NoSpace` for a thick one that does not fit.
    fn grow_volume(&self, id: VolumeId, size_bytes: u64, fact: FactChange) -> BoxFuture<'_, Result<()>>;

    /// Deletes a volume or snapshot and its records: all or none. The space comes back by and by.
    fn delete_volume(&self, id: VolumeId, facts: Vec<FactChange>) -> BoxFuture<'_, Result<()>>;

    /// Takes into use that a disk has grown, or grows it first: `PATH` or `PATH:NEWSIZE`.
    ///
    /// # Errors
    /// `NotFound` if the pool has no such disk; `Invalid` if that is less than it has.
    fn extend(&self, disk: String) -> BoxFuture<'_, Result<()>>;

    /// Writes everything down and lets go of the disks.
    fn close(&self) -> BoxFuture<'_, Result<()>>;

    /// Closes it and makes its disks nobody's.
    fn destroy(&self) -> BoxFuture<'_, Result<()>>;
}
