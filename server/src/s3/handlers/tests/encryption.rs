//! Encryption at rest as clients ask for it and hear of it. Bytes are not sealed here: the model only keeps who may open them.

use super::*;
use crate::ops::api::{BucketName, ConfigKind, Operations as _};
use crate::s3::{tar, zip};

const SSE: &str = "x-amz-server-side-encryption";
const ALGORITHM: &str = "x-amz-server-side-encryption-customer-algorithm";
const KEY_MD5: &str = "x-amz-server-side-encryption-customer-key-md5";
/// Two keys of customers, and their digests.
const ONE: (&str, &str) = ("pO3upElrwuEXSoFwCfnZPdSsmt/xWeFa0N9KgDijwVs=", "DWygnHRtgiJ77HCm+1rvHw==");
const OTHER: (&str, &str) = ("6b+WOZ1T3cqZMxgThRcXAQBrS5mXKdDUphvpxptl9/4=", "arxBvwY2V4SiOne6yppVPQ==");

const BY_DEFAULT: &str = "<ServerSideEncryptionConfiguration><Rule><ApplyServerSideEncryptionByDefault>\
    <SSEAlgorithm>AES256</SSEAlgorithm></ApplyServerSideEncryptionByDefault></Rule></ServerSideEncryptionConfiguration>";
const BLOCKED: &str = "<ServerSideEncryptionConfiguration><Rule><BlockedEncryptionTypes><EncryptionType>SSE-C\
    </EncryptionType></BlockedEncryptionTypes></Rule></ServerSideEncryptionConfiguration>";
/// AWS's own policy for buckets in which everything must be encrypted.
const DENY_PLAIN: &str = r#"{"Statement":[{"Effect":"Deny","Principal":"*","Action":"s3:PutObject",
    "Resource":"arn:aws:s3:::bkt/*","Condition":{"StringNotEquals":{"s3:x-amz-server-side-encryption":"AES256"}}},
    {"Effect":"Deny","Principal":"*","Action":"s3:PutObject","Resource":"arn:aws:s3:::bkt/*",
    "Condition":{"Null":{"s3:x-amz-server-side-encryption":"true"}}}]}"#;

impl Call {
    /// With our keys.
    fn sealed(self) -> Call {
        self.with(SSE, "AES256")
    }

    /// With a customer's key.
    fn keyed(self, (key, md5): (&str, &str)) -> Call {
        let call = self.with(ALGORITHM, "AES256").with(KEY_MD5, md5);
        call.with("x-amz-server-side-encryption-customer-key", key)
    }

    /// With the key of a copy's source.
    fn source_keyed(self, (key, md5): (&str, &str)) -> Call {
        let name = |end: &str| format!("x-amz-copy-source-server-side-encryption-customer-{end}");
        let call = self.with(&name("algorithm"), "AES256").with(&name("key-md5"), md5);
        call.with(&name("key"), key)
    }
}

fn copy(target: &str, source: &str) -> Call {
    call("PUT", target).with("x-amz-copy-source", source)
}

/// Whether an answer says our keys, and the digest of the customer's.
fn told(seen: &Seen) -> (bool, Option<&str>) {
    assert_eq!(seen.header(ALGORITHM).is_some(), seen.header(KEY_MD5).is_some());
    (seen.header(SSE) == Some("AES256"), seen.header(KEY_MD5))
}

const PLAIN: (bool, Option<&str>) = (false, None);
const OURS: (bool, Option<&str>) = (true, None);
const OF_ONE: (bool, Option<&str>) = (false, Some(ONE.1));
const OF_OTHER: (bool, Option<&str>) = (false, Some(OTHER.1));

/// Begins an upload; its id and what the answer says.
async fn begin(client: &mut S3Client, call: Call) -> (String, Seen) {
    let seen = client.expect(200, call).await;
    let text = seen.text().to_owned();
    let start = text.find("<UploadId>").unwrap() + 10;
    (text[start..text.find("</UploadId>").unwrap()].to_owned(), seen)
}

fn part(upload: &str, number: u16) -> Call {
    call("PUT", &format!("/bkt/big?partNumber={number}&uploadId={upload}")).body("part")
}

