//! Answers that AWS was seen to give, where they are easily given otherwise.

use super::*;

/// Rules under which everything goes after three days, and unfinished uploads after two.
const RULES: &str = "<LifecycleConfiguration><Rule><ID>all of it</ID><Filter/><Status>Enabled</Status><Expiration>\
    <Days>3</Days></Expiration><AbortIncompleteMultipartUpload><DaysAfterInitiation>2</DaysAfterInitiation>\
    </AbortIncompleteMultipartUpload></Rule></LifecycleConfiguration>";

fn elements(seen: &Seen, expected: &[(&str, &str)]) {
    for (name, value) in expected {
        let element = format!("<{name}>{value}</{name}>");
        assert!(seen.text().contains(&element), "{element} in {}", seen.text());
    }
}

/// The call with the digest that a document of object lock must have.
fn with_digest(call: Call) -> Call {
    let sum = STANDARD.encode(digest::digest(&digest::SHA256, &call.body));
    call.with("x-amz-checksum-sha256", &sum)
}

#[test]
fn an_error_says_which_condition_failed() {
    with_client(|mut client| async move {
        client.expect(200, call("PUT", "/bkt/k").body("hello")).await;
        let copy = || call("PUT", "/bkt/copy").with("x-amz-copy-source", "/bkt/k");
        let old = "Thu, 01 Jan 1970 00:00:01 GMT";
        for (call, condition) in [
            (call("PUT", "/bkt/k").with("if-none-match", "*"), "If-None-Match"),
            (call("PUT", "/bkt/k").with("if-match", "x"), "If-Match"),
            (call("GET", "/bkt/k").with("if-match", "x"), "If-Match"),
            (call("GET", "/bkt/k").with("if-unmodified-since", old), "If-Unmodified-Since"),
            (copy().with("x-amz-copy-source-if-match", "x"), "x-amz-copy-source-If-Match"),
            (
                copy().with("x-amz-copy-source-if-modified-since", "Sun, 06 Nov 1994 08:49:37 GMT"),
                "x-amz-copy-source-If-Modified-Since",
            ),
        ] {
            elements(&client.expect(412, call).await, &[("Condition", condition)]);
        }
        for method in ["GET", "HEAD"] {
            let to_come = call(method, "/bkt/k").with("if-modified-since", "Sat, 25 May 2013 00:00:00 GMT");
            client.expect(200, to_come).await;
        }
        let to_come = copy().with("x-amz-copy-source-if-modified-since", "Sat, 25 May 2013 00:00:00 GMT");
        client.expect(200, to_come).await;
        let both = call("PUT", "/bkt/k").with("if-match", "x").with("if-none-match", "*");
        let seen = client.expect(501, both).await;
        elements(&seen, &[("Code", "NotImplemented"), ("Header", "If-Match,If-None-Match")]);
        let seen = client.expect(405, call("PATCH", "/bkt/k")).await;
        elements(&seen, &[("Method", "PATCH"), ("ResourceType", "OBJECT")]);
    });
}

#[test]
fn requests_that_name_nothing_are_refused_in_aws_words() {
    with_client(|mut client| async move {
        client.wire.send("OPTIONS /bkt HTTP/1.1\r\nhost: h\r\norigin: https://a.example.com\r\n\r\n");
        let seen = client.wire.response(false).await.unwrap();
        assert_eq!((seen.status, seen.code()), (403, "AccessForbidden"));
        elements(&seen, &[("Method", "OPTIONS"), ("ResourceType", "BUCKET")]);
        client.refused(400, "MalformedPolicy", call("PUT", "/bkt?policy=")).await;
        for target in ["/bkt?encoding-type=", "/bkt?encoding-type=&uploads=", "/bkt?encoding-type=&versions="]
        {
            client.refused(400, "InvalidArgument", call("GET", target)).await;
        }
    });
}

