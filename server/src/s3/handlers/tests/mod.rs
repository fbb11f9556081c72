//! The whole front end over an in-memory connection: what a client sends, what it gets.
#![allow(clippy::unwrap_used, reason = "tests")]
#![allow(clippy::wildcard_imports, reason = "the model names nearly every type of the operations")]

mod access;
mod archives;
mod aws_answers;
mod bucket_config;
mod compatibility;
mod documents;
mod encryption;
mod logging;
mod matrix;
mod memory_ops;
mod post;
mod website;

use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;

use aws_lc_rs::{digest, hmac};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use shardstore_reactor::Executor as _;
use shardstore_sim::{Sim, SimExecutor};

use self::memory_ops::MemoryOps;
use super::{DayLength, S3Config, S3Service};
use crate::auth::{AccountTable, Accounts, CoreAccounts};
use crate::http::test_wire::{Client, Seen, duplex};
use crate::http::{AcceptLimits, ConnectionLimits, CoreContext, serve_connection};
use crate::s3::access_log::AccessLog;
use crate::s3::bucket_access::Ownership;

const KEY: &str = "AKIDEXAMPLE";
const SECRET: &str = "secret";
/// 2013-05-24T00:00:00Z.
const NOW_MS: u64 = 1_369_353_600_000;
const DATE: &str = "20130524T000000Z";
const SCOPE: &str = "20130524/us-east-1/s3/aws4_request";

/// Root's canonical id in these tests.
const ROOT_ID: &str = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";

/// The canonical id and access key of a user; the secret is root's.
const USER_ID: &str = "fedcba9876543210fedcba9876543210fedcba9876543210fedcba9876543210";
const USER_KEY: &str = "AKIDUSER";

fn accounts() -> CoreAccounts {
    let mut table = AccountTable::new(ROOT_ID, "root");
    table.add_key(ROOT_ID, KEY, SECRET);
    table.add_account(USER_ID, "ann");
    table.add_key(USER_ID, USER_KEY, SECRET);
    Accounts::new(table).on_core()
}

fn hex_sha256(data: &[u8]) -> String {
    hex::encode(digest::digest(&digest::SHA256, data))
}

fn signing_key() -> hmac::Key {
    let mut key = hmac::Key::new(hmac::HMAC_SHA256, format!("AWS4{SECRET}").as_bytes());
    for part in ["20130524", "us-east-1", "s3", "aws4_request"] {
        key = hmac::Key::new(hmac::HMAC_SHA256, hmac::sign(&key, part.as_bytes()).as_ref());
    }
    key
}

/// A request to be signed; its target must be in canonical form already.
struct Call {
    method: &'static str,
    target: String,
    host: &'static str,
    headers: Vec<(String, String)>,
    payload_hash: Option<String>,
    access_key: &'static str,
    body: Vec<u8>,
}

fn call(method: &'static str, target: &str) -> Call {
    let (target, host) = (target.to_owned(), "localhost:9000");
    Call { method, target, host, headers: Vec::new(), payload_hash: None, access_key: KEY, body: Vec::new() }
}

impl Call {
    fn with(mut self, name: &str, value: &str) -> Call {
        self.headers.push((name.to_ascii_lowercase(), value.to_owned()));
        self
    }

    fn body(mut self, body: impl Into<Vec<u8>>) -> Call {
        self.body = body.into();
        self
    }

    fn host(mut self, host: &'static str) -> Call {
        self.host = host;
        self
    }

    /// Signed by the user and not by root.
    fn by_user(mut self) -> Call {
        self.access_key = USER_KEY;
        self
    }

    /// Not signed at all.
    fn anonymous(mut self) -> Call {
        self.access_key = "";
        self
    }

    /// Instead of the digest of the body.
    fn hashed(mut self, payload_hash: &str) -> Call {
        self.payload_hash = Some(payload_hash.to_owned());
        self
    }

