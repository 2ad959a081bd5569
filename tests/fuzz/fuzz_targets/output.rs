//! Names on every view.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| openrtc_probe::fuzz::output(data));
