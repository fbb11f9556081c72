//! A slow and obvious evaluator, straight from the text of a policy, and a property: both say the same.
//! Invariants: nothing of the evaluator proper is used here but the names of actions.
//! Not here: documents that are refused (`tests`).
#![allow(clippy::unwrap_used, reason = "tests")]

use std::collections::BTreeMap;

use proptest::prelude::*;
use serde_json::{Value, json};

use super::{Action, Caller, Facts, Policy, Question, Values, Verdict};

type Known = BTreeMap<String, Vec<String>>;

struct Given(Known);

impl Facts for Given {
    fn values(&self, key: &str) -> Option<Values<'_>> {
        self.0.get(key).map(|values| values.iter().map(|value| value.as_str().into()).collect())
    }
}

struct Asked {
    /// `None` is anonymous.
    name: Option<&'static str>,
    action: Action,
    resource: String,
    known: Known,
}

fn reference(policy: &Value, asked: &Asked) -> Verdict {
    let speaking: Vec<&str> = policy["Statement"]
        .as_array()
        .unwrap()
        .iter()
        .filter(|statement| speaks(statement, asked))
        .map(|statement| statement["Effect"].as_str().unwrap())
        .collect();
    if speaking.contains(&"Deny") {
        Verdict::Deny
    } else if speaking.contains(&"Allow") {
        Verdict::Allow
    } else {
        Verdict::Silent
    }
}

fn speaks(statement: &Value, asked: &Asked) -> bool {
    let either = |name: &str, is: &dyn Fn(&Value) -> bool| match statement.get(name) {
        Some(value) => list(value).iter().any(is),
        None => !list(&statement[format!("Not{name}")]).iter().any(is),
    };
    let principal = either("Principal", &|value| match value.as_str() {
        Some("*") => true,
        _ => list(&value["AWS"]).iter().any(|name| {
            name == "*" || asked.name.is_some_and(|asked| *name == format!("arn:aws:iam:::user/{asked}"))
        }),
    });
    let action = either("Action", &|value| {
        let wanted = value.as_str().unwrap().to_lowercase();
        like(&chars(&wanted), &chars(&format!("s3:{}", asked.action.name()).to_lowercase()))
    });
    let resource = either("Resource", &|value| {
        let pattern = value.as_str().unwrap();
        substitute(pattern, &asked.known)
            .is_some_and(|pattern| like(&pattern, &chars(&format!("arn:aws:s3:::{}", asked.resource))))
    });
    let empty = serde_json::Map::new();
    let conditions = statement.get("Condition").and_then(Value::as_object).unwrap_or(&empty);
    principal
        && action
        && resource
        && conditions.iter().all(|(operator, keys)| {
            keys.as_object()
                .unwrap()
                .iter()
                .all(|(key, wanted)| condition(operator, key, &list(wanted), &asked.known))
        })
}

fn condition(operator: &str, key: &str, wanted: &[Value], known: &Known) -> bool {
    let given = known.get(&key.to_lowercase()).cloned().unwrap_or_default();
    if operator == "Null" {
        return given.is_empty() == (wanted[0] == "true");
    }
    let (set, operator) = operator.split_once(':').unwrap_or(("", operator));
    let optional = operator.ends_with("IfExists");
    let operator = operator.trim_end_matches("IfExists");
    let negated = operator.contains("Not");
    if given.is_empty() {
        return optional || set == "ForAllValues" || (negated && set.is_empty());
    }
    let operator = operator.replace("Not", "");
    let one = |given: &String| {
        wanted.iter().any(|wanted| compare(&operator, given, wanted.as_str().unwrap(), known)) != negated
    };
    match set {
        "ForAllValues" => given.iter().all(one),
        "ForAnyValue" => given.iter().any(one),
        _ if negated => given.iter().all(one),
        _ => given.iter().any(one),
    }
}

fn compare(operator: &str, given: &str, wanted: &str, known: &Known) -> bool {
    let numbers = || Some((given.parse::<i64>().ok()?, wanted.parse::<i64>().ok()?));
    let text = || substitute(wanted, known);
    let plain = |part: &Part| match part {
        Part::One(one) => *one,
        Part::Any => '?',
        Part::Many => '*',
    };
    match operator {
        "StringEquals" => text().is_some_and(|parts| parts.iter().map(plain).eq(given.chars())),
        "StringEqualsIgnoreCase" => text().is_some_and(|parts| {
            parts.iter().map(plain).collect::<String>().to_lowercase() == given.to_lowercase()
        }),
        "StringLike" => text().is_some_and(|pattern| like(&pattern, &chars(given))),
        "NumericEquals" => numbers().is_some_and(|(given, wanted)| given == wanted),
        "NumericLessThan" => numbers().is_some_and(|(given, wanted)| given < wanted),
        "NumericGreaterThanEquals" => numbers().is_some_and(|(given, wanted)| given >= wanted),
        "Bool" => given == wanted,
        "IpAddress" => {
            // Only /8 of 10.0.0.0 is generated.
            wanted == "10.0.0.0/8" && given.starts_with("10.") && given.split('.').count() == 4
        }
        other => panic!("{other} is not generated"),
    }
}

