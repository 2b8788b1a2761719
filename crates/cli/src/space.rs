//! Where space is, for people.

use crate::output::{ago, size};
use api::{Forecast, Growth, OnShort, PoolRules, PoolSpace, VolumeRules, VolumeSpace};

/// Figures that are not older than this are as good as new, in ms.
const NEW_MS: u64 = 5_000;
const DAY_MS: u64 = 86_400_000;

/// The parts of a pool, which add up to the whole: a property for each that is not empty.
pub(crate) fn parts(space: &PoolSpace) -> Vec<(&'static str, String)> {
    let mut pairs = vec![("Space", format!("{} for data and maps:", size(space.total_bytes)))];
    for (name, bytes) in [
        ("- volumes", space.volumes_bytes),
        ("- snapshots", space.snapshots_bytes),
        ("- deleted", space.released_bytes),
        ("- maps", space.map_bytes),
        ("- reserved", space.reserved_bytes),
        ("- set aside", space.spare_bytes),
        ("- held back", space.headroom_bytes),
        ("- withheld", space.withheld_bytes),
        ("- collectable", space.collectable_bytes),
        ("- unused", space.unused_bytes),
    ] {
        if bytes > 0 {
            pairs.push((name, size(bytes)));
        }
    }
    if space.shared_bytes > 0 {
        pairs.push(("Shared", format!("{} of that", size(space.shared_bytes))));
    }
    if let Some(old) = age(space.as_of_unix_ms) {
        pairs.push(("Counted", format!("{old} ago")));
    }
    pairs
}

/// What a volume or snapshot holds; empty if that was not counted.
pub(crate) fn holds(space: Option<VolumeSpace>) -> String {
    let Some(space) = space else { return String::new() };
    let counted = age(Some(space.as_of_unix_ms)).map_or_else(String::new, |old| format!(", {old} ago"));
    format!(
        "{}: {} of its own, {} shared{counted}",
        size(space.mapped_bytes),
        size(space.unique_bytes),
        size(space.shared_bytes)
    )
}

/// What only the snapshots of a volume hold.
pub(crate) fn kept(space: Option<VolumeSpace>) -> String {
    space.map_or_else(String::new, |space| format!("only they hold {}; ", size(space.snapshots_bytes)))
}

/// What only a snapshot holds, for a column.
pub(crate) fn unique(space: Option<VolumeSpace>) -> String {
    space.map_or_else(|| "-".to_owned(), |space| size(space.unique_bytes))
}

fn on_short(policy: OnShort) -> &'static str {
    match policy {
        OnShort::Warn => "warn",
        OnShort::DeleteOldest => "delete the oldest that schedules made",
        OnShort::DeleteOldestOfAll => "delete the oldest of all",
    }
}

/// What is kept of a volume's space, as far as something is.
pub(crate) fn volume_rules(rules: &VolumeRules) -> Vec<(&'static str, String)> {
    let mut pairs = Vec::new();
    if let Some(limit) = rules.limit_bytes {
        let taken = rules.taken_bytes.map_or_else(String::new, |taken| format!(", {} taken", size(taken)));
        pairs.push(("Limit", format!("{}{taken}", size(limit))));
    }
    if let Some(reserve) = rules.snapshot_reserve_bytes {
        let warns = crate::output::warning(rules.snapshot_warn_percent);
        pairs.push(("Snapshots keep", format!("up to {}; warns {warns}", size(reserve))));
    }
    let whose = if rules.on_short_of_pool { " (said for the pool)" } else { "" };
    if rules.on_short != OnShort::Warn || !rules.on_short_of_pool {
        pairs.push(("When short", format!("{}{whose}", on_short(rules.on_short))));
    }
    if let Some(dropped) = &rules.dropped {
        let count = dropped.count;
        let text =
            format!("{count} for want of space, last {} {} ago", dropped.last, ago(dropped.at_unix_ms));
        pairs.push(("Deleted", text));
    }
    pairs
}

/// What is kept of a pool's space, as far as something is.
pub(crate) fn pool_rules(rules: &PoolRules) -> Vec<(&'static str, String)> {
    let percent = rules.limit_percent.map(|percent| format!("{percent} % of its size"));
    let limit = rules.limit_bytes.map(size).or(percent);
    let mut pairs: Vec<_> = limit.map(|limit| ("Limit", limit)).into_iter().collect();
    if rules.on_short != OnShort::Warn {
        pairs.push(("When short", on_short(rules.on_short).to_owned()));
    }
    pairs
}

/// When something is full.
pub(crate) fn forecast(forecast: &Forecast) -> String {
    match (forecast.growth, forecast.full_unix_ms) {
        (Growth::Growing, Some(full)) => {
            let growth =
                forecast.bytes_a_day.map_or_else(String::new, |bytes| format!(", by {} a day", size(bytes)));
            match full.saturating_sub(now_unix_ms()) / DAY_MS {
                0 => format!("full within a day{growth}"),
                1 => format!("full in 1 day{growth}"),
                days => format!("full in {days} days{growth}"),
            }
        }
        (Growth::TooLittleHistory, _) => "too little history".to_owned(),
        _ => "not growing".to_owned(),
    }
}

#[allow(clippy::disallowed_methods, reason = "a program for people knows what time it is")]
fn now_unix_ms() -> u64 {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
    u64::try_from(now.as_millis()).unwrap_or(u64::MAX)
}

/// How old figures are, if they are not new.
fn age(as_of_unix_ms: Option<u64>) -> Option<String> {
    let then = as_of_unix_ms?;
    (now_unix_ms() > then.saturating_add(NEW_MS)).then(|| ago(then))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_parts_that_there_are_are_shown() {
        let space = PoolSpace {
            total_bytes: 7 << 20,
            volumes_bytes: 4 << 20,
            unused_bytes: 3 << 20,
            shared_bytes: 1 << 20,
            ..PoolSpace::default()
        };
        let shown = parts(&space);
        let text: Vec<_> = shown.iter().map(|(name, value)| format!("{name} {value}")).collect();
        assert_eq!(
            text,
            ["Space 7MiB for data and maps:", "- volumes 4MiB", "- unused 3MiB", "Shared 1MiB of that"]
        );
    }

    #[test]
    fn old_figures_say_how_old_they_are() {
        let space = VolumeSpace {
            mapped_bytes: 3 << 20,
            unique_bytes: 1 << 20,
            shared_bytes: 2 << 20,
            snapshots_bytes: 0,
            as_of_unix_ms: u64::MAX,
        };
        assert_eq!(holds(Some(space)), "3MiB: 1MiB of its own, 2MiB shared");
        let old = holds(Some(VolumeSpace { as_of_unix_ms: 1, ..space }));
        assert!(old.starts_with("3MiB: 1MiB of its own, 2MiB shared, ") && old.ends_with(" ago"), "{old}");
        let grows = |days: u64| Forecast {
            growth: Growth::Growing,
            bytes_a_day: Some(1 << 30),
            full_unix_ms: Some(now_unix_ms() + days * DAY_MS + DAY_MS / 2),
        };
        assert_eq!(forecast(&grows(12)), "full in 12 days, by 1GiB a day");
        assert_eq!(forecast(&grows(0)), "full within a day, by 1GiB a day");
        assert_eq!(forecast(&Forecast::default()), "too little history");
        assert_eq!((holds(None), unique(None)), (String::new(), "-".to_owned()));
    }
}
