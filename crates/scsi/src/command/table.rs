//! Every supported command, by operation code and service action.

use super::definition::Command;
use super::layout::{Attention, Conflict, Operation, OutLength, Reach, Transfer};
use crate::cdb::Cdb;

/// Group numbers, in SBC commands: no statistics are kept by group.
const GROUP: u8 = 0x3f;
/// DPO and FUA, and FUA_NV, which old hosts send and which FUA satisfies.
const DPO_FUA: u8 = 0x10 | 0x08 | 0x02;
const DPO: u8 = 0x10;
const BYTCHK: u8 = 0x06;
const IMMED: u8 = 0x02;
/// SYNC_NV: everything is synchronized to the medium anyway.
const SYNC_NV: u8 = 0x04;
const SERVICE_ACTION: u8 = 0x1f;
/// SCOPE and TYPE of PERSISTENT RESERVE OUT.
const SCOPE_TYPE: u8 = 0xff;

/// The table, sorted by operation code and service action.
pub static COMMANDS: &[Command] = &[
    Command::new(0x00, 6, "TEST UNIT READY", Operation::TestUnitReady),
    Command::new(0x03, 6, "REQUEST SENSE", Operation::RequestSense)
        .bits(1, 0x01)
        .length(4, 1)
        .transfer(Transfer::InBytes)
        .attention(Attention::Reports)
        .runs_despite_spc2_reserve()
        .runs_despite_sanitize()
        .reaches(Reach::Transition)
        .always(),
    read(0x08, 6, "READ(6)").six_byte_fields(),
    write(0x0a, 6, "WRITE(6)").six_byte_fields(),
    Command::new(0x12, 6, "INQUIRY", Operation::Inquiry)
        .bits(1, 0x01)
        .bits(2, 0xff)
        .length(3, 2)
        .transfer(Transfer::InBytes)
        .attention(Attention::Waits)
        .runs_despite_spc2_reserve()
        .runs_despite_sanitize()
        .reaches(Reach::Transition)
        .always(),
    mode_select(0x15, 6, "MODE SELECT(6)", Operation::ModeSelect6).length(4, 1),
    Command::new(0x16, 6, "RESERVE(6)", Operation::Reserve).always(),
    Command::new(0x17, 6, "RELEASE(6)", Operation::Release).runs_despite_spc2_reserve().always(),
    mode_sense(0x1a, 6, "MODE SENSE(6)", Operation::ModeSense6).length(4, 1),
    Command::new(0x1b, 6, "START STOP UNIT", Operation::StartStopUnit)
        .bits(1, 0x01)
        .bits(4, 0x04 | 0x01)
        .conflicts(Conflict::AnyUnlessSet { byte: 4, mask: 0x01 })
        .seconds(10, 60),
    Command::new(0x1e, 6, "PREVENT ALLOW MEDIUM REMOVAL", Operation::PreventAllowMediumRemoval)
        .bits(4, 0x01)
        .conflicts(Conflict::AnyIfSet { byte: 4, mask: 0x01 }),
    Command::new(0x25, 10, "READ CAPACITY(10)", Operation::ReadCapacity10)
        .transfer(Transfer::InFixed(8))
        .reaches(Reach::Standby),
    read(0x28, 10, "READ(10)").bits(1, DPO_FUA).lba(2, 4).ignores(6, GROUP).length(7, 2),
    write(0x2a, 10, "WRITE(10)").bits(1, DPO_FUA).lba(2, 4).ignores(6, GROUP).length(7, 2),
    write_and_verify(0x2e, 10, "WRITE AND VERIFY(10)").lba(2, 4).ignores(6, GROUP).length(7, 2),
    verify(0x2f, 10, "VERIFY(10)").lba(2, 4).ignores(6, GROUP).length(7, 2),
    prefetch(0x34, 10, "PRE-FETCH(10)").lba(2, 4).ignores(6, GROUP).length(7, 2),
    synchronize(0x35, 10, "SYNCHRONIZE CACHE(10)").lba(2, 4).ignores(6, GROUP).length(7, 2),
    Command::new(0x37, 10, "READ DEFECT DATA(10)", Operation::ReadDefectData10)
        .bits(2, 0x1f)
        .length(7, 2)
        .transfer(Transfer::InBytes)
        .reading(),
    write_same(0x41, 10, "WRITE SAME(10)").lba(2, 4).ignores(6, GROUP).length(7, 2).out(OutLength::OneBlock),
    Command::new(0x42, 10, "UNMAP", Operation::Unmap)
        .ignores(6, GROUP)
        .length(7, 2)
        .out(OutLength::Bytes)
        .writing()
        .seconds(10, 60)
        .thin_only(),
    sanitize("SANITIZE: OVERWRITE", 0x01, Operation::SanitizeOverwrite),
    sanitize("SANITIZE: BLOCK ERASE", 0x02, Operation::SanitizeBlockErase),
    sanitize("SANITIZE: CRYPTOGRAPHIC ERASE", 0x03, Operation::SanitizeCryptoErase).crypto_erase_only(),
    sanitize("SANITIZE: EXIT FAILURE MODE", 0x1f, Operation::SanitizeExitFailureMode),
    // SP and PPC are not supported: no parameter is saved, none is remembered.
    Command::new(0x4d, 10, "LOG SENSE", Operation::LogSense)
        .bits(2, 0xff)
        .bits(3, 0xff)
        .bits(5, 0xff)
        .bits(6, 0xff)
        .length(7, 2)
        .transfer(Transfer::InBytes)
        .reaches(Reach::Standby)
        .always(),
    mode_select(0x55, 10, "MODE SELECT(10)", Operation::ModeSelect10).length(7, 2),
    Command::new(0x56, 10, "RESERVE(10)", Operation::Reserve).always(),
    Command::new(0x57, 10, "RELEASE(10)", Operation::Release).runs_despite_spc2_reserve().always(),
    mode_sense(0x5a, 10, "MODE SENSE(10)", Operation::ModeSense10).bits(1, 0x10).length(7, 2),
    reserve_in("PERSISTENT RESERVE IN: READ KEYS", 0x00),
    reserve_in("PERSISTENT RESERVE IN: READ RESERVATION", 0x01),
    reserve_in("PERSISTENT RESERVE IN: REPORT CAPABILITIES", 0x02),
    reserve_in("PERSISTENT RESERVE IN: READ FULL STATUS", 0x03),
    reserve_out("PERSISTENT RESERVE OUT: REGISTER", 0x00).ignores(2, SCOPE_TYPE),
    reserve_out("PERSISTENT RESERVE OUT: RESERVE", 0x01).bits(2, SCOPE_TYPE),
    reserve_out("PERSISTENT RESERVE OUT: RELEASE", 0x02).bits(2, SCOPE_TYPE),
    reserve_out("PERSISTENT RESERVE OUT: CLEAR", 0x03).ignores(2, SCOPE_TYPE),
    reserve_out("PERSISTENT RESERVE OUT: PREEMPT", 0x04).bits(2, SCOPE_TYPE),
    reserve_out("PERSISTENT RESERVE OUT: PREEMPT AND ABORT", 0x05).bits(2, SCOPE_TYPE),
    reserve_out("PERSISTENT RESERVE OUT: REGISTER AND IGNORE EXISTING KEY", 0x06).ignores(2, SCOPE_TYPE),
    reserve_out("PERSISTENT RESERVE OUT: REGISTER AND MOVE", 0x07).ignores(2, SCOPE_TYPE),
    copy(0x00, "EXTENDED COPY(LID1)", Operation::ExtendedCopyLid1).conflicts(Conflict::Any),
    copy(0x01, "EXTENDED COPY(LID4)", Operation::ExtendedCopyLid4).conflicts(Conflict::Any),
    copy(0x10, "POPULATE TOKEN", Operation::PopulateToken).list_identifier(6, 4).ignores(14, GROUP).reading(),
    copy(0x11, "WRITE USING TOKEN", Operation::WriteUsingToken)
        .list_identifier(6, 4)
        .ignores(14, GROUP)
        .writing(),
    Command::new(0x83, 16, "COPY OPERATION ABORT", Operation::CopyOperationAbort)
        .service_action(0x1c)
        .list_identifier(2, 4)
        .conflicts(Conflict::Any)
        .offload_only()
        .always(),
    receive_copy(0x00, "RECEIVE COPY STATUS(LID1)", Operation::ReceiveCopyStatusLid1).list_identifier(2, 1),
    receive_copy(0x03, "RECEIVE COPY OPERATING PARAMETERS", Operation::ReceiveCopyOperatingParameters),
    receive_copy(0x04, "RECEIVE COPY FAILURE DETAILS(LID1)", Operation::ReceiveCopyFailureDetailsLid1)
        .list_identifier(2, 1),
    receive_copy(0x05, "RECEIVE COPY STATUS(LID4)", Operation::ReceiveCopyStatusLid4).list_identifier(2, 4),
    receive_copy(0x07, "RECEIVE ROD TOKEN INFORMATION", Operation::ReceiveRodTokenInformation)
        .list_identifier(2, 4),
    read(0x88, 16, "READ(16)").bits(1, DPO_FUA).lba(2, 8).length(10, 4).ignores(14, GROUP),
    Command::new(0x89, 16, "COMPARE AND WRITE", Operation::CompareAndWrite)
        .bits(1, DPO_FUA)
        .lba(2, 8)
        .length(13, 1)
        .ignores(14, GROUP)
        .out(OutLength::TwiceBlocks)
        .writing(),
    write(0x8a, 16, "WRITE(16)").bits(1, DPO_FUA).lba(2, 8).length(10, 4).ignores(14, GROUP),
    Command::new(0x8b, 16, "ORWRITE(16)", Operation::OrWrite)
        .bits(1, DPO | 0x08)
        .lba(2, 8)
        .length(10, 4)
        .ignores(14, GROUP)
        .out(OutLength::Blocks)
        .writing(),
    write_and_verify(0x8e, 16, "WRITE AND VERIFY(16)").lba(2, 8).length(10, 4).ignores(14, GROUP),
    verify(0x8f, 16, "VERIFY(16)").lba(2, 8).length(10, 4).ignores(14, GROUP),
    prefetch(0x90, 16, "PRE-FETCH(16)").lba(2, 8).length(10, 4).ignores(14, GROUP),
    synchronize(0x91, 16, "SYNCHRONIZE CACHE(16)").lba(2, 8).length(10, 4).ignores(14, GROUP),
    write_same(0x93, 16, "WRITE SAME(16)")
        .bits(1, 0x01)
        .lba(2, 8)
        .length(10, 4)
        .ignores(14, GROUP)
        .out(OutLength::OneBlockUnlessNdob),
    // ATOMIC BOUNDARY, bytes 10 and 11, is not supported: a write is one atomic write.
    Command::new(0x9c, 16, "WRITE ATOMIC(16)", Operation::WriteAtomic)
        .bits(1, DPO | 0x08)
        .lba(2, 8)
        .length(12, 2)
        .ignores(14, GROUP)
        .out(OutLength::Blocks)
        .writing()
        .atomic_only(),
    Command::new(0x9e, 16, "READ CAPACITY(16)", Operation::ReadCapacity16)
        .service_action(0x10)
        .length(10, 4)
        .transfer(Transfer::InBytes)
        .reaches(Reach::Standby),
    Command::new(0x9e, 16, "GET LBA STATUS", Operation::GetLbaStatus)
        .service_action(0x12)
        .lba(2, 8)
        .length(10, 4)
        .transfer(Transfer::InBytes)
        .reading(),
    Command::new(0xa0, 12, "REPORT LUNS", Operation::ReportLuns)
        .bits(2, 0xff)
        .length(6, 4)
        .transfer(Transfer::InBytes)
        .attention(Attention::Waits)
        .runs_despite_spc2_reserve()
        .runs_despite_sanitize()
        .reaches(Reach::Transition)
        .always(),
    Command::new(0xa3, 12, "REPORT TARGET PORT GROUPS", Operation::ReportTargetPortGroups)
        .service_action(0x0a)
        .bits(1, 0xe0)
        .length(6, 4)
        .transfer(Transfer::InBytes)
        .runs_despite_spc2_reserve()
        .reaches(Reach::Transition)
        .always(),
    Command::new(0xa3, 12, "REPORT SUPPORTED OPERATION CODES", Operation::ReportSupportedOperationCodes)
        .service_action(0x0c)
        .bits(2, 0x80 | 0x07)
        .bits(3, 0xff)
        .bits(4, 0xff)
        .bits(5, 0xff)
        .length(6, 4)
        .transfer(Transfer::InBytes)
        .reaches(Reach::Standby)
        .always(),
    Command::new(
        0xa3,
        12,
        "REPORT SUPPORTED TASK MANAGEMENT FUNCTIONS",
        Operation::ReportSupportedTaskManagementFunctions,
    )
    .service_action(0x0d)
    .bits(2, 0x80)
    .length(6, 4)
    .transfer(Transfer::InBytes)
    .reaches(Reach::Standby)
    .always(),
    Command::new(0xa4, 12, "SET TARGET PORT GROUPS", Operation::SetTargetPortGroups)
        .service_action(0x0a)
        .length(6, 4)
        .out(OutLength::Bytes)
        .conflicts(Conflict::Any)
        .reaches(Reach::Unavailable)
        .always(),
    read(0xa8, 12, "READ(12)").bits(1, DPO_FUA).lba(2, 4).length(6, 4).ignores(10, GROUP),
    write(0xaa, 12, "WRITE(12)").bits(1, DPO_FUA).lba(2, 4).length(6, 4).ignores(10, GROUP),
    write_and_verify(0xae, 12, "WRITE AND VERIFY(12)").lba(2, 4).length(6, 4).ignores(10, GROUP),
    verify(0xaf, 12, "VERIFY(12)").lba(2, 4).length(6, 4).ignores(10, GROUP),
    Command::new(0xb7, 12, "READ DEFECT DATA(12)", Operation::ReadDefectData12)
        .bits(1, 0x1f)
        .bits(2, 0xff)
        .bits(3, 0xff)
        .bits(4, 0xff)
        .bits(5, 0xff)
        .length(6, 4)
        .transfer(Transfer::InBytes)
        .reading(),
];

