//! What requests of a logged bucket leave behind, and which configurations are taken.
use std::time::Duration;

use futures_channel::oneshot;
use shardstore_reactor::Clock as _;

use super::bucket_config::Marks;
use super::*;
use crate::ops::api::{ACL_HEADER, BucketName, ConfigKind, ListObjects, ObjectKey, Operations};
use crate::s3::access_log::Delivery;
use crate::s3::lifecycle_pass::LifecyclePass;

/// Of deliveries.
const INTERVAL: Duration = Duration::from_secs(30);

const POLICY: &str = r#"{"Statement":{"Effect":"Allow","Principal":{"Service":"logging.s3.amazonaws.com"},
    "Action":"s3:PutObject","Resource":"arn:aws:s3:::logs/*","Condition":{
        "ArnLike":{"aws:SourceArn":"arn:aws:s3:::bkt"},"StringEquals":{"aws:SourceAccount":"ROOT"}}}}"#;

fn status(inside: &str) -> String {
    format!("<BucketLoggingStatus>{inside}</BucketLoggingStatus>")
}

fn to_logs(more: &str) -> String {
    let target = "<TargetBucket>logs</TargetBucket><TargetPrefix>web/</TargetPrefix>";
    status(&format!("<LoggingEnabled>{target}{more}</LoggingEnabled>"))
}

impl S3Client {
    /// Has `bkt` logged into `logs`, which lets that be.
    async fn log_bucket(&mut self, more: &str) {
        self.expect(200, call("PUT", "/logs")).await;
        let policy = POLICY.replace("ROOT", ROOT_ID);
        self.expect(204, call("PUT", "/logs?policy").body(policy)).await;
        self.expect(200, call("PUT", "/bkt?logging").body(to_logs(more))).await;
    }

    fn delivery(&self) -> Delivery<MemoryOps, SimExecutor> {
        let log = self.log.clone();
        Delivery::new(self.ops.clone(), self.executor.clone(), log, "us-east-1", INTERVAL)
    }

    async fn deliver(&self) {
        self.delivery().deliver_all().await;
    }

    /// Delivers from now on, until the log is stopped; then it says so.
    fn deliver_always(&self) -> oneshot::Receiver<()> {
        let (done, ended) = oneshot::channel();
        self.executor.spawn(self.delivery().run(done));
        ended
    }

    async fn pass_s(&self, seconds: u64) {
        self.executor.sleep(Duration::from_secs(seconds)).await;
    }

    async fn keys_of(&self, bucket: &str) -> Vec<String> {
        let list = ListObjects {
            bucket: BucketName::parse(bucket).unwrap(),
            prefix: bytes::Bytes::new(),
            delimiter: None,
            after: bytes::Bytes::new(),
            max_keys: 1_000,
            with_headers: false,
            with_acl: false,
        };
        let page = self.ops.list_objects(list).await.unwrap();
        page.objects.iter().map(|object| String::from_utf8(object.key.to_vec()).unwrap()).collect()
    }

    /// The lines of all logs that were delivered, each from its operation on, without what differs from run to run.
    async fn lines(&mut self) -> Vec<String> {
        let mut lines = Vec::new();
        for key in self.keys_of("logs").await {
            let seen = self.expect(200, call("GET", &format!("/logs/{key}"))).await;
            assert_eq!(seen.header("content-type"), Some("text/plain"));
            lines.extend(seen.text().lines().map(str::to_owned));
        }
        lines
    }
}

/// From the operation to the object's size.
fn middle(line: &str) -> String {
    let from = line.find(" REST.").or_else(|| line.find(" BATCH.")).unwrap() + 1;
    let (said, rest) = match line[from..].split_once("HTTP/1.1\"") {
        Some((said, rest)) => (format!("{said}HTTP/1.1\""), rest),
        None => (String::new(), &line[from..]),
    };
    let fields: Vec<&str> = rest.split(' ').collect();
    let count = if said.is_empty() { 7 } else { 5 };
    format!("{said}{}", fields[..count].join(" "))
}