    /// The head with its signature, and the signature.
    fn sign(&self) -> (String, String) {
        if self.access_key.is_empty() {
            let fields: String =
                self.headers.iter().map(|(name, value)| format!("{name}: {value}\r\n")).collect();
            let (line, len) = (format!("{} {}", self.method, self.target), self.body.len());
            let head =
                format!("{line} HTTP/1.1\r\nhost: {}\r\n{fields}content-length: {len}\r\n\r\n", self.host);
            return (head, String::new());
        }
        let payload_hash = self.payload_hash.clone().unwrap_or_else(|| hex_sha256(&self.body));
        let mut headers = self.headers.clone();
        headers.push(("host".to_owned(), self.host.to_owned()));
        headers.push(("x-amz-date".to_owned(), DATE.to_owned()));
        headers.push(("x-amz-content-sha256".to_owned(), payload_hash.clone()));
        headers.sort();
        let names: Vec<&str> = headers.iter().map(|(name, _)| name.as_str()).collect();
        let signed = names.join(";");
        let (path, query) = self.target.split_once('?').unwrap_or((&self.target, ""));
        let mut pairs: Vec<String> = query
            .split('&')
            .filter(|pair| !pair.is_empty())
            .map(|pair| if pair.contains('=') { pair.to_owned() } else { format!("{pair}=") })
            .collect();
        pairs.sort_by(|one, other| one.split_once('=').cmp(&other.split_once('=')));
        let lines: String = headers.iter().map(|(name, value)| format!("{name}:{value}\n")).collect();
        let query = pairs.join("&");
        let canonical = format!("{}\n{path}\n{query}\n{lines}\n{signed}\n{payload_hash}", self.method);
        let text = format!("AWS4-HMAC-SHA256\n{DATE}\n{SCOPE}\n{}", hex_sha256(canonical.as_bytes()));
        let signature = hex::encode(hmac::sign(&signing_key(), text.as_bytes()));
        let fields: String = headers.iter().map(|(name, value)| format!("{name}: {value}\r\n")).collect();
        let head = format!(
            "{} {} HTTP/1.1\r\n{fields}authorization: AWS4-HMAC-SHA256 Credential={}/{SCOPE}, \
             SignedHeaders={signed}, Signature={signature}\r\ncontent-length: {}\r\n\r\n",
            self.method,
            self.target,
            self.access_key,
            self.body.len()
        );
        (head, signature)
    }
}

/// A bulk delete with the digest that it must have.
fn deletes(target: &str, document: &str) -> Call {
    let sum = STANDARD.encode(digest::digest(&digest::SHA256, document.as_bytes()));
    call("POST", target).with("x-amz-checksum-sha256", &sum).body(document)
}

struct World {
    sim: Sim,
    ops: MemoryOps,
}

/// A client that signs.
struct S3Client {
    wire: Client,
    ops: MemoryOps,
    log: AccessLog,
    executor: SimExecutor,
}

impl S3Client {
    async fn send(&mut self, call: Call) -> Seen {
        let (head, _) = call.sign();
        self.wire.send(head);
        self.wire.send(&call.body);
        self.wire.response(call.method == "HEAD").await.unwrap()
    }

    async fn expect(&mut self, status: u16, call: Call) -> Seen {
        let what = format!("{} {}", call.method, call.target);
        let seen = self.send(call).await;
        assert_eq!(seen.status, status, "{what}: {}", String::from_utf8_lossy(&seen.body));
        seen
    }

    async fn refused(&mut self, status: u16, code: &str, call: Call) {
        let what = format!("{} {}", call.method, call.target);
        let seen = self.send(call).await;
        assert_eq!((seen.status, seen.code()), (status, code), "{what}");
        assert_eq!(seen.header("content-type"), Some("application/xml"));
        assert!(seen.text().contains(seen.header("x-amz-request-id").unwrap()));
    }
}

/// Runs `test` with a client whose bucket `bkt` exists.
fn with_client<F: Future<Output = ()>>(test: impl FnOnce(S3Client) -> F) {
    let sim = Sim::new(fastrand::u64(..));
    sim.set_unix_ms(NOW_MS);
    let world = World { sim, ops: MemoryOps::default() };
    let executor = world.sim.executor();
    let config = S3Config {
        region: "us-east-1".to_owned(),
        domains: vec!["localhost".to_owned()],
        website_domains: vec!["www.site.test".to_owned(), "web.test".to_owned()],
        trusted_proxies: Vec::new(),
        object_ownership: Ownership::default(),
        lifecycle_day: DayLength::default(),
        storage_classes: Vec::new(),
    };
    let log = AccessLog::new(Arc::from(ROOT_ID), 1 << 20);
    let service = Rc::new(S3Service::new(world.ops.clone(), accounts(), config, log.clone()));
    let context = CoreContext::new(executor.clone(), ConnectionLimits::default(), AcceptLimits::default());
    let (wire, server) = duplex(1 << 20);
    executor.spawn(serve_connection(server, SocketAddr::from(([127, 0, 0, 1], 1)), context, service));
    let mut client = S3Client { wire, ops: world.ops.clone(), log, executor: executor.clone() };
    world.sim.block_on(async move {
        client.expect(200, call("PUT", "/bkt")).await;
        test(client).await;
    });
}

