//! Who the logical unit says it is, the same on every path.

use crate::bytes_at::{byte, length, number, slice, text};
use crate::decode::{Association, BlockLimits, Designator, capacity, designators};
use crate::nexus::Nexus;
use crate::outcome::{Outcome, failed};
use crate::request;
use crate::scene::Scene;

/// Least unmap granularity that Windows 11 and Server 2025 take without complaint, bytes.
const GRANULARITY_MIN: u64 = 32 << 10;

/// Reads a VPD page and checks its head; not supported if the unit has no such page.
pub(crate) async fn page(nexus: &Nexus, code: u8) -> Outcome<Vec<u8>> {
    let data = nexus.ask(request::inquiry(Some(code))).await?.good_if_there()?;
    let wanted = length(&data, 2, 2).saturating_add(4);
    if byte(&data, 1) != code || data.len() < wanted {
        return failed(format!(
            "VPD page {code:02X}h through {}: page code {:02X}h, {} of {wanted} bytes",
            nexus.label,
            byte(&data, 1),
            data.len()
        ));
    }
    Ok(slice(&data, 0, wanted).to_vec())
}

/// INQUIRY: a disk, the same vendor, product and revision on every path.
pub(crate) async fn inquiry(scene: &Scene) -> Outcome {
    let replies = scene.on_every_path(&request::inquiry(None)).await?;
    let mut first = None;
    for reply in &replies {
        let data = reply.good()?;
        scene.ensure(data.len() >= 36, || format!("{}: {} bytes, 36 at least", reply.nexus, data.len()));
        scene.ensure(byte(&data, 0) == 0, || {
            format!("{}: byte 0 is {:02x}: no direct access block device", reply.nexus, byte(&data, 0))
        });
        scene.ensure(byte(&data, 2) >= 5, || {
            format!("{}: VERSION {:02x}h is older than SPC-3", reply.nexus, byte(&data, 2))
        });
        scene
            .ensure(byte(&data, 3) & 0x0f == 2, || format!("{}: RESPONSE DATA FORMAT is not 2", reply.nexus));
        scene.ensure(byte(&data, 7) & 0x02 != 0, || {
            format!("{}: CMDQUE is 0: no command queuing", reply.nexus)
        });
        let named = (slice(&data, 8, 28).to_vec(), reply.nexus.clone());
        let (wanted, at) = first.get_or_insert(named.clone());
        scene.ensure(*wanted == named.0, || {
            format!("{} says `{}`, {at} says `{}`", reply.nexus, text(&named.0), text(wanted))
        });
    }
    Ok(())
}

/// VPD page 00h: ascending, and every page it names is there.
pub(crate) async fn page_list(scene: &Scene) -> Outcome {
    let nexus = scene.first()?;
    let list = page(nexus, 0x00).await?;
    let codes = slice(&list, 4, usize::MAX);
    scene.ensure(codes.is_sorted_by(|a, b| a < b), || format!("not in ascending order: {codes:02x?}"));
    for wanted in [0x00, 0x80, 0x83] {
        scene.ensure(codes.contains(&wanted), || format!("page {wanted:02X}h is not in the list"));
    }
    for code in codes {
        match page(nexus, *code).await {
            Ok(_) => {}
            Err(stop) => scene.wrong(format!("page {code:02X}h is in the list, but: {stop}")),
        }
    }
    Ok(())
}

/// VPD page 80h: a serial number, the same on every path.
pub(crate) async fn serial(scene: &Scene) -> Outcome {
    let mut wanted: Option<String> = None;
    for nexus in scene.paths() {
        let serial = text(slice(&page(nexus, 0x80).await?, 4, usize::MAX));
        scene.ensure(!serial.is_empty(), || format!("{}: the serial number is empty", nexus.label));
        let first = wanted.get_or_insert_with(|| serial.clone());
        scene.ensure(*first == serial, || format!("{}: `{serial}`, elsewhere `{first}`", nexus.label));
    }
    scene.note(format!("serial number {}", wanted.unwrap_or_default()));
    Ok(())
}

