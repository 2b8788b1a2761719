//! The command table: complete, in order, and every bit it does not name refused.

use scsi::command::{COMMANDS, Command, Conflict, Lookup, Operation, OutLength, Transfer, find};
use scsi::{AdditionalSense, BlockSize, Cdb, LogicalUnitConfig, Step, data_out_len};

use crate::harness::{A, Disk, identity};

/// A well-formed CDB of `command`: small lengths, address 0, what needs a value given one.
fn sample(command: &Command) -> [u8; 16] {
    let mut cdb = [0; 16];
    cdb[0] = command.opcode;
    cdb[1] = command.service_action.unwrap_or(0);
    let length = match command.operation {
        Operation::ReportLuns => 16,
        Operation::ReportSupportedTaskManagementFunctions => 4,
        Operation::ModeSelect6
        | Operation::ModeSelect10
        | Operation::SetTargetPortGroups
        | Operation::ExtendedCopyLid1
        | Operation::ExtendedCopyLid4
        | Operation::PopulateToken
        | Operation::WriteUsingToken
        | Operation::SanitizeBlockErase
        | Operation::SanitizeCryptoErase
        | Operation::SanitizeExitFailureMode
        | Operation::Unmap => 0,
        Operation::SanitizeOverwrite => u8::try_from(OVERWRITE.len()).unwrap(),
        Operation::PersistentReserveOut => u8::try_from(reserve_out(command).len()).unwrap(),
        _ => 1,
    };
    if command.length.len > 0 {
        cdb[usize::from(command.length.byte + command.length.len - 1)] = length;
    }
    match command.operation {
        Operation::ModeSense6 | Operation::ModeSense10 => cdb[2] = 0x3f,
        Operation::PersistentReserveOut if command.usage[2] != 0 => cdb[2] = 0x01,
        _ => {}
    }
    cdb
}

/// A parameter list of the nexus that is registered under key 1, which it keeps.
fn reserve_out(command: &Command) -> Vec<u8> {
    const REGISTER_AND_MOVE: Option<u8> = Some(7);
    let mut list = [1_u64.to_be_bytes(), 1_u64.to_be_bytes(), [0; 8]].concat();
    if command.service_action == REGISTER_AND_MOVE {
        let name = b"iqn.2026-01.test:b,i,0x00023d000001\0";
        list[19] = 7;
        list[23] = 4 + u8::try_from(name.len()).unwrap();
        list.extend_from_slice(&[0x45, 0, 0, u8::try_from(name.len()).unwrap()]);
        list.extend_from_slice(name);
    }
    list
}

/// One pass of one byte.
const OVERWRITE: [u8; 5] = [1, 0, 0, 1, 0];

/// Data-Out as the table says, of zeroes where they will do.
fn data(command: &Command, cdb: &[u8]) -> Vec<u8> {
    match command.operation {
        Operation::PersistentReserveOut => reserve_out(command),
        Operation::SanitizeOverwrite => OVERWRITE.to_vec(),
        _ => vec![0; usize::try_from(data_out_len(cdb, 512)).unwrap()],
    }
}

/// Runs a command that has to succeed, of a host that holds a reservation.
#[track_caller]
fn good(disk: &mut Disk, command: &Command, cdb: &[u8; 16]) -> Vec<u8> {
    let _ = disk.unit.clear_reservations();
    if command.operation == Operation::PersistentReserveOut {
        disk.told(A);
        let key = [0_u64.to_be_bytes(), 1_u64.to_be_bytes(), [0; 8]].concat();
        disk.good(&[0x5f, 6, 0, 0, 0, 0, 0, 0, 24, 0], &key);
        let key = [1_u64.to_be_bytes(), [0; 8], [0; 8]].concat();
        disk.good(&[0x5f, 1, 1, 0, 0, 0, 0, 0, 24, 0], &key);
    }
    let answer = disk.good(cdb, &data(command, cdb));
    let _ = disk.unit.clear_reservations();
    disk.told(A);
    answer
}

/// A disk that has made a token under list identifier 0, so that there is something to ask about.
fn disk() -> Disk {
    let mut disk = Disk::new();
    let mut list = vec![0, 30, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 16];
    list.resize(32, 0);
    disk.good(&[0x83, 0x10, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 32, 0, 0], &list);
    disk
}

/// The commands that `sample` makes succeed. COPY OPERATION ABORT needs a copy that is under way.
fn commands() -> impl Iterator<Item = &'static Command> {
    COMMANDS.iter().filter(|command| command.operation != Operation::CopyOperationAbort)
}

#[test]
fn rows_are_sorted_and_unique() {
    assert!(COMMANDS.is_sorted_by_key(|command| (command.opcode, command.service_action)));
    for pair in COMMANDS.windows(2) {
        assert_ne!((pair[0].opcode, pair[0].service_action), (pair[1].opcode, pair[1].service_action));
        if pair[0].opcode == pair[1].opcode {
            assert!(pair[0].service_action.is_some() && pair[1].service_action.is_some());
        }
    }
}

