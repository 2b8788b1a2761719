//! What a logical unit asks of its volume, carried out; and the one table from block errors to SCSI failures.

use block::{BlockError, ErrorKind, Provisioning, Result, Volume};
use bytes::Bytes;
use scsi::{
    BlockExtent, ByteRange, Comparison, Durability, MediaCommand, MediaFailure, MediaFailureKind,
    MediaOutcome,
};
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

/// Work that is longer than a transfer (VERIFY, WRITE SAME) goes in steps of this many bytes.
const STEP_BYTES: u64 = 1 << 20;

/// A pattern is repeated to about this many bytes in memory, and that memory written again and again.
const PATTERN_BYTES: usize = 64 << 10;

/// How often ORWRITE is tried while others write to the same blocks.
const OR_ATTEMPTS_MAX: u32 = 1000;

/// A media command on its way.
pub(crate) struct MediaFuture(Pin<Box<dyn Future<Output = MediaOutcome> + Send>>);

impl MediaFuture {
    pub(crate) fn new(future: impl Future<Output = MediaOutcome> + Send + 'static) -> Self {
        Self(Box::pin(future))
    }
}

impl Future for MediaFuture {
    type Output = MediaOutcome;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<MediaOutcome> {
        let guard = AbortOnPanic;
        let polled = self.0.as_mut().poll(context);
        std::mem::forget(guard);
        polled
    }
}

/// A panic in a connection's code ends that connection; one in the engine below ends the process, as what it left
/// half done is unknown and a restart recovers from disk.
struct AbortOnPanic;

impl Drop for AbortOnPanic {
    fn drop(&mut self) {
        tracing::error!(
            "a volume broke one of its own rules; stopping, so that a restart recovers from disk"
        );
        std::process::abort();
    }
}

/// Carries `command` out on `volume`.
pub(crate) fn run(volume: Arc<dyn Volume>, thin: bool, command: MediaCommand) -> MediaFuture {
    MediaFuture::new(async move {
        let range = range_of(&command);
        match execute(&*volume, thin, command).await {
            Ok(outcome) => outcome,
            Err(error) => MediaOutcome::Failed(failure(&error, range)),
        }
    })
}

/// The one table from what block says to what SCSI says.
pub(crate) fn failure(error: &BlockError, range: ByteRange) -> MediaFailure {
    let kind = match error.kind {
        ErrorKind::Invalid => MediaFailureKind::OutOfRange,
        ErrorKind::Device | ErrorKind::Corrupt => MediaFailureKind::MediumError,
        ErrorKind::NoSpace => MediaFailureKind::SpaceExhausted,
        ErrorKind::ReadOnly => MediaFailureKind::WriteProtected,
        ErrorKind::Closed | ErrorKind::NotFound => MediaFailureKind::NotReady,
        ErrorKind::Busy => MediaFailureKind::Busy,
        ErrorKind::Locked => MediaFailureKind::Locked,
        _ => MediaFailureKind::Internal,
    };
    let (offset, len) = (range.offset, range.len);
    match kind {
        MediaFailureKind::MediumError | MediaFailureKind::Internal => {
            tracing::error!(%error, ?kind, offset, len, "a command failed on its volume");
        }
        // The host is told, and tries again and again: nothing to fill a log with.
        _ => tracing::debug!(%error, ?kind, offset, len, "a command could not be carried out"),
    }
    // Other kinds may carry an offset on a disk below, which would tell the host a wrong block.
    let inside = |offset: &u64| *offset >= range.offset && *offset - range.offset < range.len;
    let offset = error.offset.filter(|offset| error.kind == ErrorKind::Corrupt && inside(offset));
    MediaFailure { kind, offset }
}

fn range_of(command: &MediaCommand) -> ByteRange {
    let (offset, len) = match command {
        MediaCommand::Read { offset, len, .. }
        | MediaCommand::WriteSame { offset, len, .. }
        | MediaCommand::WriteZeroes { offset, len, .. }
        | MediaCommand::Verify { offset, len, .. }
        | MediaCommand::Flush { offset, len }
        | MediaCommand::BlockStatus { offset, len, .. }
        | MediaCommand::Prefetch { offset, len } => (*offset, *len),
        MediaCommand::Write { offset, data, .. }
        | MediaCommand::WriteAtomic { offset, data, .. }
        | MediaCommand::WriteAndVerify { offset, data, .. }
        | MediaCommand::OrWrite { offset, data, .. } => (*offset, total_len(data)),
        MediaCommand::CompareAndWrite { offset, write, .. } => (*offset, total_len(write)),
        // Copies and sanitizing have code of their own.
        MediaCommand::Unmap { .. }
        | MediaCommand::Copy(_)
        | MediaCommand::Sanitize { .. }
        | MediaCommand::LeaveFailedSanitize
        | MediaCommand::Resources => (0, 0),
    };
    ByteRange { offset, len }
}

