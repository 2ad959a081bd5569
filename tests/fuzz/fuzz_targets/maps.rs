//! A process's list of mappings.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| openrtc_probe::fuzz::maps(data));