/// A command cannot be half added: what is in the table is found, runs, and is reported.
#[test]
fn every_row_is_found_runs_and_is_reported() {
    let mut disk = disk();
    for command in commands() {
        let cdb = sample(command);
        let Lookup::Found(found) = find(&Cdb::from(cdb)) else { panic!("{} is not found", command.name) };
        assert_eq!(found.name, command.name);
        good(&mut disk, command, &cdb);
        let [high, low] = u16::from(command.service_action.unwrap_or(0)).to_be_bytes();
        let report = disk.good(&[0xa3, 0x0c, 3, command.opcode, high, low, 0, 0, 0, 255, 0, 0], &[]);
        assert_eq!((report[1], report[3]), (3, command.cdb_len), "{}", command.name);
        assert_eq!(report[4..], command.usage[..command.cdb_len.into()]);
    }
}

#[test]
fn rows_hold_together() {
    for command in COMMANDS {
        let name = command.name;
        let size = match command.opcode >> 5 {
            0 => 6,
            1 | 2 => 10,
            4 => 16,
            5 => 12,
            group => panic!("{name}: group {group}"),
        };
        assert_eq!(command.cdb_len, size, "{name}");
        assert_eq!(command.usage[0], command.opcode, "{name}");
        let control = usize::from(command.cdb_len) - 1;
        assert_eq!(command.usage[control] | command.ignored[control], 0, "{name}: CONTROL");
        assert!(command.usage[control..].iter().all(|byte| *byte == 0), "{name}: past its end");
        assert!(command.length.len <= 4, "{name}");
        for at in 1..16 {
            assert_eq!(command.usage[at] & command.ignored[at], 0, "{name}: byte {at}");
            assert_eq!(command.thin_bits[at] & !command.usage[at], 0, "{name}: byte {at}");
        }
        let out = matches!(command.transfer, Transfer::Out(_));
        assert!(!command.writes || out, "{name}: writes what?");
        assert_eq!(command.writes, command.writes && command.conflict == Conflict::Any, "{name}");
        assert!(command.timeouts.recommended_seconds > command.timeouts.nominal_seconds, "{name}");
    }
}

/// SPC-4 4.2.5.1: a reserved bit that is set is INVALID FIELD IN CDB, and the field pointer says which.
#[test]
fn every_reserved_bit_is_refused_and_named() {
    let mut disk = Disk::new();
    let mut refused = 0;
    for command in COMMANDS {
        let plain = sample(command);
        for byte in 1..usize::from(command.cdb_len) {
            for bit in 0..8 {
                let mask = 1 << bit;
                let service_action = byte == 1 && command.service_action.is_some() && bit < 5;
                if service_action || (command.usage[byte] | command.ignored[byte]) & mask != 0 {
                    continue;
                }
                let mut cdb = plain;
                cdb[byte] |= mask;
                let info = disk.illegal(&cdb, &data(command, &cdb), AdditionalSense::INVALID_FIELD_IN_CDB);
                let at = (true, u16::try_from(byte).unwrap(), Some(bit));
                assert_eq!(info.field, Some(at), "{}", command.name);
                refused += 1;
            }
        }
    }
    assert!(refused > 900, "only {refused} bits were tried");
}

/// iSCSI pads every CDB to 16 bytes; what is in the padding does not matter.
#[test]
fn padding_is_not_looked_at() {
    let mut disk = disk();
    for command in commands() {
        let mut cdb = sample(command);
        cdb[usize::from(command.cdb_len)..].fill(0xff);
        good(&mut disk, command, &cdb);
    }
}

#[test]
fn ignored_bits_change_nothing() {
    let mut disk = disk();
    for command in commands() {
        let plain = sample(command);
        let mut cdb = plain;
        cdb.iter_mut().zip(command.ignored).for_each(|(byte, ignored)| *byte |= ignored);
        let before = good(&mut disk, command, &plain);
        assert_eq!(good(&mut disk, command, &cdb), before, "{}", command.name);
    }
}

#[test]
fn other_operation_codes_and_service_actions_are_refused() {
    let mut disk = Disk::new();
    for opcode in 0..=255 {
        let rows: Vec<_> = COMMANDS.iter().filter(|command| command.opcode == opcode).collect();
        if rows.is_empty() {
            disk.illegal(&[opcode, 0, 0, 0, 0, 0], &[], AdditionalSense::INVALID_OPERATION_CODE);
            assert_eq!(data_out_len(&[opcode], 512), 0);
        } else if rows[0].service_action.is_some() {
            for action in (0..32).filter(|action| rows.iter().all(|row| row.service_action != Some(*action)))
            {
                let info = disk.illegal(&[opcode, action], &[], AdditionalSense::INVALID_FIELD_IN_CDB);
                assert_eq!(info.field.map(|field| field.1), Some(1));
            }
        }
    }
}

