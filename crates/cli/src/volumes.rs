//! The verbs on volumes.

mod diff;
mod reservations;

use crate::args::{Cache, Volume as Verb};
use crate::output::{self, Output, ago, properties, size, table};
use api::{
    CacheMode, Change, Client, CloneVolume, CreateVolume, GrantRequest, Outcome, Problem, Provisioning,
    UpdateVolume, Volume, VolumeEncryption, VolumeState,
};

pub(crate) async fn run(client: &Client, verb: Verb, out: Output) -> Result<(), Problem> {
    match verb {
        Verb::Create { name, size, pool, block_size, thick, cache, offload, encrypt } => {
            let request = CreateVolume {
                name,
                size_bytes: size,
                pool,
                block_size: block_size.parse().ok(),
                provisioning: if thick { Provisioning::Thick } else { Provisioning::Thin },
                cache: cache_mode(cache),
                offload: Some(offload.into()),
                encrypt: encrypt.map(Into::into),
            };
            out.print(&client.create_volume(&request).await?, created)
        }
        Verb::List => out.print(&client.volumes().await?, |volumes| list(volumes)),
        Verb::Show { volume } => out.print(&client.volume(&volume).await?, show),
        Verb::Resize { volume, size } => {
            let request = UpdateVolume { size_bytes: Some(size), ..UpdateVolume::default() };
            out.print(&client.update_volume(&volume, &request).await?, resized)
        }
        Verb::Rename { volume, name } => {
            let request = UpdateVolume { name: Some(name), ..UpdateVolume::default() };
            out.print(&client.update_volume(&volume, &request).await?, |change| renamed(change, &volume))
        }
        Verb::Set { volume, warn, offload, read_only, template, space } => {
            let request = UpdateVolume {
                warn_percent: warn,
                offload: offload.map(Into::into),
                read_only: read_only.map(Into::into),
                template: template.map(Into::into),
                rules: space.update(),
                ..UpdateVolume::default()
            };
            out.print(&client.update_volume(&volume, &request).await?, set)
        }
        Verb::Delete { volume, force, with_snapshots: false } => {
            out.print(&client.delete_volume(&volume, force).await?, deleted)
        }
        Verb::Delete { volume, force, with_snapshots: true } => {
            out.print(&client.delete_volume_and_snapshots(&volume, force).await?, deleted)
        }
        Verb::Detach { volume, cancel } => detach(client, &volume, cancel, out).await,
        Verb::Diff { from, to } => diff::run(client, from, to, out).await,
        Verb::Clone { source, name, read_only } => {
            let (volume, request) = clone_request(&source, name, read_only);
            out.print(&client.clone_volume(volume, &request).await?, |change| cloned(change, &source))
        }
        Verb::Grant { volume, host, read_only } => {
            let change = client.grant(&volume, &host, GrantRequest { read_only }).await?;
            out.print(&change, |change| granted(change, &host, read_only))
        }
        Verb::Reservations { volume, clear: false } => {
            out.print(&client.reservations(&volume).await?, reservations::show)
        }
        Verb::Reservations { volume, clear: true } => {
            out.print(&client.clear_reservations(&volume).await?, reservations::cleared)
        }
        Verb::Revoke { volume, host } => out.print(&client.revoke(&volume, &host).await?, |change| {
            let name = &change.item.name;
            match change.outcome {
                Outcome::Unchanged => format!("Host {host} was not granted volume {name}."),
                _ => format!("Volume {name} is no longer granted to host {host}."),
            }
        }),
    }
}

fn cache_mode(cache: Cache) -> CacheMode {
    match cache {
        Cache::Durable => CacheMode::Durable,
        Cache::Buffered => CacheMode::Buffered,
    }
}

fn created(change: &Change<Volume>) -> String {
    let Volume { name, pool, size_bytes, iqn, .. } = &change.item;
    if change.outcome == Outcome::Unchanged {
        return format!("Volume {name} is there already, with these properties. Target: {iqn}");
    }
    format!(
        "Volume {name} created: {} in pool {pool}.\nTarget: {iqn}\nNext: palisade volume grant {name} HOST",
        size(*size_bytes)
    )
}

fn renamed(change: &Change<Volume>, former: &str) -> String {
    format!("Volume {former} is now {}. Hosts still know it as {}.", change.item.name, change.item.iqn)
}

fn set(change: &Change<Volume>) -> String {
    let volume = &change.item;
    let warns = output::warning(volume.warn_percent);
    let switch = if volume.offload { "on" } else { "off" };
    let protected = protection(volume).map_or_else(String::new, |what| format!("; {what}"));
    let rules = crate::space::volume_rules(&volume.rules);
    let rules = rules.into_iter().map(|(name, value)| format!("\n{name}: {value}"));
    let rules = rules.collect::<String>();
    format!("Volume {} warns: {warns}; copy offload: {switch}{protected}.{rules}", volume.name)
}

