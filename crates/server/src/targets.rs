//! The iSCSI side as the model wants it, and the model as the iSCSI side wants it.

use crate::name_service::Board;
use crate::space::SharedSpace;
use crate::{luns, paths, reservations};
use block::{BoxFuture, Runtime, Volume};
use control::{
    Cache, CopyFacts, Destination, DiscoveryDemand, Error, ErrorKind, Frontend, Group, InitiatorName,
    IsnsServerFacts, KeptReservations, LoginAttempt, LoginFailures, PortalGroupTag, PortalSet, Refusal,
    ReservationFacts, Result, SessionFacts, SpaceWarning, VolumeId, VolumeRecord,
};
use parking_lot::RwLock;
use std::collections::{HashMap, HashSet};
use std::net::SocketAddr;
use std::sync::{Arc, OnceLock, Weak};
use std::time::Duration;
use target::{
    Access, Account, Authentication, Copies, CopyDirectory, Credential, Directory, LogLimit,
    LogicalUnitHandle, LoginRefusal, LoginRequest, Requester, Secret, Server, SessionInfo, TargetEntry,
};

/// What INQUIRY says of every volume; host configuration files match on it.
const VENDOR: &str = "PALISADE";
const PRODUCT: &str = "VOLUME";
const REVISION: &str = "0001";

/// How long sessions that have to go may take to end, and how often is looked.
const WITHDRAW_TIME_MAX: Duration = Duration::from_secs(15);
const WITHDRAW_LOOK: Duration = Duration::from_millis(20);

/// Every volume's logical unit, and the server that serves them.
#[derive(Default)]
pub(crate) struct Targets {
    units: RwLock<HashMap<VolumeId, Arc<LogicalUnitHandle>>>,
    /// Who shares space with whom.
    space: Arc<SharedSpace>,
    group: RwLock<Weak<Group>>,
    server: RwLock<Option<Arc<Server>>>,
    /// When the server started, in ms since 1970.
    started_unix_ms: RwLock<u64>,
    portals: RwLock<PortalSet>,
    name_servers: Arc<Board>,
    /// What the numbers in units' target ports stand for.
    pub(crate) target_names: Arc<reservations::TargetNames>,
    /// For work in the background.
    this: OnceLock<Weak<Targets>>,
    /// What volumes share for copies.
    copies: RwLock<Option<Arc<Copies>>>,
    /// Anyone who reaches a portal can cause lines in the log.
    log_limit: LogLimit,
}

impl Targets {
    /// From now on logins are decided by `group`.
    pub(crate) fn follow(self: &Arc<Self>, group: &Arc<Group>) {
        // Set once more it would be the same.
        let _ = self.this.set(Arc::downgrade(self));
        *self.group.write() = Arc::downgrade(group);
        self.number_ports();
    }

    /// From now on copies can be offloaded, also between volumes.
    pub(crate) fn copy_with(self: &Arc<Self>, runtime: Arc<dyn Runtime>) {
        let copies = Arc::new(Copies::new(runtime));
        let directory: Arc<dyn CopyDirectory> = self.clone();
        copies.follow(Arc::downgrade(&directory));
        *self.copies.write() = Some(copies);
    }

    /// From now on `server` serves.
    pub(crate) fn serve_with(&self, server: Arc<Server>, now_unix_ms: u64) {
        *self.started_unix_ms.write() = now_unix_ms;
        *self.server.write() = Some(server);
    }

    /// Lets go of the server and every unit.
    pub(crate) fn end(&self) -> Option<Arc<Server>> {
        self.units.write().clear();
        self.server.write().take()
    }

    /// Asks the model.
    pub(crate) fn with_group<T>(&self, ask: impl FnOnce(&control::State) -> T) -> Option<T> {
        let group = self.group.read().upgrade()?;
        Some(group.with_state(ask))
    }

    pub(crate) fn server(&self) -> Option<Arc<Server>> {
        self.server.read().clone()
    }

    pub(crate) fn unit(&self, id: VolumeId) -> Option<Arc<LogicalUnitHandle>> {
        self.units.read().get(&id).cloned()
    }

