//! Conditional requests: If-Match, If-None-Match, If-Modified-Since, If-Unmodified-Since.
//! Invariants: precedence is RFC 9110 13.2.2; a date that cannot be read is ignored; times compare in whole seconds.
//! Not here: conditions of writes, which are decided in their transaction (`ops`).

use crate::http::RequestHead;
use crate::ops::api::{DeleteCondition, WriteCondition};
use crate::s3::error::{Code, S3Error};
use crate::s3::time_text::parse_date_s;

/// What the conditions of a read come to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// All hold.
    Proceed,
    /// 304.
    NotModified,
    /// 412, and which condition it was.
    Failed(&'static str),
}

/// The names of four conditions, in the order of [`ReadConditions`]' fields.
type Names = [&'static str; 4];

const OF_READ: Names = ["If-Match", "If-None-Match", "If-Modified-Since", "If-Unmodified-Since"];
const OF_COPY_SOURCE: Names = [
    "x-amz-copy-source-If-Match",
    "x-amz-copy-source-If-None-Match",
    "x-amz-copy-source-If-Modified-Since",
    "x-amz-copy-source-If-Unmodified-Since",
];
const OF_RENAME_SOURCE: Names = [
    "x-amz-rename-source-If-Match",
    "x-amz-rename-source-If-None-Match",
    "x-amz-rename-source-If-Modified-Since",
    "x-amz-rename-source-If-Unmodified-Since",
];

/// The conditions of a read, or of the source of a copy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReadConditions {
    names: Names,
    if_match: Option<String>,
    if_none_match: Option<String>,
    modified_since_s: Option<u64>,
    unmodified_since_s: Option<u64>,
}

impl ReadConditions {
    /// Of a GET or HEAD at `now_ms`.
    pub fn of_read(head: &RequestHead, now_ms: u64) -> ReadConditions {
        ReadConditions::of(head, OF_READ, now_ms)
    }

    /// Of the source of a copy.
    pub fn of_copy_source(head: &RequestHead, now_ms: u64) -> ReadConditions {
        ReadConditions::of(head, OF_COPY_SOURCE, now_ms)
    }

    /// Of the source of a rename.
    pub fn of_rename_source(head: &RequestHead, now_ms: u64) -> ReadConditions {
        ReadConditions::of(head, OF_RENAME_SOURCE, now_ms)
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.if_match.is_none()
            && self.if_none_match.is_none()
            && self.modified_since_s.is_none()
            && self.unmodified_since_s.is_none()
    }

    /// Whether one of them holds only for something that is there.
    pub fn need_something(&self) -> bool {
        self.if_match.is_some() || self.modified_since_s.is_some()
    }

    fn of(head: &RequestHead, names: Names, now_ms: u64) -> ReadConditions {
        // A tag that is no text is no object's, so it must not count as absent.
        let text = |name: &str| head.header(name).map(|tag| String::from_utf8_lossy(tag).into_owned());
        let date = |name: &str| head.header_str(name).and_then(parse_date_s);
        ReadConditions {
            names,
            if_match: text(names[0]),
            if_none_match: text(names[1]),
            // RFC 9110 13.1.3: a date that is still to come does not count.
            modified_since_s: date(names[2]).filter(|since_s| *since_s <= now_ms / 1000),
            unmodified_since_s: date(names[3]),
        }
    }

    /// Decides, given the object's unquoted tag and time.
    pub fn check(&self, etag: &str, modified_ms: u64) -> Verdict {
        let modified_s = modified_ms / 1000;
        match (&self.if_match, self.unmodified_since_s) {
            (Some(list), _) if !lists_tag(list, etag) => return Verdict::Failed(self.names[0]),
            (None, Some(since_s)) if modified_s > since_s => return Verdict::Failed(self.names[3]),
            _ => {}
        }
        match (&self.if_none_match, self.modified_since_s) {
            (Some(list), _) if lists_tag(list, etag) => Verdict::NotModified,
            (None, Some(since_s)) if modified_s <= since_s => Verdict::NotModified,
            _ => Verdict::Proceed,
        }
    }

    /// Decides for the source of a copy, where nothing is not modified: which condition fails.
    pub fn check_source(&self, etag: &str, modified_ms: u64) -> Option<&'static str> {
        match self.check(etag, modified_ms) {
            Verdict::Proceed => None,
            Verdict::Failed(name) => Some(name),
            Verdict::NotModified if self.if_none_match.is_some() => Some(self.names[1]),
            Verdict::NotModified => Some(self.names[2]),
        }
    }
}

/// `PreconditionFailed` that says which condition failed.
pub fn failed(name: &'static str) -> S3Error {
    S3Error::from(Code::PreconditionFailed).and("Condition", name.to_owned())
}

