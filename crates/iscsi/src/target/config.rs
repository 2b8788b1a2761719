//! Limits and times of a target connection.

use core::time::Duration;

use crate::parameters::Offer;

/// Most commands a session may have under way; the slots of a transfer tag end there.
pub const COMMAND_WINDOW_MAX: u32 = 4096;

/// Most immediate commands under way.
pub const IMMEDIATE_COMMANDS_MAX: u32 = 1024;

// Held, admitted and immediate tasks all find a slot.
const _: () = assert!(COMMAND_WINDOW_MAX * 2 + IMMEDIATE_COMMANDS_MAX <= 0xfff0);

/// Limits and times of a target connection. Values out of range are brought into it.
#[derive(Clone, Debug)]
pub struct Config {
    /// What may be negotiated.
    pub offer: Offer,
    /// Commands the session may have under way at most, 1 to [`COMMAND_WINDOW_MAX`].
    pub command_window: u32,
    /// Immediate commands and task management functions under way at most, beyond the window.
    pub immediate_commands: u32,
    /// Bytes of buffers for solicited write data held at most; a single larger command may go alone,
    /// and one at a time that the holders of all of them wait for, ORDERED as they or it may be.
    /// Unsolicited data comes on top: at most FirstBurstLength a command of the window.
    pub write_buffer_bytes: usize,
    /// Bytes of data one command may bring; one that would bring more is delivered without any, for
    /// the caller to refuse. Does not stand in for the limit the SCSI layer reports, only behind it.
    pub data_out_bytes_max: u32,
    /// Time from the start to the full feature phase.
    pub login_timeout: Duration,
    /// Silence after which a NOP-In asks whether the initiator is still there; `None` never asks.
    pub nop_interval: Option<Duration>,
    /// Time the initiator has to answer that.
    pub nop_timeout: Duration,
    /// How long a task management function waits for data that was asked for and is no longer
    /// wanted (RFC 7143 §4.2.3.3). Initiators that abort fast never send it.
    pub abort_data_wait: Duration,
    /// How long commands that were lost with a connection may be missing, while others wait for them, before the
    /// session ends; no less than Time2Wait and Time2Retain together.
    pub command_gap_wait: Duration,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            offer: Offer::default(),
            command_window: 128,
            immediate_commands: 16,
            write_buffer_bytes: 8 << 20,
            data_out_bytes_max: 64 << 20,
            login_timeout: Duration::from_secs(15),
            nop_interval: Some(Duration::from_secs(15)),
            nop_timeout: Duration::from_secs(15),
            abort_data_wait: Duration::from_secs(1),
            command_gap_wait: Duration::from_secs(5),
        }
    }
}

impl Config {
    /// The same with every value in its range.
    pub(super) fn within_range(mut self) -> Self {
        self.command_window = self.command_window.clamp(1, COMMAND_WINDOW_MAX);
        self.immediate_commands = self.immediate_commands.clamp(1, IMMEDIATE_COMMANDS_MAX);
        self
    }
}
