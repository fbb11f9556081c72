//! Websites as their visitors see them.

use super::*;

const OPEN: &str = r#"{"Statement":[{"Effect":"Allow","Principal":"*","Action":"s3:GetObject","Resource":"arn:aws:s3:::bkt/*"}]}"#;
const OPEN_AND_LISTED: &str = r#"{"Statement":[
    {"Effect":"Allow","Principal":"*","Action":"s3:GetObject","Resource":"arn:aws:s3:::bkt/*"},
    {"Effect":"Allow","Principal":"*","Action":"s3:ListBucket","Resource":"arn:aws:s3:::bkt"}]}"#;
const INDEX: &str = "<IndexDocument><Suffix>index.html</Suffix></IndexDocument>";
const HOST: &str = "bkt.web.test:9000";

/// A request of a browser.
fn visit(method: &'static str, target: &str) -> Call {
    call(method, target).host(HOST).anonymous()
}

async fn make_site(client: &mut S3Client, inside: &str, policy: &str) {
    let document = format!("<WebsiteConfiguration>{inside}</WebsiteConfiguration>");
    client.expect(200, call("PUT", "/bkt?website=").body(document)).await;
    client.expect(204, call("PUT", "/bkt?policy=").body(policy)).await;
}

async fn put(client: &mut S3Client, key: &str, text: &str) {
    let put = call("PUT", &format!("/bkt/{key}")).with("content-type", "text/html").body(text);
    client.expect(200, put).await;
}

/// Where a visit is sent to.
async fn sent(client: &mut S3Client, status: u16, target: &str) -> String {
    let seen = client.expect(status, visit("GET", target)).await;
    let of_head = client.expect(status, visit("HEAD", target)).await;
    assert_eq!(seen.header("location"), of_head.header("location"));
    assert!(seen.body.is_empty());
    seen.header("location").unwrap().to_owned()
}

#[test]
fn encrypted_pages_are_shown_unless_their_key_is_a_customers() {
    with_client(|mut client| async move {
        make_site(&mut client, INDEX, OPEN).await;
        let sealed =
            call("PUT", "/bkt/index.html").body("hello").with("x-amz-server-side-encryption", "AES256");
        client.expect(200, sealed).await;
        assert_eq!(client.expect(200, visit("GET", "/")).await.text(), "hello");
        let keyed = |target: &str| {
            let mut put = call("PUT", target).body("hello");
            for (end, value) in [
                ("algorithm", "AES256"),
                ("key", "pO3upElrwuEXSoFwCfnZPdSsmt/xWeFa0N9KgDijwVs="),
                ("key-md5", "DWygnHRtgiJ77HCm+1rvHw=="),
            ] {
                put = put.with(&format!("x-amz-server-side-encryption-customer-{end}"), value);
            }
            put
        };
        client.expect(200, keyed("/bkt/theirs")).await;
        for method in ["GET", "HEAD"] {
            let seen = client.expect(400, visit(method, "/theirs")).await;
            assert!(!seen.text().contains("hello"));
        }
        // Nor where such an object sends its visitors.
        client.expect(200, keyed("/bkt/moved").with("x-amz-website-redirect-location", "/there")).await;
        let seen = client.expect(400, visit("GET", "/moved")).await;
        assert_eq!(seen.header("location"), None);
    });
}

#[test]
fn a_folder_shows_its_index_document_and_is_found_without_its_slash() {
    with_client(|mut client| async move {
        make_site(&mut client, INDEX, OPEN).await;
        for key in ["index.html", "docs/index.html", "docs/a%20b", "plain", "plain/index.html"] {
            put(&mut client, key, key).await;
        }
        for (target, text) in [
            ("/", "index.html"),
            ("/index.html", "index.html"),
            ("/docs/", "docs/index.html"),
            ("/docs/a%20b", "docs/a%20b"),
            ("/plain", "plain"),
        ] {
            let seen = client.expect(200, visit("GET", target)).await;
            assert_eq!((seen.text(), seen.header("content-type")), (text, Some("text/html")), "{target}");
            let of_head = client.expect(200, visit("HEAD", target)).await;
            assert_eq!(of_head.header("content-length"), Some(text.len().to_string().as_str()));
            assert_eq!(of_head.header("etag"), seen.header("etag"));
        }
        assert_eq!(sent(&mut client, 302, "/docs").await, "/docs/");
        client.expect(403, visit("GET", "/doc")).await;
        client.expect(403, visit("GET", "/docs/a/")).await;
        put(&mut client, "/evil.test/index.html", "x").await;
        assert_eq!(sent(&mut client, 302, "//evil.test").await, "/%2Fevil.test/");
        assert_eq!(client.ops.permits.get(), 0);
    });
}

