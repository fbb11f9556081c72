//! Every operation of the router x every way not to be allowed: refused, with AWS's code, before anything is done.

use super::*;
use crate::s3::address::Address;
use crate::s3::route::{Operation, route};

/// What a request of an operation looks like: method, target, one header field, and a body if it has one.
struct Sample {
    method: &'static str,
    target: String,
    header: Option<(&'static str, &'static str)>,
    body: &'static str,
}

fn sample(operation: Operation) -> Option<Sample> {
    use Operation as O;
    let plain = |method, target: &str| Sample { method, target: target.to_owned(), header: None, body: "" };
    let with = |method, target: &str, header| Sample { header: Some(header), ..plain(method, target) };
    let name = operation.name();
    let body = match operation {
        // Where there is a policy, whether these may be set can depend on what they say.
        O::PutObjectTagging => "<Tagging><TagSet></TagSet></Tagging>",
        O::PutObjectLegalHold => "<LegalHold><Status>ON</Status></LegalHold>",
        O::PutObjectRetention => {
            "<Retention><Mode>GOVERNANCE</Mode><RetainUntilDate>2013-06-24T00:00:00Z</RetainUntilDate></Retention>"
        }
        O::CreateBucket | O::DeleteObjects | O::RestoreObject | O::SelectObjectContent | O::UploadPart => {
            "<a/>"
        }
        _ if name.starts_with("Put") || name.starts_with("Complete") => "<a/>",
        _ => "",
    };
    let copy = ("x-amz-copy-source", "/bkt/k");
    let found = match operation {
        // Nobody's request: a preflight carries no signature, a form its own (`post`), and the unknown is no operation.
        O::OptionsPreflight | O::PostObject | O::Unknown => return None,
        O::ListBuckets => plain("GET", "/"),
        O::CreateBucket => plain("PUT", "/bkt"),
        O::DeleteBucket => plain("DELETE", "/bkt"),
        O::HeadBucket => plain("HEAD", "/bkt"),
        O::ListObjects => plain("GET", "/bkt"),
        O::ListObjectsV2 => plain("GET", "/bkt?list-type=2"),
        O::ListObjectVersions => plain("GET", "/bkt?versions="),
        O::ListMultipartUploads => plain("GET", "/bkt?uploads="),
        O::DeleteObjects => plain("POST", "/bkt?delete="),
        O::CreateSession => plain("GET", "/bkt?session="),
        O::GetObject => plain("GET", "/bkt/k"),
        O::HeadObject => plain("HEAD", "/bkt/k"),
        O::PutObject => plain("PUT", "/bkt/k"),
        O::DeleteObject => plain("DELETE", "/bkt/k"),
        O::CopyObject => with("PUT", "/bkt/k", copy),
        O::CreateMultipartUpload => plain("POST", "/bkt/k?uploads="),
        O::UploadPart => plain("PUT", "/bkt/k?partNumber=1&uploadId=u"),
        O::UploadPartCopy => with("PUT", "/bkt/k?partNumber=1&uploadId=u", copy),
        O::CompleteMultipartUpload => plain("POST", "/bkt/k?uploadId=u"),
        O::AbortMultipartUpload => plain("DELETE", "/bkt/k?uploadId=u"),
        O::ListParts => plain("GET", "/bkt/k?uploadId=u"),
        O::RestoreObject => plain("POST", "/bkt/k?restore="),
        O::SelectObjectContent => plain("POST", "/bkt/k?select="),
        O::RenameObject => with("PUT", "/bkt/k?renameObject=", ("x-amz-rename-source", "/bkt/j")),
        // All others are a sub-resource and a method, found by the router itself.
        other => return by_sub_resource(other, body),
    };
    Some(Sample { body: if found.body.is_empty() { body } else { found.body }, ..found })
}

fn by_sub_resource(operation: Operation, body: &'static str) -> Option<Sample> {
    const SUB_RESOURCES: [&str; 33] = [
        "accelerate",
        "acl",
        "analytics",
        "attributes",
        "cors",
        "encryption",
        "intelligent-tiering",
        "inventory",
        "legal-hold",
        "lifecycle",
        "location",
        "logging",
        "metadataConfiguration",
        "metadataTable",
        "metrics",
        "notification",
        "object-lock",
        "ownershipControls",
        "policy",
        "policyStatus",
        "publicAccessBlock",
        "replication",
        "requestPayment",
        "retention",
        "tagging",
        "torrent",
        "versioning",
        "website",
        "restore",
        "select",
        "session",
        "versions",
        "delete",
    ];
    for method in ["GET", "PUT", "DELETE", "POST"] {
        for path in ["/bkt", "/bkt/k"] {
            for sub_resource in SUB_RESOURCES {
                let target = format!("{path}?{sub_resource}=");
                let head = crate::s3::test_heads::head(&format!("{method} {target}"), "");
                let address = Address::parse(None, head.raw_path(), &[]).unwrap();
                if route(&head, &address) == operation {
                    return Some(Sample { method, target, header: None, body });
                }
            }
        }
    }
    panic!("no request is {}: give one", operation.name())
}

