//! Several paths: ALUA and the names of ports.

use std::collections::BTreeMap;

use crate::bytes_at::byte;
use crate::checks::identity::read_designators;
use crate::decode::{Association, Designator, PortGroup, port_groups};
use crate::exchange::hex;
use crate::nexus::Nexus;
use crate::outcome::{Outcome, failed, not_supported, skipped};
use crate::request;
use crate::scene::Scene;

/// The states in which a path can be (SPC-4 ASYMMETRIC ACCESS STATE).
const STATES: [(u8, &str); 6] = [
    (0x0, "active/optimized"),
    (0x1, "active/non-optimized"),
    (0x2, "standby"),
    (0x3, "unavailable"),
    (0x4, "logical block dependent"),
    (0xf, "transitioning"),
];

/// The bit that says that a state is supported (SPC-4 target port group descriptor, byte 1), and the qualifier of
/// LOGICAL UNIT NOT READY that a READ ends with there, if it is one for no I/O.
const fn signs(state: u8) -> (u8, Option<u8>) {
    match state {
        0x0 => (0x01, None),
        0x1 => (0x02, None),
        0x2 => (0x04, Some(0x0b)),
        0x3 => (0x08, Some(0x0c)),
        0x4 => (0x10, None),
        0xf => (0x80, Some(0x0a)),
        _ => (0, None),
    }
}

async fn groups(nexus: &Nexus) -> Outcome<Vec<PortGroup>> {
    let data = nexus.ask(request::report_target_port_groups()).await?.good_if_there()?;
    port_groups(&data)
        .or_else(|why| failed(format!("REPORT TARGET PORT GROUPS through {}: {why}", nexus.label)))
}

/// TPGS in INQUIRY is the same on every path, and says what REPORT TARGET PORT GROUPS does.
pub(crate) async fn tpgs(scene: &Scene) -> Outcome {
    for nexus in scene.paths() {
        let tpgs = byte(&nexus.good(request::inquiry(None)).await?, 5) >> 4 & 3;
        let reply = nexus.ask(request::report_target_port_groups()).await?;
        match tpgs {
            0 => scene.ensure(!reply.is_good(), || {
                format!("{}: TPGS is 0 but REPORT TARGET PORT GROUPS is answered", nexus.label)
            }),
            _ => drop(reply.good()?),
        }
        explicit(scene, nexus, tpgs & 2 != 0).await?;
        if tpgs == 0 {
            return not_supported(format!("{}: TPGS in INQUIRY is 0: no ALUA", nexus.label));
        }
    }
    Ok(())
}

/// Hosts may set states exactly if TPGS says so, as far as REPORT SUPPORTED OPERATION CODES tells.
async fn explicit(scene: &Scene, nexus: &Nexus, said: bool) -> Outcome {
    const SUPPORTED: u8 = 3;
    let reply = nexus.ask(request::report_operation_code(0xa4, Some(0x0a))).await?;
    if !reply.is_good() {
        return Ok(());
    }
    let support = byte(&reply.good()?, 1) & 7;
    // 0: it does not tell now.
    scene.ensure(support == 0 || (support == SUPPORTED) == said, || {
        let (says, is) = if said { ("", "not ") } else { ("no ", "") };
        format!("{}: TPGS says {says}explicit ALUA, but SET TARGET PORT GROUPS is {is}supported", nexus.label)
    });
    Ok(())
}

/// REPORT TARGET PORT GROUPS is byte for byte the same on every path.
pub(crate) async fn same_groups(scene: &Scene) -> Outcome {
    let replies = scene.on_every_path(&request::report_target_port_groups()).await?;
    let mut first: Option<(Vec<u8>, String)> = None;
    for reply in &replies {
        let data = reply.good_if_there()?.to_vec();
        let (wanted, at) = first.get_or_insert_with(|| (data.clone(), reply.nexus.clone()));
        scene.ensure(*wanted == data, || {
            format!("{} says {}; {at} says {}", reply.nexus, hex(&data), hex(wanted))
        });
    }
    Ok(())
}

/// The groups make sense: numbers and ports once each, states known, one path usable.
pub(crate) async fn sound_groups(scene: &Scene) -> Outcome {
    let groups = groups(scene.first()?).await?;
    let mut ports: Vec<u64> = Vec::new();
    for group in &groups {
        let state = STATES.iter().find(|(state, _)| *state == group.state);
        scene.ensure(state.is_some(), || {
            format!("group {}: state {:X}h is reserved", group.number, group.state)
        });
        scene.note(format!(
            "group {}: {}, ports {:?}",
            group.number,
            state.map_or("", |(_, name)| name),
            group.ports
        ));
        scene.ensure(!group.ports.is_empty(), || format!("group {} has no port", group.number));
        ports.extend(group.ports.iter().copied());
    }
    let count = ports.len();
    ports.sort_unstable();
    ports.dedup();
    scene.ensure(ports.len() == count, || "a relative target port identifier is in two places".to_owned());
    let mut numbers: Vec<_> = groups.iter().map(|group| group.number).collect();
    numbers.sort_unstable();
    numbers.dedup();
    scene.ensure(numbers.len() == groups.len(), || "a target port group is listed twice".to_owned());
    scene.ensure(groups.iter().any(|group| matches!(group.state, 0 | 1 | 4)), || {
        "no target port group is in an active state".to_owned()
    });
    Ok(())
}

