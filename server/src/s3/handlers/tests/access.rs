//! Who may do what, from the wire: policies, lists and blocks as they are put and as they act.

use super::{USER_ID, call, with_client};

const PUBLIC_READ: &str = r#"{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Principal":"*",
    "Action":"s3:GetObject","Resource":"arn:aws:s3:::bkt/open/*"}]}"#;

#[test]
fn a_policy_comes_back_as_it_was_put_and_acts_at_once() {
    with_client(|mut client| async move {
        client.expect(200, call("PUT", "/bkt/open/a").body("for all")).await;
        client.expect(200, call("PUT", "/bkt/b").body("secret")).await;
        client.refused(403, "AccessDenied", call("GET", "/bkt/open/a").anonymous()).await;
        client.expect(204, call("PUT", "/bkt?policy=").body(PUBLIC_READ)).await;
        let seen = client.expect(200, call("GET", "/bkt?policy=")).await;
        assert_eq!((seen.text(), seen.header("content-type")), (PUBLIC_READ, Some("application/json")));
        for by in [|call: super::Call| call.anonymous(), |call: super::Call| call.by_user()] {
            assert_eq!(client.expect(200, by(call("GET", "/bkt/open/a"))).await.text(), "for all");
            client.refused(403, "AccessDenied", by(call("GET", "/bkt/b"))).await;
            client.refused(403, "AccessDenied", by(call("PUT", "/bkt/open/a").body("x"))).await;
            client.refused(403, "AccessDenied", by(call("GET", "/bkt"))).await;
            client.refused(403, "AccessDenied", by(call("GET", "/bkt?policy="))).await;
            // Whether a key exists is told to those only who may list.
            client.refused(403, "AccessDenied", by(call("GET", "/bkt/open/none"))).await;
        }
        client.refused(404, "NoSuchKey", call("GET", "/bkt/open/none")).await;
        let status = client.expect(200, call("GET", "/bkt?policyStatus=")).await;
        assert!(status.text().contains("<IsPublic>true</IsPublic>"));
        client.expect(204, call("DELETE", "/bkt?policy=")).await;
        client.refused(403, "AccessDenied", call("GET", "/bkt/open/a").anonymous()).await;
        client.refused(404, "NoSuchBucketPolicy", call("GET", "/bkt?policy=")).await;
    });
}

#[test]
fn a_policy_that_is_not_understood_is_refused() {
    with_client(|mut client| async move {
        let put = |text: &str| call("PUT", "/bkt?policy=").body(text);
        client.refused(400, "MalformedPolicy", put("{}")).await;
        client.refused(400, "MalformedPolicy", put("not json")).await;
        client.refused(400, "MalformedPolicy", put(&PUBLIC_READ.replace("bkt", "other"))).await;
        client.refused(400, "PolicyTooLarge", put(&format!("{PUBLIC_READ}{}", " ".repeat(20 * 1024)))).await;
        client.refused(404, "NoSuchBucketPolicy", call("GET", "/bkt?policy=")).await;
    });
}

#[test]
fn a_deny_holds_for_root_who_can_still_take_the_policy_away() {
    with_client(|mut client| async move {
        client.expect(200, call("PUT", "/bkt/k").body("x")).await;
        let deny = r#"{"Statement":{"Effect":"Deny","Principal":"*","Action":"s3:*",
            "Resource":["arn:aws:s3:::bkt","arn:aws:s3:::bkt/*"]}}"#;
        client.expect(204, call("PUT", "/bkt?policy=").body(deny)).await;
        client.refused(403, "AccessDenied", call("GET", "/bkt/k")).await;
        client.refused(403, "AccessDenied", call("GET", "/bkt?acl=")).await;
        client.expect(200, call("GET", "/bkt?policy=")).await;
        client.expect(204, call("DELETE", "/bkt?policy=")).await;
        client.expect(200, call("GET", "/bkt/k")).await;
    });
}

