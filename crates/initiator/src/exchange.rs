//! Any command at all: bytes out, bytes in, status and sense, nothing judged.

use bytes::Bytes;
use iscsi::Lun;
use iscsi::initiator::Command;
use iscsi::pdu::ScsiResponseCode;

use crate::cdb::CdbBytes;
use crate::client::Client;
use crate::error::ClientError;

/// What came back of a command, whatever it was.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Answer {
    /// SCSI status (SAM-5 §5.3).
    pub status: u8,
    /// Sense data, empty if there is none.
    pub sense: Bytes,
    /// The data read, as long as what came.
    pub data: Bytes,
}

impl Client {
    /// Runs any command, on another LUN of the target if one is given, and returns what came back,
    /// whatever the status.
    ///
    /// # Errors
    /// [`ClientError::ConnectionLost`], [`ClientError::Aborted`], [`ClientError::TargetFailure`], or
    /// [`ClientError::InvalidRequest`] for a LUN above 16383.
    pub async fn exchange(
        &self,
        lun: Option<u16>,
        cdb: CdbBytes,
        data_out: Bytes,
        read_len: u32,
    ) -> Result<Answer, ClientError> {
        let lun = match lun {
            Some(number) => Lun::from_number(number).ok_or(ClientError::InvalidRequest("LUN above 16383"))?,
            None => self.lun(),
        };
        let done = self.command(Command { data_out, ..Command::read(lun, cdb, read_len) }).await?;
        match done.response {
            ScsiResponseCode::CommandCompleted => {
                Ok(Answer { status: done.status.0, sense: done.sense, data: done.data_in })
            }
            response => Err(ClientError::TargetFailure { response: response.0 }),
        }
    }
}