/// The port that VPD page 83h names on a path: relative identifier, group, name.
struct Port {
    relative: Option<u64>,
    group: Option<u64>,
    name: Option<String>,
}

async fn port(nexus: &Nexus) -> Outcome<Port> {
    let found = read_designators(nexus).await?;
    let of = |kind| {
        found
            .iter()
            .find(move |designator| designator.association == Association::Port && designator.kind == kind)
    };
    Ok(Port {
        relative: of(Designator::RELATIVE_PORT).map(Designator::number),
        group: of(Designator::PORT_GROUP).map(Designator::number),
        name: of(Designator::SCSI_NAME).map(Designator::text),
    })
}

/// The port and group that each path names in VPD page 83h are in REPORT TARGET PORT GROUPS.
pub(crate) async fn listed_ports(scene: &Scene) -> Outcome {
    for nexus in scene.paths() {
        let groups = groups(nexus).await?;
        let port = port(nexus).await?;
        let (Some(relative), Some(number)) = (port.relative, port.group) else {
            scene.wrong(format!("{}: VPD page 83h lacks relative port or port group", nexus.label));
            continue;
        };
        match groups.iter().find(|group| group.number == number) {
            None => scene.wrong(format!("{}: its group {number} is not reported", nexus.label)),
            Some(group) => scene.ensure(group.ports.contains(&relative), || {
                format!("{}: its port {relative} is not in its group {number}", nexus.label)
            }),
        }
    }
    Ok(())
}

/// Each path is in a state that its group can have, and reads or refuses to read as the state has it.
pub(crate) async fn states(scene: &Scene) -> Outcome {
    for nexus in scene.paths() {
        let groups = groups(nexus).await?;
        let number = port(nexus).await?.group;
        let Some(group) = groups.iter().find(|group| Some(group.number) == number) else { continue };
        let (bit, refusal) = signs(group.state);
        let name =
            STATES.iter().find(|(state, _)| *state == group.state).map_or("reserved", |(_, name)| name);
        scene.ensure(group.supported & bit != 0, || {
            format!(
                "{}: its group is {name}, which its byte {:02x} does not support",
                nexus.label, group.supported
            )
        });
        let reply = nexus.ask(request::read(0, 1, scene.size.block_size)).await?;
        match refusal {
            _ if reply.is_conflict() => return skipped("somebody else has reserved the unit"),
            None => {
                scene.ensure(reply.is_good(), || format!("{}, although its group is {name}", reply.text()))
            }
            Some(qualifier) => scene.ensure(reply.is_sense(2, 0x04, qualifier), || {
                format!(
                    "{}, although its group is {name}: NOT READY 04h/{qualifier:02X}h is expected",
                    reply.text()
                )
            }),
        }
    }
    Ok(())
}

/// Different ports have different relative identifiers; the same port has always the same.
pub(crate) async fn distinct_ports(scene: &Scene) -> Outcome {
    let mut seen: BTreeMap<u64, (Option<String>, &str)> = BTreeMap::new();
    let mut names: BTreeMap<String, (u64, &str)> = BTreeMap::new();
    for nexus in scene.paths() {
        let port = port(nexus).await?;
        let Some(relative) = port.relative else {
            scene.warn(format!("{}: VPD page 83h has no relative target port identifier", nexus.label));
            continue;
        };
        let (name, at) = seen.entry(relative).or_insert_with(|| (port.name.clone(), &nexus.label));
        scene.ensure(*name == port.name, || {
            format!(
                "{} and {at} both say port {relative}, but name it {:?} and {name:?}",
                nexus.label, port.name
            )
        });
        if let Some(name) = port.name {
            let (number, at) = names.entry(name.clone()).or_insert((relative, &nexus.label));
            scene.ensure(*number == relative, || {
                format!("{} calls {name} port {relative}, {at} calls it port {number}", nexus.label)
            });
        }
    }
    Ok(())
}

/// What is written through one path is read through every other at once.
pub(crate) async fn same_data(scene: &Scene) -> Outcome {
    let blocks = scene.blocks_of(4096);
    let lba = scene.scratch(0, u64::from(blocks))?;
    for (number, writer) in scene.paths().iter().enumerate() {
        let data = scene.pattern(u64::try_from(number).unwrap_or(0) + 77, blocks);
        scene.write(writer, lba, data.clone()).await?;
        for reader in scene.paths() {
            let what = format!("written through {}", writer.label);
            scene.note_failure(scene.holds(reader, lba, &data, &what).await)?;
        }
    }
    Ok(())
}
