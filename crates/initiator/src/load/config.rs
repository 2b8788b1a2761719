//! What a load run is asked to do, parsed from what people write on a command line.

use core::fmt;
use core::str::FromStr;
use core::time::Duration;
use std::path::PathBuf;

use iscsi::initiator::CONNECTIONS_MAX;

use crate::link::Digests;
use crate::size::{ByteSize, SizeError};
use crate::url::TargetUrl;

/// Largest single read or write, in bytes: what fits every target's usual limits.
const TRANSFER_BYTES_MAX: u64 = 16 << 20;
/// Most commands in flight in one session.
const DEPTH_MAX: u32 = 4096;
/// Most sessions of one run.
const SESSIONS_MAX: u32 = 4096;
/// Smallest logical block of a disk, in bytes; every block size is a multiple of it.
const SECTOR_BYTES: u64 = 512;
/// Reads in a hundred when `mix` is asked for without a share.
const MIX_READ_PERCENT: u8 = 70;

/// A contradiction in the configuration, or between it and the volume.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct ConfigError(pub(crate) String);

impl ConfigError {
    pub(crate) fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }
}

impl From<SizeError> for ConfigError {
    fn from(error: SizeError) -> Self {
        Self(error.to_string())
    }
}

/// Which commands are issued, and in what order of addresses.
///
/// Parses from `randread`, `randwrite`, `read`, `write`, `mix` (70 % reads) and `mix:40`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Pattern {
    /// Reads at random addresses.
    RandRead,
    /// Writes at random addresses.
    RandWrite,
    /// Reads in ascending order, each session in its own part of the volume.
    Read,
    /// Writes in ascending order, each session in its own part of the volume.
    Write,
    /// Reads and writes at random addresses.
    Mix {
        /// Reads in a hundred commands, 0 to 100.
        read_percent: u8,
    },
}

impl Pattern {
    /// Whether addresses are drawn at random.
    pub fn is_random(self) -> bool {
        !matches!(self, Self::Read | Self::Write)
    }

    /// How many commands in a hundred are reads.
    pub fn read_percent(self) -> u8 {
        match self {
            Self::RandRead | Self::Read => 100,
            Self::RandWrite | Self::Write => 0,
            Self::Mix { read_percent } => read_percent,
        }
    }
}

impl FromStr for Pattern {
    type Err = ConfigError;

    fn from_str(text: &str) -> Result<Self, ConfigError> {
        let wrong = || {
            ConfigError::new(format!(
                "`{text}` is no workload: write randread, randwrite, read, write, mix or mix:READ-PERCENT"
            ))
        };
        Ok(match text {
            "randread" => Self::RandRead,
            "randwrite" => Self::RandWrite,
            "read" => Self::Read,
            "write" => Self::Write,
            "mix" => Self::Mix { read_percent: MIX_READ_PERCENT },
            _ => {
                let share = text.strip_prefix("mix:").ok_or_else(wrong)?;
                let read_percent = share.trim_end_matches('%').parse().map_err(|_| wrong())?;
                if read_percent > 100 {
                    return Err(wrong());
                }
                Self::Mix { read_percent }
            }
        })
    }
}

impl fmt::Display for Pattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::RandRead => f.write_str("randread"),
            Self::RandWrite => f.write_str("randwrite"),
            Self::Read => f.write_str("read"),
            Self::Write => f.write_str("write"),
            Self::Mix { read_percent } => write!(f, "mix:{read_percent}"),
        }
    }
}

/// Lengths of the commands, in bytes, each drawn with equal chance.
///
/// Parses from `4k`, from a list `4k,64k,1M`, or from a range `4k-64k`, which stands for its
/// lower end doubled until the upper end is reached.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BlockSizes(Vec<u64>);

impl BlockSizes {
    /// Every length in bytes; never empty, each a multiple of 512.
    pub fn lengths(&self) -> &[u64] {
        &self.0
    }

    /// The longest length in bytes.
    pub fn longest(&self) -> u64 {
        self.0.iter().copied().max().unwrap_or(SECTOR_BYTES)
    }