#[test]
fn many_deletes_are_asked_for_key_by_key() {
    with_client(|mut client| async move {
        for key in ["mine/a", "other"] {
            client.expect(200, call("PUT", &format!("/bkt/{key}"))).await;
        }
        let policy = format!(
            r#"{{"Statement":{{"Effect":"Allow","Principal":{{"AWS":"{USER_ID}"}},"Action":"s3:DeleteObject",
                "Resource":"arn:aws:s3:::bkt/mine/*"}}}}"#
        );
        client.expect(204, call("PUT", "/bkt?policy=").body(policy)).await;
        let body = "<Delete><Object><Key>mine/a</Key></Object><Object><Key>other</Key></Object></Delete>";
        let seen = client.expect(200, super::deletes("/bkt?delete=", body).by_user()).await;
        assert!(seen.text().contains("<Deleted><Key>mine/a</Key></Deleted>"), "{}", seen.text());
        assert!(
            seen.text().contains("<Key>other</Key>") && seen.text().contains("AccessDenied"),
            "{}",
            seen.text()
        );
        client.expect(404, call("HEAD", "/bkt/mine/a")).await;
        client.expect(200, call("HEAD", "/bkt/other")).await;
    });
}

#[test]
fn conditions_see_headers_and_tags() {
    with_client(|mut client| async move {
        client.expect(200, call("PUT", "/bkt/public").with("x-amz-tagging", "class=public")).await;
        client.expect(200, call("PUT", "/bkt/private").with("x-amz-tagging", "class=private")).await;
        let policy = r#"{"Statement":[
            {"Effect":"Allow","Principal":"*","Action":["s3:GetObject","s3:GetObjectTagging"],
             "Resource":"arn:aws:s3:::bkt/*","Condition":{"StringEquals":{"s3:ExistingObjectTag/class":"public"}}},
            {"Effect":"Allow","Principal":"*","Action":"s3:PutObjectTagging","Resource":"arn:aws:s3:::bkt/*",
             "Condition":{"ForAllValues:StringEquals":{"s3:RequestObjectTagKeys":["class"]},
                          "Null":{"s3:RequestObjectTagKeys":"false"}}},
            {"Effect":"Allow","Principal":"*","Action":"s3:PutObject","Resource":"arn:aws:s3:::bkt/*",
             "Condition":{"StringEquals":{"s3:x-amz-copy-source":"bkt/public"}}}]}"#;
        client.expect(204, call("PUT", "/bkt?policy=").body(policy)).await;
        client.expect(200, call("GET", "/bkt/public").anonymous()).await;
        client.expect(200, call("GET", "/bkt/public?tagging=").anonymous()).await;
        client.refused(403, "AccessDenied", call("GET", "/bkt/private").anonymous()).await;
        let tags = |key: &str| {
            let set =
                format!("<Tagging><TagSet><Tag><Key>{key}</Key><Value>v</Value></Tag></TagSet></Tagging>");
            call("PUT", "/bkt/private?tagging=").body(set).by_user()
        };
        client.refused(403, "AccessDenied", tags("other")).await;
        client.expect(200, tags("class")).await;
        let copy = |source: &str| call("PUT", "/bkt/copy").with("x-amz-copy-source", source).by_user();
        client.expect(200, copy("/bkt/public")).await;
        client.refused(403, "AccessDenied", copy("/bkt/private")).await;
        client.refused(403, "AccessDenied", call("PUT", "/bkt/copy").by_user()).await;
    });
}

#[test]
fn lists_are_refused_where_the_owner_owns_everything() {
    with_client(|mut client| async move {
        client.expect(200, call("PUT", "/bkt/k")).await;
        let acl = |target: &str, name: &str| call("PUT", target).with("x-amz-acl", name);
        for call in [
            acl("/bkt?acl=", "public-read"),
            acl("/bkt/k?acl=", "private"),
            acl("/bkt/new", "public-read"),
            acl("/bkt/copy", "private").with("x-amz-copy-source", "/bkt/k"),
        ] {
            client.refused(400, "AccessControlListNotSupported", call).await;
        }
        client.expect(200, acl("/bkt/k", "bucket-owner-full-control")).await;
        client.refused(400, "InvalidBucketAclWithObjectOwnership", acl("/open", "public-read")).await;
        client.expect(200, acl("/shut", "private")).await;
        let seen = client.expect(200, call("GET", "/bkt?ownershipControls=")).await;
        assert!(seen.text().contains("<ObjectOwnership>BucketOwnerEnforced</ObjectOwnership>"));
    });
}

