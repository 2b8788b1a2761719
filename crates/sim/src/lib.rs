//! Seeded simulation of the pool engine: a deterministic executor, a disk that loses, tears and reorders writes,
//! schedules of concurrent work with crashes, and a model that says what may be read.
//!
//! *Invariant:* everything follows from a seed. No clock, no thread, no address and no library's random numbers
//! have a say, so that a failure is replayed exactly from the number it is reported with.

mod clients;
pub mod content;
pub mod counts;
pub mod disk;
pub mod engine;
pub mod executor;
mod life;
pub mod model;
mod narrate;
pub mod plan;
pub mod rng;
pub mod schedule;
pub mod tiny;
mod verify;
