//! Whole policies: what is refused with which words, and what they say.
#![allow(clippy::unwrap_used, reason = "tests")]

use std::collections::BTreeMap;

use super::{Action, Caller, Facts, Policy, Question, Values, Verdict};

#[derive(Default)]
struct Map(BTreeMap<&'static str, &'static str>);

impl Facts for Map {
    fn values(&self, key: &str) -> Option<Values<'_>> {
        self.0.get(key).map(|value| smallvec::smallvec![(*value).into()])
    }
}

const ANNA: Caller<'static> = Caller::Account { id: "a1", name: "anna", is_root: false };

fn statement(members: &str) -> String {
    format!("{{\"Version\":\"2012-10-17\",\"Statement\":[{{{members}}}]}}")
}

fn policy(members: &str) -> Policy {
    Policy::parse(statement(members).as_bytes(), "bkt").unwrap()
}

fn ask(policy: &Policy, caller: Caller<'_>, action: Action, resource: &str, facts: &Map) -> Verdict {
    policy.ask(&Question { caller, action, resource, facts })
}

const PUBLIC_READ: &str =
    r#""Effect":"Allow","Principal":"*","Action":"s3:GetObject","Resource":"arn:aws:s3:::bkt/*""#;

#[test]
fn everyone_means_the_anonymous_too() {
    let policy = policy(PUBLIC_READ);
    let facts = Map::default();
    for caller in [Caller::Anonymous, ANNA] {
        assert_eq!(ask(&policy, caller, Action::GetObject, "bkt/a/b", &facts), Verdict::Allow);
        assert_eq!(ask(&policy, caller, Action::PutObject, "bkt/a/b", &facts), Verdict::Silent);
        assert_eq!(ask(&policy, caller, Action::GetObject, "bkt", &facts), Verdict::Silent);
    }
}

#[test]
fn an_explicit_deny_wins_wherever_it_stands() {
    let deny = r#"{"Effect":"Deny","Principal":"*","Action":"s3:*","Resource":"arn:aws:s3:::bkt/secret/*"}"#;
    for order in [format!("{deny},{{{PUBLIC_READ}}}"), format!("{{{PUBLIC_READ}}},{deny}")] {
        let policy = Policy::parse(format!("{{\"Statement\":[{order}]}}").as_bytes(), "bkt").unwrap();
        let facts = Map::default();
        assert_eq!(ask(&policy, ANNA, Action::GetObject, "bkt/secret/x", &facts), Verdict::Deny);
        assert_eq!(ask(&policy, ANNA, Action::GetObject, "bkt/x", &facts), Verdict::Allow);
    }
}

#[test]
fn the_not_forms_speak_of_all_others() {
    let all_but = policy(
        r#""Effect":"Deny","NotPrincipal":{"AWS":"arn:aws:iam:::user/anna"},"NotAction":"s3:Get*",
           "NotResource":"arn:aws:s3:::bkt/open/*""#,
    );
    let facts = Map::default();
    assert_eq!(ask(&all_but, Caller::Anonymous, Action::PutObject, "bkt/x", &facts), Verdict::Deny);
    assert_eq!(ask(&all_but, ANNA, Action::PutObject, "bkt/x", &facts), Verdict::Silent);
    assert_eq!(ask(&all_but, Caller::Anonymous, Action::GetObject, "bkt/x", &facts), Verdict::Silent);
    assert_eq!(ask(&all_but, Caller::Anonymous, Action::PutObject, "bkt/open/x", &facts), Verdict::Silent);
}

#[test]
fn variables_are_read_only_by_policies_that_know_them() {
    let members = r#""Effect":"Allow","Principal":"*","Action":"s3:GetObject",
        "Resource":"arn:aws:s3:::bkt/${aws:username}/*""#;
    let facts = Map(BTreeMap::from([("aws:username", "anna")]));
    assert_eq!(ask(&policy(members), ANNA, Action::GetObject, "bkt/anna/x", &facts), Verdict::Allow);
    assert_eq!(ask(&policy(members), ANNA, Action::GetObject, "bkt/ben/x", &facts), Verdict::Silent);
    assert_eq!(
        ask(&policy(members), ANNA, Action::GetObject, "bkt/anna/x", &Map::default()),
        Verdict::Silent
    );
    let old = statement(members).replace("2012-10-17", "2008-10-17");
    let old = Policy::parse(old.as_bytes(), "bkt").unwrap();
    assert_eq!(ask(&old, ANNA, Action::GetObject, "bkt/anna/x", &facts), Verdict::Silent);
    assert_eq!(ask(&old, ANNA, Action::GetObject, "bkt/${aws:username}/x", &facts), Verdict::Allow);
}

