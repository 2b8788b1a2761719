//! Thin provisioning, as HLK's compliance test looks at it.

use crate::bytes_at::{bit, byte, length, number, slice};
use crate::checks::identity::page;
use crate::decode::BlockLimits;
use crate::nexus::Nexus;
use crate::outcome::{Outcome, failed, not_supported, skipped};
use crate::request;
use crate::scene::Scene;

const LOG_PAGE: u8 = 0x0c;
/// Parameter code of used LBA mapping resources (SBC-3 6.4.4).
const USED: u64 = 0x02;

async fn is_thin(nexus: &Nexus) -> Outcome<bool> {
    Ok(bit(&nexus.good(request::read_capacity_16()).await?, 14, 0x80))
}

async fn need_thin(nexus: &Nexus) -> Outcome {
    match is_thin(nexus).await? {
        true => Ok(()),
        false => not_supported("LBPME in READ CAPACITY(16) is 0: the unit is fully provisioned"),
    }
}

/// LBPME, the Block Limits page and the Logical Block Provisioning page agree.
pub(crate) async fn pages(scene: &Scene) -> Outcome {
    let nexus = scene.first()?;
    need_thin(nexus).await?;
    let capacity = nexus.good(request::read_capacity_16()).await?;
    let provisioning = page(nexus, 0xb2).await?;
    let threshold_exponent = byte(&provisioning, 4);
    let (has_group, has_unmap) = (bit(&provisioning, 5, 0x01), bit(&provisioning, 5, 0x80));
    scene.ensure(has_group || provisioning.len() == 8, || {
        format!("B2h: DP is 0, PAGE LENGTH is {}, 4 is expected", provisioning.len() - 4)
    });
    scene.ensure(has_unmap || bit(&provisioning, 5, 0x60), || {
        "B2h: LBPME is 1, but neither UNMAP nor WRITE SAME can unmap".to_owned()
    });
    scene.ensure(matches!(byte(&provisioning, 6) & 0x07, 1 | 2), || {
        format!("B2h: PROVISIONING TYPE is {}, 1 or 2 is expected", byte(&provisioning, 6) & 0x07)
    });
    let reads_zero = bit(&capacity, 14, 0x40);
    scene.ensure(reads_zero == (byte(&provisioning, 5) >> 2 & 0x07 != 0), || {
        "LBPRZ in READ CAPACITY(16) and in B2h disagree".to_owned()
    });
    if threshold_exponent == 0 {
        scene.warn("B2h: THRESHOLD EXPONENT is 0: no thresholds, so no host is told before space runs out");
    }
    let limits = BlockLimits::parse(&page(nexus, 0xb0).await?);
    scene.ensure(limits.page_length == 0x3c, || {
        format!("B0h: PAGE LENGTH is {:02X}h, not 3Ch", limits.page_length)
    });
    if has_unmap {
        scene.ensure(limits.unmap_blocks_max > 0, || "B0h: MAXIMUM UNMAP LBA COUNT is 0".to_owned());
        scene.ensure(limits.unmap_descriptors_max > 0, || {
            "B0h: MAXIMUM UNMAP BLOCK DESCRIPTOR COUNT is 0".to_owned()
        });
    }
    Ok(())
}

/// The parameters of log page 0Ch: code and resource count, in threshold sets.
async fn resources(nexus: &Nexus) -> Outcome<Vec<(u64, Vec<u8>)>> {
    let data = nexus.ask(request::log_sense(LOG_PAGE)).await?.good_if_there()?;
    let mut rest = slice(&data, 4, length(&data, 2, 2));
    let mut found = Vec::new();
    while rest.len() >= 4 {
        let whole = 4 + length(rest, 3, 1);
        found.push((number(rest, 0, 2), slice(rest, 0, whole).to_vec()));
        rest = slice(rest, whole, usize::MAX);
    }
    Ok(found)
}

/// Log page 0Ch has the form that HLK wants.
pub(crate) async fn log_page(scene: &Scene) -> Outcome {
    let nexus = scene.first()?;
    need_thin(nexus).await?;
    let data = nexus.ask(request::log_sense(LOG_PAGE)).await?.good_if_there()?;
    scene
        .ensure(byte(&data, 0) & 0x3f == LOG_PAGE, || format!("PAGE CODE is {:02X}h", byte(&data, 0) & 0x3f));
    scene.ensure(bit(&data, 0, 0x80), || "DS is 0, 1 is expected".to_owned());
    scene.ensure(!bit(&data, 0, 0x40) && byte(&data, 1) == 0, || "SPF or SUBPAGE CODE is not 0".to_owned());
    let whole = length(&data, 2, 2);
    scene.ensure(whole > 0 && whole.is_multiple_of(12), || {
        format!("PAGE LENGTH is {whole}: no multiple of 12")
    });
    for (code, parameter) in resources(nexus).await? {
        scene.ensure((0x01..=0xff).contains(&code), || format!("parameter {code:04X}h is reserved"));
        scene.ensure(byte(&parameter, 2) & 0x03 == 3, || {
            format!(
                "parameter {code:04X}h: FORMAT AND LINKING is {}, 3 is expected",
                byte(&parameter, 2) & 0x03
            )
        });
        scene.ensure(byte(&parameter, 3) == 8, || {
            format!("parameter {code:04X}h: PARAMETER LENGTH is {}, 8 is expected", byte(&parameter, 3))
        });
        scene.note(format!("parameter {code:04X}h: {} threshold sets", number(&parameter, 4, 4)));
    }
    Ok(())
}

