//! `docs/s3-compatibility.md` says what the router and the handlers do: every operation is asked for, and the page must
//! match. `BASALT_WRITE_DOCS=1 cargo test -p server --lib compatibility` writes it anew.
#![allow(clippy::unwrap_used, reason = "tests")]

use std::cell::RefCell;

use super::*;
use crate::s3::route::Operation;

const PAGE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/s3-compatibility.md");

const INTRODUCTION: &str = "# S3 operations and their state

Written by a test from what the server answers (`server/src/s3/handlers/tests/compatibility.rs`), so it cannot lie: every
operation of S3's API reference is asked for, and `yes` means that it is carried out, or answered as AWS answers for a
bucket that never had it set. `only off` takes a document that says what is so anyway, and answers 501 to any other. `no` is
answered with 501 `NotImplemented`, and changes nothing. What conformance suites find is in [conformance.md](conformance.md),
how clients are set up in [clients.md](clients.md).

Completing an upload and copying a whole object go by reference and take milliseconds, so their status is the true one: AWS
may answer 200 early, keep the connection alive with blanks and fail in the body. Only a part copied from a range, and a copy
that is encrypted in another way than its source, move bytes, 5 GiB at most. Of encryption, what needs AWS's key management
service answers 501 ([encryption.md](encryption.md)).

| operation | request | state |
|---|---|---|
";

/// The least request that names the operation; `None` for what is no operation of S3's.
fn least_request(operation: Operation) -> Option<(&'static str, &'static str)> {
    Some(match operation {
        Operation::AbortMultipartUpload => ("DELETE", "/bkt/key?uploadId=x"),
        Operation::CompleteMultipartUpload => ("POST", "/bkt/key?uploadId=x"),
        Operation::CopyObject => ("PUT", "/bkt/copy"),
        Operation::CreateBucket => ("PUT", "/new-bucket"),
        Operation::CreateMultipartUpload => ("POST", "/bkt/key?uploads"),
        Operation::DeleteBucket => ("DELETE", "/no-such-bucket"),
        Operation::DeleteObject => ("DELETE", "/bkt/gone"),
        Operation::DeleteObjects => ("POST", "/bkt?delete"),
        Operation::GetObject => ("GET", "/bkt/key"),
        Operation::HeadBucket => ("HEAD", "/bkt"),
        Operation::HeadObject => ("HEAD", "/bkt/key"),
        Operation::ListBuckets => ("GET", "/"),
        Operation::ListObjects => ("GET", "/bkt"),
        Operation::ListObjectsV2 => ("GET", "/bkt?list-type=2"),
        Operation::ListParts => ("GET", "/bkt/key?uploadId=x"),
        Operation::OptionsPreflight => ("OPTIONS", "/bkt/key"),
        Operation::PostObject => ("POST", "/bkt"),
        Operation::PutObject => ("PUT", "/bkt/put"),
        Operation::UploadPart => ("PUT", "/bkt/key?partNumber=1&uploadId=x"),
        Operation::UploadPartCopy => ("PUT", "/bkt/key?partNumber=1&uploadId=x"),
        Operation::Unknown => return None,
        other => return Some(sub_resource_request(other)),
    })
}

/// What is asked by a sub-resource: found by trying all, so that the router has the last word.
fn sub_resource_request(operation: Operation) -> (&'static str, &'static str) {
    for &target in SUB_RESOURCES {
        for method in ["GET", "PUT", "DELETE", "POST"] {
            if routed(method, target, "") == operation {
                return (method, target);
            }
        }
    }
    panic!("{} has no request: name its sub-resource here", operation.name());
}