    /// Whether every length is a multiple of `unit` bytes.
    pub fn are_multiples_of(&self, unit: u64) -> bool {
        self.0.iter().all(|length| length % unit == 0)
    }
}

impl FromStr for BlockSizes {
    type Err = ConfigError;

    fn from_str(text: &str) -> Result<Self, ConfigError> {
        let mut lengths = Vec::new();
        for part in text.split(',') {
            match part.split_once('-') {
                Some((low, high)) => lengths.extend(doublings(length(low)?, length(high)?)?),
                None => lengths.push(length(part)?),
            }
        }
        Ok(Self(lengths))
    }
}

impl fmt::Display for BlockSizes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, length) in self.0.iter().enumerate() {
            let comma = if index == 0 { "" } else { "," };
            write!(f, "{comma}{}", ByteSize(*length))?;
        }
        Ok(())
    }
}

fn length(text: &str) -> Result<u64, ConfigError> {
    let ByteSize(bytes) = text.parse()?;
    if bytes == 0 || bytes % SECTOR_BYTES != 0 || bytes > TRANSFER_BYTES_MAX {
        return Err(ConfigError::new(format!(
            "block size {text} is not a multiple of 512 between 512 and {}",
            ByteSize(TRANSFER_BYTES_MAX)
        )));
    }
    Ok(bytes)
}

fn doublings(low: u64, high: u64) -> Result<Vec<u64>, ConfigError> {
    if low > high {
        return Err(ConfigError::new("a block size range begins above its end"));
    }
    let mut lengths: Vec<u64> =
        core::iter::successors(Some(low), |length| length.checked_mul(2)).take_while(|l| *l < high).collect();
    lengths.push(high);
    Ok(lengths)
}

/// Everything a load run needs to know. Start from [`LoadConfig::new`] and set what differs.
#[derive(Debug, Clone)]
pub struct LoadConfig {
    /// Paths to the volume; sessions are dealt to them in turn. With `verify` all must lead to
    /// the same logical unit.
    pub targets: Vec<TargetUrl>,
    /// The iSCSI name the sessions log in with.
    pub initiator_name: String,
    /// Reads, writes or both, at random or in order.
    pub pattern: Pattern,
    /// Length of each command.
    pub block_sizes: BlockSizes,
    /// Commands kept in flight in each session.
    pub depth: u32,
    /// Number of sessions.
    pub sessions: u32,
    /// TCP connections of each session.
    pub connections: u16,
    /// Threads that drive the sessions; `None` takes the lesser of sessions and processors.
    pub threads: Option<u32>,
    /// How long commands are issued.
    pub duration: Duration,
    /// Use only this many bytes from the volume's start; `None` uses all of it.
    pub span: Option<u64>,
    /// Keep track of every acknowledged write in this file and prove that all are kept.
    pub verify: Option<PathBuf>,
    /// How long a broken session may take to come back before the run fails. Also how long the
    /// first connection may take if `wait_for_target` is set.
    pub patience: Duration,
    /// Treat a refused first connection like a later one: try again for `patience`.
    pub wait_for_target: bool,
    /// A connection that answers nothing for this long, with commands in flight, is broken.
    pub silence_limit: Duration,
    /// Ask for header and data digests (CRC32C).
    pub digests: Digests,
    /// Set FUA in every write.
    pub fua: bool,
    /// Seed of addresses and lengths; equal seeds give equal sequences. `None` draws one.
    pub seed: Option<u64>,
}

impl LoadConfig {
    /// Random 4 KiB reads at depth 32 in one session for ten seconds.
    pub fn new(targets: Vec<TargetUrl>) -> Self {
        Self {
            targets,
            initiator_name: crate::link::DEFAULT_INITIATOR_NAME.to_owned(),
            pattern: Pattern::RandRead,
            block_sizes: BlockSizes(vec![4096]),
            depth: 32,
            sessions: 1,
            connections: 1,
            threads: None,
            duration: Duration::from_secs(10),
            span: None,
            verify: None,
            patience: Duration::from_secs(60),
            wait_for_target: false,
            silence_limit: Duration::from_secs(15),
            digests: Digests::default(),
            fua: false,
            seed: None,
        }
    }