#[test]
fn a_list_of_a_bucket_acts_once_ownership_lets_it() {
    with_client(|mut client| async move {
        let made = call("PUT", "/acls").with("x-amz-object-ownership", "ObjectWriter");
        client.expect(200, made.with("x-amz-acl", "public-read")).await;
        client.expect(200, call("GET", "/acls").anonymous()).await;
        client.refused(403, "AccessDenied", call("PUT", "/acls/k").anonymous()).await;
        client.expect(200, call("PUT", "/acls?acl=").with("x-amz-acl", "public-read-write")).await;
        client.expect(200, call("PUT", "/acls/k").body("x").anonymous()).await;
        let seen = client.expect(200, call("GET", "/acls?acl=")).await;
        assert!(
            seen.text().contains("global/AllUsers</URI></Grantee><Permission>WRITE</Permission>"),
            "{}",
            seen.text()
        );
        let document = seen.text().to_owned();
        client.expect(200, call("PUT", "/acls?acl=").with("x-amz-acl", "private")).await;
        client.refused(403, "AccessDenied", call("GET", "/acls").anonymous()).await;
        client.expect(200, call("PUT", "/acls?acl=").body(document)).await;
        client.expect(200, call("GET", "/acls").anonymous()).await;
        let enforced = "<OwnershipControls><Rule><ObjectOwnership>BucketOwnerEnforced</ObjectOwnership></Rule>\
             </OwnershipControls>";
        let enforce = || call("PUT", "/acls?ownershipControls=").body(enforced);
        client.refused(400, "InvalidBucketAclWithObjectOwnership", enforce()).await;
        client.expect(200, call("PUT", "/acls?acl=").with("x-amz-acl", "private")).await;
        client.expect(200, enforce()).await;
        client.expect(204, call("DELETE", "/acls?ownershipControls=")).await;
        client.refused(404, "OwnershipControlsNotFoundError", call("GET", "/acls?ownershipControls=")).await;
    });
}

#[test]
fn an_object_of_another_is_read_by_its_own_list() {
    with_client(|mut client| async move {
        let made = call("PUT", "/acls").with("x-amz-object-ownership", "ObjectWriter");
        client.expect(200, made.with("x-amz-acl", "public-read-write").by_user()).await;
        client
            .expect(200, call("PUT", "/acls/open").body("o").with("x-amz-acl", "public-read").by_user())
            .await;
        client.expect(200, call("PUT", "/acls/shut").body("s").by_user()).await;
        assert_eq!(client.expect(200, call("GET", "/acls/open").anonymous()).await.text(), "o");
        client.refused(403, "AccessDenied", call("GET", "/acls/shut").anonymous()).await;
        client.refused(404, "NoSuchKey", call("GET", "/acls/none").anonymous()).await;
        client.refused(403, "AccessDenied", call("GET", "/acls/open?acl=").anonymous()).await;
        // What another wrote is the other's, whoever owns the bucket.
        client.expect(200, call("PUT", "/acls/roots").body("r")).await;
        client.refused(403, "AccessDenied", call("GET", "/acls/roots").by_user()).await;
        let seen = client.expect(200, call("GET", "/acls/roots?acl=")).await;
        assert!(seen.text().contains("<DisplayName>root</DisplayName>"), "{}", seen.text());
        let grant = call("PUT", "/acls/roots?acl=").with("x-amz-grant-read", &format!("id={USER_ID}"));
        client.expect(200, grant).await;
        assert_eq!(client.expect(200, call("GET", "/acls/roots").by_user()).await.text(), "r");
        client.refused(403, "AccessDenied", call("GET", "/acls/roots?acl=").by_user()).await;
        // A copy is its writer's, with the list that the copy asks for and the headers of the source.
        let source = call("PUT", "/acls/open").body("o").with("x-amz-acl", "public-read");
        client.expect(200, source.with("x-amz-meta-m", "1").by_user()).await;
        let copy = |key: &str| call("PUT", &format!("/acls/{key}")).with("x-amz-copy-source", "/acls/open");
        client.expect(200, copy("mine")).await;
        client.refused(403, "AccessDenied", call("GET", "/acls/mine").anonymous()).await;
        client.refused(403, "AccessDenied", call("GET", "/acls/mine").by_user()).await;
        client.expect(200, copy("shared").with("x-amz-acl", "public-read")).await;
        let seen = client.expect(200, call("GET", "/acls/shared").anonymous()).await;
        assert_eq!((seen.text(), seen.header("x-amz-meta-m")), ("o", Some("1")));
        let document = client.expect(200, call("GET", "/acls/open?acl=").by_user()).await.text().to_owned();
        client.expect(200, call("PUT", "/acls/open?acl=").with("x-amz-acl", "private").by_user()).await;
        client.refused(403, "AccessDenied", call("GET", "/acls/open").anonymous()).await;
        client.expect(200, call("PUT", "/acls/open?acl=").body(document.clone()).by_user()).await;
        client.expect(200, call("GET", "/acls/open").anonymous()).await;
        let put = |text: &str| call("PUT", "/acls/open?acl=").body(text.to_owned()).by_user();
        client.refused(400, "MalformedACLError", put(&document.replace("READ", "SEE"))).await;
        client
            .refused(
                400,
                "InvalidArgument",
                put(&document.replacen(USER_ID, "nobody", 3).replacen("nobody", USER_ID, 1)),
            )
            .await;
        client.refused(403, "AccessDenied", put(&document.replacen(USER_ID, super::ROOT_ID, 1))).await;
    });
}

