//! An interpreter's file.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| openrtc_probe::fuzz::elf(data));
