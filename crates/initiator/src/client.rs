//! A session for ordinary use: commands as futures, any number of them at a time.

use core::time::Duration;
use std::collections::HashMap;
use std::sync::{Arc, OnceLock};

use bytes::Bytes;
use iscsi::Lun;
use iscsi::initiator::{Command, Completion, DiscoveredTarget, Event, TaskId, TaskManagementDone};
use iscsi::parameters::Parameters;
use iscsi::pdu::{ScsiResponseCode, ScsiStatus, TaskManagementFunction, TaskManagementResponse};
use tokio::sync::{mpsc, oneshot};

use crate::cdb::{self, Capacity};
use crate::error::ClientError;
use crate::link::{Link, LinkOptions};
use crate::sense::SenseSummary;
use crate::url::TargetUrl;

/// Requests that may wait for the connection's task before callers have to.
const REQUESTS_MAX: usize = 1024;
/// Unit attentions in a row that [`Client::capacity`] takes before giving up.
const UNIT_ATTENTIONS_MAX: u32 = 16;
/// How long a logout may take.
const LOGOUT_LIMIT: Duration = Duration::from_secs(5);

/// A session with one logical unit. Clones share the session; it logs out when the last is gone.
///
/// Needs a tokio runtime, on which a task of its own drives the connection.
#[derive(Debug, Clone)]
pub struct Client {
    requests: mpsc::Sender<Request>,
    lun: Lun,
    parameters: Parameters,
    capacity: Arc<OnceLock<Capacity>>,
}

/// A command under way, with the name by which a task management function can refer to it.
#[derive(Debug)]
pub struct Started {
    /// The task.
    pub task: TaskId,
    done: oneshot::Receiver<Result<Completion, ClientError>>,
}

impl Started {
    /// Waits for the outcome, whatever the SCSI status.
    ///
    /// # Errors
    /// [`ClientError::ConnectionLost`] or [`ClientError::Aborted`].
    pub async fn completion(self) -> Result<Completion, ClientError> {
        self.done.await.unwrap_or_else(|_| Err(ClientError::lost("the session has ended")))
    }
}

impl Client {
    /// Connects to the URL's portal and logs in to its target.
    ///
    /// # Errors
    /// [`ClientError::Connect`], [`ClientError::LoginRefused`] or [`ClientError::ConnectionLost`].
    pub async fn connect(url: &TargetUrl, options: &LinkOptions) -> Result<Self, ClientError> {
        let lun = Lun::from_number(url.lun).ok_or(ClientError::InvalidRequest("LUN above 16383"))?;
        let link = Link::open(url, options, false).await?;
        let parameters = link.parameters();
        let (requests, queue) = mpsc::channel(REQUESTS_MAX);
        let driver = Driver {
            url: url.clone(),
            options: options.clone(),
            link,
            queue,
            tasks: HashMap::new(),
            functions: HashMap::new(),
            returned: Vec::new(),
            renamed: HashMap::new(),
        };
        tokio::spawn(driver.run());
        Ok(Self { requests, lun, parameters, capacity: Arc::default() })
    }

    /// Asks a portal which targets it has (SendTargets=All in a discovery session).
    ///
    /// # Errors
    /// As [`Client::connect`].
    pub async fn discover(
        url: &TargetUrl,
        options: &LinkOptions,
    ) -> Result<Vec<DiscoveredTarget>, ClientError> {
        let mut link = Link::open(url, options, true).await?;
        link.send_targets();
        loop {
            link.turn().await?;
            while let Some(event) = link.poll()? {
                if let Event::Targets(targets) = event {
                    link.log_out(LOGOUT_LIMIT).await;
                    return Ok(targets);
                }
            }
        }
    }

    /// What the login negotiated.
    pub fn parameters(&self) -> &Parameters {
        &self.parameters
    }

    /// The LUN commands go to, for use in [`Client::start`].
    pub fn lun(&self) -> Lun {
        self.lun
    }

