//! INQUIRY (SPC-4 6.4), standard data.

use bytes::Bytes;

use super::dispatch::Task;
use super::{AccessState, LogicalUnit, NexusId, cut};
use crate::completion::Completion;
use crate::sense::Sense;

/// Bytes of standard INQUIRY data: up to and with the version descriptors and what is reserved behind.
const LEN: usize = 96;
/// SAM-5, iSCSI, SPC-4 and SBC-3, no version claimed (SPC-4 table 144).
const VERSION_DESCRIPTORS: [u16; 4] = [0x00a0, 0x0960, 0x0460, 0x04c0];

impl LogicalUnit {
    pub(super) fn inquiry(&self, task: &Task<'_>) -> Result<Completion, Sense> {
        let page = task.cdb.byte(2);
        let data = match (task.cdb.bit(1, 0x01), page) {
            (true, page) => self.vital_product_data(page, task.nexus).ok_or(Sense::invalid_cdb_byte(2))?,
            (false, 0) => self.standard_inquiry(),
            (false, _) => return Err(Sense::invalid_cdb_byte(2)),
        };
        Ok(cut(Bytes::from(self.qualified(data, task.nexus)), task.length()))
    }

    /// PERIPHERAL QUALIFIER: through a port that is unavailable no device is to be had (SPC-4 5.15.2.4.4).
    fn qualified(&self, mut data: Vec<u8>, nexus: NexusId) -> Vec<u8> {
        const NOT_CONNECTED: u8 = 0x20;
        if self.access_state(nexus) == AccessState::Unavailable
            && let Some(first) = data.first_mut()
        {
            *first |= NOT_CONNECTED;
        }
        data
    }

    /// A connected, not removable disk of SPC-4 (06h) with hierarchical LUNs (HISUP), response data format 2,
    /// implicit and explicit ALUA (TPGS), third-party copy (3PC) if copies are offloaded to it, and command queuing
    /// (CMDQUE). No protection information.
    fn standard_inquiry(&self) -> Vec<u8> {
        const HISUP_FORMAT_2: u8 = 0x12;
        const TPGS_BOTH: u8 = 0x30;
        const CMDQUE: u8 = 0x02;
        const ADDITIONAL_LEN: u8 = 91;
        const THREE_PC: u8 = 0x08;
        let third_party_copy = if self.config.offload { THREE_PC } else { 0 };
        let identity = &self.config.identity;
        let mut data = Vec::with_capacity(LEN);
        data.extend_from_slice(&[
            0,
            0,
            0x06,
            HISUP_FORMAT_2,
            ADDITIONAL_LEN,
            TPGS_BOTH | third_party_copy,
            0,
            CMDQUE,
        ]);
        push_padded(&mut data, &identity.vendor, 8);
        push_padded(&mut data, &identity.product, 16);
        push_padded(&mut data, &identity.revision, 4);
        data.resize(58, 0);
        VERSION_DESCRIPTORS.iter().for_each(|version| data.extend_from_slice(&version.to_be_bytes()));
        data.resize(LEN, 0);
        data
    }
}

/// Left-aligned ASCII, filled with spaces (SPC-4 4.3.1).
pub(super) fn push_padded(data: &mut Vec<u8>, text: &str, len: usize) {
    data.extend(text.bytes().chain(std::iter::repeat(b' ')).take(len));
}