    pub(crate) fn all_units(&self) -> Vec<(VolumeId, Arc<LogicalUnitHandle>)> {
        self.units.read().iter().map(|(id, unit)| (*id, unit.clone())).collect()
    }

    pub(crate) fn name_servers(&self) -> Arc<Board> {
        self.name_servers.clone()
    }

    pub(crate) fn portal_set(&self) -> PortalSet {
        self.portals.read().clone()
    }

    /// Has the sessions of a volume, through whichever target, look again at what they may do.
    fn tell(&self, record: &VolumeRecord) {
        self.tell_targets(self.targets_with(record.id).iter().chain([&record.iqn]));
    }

    /// The sessions of a target that may not stay.
    fn leaving(&self, target: &str) -> HashSet<target::SessionId> {
        let (Some(group), Some(server)) = (self.group.read().upgrade(), self.server()) else {
            return HashSet::new();
        };
        let of_target = |info: &SessionInfo| {
            info.target.as_deref().is_some_and(|other| other.eq_ignore_ascii_case(target))
        };
        let sessions: Vec<SessionInfo> = server.sessions().into_iter().filter(of_target).collect();
        let refused = |state: &control::State, info: &SessionInfo| {
            let attempt = LoginAttempt { initiator: &info.initiator, source: info.peer.ip() };
            state.authorize(attempt, target).is_err()
        };
        group.with_state(|state| {
            sessions.iter().filter(|info| refused(state, info)).map(|info| info.id).collect()
        })
    }

    /// Waits until none of `sessions` is left: neither its connection nor a command on the volume.
    async fn until_over(&self, sessions: HashSet<target::SessionId>) {
        let left = || {
            let server = self.server();
            server.is_some_and(|server| server.sessions().iter().any(|info| sessions.contains(&info.id)))
        };
        let over = async {
            while !sessions.is_empty() && left() {
                tokio::time::sleep(WITHDRAW_LOOK).await;
            }
        };
        if tokio::time::timeout(WITHDRAW_TIME_MAX, over).await.is_err() {
            tracing::warn!("sessions that may not stay are slow to end");
        }
    }

    fn session(&self, group: Option<&Group>, info: SessionInfo) -> SessionFacts {
        let attempt = LoginAttempt { initiator: &info.initiator, source: info.peer.ip() };
        let target = info.target.as_deref();
        let found = group.and_then(|group| {
            group.with_state(|state| {
                let volume = state.volume_of_target(target?)?;
                Some((volume, state.host_on(attempt, volume)))
            })
        });
        let (volume, grant) = found.map_or((None, None), |(volume, grant)| (Some(volume), grant));
        let shared = group.and_then(|group| {
            group.with_state(|state| {
                let record = state.target(target?)?;
                Some((record.iqn.clone(), state.session_access(attempt, record)))
            })
        });
        let (shared, access) = shared.map_or((None, None), |(iqn, access)| (Some(iqn), access));
        let units = access.iter().flat_map(|access| &access.units);
        let all_read_only = access.is_some() && units.clone().all(|unit| unit.read_only);
        let since_ms = u64::try_from(info.since.as_millis()).unwrap_or(u64::MAX);
        SessionFacts {
            id: control::SessionId(info.id.0),
            source: info.peer,
            portal: info.portal,
            connections: info.connections.into_iter().map(luns::connection).collect(),
            volume,
            target: shared,
            units: units.map(|unit| unit.volume).collect(),
            host: grant.map(|grant| grant.host).or(access.as_ref().map(|access| access.host)),
            read_only: all_read_only || grant.is_some_and(|grant| grant.read_only),
            since_unix_ms: self.started_unix_ms.read().saturating_add(since_ms),
            commands: info.commands,
            read_bytes: info.bytes_read,
            written_bytes: info.bytes_written,
            initiator: info.initiator,
        }
    }
}

