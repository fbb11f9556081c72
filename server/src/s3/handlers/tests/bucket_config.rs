//! Configuration of buckets as clients set, read and delete it, and what browsers get.

use super::*;
use crate::ops::api::{
    BucketName, ConfigKind, CreateUpload, ListObjects, ListUploads, NewBucket, ObjectKey, ObjectLock,
    Operations as _,
};
use crate::s3::access_log::AccessLog;
use crate::s3::config::Document as _;
use crate::s3::config::lifecycle::Lifecycle;
use crate::s3::error::S3Error;
use crate::s3::lifecycle_pass::{LifecyclePass, PassMarks};

const CORS: &str = "<CORSConfiguration><CORSRule><AllowedHeader>x-amz-*</AllowedHeader><AllowedMethod>GET</AllowedMethod>\
    <AllowedMethod>PUT</AllowedMethod><AllowedOrigin>https://*.example.com</AllowedOrigin>\
    <ExposeHeader>ETag</ExposeHeader><MaxAgeSeconds>60</MaxAgeSeconds></CORSRule></CORSConfiguration>";

/// A preflight, which nobody signs.
async fn preflight(client: &mut S3Client, target: &str, fields: &str) -> Seen {
    client.wire.send(format!("OPTIONS {target} HTTP/1.1\r\nHost: localhost:9000\r\n{fields}\r\n"));
    client.wire.response(false).await.unwrap()
}

#[test]
fn documents_are_kept_answered_and_deleted() {
    with_client(|mut client| async move {
        let documents = [
            ("cors", CORS, "NoSuchCORSConfiguration"),
            (
                "lifecycle",
                "<LifecycleConfiguration><Rule><ID>a</ID><Filter></Filter><Status>Enabled</Status><Expiration>\
                 <Days>3</Days></Expiration></Rule></LifecycleConfiguration>",
                "NoSuchLifecycleConfiguration",
            ),
            (
                "website",
                "<WebsiteConfiguration><IndexDocument><Suffix>index.html</Suffix></IndexDocument><ErrorDocument><Key>e</Key>\
                 </ErrorDocument></WebsiteConfiguration>",
                "NoSuchWebsiteConfiguration",
            ),
            (
                "encryption",
                "<ServerSideEncryptionConfiguration><Rule><ApplyServerSideEncryptionByDefault><SSEAlgorithm>AES256\
                 </SSEAlgorithm></ApplyServerSideEncryptionByDefault><BlockedEncryptionTypes><EncryptionType>SSE-C\
                 </EncryptionType></BlockedEncryptionTypes><BucketKeyEnabled>true</BucketKeyEnabled></Rule>\
                 </ServerSideEncryptionConfiguration>",
                "ServerSideEncryptionConfigurationNotFoundError",
            ),
        ];
        for (name, document, absent) in documents {
            let target = format!("/bkt?{name}=");
            client.refused(404, absent, call("GET", &target)).await;
            client.refused(400, "MalformedXML", call("PUT", &target).body("<Odd/>")).await;
            client.refused(404, "NoSuchBucket", call("PUT", &format!("/none?{name}=")).body(document)).await;
            client.expect(200, call("PUT", &target).body(document)).await;
            let seen = client.expect(200, call("GET", &target)).await;
            let (inside, _) = document.split_once("><").unwrap().1.rsplit_once("</").unwrap();
            assert!(seen.text().contains(inside), "{}", seen.text());
            client.expect(204, call("DELETE", &target)).await;
            client.refused(404, absent, call("GET", &target)).await;
        }
    });
}

#[test]
fn lifecycle_says_which_objects_a_transition_passes_over() {
    with_client(|mut client| async move {
        let rule = "<LifecycleConfiguration><Rule><Filter/><Status>Enabled</Status><Expiration><Days>3</Days>\
            </Expiration></Rule></LifecycleConfiguration>";
        let name = "x-amz-transition-default-minimum-object-size";
        let put = || call("PUT", "/bkt?lifecycle=").body(rule);
        let seen = client.expect(200, put()).await;
        assert_eq!(seen.header(name), Some("all_storage_classes_128K"));
        client.refused(400, "InvalidRequest", put().with(name, "none")).await;
        client.expect(200, put().with(name, "varies_by_storage_class")).await;
        let seen = client.expect(200, call("GET", "/bkt?lifecycle=")).await;
        assert_eq!(seen.header(name), Some("varies_by_storage_class"));
        assert!(seen.text().contains("<Rule><ID>") && !seen.text().contains("Minimum"), "{}", seen.text());
    });
}