const fn read(opcode: u8, cdb_len: u8, name: &'static str) -> Command {
    Command::new(opcode, cdb_len, name, Operation::Read).transfer(Transfer::InBlocks).reading()
}

const fn write(opcode: u8, cdb_len: u8, name: &'static str) -> Command {
    Command::new(opcode, cdb_len, name, Operation::Write).out(OutLength::Blocks).writing()
}

const fn write_and_verify(opcode: u8, cdb_len: u8, name: &'static str) -> Command {
    let command = Command::new(opcode, cdb_len, name, Operation::WriteAndVerify);
    command.bits(1, DPO | BYTCHK).out(OutLength::Blocks).writing()
}

const fn verify(opcode: u8, cdb_len: u8, name: &'static str) -> Command {
    let command = Command::new(opcode, cdb_len, name, Operation::Verify);
    command.bits(1, DPO | BYTCHK).out(OutLength::ByteCheck).reading()
}

const fn prefetch(opcode: u8, cdb_len: u8, name: &'static str) -> Command {
    Command::new(opcode, cdb_len, name, Operation::Prefetch).bits(1, IMMED).reading()
}

const fn synchronize(opcode: u8, cdb_len: u8, name: &'static str) -> Command {
    let command = Command::new(opcode, cdb_len, name, Operation::SynchronizeCache);
    command.bits(1, IMMED).ignores(1, SYNC_NV).conflicts(Conflict::Any).seconds(10, 60)
}

