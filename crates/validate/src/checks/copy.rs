//! EXTENDED COPY (LID1) as ESXi and Linux send it.

use crate::bytes_at::{byte, length, number, slice};
use crate::checks::identity::read_designators;
use crate::decode::{Association, Designator};
use crate::nexus::Nexus;
use crate::outcome::{Outcome, failed, not_supported};
use crate::request::{Request, put};
use crate::scene::Scene;

/// Identification descriptor CSCD descriptor.
const BY_NAME: u8 = 0xe4;
/// Block to block segment descriptor.
const BLOCK_TO_BLOCK: u8 = 0x02;
/// What ESXi copies in one segment.
const SEGMENT_BYTES: u32 = 4 << 20;

/// RECEIVE COPY OPERATING PARAMETERS.
#[derive(Debug, Clone, Copy)]
struct Limits {
    segments: usize,
    segment_bytes: u64,
}

fn operating_parameters() -> Request {
    Request::new(&[0x84, 0x03]).with(10, 4, 1024).reading(1024)
}

async fn limits(nexus: &Nexus) -> Outcome<Limits> {
    let data = nexus.ask(operating_parameters()).await?.good_if_there()?;
    Ok(Limits { segments: length(&data, 10, 2).max(1), segment_bytes: number(&data, 16, 4) })
}

/// The limits are told, and both descriptors that ESXi uses are there.
pub(crate) async fn parameters(scene: &Scene) -> Outcome {
    let data = scene.first()?.ask(operating_parameters()).await?.good_if_there()?;
    let whole = length(&data, 0, 4).saturating_add(4);
    scene.ensure(whole >= 44 && data.len() >= whole, || {
        format!("AVAILABLE DATA is {whole} bytes, {} came", data.len())
    });
    scene.ensure(number(&data, 8, 2) >= 2, || {
        format!("MAXIMUM CSCD DESCRIPTOR COUNT is {}, two are needed", number(&data, 8, 2))
    });
    scene.ensure(number(&data, 10, 2) >= 1, || "MAXIMUM SEGMENT DESCRIPTOR COUNT is 0".to_owned());
    let segment = number(&data, 16, 4);
    if segment > 0 && segment < u64::from(SEGMENT_BYTES) {
        scene.warn(format!(
            "MAXIMUM SEGMENT LENGTH is {segment} bytes: less than the 4 MiB that ESXi asks for"
        ));
    }
    let list = slice(&data, 44, usize::from(byte(&data, 43)));
    for (code, name) in [(BLOCK_TO_BLOCK, "block to block segments"), (BY_NAME, "CSCDs by designator")] {
        scene.ensure(list.contains(&code), || format!("{code:02X}h, {name}, is not in the list {list:02x?}"));
    }
    scene.note(format!("{} segments of {segment} bytes at most", number(&data, 10, 2)));
    Ok(())
}

/// The descriptor of a unit by its NAA name, or whichever it has.
async fn cscd(nexus: &Nexus, block_size: u32) -> Outcome<Vec<u8>> {
    let names = read_designators(nexus).await?;
    let fit = names.iter().filter(|name| name.association == Association::Unit && name.bytes.len() <= 20);
    let best = fit.max_by_key(|name| match name.kind {
        Designator::NAA => 3,
        Designator::EUI64 => 2,
        _ => 1,
    });
    let Some(name) = best else {
        return not_supported("no designator of 20 bytes or fewer to name the unit by");
    };
    let mut descriptor = vec![0; 32];
    put(&mut descriptor, 0, 1, BY_NAME.into());
    put(&mut descriptor, 4, 1, name.code_set.into());
    put(&mut descriptor, 5, 1, name.kind.into());
    put(&mut descriptor, 7, 1, u64::try_from(name.bytes.len()).unwrap_or(0));
    if let Some(place) = descriptor.get_mut(8..8 + name.bytes.len()) {
        place.copy_from_slice(&name.bytes);
    }
    put(&mut descriptor, 29, 3, block_size.into());
    Ok(descriptor)
}

/// A copy of (source, destination, blocks) segments between the first and the second unit named.
fn extended_copy(cscds: &[Vec<u8>], segments: &[(u64, u64, u32)]) -> Request {
    let mut list = vec![0; 16];
    // LIST ID USAGE 11b: nothing is kept, LIST IDENTIFIER is 0.
    put(&mut list, 1, 1, 0x18);
    put(&mut list, 2, 2, u64::try_from(cscds.len() * 32).unwrap_or(0));
    put(&mut list, 8, 4, u64::try_from(segments.len() * 28).unwrap_or(0));
    cscds.iter().for_each(|descriptor| list.extend(descriptor));
    for (source, destination, blocks) in segments {
        let mut segment = vec![0; 28];
        put(&mut segment, 0, 1, BLOCK_TO_BLOCK.into());
        // DC: the count is in the destination's blocks.
        put(&mut segment, 1, 1, 0x02);
        put(&mut segment, 2, 2, 0x18);
        put(&mut segment, 6, 2, u64::try_from(cscds.len().saturating_sub(1)).unwrap_or(0));
        put(&mut segment, 10, 2, (*blocks).into());
        put(&mut segment, 12, 8, *source);
        put(&mut segment, 20, 8, *destination);
        list.extend(segment);
    }
    let length = u64::try_from(list.len()).unwrap_or(0);
    Request::new(&[0x83, 0x00]).with(10, 4, length).sending(list)
}

