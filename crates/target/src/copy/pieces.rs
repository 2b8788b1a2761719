//! One range after another: holes are not moved, what can be shared is shared, and the rest is read and written.

use super::end::End;
use crate::copies::Copies;
use crate::media::{self, give_way};
use block::{Provisioning, Volume};
use futures_util::stream::{FuturesOrdered, StreamExt};
use scsi::{ByteRange, CopyFault, CopyProgress, CopyRange, CopySide, Durability, TokenId};
use std::sync::Arc;

/// Bytes that are read and written at once.
const PIECE: u64 = 1 << 20;
/// Pieces on their way at once.
const IN_FLIGHT: usize = 4;
/// Bytes that a copy holds in memory at most.
pub(crate) const MEMORY: usize = IN_FLIGHT << 20;
/// Bytes whose holes are looked for at once, and that are shared or zeroed at once.
const WINDOW: u64 = 64 << 20;
/// Runs of blocks asked for at once.
const EXTENTS_MAX: usize = 1024;

/// The token a copy reads with.
#[derive(Clone, Copy)]
pub(super) struct TokenInUse<'a> {
    pub(super) copies: &'a Copies,
    pub(super) id: TokenId,
}

/// A copy from one unit to another.
#[derive(Clone, Copy)]
pub(super) struct Job<'a> {
    /// None: zeroes.
    pub(super) source: Option<&'a End>,
    pub(super) destination: &'a End,
    pub(super) token: Option<TokenInUse<'a>>,
    pub(super) progress: &'a CopyProgress,
}