fn list(value: &Value) -> Vec<Value> {
    match value {
        Value::Array(list) => list.clone(),
        Value::Null => Vec::new(),
        one => vec![one.clone()],
    }
}

#[derive(Clone, Copy, PartialEq)]
enum Part {
    One(char),
    Any,
    Many,
}

fn chars(text: &str) -> Vec<Part> {
    text.chars().map(wild).collect()
}

fn wild(letter: char) -> Part {
    match letter {
        '*' => Part::Many,
        '?' => Part::Any,
        other => Part::One(other),
    }
}

fn substitute(pattern: &str, known: &Known) -> Option<Vec<Part>> {
    let mut parts = Vec::new();
    let mut rest = pattern;
    while let Some(at) = rest.find("${") {
        parts.extend(rest[..at].chars().map(wild));
        let (name, after) = rest[at + 2..].split_once('}').unwrap();
        if name.len() == 1 {
            parts.push(Part::One(name.chars().next().unwrap()));
        } else {
            let [value] = &known.get(name)?[..] else { return None };
            parts.extend(value.chars().map(Part::One));
        }
        rest = after;
    }
    parts.extend(rest.chars().map(wild));
    Some(parts)
}

/// The text's own stars and marks are letters.
fn like(pattern: &[Part], text: &[Part]) -> bool {
    let same = |wanted: char, given: Part| match given {
        Part::One(given) => wanted == given,
        Part::Any => wanted == '?',
        Part::Many => wanted == '*',
    };
    match (pattern.first(), text.first()) {
        (None, None) => true,
        (Some(Part::Many), _) => like(&pattern[1..], text) || (!text.is_empty() && like(pattern, &text[1..])),
        (Some(Part::Any), Some(_)) => like(&pattern[1..], &text[1..]),
        (Some(Part::One(wanted)), Some(given)) => same(*wanted, *given) && like(&pattern[1..], &text[1..]),
        _ => false,
    }
}

fn any_statement() -> impl Strategy<Value = Value> {
    let principal = prop_oneof![
        Just(json!("*")),
        Just(json!({"AWS": "*"})),
        Just(json!({"AWS": "arn:aws:iam:::user/anna"})),
        Just(json!({"AWS": ["arn:aws:iam:::user/anna", "arn:aws:iam:::user/ben"]})),
    ];
    let action = prop::collection::vec(
        prop::sample::select(vec![
            "s3:*",
            "*",
            "s3:GetObject",
            "s3:Get*",
            "s3:getobject?ersion",
            "s3:*List*",
            "s3:PutObject",
        ]),
        1..3,
    );
    let resource = prop::collection::vec(
        prop::sample::select(vec![
            "arn:aws:s3:::bkt*",
            "arn:aws:s3:::bkt/*",
            "arn:aws:s3:::bkt/a?/*",
            "arn:aws:s3:::bkt/${aws:username}/*",
            "arn:aws:s3:::bkt/${*}",
            "arn:aws:s3:::b*t/*b",
        ]),
        1..3,
    );
    (any::<bool>(), any::<[bool; 3]>(), principal, action, resource, prop::option::of(any_conditions()))
        .prop_map(|(allows, not, principal, action, mut resource, conditions)| {
            // So that every action applies to something.
            resource.push("arn:aws:s3:::bkt*");
            let name = |not: bool, name: &str| if not { format!("Not{name}") } else { name.to_owned() };
            let mut statement = serde_json::Map::new();
            statement.insert("Effect".to_owned(), json!(if allows { "Allow" } else { "Deny" }));
            statement.insert(name(not[0] && !allows, "Principal"), principal);
            statement.insert(name(not[1], "Action"), json!(action));
            statement.insert(
                name(not[2], "Resource"),
                json!(resource[usize::from(not[2] || resource.len() > 2)..]),
            );
            if let Some(conditions) = conditions {
                statement.insert("Condition".to_owned(), conditions);
            }
            Value::Object(statement)
        })
}

