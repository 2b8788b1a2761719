//! See [`fuzz::target_session`].
#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| fuzz::target_session(input));
