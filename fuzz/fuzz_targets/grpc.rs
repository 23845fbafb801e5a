#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| safeserve_fuzz::grpc(data));
