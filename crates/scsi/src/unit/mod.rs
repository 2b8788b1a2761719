//! The logical unit: a device server without a device.

pub mod absent;
mod alua;
mod attention;
mod block_status;
mod block_transfer;
mod capacity;
mod compare_and_write;
mod config;
mod defects;
mod dispatch;
mod finish;
mod inquiry;
mod log_sense;
mod mode;
mod nexus;
mod parameters;
mod provisioning;
mod range;
mod report_luns;
mod report_opcodes;
mod reservation;
mod sanitize;
mod start_stop;
mod third_party_copy;
mod unmap;
mod vital_product_data;
mod write_atomic;
mod write_same;

use bytes::Bytes;

use crate::completion::Completion;
use crate::media::{Durability, MediaCommand, Sanitization};
use crate::sense::{AdditionalSense, Sense, SenseFormat, SenseKey};
use alua::{PortGroups, Targets};
use config::check_capacity;
use mode::ModeState;
use nexus::Nexuses;
use provisioning::Space;
use reservation::Reserving;
use third_party_copy::CopyLists;

pub use alua::{AccessState, PortGroup, PortGroupId, TargetNumber};
pub use attention::UnitAttention;
pub use config::{BlockSize, ConfigError, Identity, Limits, LogicalUnitConfig, TaskManagement};
pub use finish::Pending;
pub use nexus::{NexusId, NexusInfo, TargetPort};
pub use provisioning::SpaceWarning;
pub use report_luns::ReportLuns;
pub use reservation::{
    NotKept, PendingReservation, REGISTRATIONS_MAX, Registrant, Registration, Reservation, ReservationKey,
    ReservationType, ReservationView, Reservations,
};

/// Data-Out of a command, complete.
#[derive(Clone, Debug, Default)]
pub struct DataOut {
    /// The bytes received, in order; at most what [`crate::data_out_len`] asks for.
    pub chunks: Vec<Bytes>,
    /// Bytes the initiator expected to send (iSCSI: Expected Data Transfer Length of a write), which may
    /// be more or fewer than the command takes.
    pub expected_len: u32,
}

impl DataOut {
    /// The bytes a command came with, of `expected_len` the initiator announced.
    pub fn new(chunks: Vec<Bytes>, expected_len: u32) -> Self {
        Self { chunks, expected_len }
    }

    /// For a command that sends nothing.
    pub fn none() -> Self {
        Self::default()
    }
}

/// What has to happen next.
#[derive(Debug)]
#[must_use = "the command waits for its next step"]
pub enum Step {
    /// Nothing: send this.
    Done(Completion),
    /// The volume has to do this; pass its outcome and the token to [`LogicalUnit::finish`].
    Media(MediaCommand, Pending),
    /// The same, but the host is sent this at once; what [`LogicalUnit::finish`] makes is sent to nobody.
    Background(MediaCommand, Pending, Completion),
    /// REPORT LUNS: the target knows the list; [`ReportLuns::complete`] makes the completion.
    ReportLuns(ReportLuns),
    /// Before the host is answered, these reservations have to be kept through a loss of power, in place of those kept
    /// before; `None`: none are kept any more. Then call [`LogicalUnit::persisted`].
    Persist(Option<Reservations>, PendingReservation),
    /// The tasks of these nexuses have to end: those that have not begun without an effect, the others when the volume
    /// has answered, and so has what copies of hosts without a nexus here have under way. None of the tasks is
    /// answered. Then send this.
    Abort(Vec<NexusId>, Completion),
}

/// Whether the volume can be reached at all.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Availability {
    /// Yes.
    #[default]
    Ready,
    /// Not yet: NOT READY 04h/01h, hosts poll.
    BecomingReady,
    /// Not before someone does something: NOT READY 04h/03h.
    ManualInterventionRequired,
}

impl Availability {
    fn check(self) -> Result<(), Sense> {
        let additional = match self {
            Self::Ready => return Ok(()),
            Self::BecomingReady => AdditionalSense::BECOMING_READY,
            Self::ManualInterventionRequired => AdditionalSense::MANUAL_INTERVENTION_REQUIRED,
        };
        Err(Sense::new(SenseKey::NotReady, additional))
    }
}

/// The device server of one volume. See the crate's page.
///
/// One value serves all nexuses; the caller serializes access. No method blocks or does I/O, so a short
/// lock will do. Commands come in through [`LogicalUnit::execute`] and end in [`LogicalUnit::finish`].
#[derive(Debug)]
pub struct LogicalUnit {
    config: LogicalUnitConfig,
    blocks: u64,
    read_only: bool,
    availability: Availability,
    sanitization: Sanitization,
    mode: ModeState,
    space: Space,
    nexuses: Nexuses,
    port_groups: PortGroups,
    targets: Targets,
    reserving: Reserving,
    copies: CopyLists,
}

impl LogicalUnit {
    /// A unit without nexuses.
    pub fn new(config: LogicalUnitConfig) -> Result<Self, ConfigError> {
        config.validate()?;
        Ok(Self {
            blocks: config.blocks,
            read_only: config.read_only,
            availability: Availability::Ready,
            sanitization: Sanitization::Idle,
            mode: ModeState::default_of(&config, Default::default()),
            space: Space::default(),
            nexuses: Nexuses::default(),
            port_groups: PortGroups::default(),
            targets: Targets::default(),
            reserving: Reserving::default(),
            copies: CopyLists::default(),
            config,
        })
    }