#[test]
fn all_conditions_of_a_statement_must_hold() {
    let policy = policy(&format!(
        r#"{PUBLIC_READ},"Condition":{{"StringLike":{{"aws:Referer":["https://a/*","https://b/*"]}},
           "Bool":{{"aws:SecureTransport":true}}}}"#
    ));
    for (referer, secure, expected) in [
        ("https://a/x", "true", Verdict::Allow),
        ("https://b/x", "true", Verdict::Allow),
        ("https://c/x", "true", Verdict::Silent),
        ("https://a/x", "false", Verdict::Silent),
    ] {
        let facts = Map(BTreeMap::from([("aws:referer", referer), ("aws:securetransport", secure)]));
        assert_eq!(ask(&policy, ANNA, Action::GetObject, "bkt/k", &facts), expected, "{referer} {secure}");
    }
}

#[test]
fn a_document_that_is_no_policy_is_refused_in_the_words_of_aws() {
    let refused = |document: &str| Policy::parse(document.as_bytes(), "bkt").unwrap_err().0;
    let of = |members: &str| refused(&statement(members));
    for document in ["", "x", " {}", "[]", "{", "{\"Id\":\"a\",\"Id\":\"b\"}"] {
        assert_eq!(
            refused(document),
            "Policies must be valid JSON and the first byte must be '{'",
            "{document}"
        );
    }
    assert_eq!(refused("{}"), "Missing required field Statement");
    assert_eq!(refused("{\"Statment\":[]}"), "Unknown field Statment");
    assert_eq!(refused("{\"Statement\":[]}"), "Could not parse the policy: Statement is empty!");
    assert_eq!(
        refused("{\"Version\":\"2020-01-01\",\"Statement\":[]}"),
        "The policy must contain a valid version string"
    );
    for field in ["Principal", "Effect", "Action", "Resource"] {
        let renamed = statement(PUBLIC_READ).replace(&format!("\"{field}\":"), "\"Sid\":");
        let without = renamed.replace("\"Sid\":\"Allow\",", "");
        assert_eq!(refused(&without), format!("Missing required field {field}"));
    }
    let with = |from: &str, to: &str| of(&PUBLIC_READ.replace(from, to));
    assert_eq!(with("Allow", "allow"), "Invalid effect: allow");
    assert_eq!(with("\"*\"", "\"anna\""), "Invalid principal in policy");
    assert_eq!(with("s3:GetObject", "s3:Nothing"), "Policy has invalid action");
    for resource in ["arn:aws:s3:::other/*", "bkt/*", "arn:aws:s3:::", "arn:aws:sns:::bkt"] {
        assert_eq!(with("arn:aws:s3:::bkt/*", resource), "Policy has invalid resource", "{resource}");
    }
    let no_resource = "Action does not apply to any resource(s) in statement";
    assert_eq!(with("bkt/*", "bkt"), no_resource);
    assert_eq!(with("s3:GetObject", "s3:ListBucket"), no_resource);
    assert_eq!(with("\"Principal\"", "\"NotPrincipal\""), "Allow with NotPrincipal is not allowed.");
    let condition = |condition: &str| of(&format!("{PUBLIC_READ},\"Condition\":{condition}"));
    assert_eq!(condition(r#"{"StringIs":{"aws:Referer":"x"}}"#), "Invalid Condition type : StringIs");
    assert_eq!(
        condition(r#"{"StringEquals":{"s3:what":"x"}}"#),
        "Policy has an invalid condition key - s3:what"
    );
    for wrong in ["[]", r#"{"Bool":"x"}"#, r#"{"Bool":{"aws:SecureTransport":"x"}}"#, r#"{"Bool":{"a":{}}}"#]
    {
        assert_eq!(condition(wrong), "Invalid policy syntax.", "{wrong}");
    }
}

#[test]
fn wildcards_may_span_what_the_bucket_is_and_holds() {
    for resource in ["*", "arn:aws:s3:::*", "arn:aws:s3:::bkt*", "arn:aws:s3:::b?t*"] {
        let policy = policy(&format!(
            r#""Effect":"Allow","Principal":{{"AWS":"*"}},"Action":["s3:ListBucket","s3:GetObject"],"Resource":"{resource}""#
        ));
        let facts = Map::default();
        assert_eq!(ask(&policy, ANNA, Action::ListBucket, "bkt", &facts), Verdict::Allow, "{resource}");
        assert_eq!(ask(&policy, ANNA, Action::GetObject, "bkt/k", &facts), Verdict::Allow, "{resource}");
    }
}

#[test]
fn public_is_who_is_not_named_by_a_fixed_value() {
    let public = |members: &str| policy(members).is_public();
    let with = |condition: &str| public(&format!("{PUBLIC_READ},\"Condition\":{condition}"));
    assert!(public(PUBLIC_READ));
    assert!(public(&PUBLIC_READ.replace("\"*\"", "{\"AWS\":[\"a1\",\"*\"]}")));
    assert!(!public(&PUBLIC_READ.replace("\"*\"", "{\"AWS\":\"arn:aws:iam::s3tenant1:root\"}")));
    assert!(!public(&PUBLIC_READ.replace("Allow", "Deny")));
    for named in [
        r#"{"IpAddress":{"aws:SourceIp":"10.0.0.0/32"}}"#,
        r#"{"StringEquals":{"aws:userid":"a1"}}"#,
        r#"{"StringLike":{"aws:SourceVpc":"vpc-1"}}"#,
        r#"{"ArnEquals":{"aws:PrincipalArn":"arn:aws:iam::a1:root"}}"#,
        r#"{"StringLike":{"aws:Referer":"*"},"IpAddress":{"aws:SourceIp":["10.0.0.0/8"]}}"#,
    ] {
        assert!(!with(named), "{named}");
    }
    for open in [
        r#"{"StringLike":{"aws:Referer":"https://a/"}}"#,
        r#"{"IpAddress":{"aws:SourceIp":"0.0.0.0/0"}}"#,
        r#"{"IpAddress":{"aws:SourceIp":["10.0.0.1","0.0.0.0/1"]}}"#,
        r#"{"NotIpAddress":{"aws:SourceIp":"10.0.0.0/8"}}"#,
        r#"{"IpAddressIfExists":{"aws:SourceIp":"10.0.0.0/8"}}"#,
        r#"{"StringLike":{"aws:userid":"a*"}}"#,
        r#"{"ForAllValues:StringEquals":{"aws:userid":"a1"}}"#,
    ] {
        assert!(with(open), "{open}");
    }
}

#[test]
fn random_and_mutated_documents_never_panic() {
    let good = statement(&format!(
        r#"{PUBLIC_READ},"Condition":{{"ForAnyValue:StringLikeIfExists":{{"s3:prefix":["${{aws:username}}/*"]}},
           "DateLessThan":{{"aws:CurrentTime":"2026-11-28T00:00:00Z"}},"IpAddress":{{"aws:SourceIp":"10.0.0.0/8"}}}}"#
    ));
    let seed = fastrand::u64(..);
    let mut rng = fastrand::Rng::with_seed(seed);
    for _ in 0..20_000 {
        let mut bytes = good.as_bytes().to_vec();
        for _ in 0..rng.usize(0..4) {
            let at = rng.usize(0..bytes.len());
            bytes[at] = rng.u8(..);
        }
        if let Ok(policy) = Policy::parse(&bytes, "bkt") {
            let verdict = ask(&policy, ANNA, Action::GetObject, "bkt/k", &Map::default());
            assert!(matches!(verdict, Verdict::Allow | Verdict::Deny | Verdict::Silent), "seed={seed}");
        }
    }
}
