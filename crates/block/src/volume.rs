//! What a logical unit asks of the volume behind it.

use crate::{BlockError, BoxFuture, ErrorKind, Result};
use bytes::Bytes;
use std::any::Any;
use std::future::ready;

/// A range of bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct ByteRange {
    /// First byte.
    pub offset: u64,
    /// Number of bytes.
    pub len: u64,
}

/// What must hold before a write counts as done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Durability {
    /// As the volume is set: durable, or the kernel's page cache for `cache=buffered`.
    Default,
    /// On stable storage (FUA).
    Durable,
}

/// Whether a range has space of its own (SBC-4 §4.7).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Provisioning {
    /// Blocks are mapped.
    Mapped,
    /// Blocks are deallocated; they read as zeros.
    Deallocated,
}

/// A run of blocks of one provisioning state.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Extent {
    /// The bytes it covers.
    pub range: ByteRange,
    /// Their state.
    pub provisioning: Provisioning,
}

/// The space behind a volume, in bytes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Resources {
    /// What the pool holds at most.
    pub pool_bytes: u64,
    /// Of it still to be had, by all volumes of the pool.
    pub available_bytes: u64,
    /// What the volume takes.
    pub used_bytes: u64,
}

/// What a volume holds once it is sanitized (SBC-4 §4.11). Of what it held before, nothing is left on any disk of its
/// pool, but for what snapshots, clones and copies refer to as well.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SanitizeMethod {
    /// BLOCK ERASE: nothing. All of it is deallocated and reads as zeros, also if it has space reserved.
    BlockErase,
    /// OVERWRITE: these bytes, again and again from the first to the last. 512 or 4096 of them.
    Overwrite(Bytes),
    /// CRYPTOGRAPHIC ERASE: nothing, as with block erase, but what it held is still there, encrypted with a key that is
    /// not there any more. Volumes that are not encrypted refuse it as `Invalid`.
    CryptoErase,
}

/// How far a volume is with being sanitized. A volume opened anew goes on where, and as, it was.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Sanitization {
    /// It is not being sanitized: reads and writes are taken.
    #[default]
    Idle,
    /// It is on its way; reads and writes are refused as `Busy`.
    Running {
        /// What is done of it, in 65536ths.
        progress: u16,
    },
    /// It could not be done; reads and writes are refused as `Device` until one that is begun anew succeeds.
    Failed {
        /// Reads and writes may be allowed without that: [`Volume::leave_failed_sanitize`].
        unrestricted_exit: bool,
    },
}

/// How a compare-and-write ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Comparison {
    /// All bytes were as expected; the new data is written.
    Equal,
    /// The byte at this offset from the start of the range is the first that differs; nothing was written.
    DiffersAt(u64),
}