/// Ends an upload of one part.
fn complete(upload: &str, part: &Seen) -> Call {
    let tag = part.header("etag").unwrap();
    let parts = format!("<Part><PartNumber>1</PartNumber><ETag>{tag}</ETag></Part>");
    let document = format!("<CompleteMultipartUpload>{parts}</CompleteMultipartUpload>");
    call("POST", &format!("/bkt/big?uploadId={upload}")).body(document)
}

async fn refused_in_words(client: &mut S3Client, (status, code, words): (u16, &str, &str), call: Call) {
    let seen = client.send(call).await;
    assert_eq!((seen.status, seen.code()), (status, code), "{}", seen.text());
    assert!(seen.text().contains(words), "{}", seen.text());
}

#[test]
fn what_is_encrypted_by_our_keys_says_so_and_is_read_like_anything_else() {
    with_client(|mut client| async move {
        let seen = client.expect(200, call("PUT", "/bkt/k").body("hello").sealed()).await;
        assert_eq!(told(&seen), OURS);
        assert_eq!(seen.header("etag"), Some("\"5d41402abc4b2a76b9719d911017c592\""));
        let seen = client.expect(200, call("GET", "/bkt/k")).await;
        assert_eq!((seen.text(), told(&seen)), ("hello", OURS));
        let seen = client.expect(206, call("GET", "/bkt/k").with("range", "bytes=1-2")).await;
        assert_eq!((seen.text(), told(&seen)), ("el", OURS));
        assert_eq!(told(&client.expect(200, call("HEAD", "/bkt/k")).await), OURS);
        assert_eq!(told(&client.expect(200, copy("/bkt/c", "/bkt/k").sealed()).await), OURS);
        client.expect(200, call("PUT", "/bkt/plain").body("v")).await;
        assert_eq!(told(&client.expect(200, call("GET", "/bkt/plain")).await), PLAIN);
        // How a thing is encrypted was asked when it was made.
        let words = "x-amz-server-side-encryption header is not supported for this operation.";
        for method in ["GET", "HEAD"] {
            client.expect(400, call(method, "/bkt/k").sealed()).await;
        }
        let again = call("GET", "/bkt/k").sealed();
        refused_in_words(&mut client, (400, "InvalidArgument", words), again).await;
        assert_eq!(client.ops.permits.get(), 0);
    });
}

#[test]
fn what_a_customers_key_encrypts_is_read_with_that_key_only() {
    with_client(|mut client| async move {
        let seen = client.expect(200, call("PUT", "/bkt/k").body("hello").keyed(ONE)).await;
        assert_eq!(told(&seen), OF_ONE);
        for (method, text) in [("GET", "hello"), ("HEAD", "")] {
            let seen = client.expect(200, call(method, "/bkt/k").keyed(ONE)).await;
            assert_eq!((seen.text(), told(&seen)), (text, OF_ONE));
            client.expect(400, call(method, "/bkt/k")).await;
            client.expect(403, call(method, "/bkt/k").keyed(OTHER)).await;
        }
        let ranged = call("GET", "/bkt/k").keyed(ONE).with("range", "bytes=-2");
        assert_eq!(client.expect(206, ranged).await.text(), "lo");
        let missing =
            (400, "InvalidRequest", "The correct parameters must be provided to retrieve the object.");
        refused_in_words(&mut client, missing, call("GET", "/bkt/k")).await;
        let wrong = (403, "AccessDenied", "must provide the correct secret key.");
        refused_in_words(&mut client, wrong, call("GET", "/bkt/k").keyed(OTHER)).await;
        // Nothing is told of it without the key: no condition is decided.
        let tag = seen.header("etag").unwrap().to_owned();
        client.refused(400, "InvalidRequest", call("GET", "/bkt/k").with("if-none-match", &tag)).await;
        client.expect(304, call("GET", "/bkt/k").keyed(ONE).with("if-none-match", &tag)).await;
        client.expect(400, call("HEAD", "/bkt/k?partNumber=1")).await;
        client.expect(206, call("HEAD", "/bkt/k?partNumber=1").keyed(ONE)).await;
        let attributes = || call("GET", "/bkt/k?attributes=").with("x-amz-object-attributes", "ObjectSize");
        client.refused(400, "InvalidRequest", attributes()).await;
        client.refused(403, "AccessDenied", attributes().keyed(OTHER)).await;
        client.expect(200, attributes().keyed(ONE)).await;
        client.expect(200, call("PUT", "/bkt/plain").body("v")).await;
        let unfit = (400, "InvalidRequest", "The encryption parameters are not applicable to this object.");
        refused_in_words(&mut client, unfit, call("GET", "/bkt/plain").keyed(ONE)).await;
        client.expect(204, call("DELETE", "/bkt/k")).await;
        assert_eq!(client.ops.permits.get(), 0);
    });
}

