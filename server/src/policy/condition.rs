//! Conditions of statements: every operator of AWS, with `IfExists`, `ForAllValues` and `ForAnyValue`.
//! Invariants: values are parsed when the policy is; a negated operator is exactly the negation of its positive, value
//! by value; a key that the request does not have satisfies negated operators, `IfExists` and `ForAllValues`.
//! Not here: what the keys of a request are (`s3::authorize`).

use std::cmp::Ordering;
use std::net::IpAddr;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use time::format_description::well_known::Rfc3339;
use time::{Date, OffsetDateTime, PrimitiveDateTime, Time};

use super::glob::{Glob, Syntax, lower_key};
use super::network::Network;
use super::{Facts, Values};

/// One key under one operator.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Condition {
    pub(super) key: String,
    pub(super) over: Over,
    pub(super) if_exists: bool,
    pub(super) test: Test,
}

/// Which of a request's values must satisfy a condition.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Over {
    /// The one that there is.
    Single,
    /// `ForAllValues`.
    All,
    /// `ForAnyValue`.
    Any,
}

/// What is asked of a value.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Test {
    /// `Null`: whether the key is to be absent.
    Absent(bool),
    /// Any of the wanted, or with `negated` none.
    Like { negated: bool, wanted: Wanted },
}

/// The values that a policy names.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Wanted {
    Texts(Vec<Glob>),
    TextsIgnoringCase(Vec<Glob>),
    /// Each of the six parts of an ARN is a pattern of its own.
    Arns(Vec<Vec<Glob>>),
    Numbers(Relation, Vec<f64>),
    /// Milliseconds since 1970.
    Dates(Relation, Vec<i64>),
    Flags(Vec<bool>),
    Bytes(Vec<Vec<u8>>),
    Networks(Vec<Network>),
}

/// How the request's value must stand to the policy's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Relation {
    Equal,
    Less,
    LessOrEqual,
    Greater,
    GreaterOrEqual,
}

/// Why a condition cannot be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum InvalidCondition {
    /// There is no such operator.
    Operator,
    /// There is no such key.
    Key,
    /// A value that the operator cannot compare with.
    Value,
}

impl Condition {
    /// Reads one key under `operator`.
    pub(super) fn read(
        operator: &str,
        key: &str,
        values: &[String],
        variables: bool,
    ) -> Result<Condition, InvalidCondition> {
        let (over, rest) = match operator.split_once(':') {
            None => (Over::Single, operator),
            Some(("ForAllValues", rest)) => (Over::All, rest),
            Some(("ForAnyValue", rest)) => (Over::Any, rest),
            Some(_) => return Err(InvalidCondition::Operator),
        };
        let (name, if_exists) = match rest.strip_suffix("IfExists") {
            Some(name) => (name, true),
            None => (rest, false),
        };
        let key = lower_key(key);
        let test = if name == "Null" {
            if if_exists {
                return Err(InvalidCondition::Operator);
            }
            let [value] = values else { return Err(InvalidCondition::Value) };
            Test::Absent(flag(value).ok_or(InvalidCondition::Value)?)
        } else {
            let (negated, wanted) = read_wanted(name, values, variables)?;
            Test::Like { negated, wanted }
        };
        if !is_known_key(&key) {
            return Err(InvalidCondition::Key);
        }
        Ok(Condition { key, over, if_exists, test })
    }

    /// Whether a request satisfies it.
    pub(super) fn holds(&self, facts: &dyn Facts) -> bool {
        let values: Values<'_> = facts.values(&self.key).unwrap_or_default();
        let (negated, wanted) = match &self.test {
            Test::Absent(wanted) => return values.is_empty() == *wanted,
            Test::Like { negated, wanted } => (*negated, wanted),
        };
        if values.is_empty() {
            return match self.over {
                Over::All => true,
                Over::Any => self.if_exists,
                Over::Single => self.if_exists || negated,
            };
        }
        let mut each = values.iter().map(|value| wanted.any_is(value, facts) != negated);
        match self.over {
            Over::All => each.all(|held| held),
            Over::Any => each.any(|held| held),
            Over::Single if negated => each.all(|held| held),
            Over::Single => each.any(|held| held),
        }
    }

