//! From the model's words to the API's, and back for requests.

mod space;

use control::{
    Cache, ChapRecord, ConnectionFacts, Error, ErrorKind, Group, HostRecord, HostUpdate, KeySlot, NewChap,
    NewHost, NewMutual, NewPool, NewVolume, Outcome, PoolKeys, PoolUpdate, PoolView, Secret, SessionFacts,
    State, VolumeEncryption, VolumeUpdate, VolumeView,
};
use std::collections::HashMap;

/// The answer to an error of the model.
pub(crate) fn problem(error: &Error) -> api::Problem {
    let class = match error.kind {
        ErrorKind::Invalid => api::ErrorClass::Invalid,
        ErrorKind::NotFound => api::ErrorClass::NotFound,
        ErrorKind::Exists => api::ErrorClass::Exists,
        ErrorKind::InUse => api::ErrorClass::InUse,
        ErrorKind::AddressInUse => api::ErrorClass::AddressInUse,
        ErrorKind::NoSpace => api::ErrorClass::NoSpace,
        ErrorKind::Offline => api::ErrorClass::Offline,
        ErrorKind::Device => api::ErrorClass::Device,
        ErrorKind::Corrupt => api::ErrorClass::Corrupt,
        ErrorKind::Denied => api::ErrorClass::Denied,
        ErrorKind::Format => api::ErrorClass::Format,
        ErrorKind::Internal => api::ErrorClass::Internal,
        ErrorKind::Locked => api::ErrorClass::Locked,
    };
    api::Problem::new(class, &error.object, &error.message)
}

/// How a change ended, with the object.
pub(crate) fn change<T>(outcome: Outcome, item: T) -> api::Change<T> {
    let outcome = match outcome {
        Outcome::Created => api::Outcome::Created,
        Outcome::Changed => api::Outcome::Changed,
        Outcome::Unchanged => api::Outcome::Unchanged,
        Outcome::Deleted => api::Outcome::Deleted,
    };
    api::Change { outcome, item }
}

/// A number of things, as the API counts them.
pub(crate) fn count(number: usize) -> u32 {
    u32::try_from(number).unwrap_or(u32::MAX)
}

fn media(media: block::Media) -> &'static str {
    match media {
        block::Media::Device => "device",
        block::Media::File => "file",
        block::Media::Memory => "memory",
    }
}

pub(crate) fn pool(view: PoolView) -> api::Pool {
    let online = view.disks.iter().map(|disk| api::PoolDisk {
        path: disk.path.clone(),
        size_bytes: disk.size_bytes,
        media: media(disk.media).to_owned(),
    });
    let offline = view.record.disks.iter().map(|path| api::PoolDisk {
        path: path.clone(),
        size_bytes: 0,
        media: "unknown".to_owned(),
    });
    api::Pool {
        id: view.record.id.to_string(),
        name: view.record.name.to_string(),
        state: if view.offline.is_none() { api::PoolState::Online } else { api::PoolState::Offline },
        disks: if view.offline.is_none() { online.collect() } else { offline.collect() },
        reason: view.offline.or(view.warning),
        class: "single".to_owned(),
        size_bytes: view.usage.size_bytes,
        used_bytes: view.usage.used_bytes,
        free_bytes: view.usage.free_bytes,
        space: view.space.map(pool_space),
        forecast: space::forecast(view.forecast),
        rules: space::pool(&view.record.rules),
        warn_percent: view.record.warn_percent,
        provisioned_bytes: view.provisioned_bytes,
        volumes: count(view.volumes),
        lost_at_exit: view.record.volatile,
        encryption: view.keys.map(|keys| encryption(keys, view.record.key_file)),
        created_unix_ms: view.record.created_unix_ms,
    }
}

fn encryption(keys: PoolKeys, key_file: Option<String>) -> api::PoolEncryption {
    let PoolKeys { locked, damaged, encrypt_new, slots, data_keys, data_keys_max } = keys;
    let slot = |slot: KeySlot| api::KeySlot {
        slot: slot.index,
        kind: if slot.passphrase { api::KeySlotKind::Passphrase } else { api::KeySlotKind::KeyFile },
    };
    api::PoolEncryption {
        state: match (damaged, locked) {
            (true, _) => api::KeyState::Damaged,
            (false, true) => api::KeyState::Locked,
            (false, false) => api::KeyState::Unlocked,
        },
        encrypt_new_volumes: encrypt_new,
        slots: slots.into_iter().map(slot).collect(),
        key_file,
        data_keys: count(data_keys),
        data_keys_max: count(data_keys_max),
    }
}