    /// Sends any command and returns at once.
    ///
    /// # Errors
    /// [`ClientError::ConnectionLost`].
    pub async fn start(&self, command: Command) -> Result<Started, ClientError> {
        let (started, task) = oneshot::channel();
        let (finished, done) = oneshot::channel();
        self.request(Request::Command { command, started, finished }).await?;
        let task = task.await.map_err(|_| ClientError::lost("the session has ended"))?;
        Ok(Started { task, done })
    }

    /// Runs a command and returns its outcome, whatever the SCSI status.
    ///
    /// # Errors
    /// [`ClientError::ConnectionLost`] or [`ClientError::Aborted`].
    pub async fn command(&self, command: Command) -> Result<Completion, ClientError> {
        self.start(command).await?.completion().await
    }

    /// Runs a command with this CDB that reads up to `read_len` bytes, and wants status GOOD.
    ///
    /// # Errors
    /// Every kind of [`ClientError`] a command can meet.
    pub async fn execute_in(&self, cdb: [u8; 16], read_len: u32) -> Result<Bytes, ClientError> {
        good(self.command(Command::read(self.lun, cdb, read_len)).await?)
    }

    /// Runs a command with this CDB that sends `data`, and wants status GOOD.
    ///
    /// # Errors
    /// Every kind of [`ClientError`] a command can meet.
    pub async fn execute_out(&self, cdb: [u8; 16], data: Bytes) -> Result<(), ClientError> {
        good(self.command(Command::write(self.lun, cdb, data)).await?).map(drop)
    }

    /// TEST UNIT READY.
    ///
    /// # Errors
    /// [`ClientError::CheckCondition`] if it is not.
    pub async fn test_unit_ready(&self) -> Result<(), ClientError> {
        self.execute_in(cdb::test_unit_ready(), 0).await.map(drop)
    }

    /// INQUIRY: the standard data, or the vital product data page named.
    ///
    /// # Errors
    /// Every kind of [`ClientError`] a command can meet.
    pub async fn inquiry(&self, page: Option<u8>) -> Result<Bytes, ClientError> {
        const ALLOCATION: u16 = 1024;
        self.execute_in(cdb::inquiry(page, ALLOCATION), u32::from(ALLOCATION)).await
    }

    /// READ CAPACITY (16), past the unit attentions a new session begins with.
    ///
    /// # Errors
    /// Every kind of [`ClientError`] a command can meet; [`ClientError::BadAnswer`] if the
    /// numbers are impossible.
    pub async fn capacity(&self) -> Result<Capacity, ClientError> {
        let mut attempts = 0;
        let data = loop {
            match self.execute_in(cdb::read_capacity(), Capacity::DATA_LEN).await {
                Err(ClientError::CheckCondition { sense })
                    if sense.key == SenseSummary::UNIT_ATTENTION && attempts < UNIT_ATTENTIONS_MAX =>
                {
                    attempts += 1;
                }
                result => break result?,
            }
        };
        Capacity::parse(&data).ok_or(ClientError::BadAnswer { command: "READ CAPACITY (16)" })
    }

    async fn block_size(&self) -> Result<u32, ClientError> {
        if let Some(capacity) = self.capacity.get() {
            return Ok(capacity.block_size);
        }
        let capacity = self.capacity().await?;
        Ok(self.capacity.get_or_init(|| capacity).block_size)
    }

    /// Reads `blocks` logical blocks from `lba` on.
    ///
    /// # Errors
    /// Every kind of [`ClientError`] a command can meet; [`ClientError::BadAnswer`] if status is
    /// GOOD but data is missing.
    pub async fn read(&self, lba: u64, blocks: u32) -> Result<Bytes, ClientError> {
        let length = blocks.checked_mul(self.block_size().await?);
        let length = length.ok_or(ClientError::InvalidRequest("a read of 4 GiB or more"))?;
        let data = self.execute_in(cdb::read(lba, blocks), length).await?;
        if u32::try_from(data.len()) == Ok(length) {
            Ok(data)
        } else {
            Err(ClientError::BadAnswer { command: "READ" })
        }
    }

