//! PERSISTENT RESERVE IN (SPC-4 6.15).

use bytes::Bytes;

use super::kind::{ReservationKey, ReservationType};
use super::registrant::TransportId;
use super::state::Standing;
use crate::completion::{Completion, Status};
use crate::unit::dispatch::Task;
use crate::unit::{LogicalUnit, cut};

/// SERVICE ACTION, of which the table lists these and no others.
const READ_KEYS: u8 = 0;
const READ_RESERVATION: u8 = 1;
const REPORT_CAPABILITIES: u8 = 2;

impl LogicalUnit {
    pub(in crate::unit) fn persistent_reserve_in(&self, task: &Task<'_>) -> Completion {
        if self.reserving.spc2_owner.is_some() {
            // SPC-2 table 8: also for the nexus that has the unit.
            return Completion::bare(Status::ReservationConflict);
        }
        let data = match task.command.service_action {
            Some(READ_KEYS) => self.with_generation(self.keys()),
            Some(READ_RESERVATION) => self.with_generation(self.reservation_descriptor()),
            Some(REPORT_CAPABILITIES) => self.capabilities(),
            _ => self.with_generation(self.full_status()),
        };
        cut(Bytes::from(data), task.length())
    }

    /// PRGENERATION, ADDITIONAL LENGTH, and what there is, whatever of it the allocation length lets through.
    fn with_generation(&self, list: Vec<u8>) -> Vec<u8> {
        let mut data = self.reserving.generation.to_be_bytes().to_vec();
        data.extend_from_slice(&u32::try_from(list.len()).unwrap_or(u32::MAX).to_be_bytes());
        data.extend(list);
        data
    }

    /// SPC-4 6.15.2: one key a registered nexus.
    fn keys(&self) -> Vec<u8> {
        let registrations = self.reserving.state.registrations.values();
        registrations.flat_map(|registration| registration.key.0.to_be_bytes()).collect()
    }

    /// SPC-4 6.15.3: the key is 0 if all registrants hold it.
    fn reservation_descriptor(&self) -> Vec<u8> {
        let state = &self.reserving.state;
        let Some(held) = &state.reservation else { return Vec::new() };
        let holder = held.holder.as_ref();
        let key = holder.and_then(|holder| state.key_of(holder)).unwrap_or(ReservationKey::NONE);
        let mut descriptor = key.0.to_be_bytes().to_vec();
        descriptor.extend_from_slice(&[0, 0, 0, 0, 0, held.kind.code(), 0, 0]);
        descriptor
    }

    /// SPC-4 6.15.4. TEST UNIT READY is allowed always, MODE SENSE and its like unless reading is excluded (011b).
    fn capabilities(&self) -> Vec<u8> {
        const CRH_SIP_C_ATP_C: u8 = 0x10 | 0x08 | 0x04;
        const PTPL_C: u8 = 0x01;
        const TMV: u8 = 0x80;
        const ALLOW_COMMANDS: u8 = 3 << 4;
        let persistent = if self.reserving.keeps { PTPL_C } else { 0 };
        let active = u8::from(self.reserving.aptpl);
        let [mask_low, mask_high] = ReservationType::MASK;
        vec![0, 8, CRH_SIP_C_ATP_C | persistent, TMV | ALLOW_COMMANDS | active, mask_low, mask_high, 0, 0]
    }

    /// SPC-4 6.15.5: a descriptor a nexus; ALL_TG_PT is never set, as each has its own.
    fn full_status(&self) -> Vec<u8> {
        const R_HOLDER: u8 = 0x01;
        let state = &self.reserving.state;
        let mut list = Vec::new();
        for (registrant, registration) in &state.registrations {
            let held = state.kind().filter(|_| state.standing(registrant) == Standing::Holder);
            let (flags, kind) = held.map_or((0, 0), |kind| (R_HOLDER, kind.code()));
            let id = TransportId::of_port(&registrant.initiator_port);
            list.extend_from_slice(&registration.key.0.to_be_bytes());
            list.extend_from_slice(&[0, 0, 0, 0, flags, kind, 0, 0, 0, 0]);
            list.extend_from_slice(&registrant.target_port.to_be_bytes());
            list.extend_from_slice(&u32::try_from(id.len()).unwrap_or(u32::MAX).to_be_bytes());
            list.extend(id);
        }
        list
    }
}
