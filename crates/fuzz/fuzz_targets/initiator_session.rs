//! See [`fuzz::initiator_session`].
#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| fuzz::initiator_session(input));