impl Sample {
    fn call(&self) -> Call {
        let call = call(self.method, &self.target).body(self.body).with("x-amz-meta-a", "1");
        let call = match self.header {
            Some((name, value)) => call.with(name, value),
            None => call,
        };
        // Some documents must have a digest beside the signature's.
        let sum = STANDARD.encode(digest::digest(&digest::SHA256, self.body.as_bytes()));
        if self.body.is_empty() { call } else { call.with("x-amz-checksum-sha256", &sum) }
    }
}

/// What is sent, and what it must be answered with.
async fn refused(client: &mut S3Client, what: &str, sample: &Sample, head: String, status: u16, code: &str) {
    let is_head = sample.method == "HEAD";
    client.wire.send(head);
    client.wire.send(sample.body);
    let seen = client.wire.response(is_head).await.unwrap();
    // HEAD has no body: minio-go reads the code from a header field.
    let found = if is_head { seen.header("x-minio-error-code").unwrap_or_default() } else { seen.code() };
    assert_eq!((seen.status, found), (status, code), "{what}: {} {}", sample.method, sample.target);
}

#[test]
fn every_operation_refuses_whoever_may_not_in_aws_words() {
    for operation in Operation::ALL {
        let Some(sample) = sample(*operation) else { continue };
        with_client(|mut client| async move {
            let name = operation.name();
            let (head, signature) = sample.call().sign();
            let edits: [(&str, String, u16, &str); 6] = [
                ("wrong key", head.replace(KEY, "AKIDNOBODY"), 403, "InvalidAccessKeyId"),
                ("wrong secret", head.replace(&signature, &"0".repeat(64)), 403, "SignatureDoesNotMatch"),
                (
                    "expired",
                    head.replace(DATE, "20130523T234000Z").replace("/20130524/", "/20130523/"),
                    403,
                    "RequestTimeTooSkewed",
                ),
                ("early", head.replace(DATE, "20130524T002000Z"), 403, "RequestTimeTooSkewed"),
                (
                    "other region",
                    head.replace("/us-east-1/", "/eu-west-1/"),
                    400,
                    "AuthorizationHeaderMalformed",
                ),
                (
                    "tampered header",
                    head.replace("x-amz-meta-a: 1", "x-amz-meta-a: 2"),
                    403,
                    "SignatureDoesNotMatch",
                ),
            ];
            for (what, head, status, code) in edits {
                refused(&mut client, &format!("{name}, {what}"), &sample, head, status, code).await;
            }
            let (head, _) = sample.call().anonymous().sign();
            refused(&mut client, &format!("{name}, anonymous"), &sample, head, 403, "AccessDenied").await;
            let (head, _) = sample.call().by_user().sign();
            match operation {
                // What any account may, and what is refused key by key.
                Operation::ListBuckets | Operation::CreateBucket | Operation::DeleteObjects => {}
                _ => {
                    refused(&mut client, &format!("{name}, a user"), &sample, head, 403, "AccessDenied").await
                }
            }
        });
    }
}

#[test]
fn a_body_that_is_not_the_one_that_was_signed_is_refused_by_whatever_reads_it() {
    let has_body = |operation: &&Operation| sample(**operation).is_some_and(|sample| !sample.body.is_empty());
    for operation in Operation::ALL.iter().filter(has_body) {
        let Some(mut sample) = sample(*operation) else { continue };
        with_client(|mut client| async move {
            client.expect(200, call("PUT", "/bkt/k").body("here")).await;
            client.expect(200, call("POST", "/bkt/k?uploads=")).await;
            sample.target = sample.target.replace("uploadId=u", &format!("uploadId={}", "01".repeat(16)));
            if *operation == Operation::CreateBucket {
                sample.target = "/bkt2".to_owned();
            }
            // What is not built reads no body.
            if client.send(sample.call()).await.code() == "NotImplemented" {
                return;
            }
            let tampered = sample.call().hashed(&hex_sha256(b"another body"));
            let what = operation.name();
            let seen = client.send(tampered).await;
            assert_eq!(
                (seen.status, seen.code()),
                (400, "XAmzContentSHA256Mismatch"),
                "{what}: {}",
                seen.text()
            );
        });
    }
}

#[test]
fn a_presigned_link_ends_and_one_that_lives_too_long_never_begins() {
    with_client(|mut client| async move {
        let link = |expires: &str, date: &str| {
            format!(
                "GET /bkt/k?X-Amz-Algorithm=AWS4-HMAC-SHA256&X-Amz-Credential={KEY}%2F20130523%2Fus-east-1%2Fs3%2F\
                 aws4_request&X-Amz-Date={date}&X-Amz-Expires={expires}&X-Amz-SignedHeaders=host&X-Amz-Signature={} \
                 HTTP/1.1\r\nhost: h\r\n\r\n",
                "0".repeat(64)
            )
        };
        for (expires, date, status, code) in [
            ("60", "20130523T235800Z", 403, "AccessDenied"),
            ("604801", "20130523T235800Z", 400, "AuthorizationQueryParametersError"),
            ("-1", "20130523T235800Z", 400, "AuthorizationQueryParametersError"),
            ("x", "20130523T235800Z", 400, "AuthorizationQueryParametersError"),
            ("604800", "20130523T235800Z", 403, "SignatureDoesNotMatch"),
        ] {
            client.wire.send(link(expires, date));
            let seen = client.wire.response(false).await.unwrap();
            assert_eq!((seen.status, seen.code()), (status, code), "{expires}: {}", seen.text());
        }
    });
}