    /// Writes `data`, a whole number of logical blocks, from `lba` on. `fua`: status comes only
    /// when it is on the medium.
    ///
    /// # Errors
    /// Every kind of [`ClientError`] a command can meet.
    pub async fn write(&self, lba: u64, data: Bytes, fua: bool) -> Result<(), ClientError> {
        let length =
            u32::try_from(data.len()).map_err(|_| ClientError::InvalidRequest("a write of 4 GiB"))?;
        let block_size = self.block_size().await?;
        if length % block_size != 0 {
            return Err(ClientError::InvalidRequest("a write of a fraction of a block"));
        }
        self.execute_out(cdb::write(lba, length / block_size, fua), data).await
    }

    /// UNMAP of ranges given as (first block, blocks).
    ///
    /// # Errors
    /// Every kind of [`ClientError`] a command can meet.
    pub async fn unmap(&self, ranges: &[(u64, u32)]) -> Result<(), ClientError> {
        let (cdb, list) = cdb::unmap(ranges).ok_or(ClientError::InvalidRequest("more than 4094 ranges"))?;
        self.execute_out(cdb, list.into()).await
    }

    /// SYNCHRONIZE CACHE of the whole unit.
    ///
    /// # Errors
    /// Every kind of [`ClientError`] a command can meet.
    pub async fn flush(&self) -> Result<(), ClientError> {
        self.execute_in(cdb::synchronize_cache(), 0).await.map(drop)
    }

    /// A task management function on this client's logical unit. `referenced` is for ABORT TASK
    /// and QUERY TASK. Commands that it ends return [`ClientError::Aborted`].
    ///
    /// # Errors
    /// [`ClientError::ConnectionLost`].
    pub async fn task_management(
        &self,
        function: TaskManagementFunction,
        referenced: Option<TaskId>,
    ) -> Result<TaskManagementResponse, ClientError> {
        let (finished, done) = oneshot::channel();
        self.request(Request::Function { function, lun: self.lun, referenced, finished }).await?;
        done.await.unwrap_or_else(|_| Err(ClientError::lost("the session has ended")))
    }

    /// Sends a NOP-Out, answered ahead of all I/O, and waits for its echo. One at a time.
    ///
    /// # Errors
    /// [`ClientError::ConnectionLost`].
    pub async fn ping(&self) -> Result<(), ClientError> {
        let (finished, done) = oneshot::channel();
        self.request(Request::Ping { finished }).await?;
        done.await.unwrap_or_else(|_| Err(ClientError::lost("the session has ended")))
    }

    /// Ends the session in good order; commands still in flight are lost.
    pub async fn log_out(self) {
        let (finished, done) = oneshot::channel();
        if self.request(Request::LogOut { finished }).await.is_ok() {
            let _ = done.await;
        }
    }

    async fn request(&self, request: Request) -> Result<(), ClientError> {
        self.requests.send(request).await.map_err(|_| ClientError::lost("the session has ended"))
    }
}

/// The data of a completion with status GOOD, or what went wrong.
///
/// # Errors
/// [`ClientError::CheckCondition`] or [`ClientError::Status`].
pub(crate) fn good(completion: Completion) -> Result<Bytes, ClientError> {
    outcome(completion.response, completion.status, &completion.sense).map(|()| completion.data_in)
}

/// Status GOOD, or what went wrong.
pub(crate) fn outcome(
    response: ScsiResponseCode,
    status: ScsiStatus,
    sense: &[u8],
) -> Result<(), ClientError> {
    if response != ScsiResponseCode::CommandCompleted {
        return Err(ClientError::TargetFailure { response: response.0 });
    }
    match status {
        ScsiStatus::Good => Ok(()),
        ScsiStatus::CheckCondition => match SenseSummary::parse(sense) {
            Some(sense) => Err(ClientError::CheckCondition { sense }),
            None => Err(ClientError::Status { status: status.0 }),
        },
        status => Err(ClientError::Status { status: status.0 }),
    }
}

