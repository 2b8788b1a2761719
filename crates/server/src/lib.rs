//! The daemon: puts pools, volumes, targets and the API together.
