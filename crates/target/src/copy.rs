//! Copies, carried out: EXTENDED COPY and ROD tokens.
//!
//! A copy goes on in pieces. Before each piece the host's rights at both ends are looked at anew, so that whoever is
//! shut out by a reservation, loses access or is reset stops there; and a piece that writes counts as an operation of
//! the destination, so that ending tasks waits for it.

mod end;
mod pieces;
#[cfg(test)]
mod tests;

use crate::copies::{Requester, TokenSource};
use crate::media::MediaFuture;
use crate::unit::LogicalUnitHandle;
use end::End;
pub(crate) use pieces::MEMORY;
use pieces::{Job, TokenInUse};
use scsi::{
    ByteRange, CopyCommand, CopyFault, CopyRange, CopyReport, CopySegment, CopySide, CopyWork, MediaOutcome,
    NexusId, RodToken, UnitReference,
};
use std::sync::Arc;

/// A copy that `nexus` of `unit` asked for, on behalf of `requester`.
pub(crate) fn run(
    unit: Arc<LogicalUnitHandle>,
    nexus: NexusId,
    requester: Requester,
    command: CopyCommand,
) -> MediaFuture {
    MediaFuture::new(async move {
        let own = Own { unit, nexus, requester, command };
        let report = match own.carry_out().await {
            Ok(token) => CopyReport { fault: None, token },
            Err(fault) => CopyReport::failed(fault),
        };
        own.unit.count_copy(&own.command, report.fault);
        if let Some(fault) = report.fault {
            let (initiator, bytes) = (&own.requester.initiator, own.command.progress.bytes());
            tracing::debug!(initiator, ?fault, bytes, "a copy ended early");
        }
        MediaOutcome::Copied(report)
    })
}

/// What a copy knows of the command it comes from.
struct Own {
    unit: Arc<LogicalUnitHandle>,
    nexus: NexusId,
    requester: Requester,
    command: CopyCommand,
}

impl Own {
    async fn carry_out(&self) -> Result<Option<RodToken>, CopyFault> {
        match &self.command.work {
            CopyWork::Segments(segments) => {
                for segment in segments {
                    self.segment(segment).await?;
                }
                Ok(None)
            }
            CopyWork::CreateToken { ranges, inactivity_seconds, .. } => {
                self.create_token(ranges, *inactivity_seconds).map(Some)
            }
            CopyWork::FromToken { token, offset, ranges, delete } => {
                self.write_using(token, *offset, ranges, *delete).await.map(|()| None)
            }
        }
    }

    fn job<'a>(
        &'a self,
        source: Option<&'a End>,
        destination: &'a End,
        token: Option<TokenInUse<'a>>,
    ) -> Job<'a> {
        Job { source, destination, token, progress: &self.command.progress }
    }

    fn end(&self, reference: UnitReference, side: CopySide) -> Result<End, CopyFault> {
        let unreachable = CopyFault::Unreachable(side);
        match reference {
            UnitReference::Own => Ok(self.own_end(side)),
            UnitReference::Unknown => Err(unreachable),
            UnitReference::Naa(naa) => {
                let copies = self.unit.copies().ok_or(unreachable)?;
                let grant = copies.unit_for_copy(&self.requester, &naa).ok_or(unreachable)?;
                let read_only = grant.read_only;
                Ok(End::new(grant.unit, None, self.requester.initiator.clone(), read_only, side))
            }
        }
    }

    fn own_end(&self, side: CopySide) -> End {
        let initiator = self.requester.initiator.clone();
        End::new(Arc::clone(&self.unit), Some(self.nexus), initiator, true, side)
    }

    async fn segment(&self, segment: &CopySegment) -> Result<(), CopyFault> {
        self.command.progress.begin_segment();
        let source = self.end(segment.source.unit, CopySide::Source)?;
        let destination = self.end(segment.destination.unit, CopySide::Destination)?;
        let range = segment.resolve(source.admit()?.geometry, destination.admit()?.geometry)?;
        let job = self.job(Some(&source), &destination, None);
        job.copy(range).await?;
        job.settle().await
    }

    fn create_token(&self, ranges: &[ByteRange], inactivity_seconds: u32) -> Result<RodToken, CopyFault> {
        let CopyWork::CreateToken { creator, .. } = &self.command.work else {
            return Err(CopyFault::NoRoomForToken);
        };
        self.own_end(CopySide::Source).admit()?;
        let copies = self.unit.copies().ok_or(CopyFault::NoRoomForToken)?;
        let source = TokenSource {
            unit: Arc::downgrade(&self.unit),
            requester: self.requester.clone(),
            nexus: self.nexus,
        };
        let made =
            copies.create_token(&self.unit, source, creator.clone(), ranges.to_vec(), inactivity_seconds);
        let token = made.ok_or(CopyFault::NoRoomForToken)?;
        self.command.progress.advance(ranges.iter().map(|range| range.len).sum());
        Ok(token)
    }

    async fn write_using(
        &self,
        token: &RodToken,
        offset: u64,
        ranges: &[ByteRange],
        delete: bool,
    ) -> Result<(), CopyFault> {
        let destination = self.own_end(CopySide::Destination);
        if token.is_zero() {
            let job = self.job(None, &destination, None);
            for range in ranges {
                let zeroes = CopyRange { source_offset: 0, destination_offset: range.offset, len: range.len };
                job.copy(zeroes).await?;
            }
            return job.settle().await;
        }
        let copies = self.unit.copies().ok_or(CopyFault::Token(scsi::TokenFault::Unknown))?;
        let found = copies.find_token(token).map_err(CopyFault::Token)?;
        if offset >= found.bytes {
            return Err(CopyFault::PastToken);
        }
        let source = self.token_end(&found.source)?;
        let block = u64::from(self.unit.block_size_bytes());
        let job = self.job(Some(&source), &destination, Some(TokenInUse { copies, id: found.id }));
        for range in pieces::matched(&found.ranges, offset, ranges, block) {
            job.copy(range).await?;
        }
        job.settle().await?;
        if delete {
            copies.delete_token(found.id);
        }
        Ok(())
    }

    /// What a token stands for, read in the name of the host that had it made, which must still be allowed to.
    fn token_end(&self, source: &TokenSource) -> Result<End, CopyFault> {
        let gone = CopyFault::Unreachable(CopySide::Source);
        let unit = source.unit.upgrade().ok_or(gone)?;
        let nexus = unit.knows(source.nexus).then_some(source.nexus);
        let copies = self.unit.copies().ok_or(gone)?;
        if nexus.is_none() && copies.unit_for_copy(&source.requester, &unit.naa()).is_none() {
            return Err(gone);
        }
        Ok(End::new(unit, nexus, source.requester.initiator.clone(), true, CopySide::Source))
    }
}
