//! Writes what the fuzzer begins with: `seeds FOLDER` makes a folder of files for every target.
//! Invariants: binary seeds come from the encoders of the product, so none is committed and none goes stale.
//! Not here: what the fuzzer finds by itself, which stays in the same folders (`run`).

use std::io;
use std::path::Path;

use fdb_schema::engine::embedded::{log, tree};
use fdb_schema::schema;
use shardstore_format::{
    DriveId, DriveIdentity, Extent, FormatPhase, MasterKeyFile, Member, MemberPlan, Membership, PoolId,
    Profile, VolumeClass, VolumeId, VolumeRecord, VolumeState,
};

// Built with coverage like the targets, so it needs the functions that coverage calls.
use libfuzzer_sys as _;

fn main() -> io::Result<()> {
    let Some(folder) = std::env::args_os().nth(1) else {
        return Err(io::Error::other("usage: seeds FOLDER"));
    };
    let folder = Path::new(&folder);
    for (target, seeds) in all() {
        let folder = folder.join(target);
        std::fs::create_dir_all(&folder)?;
        for (number, seed) in seeds.iter().enumerate() {
            std::fs::write(folder.join(format!("seed-{number:02}")), seed)?;
        }
    }
    Ok(())
}

/// Every target with its seeds.
fn all() -> Vec<(&'static str, Vec<Vec<u8>>)> {
    let (log, tree, rows) = (log::fuzz::seeds(), tree::fuzz::seeds(), schema::fuzz::seeds());
    vec![
        ("http_head", HEADS.iter().map(|head| [b"\x07", head.as_bytes()].concat()).collect()),
        ("http_body", bodies()),
        ("aws_chunked", aws_chunked_bodies()),
        ("s3_head", texts(S3_HEADS)),
        ("sigv4_header", signed_heads()),
        ("sigv4_query", texts(SIGNED_QUERIES)),
        ("xml", texts(DOCUMENTS)),
        ("policy", texts(POLICIES)),
        ("post_form", post_forms()),
        ("range_copy_source", range_copy_sources()),
        ("archives", archives()),
        ("page", pages()),
        ("volume", volumes()),
        ("identity", identities()),
        ("dump", server::ops::dump::fuzz::seeds()),
        ("extent", extents()),
        ("row_key", named(&rows, "key")),
        ("row_value", named(&rows, "value")),
        ("log_head", named(&log, "head")),
        ("log_record", named(&log, "record")),
        ("log_commits", named(&log, "commits")),
        ("log_term", named(&log, "term")),
        ("manifest", named(&tree, "manifest")),
        ("run_rows", named(&tree, "rows")),
        ("run_index", named(&tree, "index")),
        ("run_footer", named(&tree, "footer")),
        ("run", named(&tree, "run")),
    ]
}

/// A byte that says of which kind, then the archive.
fn archives() -> Vec<Vec<u8>> {
    let of_kind = |kind: u8, archive: Vec<u8>| [vec![kind], archive].concat();
    vec![of_kind(0, server::s3::tar::sample()), of_kind(1, server::s3::zip::sample())]
}

fn named(seeds: &[(&str, Vec<u8>)], name: &str) -> Vec<Vec<u8>> {
    seeds.iter().filter(|(found, _)| *found == name).map(|(_, seed)| seed.clone()).collect()
}

fn texts(texts: &[&str]) -> Vec<Vec<u8>> {
    texts.iter().map(|text| text.as_bytes().to_vec()).collect()
}

const HEADS: &[&str] = &[
    "GET / HTTP/1.1\r\nHost: x\r\n\r\n",
    "\r\nPUT /b/k?partNumber=1&uploadId=x HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\nExpect: 100-continue\r\n\r\nabc",
    "POST /b?delete HTTP/1.1\nHost: x\nTransfer-Encoding: chunked\nConnection: close, te\n\n0\r\n\r\n",
    "GET http://x/b/k HTTP/1.0\r\nConnection: keep-alive\r\nContent-Length: 1, 1\r\n\r\n",
    "OPTIONS * HTTP/1.1\r\nHost: x\r\nA:\t b \t\r\n\r\nGET / HTTP/1.1\r\n",
];

/// Step and length (0: chunked), then the body.
fn bodies() -> Vec<Vec<u8>> {
    let chunked = b"5\r\nhello\r\n6;name=value\r\n world\r\n0\r\nTrailer: x\r\n\r\nGET / HTTP/1.1\r\n";
    vec![[b"\x03\0", &chunked[..]].concat(), b"\x02\x05helloGET / HTTP/1.1".to_vec()]
}

