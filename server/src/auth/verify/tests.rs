//! AWS's published examples, and every way to be refused.
#![allow(clippy::unwrap_used, reason = "tests")]

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::{Bytes, BytesMut};

use super::*;
use crate::auth::{AccountTable, Accounts, CoreAccounts};
use crate::http::{AwsChunkedDecoder, BodyError, Framed, HeadLimits, HeadParse, parse_head};

const KEY: &str = "AKIAIOSFODNN7EXAMPLE";
const SECRET: &str = "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY";
/// 2013-05-24T00:00:00Z.
const NOW_MS: u64 = 1_369_353_600_000;
const EMPTY: &str = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

const ID: &str = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";

fn with_secret(secret: &str) -> AccountTable {
    let mut table = AccountTable::new(ID, "root");
    table.add_key(ID, KEY, secret);
    table
}

fn example() -> CoreAccounts {
    Accounts::new(with_secret(SECRET)).on_core()
}

fn head(text: &str) -> RequestHead {
    let mut buf = BytesMut::from(text.as_bytes());
    match parse_head(&mut buf, 0, &HeadLimits::default()).unwrap() {
        HeadParse::Complete(head) => head,
        HeadParse::Partial { .. } => panic!("whole head"),
    }
}

fn verify_at(text: &str, now_ms: u64) -> Result<Authenticated, AuthError> {
    Verifier::new(example(), "us-east-1").authenticate(&head(text), None, now_ms)
}

fn verify(text: &str) -> Result<Authenticated, AuthError> {
    verify_at(text, NOW_MS)
}

fn request(line: &str, fields: &str, signed: &str, signature: &str) -> String {
    format!(
        "{line} HTTP/1.1\r\n{fields}Authorization: AWS4-HMAC-SHA256 \
         Credential={KEY}/20130524/us-east-1/s3/aws4_request,SignedHeaders={signed},Signature={signature}\r\n\r\n"
    )
}

fn get_object(extra: &str) -> String {
    request(
        "GET /test.txt",
        &format!(
            "Host: examplebucket.s3.amazonaws.com\r\nRange: bytes=0-9\r\nx-amz-content-sha256: {EMPTY}\r\n\
             x-amz-date: 20130524T000000Z\r\n{extra}"
        ),
        "host;range;x-amz-content-sha256;x-amz-date",
        "f0e8bdb87c964420e857bd35b5d6ed310bd44f0170aba48dd91039c6036bdb41",
    )
}

#[test]
fn sigv4_example_get_object_range() {
    let authenticated = verify(&get_object("")).unwrap();
    let account = authenticated.identity().account().unwrap();
    assert_eq!((&*account.access_key, &*account.id, account.last_used_ms()), (KEY, ID, NOW_MS));
    assert!(matches!(authenticated.body(), BodySignature::Sha256(_)));
}

#[test]
fn sigv4_example_put_object() {
    let text = request(
        "PUT /test$file.text",
        "Host: examplebucket.s3.amazonaws.com\r\nDate: Fri, 24 May 2013 00:00:00 GMT\r\n\
         x-amz-date: 20130524T000000Z\r\nx-amz-storage-class: REDUCED_REDUNDANCY\r\n\
         x-amz-content-sha256: 44ce7dd67c959e0d3524ffac1771dfbba87d2b6b4b4e99e42034a8b803f8b072\r\n",
        "date;host;x-amz-content-sha256;x-amz-date;x-amz-storage-class",
        "98ad721746da40c64f1a55b78f14c238d841ea1380cd77a1b5971af0ece108bd",
    );
    assert!(verify(&text).is_ok());
    // The same path sent escaped is the same request.
    assert!(verify(&text.replace("test$file", "test%24file")).is_ok());
}

fn plain_fields() -> String {
    format!(
        "Host: examplebucket.s3.amazonaws.com\r\nx-amz-date: 20130524T000000Z\r\nx-amz-content-sha256: {EMPTY}\r\n"
    )
}

#[test]
fn sigv4_example_get_bucket_lifecycle() {
    let text = request(
        "GET /?lifecycle",
        &plain_fields(),
        "host;x-amz-content-sha256;x-amz-date",
        "fea454ca298b7da1c68078a5d1bdbfbbe0d65c699e0f91ac7a200a0136783543",
    );
    assert!(verify(&text).is_ok());
}

