//! A server on a real socket with a volume in memory that can be made to hang, and an initiator to talk to it.

#![allow(dead_code, unreachable_pub, clippy::unwrap_used, reason = "shared by several test programs")]
#![allow(clippy::disallowed_methods, reason = "tests keep their own time")]

use block::{
    BlockError, BoxFuture, ByteRange, Comparison, Durability, ErrorKind, Extent, Provisioning, Sanitization,
    SanitizeMethod, Volume,
};
use bytes::Bytes;
use iscsi::initiator::{
    CloseReason, Command, Completion, Config as InitiatorConfig, Connection, Event, TaskId,
};
use iscsi::pdu::{ScsiStatus, TaskManagementFunction, TaskManagementResponse};
use iscsi::{HeapPool, Isid, Lun};
use parking_lot::Mutex;
use std::collections::{HashMap, VecDeque};
use std::future::Future;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};
use target::{
    Access, Authentication, Config, Directory, LogicalUnitHandle, LoginRefusal, LoginRequest, Server,
    TargetEntry, UnitGrant,
};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::watch;

pub const TARGET: &str = "iqn.2026-01.io.palisade:test";
pub const HOST: &str = "iqn.2026-01.org.example:host";
/// An initiator name that makes the directory panic.
pub const POISON: &str = "iqn.2026-01.org.example:poison";
pub const SIZE: usize = 8 << 20;

/// What it writes at once, at the most.
pub const ATOMIC_BYTES_MAX: u64 = 64 << 10;

/// Bytes in memory. While it hangs, operations wait, and take effect when it is let go.
pub struct HangingVolume {
    data: Mutex<Vec<u8>>,
    hangs: watch::Sender<bool>,
    /// Operations that wait or run.
    pub under_way: AtomicUsize,
    /// Offset and first byte of each write, as they took effect.
    pub writes: Mutex<Vec<(u64, u8)>>,
    /// Offset and bytes of each write that was to be all or nothing.
    pub atomic_writes: Mutex<Vec<(u64, usize)>>,
    pub fails: Mutex<Option<ErrorKind>>,
    /// Once it runs, it does until the test says otherwise.
    pub sanitization: watch::Sender<Sanitization>,
    /// How it was begun: with AUSE?
    pub sanitizes: Mutex<Vec<(SanitizeMethod, bool)>>,
    pub resources: Mutex<Option<block::Resources>>,
}

impl HangingVolume {
    pub fn new() -> Arc<Self> {
        Arc::new(Self {
            data: Mutex::new(vec![0; SIZE]),
            hangs: watch::channel(false).0,
            under_way: AtomicUsize::new(0),
            writes: Mutex::default(),
            atomic_writes: Mutex::default(),
            fails: Mutex::default(),
            sanitization: watch::channel(Sanitization::Idle).0,
            sanitizes: Mutex::default(),
            resources: Mutex::default(),
        })
    }

    pub fn hang(&self, hangs: bool) {
        self.hangs.send_replace(hangs);
    }

    pub fn grow(&self, size: usize) {
        self.data.lock().resize(size, 0);
    }

    /// Waits until `count` operations wait or run.
    pub async fn until_under_way(&self, count: usize) {
        eventually(|| self.under_way.load(Ordering::SeqCst) == count).await;
    }

    fn after<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Self) -> block::Result<T> + Send + 'static,
    ) -> BoxFuture<'_, block::Result<T>> {
        let mut hangs = self.hangs.subscribe();
        self.under_way.fetch_add(1, Ordering::SeqCst);
        let guard = UnderWay(self);
        Box::pin(async move {
            let _guard = guard;
            hangs.wait_for(|hangs| !*hangs).await.unwrap();
            match *self.sanitization.borrow() {
                Sanitization::Idle => {}
                Sanitization::Running { .. } => {
                    return Err(BlockError::new(ErrorKind::Busy, "test", "sanitizing"));
                }
                Sanitization::Failed { .. } => {
                    return Err(BlockError::new(ErrorKind::Device, "test", "not sanitized"));
                }
            }
            match *self.fails.lock() {
                Some(kind) => Err(BlockError::new(kind, "test", "told to fail")),
                None => work(self),
            }
        })
    }

    fn check(&self, offset: u64, len: usize) -> block::Result<std::ops::Range<usize>> {
        let start = usize::try_from(offset).unwrap();
        match start.checked_add(len).filter(|end| *end <= self.data.lock().len()) {
            Some(end) => Ok(start..end),
            None => Err(BlockError::new(ErrorKind::Invalid, "test", "past the end")),
        }
    }
}

