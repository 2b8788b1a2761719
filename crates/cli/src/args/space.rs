//! Options about space that volumes and pools have.

use api::{OnShort, UpdatePoolRules, UpdateVolumeRules};
use clap::{Args, ValueEnum};

/// How much a volume may take, and what becomes of its snapshots.
#[derive(Debug, Clone, Copy, Default, Args)]
pub(crate) struct VolumeSpace {
    /// How much of the pool it and its snapshots may take: 200GiB, or off
    #[arg(long, value_name = "SIZE", value_parser = amount)]
    limit: Option<u64>,
    /// How much of the pool its snapshots alone may keep: 50GiB, or off
    #[arg(long, value_name = "SIZE", value_parser = amount)]
    snapshot_reserve: Option<u64>,
    /// Warn you when its snapshots keep so much of that: 80%, or off
    #[arg(long, value_name = "PERCENT", value_parser = percent)]
    snapshot_warn: Option<u8>,
    /// What becomes of its snapshots when space runs short
    #[arg(long, value_enum)]
    on_short: Option<VolumePolicy>,
}

/// How much of a pool may be filled, and what becomes of snapshots.
#[derive(Debug, Clone, Copy, Default, Args)]
pub(crate) struct PoolSpace {
    /// How much of it may be filled: 90%, 2TiB, or off
    #[arg(long, value_name = "PERCENT|SIZE", value_parser = share)]
    limit: Option<Share>,
    /// What becomes of snapshots when space runs short, of volumes for which nothing else is said
    #[arg(long, value_enum)]
    on_short: Option<PoolPolicy>,
}

/// A part of a pool.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Share {
    Percent(u8),
    Bytes(u64),
}

/// What becomes of a volume's snapshots when space runs short.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum VolumePolicy {
    /// They stay
    Warn,
    /// The oldest of those that schedules made go, before writes fail
    DeleteOldest,
    /// The oldest go, whoever made them
    DeleteOldestOfAll,
    /// What is said for the pool
    Pool,
}

/// The same for a pool.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum PoolPolicy {
    /// They stay
    Warn,
    /// The oldest of those that schedules made go, before writes fail
    DeleteOldest,
    /// The oldest go, whoever made them
    DeleteOldestOfAll,
}

impl VolumeSpace {
    /// What is asked for; none if nothing is.
    pub(crate) fn update(self) -> Option<UpdateVolumeRules> {
        let Self { limit, snapshot_reserve, snapshot_warn, on_short } = self;
        if limit.is_none() && snapshot_reserve.is_none() && snapshot_warn.is_none() && on_short.is_none() {
            return None;
        }
        Some(UpdateVolumeRules {
            limit_bytes: limit,
            snapshot_reserve_bytes: snapshot_reserve,
            snapshot_warn_percent: snapshot_warn,
            on_short: on_short.and_then(|policy| match policy {
                VolumePolicy::Warn => Some(OnShort::Warn),
                VolumePolicy::DeleteOldest => Some(OnShort::DeleteOldest),
                VolumePolicy::DeleteOldestOfAll => Some(OnShort::DeleteOldestOfAll),
                VolumePolicy::Pool => None,
            }),
            on_short_of_pool: on_short == Some(VolumePolicy::Pool),
        })
    }
}

impl PoolSpace {
    /// What is asked for; none if nothing is.
    pub(crate) fn update(self) -> Option<UpdatePoolRules> {
        let Self { limit, on_short } = self;
        if limit.is_none() && on_short.is_none() {
            return None;
        }
        let (limit_percent, limit_bytes) = match limit {
            Some(Share::Percent(percent)) => (Some(percent), None),
            Some(Share::Bytes(bytes)) => (None, Some(bytes)),
            None => (None, None),
        };
        let on_short = on_short.map(|policy| match policy {
            PoolPolicy::Warn => OnShort::Warn,
            PoolPolicy::DeleteOldest => OnShort::DeleteOldest,
            PoolPolicy::DeleteOldestOfAll => OnShort::DeleteOldestOfAll,
        });
        Some(UpdatePoolRules { limit_percent, limit_bytes, on_short })
    }
}

/// `80%`, `80`, or `off`, which is 0.
pub(super) fn percent(text: &str) -> Result<u8, String> {
    let number = text.strip_suffix('%').unwrap_or(text);
    match (text, number.parse()) {
        ("off", _) => Ok(0),
        (_, Ok(percent @ 1..=99)) => Ok(percent),
        _ => Err("write 1% to 99%, or off".to_owned()),
    }
}

/// A size, or `off` for 0.
fn amount(text: &str) -> Result<u64, String> {
    if text == "off" { Ok(0) } else { super::size(text) }
}

fn share(text: &str) -> Result<Share, String> {
    match text {
        "off" => Ok(Share::Bytes(0)),
        _ if text.ends_with('%') => percent(text).map(Share::Percent),
        _ => super::size(text).map(Share::Bytes),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pools_limit_is_a_part_or_a_size_or_off() {
        assert_eq!(share("90%"), Ok(Share::Percent(90)));
        assert_eq!(share("2TiB"), Ok(Share::Bytes(2 << 40)));
        assert_eq!((share("off"), amount("off")), (Ok(Share::Bytes(0)), Ok(0)));
        assert!(share("100%").is_err() && share("x").is_err() && amount("-1").is_err());
    }

    #[test]
    fn nothing_is_asked_for_where_nothing_is_said() {
        assert_eq!(VolumeSpace::default().update(), None);
        assert_eq!(PoolSpace::default().update(), None);
        let pool = VolumeSpace { on_short: Some(VolumePolicy::Pool), ..VolumeSpace::default() };
        assert!(pool.update().is_some_and(|update| update.on_short_of_pool && update.on_short.is_none()));
    }
}