#[test]
fn sigv4_example_list_objects() {
    let text = request(
        "GET /?max-keys=2&prefix=J",
        &plain_fields(),
        "host;x-amz-content-sha256;x-amz-date",
        "34b48302e7b5fa45bde8084f4b7868a86f0a534bc59db6670ed5711ef69dc6f7",
    );
    assert!(verify(&text).is_ok());
    // The order in which parameters are sent does not matter.
    assert!(verify(&text.replace("max-keys=2&prefix=J", "prefix=J&max-keys=2")).is_ok());
}

fn presigned() -> String {
    format!(
        "GET /test.txt?X-Amz-Algorithm=AWS4-HMAC-SHA256&X-Amz-Credential={KEY}%2F20130524%2Fus-east-1%2Fs3%2F\
         aws4_request&X-Amz-Date=20130524T000000Z&X-Amz-Expires=86400&X-Amz-SignedHeaders=host&X-Amz-Signature=\
         aeeed9bbccd4d02ee5c0109b86d86835f995330da4c265957d157751f604d404 HTTP/1.1\r\n\
         Host: examplebucket.s3.amazonaws.com\r\n\r\n"
    )
}

#[test]
fn sigv4_example_presigned_url() {
    assert!(matches!(verify(&presigned()).unwrap().body(), BodySignature::Unsigned));
    assert!(verify_at(&presigned(), NOW_MS + 86_400_000).is_ok());
    assert!(matches!(
        verify_at(&presigned(), NOW_MS + 86_401_000),
        Err(AuthError::Expired { expires_s: 86_400, .. })
    ));
    assert_eq!(verify_at(&presigned(), NOW_MS - 3_600_000).unwrap_err(), AuthError::NotYetValid);
}

#[test]
fn presigned_lives_outside_a_second_to_a_week_are_refused() {
    let none = presigned().replace("X-Amz-Expires=86400", "X-Amz-Expires=0");
    assert!(matches!(verify(&none), Err(AuthError::Expired { expires_s: 0, .. })));
    for expires in ["-5", "604801", "x", ""] {
        let text = presigned().replace("X-Amz-Expires=86400", &format!("X-Amz-Expires={expires}"));
        assert!(matches!(verify(&text), Err(AuthError::QueryMalformed(_))), "{expires}");
    }
}

fn chunked_head(payload: &str, extra: &str, signed: &str, signature: &str) -> String {
    request(
        "PUT /examplebucket/chunkObject.txt",
        &format!(
            "Host: s3.amazonaws.com\r\nx-amz-date: 20130524T000000Z\r\nx-amz-storage-class: REDUCED_REDUNDANCY\r\n\
             x-amz-content-sha256: {payload}\r\nContent-Encoding: aws-chunked\r\n\
             x-amz-decoded-content-length: 66560\r\n{extra}"
        ),
        signed,
        signature,
    )
}

fn decode(signer: ChunkSigner, trailers: bool, wire: &[u8]) -> Result<usize, BodyError> {
    let mut decoder = AwsChunkedDecoder::new(66_560, Some(signer), trailers);
    let mut len = 0;
    for piece in wire.chunks(1000) {
        let mut input = Bytes::copy_from_slice(piece);
        while let Framed::Data(data) = decoder.decode(&mut input)? {
            len += data.len();
        }
    }
    decoder.finish()?;
    Ok(len)
}

fn signed_wire(signatures: [&str; 3], tail: &str) -> Vec<u8> {
    let mut wire = Vec::new();
    for (size, signature) in [65_536, 1024, 0].into_iter().zip(signatures) {
        wire.extend_from_slice(format!("{size:x};chunk-signature={signature}\r\n").as_bytes());
        if size > 0 {
            wire.resize(wire.len() + size, b'a');
            wire.extend_from_slice(b"\r\n");
        }
    }
    wire.extend_from_slice(tail.as_bytes());
    wire
}

fn signer_of(text: &str) -> (ChunkSigner, bool) {
    match verify(text).unwrap().into_parts().1 {
        BodySignature::Chunks(signer, trailers) => (*signer, trailers),
        other => panic!("{other:?}"),
    }
}