#[test]
fn an_object_comes_back_as_it_was_put() {
    with_client(|mut client| async move {
        let put = call("PUT", "/bkt/a//b%20c").body("hello").with("content-type", "text/plain");
        let put = put.with("x-amz-meta-tag", "v").with("cache-control", "no-cache");
        let seen = client.expect(200, put).await;
        assert_eq!(seen.header("etag"), Some("\"5d41402abc4b2a76b9719d911017c592\""));
        assert_eq!(seen.header("content-length"), Some("0"));
        assert_eq!(seen.header("x-amz-checksum-type"), Some("FULL_OBJECT"));
        let seen = client.expect(200, call("GET", "/bkt/a//b%20c")).await;
        assert_eq!(seen.text(), "hello");
        for (name, value) in [
            ("etag", "\"5d41402abc4b2a76b9719d911017c592\""),
            ("content-type", "text/plain"),
            ("x-amz-meta-tag", "v"),
            ("cache-control", "no-cache"),
            ("last-modified", "Sun, 06 Nov 1994 08:49:37 GMT"),
            ("accept-ranges", "bytes"),
        ] {
            assert_eq!(seen.header(name), Some(value));
        }
        assert_eq!(seen.header("x-amz-checksum-crc64nvme"), None);
        let head = call("HEAD", "/bkt/a//b%20c").with("x-amz-checksum-mode", "enabled");
        let seen = client.expect(200, head).await;
        assert_eq!(seen.header("content-length"), Some("5"));
        assert!(seen.header("x-amz-checksum-crc64nvme").is_some());
        client.expect(204, call("DELETE", "/bkt/a//b%20c")).await;
        client.expect(204, call("DELETE", "/bkt/a//b%20c")).await;
        client.refused(404, "NoSuchKey", call("GET", "/bkt/a//b%20c")).await;
        let seen = client.expect(404, call("HEAD", "/bkt/a//b%20c")).await;
        assert_eq!(seen.header("x-minio-error-code"), Some("NoSuchKey"));
        assert_eq!(client.ops.permits.get(), 0);
    });
}

#[test]
fn ranges_and_parts_answer_as_aws_does() {
    with_client(|mut client| async move {
        client.expect(200, call("PUT", "/bkt/k").body(vec![b'x'; 5000])).await;
        client.expect(200, call("PUT", "/bkt/empty")).await;
        let range = |text: &str| call("GET", "/bkt/k").with("range", text);
        let seen = client.expect(206, range("bytes=10-2019")).await;
        assert_eq!((seen.body.len(), seen.header("content-range")), (2010, Some("bytes 10-2019/5000")));
        let seen = client.expect(206, range("bytes=-7")).await;
        assert_eq!(seen.header("content-range"), Some("bytes 4993-4999/5000"));
        assert_eq!(client.expect(200, range("bytes=0-1,4-5")).await.body.len(), 5000);
        let seen = client.expect(416, range("bytes=5000-")).await;
        assert_eq!((seen.code(), seen.header("content-range")), ("InvalidRange", Some("bytes */5000")));
        let seen = client.expect(416, call("GET", "/bkt/empty").with("range", "bytes=0-9")).await;
        assert!(seen.text().contains("<ActualObjectSize>0</ActualObjectSize>"));
        assert_eq!(seen.header("content-type"), Some("application/xml"));
        let seen = client.expect(206, call("HEAD", "/bkt/k").with("range", "bytes=-5")).await;
        assert_eq!(seen.header("content-range"), Some("bytes 4995-4999/5000"));
        assert_eq!(seen.header("content-length"), Some("5"));
        for method in ["GET", "HEAD"] {
            let seen = client.expect(206, call(method, "/bkt/k?partNumber=1")).await;
            assert_eq!(seen.header("content-range"), Some("bytes 0-4999/5000"));
        }
        client.refused(416, "InvalidPartNumber", call("GET", "/bkt/k?partNumber=2")).await;
        client.refused(400, "InvalidArgument", call("GET", "/bkt/k?partNumber=0")).await;
        let partial = range("bytes=0-0").with("x-amz-checksum-mode", "ENABLED");
        assert_eq!(client.expect(206, partial).await.header("x-amz-checksum-crc64nvme"), None);
        assert_eq!(client.ops.permits.get(), 0);
    });
}