async fn execute(volume: &dyn Volume, thin: bool, command: MediaCommand) -> Result<MediaOutcome> {
    match command {
        MediaCommand::Read { offset, len, fua } => {
            if fua {
                volume.flush().await?;
            }
            return volume.read(offset, len).await.map(MediaOutcome::Data);
        }
        MediaCommand::Write { offset, data, durability } => {
            volume.write(offset, data, lasting(durability)).await?
        }
        MediaCommand::WriteAtomic { offset, data, durability } => {
            volume.write_atomic(offset, data, lasting(durability)).await?
        }
        MediaCommand::WriteAndVerify { offset, data, compare } => {
            return write_and_verify(volume, offset, data, compare).await;
        }
        MediaCommand::WriteSame { offset, len, pattern, durability } => {
            write_pattern(volume, ByteRange { offset, len }, &pattern, durability).await?;
        }
        MediaCommand::WriteZeroes { offset, len, deallocate, durability } => {
            let range = ByteRange { offset, len };
            zero(volume, deallocate || thin, range, durability).await?;
            if deallocate || thin {
                settle(volume, durability).await?;
            }
        }
        MediaCommand::Unmap { ranges } => {
            volume.unmap(merged(ranges)).await?;
        }
        MediaCommand::CompareAndWrite { offset, compare, write, durability } => {
            let compared = volume.compare_and_write(offset, compare, write, lasting(durability)).await?;
            if let block::Comparison::DiffersAt(offset) = compared {
                return Ok(MediaOutcome::Miscompare { offset });
            }
        }
        MediaCommand::OrWrite { offset, data, durability } => {
            return or_write(volume, offset, &data, lasting(durability)).await;
        }
        MediaCommand::Resources => {
            return Ok(MediaOutcome::Resources(volume.resources().map(resources_of)));
        }
        MediaCommand::Verify { offset, len, comparison } => {
            return verify(volume, ByteRange { offset, len }, &comparison).await;
        }
        MediaCommand::Flush { .. } => volume.flush().await?,
        MediaCommand::BlockStatus { offset, len, max_extents } => {
            return block_status(volume, offset, len, max_extents).await;
        }
        MediaCommand::Copy(_) | MediaCommand::Sanitize { .. } | MediaCommand::LeaveFailedSanitize => {
            return Ok(MediaOutcome::Failed(MediaFailureKind::Internal.into()));
        }
        // Allowed to do nothing (SBC-3 §5.8): the volume keeps what is hot by itself.
        MediaCommand::Prefetch { .. } => {}
    }
    Ok(MediaOutcome::Done)
}

/// The ranges in order, those that touch or overlap as one: hosts split what they trim, and the volume zeroes every
/// part of a block by itself.
fn merged(mut ranges: Vec<ByteRange>) -> Vec<block::ByteRange> {
    ranges.sort_unstable_by_key(|range| range.offset);
    let mut merged: Vec<block::ByteRange> = Vec::with_capacity(ranges.len());
    for ByteRange { offset, len } in ranges {
        match merged.last_mut() {
            Some(last) if last.offset + last.len >= offset => {
                last.len = last.len.max(offset + len - last.offset);
            }
            _ => merged.push(block::ByteRange { offset, len }),
        }
    }
    merged
}

pub(crate) fn lasting(durability: Durability) -> block::Durability {
    match durability {
        Durability::Stable => block::Durability::Durable,
        Durability::Cached => block::Durability::Default,
    }
}

/// After work whose durability cannot be chosen.
async fn settle(volume: &dyn Volume, durability: Durability) -> Result<()> {
    match durability {
        Durability::Stable => volume.flush().await,
        Durability::Cached => Ok(()),
    }
}

/// Makes a range read as zeroes, by unmapping, whose durability [`settle`] sees to, or by writing.
pub(crate) async fn zero(
    volume: &dyn Volume,
    unmap: bool,
    range: ByteRange,
    durability: Durability,
) -> Result<()> {
    if unmap {
        return volume.unmap(vec![block::ByteRange { offset: range.offset, len: range.len }]).await;
    }
    write_pattern(volume, range, &[0; 512], durability).await
}