/// A signature is wrong wherever a secret is mistyped or a proxy changes the host, and clients log what they are answered then.
#[test]
fn no_error_of_a_signature_tells_a_customers_key() {
    with_client(|mut client| async move {
        let bytes_of = |key: &str| key.bytes().map(|byte| hex::encode([byte])).collect::<Vec<_>>().join(" ");
        for version in ["v4", "v2"] {
            let mut wrong = copy("/bkt/k", "/bkt/s").keyed(ONE).source_keyed(OTHER);
            if version == "v2" {
                let date = "Fri, 24 May 2013 00:00:00 GMT";
                wrong = wrong.anonymous().with("date", date).with("authorization", "AWS AKIDEXAMPLE:AAAA");
            }
            let (head, _) = wrong.sign();
            client.wire.send(head.replace("DWygnHRtgiJ77HCm", "EWygnHRtgiJ77HCm"));
            let seen = client.wire.response(false).await.unwrap();
            assert_eq!((seen.status, seen.code()), (403, "SignatureDoesNotMatch"), "{version}");
            assert!(seen.text().contains("encryption-customer-key:HIDDEN"), "{}", seen.text());
            let md5 = "customer-key-md5:EWygnHRtgiJ77HCm";
            assert!(seen.text().contains(md5), "the rest helps: {}", seen.text());
            for key in [ONE.0, OTHER.0] {
                assert!(!seen.text().contains(key) && !seen.text().contains(&bytes_of(key)), "{version}");
            }
        }
    });
}

#[test]
fn parts_carry_the_key_of_their_upload_and_no_other() {
    with_client(|mut client| async move {
        let (upload, seen) = begin(&mut client, call("POST", "/bkt/big?uploads=").keyed(ONE)).await;
        assert_eq!(told(&seen), OF_ONE);
        let without = (400, "InvalidRequest", "Subsequent part requests must include the appropriate");
        refused_in_words(&mut client, without, part(&upload, 1)).await;
        let other = (400, "InvalidRequest", "did not match the ones used originally.");
        refused_in_words(&mut client, other, part(&upload, 1).keyed(OTHER)).await;
        let put = client.expect(200, part(&upload, 1).keyed(ONE)).await;
        assert_eq!(told(&put), OF_ONE);
        refused_in_words(&mut client, other, complete(&upload, &put).keyed(OTHER)).await;
        let done = client.expect(200, complete(&upload, &put).keyed(ONE)).await;
        assert_eq!(told(&done), PLAIN, "AWS repeats no key there");
        client.refused(400, "InvalidRequest", call("GET", "/bkt/big")).await;
        assert_eq!(client.expect(200, call("GET", "/bkt/big").keyed(ONE)).await.text(), "part");

        let (upload, seen) = begin(&mut client, call("POST", "/bkt/big?uploads=").sealed()).await;
        assert_eq!(told(&seen), OURS);
        let unfit = (400, "InvalidRequest", "Subsequent part requests must include the appropriate");
        refused_in_words(&mut client, unfit, part(&upload, 1).keyed(ONE)).await;
        let words = "x-amz-server-side-encryption header is not supported for this operation.";
        refused_in_words(&mut client, (400, "InvalidArgument", words), part(&upload, 1).sealed()).await;
        let put = client.expect(200, part(&upload, 1)).await;
        assert_eq!(told(&put), OURS);
        refused_in_words(&mut client, unfit, complete(&upload, &put).keyed(ONE)).await;
        // As MinIO's clients do.
        assert_eq!(told(&client.expect(200, complete(&upload, &put).sealed()).await), OURS);
        assert_eq!(told(&client.expect(200, call("HEAD", "/bkt/big")).await), OURS);

        // Where the client named a checksum the key is needed to the end, as at AWS.
        let summed = call("POST", "/bkt/big?uploads=").with("x-amz-checksum-algorithm", "CRC32");
        let (upload, _) = begin(&mut client, summed.keyed(ONE)).await;
        let put = client.expect(200, part(&upload, 1).keyed(ONE)).await;
        let list = |upload: &str| call("GET", &format!("/bkt/big?uploadId={upload}"));
        refused_in_words(&mut client, without, list(&upload)).await;
        refused_in_words(&mut client, other, list(&upload).keyed(OTHER)).await;
        client.expect(200, list(&upload).keyed(ONE)).await;
        refused_in_words(&mut client, without, complete(&upload, &put)).await;
        client.expect(200, complete(&upload, &put).keyed(ONE)).await;
        let (upload, _) = begin(&mut client, call("POST", "/bkt/big?uploads=").keyed(ONE)).await;
        client.expect(200, list(&upload)).await;
        refused_in_words(&mut client, other, list(&upload).keyed(OTHER)).await;
        let (upload, _) = begin(&mut client, call("POST", "/bkt/big?uploads=").sealed()).await;
        client.expect(200, list(&upload)).await;
        refused_in_words(&mut client, unfit, list(&upload).keyed(ONE)).await;
    });
}

