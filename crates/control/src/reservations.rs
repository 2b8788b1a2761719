//! Reservations of volumes: what their pool keeps of them, and what an administrator sees and ends.
//!
//! A record is kept as a fact of the pool under the volume's identity, and only where hosts asked for that (APTPL).
//! What a record means is for the iSCSI side to know; here it is carried.

use crate::{Error, ErrorKind, FactChange, Group, Outcome, PoolEngine, Result, VolumeId, VolumeRecord};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::sync::Arc;

/// Kind under which pools keep them.
const RESERVATION_FACT: &str = "reservation";

/// Version of the records that are written. Records of later versions are not understood.
const VERSION: u32 = 1;

/// Registrations and reservation of a volume, as its pool keeps them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReservationRecord {
    version: u32,
    /// Who is registered.
    pub registrations: Vec<RegistrationRecord>,
    /// The reservation.
    pub reservation: Option<HeldRecord>,
    /// iSCSI names of the targets of several volumes that the ports are of, by the targets' numbers: on another day or
    /// machine another target may have the number.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub targets: BTreeMap<u8, String>,
}

/// An I_T nexus by its names.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RegistrantRecord {
    /// The initiator port's SCSI name.
    pub initiator_port: String,
    /// The target port's relative identifier.
    pub target_port: u16,
}

/// A registration.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RegistrationRecord {
    /// Whose.
    #[serde(flatten)]
    pub registrant: RegistrantRecord,
    /// Its key.
    pub key: u64,
    /// For every target port.
    pub all_ports: bool,
}

/// A reservation.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct HeldRecord {
    /// Code of its type (SPC-4 table 212).
    pub kind: u8,
    /// Who holds it; none if all registrants do.
    pub holder: Option<RegistrantRecord>,
}

impl ReservationRecord {
    /// A record of this version.
    #[must_use]
    pub fn new(registrations: Vec<RegistrationRecord>, reservation: Option<HeldRecord>) -> Self {
        Self { version: VERSION, registrations, reservation, targets: BTreeMap::new() }
    }

    fn parse(content: &[u8]) -> Option<Self> {
        let record: Self = serde_json::from_slice(content).ok()?;
        (record.version == VERSION).then_some(record)
    }
}

/// Where the reservations of one volume are kept.
#[derive(Clone)]
pub struct ReservationKeeper {
    engine: Arc<dyn PoolEngine>,
    volume: VolumeId,
}

impl ReservationKeeper {
    /// Keeps `record` in place of what was kept before; none: keeps nothing any more. Durable when the future is ready.
    ///
    /// # Errors
    /// What the pool says; what was kept before is kept still.
    pub async fn keep(&self, record: Option<&ReservationRecord>) -> Result<()> {
        let content = record.map(serde_json::to_vec).transpose().map_err(|error| {
            Error::new(ErrorKind::Internal, format!("volume {}", self.volume), error.to_string())
        })?;
        self.engine.put_fact(FactChange { content, ..forget(self.volume) }).await
    }
}

/// A volume's reservations as it is published: what was kept, and where to keep what comes.
pub struct KeptReservations {
    /// What was kept.
    pub record: Option<ReservationRecord>,
    /// Where.
    pub keeper: ReservationKeeper,
    /// The group's targets of several volumes, by number: iSCSI names.
    pub targets: BTreeMap<u8, String>,
}

/// The change that keeps nothing of a volume's reservations.
pub(crate) fn forget(volume: VolumeId) -> FactChange {
    FactChange { kind: RESERVATION_FACT, name: volume.to_string(), content: None }
}

/// What a pool keeps of its volumes' reservations.
#[derive(Default)]
pub(crate) struct PoolReservations(BTreeMap<String, Vec<u8>>);

impl PoolReservations {
    pub(crate) async fn read(engine: &Arc<dyn PoolEngine>) -> Result<Self> {
        Ok(Self(engine.facts(RESERVATION_FACT).await?.into_iter().collect()))
    }

    /// Those of one volume.
    ///
    /// # Errors
    /// `Format` if they are not understood: to serve the volume without them could let a host write that is fenced off.
    pub(crate) fn take(
        &mut self,
        volume: &VolumeRecord,
        engine: &Arc<dyn PoolEngine>,
        targets: BTreeMap<u8, String>,
    ) -> Result<KeptReservations> {
        let keeper = ReservationKeeper { engine: engine.clone(), volume: volume.id };
        let Some(content) = self.0.remove(&volume.id.to_string()) else {
            return Ok(KeptReservations { record: None, keeper, targets });
        };
        let record = ReservationRecord::parse(&content).ok_or_else(|| {
            let message =
                "its reservations are not understood; were they written by a newer version of the program?";
            Error::new(ErrorKind::Format, format!("volume {}", volume.name), message)
        })?;
        Ok(KeptReservations { record: Some(record), keeper, targets })
    }

