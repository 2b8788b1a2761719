//! The checks, by subject. The table that names them is in `table`.

pub(crate) mod atomic;
pub(crate) mod cluster;
pub(crate) mod commands;
pub(crate) mod copy;
pub(crate) mod identity;
pub(crate) mod iscsi;
pub(crate) mod paths;
pub(crate) mod preemption;
pub(crate) mod provisioning;
pub(crate) mod registration;
pub(crate) mod token;
pub(crate) mod types;
pub(crate) mod writing;