/// A virtual disk. All offsets and lengths are multiples of 512 bytes. Operations that do not overlap in time
/// happen in order; a read returns the newest acknowledged data or an error, whichever path it takes.
///
/// A write's future may be dropped; the write then still happens, or does not, at some time before the volume
/// is closed. Callers that care (SAM task management) drive their futures to the end.
pub trait Volume: Any + Send + Sync + 'static {
    /// Size in bytes; grows, never shrinks, while the volume is open.
    fn size_bytes(&self) -> u64;

    /// Bytes of one map unit: UNMAP of smaller or unaligned parts zeroes them instead.
    fn granularity_bytes(&self) -> u32;

    /// How much space there is, at this moment and from memory; none if the volume cannot tell.
    fn resources(&self) -> Option<Resources> {
        None
    }

    /// Reads `len` bytes at `offset`, as chunks that follow each other.
    ///
    /// # Errors
    /// `Invalid` past the end; `Corrupt` (with offset) where no copy has the right checksum; `Device`.
    fn read(&self, offset: u64, len: u64) -> BoxFuture<'_, Result<Vec<Bytes>>>;

    /// Writes the chunks of `data`, one after the other, at `offset`. Each 4 KiB block of the range is changed
    /// whole or not at all, also in a crash.
    ///
    /// # Errors
    /// `Invalid` past the end; `NoSpace`: the write succeeds again once space is freed or added; `Device`;
    /// `ReadOnly`. After `NoSpace` and `Device`, blocks of the range may hold old or new data, each one whole.
    fn write(&self, offset: u64, data: Vec<Bytes>, durability: Durability) -> BoxFuture<'_, Result<()>>;

    /// The largest write that [`Volume::write_atomic`] takes, in bytes, if it begins and ends at multiples of
    /// [`Volume::granularity_bytes`]; at other places a granule less. 0: it takes none.
    fn atomic_bytes_max(&self) -> u64 {
        0
    }

    /// As [`Volume::write`], but the range as a whole is changed or not at all: in a crash at any instant, for every
    /// read of one call, and also if it fails.
    ///
    /// # Errors
    /// As [`Volume::write`], and `Invalid` for more than [`Volume::atomic_bytes_max`]. After any of them the range
    /// holds what it held before, or, after `Device`, all of the new data.
    fn write_atomic(
        &self,
        offset: u64,
        data: Vec<Bytes>,
        durability: Durability,
    ) -> BoxFuture<'_, Result<()>> {
        let _ = (data, durability);
        let error = BlockError::new(ErrorKind::Invalid, "volume", "takes no atomic writes").at(offset);
        Box::pin(ready(Err(error)))
    }

    /// Gives the space of the ranges back; they read as zeros. Whole map units never fail for want of space; a part of
    /// one that a snapshot, clone or copy refers to as well may, as a write.
    ///
    /// # Errors
    /// `Invalid` past the end; `NoSpace` as said; `Device`; `ReadOnly`.
    fn unmap(&self, ranges: Vec<ByteRange>) -> BoxFuture<'_, Result<()>>;

    /// Compares the range at `offset` with `expected`, and if equal writes `data` (of the same length), with no
    /// other write to the range in between.
    ///
    /// # Errors
    /// As [`Volume::read`] and [`Volume::write`].
    fn compare_and_write(
        &self,
        offset: u64,
        expected: Vec<Bytes>,
        data: Vec<Bytes>,
        durability: Durability,
    ) -> BoxFuture<'_, Result<Comparison>>;

    /// Makes every write acknowledged before the call durable.
    ///
    /// # Errors
    /// `Device`: writes acknowledged from the page cache may be lost.
    fn flush(&self) -> BoxFuture<'_, Result<()>>;

    /// The provisioning of the range, as at most `extents_max` runs from `offset` on that follow each other
    /// without gaps; neighbours differ in state.
    ///
    /// # Errors
    /// `Invalid` past the end; `Device` if the map cannot be read.
    fn extents(&self, offset: u64, len: u64, extents_max: usize) -> BoxFuture<'_, Result<Vec<Extent>>>;

    /// True if the volume is encrypted and what opens it is not here: reads and writes are refused as `Locked`. Cheap
    /// enough to ask before each command.
    fn is_locked(&self) -> bool {
        false
    }

    /// True if the volume can be sanitized by [`SanitizeMethod::CryptoErase`].
    fn can_crypto_erase(&self) -> bool {
        false
    }

    /// True if the volume can be sanitized.
    fn can_sanitize(&self) -> bool {
        false
    }

    /// How far it is with being sanitized: at this moment and from memory, cheap enough to ask before each command.
    fn sanitization(&self) -> Sanitization {
        Sanitization::Idle
    }

    /// Begins to sanitize the volume: ready as soon as this is recorded so that neither a crash nor a closing can undo
    /// it. From then on it goes on by itself, to its end. Operations in progress when it is called end before; what they
    /// wrote is sanitized, too.
    ///
    /// # Errors
    /// `Busy` while it is being sanitized, `Invalid` if it cannot be ([`Volume::can_sanitize`]), `ReadOnly`, `Device`:
    /// nothing has happened.
    fn sanitize(&self, method: SanitizeMethod, unrestricted_exit: bool) -> BoxFuture<'_, Result<()>> {
        let _ = (method, unrestricted_exit);
        let error = BlockError::new(ErrorKind::Invalid, "volume", "cannot be sanitized");
        Box::pin(ready(Err(error)))
    }

    /// Ready once the volume is not on its way to be sanitized: at once, if it is not. The future may be dropped.
    ///
    /// # Errors
    /// Why it could not be sanitized: as with [`Volume::write`].
    fn sanitized(&self) -> BoxFuture<'_, Result<()>> {
        Box::pin(ready(Ok(())))
    }

    /// Takes reads and writes again after a failure, of whatever the volume holds. Does nothing if there was none.
    ///
    /// # Errors
    /// `Invalid` if the failed one was begun without `unrestricted_exit`; `Busy` while one is on its way; `Device`.
    fn leave_failed_sanitize(&self) -> BoxFuture<'_, Result<()>> {
        Box::pin(ready(Ok(())))
    }

    /// Makes `len` bytes at `offset` hold what `source` holds at `source_offset`, without moving them: both are in one
    /// pool, say, and can refer to the same blocks. `None` if that cannot be done for this range, and nothing has
    /// happened: the caller moves the bytes. An implementation finds its own kind by downcasting `source`.
    ///
    /// The parts that come back, relative to the start of the range, in order and apart, are as they were: the caller
    /// moves these. The ranges do not overlap. As with [`Volume::write`] of default durability, each 4 KiB block is
    /// changed whole or not at all.
    ///
    /// # Errors
    /// As [`Volume::read`] of the source and [`Volume::write`].
    fn copy_from<'a>(
        &'a self,
        offset: u64,
        len: u64,
        source: &'a dyn Volume,
        source_offset: u64,
    ) -> Option<BoxFuture<'a, Result<Vec<ByteRange>>>> {
        let _ = (offset, len, source, source_offset);
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::pin::pin;
    use std::task::{Context, Poll, Waker};

    /// Answers nothing but what it has to.
    struct Plain;

    impl Volume for Plain {
        fn size_bytes(&self) -> u64 {
            4096
        }
        fn granularity_bytes(&self) -> u32 {
            4096
        }
        fn read(&self, _: u64, _: u64) -> BoxFuture<'_, Result<Vec<Bytes>>> {
            Box::pin(ready(Ok(Vec::new())))
        }
        fn write(&self, _: u64, _: Vec<Bytes>, _: Durability) -> BoxFuture<'_, Result<()>> {
            Box::pin(ready(Ok(())))
        }
        fn unmap(&self, _: Vec<ByteRange>) -> BoxFuture<'_, Result<()>> {
            Box::pin(ready(Ok(())))
        }
        fn compare_and_write(
            &self,
            _: u64,
            _: Vec<Bytes>,
            _: Vec<Bytes>,
            _: Durability,
        ) -> BoxFuture<'_, Result<Comparison>> {
            Box::pin(ready(Ok(Comparison::Equal)))
        }
        fn flush(&self) -> BoxFuture<'_, Result<()>> {
            Box::pin(ready(Ok(())))
        }
        fn extents(&self, _: u64, _: u64, _: usize) -> BoxFuture<'_, Result<Vec<Extent>>> {
            Box::pin(ready(Ok(Vec::new())))
        }
    }

    #[test]
    fn a_volume_that_says_nothing_more_knows_no_pool_and_offers_nothing_beyond_reads_and_writes() {
        assert_eq!(Plain.resources(), None);
        assert!(Plain.copy_from(0, 4096, &Plain, 4096).is_none());
        assert_eq!(Plain.atomic_bytes_max(), 0);
        let mut written = pin!(Plain.write_atomic(512, Vec::new(), Durability::Durable));
        let Poll::Ready(refused) = written.as_mut().poll(&mut Context::from_waker(Waker::noop())) else {
            panic!("it has nothing to wait for");
        };
        assert!(refused.is_err_and(|error| error.kind == ErrorKind::Invalid && error.offset == Some(512)));
    }

    /// What a future is that has nothing to wait for.
    fn at_once<T>(future: impl Future<Output = T>) -> T {
        let mut future = pin!(future);
        match future.as_mut().poll(&mut Context::from_waker(Waker::noop())) {
            Poll::Ready(value) => value,
            Poll::Pending => panic!("it has nothing to wait for"),
        }
    }

    #[test]
    fn a_volume_that_cannot_be_sanitized_says_so_and_never_is() {
        assert_eq!((Plain.can_sanitize(), Plain.sanitization()), (false, Sanitization::Idle));
        for method in [SanitizeMethod::BlockErase, SanitizeMethod::Overwrite(Bytes::from(vec![7; 512]))] {
            let refused = at_once(Plain.sanitize(method, true));
            assert!(refused.is_err_and(|error| error.kind == ErrorKind::Invalid));
        }
        assert_eq!(at_once(Plain.sanitized()), Ok(()), "nobody waits for what was not begun");
        assert_eq!(at_once(Plain.leave_failed_sanitize()), Ok(()), "there was no failure");
        assert_eq!(Plain.sanitization(), Sanitization::Idle);
        assert!(at_once(Plain.read(0, 4096)).is_ok());
        assert!(at_once(Plain.write(0, Vec::new(), Durability::Default)).is_ok());
    }

    #[test]
    fn where_nothing_is_sanitized_nobody_waits_for_it_and_there_is_no_failure_to_leave() {
        let mut context = Context::from_waker(Waker::noop());
        assert_eq!(Sanitization::default(), Plain.sanitization());
        let pattern = SanitizeMethod::Overwrite(Bytes::from_static(&[7; 512]));
        assert_ne!(pattern, SanitizeMethod::BlockErase);
        assert!(matches!(pin!(Plain.sanitized()).as_mut().poll(&mut context), Poll::Ready(Ok(()))));
        assert!(matches!(
            pin!(Plain.leave_failed_sanitize()).as_mut().poll(&mut context),
            Poll::Ready(Ok(()))
        ));
    }

    #[test]
    fn a_volume_that_cannot_be_sanitized_refuses_every_way_of_it() {
        let pattern = Bytes::from_static(&[0x5a; 4096]);
        for method in [SanitizeMethod::BlockErase, SanitizeMethod::Overwrite(pattern)] {
            for unrestricted_exit in [false, true] {
                let mut begun = pin!(Plain.sanitize(method.clone(), unrestricted_exit));
                let Poll::Ready(refused) = begun.as_mut().poll(&mut Context::from_waker(Waker::noop()))
                else {
                    panic!("it has nothing to wait for");
                };
                assert_eq!(refused.map_err(|error| error.kind), Err(ErrorKind::Invalid));
            }
        }
    }
}