#[test]
fn a_public_access_block_refuses_what_would_open_the_bucket() {
    with_client(|mut client| async move {
        client
            .refused(404, "NoSuchPublicAccessBlockConfiguration", call("GET", "/bkt?publicAccessBlock="))
            .await;
        let switches = "<PublicAccessBlockConfiguration><BlockPublicAcls>true</BlockPublicAcls>\
             <BlockPublicPolicy>true</BlockPublicPolicy></PublicAccessBlockConfiguration>";
        client.expect(204, call("PUT", "/bkt?policy=").body(PUBLIC_READ)).await;
        client.expect(200, call("PUT", "/bkt?publicAccessBlock=").body(switches)).await;
        let seen = client.expect(200, call("GET", "/bkt?publicAccessBlock=")).await;
        assert!(seen.text().contains("<BlockPublicAcls>true</BlockPublicAcls><IgnorePublicAcls>false<"));
        client.refused(403, "AccessDenied", call("PUT", "/bkt?policy=").body(PUBLIC_READ)).await;
        let named = PUBLIC_READ.replace("\"*\"", &format!("{{\"AWS\":\"{USER_ID}\"}}"));
        client.expect(204, call("PUT", "/bkt?policy=").body(named)).await;
        client.expect(204, call("DELETE", "/bkt?publicAccessBlock=")).await;
        client.expect(204, call("PUT", "/bkt?policy=").body(PUBLIC_READ)).await;
    });
}

/// Story: `?tagging&x=versionId` was asked for as a change of a version and changed the current one.
#[test]
fn a_version_is_named_by_its_parameter_and_by_nothing_else() {
    with_client(|mut client| async move {
        client.expect(200, call("PUT", "/bkt/k").body("v")).await;
        let policy = r#"{"Statement":{"Effect":"Allow","Principal":"*","Action":"s3:PutObjectVersionTagging",
            "Resource":"arn:aws:s3:::bkt/*"}}"#;
        client.expect(204, call("PUT", "/bkt?policy=").body(policy)).await;
        let tags = "<Tagging><TagSet><Tag><Key>a</Key><Value>v</Value></Tag></TagSet></Tagging>";
        let put = |target: &str| call("PUT", target).body(tags).by_user();
        client.refused(403, "AccessDenied", put("/bkt/k?tagging=&x=versionId")).await;
        client.refused(403, "AccessDenied", put("/bkt/k?tagging=")).await;
        client.expect(200, put("/bkt/k?tagging=&versionId=null")).await;
    });
}