#[test]
fn logs_are_encrypted_where_their_bucket_encrypts_by_default() {
    with_client(|mut client| async move {
        client.log_bucket("").await;
        let document = "<ServerSideEncryptionConfiguration><Rule><ApplyServerSideEncryptionByDefault><SSEAlgorithm>AES256\
            </SSEAlgorithm></ApplyServerSideEncryptionByDefault></Rule></ServerSideEncryptionConfiguration>";
        client.expect(200, call("PUT", "/logs?encryption").body(document)).await;
        client.expect(200, call("PUT", "/bkt/k").body("hello")).await;
        client.deliver().await;
        let key = client.keys_of("logs").await.remove(0);
        let seen = client.expect(200, call("HEAD", &format!("/logs/{key}"))).await;
        assert_eq!(seen.header("x-amz-server-side-encryption"), Some("AES256"));
    });
}

#[test]
fn every_request_of_a_logged_bucket_leaves_a_line() {
    with_client(|mut client| async move {
        client.log_bucket("").await;
        client.expect(200, call("PUT", "/bkt/a%20b").body("hello")).await;
        client.expect(200, call("GET", "/bkt/a%20b").with("user-agent", "a\"b").with("referer", "r")).await;
        client.expect(206, call("GET", "/bkt/a%20b?versionId=null").with("range", "bytes=1-2")).await;
        client.expect(200, call("HEAD", "/bkt/a%20b")).await;
        let missing = client.send(call("GET", "/bkt/none")).await;
        let refused = client.expect(403, call("GET", "/bkt/a%20b").by_user()).await;
        let unknown = client.expect(403, call("GET", "/bkt?list-type=2").anonymous()).await;
        // Whoever has no key is not to cost a read: it is not recorded.
        let forged = call("GET", "/bkt/a%20b").with("authorization", "AWS AKIDEXAMPLE:AAAA").anonymous();
        client.expect(403, forged).await;
        let long = format!("/bkt/{}", "k".repeat(1_025));
        let too_long = client.expect(400, call("GET", &long)).await;
        client.expect(204, call("DELETE", "/bkt/a%20b")).await;
        // Neither is the target logged nor what names no bucket.
        client.expect(200, call("GET", "/logs")).await;
        client.expect(200, call("GET", "/")).await;
        client.deliver().await;
        assert_eq!(client.keys_of("logs").await.len(), 1);
        let lines = client.lines().await;
        let get = |target: &str| format!("\"GET {target} HTTP/1.1\"");
        assert_eq!(
            lines.iter().map(|line| middle(line)).collect::<Vec<_>>(),
            [
                "REST.PUT.OBJECT a%20b \"PUT /bkt/a%20b HTTP/1.1\" 200 - - 5".to_owned(),
                format!("REST.GET.OBJECT a%20b {} 200 - 5 5", get("/bkt/a%20b")),
                format!("REST.GET.OBJECT a%20b {} 206 - 2 5", get("/bkt/a%20b?versionId=null")),
                "REST.HEAD.OBJECT a%20b \"HEAD /bkt/a%20b HTTP/1.1\" 200 - - 5".to_owned(),
                format!("REST.GET.OBJECT none {} 404 NoSuchKey {} -", get("/bkt/none"), missing.body.len()),
                format!(
                    "REST.GET.OBJECT a%20b {} 403 AccessDenied {} -",
                    get("/bkt/a%20b"),
                    refused.body.len()
                ),
                format!(
                    "REST.GET.BUCKET - {} 403 AccessDenied {} -",
                    get("/bkt?list-type=2"),
                    unknown.body.len()
                ),
                format!("REST.GET.OBJECT - {} 400 KeyTooLongError {} -", get(&long), too_long.body.len()),
                "REST.DELETE.OBJECT a%20b \"DELETE /bkt/a%20b HTTP/1.1\" 204 - - -".to_owned(),
            ]
        );
        let begin = |who: &str| format!("{ROOT_ID} bkt [24/May/2013:00:00:00 +0000] 127.0.0.1 {who} ");
        assert!(lines[0].starts_with(&begin(ROOT_ID)), "{}", lines[0]);
        assert!(lines[0].contains(" SigV4 - AuthHeader localhost:9000 - - - -"), "{}", lines[0]);
        assert!(lines[1].contains(" \"r\" \"a%22b\" - "), "{}", lines[1]);
        assert!(lines[2].contains(" \"-\" \"-\" null "), "{}", lines[2]);
        let id = missing.header("x-amz-request-id").unwrap();
        assert!(lines[4].contains(&format!(" {id} ")), "{}", lines[4]);
        assert!(lines[4].contains(missing.header("x-amz-id-2").unwrap()), "{}", lines[4]);
        assert!(lines[5].starts_with(&begin(USER_ID)), "{}", lines[5]);
        assert!(lines[6].starts_with(&begin("-")), "{}", lines[6]);
        assert!(lines[6].contains(" - - - localhost:9000 "), "{}", lines[6]);
        assert!(lines[7].starts_with(&begin(ROOT_ID)), "who asked is known: {}", lines[7]);
        assert_eq!(client.ops.permits.get(), 0);
    });
}