    /// Logical block size.
    pub fn block_size(&self) -> BlockSize {
        self.config.block_size
    }

    /// Capacity in logical blocks.
    pub fn blocks(&self) -> u64 {
        self.blocks
    }

    /// Whether a nexus is known.
    pub fn knows(&self, id: NexusId) -> bool {
        self.nexuses.get(id).is_some()
    }

    /// Nexuses that are known.
    pub fn nexus_count(&self) -> usize {
        self.nexuses.len()
    }

    /// Lets a nexus in. It is told of a power on, or of a nexus loss if it was here before.
    pub fn add_nexus(&mut self, id: NexusId, info: NexusInfo) {
        let port = info.target_port.relative_id;
        self.nexuses.add(id, info);
        self.reservations_meet(port);
    }

    /// Forgets a nexus (logout, connection loss). Its commands in flight may still be finished.
    /// Returns whether it was known.
    pub fn remove_nexus(&mut self, id: NexusId) -> bool {
        self.release_unit_of(id);
        self.copies.forget_nexus(id);
        self.nexuses.remove(id)
    }

    /// Changes whether a nexus may write. It is told that mode parameters changed, unless nothing did.
    pub fn set_nexus_read_only(&mut self, id: NexusId, read_only: bool) {
        let Some(nexus) = self.nexuses.get_mut(id) else { return };
        if nexus.info.read_only != read_only {
            nexus.info.read_only = read_only;
            nexus.attentions.raise(UnitAttention::ModeParametersChanged);
        }
    }

    /// Makes `attention` pending for one nexus, if it is known.
    pub fn raise(&mut self, id: NexusId, attention: UnitAttention) {
        if let Some(nexus) = self.nexuses.get_mut(id) {
            nexus.attentions.raise(attention);
        }
    }

    /// The nexus has been told the list of units by another unit of its target: it need not be told here any more that
    /// the list changed (SPC-4 6.33).
    pub fn luns_reported(&mut self, id: NexusId) {
        if let Some(nexus) = self.nexuses.get_mut(id) {
            nexus.attentions.clear(UnitAttention::ReportedLunsChanged);
        }
    }

    /// Whether a nexus that is known may only read; none if it is not known.
    pub fn nexus_read_only(&self, id: NexusId) -> Option<bool> {
        self.nexuses.get(id).map(|nexus| nexus.info.read_only)
    }

    /// The nexuses that are known.
    pub fn nexuses(&self) -> impl Iterator<Item = NexusId> {
        self.nexuses.iter().map(|nexus| nexus.id)
    }

    /// Makes `attention` pending for every nexus except one.
    pub fn raise_all(&mut self, attention: UnitAttention, except: Option<NexusId>) {
        self.nexuses.raise(attention, except);
    }

    /// The volume was resized. Every nexus is told, unless nothing changed.
    pub fn capacity_changed(&mut self, blocks: u64) -> Result<(), ConfigError> {
        check_capacity(self.config.block_size, blocks)?;
        if self.blocks != blocks {
            self.blocks = blocks;
            self.raise_all(UnitAttention::CapacityChanged, None);
        }
        Ok(())
    }

    /// Write-protects the volume for everyone, or lifts that. Every nexus is told, unless nothing changed.
    pub fn set_read_only(&mut self, read_only: bool) {
        if self.read_only != read_only {
            self.read_only = read_only;
            self.raise_all(UnitAttention::ModeParametersChanged, None);
        }
    }

    /// Offers the volume for copy offload or takes that back. Every nexus is told, unless nothing changed.
    pub fn set_offload(&mut self, offload: bool) {
        if self.config.offload != offload {
            self.config.offload = offload;
            self.copies.reset();
            self.raise_all(UnitAttention::InquiryDataChanged, None);
        }
    }

    /// Takes the volume off line or back. While it is away, commands for the medium end with NOT READY.
    pub fn set_availability(&mut self, availability: Availability) {
        self.availability = availability;
    }

    /// How far the volume is with being sanitized: to be told before each [`LogicalUnit::execute`] if it can be at all.
    pub fn set_sanitization(&mut self, sanitization: Sanitization) {
        self.sanitization = sanitization;
    }

    /// A logical unit or target reset (SAM-5 6.3.3): mode parameters return to their defaults, what
    /// SPC-2 reserved is free, and every nexus is told. The caller aborts the commands in flight.
    pub fn reset(&mut self) {
        self.mode = self.default_mode();
        self.reservations_reset();
        self.copies.reset();
        self.raise_all(UnitAttention::BusDeviceReset, None);
    }

    /// How sense data is laid out now.
    fn sense_format(&self) -> SenseFormat {
        if self.mode.descriptor_sense { SenseFormat::Descriptor } else { SenseFormat::Fixed }
    }

    /// What a write may be acknowledged at.
    fn durability(&self, fua: bool) -> Durability {
        if fua || !self.mode.write_cache { Durability::Stable } else { Durability::Cached }
    }
}

/// GOOD with `data`, at most `allocation_len` bytes of it.
fn cut(mut data: Bytes, allocation_len: u32) -> Completion {
    data.truncate(usize::try_from(allocation_len).unwrap_or(usize::MAX));
    if data.is_empty() { Completion::good() } else { Completion::data(vec![data]) }
}
