//! A volume in memory that does what a logical unit asks, and checks that it may be asked.

use bytes::Bytes;
use scsi::{
    BlockExtent, Comparison, MediaCommand, MediaFailureKind, MediaOutcome, Resources, SanitizeMethod,
};

/// Bytes of the volume.
pub(crate) const CAPACITY_BYTES: u64 = 256 << 10;

pub(crate) struct Medium {
    content: Vec<u8>,
    block_bytes: u64,
}

impl Medium {
    pub(crate) fn new(block_bytes: u64) -> Self {
        Self { content: vec![0; place(CAPACITY_BYTES)], block_bytes }
    }

    /// Does `command`. A range that is not inside the volume, or not of whole blocks, is a defect of the unit.
    pub(crate) fn carry_out(&mut self, command: MediaCommand) -> MediaOutcome {
        match command {
            MediaCommand::Read { offset, len, .. } => {
                MediaOutcome::Data(vec![Bytes::copy_from_slice(self.range(offset, len))])
            }
            MediaCommand::Write { offset, data, .. }
            | MediaCommand::WriteAtomic { offset, data, .. }
            | MediaCommand::WriteAndVerify { offset, data, .. } => {
                self.write(offset, &data.concat());
                MediaOutcome::Done
            }
            MediaCommand::WriteSame { offset, len, pattern, .. } => {
                assert_eq!(u64::try_from(pattern.len()), Ok(self.block_bytes), "the pattern is one block");
                self.range(offset, len)
                    .chunks_mut(pattern.len())
                    .for_each(|block| block.copy_from_slice(&pattern));
                MediaOutcome::Done
            }
            MediaCommand::WriteZeroes { offset, len, .. } => {
                self.range(offset, len).fill(0);
                MediaOutcome::Done
            }
            MediaCommand::Unmap { ranges } => {
                ranges.iter().for_each(|range| self.range(range.offset, range.len).fill(0));
                MediaOutcome::Done
            }
            MediaCommand::CompareAndWrite { offset, compare, write, .. } => {
                let (compare, write) = (compare.concat(), write.concat());
                assert_eq!(compare.len(), write.len(), "as much is written as compared");
                match self.differs(offset, &compare) {
                    Some(offset) => MediaOutcome::Miscompare { offset },
                    None => {
                        self.write(offset, &write);
                        MediaOutcome::Done
                    }
                }
            }
            MediaCommand::Verify { offset, len, comparison } => self.verify(offset, len, comparison),
            MediaCommand::BlockStatus { offset, len, max_extents } => {
                assert!(max_extents > 0 && self.range(offset, len).len() == place(len));
                MediaOutcome::Status(vec![BlockExtent { len, mapped: true }])
            }
            MediaCommand::Flush { offset, len } | MediaCommand::Prefetch { offset, len } => {
                self.range(offset, len);
                MediaOutcome::Done
            }
            MediaCommand::OrWrite { offset, data, .. } => {
                let data = data.concat();
                let len = u64::try_from(data.len()).expect("memory is addressed with 64 bits");
                self.range(offset, len).iter_mut().zip(&data).for_each(|(is, more)| *is |= more);
                MediaOutcome::Done
            }
            MediaCommand::Resources => MediaOutcome::Resources(Some(Resources {
                pool_bytes: 4 * CAPACITY_BYTES,
                available_bytes: CAPACITY_BYTES,
                used_bytes: CAPACITY_BYTES / 2,
            })),
            MediaCommand::Sanitize { method, .. } => self.sanitize(&method),
            MediaCommand::LeaveFailedSanitize => MediaOutcome::Done,
            // There is no other volume.
            MediaCommand::Copy(_) => MediaOutcome::Failed(MediaFailureKind::NotReady.into()),
        }
    }

    fn sanitize(&mut self, method: &SanitizeMethod) -> MediaOutcome {
        match method {
            SanitizeMethod::BlockErase | SanitizeMethod::CryptoErase => self.content.fill(0),
            SanitizeMethod::Overwrite(block) => {
                assert_eq!(u64::try_from(block.len()), Ok(self.block_bytes), "the pattern is one block");
                self.content = block.repeat(self.content.len() / block.len());
            }
        }
        MediaOutcome::Done
    }

    fn verify(&mut self, offset: u64, len: u64, comparison: Comparison) -> MediaOutcome {
        let expected = match comparison {
            Comparison::Readable => self.range(offset, len).to_vec(),
            Comparison::Bytes(bytes) => bytes.concat(),
            Comparison::RepeatedBlock(block) => block.repeat(place(len / self.block_bytes)),
        };
        assert_eq!(u64::try_from(expected.len()), Ok(len), "as much is compared as asked for");
        match self.differs(offset, &expected) {
            Some(offset) => MediaOutcome::Miscompare { offset },
            None => MediaOutcome::Done,
        }
    }

    fn differs(&mut self, offset: u64, expected: &[u8]) -> Option<u64> {
        let len = u64::try_from(expected.len()).expect("memory is addressed with 64 bits");
        let is = self.range(offset, len);
        let place = is.iter().zip(expected).position(|(is, expected)| is != expected)?;
        u64::try_from(place).ok()
    }

    fn write(&mut self, offset: u64, data: &[u8]) {
        let len = u64::try_from(data.len()).expect("memory is addressed with 64 bits");
        self.range(offset, len).copy_from_slice(data);
    }

    fn range(&mut self, offset: u64, len: u64) -> &mut [u8] {
        let whole = |bytes: u64| bytes.is_multiple_of(self.block_bytes);
        assert!(whole(offset) && whole(len), "{offset} and {len} are not whole blocks");
        let end = offset.checked_add(len).expect("the range ends");
        assert!(end <= CAPACITY_BYTES, "{offset} and {len} are not inside the volume");
        &mut self.content[place(offset)..place(end)]
    }
}

fn place(bytes: u64) -> usize {
    usize::try_from(bytes).expect("the volume is in memory")
}
