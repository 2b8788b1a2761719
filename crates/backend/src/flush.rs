//! The flushes of one disk: one at a time, through a file description of their own, and none after one failed.
//!
//! Linux tells of cached data that could not be written once per open file description (`errseq_t`: the kernel's
//! `vfs_fsync_range` returns the error and forgets it for that description). Whoever syncs first through a shared
//! one, a durable write or another flush, takes the news away from the next. So nothing but flushes uses this
//! description; they take turns, so that a failure is written down before the next one asks; and a failure holds
//! for as long as the disk is open, because the kernel calls the lost pages clean and later syncs succeed.

use crate::errors::request_error;
use crate::request::Reply;
use block::{BlockError, ErrorKind, Result};
use bytes::Bytes;
use parking_lot::Mutex;
use rustix::io::Errno;
use std::fs::File;
use std::sync::OnceLock;

/// A disk's flushes.
pub(crate) struct Flusher {
    /// Opened before the disk is written to, and for nothing but flushing.
    file: File,
    turns: Turns,
}

impl Flusher {
    pub(crate) fn new(disk: &str, file: File) -> Self {
        Self { file, turns: Turns::new(disk) }
    }

    /// # Errors
    /// `Device` once a flush has failed.
    pub(crate) fn check(&self) -> Result<()> {
        self.turns.check()
    }

    /// Has the next flush to start answer `reply`. True if the caller must see to it that there is one
    /// ([`Flusher::serve`]).
    pub(crate) fn wait(&self, reply: Reply) -> bool {
        self.turns.wait(reply)
    }

    /// Flushes for those who wait, if anybody still does. Blocks.
    pub(crate) fn serve(&self) {
        self.turns.serve(|| self.sync());
    }

    /// Flushes. Blocks.
    pub(crate) fn flush(&self) -> Result<()> {
        self.turns.flush(|| self.sync())
    }

    fn sync(&self) -> std::result::Result<(), Errno> {
        loop {
            match rustix::fs::fdatasync(&self.file) {
                Err(Errno::INTR) => {}
                Err(Errno::AGAIN) => std::thread::yield_now(),
                result => return result,
            }
        }
    }
}

/// Whose turn it is, and whether a flush has failed.
struct Turns {
    disk: String,
    /// Held from before a flush starts until its result is written down.
    turn: Mutex<()>,
    /// Served by the next flush to start, whoever makes it.
    waiting: Mutex<Vec<Reply>>,
    failed: OnceLock<BlockError>,
}

impl Turns {
    fn new(disk: &str) -> Self {
        Self {
            disk: disk.to_owned(),
            turn: Mutex::default(),
            waiting: Mutex::default(),
            failed: OnceLock::new(),
        }
    }

    fn check(&self) -> Result<()> {
        self.failed.get().map_or(Ok(()), |error| Err(error.clone()))
    }

    fn wait(&self, reply: Reply) -> bool {
        let mut waiting = self.waiting.lock();
        waiting.push(reply);
        waiting.len() == 1
    }

    fn serve(&self, sync: impl FnOnce() -> std::result::Result<(), Errno>) {
        let turn = self.turn.lock();
        let served = std::mem::take(&mut *self.waiting.lock());
        if served.is_empty() {
            return;
        }
        let result = self.sync_once(sync);
        drop(turn);
        answer(served, &result);
    }

    fn flush(&self, sync: impl FnOnce() -> std::result::Result<(), Errno>) -> Result<()> {
        let turn = self.turn.lock();
        let served = std::mem::take(&mut *self.waiting.lock());
        let result = self.sync_once(sync);
        drop(turn);
        answer(served, &result);
        result
    }

    /// Must be called in a turn.
    fn sync_once(&self, sync: impl FnOnce() -> std::result::Result<(), Errno>) -> Result<()> {
        self.check()?;
        let Err(errno) = sync() else { return Ok(()) };
        let error = failure(&self.disk, errno);
        tracing::error!(disk = %self.disk, %errno, "a flush failed: the disk takes no more durable writes");
        Err(self.failed.get_or_init(|| error).clone())
    }
}

/// A failed flush is `Device` whatever the kernel says: even after `ENOSPC` the data is gone, and freeing space does
/// not bring it back.
fn failure(disk: &str, errno: Errno) -> BlockError {
    let reason = request_error(disk, "a flush", 0, errno).message;
    let message = format!(
        "{reason}. Written data may be lost, so the disk takes no flushes and no durable writes until it is \
         reopened: remove the cause, then restart the server"
    );
    BlockError::new(ErrorKind::Device, disk, message)
}

