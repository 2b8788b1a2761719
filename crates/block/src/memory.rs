//! A disk in memory: for tests, benchmarks and pools that may be lost.

use crate::{
    BlockError, BoxFuture, BufferPool, Disk, DiskInfo, ErrorKind, Media, PAGE_SIZE, PageBuf, Persist, Result,
};
use bytes::Bytes;
use parking_lot::RwLock;
use std::future::ready;

/// Memory is allocated in chunks of this size when first written.
const CHUNK: usize = 1 << 20;

/// A disk whose content is lost when the process ends.
pub struct MemoryDisk {
    info: DiskInfo,
    chunks: Vec<RwLock<Option<PageBuf>>>,
    buffers: BufferPool,
    chunk_source: BufferPool,
}

impl MemoryDisk {
    /// A disk of `size_bytes`, rounded down to whole pages, that reads as zeros.
    #[must_use]
    pub fn new(name: impl Into<String>, size_bytes: u64, buffers: BufferPool) -> Self {
        let size_bytes = size_bytes - size_bytes % 4096;
        let chunks = usize::try_from(size_bytes.div_ceil(1 << 20)).unwrap_or(usize::MAX);
        Self {
            info: DiskInfo {
                name: name.into(),
                size_bytes,
                alignment_bytes: 512,
                media: Media::Memory,
                rotational: false,
            },
            chunks: (0..chunks).map(|_| RwLock::new(None)).collect(),
            buffers,
            chunk_source: BufferPool::new(0),
        }
    }

    fn check(&self, offset: u64, len: u64) -> Result<()> {
        let end = offset.checked_add(len);
        if !offset.is_multiple_of(512)
            || !len.is_multiple_of(512)
            || end.is_none_or(|end| end > self.info.size_bytes)
        {
            let message = format!("a request for {len} bytes is not aligned or not inside the disk");
            return Err(BlockError::new(ErrorKind::Invalid, &self.info.name, message).at(offset));
        }
        Ok(())
    }

    /// Calls `each` with (chunk, first byte in the chunk, first byte in the request, length) for each part.
    fn for_parts(
        &self,
        offset: u64,
        len: usize,
        mut each: impl FnMut(&RwLock<Option<PageBuf>>, usize, usize, usize),
    ) {
        let mut position = usize::try_from(offset).unwrap_or(usize::MAX);
        let mut done = 0;
        while done < len {
            let within = position % CHUNK;
            let part = (CHUNK - within).min(len - done);
            each(&self.chunks[position / CHUNK], within, done, part);
            position += part;
            done += part;
        }
    }

    fn copy_out(&self, offset: u64, buf: &mut [u8]) {
        self.for_parts(offset, buf.len(), |chunk, within, done, part| {
            let target = &mut buf[done..done + part];
            match chunk.read().as_ref() {
                Some(memory) => target.copy_from_slice(&memory[within..within + part]),
                None => target.fill(0),
            }
        });
    }

    fn copy_in(&self, offset: u64, data: &[u8]) {
        self.for_parts(offset, data.len(), |chunk, within, done, part| {
            let mut chunk = chunk.write();
            let memory = chunk.get_or_insert_with(|| self.chunk_source.take(CHUNK));
            memory[within..within + part].copy_from_slice(&data[done..done + part]);
        });
    }

    fn write_now(&self, offset: u64, data: &[Bytes]) -> Result<()> {
        let len: usize = data.iter().map(Bytes::len).sum();
        self.check(offset, u64::try_from(len).unwrap_or(u64::MAX))?;
        let mut position = offset;
        for chunk in data {
            self.copy_in(position, chunk);
            position += u64::try_from(chunk.len()).unwrap_or(u64::MAX);
        }
        Ok(())
    }

    fn read_now(&self, offset: u64, len: usize) -> Result<Bytes> {
        self.check(offset, u64::try_from(len).unwrap_or(u64::MAX))?;
        let mut buffer = self.buffers.take(len);
        self.copy_out(offset, &mut buffer);
        Ok(buffer.freeze())
    }
}

impl Disk for MemoryDisk {
    fn info(&self) -> &DiskInfo {
        &self.info
    }