    /// Every key that it asks for.
    pub(super) fn keys(&self) -> impl Iterator<Item = &str> {
        let globs: &[Glob] = match &self.test {
            Test::Like { wanted: Wanted::Texts(globs) | Wanted::TextsIgnoringCase(globs), .. } => globs,
            _ => &[],
        };
        let arns: &[Vec<Glob>] = match &self.test {
            Test::Like { wanted: Wanted::Arns(arns), .. } => arns,
            _ => &[],
        };
        let in_values = globs.iter().chain(arns.iter().flatten()).flat_map(Glob::keys);
        std::iter::once(self.key.as_str()).chain(in_values)
    }
}

impl Wanted {
    fn any_is(&self, value: &str, facts: &dyn Facts) -> bool {
        match self {
            Wanted::Texts(globs) => globs.iter().any(|glob| glob.matches(value, facts)),
            Wanted::TextsIgnoringCase(globs) => {
                globs.iter().any(|glob| glob.equals_ignoring_case(value, facts))
            }
            Wanted::Arns(arns) => arns.iter().any(|parts| is_arn_like(parts, value, facts)),
            Wanted::Numbers(relation, wanted) => {
                let Some(value) = number(value) else { return false };
                wanted
                    .iter()
                    .any(|wanted| value.partial_cmp(wanted).is_some_and(|order| relation.holds(order)))
            }
            Wanted::Dates(relation, wanted) => {
                let Some(value) = date_ms(value) else { return false };
                wanted.iter().any(|wanted| relation.holds(value.cmp(wanted)))
            }
            Wanted::Flags(wanted) => flag(value).is_some_and(|value| wanted.contains(&value)),
            Wanted::Bytes(wanted) => wanted.iter().any(|wanted| wanted == value.as_bytes()),
            Wanted::Networks(networks) => {
                let Ok(address) = value.parse::<IpAddr>() else { return false };
                networks.iter().any(|network| network.holds(address))
            }
        }
    }
}

impl Relation {
    fn holds(self, order: Ordering) -> bool {
        match self {
            Relation::Equal => order.is_eq(),
            Relation::Less => order.is_lt(),
            Relation::LessOrEqual => order.is_le(),
            Relation::Greater => order.is_gt(),
            Relation::GreaterOrEqual => order.is_ge(),
        }
    }
}

fn is_arn_like(parts: &[Glob], value: &str, facts: &dyn Facts) -> bool {
    let mut of_value = value.splitn(6, ':');
    parts.iter().all(|part| of_value.next().is_some_and(|text| part.matches(text, facts)))
        && of_value.next().is_none()
}

fn read_wanted(name: &str, values: &[String], variables: bool) -> Result<(bool, Wanted), InvalidCondition> {
    let globs = |wildcards| -> Vec<Glob> {
        values.iter().map(|value| Glob::new(value, Syntax { wildcards, variables })).collect()
    };
    let relation = |name: &str| -> Option<(bool, Relation)> {
        Some(match name {
            "Equals" => (false, Relation::Equal),
            "NotEquals" => (true, Relation::Equal),
            "LessThan" => (false, Relation::Less),
            "LessThanEquals" => (false, Relation::LessOrEqual),
            "GreaterThan" => (false, Relation::Greater),
            "GreaterThanEquals" => (false, Relation::GreaterOrEqual),
            _ => return None,
        })
    };
    Ok(match name {
        "StringEquals" => (false, Wanted::Texts(globs(false))),
        "StringNotEquals" => (true, Wanted::Texts(globs(false))),
        "StringLike" => (false, Wanted::Texts(globs(true))),
        "StringNotLike" => (true, Wanted::Texts(globs(true))),
        "StringEqualsIgnoreCase" => (false, Wanted::TextsIgnoringCase(globs(false))),
        "StringNotEqualsIgnoreCase" => (true, Wanted::TextsIgnoringCase(globs(false))),
        "ArnEquals" | "ArnLike" => (false, Wanted::Arns(read_each(values, |value| arn(value, variables))?)),
        "ArnNotEquals" | "ArnNotLike" => {
            (true, Wanted::Arns(read_each(values, |value| arn(value, variables))?))
        }
        "Bool" => (false, Wanted::Flags(read_each(values, flag)?)),
        "BinaryEquals" => (false, Wanted::Bytes(read_each(values, |value| STANDARD.decode(value).ok())?)),
        "IpAddress" => (false, Wanted::Networks(read_each(values, Network::parse)?)),
        "NotIpAddress" => (true, Wanted::Networks(read_each(values, Network::parse)?)),
        _ => {
            let numeric = name.strip_prefix("Numeric").and_then(relation);
            let date = name.strip_prefix("Date").and_then(relation);
            match (numeric, date) {
                (Some((negated, relation)), _) => {
                    (negated, Wanted::Numbers(relation, read_each(values, number)?))
                }
                (None, Some((negated, relation))) => {
                    (negated, Wanted::Dates(relation, read_each(values, date_ms)?))
                }
                (None, None) => return Err(InvalidCondition::Operator),
            }
        }
    })
}

