//! What MinIO adds for archives, and listings with metadata, over the wire.

use std::io::Write as _;
use std::time::Duration;

use shardstore_reactor::Clock as _;

use super::*;
use crate::ops::api::{BucketName, ObjectKey, Operations as _};
use crate::s3::{tar, zip};

const EXTRACT: &str = "x-amz-meta-snowball-auto-extract";

fn get_member(target: &str) -> Call {
    call("GET", target).with("x-minio-extract", "true")
}

#[test]
fn a_tar_archive_is_unpacked_as_it_is_put_also_from_gzip() {
    with_client(|mut client| async move {
        let mut packed = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
        packed.write_all(&tar::sample()).unwrap();
        let bodies = [tar::sample(), packed.finish().unwrap()];
        for (number, body) in bodies.into_iter().enumerate() {
            let put = call("PUT", "/bkt/x.tar").body(body).with(EXTRACT, "true");
            let prefix = format!("to/{number}");
            client.expect(200, put.with("x-amz-meta-minio-snowball-prefix", &prefix)).await;
            let seen = client.expect(200, call("GET", &format!("/bkt/{prefix}/p/from-record"))).await;
            assert_eq!(seen.text(), "hello");
            let long = format!("/bkt/{prefix}/{}", "n".repeat(300));
            assert_eq!(client.expect(200, call("GET", &long)).await.text(), "");
        }
        client.refused(404, "NoSuchKey", call("GET", "/bkt/x.tar")).await;
        let put = call("PUT", "/bkt/x.tar").body("no archive".repeat(100)).with(EXTRACT, "true");
        client.refused(400, "BadRequest", put).await;
        assert_eq!(client.ops.permits.get(), 0);
    });
}

/// Members were written only when 16 waited or the archive ended, and what such a write had begun stood still while the
/// client did: a page of metadata under way, for which every other request of the core waited.
#[test]
fn members_are_written_while_the_rest_of_their_archive_is_still_to_come() {
    with_client(|mut client| async move {
        let archive = tar::sample();
        let put = call("PUT", "/bkt/x.tar").body(archive.clone()).with(EXTRACT, "true");
        let (head, _) = put.sign();
        client.wire.send(head);
        // A pax header and its record, then the first member: all of it, and nothing of the next.
        let (first, rest) = archive.split_at(4 * 512);
        client.wire.send(first);
        client.executor.sleep(Duration::from_secs(1)).await;
        let (bucket, key) =
            (BucketName::parse("bkt").unwrap(), ObjectKey::parse("p/from-record".to_owned()).unwrap());
        assert_eq!(client.ops.head_object(bucket, key, None).await.unwrap().size_bytes, 5);
        client.wire.send(rest);
        assert_eq!(client.wire.response(false).await.unwrap().status, 200);
    });
}

#[test]
fn members_of_a_zip_archive_are_read_and_listed_where_they_lie() {
    with_client(|mut client| async move {
        client.expect(200, call("PUT", "/bkt/a.zip").body(zip::sample())).await;
        let seen = client.expect(200, get_member("/bkt/a.zip/a.txt")).await;
        assert_eq!((seen.text(), seen.header("content-type")), ("hello", Some("text/plain; charset=utf-8")));
        assert_eq!(client.expect(200, get_member("/bkt/a.zip/dir/b")).await.text(), "");
        client.refused(404, "NoSuchKey", get_member("/bkt/a.zip/b")).await;
        client.refused(404, "NoSuchKey", call("GET", "/bkt/a.zip/a.txt")).await;
        let list = call("GET", "/bkt?delimiter=%2F&list-type=2&prefix=a.zip%2F");
        let seen = client.expect(200, list.with("x-minio-extract", "true")).await;
        assert!(seen.text().contains("<Key>a.zip/a.txt</Key>"), "{}", seen.text());
        assert!(seen.text().contains("<Prefix>a.zip/dir/</Prefix>"));
        assert_eq!(client.ops.permits.get(), 0);
    });
}

#[test]
fn listings_tell_headers_when_asked() {
    with_client(|mut client| async move {
        let put = call("PUT", "/bkt/k").with("x-amz-meta-a", "1<2").with("x-amz-tagging", "t=v");
        client.expect(200, put).await;
        let seen = client.expect(200, call("GET", "/bkt?list-type=2&metadata=true")).await;
        let expected =
            "<UserMetadata><x-amz-meta-a>1&lt;2</x-amz-meta-a></UserMetadata><UserTags>t=v</UserTags>";
        assert!(seen.text().contains(expected), "{}", seen.text());
        let seen = client.expect(200, call("GET", "/bkt?list-type=2")).await;
        assert!(!seen.text().contains("UserMetadata"));
    });
}