/// VPD page 83h: a name that Windows takes for a cluster disk's, unique and of a known form.
pub(crate) async fn names(scene: &Scene) -> Outcome {
    let nexus = scene.first()?;
    let found = read_designators(nexus).await?;
    let units: Vec<_> = found.iter().filter(|name| name.association == Association::Unit).collect();
    let unique = [Designator::T10, Designator::EUI64, Designator::NAA, Designator::SCSI_NAME];
    if !units.iter().any(|name| unique.contains(&name.kind)) {
        return failed("no designator of the logical unit of type 1h, 2h, 3h or 8h");
    }
    if !units.iter().any(|name| matches!(name.kind, Designator::EUI64 | Designator::NAA)) {
        scene.warn("no NAA or EUI-64 name: ESXi and multipath-tools want one");
    }
    for name in &units {
        let good = match (name.kind, name.bytes.first().map_or(0, |byte| byte >> 4)) {
            (Designator::NAA, 2 | 3 | 5) => name.bytes.len() == 8,
            (Designator::NAA, 6) => name.bytes.len() == 16,
            (Designator::NAA, _) => false,
            (Designator::EUI64, _) => matches!(name.bytes.len(), 8 | 12 | 16),
            _ => true,
        };
        scene.ensure(good, || format!("{} is malformed", name.text()));
        scene.note(name.text());
    }
    Ok(())
}

pub(crate) async fn read_designators(nexus: &Nexus) -> Outcome<Vec<Designator>> {
    let data = page(nexus, 0x83).await?;
    designators(&data).or_else(|why| failed(format!("VPD page 83h through {}: {why}", nexus.label)))
}

/// VPD page 83h: the same on every nexus but for what names the port.
pub(crate) async fn coherence(scene: &Scene) -> Outcome {
    let mut first: Option<Vec<Designator>> = None;
    for nexus in &scene.nexuses {
        let mut found = read_designators(nexus).await?;
        found.retain(|designator| designator.association != Association::Port);
        let wanted = first.get_or_insert_with(|| found.clone());
        let (a, b) = (describe(&found), describe(wanted));
        scene.ensure(*wanted == found, || format!("{} says {a}; the first path says {b}", nexus.label));
    }
    Ok(())
}

fn describe(designators: &[Designator]) -> String {
    designators.iter().map(Designator::text).collect::<Vec<_>>().join(", ")
}

/// READ CAPACITY (10) and (16) agree, on every path.
pub(crate) async fn sizes(scene: &Scene) -> Outcome {
    for nexus in scene.paths() {
        let long = nexus.good(request::read_capacity_16()).await?;
        let short = nexus.good(request::read_capacity_10()).await?;
        let size = capacity(&long);
        scene.ensure(size == Some(scene.size), || {
            format!("{}: READ CAPACITY(16) says {size:?}, the first path {:?}", nexus.label, scene.size)
        });
        let last = (scene.size.blocks - 1).min(u64::from(u32::MAX));
        scene.ensure(number(&short, 0, 4) == last, || {
            format!("{}: READ CAPACITY(10) says last block {}, not {last}", nexus.label, number(&short, 0, 4))
        });
        scene.ensure(number(&short, 4, 4) == u64::from(scene.size.block_size), || {
            format!("{}: READ CAPACITY(10) says blocks of {} bytes", nexus.label, number(&short, 4, 4))
        });
    }
    Ok(())
}

/// 512e: blocks of 512 bytes with larger physical ones, aligned at 0.
pub(crate) async fn physical_blocks(scene: &Scene) -> Outcome {
    let data = scene.first()?.good(request::read_capacity_16()).await?;
    let physical = u64::from(scene.size.block_size) << (byte(&data, 13) & 0x0f);
    let lowest = number(&data, 14, 2) & 0x3fff;
    scene.note(format!("logical {} bytes, physical {physical} bytes", scene.size.block_size));
    scene.ensure(lowest == 0, || {
        format!("LOWEST ALIGNED LOGICAL BLOCK ADDRESS is {lowest}: every host's I/O is misaligned")
    });
    match (scene.size.block_size, physical) {
        (512, 512) => {
            scene.warn("512 byte physical blocks are reported: hosts will send writes smaller than 4 KiB")
        }
        (512, 4096) | (4096, _) => {}
        (logical, physical) => {
            scene.warn(format!("{logical} byte blocks in physical ones of {physical} are unusual"));
        }
    }
    Ok(())
}

