//! LOG SENSE (SPC-4 6.6, SBC-3 6.4): which pages there are, and how much space.

use bytes::Bytes;

use super::dispatch::Task;
use super::provisioning::Kind;
use super::{LogicalUnit, Step, cut};
use crate::completion::Completion;
use crate::media::{MediaCommand, Resources};
use crate::sense::Sense;

const SUPPORTED_PAGES: u8 = 0x00;
const LOGICAL_BLOCK_PROVISIONING: u8 = 0x0c;
const ALL_SUBPAGES: u8 = 0xff;
/// DS: parameters of the page are not saved.
const DS: u8 = 0x80;
/// SPF: the page has a subpage code.
const SPF: u8 = 0x40;

impl LogicalUnit {
    /// SP and PPC are refused by the command table, as nothing is saved. PC chooses between values of counters; there
    /// are only lists, which have one value.
    pub(super) fn log_sense(&self, task: &Task<'_>) -> Result<Step, Sense> {
        let pointer = u16::from_be_bytes([task.cdb.byte(5), task.cdb.byte(6)]);
        let pages = match (task.cdb.byte(2) & 0x3f, task.cdb.byte(3)) {
            (SUPPORTED_PAGES, 0) => self.supported_log_pages(),
            (SUPPORTED_PAGES, ALL_SUBPAGES) => self.supported_log_subpages(),
            (LOGICAL_BLOCK_PROVISIONING, 0) if self.config.thin => {
                if pointer > Kind::Used.parameter_code() {
                    return Err(Sense::invalid_cdb_byte(5));
                }
                return Ok(self.media(task, MediaCommand::Resources, u64::from(pointer), 0));
            }
            (SUPPORTED_PAGES | LOGICAL_BLOCK_PROVISIONING, _) => return Err(Sense::invalid_cdb_byte(3)),
            _ => return Err(Sense::invalid_cdb_bit(2, 5)),
        };
        if pointer != 0 {
            return Err(Sense::invalid_cdb_byte(5));
        }
        Ok(Step::Done(cut(Bytes::from(pages), task.length())))
    }

    /// Page 00h (SPC-4 7.3.17).
    fn supported_log_pages(&self) -> Vec<u8> {
        let codes: &[u8] = if self.config.thin { &[0x00, LOGICAL_BLOCK_PROVISIONING] } else { &[0x00] };
        page([SUPPORTED_PAGES, 0], codes)
    }

    /// Page 00h/FFh (SPC-4 7.3.18): pairs of page and subpage code.
    fn supported_log_subpages(&self) -> Vec<u8> {
        let mut codes = vec![SUPPORTED_PAGES, 0, SUPPORTED_PAGES, ALL_SUBPAGES];
        if self.config.thin {
            codes.extend_from_slice(&[LOGICAL_BLOCK_PROVISIONING, 0]);
        }
        page([SPF | SUPPORTED_PAGES, ALL_SUBPAGES], &codes)
    }

    /// Page 0Ch (SBC-3 6.4.4), from parameter `pointer` on; what is told is at once watched.
    pub(super) fn provisioning_log(
        &mut self,
        resources: Option<Resources>,
        pointer: u64,
        allocation_len: u32,
    ) -> Completion {
        if let Some(resources) = resources {
            self.resources_changed(resources);
        }
        let mut parameters = Vec::with_capacity(24);
        for kind in Kind::ALL.into_iter().filter(|kind| u64::from(kind.parameter_code()) >= pointer) {
            push_parameter(&mut parameters, kind, resources);
        }
        let data = page([DS | LOGICAL_BLOCK_PROVISIONING, 0], &parameters);
        cut(Bytes::from(data), allocation_len)
    }
}

/// A resource count parameter (SBC-3 table 212). The pool's space is everybody's, the volume's own is not.
fn push_parameter(parameters: &mut Vec<u8>, kind: Kind, resources: Option<Resources>) {
    const BINARY_LIST: u8 = 0x03;
    const PARAMETER_LEN: u8 = 8;
    const NOT_REPORTED: u8 = 0;
    const DEDICATED: u8 = 1;
    const SHARED: u8 = 2;
    let scope = match (resources, kind) {
        (None, _) => NOT_REPORTED,
        (Some(_), Kind::Available) => SHARED,
        (Some(_), Kind::Used) => DEDICATED,
    };
    let count = resources.map_or(0, |resources| kind.count(resources));
    parameters.extend_from_slice(&kind.parameter_code().to_be_bytes());
    parameters.extend_from_slice(&[BINARY_LIST, PARAMETER_LEN]);
    parameters.extend_from_slice(&count.to_be_bytes());
    parameters.extend_from_slice(&[scope, 0, 0, 0]);
}

/// A log page: codes, PAGE LENGTH, content.
fn page(codes: [u8; 2], content: &[u8]) -> Vec<u8> {
    let len = u16::try_from(content.len()).unwrap_or(u16::MAX);
    [&codes[..], &len.to_be_bytes(), content].concat()
}
