//! SAM, SPC and SBC: commands, sense, unit attentions and the logical unit, without I/O.
//!
//! A [`LogicalUnit`] is the device server of one volume. [`LogicalUnit::execute`] takes a CDB with its
//! Data-Out and returns a [`Step`]: the finished [`Completion`], or a [`MediaCommand`] for the volume with
//! a [`Pending`] that [`LogicalUnit::finish`] turns into the completion once the volume has answered. No
//! thread, clock, socket or disk is touched, and nothing here knows how commands travel.
//!
//! [`absent`] answers for units that are not there. [`command`] is the table everything about a command is
//! read from.

#![deny(clippy::as_conversions, clippy::indexing_slicing)]
#![cfg_attr(test, allow(clippy::as_conversions, clippy::indexing_slicing, reason = "tests may panic"))]

mod cdb;
pub mod command;
mod completion;
mod copy;
mod lun;
mod media;
mod rod;
mod sense;
mod unit;

pub use cdb::Cdb;
pub use command::data_out_len;
pub use completion::{Completion, Status};
pub use copy::{
    CopyAgent, CopyCommand, CopyEnd, CopyFault, CopyGrant, CopyLength, CopyProgress, CopyRange, CopyReport,
    CopySegment, CopySide, CopyWork, DeviceAnswer, Geometry, TokenCreator, UnitReference,
};
pub use lun::Lun;
pub use media::{
    BlockExtent, ByteRange, Comparison, Durability, MediaCommand, MediaFailure, MediaFailureKind,
    MediaOutcome, Resources, Sanitization, SanitizeMethod,
};
pub use rod::{FoundToken, NewToken, ROD_TOKEN_LEN, RodToken, RodTokens, TokenFault, TokenId, TokenLimits};
pub use sense::{AdditionalSense, FieldPointer, ListPlace, SegmentPointer, Sense, SenseFormat, SenseKey};
pub use unit::absent;
pub use unit::{
    AccessState, Availability, BlockSize, ConfigError, DataOut, Identity, Limits, LogicalUnit,
    LogicalUnitConfig, NexusId, NexusInfo, NotKept, Pending, PendingReservation, PortGroup, PortGroupId,
    REGISTRATIONS_MAX, Registrant, Registration, ReportLuns, Reservation, ReservationKey, ReservationType,
    ReservationView, Reservations, SpaceWarning, Step, TargetNumber, TargetPort, TaskManagement,
    UnitAttention,
};