#[test]
fn copies_and_completions_say_when_they_expire_and_uploads_when_they_are_aborted() {
    with_client(|mut client| async move {
        client.expect(200, call("PUT", "/bkt?lifecycle=").body(RULES)).await;
        client.expect(200, call("PUT", "/bkt/k").body("v")).await;
        let expires = Some("expiry-date=\"Thu, 10 Nov 1994 00:00:00 GMT\", rule-id=\"all%20of%20it\"");
        let copy = call("PUT", "/bkt/copy").with("x-amz-copy-source", "/bkt/k");
        assert_eq!(client.expect(200, copy).await.header("x-amz-expiration"), expires);
        let begun = client.expect(200, call("POST", "/bkt/big?uploads=")).await;
        let upload = format!("/bkt/big?uploadId={}", "01".repeat(16));
        let listed = client.expect(200, call("GET", &upload)).await;
        for seen in [&begun, &listed] {
            assert_eq!(seen.header("x-amz-abort-date"), Some("Wed, 09 Nov 1994 00:00:00 GMT"));
            assert_eq!(seen.header("x-amz-abort-rule-id"), Some("all%20of%20it"));
        }
        let part = call("PUT", &format!("/bkt/big?partNumber=1&uploadId={}", "01".repeat(16)));
        let etag = client.expect(200, part.body("v")).await.header("etag").unwrap().to_owned();
        let parts = format!(
            "<CompleteMultipartUpload><Part><PartNumber>1</PartNumber><ETag>{etag}</ETag></Part>\
             </CompleteMultipartUpload>"
        );
        let completed = client.expect(200, call("POST", &upload).body(parts)).await;
        assert_eq!(completed.header("x-amz-expiration"), expires);
    });
}

#[test]
fn a_lock_is_shown_to_those_only_who_may_see_it() {
    with_client(|mut client| async move {
        let locked = call("PUT", "/bkt/k")
            .with("x-amz-object-lock-mode", "GOVERNANCE")
            .with("x-amz-object-lock-retain-until-date", "2013-06-24T00:00:00Z")
            .with("x-amz-object-lock-legal-hold", "ON");
        client.expect(200, with_digest(locked.body("v"))).await;
        let shown = |seen: &Seen| {
            let has = |name: &str| seen.header(&format!("x-amz-object-lock-{name}")).is_some();
            [has("mode"), has("retain-until-date"), has("legal-hold")]
        };
        assert_eq!(shown(&client.expect(200, call("GET", "/bkt/k")).await), [true; 3]);
        for (actions, expected) in [
            (r#""s3:GetObject""#, [false; 3]),
            (r#""s3:GetObject","s3:GetObjectRetention""#, [true, true, false]),
            (r#""s3:GetObject","s3:GetObjectLegalHold""#, [false, false, true]),
        ] {
            let policy = format!(
                r#"{{"Statement":{{"Effect":"Allow","Principal":"*","Action":[{actions}],
                    "Resource":"arn:aws:s3:::bkt/*"}}}}"#
            );
            client.expect(204, call("PUT", "/bkt?policy=").body(policy)).await;
            for method in ["GET", "HEAD"] {
                let seen = client.expect(200, call(method, "/bkt/k").by_user()).await;
                assert_eq!(shown(&seen), expected, "{actions}");
            }
        }
    });
}

#[test]
fn documents_of_object_lock_need_a_digest_and_conditions_see_what_they_say() {
    with_client(|mut client| async move {
        client.expect(200, call("PUT", "/bkt/k").body("v")).await;
        let retain = |mode: &str| {
            let until = "<RetainUntilDate>2013-06-24T00:00:00Z</RetainUntilDate>";
            call("PUT", "/bkt/k?retention=")
                .body(format!("<Retention><Mode>{mode}</Mode>{until}</Retention>"))
        };
        let hold = |word: &str| {
            call("PUT", "/bkt/k?legal-hold=").body(format!("<LegalHold><Status>{word}</Status></LegalHold>"))
        };
        let enable = call("PUT", "/bkt?object-lock=")
            .body("<ObjectLockConfiguration><ObjectLockEnabled>Enabled</ObjectLockEnabled></ObjectLockConfiguration>");
        for call in [retain("GOVERNANCE"), hold("ON"), enable] {
            let seen = client.expect(400, call).await;
            assert!(seen.text().contains("Content-MD5 OR x-amz-checksum-"), "{}", seen.text());
        }
        let policy = r#"{"Statement":[
            {"Effect":"Allow","Principal":"*","Action":"s3:PutObjectRetention","Resource":"arn:aws:s3:::bkt/*",
             "Condition":{"StringEquals":{"s3:object-lock-mode":"GOVERNANCE"},
                          "NumericLessThan":{"s3:object-lock-remaining-retention-days":"40"}}},
            {"Effect":"Allow","Principal":"*","Action":"s3:PutObjectLegalHold","Resource":"arn:aws:s3:::bkt/*",
             "Condition":{"StringEquals":{"s3:object-lock-legal-hold":"ON"}}}]}"#;
        client.expect(204, call("PUT", "/bkt?policy=").body(policy)).await;
        // Who may is told that this bucket has no object lock.
        for call in [retain("GOVERNANCE"), hold("ON")] {
            client.refused(400, "InvalidRequest", with_digest(call).by_user()).await;
        }
        let header = |call: Call| call.with("x-amz-object-lock-mode", "GOVERNANCE");
        for call in [header(retain("COMPLIANCE")), hold("OFF").with("x-amz-object-lock-legal-hold", "ON")] {
            client.refused(403, "AccessDenied", with_digest(call).by_user()).await;
        }
    });
}

