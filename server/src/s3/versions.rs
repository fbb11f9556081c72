//! Versions as requests name them and as answers show them.
//! Invariants: an id that no version can have is refused by name; an answer says a version only in a bucket that has them.
//! Not here: what becomes of versions (`ops`), their listing (`xml`).

use crate::http::{HeaderText, RequestHead};
use crate::ops::api::{Deleted, VersionId};
use crate::s3::error::{Code, S3Error};

/// Reads a version id.
///
/// # Errors
/// `InvalidArgument`, as AWS for text that is none of its ids.
pub fn parse_version_id(argument: &str, text: &str) -> Result<VersionId, S3Error> {
    if text.is_empty() {
        return Err(S3Error::argument(argument, text, "Version id cannot be the empty string"));
    }
    VersionId::parse(text).ok_or_else(|| S3Error::argument(argument, text, "Invalid version id specified"))
}

/// Adds the version that an answer is about.
pub fn push_version(headers: &mut HeaderText, version: Option<VersionId>) {
    if let Some(version) = version {
        headers.push("x-amz-version-id", version.to_string());
    }
}

/// Adds the version that a write made; as AWS, not that of a bucket whose versioning is suspended.
pub fn push_made_version(headers: &mut HeaderText, version: Option<VersionId>) {
    push_version(headers, version.filter(|version| *version != VersionId::Null));
}

/// Adds what a delete did.
pub fn push_deleted(headers: &mut HeaderText, deleted: Deleted) {
    if deleted.is_marker {
        headers.push("x-amz-delete-marker", "true");
    }
    push_version(headers, deleted.version);
}

/// `NoSuchVersion` for a version id as a request sent it.
pub fn no_such_version(text: &str) -> S3Error {
    S3Error::from(Code::NoSuchVersion).and("VersionId", text.to_owned())
}

/// Whether a request asks to pass over governance retention.
pub fn asks_to_bypass_governance(head: &RequestHead) -> bool {
    head.header("x-amz-bypass-governance-retention").is_some_and(|value| value.eq_ignore_ascii_case(b"true"))
}