/// Step, flags (1: signed, 2: trailers too) and length, then the body.
fn aws_chunked_bodies() -> Vec<Vec<u8>> {
    let signature = "0".repeat(64);
    let plain = "5\r\nhello\r\n0\r\nx-amz-checksum-crc32c:wdBDMA==\r\n\r\n";
    let signed = format!("5;chunk-signature={signature}\r\nhello\r\n0;chunk-signature={signature}\r\n\r\n");
    let trailer = format!(
        "5;chunk-signature={signature}\r\nhello\r\n0;chunk-signature={signature}\r\n\
         x-amz-checksum-crc32c:wdBDMA==\n\r\nx-amz-trailer-signature:{signature}\r\n\r\n"
    );
    [(0, plain), (1, signed.as_str()), (3, trailer.as_str())]
        .map(|(flags, body)| [&[3, flags, 5, 0], body.as_bytes()].concat())
        .to_vec()
}

const S3_HEADS: &[&str] = &[
    "GET /b/k?versionId=null&response-expires=x&partNumber=1\nrange: bytes=0-9\r\nif-match: \"a\"\r\n\
     if-modified-since: Wed, 21 Oct 2026 07:28:00 GMT",
    "PUT /b/k\nx-amz-meta-a: b\r\nx-amz-checksum-crc32c: wdBDMA==\r\ncontent-md5: 1B2M2Y8AsgTpgAmY7PhCfg==\r\n\
     x-amz-storage-class: STANDARD\r\nif-none-match: *\r\ncontent-type: text/plain\r\ncache-control: no-store",
    "PUT /b/k?partNumber=1&uploadId=x\nx-amz-copy-source: /b/k\r\nx-amz-copy-source-if-match: \"a\"",
    "GET /b?list-type=2&prefix=a%2F&delimiter=%2F&max-keys=10&continuation-token=YQ&encoding-type=url\n",
    "POST /b?delete\nx-amz-sdk-checksum-algorithm: SHA256\r\nx-amz-trailer: x-amz-checksum-sha256",
    "DELETE /b/k?uploadId=AAAAAAAAAAAAAAAAAAAAAA\nif-match: *\r\ndate: Wed, 21 Oct 2026 07:28:00 GMT",
    "GET //k?uploads&max-uploads=3&key-marker=%\n",
    "PUT /b/k\nx-amz-server-side-encryption: AES256\r\nx-amz-server-side-encryption-bucket-key-enabled: false",
    "PUT /b/k\nx-amz-server-side-encryption-customer-algorithm: AES256\r\n\
     x-amz-server-side-encryption-customer-key: pO3upElrwuEXSoFwCfnZPdSsmt/xWeFa0N9KgDijwVs=\r\n\
     x-amz-server-side-encryption-customer-key-md5: DWygnHRtgiJ77HCm+1rvHw==",
];

/// The value of Authorization, a line end, further fields.
fn signed_heads() -> Vec<Vec<u8>> {
    let scope = "Credential=AK/20130524/us-east-1/s3/aws4_request";
    let names = "host;x-amz-content-sha256;x-amz-date";
    let sign = |names: &str, fields: &str| {
        format!("AWS4-HMAC-SHA256 {scope}, SignedHeaders={names}, Signature={}\n{fields}", "0".repeat(64))
    };
    let seeds = [
        sign(names, ""),
        sign(&format!("a;{names};x-amz-meta-b"), "a:  b   c\r\na: d\r\nx-amz-meta-b: \t e"),
        "AWS AK:c2lnbmF0dXJl\ndate: Fri, 24 May 2013 00:00:00 GMT\r\ncontent-md5: x".to_owned(),
    ];
    seeds.map(String::into_bytes).to_vec()
}

const SIGNED_QUERIES: &[&str] = &[
    "X-Amz-Algorithm=AWS4-HMAC-SHA256&X-Amz-Credential=AK%2F20130524%2Fus-east-1%2Fs3%2Faws4_request&\
     X-Amz-Date=20130524T000000Z&X-Amz-Expires=86400&X-Amz-SignedHeaders=host&X-Amz-Signature=00&b=%20+&a",
    "AWSAccessKeyId=AK&Expires=1369353700&Signature=c2ln%2B&response-content-type=text%2Fplain&acl",
];

