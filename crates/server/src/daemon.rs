//! The daemon's life: what is started in which order, and how it ends.

use crate::config::ServeConfig;
use crate::data_dir::DataDir;
use crate::engine::SystemEngine;
use crate::rest::{DaemonFacts, router};
use crate::targets::Targets;
use crate::{convert, demo, listen, logs, name_service, notify, schedules, space_watch};
use api::{ErrorClass, Problem};
use backend::TokioRuntime;
use block::Runtime;
use control::{Group, GroupConfig};
use rustix::process::{Resource, Rlimit};
use std::io::Write;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use target::Server;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::watch;
use tokio::task::JoinSet;

/// How often pools that are offline are tried again.
const RETRY_INTERVAL: Duration = Duration::from_secs(5);

/// How long commands under way may take to be answered at the end, then pools to be written down.
const DRAIN_TIME_MAX: Duration = Duration::from_secs(5);
const CLOSE_TIME_MAX: Duration = Duration::from_secs(10);

/// Runs the daemon until a signal ends it.
///
/// # Errors
/// What keeps it from starting: `already-serving`, `address-in-use`, `denied` and the like.
pub fn serve(config: &ServeConfig) -> Result<(), Problem> {
    logs::start(config.log_format);
    raise_file_limit();
    // One thread for the API and the pools' own work; each portal's connections have reactors of their own.
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(|error| internal(&format!("no event loop: {error}")))?;
    let served = runtime.block_on(run(config));
    // A disk that hangs must not keep the process: what it was to write is in nobody's promise.
    runtime.shutdown_timeout(Duration::from_secs(1));
    served
}

fn internal(message: &str) -> Problem {
    Problem::new(ErrorClass::Internal, "daemon", message)
}

/// The usual soft limit of 1024 open files is fewer than the connections that hosts may hold.
fn raise_file_limit() {
    let limit = rustix::process::getrlimit(Resource::Nofile);
    let raised = Rlimit { current: limit.maximum, maximum: limit.maximum };
    if let Err(error) = rustix::process::setrlimit(Resource::Nofile, raised) {
        tracing::warn!(%error, "the limit on open files stays as it is");
    }
}

/// Everything that runs.
struct Daemon {
    data: DataDir,
    group: Arc<Group>,
    targets: Arc<Targets>,
    server: Arc<Server>,
    api: JoinSet<()>,
    /// Tells name servers, and runs schedules.
    names: JoinSet<()>,
    stop_names: watch::Sender<bool>,
    stop: watch::Sender<bool>,
}

async fn run(config: &ServeConfig) -> Result<(), Problem> {
    let data = DataDir::take(&config.data)?;
    // Before anything listens: a signal from now on ends in order.
    let mut signals = Signals::new()?;
    let runtime: Arc<dyn Runtime> = Arc::new(TokioRuntime::new(tokio::runtime::Handle::current()));
    let targets = Arc::new(Targets::default());
    targets.copy_with(Arc::clone(&runtime));
    let tcp = match config.api {
        Some(address) => Some(listen::tcp(address).await?),
        None => None,
    };
    let group = open_group(&data, &runtime, &targets).await?;
    let shown = match config.demo {
        true => Some(demo::prepare(&group, &data).await),
        false => None,
    };
    let started = match shown.transpose() {
        Ok(volume) => start_server(config, &group, &targets, &runtime).await.map(|server| (volume, server)),
        Err(error) => Err(convert::problem(&error)),
    };
    let (volume, server) = match started {
        Ok(started) => started,
        Err(problem) => {
            group.close().await;
            return Err(problem);
        }
    };
    let (stop, stopped) = watch::channel(false);
    let tcp_address = tcp.as_ref().and_then(|listener| listener.local_addr().ok());
    let mut daemon = Daemon {
        data,
        group,
        targets,
        server,
        api: JoinSet::new(),
        names: JoinSet::new(),
        stop_names: watch::channel(false).0,
        stop,
    };
    if let Err(problem) = daemon.start_api(tcp, &*runtime, stopped) {
        daemon.end(&mut signals).await;
        return Err(problem);
    }
    let (group, targets) = (daemon.group.clone(), daemon.targets.clone());
    let stop_names = daemon.stop_names.subscribe();
    daemon.names.spawn(name_service::run(group, targets, runtime.clone(), stop_names));
    daemon.names.spawn(schedules::run(daemon.group.clone(), runtime.clone(), daemon.stop_names.subscribe()));
    daemon.names.spawn(space_watch::run(
        daemon.group.clone(),
        runtime.clone(),
        daemon.stop_names.subscribe(),
    ));
    daemon.announce(volume.as_ref(), tcp_address);
    signals.wait_retrying(&daemon.group).await;
    daemon.end(&mut signals).await;
    Ok(())
}

async fn open_group(
    data: &DataDir,
    runtime: &Arc<dyn Runtime>,
    targets: &Arc<Targets>,
) -> Result<Arc<Group>, Problem> {
    let config = GroupConfig {
        file: data.group_file(),
        engine: Arc::new(SystemEngine::new(runtime.clone())),
        frontend: targets.clone(),
        runtime: runtime.clone(),
    };
    let group = Group::open(config).await.map_err(|error| convert::problem(&error))?;
    targets.follow(&group);
    Ok(group)
}