#[test]
fn a_copy_is_encrypted_as_it_asks_whatever_its_source_was() {
    with_client(|mut client| async move {
        let put = |target: &str| {
            let tagged = call("PUT", target).body("hello").with("x-amz-tagging", "a=1");
            tagged.with("x-amz-meta-m", "2").with("content-type", "text/plain")
        };
        client.expect(200, put("/bkt/plain")).await;
        client.expect(200, put("/bkt/ours").sealed()).await;
        client.expect(200, put("/bkt/one").keyed(ONE)).await;
        type Change = fn(Call) -> Call;
        let sources: [(&str, Change); 3] = [
            ("/bkt/plain", |copy| copy),
            ("/bkt/ours", |copy| copy),
            ("/bkt/one", |copy| copy.source_keyed(ONE)),
        ];
        let targets: [(Change, Change, _); 4] = [
            (|copy| copy, |get| get, PLAIN),
            (Call::sealed, |get| get, OURS),
            (|copy| copy.keyed(ONE), |get| get.keyed(ONE), OF_ONE),
            (|copy| copy.keyed(OTHER), |get| get.keyed(OTHER), OF_OTHER),
        ];
        for (source, with_source) in sources {
            for (with_target, with_get, expected) in targets {
                // What was encrypted does not become plain by being copied.
                let stays_sealed = expected == PLAIN && source != "/bkt/plain";
                let expected = if stays_sealed { OURS } else { expected };
                let made = client.expect(200, with_target(with_source(copy("/bkt/t", source)))).await;
                assert_eq!(told(&made), expected, "{source}");
                let seen = client.expect(200, with_get(call("GET", "/bkt/t"))).await;
                assert_eq!((seen.text(), told(&seen)), ("hello", expected), "{source}");
                for (name, value) in
                    [("x-amz-meta-m", "2"), ("content-type", "text/plain"), ("x-amz-tagging-count", "1")]
                {
                    assert_eq!(seen.header(name), Some(value), "{source}: {name}");
                }
            }
        }
        client.refused(400, "InvalidRequest", copy("/bkt/t", "/bkt/one")).await;
        client.refused(403, "AccessDenied", copy("/bkt/t", "/bkt/one").source_keyed(OTHER)).await;
        client.refused(400, "InvalidRequest", copy("/bkt/t", "/bkt/plain").source_keyed(ONE)).await;
        assert_eq!(client.ops.permits.get(), 0);
    });
}

