//! Changes to volumes: making, growing, renaming, granting, deleting.

use crate::file::FileChange;
use crate::pools::VOLUME_FACT;
use crate::reservations::{self, PoolReservations};
use crate::{
    Cache, Error, ErrorKind, FactChange, Force, Grant, Group, IQN_PREFIX, InitiatorName, Naa, Name, Outcome,
    PoolEngine, Result, SessionFacts, State, VolumeEncryption, VolumeId, VolumeRecord, VolumeRules,
    VolumeRulesUpdate, VolumeSpec, VolumeView,
};
use std::sync::Arc;

/// Sizes are multiples of the block in which pools keep data.
const SIZE_UNIT_BYTES: u64 = 4096;
/// Smallest and largest volume.
const SIZE_BYTES_MIN: u64 = 1 << 20;
const SIZE_BYTES_MAX: u64 = 1 << 50;
/// Most volumes in a group and grants on a volume.
const VOLUMES_MAX: usize = 16_384;
const GRANTS_MAX: usize = 1_024;

/// A volume to be made.
#[derive(Debug, Clone)]
pub struct NewVolume {
    /// Name.
    pub name: String,
    /// Size in bytes.
    pub size_bytes: u64,
    /// Pool, by name or identity; none if there is only one.
    pub pool: Option<String>,
    /// Logical block size in bytes.
    pub block_size: u32,
    /// Reserve all its space.
    pub thick: bool,
    /// When writes are acknowledged.
    pub cache: Cache,
    /// Hosts may have copies done by the group.
    pub offload: bool,
    /// Encrypt what is written to it; none: as the pool does with new volumes.
    pub encrypt: Option<bool>,
}

/// What is to change about a volume.
#[derive(Debug, Clone, Default)]
pub struct VolumeUpdate {
    /// New name.
    pub name: Option<String>,
    /// New size in bytes.
    pub size_bytes: Option<u64>,
    /// Warn when so many percent of its size are taken; 0: never.
    pub warn_percent: Option<u8>,
    /// Whether hosts may have copies done by the group.
    pub offload: Option<bool>,
    /// How much it and its snapshots may take, and what becomes of these.
    pub rules: VolumeRulesUpdate,
}

/// What becomes of a volume's snapshots when it is deleted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Snapshots {
    /// The volume is not deleted while it has some.
    Refuse,
    /// They are deleted, too.
    Delete,
}

fn check_size(object: &str, size_bytes: u64) -> Result<()> {
    if !(SIZE_BYTES_MIN..=SIZE_BYTES_MAX).contains(&size_bytes) {
        return Err(Error::invalid(object, "a volume's size is from 1 MiB to 1 PiB"));
    }
    if !size_bytes.is_multiple_of(SIZE_UNIT_BYTES) {
        return Err(Error::invalid(
            object,
            format!("a volume's size is a multiple of {SIZE_UNIT_BYTES} bytes"),
        ));
    }
    Ok(())
}

/// Who uses it, for a message: `iqn.a from 192.0.2.1, iqn.b from 192.0.2.2 and 3 more`.
fn users(sessions: &[SessionFacts]) -> String {
    let shown: Vec<_> = sessions
        .iter()
        .take(2)
        .map(|session| format!("{} from {}", session.initiator, session.source.ip()))
        .collect();
    match sessions.len() {
        0..=2 => shown.join(" and "),
        all => format!("{} and {} more", shown.join(", "), all - 2),
    }
}

pub(crate) fn in_use(object: String, sessions: &[SessionFacts]) -> Error {
    let message = format!(
        "it is in use by {}; log out there first, or use --force to end the sessions",
        users(sessions)
    );
    Error::new(ErrorKind::InUse, object, message)
}

/// The target name of a new volume: after its name, or if a volume that was renamed has that, with a part of its
/// identity behind.
fn new_iqn(state: &State, name: &Name, id: VolumeId) -> Result<InitiatorName> {
    let plain = InitiatorName::parse(&format!("{IQN_PREFIX}{}", name.iqn_part()))?;
    if !state.is_target_name(&plain) {
        return Ok(plain);
    }
    InitiatorName::parse(&format!("{plain}-{id}"))
}

