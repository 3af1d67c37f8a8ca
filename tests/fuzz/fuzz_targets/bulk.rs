#![no_main]

#[path = "../targets/mod.rs"]
#[allow(dead_code, reason = "one target of all")]
mod targets;

libfuzzer_sys::fuzz_target!(|input: &[u8]| targets::run("bulk", input));
