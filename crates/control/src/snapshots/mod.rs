//! Snapshots of volumes, and what is made of them.

mod changes;
mod detach;
mod diff;
mod record;
mod rollback;
mod view;

pub use changes::NewSnapshot;
pub use diff::VolumeDifference;
pub(crate) use record::SNAPSHOT_FACT;
pub use record::{Origin, OriginSnapshot, SnapshotRecord};
pub use rollback::{Protection, Rollback};
pub(crate) use view::Clones;
pub use view::{OriginView, SnapshotView};
