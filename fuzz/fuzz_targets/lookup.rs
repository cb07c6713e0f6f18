//! `lookup` under libFuzzer.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| keys_fuzz::name::lookup(data));
