//! See [`fuzz::pdu`].
#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| fuzz::pdu(input));
