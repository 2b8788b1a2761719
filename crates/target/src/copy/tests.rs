//! Copies between units, with volumes in memory and a clock that is set by hand.

mod extended_copy;
mod tokens;
mod world;