/// The range a command changes; of several, one that holds them all.
pub(crate) fn range_written(command: &MediaCommand) -> Option<ByteRange> {
    match command {
        MediaCommand::Write { .. }
        | MediaCommand::WriteAtomic { .. }
        | MediaCommand::WriteAndVerify { .. }
        | MediaCommand::OrWrite { .. }
        | MediaCommand::WriteSame { .. }
        | MediaCommand::WriteZeroes { .. }
        | MediaCommand::CompareAndWrite { .. } => Some(range_of(command)),
        MediaCommand::Unmap { ranges } => {
            let offset = ranges.iter().map(|range| range.offset).min()?;
            let end = ranges.iter().map(|range| range.offset.saturating_add(range.len)).max()?;
            Some(ByteRange { offset, len: end - offset })
        }
        MediaCommand::Sanitize { .. } => Some(crate::sanitize::WHOLE),
        // A copy tells of each of its pieces.
        _ => None,
    }
}

/// Splits a range into steps.
fn steps(range: ByteRange, step: u64) -> impl Iterator<Item = ByteRange> {
    let count = range.len.div_ceil(step);
    (0..count).map(move |number| {
        let done = number * step;
        ByteRange { offset: range.offset + done, len: step.min(range.len - done) }
    })
}

/// Lets other connections of this reactor have their turn, between two steps of long work: what the volume has in
/// memory is done without a pause.
pub(crate) async fn give_way() {
    let mut given = false;
    std::future::poll_fn(|context| {
        if std::mem::replace(&mut given, true) {
            return Poll::Ready(());
        }
        context.waker().wake_by_ref();
        Poll::Pending
    })
    .await;
}

/// Writes `pattern` over and over to a range whose length is a multiple of its own.
async fn write_pattern(
    volume: &dyn Volume,
    range: ByteRange,
    pattern: &[u8],
    durability: Durability,
) -> Result<()> {
    let block = Bytes::from(pattern.repeat((PATTERN_BYTES / pattern.len().max(1)).max(1)));
    for step in steps(range, STEP_BYTES) {
        if step.offset != range.offset {
            give_way().await;
        }
        let mut left = usize::try_from(step.len).unwrap_or(usize::MAX);
        let mut chunks = Vec::new();
        while left > 0 {
            let part = block.slice(..left.min(block.len()));
            left -= part.len();
            chunks.push(part);
        }
        volume.write(step.offset, chunks, lasting(durability)).await?;
    }
    Ok(())
}

async fn write_and_verify(
    volume: &dyn Volume,
    offset: u64,
    data: Vec<Bytes>,
    compare: bool,
) -> Result<MediaOutcome> {
    let range = ByteRange { offset, len: total_len(&data) };
    let comparison = if compare { Comparison::Bytes(data.clone()) } else { Comparison::Readable };
    volume.write(offset, data, block::Durability::Durable).await?;
    verify(volume, range, &comparison).await
}

/// Reads and ORs, and writes if nobody else has written meanwhile; else once more. Whoever was in between has got on,
/// so this ends, but for hosts that write to one place all the time.
async fn or_write(
    volume: &dyn Volume,
    offset: u64,
    data: &[Bytes],
    durability: block::Durability,
) -> Result<MediaOutcome> {
    for attempt in 0..OR_ATTEMPTS_MAX {
        if attempt > 0 {
            give_way().await;
        }
        let found = volume.read(offset, total_len(data)).await?;
        let merged = merged_bits(&found, data);
        let compared = volume.compare_and_write(offset, found, vec![merged], durability).await?;
        if compared == block::Comparison::Equal {
            return Ok(MediaOutcome::Done);
        }
    }
    Ok(MediaOutcome::Failed(MediaFailureKind::Busy.into()))
}

/// The bytes of `found` with the bits of `data`, which is as long.
fn merged_bits(found: &[Bytes], data: &[Bytes]) -> Bytes {
    let mut merged = found.concat();
    let bits = data.iter().flat_map(|chunk| chunk.iter());
    merged.iter_mut().zip(bits).for_each(|(byte, bits)| *byte |= bits);
    merged.into()
}

/// The same in SCSI's words.
pub(crate) fn resources_of(resources: block::Resources) -> scsi::Resources {
    let block::Resources { pool_bytes, available_bytes, used_bytes } = resources;
    scsi::Resources { pool_bytes, available_bytes, used_bytes }
}

