//! Name servers (iSNS) are told of what is served: one link a server, all with the same to tell.
//!
//! Nothing waits for a name server. What is served is looked at every second while there is one, so that it does not
//! matter what has changed it: a volume, a pool that came online, a portal.

mod inquiries;
mod link;

use crate::targets::Targets;
use block::Runtime;
use control::{Group, IsnsRecord, IsnsServerFacts};
use inquiries::Inquiries;
use link::{Link, Offer};
use parking_lot::Mutex;
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use target::LogLimit;
use tokio::sync::{Notify, watch};
use tokio::task::JoinSet;

/// How often is looked at what is served.
const LOOK: Duration = Duration::from_secs(1);

/// How long servers may take to take back what they know, at the end.
const END_TIME_MAX: Duration = Duration::from_secs(3);

/// What the model may ask and say of name servers.
#[derive(Default)]
pub(crate) struct Board {
    /// What is known of each server.
    facts: Mutex<BTreeMap<SocketAddr, IsnsServerFacts>>,
    changed: Notify,
    /// A server that comes and goes could fill the log.
    log_limit: LogLimit,
}

impl Board {
    /// The setting has changed.
    pub(crate) fn wake(&self) {
        self.changed.notify_one();
    }

    pub(crate) fn servers(&self) -> Vec<IsnsServerFacts> {
        self.facts.lock().values().cloned().collect()
    }
}

/// Runs until `stop`; then has every server forget what it was told, or gives up on that.
pub(crate) async fn run(
    group: Arc<Group>,
    targets: Arc<Targets>,
    runtime: Arc<dyn Runtime>,
    mut stop: watch::Receiver<bool>,
) {
    let mut service = Service {
        group,
        targets,
        runtime,
        setting: None,
        links: BTreeMap::new(),
        tasks: JoinSet::new(),
        inquiries: None,
    };
    let stopped = async {
        // An error means that the daemon is gone, which is as good.
        let _ = stop.wait_for(|stop| *stop).await;
    };
    tokio::pin!(stopped);
    loop {
        service.look().await;
        let board = service.targets.name_servers();
        let again = async {
            match service.setting.is_some() {
                true => tokio::time::sleep(LOOK).await,
                false => std::future::pending().await,
            }
        };
        tokio::select! {
            () = &mut stopped => break,
            () = board.changed.notified() => {}
            () = again => {}
        }
    }
    service.end().await;
}

struct Service {
    group: Arc<Group>,
    targets: Arc<Targets>,
    runtime: Arc<dyn Runtime>,
    setting: Option<IsnsRecord>,
    /// What each server is to know; none that it is to know nothing.
    links: BTreeMap<SocketAddr, watch::Sender<Option<Arc<Offer>>>>,
    tasks: JoinSet<()>,
    inquiries: Option<Inquiries>,
}

impl Service {
    async fn look(&mut self) {
        while self.tasks.try_join_next().is_some() {}
        let setting = self.group.with_state(|state| state.group().isns.clone());
        if setting != self.setting {
            self.apply(setting).await;
        }
        if self.links.is_empty() {
            return;
        }
        let offer = self.offer();
        for link in self.links.values() {
            link.send_if_modified(|now| {
                let differs = now.as_deref() != Some(&*offer);
                *now = Some(offer.clone());
                differs
            });
        }
    }

    async fn apply(&mut self, setting: Option<IsnsRecord>) {
        let port = setting.as_ref().and_then(|setting| setting.inquiry_port);
        let old_port = self.setting.as_ref().and_then(|setting| setting.inquiry_port);
        let servers = setting.as_ref().map(|setting| setting.servers.clone()).unwrap_or_default();
        let ended: Vec<SocketAddr> = self
            .links
            .keys()
            .filter(|server| port != old_port || !servers.contains(server))
            .copied()
            .collect();
        for server in &ended {
            if let Some(link) = self.links.remove(server) {
                link.send_replace(None);
            }
        }
        // The same server must not be told by two links at once.
        if !ended.is_empty() {
            self.wait_for_ended_links().await;
        }
        let board = self.targets.name_servers();
        board.facts.lock().retain(|server, _| servers.contains(server));
        self.inquiries = port.and_then(|port| Inquiries::start(port, &servers));
        let inquiry_port = self.inquiries.as_ref().and(port);
        let entity = self.group.with_state(|state| state.group().isns_entity());
        for server in servers {
            if self.links.contains_key(&server) {
                continue;
            }
            let (sender, receiver) = watch::channel(Some(Arc::new(Offer::default())));
            let link =
                Link::new(server, entity.clone(), inquiry_port, board.clone(), self.runtime.unix_time_ms());
            self.tasks.spawn(link.run(receiver));
            self.links.insert(server, sender);
        }
        self.setting = setting;
    }

    /// Links of servers that stay are waited for in vain, so not for longer than the others may take.
    async fn wait_for_ended_links(&mut self) {
        let going = self.tasks.len().saturating_sub(self.links.len());
        let gone = async {
            for _ in 0..going {
                self.tasks.join_next().await;
            }
        };
        let _ = tokio::time::timeout(END_TIME_MAX, gone).await;
    }

    fn offer(&self) -> Arc<Offer> {
        let targets = self.group.with_state(|state| {
            let own = state.served_volumes().map(|record| (&record.iqn, &record.name));
            let shared = state.served_targets().map(|record| (&record.iqn, &record.name));
            own.chain(shared).map(|(iqn, name)| (iqn.to_string(), name.to_string())).collect()
        });
        Arc::new(Offer { portals: self.targets.portal_set(), open: self.targets.open_addresses(), targets })
    }

    async fn end(mut self) {
        self.links.values().for_each(|link| {
            link.send_replace(None);
        });
        let ended = async { while self.tasks.join_next().await.is_some() {} };
        if tokio::time::timeout(END_TIME_MAX, ended).await.is_err() {
            tracing::warn!(
                "an iSNS server took too long to forget the targets; it does when their period ends"
            );
        }
    }
}
