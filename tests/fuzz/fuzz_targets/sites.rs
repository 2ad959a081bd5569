//! The choice of instructions in an interpreter's code.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| openrtc_probe::fuzz::sites(data));
