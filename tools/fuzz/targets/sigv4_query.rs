//! Fuzzes presigned URLs, of SigV4 and SigV2.
//! Invariants: see `sigv4_guess`.
#![no_main]

mod sigv4_guess;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    sigv4_guess::check(&[b"GET /bkt/a?", bytes, b" HTTP/1.1\r\nhost: s3.test\r\n\r\n"]);
});