#[test]
fn sigv4_example_chunked_upload() {
    let text = chunked_head(
        "STREAMING-AWS4-HMAC-SHA256-PAYLOAD",
        "Content-Length: 66824\r\n",
        "content-encoding;content-length;host;x-amz-content-sha256;x-amz-date;x-amz-decoded-content-length;\
         x-amz-storage-class",
        "4f232c4386841ef735655705268965c44a0e4690baa4adea153f7db9fa80a0a9",
    );
    let wire = signed_wire(
        [
            "ad80c730a21e5b8d04586a2213dd63b9a0e99e0e2307b0ade35a65485a288648",
            "0055627c9e194cb4542bae2aa5492e3c1575bbb81b612b7d234b86a503ef5497",
            "b6c6ea8a5354eaf15b3cb7646744f4275b71ea724fed81ceb9323e279d449df9",
        ],
        "\r\n",
    );
    assert_eq!(wire.len(), 66_824);
    let (signer, trailers) = signer_of(&text);
    assert_eq!(decode(signer, trailers, &wire), Ok(66_560));
    let mut changed = wire;
    changed[40_000] = b'b';
    let (signer, trailers) = signer_of(&text);
    assert_eq!(decode(signer, trailers, &changed), Err(BodyError::Signature));
}

#[test]
fn sigv4_example_chunked_upload_with_trailer() {
    let text = chunked_head(
        "STREAMING-AWS4-HMAC-SHA256-PAYLOAD-TRAILER",
        "x-amz-trailer: x-amz-checksum-crc32c\r\n",
        "content-encoding;host;x-amz-content-sha256;x-amz-date;x-amz-decoded-content-length;x-amz-storage-class;\
         x-amz-trailer",
        "106e2a8a18243abcf37539882f36619c00e2dfc72633413f02d3b74544bfeb8e",
    );
    let wire = signed_wire(
        [
            "b474d8862b1487a5145d686f57f013e54db672cee1c953b3010fb58501ef5aa2",
            "1c1344b170168f8e65b41376b44b20fe354e373826ccbbe2c1d40a8cae51e5c7",
            "2ca2aba2005185cf7159c6277faf83795951dd77a3a99e6e65d5c9f85863f992",
        ],
        "x-amz-checksum-crc32c:sOO8/Q==\n\r\nx-amz-trailer-signature:\
         d81f82fc3505edab99d459891051a732e8730629a2e4a59689829ca17fe2e435\r\n\r\n",
    );
    let (signer, trailers) = signer_of(&text);
    assert!(trailers);
    assert_eq!(decode(signer, trailers, &wire), Ok(66_560));
}

#[test]
fn sigv2_examples_get_and_list() {
    let get = format!(
        "GET /photos/puppy.jpg HTTP/1.1\r\nHost: johnsmith.s3.amazonaws.com\r\n\
         Date: Tue, 27 Mar 2007 19:36:42 +0000\r\nAuthorization: AWS {KEY}:bWq2s1WEIj+Ydj0vQ697zp+IXMU=\r\n\r\n"
    );
    let list = format!(
        "GET /?prefix=photos&max-keys=50&marker=puppy HTTP/1.1\r\nHost: johnsmith.s3.amazonaws.com\r\n\
         Date: Tue, 27 Mar 2007 19:42:41 +0000\r\nAuthorization: AWS {KEY}:htDYFYduRNen8P9ZfE/s9SuKy0U=\r\n\r\n"
    );
    let verifier = Verifier::new(example(), "us-east-1");
    let now_ms = 1_175_024_202_000;
    for text in [get, list] {
        assert!(verifier.authenticate(&head(&text), Some("johnsmith"), now_ms).is_ok(), "{text}");
        assert!(verifier.authenticate(&head(&text), Some("other"), now_ms).is_err());
    }
}

#[test]
fn a_wrong_signature_says_what_was_signed() {
    let Err(AuthError::Mismatch(mismatch)) = verify(&get_object("").replace("bytes=0-9", "bytes=0-8")) else {
        panic!("a changed header was accepted")
    };
    assert!(
        mismatch.canonical_request.starts_with("GET\n/test.txt\n\nhost:examplebucket.s3.amazonaws.com\n")
    );
    assert!(
        mismatch.string_to_sign.starts_with("AWS4-HMAC-SHA256\n20130524T000000Z\n20130524/us-east-1/s3/")
    );
}

#[test]
fn clocks_may_differ_by_fifteen_minutes_either_way() {
    for offset_s in [-900i64, 900] {
        assert!(verify_at(&get_object(""), NOW_MS.checked_add_signed(offset_s * 1000).unwrap()).is_ok());
    }
    for offset_s in [-901i64, 901] {
        let result = verify_at(&get_object(""), NOW_MS.checked_add_signed(offset_s * 1000).unwrap());
        assert!(matches!(result, Err(AuthError::TimeSkewed { .. })));
    }
}

