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
    /// 412.
    Failed,
}

/// The conditions of a read, or of the source of a copy.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ReadConditions {
    if_match: Option<String>,
    if_none_match: Option<String>,
    modified_since_s: Option<u64>,
    unmodified_since_s: Option<u64>,
}

impl ReadConditions {
    /// Of a GET or HEAD.
    pub fn of_read(head: &RequestHead) -> ReadConditions {
        ReadConditions::of(head, ["if-match", "if-none-match", "if-modified-since", "if-unmodified-since"])
    }

    /// Of the source of a copy.
    pub fn of_copy_source(head: &RequestHead) -> ReadConditions {
        ReadConditions::of(
            head,
            [
                "x-amz-copy-source-if-match",
                "x-amz-copy-source-if-none-match",
                "x-amz-copy-source-if-modified-since",
                "x-amz-copy-source-if-unmodified-since",
            ],
        )
    }

    /// Of the source of a rename.
    pub fn of_rename_source(head: &RequestHead) -> ReadConditions {
        ReadConditions::of(
            head,
            [
                "x-amz-rename-source-if-match",
                "x-amz-rename-source-if-none-match",
                "x-amz-rename-source-if-modified-since",
                "x-amz-rename-source-if-unmodified-since",
            ],
        )
    }

    /// Whether one of them holds only for something that is there.
    pub fn need_something(&self) -> bool {
        self.if_match.is_some() || self.modified_since_s.is_some()
    }

    fn of(head: &RequestHead, names: [&str; 4]) -> ReadConditions {
        let text = |name: &str| head.header_str(name).map(str::to_owned);
        let date = |name: &str| head.header_str(name).and_then(parse_date_s);
        ReadConditions {
            if_match: text(names[0]),
            if_none_match: text(names[1]),
            modified_since_s: date(names[2]),
            unmodified_since_s: date(names[3]),
        }
    }

    /// Decides, given the object's unquoted tag and time.
    pub fn check(&self, etag: &str, modified_ms: u64) -> Verdict {
        let modified_s = modified_ms / 1000;
        match (&self.if_match, self.unmodified_since_s) {
            (Some(list), _) if !lists_tag(list, etag) => return Verdict::Failed,
            (None, Some(since_s)) if modified_s > since_s => return Verdict::Failed,
            _ => {}
        }
        match (&self.if_none_match, self.modified_since_s) {
            (Some(list), _) if lists_tag(list, etag) => Verdict::NotModified,
            (None, Some(since_s)) if modified_s <= since_s => Verdict::NotModified,
            _ => Verdict::Proceed,
        }
    }
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
/// `NotImplemented` for If-None-Match with a tag, as AWS answers; `InvalidRequest` for both at once.
pub fn write_condition(head: &RequestHead) -> Result<WriteCondition, S3Error> {
    match (head.header_str("if-match"), head.header_str("if-none-match")) {
        (None, None) => Ok(WriteCondition::Always),
        (None, Some(tag)) if unquote(tag) == "*" => Ok(WriteCondition::IfAbsent),
        (Some(tag), None) => Ok(WriteCondition::IfMatch(unquote(tag).to_owned())),
        (None, Some(_)) => Err(Code::NotImplemented.into()),
        (Some(_), Some(_)) => Err(S3Error::with_message(
            Code::InvalidRequest,
            "If-Match and If-None-Match cannot be used together on a write",
        )),
    }
}

/// The condition of a DELETE.
///
/// # Errors
/// `InvalidArgument` for a size or a time that cannot be read.
pub fn delete_condition(head: &RequestHead) -> Result<DeleteCondition, S3Error> {
    let size_bytes = head
        .header_str("x-amz-if-match-size")
        .map(|text| {
            text.parse()
                .map_err(|_| S3Error::argument("x-amz-if-match-size", text, "The size is not a number"))
        })
        .transpose()?;
    let modified_s = head
        .header_str("x-amz-if-match-last-modified-time")
        .map(|text| {
            parse_date_s(text).ok_or_else(|| {
                S3Error::argument("x-amz-if-match-last-modified-time", text, "The time is not a date")
            })
        })
        .transpose()?;
    let if_match = head.header_str("if-match").map(|tag| unquote(tag).to_owned());
    Ok(DeleteCondition { must_exist: false, if_match, size_bytes, modified_s })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;
    use crate::s3::test_heads::head;

    const DATE: &str = "Sun, 06 Nov 1994 08:49:37 GMT";
    const DATE_MS: u64 = 784_111_777_900;

    fn check(fields: &str, modified_ms: u64) -> Verdict {
        ReadConditions::of_read(&head("GET /b/k", fields)).check("abc", modified_ms)
    }

    #[test]
    fn tags_match_quoted_bare_weak_and_listed() {
        for tag in ["\"abc\"", "abc", "*", "\"x\", \"abc\"", "W/\"abc\""] {
            assert_eq!(check(&format!("If-Match: {tag}\r\n"), 0), Verdict::Proceed, "{tag}");
            assert_eq!(check(&format!("If-None-Match: {tag}\r\n"), 0), Verdict::NotModified, "{tag}");
        }
        assert_eq!(check("If-Match: \"x\"\r\n", 0), Verdict::Failed);
        assert_eq!(check("If-None-Match: \"x\"\r\n", 0), Verdict::Proceed);
    }

    #[test]
    fn dates_compare_in_whole_seconds() {
        assert_eq!(check(&format!("If-Modified-Since: {DATE}\r\n"), DATE_MS), Verdict::NotModified);
        assert_eq!(check(&format!("If-Modified-Since: {DATE}\r\n"), DATE_MS + 1000), Verdict::Proceed);
        assert_eq!(check(&format!("If-Unmodified-Since: {DATE}\r\n"), DATE_MS), Verdict::Proceed);
        assert_eq!(check(&format!("If-Unmodified-Since: {DATE}\r\n"), DATE_MS + 1000), Verdict::Failed);
        assert_eq!(check("If-Modified-Since: yesterday\r\n", 0), Verdict::Proceed);
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

    #[test]
    fn conditions_of_writes_are_read() {
        let of = |fields: &str| write_condition(&head("PUT /b/k", fields));
        assert_eq!(of("").unwrap(), WriteCondition::Always);
        assert_eq!(of("If-None-Match: *\r\n").unwrap(), WriteCondition::IfAbsent);
        assert_eq!(of("If-Match: \"t\"\r\n").unwrap(), WriteCondition::IfMatch("t".to_owned()));
        assert_eq!(of("If-None-Match: \"t\"\r\n").unwrap_err().code, Code::NotImplemented);
        let delete = delete_condition(&head("DELETE /b/k", "x-amz-if-match-size: 7\r\n")).unwrap();
        assert_eq!(delete.size_bytes, Some(7));
    }
}