#[test]
fn a_delete_that_demands_a_tag_is_of_those_only_who_may_read_the_object() {
    with_client(|mut client| async move {
        let allow = |actions: &str| {
            call("PUT", "/bkt?policy=").body(format!(
                r#"{{"Statement":{{"Effect":"Allow","Principal":"*","Action":[{actions}],
                    "Resource":["arn:aws:s3:::bkt","arn:aws:s3:::bkt/*"]}}}}"#
            ))
        };
        let etag = client.expect(200, call("PUT", "/bkt/k").body("v")).await;
        let etag = etag.header("etag").unwrap().to_owned();
        let delete =
            |key: &str, tag: &str| call("DELETE", &format!("/bkt/{key}")).with("if-match", tag).by_user();
        let in_bulk = |key: &str, tag: &str| {
            let tag = tag.trim_matches('"');
            let document = format!("<Delete><Object><Key>{key}</Key><ETag>{tag}</ETag></Object></Delete>");
            super::deletes("/bkt?delete=", &document).by_user()
        };
        // What is there, and which tag it has, is not found out by who may only delete.
        client.expect(204, allow(r#""s3:DeleteObject""#)).await;
        for (key, tag) in [("k", etag.as_str()), ("k", "x"), ("none", "x"), ("none", "*")] {
            client.refused(403, "AccessDenied", delete(key, tag)).await;
            let seen = client.expect(200, in_bulk(key, tag)).await;
            assert!(seen.text().contains("<Code>AccessDenied</Code>"), "{key} {tag}: {}", seen.text());
        }
        client.expect(204, allow(r#""s3:DeleteObject","s3:GetObject""#)).await;
        client.refused(412, "PreconditionFailed", delete("k", "x")).await;
        client.refused(403, "AccessDenied", delete("none", "x")).await;
        let seen = client.expect(200, in_bulk("none", "x")).await;
        assert!(seen.text().contains("<Code>AccessDenied</Code>"), "{}", seen.text());
        client.expect(204, allow(r#""s3:DeleteObject","s3:GetObject","s3:ListBucket""#)).await;
        client.refused(404, "NoSuchKey", delete("none", "x")).await;
        let seen = client.expect(200, in_bulk("none", "x")).await;
        assert!(seen.text().contains("<Code>NoSuchKey</Code>"), "{}", seen.text());
        let seen = client.expect(200, in_bulk("k", "x")).await;
        assert!(seen.text().contains("<Code>PreconditionFailed</Code>"), "{}", seen.text());
        client.expect(204, delete("k", &etag)).await;
        client.refused(404, "NoSuchKey", call("GET", "/bkt/k")).await;
    });
}

#[test]
fn the_owner_of_a_bucket_finds_out_no_tag_of_an_object_that_is_anothers() {
    with_client(|mut client| async move {
        let made = call("PUT", "/acls").with("x-amz-object-ownership", "ObjectWriter");
        client.expect(200, made.with("x-amz-acl", "public-read-write").by_user()).await;
        client.expect(200, call("PUT", "/acls/roots").body("12345")).await;
        let delete = call("DELETE", "/acls/roots").with("if-match", "x").by_user();
        client.refused(403, "AccessDenied", delete).await;
        let document = "<Delete><Object><Key>roots</Key><ETag>x</ETag></Object></Delete>";
        let seen = client.expect(200, super::deletes("/acls?delete=", document).by_user()).await;
        assert!(seen.text().contains("<Code>AccessDenied</Code>"), "{}", seen.text());
        // Nor how long it is, by an append at a wrong offset.
        let append = || call("PUT", "/acls/roots").with("x-amz-write-offset-bytes", "3").body("6").by_user();
        let seen = client.expect(400, append()).await;
        assert_eq!((seen.code(), seen.text().contains("ObjectSize")), ("InvalidWriteOffset", false));
        let grant = call("PUT", "/acls/roots?acl=").with("x-amz-grant-read", &format!("id={USER_ID}"));
        client.expect(200, grant).await;
        let seen = client.expect(400, append()).await;
        assert!(seen.text().contains("<ObjectSize>5</ObjectSize>"), "{}", seen.text());
    });
}
