//! A context's map, and the tag in it.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| openrtc_probe::fuzz::hamt(data));
