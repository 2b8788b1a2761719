//! All connections and sessions of a server: who is there, how many may be, and who takes whose place.

use crate::config::Limits;
use crate::connection::Arrival;
use iscsi::parameters::Parameters;
use iscsi::{Cid, Isid, PortalGroupTag, Tsih};
use parking_lot::Mutex;
use std::collections::{BTreeMap, HashMap, HashSet, VecDeque};
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;
use tokio::sync::{mpsc, watch};

/// Initiator ports remembered after their session ended, so that they are told of the loss when they return.
const LOST_PORTS_MAX: usize = 4096;

/// Names a session while the server runs; never used twice.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct SessionId(pub u64);

/// Names a connection while the server runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct ConnectionId(pub(crate) u64);

/// What a connection's task is told from outside.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Message {
    /// End now: nothing more is sent; operations on the medium run to their end.
    Drop(&'static str),
    /// Take no more commands, answer what is under way, then end.
    Finish,
    /// Ask the directory again what the session may use.
    Reauthorize,
    /// Have the initiator log out within this time, or drop it.
    RequestLogout(Duration),
}

pub(crate) type Mailbox = mpsc::UnboundedSender<Message>;

/// An initiator port at a target: at most one session (RFC 7143 §4.4.3, the nexus rule). Names are in lower case:
/// they are equal whatever their case (RFC 7143 §4.2.7.2), and everything that compares ports compares bytes.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct Port {
    pub(crate) initiator: String,
    pub(crate) isid: Isid,
    pub(crate) target: String,
    pub(crate) group: PortalGroupTag,
}

/// Counts of one session. Only its own task writes them.
#[derive(Debug, Default)]
pub(crate) struct Counters {
    commands: AtomicU64,
    bytes_read: AtomicU64,
    bytes_written: AtomicU64,
}

impl Counters {
    pub(crate) fn command(&self) {
        add(&self.commands, 1);
    }
    pub(crate) fn read(&self, bytes: u64) {
        add(&self.bytes_read, bytes);
    }
    pub(crate) fn written(&self, bytes: u64) {
        add(&self.bytes_written, bytes);
    }
}

/// With a single writer no locked instruction is needed.
fn add(counter: &AtomicU64, more: u64) {
    counter.store(counter.load(Ordering::Relaxed).wrapping_add(more), Ordering::Relaxed);
}

/// One session as others see it.
pub(crate) struct SessionEntry {
    pub(crate) id: SessionId,
    /// None for a discovery session.
    pub(crate) port: Option<Port>,
    pub(crate) initiator: String,
    pub(crate) isid: Isid,
    pub(crate) tsih: Tsih,
    pub(crate) peer: SocketAddr,
    pub(crate) local: SocketAddr,
    pub(crate) since: Duration,
    pub(crate) counters: Counters,
    pub(crate) parameters: Mutex<Option<Parameters>>,
    /// Those there are, in the order they came.
    connections: Mutex<Vec<ConnectionInfo>>,
    pub(crate) mailbox: Mailbox,
    /// Connections that join it go here.
    pub(crate) arrivals: mpsc::UnboundedSender<Arrival>,
    /// True once nothing of the session touches a medium any more.
    over: watch::Sender<bool>,
}

/// One connection of a session, for lists.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ConnectionInfo {
    /// The initiator's identifier of it.
    pub cid: Cid,
    /// Where it comes from.
    pub peer: SocketAddr,
    /// The address of ours it came to.
    pub portal: SocketAddr,
    /// What was agreed at its login; none while that goes on.
    pub digests: Option<Digests>,
}

/// Which parts of a connection's PDUs carry a CRC32C (RFC 7143 §13.1).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Digests {
    /// Headers.
    pub header: bool,
    /// Data segments.
    pub data: bool,
}

