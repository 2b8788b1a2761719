//! From CDB to step: the checks every command passes, in SAM's order, and the way to its code.

use super::attention::UnitAttention;
use super::{DataOut, LogicalUnit, NexusId, ReportLuns, Step, cut, defects};
use crate::cdb::Cdb;
use crate::command::{self, Attention, Command, Lookup, Operation, Reach};
use crate::completion::{Completion, Status};
use crate::sense::{AdditionalSense, Sense, SenseFormat, SenseKey};

/// A command on its way: its definition, its CDB and who sent it.
#[derive(Clone, Copy)]
pub(super) struct Task<'a> {
    pub(super) command: &'static Command,
    pub(super) cdb: &'a Cdb,
    pub(super) nexus: NexusId,
    /// The nexus may not write.
    pub(super) read_only: bool,
}

impl Task<'_> {
    /// The length field.
    pub(super) fn length(&self) -> u32 {
        self.command.length_of(self.cdb)
    }

    /// INVALID FIELD IN CDB at the length field.
    pub(super) fn bad_length(&self) -> Sense {
        Sense::invalid_cdb_byte(u16::from(self.command.length.byte))
    }
}

impl LogicalUnit {
    /// Decodes and starts a command.
    ///
    /// A nexus that is not known (its session has just ended) gets ABORTED COMMAND.
    pub fn execute(&mut self, nexus: NexusId, cdb: &Cdb, data_out: DataOut) -> Step {
        match self.start(nexus, cdb, data_out) {
            Ok(step) => step,
            Err(sense) => Step::Done(Completion::check(sense, self.sense_format())),
        }
    }

    /// Unit attentions come before everything else (SAM-5 5.14.6), then reservations of others (SPC-4 5.13.1), then what
    /// sanitizing shuts out whatever its CDB says (SBC-4 4.11.2), then the CDB, then the unit's state.
    fn start(&mut self, nexus: NexusId, cdb: &Cdb, data_out: DataOut) -> Result<Step, Sense> {
        let thin = self.config.thin;
        let found = match command::find(cdb) {
            Lookup::Found(command) if self.config.has(command.feature) => Ok(command),
            Lookup::Found(_) | Lookup::UnknownServiceAction if self.has_opcode(cdb.opcode()) => {
                Err(Sense::invalid_cdb_bit(1, 4))
            }
            _ => Err(Sense::illegal(AdditionalSense::INVALID_OPERATION_CODE)),
        };
        let ends = found.is_ok_and(|command| command.attention != Attention::Ends);
        let read_only = self.admit(nexus, !ends)?;
        let task = Task { command: found?, cdb, nexus, read_only };
        if self.is_shut_out(nexus, task.command, cdb) {
            return Ok(Step::Done(Completion::bare(Status::ReservationConflict)));
        }
        self.check_command_with_sanitization(task.command)?;
        if let Some((byte, bit)) = task.command.reserved_bit(cdb, thin) {
            return Err(Sense::invalid_cdb_bit(byte, bit));
        }
        self.check_path(nexus, task.command.reach)?;
        if task.command.needs_ready {
            self.availability.check()?;
        }
        if task.command.writes {
            self.check_writable(read_only)?;
        }
        self.dispatch(&task, data_out)
    }

    /// Whether any command of this operation code exists here.
    fn has_opcode(&self, opcode: u8) -> bool {
        command::of_opcode(opcode).iter().any(|command| self.config.has(command.feature))
    }

    /// Tells a pending attention if the command ends with it. Returns whether the nexus is read-only.
    fn admit(&mut self, nexus: NexusId, attention_ends: bool) -> Result<bool, Sense> {
        let Some(nexus) = self.nexuses.get_mut(nexus) else {
            return Err(Sense::new(SenseKey::AbortedCommand, AdditionalSense::NONE));
        };
        if attention_ends && let Some(attention) = nexus.attentions.take() {
            return Err(attention.sense());
        }
        Ok(nexus.info.read_only)
    }

    pub(super) fn check_writable(&self, nexus_read_only: bool) -> Result<(), Sense> {
        let additional = if self.read_only || nexus_read_only {
            AdditionalSense::WRITE_PROTECTED
        } else if self.mode.software_write_protect {
            AdditionalSense::SOFTWARE_WRITE_PROTECTED
        } else {
            return Ok(());
        };
        Err(Sense::new(SenseKey::DataProtect, additional))
    }