#[test]
fn a_preflight_is_answered_by_the_rule_that_holds() {
    with_client(|mut client| async move {
        let asks = "Origin: https://a.example.com\r\nAccess-Control-Request-Method: PUT\r\n";
        let seen = preflight(&mut client, "/bkt/k", asks).await;
        assert_eq!((seen.status, seen.code()), (403, "AccessForbidden"));
        assert!(seen.text().contains("CORSResponse: CORS is not enabled for this bucket."));
        client.expect(200, call("PUT", "/bkt?cors=").body(CORS)).await;
        let with_headers = format!("{asks}Access-Control-Request-Headers: X-Amz-Date, x-amz-acl\r\n");
        let seen = preflight(&mut client, "/bkt/k", &with_headers).await;
        assert_eq!(seen.status, 200);
        for (name, value) in [
            ("access-control-allow-origin", "https://a.example.com"),
            ("access-control-allow-credentials", "true"),
            ("access-control-allow-methods", "GET, PUT"),
            ("access-control-allow-headers", "x-amz-date, x-amz-acl"),
            ("access-control-expose-headers", "ETag"),
            ("access-control-max-age", "60"),
            ("vary", "Origin, Access-Control-Request-Headers, Access-Control-Request-Method"),
        ] {
            assert_eq!(seen.header(name), Some(value), "{name}");
        }
        for (fields, status, code) in [
            ("Access-Control-Request-Method: GET\r\n", 400, "BadRequest"),
            ("Origin: https://a.example.com\r\n", 400, "BadRequest"),
            ("Origin: https://example.org\r\nAccess-Control-Request-Method: GET\r\n", 403, "AccessForbidden"),
            (
                "Origin: https://a.example.com\r\nAccess-Control-Request-Method: DELETE\r\n",
                403,
                "AccessForbidden",
            ),
        ] {
            let seen = preflight(&mut client, "/bkt/k", fields).await;
            assert_eq!((seen.status, seen.code()), (status, code), "{fields}");
        }
    });
}

#[test]
fn an_actual_response_and_an_error_carry_what_lets_a_page_read_them() {
    with_client(|mut client| async move {
        client.expect(200, call("PUT", "/bkt?cors=").body(CORS)).await;
        client.expect(200, call("PUT", "/bkt/k").body("v")).await;
        let get = |target: &str, origin: &str| call("GET", target).with("origin", origin);
        let seen = client.expect(200, get("/bkt/k", "https://a.example.com")).await;
        assert_eq!(seen.header("access-control-allow-origin"), Some("https://a.example.com"));
        let seen = client.expect(404, get("/bkt/none", "https://a.example.com")).await;
        assert_eq!(seen.header("access-control-allow-origin"), Some("https://a.example.com"));
        let seen = client.expect(200, get("/bkt/k", "https://example.org")).await;
        assert_eq!(seen.header("access-control-allow-origin"), None);
        assert!(seen.header("vary").is_some_and(|vary| vary.starts_with("Origin")));
        let seen = client.expect(200, call("GET", "/bkt/k")).await;
        assert_eq!(seen.header("vary"), None);
    });
}