fn unit_config(record: &VolumeRecord, size_bytes: u64) -> scsi::LogicalUnitConfig {
    let identity = scsi::Identity {
        naa: record.naa.bytes(),
        serial: record.serial.clone(),
        vendor: VENDOR.to_owned(),
        product: PRODUCT.to_owned(),
        revision: REVISION.to_owned(),
    };
    let block_size = if record.block_size == 4096 { scsi::BlockSize::B4096 } else { scsi::BlockSize::B512 };
    let blocks = size_bytes / u64::from(block_size.bytes());
    scsi::LogicalUnitConfig {
        write_cache: record.cache == Cache::Buffered,
        thin: !record.thick,
        ..scsi::LogicalUnitConfig::new(identity, block_size, blocks)
    }
}

impl Frontend for Targets {
    fn publish(&self, record: &VolumeRecord, volume: Arc<dyn Volume>, kept: KeptReservations) -> Result<()> {
        let config = unit_config(record, volume.size_bytes());
        let unit = LogicalUnitHandle::new(config, volume).map_err(|error| {
            let message = format!("it makes no logical unit: {error}");
            Error::new(ErrorKind::Internal, format!("volume {}", record.name), message)
        })?;
        let unit = reservations::keeping(unit, kept, self.target_names.clone())?;
        let copies = self.copies.read().clone();
        let unit = Arc::new(match copies {
            Some(copies) => unit.with_copies(copies, record.offload),
            None => unit,
        });
        unit.set_port_groups(self.port_groups(record.id));
        self.space.join(record.pool, record.id, &unit);
        unit.set_other_targets(self.other_targets(record.id));
        self.units.write().insert(record.id, unit);
        Ok(())
    }

    fn withdraw(&self, record: &VolumeRecord) -> BoxFuture<'_, ()> {
        let unit = self.units.write().remove(&record.id);
        let sessions: Vec<_> = unit.iter().flat_map(|unit| unit.uses()).map(|used| used.session).collect();
        self.tell(record);
        Box::pin(async move {
            let Some(unit) = unit else { return };
            let gone = async {
                unit.close_to_copies().await;
                while unit.session_count() > 0 {
                    tokio::time::sleep(WITHDRAW_LOOK).await;
                }
                unit.quiet(&sessions).await;
            };
            if tokio::time::timeout(WITHDRAW_TIME_MAX, gone).await.is_err() {
                tracing::warn!(
                    sessions = unit.session_count(),
                    "sessions of a deleted volume are slow to end"
                );
            }
        })
    }

    fn grown(&self, id: VolumeId, _size_bytes: u64) {
        if let Some(Err(error)) = self.unit(id).map(|unit| unit.capacity_changed()) {
            tracing::error!(volume = %id, %error, "hosts could not be told of the new size");
        }
    }

    fn reservations(&self, id: VolumeId) -> Option<ReservationFacts> {
        self.unit(id).map(|unit| reservations::facts(&unit.reservations()))
    }

    fn clear_reservations(&self, id: VolumeId) -> BoxFuture<'_, Result<Option<ReservationFacts>>> {
        let unit = self.unit(id);
        Box::pin(async move {
            let Some(unit) = unit else { return Ok(None) };
            let cleared = unit.clear_reservations().await.map_err(|_| {
                let message = "that could not be made durable, so all stays as it was; see the log and the pool's state";
                Error::new(ErrorKind::Internal, format!("volume {id}"), message)
            })?;
            Ok(Some(reservations::facts(&cleared)))
        })
    }

    fn space_warning(&self, id: VolumeId, warning: SpaceWarning) {
        let Some(unit) = self.unit(id) else { return };
        unit.set_space_warning(scsi::SpaceWarning {
            pool_used_percent: warning.pool_percent,
            volume_used_percent: warning.volume_percent,
        });
        let _ = unit.look_at_space();
    }

    fn offload_changed(&self, record: &VolumeRecord) {
        if let Some(unit) = self.unit(record.id) {
            unit.set_offload(record.offload);
        }
    }

    fn copy_facts(&self, id: VolumeId) -> CopyFacts {
        let counts = self.unit(id).map(|unit| unit.copy_counts()).unwrap_or_default();
        let target::CopyCounts { copies, tokens, failed, bytes } = counts;
        CopyFacts { copies, tokens, failed, bytes }
    }

    fn sanitization(&self, id: VolumeId) -> block::Sanitization {
        self.unit(id).map(|unit| unit.volume().sanitization()).unwrap_or_default()
    }

    fn sessions(&self) -> Vec<SessionFacts> {
        let group = self.group.read().upgrade();
        let sessions = self.server().map(|server| server.sessions()).unwrap_or_default();
        sessions.into_iter().map(|info| self.session(group.as_deref(), info)).collect()
    }

    fn login_failures(&self) -> LoginFailures {
        let counts = self.server().map(|server| server.status().authentication).unwrap_or_default();
        LoginFailures { failed: counts.failed, unheard: counts.limited }
    }

    fn access_changed(&self, record: &VolumeRecord) -> BoxFuture<'_, ()> {
        let users = self.users_of(record.id);
        self.tell(record);
        let leaving = self.leaving(record.iqn.as_str());
        Box::pin(async move {
            self.until_over(leaving).await;
            self.until_settled(users).await;
        })
    }

    fn targets_changed(&self, targets: Vec<InitiatorName>) -> BoxFuture<'_, ()> {
        let users = self.users_in(&targets);
        self.number_ports();
        self.tell_targets(&targets);
        Box::pin(async move {
            self.until_settled(users).await;
            self.retire_targets().await;
        })
    }

    fn open_portal(&self, address: SocketAddr, tag: PortalGroupTag) -> Result<SocketAddr> {
        self.open(address, tag)
    }

    fn close_portal(&self, address: SocketAddr) -> BoxFuture<'_, ()> {
        let server = self.server();
        Box::pin(async move {
            if let Some(server) = server {
                server.remove_portal(address).await;
            }
        })
    }

    fn open_portals(&self) -> Vec<SocketAddr> {
        self.open_addresses()
    }

    fn portals_changed(&self, portals: PortalSet) {
        *self.portals.write() = portals;
        self.tell_paths();
    }

    fn empty_portals(&self, portals: Vec<SocketAddr>, within: Duration) {
        if let Some(this) = self.this.get().and_then(Weak::upgrade) {
            this.empty(portals, within);
        }
    }

    fn isns_changed(&self) {
        self.name_servers.wake();
    }

    fn isns_servers(&self) -> Vec<IsnsServerFacts> {
        self.name_servers.servers()
    }
}

