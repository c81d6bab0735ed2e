//! Feeds bytes to `laws::http`. Must never say anything of its own.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| svtree_fuzz::laws::http(bytes));
