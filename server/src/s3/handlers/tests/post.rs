//! Browser uploads as a browser sends them.

use bytes::Bytes;

use super::*;
use crate::ops::api::{BucketName, ListObjects, Operations as _};

/// A policy for the bucket that ends in an hour, with more conditions.
fn policy(conditions: &str) -> String {
    let conditions = if conditions.is_empty() { String::new() } else { format!(", {conditions}") };
    STANDARD.encode(format!(
        "{{\"expiration\": \"2013-05-24T01:00:00Z\", \"conditions\": [{{\"bucket\": \"bkt\"}}, \
         [\"starts-with\", \"$key\", \"up/\"]{conditions}]}}"
    ))
}

/// The fields of a form that root signs with SigV2.
fn signed(policy: &str) -> Vec<(String, String)> {
    let key = hmac::Key::new(hmac::HMAC_SHA1_FOR_LEGACY_USE_ONLY, SECRET.as_bytes());
    let signature = STANDARD.encode(hmac::sign(&key, policy.as_bytes()));
    fields(&[
        ("key", "up/${filename}"),
        ("AWSAccessKeyId", KEY),
        ("Policy", policy),
        ("Signature", &signature),
    ])
}

fn fields(pairs: &[(&str, &str)]) -> Vec<(String, String)> {
    pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
}

fn and(mut form: Vec<(String, String)>, more: &[(&str, &str)]) -> Vec<(String, String)> {
    form.extend(fields(more));
    form
}

/// The form as a request, unsigned.
fn post(form: &[(String, String)], file: &str) -> Call {
    let mut body = String::new();
    for (name, value) in form {
        body.push_str(&format!(
            "--xyz\r\nContent-Disposition: form-data; name=\"{name}\"\r\n\r\n{value}\r\n"
        ));
    }
    body.push_str(&format!(
        "--xyz\r\nContent-Disposition: form-data; name=\"file\"; filename=\"f.txt\"\r\n\r\n{file}\r\n--xyz--\r\n"
    ));
    call("POST", "/bkt").anonymous().with("content-type", "multipart/form-data; boundary=xyz").body(body)
}

#[test]
fn a_form_is_stored_as_the_put_that_it_stands_for() {
    with_client(|mut client| async move {
        let conditions = "[\"starts-with\", \"$Content-Type\", \"text/\"], {\"x-amz-meta-a\": \"1\"}, \
                          [\"starts-with\", \"$tagging\", \"\"]";
        let tags = "<Tagging><TagSet><Tag><Key>t</Key><Value>2</Value></Tag></TagSet></Tagging>";
        let more =
            [("Content-Type", "text/plain"), ("x-amz-meta-a", "1"), ("tagging", tags), ("x-ignore-b", "3")];
        let form = and(signed(&policy(conditions)), &more);
        let seen = client.expect(204, post(&form, "hello")).await;
        assert_eq!(seen.header("etag"), Some("\"5d41402abc4b2a76b9719d911017c592\""));
        assert_eq!(seen.header("location"), Some("http://localhost:9000/bkt/up/f.txt"));
        let seen = client.expect(200, call("GET", "/bkt/up/f.txt")).await;
        assert_eq!(seen.text(), "hello");
        for (name, value) in
            [("content-type", "text/plain"), ("x-amz-meta-a", "1"), ("x-amz-tagging-count", "1")]
        {
            assert_eq!(seen.header(name), Some(value));
        }
    });
}

#[test]
fn a_form_asks_for_encryption_as_a_put_does() {
    with_client(|mut client| async move {
        let sse = "x-amz-server-side-encryption";
        let ours = and(signed(&policy("{\"x-amz-server-side-encryption\": \"AES256\"}")), &[(sse, "AES256")]);
        let seen = client.expect(204, post(&ours, "hello")).await;
        assert_eq!(seen.header(sse), Some("AES256"));
        assert_eq!(client.expect(200, call("HEAD", "/bkt/up/f.txt")).await.header(sse), Some("AES256"));
        let names = ["algorithm", "key", "key-md5"].map(|end| format!("{sse}-customer-{end}"));
        let conditions: Vec<String> =
            names.iter().map(|name| format!("[\"starts-with\", \"${name}\", \"\"]")).collect();
        let values = ["AES256", "pO3upElrwuEXSoFwCfnZPdSsmt/xWeFa0N9KgDijwVs=", "DWygnHRtgiJ77HCm+1rvHw=="];
        let more: Vec<(&str, &str)> = names.iter().map(String::as_str).zip(values).collect();
        let theirs = and(signed(&policy(&conditions.join(", "))), &more);
        let seen = client.expect(204, post(&theirs, "hello")).await;
        assert_eq!(seen.header(&names[2]), Some(values[2]));
        client.refused(400, "InvalidRequest", call("GET", "/bkt/up/f.txt")).await;
        let mut get = call("GET", "/bkt/up/f.txt");
        for (name, value) in more {
            get = get.with(name, value);
        }
        assert_eq!(client.expect(200, get).await.text(), "hello");
    });
}