const SUB_RESOURCES: &[&str] = &[
    "/bkt?accelerate",
    "/bkt?acl",
    "/bkt?analytics&id=x",
    "/bkt?cors",
    "/bkt?encryption",
    "/bkt?intelligent-tiering&id=x",
    "/bkt?inventory&id=x",
    "/bkt?lifecycle",
    "/bkt?location",
    "/bkt?logging",
    "/bkt?metadataConfiguration",
    "/bkt?metadataTable",
    "/bkt?metrics&id=x",
    "/bkt?notification",
    "/bkt?object-lock",
    "/bkt?ownershipControls",
    "/bkt?policy",
    "/bkt?policyStatus",
    "/bkt?publicAccessBlock",
    "/bkt?replication",
    "/bkt?requestPayment",
    "/bkt?session",
    "/bkt?tagging",
    "/bkt?uploads",
    "/bkt?versioning",
    "/bkt?versions",
    "/bkt?website",
    "/bkt/key?acl",
    "/bkt/key?attributes",
    "/bkt/key?legal-hold",
    "/bkt/key?renameObject",
    "/bkt/key?restore",
    "/bkt/key?retention",
    "/bkt/key?select&select-type=2",
    "/bkt/key?tagging",
    "/bkt/key?torrent",
];

fn routed(method: &str, target: &str, headers: &str) -> Operation {
    let head = crate::s3::test_heads::head(&format!("{method} {target}"), headers);
    let address = crate::s3::address::Address::parse(Some("h"), head.raw_path(), &[]).unwrap();
    crate::s3::route::route(&head, &address)
}

/// A document that asks an operation for something to be done later, where one could be taken for nothing.
fn document_to_act_on(operation: Operation) -> Option<&'static str> {
    Some(match operation {
        Operation::PutBucketAccelerateConfiguration => {
            "<AccelerateConfiguration><Status>Enabled</Status></AccelerateConfiguration>"
        }
        Operation::PutBucketNotificationConfiguration => {
            "<NotificationConfiguration><EventBridgeConfiguration/></NotificationConfiguration>"
        }
        Operation::PutBucketRequestPayment => {
            "<RequestPaymentConfiguration><Payer>Requester</Payer></RequestPaymentConfiguration>"
        }
        _ => return None,
    })
}

fn is_copy(operation: Operation) -> bool {
    matches!(operation, Operation::CopyObject | Operation::UploadPartCopy)
}

#[test]
fn the_page_of_compatibility_says_what_the_server_answers() {
    let states = Rc::new(RefCell::new(Vec::new()));
    let found = Rc::clone(&states);
    with_client(|mut client| async move {
        client.expect(200, call("PUT", "/bkt/key").body("value")).await;
        for &operation in Operation::ALL {
            let Some((method, target)) = least_request(operation) else { continue };
            let mut request = call(method, target);
            let mut headers = "";
            if is_copy(operation) {
                request = request.with("x-amz-copy-source", "/bkt/key");
                headers = "x-amz-copy-source: /bkt/key\r\n";
            }
            assert_eq!(routed(method, target, headers), operation, "{method} {target}");
            let is_answered = client.send(request).await.status != 501;
            let acts = match document_to_act_on(operation) {
                Some(document) => client.send(call(method, target).body(document)).await.status != 501,
                None => is_answered,
            };
            let state = match (is_answered, acts) {
                (true, true) => "yes",
                (true, false) => "only off",
                (false, _) => "no",
            };
            found.borrow_mut().push((operation, method, target, state));
        }
    });
    let mut rows: Vec<String> = Vec::new();
    for (operation, method, target, state) in states.borrow().iter() {
        let target =
            target.replace("/bkt", "/BUCKET").replace("/key", "/KEY").replace("/new-bucket", "/BUCKET");
        let target =
            target.replace("/no-such-bucket", "/BUCKET").replace("/copy", "/KEY").replace("/gone", "/KEY");
        let target =
            target.replace("/put", "/KEY").replace("uploadId=x", "uploadId=ID").replace("id=x", "id=ID");
        let with = if is_copy(*operation) { " with `x-amz-copy-source`" } else { "" };
        rows.push(format!("| {} | `{method} {target}`{with} | {state} |\n", operation.name()));
    }
    rows.sort();
    let page = format!("{INTRODUCTION}{}", rows.concat());
    if std::env::var_os("BASALT_WRITE_DOCS").is_some() {
        std::fs::write(PAGE, &page).unwrap();
    }
    let written = std::fs::read_to_string(PAGE).unwrap_or_default();
    assert!(
        written == page,
        "docs/s3-compatibility.md is out of date: BASALT_WRITE_DOCS=1 cargo test -p server --lib compatibility"
    );
}
