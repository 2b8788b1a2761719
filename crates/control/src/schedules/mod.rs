//! Schedules: snapshots made by the clock, and kept for a while.

mod changes;
mod keep;
mod record;
mod run;
mod when;

pub use changes::{NewSchedule, ScheduleView};
pub use keep::Keep;
pub use record::{ScheduleFailure, ScheduleRecord};
pub use when::Every;
