//! Looking into a catalog without writing to any disk: whether a pool can be opened without the disks that are missing.

use super::medium::Medium;
use parking_lot::Mutex;
use std::collections::BTreeMap;
use std::io;
use std::sync::Arc;

/// Bytes of a piece of what is kept in memory.
const PAGE: usize = 4096;

/// What was written, by page.
type Pages = BTreeMap<u64, Box<[u8; PAGE]>>;

/// A catalog whose database writes to memory only.
#[derive(Debug)]
pub(super) struct Peek {
    medium: Arc<Medium>,
    written: Mutex<(Pages, u64)>,
}

impl Peek {
    pub(super) fn new(medium: Arc<Medium>) -> io::Result<Self> {
        let len = redb::StorageBackend::len(&*medium)?;
        Ok(Self { medium, written: Mutex::new((BTreeMap::new(), len)) })
    }

    /// The page at `number` as it is to be read.
    fn page(&self, pages: &Pages, number: u64) -> io::Result<Box<[u8; PAGE]>> {
        if let Some(page) = pages.get(&number) {
            return Ok(page.clone());
        }
        let mut page = Box::new([0; PAGE]);
        let start = number * PAGE_BYTES;
        let there = redb::StorageBackend::len(&*self.medium)?.saturating_sub(start).min(PAGE_BYTES);
        let there = usize::try_from(there).unwrap_or(PAGE);
        if let Some(part) = page.get_mut(..there).filter(|part| !part.is_empty()) {
            redb::StorageBackend::read(&*self.medium, start, part)?;
        }
        Ok(page)
    }
}

const PAGE_BYTES: u64 = 4096;

/// The parts of a range of `len` bytes from `offset` on: page, first byte in it, position in the range, length.
fn parts(offset: u64, len: usize) -> impl Iterator<Item = (u64, usize, usize, usize)> {
    let mut at = 0;
    std::iter::from_fn(move || {
        let here = offset + u64::try_from(at).ok()?;
        let within = usize::try_from(here % PAGE_BYTES).ok()?;
        let part = (PAGE - within).min(len - at);
        let item = (here / PAGE_BYTES, within, at, part);
        at += part;
        (part > 0).then_some(item)
    })
}

impl redb::StorageBackend for Peek {
    fn len(&self) -> io::Result<u64> {
        Ok(self.written.lock().1)
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        let written = self.written.lock();
        for (number, within, at, len) in parts(offset, out.len()) {
            let page = self.page(&written.0, number)?;
            out[at..at + len].copy_from_slice(&page[within..within + len]);
        }
        Ok(())
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.written.lock().1 = len;
        Ok(())
    }

    fn sync_data(&self) -> io::Result<()> {
        Ok(())
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        let mut written = self.written.lock();
        for (number, within, at, len) in parts(offset, data.len()) {
            let mut page = self.page(&written.0, number)?;
            page[within..within + len].copy_from_slice(&data[at..at + len]);
            written.0.insert(number, page);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_are_cut_at_pages() {
        assert_eq!(parts(4000, 300).collect::<Vec<_>>(), [(0, 4000, 0, 96), (1, 0, 96, 204)]);
        assert_eq!(parts(8192, 4096).collect::<Vec<_>>(), [(2, 0, 0, 4096)]);
        assert_eq!(parts(5, 0).count(), 0);
    }
}
