//! See `journal_relay_fuzz::record`.
#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| journal_relay_fuzz::record::check(input));