/// Whether a comma-separated list of tags, quoted or not, holds `etag` or `*`.
fn lists_tag(list: &str, etag: &str) -> bool {
    list.split(',').map(unquote).any(|tag| tag == "*" || tag == etag)
}

/// A tag without blanks, weakness mark and quotes.
pub fn unquote(tag: &str) -> &str {
    let tag = tag.trim();
    let tag = tag.strip_prefix("W/").unwrap_or(tag);
    tag.strip_prefix('"').and_then(|tag| tag.strip_suffix('"')).unwrap_or(tag)
}

/// The condition of a PUT, a copy or a completion.
///
/// # Errors
/// `NotImplemented` for If-None-Match with a tag and for both at once, as AWS answers; `InvalidArgument` for what is no
/// text.
pub fn write_condition(head: &RequestHead) -> Result<WriteCondition, S3Error> {
    match (condition_text(head, "If-Match")?, condition_text(head, "If-None-Match")?) {
        (None, None) => Ok(WriteCondition::Always),
        (None, Some(tag)) if unquote(tag) == "*" => Ok(WriteCondition::IfAbsent),
        (Some(tag), None) => Ok(WriteCondition::IfMatch(unquote(tag).to_owned())),
        (None, Some(_)) => Err(not_taken(
            "If-None-Match",
            "We don't accept the provided value of If-None-Match header for this API",
        )),
        (Some(_), Some(_)) => Err(not_taken(
            "If-Match,If-None-Match",
            "Multiple conditional request headers present in the request",
        )),
    }
}

/// What a condition says on which a change depends: one that cannot be read must not count as absent.
fn condition_text<'h>(head: &'h RequestHead, name: &'static str) -> Result<Option<&'h str>, S3Error> {
    let Some(value) = head.header(name) else { return Ok(None) };
    let text = std::str::from_utf8(value);
    let shown = || String::from_utf8_lossy(value);
    text.map(Some).map_err(|_| S3Error::argument(name, &shown(), "The value of the header is no UTF-8"))
}

fn not_taken(header: &'static str, why: &'static str) -> S3Error {
    S3Error::with_message(
        Code::NotImplemented,
        "A header you provided implies functionality that is not implemented",
    )
    .and("Header", header.to_owned())
    .and("additionalMessage", why.to_owned())
}