fn read_each<T>(values: &[String], read: impl Fn(&str) -> Option<T>) -> Result<Vec<T>, InvalidCondition> {
    values.iter().map(|value| read(value).ok_or(InvalidCondition::Value)).collect()
}

/// The six parts of an ARN; a variable may stand inside one, not across two.
fn arn(text: &str, variables: bool) -> Option<Vec<Glob>> {
    let mut parts = Vec::new();
    let (mut start, mut in_variable) = (0, false);
    for (at, byte) in text.bytes().enumerate() {
        match byte {
            b'{' if variables && text[..at].ends_with('$') => in_variable = true,
            b'}' => in_variable = false,
            b':' if !in_variable && parts.len() < 5 => {
                parts.push(&text[start..at]);
                start = at + 1;
            }
            _ => {}
        }
    }
    parts.push(&text[start..]);
    let syntax = Syntax { wildcards: true, variables };
    (parts.len() == 6 && parts[0] == "arn")
        .then(|| parts.into_iter().map(|part| Glob::new(part, syntax)).collect())
}

fn flag(text: &str) -> Option<bool> {
    match text {
        _ if text.eq_ignore_ascii_case("true") => Some(true),
        _ if text.eq_ignore_ascii_case("false") => Some(false),
        _ => None,
    }
}

fn number(text: &str) -> Option<f64> {
    let is_plain =
        text.bytes().all(|byte| byte.is_ascii_digit() || matches!(byte, b'.' | b'-' | b'+' | b'e' | b'E'));
    text.parse().ok().filter(|value: &f64| is_plain && value.is_finite())
}

/// An ISO 8601 date, with or without its time, or seconds since 1970; in milliseconds since 1970.
fn date_ms(text: &str) -> Option<i64> {
    if let Ok(seconds) = text.parse::<i64>() {
        return seconds.checked_mul(1000);
    }
    let at = OffsetDateTime::parse(text, &Rfc3339).ok().or_else(|| short_date(text))?;
    i64::try_from(at.unix_timestamp_nanos() / 1_000_000).ok()
}

/// `2026-11-28` or `2026-11-28T10:15Z`.
fn short_date(text: &str) -> Option<OffsetDateTime> {
    let (day, clock) = match text.split_once('T') {
        Some((day, clock)) => (day, clock.strip_suffix('Z')?),
        None => (text, "00:00"),
    };
    let mut day = day.splitn(3, '-');
    let year: i32 = day.next()?.parse().ok()?;
    let month: u8 = day.next()?.parse().ok()?;
    let date = Date::from_calendar_date(year, month.try_into().ok()?, day.next()?.parse().ok()?).ok()?;
    let (hour, minute) = clock.split_once(':')?;
    let time = Time::from_hms(hour.parse().ok()?, minute.parse().ok()?, 0).ok()?;
    Some(PrimitiveDateTime::new(date, time).assume_utc())
}

/// Keys that AWS has for requests of S3, those that never have a value here too. Lower case.
fn is_known_key(key: &str) -> bool {
    let (name, tag) = match key.split_once('/') {
        Some((name, tag)) => (name, !tag.is_empty()),
        None => (key, false),
    };
    match name {
        "s3:existingobjecttag"
        | "s3:requestobjecttag"
        | "s3:buckettag"
        | "aws:principaltag"
        | "aws:requesttag"
        | "aws:resourcetag" => tag,
        _ if tag => false,
        _ => GLOBAL_KEYS.contains(&name) || S3_KEYS.contains(&name),
    }
}