/// A session, for lists.
#[derive(Debug, Clone)]
pub struct SessionInfo {
    /// Its number in this server.
    pub id: SessionId,
    /// The initiator's iSCSI name, in lower case.
    pub initiator: String,
    /// The target's, in lower case; none for a discovery session.
    pub target: Option<String>,
    /// The initiator's identifier of the session.
    pub isid: Isid,
    /// Ours.
    pub tsih: Tsih,
    /// Where its first connection came from.
    pub peer: SocketAddr,
    /// The address of ours that came to.
    pub portal: SocketAddr,
    /// The connections it has now, in the order they came.
    pub connections: Vec<ConnectionInfo>,
    /// When it began, since the server's start.
    pub since: Duration,
    /// What was negotiated; none while the login goes on.
    pub parameters: Option<Parameters>,
    /// Commands answered.
    pub commands: u64,
    /// Bytes read by the host.
    pub bytes_read: u64,
    /// Bytes written by the host.
    pub bytes_written: u64,
}

impl SessionEntry {
    /// These are its connections now.
    pub(crate) fn set_connections(&self, connections: Vec<ConnectionInfo>) {
        *self.connections.lock() = connections;
    }

    fn info(&self) -> SessionInfo {
        let count = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        SessionInfo {
            id: self.id,
            initiator: self.initiator.clone(),
            target: self.port.as_ref().map(|port| port.target.clone()),
            isid: self.isid,
            tsih: self.tsih,
            peer: self.peer,
            portal: self.local,
            connections: self.connections.lock().clone(),
            since: self.since,
            parameters: *self.parameters.lock(),
            commands: count(&self.counters.commands),
            bytes_read: count(&self.counters.bytes_read),
            bytes_written: count(&self.counters.bytes_written),
        }
    }
}

/// Who asks for a session, and how to reach its task.
pub(crate) struct Admission {
    pub(crate) port: Option<Port>,
    pub(crate) initiator: String,
    pub(crate) isid: Isid,
    pub(crate) cid: Cid,
    pub(crate) peer: SocketAddr,
    pub(crate) local: SocketAddr,
    pub(crate) now: Duration,
    pub(crate) mailbox: Mailbox,
    pub(crate) arrivals: mpsc::UnboundedSender<Arrival>,
}

/// A session that was let in.
pub(crate) struct Admitted {
    pub(crate) entry: Arc<SessionEntry>,
    /// Every earlier session of the port that may still touch a medium: to be waited for before the first command
    /// runs (promise 7).
    pub(crate) predecessors: Vec<watch::Receiver<bool>>,
    /// The same port was here before and was lost.
    pub(crate) returned: bool,
}

/// There is no room for the session.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct NoRoom;

#[derive(Default)]
struct Sessions {
    all: BTreeMap<SessionId, Arc<SessionEntry>>,
    /// Normal sessions whose connection lives. Others only wait for the medium, and take nobody's place.
    connected: HashSet<SessionId>,
    /// Counts of `connected`.
    per_initiator: HashMap<String, usize>,
    tsihs: HashSet<u16>,
    tsih_last: u16,
    lost: HashSet<Port>,
    lost_order: VecDeque<Port>,
}

#[derive(Default)]
struct Connections {
    all: HashMap<ConnectionId, Mailbox>,
    half_open: BTreeMap<ConnectionId, Mailbox>,
    /// The server takes no more.
    closing: bool,
}

impl Connections {
    fn drop_oldest_half_open(&mut self, why: &'static str) -> bool {
        let Some((id, oldest)) = self.half_open.pop_first() else { return false };
        self.all.remove(&id);
        let _ = oldest.send(Message::Drop(why));
        true
    }
}

/// A connection's place in the registry, until its task ends.
pub(crate) struct Presence {
    registry: Arc<Registry>,
    id: ConnectionId,
}

impl Presence {
    /// The login is through.
    pub(crate) fn logged_in(&self) {
        self.registry.connections.lock().half_open.remove(&self.id);
    }

    /// The connection belongs to the session with this mailbox now.
    pub(crate) fn moved_to(&self, mailbox: &Mailbox) {
        let mut connections = self.registry.connections.lock();
        connections.half_open.remove(&self.id);
        connections.all.insert(self.id, mailbox.clone());
    }