fn any_conditions() -> impl Strategy<Value = Value> {
    let texts =
        prop::sample::select(vec!["a", "A", "a*", "?", "${aws:username}", "${*}", "10", "", "\u{e9}"]);
    let text = (
        prop::sample::select(vec!["", "ForAllValues:", "ForAnyValue:"]),
        prop::sample::select(vec![
            "StringEquals",
            "StringNotEquals",
            "StringEqualsIgnoreCase",
            "StringNotEqualsIgnoreCase",
            "StringLike",
            "StringNotLike",
        ]),
        prop::sample::select(vec!["", "IfExists"]),
        prop::sample::select(vec!["s3:prefix", "aws:Referer", "s3:RequestObjectTagKeys"]),
        prop::collection::vec(texts, 1..3),
    )
        .prop_map(
            |(set, operator, end, key, values)| json!({format!("{set}{operator}{end}"): {key: values}}),
        );
    let number = (
        prop::sample::select(vec![
            "NumericEquals",
            "NumericNotEquals",
            "NumericLessThan",
            "NumericGreaterThanEqualsIfExists",
        ]),
        prop::sample::select(vec!["s3:max-keys", "s3:prefix"]),
        prop::collection::vec(prop::sample::select(vec!["5", "10"]), 1..3),
    )
        .prop_map(|(operator, key, values)| json!({operator: {key: values}}));
    let other = prop::sample::select(vec![
        json!({"Null": {"s3:prefix": "true"}}),
        json!({"Null": {"s3:prefix": "false"}}),
        json!({"Bool": {"aws:SecureTransport": "false"}}),
        json!({"IpAddress": {"aws:SourceIp": "10.0.0.0/8"}}),
        json!({"NotIpAddressIfExists": {"aws:SourceIp": ["10.0.0.0/8"]}}),
    ]);
    prop_oneof![text, number, other]
}

fn any_request() -> impl Strategy<Value = Asked> {
    let value = prop::sample::select(vec!["a", "A", "ab", "*", "?", "5", "7", "10", "", "\u{e9}", "anna"]);
    let known = (
        prop::option::of(value.clone()),
        prop::option::of(value.clone()),
        prop::collection::vec(value.clone(), 0..3),
        prop::option::of(value),
        prop::option::of(prop::sample::select(vec!["true", "false"])),
        prop::option::of(prop::sample::select(vec!["10.1.2.3", "11.1.2.3"])),
    )
        .prop_map(|(prefix, referer, tag_keys, max_keys, secure, address)| {
            let one = |value: Option<&str>| value.map(|value| vec![value.to_owned()]).unwrap_or_default();
            Known::from([
                ("s3:prefix".to_owned(), one(prefix)),
                ("aws:referer".to_owned(), one(referer)),
                ("s3:requestobjecttagkeys".to_owned(), tag_keys.into_iter().map(str::to_owned).collect()),
                ("s3:max-keys".to_owned(), one(max_keys)),
                ("aws:securetransport".to_owned(), one(secure)),
                ("aws:sourceip".to_owned(), one(address)),
            ])
        });
    (
        prop::sample::select(vec![None, Some("anna"), Some("ben")]),
        prop::sample::select(Action::ALL.to_vec()),
        prop::sample::select(vec!["bkt", "bkt/anna/x", "bkt/ab/b", "bkt/*", "bkt/x", "bkt/a/b/b"]),
        known,
    )
        .prop_map(|(name, action, resource, mut known)| {
            if let Some(name) = name {
                known.insert("aws:username".to_owned(), vec![name.to_owned()]);
            }
            Asked { name, action, resource: resource.to_owned(), known }
        })
}

impl std::fmt::Debug for Asked {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:?} {:?} {} {:?}", self.name, self.action, self.resource, self.known)
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(3_000))]

    #[test]
    fn the_evaluator_says_what_the_slow_reference_says(
        statements in prop::collection::vec(any_statement(), 1..4),
        asked in any_request(),
    ) {
        let text = json!({"Version": "2012-10-17", "Statement": statements});
        let policy = Policy::parse(text.to_string().as_bytes(), "bkt").map_err(|why| TestCaseError::fail(why.0.into_owned()))?;
        let caller = match asked.name {
            None => Caller::Anonymous,
            Some(name) => Caller::Account { id: "id", name, is_root: false },
        };
        let facts = Given(asked.known.clone());
        let question = Question { caller, action: asked.action, resource: &asked.resource, facts: &facts };
        prop_assert_eq!(policy.ask(&question), reference(&text, &asked));
    }
}
