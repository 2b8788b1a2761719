//! Several connections as one session: one numbering of commands, tags that differ, and functions that end commands
//! on every connection (RFC 7143 §4.2.2.1, §4.2.3.3).

use core::time::Duration;
use std::collections::{HashMap, VecDeque};

use bytes::Bytes;

use super::config::TAGS_MAX;
use super::task::slot_of;
use super::{Command, Config, Connection, Event, TaskId};
use crate::chap::Answers;
use crate::parameters::Parameters;
use crate::pdu::{TaskManagementFunction, TaskManagementResponse};
use crate::{Cid, CmdSn, Lun, PayloadPool, Tsih};

/// Most connections that a session makes at a time: each has a share of the task tags.
pub const CONNECTIONS_MAX: u16 = 15;

/// Task tags of each connection.
const TAGS_EACH: u16 = TAGS_MAX / CONNECTIONS_MAX;

/// What all connections of a session count together.
#[derive(Clone, Copy, Debug)]
pub(super) struct Numbers {
    pub(super) cmd_sn: CmdSn,
    pub(super) max_cmd_sn: CmdSn,
}

/// A function that ends many commands, until it is answered.
struct Function {
    function: TaskManagementFunction,
    lun: Lun,
    cmd_sn: CmdSn,
}

/// A session of several connections. Each is named by its CID.
pub struct Session<P: PayloadPool> {
    config: Config,
    pool: P,
    links: Vec<(Cid, Connection<P>)>,
    numbers: Numbers,
    agreed: Option<(Tsih, Parameters)>,
    functions: HashMap<TaskId, Function>,
    events: VecDeque<(Cid, Event)>,
    tasks_before: u64,
}

impl<P: PayloadPool + Clone> Session<P> {
    /// A session whose first connection, of the configuration's CID, was just made.
    pub fn new(mut config: Config, pool: P, now: Duration) -> Self {
        config.tags = 0..TAGS_EACH;
        let numbers = Numbers { cmd_sn: config.cmd_sn, max_cmd_sn: config.cmd_sn };
        let leading = Connection::new(config.clone(), pool.clone(), now);
        Self {
            tasks_before: config.tasks_before,
            links: vec![(config.cid, leading)],
            // What its nonce was for is done.
            config: Config { chap: None, ..config },
            pool,
            numbers,
            agreed: None,
            functions: HashMap::new(),
            events: VecDeque::new(),
        }
    }

    /// What the next connection logs in with: each needs a nonce of its own. Without, it offers no authentication.
    pub fn authenticate_next(&mut self, chap: Option<Answers>) {
        self.config.chap = chap;
    }

    /// Another connection was made, to be `cid` of the session; with the CID of one that is there it takes that one's
    /// place, whose commands are lost (RFC 7143 §6.3.4). False before the first one's full feature phase, and with
    /// [`CONNECTIONS_MAX`] there are already.
    pub fn connect(&mut self, cid: Cid, now: Duration) -> bool {
        let Some((tsih, parameters)) = self.agreed else { return false };
        self.remove(cid);
        let mut shares = (0..CONNECTIONS_MAX).map(|share| share * TAGS_EACH..(share + 1) * TAGS_EACH);
        let taken =
            |tags: &core::ops::Range<u16>| self.links.iter().any(|(_, link)| link.config.tags == *tags);
        let Some(tags) = shares.find(|tags| !taken(tags)) else { return false };
        let config = Config {
            tsih,
            cid,
            tags,
            chap: self.config.chap.take(),
            cmd_sn: self.numbers.cmd_sn,
            session: Some(parameters),
            tasks_before: self.tasks_before,
            ..self.config.clone()
        };
        self.links.push((cid, Connection::new(config, self.pool.clone(), now)));
        true
    }
}

impl<P: PayloadPool> Session<P> {
    /// The connection is lost, or no longer wanted: its commands get no answer any more.
    pub fn remove(&mut self, cid: Cid) {
        for (_, link) in self.links.extract_if(.., |(other, _)| *other == cid) {
            self.tasks_before = self.tasks_before.max(link.tasks_started());
        }
    }

    /// The connections there are.
    pub fn cids(&self) -> impl Iterator<Item = Cid> {
        self.links.iter().map(|(cid, _)| *cid)
    }

    /// One of the connections, to look at.
    pub fn link(&self, cid: Cid) -> Option<&Connection<P>> {
        self.links.iter().find(|(other, _)| *other == cid).map(|(_, link)| link)
    }

    fn link_mut(&mut self, cid: Cid) -> Option<&mut Connection<P>> {
        self.links.iter_mut().find(|(other, _)| *other == cid).map(|(_, link)| link)
    }

    /// Lets a connection do something with the session's numbers.
    fn with<T>(&mut self, cid: Cid, work: impl FnOnce(&mut Connection<P>) -> T) -> Option<T> {
        let numbers = self.numbers;
        let link = self.link_mut(cid)?;
        link.set_numbers(numbers);
        let result = work(link);
        self.numbers = link.numbers();
        self.collect(cid);
        Some(result)
    }

