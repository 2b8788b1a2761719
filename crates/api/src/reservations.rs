//! Hosts' reservations of a volume.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// A host's registration: one initiator port through one target port.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Registration {
    /// Reservation key, in hexadecimal: `0x` and 16 digits.
    pub key: String,
    /// Initiator name.
    pub initiator: String,
    /// SCSI name of the initiator port: initiator name and ISID.
    pub initiator_port: String,
    /// Relative identifier of the target port.
    pub target_port: u16,
    /// It holds the reservation, alone or with others.
    pub holder: bool,
    /// It has a session now.
    pub connected: bool,
}

/// Reservations of a volume.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Reservations {
    /// Name of the volume.
    pub volume: String,
    /// Type of the persistent reservation, as the standard names it; none if there is none.
    pub kind: Option<String>,
    /// Reservations and registrations outlive a restart of the daemon (APTPL).
    pub persistent: bool,
    /// Changes of registrations since the volume was opened (PRGENERATION).
    pub generation: u32,
    /// Who is registered.
    pub registrations: Vec<Registration>,
    /// SCSI name of the initiator port that has the volume for itself by RESERVE of SPC-2.
    pub reserved_by: Option<String>,
}