impl Group {
    /// Makes a volume. Asking for one that is there, with the same properties, is no error.
    ///
    /// # Errors
    /// `Invalid`; `NotFound` or `Offline` for the pool; `Exists` for the name; `NoSpace`.
    pub async fn create_volume(&self, new: NewVolume) -> Result<(Outcome, VolumeView)> {
        let name = Name::parse(&new.name)?;
        let object = format!("volume {name}");
        check_size(&object, new.size_bytes)?;
        if ![512, 4096].contains(&new.block_size) {
            return Err(Error::invalid(object, "the block size is 512 or 4096 bytes"));
        }
        let _change = self.changes.lock().await;
        let pool = self.pool_for(new.pool.as_deref(), &object)?;
        if let Ok(there) = self.volume(name.as_str()) {
            return same_volume(&new, there, &object, &pool);
        }
        let engine = self.state.read().find_pool(&pool)?.open()?;
        let encrypt_new = engine.keys().is_some_and(|keys| keys.encrypt_new);
        let encrypted = new.encrypt.unwrap_or(encrypt_new);
        let record = VolumeRecord { encrypted, ..self.new_record(name, &new, &pool)? };
        let view = self.make_volume(record, engine).await?;
        tracing::info!(volume = %view.record.name, iqn = %view.record.iqn, pool = %view.pool, "volume created");
        Ok((Outcome::Created, view))
    }

    /// The pool that is meant: the one named, or the only one.
    fn pool_for(&self, pool: Option<&str>, object: &str) -> Result<String> {
        if let Some(pool) = pool {
            return Ok(self.pool(pool)?.record.id.to_string());
        }
        let message = match self.pools().as_slice() {
            [only] => return Ok(only.record.id.to_string()),
            [] => "there is no pool yet; make one with `palisade pool create NAME --disk PATH`".to_owned(),
            several => {
                let names: Vec<_> = several.iter().map(|pool| pool.record.name.as_str()).collect();
                format!("say in which pool with --pool; there are {}", names.join(", "))
            }
        };
        Err(Error::invalid(object, message))
    }

    fn new_record(&self, name: Name, new: &NewVolume, pool: &str) -> Result<VolumeRecord> {
        let (id, iqn) = self.new_identity(&name)?;
        Ok(VolumeRecord {
            id,
            iqn,
            name,
            pool: self.state.read().find_pool(pool)?.record.id,
            size_bytes: new.size_bytes,
            block_size: new.block_size,
            thick: new.thick,
            cache: new.cache,
            offload: new.offload,
            naa: Naa::of(id),
            serial: Naa::of(id).serial(),
            grants: Vec::new(),
            warn_percent: None,
            read_only: false,
            template: false,
            rules: VolumeRules::default(),
            origin: None,
            encrypted: false,
            created_unix_ms: self.runtime.unix_time_ms(),
        })
    }

    fn new_identity(&self, name: &Name) -> Result<(VolumeId, InitiatorName)> {
        let state = self.state.read();
        if state.volumes.len() >= VOLUMES_MAX {
            let message = format!("a group has at most {VOLUMES_MAX} volumes");
            return Err(Error::invalid(format!("volume {name}"), message));
        }
        let id = VolumeId::from_random(self.runtime.random_id());
        Ok((id, new_iqn(&state, name, id)?))
    }

    /// The record of a new thin volume that is like another, but for what makes it another one.
    pub(crate) fn record_like(&self, name: Name, like: VolumeRecord) -> Result<VolumeRecord> {
        let (id, iqn) = self.new_identity(&name)?;
        Ok(VolumeRecord {
            id,
            iqn,
            name,
            thick: false,
            naa: Naa::of(id),
            serial: Naa::of(id).serial(),
            grants: Vec::new(),
            warn_percent: None,
            rules: VolumeRules::default(),
            created_unix_ms: self.runtime.unix_time_ms(),
            ..like
        })
    }

