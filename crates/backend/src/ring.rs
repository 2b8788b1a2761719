//! One io_uring a reactor thread.
//!
//! The ring lives in thread-local storage of the thread that drives a tokio `current_thread` runtime. Requests
//! made on that thread are given to the kernel at once: a disk that works on the first of a burst while the rest
//! is still prepared is worth more than the system calls saved by submitting them together (a fifth more random
//! reads at a depth of 32 for a tenth more CPU time). A driver task collects what has ended; the kernel wakes the
//! reactor through the ring's file descriptor.
//!
//! Memory given to the kernel belongs to the request in its slot, which stays until the kernel has answered,
//! whatever becomes of the future that waits. A ring that is dropped waits for the kernel, and if a device is
//! stuck leaks the ring and its memory rather than free them.

use crate::request::{Progress, Request};
use crate::slot::Slot;
use block::Result;
use io_uring::{IoUring, squeue, types};
use rustix::io::Errno;
use std::cell::RefCell;
use std::collections::{HashMap, VecDeque};
use std::os::fd::{AsFd, OwnedFd};
use std::pin::Pin;
use std::sync::OnceLock;
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use tokio::runtime::{Handle, RuntimeFlavor};

/// Entries of the submission queue: room for what the kernel would not take at once.
const ENTRIES: u32 = 256;

/// Most requests of one disk that one ring gives to the kernel; the rest wait here. So a stuck disk holds at
/// most this many of the kernel's workers.
const DISK_IN_FLIGHT_MAX: usize = 128;

/// Kernel workers for requests that block in submission (allocating writes): enough that a stuck disk's
/// do not use them up.
const KERNEL_WORKERS_MAX: u32 = 512;

/// How long a closing ring waits for a device before it leaks the request's memory.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(5);

thread_local! {
    static HERE: RefCell<Here> = const { RefCell::new(Here::None) };
}

/// What this thread has.
enum Here {
    None,
    /// A driver was spawned, and makes the ring when first polled.
    Asked,
    Ring(Box<Ring>),
}

/// Gives the request to this thread's ring, or back if there is none. The first request of a reactor thread asks
/// for a ring.
pub(crate) fn submit(request: Request) -> std::result::Result<(), Request> {
    let outcome = HERE.try_with(|here| match &mut *here.borrow_mut() {
        Here::Ring(ring) => {
            ring.enqueue(request);
            Ok(())
        }
        Here::Asked => Err((request, false)),
        Here::None => Err((request, true)),
    });
    match outcome {
        Ok(Ok(())) => Ok(()),
        Ok(Err((request, ask))) => {
            if ask {
                ask_for_ring();
            }
            Err(request)
        }
        Err(_) => unreachable!("thread-local storage outlives the code of its thread"),
    }
}

/// Gives the current reactor thread its ring now, instead of with its first request. True if it has one.
pub async fn attach_ring() -> bool {
    ask_for_ring();
    for _ in 0..3 {
        if HERE.with_borrow(|here| matches!(here, Here::Ring(_))) {
            return true;
        }
        tokio::task::yield_now().await;
    }
    false
}

/// Whether the kernel lets this process use io_uring; if not, why.
///
/// # Errors
/// The kernel's reason, in words.
pub fn uring_support() -> std::result::Result<(), &'static str> {
    static SUPPORT: OnceLock<std::result::Result<(), String>> = OnceLock::new();
    let probe = || match new_uring(8) {
        Ok(_) => Ok(()),
        Err(error) => Err(format!("the kernel refuses io_uring: {error}")),
    };
    SUPPORT.get_or_init(probe).as_ref().copied().map_err(String::as_str)
}

fn ask_for_ring() {
    let Ok(handle) = Handle::try_current() else { return };
    let alone = handle.runtime_flavor() == RuntimeFlavor::CurrentThread;
    let wanted = alone && uring_support().is_ok();
    let asked = HERE.with_borrow_mut(|here| {
        let ask = wanted && matches!(here, Here::None);
        if ask {
            *here = Here::Asked;
        }
        ask
    });
    if asked {
        handle.spawn(Driver { ring_fd: None });
    }
}

fn new_uring(entries: u32) -> std::io::Result<IoUring> {
    let best = IoUring::builder().setup_single_issuer().setup_coop_taskrun().setup_clamp().build(entries);
    best.or_else(|_| IoUring::new(entries))
}