#[test]
fn a_copy_that_moves_bytes_has_the_directives_conditions_and_checksum_of_any_other() {
    with_client(|mut client| async move {
        let put = call("PUT", "/bkt/s").body("hello").with("x-amz-tagging", "a=1").with("x-amz-meta-m", "2");
        let put = put.with("x-amz-checksum-sha256", "LPJNul+wow4m6DsqxbninhsWHlwfp0JecwQzYpOLmCQ=");
        client.expect(200, put.with("x-amz-website-redirect-location", "/there")).await;
        let copied = || copy("/bkt/t", "/bkt/s").sealed();
        client.expect(200, copied()).await;
        let head = || call("HEAD", "/bkt/t").with("x-amz-checksum-mode", "ENABLED");
        let seen = client.expect(200, head()).await;
        assert!(seen.header("x-amz-checksum-sha256").is_some(), "the algorithm is the source's");
        assert_eq!(seen.header("x-amz-website-redirect-location"), None, "it stays with the source");
        let asked = copied().with("x-amz-checksum-algorithm", "CRC32");
        client.expect(200, asked).await;
        assert!(client.expect(200, head()).await.header("x-amz-checksum-crc32").is_some());
        let replaced = copied().with("x-amz-metadata-directive", "REPLACE").with("x-amz-meta-n", "3");
        let replaced = replaced.with("x-amz-tagging-directive", "REPLACE").with("x-amz-tagging", "b=1&c=2");
        client.expect(200, replaced).await;
        let seen = client.expect(200, head()).await;
        assert_eq!((seen.header("x-amz-meta-m"), seen.header("x-amz-meta-n")), (None, Some("3")));
        assert_eq!(seen.header("x-amz-tagging-count"), Some("2"));
        for (name, value) in
            [("x-amz-copy-source-if-match", "\"x\""), ("if-none-match", "*"), ("if-match", "\"x\"")]
        {
            client.refused(412, "PreconditionFailed", copied().with(name, value)).await;
        }
        // Only its encryption changes.
        client.expect(200, copy("/bkt/s", "/bkt/s").sealed()).await;
        assert_eq!(told(&client.expect(200, call("HEAD", "/bkt/s")).await), OURS);
        assert_eq!(client.ops.permits.get(), 0);
    });
}

#[test]
fn a_part_is_copied_from_a_source_with_its_own_key() {
    with_client(|mut client| async move {
        client.expect(200, call("PUT", "/bkt/s").body("hello").keyed(OTHER)).await;
        let (upload, _) = begin(&mut client, call("POST", "/bkt/big?uploads=").keyed(ONE)).await;
        let part = || {
            let target = format!("/bkt/big?partNumber=1&uploadId={upload}");
            copy(&target, "/bkt/s").with("x-amz-copy-source-range", "bytes=1-3")
        };
        client.refused(400, "InvalidRequest", part().keyed(ONE)).await;
        client.refused(403, "AccessDenied", part().keyed(ONE).source_keyed(ONE)).await;
        client.refused(400, "InvalidRequest", part().source_keyed(OTHER)).await;
        let seen = client.expect(200, part().keyed(ONE).source_keyed(OTHER)).await;
        assert_eq!(told(&seen), OF_ONE);
    });
}

