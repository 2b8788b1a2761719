//! Targets of several volumes, besides the target of its own that each volume has.
//!
//! Who may see a volume is decided by the volume's grants alone: a target shows a host those of its volumes that the
//! host was granted. A session is that of one host.

mod access;
mod changes;
mod record;

pub use access::{TargetAccess, UnitAccess};
pub use record::{MappingView, TargetLun, TargetMapping, TargetRecord, TargetView};