    async fn make_volume(&self, record: VolumeRecord, engine: Arc<dyn PoolEngine>) -> Result<VolumeView> {
        let spec = VolumeSpec {
            size_bytes: record.size_bytes,
            thick: record.thick,
            cache: record.cache,
            encrypted: record.encrypted,
        };
        let made = engine.create_volume(record.id, spec, fact(&record)?).await;
        made.map_err(|error| Error { object: format!("volume {}", record.name), ..error })?;
        self.take_in(record, engine).await
    }

    /// Remembers and serves a volume that its pool has just made.
    pub(crate) async fn take_in(
        &self,
        record: VolumeRecord,
        engine: Arc<dyn PoolEngine>,
    ) -> Result<VolumeView> {
        self.mirror(&record).await?;
        let mut kept = PoolReservations::default();
        let entry = self.serve_volume(record, &engine, &mut kept).await;
        let mut state = self.state.write();
        let id = entry.record.id;
        state.volumes.insert(id, entry);
        Ok(state.volume_view(state.find_volume(&id.to_string())?, &state.clones()))
    }

    /// Grows or renames a volume, or changes when it warns or whether copies are offloaded to it.
    ///
    /// # Errors
    /// `NotFound`, `Offline`; `Invalid` for a smaller size; `Exists` for the name; `NoSpace`.
    pub async fn update_volume(&self, volume: &str, update: VolumeUpdate) -> Result<(Outcome, VolumeView)> {
        let _change = self.changes.lock().await;
        let former = self.volume(volume)?.record;
        let object = format!("volume {}", former.name);
        let mut record = former.clone();
        if let Some(name) = update.name {
            record.name = self.free_name(Name::parse(&name)?, former.id)?;
        }
        if let Some(size_bytes) = update.size_bytes {
            if former.template {
                return Err(Error::invalid(object, "it is a template, which stays as it is"));
            }
            check_size(&object, size_bytes)?;
            if size_bytes < former.size_bytes {
                let message = format!(
                    "it has {}, and volumes only grow: what hosts have behind the new end would be lost",
                    block::format_size(former.size_bytes)
                );
                return Err(Error::invalid(object, message));
            }
            record.size_bytes = size_bytes;
        }
        record.offload = update.offload.unwrap_or(former.offload);
        if let Some(percent) = update.warn_percent {
            if former.thick && percent > 0 {
                let message =
                    "its space is reserved, so there is nothing to warn of; --warn is for thin volumes";
                return Err(Error::invalid(object, message));
            }
            record.warn_percent = crate::space::warn_percent(&object, percent)?;
        }
        record.rules = update.rules.applied_to(&former)?;
        // Names are equal whatever their case, but are kept as they are written.
        let same_name = record.name.as_str() == former.name.as_str();
        let same = record.size_bytes == former.size_bytes
            && record.warn_percent == former.warn_percent
            && record.rules == former.rules
            && record.offload == former.offload;
        if same && same_name {
            return Ok((Outcome::Unchanged, self.volume(volume)?));
        }
        self.change_volume(&former, record).await
    }

    async fn change_volume(
        &self,
        former: &VolumeRecord,
        record: VolumeRecord,
    ) -> Result<(Outcome, VolumeView)> {
        let engine = self.state.read().engine_of(former)?;
        let grows = record.size_bytes > former.size_bytes;
        if grows {
            engine.grow_volume(record.id, record.size_bytes, fact(&record)?).await?;
        } else {
            engine.put_fact(fact(&record)?).await?;
        }
        engine.set_limit(record.id, record.created_unix_ms, record.rules.limit_bytes);
        self.keep(&record).await?;
        self.space_changed.notify_one();
        if grows {
            self.frontend.grown(record.id, record.size_bytes);
        }
        self.frontend.space_warning(record.id, self.with_state(|state| state.warning_of(&record)));
        if record.offload != former.offload {
            self.frontend.offload_changed(&record);
        }
        tracing::info!(volume = %record.name, former = %former.name, size_bytes = record.size_bytes, "volume changed");
        Ok((Outcome::Changed, self.volume(&record.id.to_string())?))
    }

