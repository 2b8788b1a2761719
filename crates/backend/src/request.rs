//! One request to a file or device, as the ring and the threads both carry it out.

use crate::errors::request_error;
use crate::flush::Flusher;
use crate::sys;
use crate::threads::Threads;
use block::{BlockError, DiskInfo, ErrorKind, Media, PageBuf, Persist, Result};
use bytes::Bytes;
use rustix::fs::FallocateFlags;
use rustix::io::{Errno, ReadWriteFlags};
use std::fs::File;
use std::io::IoSlice;
use std::sync::Arc;
use tokio::sync::oneshot;

/// Most chunks given to the kernel in one write (`IOV_MAX`).
pub(crate) const VECTORS_MAX: usize = 1024;

/// An open disk's descriptors.
pub(crate) struct Files {
    pub(crate) info: DiskInfo,
    /// Distinguishes disks within this process.
    pub(crate) key: u64,
    /// Past the page cache, where the file system allows it.
    pub(crate) direct: Option<File>,
    /// Through the page cache, which the kernel keeps coherent with direct requests.
    pub(crate) buffered: File,
    /// For requests that no ring takes.
    pub(crate) threads: Threads,
    /// A third description, for flushes alone.
    pub(crate) flusher: Flusher,
    /// For flushes, which so never queue behind discards. Few are ever busy: one flushes, the next waits for it.
    pub(crate) flush_threads: Threads,
}

impl Files {
    /// Has `reply` told when all that was written before this call is durable.
    pub(crate) fn start_flush(self: &Arc<Self>, reply: Reply) {
        if self.flusher.wait(reply) {
            self.flush_threads.submit(Request::flush(Arc::clone(self)));
        }
    }

    /// The descriptor for reads and durable writes.
    pub(crate) fn main(&self) -> &File {
        self.direct.as_ref().unwrap_or(&self.buffered)
    }

    fn for_write(&self, persist: Persist) -> &File {
        match persist {
            Persist::Cached => &self.buffered,
            Persist::Durable => self.main(),
        }
    }
}

/// Whom to tell. A request's reader may have gone; that is no error.
pub(crate) type Reply = oneshot::Sender<Result<Bytes>>;

/// What is to be done.
pub(crate) enum Work {
    Read(PageBuf),
    Write {
        chunks: Vec<Bytes>,
        persist: Persist,
    },
    Discard {
        len: u64,
    },
    /// For those who wait at the [`Flusher`].
    Flush,
}

/// What comes after one system call of a request.
pub(crate) enum Progress {
    /// Call again, for what is left.
    More,
    /// This way does not work now; threads may do it.
    Elsewhere,
    /// The request has ended.
    Ended(Result<()>),
}

/// One request, with the memory it reads into or writes from: that stays alive as long as the request does.
pub(crate) struct Request {
    pub(crate) files: Arc<Files>,
    pub(crate) work: Work,
    /// None for a flush: its callers wait at the [`Flusher`].
    reply: Option<Reply>,
    offset: u64,
    done: usize,
}

impl Request {
    pub(crate) fn new(files: Arc<Files>, work: Work, offset: u64, reply: Reply) -> Self {
        Self { files, work, reply: Some(reply), offset, done: 0 }
    }

    fn flush(files: Arc<Files>) -> Self {
        Self { files, work: Work::Flush, reply: None, offset: 0, done: 0 }
    }

    /// Where the next system call starts, in bytes on the disk.
    pub(crate) fn position(&self) -> u64 {
        self.offset + self.done as u64
    }

    /// The memory that the next read fills.
    pub(crate) fn read_target(&mut self) -> &mut [u8] {
        match &mut self.work {
            Work::Read(buffer) => &mut buffer[self.done..],
            _ => &mut [],
        }
    }

    /// The first chunks still to be written, at most [`VECTORS_MAX`].
    pub(crate) fn write_sources(&self) -> impl Iterator<Item = &[u8]> {
        let chunks = match &self.work {
            Work::Write { chunks, .. } => chunks.as_slice(),
            _ => &[],
        };
        let mut skip = self.done;
        let rest = chunks.iter().filter_map(move |chunk| {
            let start = skip.min(chunk.len());
            skip -= start;
            (start < chunk.len()).then(|| &chunk[start..])
        });
        rest.take(VECTORS_MAX)
    }