#[test]
fn conditions_of_reads_and_writes_hold() {
    with_client(|mut client| async move {
        client.expect(200, call("PUT", "/bkt/k").body("hello").with("if-none-match", "*")).await;
        let again = call("PUT", "/bkt/k").body("other").with("if-none-match", "*");
        client.refused(412, "PreconditionFailed", again).await;
        let tag = "\"5d41402abc4b2a76b9719d911017c592\"";
        let seen = client.expect(304, call("GET", "/bkt/k").with("if-none-match", tag)).await;
        assert_eq!((seen.header("etag"), seen.header("content-length")), (Some(tag), None));
        client.refused(412, "PreconditionFailed", call("GET", "/bkt/k").with("if-match", "\"x\"")).await;
        client.expect(200, call("GET", "/bkt/k").with("if-match", tag)).await;
        client.expect(200, call("PUT", "/bkt/k").body("new").with("if-match", tag)).await;
    });
}

#[test]
fn a_body_that_is_not_what_was_said_stores_nothing() {
    with_client(|mut client| async move {
        let put = |body: &str| call("PUT", "/bkt/k").body(body);
        client.refused(400, "BadDigest", put("a").with("content-md5", "1B2M2Y8AsgTpgAmY7PhCfg==")).await;
        client.refused(400, "InvalidDigest", put("").with("content-md5", "short")).await;
        client.refused(400, "BadDigest", put("a").with("x-amz-checksum-crc32", "AAAAAA==")).await;
        client.refused(400, "InvalidRequest", put("").with("x-amz-checksum-crc99", "AAAA")).await;
        let other = hex_sha256(b"other");
        client.refused(400, "XAmzContentSHA256Mismatch", put("a").hashed(&other)).await;
        client.refused(404, "NoSuchKey", call("GET", "/bkt/k")).await;
        client.refused(501, "NotImplemented", put("").with("x-amz-server-side-encryption", "aws:kms")).await;
        let big = "v".repeat(3000);
        client.refused(400, "MetadataTooLarge", put("").with("x-amz-meta-a", &big)).await;
    });
}