#[test]
fn copies_and_many_deletes_have_a_line_for_each_object() {
    with_client(|mut client| async move {
        client.expect(200, call("PUT", "/bkt/k").body("hello")).await;
        client.expect(200, call("PUT", "/other")).await;
        client.log_bucket("").await;
        client.expect(200, call("PUT", "/other/copy").with("x-amz-copy-source", "/bkt/k")).await;
        client.expect(200, call("PUT", "/bkt/copy").with("x-amz-copy-source", "/bkt/k")).await;
        let keys = "<Delete><Object><Key>k</Key></Object><Object><Key>copy</Key><VersionId>odd</VersionId></Object></Delete>";
        let answer = client.expect(200, deletes("/bkt?delete", keys)).await.body.len();
        client.deliver().await;
        let lines = client.lines().await;
        let begin = format!("{ROOT_ID} bkt [24/May/2013:00:00:00 +0000] 127.0.0.1 {ROOT_ID} ");
        assert!(lines[0].starts_with(&begin), "read for a bucket that is not logged: {}", lines[0]);
        let request = "\"PUT /bkt/copy HTTP/1.1\"";
        let copied = middle(&lines[2]);
        assert!(copied.starts_with(&format!("REST.COPY.OBJECT copy {request} 200 - ")), "{copied}");
        assert_eq!(
            [0, 1, 3, 4, 5].map(|index| middle(&lines[index])),
            [
                "REST.COPY.OBJECT_GET k - 200 - - 5".to_owned(),
                "REST.COPY.OBJECT_GET k - 200 - - 5".to_owned(),
                format!("REST.POST.MULTI_OBJECT_DELETE - \"POST /bkt?delete HTTP/1.1\" 200 - {answer} -"),
                "BATCH.DELETE.OBJECT k - 204 - - -".to_owned(),
                "BATCH.DELETE.OBJECT copy - 404 NoSuchVersion - -".to_owned(),
            ]
        );
        assert!(lines[5].contains(" - - - - - odd "), "{}", lines[5]);
        assert_eq!(lines.len(), 6);
    });
}

