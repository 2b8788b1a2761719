//! Where a session's commands come from, and the plain workload without verification.

use bytes::Bytes;

use super::config::{BlockSizes, LoadConfig, Pattern};
use super::{LoadError, Random};

/// Bytes of random filler that writes without verification take their data from.
const FILLER_BYTES: u64 = 1 << 20;

/// Which way data moves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Way {
    /// From the volume.
    Read,
    /// To the volume.
    Write,
}

/// One read or write, the same however often it has to be sent.
#[derive(Debug, Clone)]
pub(crate) struct Op {
    pub(crate) way: Way,
    /// Bytes from the volume's start.
    pub(crate) offset: u64,
    /// Bytes to move.
    pub(crate) length: u32,
    /// What to write; empty for a read.
    pub(crate) data: Bytes,
}

/// What a source says when asked for a command.
pub(crate) enum Next {
    /// Do this.
    Op(Op),
    /// Nothing can be done until something in flight is complete.
    Wait,
    /// There is no more.
    End,
}

/// The commands of one session.
pub(crate) trait Source {
    /// The next command.
    fn next(&mut self) -> Result<Next, LoadError>;

    /// `op` came back with status GOOD, and `data` if it was a read.
    fn completed(&mut self, op: Op, data: &[u8]) -> Result<(), LoadError>;

    /// `op` came back with an error; whether it was carried out is unknown.
    fn failed(&mut self, op: Op, why: &str) -> Result<(), LoadError>;
}

/// The share of a volume that one session of many works on.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Share {
    /// Which session, from 0.
    pub(crate) index: u64,
    /// Of how many.
    pub(crate) of: u64,
}

/// A workload that neither knows nor cares what the volume holds.
pub(crate) struct Plain {
    pattern: Pattern,
    sizes: BlockSizes,
    span: u64,
    random: Random,
    filler: Bytes,
    /// Where sequential commands begin again, continue, and end.
    lap: core::ops::Range<u64>,
    cursor: u64,
}

impl Plain {
    /// The workload of one session over the first `span` bytes.
    pub(crate) fn new(config: &LoadConfig, span: u64, share: Share, seed: u64) -> Self {
        let longest = config.block_sizes.longest();
        let part = (span / share.of) / longest * longest;
        // A volume too small to be parted is gone over by every session from its start.
        let lap = if part == 0 { 0..span } else { part * share.index..part * (share.index + 1) };
        let mut random = Random::new(seed ^ share.index.wrapping_mul(0xA24B_AED4_963E_E407));
        let filler = match config.pattern.read_percent() {
            100 => Bytes::new(),
            _ => filler(&mut random, longest + FILLER_BYTES),
        };
        let cursor = lap.start;
        let sizes = config.block_sizes.clone();
        Self { pattern: config.pattern, sizes, span, random, filler, lap, cursor }
    }

    fn place(&mut self, length: u64) -> u64 {
        if self.pattern.is_random() {
            return self.random.below(self.span / length) * length;
        }
        if self.cursor + length > self.lap.end {
            self.cursor = self.lap.start;
        }
        let offset = self.cursor;
        self.cursor += length;
        offset
    }

    fn data(&mut self, length: u64) -> Bytes {
        let start = self.random.below(FILLER_BYTES / 64) * 64;
        match (usize::try_from(start), usize::try_from(start + length)) {
            (Ok(start), Ok(end)) => self.filler.slice(start..end),
            _ => Bytes::new(),
        }
    }
}

impl Source for Plain {
    fn next(&mut self) -> Result<Next, LoadError> {
        let length = draw_length(&mut self.random, &self.sizes);
        let way = draw_way(&mut self.random, self.pattern.read_percent());
        let offset = self.place(length);
        let data = if way == Way::Write { self.data(length) } else { Bytes::new() };
        Ok(Next::Op(Op { way, offset, length: u32::try_from(length).unwrap_or(0), data }))
    }