const fn write_same(opcode: u8, cdb_len: u8, name: &'static str) -> Command {
    let command = Command::new(opcode, cdb_len, name, Operation::WriteSame);
    command.thin_bits(1, 0x08).writing().seconds(10, 60)
}

/// IMMED and AUSE. ZNR, byte 1 bit 6, is for zoned units. The timeouts are for those without IMMED; how long it
/// takes depends on the volume.
const fn sanitize(name: &'static str, action: u8, operation: Operation) -> Command {
    const IMMED_AUSE: u8 = 0x80 | 0x20;
    const DAY: u32 = 24 * 3600;
    let command = Command::new(0x48, 10, name, operation).service_action(action).bits(1, IMMED_AUSE);
    let command = command.length(7, 2).out(OutLength::Bytes).writing().seconds(600, DAY);
    command.sanitize_only()
}

/// SPC-4 table 67: a copy conflicts as its own access to the unit does.
const fn copy(action: u8, name: &'static str, operation: Operation) -> Command {
    let command = Command::new(0x83, 16, name, operation).service_action(action);
    command.length(10, 4).out(OutLength::Bytes).seconds(60, 600).offload_only()
}

const fn receive_copy(action: u8, name: &'static str, operation: Operation) -> Command {
    let command = Command::new(0x84, 16, name, operation).service_action(action);
    command.length(10, 4).transfer(Transfer::InBytes).conflicts(Conflict::Any).offload_only().always()
}