/// Block Limits: what is said there can be meant.
pub(crate) async fn limits(scene: &Scene) -> Outcome {
    let limits = BlockLimits::parse(&page(scene.first()?, 0xb0).await?);
    let block = u64::from(scene.size.block_size);
    scene.ensure(matches!(limits.page_length, 0x0c | 0x10 | 0x3c), || {
        format!("PAGE LENGTH is {:02X}h, 3Ch is expected", limits.page_length)
    });
    if limits.transfer_max > 0 {
        scene.ensure(limits.transfer_optimal <= limits.transfer_max, || {
            "OPTIMAL TRANSFER LENGTH is above MAXIMUM TRANSFER LENGTH".to_owned()
        });
        scene.ensure(limits.transfer_max * block >= 64 << 10, || {
            format!("MAXIMUM TRANSFER LENGTH is {} blocks: less than 64 KiB", limits.transfer_max)
        });
    }
    if limits.unmap_blocks_max > 0 {
        let granularity = limits.unmap_granularity * block;
        if granularity < GRANULARITY_MIN {
            scene.warn(format!(
                "OPTIMAL UNMAP GRANULARITY is {granularity} bytes: Windows 11 wants 32 KiB at least"
            ));
        }
        if limits.unmap_alignment_valid {
            scene.ensure(limits.unmap_alignment < limits.unmap_granularity.max(1), || {
                "UNMAP GRANULARITY ALIGNMENT is not below OPTIMAL UNMAP GRANULARITY".to_owned()
            });
        }
        scene.ensure(limits.unmap_descriptors_max > 0, || {
            "MAXIMUM UNMAP LBA COUNT is there, MAXIMUM UNMAP BLOCK DESCRIPTOR COUNT is 0".to_owned()
        });
    }
    let granularity = limits.transfer_granularity;
    scene.note(format!(
        "optimal transfer granularity {granularity} blocks, at most {} blocks",
        limits.transfer_max
    ));
    Ok(())
}

/// REPORT LUNS: the unit is in the list, on every path.
pub(crate) async fn lun_list(scene: &Scene) -> Outcome {
    for (nexus, reply) in scene.paths().iter().zip(scene.on_every_path(&request::report_luns()).await?) {
        let data = reply.good()?;
        let list = slice(&data, 8, length(&data, 0, 4));
        scene.ensure(list.len() == length(&data, 0, 4) && list.len().is_multiple_of(8), || {
            format!("{}: LUN LIST LENGTH does not fit", nexus.label)
        });
        let lun = u64::from(nexus.spec.url.lun);
        let is_there = list.chunks(8).any(|entry| number(entry, 0, 2) & 0x3fff == lun);
        scene.ensure(is_there, || format!("{}: LUN {lun} is not in the list", nexus.label));
    }
    Ok(())
}

/// A LUN that is not there: what ESXi takes for permanent device loss.
pub(crate) async fn absent_unit(scene: &Scene) -> Outcome {
    for nexus in scene.paths() {
        let list = nexus.good(request::report_luns()).await?;
        let used: Vec<u64> = slice(&list, 8, length(&list, 0, 4))
            .chunks(8)
            .map(|entry| number(entry, 0, 2) & 0x3fff)
            .collect();
        let Some(absent) = (1..=255).rev().find(|lun| !used.contains(&u64::from(*lun))) else { continue };
        let ready = nexus.raw(request::test_unit_ready().to_lun(absent)).await?;
        let ready = if ready.is_attention() {
            nexus.raw(request::test_unit_ready().to_lun(absent)).await?
        } else {
            ready
        };
        scene.note_failure(ready.illegal(0x25, 0x00))?;
        let inquiry = nexus.raw(request::inquiry(None).to_lun(absent)).await?.good()?;
        scene.ensure(byte(&inquiry, 0) == 0x7f, || {
            format!(
                "{}: INQUIRY of LUN {absent} says {:02x}h, 7Fh is expected",
                nexus.label,
                byte(&inquiry, 0)
            )
        });
    }
    Ok(())
}