type CommandReply = oneshot::Sender<Result<Completion, ClientError>>;
type FunctionReply = oneshot::Sender<Result<TaskManagementResponse, ClientError>>;

#[derive(Debug)]
enum Request {
    Command {
        command: Command,
        started: oneshot::Sender<TaskId>,
        finished: CommandReply,
    },
    Function {
        function: TaskManagementFunction,
        lun: Lun,
        referenced: Option<TaskId>,
        finished: FunctionReply,
    },
    Ping {
        finished: oneshot::Sender<Result<(), ClientError>>,
    },
    LogOut {
        finished: oneshot::Sender<()>,
    },
}

/// What a task management function under way will have ended when it is complete.
struct Function {
    function: TaskManagementFunction,
    referenced: Option<TaskId>,
    before: Vec<TaskId>,
    finished: FunctionReply,
}

/// Owns the link: the task behind a [`Client`].
struct Driver {
    url: TargetUrl,
    options: LinkOptions,
    link: Link,
    queue: mpsc::Receiver<Request>,
    tasks: HashMap<TaskId, CommandReply>,
    functions: HashMap<TaskId, Function>,
    /// Commands that the link gave back unsent, for the next one.
    returned: Vec<(TaskId, Command)>,
    /// Tasks that were submitted again, by the name their caller knows.
    renamed: HashMap<TaskId, TaskId>,
}

impl Driver {
    async fn run(mut self) {
        let mut pings = Vec::new();
        let mut served = self.serve(&mut pings).await;
        while let Err(ClientError::AskedToLeave) = served {
            served = match self.log_in_again().await {
                Ok(()) => {
                    (!pings.is_empty()).then(|| self.link.nop(Bytes::from_static(b"palisade")));
                    self.serve(&mut pings).await
                }
                Err(error) => Err(error),
            };
        }
        match served {
            Ok(finished) => {
                self.link.log_out(LOGOUT_LIMIT).await;
                if let Some(finished) = finished {
                    let _ = finished.send(());
                }
            }
            // A caller that no longer waits for the answer is not told.
            Err(error) => {
                self.tasks.drain().for_each(|(_, reply)| drop(reply.send(Err(error.clone()))));
                self.functions.drain().for_each(|(_, f)| drop(f.finished.send(Err(error.clone()))));
                pings.drain(..).for_each(|reply| drop(reply.send(Err(error.clone()))));
            }
        }
    }

    /// Does what a target asked for that wanted a logout: that is done, and this logs in again, maybe to be sent
    /// elsewhere. What was not sent goes out now; what was sent and not answered is lost.
    async fn log_in_again(&mut self) -> Result<(), ClientError> {
        self.link = self.link.open_again(&self.url, &self.options).await?;
        let mut waiting = HashMap::new();
        for (old, command) in std::mem::take(&mut self.returned) {
            let Some(reply) = self.tasks.remove(&old) else { continue };
            let new = self.link.submit(command);
            self.renamed.values_mut().filter(|name| **name == old).for_each(|name| *name = new);
            self.renamed.insert(old, new);
            waiting.insert(new, reply);
        }
        let lost = || ClientError::lost("the target asked for a logout and did not answer before it");
        self.tasks.drain().for_each(|(_, reply)| drop(reply.send(Err(lost()))));
        self.functions.drain().for_each(|(_, f)| drop(f.finished.send(Err(lost()))));
        self.renamed.retain(|_, name| waiting.contains_key(name));
        self.tasks = waiting;
        Ok(())
    }