impl CopyDirectory for Targets {
    /// A host copies between volumes that are granted to it, the same host, by whichever of its names: a name that only
    /// some other host's grant trusts reaches nothing.
    fn unit_for_copy(&self, requester: &Requester, naa: &[u8; 16]) -> Option<target::UnitGrant> {
        let group = self.group.read().upgrade()?;
        let attempt = || LoginAttempt { initiator: &requester.initiator, source: requester.peer.ip() };
        let access = group.with_state(|state| {
            let record = state.volume_records().find(|record| record.naa.bytes() == *naa)?;
            let own = state.authorize_target(attempt(), &requester.target).ok()?;
            let other = state.authorize(attempt(), record.iqn.as_str()).ok()?;
            (own.host == other.host).then_some(other)
        })?;
        let unit = self.unit(access.volume)?;
        Some(target::UnitGrant { lun: scsi::Lun::default(), unit, read_only: access.read_only })
    }
}

impl Directory for Targets {
    fn authorize(&self, login: &LoginRequest) -> std::result::Result<Access, LoginRefusal> {
        let group = self.group.read().upgrade().ok_or(LoginRefusal::Unavailable)?;
        let attempt = LoginAttempt { initiator: &login.initiator, source: login.peer.ip() };
        let decision = group.with_state(|state| state.authorize_target(attempt, &login.target));
        let access = decision.map_err(|refusal| self.refused(login, refusal))?;
        self.check_portal(login)?;
        let account = group.host_account(access.host, &login.initiator);
        let account = account.map_err(|error| self.unreadable(&error, &login.initiator, login.peer))?;
        let authentication = match account {
            Some(account) => demand([account], false),
            None => Authentication::None,
        };
        let units = self.unit_grants(&access);
        if units.is_empty() {
            return Err(LoginRefusal::Unavailable);
        }
        let number = scsi::TargetNumber(access.number);
        Ok(Access { authentication, target_alias: Some(access.name.to_string()), number, units })
    }