/// The mode page in which hosts set thresholds, and whether it agrees with B2h.
pub(crate) async fn thresholds(scene: &Scene) -> Outcome {
    let nexus = scene.first()?;
    need_thin(nexus).await?;
    let provisioning = page(nexus, 0xb2).await?;
    let data = nexus.ask(request::mode_sense(0x1c, 0x02)).await?.good_if_there()?;
    let mode_page = slice(&data, 8 + length(&data, 6, 2), usize::MAX);
    scene.ensure(byte(mode_page, 0) & 0x7f == 0x5c && byte(mode_page, 1) == 0x02, || {
        format!("page {:02X}h subpage {:02X}h came back", byte(mode_page, 0) & 0x3f, byte(mode_page, 1))
    });
    let body = length(mode_page, 2, 2);
    scene.ensure(body >= 12 && (body - 12).is_multiple_of(8), || {
        format!("PAGE LENGTH is {body}: no whole number of threshold descriptors")
    });
    scene.ensure(byte(&provisioning, 4) > 0, || {
        "there is a threshold page, but THRESHOLD EXPONENT in B2h is 0".to_owned()
    });
    for descriptor in slice(mode_page, 16, usize::MAX).chunks(8) {
        let enabled = bit(descriptor, 0, 0x80);
        scene.note(format!(
            "threshold of type {} at {} sets, enabled: {enabled}",
            byte(descriptor, 0) & 7,
            number(descriptor, 4, 4)
        ));
    }
    Ok(())
}

/// Descriptors of GET LBA STATUS: first block, blocks, provisioning status.
async fn status(nexus: &Nexus, lba: u64) -> Outcome<Vec<(u64, u64, u8)>> {
    let data = nexus.ask(request::get_lba_status(lba)).await?.good()?;
    let whole = length(&data, 0, 4).saturating_add(4);
    if whole < 24 || !(whole - 8).is_multiple_of(16) {
        return failed(format!(
            "GET LBA STATUS: PARAMETER DATA LENGTH is {}: no whole descriptor",
            whole - 4
        ));
    }
    let list = slice(&data, 8, whole - 8);
    let complete = list.chunks(16).filter(|descriptor| descriptor.len() == 16);
    Ok(complete.map(|d| (number(d, 0, 8), number(d, 8, 4), byte(d, 12) & 0x0f)).collect())
}

/// GET LBA STATUS: descriptors begin where asked, follow each other, and stay inside the unit.
pub(crate) async fn lba_status(scene: &Scene) -> Outcome {
    let nexus = scene.first()?;
    need_thin(nexus).await?;
    let starts = [0, scene.size.blocks / 2, scene.size.blocks - 1];
    for start in starts {
        let found = status(nexus, start).await?;
        let first = found.first().copied().unwrap_or_default();
        scene.ensure(first.0 <= start && start < first.0 + first.1, || {
            format!("asked from block {start} on, the first range is {} to {}", first.0, first.0 + first.1)
        });
        let mut next = first.0;
        for (lba, blocks, state) in &found {
            scene.ensure(*lba == next, || format!("a range begins at {lba}, not at {next}"));
            scene.ensure(*blocks > 0 && lba + blocks <= scene.size.blocks, || {
                format!("range of {blocks} blocks at {lba}: empty or past the end")
            });
            scene.ensure(*state <= 2, || format!("PROVISIONING STATUS {state} is reserved"));
            next = lba + blocks;
        }
    }
    let reply = nexus.ask(request::get_lba_status(scene.size.blocks)).await?;
    scene.note_failure(reply.illegal(0x21, 0x00))
}