const GLOBAL_KEYS: &[&str] = &[
    "aws:calledvia",
    "aws:calledviafirst",
    "aws:calledvialast",
    "aws:currenttime",
    "aws:ec2instancesourceprivateipv4",
    "aws:ec2instancesourcevpc",
    "aws:epochtime",
    "aws:federatedprovider",
    "aws:multifactorauthage",
    "aws:multifactorauthpresent",
    "aws:principalaccount",
    "aws:principalarn",
    "aws:principalisawsservice",
    "aws:principalorgid",
    "aws:principalorgpaths",
    "aws:principalservicename",
    "aws:principalservicenameslist",
    "aws:principaltype",
    "aws:referer",
    "aws:requestedregion",
    "aws:resourceaccount",
    "aws:resourceorgid",
    "aws:resourceorgpaths",
    "aws:securetransport",
    "aws:sourceaccount",
    "aws:sourcearn",
    "aws:sourceidentity",
    "aws:sourceip",
    "aws:sourceorgid",
    "aws:sourceorgpaths",
    "aws:sourcevpc",
    "aws:sourcevpcarn",
    "aws:sourcevpce",
    "aws:tagkeys",
    "aws:tokenissuetime",
    "aws:useragent",
    "aws:userid",
    "aws:username",
    "aws:viaawsservice",
    "aws:vpcesourceip",
];