#[test]
fn who_may_only_append_is_not_told_how_long_an_object_is() {
    with_client(|mut client| async move {
        client.expect(200, call("PUT", "/bkt/k").body("12345")).await;
        let policy = |action: &str| {
            format!(
                r#"{{"Statement":{{"Effect":"Allow","Principal":"*","Action":{action},
                    "Resource":"arn:aws:s3:::bkt/*"}}}}"#
            )
        };
        let append = || call("PUT", "/bkt/k").with("x-amz-write-offset-bytes", "3").body("6").by_user();
        client.expect(204, call("PUT", "/bkt?policy=").body(policy(r#""s3:PutObject""#))).await;
        let seen = client.expect(400, append()).await;
        assert_eq!((seen.code(), seen.text().contains("ObjectSize")), ("InvalidWriteOffset", false));
        let both = policy(r#"["s3:PutObject","s3:GetObject"]"#);
        client.expect(204, call("PUT", "/bkt?policy=").body(both)).await;
        elements(&client.expect(400, append()).await, &[("ObjectSize", "5")]);
    });
}

#[test]
fn listings_name_the_owner_of_each_object_and_upload() {
    with_client(|mut client| async move {
        let made = call("PUT", "/many").with("x-amz-object-ownership", "ObjectWriter");
        client.expect(200, made.with("x-amz-acl", "public-read-write")).await;
        client.expect(200, call("PUT", "/many/hers").body("x").by_user()).await;
        client.expect(200, call("PUT", "/many/roots").body("x")).await;
        client.expect(200, call("POST", "/many/hers-begun?uploads=").by_user()).await;
        client.expect(200, call("POST", "/many/roots-begun?uploads=")).await;
        let owner =
            |id: &str, name: &str| format!("<Owner><ID>{id}</ID><DisplayName>{name}</DisplayName></Owner>");
        let (hers, roots) = (owner(USER_ID, "ann"), owner(ROOT_ID, "root"));
        for (target, element) in [
            ("/many", "Contents"),
            ("/many?list-type=2&fetch-owner=true", "Contents"),
            ("/many?versions=", "Version"),
            ("/many?uploads=", "Upload"),
        ] {
            let seen = client.expect(200, call("GET", target)).await;
            let entries: Vec<&str> = seen.text().split(&format!("<{element}>")).skip(1).collect();
            assert_eq!(entries.len(), 2, "{target}: {}", seen.text());
            for (entry, wanted) in entries.iter().zip([&hers, &roots]) {
                assert!(entry.contains(wanted.as_str()), "{target}: {entry}");
            }
        }
        let parts = format!("/many/hers-begun?uploadId={}", "01".repeat(16));
        let seen = client.expect(200, call("GET", &parts)).await;
        assert!(seen.text().contains(&hers), "{}", seen.text());
        let plain = client.expect(200, call("GET", "/many?list-type=2")).await;
        assert!(!plain.text().contains("<Owner>"), "{}", plain.text());
        // Where lists do not count everything is the bucket owner's.
        let enforced = "<OwnershipControls><Rule><ObjectOwnership>BucketOwnerEnforced</ObjectOwnership></Rule>\
                        </OwnershipControls>";
        client.expect(200, call("PUT", "/many?acl=").with("x-amz-acl", "private")).await;
        client.expect(200, call("PUT", "/many?ownershipControls=").body(enforced)).await;
        for target in ["/many", "/many?versions=", "/many?uploads="] {
            let seen = client.expect(200, call("GET", target)).await;
            assert!(
                !seen.text().contains(&hers) && seen.text().contains(&roots),
                "{target}: {}",
                seen.text()
            );
        }
    });
}