const fn mode_select(opcode: u8, cdb_len: u8, name: &'static str, operation: Operation) -> Command {
    let command = Command::new(opcode, cdb_len, name, operation).bits(1, 0x10);
    command.out(OutLength::Bytes).conflicts(Conflict::Any).reaches(Reach::Standby).always()
}

const fn mode_sense(opcode: u8, cdb_len: u8, name: &'static str, operation: Operation) -> Command {
    let command = Command::new(opcode, cdb_len, name, operation).bits(1, 0x08).bits(2, 0xff).bits(3, 0xff);
    command.transfer(Transfer::InBytes).conflicts(Conflict::ExclusiveAccess).reaches(Reach::Standby).always()
}

/// Who may do what with reservations is said by their own rules, not by the table's column.
const fn reserve_in(name: &'static str, action: u8) -> Command {
    let command = Command::new(0x5e, 10, name, Operation::PersistentReserveIn).service_action(action);
    command.length(7, 2).transfer(Transfer::InBytes).reaches(Reach::Standby).always()
}

const fn reserve_out(name: &'static str, action: u8) -> Command {
    let command = Command::new(0x5f, 10, name, Operation::PersistentReserveOut).service_action(action);
    command.length(5, 4).out(OutLength::Bytes).reaches(Reach::Standby).always()
}

/// What the table knows about a CDB.
#[derive(Clone, Copy, Debug)]
pub enum Lookup {
    /// This command.
    Found(&'static Command),
    /// The operation code is known, its service action is not.
    UnknownServiceAction,
    /// Nothing.
    UnknownOpcode,
}

/// The definitions of an operation code: one, or one a service action; empty if unknown.
pub fn of_opcode(opcode: u8) -> &'static [Command] {
    let start = COMMANDS.partition_point(|command| command.opcode < opcode);
    let rest = COMMANDS.get(start..).unwrap_or(&[]);
    let same = rest.iter().take_while(|command| command.opcode == opcode).count();
    rest.get(..same).unwrap_or(&[])
}

/// The definition of the command in `cdb`.
pub fn find(cdb: &Cdb) -> Lookup {
    let candidates = of_opcode(cdb.opcode());
    let Some(first) = candidates.first() else { return Lookup::UnknownOpcode };
    if first.service_action.is_none() {
        return Lookup::Found(first);
    }
    let action = Some(cdb.byte(1) & SERVICE_ACTION);
    let found = candidates.iter().find(|command| command.service_action == action);
    found.map_or(Lookup::UnknownServiceAction, Lookup::Found)
}