/// Blocks unmapped are reported as such, read as zeroes if LBPRZ says so, and give their space back.
pub(crate) async fn deallocation(scene: &Scene) -> Outcome {
    let nexus = scene.first()?;
    need_thin(nexus).await?;
    let limits = BlockLimits::parse(&page(nexus, 0xb0).await?);
    let bytes: u32 = 4 << 20;
    let blocks = scene.blocks_of(bytes);
    let lba = scene.scratch(0, blocks.into())?;
    if limits.unmap_blocks_max < u64::from(blocks) {
        return skipped(format!("UNMAP takes {} blocks at a time only", limits.unmap_blocks_max));
    }
    let step = scene.blocks_of(1 << 20);
    let data = scene.pattern(3, step);
    for part in 0..blocks / step {
        scene.write(nexus, lba + u64::from(part * step), data.clone()).await?;
    }
    let state = state_at(nexus, lba).await?;
    scene.ensure(state == 0, || format!("block {lba} was written, PROVISIONING STATUS is {state}"));
    let before = used(nexus).await;
    nexus.good(request::unmap(&[(lba, blocks)])).await?;
    let middle = lba + u64::from(blocks / 2);
    let state = state_at(nexus, middle).await?;
    scene.ensure(state != 0, || format!("block {middle} was unmapped, PROVISIONING STATUS is still mapped"));
    let reads_zero = bit(&nexus.good(request::read_capacity_16()).await?, 14, 0x40);
    if reads_zero {
        scene.note_failure(scene.holds(nexus, middle, &scene.zeroes(8), "after UNMAP, LBPRZ is 1").await)?;
    }
    if let (Some(before), Some(after)) = (before, used(nexus).await) {
        scene.note(format!("used resources went from {before} to {after} threshold sets"));
        scene.ensure(after <= before, || "used resources grew by unmapping".to_owned());
    }
    Ok(())
}

async fn state_at(nexus: &Nexus, lba: u64) -> Outcome<u8> {
    let found = status(nexus, lba).await?;
    Ok(found.first().map_or(0xff, |(_, _, state)| *state))
}

async fn used(nexus: &Nexus) -> Option<u64> {
    let found = resources(nexus).await.ok()?;
    found.iter().find(|(code, _)| *code == USED).map(|(_, parameter)| number(parameter, 4, 4))
}

/// UNMAP: what is in the range and nothing beside it; empty lists and zero blocks do nothing; nonsense is refused.
pub(crate) async fn unmap(scene: &Scene) -> Outcome {
    let nexus = scene.first()?;
    let blocks = scene.blocks_of(1 << 20);
    let lba = scene.scratch(0, u64::from(blocks) + 2)?;
    let data = scene.pattern(4, blocks + 2);
    scene.write(nexus, lba, data.clone()).await?;
    nexus.good(request::unmap(&[])).await?;
    nexus.good(request::unmap(&[(lba, 0)])).await?;
    scene.note_failure(scene.holds(nexus, lba, &data, "after UNMAP of nothing").await)?;
    let past = nexus.ask(request::unmap(&[(scene.size.blocks, 1)])).await?;
    scene.note_failure(past.illegal(0x21, 0x00))?;
    nexus.good(request::unmap(&[(lba + 1, blocks)])).await?;
    let block = usize::try_from(scene.size.block_size).unwrap_or(512);
    let (first, last) = (slice(&data, 0, block), slice(&data, data.len() - block, block));
    scene.note_failure(scene.holds(nexus, lba, first, "the block before the range unmapped").await)?;
    let after = lba + u64::from(blocks) + 1;
    scene.note_failure(scene.holds(nexus, after, last, "the block after the range unmapped").await)?;
    for reader in scene.paths() {
        let found = scene.read(reader, lba + 1, blocks).await?;
        let is_old = found[..] == *slice(&data, block, found.len());
        let is_zero = found.iter().all(|byte| *byte == 0);
        let reads_zero = bit(&reader.good(request::read_capacity_16()).await?, 14, 0x40);
        scene.ensure(is_zero || (is_old && !reads_zero), || {
            format!(
                "{}: after UNMAP with LBPRZ {} the blocks hold neither zeroes nor what they held",
                reader.label,
                u8::from(reads_zero)
            )
        });
    }
    Ok(())
}

/// What a host can know before a thin unit is full: what TP stun needs.
pub(crate) async fn stun(scene: &Scene) -> Outcome {
    let nexus = scene.first()?;
    need_thin(nexus).await?;
    let provisioning = page(nexus, 0xb2).await?;
    let mode = nexus.ask(request::mode_sense(0x1c, 0x02)).await?.is_good();
    let log = nexus.ask(request::log_sense(LOG_PAGE)).await?.is_good();
    if byte(&provisioning, 4) == 0 || !mode {
        let exponent = byte(&provisioning, 4);
        scene.warn(format!(
            "thin, but no soft threshold: THRESHOLD EXPONENT {exponent}, mode page 1Ch/02h there: {mode}"
        ));
    }
    if !log {
        scene.warn("no log page 0Ch: hosts cannot see how full the pool is");
    }
    scene.note("the sense of a full pool, 07h/27h/07h, cannot be provoked without filling it and was not");
    Ok(())
}
