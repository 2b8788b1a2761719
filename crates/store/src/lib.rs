//! The pool engine: log-structured segments, layers, checkpoints and recovery over a disk given from outside.

#![deny(clippy::as_conversions)]
#![allow(dead_code, reason = "until the engine uses it")]

mod catalog;
mod format;
