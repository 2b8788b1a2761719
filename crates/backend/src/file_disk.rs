//! A file or block device as a [`Disk`].

use crate::request::{Files, Reply, Request, Work};
use crate::{ring, uring_support};
use block::{
    BlockError, BoxFuture, BufferPool, Disk, DiskInfo, ErrorKind, Media, Persist, Result, format_size,
};
use bytes::Bytes;
use std::fmt;
use std::io::{Seek, SeekFrom};
use std::os::unix::fs::FileExt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use tokio::sync::oneshot;

/// Who carries requests out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Engine {
    /// io_uring on reactor threads, threads elsewhere.
    Uring,
    /// Threads only.
    Threads,
    /// Nobody: the disk is memory.
    Memory,
}

/// How a disk's bytes travel, for status and logs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct IoMode {
    /// Who carries requests out.
    pub engine: Engine,
    /// True if they go past the page cache (`O_DIRECT`).
    pub direct: bool,
}

impl fmt::Display for IoMode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let cache = if self.direct { "direct I/O" } else { "page cache and fdatasync (no direct I/O here)" };
        match (self.engine, uring_support()) {
            (Engine::Memory, _) => write!(f, "memory, lost at exit"),
            (Engine::Uring, _) => write!(f, "io_uring, {cache}"),
            (Engine::Threads, Ok(())) => write!(f, "threads, {cache}"),
            (Engine::Threads, Err(reason)) => write!(f, "threads ({reason}), {cache}"),
        }
    }
}

/// A file or block device.
pub(crate) struct FileDisk {
    files: Arc<Files>,
    engine: Engine,
    buffers: BufferPool,
    /// Size in bytes: what `info` says at first, more once the disk has grown.
    size_bytes: AtomicU64,
}

impl FileDisk {
    pub(crate) fn new(files: Files, engine: Engine, buffers: BufferPool) -> Self {
        let size_bytes = AtomicU64::new(files.info.size_bytes);
        Self { files: Arc::new(files), engine, buffers, size_bytes }
    }

    fn size_bytes(&self) -> u64 {
        self.size_bytes.load(Ordering::Acquire)
    }

    /// Makes a file as large as asked for, or looks how large the device, or file, has become. Requests up to there
    /// are taken from then on. Blocks.
    pub(crate) fn grow(&self, wanted_bytes: Option<u64>) -> Result<u64> {
        let info = &self.files.info;
        let failed = |error: std::io::Error| self.blocking_error("growing", 0, &error);
        let mut file = &self.files.buffered;
        let is = file.seek(SeekFrom::End(0)).map_err(failed)?;
        let size = match wanted_bytes {
            Some(wanted) if wanted < self.size_bytes() || (wanted != is && info.media != Media::File) => {
                let message = format!(
                    "it has {}, not {}; a disk only grows, and a device is grown outside, then named without a size",
                    format_size(is),
                    format_size(wanted)
                );
                return Err(BlockError::new(ErrorKind::Invalid, &info.name, message));
            }
            Some(wanted) if wanted > is => {
                self.files
                    .buffered
                    .set_len(wanted)
                    .and_then(|()| self.files.buffered.sync_all())
                    .map_err(failed)?;
                wanted
            }
            _ => is,
        };
        let size = size - size % 4096;
        if size < self.size_bytes() {
            let message = format!("it has shrunk to {}; give its space back", format_size(size));
            return Err(BlockError::new(ErrorKind::Device, &info.name, message));
        }
        self.size_bytes.store(size, Ordering::Release);
        Ok(size)
    }

    pub(crate) fn mode(&self) -> IoMode {
        IoMode { engine: self.engine, direct: self.files.direct.is_some() }
    }

    fn check(&self, offset: u64, len: u64) -> Result<()> {
        let info = &self.files.info;
        let unit = u64::from(info.alignment_bytes);
        let inside = offset.checked_add(len).is_some_and(|end| end <= self.size_bytes());
        if inside && offset.is_multiple_of(unit) && len.is_multiple_of(unit) {
            return Ok(());
        }
        let message = format!("a request for {len} bytes is not aligned or not inside the disk");
        Err(BlockError::new(ErrorKind::Invalid, &info.name, message).at(offset))
    }