#[test]
fn visits_of_a_website_are_recorded_as_such() {
    with_client(|mut client| async move {
        let site = "<IndexDocument><Suffix>index.html</Suffix></IndexDocument><ErrorDocument><Key>err</Key></ErrorDocument>";
        let site = format!("<WebsiteConfiguration>{site}</WebsiteConfiguration>");
        client.expect(200, call("PUT", "/bkt?website=").body(site)).await;
        let open = r#"{"Statement":[{"Effect":"Allow","Principal":"*","Action":"s3:GetObject","Resource":"arn:aws:s3:::bkt/*"}]}"#;
        client.expect(204, call("PUT", "/bkt?policy=").body(open)).await;
        client.expect(200, call("PUT", "/bkt/index.html").body("hello")).await;
        client.log_bucket("").await;
        let visit = |method, target| call(method, target).host("bkt.web.test:9000").anonymous();
        client.expect(200, visit("GET", "/?versionId=x").with("authorization", "AWS x:y")).await;
        let missing = client.expect(403, visit("GET", "/none")).await.body.len();
        let refused = client.expect(405, visit("DELETE", "/index.html")).await.body.len();
        client.deliver().await;
        let lines = client.lines().await;
        let said: Vec<&str> = lines.iter().map(|line| line.split_once(" WEBSITE.").unwrap().1).collect();
        let begins = [
            "GET.OBJECT index.html \"GET /?versionId=x HTTP/1.1\" 200 - 5 5 ".to_owned(),
            format!("GET.OBJECT none \"GET /none HTTP/1.1\" 403 AccessDenied {missing} - "),
            format!("DELETE.OBJECT - \"DELETE /index.html HTTP/1.1\" 405 MethodNotAllowed {refused} - "),
        ];
        for (said, begin) in said.iter().zip(&begins) {
            assert!(said.starts_with(begin), "{said}");
            assert!(said.ends_with(" - - - bkt.web.test:9000 - - - -"), "{said}");
        }
        assert_eq!(said.len(), begins.len());
    });
}

#[test]
fn a_log_that_cannot_be_delivered_now_waits_and_one_that_never_can_is_dropped() {
    with_client(|mut client| async move {
        client.log_bucket("").await;
        client.expect(200, call("PUT", "/bkt/k")).await;
        client.expect(204, call("DELETE", "/logs?policy")).await;
        client.deliver().await;
        let policy = POLICY.replace("ROOT", ROOT_ID);
        client.expect(204, call("PUT", "/logs?policy").body(policy)).await;
        client.deliver().await;
        assert_eq!(client.keys_of("logs").await, Vec::<String>::new(), "what was refused is gone");
        client.expect(200, call("GET", "/bkt/k")).await;
        client.ops.full.set(true);
        client.deliver().await;
        client.ops.full.set(false);
        assert_eq!(client.keys_of("logs").await, Vec::<String>::new());
        client.deliver().await;
        assert_eq!(client.lines().await.len(), 1, "what was put off is there");
    });
}

/// Refusals were looked up once more, whether their bucket was logged or not, and forged ones too.
#[test]
fn a_refused_request_reads_its_buckets_row_no_more_than_once() {
    with_client(|mut client| async move {
        client.expect(200, call("PUT", "/bkt/k")).await;
        let long = format!("/bkt/{}", "k".repeat(1_025));
        let forged = call("GET", "/bkt/k").with("authorization", "AWS AKIDEXAMPLE:AAAA").anonymous();
        let asks = || {
            let asks = call("OPTIONS", "/bkt/k").anonymous().with("origin", "http://a.test");
            asks.with("access-control-request-method", "GET")
        };
        for (name, request, status, reads) in [
            ("refused", call("GET", "/bkt/k").by_user(), 403, 1),
            ("anonymous", call("GET", "/bkt/k").anonymous(), 403, 1),
            ("not there", call("GET", "/none/k"), 404, 1),
            ("no such key", call("GET", "/bkt/none"), 404, 1),
            ("no key", call("GET", &long), 400, 1),
            ("not built", call("PUT", "/bkt?replication="), 501, 1),
            ("preflight", asks(), 403, 1),
            ("forged", forged, 403, 0),
        ] {
            client.ops.bucket_reads.set(0);
            client.expect(status, request).await;
            assert_eq!(client.ops.bucket_reads.get(), reads, "{name}");
        }
        client.ops.full.set(true);
        client.ops.bucket_reads.set(0);
        client.expect(503, asks()).await;
        assert_eq!(client.ops.bucket_reads.get(), 0, "a full store is not asked more");
    });
}