async fn start_server(
    config: &ServeConfig,
    group: &Arc<Group>,
    targets: &Arc<Targets>,
    runtime: &Arc<dyn Runtime>,
) -> Result<Arc<Server>, Problem> {
    let server = Server::start(target::Config::new(&[]), targets.clone());
    let server = Arc::new(server.map_err(|error| internal(&error.to_string()))?);
    targets.serve_with(server.clone(), runtime.unix_time_ms());
    let remembered = group.with_state(|state| state.portals().clone());
    let (portals, remark) = config.portals(listen::has_ipv6());
    if remembered.groups.is_empty() {
        if let Some(remark) = remark {
            tracing::warn!("{remark}");
        }
    } else if let Some(left_out) =
        config.portals.iter().find(|address| remembered.portal(**address).is_none())
    {
        tracing::warn!(
            "--portal {left_out} is not opened: this group remembers its portals; `palisade portal add {left_out}`"
        );
    }
    group.serve_portals(&portals).await.map_err(|error| convert::problem(&error))?;
    Ok(server)
}

impl Daemon {
    fn start_api(
        &mut self,
        tcp: Option<tokio::net::TcpListener>,
        runtime: &dyn Runtime,
        stopped: watch::Receiver<bool>,
    ) -> Result<(), Problem> {
        let facts = DaemonFacts {
            data_directory: self.data.path().display().to_string(),
            started_unix_ms: runtime.unix_time_ms(),
            disk_io: match backend::uring_support() {
                Ok(()) => "io_uring".to_owned(),
                Err(reason) => format!("threads ({reason})"),
            },
        };
        let routes = router(self.group.clone(), facts);
        let unix = listen::unix(&self.data.socket())?;
        self.api.spawn(listen::serve_unix(unix, routes.clone(), stopped.clone()));
        if let Some(tcp) = tcp {
            self.api.spawn(listen::serve_tcp(tcp, routes, stopped));
        }
        Ok(())
    }

    fn announce(&self, volume: Option<&control::VolumeView>, api: Option<SocketAddr>) {
        let portals = self.server.addresses();
        if let Some(api) = api {
            tracing::warn!(%api, "the API on TCP has no authentication yet: everyone on this machine administers");
        }
        if let Some(volume) = volume {
            let text = demo::instructions(volume, &portals, &self.data, api);
            let mut out = std::io::stdout().lock();
            // Nobody may be listening; the daemon serves all the same.
            let _ = out.write_all(text.as_bytes()).and_then(|()| out.flush());
        }
        tracing::info!(data = %self.data.path().display(), socket = %self.data.socket().display(), ?portals, "serving");
        notify::tell(notify::READY);
    }

    /// Hosts first: what they have under way is answered, then they are let go, to come back after the restart. Then
    /// the API, then the pools. Bounded in time, whatever disks do; a second signal ends at once.
    async fn end(self, signals: &mut Signals) {
        notify::tell(notify::STOPPING);
        tokio::select! {
            () = self.end_in_order() => tracing::info!("ended in order"),
            () = signals.wait() => tracing::warn!("ended at once; pools recover at the next start"),
        }
    }

    async fn end_in_order(mut self) {
        // Name servers forget the targets while hosts leave.
        self.stop_names.send_replace(true);
        let all_ended = async { while self.names.join_next().await.is_some() {} };
        let forgotten = async {
            if tokio::time::timeout(DRAIN_TIME_MAX, all_ended).await.is_err() {
                tracing::warn!("a snapshot by schedule took too long");
            }
        };
        let (drained, ()) = tokio::join!(self.server.shutdown(DRAIN_TIME_MAX), forgotten);
        if !drained {
            tracing::warn!("commands under way took too long; their hosts send them again");
        }
        self.stop.send_replace(true);
        let api_ended = async { while self.api.join_next().await.is_some() {} };
        if tokio::time::timeout(DRAIN_TIME_MAX, api_ended).await.is_err() {
            tracing::warn!("a request to the API took too long");
        }
        if tokio::time::timeout(CLOSE_TIME_MAX, self.group.close()).await.is_err() {
            tracing::error!("pools took too long to close; they recover at the next start");
        }
        drop(self.targets.end());
        // Left behind it would be replaced, but says that somebody serves.
        let _ = std::fs::remove_file(self.data.socket());
    }
}

/// The signals that end the daemon.
struct Signals {
    terminate: Signal,
    interrupt: Signal,
}

impl Signals {
    fn new() -> Result<Self, Problem> {
        let on = |kind| signal(kind).map_err(|error| internal(&format!("signals cannot be heard: {error}")));
        Ok(Self { terminate: on(SignalKind::terminate())?, interrupt: on(SignalKind::interrupt())? })
    }

    async fn wait(&mut self) {
        tokio::select! {
            _ = self.terminate.recv() => tracing::info!("told to end (SIGTERM)"),
            _ = self.interrupt.recv() => tracing::info!("told to end (SIGINT)"),
        }
    }

    /// Waits for a signal, and meanwhile tries pools that are offline again, and portals that are not open. With none offline nothing is done, and no
    /// processor used.
    async fn wait_retrying(&mut self, group: &Arc<Group>) {
        loop {
            let any_offline =
                group.any_portal_closed() || group.pools().iter().any(|pool| pool.offline.is_some());
            let retry = async {
                match any_offline {
                    true => tokio::time::sleep(RETRY_INTERVAL).await,
                    false => std::future::pending().await,
                }
            };
            tokio::select! {
                () = self.wait() => return,
                () = retry => {
                    // To its end, also if the signal comes meanwhile.
                    let group = group.clone();
                    let retry = async move {
                        group.retry_portals().await;
                        group.open_offline_pools().await;
                    };
                    let _ = tokio::spawn(retry).await;
                }
            }
        }
    }
}