    fn collect(&mut self, cid: Cid) {
        while let Some(event) = self.link_mut(cid).and_then(Connection::poll_event) {
            let event = match event {
                Event::LoggedIn(logged_in) => {
                    self.agreed.get_or_insert((logged_in.tsih, logged_in.parameters));
                    Event::LoggedIn(logged_in)
                }
                Event::TaskManagementDone(mut done) => {
                    if let Some(function) = self.functions.remove(&done.id)
                        && done.response == TaskManagementResponse::Complete
                    {
                        for (_, link) in self.links.iter_mut().filter(|(other, _)| *other != cid) {
                            done.ended.extend(link.end_affected(
                                function.function,
                                function.lun,
                                function.cmd_sn,
                            ));
                        }
                    }
                    Event::TaskManagementDone(done)
                }
                event => event,
            };
            self.events.push_back((cid, event));
        }
    }

    /// The next thing to tell, and the connection it is about.
    pub fn poll_event(&mut self) -> Option<(Cid, Event)> {
        self.events.pop_front()
    }

    /// As [`Connection::recv_space`]; empty for a connection there is not.
    pub fn recv_space(&mut self, cid: Cid) -> &mut [u8] {
        self.link_mut(cid).map(Connection::recv_space).unwrap_or_default()
    }

    /// As [`Connection::received`].
    pub fn received(&mut self, cid: Cid, count: usize, now: Duration) {
        self.with(cid, |link| link.received(count, now));
    }

    /// As [`Connection::poll_transmit`].
    pub fn poll_transmit(&mut self, cid: Cid, out: &mut VecDeque<Bytes>, bytes_max: usize) -> usize {
        self.with(cid, |link| link.poll_transmit(out, bytes_max)).unwrap_or_default()
    }

    /// When [`Session::handle_timeout`] is to be called if nothing happens before.
    pub fn poll_timeout(&self) -> Option<Duration> {
        self.links.iter().filter_map(|(_, link)| link.poll_timeout()).min()
    }

    /// It is `now`; calling early does no harm.
    pub fn handle_timeout(&mut self, now: Duration) {
        let cids: Vec<Cid> = self.cids().collect();
        for cid in cids {
            self.with(cid, |link| link.handle_timeout(now));
        }
    }

    /// Queues a command on a connection; `None` for one there is not. It is numbered when it is sent.
    pub fn submit(&mut self, cid: Cid, command: Command) -> Option<TaskId> {
        self.with(cid, |link| link.submit(command))
    }

    /// Asks for a task management function over a connection. ABORT TASK goes over the connection of its task.
    pub fn task_management(
        &mut self,
        cid: Cid,
        function: TaskManagementFunction,
        lun: Lun,
        referenced: Option<TaskId>,
    ) -> Option<TaskId> {
        let cmd_sn = self.numbers.cmd_sn;
        let id = self.with(cid, |link| link.task_management(function, lun, referenced))?;
        if function != TaskManagementFunction::AbortTask {
            self.functions.insert(id, Function { function, lun, cmd_sn });
        }
        Some(id)
    }

    /// As [`Connection::nop`].
    pub fn nop(&mut self, cid: Cid, data: Bytes) {
        self.with(cid, |link| link.nop(data));
    }

    /// As [`Connection::send_targets`].
    pub fn send_targets(&mut self, cid: Cid) {
        self.with(cid, Connection::send_targets);
    }

    /// The connection that a task is on.
    pub fn cid_of(&self, task: TaskId) -> Option<Cid> {
        let of_task = |(_, link): &&(Cid, Connection<P>)| link.config.tags.contains(&slot_of(task));
        self.links.iter().find(of_task).map(|(cid, _)| *cid)
    }

    /// As [`Connection::tasks_started`], of all connections there ever were.
    pub fn tasks_started(&self) -> u64 {
        self.links.iter().map(|(_, link)| link.tasks_started()).fold(self.tasks_before, u64::max)
    }

    /// Closes the session in good order, over this connection.
    pub fn logout(&mut self, cid: Cid) {
        self.with(cid, Connection::logout);
    }

    /// Has the connection `closes` closed, asked for over `cid` (RFC 7143 §11.14.1).
    pub fn logout_connection(&mut self, cid: Cid, closes: Cid) {
        self.with(cid, |link| link.logout_connection(closes));
    }

    /// Commands submitted and not completed, on all connections.
    pub fn tasks(&self) -> usize {
        self.links.iter().map(|(_, link)| link.tasks()).sum()
    }

    /// The session's handle and what was agreed; none before the first connection's full feature phase.
    pub fn agreed(&self) -> Option<(Tsih, Parameters)> {
        self.agreed
    }

    /// True when no connection is left that is not over.
    pub fn is_over(&self) -> bool {
        self.links.iter().all(|(_, link)| link.is_closed())
    }

    /// Ends a connection from this side; [`CloseReason::Local`](super::CloseReason::Local) is in its last event.
    pub fn close(&mut self, cid: Cid) {
        self.with(cid, Connection::close);
    }
}