#[test]
fn a_full_log_goes_out_at_once_and_the_others_wait_for_their_round() {
    with_client(|mut client| async move {
        client.expect(200, call("PUT", "/other")).await;
        client.log_bucket("").await;
        let policy = POLICY.replace("ROOT", ROOT_ID).replace(":::bkt", ":::*");
        client.expect(204, call("PUT", "/logs?policy").body(policy)).await;
        client.expect(200, call("PUT", "/other?logging").body(to_logs(""))).await;
        let ended = client.deliver_always();
        client.expect(200, call("PUT", "/other/k")).await;
        for _ in 0..100 {
            let agent = "a".repeat(4_000);
            client.expect(404, call("GET", "/bkt/none").with("user-agent", &agent)).await;
        }
        client.pass_s(1).await;
        assert_eq!(client.keys_of("logs").await.len(), 1, "a quarter of the room is full");
        client.pass_s(INTERVAL.as_secs()).await;
        assert_eq!(client.keys_of("logs").await.len(), 3, "the rest of both");
        client.log.stop();
        ended.await.unwrap();
    });
}

#[test]
fn what_could_not_be_delivered_is_tried_again_soon_and_until_the_end_of_a_stop() {
    with_client(|mut client| async move {
        client.log_bucket("").await;
        let ended = client.deliver_always();
        client.expect(200, call("PUT", "/bkt/k")).await;
        client.ops.full.set(true);
        client.pass_s(INTERVAL.as_secs() + 1).await;
        client.ops.full.set(false);
        assert_eq!(client.keys_of("logs").await.len(), 0);
        client.pass_s(6).await;
        assert_eq!(client.keys_of("logs").await.len(), 1, "long before the next round");
        client.expect(200, call("GET", "/bkt/k")).await;
        client.ops.full.set(true);
        client.log.stop();
        client.pass_s(2).await;
        client.ops.full.set(false);
        ended.await.unwrap();
        assert_eq!(client.keys_of("logs").await.len(), 2, "a stop tries more than once");
    });
}

#[test]
fn a_stop_does_not_wait_for_ever_for_a_store_that_takes_no_logs() {
    with_client(|mut client| async move {
        client.log_bucket("").await;
        client.expect(200, call("PUT", "/bkt/k")).await;
        client.ops.full.set(true);
        let ended = client.deliver_always();
        client.log.stop();
        let before = client.executor.now();
        ended.await.unwrap();
        assert!(client.executor.now().since(before) <= Duration::from_secs(9));
    });
}

#[test]
fn no_log_is_public_where_the_target_refuses_public_lists() {
    with_client(|mut client| async move {
        let lists = call("PUT", "/lists").with("x-amz-object-ownership", "ObjectWriter");
        client.expect(200, lists).await;
        client.expect(200, call("PUT", "/lists?acl").with("x-amz-acl", "log-delivery-write")).await;
        let grant = |grantee: &str| {
            format!("<Grant><Grantee>{grantee}</Grantee><Permission>READ</Permission></Grant>")
        };
        let all = grant("<URI>http://acs.amazonaws.com/groups/global/AllUsers</URI>");
        let user = grant(&format!("<ID>{USER_ID}</ID>"));
        let put = |grants: &str| {
            let document = to_logs(&format!("<TargetGrants>{grants}</TargetGrants>"));
            call("PUT", "/bkt?logging").body(document.replace("logs", "lists"))
        };
        client.expect(200, put(&[all.clone(), user.clone()].concat())).await;
        let switches = "<BlockPublicAcls>true</BlockPublicAcls>";
        let switches = format!("<PublicAccessBlockConfiguration>{switches}</PublicAccessBlockConfiguration>");
        client.expect(200, call("PUT", "/lists?publicAccessBlock=").body(switches)).await;
        client.expect(200, call("PUT", "/bkt/k")).await;
        client.deliver().await;
        let key = client.keys_of("lists").await.remove(0);
        client.expect(200, call("GET", &format!("/lists/{key}")).by_user()).await;
        client.refused(403, "AccessDenied", call("GET", &format!("/lists/{key}")).anonymous()).await;
        client.refused(403, "AccessDenied", put(&all)).await;
        client.refused(400, "MalformedXML", put(&user.repeat(100))).await;
        client.expect(200, put(&user.repeat(99))).await;
        client.expect(200, call("GET", "/bkt/k")).await;
        client.deliver().await;
        for key in client.keys_of("lists").await {
            let (bucket, key) = (BucketName::parse("lists").unwrap(), ObjectKey::parse(key).unwrap());
            let info = client.ops.head_object(bucket, key, None).await.unwrap();
            let list = info.headers.into_iter().find(|header| header.name == ACL_HEADER).unwrap().value;
            let list = String::from_utf8(list.to_vec()).unwrap();
            assert!(list.split(';').count() <= 101 && !list.contains("AllUsers"), "{list}");
        }
    });
}

