//! Memory for what is read, used again and again.
//!
//! Fresh memory for every large read costs more than the read itself: the kernel has to map and
//! clear each page. Buffers come back here when the last `Bytes` over them is gone.

use std::sync::{Arc, Mutex};

use iscsi::PayloadPool;

/// Free bytes kept in one class; more are given back to the heap.
const KEPT_BYTES_MAX: usize = 8 << 20;
/// Classes of lengths, by powers of two.
const CLASSES: usize = usize::BITS as usize;

/// Free buffers by length. Clones share them.
#[derive(Clone, Default)]
pub(crate) struct RecyclingPool(Arc<Shelves>);

struct Shelves([Mutex<Vec<Box<[u8]>>>; CLASSES]);

impl Default for Shelves {
    fn default() -> Self {
        Self(core::array::from_fn(|_| Mutex::default()))
    }
}

impl Shelves {
    fn shelf(&self, capacity: usize) -> Option<&Mutex<Vec<Box<[u8]>>>> {
        self.0.get(usize::try_from(capacity.trailing_zeros()).ok()?)
    }
}

/// A buffer that goes back to its pool when dropped.
pub(crate) struct RecycledBuffer {
    bytes: Box<[u8]>,
    length: usize,
    home: Arc<Shelves>,
}

impl PayloadPool for RecyclingPool {
    type Buf = RecycledBuffer;

    fn take(&self, length: usize) -> RecycledBuffer {
        let capacity = length.next_power_of_two();
        let kept = self.0.shelf(capacity).and_then(|shelf| shelf.lock().ok()?.pop());
        let bytes = kept.unwrap_or_else(|| vec![0; capacity].into_boxed_slice());
        RecycledBuffer { bytes, length, home: Arc::clone(&self.0) }
    }
}

impl AsRef<[u8]> for RecycledBuffer {
    fn as_ref(&self) -> &[u8] {
        self.bytes.get(..self.length).unwrap_or_default()
    }
}

impl AsMut<[u8]> for RecycledBuffer {
    fn as_mut(&mut self) -> &mut [u8] {
        self.bytes.get_mut(..self.length).unwrap_or_default()
    }
}

impl Drop for RecycledBuffer {
    fn drop(&mut self) {
        let bytes = core::mem::take(&mut self.bytes);
        let capacity = bytes.len();
        let Some(Ok(mut shelf)) = self.home.shelf(capacity).map(Mutex::lock) else { return };
        if shelf.len().saturating_add(1).saturating_mul(capacity) <= KEPT_BYTES_MAX {
            shelf.push(bytes);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use bytes::Bytes;

    fn kept(pool: &RecyclingPool) -> usize {
        pool.0.0.iter().map(|shelf| shelf.lock().expect("shelf").len()).sum()
    }

    #[test]
    fn buffers_have_the_length_asked_for_and_come_back() {
        let pool = RecyclingPool::default();
        for length in [0, 1, 512, 4095, 4096, 4097, 1 << 20] {
            let mut buffer = pool.take(length);
            assert_eq!((buffer.as_ref().len(), buffer.as_mut().len()), (length, length));
        }
        assert_eq!(kept(&pool), 5, "0 and 1 byte, and 4095 and 4096, share a class");
        let before = pool.take(4000).as_ref().as_ptr();
        assert_eq!(pool.take(3000).as_ref().as_ptr(), before, "the same memory again");
    }

    #[test]
    fn a_buffer_comes_back_when_the_last_bytes_over_it_are_gone() {
        let pool = RecyclingPool::default();
        let bytes = Bytes::from_owner(pool.take(8192));
        let slice = bytes.slice(100..200);
        drop(bytes);
        assert_eq!(kept(&pool), 0);
        drop(slice);
        assert_eq!(kept(&pool), 1);
    }

    #[test]
    fn what_is_kept_is_bounded() {
        let pool = RecyclingPool::default();
        drop((0..40).map(|_| pool.take(1 << 20)).collect::<Vec<_>>());
        assert_eq!(kept(&pool), KEPT_BYTES_MAX >> 20);
    }
}