async fn verify(volume: &dyn Volume, range: ByteRange, comparison: &Comparison) -> Result<MediaOutcome> {
    for step in steps(range, STEP_BYTES) {
        if step.offset != range.offset {
            give_way().await;
        }
        let data = volume.read(step.offset, step.len).await?;
        let done = step.offset - range.offset;
        let differs = match comparison {
            Comparison::Readable => None,
            Comparison::Bytes(expected) => first_difference(&data, &mut skip(expected, done)),
            Comparison::RepeatedBlock(block) if block.is_empty() => None,
            Comparison::RepeatedBlock(block) => {
                // Steps are whole blocks, so each starts with the pattern's first byte.
                first_difference(&data, &mut std::iter::repeat(block.as_ref()))
            }
        };
        if let Some(within) = differs {
            return Ok(MediaOutcome::Miscompare { offset: done + within });
        }
    }
    Ok(MediaOutcome::Done)
}

/// The bytes of `chunks` from `skipped` on.
fn skip(chunks: &[Bytes], skipped: u64) -> impl Iterator<Item = &[u8]> {
    let mut left = usize::try_from(skipped).unwrap_or(usize::MAX);
    chunks.iter().map(move |chunk| {
        let start = left.min(chunk.len());
        left -= start;
        &chunk[start..]
    })
}

/// Where `data` first differs from the bytes that `expected` yields, at least as many.
fn first_difference(data: &[Bytes], expected: &mut dyn Iterator<Item = &[u8]>) -> Option<u64> {
    let mut position = 0;
    let mut other: &[u8] = &[];
    for chunk in data {
        let mut rest: &[u8] = chunk;
        while !rest.is_empty() {
            while other.is_empty() {
                other = expected.next()?;
            }
            let len = rest.len().min(other.len());
            let (a, b) = (&rest[..len], &other[..len]);
            if a != b {
                let at = a.iter().zip(b).take_while(|(a, b)| a == b).count();
                return Some(position + at as u64);
            }
            (rest, other) = (&rest[len..], &other[len..]);
            position += len as u64;
        }
    }
    None
}

async fn block_status(
    volume: &dyn Volume,
    offset: u64,
    len: u64,
    max_extents: usize,
) -> Result<MediaOutcome> {
    let extents = volume.extents(offset, len, max_extents).await?;
    let extent = |extent: &block::Extent| BlockExtent {
        len: extent.range.len,
        mapped: extent.provisioning == Provisioning::Mapped,
    };
    Ok(MediaOutcome::Status(extents.iter().map(extent).collect()))
}

fn total_len(chunks: &[Bytes]) -> u64 {
    chunks.iter().map(|chunk| chunk.len() as u64).sum()
}