/// The task that keeps this thread's ring going.
struct Driver {
    ring_fd: Option<AsyncFd<OwnedFd>>,
}

/// A descriptor of the ring of its own, on which tokio waits until it can be read.
#[allow(unsafe_code, reason = "tokio asks for a promise about the descriptor")]
fn watch(uring: &IoUring) -> Option<AsyncFd<OwnedFd>> {
    let own = uring.as_fd().try_clone_to_owned().ok()?;
    // SAFETY: `OwnedFd` returns the one open descriptor that it owns, and the `AsyncFd` owns it until dropped.
    unsafe { AsyncFd::register_with_interest(own, Interest::READABLE) }.ok()
}

impl Future for Driver {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        if self.ring_fd.is_none() && !self.start() {
            return Poll::Ready(());
        }
        loop {
            let finished = HERE.with_borrow_mut(|here| match here {
                Here::Ring(ring) => Some(ring.turn(context.waker())),
                _ => None,
            });
            let Some((finished, again)) = finished else { return Poll::Ready(()) };
            for (request, result) in finished {
                request.finish(result);
            }
            if again {
                continue;
            }
            let Some(ring_fd) = &self.ring_fd else { return Poll::Ready(()) };
            match ring_fd.poll_read_ready(context) {
                Poll::Ready(Ok(mut ready)) => ready.clear_ready(),
                Poll::Ready(Err(_)) => return Poll::Ready(()),
                Poll::Pending => return Poll::Pending,
            }
        }
    }
}

impl Driver {
    /// Makes the ring. False if this thread has one already, or cannot.
    fn start(&mut self) -> bool {
        let has_one = HERE.with_borrow(|here| matches!(here, Here::Ring(_)));
        let ring = if has_one { None } else { Ring::new() };
        let ring_fd = ring.as_ref().and_then(|ring| watch(&ring.uring));
        let (Some(ring), Some(ring_fd)) = (ring, ring_fd) else { return false };
        self.ring_fd = Some(ring_fd);
        HERE.with_borrow_mut(|here| *here = Here::Ring(Box::new(ring)));
        true
    }
}

impl Drop for Driver {
    fn drop(&mut self) {
        let started = self.ring_fd.take().is_some();
        let old = HERE.try_with(|here| {
            let mine = match &*here.borrow() {
                Here::Ring(_) => started,
                Here::Asked => true,
                Here::None => false,
            };
            if mine { here.replace(Here::None) } else { Here::None }
        });
        // Outside the borrow: ending requests wakes arbitrary code.
        drop(old);
    }
}

/// One disk's share of the ring.
#[derive(Default)]
struct Lane {
    in_flight: usize,
    waiting: VecDeque<Request>,
}

type Finished = Vec<(Request, Result<()>)>;

struct Ring {
    uring: IoUring,
    slots: Vec<Option<Slot>>,
    free: Vec<usize>,
    lanes: HashMap<u64, Lane>,
    driver: Option<Waker>,
    kicked: bool,
}

impl Ring {
    fn new() -> Option<Self> {
        let uring = match new_uring(ENTRIES) {
            Ok(uring) => uring,
            Err(error) => {
                tracing::warn!(%error, "this thread gets no io_uring; its disks use threads");
                return None;
            }
        };
        // Old kernels have no such limit to set; theirs is lower, which only matters for a stuck disk.
        let _ = uring.submitter().register_iowq_max_workers(&mut [KERNEL_WORKERS_MAX, 0]);
        let (slots, free, lanes) = (Vec::new(), Vec::new(), HashMap::new());
        Some(Self { uring, slots, free, lanes, driver: None, kicked: false })
    }

    /// Gives the kernel a request, or keeps it until the disk has fewer in flight.
    fn enqueue(&mut self, request: Request) {
        let lane = self.lanes.entry(request.files.key).or_default();
        if lane.in_flight >= DISK_IN_FLIGHT_MAX {
            lane.waiting.push_back(request);
            return;
        }
        lane.in_flight += 1;
        self.start(request);
    }

    fn start(&mut self, request: Request) {
        let index = self.free.pop().unwrap_or_else(|| {
            self.slots.push(None);
            self.slots.len() - 1
        });
        let slot = self.slots[index].insert(Slot::new(request));
        let entry = slot.entry().user_data(index as u64);
        self.push(&entry);
        if !self.submit() && !self.kicked {
            self.kicked = true;
            if let Some(driver) = &self.driver {
                driver.wake_by_ref();
            }
        }
    }

