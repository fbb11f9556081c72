//! Fuzzes signed headers, of SigV4 and SigV2.
//! Invariants: see `sigv4_guess`.
#![no_main]

mod sigv4_guess;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    // The first line is the value of Authorization, the others are header fields.
    let mut lines = bytes.splitn(2, |byte| *byte == b'\n');
    let (value, fields) = (lines.next().unwrap_or_default(), lines.next().unwrap_or_default());
    sigv4_guess::check(&[
        b"GET /bkt/a%20b?list-type=2&prefix=%2F HTTP/1.1\r\nhost: s3.test\r\nx-amz-date: 20130524T000000Z\r\n\
          x-amz-content-sha256: UNSIGNED-PAYLOAD\r\nauthorization: ",
        value,
        b"\r\n",
        fields,
        b"\r\n\r\n",
    ]);
});