#[test]
fn each_fault_has_its_own_refusal() {
    type Case = (String, fn(&AuthError) -> bool);
    let cases: [Case; 8] = [
        (get_object("").replace(KEY, "AKIAUNKNOWN"), |e| matches!(e, AuthError::UnknownAccessKey(_))),
        (get_object("").replace("us-east-1", "eu-west-1"), |e| matches!(e, AuthError::WrongRegion { .. })),
        (get_object("").replace("/s3/", "/iam/"), |e| matches!(e, AuthError::HeaderMalformed(_))),
        (get_object("x-amz-meta-a: 1\r\n"), |e| *e == AuthError::UnsignedHeaders("x-amz-meta-a".to_owned())),
        (get_object("x-amz-security-token: 1\r\n"), |e| *e == AuthError::SessionToken),
        (get_object("").replace("20130524T000000Z", "yesterday"), |e| *e == AuthError::MissingDate),
        (
            get_object("").replace(EMPTY, "nonsense"),
            |e| matches!(e, AuthError::BadContentSha256(given) if given == "nonsense"),
        ),
        (get_object("").replace("AWS4-HMAC", "AWS5-HMAC"), |e| matches!(e, AuthError::UnsupportedScheme(_))),
    ];
    for (text, expected) in cases {
        let error = verify(&text).unwrap_err();
        assert!(expected(&error), "{error:?} for {text}");
    }
}

#[test]
fn random_and_mutated_signatures_never_panic() {
    let mut rng = fastrand::Rng::new();
    for good in [get_object(""), presigned()] {
        for _ in 0..5_000 {
            let mut bytes = good.clone().into_bytes();
            for _ in 0..rng.usize(1..4) {
                let at = rng.usize(0..bytes.len());
                bytes[at] = rng.u8(b' '..=b'~');
            }
            let mut buf = BytesMut::from(&bytes[..]);
            if let Ok(HeadParse::Complete(head)) = parse_head(&mut buf, 0, &HeadLimits::default()) {
                drop(Verifier::new(example(), "us-east-1").authenticate(&head, None, NOW_MS));
            }
        }
    }
}

/// Story: SignedHeaders named one long field 7,000 times, and before any signature was compared its value was copied
/// as often: 100 MB from a head of 32 KiB, for anyone who had seen an access key in a presigned URL.
#[test]
fn a_field_that_is_signed_twice_is_refused_and_not_copied_twice() {
    let fields = format!(
        "Host: s3.test\r\nx-amz-content-sha256: {EMPTY}\r\nx-amz-date: 20130524T000000Z\r\nLong: {}\r\n",
        "v".repeat(14_000)
    );
    let must = "host;x-amz-content-sha256;x-amz-date";
    let signed =
        |names: &str| verify(&request("GET /", &fields, &format!("{names};{must}"), &"0".repeat(64)));
    for names in ["long;".repeat(2_000) + "long", "long;LONG".to_owned(), "Long;a;lonG".to_owned()] {
        assert!(matches!(signed(&names), Err(AuthError::HeaderMalformed(_))), "{names:.20}");
    }
    let Err(AuthError::Mismatch(mismatch)) = signed("long") else { panic!("not the key's signature") };
    assert!(mismatch.canonical_request.len() < 16_000);
    let twice = presigned().replace("X-Amz-SignedHeaders=host", "X-Amz-SignedHeaders=host%3Bhost");
    assert!(matches!(verify(&twice), Err(AuthError::QueryMalformed(_))));
    // Names that ascend in no order are as good as sorted ones.
    assert!(matches!(signed("z;long;b"), Err(AuthError::Mismatch(_))));
}

#[test]
fn a_request_that_claims_nothing_is_anonymous() {
    let anonymous = |fields: &str| verify(&format!("PUT /b/k HTTP/1.1\r\nHost: h\r\n{fields}\r\n"));
    let plain = anonymous("").unwrap();
    assert!(plain.identity().account().is_none());
    assert!(matches!(plain.body(), BodySignature::Unsigned));
    assert!(anonymous("Authorization: \r\n").unwrap().identity().account().is_none());
    let digest = anonymous(&format!("x-amz-content-sha256: {EMPTY}\r\n")).unwrap();
    assert!(matches!(digest.body(), BodySignature::Sha256(_)));
    let framed = anonymous("x-amz-content-sha256: STREAMING-UNSIGNED-PAYLOAD-TRAILER\r\n").unwrap();
    assert!(matches!(framed.body(), BodySignature::UnsignedChunks));
    let chained = anonymous("x-amz-content-sha256: STREAMING-AWS4-HMAC-SHA256-PAYLOAD\r\n");
    assert!(matches!(chained.unwrap_err(), AuthError::BadContentSha256(_)));
}

