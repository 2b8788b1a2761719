//! A volume of the small engine.

use super::log::Record;
use super::{BLOCK, Bug, Shared};
use crate::executor::Event;
use crate::model::VolumeId;
use block::{
    BlockError, BoxFuture, ByteRange, Comparison, Durability, ErrorKind, Extent, Provisioning, Result, Volume,
};
use bytes::Bytes;
use parking_lot::Mutex;
use std::future::Future;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

/// The largest atomic write.
const ATOMIC_BYTES_MAX: u64 = 64 << 10;

#[derive(Clone)]
pub(super) struct TinyVolume {
    id: VolumeId,
    shared: Arc<Shared>,
}

impl TinyVolume {
    pub(super) fn new(id: VolumeId, shared: Arc<Shared>) -> Self {
        Self { id, shared }
    }

    /// Drives `work` to its end, whatever becomes of the future returned: what is in the log must be in memory.
    fn detached<T: Send + 'static>(
        &self,
        work: impl Future<Output = T> + Send + 'static,
    ) -> BoxFuture<'static, T> {
        let (event, result) = (Arc::new(Event::default()), Arc::new(Mutex::new(None)));
        let (done, slot) = (Arc::clone(&event), Arc::clone(&result));
        self.shared.runtime.spawn(Box::pin(async move {
            let value = work.await;
            *slot.lock() = Some(value);
            done.set();
        }));
        Box::pin(std::future::poll_fn(move |cx| match event.poll(cx) {
            Poll::Ready(()) => result.lock().take().map_or(Poll::Pending, Poll::Ready),
            Poll::Pending => Poll::Pending,
        }))
    }

    fn bug(&self, bug: Bug) -> bool {
        self.shared.bug == Some(bug)
    }

    /// The bytes of a range.
    fn peek(&self, offset: u64, len: u64) -> Result<Vec<u8>> {
        let mut state = self.shared.state.lock();
        state.reads += 1;
        let stale = self.bug(Bug::ReadsStale) && state.reads.is_multiple_of(50);
        let content = state.get(&self.id)?;
        if offset + len > content.size_bytes {
            return Err(BlockError::new(ErrorKind::Invalid, "tiny", "past the end"));
        }
        let mut bytes = Vec::with_capacity(len as usize);
        for block in offset / BLOCK as u64..(offset + len).div_ceil(BLOCK as u64) {
            let former = if stale { content.former.get(&block) } else { None };
            match former.or_else(|| content.blocks.get(&block)) {
                Some(data) => bytes.extend_from_slice(data),
                None => bytes.resize(bytes.len() + BLOCK, 0),
            }
        }
        let skip = (offset % BLOCK as u64) as usize;
        Ok(bytes[skip..skip + len as usize].to_vec())
    }

    /// `data` at `offset`, widened to whole blocks.
    fn merged(&self, offset: u64, data: &[u8]) -> Result<(u64, Vec<u8>)> {
        let first = offset / BLOCK as u64 * BLOCK as u64;
        let size = self.shared.state.lock().get(&self.id)?.size_bytes;
        let end = (offset + data.len() as u64).next_multiple_of(BLOCK as u64);
        let mut whole = self.peek(first, end.min(size) - first)?;
        let skip = (offset - first) as usize;
        whole.get_mut(skip..skip + data.len()).ok_or_else(past_end)?.copy_from_slice(data);
        whole.resize((end - first) as usize, 0);
        Ok((first, whole))
    }

    async fn put(&self, offset: u64, data: Vec<u8>, durability: Durability) -> Result<()> {
        let early = if self.bug(Bug::MergesLate) { Some(self.merged(offset, &data)?) } else { None };
        let _turn = self.shared.log.turn().await;
        self.put_in_turn(offset, data, durability, early).await
    }

    async fn put_in_turn(
        &self,
        offset: u64,
        data: Vec<u8>,
        durability: Durability,
        early: Option<(u64, Vec<u8>)>,
    ) -> Result<()> {
        let (frozen, buffered) = {
            let state = self.shared.state.lock();
            let content = state.get(&self.id)?;
            (content.frozen, content.buffered)
        };
        if frozen {
            return Err(BlockError::new(ErrorKind::ReadOnly, "tiny", "a snapshot"));
        }
        let durable = durability == Durability::Durable || !buffered;
        let half = data.len() / 1024 * 512;
        if self.bug(Bug::TearsBlocks) && half > 0 {
            for (at, part) in [(offset, &data[..half]), (offset + half as u64, &data[half..])] {
                let (first, whole) = self.merged(at, part)?;
                self.shared.commit_in_turn(self.record(first, whole), durable).await?;
            }
            return Ok(());
        }
        let (first, whole) = match early {
            Some(early) => early,
            None => self.merged(offset, &data)?,
        };
        let lost = self.bug(Bug::LosesWakeups) && first % 13 == 0 && whole.len() == BLOCK;
        self.shared.commit_in_turn(self.record(first, whole), durable).await?;
        if lost {
            std::future::pending::<()>().await;
        }
        Ok(())
    }

    fn record(&self, offset: u64, data: Vec<u8>) -> Record {
        Record::Write { volume: self.id, offset, data: data.into() }
    }

    async fn compare(
        &self,
        offset: u64,
        expected: Vec<u8>,
        data: Vec<u8>,
        durability: Durability,
    ) -> Result<Comparison> {
        let turn = self.shared.log.turn().await;
        let found = self.peek(offset, expected.len() as u64)?;
        if let Some(at) = found.iter().zip(&expected).position(|(found, expected)| found != expected) {
            return Ok(Comparison::DiffersAt(at as u64));
        }
        if self.bug(Bug::ComparesThenWaits) {
            drop(turn);
            self.shared.runtime.sleep(Duration::from_millis(1)).await;
            self.put(offset, data, durability).await?;
        } else {
            self.put_in_turn(offset, data, durability, None).await?;
        }
        Ok(Comparison::Equal)
    }
}