    /// Runs until the last client is gone or asks for the logout, or the connection is lost.
    async fn serve(
        &mut self,
        pings: &mut Vec<oneshot::Sender<Result<(), ClientError>>>,
    ) -> Result<Option<oneshot::Sender<()>>, ClientError> {
        loop {
            self.link.flush()?;
            let mut request = tokio::select! {
                request = self.queue.recv() => Some(request),
                ready = self.link.wait() => { ready?; None }
            };
            while let Some(asked) = request.take() {
                match asked {
                    None => return Ok(None),
                    Some(Request::LogOut { finished }) => return Ok(Some(finished)),
                    Some(Request::Ping { finished }) => {
                        pings.push(finished);
                        self.link.nop(Bytes::from_static(b"palisade"));
                    }
                    Some(other) => self.begin(other),
                }
                request = self.queue.try_recv().ok().map(Some);
            }
            self.link.receive()?;
            while let Some(event) = self.link.poll()? {
                match event {
                    Event::NopReply(_) => pings.drain(..).for_each(|reply| drop(reply.send(Ok(())))),
                    Event::Completed(completion) => {
                        if let Some(reply) = self.tasks.remove(&completion.task) {
                            let _ = reply.send(Ok(completion));
                        }
                    }
                    Event::TaskManagementDone(done) => self.function_done(done),
                    Event::Returned { task, command } => self.returned.push((task, command)),
                    _ => {}
                }
            }
        }
    }

    fn begin(&mut self, request: Request) {
        match request {
            Request::Command { command, started, finished } => {
                let task = self.link.submit(command);
                let _ = started.send(task);
                self.tasks.insert(task, finished);
            }
            Request::Function { function, lun, referenced, finished } => {
                let referenced = referenced.map(|task| self.renamed.get(&task).copied().unwrap_or(task));
                let id = self.link.task_management(function, lun, referenced);
                let before = self.tasks.keys().copied().collect();
                self.functions.insert(id, Function { function, referenced, before, finished });
            }
            Request::Ping { .. } | Request::LogOut { .. } => {}
        }
    }

    /// A function that is complete has ended its tasks without a response (RFC 7143 §4.2.3.3).
    fn function_done(&mut self, done: TaskManagementDone) {
        let Some(function) = self.functions.remove(&done.id) else { return };
        if done.response == TaskManagementResponse::Complete {
            let ended = match function.function {
                TaskManagementFunction::AbortTask => function.referenced.into_iter().collect(),
                TaskManagementFunction::AbortTaskSet
                | TaskManagementFunction::ClearTaskSet
                | TaskManagementFunction::LogicalUnitReset
                | TaskManagementFunction::TargetWarmReset
                | TaskManagementFunction::TargetColdReset
                | TaskManagementFunction::NexusReset => function.before,
                _ => Vec::new(),
            };
            for task in ended {
                if let Some(reply) = self.tasks.remove(&task) {
                    let _ = reply.send(Err(ClientError::Aborted));
                }
            }
        }
        let _ = function.finished.send(Ok(done.response));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_status_good_is_good() {
        let completed = |status, sense: &[u8]| outcome(ScsiResponseCode::CommandCompleted, status, sense);
        assert!(completed(ScsiStatus::Good, &[]).is_ok());
        let sense = &[0x72, 0x05, 0x24, 0x00, 0, 0, 0, 0];
        let error = completed(ScsiStatus::CheckCondition, sense).expect_err("check condition");
        assert_eq!(error.to_string(), "the target reports ILLEGAL REQUEST 24h/00h");
        let error = completed(ScsiStatus::CheckCondition, &[1, 2]).expect_err("unreadable sense");
        assert!(matches!(error, ClientError::Status { status: 2 }));
        let error = completed(ScsiStatus::Busy, &[]).expect_err("busy");
        assert!(matches!(error, ClientError::Status { status: 8 }));
    }

    #[test]
    fn a_target_failure_is_no_good_status() {
        let error = outcome(ScsiResponseCode::TargetFailure, ScsiStatus::Good, &[]).expect_err("failure");
        assert!(matches!(error, ClientError::TargetFailure { response: 1 }));
    }
}
