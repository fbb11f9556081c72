//! Fuzzes what S3 reads from a head before anything is done: address, route, query, headers, encryption, conditions,
//! checksums.
//! Invariants: an address has no empty key; of a customer's key an answer has the digest; the rest is read or refused.
#![no_main]

use std::net::{IpAddr, Ipv4Addr};

use bytes::BytesMut;
use server::auth::Identity;
use server::http::{HeadLimits, HeadParse, HeaderText, RequestHead, parse_head};
use server::ops::api::EncryptedBy;
use server::s3::access_log::RequestNote;
use server::s3::address::{Address, website_bucket};
use server::s3::authorize::Asker;
use server::s3::conditions::{ReadConditions, delete_condition, write_condition};
use server::s3::encryption::{AskedEncryption, key_of_existing, key_of_source, push_encryption};
use server::s3::query::Query;
use server::s3::{checksum, headers, route, time_text};

/// In 2026: dates that clients send are before and after it.
const NOW_MS: u64 = 1_790_000_000_000;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    // The first line is a method and a target, the others are header fields.
    let mut lines = bytes.splitn(2, |byte| *byte == b'\n');
    let (line, fields) = (lines.next().unwrap_or_default(), lines.next().unwrap_or_default());
    let mut buf = BytesMut::new();
    for part in [line, b" HTTP/1.1\r\nhost: bkt.s3.test:9000\r\n", fields, b"\r\n\r\n"] {
        buf.extend_from_slice(part);
    }
    let Ok(HeadParse::Complete(head)) = parse_head(&mut buf, 0, &HeadLimits::default()) else { return };
    let query = Query::new(head.raw_query());
    for name in ["prefix", "delimiter", "continuation-token", "versionId", "uploadId", "response-expires"] {
        query.text(name).ok();
        query.bytes(name).ok();
    }
    for name in ["max-keys", "partNumber", "max-uploads", "part-number-marker"] {
        query.number(name).ok();
    }
    headers::kept_headers(&head).ok();
    headers::redirect_location(&head).ok();
    let bare = head.bare(|name| !name.eq_ignore_ascii_case("range"));
    assert!(bare.raw_query().is_none() && bare.header("range").is_none());
    if let Some(bucket) = website_bucket(&String::from_utf8_lossy(fields), &["web.test".to_owned()]) {
        assert!(!bucket.is_empty());
    }
    headers::storage_class(&head, &["STANDARD_IA".to_owned()]).ok();
    encryption(&head);
    checksum::header_checksum(&head).ok();
    if let Ok(expected) = checksum::Expected::of(&head, None) {
        expected.given_algorithm();
    }
    write_condition(&head).ok();
    delete_condition(&head).ok();
    ReadConditions::of_read(&head, NOW_MS).check("\"9bb58f26192e4ba00f01e2e7b136bbd8\"", NOW_MS);
    ReadConditions::of_copy_source(&head, NOW_MS).check("\"9bb58f26192e4ba00f01e2e7b136bbd8-2\"", 0);
    if let Some(text) = head.header_str("date") {
        time_text::parse_date_s(text);
    }
    for domains in [vec![], vec!["s3.test".to_owned()]] {
        let Ok(address) = Address::parse(head.header_str("host"), head.raw_path(), &domains) else {
            continue;
        };
        assert!(address.key.as_ref().is_none_or(|key| !key.is_empty()));
        route::route(&head, &address).name();
    }
});

/// Over TLS, where customers' keys are read.
fn encryption(head: &RequestHead) {
    let note = RequestNote::default();
    let address = IpAddr::V4(Ipv4Addr::LOCALHOST);
    let identity = Identity::Anonymous;
    let asker = Asker { head, identity, address, is_secure: true, now_ms: NOW_MS, note: &note };
    if let Ok(AskedEncryption::Customer(given)) = AskedEncryption::of_write(&asker) {
        let mut answer = HeaderText::default();
        push_encryption(&mut answer, Some(EncryptedBy::Customer), Some(&given));
        let digest =
            head.header("x-amz-server-side-encryption-customer-key-md5").unwrap_or_default().trim_ascii();
        assert!(answer.as_bytes().windows(digest.len()).any(|part| part == digest));
    }
    key_of_existing(&asker).ok();
    key_of_source(&asker).ok();
}