#[test]
fn a_key_that_is_exchanged_or_taken_away_counts_at_once() {
    let accounts = Accounts::new(with_secret(SECRET));
    let verifier = Verifier::new(accounts.on_core(), "us-east-1");
    let head = head(&get_object(""));
    assert!(verifier.authenticate(&head, None, NOW_MS).is_ok());
    accounts.replace(with_secret("another"));
    assert!(matches!(verifier.authenticate(&head, None, NOW_MS), Err(AuthError::Mismatch(_))));
    accounts.replace(AccountTable::new(ID, "root"));
    assert!(matches!(verifier.authenticate(&head, None, NOW_MS), Err(AuthError::UnknownAccessKey(_))));
}

/// botocore ends the path of a bucket with a slash before it signs it, and sends none.
#[test]
fn sigv2_of_a_bucket_may_be_signed_with_a_slash_after_it() {
    let date = "Fri, 24 May 2013 00:00:00 GMT";
    let signed = |target: &str, resource: &str| {
        let text = format!("PUT\n\n\n{date}\n{resource}");
        let key = hmac::Key::new(hmac::HMAC_SHA1_FOR_LEGACY_USE_ONLY, SECRET.as_bytes());
        let signature = STANDARD.encode(hmac::sign(&key, text.as_bytes()));
        verify(&format!(
            "PUT {target} HTTP/1.1\r\nHost: h\r\nDate: {date}\r\nAuthorization: AWS {KEY}:{signature}\r\n\r\n"
        ))
    };
    for (target, resource, is_good) in [
        ("/bkt", "/bkt", true),
        ("/bkt", "/bkt/", true),
        ("/bkt?acl", "/bkt/?acl", true),
        ("/bkt/", "/bkt/", true),
        ("/bkt/k", "/bkt/k", true),
        ("/bkt/k", "/bkt/k/", false),
        ("/bkt/", "/bkt", false),
        ("/bkt?x=1", "/bkt/?x=1", false),
        ("/bkt?object-lock", "/bkt/?object-lock", true),
    ] {
        assert_eq!(signed(target, resource).is_ok(), is_good, "{target} signed as {resource}");
    }
    let malformed =
        format!("PUT /b HTTP/1.1\r\nHost: h\r\nDate: {date}\r\nAuthorization: AWS HAHAHA\r\n\r\n");
    assert_eq!(verify(&malformed).unwrap_err(), AuthError::V2Malformed);
    let early = malformed.replace(date, "Tue, 07 Jul 1950 21:53:04 GMT").replace("HAHAHA", "AK:s");
    assert_eq!(verify(&early).unwrap_err(), AuthError::MissingDate);
}

#[test]
fn what_is_malformed_is_told_in_the_words_of_aws() {
    let told = |text: &str| match verify(text) {
        Err(AuthError::HeaderMalformed(message) | AuthError::QueryMalformed(message)) => message.into_owned(),
        other => panic!("{other:?}"),
    };
    let header = |from: &str, to: &str| told(&get_object("").replace(from, to));
    let begin = "The authorization header is malformed; ";
    for (from, to, end) in [
        ("/s3/", "/iam/", "incorrect service \"iam\". This endpoint belongs to \"s3\"."),
        (
            "aws4_request",
            "aws5_request",
            "incorrect terminal \"aws5_request\". This endpoint uses \"aws4_request\".",
        ),
        (
            "/20130524/",
            "/2013/",
            "incorrect date format \"2013\". This date in the credential must be in the format \"yyyyMMdd\".",
        ),
        ("/20130524/", "/20130523/", "Invalid credential date. Date is not the same as X-Amz-Date."),
        ("Signature=", "Sign=", "missing Signature."),
        ("Signature=", "Signature", "the authorization component \"Signature"),
    ] {
        let message = header(from, to);
        assert!(message.starts_with(&format!("{begin}{end}")), "{message}");
    }
    let query = told(&presigned().replace("%2Fs3%2F", "%2Fiam%2F"));
    assert_eq!(
        query,
        "Error parsing the X-Amz-Credential parameter; incorrect service \"iam\". This endpoint belongs to \"s3\"."
    );
    let elsewhere = presigned().replace("us-east-1", "eu-west-1");
    assert!(matches!(verify(&elsewhere), Err(AuthError::WrongRegion { in_query: true, .. })));
}
