//! Fuzzes signed headers, of SigV4 and SigV2, for an access key that exists.
//! Invariants: nothing is authenticated; what is hashed for a stranger is not much longer than what he sent.
#![no_main]

use bytes::BytesMut;
use server::auth::{AuthError, Credentials, Secret, Verifier};
use server::http::{HeadLimits, HeadParse, parse_head};

/// 2013-05-24, as the seeds are dated.
const NOW_MS: u64 = 1_369_353_600_000;

struct OneKey;

impl Credentials for OneKey {
    fn secret(&self, access_key: &str) -> Option<Secret> {
        (access_key == "AK").then(|| Secret::new("secret"))
    }
}

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    // The first line is the value of Authorization, the others are header fields.
    let mut lines = bytes.splitn(2, |byte| *byte == b'\n');
    let (value, fields) = (lines.next().unwrap_or_default(), lines.next().unwrap_or_default());
    let mut buf = BytesMut::new();
    for part in [
        b"GET /bkt/a%20b?list-type=2&prefix=%2F HTTP/1.1\r\nhost: s3.test\r\nx-amz-date: 20130524T000000Z\r\n\
          x-amz-content-sha256: UNSIGNED-PAYLOAD\r\nauthorization: ",
        value,
        b"\r\n",
        fields,
        b"\r\n\r\n",
    ] {
        buf.extend_from_slice(part);
    }
    let head_bytes = buf.len();
    let Ok(HeadParse::Complete(head)) = parse_head(&mut buf, 0, &HeadLimits::default()) else { return };
    match Verifier::new(OneKey, "us-east-1").authenticate(&head, Some("bkt"), NOW_MS) {
        Ok(_) => panic!("a signature was guessed"),
        Err(AuthError::Mismatch(mismatch)) => {
            let hashed_bytes = mismatch.canonical_request.len() + mismatch.string_to_sign.len();
            assert!(hashed_bytes <= 4 * head_bytes + 1_024, "{hashed_bytes} of {head_bytes}");
        }
        Err(_) => {}
    }
});