const S3_KEYS: &[&str] = &[
    "s3:accessgrantsinstancearn",
    "s3:accesspointnetworkorigin",
    "s3:authtype",
    "s3:dataaccesspointaccount",
    "s3:dataaccesspointarn",
    "s3:delimiter",
    "s3:if-match",
    "s3:if-none-match",
    "s3:inventoryaccessibleoptionalfields",
    "s3:locationconstraint",
    "s3:max-keys",
    "s3:object-lock-legal-hold",
    "s3:object-lock-mode",
    "s3:object-lock-remaining-retention-days",
    "s3:object-lock-retain-until-date",
    "s3:objectcreationoperation",
    "s3:prefix",
    "s3:requestobjecttagkeys",
    "s3:resourceaccount",
    "s3:signatureage",
    "s3:signatureversion",
    "s3:tlsversion",
    "s3:versionid",
    "s3:x-amz-acl",
    "s3:x-amz-content-sha256",
    "s3:x-amz-copy-source",
    "s3:x-amz-grant-full-control",
    "s3:x-amz-grant-read",
    "s3:x-amz-grant-read-acp",
    "s3:x-amz-grant-write",
    "s3:x-amz-grant-write-acp",
    "s3:x-amz-metadata-directive",
    "s3:x-amz-object-ownership",
    "s3:x-amz-server-side-encryption",
    "s3:x-amz-server-side-encryption-aws-kms-key-id",
    "s3:x-amz-server-side-encryption-customer-algorithm",
    "s3:x-amz-storage-class",
    "s3:x-amz-website-redirect-location",
];

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;

    /// A request with the given values of `s3:prefix`.
    struct Prefixes(&'static [&'static str]);

    impl Facts for Prefixes {
        fn values(&self, key: &str) -> Option<Values<'_>> {
            (key == "s3:prefix").then(|| self.0.iter().map(|value| (*value).into()).collect())
        }
    }

    fn holds(operator: &str, wanted: &[&str], given: &'static [&'static str]) -> bool {
        let wanted: Vec<String> = wanted.iter().map(|value| (*value).to_owned()).collect();
        Condition::read(operator, "s3:Prefix", &wanted, true).unwrap().holds(&Prefixes(given))
    }

    #[test]
    fn each_operator_compares_as_aws_says() {
        for (operator, wanted, yes, no) in [
            ("StringEquals", "a*", "a*", "ab"),
            ("StringNotEquals", "a*", "ab", "a*"),
            ("StringEqualsIgnoreCase", "Ab", "aB", "b"),
            ("StringNotEqualsIgnoreCase", "Ab", "b", "aB"),
            ("StringLike", "a*", "ab", "ba"),
            ("StringNotLike", "a*", "ba", "ab"),
            ("NumericEquals", "10", "10.0", "11"),
            ("NumericNotEquals", "10", "11", "10"),
            ("NumericLessThan", "10", "9", "10"),
            ("NumericLessThanEquals", "10", "10", "11"),
            ("NumericGreaterThan", "10", "11", "10"),
            ("NumericGreaterThanEquals", "10", "10", "x"),
            ("DateEquals", "2026-11-28", "2026-11-28T00:00:00Z", "2026-11-29"),
            ("DateNotEquals", "2026-11-28", "2026-11-29", "2026-11-28T00:00Z"),
            ("DateLessThan", "2026-11-28T10:00:00+02:00", "2026-11-28T07:59:59.9Z", "2026-11-28T08:00:00Z"),
            ("DateLessThanEquals", "1000", "1970-01-01T00:16:40Z", "1001"),
            ("DateGreaterThan", "1000", "1001", "1000"),
            ("DateGreaterThanEquals", "1000", "1000", "999"),
            ("Bool", "true", "TRUE", "false"),
            ("BinaryEquals", "YWI=", "ab", "YWI="),
            ("IpAddress", "10.0.0.0/8", "10.1.1.1", "11.1.1.1"),
            ("NotIpAddress", "10.0.0.0/8", "11.1.1.1", "10.1.1.1"),
            ("ArnEquals", "arn:aws:iam::*:user/a?", "arn:aws:iam::1:user/ab", "arn:aws:iam::1:user/abc"),
            ("ArnLike", "arn:aws:s3:::b/*", "arn:aws:s3:::b/c:d", "arn:aws:s3:::b"),
            ("ArnNotLike", "arn:aws:s3:::b", "x", "arn:aws:s3:::b"),
            ("ArnNotEquals", "arn:aws:s3:*:*:b", "arn:aws:s3:::c", "arn:aws:s3:x::b"),
        ] {
            let given = |value: &'static str| -> &'static [&'static str] { Box::leak(Box::new([value])) };
            assert!(holds(operator, &[wanted], given(yes)), "{operator} {wanted} {yes}");
            assert!(!holds(operator, &[wanted], given(no)), "{operator} {wanted} {no}");
        }
    }

    #[test]
    fn an_absent_key_satisfies_what_is_negated_or_optional() {
        for operator in ["StringEquals", "NumericEquals", "DateLessThan", "Bool", "ForAnyValue:StringEquals"]
        {
            let wanted = if operator == "Bool" { "true" } else { "1" };
            assert!(!holds(operator, &[wanted], &[]), "{operator}");
            assert!(holds(&format!("{operator}IfExists"), &[wanted], &[]), "{operator}IfExists");
        }
        for operator in ["StringNotEquals", "NotIpAddress", "ForAllValues:StringEquals"] {
            assert!(holds(operator, &["10.0.0.0"], &[]), "{operator}");
        }
        assert!(!holds("StringEqualsIfExists", &["a"], &["b"]));
        assert!(holds("Null", &["true"], &[]) && !holds("Null", &["false"], &[]));
        assert!(holds("Null", &["false"], &["x"]) && !holds("Null", &["true"], &["x"]));
    }

    #[test]
    fn sets_ask_all_or_any_of_the_values() {
        assert!(holds("ForAllValues:StringEquals", &["a", "b"], &["a", "b", "a"]));
        assert!(!holds("ForAllValues:StringEquals", &["a", "b"], &["a", "c"]));
        assert!(holds("ForAnyValue:StringEquals", &["a", "b"], &["c", "b"]));
        assert!(!holds("ForAnyValue:StringEquals", &["a"], &["c", "d"]));
        assert!(holds("ForAnyValue:StringNotEquals", &["a"], &["a", "b"]));
        assert!(!holds("ForAllValues:StringNotEquals", &["a"], &["a", "b"]));
    }

    #[test]
    fn what_cannot_be_compared_is_refused_when_it_is_put() {
        let read = |operator: &str, key: &str, value: &str| {
            Condition::read(operator, key, &[value.to_owned()], true).map(|_| ())
        };
        for (operator, value) in [
            ("NumericEquals", "ten"),
            ("NumericEquals", "NaN"),
            ("DateEquals", "yesterday"),
            ("DateEquals", "2026-13-01"),
            ("Bool", "yes"),
            ("Null", "x"),
            ("IpAddress", "10.0.0.0/99"),
            ("BinaryEquals", "*"),
            ("ArnLike", "user/anna"),
        ] {
            assert_eq!(
                read(operator, "s3:prefix", value),
                Err(InvalidCondition::Value),
                "{operator} {value}"
            );
        }
        for operator in ["stringequals", "StringStartsWith", "ForSome:Bool", "NullIfExists", "Numeric", ""] {
            assert_eq!(read(operator, "s3:prefix", "true"), Err(InvalidCondition::Operator), "{operator}");
        }
        for key in ["s3:nothing", "prefix", "s3:ExistingObjectTag", "s3:ExistingObjectTag/", "aws:SourceIp/x"]
        {
            assert_eq!(read("StringEquals", key, "x"), Err(InvalidCondition::Key), "{key}");
        }
        assert_eq!(read("StringEquals", "s3:ExistingObjectTag/Team", "x"), Ok(()));
    }
}