#[test]
fn a_form_says_how_it_is_answered() {
    with_client(|mut client| async move {
        let status = "[\"starts-with\", \"$success_action_status\", \"\"]";
        for (asked, answered) in [("200", 200), ("201", 201), ("404", 204)] {
            let form = and(signed(&policy(status)), &[("success_action_status", asked)]);
            let seen = client.expect(answered, post(&form, "hello")).await;
            if answered == 201 {
                assert!(seen.text().contains("<Bucket>bkt</Bucket><Key>up/f.txt</Key>"), "{}", seen.text());
            }
        }
        let redirect = "{\"success_action_redirect\": \"http://h/done\"}";
        let form = and(signed(&policy(redirect)), &[("success_action_redirect", "http://h/done")]);
        let seen = client.expect(303, post(&form, "hello")).await;
        let location =
            "http://h/done?bucket=bkt&key=up%2Ff%2Etxt&etag=%225d41402abc4b2a76b9719d911017c592%22";
        assert_eq!(seen.header("location"), Some(location));
    });
}

#[test]
fn sigv4_forms_are_taken_and_others_regions_are_not() {
    with_client(|mut client| async move {
        let policy = policy(
            "[\"starts-with\", \"$x-amz-credential\", \"\"], {\"x-amz-date\": \"20130524T000000Z\"}, \
                             {\"x-amz-algorithm\": \"AWS4-HMAC-SHA256\"}",
        );
        let signature = hex::encode(hmac::sign(&signing_key(), policy.as_bytes()));
        let form = |scope: &str| {
            let credential = format!("{KEY}/{scope}");
            fields(&[
                ("key", "up/a"),
                ("policy", &policy),
                ("x-amz-algorithm", "AWS4-HMAC-SHA256"),
                ("x-amz-credential", &credential),
                ("x-amz-date", DATE),
                ("x-amz-signature", &signature),
            ])
        };
        client.expect(204, post(&form(SCOPE), "hello")).await;
        let elsewhere = SCOPE.replace("us-east-1", "eu-west-1");
        client.refused(400, "InvalidArgument", post(&form(&elsewhere), "hello")).await;
    });
}

/// Each refusal is asked by a client of its own: the server reads no file that it refuses.
#[test]
fn what_a_policy_does_not_allow_is_refused_and_not_stored() {
    let range = "[\"content-length-range\", 2, 4]";
    let without_key: Vec<_> = signed(&policy("")).into_iter().filter(|(name, _)| name != "key").collect();
    let unsigned: Vec<_> = signed(&policy("")).into_iter().filter(|(name, _)| name != "Signature").collect();
    let late = STANDARD.encode("{\"expiration\": \"2013-05-23T00:00:00Z\", \"conditions\": []}");
    let mut forged = signed(&policy(""));
    forged.last_mut().unwrap().1 = STANDARD.encode([0; 20]);
    for (form, file, status, code) in [
        (signed(&policy(range)), "hello", 400, "EntityTooLarge"),
        (signed(&policy(range)), "h", 400, "EntityTooSmall"),
        (signed(&policy("{\"acl\": \"private\"}")), "hello", 403, "AccessDenied"),
        (and(signed(&policy("")), &[("x-amz-meta-a", "1")]), "hello", 403, "AccessDenied"),
        (signed(&late), "hello", 403, "AccessDenied"),
        (signed("bm9uZQ=="), "hello", 400, "InvalidPolicyDocument"),
        (signed(&policy("{}")), "hello", 400, "InvalidPolicyDocument"),
        (forged, "hello", 403, "SignatureDoesNotMatch"),
        (without_key, "hello", 400, "InvalidArgument"),
        (unsigned, "hello", 400, "InvalidArgument"),
        (fields(&[("key", "up/f.txt")]), "hello", 403, "AccessDenied"),
    ] {
        with_client(|mut client| async move {
            client.refused(status, code, post(&form, file)).await;
            let list = ListObjects {
                bucket: BucketName::parse("bkt").unwrap(),
                prefix: Bytes::new(),
                delimiter: None,
                after: Bytes::new(),
                max_keys: 1,
                with_headers: false,
                with_acl: false,
            };
            assert!(client.ops.list_objects(list).await.unwrap().objects.is_empty());
        });
    }
}

#[test]
fn a_checksum_of_the_file_needs_no_condition_and_must_be_right() {
    with_client(|mut client| async move {
        let right = STANDARD.encode(digest::digest(&digest::SHA256, b"hello"));
        let wrong = STANDARD.encode(digest::digest(&digest::SHA256, b"other"));
        let form = |sum: &str| and(signed(&policy("")), &[("x-amz-checksum-sha256", sum)]);
        client.expect(204, post(&form(&right), "hello")).await;
        client.refused(400, "BadDigest", post(&form(&wrong), "hello")).await;
    });
}

#[test]
fn what_is_no_form_is_refused() {
    for (content_type, body, status, code) in [
        ("text/plain", "hello", 412, "PreconditionFailed"),
        ("multipart/form-data; boundary=xyz", "hello, this is no form", 400, "MalformedPOSTRequest"),
        ("multipart/form-data; boundary=xyz", "--xyz--\r\n", 400, "IncorrectNumberOfFilesInPostRequest"),
    ] {
        with_client(|mut client| async move {
            let form = call("POST", "/bkt").anonymous().with("content-type", content_type).body(body);
            client.refused(status, code, form).await;
        });
    }
}
