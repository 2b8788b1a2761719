//! SET TARGET PORT GROUPS (SPC-4 6.45): hosts that choose their paths themselves.

use super::{AccessState, Cause, PortGroupId};
use crate::completion::Completion;
use crate::sense::{AdditionalSense, Sense, SenseKey};
use crate::unit::attention::UnitAttention;
use crate::unit::dispatch::Task;
use crate::unit::parameters::gather;
use crate::unit::{DataOut, LogicalUnit};

/// Bytes of the list before its descriptors, reserved.
const HEADER_LEN: usize = 4;
/// Bytes of a set target port group descriptor.
const DESCRIPTOR_LEN: usize = 4;
const FAILED: Sense = Sense::new(SenseKey::HardwareError, AdditionalSense::SET_PORT_GROUPS_FAILED);

/// What a descriptor asks for.
struct Request {
    group: PortGroupId,
    state: AccessState,
}

impl LogicalUnit {
    /// All descriptors are checked before any takes effect. Every other nexus is told if a state changed.
    pub(in crate::unit) fn set_target_port_groups(
        &mut self,
        task: &Task<'_>,
        data_out: DataOut,
    ) -> Result<Completion, Sense> {
        let list = gather(self.data(task, data_out)?);
        // No list is no error: nothing changes.
        if list.is_empty() {
            return Ok(Completion::good());
        }
        let requests = self.requested_states(&list)?;
        if requests.iter().any(|request| self.refuses(request)) {
            return Err(FAILED);
        }
        let mut changed = false;
        for Request { group, state } in requests {
            let Some(group) = self.port_groups.get_mut(group) else { continue };
            if group.state != state {
                (group.state, group.cause) = (state, Cause::Explicit);
                changed = true;
            }
        }
        if changed {
            self.raise_all(UnitAttention::AccessStateChanged, Some(task.nexus));
        }
        Ok(Completion::good())
    }

    /// The list, understood. A list that ends within a descriptor is truncated.
    fn requested_states(&self, list: &[u8]) -> Result<Vec<Request>, Sense> {
        const TRUNCATED: Sense = Sense::illegal(AdditionalSense::PARAMETER_LIST_LENGTH_ERROR);
        let descriptors = list.get(HEADER_LEN..).ok_or(TRUNCATED)?.chunks(DESCRIPTOR_LEN);
        let mut requests = Vec::new();
        for (index, descriptor) in descriptors.enumerate() {
            let at = u16::try_from(HEADER_LEN + index * DESCRIPTOR_LEN).unwrap_or(u16::MAX);
            let &[state, _, high, low] = descriptor else { return Err(TRUNCATED) };
            let state = AccessState::requested(state & 0x0f);
            let state = state.ok_or(Sense::invalid_parameter(at, Some(3)))?;
            let group = PortGroupId(u16::from_be_bytes([high, low]));
            if self.port_groups.get(group).is_none() {
                return Err(Sense::invalid_parameter(at.saturating_add(2), None));
            }
            requests.push(Request { group, state });
        }
        Ok(requests)
    }

    /// The administrator holds the group in another state than the one asked for.
    fn refuses(&self, request: &Request) -> bool {
        let group = self.port_groups.get(request.group);
        group.is_some_and(|group| group.told.pinned && group.state != request.state)
    }
}
