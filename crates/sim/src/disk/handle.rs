//! The engine's end of a simulated disk, for one life of the engine.

use super::{Failure, Latency, Medium, Operation, Reply, State, Work, device};
use crate::narrate::say;
use crate::rng::mix;
use block::{BlockError, BoxFuture, Disk, DiskInfo, ErrorKind, Persist, Result};
use bytes::Bytes;
use std::future::Future;
use std::pin::Pin;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};
use std::task::{Context, Poll};
use std::time::Duration;

/// A disk can be enlarged this often in one life.
const SIZES_MAX: usize = 16;

/// An operation that is stuck takes up to this long.
const STUCK_MAX: Duration = Duration::from_secs(20);

/// A simulated disk as the engine sees it. Clones are the same handle.
#[derive(Clone)]
pub struct DiskHandle {
    medium: Arc<Medium>,
    life: u64,
    infos: Arc<[OnceLock<DiskInfo>; SIZES_MAX]>,
    newest: Arc<AtomicUsize>,
}

/// An operation on its way. Dropped, it goes on.
struct Pending {
    handle: DiskHandle,
    id: u64,
}

impl DiskHandle {
    pub(super) fn new(medium: Arc<Medium>, life: u64, info: DiskInfo) -> Self {
        let infos = Arc::new([const { OnceLock::new() }; SIZES_MAX]);
        let handle = Self { medium, life, infos, newest: Arc::new(AtomicUsize::new(0)) };
        let _ = handle.infos[0].set(info);
        handle
    }

    pub(super) fn update(&self, info: DiskInfo) {
        let next = self.newest.load(Ordering::Relaxed) + 1;
        assert!(
            next < SIZES_MAX && self.infos[next].set(info).is_ok(),
            "a disk is enlarged {SIZES_MAX} times"
        );
        self.newest.store(next, Ordering::Relaxed);
    }

    /// Bytes that the newest size allows for more enlargements.
    #[must_use]
    pub fn can_grow(&self) -> bool {
        self.newest.load(Ordering::Relaxed) + 1 < SIZES_MAX
    }

    fn is_dead(&self, state: &State) -> bool {
        state.life != self.life || state.power.crashed()
    }

    fn check(&self, state: &State, offset: u64, len: u64) -> Result<()> {
        let unit = state.unit_bytes as u64;
        let inside = offset.checked_add(len).is_some_and(|end| end <= state.size_bytes);
        if inside && offset.is_multiple_of(unit) && len.is_multiple_of(unit) {
            return Ok(());
        }
        let message = format!("a request for {len} bytes is not aligned or not inside the disk");
        Err(BlockError::new(ErrorKind::Invalid, &self.medium.name, message).at(offset))
    }

    fn note(&self, kind: u64, offset: u64, content: u64) {
        self.medium.executor.note(mix(offset ^ kind << 60) ^ content);
    }

    /// Starts `work`; the result comes at once or at a time of the seed's choosing.
    fn submit(&self, work: Work) -> BoxFuture<'_, Result<Reply>> {
        let mut state = self.medium.state.lock();
        if self.is_dead(&state) {
            return Box::pin(std::future::pending());
        }
        match state.age() {
            Some(Failure::Errors) => return Box::pin(std::future::ready(Err(device("the disk is dead")))),
            Some(Failure::Hangs) => return Box::pin(std::future::pending()),
            None => {}
        }
        let checked = match &work {
            Work::Read { offset, len } => self.check(&state, *offset, *len as u64),
            Work::Write { offset, data, .. } => {
                self.check(&state, *offset, data.iter().map(|chunk| chunk.len() as u64).sum())
            }
            Work::Discard { offset, len } => self.check(&state, *offset, *len),
            Work::Flush { .. } => Ok(()),
        };
        if let Err(error) = checked {
            return Box::pin(std::future::ready(Err(error)));
        }
        state.count(&work);
        say(format_args!("    disk step {}: {work}", state.power.steps()));
        let crashed = state.step();
        let immediate_percent = state.latency.immediate_percent;
        if !crashed && state.rng.percent(immediate_percent) {
            let result = state.perform(&work);
            return Box::pin(std::future::ready(result));
        }
        let id = state.enter(work);
        let delay = state.delay();
        drop(state);
        if !crashed {
            let handle = self.clone();
            self.medium.executor.call_after(delay, Box::new(move || handle.complete(id)));
        }
        Box::pin(Pending { handle: self.clone(), id })
    }

    /// The moment has come at which operation `id` is done.
    fn complete(&self, id: u64) {
        let mut state = self.medium.state.lock();
        if self.is_dead(&state) || state.step() {
            return;
        }
        // Taken out, so that a flush in flight does not meet itself among the operations.
        let Some(mut operation) = state.operations.remove(&id) else { return };
        say(format_args!("    disk step {}, completes {id}: {}", state.power.steps(), operation.work));
        let result = match state.death() {
            Some(Failure::Hangs) => return,
            Some(Failure::Errors) => Err(device("the disk is dead")),
            None => state.perform(&operation.work),
        };
        if operation.abandoned {
            return;
        }
        operation.result = Some(result);
        let waker = operation.waker.take();
        state.operations.insert(id, operation);
        drop(state);
        self.note(9, id, 0);
        if let Some(waker) = waker {
            waker.wake();
        }
    }

    /// A blocking operation: one step. At a crash the operation stays in flight and the caller gets an error.
    fn block<T>(&self, work: Work, done: impl FnOnce(Reply) -> T) -> Result<T> {
        let mut state = self.medium.state.lock();
        if self.is_dead(&state) {
            return Err(device("the machine has crashed"));
        }
        if state.age().is_some() {
            return Err(device("the disk is dead"));
        }
        state.count(&work);
        say(format_args!("    disk step {}, blocking: {work}", state.power.steps()));
        if state.step() {
            state.enter(work);
            return Err(device("the machine crashes"));
        }
        let faults = state.faults;
        if !faults.blocking {
            state.faults = super::Faults::default();
        }
        let result = state.perform(&work);
        state.faults = faults;
        result.map(done)
    }
}

