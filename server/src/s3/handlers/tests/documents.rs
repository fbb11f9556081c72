//! How much room a document gets before it is read, and who may send one at all.

use super::*;

/// As long as the longest PUT.
const HUGE: u64 = 5 << 30;

/// A document's request with a digest, which some must have.
fn document(method: &'static str, target: &str) -> Call {
    let sum = STANDARD.encode(digest::digest(&digest::SHA256, b""));
    call(method, target).with("x-amz-checksum-sha256", &sum)
}

/// The head of a call that states another length than that of its body.
fn stating(call: &Call, len_bytes: u64) -> String {
    let stated = format!("content-length: {}\r\n", call.body.len());
    call.sign().0.replace(&stated, &format!("content-length: {len_bytes}\r\n"))
}

/// Story: the room for a document was asked for by the length that its client stated, so that a few requests, also of
/// nobody, took all the memory that writes have.
#[test]
fn a_document_that_is_said_to_be_too_long_gets_no_room_and_is_refused_unread() {
    let upload = format!("/bkt/k?uploadId={}", "01".repeat(16));
    for (method, target) in [
        ("PUT", "/bkt?tagging="),
        ("PUT", "/bkt?cors="),
        ("PUT", "/bkt?lifecycle="),
        ("PUT", "/bkt?acl="),
        ("PUT", "/bkt?policy="),
        ("PUT", "/bkt/k?acl="),
        ("PUT", "/bkt/k?tagging="),
        ("PUT", "/bkt/k?retention="),
        ("PUT", "/bkt/k?legal-hold="),
        ("POST", "/bkt/k?restore="),
        ("POST", "/bkt?delete="),
        ("POST", &upload),
    ] {
        with_client(|mut client| async move {
            client.expect(200, call("PUT", "/bkt/k").body("v")).await;
            client.ops.admitted.take();
            client.wire.send(stating(&document(method, target), HUGE));
            let seen = client.wire.response(false).await.unwrap();
            let code = if target.ends_with("policy=") { "PolicyTooLarge" } else { "MalformedXML" };
            assert_eq!((seen.status, seen.code()), (400, code), "{method} {target}");
            assert!(client.ops.admitted.take().is_empty(), "{method} {target}");
        });
    }
}

#[test]
fn a_document_of_unknown_length_gets_as_much_room_as_it_may_have() {
    with_client(|mut client| async move {
        client.expect(200, call("PUT", "/bkt/k").body("v")).await;
        let policy = r#"{"Statement":{"Effect":"Allow","Principal":"*","Action":"s3:PutObjectTagging",
            "Resource":"arn:aws:s3:::bkt/*"}}"#;
        client.expect(204, call("PUT", "/bkt?policy=").body(policy)).await;
        client.ops.admitted.take();
        let document = "<Tagging><TagSet></TagSet></Tagging>";
        client.wire.send(format!(
            "PUT /bkt/k?tagging HTTP/1.1\r\nhost: localhost:9000\r\ntransfer-encoding: chunked\r\n\r\n\
             {:x}\r\n{document}\r\n0\r\n\r\n",
            document.len()
        ));
        let seen = client.wire.response(false).await.unwrap();
        assert_eq!(seen.status, 200, "{}", seen.text());
        assert_eq!(client.ops.admitted.take(), [Some(128 * 1024)]);
        assert_eq!(client.ops.permits.get(), 0);
    });
}

#[test]
fn nobody_is_refused_before_a_document_is_read_where_no_policy_could_allow_it() {
    for (method, target) in [
        ("PUT", "/bkt/k?tagging="),
        ("PUT", "/bkt/k?retention="),
        ("PUT", "/bkt/k?legal-hold="),
        ("POST", "/bkt?delete="),
    ] {
        with_client(|mut client| async move {
            client.ops.admitted.take();
            client.wire.send(stating(&document(method, target).anonymous(), 1_000));
            let seen = client.wire.response(false).await.unwrap();
            assert_eq!((seen.status, seen.code()), (403, "AccessDenied"), "{method} {target}");
            assert!(client.ops.admitted.take().is_empty(), "{method} {target}");
        });
    }
}

#[test]
fn everyone_deletes_in_bulk_where_a_list_that_counts_lets_everyone_write() {
    with_client(|mut client| async move {
        let made = call("PUT", "/acls").with("x-amz-object-ownership", "ObjectWriter");
        client.expect(200, made.with("x-amz-acl", "public-read-write")).await;
        client.expect(200, call("PUT", "/acls/k").body("v")).await;
        let document = "<Delete><Object><Key>k</Key></Object></Delete>";
        let seen = client.expect(200, deletes("/acls?delete=", document).anonymous()).await;
        assert!(seen.text().contains("<Deleted><Key>k</Key></Deleted>"), "{}", seen.text());
    });
}
