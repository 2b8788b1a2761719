//! The group: opening it, asking it, closing it. What changes it is in `pools`, `volumes` and `hosts`.

use crate::file::FileChange;
use crate::secret_key::SecretKey;
use crate::state::{PoolEntry, VolumeEntry};
use crate::{
    CopyFacts, Engine, Error, ErrorKind, Frontend, GroupFile, GroupRecord, LoginFailures, Name, PoolView,
    Result, SessionFacts, State, VolumeId, VolumeView,
};
use block::{Runtime, Sanitization};
use parking_lot::{Mutex, RwLock};
use std::path::Path;
use std::sync::Arc;

/// What a group is made of.
pub struct GroupConfig {
    /// Where its file is; made if it is not there.
    pub file: std::path::PathBuf,
    /// Makes and opens pools.
    pub engine: Arc<dyn Engine>,
    /// The targets.
    pub frontend: Arc<dyn Frontend>,
    /// Time and threads.
    pub runtime: Arc<dyn Runtime>,
}

/// The group. Changes happen one after the other; questions never wait for them.
///
/// A future of a changing operation must be driven to its end: dropped halfway it leaves the change half done until
/// the next start, which puts it right.
pub struct Group {
    pub(crate) state: RwLock<State>,
    pub(crate) key: Arc<SecretKey>,
    /// Held during a change.
    pub(crate) changes: tokio::sync::Mutex<()>,
    /// A schedule was made or changed.
    pub(crate) schedules_changed: tokio::sync::Notify,
    /// Snapshots, or what becomes of them when space is short, changed.
    pub(crate) space_changed: tokio::sync::Notify,
    file: Arc<GroupFile>,
    pub(crate) engine: Arc<dyn Engine>,
    pub(crate) frontend: Arc<dyn Frontend>,
    pub(crate) runtime: Arc<dyn Runtime>,
}

/// Name of a new group.
const GROUP_NAME: &str = "palisade";

impl Group {
    /// Opens the group and every pool it knows. A pool that does not open is logged and left offline.
    ///
    /// # Errors
    /// As [`GroupFile::open`].
    pub async fn open(config: GroupConfig) -> Result<Arc<Self>> {
        let GroupConfig { file, engine, frontend, runtime } = config;
        let key_file = file.with_file_name(crate::secret_key::FILE_NAME);
        let file = open_file(&runtime, file).await?;
        let reader = file.clone();
        let contents = blocking(&*runtime, move || reader.load()).await??;
        let sealed =
            contents.group.discovery.is_some() || contents.hosts.iter().any(|host| host.chap.is_some());
        let random = crate::secret_key::random(&*runtime);
        let key = blocking(&*runtime, move || SecretKey::load(key_file, (!sealed).then_some(random))).await?;
        let mut state = State::new(contents.group);
        state.hosts = contents.hosts.into_iter().map(|host| (host.id, host)).collect();
        state.growth = contents.growth.into_iter().map(|record| (record.object.clone(), record)).collect();
        state.portals = contents.portals;
        state.targets = contents.targets.into_iter().map(|target| (target.iqn.clone(), target)).collect();
        state.schedules = contents.schedules.into_iter().map(|record| (record.id, record)).collect();
        for record in contents.volumes {
            let entry =
                VolumeEntry { record, offline: Some("its pool is offline".to_owned()), leaving: false };
            state.volumes.insert(entry.record.id, entry);
        }
        for record in contents.pools {
            let reason =
                Error::new(ErrorKind::Offline, format!("pool {}", record.name), "it is not open yet");
            state.pools.insert(record.id, PoolEntry { record, engine: Err(reason), opening: false });
        }
        let group = Arc::new(Self {
            state: RwLock::new(state),
            key: Arc::new(key),
            changes: tokio::sync::Mutex::new(()),
            schedules_changed: tokio::sync::Notify::new(),
            space_changed: tokio::sync::Notify::new(),
            file,
            engine,
            frontend,
            runtime,
        });
        group.open_offline_pools().await;
        Ok(group)
    }

    /// Calls `ask` with the state as it is now. It must not wait for anything.
    pub fn with_state<T>(&self, ask: impl FnOnce(&State) -> T) -> T {
        ask(&self.state.read())
    }