#[test]
fn a_buckets_default_encrypts_whatever_asks_for_nothing() {
    with_client(|mut client| async move {
        client.expect(200, call("PUT", "/bkt/before").body("hello")).await;
        client.expect(200, call("PUT", "/bkt?encryption=").body(BY_DEFAULT)).await;
        assert_eq!(told(&client.expect(200, call("GET", "/bkt/before")).await), PLAIN);
        assert_eq!(told(&client.expect(200, call("PUT", "/bkt/k").body("v")).await), OURS);
        assert_eq!(told(&client.expect(200, copy("/bkt/c", "/bkt/before")).await), OURS);
        assert_eq!(told(&client.expect(200, call("PUT", "/bkt/own").keyed(ONE)).await), OF_ONE);
        let (upload, seen) = begin(&mut client, call("POST", "/bkt/big?uploads=")).await;
        assert_eq!(told(&seen), OURS);
        assert_eq!(told(&client.expect(200, part(&upload, 1)).await), OURS);
        let archive = call("PUT", "/bkt/x.tar").body(tar::sample());
        client.expect(200, archive.with("x-amz-meta-snowball-auto-extract", "true")).await;
        assert_eq!(told(&client.expect(200, call("HEAD", "/bkt/p/from-record")).await), OURS);
        let append = call("PUT", "/bkt/k").body("w").with("x-amz-write-offset-bytes", "1");
        client.refused(400, "InvalidRequest", append).await;
        client.expect(204, call("DELETE", "/bkt?encryption=")).await;
        assert_eq!(told(&client.expect(200, call("PUT", "/bkt/k").body("v")).await), PLAIN);
    });
}

#[test]
fn a_bucket_that_refuses_customers_keys_still_reads_what_they_encrypted() {
    with_client(|mut client| async move {
        client.expect(200, call("PUT", "/bkt/old").body("hello").keyed(ONE)).await;
        let (upload, _) = begin(&mut client, call("POST", "/bkt/big?uploads=").keyed(ONE)).await;
        client.expect(200, call("PUT", "/bkt?encryption=").body(BLOCKED)).await;
        for call in [
            call("PUT", "/bkt/k").keyed(ONE),
            call("POST", "/bkt/k?uploads=").keyed(ONE),
            copy("/bkt/k", "/bkt/old").source_keyed(ONE).keyed(ONE),
            part(&upload, 1).keyed(ONE),
        ] {
            refused_in_words(&mut client, (403, "AccessDenied", "has blocked upload requests"), call).await;
        }
        assert_eq!(client.expect(200, call("GET", "/bkt/old").keyed(ONE)).await.text(), "hello");
        client.expect(200, copy("/bkt/k", "/bkt/old").source_keyed(ONE)).await;
        // A configuration that does not speak of it leaves it blocked.
        client.expect(200, call("PUT", "/bkt?encryption=").body(BY_DEFAULT)).await;
        client.refused(403, "AccessDenied", call("PUT", "/bkt/k").keyed(ONE)).await;
        client.expect(200, call("PUT", "/bkt?encryption=").body(BLOCKED.replace("SSE-C", "NONE"))).await;
        client.expect(200, call("PUT", "/bkt/k").keyed(ONE)).await;
    });
}

#[test]
fn customers_keys_stay_refused_if_that_came_while_another_configuration_was_being_sent() {
    with_client(|mut client| async move {
        let unspoken = call("PUT", "/bkt?encryption=").with("expect", "100-continue").body(BY_DEFAULT);
        let (head, _) = unspoken.sign();
        client.wire.send(head);
        // It is authorized, and its body is awaited.
        assert_eq!(client.wire.response(false).await.unwrap().status, 100);
        let bucket = BucketName::parse("bkt").unwrap();
        let blocked = bytes::Bytes::from_static(BLOCKED.as_bytes());
        client.ops.put_bucket_config(bucket, ConfigKind::Encryption, blocked).await.unwrap();
        client.wire.send(&unspoken.body);
        assert_eq!(client.wire.response(false).await.unwrap().status, 200);
        client.refused(403, "AccessDenied", call("PUT", "/bkt/k").keyed(ONE)).await;
        // As documented, both of these end it.
        client.expect(200, call("PUT", "/bkt?encryption=").body(BLOCKED.replace("SSE-C", "NONE"))).await;
        client.expect(200, call("PUT", "/bkt/k").keyed(ONE)).await;
        client.expect(200, call("PUT", "/bkt?encryption=").body(BLOCKED)).await;
        client.refused(403, "AccessDenied", call("PUT", "/bkt/k").keyed(ONE)).await;
        client.expect(204, call("DELETE", "/bkt?encryption=")).await;
        client.expect(200, call("PUT", "/bkt/k").keyed(ONE)).await;
    });
}

