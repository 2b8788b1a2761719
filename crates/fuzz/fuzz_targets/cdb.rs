//! See [`fuzz::cdb`].
#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| fuzz::cdb(input));