#[test]
fn signed_aws_chunked_framing_and_trailers_are_taken_off() {
    with_client(|mut client| async move {
        let crc = "x-amz-checksum-crc32c:4waSgw==\n";
        let mut put = call("PUT", "/bkt/k")
            .hashed("STREAMING-AWS4-HMAC-SHA256-PAYLOAD-TRAILER")
            .with("content-encoding", "gzip,aws-chunked")
            .with("x-amz-decoded-content-length", "9")
            .with("x-amz-trailer", "x-amz-checksum-crc32c");
        let mut previous = put.sign().1;
        let mut wire = Vec::new();
        for piece in ["1234567", "89", ""] {
            let empty = hex_sha256(b"");
            let text = format!(
                "AWS4-HMAC-SHA256-PAYLOAD\n{DATE}\n{SCOPE}\n{previous}\n{empty}\n{}",
                hex_sha256(piece.as_bytes())
            );
            previous = hex::encode(hmac::sign(&signing_key(), text.as_bytes()));
            wire.extend_from_slice(format!("{:x};chunk-signature={previous}\r\n", piece.len()).as_bytes());
            if !piece.is_empty() {
                wire.extend_from_slice(format!("{piece}\r\n").as_bytes());
            }
        }
        let text =
            format!("AWS4-HMAC-SHA256-TRAILER\n{DATE}\n{SCOPE}\n{previous}\n{}", hex_sha256(crc.as_bytes()));
        let last = hex::encode(hmac::sign(&signing_key(), text.as_bytes()));
        wire.extend_from_slice(format!("{crc}\r\nx-amz-trailer-signature:{last}\r\n\r\n").as_bytes());
        put.body = wire.clone();
        client.expect(200, put).await;
        let get = call("GET", "/bkt/k").with("x-amz-checksum-mode", "enabled");
        let seen = client.expect(200, get).await;
        assert_eq!((seen.text(), seen.header("content-encoding")), ("123456789", Some("gzip")));
        assert_eq!(seen.header("x-amz-checksum-crc32c"), Some("4waSgw=="));

        let unsigned = |crc: &str| {
            call("PUT", "/bkt/u")
                .hashed("STREAMING-UNSIGNED-PAYLOAD-TRAILER")
                .with("x-amz-decoded-content-length", "9")
                .with("x-amz-trailer", "x-amz-checksum-crc32c")
                .body(format!("9\r\n123456789\r\n0\r\nx-amz-checksum-crc32c:{crc}\r\n\r\n"))
        };
        client.expect(200, unsigned("4waSgw==")).await;
        client.refused(400, "BadDigest", unsigned("AAAAAA==")).await;
        client.refused(400, "InvalidRequest", unsigned("?")).await;
        let unannounced = call("PUT", "/bkt/u")
            .hashed("STREAMING-UNSIGNED-PAYLOAD-TRAILER")
            .with("x-amz-decoded-content-length", "9")
            .body("9\r\n123456789\r\n0\r\nx-amz-checksum-crc32c:4waSgw==\r\n\r\n".to_owned());
        client.refused(400, "MalformedTrailerError", unannounced).await;
        let unsized_body = call("PUT", "/bkt/u").hashed("STREAMING-UNSIGNED-PAYLOAD-TRAILER");
        client.refused(411, "MissingContentLength", unsized_body).await;
        wire[100] ^= 1;
        let mut forged = call("PUT", "/bkt/k")
            .hashed("STREAMING-AWS4-HMAC-SHA256-PAYLOAD-TRAILER")
            .with("x-amz-decoded-content-length", "9");
        forged.body = wire;
        client.refused(403, "SignatureDoesNotMatch", forged).await;
    });
}

#[test]
fn listings_page_and_roll_up() {
    with_client(|mut client| async move {
        for key in ["a", "a%20b", "d/1", "d/2", "e/1", "z"] {
            client.expect(200, call("PUT", &format!("/bkt/{key}"))).await;
        }
        let list = "/bkt?delimiter=%2F&encoding-type=url&list-type=2&max-keys=3";
        let first = client.expect(200, call("GET", list)).await;
        let text = first.text();
        assert!(text.contains("<Key>a%20b</Key>"), "{text}");
        assert!(text.contains("<CommonPrefixes><Prefix>d/</Prefix></CommonPrefixes>"), "{text}");
        assert!(text.contains("<KeyCount>3</KeyCount>") && text.contains("<IsTruncated>true</IsTruncated>"));
        let start = text.find("<NextContinuationToken>").unwrap() + 23;
        let token = &text[start..text.find("</NextContinuationToken>").unwrap()];
        let next = format!("{list}&continuation-token={token}");
        let second = client.expect(200, call("GET", &next)).await;
        assert!(second.text().contains("<Prefix>e/</Prefix>") && second.text().contains("<Key>z</Key>"));
        assert!(second.text().contains("<IsTruncated>false</IsTruncated>"));
        let v1 = client.expect(200, call("GET", "/bkt?delimiter=%2F&marker=a&max-keys=2")).await;
        assert!(v1.text().contains("<NextMarker>d/</NextMarker>"), "{}", v1.text());
        let none = client.expect(200, call("GET", "/bkt?max-keys=0")).await;
        assert!(none.text().contains("<IsTruncated>false</IsTruncated>"));
        client.refused(400, "InvalidArgument", call("GET", "/bkt?max-keys=x")).await;
        client.refused(400, "InvalidArgument", call("GET", "/bkt?continuation-token=%21&list-type=2")).await;
        let versions = client.expect(200, call("GET", "/bkt?versions=&max-keys=1")).await;
        assert!(versions.text().contains("<VersionId>null</VersionId><IsLatest>true</IsLatest>"));
        assert!(versions.text().contains("<NextKeyMarker>a</NextKeyMarker>"));
        client.refused(404, "NoSuchBucket", call("GET", "/none?list-type=2")).await;
    });
}

