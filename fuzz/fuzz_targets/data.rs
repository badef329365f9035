//! See `journal_relay_fuzz::data`.
#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| journal_relay_fuzz::data::check(input));