    /// The descriptor this request goes to.
    pub(crate) fn file(&self) -> &File {
        match &self.work {
            Work::Write { persist, .. } => self.files.for_write(*persist),
            _ => self.files.main(),
        }
    }

    fn len(&self) -> usize {
        match &self.work {
            Work::Read(buffer) => buffer.len(),
            Work::Write { chunks, .. } => chunks.iter().map(Bytes::len).sum(),
            Work::Flush | Work::Discard { .. } => 0,
        }
    }

    fn action(&self) -> &'static str {
        match &self.work {
            Work::Read(_) => "a read",
            Work::Write { .. } => "a write",
            Work::Flush => "a flush",
            Work::Discard { .. } => "a discard",
        }
    }

    /// Takes note of a system call's result: bytes done, or why not.
    pub(crate) fn advance(&mut self, result: std::result::Result<usize, Errno>) -> Progress {
        match result {
            Err(Errno::INTR) => Progress::More,
            Err(Errno::AGAIN) => Progress::Elsewhere,
            Err(errno) => {
                let name = &self.files.info.name;
                Progress::Ended(Err(request_error(name, self.action(), self.position(), errno)))
            }
            Ok(count) => {
                self.done += count;
                match self.len() {
                    len if self.done >= len => Progress::Ended(Ok(())),
                    _ if count == 0 => Progress::Ended(Err(self.cut_short())),
                    _ => Progress::More,
                }
            }
        }
    }

    fn cut_short(&self) -> BlockError {
        let message = format!("{} reached the end early: the file or device shrank", self.action());
        BlockError::new(ErrorKind::Device, &self.files.info.name, message).at(self.position())
    }

    /// Tells whoever waits. Must be called with no lock or borrow held: wakers run arbitrary code.
    pub(crate) fn finish(mut self, result: Result<()>) {
        let Some(reply) = self.reply.take() else { return };
        let _ = match (result, self.work) {
            (Ok(()), Work::Read(buffer)) => reply.send(Ok(buffer.freeze())),
            (result, _) => reply.send(result.map(|()| Bytes::new())),
        };
    }

    /// Has the disk's threads carry the request out.
    pub(crate) fn run_on_threads(self) {
        let files = Arc::clone(&self.files);
        files.threads.submit(self);
    }

    /// Carries the request out on this thread, which it may block.
    pub(crate) fn run(mut self) {
        if matches!(self.work, Work::Flush) {
            return self.files.flusher.serve();
        }
        loop {
            let result = self.call();
            match self.advance(result) {
                Progress::More => {}
                Progress::Elsewhere => std::thread::yield_now(),
                Progress::Ended(result) => return self.finish(result),
            }
        }
    }

    fn call(&mut self) -> std::result::Result<usize, Errno> {
        let position = self.position();
        match &mut self.work {
            Work::Read(buffer) => rustix::io::pread(self.files.main(), &mut buffer[self.done..], position),
            Work::Write { persist, .. } => {
                let flags = match persist {
                    Persist::Cached => ReadWriteFlags::empty(),
                    Persist::Durable => ReadWriteFlags::DSYNC,
                };
                let sources: Vec<_> = self.write_sources().map(IoSlice::new).collect();
                rustix::io::pwritev2(self.file(), &sources, position, flags)
            }
            Work::Discard { len } => discard(&self.files, position, *len).map(|()| 0),
            Work::Flush => Ok(0),
        }
    }
}

fn discard(files: &Files, offset: u64, len: u64) -> std::result::Result<(), Errno> {
    if len == 0 {
        return Ok(());
    }
    let result = match files.info.media {
        Media::Device => sys::discard_device(files.main(), offset, len),
        _ => {
            let flags = FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE;
            rustix::fs::fallocate(files.main(), flags, offset, len)
        }
    };
    match result {
        // A hint: what cannot discard keeps the data, which the contract allows.
        Err(Errno::OPNOTSUPP | Errno::NOTTY | Errno::NOSYS) => Ok(()),
        other => other,
    }
}
