//! The policy of a browser's upload: a signed list of what its form may say.
//! Invariants: every field of the form is allowed by a condition, but for those that cannot be; conditions that name no field
//! of the form fail; no bytes make it panic.
//! Not here: its signature (`auth`). Source: AWS, "POST policy" (sigv4-HTTPPOSTConstructPolicy).

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::Value;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use crate::auth::shown_value;
use crate::s3::error::{Code, S3Error};

/// A policy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PostPolicy {
    expires_ms: u64,
    conditions: Vec<Condition>,
}

/// A condition; names of fields are lower-case.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Condition {
    Equals { field: String, value: String },
    StartsWith { field: String, value: String },
    Length { min: u64, max: u64 },
}

/// Fields that need no condition. A checksum can only make an upload fail.
fn is_exempt(name: &str) -> bool {
    matches!(name, "policy" | "signature" | "awsaccesskeyid" | "x-amz-signature" | "file")
        || name.starts_with("x-ignore-")
        || name.starts_with("x-amz-checksum-")
}

impl PostPolicy {
    /// Reads the field `policy`.
    ///
    /// # Errors
    /// `InvalidPolicyDocument`.
    pub fn parse(encoded: &str) -> Result<PostPolicy, S3Error> {
        let document = STANDARD.decode(encoded.trim()).map_err(|_| invalid("Invalid Base64 encoding."))?;
        let document = String::from_utf8(document).map_err(|_| invalid("Invalid UTF-8."))?;
        PostPolicy::parse_document(&document)
    }

    /// Reads the document itself.
    ///
    /// # Errors
    /// `InvalidPolicyDocument`.
    pub fn parse_document(document: &str) -> Result<PostPolicy, S3Error> {
        let document: Value =
            serde_json::from_str(&without_dollar_escapes(document)).map_err(|_| invalid("Invalid JSON."))?;
        let expiration = document.get("expiration").ok_or_else(|| invalid("Policy missing expiration."))?;
        let expires_ms = expiration.as_str().and_then(moment_ms);
        let expires_ms = expires_ms.ok_or_else(|| invalid("Invalid 'expiration' value."))?;
        let conditions = document.get("conditions").ok_or_else(|| invalid("Policy missing conditions."))?;
        let conditions = conditions.as_array().ok_or_else(|| invalid("Invalid 'conditions' value."))?;
        let conditions = conditions.iter().map(Condition::parse).collect::<Result<_, _>>()?;
        Ok(PostPolicy { expires_ms, conditions })
    }

    /// Checks a form, whose names are lower-case, at `now_ms`.
    ///
    /// # Errors
    /// `AccessDenied`, in AWS's words.
    pub fn check(&self, fields: &[(String, String)], now_ms: u64) -> Result<(), S3Error> {
        if now_ms > self.expires_ms {
            return Err(denied("Policy expired."));
        }
        let value_of =
            |wanted: &str| fields.iter().find(|(name, _)| name == wanted).map(|(_, value)| value.as_str());
        for condition in &self.conditions {
            if !condition.holds(&value_of) {
                return Err(denied(&format!("Policy Condition failed: {condition}")));
            }
        }
        let is_covered = |name: &str| self.conditions.iter().any(|condition| condition.field() == Some(name));
        let extra = fields.iter().map(|(name, _)| name).find(|name| !is_exempt(name) && !is_covered(name));
        match extra {
            Some(name) => Err(denied(&format!("Extra input fields: {name}"))),
            None => Ok(()),
        }
    }

    /// How long the file may be: least and most bytes.
    pub fn length_range(&self) -> (u64, u64) {
        let ranges = self.conditions.iter().filter_map(|condition| match condition {
            Condition::Length { min, max } => Some((*min, *max)),
            _ => None,
        });
        ranges.fold((0, u64::MAX), |(least, most), (min, max)| (least.max(min), most.min(max)))
    }
}

impl Condition {
    fn parse(value: &Value) -> Result<Condition, S3Error> {
        match value {
            Value::Object(pairs) => {
                let mut pairs = pairs.iter();
                let (Some((field, value)), None) = (pairs.next(), pairs.next()) else {
                    return Err(invalid(
                        "Invalid Simple-Condition: Simple-Conditions must have exactly one property specified.",
                    ));
                };
                let value = value
                    .as_str()
                    .ok_or_else(|| invalid("Invalid Simple-Condition: value must be a string."))?;
                Ok(Condition::Equals { field: field.to_ascii_lowercase(), value: value.to_owned() })
            }
            Value::Array(words) => Condition::of_words(words),
            _ => Err(invalid("Invalid Condition: it is neither a list nor an object.")),
        }
    }