#[test]
fn a_visitor_is_nobody_and_its_query_and_signature_are_not_looked_at() {
    with_client(|mut client| async move {
        make_site(&mut client, INDEX, OPEN).await;
        put(&mut client, "index.html", "hello").await;
        put(&mut client, "a.zip/b", "in a folder").await;
        let queries = [
            "/?acl",
            "/?versionId=none&uploads&partNumber=x",
            "/?response-content-type=a",
            "/?X-Amz-Signature=x&X-Amz-Algorithm=AWS4-HMAC-SHA256",
            "/?website=&policy=",
        ];
        for target in queries {
            let seen = client.expect(200, visit("GET", target)).await;
            assert_eq!((seen.text(), seen.header("content-type")), ("hello", Some("text/html")), "{target}");
        }
        for (name, value) in
            [("authorization", "AWS x:y"), ("x-amz-expected-bucket-owner", "1"), ("x-minio-extract", "true")]
        {
            let seen = client.expect(200, visit("GET", "/a.zip/b").with(name, value)).await;
            assert_eq!(seen.text(), "in a folder", "{name}");
        }
        // Root's own signature opens nothing that is closed to everyone.
        client.expect(204, call("DELETE", "/bkt?policy=")).await;
        client.expect(403, call("GET", "/index.html").host(HOST)).await;
        client.expect(200, call("GET", "/bkt/index.html")).await;
    });
}

#[test]
fn ranges_and_conditions_hold_as_for_any_get() {
    with_client(|mut client| async move {
        make_site(&mut client, INDEX, OPEN).await;
        put(&mut client, "index.html", "hello").await;
        let seen = client.expect(206, visit("GET", "/").with("range", "bytes=1-2")).await;
        assert_eq!((seen.text(), seen.header("content-range")), ("el", Some("bytes 1-2/5")));
        let tag = seen.header("etag").unwrap().to_owned();
        client.expect(304, visit("GET", "/").with("if-none-match", &tag)).await;
        let seen = client.expect(412, visit("GET", "/").with("if-match", "\"x\"")).await;
        assert_eq!(seen.header("x-amz-error-code"), Some("PreconditionFailed"));
        let seen = client.expect(416, visit("GET", "/").with("range", "bytes=9-")).await;
        assert_eq!(seen.header("content-range"), Some("bytes */5"));
        assert!(seen.text().contains("<h1>416 Range Not Satisfiable</h1>"));
    });
}

#[test]
fn an_error_is_a_page_of_s3_or_the_sites_own_with_the_same_status() {
    with_client(|mut client| async move {
        let site = format!("{INDEX}<ErrorDocument><Key>sorry.html</Key></ErrorDocument>");
        make_site(&mut client, &site, OPEN_AND_LISTED).await;
        let seen = client.expect(404, visit("GET", "/a%3Cb")).await;
        let fields = ["content-type", "x-amz-error-code", "x-amz-error-message", "x-amz-error-detail-Key"];
        let told = fields.map(|name| seen.header(&name.to_ascii_lowercase()).unwrap_or_default().to_owned());
        assert_eq!(
            told,
            ["text/html; charset=utf-8", "NoSuchKey", "The specified key does not exist.", "a<b"]
        );
        assert!(seen.text().contains("<li>Key: a&lt;b</li>"), "{}", seen.text());
        assert!(seen.text().contains("Retrieve a Custom Error Document"));
        assert!(seen.text().contains("<li>Key: sorry.html</li>"));
        put(&mut client, "sorry.html", "sorry").await;
        let asked = visit("GET", "/none/").with("range", "bytes=9-").with("if-none-match", "*");
        let seen = client.expect(404, asked).await;
        assert_eq!((seen.text(), seen.header("content-type")), ("sorry", Some("text/html")));
        assert_eq!(seen.header("x-amz-error-code"), Some("NoSuchKey"));
        assert_eq!(seen.header("x-amz-error-detail-key"), Some("none/index.html"));
        let of_head = client.expect(404, visit("HEAD", "/none/")).await;
        assert_eq!(of_head.header("content-length"), Some("5"));
        assert_eq!(of_head.header("x-amz-error-code"), Some("NoSuchKey"));
        // Who may not list is not told that there is none.
        client.expect(204, call("PUT", "/bkt?policy=").body(OPEN)).await;
        let seen = client.expect(403, visit("GET", "/none")).await;
        assert_eq!((seen.text(), seen.header("x-amz-error-code")), ("sorry", Some("AccessDenied")));
        // What is closed is closed, the site's own page too.
        client.expect(204, call("DELETE", "/bkt?policy=")).await;
        let seen = client.expect(403, visit("GET", "/sorry.html")).await;
        assert_eq!(seen.text().matches("<li>Code: AccessDenied</li>").count(), 2, "{}", seen.text());
    });
}