struct UnderWay<'a>(&'a HangingVolume);

impl Drop for UnderWay<'_> {
    fn drop(&mut self) {
        self.0.under_way.fetch_sub(1, Ordering::SeqCst);
    }
}

impl Volume for HangingVolume {
    fn size_bytes(&self) -> u64 {
        self.data.lock().len() as u64
    }
    fn granularity_bytes(&self) -> u32 {
        4096
    }
    fn resources(&self) -> Option<block::Resources> {
        *self.resources.lock()
    }
    fn read(&self, offset: u64, len: u64) -> BoxFuture<'_, block::Result<Vec<Bytes>>> {
        self.after(move |this| {
            let range = this.check(offset, usize::try_from(len).unwrap())?;
            Ok(vec![Bytes::copy_from_slice(&this.data.lock()[range])])
        })
    }
    fn write(&self, offset: u64, data: Vec<Bytes>, _: Durability) -> BoxFuture<'_, block::Result<()>> {
        self.after(move |this| {
            let whole = data.concat();
            let range = this.check(offset, whole.len())?;
            this.writes.lock().push((offset, whole[0]));
            this.data.lock()[range].copy_from_slice(&whole);
            Ok(())
        })
    }
    fn atomic_bytes_max(&self) -> u64 {
        ATOMIC_BYTES_MAX
    }
    fn write_atomic(&self, offset: u64, data: Vec<Bytes>, _: Durability) -> BoxFuture<'_, block::Result<()>> {
        self.after(move |this| {
            let whole = data.concat();
            let range = this.check(offset, whole.len())?;
            this.atomic_writes.lock().push((offset, whole.len()));
            this.data.lock()[range].copy_from_slice(&whole);
            Ok(())
        })
    }
    fn unmap(&self, ranges: Vec<ByteRange>) -> BoxFuture<'_, block::Result<()>> {
        self.after(move |this| {
            for range in ranges {
                let range = this.check(range.offset, usize::try_from(range.len).unwrap())?;
                this.data.lock()[range].fill(0);
            }
            Ok(())
        })
    }
    fn compare_and_write(
        &self,
        offset: u64,
        expected: Vec<Bytes>,
        data: Vec<Bytes>,
        _: Durability,
    ) -> BoxFuture<'_, block::Result<Comparison>> {
        self.after(move |this| {
            let (expected, new) = (expected.concat(), data.concat());
            let range = this.check(offset, expected.len())?;
            let mut data = this.data.lock();
            let differs = data[range.clone()].iter().zip(&expected).position(|(a, b)| a != b);
            if let Some(at) = differs {
                return Ok(Comparison::DiffersAt(at as u64));
            }
            data[range].copy_from_slice(&new);
            Ok(Comparison::Equal)
        })
    }
    fn flush(&self) -> BoxFuture<'_, block::Result<()>> {
        self.after(|_| Ok(()))
    }
    fn extents(&self, offset: u64, len: u64, _: usize) -> BoxFuture<'_, block::Result<Vec<Extent>>> {
        let extent = Extent { range: ByteRange { offset, len }, provisioning: Provisioning::Mapped };
        self.after(move |_| Ok(vec![extent]))
    }
    fn can_sanitize(&self) -> bool {
        true
    }
    fn sanitization(&self) -> Sanitization {
        *self.sanitization.borrow()
    }
    fn sanitize(&self, method: SanitizeMethod, unrestricted_exit: bool) -> BoxFuture<'_, block::Result<()>> {
        let mut hangs = self.hangs.subscribe();
        self.under_way.fetch_add(1, Ordering::SeqCst);
        let guard = UnderWay(self);
        Box::pin(async move {
            let _guard = guard;
            hangs.wait_for(|hangs| !*hangs).await.unwrap();
            let before = self.sanitization.send_replace(Sanitization::Running { progress: 0 });
            if let Sanitization::Running { .. } = before {
                return Err(BlockError::new(ErrorKind::Busy, "test", "sanitizing"));
            }
            self.sanitizes.lock().push((method, unrestricted_exit));
            Ok(())
        })
    }
    fn sanitized(&self) -> BoxFuture<'_, block::Result<()>> {
        let mut state = self.sanitization.subscribe();
        Box::pin(async move {
            let runs = |state: &Sanitization| matches!(state, Sanitization::Running { .. });
            match *state.wait_for(|state| !runs(state)).await.unwrap() {
                Sanitization::Failed { .. } => {
                    Err(BlockError::new(ErrorKind::Device, "test", "told to fail"))
                }
                _ => Ok(()),
            }
        })
    }
    fn leave_failed_sanitize(&self) -> BoxFuture<'_, block::Result<()>> {
        self.sanitization.send_replace(Sanitization::Idle);
        Box::pin(std::future::ready(Ok(())))
    }
}