const DOCUMENTS: &[&str] = &[
    "<CORSConfiguration><CORSRule><ID>a</ID><AllowedHeader>x-*</AllowedHeader><AllowedMethod>GET</AllowedMethod>\
     <AllowedOrigin>*</AllowedOrigin><ExposeHeader>ETag</ExposeHeader><MaxAgeSeconds>3</MaxAgeSeconds></CORSRule>\
     </CORSConfiguration>",
    "<LifecycleConfiguration><Rule><ID>a</ID><Filter><And><Prefix>a</Prefix><Tag><Key>k</Key><Value>v</Value></Tag>\
     <ObjectSizeGreaterThan>5</ObjectSizeGreaterThan></And></Filter><Status>Enabled</Status><Expiration>\
     <Date>2030-01-01T00:00:00Z</Date></Expiration><NoncurrentVersionExpiration><NoncurrentDays>1</NoncurrentDays>\
     <NewerNoncurrentVersions>2</NewerNoncurrentVersions></NoncurrentVersionExpiration></Rule></LifecycleConfiguration>",
    "<WebsiteConfiguration><IndexDocument><Suffix>i</Suffix></IndexDocument><ErrorDocument><Key>e</Key></ErrorDocument>\
     <RoutingRules><RoutingRule><Condition><KeyPrefixEquals>a</KeyPrefixEquals><HttpErrorCodeReturnedEquals>404\
     </HttpErrorCodeReturnedEquals></Condition><Redirect><HostName>h</HostName><Protocol>http</Protocol><HttpRedirectCode>\
     302</HttpRedirectCode><ReplaceKeyPrefixWith>b</ReplaceKeyPrefixWith></Redirect></RoutingRule></RoutingRules>\
     </WebsiteConfiguration>",
    "<WebsiteConfiguration><RedirectAllRequestsTo><HostName>h</HostName></RedirectAllRequestsTo></WebsiteConfiguration>",
    "<ServerSideEncryptionConfiguration><Rule><ApplyServerSideEncryptionByDefault><SSEAlgorithm>AES256</SSEAlgorithm>\
     </ApplyServerSideEncryptionByDefault><BlockedEncryptionTypes><EncryptionType>SSE-C</EncryptionType>\
     </BlockedEncryptionTypes><BucketKeyEnabled>true</BucketKeyEnabled></Rule></ServerSideEncryptionConfiguration>",
    "<BucketLoggingStatus><LoggingEnabled><TargetBucket>b</TargetBucket><TargetPrefix>p</TargetPrefix>\
     <TargetGrants><Grant><Grantee><ID>a</ID></Grantee><Permission>READ</Permission></Grant></TargetGrants>\
     <TargetObjectKeyFormat><PartitionedPrefix><PartitionDateSource>EventTime</PartitionDateSource></PartitionedPrefix>\
     </TargetObjectKeyFormat></LoggingEnabled></BucketLoggingStatus>",
    "<ServerSideEncryptionConfiguration><Rule><ApplyServerSideEncryptionByDefault><SSEAlgorithm>AES256</SSEAlgorithm>\
     </ApplyServerSideEncryptionByDefault><BlockedEncryptionTypes><EncryptionType>SSE-C</EncryptionType>\
     </BlockedEncryptionTypes><BucketKeyEnabled>true</BucketKeyEnabled></Rule></ServerSideEncryptionConfiguration>",
    "<AccelerateConfiguration><Status>Suspended</Status></AccelerateConfiguration>",
    "<?xml version=\"1.0\"?><Delete xmlns=\"http://s3.amazonaws.com/doc/2006-03-01/\"><Object><Key>a&amp;b&#x41;</Key>\
     <VersionId>null</VersionId><ETag>\"x\"</ETag><Size>1</Size></Object><Quiet>true</Quiet></Delete>",
    "<CompleteMultipartUpload><Part><PartNumber>1</PartNumber><ETag>\"x\"</ETag>\
     <ChecksumCRC32C>wdBDMA==</ChecksumCRC32C></Part></CompleteMultipartUpload>",
    "<Tagging><TagSet><Tag><Key>a b</Key><Value>&amp;=</Value></Tag><Tag><Key>c</Key><Value/></Tag></TagSet></Tagging>",
    "<CreateBucketConfiguration><LocationConstraint>eu-west-1</LocationConstraint></CreateBucketConfiguration>",
    "<VersioningConfiguration><Status>Suspended</Status><MfaDelete>Disabled</MfaDelete></VersioningConfiguration>",
    "<ObjectLockConfiguration><ObjectLockEnabled>Enabled</ObjectLockEnabled><Rule><DefaultRetention><Mode>GOVERNANCE</Mode>\
     <Days>3</Days></DefaultRetention></Rule></ObjectLockConfiguration>",
    "<Retention><Mode>COMPLIANCE</Mode><RetainUntilDate>2030-01-01T00:00:00Z</RetainUntilDate></Retention>",
    "<LegalHold><Status>ON</Status></LegalHold>",
    "<!DOCTYPE d [<!ENTITY a \"b\">]><Delete><!-- c --><![CDATA[d]]>&a;</Delete>",
];