    fn dispatch(&mut self, task: &Task<'_>, data_out: DataOut) -> Result<Step, Sense> {
        match task.command.operation {
            Operation::Read => self.read(task),
            Operation::Write => self.write(task, data_out),
            Operation::WriteAtomic => self.write_atomic(task, data_out),
            Operation::OrWrite => self.or_write(task, data_out),
            Operation::WriteAndVerify => self.write_and_verify(task, data_out),
            Operation::Verify => self.verify(task, data_out),
            Operation::SynchronizeCache => self.synchronize_cache(task),
            Operation::Prefetch => self.prefetch(task),
            Operation::Unmap => self.unmap(task, data_out),
            Operation::WriteSame => self.write_same(task, data_out),
            Operation::CompareAndWrite => self.compare_and_write(task, data_out),
            Operation::GetLbaStatus => self.get_lba_status(task),
            Operation::SanitizeOverwrite => self.sanitize_overwrite(task, data_out),
            Operation::SanitizeBlockErase => self.sanitize_block_erase(task),
            Operation::SanitizeCryptoErase => self.sanitize_crypto_erase(task),
            Operation::SanitizeExitFailureMode => self.exit_failed_sanitize(task),
            Operation::LogSense => self.log_sense(task),
            Operation::ModeSelect6 | Operation::ModeSelect10 => self.mode_select(task, data_out),
            Operation::SetTargetPortGroups => self.set_target_port_groups(task, data_out).map(Step::Done),
            Operation::StartStopUnit => Ok(self.start_stop_unit(task)),
            Operation::ReportLuns => self.report_luns(task),
            Operation::PersistentReserveOut => self.persistent_reserve_out(task, data_out),
            Operation::ExtendedCopyLid1
            | Operation::ExtendedCopyLid4
            | Operation::PopulateToken
            | Operation::WriteUsingToken
            | Operation::CopyOperationAbort
            | Operation::ReceiveCopyStatusLid1
            | Operation::ReceiveCopyOperatingParameters
            | Operation::ReceiveCopyFailureDetailsLid1
            | Operation::ReceiveCopyStatusLid4
            | Operation::ReceiveRodTokenInformation => self.third_party_copy(task, data_out),
            _ => self.describe(task).map(Step::Done),
        }
    }

    /// Commands that are answered from the unit's own state.
    fn describe(&mut self, task: &Task<'_>) -> Result<Completion, Sense> {
        match task.command.operation {
            Operation::RequestSense => Ok(self.request_sense(task)),
            Operation::Inquiry => self.inquiry(task),
            Operation::PersistentReserveIn => Ok(self.persistent_reserve_in(task)),
            Operation::Reserve => self.reserve_unit(task),
            Operation::Release => Ok(self.release_unit(task)),
            Operation::ReadCapacity10 => Ok(self.read_capacity_10()),
            Operation::ReadCapacity16 => Ok(self.read_capacity_16(task)),
            Operation::ModeSense6 | Operation::ModeSense10 => self.mode_sense(task),
            Operation::ReportTargetPortGroups => self.report_target_port_groups(task),
            Operation::ReadDefectData10 | Operation::ReadDefectData12 => defects::read_defect_data(task),
            Operation::ReportSupportedOperationCodes => self.report_supported_operation_codes(task),
            Operation::ReportSupportedTaskManagementFunctions => {
                self.report_supported_task_management_functions(task)
            }
            // The medium is not removable: preventing its removal is done.
            _ => Ok(Completion::good()),
        }
    }

    /// The caller fills in the list; hearing of it is what REPORTED LUNS DATA HAS CHANGED asks for.
    fn report_luns(&mut self, task: &Task<'_>) -> Result<Step, Sense> {
        let report = ReportLuns::parse(task.command, task.cdb)?;
        if let Some(nexus) = self.nexuses.get_mut(task.nexus) {
            nexus.attentions.clear(UnitAttention::ReportedLunsChanged);
        }
        Ok(Step::ReportLuns(report))
    }

    /// SPC-4 6.39: a pending attention, or the unit's state, as data and with GOOD.
    fn request_sense(&mut self, task: &Task<'_>) -> Completion {
        let format = if task.cdb.bit(1, 0x01) { SenseFormat::Descriptor } else { SenseFormat::Fixed };
        let nexus = self.nexuses.get_mut(task.nexus);
        let attention = nexus.and_then(|nexus| nexus.attentions.take());
        let path = self.check_path(task.nexus, Reach::Active);
        let state =
            path.and(self.availability.check()).and(self.check_sanitization()).err().unwrap_or(Sense::NONE);
        let sense = attention.map_or(state, UnitAttention::sense);
        cut(sense.encode(format), task.length())
    }
}