    /// All pools, by name.
    #[must_use]
    pub fn pools(&self) -> Vec<PoolView> {
        let state = self.state.read();
        let mut views: Vec<_> = state.pools.values().map(|entry| state.pool_view(entry)).collect();
        views.sort_by(|one, other| one.record.name.as_str().cmp(other.record.name.as_str()));
        views
    }

    /// One pool, by name or identity.
    ///
    /// # Errors
    /// `NotFound`.
    pub fn pool(&self, pool: &str) -> Result<PoolView> {
        let state = self.state.read();
        Ok(state.pool_view(state.find_pool(pool)?))
    }

    /// All volumes, by name.
    #[must_use]
    pub fn volumes(&self) -> Vec<VolumeView> {
        let state = self.state.read();
        let clones = state.clones();
        let mut views: Vec<_> =
            state.volumes.values().map(|entry| state.volume_view(entry, &clones)).collect();
        views.sort_by(|one, other| one.record.name.as_str().cmp(other.record.name.as_str()));
        views
    }

    /// One volume, by name or identity.
    ///
    /// # Errors
    /// `NotFound`.
    pub fn volume(&self, volume: &str) -> Result<VolumeView> {
        let state = self.state.read();
        Ok(state.volume_view(state.find_volume(volume)?, &state.clones()))
    }

    /// What copies a volume has seen since it was first served.
    pub fn copy_facts(&self, volume: VolumeId) -> CopyFacts {
        self.frontend.copy_facts(volume)
    }

    /// How far a volume is with being sanitized.
    #[must_use]
    pub fn sanitization(&self, volume: VolumeId) -> Sanitization {
        self.frontend.sanitization(volume)
    }

    /// All iSCSI sessions.
    #[must_use]
    pub fn sessions(&self) -> Vec<SessionFacts> {
        self.frontend.sessions()
    }

    /// Logins that failed to prove what CHAP demands, since the daemon started.
    #[must_use]
    pub fn login_failures(&self) -> LoginFailures {
        self.frontend.login_failures()
    }

    /// Writes everything down and closes every pool. The targets must have stopped.
    pub async fn close(&self) {
        let _change = self.changes.lock().await;
        let open: Vec<_> = {
            let mut state = self.state.write();
            let closed = || Error::new(ErrorKind::Offline, "pool", "the program is stopping");
            state
                .pools
                .values_mut()
                .filter_map(|entry| {
                    let engine = std::mem::replace(&mut entry.engine, Err(closed())).ok()?;
                    Some((entry.record.name.clone(), engine))
                })
                .collect()
        };
        for (name, engine) in open {
            match engine.close().await {
                Ok(()) => tracing::info!(pool = %name, "pool closed"),
                Err(error) => {
                    tracing::error!(pool = %name, %error, "pool not closed cleanly; it recovers when opened")
                }
            }
        }
    }

    /// Writes changes to the group's file.
    pub(crate) async fn persist(&self, changes: Vec<FileChange>) -> Result<()> {
        if changes.is_empty() {
            return Ok(());
        }
        let file = self.file.clone();
        blocking(&*self.runtime, move || file.apply(&changes)).await?
    }

    /// The sessions of a volume, through whichever target.
    pub(crate) fn sessions_on(&self, volume: VolumeId) -> Vec<SessionFacts> {
        let mut sessions = self.frontend.sessions();
        sessions.retain(|session| session.volume == Some(volume) || session.units.contains(&volume));
        sessions
    }
}

async fn open_file(runtime: &Arc<dyn Runtime>, path: std::path::PathBuf) -> Result<Arc<GroupFile>> {
    let id = uuid::Builder::from_random_bytes(runtime.random_id()).into_uuid().to_string();
    let name = Name::parse(GROUP_NAME)?;
    let open = move || {
        GroupFile::open(Path::new(&path), || GroupRecord {
            version: 1,
            id,
            name,
            discovery: None,
            isns: None,
        })
    };
    blocking(&**runtime, open).await?.map(Arc::new)
}

/// Runs `work` where it may block.
pub(crate) async fn blocking<T: Send + 'static>(
    runtime: &dyn Runtime,
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<T> {
    let slot = Arc::new(Mutex::new(None));
    let result = slot.clone();
    runtime.run_blocking(Box::new(move || *result.lock() = Some(work()))).await;
    let done = slot.lock().take();
    done.ok_or_else(|| Error::new(ErrorKind::Internal, "group", "a blocking task ended early; see the log"))
}