/// The first that failed ended the loop, and what had been deleted beside it stood in no log.
#[test]
fn what_a_pass_deleted_is_recorded_though_another_key_of_its_page_failed() {
    with_client(|mut client| async move {
        for key in ["a", "b", "c"] {
            client.expect(200, call("PUT", &format!("/bkt/{key}"))).await;
        }
        let rule = "<Rule><Filter/><Status>Enabled</Status><Expiration><Days>1</Days></Expiration></Rule>";
        let rules = format!("<LifecycleConfiguration>{rule}</LifecycleConfiguration>");
        client.expect(200, call("PUT", "/bkt?lifecycle=").body(rules)).await;
        client.log_bucket("").await;
        *client.ops.stuck_key.borrow_mut() = bytes::Bytes::from_static(b"a");
        let (ops, executor, log) = (client.ops.clone(), client.executor.clone(), client.log.clone());
        let pass = LifecyclePass::new(ops, Marks::default(), executor, DayLength::default(), log);
        pass.pass().await.unwrap_err();
        assert_eq!(client.keys_of("bkt").await, ["a"]);
        client.deliver().await;
        let lines = client.lines().await;
        let keys: Vec<&str> = lines.iter().map(|line| line.split(' ').nth(8).unwrap()).collect();
        assert_eq!(keys, ["b", "c"], "{lines:?}");
    });
}

#[test]
fn a_bucket_that_logs_into_itself_logs_no_delivery() {
    with_client(|mut client| async move {
        let policy = POLICY.replace("ROOT", ROOT_ID).replace("logs/*", "bkt/*");
        client.expect(204, call("PUT", "/bkt?policy").body(policy)).await;
        client.expect(200, call("PUT", "/bkt?logging").body(to_logs("").replace("logs", "bkt"))).await;
        client.expect(200, call("PUT", "/bkt/k")).await;
        for _ in 0..3 {
            client.deliver().await;
        }
        let keys = client.keys_of("bkt").await;
        assert_eq!(keys.len(), 2, "{keys:?}");
    });
}

#[test]
fn keys_are_of_the_form_that_was_asked_for() {
    let number = |key: &str| key.rsplit_once('-').is_some_and(|(_, number)| number.len() == 16);
    let partitioned = |source: &str| {
        let date = format!("<PartitionDateSource>{source}</PartitionDateSource>");
        format!(
            "<TargetObjectKeyFormat><PartitionedPrefix>{date}</PartitionedPrefix></TargetObjectKeyFormat>"
        )
    };
    let folders = format!("web/{ROOT_ID}/us-east-1/bkt/2013/05/24/2013-05-24-00-00-0");
    for (more, begin) in [
        (String::new(), "web/2013-05-24-00-00-0".to_owned()),
        (partitioned("DeliveryTime"), folders.clone()),
        (partitioned("EventTime"), format!("{folders}0-")),
    ] {
        with_client(|mut client| async move {
            client.log_bucket(&more).await;
            client.expect(200, call("PUT", "/bkt/k")).await;
            client.deliver().await;
            let keys = client.keys_of("logs").await;
            assert!(keys.len() == 1 && keys[0].starts_with(&begin) && number(&keys[0]), "{keys:?}");
        });
    }
}