/// Must be called with no lock held: wakers run arbitrary code.
fn answer(replies: Vec<Reply>, result: &Result<()>) {
    for reply in replies {
        // Whoever asked may have gone; that is no error.
        let _ = reply.send(result.clone().map(|()| Bytes::new()));
    }
}

/// Descriptions of the same file have positions of their own; copies of a descriptor share one.
#[cfg(test)]
pub(crate) fn shares_description(flusher: &Flusher, file: &File) -> bool {
    use std::io::{Seek, SeekFrom};
    let (mut ours, mut other) = (&flusher.file, file);
    ours.seek(SeekFrom::Start(1)).unwrap();
    other.seek(SeekFrom::Start(2)).unwrap();
    ours.stream_position().unwrap() == 2
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::sync::mpsc;
    use tokio::sync::oneshot;

    fn reopen_is_advised(result: Result<()>) {
        let error = result.unwrap_err();
        assert_eq!(error.kind, ErrorKind::Device);
        assert!(error.message.contains("restart the server"), "{error}");
    }

    /// The kernel reports an error once, and says Ok ever after ("fsyncgate"): we must not believe it.
    #[test]
    fn after_a_failure_no_flush_succeeds_and_none_is_tried() {
        let turns = Turns::new("disk");
        assert_eq!(turns.flush(|| Ok(())), Ok(()));
        assert_eq!(turns.check(), Ok(()));
        reopen_is_advised(turns.flush(|| Err(Errno::IO)));
        reopen_is_advised(turns.check());
        reopen_is_advised(turns.flush(|| unreachable!("the kernel's word is worth nothing now")));
        let (reply, mut reply_rx) = oneshot::channel();
        assert!(turns.wait(reply));
        turns.serve(|| unreachable!("as above"));
        reopen_is_advised(reply_rx.try_recv().unwrap().map(drop));
    }

    #[test]
    fn no_space_at_writeback_is_lost_data_too() {
        let turns = Turns::new("disk");
        reopen_is_advised(turns.flush(|| Err(Errno::NOSPC)));
        reopen_is_advised(turns.check());
    }

    /// Two flushes at once: the kernel gives EIO to one and Ok to the other.
    #[test]
    fn a_flush_asked_for_while_another_fails_fails_too() {
        let turns = Turns::new("disk");
        let (inside, is_inside) = mpsc::channel();
        let (fail, may_fail) = mpsc::channel::<()>();
        std::thread::scope(|scope| {
            let first = scope.spawn(|| {
                turns.flush(move || {
                    inside.send(()).unwrap();
                    may_fail.recv().unwrap();
                    Err(Errno::IO)
                })
            });
            is_inside.recv().unwrap();
            let (reply, mut reply_rx) = oneshot::channel();
            assert!(turns.wait(reply), "nobody else waits");
            let serving = scope.spawn(|| turns.serve(|| Ok(())));
            let blocking = scope.spawn(|| turns.flush(|| Ok(())));
            #[allow(clippy::disallowed_methods, reason = "lets the threads come to where they must wait")]
            std::thread::sleep(std::time::Duration::from_millis(20));
            assert!(reply_rx.try_recv().is_err(), "nothing ends before the one that has its turn");
            fail.send(()).unwrap();
            reopen_is_advised(first.join().unwrap());
            reopen_is_advised(blocking.join().unwrap());
            serving.join().unwrap();
            reopen_is_advised(reply_rx.try_recv().unwrap().map(drop));
        });
    }

    #[test]
    fn one_flush_serves_all_who_asked_before_it_started() {
        let turns = Turns::new("disk");
        let calls = AtomicUsize::new(0);
        let sync = || {
            calls.fetch_add(1, Ordering::Relaxed);
            Ok(())
        };
        let (replies, receivers): (Vec<_>, Vec<_>) = (0..5).map(|_| oneshot::channel()).unzip();
        let must_serve: Vec<_> = replies.into_iter().map(|reply| turns.wait(reply)).collect();
        assert_eq!(must_serve, [true, false, false, false, false]);
        turns.serve(sync);
        turns.serve(sync);
        assert_eq!(calls.load(Ordering::Relaxed), 1, "the second found nobody waiting");
        for mut receiver in receivers {
            assert_eq!(receiver.try_recv().unwrap(), Ok(Bytes::new()));
        }
        assert_eq!(turns.flush(sync), Ok(()));
        assert_eq!(calls.load(Ordering::Relaxed), 2);
    }
}