pub(crate) fn volume(group: &Group, view: VolumeView) -> api::Volume {
    let record = view.record;
    let sessions = group.sessions().iter().filter(|session| uses(session, record.id)).count();
    api::Volume {
        id: record.id.to_string(),
        name: record.name.to_string(),
        pool: view.pool,
        state: if view.offline.is_none() { api::VolumeState::Online } else { api::VolumeState::Offline },
        reason: view.offline,
        size_bytes: record.size_bytes,
        used_bytes: view.used_bytes,
        written_bytes: view.written_bytes,
        space: view.holding.map(volume_space),
        forecast: space::forecast(view.forecast),
        rules: space::volume(&record.rules, view.taken_bytes, view.on_short),
        snapshots: count(view.snapshots),
        read_only: record.read_only,
        template: record.template,
        origin: view.origin.map(origin),
        detachment: view.detachment.map(detachment),
        clones: view.clones,
        warn_percent: record.warn_percent,
        block_size: record.block_size,
        provisioning: if record.thick { api::Provisioning::Thick } else { api::Provisioning::Thin },
        cache: match record.cache {
            Cache::Durable => api::CacheMode::Durable,
            Cache::Buffered => api::CacheMode::Buffered,
        },
        offload: record.offload,
        copies: copies(group.copy_facts(record.id)),
        sanitization: sanitization(group.sanitization(record.id)),
        encryption: match view.encryption {
            VolumeEncryption::None => api::VolumeEncryption::None,
            VolumeEncryption::Open => api::VolumeEncryption::Encrypted,
            VolumeEncryption::Locked => api::VolumeEncryption::Locked,
            VolumeEncryption::Forgotten => api::VolumeEncryption::KeyDestroyed,
        },
        iqn: record.iqn.to_string(),
        targets: group.with_state(|state| targets(state, record.id)),
        naa: record.naa.to_string(),
        serial: record.serial,
        grants: view.grants.into_iter().map(|(host, read_only)| api::Grant { host, read_only }).collect(),
        sessions: count(sessions),
        created_unix_ms: record.created_unix_ms,
    }
}

fn pool_space(space: control::PoolSpace) -> api::PoolSpace {
    api::PoolSpace {
        total_bytes: space.total_bytes,
        volumes_bytes: space.volumes_bytes,
        snapshots_bytes: space.snapshots_bytes,
        released_bytes: space.released_bytes,
        shared_bytes: space.shared_bytes,
        map_bytes: space.map_bytes,
        reserved_bytes: space.reserved_bytes,
        spare_bytes: space.spare_bytes,
        headroom_bytes: space.headroom_bytes,
        withheld_bytes: space.withheld_bytes,
        collectable_bytes: space.collectable_bytes,
        unused_bytes: space.unused_bytes,
        as_of_unix_ms: space.as_of_unix_ms,
    }
}

/// What a volume or snapshot holds.
pub(crate) fn volume_space(holding: control::Holding) -> api::VolumeSpace {
    let control::Holding { mapped_bytes, unique_bytes, snapshots_bytes, as_of_unix_ms } = holding;
    let shared_bytes = mapped_bytes.saturating_sub(unique_bytes);
    api::VolumeSpace { mapped_bytes, unique_bytes, shared_bytes, snapshots_bytes, as_of_unix_ms }
}

fn origin(view: control::OriginView) -> api::VolumeOrigin {
    let control::OriginView { volume, snapshot, exists } = view;
    api::VolumeOrigin { volume, snapshot, exists }
}

fn detachment(of: control::Detachment) -> api::Detachment {
    let control::Detachment { done_bytes, size_bytes, waits } = of;
    api::Detachment { done_bytes, size_bytes, waits }
}

fn targets(state: &State, volume: control::VolumeId) -> Vec<api::VolumeTarget> {
    let named = |target: &control::TargetRecord| {
        let lun = target.lun_of(volume)?.number();
        Some(api::VolumeTarget { target: target.name.to_string(), lun })
    };
    state.targets_of(volume).filter_map(named).collect()
}

fn sanitization(sanitization: block::Sanitization) -> Option<api::Sanitization> {
    match sanitization {
        block::Sanitization::Idle => None,
        block::Sanitization::Running { progress } => {
            let percent = u8::try_from((u32::from(progress) * 100) >> 16).unwrap_or(100);
            Some(api::Sanitization { percent, failed: false })
        }
        block::Sanitization::Failed { .. } => Some(api::Sanitization { percent: 0, failed: true }),
    }
}

fn copies(facts: control::CopyFacts) -> api::CopyCounts {
    let control::CopyFacts { copies: done, tokens, failed, bytes } = facts;
    api::CopyCounts { done, tokens, failed, bytes }
}

pub(crate) fn host(group: &Group, record: &HostRecord) -> api::Host {
    let sessions = group.sessions().iter().filter(|session| session.host == Some(record.id)).count();
    let grants = group.with_state(|state| {
        let grants = state.grants_of(record.id);
        grants.map(|(volume, grant)| (volume.name.to_string(), grant.read_only)).collect::<Vec<_>>()
    });
    api::Host {
        id: record.id.to_string(),
        name: record.name.to_string(),
        iqns: record.initiators.iter().map(ToString::to_string).collect(),
        addresses: record.addresses.iter().map(ToString::to_string).collect(),
        chap: record.chap.as_ref().map(chap),
        grants: grants.into_iter().map(|(volume, read_only)| api::HostGrant { volume, read_only }).collect(),
        sessions: count(sessions),
        created_unix_ms: record.created_unix_ms,
    }
}

