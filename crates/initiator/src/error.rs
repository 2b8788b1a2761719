//! What can go wrong between an initiator and its target.

use crate::sense::SenseSummary;
use std::io;
use std::sync::Arc;

/// Why a connection or a command failed. Callers match the kind; the text is for people.
#[derive(Debug, Clone, thiserror::Error)]
#[non_exhaustive]
pub enum ClientError {
    /// The portal could not be reached.
    #[error("cannot connect to {portal}: {source}")]
    Connect {
        /// `host:port` as it was tried.
        portal: String,
        /// What the socket layer said.
        source: Arc<io::Error>,
    },
    /// The target answered the login with a refusal (RFC 7143 §11.13.5).
    #[error("login refused with status {class:02X}{detail:02X}h: {meaning}")]
    LoginRefused {
        /// Status-Class.
        class: u8,
        /// Status-Detail.
        detail: u8,
        /// What the standard calls this status.
        meaning: &'static str,
    },
    /// The connection ended; commands in flight may or may not have been carried out.
    #[error("connection lost: {reason}")]
    ConnectionLost {
        /// What ended it.
        reason: Arc<str>,
    },
    /// The target asked for a logout, which is done; connecting again may lead elsewhere (RFC 7143 §11.9.1).
    #[error("connection lost: the target asked for a logout")]
    AskedToLeave,
    /// Portals sent the login from one to the next, without an end.
    #[error("the login was sent from portal to portal {count} times, last to {portal}")]
    RedirectedTooOften {
        /// How often.
        count: usize,
        /// Where to at last.
        portal: String,
    },
    /// CHECK CONDITION: the command failed and the target says why.
    #[error("the target reports {sense}")]
    CheckCondition {
        /// The decoded sense data.
        sense: SenseSummary,
    },
    /// A status other than GOOD or CHECK CONDITION (SAM-5 §5.3), or unreadable sense data.
    #[error("the target ended the command with status {status:02X}h")]
    Status {
        /// The status byte.
        status: u8,
    },
    /// The iSCSI layer of the target failed before the command reached the logical unit
    /// (RFC 7143 §11.4.3).
    #[error("the target failed to deliver the command (response {response:02X}h)")]
    TargetFailure {
        /// The response code.
        response: u8,
    },
    /// A task management function ended the command before it was complete.
    #[error("aborted by a task management function")]
    Aborted,
    /// The answer is not what the standards allow, or shorter than asked for.
    #[error("the target's answer to {command} makes no sense")]
    BadAnswer {
        /// Which command was answered so.
        command: &'static str,
    },
    /// The request itself cannot be expressed, for example too many ranges in one UNMAP.
    #[error("the request is out of range: {0}")]
    InvalidRequest(&'static str),
}

impl ClientError {
    pub(crate) fn lost(reason: impl AsRef<str>) -> Self {
        Self::ConnectionLost { reason: Arc::from(reason.as_ref()) }
    }

    /// Whether the path failed rather than the command: connecting again may help.
    pub fn is_path_failure(&self) -> bool {
        matches!(
            self,
            Self::Connect { .. }
                | Self::ConnectionLost { .. }
                | Self::LoginRefused { .. }
                | Self::AskedToLeave
                | Self::RedirectedTooOften { .. }
        )
    }
}
