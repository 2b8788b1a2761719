//! What the group is at this moment, in memory.

use crate::growth::GrowthRecord;
use crate::snapshots::Clones;
use crate::{
    Detachment, DiskFacts, Error, ErrorKind, Forecast, Grant, GroupRecord, Holding, HostId, HostRecord,
    InitiatorName, OnShort, OriginView, PoolEngine, PoolId, PoolKeys, PoolRecord, PoolSpace, PoolUsage,
    PortalSet, Result, ScheduleId, ScheduleRecord, SnapshotRecord, TargetRecord, VolumeEncryption, VolumeId,
    VolumeRecord,
};
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;

/// A pool, open or not.
pub(crate) struct PoolEntry {
    pub(crate) record: PoolRecord,
    /// The open pool, or why it is not open.
    pub(crate) engine: Result<Arc<dyn PoolEngine>>,
    /// Somebody is opening it.
    pub(crate) opening: bool,
}

/// A volume, served or not.
pub(crate) struct VolumeEntry {
    pub(crate) record: VolumeRecord,
    /// Why it is not served.
    pub(crate) offline: Option<String>,
    /// It is being deleted: no login is let in.
    pub(crate) leaving: bool,
}

/// Everything the group knows. Reactors read it at each login.
pub struct State {
    pub(crate) group: GroupRecord,
    pub(crate) pools: BTreeMap<PoolId, PoolEntry>,
    pub(crate) volumes: BTreeMap<VolumeId, VolumeEntry>,
    /// By volume and snapshot. Those of a pool that was never open are not known.
    pub(crate) snapshots: BTreeMap<(VolumeId, VolumeId), SnapshotRecord>,
    pub(crate) schedules: BTreeMap<ScheduleId, ScheduleRecord>,
    /// How pools and volumes have grown, by identity.
    pub(crate) growth: BTreeMap<String, GrowthRecord>,
    pub(crate) hosts: BTreeMap<HostId, HostRecord>,
    pub(crate) portals: PortalSet,
    /// Why portals are not open that should be.
    pub(crate) portal_faults: BTreeMap<SocketAddr, String>,
    pub(crate) targets: BTreeMap<InitiatorName, TargetRecord>,
}

/// A pool as people see it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PoolView {
    /// What is remembered of it.
    pub record: PoolRecord,
    /// Why it is offline; none if it is online.
    pub offline: Option<String>,
    /// Its disks; empty while offline.
    pub disks: Vec<DiskFacts>,
    /// Its space; zeros while offline.
    pub usage: PoolUsage,
    /// Where its space is; none while offline.
    pub space: Option<PoolSpace>,
    /// When it will be full.
    pub forecast: Forecast,
    /// What an administrator should know of its state.
    pub warning: Option<String>,
    /// Its keys; none if it has none, or is offline.
    pub keys: Option<PoolKeys>,
    /// Sum of the sizes of its volumes, in bytes.
    pub provisioned_bytes: u64,
    /// Number of its volumes.
    pub volumes: usize,
}

/// A volume as people see it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VolumeView {
    /// What is remembered of it.
    pub record: VolumeRecord,
    /// Name of its pool.
    pub pool: String,
    /// Why it is not served; none if it is.
    pub offline: Option<String>,
    /// Space its data takes, in bytes; zero while offline.
    pub used_bytes: u64,
    /// Of it written since its last snapshot, or since it was made or cloned, in bytes; zero while offline.
    pub written_bytes: u64,
    /// What it holds of its pool; none if that was not counted.
    pub holding: Option<Holding>,
    /// What it and its snapshots have taken, in bytes; none without a limit.
    pub taken_bytes: Option<u64>,
    /// What becomes of its snapshots when space is short.
    pub on_short: OnShort,
    /// When it will take all of its size or limit.
    pub forecast: Forecast,
    /// Number of its snapshots.
    pub snapshots: usize,
    /// What it was cloned from.
    pub origin: Option<OriginView>,
    /// How far it is with leaving that; none if it does not.
    pub detachment: Option<Detachment>,
    /// Names of the volumes that were cloned from it and its snapshots.
    pub clones: Vec<String>,
    /// Whether it is encrypted.
    pub encryption: VolumeEncryption,
    /// Who may use it: name of the host, and whether it may only read.
    pub grants: Vec<(String, bool)>,
}

impl State {
    pub(crate) fn new(group: GroupRecord) -> Self {
        Self {
            group,
            pools: BTreeMap::new(),
            volumes: BTreeMap::new(),
            snapshots: BTreeMap::new(),
            schedules: BTreeMap::new(),
            growth: BTreeMap::new(),
            hosts: BTreeMap::new(),
            targets: BTreeMap::new(),
            portals: PortalSet::default(),
            portal_faults: BTreeMap::new(),
        }
    }

    /// The group.
    #[must_use]
    pub fn group(&self) -> &GroupRecord {
        &self.group
    }

    /// The portals.
    #[must_use]
    pub fn portals(&self) -> &PortalSet {
        &self.portals
    }

    /// All hosts.
    pub fn hosts(&self) -> impl Iterator<Item = &HostRecord> {
        self.hosts.values()
    }

    /// All volumes' records.
    pub fn volume_records(&self) -> impl Iterator<Item = &VolumeRecord> {
        self.volumes.values().map(|entry| &entry.record)
    }

