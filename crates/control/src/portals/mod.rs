//! Portals: where hosts reach the group, in groups that hosts see as paths.

mod changes;
mod drain;
mod set;
mod view;

pub(crate) use changes::TAG_MAX;
pub use changes::{NewPortal, PathUpdate};
pub use drain::{DrainRequest, PortalChoice};
pub use set::{
    Destination, PathState, PortalGroupRecord, PortalGroupTag, PortalMode, PortalRecord, PortalSet,
};
pub use view::{GroupPath, PortalCondition, PortalView};
