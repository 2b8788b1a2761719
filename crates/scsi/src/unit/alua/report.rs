//! REPORT TARGET PORT GROUPS (SPC-4 6.37).

use bytes::Bytes;

use super::{Cause, Group, Targets};
use crate::completion::Completion;
use crate::sense::Sense;
use crate::unit::dispatch::Task;
use crate::unit::{LogicalUnit, cut};

/// T_SUP, O_SUP, U_SUP, S_SUP, AN_SUP and AO_SUP: all there are but logical-block-dependent access.
const SUPPORTED: u8 = 0x80 | 0x40 | 0x08 | 0x04 | 0x02 | 0x01;
const PREF: u8 = 0x80;
/// IMPLICIT TRANSITION TIME, in seconds: after this, a group that still is transitioning is given up.
const IMPLICIT_TRANSITION_SECONDS: u8 = 30;

impl LogicalUnit {
    /// The same bytes on every path.
    pub(in crate::unit) fn report_target_port_groups(&self, task: &Task<'_>) -> Result<Completion, Sense> {
        // RETURN DATA FORMAT TYPE and the transition time make up the extended header.
        const EXTENDED: [u8; 4] = [0x10, IMPLICIT_TRANSITION_SECONDS, 0, 0];
        let header: &[u8] = match task.cdb.byte(1) >> 5 {
            0 => &[],
            1 => &EXTENDED,
            _ => return Err(Sense::invalid_cdb_bit(1, 7)),
        };
        let groups = self.port_groups.0.iter().flat_map(|group| descriptor(group, &self.targets));
        let body: Vec<u8> = header.iter().copied().chain(groups).collect();
        let len = u32::try_from(body.len()).unwrap_or(u32::MAX);
        let data = [&len.to_be_bytes(), body.as_slice()].concat();
        Ok(cut(Bytes::from(data), task.length()))
    }
}

/// A target port group descriptor with its ports (SPC-4 tables 305 and 308).
fn descriptor(group: &Group, targets: &Targets) -> Vec<u8> {
    let tag = group.told.id.0;
    let [high, low] = tag.to_be_bytes();
    let pref = if group.told.preferred { PREF } else { 0 };
    let cause = match group.cause {
        Cause::None => 0x00,
        Cause::Explicit => 0x01,
        Cause::Implicit => 0x02,
    };
    let ports = targets.ports(tag);
    let count = u8::try_from(ports.len()).unwrap_or(u8::MAX);
    let mut bytes = vec![pref | group.state.code(), SUPPORTED, high, low, 0, cause, 0, count];
    for port in ports {
        let [high, low] = port.to_be_bytes();
        bytes.extend_from_slice(&[0, 0, high, low]);
    }
    bytes
}