#[test]
fn no_bucket_and_no_site_are_told_and_only_reads_are_taken() {
    with_client(|mut client| async move {
        for (host, code, bucket) in [
            (HOST, "NoSuchWebsiteConfiguration", "bkt"),
            ("none.web.test", "NoSuchBucket", "none"),
            ("x.web.test", "NoSuchBucket", "x"),
            ("www.site.test", "NoSuchBucket", "www.site.test"),
        ] {
            let seen = client.expect(404, visit("GET", "/").host(host)).await;
            assert_eq!(seen.header("x-amz-error-code"), Some(code), "{host}");
            assert!(seen.text().contains(&format!("<li>BucketName: {bucket}</li>")), "{}", seen.text());
        }
        make_site(&mut client, INDEX, OPEN).await;
        for method in ["PUT", "POST", "DELETE", "PATCH"] {
            let seen = client.expect(405, visit(method, "/index.html")).await;
            assert!(seen.text().contains(&format!("<li>Method: {method}</li>")), "{}", seen.text());
            assert_eq!(seen.header("allow"), Some("GET, HEAD, OPTIONS"));
        }
        client.expect(400, visit("GET", "/%ff")).await;
        client.expect(204, call("DELETE", "/bkt?website=")).await;
        let seen = client.expect(404, visit("GET", "/")).await;
        assert_eq!(seen.header("x-amz-error-code"), Some("NoSuchWebsiteConfiguration"));
    });
}

#[test]
fn a_site_has_a_domain_of_its_own_in_the_bucket_of_that_name() {
    with_client(|mut client| async move {
        client.expect(200, call("PUT", "/www.site.test")).await;
        let document = format!("<WebsiteConfiguration>{INDEX}</WebsiteConfiguration>");
        client.expect(200, call("PUT", "/www.site.test?website=").body(document)).await;
        let policy = OPEN.replace("bkt", "www.site.test");
        client.expect(204, call("PUT", "/www.site.test?policy=").body(policy)).await;
        client.expect(200, call("PUT", "/www.site.test/index.html").body("own")).await;
        let seen = client.expect(200, visit("GET", "/").host("www.site.test")).await;
        assert_eq!(seen.text(), "own");
        // Any other host is the API's.
        client.refused(403, "AccessDenied", visit("GET", "/").host("site.test")).await;
    });
}

#[test]
fn rules_send_visitors_elsewhere_before_and_after_a_page_was_looked_for() {
    with_client(|mut client| async move {
        let rules = "<RoutingRules>\
            <RoutingRule><Condition><KeyPrefixEquals>docs/</KeyPrefixEquals></Condition>\
            <Redirect><ReplaceKeyPrefixWith>documents/</ReplaceKeyPrefixWith></Redirect></RoutingRule>\
            <RoutingRule><Condition><HttpErrorCodeReturnedEquals>404</HttpErrorCodeReturnedEquals></Condition>\
            <Redirect><HostName>other.test</HostName><Protocol>https</Protocol><HttpRedirectCode>307</HttpRedirectCode>\
            <ReplaceKeyPrefixWith>#!/</ReplaceKeyPrefixWith></Redirect></RoutingRule></RoutingRules>";
        make_site(&mut client, &format!("{INDEX}{rules}"), OPEN_AND_LISTED).await;
        for key in ["docs/index.html", "there/index.html"] {
            put(&mut client, key, key).await;
        }
        assert_eq!(sent(&mut client, 301, "/docs/").await, format!("http://{HOST}/documents/"));
        assert_eq!(sent(&mut client, 301, "/docs/a%20b?c=d").await, format!("http://{HOST}/documents/a%20b"));
        assert_eq!(sent(&mut client, 307, "/no/ne").await, "https://other.test/#!/no/ne");
        assert_eq!(sent(&mut client, 307, "/no/").await, "https://other.test/#!/no/");
        // A folder is found before its lack is an error.
        assert_eq!(sent(&mut client, 302, "/there").await, "/there/");
        client.expect(200, visit("GET", "/there/")).await;
    });
}