    fn read(&self, offset: u64, len: usize) -> BoxFuture<'_, Result<Bytes>> {
        Box::pin(ready(self.read_now(offset, len)))
    }

    fn write(&self, offset: u64, data: Vec<Bytes>, _persist: Persist) -> BoxFuture<'_, Result<()>> {
        Box::pin(ready(self.write_now(offset, &data)))
    }

    fn flush(&self) -> BoxFuture<'_, Result<()>> {
        Box::pin(ready(Ok(())))
    }

    fn discard(&self, offset: u64, len: u64) -> BoxFuture<'_, Result<()>> {
        let result = self.check(offset, len).map(|()| {
            self.for_parts(offset, usize::try_from(len).unwrap_or(usize::MAX), |chunk, _, _, part| {
                if part == CHUNK {
                    *chunk.write() = None;
                }
            });
        });
        Box::pin(ready(result))
    }

    fn read_blocking(&self, offset: u64, buf: &mut [u8]) -> Result<()> {
        self.check(offset, u64::try_from(buf.len()).unwrap_or(u64::MAX))?;
        self.copy_out(offset, buf);
        Ok(())
    }

    fn write_blocking(&self, offset: u64, data: &[u8]) -> Result<()> {
        self.check(offset, u64::try_from(data.len()).unwrap_or(u64::MAX))?;
        self.copy_in(offset, data);
        Ok(())
    }

    fn flush_blocking(&self) -> Result<()> {
        Ok(())
    }
}

const _: () = assert!(CHUNK.is_multiple_of(PAGE_SIZE));

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_return_what_was_written_across_chunks_and_zeros_elsewhere() {
        let disk = MemoryDisk::new("ram", 4 << 20, BufferPool::default());
        let data: Vec<u8> = (0..8192u32).map(|i| i.to_le_bytes()[0]).collect();
        disk.write_blocking((1 << 20) - 4096, &data).unwrap();
        let mut back = vec![1; 8192 + 512];
        disk.read_blocking((1 << 20) - 4096, &mut back).unwrap();
        assert_eq!(&back[..8192], &data[..]);
        assert_eq!(&back[8192..], &[0; 512]);
    }

    #[test]
    fn whole_chunks_are_given_back_when_discarded() {
        let disk = MemoryDisk::new("ram", 4 << 20, BufferPool::default());
        disk.write_blocking(0, &vec![1; 3 << 20]).unwrap();
        let held = || disk.chunks.iter().filter(|chunk| chunk.read().is_some()).count();
        assert_eq!(held(), 3);
        drop(disk.discard(4096, (2 << 20) - 4096));
        assert_eq!(held(), 2, "the first chunk is not covered whole");
    }

    #[test]
    fn sizes_are_whole_pages() {
        for (asked, has) in [(4095, 0), (4096, 4096), ((1 << 20) + 5000, (1 << 20) + 4096)] {
            let disk = MemoryDisk::new("ram", asked, BufferPool::default());
            assert_eq!(disk.info().size_bytes, has);
            assert_eq!(
                disk.read_now(0, usize::try_from(has).unwrap()).unwrap().len(),
                usize::try_from(has).unwrap()
            );
        }
    }

    #[test]
    fn requests_past_the_end_or_unaligned_are_refused() {
        let disk = MemoryDisk::new("ram", 1 << 20, BufferPool::default());
        for (offset, len) in [(1 << 20, 512), (u64::MAX - 511, 512), (1, 512), (0, 100)] {
            let error = disk.read_now(offset, len).unwrap_err();
            assert_eq!(error.kind, ErrorKind::Invalid, "{offset} {len}");
        }
    }

    #[test]
    fn a_write_after_a_discard_does_not_bring_back_what_was_there() {
        let disk = MemoryDisk::new("ram", 2 << 20, BufferPool::default());
        disk.write_blocking(0, &vec![1; 2 << 20]).unwrap();
        drop(disk.discard(0, 1 << 20));
        disk.write_blocking(4096, &[2; 512]).unwrap();
        assert_eq!(disk.read_now(0, 4096).unwrap(), [0; 4096][..]);
        assert_eq!(disk.read_now(4096, 512).unwrap(), [2; 512][..]);
        assert_eq!(disk.read_now(4608, 512).unwrap(), [0; 512][..]);
        assert_eq!(disk.read_now(1 << 20, 512).unwrap(), [1; 512][..], "not discarded");
    }

    #[test]
    fn a_write_that_is_refused_changes_nothing() {
        let disk = MemoryDisk::new("ram", 1 << 20, BufferPool::default());
        let parts = [Bytes::from(vec![1; 512]), Bytes::from(vec![1; 512])];
        let error = disk.write_now((1 << 20) - 512, &parts).unwrap_err();
        assert_eq!((error.kind, error.offset), (ErrorKind::Invalid, Some((1 << 20) - 512)));
        assert_eq!(disk.read_now((1 << 20) - 512, 512).unwrap(), [0; 512][..]);
    }
}