impl Job<'_> {
    /// Copies `range`; [`Job::settle`] has to follow.
    pub(super) async fn copy(&self, range: CopyRange) -> Result<(), CopyFault> {
        match self.source {
            None => self.zero(range).await,
            Some(source) if self.overlaps(source, range) => self.move_overlapping(source, range).await,
            Some(source) => self.copy_apart(source, range).await,
        }
    }

    /// Makes durable what was zeroed or shared, if writes here are; those have been made durable already.
    pub(super) async fn settle(&self) -> Result<(), CopyFault> {
        let durable = self.destination.admit()?.durability == Durability::Stable;
        let volume = self.destination.unit.volume();
        match durable {
            true => volume.flush().await.map_err(|error| failed(&error, CopySide::Destination)),
            false => Ok(()),
        }
    }

    fn check(&self) -> Result<(), CopyFault> {
        if self.progress.is_stopped() {
            return Err(CopyFault::Stopped);
        }
        let token = self.token.map(|token| token.copies.check_token(token.id));
        token.unwrap_or(Ok(())).map_err(CopyFault::Token)
    }

    fn overlaps(&self, source: &End, range: CopyRange) -> bool {
        let CopyRange { source_offset, destination_offset, len } = range;
        Arc::ptr_eq(&source.unit, &self.destination.unit) && source_offset.abs_diff(destination_offset) < len
    }

    /// In an order in which nothing is overwritten before it is read, one piece at a time: the outcome is as if all
    /// was read before anything was written.
    async fn move_overlapping(&self, source: &End, range: CopyRange) -> Result<(), CopyFault> {
        let backwards = range.destination_offset > range.source_offset;
        let mut pieces: Vec<CopyRange> = split(range, PIECE).collect();
        if backwards {
            pieces.reverse();
        }
        for piece in pieces {
            self.move_piece(source, piece).await?;
            self.progress.advance(piece.len);
        }
        Ok(())
    }

    async fn copy_apart(&self, source: &End, range: CopyRange) -> Result<(), CopyFault> {
        for window in split(range, WINDOW) {
            self.check()?;
            source.admit()?;
            let mut done = 0;
            for left in self.share(source, window).await? {
                // Progress is told in order: what is shared counts when all before it is copied.
                self.progress.advance(left.offset - done);
                self.move_runs(source, part(window, left.offset, left.len)).await?;
                done = left.offset + left.len;
            }
            self.progress.advance(window.len - done);
        }
        Ok(())
    }

    async fn move_runs(&self, source: &End, range: CopyRange) -> Result<(), CopyFault> {
        for run in self.runs(source, range).await? {
            match run {
                Run::Hole(hole) => self.zero(hole).await?,
                Run::Data(data) => self.move_data(source, data).await?,
            }
        }
        Ok(())
    }

    /// Has the destination take over the source's blocks. Returns what is left to be moved, from the start of the range
    /// on.
    async fn share(&self, source: &End, range: CopyRange) -> Result<Vec<block::ByteRange>, CopyFault> {
        let CopyRange { source_offset, destination_offset, len } = range;
        let (_, piece) = self.destination.begin(ByteRange { offset: destination_offset, len })?;
        let from: &dyn Volume = &**source.unit.volume();
        let shared = self.destination.unit.volume().copy_from(destination_offset, len, from, source_offset);
        let Some(shared) = shared else { return Ok(vec![block::ByteRange { offset: 0, len }]) };
        let left = shared.await.map_err(|error| failed(&error, CopySide::Destination))?;
        drop(piece);
        self.check()?;
        Ok(left)
    }

    /// The source's runs of blocks that are there and that are not.
    async fn runs(&self, source: &End, range: CopyRange) -> Result<Vec<Run>, CopyFault> {
        let volume = source.unit.volume();
        let mut runs = Vec::new();
        let mut done = 0;
        while done < range.len {
            let (offset, left) = (range.source_offset + done, range.len - done);
            let extents = volume.extents(offset, left, EXTENTS_MAX).await;
            let extents = extents.map_err(|error| failed(&error, CopySide::Source))?;
            let before = done;
            for extent in extents {
                let end = extent.range.offset.saturating_add(extent.range.len) - range.source_offset;
                let part = part(range, done, end.min(range.len).saturating_sub(done));
                done += part.len;
                match extent.provisioning {
                    _ if part.len == 0 => {}
                    Provisioning::Deallocated => runs.push(Run::Hole(part)),
                    Provisioning::Mapped => runs.push(Run::Data(part)),
                }
            }
            if done == before {
                // Nothing was told: what is not known to be a hole is data.
                runs.push(Run::Data(part(range, done, left)));
                break;
            }
        }
        Ok(runs)
    }

    /// Makes a range of the destination read as zeroes.
    async fn zero(&self, range: CopyRange) -> Result<(), CopyFault> {
        for window in split(range, WINDOW) {
            give_way().await;
            self.check()?;
            let range = ByteRange { offset: window.destination_offset, len: window.len };
            let (grant, piece) = self.destination.begin(range)?;
            let unit = &self.destination.unit;
            let zeroed = media::zero(&**unit.volume(), unit.is_thin(), range, grant.durability).await;
            zeroed.map_err(|error| failed(&error, CopySide::Destination))?;
            drop(piece);
            self.progress.advance(window.len);
        }
        Ok(())
    }

    /// Several pieces at once, counted in their order. After a failure no piece starts, and those on their way end.
    async fn move_data(&self, source: &End, range: CopyRange) -> Result<(), CopyFault> {
        let mut pieces = split(range, PIECE);
        let mut under_way = FuturesOrdered::new();
        let mut ended = Ok(());
        loop {
            while ended.is_ok() && under_way.len() < IN_FLIGHT {
                let Some(piece) = pieces.next() else { break };
                under_way.push_back(async move { (piece.len, self.move_piece(source, piece).await) });
            }
            let Some((len, moved)) = under_way.next().await else { return ended };
            match moved {
                Ok(()) if ended.is_ok() => self.progress.advance(len),
                Ok(()) => {}
                Err(fault) => ended = ended.and(Err(fault)),
            }
        }
    }

    async fn move_piece(&self, source: &End, piece: CopyRange) -> Result<(), CopyFault> {
        give_way().await;
        self.check()?;
        source.admit()?;
        let read = source.unit.volume().read(piece.source_offset, piece.len).await;
        let data = read.map_err(|error| failed(&error, CopySide::Source))?;
        // What was read is what the token stands for if it is good after the reading.
        self.check()?;
        let range = ByteRange { offset: piece.destination_offset, len: piece.len };
        let (grant, under_way) = self.destination.begin(range)?;
        let volume = self.destination.unit.volume();
        let written = volume.write(piece.destination_offset, data, media::lasting(grant.durability)).await;
        drop(under_way);
        written.map_err(|error| failed(&error, CopySide::Destination))
    }
}