    fn free_name(&self, name: Name, own: VolumeId) -> Result<Name> {
        let taken = self.state.read().volume_records().any(|record| record.name == name && record.id != own);
        match taken {
            true => {
                let message = "a volume of this name is there already; choose another";
                Err(Error::new(ErrorKind::Exists, format!("volume {name}"), message))
            }
            false => Ok(name),
        }
    }

    /// Lets a host use a volume. What it may do changes for its sessions, too.
    ///
    /// # Errors
    /// `NotFound`, `Offline`.
    pub async fn grant(&self, volume: &str, host: &str, read_only: bool) -> Result<(Outcome, VolumeView)> {
        let _change = self.changes.lock().await;
        let mut record = self.volume(volume)?.record;
        let host = self.state.read().find_host(host)?.clone();
        let grant = Grant { host: host.id, read_only };
        match record.grants.iter().position(|former| former.host == host.id) {
            Some(at) if record.grants.get(at) == Some(&grant) => {
                return Ok((Outcome::Unchanged, self.volume(volume)?));
            }
            Some(at) => drop(record.grants.remove(at)),
            None if record.grants.len() >= GRANTS_MAX => {
                let message = format!("a volume is granted to at most {GRANTS_MAX} hosts");
                return Err(Error::invalid(format!("volume {}", record.name), message));
            }
            None => {}
        }
        record.grants.push(grant);
        let view = self.change_grants(record).await?;
        tracing::info!(volume = %view.record.name, host = %host.name, read_only, "granted");
        Ok((Outcome::Changed, view))
    }

    /// Takes a volume away from a host, whose sessions on it end.
    ///
    /// # Errors
    /// `NotFound`, `Offline`.
    pub async fn revoke(&self, volume: &str, host: &str) -> Result<(Outcome, VolumeView)> {
        let _change = self.changes.lock().await;
        let mut record = self.volume(volume)?.record;
        let host = self.state.read().find_host(host)?.clone();
        let before = record.grants.len();
        record.grants.retain(|grant| grant.host != host.id);
        if record.grants.len() == before {
            return Ok((Outcome::Unchanged, self.volume(volume)?));
        }
        let view = self.change_grants(record).await?;
        tracing::info!(volume = %view.record.name, host = %host.name, "revoked");
        Ok((Outcome::Changed, view))
    }

    /// First no login gets in any more that should not, then those who are in and should not be go: also if the
    /// group's own copy cannot be written, as the change holds already.
    pub(crate) async fn change_grants(&self, record: VolumeRecord) -> Result<VolumeView> {
        let engine = self.state.read().engine_of(&record)?;
        engine.put_fact(fact(&record)?).await?;
        self.remember(&record);
        let gone = self.frontend.access_changed(&record);
        let kept = self.mirror(&record).await;
        gone.await;
        kept?;
        self.volume(&record.id.to_string())
    }

    /// Deletes a volume and its data. Clones of it stay.
    ///
    /// # Errors
    /// `NotFound`, `Offline`; `InUse` while there are sessions, without force, and while there are snapshots.
    pub async fn delete_volume(&self, volume: &str, force: Force) -> Result<(Outcome, VolumeView)> {
        self.delete_volume_with(volume, force, Snapshots::Refuse).await
    }