    /// The socket is closed; others may have its place.
    pub(crate) fn disconnected(&self) {
        let mut connections = self.registry.connections.lock();
        connections.all.remove(&self.id);
        connections.half_open.remove(&self.id);
    }
}

impl Drop for Presence {
    fn drop(&mut self) {
        self.disconnected();
        self.registry.open.send_modify(|open| *open -= 1);
    }
}

/// All connections and sessions of a server.
pub(crate) struct Registry {
    limits: Limits,
    sessions: Mutex<Sessions>,
    connections: Mutex<Connections>,
    numbers: AtomicU64,
    pub(crate) panics: AtomicUsize,
    pub(crate) refused: AtomicUsize,
    /// Connections whose tasks have not ended.
    open: watch::Sender<usize>,
}

impl Registry {
    pub(crate) fn new(limits: Limits) -> Self {
        Self {
            limits,
            sessions: Mutex::default(),
            connections: Mutex::default(),
            numbers: AtomicU64::new(1),
            panics: AtomicUsize::new(0),
            refused: AtomicUsize::new(0),
            open: watch::channel(0).0,
        }
    }

    fn number(&self) -> u64 {
        self.numbers.fetch_add(1, Ordering::Relaxed)
    }

    /// A connection was accepted. None if there is no room; room is made at the cost of the oldest connection
    /// that has not logged in.
    pub(crate) fn connected(self: &Arc<Self>, mailbox: Mailbox) -> Option<Presence> {
        let mut connections = self.connections.lock();
        if connections.closing {
            return None;
        }
        let full = connections.all.len() >= self.limits.connections_max;
        if full || connections.half_open.len() >= self.limits.half_open_max {
            let made_room = connections.drop_oldest_half_open("others wait to log in");
            self.refused.fetch_add(1, Ordering::Relaxed);
            if full && !made_room {
                return None;
            }
        }
        let id = ConnectionId(self.number());
        connections.half_open.insert(id, mailbox.clone());
        connections.all.insert(id, mailbox);
        self.open.send_modify(|open| *open += 1);
        Some(Presence { registry: Arc::clone(self), id })
    }

    /// Descriptors are short: the oldest connection that has not logged in gives up its own.
    pub(crate) fn drop_half_open(&self) {
        self.connections.lock().drop_oldest_half_open("descriptors are short");
    }

    /// Tells how many connections' tasks are left.
    pub(crate) fn watch_open(&self) -> watch::Receiver<usize> {
        self.open.subscribe()
    }

    /// Takes no more connections, and tells those there are.
    pub(crate) fn close(&self, message: Message) {
        let mut connections = self.connections.lock();
        connections.closing = true;
        for mailbox in connections.all.values() {
            let _ = mailbox.send(message);
        }
    }

    /// Connections, and those of them that have not logged in.
    pub(crate) fn connection_counts(&self) -> (usize, usize) {
        let connections = self.connections.lock();
        (connections.all.len(), connections.half_open.len())
    }

    /// Lets a session in, in the place of an older one of the same port if there is one: that one is told to end.
    /// A discovery session stays half open, and is bounded as such; it takes no place of a normal one.
    pub(crate) fn admit(&self, admission: Admission) -> Result<Admitted, NoRoom> {
        let mut sessions = self.sessions.lock();
        let old = sessions.of_port(admission.port.as_ref());
        let room = sessions.has_room(&self.limits, &admission, &old);
        let tsih = if room { sessions.take_tsih() } else { None };
        let Some(tsih) = tsih else { return Err(NoRoom) };
        let lost = admission.port.as_ref().is_some_and(|port| sessions.lost.contains(port));
        let returned = lost || !old.is_empty();
        let replace = |old: Arc<SessionEntry>| {
            let _ = old.mailbox.send(Message::Drop("the initiator logged in again"));
            old.over.subscribe()
        };
        let predecessors = old.into_iter().map(replace).collect();
        let entry = self.entry(admission, tsih);
        sessions.insert(Arc::clone(&entry));
        Ok(Admitted { entry, predecessors, returned })
    }

