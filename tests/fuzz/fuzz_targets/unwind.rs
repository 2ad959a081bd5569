//! A library's names, and its tables for unwinding.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| openrtc_probe::fuzz::unwind(data));