    #[allow(unsafe_code, reason = "only the caller knows how long the entry's memory lives")]
    fn push(&mut self, entry: &squeue::Entry) {
        loop {
            // SAFETY: the entry points into the request and the vectors of an occupied slot. Their heap memory
            // does not move when the slot does, and a slot is emptied only when its completion has arrived; a
            // ring that cannot wait for that leaks its slots (`Drop`). The descriptor is kept open by the
            // request's `Files`.
            let pushed = unsafe { self.uring.submission().push(entry) };
            if pushed.is_ok() {
                return;
            }
            // Full. Submission makes room; it may fail only for want of memory or completion space, and then
            // waiting for completions helps.
            if self.uring.submit().is_err() {
                std::thread::yield_now();
            }
        }
    }

    /// One turn of the driver: submit, collect. True if there is more to do at once.
    fn turn(&mut self, driver: &Waker) -> (Finished, bool) {
        if !self.driver.as_ref().is_some_and(|known| known.will_wake(driver)) {
            self.driver = Some(driver.clone());
        }
        self.kicked = true;
        let submitted = self.submit();
        let mut finished = Finished::new();
        let collected = self.collect(&mut finished);
        self.kicked = false;
        let unsubmitted = !self.uring.submission().is_empty();
        if unsubmitted && !submitted && !collected {
            // The kernel is short of memory: try again after others had their turn.
            driver.wake_by_ref();
            return (finished, false);
        }
        (finished, unsubmitted)
    }

    fn submit(&mut self) -> bool {
        self.uring.submission().is_empty() || self.uring.submit().is_ok()
    }

    fn collect(&mut self, finished: &mut Finished) -> bool {
        let mut any = false;
        while let Some(completion) = { self.uring.completion().next() } {
            any = true;
            let index = completion.user_data() as usize;
            let result = match completion.result() {
                negative if negative < 0 => Err(Errno::from_raw_os_error(-negative)),
                count => Ok(count.unsigned_abs() as usize),
            };
            if let Some(slot) = self.slots.get_mut(index).and_then(Option::take) {
                self.free.push(index);
                self.completed(slot.request, result, finished);
            }
        }
        any
    }

    fn completed(
        &mut self,
        mut request: Request,
        result: std::result::Result<usize, Errno>,
        finished: &mut Finished,
    ) {
        let key = request.files.key;
        match request.advance(result) {
            Progress::More => return self.start(request),
            Progress::Elsewhere => request.run_on_threads(),
            Progress::Ended(result) => finished.push((request, result)),
        }
        let Some(lane) = self.lanes.get_mut(&key) else { return };
        let next = lane.waiting.pop_front();
        lane.in_flight -= usize::from(next.is_none());
        match next {
            Some(request) => self.start(request),
            None if lane.in_flight == 0 => drop(self.lanes.remove(&key)),
            None => {}
        }
    }

    fn is_idle(&self) -> bool {
        self.free.len() == self.slots.len()
    }

    /// Waits until the kernel has answered everything. False if a device does not answer in time.
    fn finish_all(&mut self) -> bool {
        #[allow(clippy::disallowed_methods, reason = "this crate is above the ban")]
        let deadline = Instant::now() + CLOSE_TIMEOUT;
        while !self.is_idle() {
            let wait = types::Timespec::new().nsec(50_000_000);
            let arguments = types::SubmitArgs::new().timespec(&wait);
            let _ = self.uring.submitter().submit_with_args(1, &arguments);
            let mut finished = Finished::new();
            self.collect(&mut finished);
            for (request, result) in finished {
                request.finish(result);
            }
            #[allow(clippy::disallowed_methods, reason = "this crate is above the ban")]
            if Instant::now() > deadline {
                return false;
            }
        }
        true
    }
}

impl Drop for Ring {
    fn drop(&mut self) {
        // No driver any more: nothing is to be woken.
        self.kicked = true;
        if self.finish_all() {
            return;
        }
        tracing::error!(
            "a disk did not answer while its reactor closed; the memory of its requests is leaked"
        );
        // The kernel may still write into that memory.
        std::mem::forget(std::mem::take(&mut self.slots));
    }
}
