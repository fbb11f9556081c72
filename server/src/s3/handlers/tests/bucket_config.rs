//! Configuration of buckets as clients set, read and delete it, and what browsers get.

use super::*;

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
                "website",
                "<WebsiteConfiguration><IndexDocument><Suffix>i.html</Suffix></IndexDocument></WebsiteConfiguration>",
                "NoSuchWebsiteConfiguration",
            ),
            (
                "lifecycle",
                "<LifecycleConfiguration><Rule><ID>a</ID><Filter></Filter><Status>Enabled</Status><Expiration>\
                 <Days>3</Days></Expiration></Rule></LifecycleConfiguration>",
                "NoSuchLifecycleConfiguration",
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
fn logging_needs_a_target_of_the_same_owner() {
    with_client(|mut client| async move {
        let status = |target: &str| {
            format!(
                "<BucketLoggingStatus><LoggingEnabled><TargetBucket>{target}</TargetBucket><TargetPrefix>p</TargetPrefix>\
                 </LoggingEnabled></BucketLoggingStatus>"
            )
        };
        let put = |body: String| call("PUT", "/bkt?logging=").body(body);
        client.refused(400, "InvalidTargetBucketForLogging", put(status("none"))).await;
        client.expect(200, call("PUT", "/anns").by_user()).await;
        client.refused(400, "InvalidTargetBucketForLogging", put(status("anns"))).await;
        client.expect(200, call("PUT", "/logs")).await;
        client.expect(200, put(status("logs"))).await;
        let seen = client.expect(200, call("GET", "/bkt?logging=")).await;
        assert!(seen.text().contains("<TargetBucket>logs</TargetBucket><TargetPrefix>p</TargetPrefix>"));
        client.expect(200, put("<BucketLoggingStatus/>".to_owned())).await;
        let seen = client.expect(200, call("GET", "/bkt?logging=")).await;
        assert!(!seen.text().contains("LoggingEnabled"), "{}", seen.text());
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
        for name in ["encryption", "replication", "inventory&id=a", "metrics&id=a", "analytics&id=a"] {
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