/// What a login has to prove, without the secrets.
pub(crate) fn chap(record: &ChapRecord) -> api::Chap {
    let mutual_user = record.mutual.as_ref().map(|mutual| mutual.user.clone());
    api::Chap { user: record.user.clone(), mutual: mutual_user.is_some(), mutual_user }
}

pub(crate) fn new_chap(request: &api::SetChap) -> control::Result<NewChap> {
    let mutual = match &request.mutual {
        Some(mutual) => {
            Some(NewMutual { user: mutual.user.clone(), secret: Secret::parse(&mutual.secret.0)? })
        }
        None => None,
    };
    Ok(NewChap { user: request.user.clone(), secret: Secret::parse(&request.secret.0)?, mutual })
}

pub(crate) fn host_update(request: api::UpdateHost) -> HostUpdate {
    let api::UpdateHost { add_iqns, remove_iqns, addresses } = request;
    HostUpdate { add_iqns, remove_iqns, addresses }
}

fn uses(session: &SessionFacts, volume: control::VolumeId) -> bool {
    session.volume == Some(volume) || session.units.contains(&volume)
}

/// All sessions, oldest first.
pub(crate) fn sessions(group: &Group) -> Vec<api::Session> {
    let mut facts = group.sessions();
    facts.sort_by_key(|session| session.id);
    group.with_state(|state| {
        let hosts: HashMap<_, _> = state.hosts().map(|host| (host.id, host.name.to_string())).collect();
        facts.into_iter().map(|facts| session(state, &hosts, facts)).collect()
    })
}

fn connection(facts: &ConnectionFacts) -> api::Connection {
    let (header_digest, data_digest) = facts.digests.unwrap_or_default();
    api::Connection {
        cid: facts.cid,
        address: facts.source.to_string(),
        portal: facts.portal.to_string(),
        state: match facts.digests {
            Some(_) => api::ConnectionState::LoggedIn,
            None => api::ConnectionState::LoggingIn,
        },
        header_digest,
        data_digest,
    }
}

fn session(state: &State, hosts: &HashMap<control::HostId, String>, facts: SessionFacts) -> api::Session {
    let volume = facts.volume.and_then(|id| state.volume(id));
    api::Session {
        id: facts.id.0,
        host: facts.host.and_then(|host| hosts.get(&host).cloned()),
        initiator: facts.initiator,
        address: facts.source.to_string(),
        portal: facts.portal.to_string(),
        connections: facts.connections.iter().map(connection).collect(),
        volume: volume.map(|volume| volume.name.to_string()),
        volumes: facts
            .units
            .iter()
            .filter_map(|id| state.volume(*id))
            .map(|volume| volume.name.to_string())
            .collect(),
        target: volume.map(|volume| &volume.iqn).or(facts.target.as_ref()).map(ToString::to_string),
        read_only: facts.read_only,
        since_unix_ms: facts.since_unix_ms,
        commands: facts.commands,
        read_bytes: facts.read_bytes,
        written_bytes: facts.written_bytes,
    }
}

pub(crate) fn new_pool(request: api::CreatePool) -> NewPool {
    NewPool { name: request.name, disks: request.disks }
}

pub(crate) fn new_volume(request: api::CreateVolume) -> NewVolume {
    NewVolume {
        name: request.name,
        size_bytes: request.size_bytes,
        pool: request.pool,
        block_size: request.block_size.unwrap_or(512),
        thick: request.provisioning == api::Provisioning::Thick,
        cache: match request.cache {
            api::CacheMode::Durable => Cache::Durable,
            api::CacheMode::Buffered => Cache::Buffered,
        },
        offload: request.offload.unwrap_or(true),
        encrypt: request.encrypt,
    }
}

pub(crate) fn volume_update(request: api::UpdateVolume) -> VolumeUpdate {
    let api::UpdateVolume { name, size_bytes, warn_percent, offload, rules: request_rules, .. } = request;
    let rules = request_rules.map(space::volume_rules).unwrap_or_default();
    VolumeUpdate { name, size_bytes, warn_percent, offload, rules }
}

pub(crate) fn pool_update(request: &api::UpdatePool) -> PoolUpdate {
    let rules = request.rules.map(space::pool_rules).unwrap_or_default();
    PoolUpdate { warn_percent: request.warn_percent, rules }
}

pub(crate) fn new_host(request: api::CreateHost) -> NewHost {
    NewHost { name: request.name, iqns: request.iqns, addresses: request.addresses }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn how_far_sanitizing_is_is_told_in_percent_and_never_as_done() {
        let percent = |progress| {
            let told = sanitization(block::Sanitization::Running { progress }).expect("it runs");
            assert!(!told.failed);
            told.percent
        };
        assert_eq!([0, 655, 656, 0x8000, 0xffff].map(percent), [0, 0, 1, 50, 99]);
        assert_eq!(sanitization(block::Sanitization::Idle), None);
        let failed = sanitization(block::Sanitization::Failed { unrestricted_exit: true });
        assert!(failed.is_some_and(|told| told.failed));
    }
}