/// A part of a copy.
enum Run {
    Hole(CopyRange),
    Data(CopyRange),
}

fn failed(error: &block::BlockError, side: CopySide) -> CopyFault {
    // The range only serves to tell whether an offset is one of the volume's.
    CopyFault::Failed(side, media::failure(error, ByteRange { offset: 0, len: u64::MAX }))
}

fn part(range: CopyRange, done: u64, len: u64) -> CopyRange {
    let CopyRange { source_offset, destination_offset, .. } = range;
    CopyRange { source_offset: source_offset + done, destination_offset: destination_offset + done, len }
}

/// Parts of at most `step` bytes.
fn split(range: CopyRange, step: u64) -> impl DoubleEndedIterator<Item = CopyRange> {
    let count = range.len.div_ceil(step);
    (0..count).map(move |number| part(range, number * step, step.min(range.len - number * step)))
}

/// Pairs what a token stands for, from `offset` on, with where it is to go, in whole blocks of the destination.
pub(super) fn matched(
    sources: &[ByteRange],
    offset: u64,
    destinations: &[ByteRange],
    block: u64,
) -> Vec<CopyRange> {
    let mut skip = offset;
    let mut left = Vec::new();
    for source in sources {
        let skipped = skip.min(source.len);
        skip -= skipped;
        left.push(ByteRange { offset: source.offset + skipped, len: source.len - skipped });
    }
    let available: u64 = left.iter().map(|source| source.len).sum();
    let mut budget = available - available % block.max(1);
    let mut sources = left.into_iter().filter(|source| source.len > 0);
    let mut source = sources.next();
    let mut matched = Vec::new();
    for destination in destinations {
        let mut at = destination.offset;
        let end = destination.offset + destination.len.min(budget);
        budget -= end - at;
        while at < end {
            let Some(from) = &mut source else { return matched };
            let len = from.len.min(end - at);
            matched.push(CopyRange { source_offset: from.offset, destination_offset: at, len });
            at += len;
            (from.offset, from.len) = (from.offset + len, from.len - len);
            if from.len == 0 {
                source = sources.next();
            }
        }
    }
    matched
}

#[cfg(test)]
mod tests {
    use super::*;

    fn range(offset: u64, len: u64) -> ByteRange {
        ByteRange { offset, len }
    }

    fn copy(source_offset: u64, destination_offset: u64, len: u64) -> CopyRange {
        CopyRange { source_offset, destination_offset, len }
    }

    /// SBC-4 4.28.1 and 5.59.2: both lists are read in their order, whatever the lengths of their parts.
    #[test]
    fn what_a_token_stands_for_is_laid_out_in_order() {
        let sources = [range(8192, 1024), range(0, 2048)];
        let destinations = [range(512, 512), range(4096, 2048)];
        let expected = [copy(8192, 512, 512), copy(8704, 4096, 512), copy(0, 4608, 1536)];
        assert_eq!(matched(&sources, 0, &destinations, 512), expected);
        assert_eq!(matched(&sources, 1536, &[range(0, 512)], 512), [copy(512, 0, 512)]);
        assert_eq!(matched(&sources, 0, &[], 512), []);
    }

    /// SBC-4 5.59.2: as many whole blocks as there are.
    #[test]
    fn no_more_is_copied_than_there_is() {
        let sources = [range(0, 4608)];
        assert_eq!(matched(&sources, 0, &[range(0, 1 << 20)], 512), [copy(0, 0, 4608)]);
        assert_eq!(matched(&sources, 0, &[range(0, 1 << 20)], 4096), [copy(0, 0, 4096)]);
        assert_eq!(matched(&sources, 4096, &[range(0, 1 << 20)], 4096), []);
    }

    #[test]
    fn parts_cover_a_range() {
        let parts: Vec<_> = split(copy(100, 1000, 25), 10).collect();
        assert_eq!(parts, [copy(100, 1000, 10), copy(110, 1010, 10), copy(120, 1020, 5)]);
        assert_eq!(split(copy(0, 0, 0), 10).count(), 0);
    }
}
