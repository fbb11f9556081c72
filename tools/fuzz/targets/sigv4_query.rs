//! Fuzzes presigned URLs, of SigV4 and SigV2, for an access key that exists.
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
    let mut buf = BytesMut::new();
    for part in [&b"GET /bkt/a?"[..], bytes, b" HTTP/1.1\r\nhost: s3.test\r\n\r\n"] {
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
