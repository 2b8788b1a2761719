//! Which commands there are, and whether what is reported is so.

use crate::bytes_at::{byte, number};
use crate::decode::{SupportedCommand, supported_commands};
use crate::outcome::Outcome;
use crate::request::{self, Request};
use crate::scene::Scene;

/// Commands in a form that changes nothing: they ask with room for the answer, or move no block and no list.
/// Others are not tried, as what they would do is unknown. None asks with an allocation length of 0, which is
/// legal but has been seen to end a target.
fn harmless(scene: &Scene) -> Vec<Request> {
    const ROOM: u32 = 252;
    let block_size = scene.size.block_size;
    let without_data = [0x00, 0x1e, 0x2a, 0x2e, 0x2f, 0x42, 0x8a, 0x8e, 0x8f, 0xaa, 0xae, 0xaf, 0x89];
    let mut requests: Vec<Request> = without_data.iter().map(|opcode| Request::new(&[*opcode])).collect();
    requests.extend([
        Request::new(&[0x03]).with(4, 1, ROOM.into()).reading(ROOM),
        request::inquiry(None),
        Request::new(&[0x1a, 0x08, 0x3f]).with(4, 1, ROOM.into()).reading(ROOM),
        request::read_capacity_10(),
        Request::new(&[0x28]).with(7, 2, 1).reading(block_size),
        request::log_sense(0),
        request::mode_sense(0x3f, 0),
        request::read(0, 1, block_size),
        request::read_capacity_16(),
        request::get_lba_status(0),
        request::report_luns(),
        request::report_target_port_groups(),
        request::report_all_operation_codes(),
        Request::new(&[0xa3, 0x0d]).with(6, 4, ROOM.into()).reading(ROOM),
        Request::new(&[0xa8]).with(6, 4, 1).reading(block_size),
        Request::new(&[0x84, 0x03]).with(10, 4, 1024).reading(1024),
    ]);
    requests.extend((0..4).map(request::reserve_in));
    requests
}

/// Commands that every host of today sends to a disk.
const EXPECTED: [(u8, Option<u16>); 15] = [
    (0x00, None),
    (0x12, None),
    (0x1a, None),
    (0x28, None),
    (0x2a, None),
    (0x35, None),
    (0x5e, Some(0)),
    (0x5f, Some(0)),
    (0x88, None),
    (0x89, None),
    (0x8a, None),
    (0x93, None),
    (0x9e, Some(0x10)),
    (0xa0, None),
    (0xa3, Some(0x0c)),
];

fn named(command: &SupportedCommand) -> String {
    let action = command.service_action.unwrap_or(0).to_be_bytes()[1];
    Request::new(&[command.opcode, action]).name
}

async fn reported(scene: &Scene) -> Outcome<Vec<SupportedCommand>> {
    Ok(supported_commands(&scene.first()?.good(request::report_all_operation_codes()).await?))
}

/// Every command reported is answered, every harmless one that is not reported is refused.
pub(crate) async fn consistent(scene: &Scene) -> Outcome {
    let nexus = scene.first()?;
    let reported = reported(scene).await?;
    let mut tried = 0;
    for request in harmless(scene) {
        let is_reported = reported.iter().any(|command| {
            let action = u16::from(byte(request.cdb(), 1) & 0x1f);
            command.opcode == byte(request.cdb(), 0) && command.service_action.is_none_or(|it| it == action)
        });
        let reply = nexus.ask(request).await?;
        tried += usize::from(is_reported);
        if is_reported {
            scene.ensure(!reply.is_unknown_command(), || {
                format!("reported as supported, but {}", reply.text())
            });
        } else if reply.is_good() {
            scene.warn(format!("not reported as supported, but {}", reply.text()));
        }
    }
    scene.note(format!("{} commands reported, {tried} of them tried", reported.len()));
    Ok(())
}

/// Each command reported is described in the one command format with the same length.
pub(crate) async fn described(scene: &Scene) -> Outcome {
    let nexus = scene.first()?;
    for command in reported(scene).await? {
        let data = nexus
            .ask(request::report_operation_code(command.opcode, command.service_action))
            .await?
            .good()?;
        let support = byte(&data, 1) & 0x07;
        let name = named(&command);
        scene.ensure(matches!(support, 3 | 5), || {
            format!("{name}: in the list of all commands, but SUPPORT is {support} when asked for alone")
        });
        scene.ensure(number(&data, 2, 2) == command.cdb_len, || {
            format!("{name}: CDB SIZE is {} in the list, {} alone", command.cdb_len, number(&data, 2, 2))
        });
        scene.ensure(byte(&data, 4) == command.opcode, || {
            format!("{name}: CDB USAGE DATA begins with {:02x}h", byte(&data, 4))
        });
    }
    Ok(())
}

/// What hosts of today send is there.
pub(crate) async fn expected(scene: &Scene) -> Outcome {
    let reported = reported(scene).await?;
    for (opcode, action) in EXPECTED {
        let is_there =
            reported.iter().any(|command| (command.opcode, command.service_action) == (opcode, action));
        let name = Request::new(&[opcode, action.unwrap_or(0).to_be_bytes()[1]]).name;
        if !is_there {
            scene.warn(format!("{name} is not supported"));
        }
    }
    Ok(())
}

/// An operation code that no standard defines is refused as such.
pub(crate) async fn unknown(scene: &Scene) -> Outcome {
    // 1Fh has been reserved in every version of SPC.
    for nexus in scene.paths() {
        scene.note_failure(nexus.ask(Request::new(&[0x1f])).await?.illegal(0x20, 0x00))?;
    }
    Ok(())
}

/// Reads and writes past the end are refused, with nothing transferred.
pub(crate) async fn out_of_range(scene: &Scene) -> Outcome {
    let nexus = scene.first()?;
    let end = scene.size.blocks;
    let requests = [
        request::read(end, 1, scene.size.block_size),
        request::read(end - 1, 2, scene.size.block_size),
        request::read(u64::MAX, 1, scene.size.block_size),
        request::write(end, 1, scene.zeroes(1)),
        Request::new(&[0x8f]).with(2, 8, end).with(10, 4, 1),
    ];
    for request in requests {
        let reply = nexus.ask(request).await?;
        if reply.is_unknown_command() {
            continue;
        }
        scene.note_failure(reply.illegal(0x21, 0x00))?;
        scene.ensure(reply.answer.data.is_empty(), || format!("{} with data", reply.text()));
    }
    Ok(())
}
