//! REPORT SUPPORTED OPERATION CODES (SPC-4 6.35) and TASK MANAGEMENT FUNCTIONS (6.36).

use bytes::Bytes;

use super::dispatch::Task;
use super::{LogicalUnit, cut};
use crate::command::{COMMANDS, Command, of_opcode};
use crate::completion::Completion;
use crate::sense::Sense;

/// RCTD, REPD: with timeouts.
const WITH_TIMEOUTS: u8 = 0x80;
/// Bytes of a command timeouts descriptor after its length field.
const TIMEOUTS_LEN: u16 = 10;

impl LogicalUnit {
    pub(super) fn report_supported_operation_codes(&self, task: &Task<'_>) -> Result<Completion, Sense> {
        let timeouts = task.cdb.bit(2, WITH_TIMEOUTS);
        let opcode = task.cdb.byte(3);
        let action = u16::from_be_bytes([task.cdb.byte(4), task.cdb.byte(5)]);
        let data = match task.cdb.byte(2) & 0x07 {
            0 => self.all_commands(timeouts),
            1 if has_actions(opcode) => return Err(Sense::invalid_cdb_bit(2, 2)),
            1 => self.one_command(self.supported(opcode, None), timeouts),
            2 if is_single(opcode) => return Err(Sense::invalid_cdb_bit(2, 2)),
            2 => self.one_command(self.supported(opcode, Some(action)), timeouts),
            3 => {
                let action = if is_single(opcode) && action == 0 { None } else { Some(action) };
                self.one_command(self.supported(opcode, action), timeouts)
            }
            _ => return Err(Sense::invalid_cdb_bit(2, 2)),
        };
        Ok(cut(Bytes::from(data), task.length()))
    }

    fn supported(&self, opcode: u8, action: Option<u16>) -> Option<&'static Command> {
        let matches = |command: &&Command| command.service_action.map(u16::from) == action;
        of_opcode(opcode).iter().find(matches).filter(|command| self.config.has(command.feature))
    }

    /// SPC-4 table 297.
    fn all_commands(&self, timeouts: bool) -> Vec<u8> {
        const CTDP: u8 = 0x02;
        const SERVACTV: u8 = 0x01;
        let mut list = Vec::with_capacity(COMMANDS.len() * 20);
        for command in COMMANDS.iter().filter(|command| self.config.has(command.feature)) {
            let action = command.service_action.unwrap_or(0);
            let servactv = if command.service_action.is_some() { SERVACTV } else { 0 };
            let ctdp = if timeouts { CTDP } else { 0 };
            list.extend_from_slice(&[command.opcode, 0, 0, action, 0, ctdp | servactv, 0, command.cdb_len]);
            if timeouts {
                push_timeouts(&mut list, command);
            }
        }
        let mut data = u32::try_from(list.len()).unwrap_or(u32::MAX).to_be_bytes().to_vec();
        data.append(&mut list);
        data
    }

    /// SPC-4 table 301. A command that is not supported has neither usage data nor timeouts.
    fn one_command(&self, command: Option<&Command>, timeouts: bool) -> Vec<u8> {
        const CTDP: u8 = 0x80;
        const NOT_SUPPORTED: u8 = 0x01;
        const SUPPORTED: u8 = 0x03;
        let Some(command) = command else { return vec![0, NOT_SUPPORTED, 0, 0] };
        let ctdp = if timeouts { CTDP } else { 0 };
        let mut data = vec![0, ctdp | SUPPORTED, 0, command.cdb_len];
        let usage = command.usage_for(self.config.thin);
        data.extend(usage.iter().take(usize::from(command.cdb_len)));
        if timeouts {
            push_timeouts(&mut data, command);
        }
        data
    }

    pub(super) fn report_supported_task_management_functions(
        &self,
        task: &Task<'_>,
    ) -> Result<Completion, Sense> {
        const TIMEOUT_BYTES: u8 = 12;
        if task.length() < 4 {
            return Err(task.bad_length());
        }
        let supported = self.config.task_management;
        let bit = |set: bool, mask: u8| if set { mask } else { 0 };
        let functions = bit(supported.abort_task, 0x80)
            | bit(supported.abort_task_set, 0x40)
            | bit(supported.clear_task_set, 0x10)
            | bit(supported.logical_unit_reset, 0x08)
            | bit(supported.target_reset, 0x02);
        let mut data = vec![functions, 0, 0, 0];
        if task.cdb.bit(2, WITH_TIMEOUTS) {
            // No timeouts are recommended: TMFTMOV and the two values stay 0.
            data = vec![functions, 0, 0, TIMEOUT_BYTES];
            data.resize(4 + usize::from(TIMEOUT_BYTES), 0);
        }
        Ok(cut(Bytes::from(data), task.length()))
    }
}

fn has_actions(opcode: u8) -> bool {
    of_opcode(opcode).first().is_some_and(|command| command.service_action.is_some())
}

/// Supported, and without service actions.
fn is_single(opcode: u8) -> bool {
    of_opcode(opcode).first().is_some_and(|command| command.service_action.is_none())
}

fn push_timeouts(data: &mut Vec<u8>, command: &Command) {
    data.extend_from_slice(&TIMEOUTS_LEN.to_be_bytes());
    data.extend_from_slice(&[0, 0]);
    data.extend_from_slice(&command.timeouts.nominal_seconds.to_be_bytes());
    data.extend_from_slice(&command.timeouts.recommended_seconds.to_be_bytes());
}