    fn of_words(words: &[Value]) -> Result<Condition, S3Error> {
        let malformed = || invalid("Invalid Condition: it has not three members of the right kind.");
        let [operator, first, second] = words else { return Err(malformed()) };
        let operator = operator.as_str().ok_or_else(malformed)?.to_ascii_lowercase();
        if operator == "content-length-range" {
            let (min, max) = (bound(first).ok_or_else(malformed)?, bound(second).ok_or_else(malformed)?);
            return if min <= max { Ok(Condition::Length { min, max }) } else { Err(malformed()) };
        }
        let field = first.as_str().and_then(|field| field.strip_prefix('$')).ok_or_else(malformed)?;
        let field = field.to_ascii_lowercase();
        let value = second.as_str().ok_or_else(malformed)?.to_owned();
        match operator.as_str() {
            "eq" => Ok(Condition::Equals { field, value }),
            "starts-with" => Ok(Condition::StartsWith { field, value }),
            _ => Err(invalid("Invalid Condition: unknown operation.")),
        }
    }

    fn field(&self) -> Option<&str> {
        match self {
            Condition::Equals { field, .. } | Condition::StartsWith { field, .. } => Some(field),
            Condition::Length { .. } => None,
        }
    }

    fn holds<'v>(&self, value_of: &impl Fn(&str) -> Option<&'v str>) -> bool {
        match self {
            Condition::Equals { field, value } => value_of(field) == Some(value.as_str()),
            // A list of types: each must begin so.
            Condition::StartsWith { field, value } if field == "content-type" => value_of(field)
                .is_some_and(|sent| sent.split(',').all(|one| one.trim().starts_with(value.as_str()))),
            // What may be anything may also be absent.
            Condition::StartsWith { field, value } => {
                value_of(field).map_or(value.is_empty(), |sent| sent.starts_with(value.as_str()))
            }
            Condition::Length { .. } => true,
        }
    }
}

impl std::fmt::Display for Condition {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Condition::Equals { field, value } => {
                write!(f, "[\"eq\", \"${field}\", \"{}\"]", shown_value(field, value))
            }
            Condition::StartsWith { field, value } => {
                write!(f, "[\"starts-with\", \"${field}\", \"{}\"]", shown_value(field, value))
            }
            Condition::Length { min, max } => write!(f, "[\"content-length-range\", {min}, {max}]"),
        }
    }
}

/// Milliseconds since 1970 of `2007-12-01T12:00:00.000Z`.
fn moment_ms(text: &str) -> Option<u64> {
    // Other forms of ISO 8601 are none of S3's.
    if text.as_bytes().get(10) != Some(&b'T') || !text.ends_with('Z') {
        return None;
    }
    let at = OffsetDateTime::parse(text, &Rfc3339).ok()?;
    u64::try_from(at.unix_timestamp_nanos() / 1_000_000).ok()
}

/// A number, or its digits as text.
fn bound(value: &Value) -> Option<u64> {
    value.as_u64().or_else(|| value.as_str()?.parse().ok())
}

/// Policies escape a dollar that is none of a variable by a backslash, which JSON does not know.
fn without_dollar_escapes(document: &str) -> String {
    let mut out = String::with_capacity(document.len());
    let mut letters = document.chars();
    while let Some(letter) = letters.next() {
        if letter != '\\' {
            out.push(letter);
            continue;
        }
        match letters.next() {
            Some('$') => out.push('$'),
            Some(escaped) => out.extend(['\\', escaped]),
            None => out.push('\\'),
        }
    }
    out
}

fn invalid(what: &str) -> S3Error {
    S3Error::with_message(Code::InvalidPolicyDocument, format!("Invalid Policy: {what}"))
}