    /// Whether the numbers make sense by themselves, before any connection.
    ///
    /// # Errors
    /// [`ConfigError`] says which one does not.
    pub fn check(&self) -> Result<(), ConfigError> {
        let first = self.targets.first().ok_or_else(|| ConfigError::new("no target is named"))?;
        if let Some(url) = self.targets.iter().find(|url| url.iqn.is_empty()) {
            return Err(ConfigError::new(format!("{url} names no target, only a portal")));
        }
        if !(1..=DEPTH_MAX).contains(&self.depth) {
            return Err(ConfigError::new(format!("depth must be 1 to {DEPTH_MAX}")));
        }
        if !(1..=SESSIONS_MAX).contains(&self.sessions) {
            return Err(ConfigError::new(format!("sessions must be 1 to {SESSIONS_MAX}")));
        }
        if !(1..=CONNECTIONS_MAX).contains(&self.connections) {
            return Err(ConfigError::new(format!("connections must be 1 to {CONNECTIONS_MAX}")));
        }
        if self.threads == Some(0) {
            return Err(ConfigError::new("threads must be at least 1"));
        }
        let same_unit = |url: &TargetUrl| url.iqn == first.iqn && url.lun == first.lun;
        if self.verify.is_some() && !self.targets.iter().all(same_unit) {
            return Err(ConfigError::new("with verify every URL must name the same target and LUN"));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_parse_and_print() {
        for text in ["randread", "randwrite", "read", "write", "mix:0", "mix:100"] {
            assert_eq!(text.parse::<Pattern>().expect(text).to_string(), text);
        }
        assert_eq!("mix".parse(), Ok(Pattern::Mix { read_percent: 70 }));
        assert_eq!("mix:40%".parse(), Ok(Pattern::Mix { read_percent: 40 }));
        for text in ["", "random", "mix:", "mix:101", "mix:-1", "mix:x"] {
            assert!(text.parse::<Pattern>().is_err(), "{text}");
        }
    }

    #[test]
    fn block_sizes_are_one_a_list_or_a_range() {
        let sizes = |text: &str| text.parse::<BlockSizes>().map(|sizes| sizes.0);
        assert_eq!(sizes("4k"), Ok(vec![4096]));
        assert_eq!(sizes("4k,64k"), Ok(vec![4096, 65536]));
        assert_eq!(sizes("4k-32k,1M"), Ok(vec![4096, 8192, 16384, 32768, 1 << 20]));
        assert_eq!(sizes("3k-8k"), Ok(vec![3072, 6144, 8192]));
        for text in ["", "0", "100", "4k,", "8k-4k", "64M", "4k-"] {
            assert!(sizes(text).is_err(), "{text}");
        }
        assert_eq!("4096,65536".parse::<BlockSizes>().expect("list").to_string(), "4KiB,64KiB");
    }

    #[test]
    fn contradictions_are_found_before_connecting() {
        let url: TargetUrl = "iscsi://host/iqn.a:b/0".parse().expect("url");
        let other: TargetUrl = "iscsi://host/iqn.a:b/1".parse().expect("url");
        let portal: TargetUrl = "iscsi://host".parse().expect("url");
        let good = LoadConfig::new(vec![url.clone()]);
        assert_eq!(good.check(), Ok(()));
        let bad = [
            LoadConfig::new(vec![]),
            LoadConfig::new(vec![portal]),
            LoadConfig { depth: 0, ..good.clone() },
            LoadConfig { sessions: 0, ..good.clone() },
            LoadConfig { connections: 0, ..good.clone() },
            LoadConfig { connections: CONNECTIONS_MAX + 1, ..good.clone() },
            LoadConfig { threads: Some(0), ..good.clone() },
            LoadConfig { verify: Some("x".into()), targets: vec![url, other], ..good },
        ];
        for config in bad {
            assert!(config.check().is_err(), "{config:?}");
        }
    }
}