    fn entry(&self, admission: Admission, tsih: Tsih) -> Arc<SessionEntry> {
        Arc::new(SessionEntry {
            id: SessionId(self.number()),
            port: admission.port,
            initiator: admission.initiator,
            isid: admission.isid,
            tsih,
            connections: Mutex::new(vec![ConnectionInfo {
                cid: admission.cid,
                peer: admission.peer,
                portal: admission.local,
                digests: None,
            }]),
            peer: admission.peer,
            local: admission.local,
            since: admission.now,
            counters: Counters::default(),
            parameters: Mutex::new(None),
            mailbox: admission.mailbox,
            arrivals: admission.arrivals,
            over: watch::channel(false).0,
        })
    }

    /// The session's connection is gone; others may have its place.
    pub(crate) fn session_disconnected(&self, entry: &SessionEntry) {
        self.sessions.lock().disconnected(entry);
    }

    /// Nothing of the session touches a medium any more.
    pub(crate) fn session_over(&self, entry: &SessionEntry) {
        self.sessions.lock().remove(entry);
        entry.over.send_replace(true);
    }

    /// Tells every session of `target`, whatever its case.
    pub(crate) fn tell_target(&self, target: &str, message: Message) {
        for entry in self.sessions.lock().all.values() {
            if entry.port.as_ref().is_some_and(|port| port.target.eq_ignore_ascii_case(target)) {
                let _ = entry.mailbox.send(message);
            }
        }
    }

    /// Tells one session. False if there is none of that number.
    pub(crate) fn tell(&self, id: SessionId, message: Message) -> bool {
        let entry = self.sessions.lock().all.get(&id).cloned();
        entry.is_some_and(|entry| entry.mailbox.send(message).is_ok())
    }

    /// The session with this handle, if it is this port's and alive.
    pub(crate) fn find(&self, port: &Port, tsih: Tsih) -> Option<Arc<SessionEntry>> {
        let sessions = self.sessions.lock();
        let mut entries = sessions.all.values();
        entries.find(|entry| entry.tsih == tsih && entry.port.as_ref() == Some(port)).cloned()
    }

    pub(crate) fn list(&self) -> Vec<SessionInfo> {
        self.sessions.lock().all.values().map(|entry| entry.info()).collect()
    }
}

impl Sessions {
    /// The next handle that no session has; never 0.
    fn take_tsih(&mut self) -> Option<Tsih> {
        for _ in 0..u16::MAX {
            self.tsih_last = self.tsih_last.wrapping_add(1).max(1);
            if self.tsihs.insert(self.tsih_last) {
                return Some(Tsih(self.tsih_last));
            }
        }
        None
    }

    /// The sessions of a port that are not over: one, and those before it that a stuck volume keeps.
    fn of_port(&self, port: Option<&Port>) -> Vec<Arc<SessionEntry>> {
        let of_port = |entry: &&Arc<SessionEntry>| port.is_some() && entry.port.as_ref() == port;
        self.all.values().filter(of_port).cloned().collect()
    }

    /// Whether there is room for a session that takes the place of `old` ones. What a stuck volume keeps of
    /// sessions that are gone has no part in it, up to as many again: hosts must be able to come back.
    fn has_room(&self, limits: &Limits, admission: &Admission, old: &[Arc<SessionEntry>]) -> bool {
        let replaced = old.iter().filter(|old| self.connected.contains(&old.id)).count();
        let of_initiator = self.per_initiator.get(&admission.initiator).copied().unwrap_or(0);
        let in_all = limits.sessions_max.saturating_mul(2).saturating_add(limits.half_open_max);
        let normal = admission.port.is_some();
        let full = self.connected.len() >= limits.sessions_max + replaced
            || of_initiator >= limits.sessions_per_initiator_max + replaced;
        self.all.len() < in_all.saturating_add(old.len()) && !(normal && full)
    }