/// Bytes a command holds from its start to its answer: what it reads. Data it writes counts in its own buffers.
pub(crate) fn memory_of(command: &MediaCommand) -> usize {
    match command {
        MediaCommand::Read { len, .. } => usize::try_from(*len).unwrap_or(usize::MAX),
        MediaCommand::Verify { len, .. } => usize::try_from((*len).min(STEP_BYTES)).unwrap_or(usize::MAX),
        MediaCommand::WriteSame { .. } | MediaCommand::WriteZeroes { .. } => PATTERN_BYTES,
        MediaCommand::Copy(_) => crate::copy::MEMORY,
        // What is there, and what it becomes.
        MediaCommand::OrWrite { data, .. } => {
            usize::try_from(total_len(data).saturating_mul(2)).unwrap_or(usize::MAX)
        }
        _ => 0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use block::BoxFuture;
    use std::future::ready;
    use std::task::Waker;

    fn bytes(parts: &[&[u8]]) -> Vec<Bytes> {
        parts.iter().map(|part| Bytes::copy_from_slice(part)).collect()
    }

    #[test]
    fn differences_are_found_across_chunks_of_any_shape() {
        let data = bytes(&[b"abc", b"", b"defg"]);
        let against = |expected: &[&[u8]]| first_difference(&data, &mut expected.iter().copied());
        assert_eq!(against(&[b"abcdefg"]), None);
        assert_eq!(against(&[b"a", b"bcde", b"fg"]), None);
        assert_eq!(against(&[b"abcdeXg"]), Some(5));
        assert_eq!(against(&[b"Xbcdefg"]), Some(0));
        let tail = bytes(&[b"zz", b"zabc", b"defg"]);
        assert_eq!(first_difference(&data, &mut skip(&tail, 3)), None);
    }

    /// Zeroes, at once.
    struct Fast;

    impl Volume for Fast {
        fn size_bytes(&self) -> u64 {
            u64::MAX
        }
        fn granularity_bytes(&self) -> u32 {
            4096
        }
        fn read(&self, _: u64, len: u64) -> BoxFuture<'_, Result<Vec<Bytes>>> {
            Box::pin(ready(Ok(vec![Bytes::from(vec![0; usize::try_from(len).unwrap()])])))
        }
        fn write(&self, _: u64, _: Vec<Bytes>, _: block::Durability) -> BoxFuture<'_, Result<()>> {
            Box::pin(ready(Ok(())))
        }
        fn unmap(&self, _: Vec<block::ByteRange>) -> BoxFuture<'_, Result<()>> {
            Box::pin(ready(Ok(())))
        }
        fn compare_and_write(
            &self,
            _: u64,
            _: Vec<Bytes>,
            _: Vec<Bytes>,
            _: block::Durability,
        ) -> BoxFuture<'_, Result<block::Comparison>> {
            Box::pin(ready(Ok(block::Comparison::Equal)))
        }
        fn flush(&self) -> BoxFuture<'_, Result<()>> {
            Box::pin(ready(Ok(())))
        }
        fn extents(&self, _: u64, _: u64, _: usize) -> BoxFuture<'_, Result<Vec<block::Extent>>> {
            Box::pin(ready(Ok(Vec::new())))
        }
    }

    /// A long VERIFY or WRITE SAME of blocks in memory kept a reactor, with all its connections, to the end.
    #[test]
    fn long_work_gives_way_after_each_step() {
        let verify = MediaCommand::Verify { offset: 0, len: 4 << 20, comparison: Comparison::Readable };
        let write = MediaCommand::WriteSame {
            offset: 0,
            len: 4 << 20,
            pattern: Bytes::from_static(&[7; 512]),
            durability: Durability::Cached,
        };
        for command in [verify, write] {
            let mut work = run(Arc::new(Fast), false, command);
            let mut context = Context::from_waker(Waker::noop());
            let polls = (1..9).find(|_| Pin::new(&mut work).poll(&mut context).is_ready());
            assert_eq!(polls, Some(4), "one step a turn");
        }
    }

    #[test]
    fn steps_cover_a_range_without_gaps() {
        let all: Vec<_> = steps(ByteRange { offset: 100, len: 25 }, 10).collect();
        let expected = [(100, 10), (110, 10), (120, 5)];
        assert_eq!(all.iter().map(|step| (step.offset, step.len)).collect::<Vec<_>>(), expected);
        assert_eq!(steps(ByteRange { offset: 0, len: 0 }, 10).count(), 0);
    }

    #[test]
    fn ranges_that_touch_or_overlap_become_one() {
        let check = |ranges: &[(u64, u64)], expected: &[(u64, u64)]| {
            let ranges = ranges.iter().map(|&(offset, len)| ByteRange { offset, len }).collect();
            let merged: Vec<_> = merged(ranges).iter().map(|range| (range.offset, range.len)).collect();
            assert_eq!(merged, expected);
        };
        check(&[], &[]);
        check(&[(10, 5), (0, 5)], &[(0, 5), (10, 5)]);
        check(&[(5, 5), (0, 5), (10, 1)], &[(0, 11)]);
        check(&[(0, 100), (10, 5), (50, 60)], &[(0, 110)]);
    }

    /// Promise 5: running out of space is SPACE ALLOCATION FAILED to the host, and nothing else is.
    #[test]
    fn every_error_kind_has_its_scsi_failure() {
        let range = ByteRange { offset: 4096, len: 4096 };
        let of = |kind| failure(&BlockError::new(kind, "v", "m").at(5000), range);
        assert_eq!(of(ErrorKind::NoSpace).kind, MediaFailureKind::SpaceExhausted);
        assert_eq!(of(ErrorKind::ReadOnly).kind, MediaFailureKind::WriteProtected);
        assert_eq!(of(ErrorKind::Closed).kind, MediaFailureKind::NotReady);
        assert_eq!(of(ErrorKind::Busy).kind, MediaFailureKind::Busy);
        assert_eq!(of(ErrorKind::Locked).kind, MediaFailureKind::Locked);
        assert_eq!(of(ErrorKind::Invalid).kind, MediaFailureKind::OutOfRange);
        assert_eq!(of(ErrorKind::Format).kind, MediaFailureKind::Internal);
        assert_eq!(
            of(ErrorKind::Corrupt),
            MediaFailure { kind: MediaFailureKind::MediumError, offset: Some(5000) }
        );
        assert_eq!(of(ErrorKind::Device).offset, None, "an offset on a disk is none on the volume");
        let outside = failure(&BlockError::new(ErrorKind::Corrupt, "v", "m").at(0), range);
        assert_eq!(outside.offset, None);
    }
}
