//! See `journal_relay_fuzz::proxy`.
#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| journal_relay_fuzz::proxy::check(input));