    fn insert(&mut self, entry: Arc<SessionEntry>) {
        if entry.port.is_some() {
            *self.per_initiator.entry(entry.initiator.clone()).or_default() += 1;
            self.connected.insert(entry.id);
        }
        self.all.insert(entry.id, entry);
    }

    fn disconnected(&mut self, entry: &SessionEntry) {
        if !self.connected.remove(&entry.id) {
            return;
        }
        if let Some(count) = self.per_initiator.get_mut(&entry.initiator) {
            *count -= 1;
            if *count == 0 {
                self.per_initiator.remove(&entry.initiator);
            }
        }
    }

    fn remove(&mut self, entry: &SessionEntry) {
        if self.all.remove(&entry.id).is_none() {
            return;
        }
        self.tsihs.remove(&entry.tsih.0);
        self.disconnected(entry);
        if let Some(port) = &entry.port {
            self.remember_lost(port);
        }
    }

    fn remember_lost(&mut self, port: &Port) {
        if self.lost.insert(port.clone()) {
            self.lost_order.push_back(port.clone());
        }
        if self.lost_order.len() > LOST_PORTS_MAX
            && let Some(oldest) = self.lost_order.pop_front()
        {
            self.lost.remove(&oldest);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn registry(limits: Limits) -> Arc<Registry> {
        Arc::new(Registry::new(limits))
    }

    fn admission(initiator: &str, isid: u8, target: &str) -> (Admission, mpsc::UnboundedReceiver<Message>) {
        let (mailbox, messages) = mpsc::unbounded_channel();
        let arrivals = mpsc::unbounded_channel().0;
        let isid = Isid([0, 0, 0, 0, 0, isid]);
        let address = "127.0.0.1:3260".parse().unwrap();
        let port = Port {
            initiator: initiator.to_owned(),
            isid,
            target: target.to_owned(),
            group: PortalGroupTag(1),
        };
        let initiator = initiator.to_owned();
        let now = Duration::ZERO;
        (
            Admission {
                port: Some(port),
                initiator,
                isid,
                cid: Cid(1),
                peer: address,
                local: address,
                now,
                mailbox,
                arrivals,
            },
            messages,
        )
    }

    /// RFC 7143 §6.3.5: the same initiator port at the same target takes the old session's place.
    #[test]
    fn the_same_port_takes_the_place_of_its_old_session() {
        let registry = registry(Limits::default());
        let (first, mut first_messages) = admission("iqn.a", 1, "iqn.t");
        let first = registry.admit(first).unwrap();
        assert!(first.predecessors.is_empty() && !first.returned);
        let others = [
            admission("iqn.a", 2, "iqn.t").0,
            admission("iqn.b", 1, "iqn.t").0,
            admission("iqn.a", 1, "iqn.u").0,
        ];
        for other in others {
            assert!(registry.admit(other).unwrap().predecessors.is_empty(), "another port or target");
        }
        assert!(first_messages.try_recv().is_err());
        let again = registry.admit(admission("iqn.a", 1, "iqn.t").0).unwrap();
        assert!(matches!(first_messages.try_recv(), Ok(Message::Drop(_))));
        let predecessor = &again.predecessors[0];
        assert!(!*predecessor.borrow(), "still at work");
        registry.session_over(&first.entry);
        assert!(*predecessor.borrow());
        assert_ne!(first.entry.tsih, again.entry.tsih);
        registry.session_over(&again.entry);
        assert!(registry.admit(admission("iqn.a", 1, "iqn.t").0).unwrap().returned, "lost and back");
    }

    #[test]
    fn sessions_are_limited_in_all_and_by_initiator() {
        let limits = Limits { sessions_max: 5, sessions_per_initiator_max: 2, ..Limits::default() };
        let registry = registry(limits);
        let admit = |initiator: &str, isid| registry.admit(admission(initiator, isid, "iqn.t").0);
        let first = admit("iqn.a", 1).unwrap();
        admit("iqn.a", 2).unwrap();
        assert_eq!(admit("iqn.a", 3).err(), Some(NoRoom));
        admit("iqn.a", 2).expect("taking the place of one's own is always possible");
        admit("iqn.b", 1).unwrap();
        admit("iqn.c", 1).unwrap();
        assert_eq!(admit("iqn.d", 1).err(), Some(NoRoom), "five in all");
        registry.session_over(&first.entry);
        admit("iqn.d", 1).unwrap();
        assert_eq!(admit("iqn.e", 1).err(), Some(NoRoom));
        admit("iqn.d", 1).expect("taking the place of one's own, with all places taken");
    }

    /// A disk that hung kept every session's count, until the host could log in nowhere, to no other volume either.
    #[test]
    fn sessions_that_only_wait_for_a_stuck_disk_take_no_place() {
        let limits = Limits { sessions_max: 3, sessions_per_initiator_max: 1, ..Limits::default() };
        let registry = registry(limits);
        let stuck = registry.admit(admission("iqn.a", 1, "iqn.t").0).unwrap();
        for round in 0..3 {
            let again = registry.admit(admission("iqn.a", 1, "iqn.t").0).expect("reinstatement");
            assert_eq!(
                again.predecessors.len(),
                1,
                "round {round}: the one that is at work, not all in between"
            );
            registry.session_disconnected(&stuck.entry);
            registry.session_disconnected(&again.entry);
            let elsewhere = registry.admit(admission("iqn.a", 1, "iqn.u").0).expect("another volume");
            registry.session_over(&elsewhere.entry);
            registry.session_over(&again.entry);
        }
        assert_eq!(registry.list().len(), 1);
    }

    /// 64 discovery logins under a victim's name kept the victim out.
    #[test]
    fn discovery_takes_no_place_of_normal_sessions() {
        let limits = Limits { sessions_max: 1, sessions_per_initiator_max: 1, ..Limits::default() };
        let registry = registry(limits);
        let discovery = || Admission { port: None, ..admission("iqn.a", 1, "iqn.t").0 };
        let held: Vec<_> = (0..8).map(|_| registry.admit(discovery()).unwrap()).collect();
        registry.admit(admission("iqn.a", 1, "iqn.t").0).expect("a normal session beside them");
        held.iter().for_each(|admitted| registry.session_over(&admitted.entry));
        assert_eq!(registry.admit(admission("iqn.a", 2, "iqn.t").0).err(), Some(NoRoom), "one is one");
    }

    #[test]
    fn handles_are_unique_and_never_zero() {
        let mut sessions = Sessions { tsih_last: u16::MAX - 1, ..Sessions::default() };
        let taken: Vec<_> = (0..3).map(|_| sessions.take_tsih().unwrap().0).collect();
        assert_eq!(taken, [u16::MAX, 1, 2]);
        sessions.tsihs = (1..=u16::MAX).collect();
        assert_eq!(sessions.take_tsih(), None);
    }

    /// Promise 9: half-open connections are bounded, at the cost of the oldest of them.
    #[test]
    fn the_oldest_half_open_connection_makes_room() {
        let registry = registry(Limits { half_open_max: 2, connections_max: 3, ..Limits::default() });
        let connect = || {
            let (mailbox, messages) = mpsc::unbounded_channel();
            (registry.connected(mailbox), messages)
        };
        let (first, mut first_messages) = connect();
        let (_second, mut second_messages) = connect();
        first.as_ref().unwrap().logged_in();
        let (third, _) = connect();
        let (fourth, _) = connect();
        assert!(first_messages.try_recv().is_err(), "who has logged in stays");
        assert!(matches!(second_messages.try_recv(), Ok(Message::Drop(_))));
        third.as_ref().unwrap().logged_in();
        fourth.as_ref().unwrap().logged_in();
        assert!(connect().0.is_none(), "all places are taken by sessions");
        drop(third);
        assert!(connect().0.is_some());
    }
}