impl State {
    fn count(&mut self, work: &Work) {
        match work {
            Work::Read { .. } => self.counts.reads += 1,
            Work::Write { data, .. } => {
                self.counts.writes += 1;
                let header = data.first().filter(|chunk| chunk.starts_with(b"PALBATCH"));
                let stream = header.and_then(|chunk| chunk.get(14));
                if let Some(count) =
                    stream.and_then(|&stream| self.counts.batches.get_mut(usize::from(stream)))
                {
                    *count += 1;
                }
            }
            Work::Flush { .. } => self.counts.flushes += 1,
            Work::Discard { .. } => self.counts.discards += 1,
        }
    }

    fn enter(&mut self, work: Work) -> u64 {
        self.serial += 1;
        let operation = Operation { work, result: None, waker: None, abandoned: false };
        self.operations.insert(self.serial, operation);
        self.serial
    }

    fn delay(&mut self) -> Duration {
        let Latency { max, .. } = self.latency;
        let max = if self.strikes(self.faults.stuck) { STUCK_MAX } else { max };
        Duration::from_nanos(self.rng.logarithmic(max.as_nanos() as u64))
    }
}

/// A number that stands for the content in the trace: the first and last words of each chunk.
fn digest(data: &[Bytes]) -> u64 {
    let word = |bytes: Option<&[u8; 8]>| bytes.map_or(0, |bytes| u64::from_le_bytes(*bytes));
    data.iter().fold(0, |digest, chunk| {
        let sectors =
            chunk.chunks(512).fold(digest, |digest, sector| mix(digest ^ word(sector.first_chunk())));
        mix(sectors ^ word(chunk.last_chunk()) ^ chunk.len() as u64)
    })
}

impl Future for Pending {
    type Output = Result<Reply>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let mut state = self.handle.medium.state.lock();
        if self.handle.is_dead(&state) {
            return Poll::Pending;
        }
        let Some(operation) = state.operations.get_mut(&self.id) else { return Poll::Pending };
        let Some(result) = operation.result.take() else {
            operation.waker = Some(cx.waker().clone());
            return Poll::Pending;
        };
        state.operations.remove(&self.id);
        Poll::Ready(result)
    }
}

impl Drop for Pending {
    fn drop(&mut self) {
        let mut state = self.handle.medium.state.lock();
        let finished = match state.operations.get_mut(&self.id) {
            Some(operation) => {
                operation.abandoned = true;
                operation.result.is_some()
            }
            None => false,
        };
        if finished {
            state.operations.remove(&self.id);
        }
    }
}

impl Disk for DiskHandle {
    fn info(&self) -> &DiskInfo {
        let newest = self.newest.load(Ordering::Relaxed);
        self.infos[newest].get().expect("the newest size is set")
    }

    fn read(&self, offset: u64, len: usize) -> BoxFuture<'_, Result<Bytes>> {
        self.note(1, offset, len as u64);
        let reply = self.submit(Work::Read { offset, len });
        Box::pin(async move {
            match reply.await? {
                Reply::Data(data) => Ok(data),
                Reply::Done => Err(device("a read without data")),
            }
        })
    }

    fn write(&self, offset: u64, data: Vec<Bytes>, persist: Persist) -> BoxFuture<'_, Result<()>> {
        self.note(if persist == Persist::Durable { 2 } else { 3 }, offset, digest(&data));
        let reply = self.submit(Work::Write { offset, data, persist });
        Box::pin(async move { reply.await.map(|_| ()) })
    }

    fn flush(&self) -> BoxFuture<'_, Result<()>> {
        self.note(4, 0, 0);
        let pages = self.medium.state.lock().begin_flush();
        let reply = self.submit(Work::Flush { pages });
        Box::pin(async move { reply.await.map(|_| ()) })
    }

    fn discard(&self, offset: u64, len: u64) -> BoxFuture<'_, Result<()>> {
        self.note(5, offset, len);
        let reply = self.submit(Work::Discard { offset, len });
        Box::pin(async move { reply.await.map(|_| ()) })
    }

    fn read_blocking(&self, offset: u64, buf: &mut [u8]) -> Result<()> {
        self.note(6, offset, buf.len() as u64);
        self.check(&self.medium.state.lock(), offset, buf.len() as u64)?;
        self.block(Work::Read { offset, len: buf.len() }, |reply| {
            if let Reply::Data(data) = reply {
                buf.copy_from_slice(&data);
            }
        })
    }

    fn write_blocking(&self, offset: u64, data: &[u8]) -> Result<()> {
        let data = vec![Bytes::copy_from_slice(data)];
        self.note(7, offset, digest(&data));
        self.check(&self.medium.state.lock(), offset, data[0].len() as u64)?;
        self.block(Work::Write { offset, data, persist: Persist::Cached }, |_| ())
    }

    fn flush_blocking(&self) -> Result<()> {
        self.note(8, 0, 0);
        let pages = self.medium.state.lock().begin_flush();
        self.block(Work::Flush { pages }, |_| ())
    }
}