#[test]
fn what_is_so_already_is_accepted_and_what_would_have_to_act_is_not() {
    with_client(|mut client| async move {
        for (name, accepted, refused) in [
            (
                "requestPayment",
                "<RequestPaymentConfiguration><Payer>BucketOwner</Payer></RequestPaymentConfiguration>",
                "<RequestPaymentConfiguration><Payer>Requester</Payer></RequestPaymentConfiguration>",
            ),
            (
                "notification",
                "<NotificationConfiguration/>",
                "<NotificationConfiguration><EventBridgeConfiguration/></NotificationConfiguration>",
            ),
            (
                "accelerate",
                "<AccelerateConfiguration><Status>Suspended</Status></AccelerateConfiguration>",
                "<AccelerateConfiguration><Status>Enabled</Status></AccelerateConfiguration>",
            ),
        ] {
            let target = format!("/bkt?{name}=");
            client.expect(200, call("PUT", &target).body(accepted)).await;
            client.refused(501, "NotImplemented", call("PUT", &target).body(refused)).await;
            client.refused(400, "MalformedXML", call("PUT", &target).body("<Odd/>")).await;
            client.expect(200, call("GET", &target)).await;
        }
        let seen = client.expect(200, call("GET", "/bkt?accelerate=")).await;
        assert!(seen.text().contains("<Status>Suspended</Status>"));
        for name in ["replication", "inventory&id=a", "metrics&id=a", "analytics&id=a"] {
            let target = format!("/bkt?{name}");
            client.refused(501, "NotImplemented", call("PUT", &target).body("<Any/>")).await;
        }
        client.refused(404, "NoSuchConfiguration", call("DELETE", "/bkt?metrics&id=a")).await;
    });
}

#[test]
fn a_bucket_may_begin_with_tags_and_is_listed_only_in_its_region() {
    with_client(|mut client| async move {
        let body = "<CreateBucketConfiguration><LocationConstraint>eu-west-1</LocationConstraint><Tags><Tag><Key>a</Key>\
            <Value>1</Value></Tag></Tags></CreateBucketConfiguration>";
        client.expect(200, call("PUT", "/tagged").body(body)).await;
        let seen = client.expect(200, call("GET", "/tagged?tagging=")).await;
        assert!(seen.text().contains("<Tag><Key>a</Key><Value>1</Value></Tag>"));
        let odd = body.replace("<Key>a", "<Key>aws:a");
        client.refused(400, "InvalidTag", call("PUT", "/tagged2").body(odd)).await;
        client.refused(404, "NoSuchTagSet", call("GET", "/bkt?tagging=")).await;
        let seen = client.expect(200, call("GET", "/?bucket-region=us-east-1")).await;
        assert!(
            seen.text().contains("<Name>tagged</Name>") && seen.text().contains("<BucketRegion>us-east-1<")
        );
        let seen = client.expect(200, call("GET", "/?bucket-region=eu-west-1")).await;
        assert!(!seen.text().contains("<Name>"));
    });
}

#[test]
fn objects_tell_when_they_go_and_rules_that_nothing_acts_on_are_refused() {
    with_client(|mut client| async move {
        let rules = |inside: &str| {
            let root = "LifecycleConfiguration";
            format!(
                "<{root}><Rule><ID>a b</ID><Filter><Prefix>k</Prefix></Filter><Status>Enabled</Status>{inside}</Rule></{root}>"
            )
        };
        let put = |inside: &str| call("PUT", "/bkt?lifecycle=").body(rules(inside));
        client.expect(200, put("<Expiration><Days>3</Days></Expiration>")).await;
        // Objects of the model are made on 1994-11-06 at 08:49.
        let told = Some("expiry-date=\"Thu, 10 Nov 1994 00:00:00 GMT\", rule-id=\"a%20b\"");
        let seen = client.expect(200, call("PUT", "/bkt/k").body("v")).await;
        assert_eq!(seen.header("x-amz-expiration"), told);
        let seen = client.expect(200, call("GET", "/bkt/k")).await;
        assert_eq!(seen.header("x-amz-expiration"), told);
        let seen = client.expect(200, call("HEAD", "/bkt/k")).await;
        assert_eq!(seen.header("x-amz-expiration"), told);
        let seen = client.expect(200, call("PUT", "/bkt/other").body("v")).await;
        assert_eq!(seen.header("x-amz-expiration"), None);
        let moves = "<Transition><Days>1</Days><StorageClass>GLACIER</StorageClass></Transition>";
        client.refused(501, "NotImplemented", put(moves)).await;
    });
}

/// Marks of a pass in memory.
#[derive(Clone, Default)]
pub(super) struct Marks(Rc<std::cell::RefCell<Option<bytes::Bytes>>>);