#[test]
fn many_keys_are_deleted_in_one_request() {
    with_client(|mut client| async move {
        client.expect(200, call("PUT", "/bkt/a")).await;
        client.expect(200, call("PUT", "/bkt/b")).await;
        let document = "<Delete><Object><Key>a</Key><VersionId>null</VersionId></Object><Object><Key>b</Key>\
             <VersionId>123</VersionId></Object><Object><Key>none</Key></Object></Delete>";
        client.refused(400, "InvalidRequest", call("POST", "/bkt?delete=").body(document)).await;
        let delete = |document: &str| deletes("/bkt?delete=", document);
        let seen = client.expect(200, delete(document)).await;
        let text = seen.text();
        assert!(text.contains("<Deleted><Key>a</Key><VersionId>null</VersionId></Deleted>"), "{text}");
        assert!(text.contains("<Key>b</Key><VersionId>123</VersionId><Code>NoSuchVersion</Code>"), "{text}");
        assert!(text.contains("<Deleted><Key>none</Key></Deleted>"), "{text}");
        client.refused(404, "NoSuchKey", call("GET", "/bkt/a")).await;
        client.refused(400, "MalformedXML", delete("<Delete>")).await;
        client.refused(409, "BucketNotEmpty", call("DELETE", "/bkt")).await;
    });
}

#[test]
fn an_upload_in_parts_becomes_one_object() {
    with_client(|mut client| async move {
        let started = client.expect(200, call("POST", "/bkt/big?uploads=")).await;
        let text = started.text();
        let start = text.find("<UploadId>").unwrap() + 10;
        let upload = text[start..text.find("</UploadId>").unwrap()].to_owned();
        let mut parts = String::new();
        for (number, body) in [(1, "hello "), (2, "world")] {
            let target = format!("/bkt/big?partNumber={number}&uploadId={upload}");
            let seen = client.expect(200, call("PUT", &target).body(body)).await;
            let tag = seen.header("etag").unwrap();
            parts.push_str(&format!("<Part><PartNumber>{number}</PartNumber><ETag>{tag}</ETag></Part>"));
        }
        let listed = client.expect(200, call("GET", &format!("/bkt/big?uploadId={upload}"))).await;
        assert!(listed.text().contains("<PartNumber>2</PartNumber>"));
        let uploads = client.expect(200, call("GET", "/bkt?uploads=")).await;
        assert!(uploads.text().contains(&format!("<UploadId>{upload}</UploadId>")));
        let target = format!("/bkt/big?uploadId={upload}");
        let document = format!("<CompleteMultipartUpload>{parts}</CompleteMultipartUpload>");
        let done = client.expect(200, call("POST", &target).body(document)).await;
        assert!(done.text().contains("-2&quot;</ETag>"), "{}", done.text());
        assert!(done.text().contains("<Location>http://localhost:9000/bkt/big</Location>"));
        let seen = client.expect(200, call("GET", "/bkt/big")).await;
        assert_eq!(seen.text(), "hello world");
        let seen = client.expect(206, call("GET", "/bkt/big?partNumber=1")).await;
        assert_eq!(seen.header("x-amz-mp-parts-count"), Some("2"));
        client.refused(404, "NoSuchUpload", call("DELETE", &target)).await;
        client.refused(404, "NoSuchUpload", call("GET", "/bkt/big?uploadId=nonsense")).await;
        let wrong = format!("/bkt/big?partNumber=10001&uploadId={upload}");
        client.refused(400, "InvalidArgument", call("PUT", &wrong)).await;
    });
}