#[test]
fn a_configuration_comes_back_and_an_empty_one_takes_it_away() {
    with_client(|mut client| async move {
        let kept = "<TargetBucket>logs</TargetBucket>";
        assert!(!client.expect(200, call("GET", "/bkt?logging")).await.text().contains(kept));
        client.log_bucket("").await;
        assert!(client.expect(200, call("GET", "/bkt?logging")).await.text().contains(kept));
        client.expect(200, call("PUT", "/bkt?logging").body(status(""))).await;
        assert!(!client.expect(200, call("GET", "/bkt?logging")).await.text().contains(kept));
        client.expect(200, call("PUT", "/bkt/k")).await;
        client.deliver().await;
        let lines = client.lines().await;
        let said: Vec<_> = lines.iter().map(|line| middle(line)).collect();
        assert_eq!(said.len(), 2, "{said:?}");
        assert!(
            said[0].starts_with("REST.GET.LOGGING_STATUS") && said[1].starts_with("REST.PUT.LOGGING_STATUS")
        );
    });
}

#[test]
fn a_target_that_cannot_be_one_is_refused() {
    with_client(|mut client| async move {
        let put = |document: String| call("PUT", "/bkt?logging").body(document);
        let none = "InvalidTargetBucketForLogging";
        client.refused(400, none, put(to_logs(""))).await;
        client.refused(400, none, put(to_logs("").replace("logs", "No_Bucket"))).await;
        client.expect(200, call("PUT", "/users").by_user()).await;
        client.refused(400, none, put(to_logs("").replace("logs", "users"))).await;
        client.expect(200, call("PUT", "/logs")).await;
        let grant = |grantee: &str| {
            let grantee = format!("<Grantee>{grantee}</Grantee>");
            to_logs(&format!(
                "<TargetGrants><Grant>{grantee}<Permission>READ</Permission></Grant></TargetGrants>"
            ))
        };
        let known = format!("<ID>{USER_ID}</ID>");
        client.refused(400, "AccessControlListNotSupported", put(grant(&known))).await;
        let lists = call("PUT", "/lists").with("x-amz-object-ownership", "ObjectWriter");
        client.expect(200, lists).await;
        client.expect(200, call("PUT", "/lists?acl").with("x-amz-acl", "log-delivery-write")).await;
        client.refused(400, "InvalidArgument", put(grant("<ID>nobody</ID>").replace("logs", "lists"))).await;
        client.expect(200, put(grant(&known).replace("logs", "lists"))).await;
        let seen = client.expect(200, call("GET", "/bkt?logging")).await;
        assert!(seen.text().contains("<DisplayName>ann</DisplayName>"), "{}", seen.text());
        client.expect(200, call("PUT", "/bkt/k")).await;
        client.deliver().await;
        let key = client.keys_of("lists").await.remove(0);
        client.expect(200, call("GET", &format!("/lists/{key}")).by_user()).await;
        client.refused(403, "AccessDenied", call("GET", &format!("/lists/{key}")).anonymous()).await;
        let lists = BucketName::parse("lists").unwrap();
        let info = client.ops.head_object(lists.clone(), ObjectKey::parse(key).unwrap(), None).await.unwrap();
        assert!(info.size_bytes > 0);
        client
            .ops
            .put_bucket_config(lists, ConfigKind::ObjectLock, bytes::Bytes::from_static(b"x"))
            .await
            .unwrap();
        client.refused(400, none, put(grant(&known).replace("logs", "lists"))).await;
        client.refused(403, "AccessDenied", put(status("")).by_user()).await;
    });
}