    /// Hands the request over at once, so that it is carried out whatever becomes of the future.
    fn start(&self, work: Work, offset: u64) -> BoxFuture<'_, Result<Bytes>> {
        let (reply, answer): (Reply, _) = oneshot::channel();
        let to_threads = self.engine != Engine::Uring || matches!(work, Work::Discard { .. });
        let request = Request::new(Arc::clone(&self.files), work, offset, reply);
        let refused = if to_threads { Err(request) } else { ring::submit(request) };
        if let Err(request) = refused {
            request.run_on_threads();
        }
        Box::pin(async move { answer.await.unwrap_or_else(|_| Err(self.closed())) })
    }

    /// Nothing is called durable after a flush failed: what the write relies on may be lost.
    fn check_flushes(&self, persist: Persist) -> Result<()> {
        match persist {
            Persist::Durable => self.files.flusher.check(),
            Persist::Cached => Ok(()),
        }
    }

    fn start_checked(
        &self,
        checked: Result<()>,
        work: impl FnOnce() -> Work,
        offset: u64,
    ) -> BoxFuture<'_, Result<Bytes>> {
        match checked {
            Ok(()) => self.start(work(), offset),
            Err(error) => Box::pin(std::future::ready(Err(error))),
        }
    }

    fn closed(&self) -> BlockError {
        BlockError::new(ErrorKind::Closed, &self.files.info.name, "the request was given up while closing")
    }

    /// The chunks as direct I/O takes them: as they are, or copied into one aligned buffer.
    fn suitable(&self, mut data: Vec<Bytes>, persist: Persist) -> Vec<Bytes> {
        data.retain(|chunk| !chunk.is_empty());
        let unit = self.files.info.alignment_bytes as usize;
        let fits =
            |chunk: &Bytes| chunk.len().is_multiple_of(unit) && chunk.as_ptr().addr().is_multiple_of(unit);
        if persist == Persist::Cached || self.files.direct.is_none() || data.iter().all(fits) {
            return data;
        }
        let mut whole = self.buffers.take(total_len(&data));
        let mut filled = 0;
        for chunk in &data {
            whole[filled..filled + chunk.len()].copy_from_slice(chunk);
            filled += chunk.len();
        }
        vec![whole.freeze()]
    }

    fn blocking_error(&self, action: &str, offset: u64, error: &std::io::Error) -> BlockError {
        crate::errors::request_error(&self.files.info.name, action, offset, crate::errors::errno(error))
    }

    /// As [`FileDisk::check`], without alignment: the blocking calls go through the page cache.
    fn check_inside(&self, offset: u64, len: usize) -> Result<()> {
        let end = offset.checked_add(len as u64);
        if end.is_some_and(|end| end <= self.size_bytes()) {
            return Ok(());
        }
        let message = format!("a request for {len} bytes is not inside the disk");
        Err(BlockError::new(ErrorKind::Invalid, &self.files.info.name, message).at(offset))
    }
}

fn total_len(data: &[Bytes]) -> usize {
    data.iter().map(Bytes::len).sum()
}

impl Disk for FileDisk {
    fn info(&self) -> &DiskInfo {
        &self.files.info
    }