/// Copies of 4 MiB and 64 MiB inside the unit.
pub(crate) async fn inside(scene: &Scene) -> Outcome {
    let nexus = scene.first()?;
    let limits = limits(nexus).await?;
    let cscd = cscd(nexus, scene.size.block_size).await?;
    let room = scene.range.map_or(0, |range| range.blocks / 2);
    for bytes in [4u32 << 20, 64 << 20] {
        let blocks = scene.blocks_of(bytes);
        if u64::from(blocks) > room {
            scene.note(format!("a copy of {} MiB has no room in the scratch range", bytes >> 20));
            continue;
        }
        let source = scene.scratch(0, blocks.into())?;
        let destination = scene.scratch(room, blocks.into())?;
        fill(scene, nexus, source, blocks, u64::from(bytes)).await?;
        copy(scene, nexus, core::slice::from_ref(&cscd), limits, (source, destination, blocks)).await?;
        same(scene, (nexus, source), (scene.nexus(1)?, destination), blocks).await?;
    }
    Ok(())
}

/// A copy of 4 MiB to another unit of the array.
pub(crate) async fn between(scene: &Scene) -> Outcome {
    let nexus = scene.first()?;
    let limits = limits(nexus).await?;
    let Some(other) = scene.others.first().and_then(|unit| unit.first()) else {
        return crate::outcome::skipped("needs --also");
    };
    let blocks = scene.blocks_of(SEGMENT_BYTES);
    let lba = scene.scratch(0, blocks.into())?;
    let cscds = [cscd(nexus, scene.size.block_size).await?, cscd(other, scene.size.block_size).await?];
    fill(scene, nexus, lba, blocks, 51).await?;
    copy(scene, nexus, &cscds, limits, (lba, lba, blocks)).await?;
    same(scene, (nexus, lba), (other, lba), blocks).await
}

/// Different data in each MiB.
async fn fill(scene: &Scene, nexus: &Nexus, lba: u64, blocks: u32, seed: u64) -> Outcome {
    let step = scene.blocks_of(1 << 20);
    for part in 0..blocks / step {
        let data = scene.pattern(seed + u64::from(part), step);
        scene.write(nexus, lba + u64::from(part * step), data).await?;
    }
    Ok(())
}

/// Copies in as many commands as the limits take.
async fn copy(
    scene: &Scene,
    nexus: &Nexus,
    cscds: &[Vec<u8>],
    limits: Limits,
    whole: (u64, u64, u32),
) -> Outcome {
    let (source, destination, blocks) = whole;
    let largest = match u32::try_from(limits.segment_bytes) {
        Ok(0) | Err(_) => SEGMENT_BYTES,
        Ok(most) => most.min(SEGMENT_BYTES),
    };
    let step = scene.blocks_of(largest).min(u32::from(u16::MAX));
    let mut segments = Vec::new();
    let mut at = 0;
    while at < blocks {
        let count = step.min(blocks - at);
        segments.push((source + u64::from(at), destination + u64::from(at), count));
        at += count;
    }
    for some in segments.chunks(limits.segments) {
        nexus.good(extended_copy(cscds, some)).await?;
    }
    Ok(())
}

/// Reads both and compares, a MiB at a time.
async fn same(scene: &Scene, from: (&Nexus, u64), to: (&Nexus, u64), blocks: u32) -> Outcome {
    let step = scene.blocks_of(1 << 20).min(blocks);
    for part in 0..blocks / step {
        let offset = u64::from(part * step);
        let wanted = scene.read(from.0, from.1 + offset, step).await?;
        scene.holds(to.0, to.1 + offset, &wanted, "the copy").await?;
    }
    Ok(())
}

/// Copies that cannot be are refused and change nothing.
pub(crate) async fn refused(scene: &Scene) -> Outcome {
    let nexus = scene.first()?;
    limits(nexus).await?;
    let good = cscd(nexus, scene.size.block_size).await?;
    let mut unknown = good.clone();
    unknown.iter_mut().skip(12).take(8).for_each(|byte| *byte ^= 0x5a);
    let lba = scene.scratch(0, 8)?;
    let before = scene.pattern(61, 8);
    scene.write(nexus, lba, before.clone()).await?;
    let past = scene.size.blocks;
    for (what, cscds, segment) in [
        ("from a unit that is not there", vec![unknown, good.clone()], (0, lba, 8)),
        ("from past the end", vec![good.clone()], (past, lba, 8)),
        ("to past the end", vec![good.clone()], (lba, past, 8)),
    ] {
        let reply = nexus.ask(extended_copy(&cscds, &[segment])).await?;
        let key = reply.sense().map_or(0, |sense| sense.key);
        // COPY ABORTED, or ILLEGAL REQUEST when it is seen before anything is copied.
        scene.ensure(matches!(key, 0x05 | 0x0a), || format!("a copy {what}: {}", reply.text()));
    }
    match scene.holds(nexus, lba, &before, "after copies that were refused").await {
        Ok(()) => Ok(()),
        Err(stop) => failed(stop.to_string()),
    }
}