fn past_end() -> BlockError {
    BlockError::new(ErrorKind::Invalid, "tiny", "past the end")
}

impl Volume for TinyVolume {
    fn size_bytes(&self) -> u64 {
        self.shared.state.lock().get(&self.id).map_or(0, |content| content.size_bytes)
    }

    fn granularity_bytes(&self) -> u32 {
        4096
    }

    fn read(&self, offset: u64, len: u64) -> BoxFuture<'_, Result<Vec<Bytes>>> {
        Box::pin(std::future::ready(self.peek(offset, len).map(|bytes| vec![bytes.into()])))
    }

    fn write(&self, offset: u64, data: Vec<Bytes>, durability: Durability) -> BoxFuture<'_, Result<()>> {
        let this = self.clone();
        self.detached(async move { this.put(offset, data.concat(), durability).await })
    }

    fn atomic_bytes_max(&self) -> u64 {
        ATOMIC_BYTES_MAX
    }

    fn write_atomic(
        &self,
        offset: u64,
        data: Vec<Bytes>,
        durability: Durability,
    ) -> BoxFuture<'_, Result<()>> {
        let (this, mut first) = (self.clone(), data.concat());
        let end = (offset + first.len() as u64).next_multiple_of(BLOCK as u64);
        if end - offset / BLOCK as u64 * BLOCK as u64 > ATOMIC_BYTES_MAX {
            return Box::pin(std::future::ready(Err(BlockError::new(
                ErrorKind::Invalid,
                "tiny",
                "too much",
            ))));
        }
        let half = first.len() / (2 * BLOCK) * BLOCK;
        let torn = self.bug(Bug::TearsAtomicWrites) && half > 0 && offset.is_multiple_of(BLOCK as u64);
        let second = if torn { first.split_off(half) } else { Vec::new() };
        self.detached(async move {
            this.put(offset, first, durability).await?;
            if torn { this.put(offset + half as u64, second, durability).await } else { Ok(()) }
        })
    }

    fn unmap(&self, ranges: Vec<ByteRange>) -> BoxFuture<'_, Result<()>> {
        let this = self.clone();
        self.detached(async move {
            for range in ranges {
                this.put(range.offset, vec![0; range.len as usize], Durability::Default).await?;
            }
            Ok(())
        })
    }

    fn compare_and_write(
        &self,
        offset: u64,
        expected: Vec<Bytes>,
        data: Vec<Bytes>,
        durability: Durability,
    ) -> BoxFuture<'_, Result<Comparison>> {
        let this = self.clone();
        self.detached(async move { this.compare(offset, expected.concat(), data.concat(), durability).await })
    }

    fn flush(&self) -> BoxFuture<'_, Result<()>> {
        if self.bug(Bug::SkipsFlush) {
            return Box::pin(std::future::ready(Ok(())));
        }
        Box::pin(self.shared.log.flush())
    }

    fn extents(&self, offset: u64, len: u64, _extents_max: usize) -> BoxFuture<'_, Result<Vec<Extent>>> {
        let extent = Extent { range: ByteRange { offset, len }, provisioning: Provisioning::Mapped };
        Box::pin(std::future::ready(Ok(vec![extent])))
    }
}