    fn read(&self, offset: u64, len: usize) -> BoxFuture<'_, Result<Bytes>> {
        self.start_checked(self.check(offset, len as u64), || Work::Read(self.buffers.take(len)), offset)
    }

    fn write(&self, offset: u64, data: Vec<Bytes>, persist: Persist) -> BoxFuture<'_, Result<()>> {
        let checked = self.check(offset, total_len(&data) as u64).and_then(|()| self.check_flushes(persist));
        let work = || Work::Write { chunks: self.suitable(data, persist), persist };
        let written = self.start_checked(checked, work, offset);
        Box::pin(async move {
            written.await?;
            self.check_flushes(persist)
        })
    }

    fn flush(&self) -> BoxFuture<'_, Result<()>> {
        let (reply, answer): (Reply, _) = oneshot::channel();
        self.files.start_flush(reply);
        Box::pin(async move { answer.await.unwrap_or_else(|_| Err(self.closed())).map(drop) })
    }

    fn discard(&self, offset: u64, len: u64) -> BoxFuture<'_, Result<()>> {
        let discarded = self.start_checked(self.check(offset, len), || Work::Discard { len }, offset);
        Box::pin(async move { discarded.await.map(drop) })
    }

    fn read_blocking(&self, offset: u64, buf: &mut [u8]) -> Result<()> {
        self.check_inside(offset, buf.len())?;
        let read = self.files.buffered.read_exact_at(buf, offset);
        read.map_err(|error| self.blocking_error("a read", offset, &error))
    }

    fn write_blocking(&self, offset: u64, data: &[u8]) -> Result<()> {
        self.check_inside(offset, data.len())?;
        let written = self.files.buffered.write_all_at(data, offset);
        written.map_err(|error| self.blocking_error("a write", offset, &error))
    }

    fn flush_blocking(&self) -> Result<()> {
        self.files.flusher.flush()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::flush::{Flusher, shares_description};
    use crate::open::open_for_tests;
    use crate::{OpenOptions, attach_ring};
    use std::fs::File;

    fn files(dir: &tempfile::TempDir, options: &OpenOptions) -> Files {
        let path = dir.path().join("disk");
        File::create_new(&path).unwrap().set_len(1 << 20).unwrap();
        open_for_tests(&path, options).unwrap()
    }

    fn scratch() -> tempfile::TempDir {
        tempfile::tempdir().unwrap()
    }

    /// The kernel reports lost data once per description: durable writes and reads must not take it from flushes.
    #[test]
    fn flushes_have_a_description_of_their_own() {
        for direct in [true, false] {
            let dir = scratch();
            let files = files(&dir, &OpenOptions { direct, ..OpenOptions::default() });
            assert!(!shares_description(&files.flusher, files.main()));
            assert!(!shares_description(&files.flusher, &files.buffered));
            let copy = files.buffered.try_clone().unwrap();
            assert!(shares_description(&Flusher::new("copy", copy), &files.buffered), "the check can fail");
        }
    }

    /// Here fdatasync fails as itself: null devices have none (`EINVAL`).
    #[test]
    fn a_failed_flush_ends_durable_writes_but_not_reads() {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        for (engine, blocking_first) in [Engine::Uring, Engine::Threads].into_iter().zip([false, true]) {
            let dir = scratch();
            let mut files = files(&dir, &OpenOptions::default());
            files.flusher = Flusher::new("disk", File::open("/dev/null").unwrap());
            let buffers = BufferPool::default();
            let page = buffers.copy_of(&[7; 4096]).freeze();
            let disk = FileDisk::new(files, engine, buffers);
            runtime.block_on(async {
                attach_ring().await;
                let write = |persist| disk.write(0, vec![page.clone()], persist);
                assert_eq!(write(Persist::Durable).await, Ok(()), "no flush has failed yet");
                if blocking_first {
                    assert_eq!(disk.flush_blocking().unwrap_err().kind, ErrorKind::Device);
                }
                let errors = [disk.flush().await, disk.flush_blocking(), write(Persist::Durable).await];
                for error in errors.map(Result::unwrap_err) {
                    assert_eq!(error.kind, ErrorKind::Device);
                    assert!(error.message.contains("restart the server"), "{error}");
                }
                assert_eq!(write(Persist::Cached).await, Ok(()), "promises nothing");
                assert_eq!(disk.read(0, 4096).await.unwrap(), page);
            });
        }
    }

    /// A bad sector says nothing of what was written elsewhere.
    #[test]
    fn a_failed_read_or_write_does_not_end_flushes() {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let dir = scratch();
        let mut files = files(&dir, &OpenOptions { direct: false, ..OpenOptions::default() });
        // Descriptors on which reads and writes fail: one is for neither.
        let flags = rustix::fs::OFlags::PATH;
        let path = rustix::fs::open(dir.path().join("disk"), flags, rustix::fs::Mode::empty()).unwrap();
        files.direct = Some(path.into());
        let buffers = BufferPool::default();
        let page = buffers.copy_of(&[7; 4096]).freeze();
        let disk = FileDisk::new(files, Engine::Threads, buffers);
        runtime.block_on(async {
            assert_eq!(disk.read(0, 4096).await.unwrap_err().kind, ErrorKind::Device);
            let written = disk.write(0, vec![page], Persist::Durable).await;
            assert!(!written.unwrap_err().message.contains("restart the server"));
            assert_eq!(disk.flush().await, Ok(()));
            assert_eq!(disk.flush_blocking(), Ok(()));
        });
    }
}
