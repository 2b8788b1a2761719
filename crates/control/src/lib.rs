//! The model of the group: pools, volumes, hosts and access.