/// The condition of a DELETE.
///
/// # Errors
/// `InvalidArgument` for a tag, a size or a time that cannot be read.
pub fn delete_condition(head: &RequestHead) -> Result<DeleteCondition, S3Error> {
    let size_bytes = condition_text(head, "x-amz-if-match-size")?
        .map(|text| {
            text.parse()
                .map_err(|_| S3Error::argument("x-amz-if-match-size", text, "The size is not a number"))
        })
        .transpose()?;
    let modified_s = condition_text(head, "x-amz-if-match-last-modified-time")?
        .map(|text| {
            parse_date_s(text).ok_or_else(|| {
                S3Error::argument("x-amz-if-match-last-modified-time", text, "The time is not a date")
            })
        })
        .transpose()?;
    let if_match = condition_text(head, "If-Match")?.map(|tag| unquote(tag).to_owned());
    Ok(DeleteCondition { must_exist: false, if_match, size_bytes, modified_s })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;
    use crate::s3::test_heads::{head, head_of_bytes};

    const DATE: &str = "Sun, 06 Nov 1994 08:49:37 GMT";
    const DATE_MS: u64 = 784_111_777_900;
    const NOW_MS: u64 = DATE_MS + 60_000;

    fn check(fields: &str, modified_ms: u64) -> Verdict {
        ReadConditions::of_read(&head("GET /b/k", fields), NOW_MS).check("abc", modified_ms)
    }

    #[test]
    fn tags_match_quoted_bare_weak_and_listed() {
        for tag in ["\"abc\"", "abc", "*", "\"x\", \"abc\"", "W/\"abc\""] {
            assert_eq!(check(&format!("If-Match: {tag}\r\n"), 0), Verdict::Proceed, "{tag}");
            assert_eq!(check(&format!("If-None-Match: {tag}\r\n"), 0), Verdict::NotModified, "{tag}");
        }
        assert_eq!(check("If-Match: \"x\"\r\n", 0), Verdict::Failed("If-Match"));
        assert_eq!(check("If-None-Match: \"x\"\r\n", 0), Verdict::Proceed);
    }

    #[test]
    fn dates_compare_in_whole_seconds() {
        assert_eq!(check(&format!("If-Modified-Since: {DATE}\r\n"), DATE_MS), Verdict::NotModified);
        assert_eq!(check(&format!("If-Modified-Since: {DATE}\r\n"), DATE_MS + 1000), Verdict::Proceed);
        assert_eq!(check(&format!("If-Unmodified-Since: {DATE}\r\n"), DATE_MS), Verdict::Proceed);
        let changed = check(&format!("If-Unmodified-Since: {DATE}\r\n"), DATE_MS + 1000);
        assert_eq!(changed, Verdict::Failed("If-Unmodified-Since"));
        assert_eq!(check("If-Modified-Since: yesterday\r\n", 0), Verdict::Proceed);
    }

    #[test]
    fn a_date_that_is_still_to_come_does_not_count_for_if_modified_since() {
        let fields = "If-Modified-Since: Sun, 06 Nov 1994 08:50:38 GMT\r\n";
        assert_eq!(check(fields, DATE_MS), Verdict::Proceed);
        let now = "If-Modified-Since: Sun, 06 Nov 1994 08:50:37 GMT\r\n";
        assert_eq!(check(now, DATE_MS), Verdict::NotModified);
    }

    #[test]
    fn of_a_copys_source_the_condition_that_fails_is_named() {
        let failing = |fields: &str| {
            let head = head("PUT /b/k", fields);
            ReadConditions::of_copy_source(&head, NOW_MS).check_source("abc", DATE_MS)
        };
        assert_eq!(failing(""), None);
        for (field, name) in [
            ("x-amz-copy-source-if-match: x", "x-amz-copy-source-If-Match"),
            ("x-amz-copy-source-if-none-match: abc", "x-amz-copy-source-If-None-Match"),
            (
                "x-amz-copy-source-if-modified-since: Sun, 06 Nov 1994 08:49:37 GMT",
                "x-amz-copy-source-If-Modified-Since",
            ),
            (
                "x-amz-copy-source-if-unmodified-since: Sun, 06 Nov 1994 08:49:36 GMT",
                "x-amz-copy-source-If-Unmodified-Since",
            ),
        ] {
            assert_eq!(failing(&format!("{field}\r\n")), Some(name));
        }
    }

    #[test]
    fn a_tag_outranks_a_date() {
        let fields = format!("If-Match: \"abc\"\r\nIf-Unmodified-Since: {DATE}\r\n");
        assert_eq!(check(&fields, DATE_MS + 9000), Verdict::Proceed);
        let fields = format!("If-None-Match: \"x\"\r\nIf-Modified-Since: {DATE}\r\n");
        assert_eq!(check(&fields, DATE_MS), Verdict::Proceed);
        let fields = format!("If-None-Match: \"abc\"\r\nIf-Modified-Since: {DATE}\r\n");
        assert_eq!(check(&fields, DATE_MS + 9000), Verdict::NotModified);
    }

    /// Story: If-Match that was no UTF-8 counted as absent, and the write or the delete happened.
    #[test]
    fn a_condition_that_cannot_be_read_is_refused_and_never_absent() {
        for name in ["If-Match", "If-None-Match"] {
            let head = head_of_bytes("PUT /b/k", &[name.as_bytes(), b": \"\xe9\"\r\n"].concat());
            assert_eq!(write_condition(&head).unwrap_err().code, Code::InvalidArgument, "{name}");
        }
        for name in ["If-Match", "x-amz-if-match-size", "x-amz-if-match-last-modified-time"] {
            let head = head_of_bytes("DELETE /b/k", &[name.as_bytes(), b": \xe9\r\n"].concat());
            assert_eq!(delete_condition(&head).unwrap_err().code, Code::InvalidArgument, "{name}");
        }
        let fields = b"x-amz-copy-source-if-match: \xe9\r\nx-amz-copy-source-if-none-match: \xe9\r\n";
        let conditions = ReadConditions::of_copy_source(&head_of_bytes("PUT /b/k", fields), NOW_MS);
        assert_eq!(conditions.check_source("abc", 0), Some("x-amz-copy-source-If-Match"));
    }

    #[test]
    fn conditions_of_writes_are_read() {
        let of = |fields: &str| write_condition(&head("PUT /b/k", fields));
        assert_eq!(of("").unwrap(), WriteCondition::Always);
        assert_eq!(of("If-None-Match: *\r\n").unwrap(), WriteCondition::IfAbsent);
        assert_eq!(of("If-Match: \"t\"\r\n").unwrap(), WriteCondition::IfMatch("t".to_owned()));
        for refused in ["If-None-Match: \"t\"\r\n", "If-Match: \"t\"\r\nIf-None-Match: *\r\n"] {
            assert_eq!(of(refused).unwrap_err().code, Code::NotImplemented, "{refused}");
        }
        let delete = delete_condition(&head("DELETE /b/k", "x-amz-if-match-size: 7\r\n")).unwrap();
        assert_eq!(delete.size_bytes, Some(7));
    }
}