#[test]
fn data_out_is_sized_from_the_cdb() {
    let long = |opcode: u8, flags: u8, blocks: u32| {
        let mut cdb = [0; 16];
        cdb[..2].copy_from_slice(&[opcode, flags]);
        cdb[10..14].copy_from_slice(&blocks.to_be_bytes());
        cdb
    };
    let table: [(&[u8], u32); 24] = [
        (&[0x0a, 0, 0, 0, 3, 0], 3 * 512),
        (&[0x0a, 0, 0, 0, 0, 0], 256 * 512),
        (&[0x2a, 0, 0, 0, 0, 0, 0, 1, 0, 0], 256 * 512),
        (&[0xaa, 0, 0, 0, 0, 0, 0, 0, 0, 9, 0, 0], 9 * 512),
        (&long(0x8a, 0, 7), 7 * 512),
        (&long(0x8a, 0, u32::MAX), u32::MAX),
        (&long(0x8e, 0, 7), 7 * 512),
        (&long(0x8f, 0, 7), 0),
        (&long(0x8f, 2, 7), 7 * 512),
        (&long(0x8f, 4, 7), 0),
        (&long(0x8f, 6, 7), 512),
        (&long(0x8f, 6, 0), 0),
        (&long(0x93, 0, 7), 512),
        (&long(0x93, 1, 7), 0),
        (&[0x41, 0, 0, 0, 0, 0, 0, 0, 9, 0], 512),
        (&long(0x89, 0, 7), 2 * 7 * 512),
        (&long(0x9c, 0, 7), 7 * 512),
        (&[0x42, 0, 0, 0, 0, 0, 0, 0x01, 0x18, 0], 0x118),
        (&[0x48, 0x01, 0, 0, 0, 0, 0, 2, 4, 0], 516),
        (&[0x15, 0x10, 0, 0, 24, 0], 24),
        (&[0x55, 0x10, 0, 0, 0, 0, 0, 1, 0, 0], 256),
        (&[0x28, 0, 0, 0, 0, 0, 0, 0, 8, 0], 0),
        (&[], 0),
        (&[0x2a], 0),
    ];
    for (cdb, len) in table {
        assert_eq!(data_out_len(cdb, 512), len, "{cdb:02x?}");
    }
    assert_eq!(data_out_len(&long(0x8a, 0, 7), 4096), 7 * 4096);
    let outs = COMMANDS.iter().filter(|command| matches!(command.transfer, Transfer::Out(OutLength::Bytes)));
    assert_eq!(
        outs.count(),
        4 + 8 + 4 + 4,
        "UNMAP, two MODE SELECTs, SET TARGET PORT GROUPS, PERSISTENT RESERVE OUT, copies, and SANITIZE"
    );
}

#[test]
fn reads_do_not_conflict_with_write_exclusive_reservations() {
    for command in COMMANDS {
        let expected = match command.operation {
            Operation::Read
            | Operation::Verify
            | Operation::Prefetch
            | Operation::PopulateToken
            | Operation::GetLbaStatus => Conflict::ExclusiveAccess,
            Operation::Inquiry
            | Operation::ReportLuns
            | Operation::RequestSense
            | Operation::TestUnitReady => Conflict::Never,
            _ if command.writes => Conflict::Any,
            _ => continue,
        };
        assert_eq!(command.conflict, expected, "{}", command.name);
    }
}

/// The whole length field counts: its largest value reaches the limit check, not a truncated one.
#[test]
fn the_largest_length_is_not_mistaken_for_a_small_one() {
    let mut config = LogicalUnitConfig::new(identity(), BlockSize::B4096, 1 << 50);
    config.limits.atomic_bytes_max = 1 << 20;
    let mut disk = Disk::with(config);
    for opcode in [0x28, 0xa8, 0x88, 0x2a, 0xaa, 0x8a, 0x9c] {
        let Lookup::Found(command) = find(&Cdb::new(&[opcode])) else { panic!() };
        let mut cdb = [0; 16];
        cdb[0] = opcode;
        let field = usize::from(command.length.byte)..usize::from(command.length.byte + command.length.len);
        cdb[field].fill(0xff);
        let info = disk.illegal(&cdb, &[], AdditionalSense::INVALID_FIELD_IN_CDB);
        assert_eq!(info.field, Some((true, command.length.byte.into(), None)));
    }
    let step = Disk::new().step(&[0x28, 0, 0, 0, 0, 0, 0, 0, 1, 0], &[]);
    assert!(matches!(step, Step::Media(..)));
}
