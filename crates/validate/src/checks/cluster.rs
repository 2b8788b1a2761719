//! What Windows Failover Cluster Validation does with a disk besides reservations.

use futures_util::future::join_all;
use std::time::Duration;

use crate::bytes_at::bit;
use crate::checks::identity::read_designators;
use crate::decode::{Association, Designator};
use crate::nexus::Nexus;
use crate::outcome::{Outcome, failed, not_supported};
use crate::request;
use crate::reservation::{Action, Kind, Out, held, keys, register, reserve, send};
use crate::scene::Scene;

/// How long an access may take before cluster validation calls the disk slow.
const SLOW: Duration = Duration::from_millis(500);
/// Accesses timed.
const ACCESSES: u32 = 50;

/// A disk that a cluster takes: one identity through every nexus, writable, with persistent reservations.
pub(crate) async fn potential(scene: &Scene) -> Outcome {
    let mut identity: Option<Vec<String>> = None;
    for nexus in &scene.nexuses {
        let mut names: Vec<String> = read_designators(nexus)
            .await?
            .iter()
            .filter(|name| name.association == Association::Unit && name.kind != Designator::T10)
            .map(Designator::text)
            .collect();
        names.sort();
        let first = identity.get_or_insert_with(|| names.clone());
        scene.ensure(*first == names, || format!("{}: {names:?}, elsewhere {first:?}", nexus.label));
        let mode = nexus.ask(request::mode_sense(0x3f, 0)).await?;
        if let Ok(mode) = mode.good() {
            scene.ensure(!bit(&mode, 3, 0x80), || format!("{}: write-protected", nexus.label));
        }
    }
    let nexus = scene.first()?;
    let listed = nexus.ask(request::reserve_in(0)).await?;
    match listed.is_good() {
        true => Ok(()),
        false => not_supported(format!("persistent reservations: {}", listed.text())),
    }
}

/// Reads, and writes if they are permitted, are answered in time.
pub(crate) async fn latency(scene: &Scene) -> Outcome {
    let nexus = scene.first()?;
    let blocks = scene.blocks_of(4096);
    let span = scene.size.blocks.saturating_sub(u64::from(blocks)).max(1);
    let mut reads = Vec::new();
    for number in 0..u64::from(ACCESSES) {
        let lba = number.wrapping_mul(0x9e37_79b9_7f4a_7c15) % span;
        let reply = nexus.ask(request::read(lba, blocks, scene.size.block_size)).await?;
        reply.good()?;
        reads.push(reply.time);
    }
    judge_times(scene, "read", reads);
    let Some(range) = scene.range.filter(|range| range.blocks >= u64::from(blocks)) else { return Ok(()) };
    let mut writes = Vec::new();
    for number in 0..u64::from(ACCESSES) {
        let lba =
            range.lba + number.wrapping_mul(0x9e37_79b9_7f4a_7c15) % (range.blocks - u64::from(blocks) + 1);
        let reply = nexus.ask(request::write_fua(lba, blocks, scene.pattern(number, blocks))).await?;
        reply.good()?;
        writes.push(reply.time);
    }
    judge_times(scene, "write with FUA", writes);
    Ok(())
}

fn judge_times(scene: &Scene, what: &str, mut times: Vec<Duration>) {
    times.sort_unstable();
    let longest = times.last().copied().unwrap_or_default();
    let median = times.get(times.len() / 2).copied().unwrap_or_default();
    scene.note(format!("{what}: median {} µs, longest {} µs", median.as_micros(), longest.as_micros()));
    scene.ensure(median < SLOW, || format!("half of all {what}s take {} ms and more", median.as_millis()));
    if longest >= SLOW {
        scene.warn(format!("the slowest {what} took {} ms", longest.as_millis()));
    }
}

/// The disk moves: the next owner reads what the last one wrote, and keeps the last one out.
pub(crate) async fn failover(scene: &Scene) -> Outcome {
    let blocks = scene.blocks_of(64 << 10);
    let lba = scene.scratch(0, blocks.into())?;
    let kind = Kind::WriteExclusiveRegistrants;
    register(scene.nexus(0)?, 0, scene.key(0)).await?;
    reserve(scene.nexus(0)?, scene.key(0), kind).await?;
    for (number, pair) in scene.nexuses.windows(2).enumerate() {
        let [old, new] = pair else { continue };
        let data = scene.pattern(20 + u64::try_from(number).unwrap_or(0), blocks);
        scene.write(old, lba, data.clone()).await?;
        register(new, 0, scene.key(number + 1)).await?;
        let out = Out::new(Action::PreemptAndAbort, scene.key(number + 1), scene.key(number)).kind(kind);
        send(new, out).await?.good()?;
        scene.note_failure(scene.holds(new, lba, &data, "written by the owner before").await)?;
        let late = old.ask(request::write(lba, blocks, scene.pattern(99, blocks))).await?;
        scene.note_failure(late.conflict())?;
        scene.note_failure(scene.holds(new, lba, &data, "after the old owner's late write").await)?;
    }
    Ok(())
}

/// All disks move at the same time.
pub(crate) async fn all_at_once(scene: &Scene) -> Outcome {
    let kind = Kind::WriteExclusiveRegistrants;
    let own = (scene.nexus(0)?, scene.nexus(1)?);
    let others = scene.others.iter().filter_map(|unit| Some((unit.first()?, unit.get(1)?)));
    let disks: Vec<(&Nexus, &Nexus)> = core::iter::once(own).chain(others).collect();
    for (old, new) in &disks {
        register(old, 0, scene.key(0)).await?;
        reserve(old, scene.key(0), kind).await?;
        register(new, 0, scene.key(1)).await?;
    }
    let moves = disks
        .iter()
        .map(|(_, new)| send(new, Out::new(Action::PreemptAndAbort, scene.key(1), scene.key(0)).kind(kind)));
    for reply in join_all(moves).await {
        reply?.good()?;
    }
    for (old, new) in &disks {
        let owner = held(old).await?.map(|held| held.key);
        scene.ensure(owner == Some(scene.key(1)), || format!("{}: the owner is {owner:x?}", new.label));
        let left = keys(new).await?.keys;
        if left != [scene.key(1)] {
            return failed(format!("{}: keys left: {left:#x?}", new.label));
        }
    }
    Ok(())
}