/// A piece's length and a form; and a policy.
fn post_forms() -> Vec<Vec<u8>> {
    let field = "--xyz\r\nContent-Disposition: form-data; name=\"key\"\r\n\r\nup/${filename}\r\n";
    let file = "--xyz\r\nContent-Disposition: form-data; name=\"file\"; filename=\"a;b.txt\"\r\n\r\nhel\r\nlo\r\n--xyz--\r\n";
    let policy = "{\"expiration\": \"2030-01-01T00:00:00Z\", \"conditions\": [{\"bucket\": \"b\"}, \
                  [\"starts-with\", \"$key\", \"\\$a\"], [\"content-length-range\", 0, \"9\"], [\"eq\", \"$acl\", \"x\"]]}";
    texts(&[&format!("\x03{field}{file}"), &format!("\x01{file}"), &format!("\x07{policy}")])
}

/// A copy source, a token, a key; and a size with a range.
fn range_copy_sources() -> Vec<Vec<u8>> {
    let size = 1_000u64.to_le_bytes();
    let ranges = ["bytes=0-9", "bytes=-5", "bytes=5-", "bytes=0-1,2-3", "BYTES = 1-99999999999999999999"];
    let ranges = ranges.map(|range| [&size[..], range.as_bytes()].concat());
    let sources = ["/bkt/a%20b?versionId=null", "bkt/k", "a2V5", "basalt-master-key-1 00ff"];
    ranges.into_iter().chain(texts(&sources)).collect()
}

/// Page length, data pages, k, m, payload length, payload.
fn pages() -> Vec<Vec<u8>> {
    let payload = [0u8; 19 + 100];
    [[1, 3, 4, 2, 0x28, 0x23, 0, 0], [16, 1, 1, 0, 0xc0, 0xff, 0, 0]]
        .map(|open| [&open[..], &payload].concat())
        .to_vec()
}

fn volumes() -> Vec<Vec<u8>> {
    let record = |class, state, drives: u128| {
        let profile = Profile { k: 1, m: u8::try_from(drives).unwrap_or(1) - 1 };
        VolumeRecord { id: VolumeId(5), profile, class, state, segments: (0..drives).map(DriveId).collect() }
            .encode()
    };
    vec![
        record(VolumeClass::Packed, VolumeState::Open, 1),
        record(VolumeClass::Large, VolumeState::Sealed { end_sector: 64 }, 3),
        record(VolumeClass::Run, VolumeState::Reclaimed, 6),
    ]
}

/// Whole files, and what lies between their magic and their checksum.
fn identities() -> Vec<Vec<u8>> {
    let member = |id, label: &str, plan| Member { drive: DriveId(id), label: label.into(), plan };
    let members = vec![member(1, "/d1", MemberPlan::Stay), member(2, "", MemberPlan::Leave)];
    let membership = Membership { revision: 3, members };
    let identity = DriveIdentity {
        phase: FormatPhase::Ready,
        pool: PoolId(7),
        drive: DriveId(1),
        profile: Profile { k: 1, m: 1 },
        created_unix_ms: 1_790_000_000_000,
        membership: membership.clone(),
    };
    let (identity, key) = (identity.encode(), MasterKeyFile { pool: PoolId(7), key: [7; 32] }.encode());
    let mut members = Vec::new();
    membership.encode(&mut members);
    let inner = |file: &[u8]| file[8..file.len() - 4].to_vec();
    vec![inner(&identity), inner(&key), identity, key, members]
}

/// k and m, then an extent.
fn extents() -> Vec<Vec<u8>> {
    let extent = |byte_in_stripe, len_bytes, page_len_sectors| {
        let mut out = vec![4, 2];
        Extent { volume: VolumeId(5), sector: 16, byte_in_stripe, len_bytes, page_len_sectors }
            .encode(&mut out);
        out
    };
    vec![extent(0, 1, 1), extent(70_000, 900_000, 16), extent(3, 1 << 40, 7)]
}

const POLICIES: &[&str] = &[
    r#"{"Version":"2012-10-17","Id":"a","Statement":[{"Sid":"1","Effect":"Allow","Principal":"*","Action":"s3:GetObject","Resource":"arn:aws:s3:::bkt/*"}]}"#,
    r#"{"Version":"2012-10-17","Statement":{"Effect":"Deny","NotPrincipal":{"AWS":["arn:aws:iam::a1:user/anna","a1"]},"NotAction":["s3:Get*","s3:List?ucket"],"NotResource":"arn:aws:s3:::bkt/${aws:username}/*","Condition":{"ForAnyValue:StringLikeIfExists":{"s3:prefix":["${aws:userid, 'x'}/*"]},"DateLessThan":{"aws:CurrentTime":"2026-11-28T00:00:00Z"},"IpAddress":{"aws:SourceIp":["10.0.0.0/8","::1"]},"NumericEquals":{"s3:max-keys":10},"Bool":{"aws:SecureTransport":false},"Null":{"aws:Referer":"true"},"ArnLike":{"aws:PrincipalArn":"arn:aws:iam::*:user/*"},"BinaryEquals":{"aws:UserAgent":"YWI="}}}}"#,
    "10.0.0.0/8",
    "[2001:db8::1]:80",
];