/// Grants by (initiator, target); `None` as initiator for everyone.
#[derive(Default)]
pub struct TestDirectory {
    pub units: Mutex<HashMap<String, Vec<UnitGrant>>>,
    pub refused: Mutex<Vec<String>>,
    /// What logins are answered with instead of access.
    pub refusal: Mutex<Option<LoginRefusal>>,
    /// Everybody is refused from right after the next login was let in.
    pub revokes_after_next: AtomicBool,
    closed: AtomicBool,
    /// What logins have to prove, in turn; the last stays.
    pub authentication: Mutex<Vec<Authentication>>,
    pub discovery: Mutex<Authentication>,
    /// Targets that are not their units' own.
    pub number: Mutex<Vec<(String, scsi::TargetNumber)>>,
}

impl TestDirectory {
    fn demanded(&self) -> Authentication {
        let mut demands = self.authentication.lock();
        let demanded = demands.first().cloned().unwrap_or_default();
        if demands.len() > 1 {
            demands.remove(0);
        }
        demanded
    }
}

impl Directory for TestDirectory {
    fn authorize(&self, login: &LoginRequest) -> Result<Access, LoginRefusal> {
        assert_ne!(login.initiator, POISON, "a defect, for a test");
        if self.refused.lock().contains(&login.initiator) || self.closed.load(Ordering::SeqCst) {
            return Err(LoginRefusal::Forbidden);
        }
        if let Some(refusal) = *self.refusal.lock() {
            return Err(refusal);
        }
        self.closed.store(self.revokes_after_next.load(Ordering::SeqCst), Ordering::SeqCst);
        match self.units.lock().get(&login.target) {
            Some(units) => {
                let numbers = self.number.lock();
                let number = numbers.iter().find(|(target, _)| *target == login.target);
                let number = number.map(|(_, number)| *number).unwrap_or_default();
                let (authentication, units) = (self.demanded(), units.clone());
                Ok(Access { authentication, target_alias: None, number, units })
            }
            None => Err(LoginRefusal::NotFound),
        }
    }
    fn discovery(&self, _: &str, _: SocketAddr) -> Result<Authentication, LoginRefusal> {
        Ok(self.discovery.lock().clone())
    }
    fn targets_for(&self, initiator: &str, _: SocketAddr, _: SocketAddr) -> Vec<TargetEntry> {
        if self.refused.lock().iter().any(|refused| refused == initiator) {
            return Vec::new();
        }
        let names = self.units.lock().keys().cloned().collect::<Vec<_>>();
        names.into_iter().map(|name| TargetEntry { name, addresses: Vec::new() }).collect()
    }
}

pub fn unit_of(volume: &Arc<HangingVolume>, number: u8) -> Arc<LogicalUnitHandle> {
    Arc::new(plain_unit_of(volume, number))
}

pub fn plain_unit_of(volume: &Arc<HangingVolume>, number: u8) -> LogicalUnitHandle {
    let mut naa = [0x60; 16];
    naa[15] = number;
    let identity = scsi::Identity {
        naa,
        serial: format!("{number:08}"),
        vendor: "PALISADE".to_owned(),
        product: "VOLUME".to_owned(),
        revision: "1".to_owned(),
    };
    let blocks = volume.size_bytes() / 512;
    let config = scsi::LogicalUnitConfig::new(identity, scsi::BlockSize::B512, blocks);
    LogicalUnitHandle::new(config, Arc::clone(volume) as Arc<dyn Volume>).unwrap()
}

pub fn grant(lun: u16, unit: &Arc<LogicalUnitHandle>) -> UnitGrant {
    UnitGrant { lun: scsi::Lun::new(lun).unwrap(), unit: Arc::clone(unit), read_only: false }
}

/// A server with one target of one LUN.
pub struct Bench {
    pub server: Server,
    pub directory: Arc<TestDirectory>,
    pub volume: Arc<HangingVolume>,
    pub unit: Arc<LogicalUnitHandle>,
}

impl Bench {
    pub fn new() -> Self {
        Self::with(|_| {})
    }

    pub fn with(adapt: impl FnOnce(&mut Config)) -> Self {
        Self::of(|unit| unit, adapt)
    }