#[test]
fn copies_keep_or_replace_what_the_source_had() {
    with_client(|mut client| async move {
        let put = call("PUT", "/bkt/s").body("hello").with("x-amz-meta-a", "1");
        client.expect(200, put).await;
        let copy = |target: &str| call("PUT", target).with("x-amz-copy-source", "/bkt/s");
        let seen = client.expect(200, copy("/bkt/t")).await;
        assert!(seen.text().contains("<CopyObjectResult") && seen.text().contains("<ETag>&quot;5d41402a"));
        assert_eq!(client.expect(200, call("GET", "/bkt/t")).await.header("x-amz-meta-a"), Some("1"));
        let replace = copy("/bkt/t").with("x-amz-metadata-directive", "REPLACE").with("x-amz-meta-b", "2");
        client.expect(200, replace).await;
        let seen = client.expect(200, call("GET", "/bkt/t")).await;
        assert_eq!((seen.header("x-amz-meta-a"), seen.header("x-amz-meta-b")), (None, Some("2")));
        client.refused(400, "InvalidRequest", copy("/bkt/s")).await;
        let stale = copy("/bkt/t").with("x-amz-copy-source-if-match", "\"x\"");
        client.refused(412, "PreconditionFailed", stale).await;
        let missing = call("PUT", "/bkt/t").with("x-amz-copy-source", "bkt/none");
        client.refused(404, "NoSuchKey", missing).await;
    });
}

#[test]
fn buckets_and_what_cannot_be_configured_answer_truthfully() {
    with_client(|mut client| async move {
        client.refused(409, "BucketAlreadyOwnedByYou", call("PUT", "/bkt")).await;
        client.refused(400, "InvalidBucketName", call("PUT", "/BAD")).await;
        let seen = client.expect(200, call("HEAD", "/bkt")).await;
        assert_eq!(seen.header("x-amz-bucket-region"), Some("us-east-1"));
        client.expect(404, call("HEAD", "/none")).await;
        let seen = client.expect(200, call("GET", "/")).await;
        assert!(seen.text().contains("<Bucket><Name>bkt</Name><CreationDate>1994-11-06T08:49:37.000Z<"));
        let seen = client.expect(200, call("GET", "/bkt?location=")).await;
        assert!(seen.text().ends_with("\"></LocationConstraint>"));
        client.expect(200, call("GET", "/bkt?versioning=")).await;
        for (target, code) in [
            ("/bkt?policy=", "NoSuchBucketPolicy"),
            ("/bkt?tagging=", "NoSuchTagSet"),
            ("/bkt?lifecycle=", "NoSuchLifecycleConfiguration"),
            ("/bkt?cors=", "NoSuchCORSConfiguration"),
            ("/bkt?encryption=", "ServerSideEncryptionConfigurationNotFoundError"),
            ("/bkt?object-lock=", "ObjectLockConfigurationNotFoundError"),
            ("/none?policy=", "NoSuchBucket"),
        ] {
            client.refused(404, code, call("GET", target)).await;
        }
        for call in [call("GET", "/bkt?nonsense"), call("PUT", "/bkt?replication=")] {
            client.refused(501, "NotImplemented", call).await;
        }
        client.expect(204, call("DELETE", "/bkt")).await;
    });
}

#[test]
fn a_bucket_keeps_the_tags_that_it_was_given_and_refuses_wrong_ones() {
    with_client(|mut client| async move {
        let tags = |inside: &str| format!("<Tagging><TagSet>{inside}</TagSet></Tagging>").into_bytes();
        let put = |body: Vec<u8>| call("PUT", "/bkt?tagging=").body(body);
        let good = "<Tag><Key>a</Key><Value>1</Value></Tag><Tag><Key>b c</Key><Value>+-=._:/@</Value></Tag>";
        client.expect(204, put(tags(good))).await;
        let seen = client.expect(200, call("GET", "/bkt?tagging=")).await;
        assert!(seen.text().contains(good), "{}", seen.text());
        client.refused(400, "MalformedXML", put(b"<Tagging/>".to_vec())).await;
        for wrong in ["<Tag><Key>aws:x</Key><Value/></Tag>", "<Tag><Key>a</Key><Value>b&amp;c</Value></Tag>"]
        {
            client.refused(400, "InvalidTag", put(tags(wrong))).await;
        }
        client.expect(204, call("DELETE", "/bkt?tagging=")).await;
        client.refused(404, "NoSuchTagSet", call("GET", "/bkt?tagging=")).await;
        client.refused(404, "NoSuchBucket", call("GET", "/none?tagging=")).await;
    });
}

#[test]
fn a_full_server_says_slow_down_before_it_reads_the_body() {
    with_client(|mut client| async move {
        client.ops.full.set(true);
        let put = call("PUT", "/bkt/k").with("expect", "100-continue").body(vec![0; 1 << 20]);
        client.wire.send(put.sign().0);
        let seen = client.wire.response(false).await.unwrap();
        assert_eq!((seen.status, seen.code()), (503, "SlowDown"));
        assert_eq!(seen.header("retry-after"), Some("1"));
        assert!(client.wire.ended().await);
    });
}

