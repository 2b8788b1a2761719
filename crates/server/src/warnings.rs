//! What an administrator should look at, for `palisade status`.

use block::format_size;
use control::{Group, IsnsServerFacts, PoolView, PortalCondition, PortalView, ScheduleView, VolumeView};

/// Most hosts named of those whose secret cannot be read.
const SECRETS_SHOWN_MAX: usize = 3;

/// The warnings, most urgent first: pools that do not serve, pools that run full, what may be lost.
pub(crate) fn warnings(group: &Group, pools: &[PoolView]) -> Vec<String> {
    let mut found = Vec::new();
    for pool in pools {
        let name = &pool.record.name;
        match (&pool.offline, &pool.warning) {
            (Some(reason), _) => found.push(format!("pool {name} is offline: {reason}")),
            (None, Some(warning)) => found.push(format!("pool {name}: {warning}")),
            (None, None) => {}
        }
    }
    for volume in group.volumes() {
        let pool_is_open =
            pools.iter().any(|pool| pool.record.id == volume.record.pool && pool.offline.is_none());
        if let Some(reason) = volume.offline.filter(|_| pool_is_open) {
            found.push(format!("volume {} is offline: {reason}", volume.record.name));
        }
    }
    let unreadable = group.unreadable_secrets();
    found.extend(unreadable.iter().take(SECRETS_SHOWN_MAX).map(ToString::to_string));
    if let Some(more) = unreadable.len().checked_sub(SECRETS_SHOWN_MAX).filter(|more| *more > 0) {
        found.push(format!("{more} more hosts have a CHAP secret that cannot be read, and are refused"));
    }
    found.extend(group.portals().iter().filter_map(portal));
    found.extend(group.isns_servers().iter().filter_map(name_server));
    found.extend(pools.iter().filter_map(fullness));
    let now_unix_ms = group.unix_time_ms();
    for volume in group.volumes() {
        found.extend(volume_fullness(&volume));
        found.extend(limit(&volume));
        found.extend(snapshots(&volume));
        found.extend(dropped(&volume, now_unix_ms));
    }
    found.extend(group.schedules().iter().filter_map(schedule));
    for pool in pools.iter().filter(|pool| pool.record.volatile) {
        found
            .push(format!("pool {} is in memory: all in it is lost when the daemon stops", pool.record.name));
    }
    found
}

/// Snapshots that are not made are missed when it is too late.
fn schedule(schedule: &ScheduleView) -> Option<String> {
    let record = &schedule.record;
    let failure = record.failure.as_ref().filter(|_| record.enabled)?;
    Some(format!("schedule {} failed: {}", record.name, failure.message))
}

/// A path that is missing is easily forgotten: hosts get on without.
fn portal(portal: &PortalView) -> Option<String> {
    let address = portal.address;
    match portal.condition {
        PortalCondition::Serving => None,
        PortalCondition::Failed => {
            let reason = portal.reason.as_deref().unwrap_or("it is not open");
            Some(format!("portal {address} does not serve: {reason}"))
        }
        PortalCondition::Draining | PortalCondition::Drained => Some(format!(
            "portal {address} is out of service; `palisade portal resume {address}` puts it back"
        )),
        PortalCondition::Moved => Some(format!(
            "portal {address} has moved; when no host asks there any more, `palisade portal remove {address}`"
        )),
    }
}

fn name_server(server: &IsnsServerFacts) -> Option<String> {
    let error = server.error.as_ref()?;
    Some(format!("iSNS server {} is not told of targets: {error}", server.address))
}

fn fullness(pool: &PoolView) -> Option<String> {
    let (free, size, name) = (pool.usage.free_bytes, pool.usage.size_bytes, &pool.record.name);
    let warns = pool
        .record
        .warn_percent
        .is_some_and(|percent| free <= size / 100 * u64::from(100 - percent.min(100)));
    if pool.offline.is_some() || (free > 0 && !warns) {
        return None;
    }
    if free == 0 {
        return Some(format!(
            "pool {name} is full: writes to new blocks of its thin volumes fail; delete volumes, unmap on hosts, or \
             `palisade pool extend {name}`"
        ));
    }
    Some(format!("pool {name} runs full: {} of {} left", format_size(free), format_size(size)))
}

/// So much of a limit is left when it is as good as reached.
const LEFT_BYTES: u64 = 1 << 20;
/// Snapshots that were deleted for want of space are news for so long, in ms.
const NEWS_MS: u64 = 24 * 3_600_000;