/// How a volume is protected from writes, if it is.
fn protection(volume: &Volume) -> Option<&'static str> {
    match (volume.template, volume.read_only) {
        (true, _) => Some("template, read-only"),
        (false, true) => Some("read-only"),
        (false, false) => None,
    }
}

fn deleted(change: &Change<Volume>) -> String {
    let (name, snapshots) = (&change.item.name, change.item.snapshots);
    let too = match snapshots {
        0 => String::new(),
        1 => " and its snapshot".to_owned(),
        many => format!(" and its {many} snapshots"),
    };
    let key = match change.item.encryption {
        VolumeEncryption::None => "",
        VolumeEncryption::KeyDestroyed => {
            " Its key is overwritten on the disks: what it held cannot be read again."
        }
        VolumeEncryption::Encrypted | VolumeEncryption::Locked => {
            " Volumes made of it, or it of, have its key, too: that is overwritten when they are deleted."
        }
    };
    format!("Volume {name}{too} deleted. The space comes back in the background.{key}")
}

/// The volume, and what to ask of it, for a source like `mail` or `mail@before`.
fn clone_request(source: &str, name: String, read_only: bool) -> (&str, CloneVolume) {
    match source.split_once('@') {
        Some((volume, snapshot)) => {
            (volume, CloneVolume { name, snapshot: Some(snapshot.to_owned()), read_only })
        }
        None => (source, CloneVolume { name, snapshot: None, read_only }),
    }
}

async fn detach(client: &Client, volume: &str, cancel: bool, out: Output) -> Result<(), Problem> {
    if cancel {
        return out.print(&client.cancel_detach(volume).await?, kept);
    }
    out.print(&client.detach_volume(volume).await?, detached)
}

fn detached(change: &Change<Volume>) -> String {
    let Volume { name, origin, .. } = &change.item;
    match origin {
        None if change.outcome == Outcome::Unchanged => format!("Volume {name} is no clone."),
        None => format!("Volume {name} is a volume like any other now."),
        Some(_) => format!(
            "Volume {name} is being detached from {} in the background. Hosts go on.\n\
             Progress: palisade volume show {name}",
            self::origin(&change.item)
        ),
    }
}

fn kept(change: &Change<Volume>) -> String {
    let Volume { name, origin, .. } = &change.item;
    match origin {
        None => format!("Volume {name} is no clone any more."),
        Some(_) => format!("Volume {name} stays a clone of {}.", self::origin(&change.item)),
    }
}

/// How far a clone is with becoming independent.
fn detachment(volume: &Volume) -> String {
    let Some(detachment) = &volume.detachment else { return String::new() };
    let percent = detachment.done_bytes.saturating_mul(100) / detachment.size_bytes.max(1);
    let waits = detachment.waits.as_ref().map_or(String::new(), |why| format!("; it waits: {why}"));
    format!("{percent} % done{waits}")
}

fn cloned(change: &Change<Volume>, source: &str) -> String {
    let Volume { name, iqn, .. } = &change.item;
    match change.outcome {
        Outcome::Unchanged => format!("Volume {name} is there already, a clone of {source}. Target: {iqn}"),
        _ => format!(
            "Volume {name} created, a clone of {source}, with a NAA and serial number of its own.\nTarget: {iqn}\n\
             Next: palisade volume grant {name} HOST"
        ),
    }
}

/// What a clone was made of.
fn origin(volume: &Volume) -> String {
    let Some(origin) = &volume.origin else { return String::new() };
    let gone = if origin.exists { "" } else { ", which is deleted" };
    match &origin.snapshot {
        Some(snapshot) => format!("{}@{snapshot}{gone}", origin.volume),
        None => format!("{}{gone}", origin.volume),
    }
}

/// What `volume show` says of snapshots: nothing if there are none.
fn snapshots(volume: &Volume) -> String {
    match volume.snapshots {
        0 => String::new(),
        number => format!(
            "{number}; {}{} written since the last",
            crate::space::kept(volume.space),
            size(volume.written_bytes)
        ),
    }
}

fn resized(change: &Change<Volume>) -> String {
    let (name, now) = (&change.item.name, size(change.item.size_bytes));
    match change.outcome {
        Outcome::Unchanged => format!("Volume {name} has {now} already."),
        _ => format!("Volume {name} now has {now}. Hosts are told; on Linux: iscsiadm -m session -R"),
    }
}

/// What `volume show` says of copies.
fn copies(volume: &Volume) -> String {
    let api::CopyCounts { done, tokens, failed, bytes } = volume.copies;
    let switch = if volume.offload { "on" } else { "off" };
    if done + tokens + failed == 0 {
        return switch.to_owned();
    }
    format!("{switch}; {done} copies, {} copied, {tokens} tokens, {failed} failed", size(bytes))
}