#[test]
fn unauthenticated_requests_get_nothing() {
    with_client(|mut client| async move {
        client.wire.send("GET /bkt/k HTTP/1.1\r\nHost: h\r\n\r\n");
        let seen = client.wire.response(false).await.unwrap();
        assert_eq!((seen.status, seen.code()), (403, "AccessDenied"));
        let (head, signature) = call("GET", "/bkt/k").sign();
        client.wire.send(head.replace(&signature, &"0".repeat(64)));
        let seen = client.wire.response(false).await.unwrap();
        assert_eq!((seen.status, seen.code()), (403, "SignatureDoesNotMatch"));
        assert!(seen.text().contains("<StringToSign>AWS4-HMAC-SHA256\n20130524T000000Z\n"));
        let region = head.replace("/us-east-1/", "/eu-west-1/");
        client.wire.send(region);
        let seen = client.wire.response(false).await.unwrap();
        assert_eq!((seen.status, seen.code()), (400, "AuthorizationHeaderMalformed"));
        assert!(seen.text().contains("<Region>us-east-1</Region>"));
    });
}

#[test]
fn the_host_may_name_the_bucket() {
    with_client(|mut client| async move {
        client.expect(200, call("PUT", "/bkt/k").body("hello")).await;
        let seen = client.expect(200, call("GET", "/k").host("bkt.localhost:9000")).await;
        assert_eq!(seen.text(), "hello");
        let seen = client.expect(200, call("GET", "/").host("bkt.localhost")).await;
        assert!(seen.text().contains("<Name>bkt</Name>"));
    });
}

#[test]
fn a_user_has_buckets_of_its_own_and_no_others() {
    with_client(|mut client| async move {
        client.expect(200, call("PUT", "/bkt/k").body("roots")).await;
        client.expect(200, call("PUT", "/anns").by_user()).await;
        client.expect(200, call("PUT", "/anns/k").body("hers").by_user()).await;
        client.refused(403, "AccessDenied", call("GET", "/bkt/k").by_user()).await;
        client.refused(403, "AccessDenied", call("DELETE", "/bkt").by_user()).await;
        client.refused(404, "NoSuchBucket", call("GET", "/none/k").by_user()).await;
        let steal = call("PUT", "/anns/stolen").with("x-amz-copy-source", "/bkt/k").by_user();
        client.refused(403, "AccessDenied", steal).await;
        client.refused(409, "BucketAlreadyExists", call("PUT", "/bkt").by_user()).await;
        client.refused(409, "BucketAlreadyOwnedByYou", call("PUT", "/anns").by_user()).await;
        assert_eq!(client.expect(200, call("GET", "/anns/k")).await.text(), "hers");

        let hers = client.expect(200, call("GET", "/").by_user()).await.text().to_owned();
        assert!(hers.contains(&format!("<ID>{USER_ID}</ID><DisplayName>ann</DisplayName>")), "{hers}");
        assert!(hers.contains("<Name>anns</Name>") && !hers.contains("<Name>bkt</Name>"), "{hers}");
        let all = client.expect(200, call("GET", "/")).await.text().to_owned();
        assert!(all.contains("<Name>anns</Name>") && all.contains("<Name>bkt</Name>"), "{all}");
        let owner = format!("<Owner><ID>{USER_ID}</ID><DisplayName>ann</DisplayName></Owner>");
        for target in ["/anns", "/anns?list-type=2&fetch-owner=true", "/anns?versions=", "/anns?acl="] {
            let seen = client.expect(200, call("GET", target)).await;
            assert!(seen.text().contains(&owner), "{target}: {}", seen.text());
        }
        client.expect(200, call("POST", "/anns/big?uploads=")).await;
        let uploads = client.expect(200, call("GET", "/anns?uploads=").by_user()).await;
        assert!(uploads.text().contains(&format!("<Initiator><ID>{ROOT_ID}</ID>")), "{}", uploads.text());
        assert!(uploads.text().contains(&owner), "{}", uploads.text());
    });
}
