//! Unit attention conditions (SAM-5 5.14): news a nexus has not been told yet.

use crate::sense::{AdditionalSense, Sense, SenseKey};
use crate::unit::mode::{AVAILABLE_DESCRIPTOR, USED_DESCRIPTOR};

/// Something that happened to the unit, in the order in which it is told.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum UnitAttention {
    /// 29h/00h: the unit started, or the nexus is new to it.
    PowerOnOrReset,
    /// 29h/03h: a logical unit or target reset.
    BusDeviceReset,
    /// 29h/07h: the nexus was lost and has come back.
    NexusLoss,
    /// 2Fh/00h: another nexus cleared the task set.
    CommandsCleared,
    /// 2Ah/03h: another nexus took or ended a reservation (CLEAR), and the registrations with it.
    ReservationsPreempted,
    /// 2Ah/04h: a reservation that registrants shared has ended.
    ReservationsReleased,
    /// 2Ah/05h: another nexus took this one's registration away.
    RegistrationsPreempted,
    /// 3Fh/0Eh: the list of logical units differs.
    ReportedLunsChanged,
    /// 3Fh/03h: INQUIRY data differ.
    InquiryDataChanged,
    /// 2Ah/09h: the capacity differs.
    CapacityChanged,
    /// 2Ah/06h: a target port group changed its access state.
    AccessStateChanged,
    /// 2Ah/01h: another nexus changed mode parameters, or write protection changed.
    ModeParametersChanged,
    /// 38h/07h: the pool of a thin volume runs short of space.
    SoftThresholdReached,
    /// 38h/07h: a thin volume takes more space than it was said to.
    UsedThresholdReached,
}

impl UnitAttention {
    /// All of them, most important first.
    pub const ALL: [Self; 14] = [
        Self::PowerOnOrReset,
        Self::BusDeviceReset,
        Self::NexusLoss,
        Self::CommandsCleared,
        Self::ReservationsPreempted,
        Self::ReservationsReleased,
        Self::RegistrationsPreempted,
        Self::ReportedLunsChanged,
        Self::InquiryDataChanged,
        Self::CapacityChanged,
        Self::AccessStateChanged,
        Self::ModeParametersChanged,
        Self::SoftThresholdReached,
        Self::UsedThresholdReached,
    ];

    /// Its additional sense code.
    pub const fn additional(self) -> AdditionalSense {
        match self {
            Self::PowerOnOrReset => AdditionalSense::POWER_ON_OR_RESET,
            Self::BusDeviceReset => AdditionalSense::BUS_DEVICE_RESET,
            Self::NexusLoss => AdditionalSense::NEXUS_LOSS,
            Self::CommandsCleared => AdditionalSense::COMMANDS_CLEARED,
            Self::ReservationsPreempted => AdditionalSense::RESERVATIONS_PREEMPTED,
            Self::ReservationsReleased => AdditionalSense::RESERVATIONS_RELEASED,
            Self::RegistrationsPreempted => AdditionalSense::REGISTRATIONS_PREEMPTED,
            Self::ReportedLunsChanged => AdditionalSense::REPORTED_LUNS_CHANGED,
            Self::InquiryDataChanged => AdditionalSense::INQUIRY_DATA_CHANGED,
            Self::CapacityChanged => AdditionalSense::CAPACITY_CHANGED,
            Self::AccessStateChanged => AdditionalSense::ACCESS_STATE_CHANGED,
            Self::ModeParametersChanged => AdditionalSense::MODE_PARAMETERS_CHANGED,
            Self::SoftThresholdReached | Self::UsedThresholdReached => {
                AdditionalSense::SOFT_THRESHOLD_REACHED
            }
        }
    }

    /// The report. That of a threshold names its descriptor in the mode page (SBC-3 4.7.3.7.6).
    pub const fn sense(self) -> Sense {
        let sense = Sense::new(SenseKey::UnitAttention, self.additional());
        match self {
            Self::SoftThresholdReached => sense.with_information(AVAILABLE_DESCRIPTOR),
            Self::UsedThresholdReached => sense.with_information(USED_DESCRIPTOR),
            _ => sense,
        }
    }

    const fn bit(self) -> u16 {
        match self {
            Self::PowerOnOrReset => 1 << 0,
            Self::BusDeviceReset => 1 << 1,
            Self::NexusLoss => 1 << 2,
            Self::CommandsCleared => 1 << 3,
            Self::ReportedLunsChanged => 1 << 4,
            Self::InquiryDataChanged => 1 << 5,
            Self::CapacityChanged => 1 << 6,
            Self::ModeParametersChanged => 1 << 7,
            Self::SoftThresholdReached => 1 << 8,
            Self::AccessStateChanged => 1 << 9,
            Self::ReservationsPreempted => 1 << 10,
            Self::ReservationsReleased => 1 << 11,
            Self::RegistrationsPreempted => 1 << 12,
            Self::UsedThresholdReached => 1 << 13,
        }
    }
}

/// What one nexus has yet to hear. Each condition is told once, however often it arose.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(crate) struct Attentions(u16);

impl Attentions {
    pub(crate) const fn is_empty(self) -> bool {
        self.0 == 0
    }

    pub(crate) fn raise(&mut self, attention: UnitAttention) {
        self.0 |= attention.bit();
    }

    pub(crate) fn clear(&mut self, attention: UnitAttention) {
        self.0 &= !attention.bit();
    }

    /// Takes the most important one.
    pub(crate) fn take(&mut self) -> Option<UnitAttention> {
        if self.is_empty() {
            return None;
        }
        let attention = UnitAttention::ALL.into_iter().find(|attention| self.0 & attention.bit() != 0)?;
        self.clear(attention);
        Some(attention)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_condition_has_its_own_bit_and_order() {
        let mut attentions = Attentions::default();
        for attention in UnitAttention::ALL.into_iter().rev() {
            attentions.raise(attention);
            attentions.raise(attention);
        }
        let told: Vec<_> = std::iter::from_fn(|| attentions.take()).collect();
        assert_eq!(told, UnitAttention::ALL);
        assert!(told.is_sorted());
        assert!(attentions.is_empty());
    }

    #[test]
    fn a_cleared_condition_is_not_told() {
        let mut attentions = Attentions::default();
        attentions.raise(UnitAttention::ReportedLunsChanged);
        attentions.clear(UnitAttention::ReportedLunsChanged);
        assert_eq!(attentions.take(), None);
    }
}