    fn discovery(
        &self,
        initiator: &str,
        peer: SocketAddr,
    ) -> std::result::Result<Authentication, LoginRefusal> {
        let group = self.group.read().upgrade().ok_or(LoginRefusal::Unavailable)?;
        let demanded = group.discovery_demand(LoginAttempt { initiator, source: peer.ip() });
        let DiscoveryDemand { accounts, optional } =
            demanded.map_err(|error| self.unreadable(&error, initiator, peer))?;
        Ok(if accounts.is_empty() { Authentication::None } else { demand(accounts, optional) })
    }

    fn targets_for(&self, initiator: &str, peer: SocketAddr, local: SocketAddr) -> Vec<TargetEntry> {
        let Some(group) = self.group.read().upgrade() else { return Vec::new() };
        let addresses = paths::seen_portals(&self.portals.read(), &self.open_addresses(), peer, local);
        let attempt = LoginAttempt { initiator, source: peer.ip() };
        let entries: Vec<TargetEntry> = group.with_state(|state| {
            let own = state.visible_to(attempt).map(|record| &record.iqn);
            let shared = state.targets_visible_to(attempt).map(|target| &target.iqn);
            own.chain(shared)
                .map(|iqn| TargetEntry { name: iqn.to_string(), addresses: addresses.clone() })
                .collect()
        });
        if entries.is_empty()
            && let Some(left_out) = self.log_limit.admit()
        {
            tracing::info!(
                initiator,
                left_out,
                %peer,
                "discovery shows nothing: no volume is granted to this initiator from there; see `palisade volume grant`"
            );
        }
        entries
    }
}

/// The model's accounts as the iSCSI side takes them.
fn demand(accounts: impl IntoIterator<Item = control::Account>, optional: bool) -> Authentication {
    let credential = |own: control::Credential| Credential {
        name: own.user,
        secret: Secret::new(own.secret.bytes().to_vec()),
    };
    let account = |account: control::Account| Account {
        initiator: credential(account.initiator),
        target: account.target.map(credential),
    };
    Authentication::Chap { accounts: accounts.into_iter().map(account).collect(), optional }
}

impl Targets {
    /// Who cannot prove anything to us is not let in without: the host is to try again once that is put right.
    fn unreadable(&self, error: &Error, initiator: &str, peer: SocketAddr) -> LoginRefusal {
        if let Some(left_out) = self.log_limit.admit() {
            tracing::error!(initiator, %peer, left_out, "login put off: {error}");
        }
        LoginRefusal::Unavailable
    }

    /// A host that may log in, but not here, is told where.
    fn check_portal(&self, login: &LoginRequest) -> std::result::Result<(), LoginRefusal> {
        if login.established {
            return Ok(());
        }
        let open = self.open_addresses();
        let portals = self.portals.read();
        match portals.destination(login.peer.ip(), login.local, |address| open.contains(&address)) {
            Destination::Here => Ok(()),
            Destination::Elsewhere { address, permanent } => Err(LoginRefusal::Moved { permanent, address }),
            Destination::Nowhere => Err(LoginRefusal::Unavailable),
        }
    }

    /// The answer to a refused login; the log says more than the host is told.
    fn refused(&self, login: &LoginRequest, refusal: Refusal) -> LoginRefusal {
        let LoginRequest { initiator, target, peer, .. } = login;
        let (why, answer) = match refusal {
            Refusal::NotFound => {
                ("login refused: no such target, or not granted to this host", LoginRefusal::NotFound)
            }
            Refusal::Offline => ("login put off: the volume is offline", LoginRefusal::Unavailable),
        };
        if let Some(left_out) = self.log_limit.admit() {
            tracing::info!(initiator, target, %peer, left_out, "{why}");
        }
        answer
    }
}