#[test]
fn a_site_can_send_all_its_visitors_to_another_host() {
    with_client(|mut client| async move {
        let to = |more: &str| {
            format!("<RedirectAllRequestsTo><HostName>other.test</HostName>{more}</RedirectAllRequestsTo>")
        };
        make_site(&mut client, &to(""), OPEN).await;
        assert_eq!(sent(&mut client, 301, "/").await, "http://other.test/");
        assert_eq!(sent(&mut client, 301, "/a%20b/?c=d").await, "http://other.test/a%20b/?c=d");
        make_site(&mut client, &to("<Protocol>https</Protocol>"), OPEN).await;
        assert_eq!(sent(&mut client, 301, "/a").await, "https://other.test/a");
    });
}

#[test]
fn an_object_can_send_its_visitors_elsewhere_and_stays_an_object_for_the_api() {
    with_client(|mut client| async move {
        const FIELD: &str = "x-amz-website-redirect-location";
        make_site(&mut client, INDEX, OPEN).await;
        client.expect(200, call("PUT", "/bkt/old").with(FIELD, "/new?a=b").body("old")).await;
        assert_eq!(sent(&mut client, 301, "/old").await, "/new?a=b");
        client.expect(301, visit("GET", "/old").with("range", "bytes=9-").with("if-none-match", "*")).await;
        let seen = client.expect(200, call("GET", "/bkt/old")).await;
        assert_eq!((seen.text(), seen.header(FIELD)), ("old", Some("/new?a=b")));
        // A copy has it only where it is given anew.
        let copy = |key: &str| call("PUT", key).with("x-amz-copy-source", "/bkt/old");
        client.expect(200, copy("/bkt/copy")).await;
        assert_eq!(client.expect(200, visit("GET", "/copy")).await.text(), "old");
        client.expect(200, copy("/bkt/copy").with(FIELD, "https://other.test/")).await;
        assert_eq!(sent(&mut client, 301, "/copy").await, "https://other.test/");
        for refused in [call("PUT", "/bkt/k"), copy("/bkt/k"), call("POST", "/bkt/k?uploads=")] {
            client.refused(400, "InvalidRedirectLocation", refused.with(FIELD, "new.html")).await;
        }
        // The error document is an object like any other.
        let site = format!("{INDEX}<ErrorDocument><Key>old</Key></ErrorDocument>");
        make_site(&mut client, &site, OPEN_AND_LISTED).await;
        assert_eq!(sent(&mut client, 301, "/none").await, "/new?a=b");
        // What is closed sends nobody anywhere.
        client.expect(204, call("DELETE", "/bkt?policy=")).await;
        client.expect(403, visit("GET", "/old")).await;
    });
}

#[test]
fn pages_of_other_origins_may_read_a_site_by_the_buckets_rules() {
    with_client(|mut client| async move {
        make_site(&mut client, INDEX, OPEN).await;
        put(&mut client, "index.html", "hello").await;
        let cors = "<CORSConfiguration><CORSRule><AllowedMethod>GET</AllowedMethod><AllowedOrigin>http://a.test\
                    </AllowedOrigin></CORSRule></CORSConfiguration>";
        client.expect(200, call("PUT", "/bkt?cors=").body(cors)).await;
        for target in ["/", "/none"] {
            let seen = client.send(visit("GET", target).with("origin", "http://a.test")).await;
            assert_eq!(seen.header("access-control-allow-origin"), Some("http://a.test"), "{target}");
        }
        let preflight = |origin: &str| {
            visit("OPTIONS", "/").with("origin", origin).with("access-control-request-method", "GET")
        };
        client.expect(200, preflight("http://a.test")).await;
        let seen = client.expect(403, preflight("http://b.test")).await;
        assert_eq!(seen.header("content-type"), Some("text/html; charset=utf-8"));
    });
}