#[test]
fn the_policy_that_denies_unencrypted_uploads_lets_encrypted_ones_through_in_one_piece_and_in_parts() {
    with_client(|mut client| async move {
        let (plain, _) = begin(&mut client, call("POST", "/bkt/big?uploads=")).await;
        client.expect(204, call("PUT", "/bkt?policy=").body(DENY_PLAIN)).await;
        client.refused(403, "AccessDenied", call("PUT", "/bkt/k").body("v")).await;
        client.refused(403, "AccessDenied", call("PUT", "/bkt/k").body("v").keyed(ONE)).await;
        client.expect(200, call("PUT", "/bkt/k").body("v").sealed()).await;
        client.refused(403, "AccessDenied", copy("/bkt/c", "/bkt/k")).await;
        client.expect(200, copy("/bkt/c", "/bkt/k").sealed()).await;
        client.refused(403, "AccessDenied", call("POST", "/bkt/big?uploads=")).await;
        client.refused(403, "AccessDenied", part(&plain, 1)).await;
        client.refused(403, "AccessDenied", part(&plain, 1).sealed()).await;
        let refused = call("POST", &format!("/bkt/big?uploadId={plain}")).body("<a/>");
        client.refused(403, "AccessDenied", refused.sealed()).await;
        let (upload, _) = begin(&mut client, call("POST", "/bkt/big?uploads=").sealed()).await;
        let put = client.expect(200, part(&upload, 1)).await;
        client.expect(200, complete(&upload, &put)).await;
        let customers = DENY_PLAIN.replace("encryption\"", "encryption-customer-algorithm\"");
        client.expect(204, call("PUT", "/bkt?policy=").body(customers)).await;
        client.refused(403, "AccessDenied", call("PUT", "/bkt/k").body("v").sealed()).await;
        let (upload, _) = begin(&mut client, call("POST", "/bkt/big?uploads=").keyed(ONE)).await;
        let put = client.expect(200, part(&upload, 1).keyed(ONE)).await;
        client.expect(200, complete(&upload, &put)).await;
    });
}

#[test]
fn members_of_an_encrypted_archive_are_read_as_the_archive_is() {
    with_client(|mut client| async move {
        client.expect(200, call("PUT", "/bkt/a.zip").body(zip::sample()).sealed()).await;
        client.expect(200, call("PUT", "/bkt/b.zip").body(zip::sample()).keyed(ONE)).await;
        let member =
            |archive: &str| call("GET", &format!("/bkt/{archive}/a.txt")).with("x-minio-extract", "true");
        assert_eq!(client.expect(200, member("a.zip")).await.text(), "hello");
        assert_eq!(client.expect(200, member("b.zip").keyed(ONE)).await.text(), "hello");
        client.refused(400, "InvalidRequest", member("b.zip")).await;
        client.refused(403, "AccessDenied", member("b.zip").keyed(OTHER)).await;
        let list = || {
            let list = call("GET", "/bkt?delimiter=%2F&list-type=2&prefix=b.zip%2F");
            list.with("x-minio-extract", "true")
        };
        client.refused(400, "InvalidRequest", list()).await;
        assert!(client.expect(200, list().keyed(ONE)).await.text().contains("<Key>b.zip/a.txt</Key>"));
        assert_eq!(client.ops.permits.get(), 0);
    });
}

#[test]
fn keys_of_a_key_management_service_are_not_built_and_never_dropped() {
    with_client(|mut client| async move {
        for call in [
            call("PUT", "/bkt/k").with(SSE, "aws:kms"),
            call("POST", "/bkt/k?uploads=").with(SSE, "aws:kms:dsse"),
            copy("/bkt/k", "/bkt/k").with(SSE, "aws:kms"),
            call("PUT", "/bkt?encryption=").body(BY_DEFAULT.replace("AES256", "aws:kms")),
        ] {
            refused_in_words(&mut client, (501, "NotImplemented", "AWS KMS"), call).await;
        }
        client.refused(404, "NoSuchKey", call("GET", "/bkt/k")).await;
        client
            .refused(404, "ServerSideEncryptionConfigurationNotFoundError", call("GET", "/bkt?encryption="))
            .await;
    });
}