fn denied(what: &str) -> S3Error {
    S3Error::with_message(Code::AccessDenied, format!("Invalid according to Policy: {what}"))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;

    const NOW_MS: u64 = 1_369_353_600_000;

    fn parse(conditions: &str) -> Result<PostPolicy, S3Error> {
        let text =
            format!("{{\"expiration\": \"2013-05-25T00:00:00.000Z\", \"conditions\": [{conditions}]}}");
        PostPolicy::parse(&STANDARD.encode(text))
    }

    fn checked(conditions: &str, fields: &[(&str, &str)]) -> Result<(), String> {
        let fields: Vec<_> = fields.iter().map(|(name, value)| ((*name).into(), (*value).into())).collect();
        let checked = parse(conditions).unwrap().check(&fields, NOW_MS);
        checked.map_err(|error| error.message.unwrap().into_owned())
    }

    #[test]
    fn each_kind_of_condition_holds_and_fails() {
        let exact = "{\"bUcKeT\": \"b\"}, [\"eq\", \"$Key\", \"k\"]";
        assert!(checked(exact, &[("bucket", "b"), ("key", "k"), ("policy", "x")]).is_ok());
        let failed = checked(exact, &[("bucket", "b"), ("key", "j")]).unwrap_err();
        assert_eq!(failed, "Invalid according to Policy: Policy Condition failed: [\"eq\", \"$key\", \"k\"]");
        let pinned = "{\"x-amz-server-side-encryption-customer-key\": \"c2VjcmV0\"}";
        let failed = checked(pinned, &[]).unwrap_err();
        assert!(failed.contains("customer-key") && !failed.contains("c2VjcmV0"), "{failed}");
        let prefix = "[\"StArTs-WiTh\", \"$KEY\", \"user/\"]";
        assert!(checked(prefix, &[("key", "user/a")]).is_ok());
        assert!(checked(prefix, &[("key", "users/a")]).is_err());
        assert!(checked(prefix, &[]).is_err());
        assert!(checked("[\"starts-with\", \"$x-amz-meta-a\", \"\"]", &[]).is_ok());
        let types = "[\"starts-with\", \"$Content-Type\", \"image/\"]";
        assert!(checked(types, &[("content-type", "image/png, image/gif")]).is_ok());
        assert!(checked(types, &[("content-type", "image/png,text/html")]).is_err());
        assert_eq!(parse("[\"content-length-range\", 1, \"10\"]").unwrap().length_range(), (1, 10));
        assert_eq!(parse("").unwrap().length_range(), (0, u64::MAX));
    }

    #[test]
    fn a_field_that_no_condition_names_is_one_too_many() {
        let fields = [("key", "k"), ("x-ignore-a", "1"), ("x-amz-signature", "s"), ("x-amz-meta-a", "1")];
        let failed = checked("[\"eq\", \"$key\", \"k\"]", &fields).unwrap_err();
        assert_eq!(failed, "Invalid according to Policy: Extra input fields: x-amz-meta-a");
    }

    #[test]
    fn a_policy_ends_and_what_is_none_is_refused() {
        let late = parse("").unwrap().check(&[], NOW_MS + 86_400_001).unwrap_err();
        assert_eq!(late.message.unwrap(), "Invalid according to Policy: Policy expired.");
        assert!(parse("[\"starts-with\", \"$key\", \"\\$a\"]").is_ok());
        for bad in [
            "{}",
            "{\"a\": \"1\", \"b\": \"2\"}",
            "{\"a\": 1}",
            "7",
            "[\"eq\", \"key\", \"k\"]",
            "[\"like\", \"$key\", \"k\"]",
            "[\"eq\", \"$key\"]",
            "[\"content-length-range\", 0]",
            "[\"content-length-range\", -1, 0]",
            "[\"content-length-range\", 2, 1]",
        ] {
            assert_eq!(parse(bad).unwrap_err().code, Code::InvalidPolicyDocument, "{bad}");
        }
        for bad in [
            "{\"EXPIRATION\": \"2013-05-25T00:00:00Z\", \"conditions\": []}",
            "{\"expiration\": \"2013-05-25T00:00:00Z\", \"CONDITIONS\": []}",
            "{\"expiration\": \"2013-05-25 00:00:00\", \"conditions\": []}",
            "{\"expiration\": \"2013-05-25 00:00:00+00:00\", \"conditions\": []}",
            "[]",
            "",
        ] {
            let refused = PostPolicy::parse(&STANDARD.encode(bad)).unwrap_err();
            assert_eq!(refused.code, Code::InvalidPolicyDocument, "{bad}");
        }
        assert!(PostPolicy::parse("%").is_err());
    }
}