fn granted(change: &Change<Volume>, host: &str, read_only: bool) -> String {
    let Volume { name, iqn, .. } = &change.item;
    let how = if read_only { " read-only" } else { "" };
    match change.outcome {
        Outcome::Unchanged => format!("Volume {name} is granted{how} to host {host} already."),
        _ => format!("Volume {name} granted{how} to host {host}. It finds {iqn} by discovery."),
    }
}

fn state(volume: &Volume) -> String {
    match (volume.state, volume.sanitization) {
        (VolumeState::Offline, _) => "OFFLINE".to_owned(),
        (VolumeState::Online, _) if volume.encryption == VolumeEncryption::Locked => "LOCKED".to_owned(),
        (VolumeState::Online, None) => "online".to_owned(),
        (VolumeState::Online, Some(api::Sanitization { failed: true, .. })) => "SANITIZE FAILED".to_owned(),
        (VolumeState::Online, Some(api::Sanitization { percent, .. })) => format!("sanitizing {percent} %"),
    }
}

fn provisioning(volume: &Volume) -> &'static str {
    match volume.provisioning {
        Provisioning::Thin => "thin",
        Provisioning::Thick => "thick",
    }
}

fn hosts(volume: &Volume) -> Vec<String> {
    let name = |grant: &api::Grant| match grant.read_only {
        true => format!("{} (read-only)", grant.host),
        false => grant.host.clone(),
    };
    volume.grants.iter().map(name).collect()
}

fn list(volumes: &[Volume]) -> String {
    if volumes.is_empty() {
        return "There is no volume yet. Make one with `palisade volume create NAME SIZE`.".to_owned();
    }
    let row = |volume: &Volume| {
        vec![
            volume.name.clone(),
            state(volume),
            volume.pool.clone(),
            size(volume.size_bytes),
            size(volume.used_bytes),
            provisioning(volume).to_owned(),
            volume.snapshots.to_string(),
            volume.sessions.to_string(),
            output::list(&hosts(volume)),
        ]
    };
    let rows: Vec<_> = volumes.iter().map(row).collect();
    table(&["NAME", "STATE", "POOL", "SIZE", "USED", "TYPE", "SNAPSHOTS", "SESSIONS", "GRANTED TO"], &rows)
}

/// What `volume show` says of encryption: nothing if there is none.
fn encryption(volume: &Volume) -> &'static str {
    match volume.encryption {
        VolumeEncryption::None => "",
        VolumeEncryption::Encrypted => "AES-256-XTS",
        VolumeEncryption::Locked => "AES-256-XTS; not ready until its pool is unlocked",
        VolumeEncryption::KeyDestroyed => "its key is destroyed",
    }
}

/// Targets of several volumes.
fn targets(volume: &Volume) -> String {
    let named = volume.targets.iter().map(|at| format!("{} as LUN {}", at.target, at.lun));
    named.collect::<Vec<_>>().join(", ")
}

fn show(volume: &Volume) -> String {
    let cache = match volume.cache {
        CacheMode::Durable => "durable: writes are acknowledged when on stable storage",
        CacheMode::Buffered => {
            "buffered: writes are acknowledged when the kernel has them; hosts see a write cache"
        }
    };
    let mut pairs = vec![
        ("Name", volume.name.clone()),
        ("State", state(volume)),
        ("Reason", volume.reason.clone().unwrap_or_default()),
        ("Target", volume.iqn.clone()),
        ("Also in", targets(volume)),
        ("Pool", volume.pool.clone()),
        ("Size", size(volume.size_bytes)),
        ("Used", size(volume.used_bytes)),
        ("Holds", crate::space::holds(volume.space)),
        ("Growth", crate::space::forecast(&volume.forecast)),
        ("Type", provisioning(volume).to_owned()),
        ("Encryption", encryption(volume).to_owned()),
        ("Protected", protection(volume).unwrap_or_default().to_owned()),
        ("Snapshots", snapshots(volume)),
        ("Clone of", origin(volume)),
        ("Detaching", detachment(volume)),
        ("Clones", volume.clones.join(", ")),
        ("Warns", output::warning(volume.warn_percent)),
        ("Block size", volume.block_size.to_string()),
        ("Cache", cache.to_owned()),
        ("Copy offload", copies(volume)),
        ("NAA", volume.naa.clone()),
        ("Serial", volume.serial.clone()),
        ("Granted to", output::list(&hosts(volume))),
        ("Sessions", volume.sessions.to_string()),
        ("Created", format!("{} ago", ago(volume.created_unix_ms))),
        ("Identity", volume.id.clone()),
    ];
    let at = pairs.iter().position(|(name, _)| *name == "Block size").unwrap_or(pairs.len());
    pairs.splice(at..at, crate::space::volume_rules(&volume.rules));
    pairs.retain(|(_, value)| !value.is_empty());
    properties(&pairs)
}
