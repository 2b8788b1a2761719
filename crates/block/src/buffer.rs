//! Page-aligned memory that is used again and again.
//!
//! Payloads go from the socket to the disk and back without a copy only if their memory suits direct I/O. Fresh
//! memory of that size costs page faults and clearing, often more than the I/O's other work; so buffers return
//! to a pool when the last reference to them goes.

use bytes::Bytes;
use parking_lot::Mutex;
use std::ops::{Deref, DerefMut};
use std::sync::{Arc, Weak};
use zerocopy::{FromBytes, FromZeros, Immutable, IntoBytes, KnownLayout};

/// Alignment of every buffer, in bytes.
pub const PAGE_SIZE: usize = 4096;

/// Size classes: 1, 2, 4 ... 4096 pages (16 MiB). Larger buffers are not kept.
const CLASSES: usize = 13;

#[derive(FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C, align(4096))]
struct Page([u8; PAGE_SIZE]);

/// Page-aligned memory of a given length. Freshly taken, it holds old content of this process.
pub struct PageBuf {
    pages: Vec<Page>,
    len: usize,
    home: Weak<Shelves>,
}

impl PageBuf {
    /// The same memory as shared, immutable bytes. It goes back to its pool with the last of them.
    #[must_use]
    pub fn freeze(self) -> Bytes {
        Bytes::from_owner(self)
    }
}

impl Deref for PageBuf {
    type Target = [u8];
    fn deref(&self) -> &[u8] {
        &self.pages.as_bytes()[..self.len]
    }
}

impl DerefMut for PageBuf {
    fn deref_mut(&mut self) -> &mut [u8] {
        &mut self.pages.as_mut_bytes()[..self.len]
    }
}

impl AsRef<[u8]> for PageBuf {
    fn as_ref(&self) -> &[u8] {
        self
    }
}

impl AsMut<[u8]> for PageBuf {
    fn as_mut(&mut self) -> &mut [u8] {
        self
    }
}

impl Drop for PageBuf {
    fn drop(&mut self) {
        if let Some(home) = self.home.upgrade() {
            home.put_back(std::mem::take(&mut self.pages));
        }
    }
}

struct Shelves {
    classes: [Mutex<Vec<Vec<Page>>>; CLASSES],
    class_bytes_max: usize,
}

/// The class whose buffers hold `pages`, or none if that is more than the largest.
fn class_of(pages: usize) -> Option<usize> {
    let class = usize::try_from(pages.max(1).next_power_of_two().trailing_zeros()).ok()?;
    (class < CLASSES).then_some(class)
}

impl Shelves {
    fn put_back(&self, pages: Vec<Page>) {
        let Some(class) = class_of(pages.len()) else { return };
        let keep_max = (self.class_bytes_max / PAGE_SIZE) >> class;
        let mut shelf = self.classes[class].lock();
        if shelf.len() < keep_max {
            shelf.push(pages);
        }
    }
}

/// Where buffers come from and return to. Clones share one stock.
#[derive(Clone)]
pub struct BufferPool {
    shelves: Arc<Shelves>,
}

impl BufferPool {
    /// A pool that keeps at most `class_bytes_max` bytes of unused buffers of each power-of-two size.
    #[must_use]
    pub fn new(class_bytes_max: usize) -> Self {
        let classes = std::array::from_fn(|_| Mutex::new(Vec::new()));
        Self { shelves: Arc::new(Shelves { classes, class_bytes_max }) }
    }

    /// A buffer of `len` bytes with unspecified content.
    ///
    /// # Panics
    /// If the machine has no memory left for it: callers bound what outsiders can ask for.
    #[must_use]
    pub fn take(&self, len: usize) -> PageBuf {
        let pages_needed = len.div_ceil(PAGE_SIZE).max(1);
        let class = class_of(pages_needed);
        let kept = class.and_then(|class| self.shelves.classes[class].lock().pop());
        let pages = kept.unwrap_or_else(|| {
            let count = if class.is_some() { pages_needed.next_power_of_two() } else { pages_needed };
            Page::new_vec_zeroed(count).expect("memory for a buffer")
        });
        PageBuf { pages, len, home: Arc::downgrade(&self.shelves) }
    }

    /// A buffer that holds a copy of `data`.
    #[must_use]
    pub fn copy_of(&self, data: &[u8]) -> PageBuf {
        let mut buffer = self.take(data.len());
        buffer.copy_from_slice(data);
        buffer
    }
}

impl Default for BufferPool {
    /// Keeps up to 32 MiB of each size.
    fn default() -> Self {
        Self::new(32 << 20)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn buffers_are_page_aligned_and_of_the_length_asked_for() {
        let pool = BufferPool::default();
        for len in [0, 1, 512, 4096, 4097, 262_144, (16 << 20) + 1] {
            let buffer = pool.take(len);
            assert_eq!(buffer.len(), len);
            assert_eq!(buffer.as_ptr().addr() % PAGE_SIZE, 0);
        }
    }

    #[test]
    fn the_last_reference_brings_a_buffer_back() {
        let pool = BufferPool::default();
        let bytes = pool.copy_of(&[7; 8192]).freeze();
        let address = bytes.as_ptr();
        let part = bytes.slice(4096..);
        drop(bytes);
        assert_ne!(pool.take(8192).as_ptr(), address, "still in use");
        drop(part);
        let again = [pool.take(8192), pool.take(8192)];
        assert!(again.iter().any(|buffer| buffer.as_ptr() == address));
    }

    #[test]
    fn buffers_outlive_their_pool() {
        let pool = BufferPool::default();
        let bytes = pool.copy_of(b"content").freeze();
        drop(pool);
        assert_eq!(bytes, &b"content"[..]);
        drop(bytes);
    }

    #[test]
    fn what_is_kept_is_bounded() {
        let pool = BufferPool::new(2 * PAGE_SIZE);
        let many: Vec<_> = (0..10).map(|_| pool.take(PAGE_SIZE)).collect();
        drop(many);
        assert_eq!(pool.shelves.classes[0].lock().len(), 2);
    }
}