    pub fn of(
        make: impl FnOnce(LogicalUnitHandle) -> LogicalUnitHandle,
        adapt: impl FnOnce(&mut Config),
    ) -> Self {
        let volume = HangingVolume::new();
        let unit = Arc::new(make(plain_unit_of(&volume, 1)));
        let directory = Arc::new(TestDirectory::default());
        directory.units.lock().insert(TARGET.to_owned(), vec![grant(0, &unit)]);
        let mut config = Config::new(&["127.0.0.1:0".parse().unwrap()]);
        config.reactors = 2;
        adapt(&mut config);
        let server = Server::start(config, Arc::clone(&directory) as Arc<dyn Directory>).unwrap();
        Self { server, directory, volume, unit }
    }

    pub fn address(&self) -> SocketAddr {
        self.server.addresses()[0]
    }

    pub async fn login(&self, host: &str, isid: u8) -> Client {
        self.try_login(host, isid).await.expect("login")
    }

    /// Logs in and takes the unit attention that greets a new nexus.
    pub async fn ready(&self, isid: u8) -> Client {
        let mut client = self.login(HOST, isid).await;
        let greeting = client.run(test_unit_ready()).await;
        assert_eq!(greeting.status, ScsiStatus::CheckCondition, "a unit attention comes first");
        assert_eq!(client.run(test_unit_ready()).await.status, ScsiStatus::Good);
        client
    }

    pub async fn try_login(&self, host: &str, isid: u8) -> Result<Client, CloseReason> {
        self.try_login_to(TARGET, host, isid).await
    }

    pub async fn try_login_to(&self, target: &str, host: &str, isid: u8) -> Result<Client, CloseReason> {
        let mut config = InitiatorConfig::normal(host, target);
        config.isid = Isid([0x80, 0, 0, 0, 0, isid]);
        Client::connect(self.address(), config).await
    }
}

/// An initiator on a socket.
pub struct Client {
    stream: TcpStream,
    connection: Connection<HeapPool>,
    origin: Instant,
    done: HashMap<TaskId, Completion>,
    functions: HashMap<TaskId, TaskManagementResponse>,
    pub closed: Option<CloseReason>,
}

impl Client {
    pub async fn connect(address: SocketAddr, config: InitiatorConfig) -> Result<Self, CloseReason> {
        Self::connect_to(address, config).await.expect("an answer to the login")
    }

    /// None if the target closes the connection without a word.
    pub async fn connect_to(
        address: SocketAddr,
        config: InitiatorConfig,
    ) -> Option<Result<Self, CloseReason>> {
        let stream = TcpStream::connect(address).await.unwrap();
        stream.set_nodelay(true).unwrap();
        let connection = Connection::new(config, HeapPool, Duration::ZERO);
        let mut client = Self {
            stream,
            connection,
            origin: Instant::now(),
            done: HashMap::new(),
            functions: HashMap::new(),
            closed: None,
        };
        match client.event().await? {
            Event::LoggedIn(_) => Some(Ok(client)),
            Event::Closed(reason) => Some(Err(reason)),
            other => panic!("{other:?} instead of a login"),
        }
    }

    /// The next event; none when the target closed the connection.
    pub async fn event(&mut self) -> Option<Event> {
        loop {
            if let Some(event) = self.connection.poll_event() {
                return Some(event);
            }
            self.send().await;
            if let Some(event) = self.connection.poll_event() {
                return Some(event);
            }
            let space = self.connection.recv_space();
            match self.stream.read(space).await {
                Ok(0) | Err(_) => return None,
                Ok(count) => self.connection.received(count, self.origin.elapsed()),
            }
        }
    }

    pub async fn send(&mut self) {
        let mut chunks = VecDeque::new();
        while self.connection.poll_transmit(&mut chunks, 1 << 20) > 0 {
            for chunk in chunks.drain(..) {
                if self.stream.write_all(&chunk).await.is_err() {
                    return;
                }
            }
        }
    }

    /// Sends bytes that are none of the protocol's.
    pub async fn send_raw(&mut self, bytes: &[u8]) {
        let _ = self.stream.write_all(bytes).await;
    }

    /// Sends a command without waiting for its end.
    pub async fn start(&mut self, command: Command) -> TaskId {
        let task = self.connection.submit(command);
        self.send().await;
        task
    }

    pub async fn run(&mut self, command: Command) -> Completion {
        let task = self.start(command).await;
        self.end_of(task).await.expect("the connection stays")
    }