    /// A volume's record.
    #[must_use]
    pub fn volume(&self, id: VolumeId) -> Option<&VolumeRecord> {
        self.volumes.get(&id).map(|entry| &entry.record)
    }

    /// The pool of this name or identity.
    pub(crate) fn find_pool(&self, text: &str) -> Result<&PoolEntry> {
        let by_name = self.pools.values().find(|entry| entry.record.name.is(text));
        by_name
            .or_else(|| self.pools.get(&PoolId::parse(text)?))
            .ok_or_else(|| Error::not_found("pool", text))
    }

    /// The volume of this name or identity.
    pub(crate) fn find_volume(&self, text: &str) -> Result<&VolumeEntry> {
        let by_name = self.volumes.values().find(|entry| entry.record.name.is(text));
        by_name
            .or_else(|| self.volumes.get(&VolumeId::parse(text)?))
            .ok_or_else(|| Error::not_found("volume", text))
    }

    /// The host of this name or identity.
    ///
    /// # Errors
    /// `NotFound`.
    pub fn find_host(&self, text: &str) -> Result<&HostRecord> {
        let by_name = self.hosts.values().find(|host| host.name.is(text));
        by_name
            .or_else(|| self.hosts.get(&HostId::parse(text)?))
            .ok_or_else(|| Error::not_found("host", text))
    }

    /// The volumes of a pool.
    pub(crate) fn volumes_of(&self, pool: PoolId) -> impl Iterator<Item = &VolumeEntry> {
        self.volumes.values().filter(move |entry| entry.record.pool == pool)
    }

    /// The volumes a host has been granted, with the grant.
    pub fn grants_of(&self, host: HostId) -> impl Iterator<Item = (&VolumeRecord, Grant)> {
        self.volumes.values().filter_map(move |entry| {
            let grant = entry.record.effective_grants().find(|grant| grant.host == host)?;
            Some((&entry.record, grant))
        })
    }

    /// The open pool of a volume.
    pub(crate) fn engine_of(&self, record: &VolumeRecord) -> Result<Arc<dyn PoolEngine>> {
        let entry = self.pools.get(&record.pool);
        entry.map_or_else(|| Err(Error::not_found("pool", &record.pool.to_string())), PoolEntry::open)
    }

    pub(crate) fn pool_view(&self, entry: &PoolEntry) -> PoolView {
        let volumes: Vec<_> = self.volumes_of(entry.record.id).collect();
        let engine = entry.engine.as_ref();
        let usage = engine.map(|engine| engine.usage()).unwrap_or_default();
        let size_bytes = usage.size_bytes;
        PoolView {
            record: entry.record.clone(),
            offline: engine.err().map(ToString::to_string),
            disks: engine.map(|engine| engine.disks()).unwrap_or_default(),
            forecast: self.pool_forecast(
                &entry.record.id.to_string(),
                entry.record.rules.limit_of(size_bytes).unwrap_or(size_bytes).min(size_bytes),
            ),
            usage,
            space: engine.ok().map(|engine| engine.space()),
            warning: engine.ok().and_then(|engine| engine.warning()),
            keys: engine.ok().and_then(|engine| engine.keys()),
            provisioned_bytes: volumes
                .iter()
                .fold(0, |sum, volume| sum.saturating_add(volume.record.size_bytes)),
            volumes: volumes.len(),
        }
    }

    pub(crate) fn volume_view(&self, entry: &VolumeEntry, clones: &Clones) -> VolumeView {
        let pool = self.pools.get(&entry.record.pool);
        let engine = pool.and_then(|pool| pool.engine.as_ref().ok());
        let grant = |grant: Grant| Some((self.hosts.get(&grant.host)?.name.to_string(), grant.read_only));
        let locked = || engine.and_then(|engine| engine.keys()).is_none_or(|keys| keys.locked);
        let encryption = match entry.record.encrypted {
            false => VolumeEncryption::None,
            true if locked() => VolumeEncryption::Locked,
            true => VolumeEncryption::Open,
        };
        VolumeView {
            encryption,
            record: self.current(&entry.record),
            pool: pool.map_or_else(|| entry.record.pool.to_string(), |pool| pool.record.name.to_string()),
            offline: entry.offline.clone(),
            used_bytes: engine.map_or(0, |engine| engine.volume_used_bytes(entry.record.id)),
            written_bytes: engine.map_or(0, |engine| engine.written_bytes(entry.record.id)),
            holding: engine.and_then(|engine| engine.holding(entry.record.id)),
            taken_bytes: engine.and_then(|engine| engine.taken_bytes(entry.record.id)),
            forecast: self.volume_forecast(&entry.record),
            on_short: self.on_short(&entry.record),
            snapshots: self.snapshots_of(entry.record.id).count(),
            origin: self.origin_view(&entry.record),
            detachment: self.detachment(&entry.record),
            clones: clones.get(&entry.record.id).cloned().unwrap_or_default(),
            grants: entry.record.effective_grants().filter_map(grant).collect(),
        }
    }
}

impl PoolEntry {
    /// Its name.
    pub(crate) fn name(&self) -> String {
        self.record.name.to_string()
    }

    /// The open pool.
    pub(crate) fn open(&self) -> Result<Arc<dyn PoolEngine>> {
        self.engine.clone().map_err(|reason| {
            let message = format!("it is offline ({reason}); it is tried again every few seconds");
            Error::new(ErrorKind::Offline, format!("pool {}", self.record.name), message)
        })
    }
}