    /// Forgets what is kept of volumes that are not there any more: one may have been deleted while a host's change
    /// was on its way.
    pub(crate) async fn forget_rest(self, engine: &Arc<dyn PoolEngine>) -> Result<()> {
        for name in self.0.into_keys() {
            engine.put_fact(FactChange { kind: RESERVATION_FACT, name, content: None }).await?;
        }
        Ok(())
    }
}

/// A registration as people see it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RegistrationFacts {
    /// The initiator's iSCSI name.
    pub initiator: String,
    /// The initiator port's SCSI name.
    pub initiator_port: String,
    /// The target port's relative identifier.
    pub target_port: u16,
    /// Its key.
    pub key: u64,
    /// It holds the reservation.
    pub holder: bool,
    /// It has a session now.
    pub connected: bool,
}

/// A volume's reservations as people see them.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ReservationFacts {
    /// PRGENERATION: changes counted since the volume was opened.
    pub generation: u32,
    /// They outlive the daemon.
    pub kept: bool,
    /// Who is registered.
    pub registrations: Vec<RegistrationFacts>,
    /// Name of the reservation's type.
    pub kind: Option<String>,
    /// The initiator port that has the volume for itself by RESERVE of SPC-2.
    pub reserved_by: Option<String>,
}

impl ReservationFacts {
    /// There is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.registrations.is_empty() && self.reserved_by.is_none()
    }
}

impl Group {
    /// The reservations of a volume.
    ///
    /// # Errors
    /// `NotFound`; `Offline` if the volume is not served.
    pub fn reservations(&self, volume: &str) -> Result<ReservationFacts> {
        let record = self.volume(volume)?.record;
        self.frontend.reservations(record.id).ok_or_else(|| not_served(&record))
    }

    /// Ends every reservation and registration of a volume, of which all registrants hear. Returns what there was.
    ///
    /// # Errors
    /// `NotFound`; `Offline`; `Internal` if that cannot be made durable.
    pub async fn clear_reservations(&self, volume: &str) -> Result<(Outcome, ReservationFacts)> {
        let record = self.volume(volume)?.record;
        let cleared = self.frontend.clear_reservations(record.id).await?;
        let before = cleared.ok_or_else(|| not_served(&record))?;
        if before.is_empty() {
            return Ok((Outcome::Unchanged, before));
        }
        tracing::warn!(
            volume = %record.name, registrations = before.registrations.len(), kind = ?before.kind,
            "reservations cleared by an administrator"
        );
        Ok((Outcome::Deleted, before))
    }
}

fn not_served(record: &VolumeRecord) -> Error {
    let message = "it is offline; hosts' reservations can be seen when it is served";
    Error::new(ErrorKind::Offline, format!("volume {}", record.name), message)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record() -> ReservationRecord {
        let registrant = RegistrantRecord { initiator_port: "iqn.x,i,0x1".to_owned(), target_port: 2 };
        let registrations =
            vec![RegistrationRecord { registrant: registrant.clone(), key: u64::MAX, all_ports: true }];
        ReservationRecord::new(registrations, Some(HeldRecord { kind: 5, holder: Some(registrant) }))
    }

    /// What is on disks of those who use it: fields are only ever added, with a default.
    #[test]
    fn the_form_of_a_record_is_what_it_was() {
        let text = r#"{"version":1,"registrations":[{"initiator_port":"iqn.x,i,0x1","target_port":2,"key":18446744073709551615,"all_ports":true}],"reservation":{"kind":5,"holder":{"initiator_port":"iqn.x,i,0x1","target_port":2}}}"#;
        assert_eq!(serde_json::to_string(&record()).unwrap(), text);
        assert_eq!(ReservationRecord::parse(text.as_bytes()), Some(record()));
        let farm = BTreeMap::from([(3, "iqn.x:farm".to_owned())]);
        let with_targets = ReservationRecord { targets: farm, ..record() };
        let text = text.replace(r#"}}}"#, r#"}},"targets":{"3":"iqn.x:farm"}}"#);
        assert_eq!(serde_json::to_string(&with_targets).unwrap(), text);
        assert_eq!(ReservationRecord::parse(text.as_bytes()), Some(with_targets));
    }

    #[test]
    fn what_is_not_understood_is_no_record() {
        for text in ["", "{}", "[]", r#"{"version":2,"registrations":[],"reservation":null}"#] {
            assert_eq!(ReservationRecord::parse(text.as_bytes()), None, "{text}");
        }
    }
}