    fn completed(&mut self, _: Op, _: &[u8]) -> Result<(), LoadError> {
        Ok(())
    }

    fn failed(&mut self, _: Op, _: &str) -> Result<(), LoadError> {
        Ok(())
    }
}

pub(super) fn draw_length(random: &mut Random, sizes: &BlockSizes) -> u64 {
    match sizes.lengths() {
        [only] => *only,
        many => {
            let index = usize::try_from(random.below(u64::try_from(many.len()).unwrap_or(1))).unwrap_or(0);
            many.get(index).copied().unwrap_or(512)
        }
    }
}

pub(super) fn draw_way(random: &mut Random, read_percent: u8) -> Way {
    match read_percent {
        100 => Way::Read,
        0 => Way::Write,
        percent if random.below(100) < u64::from(percent) => Way::Read,
        _ => Way::Write,
    }
}

fn filler(random: &mut Random, length: u64) -> Bytes {
    let words = (length / 8) + 1;
    (0..words).flat_map(|_| random.next().to_le_bytes()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const SPAN: u64 = 64 << 20;

    fn plain(pattern: &str, sizes: &str, share: Share) -> Plain {
        let url = "iscsi://h/iqn.a:b/0".parse().expect("url");
        let config = LoadConfig {
            pattern: pattern.parse().expect("pattern"),
            block_sizes: sizes.parse().expect("sizes"),
            ..LoadConfig::new(vec![url])
        };
        Plain::new(&config, SPAN, share, 1)
    }

    fn draw(source: &mut Plain) -> Op {
        match source.next() {
            Ok(Next::Op(op)) => op,
            _ => panic!("a plain source never ends"),
        }
    }

    #[test]
    fn random_commands_are_aligned_inside_and_everywhere() {
        let mut source = plain("mix:50", "4k,64k", Share { index: 0, of: 1 });
        let (mut reads, mut eighths) = (0, [0; 8]);
        for _ in 0..4000 {
            let op = draw(&mut source);
            assert!(
                op.offset + u64::from(op.length) <= SPAN && op.offset.is_multiple_of(u64::from(op.length))
            );
            assert_eq!(op.data.len(), if op.way == Way::Write { op.length as usize } else { 0 });
            reads += u32::from(op.way == Way::Read);
            eighths[(op.offset / (SPAN / 8)) as usize] += 1;
        }
        assert!((1800..2200).contains(&reads), "{reads} reads of 4000 at 50 %");
        assert!(eighths.iter().all(|count| (400..600).contains(count)), "{eighths:?}");
    }

    #[test]
    fn sequential_sessions_walk_their_own_parts_and_come_round() {
        let part = SPAN / 4;
        for index in 0..4 {
            let mut source = plain("write", "1M", Share { index, of: 4 });
            let offsets: Vec<u64> = (0..17).map(|_| draw(&mut source).offset).collect();
            assert_eq!(offsets[0], part * index);
            assert!(offsets.windows(2).take(15).all(|pair| pair[1] == pair[0] + (1 << 20)));
            assert_eq!(offsets[16], offsets[0], "after the end it begins again");
        }
    }

    #[test]
    fn sessions_draw_different_addresses() {
        let mut a = plain("randread", "4k", Share { index: 0, of: 2 });
        let mut b = plain("randread", "4k", Share { index: 1, of: 2 });
        let same = (0..100).filter(|_| draw(&mut a).offset == draw(&mut b).offset).count();
        assert!(same < 5, "{same} of 100 are equal");
    }

    #[test]
    fn written_data_does_not_compress_away() {
        let mut source = plain("randwrite", "4k", Share { index: 0, of: 1 });
        let data = draw(&mut source).data;
        let mut histogram = [0u32; 256];
        data.iter().for_each(|byte| histogram[usize::from(*byte)] += 1);
        assert!(histogram.iter().all(|count| *count < 48), "bytes are evenly spread");
    }
}