impl PassMarks for Marks {
    async fn load(&self) -> Result<Option<bytes::Bytes>, S3Error> {
        Ok(self.0.borrow().clone())
    }

    async fn keep(&self, mark: &[u8]) -> Result<(), S3Error> {
        *self.0.borrow_mut() = Some(bytes::Bytes::copy_from_slice(mark));
        Ok(())
    }
}

#[test]
fn a_pass_deletes_what_the_rules_name_and_aborts_old_uploads_and_nothing_else() {
    let sim = Sim::new(7);
    // The model makes everything on 1994-11-06 at 08:49; with days of a second these are ten days later.
    sim.set_unix_ms(784_111_787_000);
    let (ops, executor, marks) = (MemoryOps::default(), sim.executor(), Marks::default());
    let bucket = |name: &str| BucketName::parse(name).unwrap();
    let key = |name: &str| ObjectKey::parse(name.to_owned()).unwrap();
    let rules = "<LifecycleConfiguration><Rule><ID>a</ID><Filter><Prefix>old/</Prefix></Filter><Status>Enabled</Status>\
        <Expiration><Days>10</Days></Expiration><AbortIncompleteMultipartUpload><DaysAfterInitiation>10\
        </DaysAfterInitiation></AbortIncompleteMultipartUpload></Rule><Rule><ID>b</ID><Filter><Prefix>young/</Prefix>\
        </Filter><Status>Enabled</Status><Expiration><Days>11</Days></Expiration></Rule></LifecycleConfiguration>";
    sim.block_on(async move {
        for name in ["ruled", "free"] {
            ops.create_bucket(bucket(name), ROOT_ID.to_owned(), NewBucket::default()).await.unwrap();
            for number in 0..1_005 {
                ops.store_for_tests(&bucket(name), &key(&format!("old/{number}")));
            }
            ops.store_for_tests(&bucket(name), &key("young/1"));
            ops.store_for_tests(&bucket(name), &key("z"));
        }
        for name in ["old/upload", "z"] {
            let create = CreateUpload {
                bucket: bucket("ruled"),
                key: key(name),
                headers: Vec::new(),
                checksum: None,
                storage_class: None,
                initiator: ROOT_ID.to_owned(),
                lock: ObjectLock::NONE,
                encrypt: None,
            };
            ops.create_upload(create).await.unwrap();
        }
        let document = Lifecycle::parse(rules.as_bytes()).unwrap().to_kept();
        ops.put_bucket_config(bucket("ruled"), ConfigKind::Lifecycle, document).await.unwrap();
        // A pass that was cut off after `old/5` looks only at what follows; the next one looks at everything.
        marks.keep(b"\x01\x00\x05ruledold/5").await.unwrap();
        let log = AccessLog::new(Arc::from(ROOT_ID), 1 << 20);
        let pass = LifecyclePass::new(ops.clone(), marks.clone(), executor, DayLength::of_seconds(1), log);
        pass.pass().await.unwrap();
        assert!(ops.head_object(bucket("ruled"), key("old/5"), None).await.is_ok());
        assert!(ops.head_object(bucket("ruled"), key("old/6"), None).await.is_err());
        pass.pass().await.unwrap();
        let left = async |name: &str| {
            let list = ListObjects {
                bucket: bucket(name),
                prefix: bytes::Bytes::new(),
                delimiter: None,
                after: bytes::Bytes::new(),
                max_keys: 5_000,
                with_headers: false,
                with_acl: false,
            };
            ops.list_objects(list).await.unwrap().objects.len()
        };
        assert_eq!((left("ruled").await, left("free").await), (2, 1_007));
        let list = ListUploads {
            bucket: bucket("ruled"),
            prefix: bytes::Bytes::new(),
            delimiter: None,
            after_key: bytes::Bytes::new(),
            after_upload: None,
            max_uploads: 10,
        };
        let uploads = ops.list_uploads(list).await.unwrap().uploads;
        assert_eq!(uploads.iter().map(|upload| &upload.key[..]).collect::<Vec<_>>(), [b"z"]);
        assert_eq!(marks.load().await.unwrap().unwrap(), &b"\x01\x00\x00"[..]);
    });
}