    /// Deletes a volume and its data, and with [`Snapshots::Delete`] first its snapshots.
    ///
    /// # Errors
    /// As [`Group::delete_volume`].
    pub async fn delete_volume_with(
        &self,
        volume: &str,
        force: Force,
        snapshots: Snapshots,
    ) -> Result<(Outcome, VolumeView)> {
        let _change = self.changes.lock().await;
        let mut view = self.volume(volume)?;
        self.check_no_clones(&view)?;
        if view.snapshots > 0 && snapshots == Snapshots::Refuse {
            let message = format!(
                "it has {} snapshots; delete them first, or use --with-snapshots to delete them, too",
                view.snapshots
            );
            return Err(Error::new(ErrorKind::InUse, format!("volume {}", view.record.name), message));
        }
        let id = view.record.id;
        let engine = self.state.read().engine_of(&view.record)?;
        self.set_leaving(id, true);
        let sessions = self.sessions_on(id);
        if !sessions.is_empty() && force == Force::No {
            self.set_leaving(id, false);
            self.volumes_are_back(&[id]).await;
            return Err(in_use(format!("volume {}", view.record.name), &sessions));
        }
        self.frontend.withdraw(&view.record).await;
        let forget = FactChange { content: None, ..fact(&view.record)? };
        let facts = vec![forget.clone(), reservations::forget(id)];
        let data_keys = || engine.keys().map_or(0, |keys| keys.data_keys);
        let data_keys_before = data_keys();
        let mut deleted = self.drop_snapshots(id, &engine).await;
        if deleted.is_ok() {
            deleted = engine.delete_volume(id, facts).await;
        }
        if deleted.as_ref().is_err_and(|error| error.kind == ErrorKind::NotFound) {
            deleted = engine.put_fact(forget).await;
        }
        if let Err(error) = deleted {
            self.serve_again(view.record, &engine).await;
            return Err(error);
        }
        self.state.write().volumes.remove(&id);
        if data_keys() < data_keys_before {
            view.encryption = VolumeEncryption::Forgotten;
        }
        tracing::info!(volume = %view.record.name, "volume deleted");
        let mut changes = self.forget_mappings(id);
        changes.push(FileChange::RemoveVolume(id));
        self.persist(changes).await?;
        Ok((Outcome::Deleted, view))
    }

    async fn drop_snapshots(&self, volume: VolumeId, engine: &Arc<dyn PoolEngine>) -> Result<()> {
        let snapshots: Vec<_> = self.state.read().snapshots_of(volume).cloned().collect();
        for snapshot in &snapshots {
            self.drop_snapshot(snapshot, engine).await?;
        }
        Ok(())
    }

    pub(crate) fn set_leaving(&self, id: VolumeId, leaving: bool) {
        if let Some(entry) = self.state.write().volumes.get_mut(&id) {
            entry.leaving = leaving;
        }
    }

    /// Keeps a changed record in memory and in the group's file.
    pub(crate) async fn keep(&self, record: &VolumeRecord) -> Result<()> {
        self.remember(record);
        self.mirror(record).await
    }

    fn remember(&self, record: &VolumeRecord) {
        if let Some(entry) = self.state.write().volumes.get_mut(&record.id) {
            entry.record = record.clone();
        }
    }

    /// The group's copy of a volume's record; none for volumes that are gone with the process.
    async fn mirror(&self, record: &VolumeRecord) -> Result<()> {
        let volatile = self.state.read().pools.get(&record.pool).is_some_and(|pool| pool.record.volatile);
        let changes = if volatile { Vec::new() } else { vec![FileChange::PutVolume(record.clone())] };
        self.persist(changes).await
    }
}

fn same_volume(
    new: &NewVolume,
    there: VolumeView,
    object: &str,
    pool: &str,
) -> Result<(Outcome, VolumeView)> {
    let record = &there.record;
    let same = record.size_bytes == new.size_bytes
        && record.block_size == new.block_size
        && record.thick == new.thick
        && record.cache == new.cache
        && record.offload == new.offload
        && new.encrypt.is_none_or(|encrypt| encrypt == record.encrypted)
        && record.pool.to_string() == pool;
    if same {
        return Ok((Outcome::Unchanged, there));
    }
    let message = "a volume of this name is there already, with other properties; choose another name";
    Err(Error::new(ErrorKind::Exists, object, message))
}

/// The record as its pool keeps it.
pub(crate) fn fact(record: &VolumeRecord) -> Result<FactChange> {
    let content = serde_json::to_vec(record).map_err(|error| {
        Error::new(ErrorKind::Internal, format!("volume {}", record.name), error.to_string())
    })?;
    Ok(FactChange { kind: VOLUME_FACT, name: record.id.to_string(), content: Some(content) })
}
