//! Every walk over an interpreter's objects.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| openrtc_probe::fuzz::objects(data));