/// A volume that may take no more.
fn limit(volume: &VolumeView) -> Option<String> {
    let (limit, taken) = volume.record.rules.limit_bytes.zip(volume.taken_bytes)?;
    (taken.saturating_add(LEFT_BYTES) > limit).then(|| {
        format!(
            "volume {} has taken all of its limit of {}: writes to new blocks fail; delete snapshots, unmap on hosts, or \
             `palisade volume set {} --limit SIZE`",
            volume.record.name,
            format_size(limit),
            volume.record.name
        )
    })
}

/// A volume whose snapshots keep more than they were said to.
fn snapshots(volume: &VolumeView) -> Option<String> {
    let rules = &volume.record.rules;
    let (reserve, kept) = (rules.snapshot_reserve_bytes?, volume.holding?.snapshots_bytes);
    let warns = rules.snapshot_warn_percent.is_some_and(|percent| kept >= reserve / 100 * u64::from(percent));
    let (kept_text, reserve_text) = (format_size(kept), format_size(reserve));
    (kept > reserve || warns).then(|| {
        format!("snapshots of volume {} keep {kept_text} of the {reserve_text} they may", volume.record.name)
    })
}

/// Snapshots that were deleted for want of space not long ago.
fn dropped(volume: &VolumeView, now_unix_ms: u64) -> Option<String> {
    let dropped = volume.record.rules.dropped.as_ref()?;
    let name = &volume.record.name;
    (now_unix_ms < dropped.at_unix_ms.saturating_add(NEWS_MS)).then(|| {
        format!("snapshots of volume {name} were deleted for want of space, the last {name}@{}", dropped.last)
    })
}

/// A volume that takes more than it was said to.
fn volume_fullness(volume: &VolumeView) -> Option<String> {
    let (record, used) = (&volume.record, volume.used_bytes);
    let percent = u64::from(record.warn_percent?);
    if volume.offline.is_some() || used < record.size_bytes / 100 * percent {
        return None;
    }
    let (used, size) = (format_size(used), format_size(record.size_bytes));
    Some(format!("volume {} takes {used} of its {size}, and warns at {percent} %", record.name))
}

#[cfg(test)]
mod tests {
    use super::*;
    use control::{Name, PoolId, PoolRecord, PoolUsage};

    fn pool(free_bytes: u64) -> PoolView {
        PoolView {
            record: PoolRecord {
                id: PoolId::from_random([1; 16]),
                name: Name::parse("tank").unwrap(),
                disks: Vec::new(),
                volatile: false,
                rules: control::PoolRules::default(),
                warn_percent: Some(80),
                key_file: None,
                created_unix_ms: 0,
            },
            space: None,
            forecast: control::Forecast::NotGrowing,
            offline: None,
            disks: Vec::new(),
            usage: PoolUsage { size_bytes: 100 << 30, used_bytes: (100 << 30) - free_bytes, free_bytes },
            warning: None,
            keys: None,
            provisioned_bytes: 0,
            volumes: 0,
        }
    }

    #[test]
    fn a_portal_out_of_service_is_not_forgotten() {
        let view = |condition, reason: Option<&str>| PortalView {
            address: ([192, 0, 2, 1], 3260).into(),
            tag: control::PortalGroupTag(1),
            fabric: None,
            condition,
            reason: reason.map(ToOwned::to_owned),
            to: None,
            state: control::PathState::Optimized,
            preferred: false,
            sessions: 0,
        };
        assert_eq!(portal(&view(PortalCondition::Serving, None)), None);
        let drained = portal(&view(PortalCondition::Drained, None)).unwrap();
        assert!(drained.contains("palisade portal resume 192.0.2.1:3260"), "{drained}");
        let failed = portal(&view(PortalCondition::Failed, Some("no such address"))).unwrap();
        assert!(failed.ends_with("does not serve: no such address"), "{failed}");
    }

    #[test]
    fn a_pool_is_said_to_run_full_before_it_is() {
        assert_eq!(fullness(&pool(50 << 30)), None);
        assert!(fullness(&pool(10 << 30)).unwrap().contains("10GiB of 100GiB left"));
        assert!(fullness(&pool(0)).unwrap().contains("palisade pool extend tank"));
        let mut calm = pool(10 << 30);
        calm.record.warn_percent = Some(95);
        assert_eq!(fullness(&calm), None);
        calm.record.warn_percent = None;
        assert_eq!(fullness(&calm), None);
        calm.usage.free_bytes = 0;
        assert!(fullness(&calm).is_some(), "a full one is always told of");
        assert_eq!(fullness(&PoolView { offline: Some("gone".to_owned()), ..pool(0) }), None);
    }
}
