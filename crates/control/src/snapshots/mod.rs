//! Snapshots of volumes, and what is made of them.

mod changes;
mod record;
mod view;

pub use changes::NewSnapshot;
pub(crate) use record::SNAPSHOT_FACT;
pub use record::{Origin, OriginSnapshot, SnapshotRecord};
pub(crate) use view::Clones;
pub use view::{OriginView, SnapshotView};