    /// The end of a command; none if the connection ended before.
    pub async fn end_of(&mut self, task: TaskId) -> Option<Completion> {
        loop {
            if let Some(completion) = self.done.remove(&task) {
                return Some(completion);
            }
            let event = self.event().await?;
            self.note(event)?;
        }
    }

    fn note(&mut self, event: Event) -> Option<()> {
        match event {
            Event::Completed(completion) => drop(self.done.insert(completion.task, completion)),
            Event::TaskManagementDone(done) => drop(self.functions.insert(done.id, done.response)),
            Event::Closed(reason) => {
                self.closed = Some(reason);
                return None;
            }
            _ => {}
        }
        Some(())
    }

    pub async fn start_function(&mut self, function: TaskManagementFunction, task: Option<TaskId>) -> TaskId {
        let id = self.connection.task_management(function, Lun::default(), task);
        self.send().await;
        id
    }

    /// LOGICAL UNIT RESET and a command behind it, in one segment.
    pub async fn start_reset_and(&mut self, command: Command) -> (TaskId, TaskId) {
        let reset = TaskManagementFunction::LogicalUnitReset;
        let id = self.connection.task_management(reset, Lun::default(), None);
        let task = self.connection.submit(command);
        let mut chunks = VecDeque::new();
        while self.connection.poll_transmit(&mut chunks, 1 << 20) > 0 {}
        let segment: Vec<u8> = chunks.iter().flat_map(|chunk| chunk.iter().copied()).collect();
        self.stream.write_all(&segment).await.unwrap();
        (id, task)
    }

    pub async fn end_of_function(&mut self, id: TaskId) -> TaskManagementResponse {
        loop {
            if let Some(response) = self.functions.remove(&id) {
                return response;
            }
            let event = self.event().await.expect("the connection stays");
            self.note(event);
        }
    }

    /// A NOP there and back.
    pub async fn ping(&mut self) {
        self.connection.nop(Bytes::from_static(b"ping"));
        loop {
            match self.event().await.expect("the connection stays") {
                Event::NopReply(data) => return assert_eq!(data, "ping"),
                event => drop(self.note(event)),
            }
        }
    }

    pub async fn targets(&mut self) -> Vec<iscsi::initiator::DiscoveredTarget> {
        self.connection.send_targets();
        loop {
            match self.event().await.expect("the connection stays") {
                Event::Targets(targets) => return targets,
                event => drop(self.note(event)),
            }
        }
    }

    pub async fn logout(&mut self) {
        self.connection.logout();
        while self.closed.is_none() {
            match self.event().await {
                Some(event) => drop(self.note(event)),
                None => return,
            }
        }
    }

    /// Reads until the target has closed the connection.
    pub async fn until_closed(&mut self) {
        while let Some(event) = self.event().await {
            if self.note(event).is_none() {
                return;
            }
        }
    }

    pub fn has_ended(&self, task: TaskId) -> bool {
        self.done.contains_key(&task)
    }
}

pub fn test_unit_ready() -> Command {
    Command::new(Lun::default(), [0; 16])
}

/// READ (16) of 512-byte blocks.
pub fn read16(lba: u64, blocks: u32) -> Command {
    Command::read(Lun::default(), cdb16(0x88, lba, blocks), blocks * 512)
}

/// WRITE (16) of blocks filled with `byte`.
pub fn write16(lba: u64, blocks: u32, byte: u8) -> Command {
    let data = Bytes::from(vec![byte; usize::try_from(blocks).unwrap() * 512]);
    Command::write(Lun::default(), cdb16(0x8a, lba, blocks), data)
}

pub fn cdb16(opcode: u8, lba: u64, blocks: u32) -> [u8; 16] {
    let mut cdb = [0; 16];
    cdb[0] = opcode;
    cdb[2..10].copy_from_slice(&lba.to_be_bytes());
    cdb[10..14].copy_from_slice(&blocks.to_be_bytes());
    cdb
}

/// Sense key and additional sense code with qualifier, of fixed format.
pub fn sense(completion: &Completion) -> (u8, u8, u8) {
    assert_eq!(completion.status, ScsiStatus::CheckCondition);
    (completion.sense[2] & 0xf, completion.sense[12], completion.sense[13])
}

/// Fails the test if `future` takes longer than any machine needs.
pub async fn soon<F: Future>(future: F) -> F::Output {
    tokio::time::timeout(Duration::from_secs(20), future).await.expect("in time")
}

pub async fn eventually(mut condition: impl FnMut() -> bool) {
    soon(async {
        while !condition() {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    })
    .await;
}
