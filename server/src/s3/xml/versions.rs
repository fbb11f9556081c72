//! The XML documents of versioning and object lock.
//! Invariants: as `requests` and `replies`.
//! Not here: which bucket may have what (`handlers`).

use bytes::Bytes;

use super::reader::{MalformedXml, XmlEvent, walk};
use super::replies::{ListingEcho, push_object_fields, push_person, push_prefixes};
use super::writer::XmlWriter;
use crate::ops::api::{DefaultRetention, Retention, RetentionMode, RetentionPeriod, VersionPage, Versioning};
use crate::s3::object_lock::{mode_name, parse_mode};
use crate::s3::owners::Owners;
use crate::s3::time_text::iso_8601;

/// Room for one listed version.
const ROW_BYTES: usize = 420;

/// What `ListObjectVersions` repeats of its request, besides the rest.
#[derive(Clone, Debug)]
pub struct VersionsEcho<'a> {
    /// `key-marker`.
    pub key_marker: &'a [u8],
    /// `version-id-marker`.
    pub version_id_marker: &'a str,
}

/// `ListObjectVersions`.
pub fn list_versions(
    echo: &ListingEcho<'_>,
    versions: &VersionsEcho<'_>,
    owners: &Owners,
    page: &VersionPage,
) -> Bytes {
    let mut xml = XmlWriter::s3_document("ListVersionsResult", page.versions.len() * ROW_BYTES);
    xml.leaf("Name", echo.bucket);
    echo.encoding.leaf(&mut xml, "Prefix", echo.prefix);
    echo.encoding.leaf(&mut xml, "KeyMarker", versions.key_marker);
    xml.leaf("VersionIdMarker", versions.version_id_marker);
    if let Some((key, version)) = &page.next {
        echo.encoding.leaf(&mut xml, "NextKeyMarker", key);
        if let Some(version) = version {
            xml.leaf("NextVersionIdMarker", &version.to_string());
        }
    }
    xml.number("MaxKeys", echo.max);
    if let Some(delimiter) = echo.delimiter {
        echo.encoding.leaf(&mut xml, "Delimiter", delimiter);
    }
    echo.encoding.say(&mut xml);
    xml.flag("IsTruncated", page.next.is_some());
    for entry in &page.versions {
        let element = if entry.object.is_some() { "Version" } else { "DeleteMarker" };
        xml.open(element);
        match &entry.object {
            Some(object) => push_object_fields(&mut xml, echo.encoding, object),
            None => {
                echo.encoding.leaf(&mut xml, "Key", &entry.key);
                xml.leaf("LastModified", &iso_8601(entry.modified_ms));
            }
        }
        xml.leaf("VersionId", &entry.version.to_string());
        xml.flag("IsLatest", entry.is_latest);
        let named = entry.object.as_ref().and_then(|object| object.owner.as_ref());
        push_person(&mut xml, "Owner", owners.of(named));
        if let Some(object) = &entry.object {
            xml.leaf("StorageClass", object.storage_class.as_deref().unwrap_or("STANDARD"));
        }
        xml.close(element);
    }
    push_prefixes(&mut xml, echo.encoding, &page.common_prefixes);
    xml.close("ListVersionsResult");
    xml.finish()
}

/// `GetBucketVersioning`; empty where it was never set.
pub fn versioning(versioning: Versioning) -> Bytes {
    let mut xml = XmlWriter::s3_document("VersioningConfiguration", 64);
    match versioning {
        Versioning::Never => {}
        Versioning::Enabled => xml.leaf("Status", "Enabled"),
        Versioning::Suspended => xml.leaf("Status", "Suspended"),
    }
    xml.close("VersioningConfiguration");
    xml.finish()
}

/// A `VersioningConfiguration` document.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct AskedVersioning {
    /// `Status`, if there is one.
    pub status: Option<Versioning>,
    /// `MfaDelete` is to be enabled.
    pub mfa_delete: bool,
}

/// Reads a `VersioningConfiguration` document.
///
/// # Errors
/// [`MalformedXml`], also for unknown words.
pub fn parse_versioning(document: &[u8]) -> Result<AskedVersioning, MalformedXml> {
    let mut asked = AskedVersioning::default();
    walk(document, |event| {
        match event {
            XmlEvent::Open(name, 1) if name != "VersioningConfiguration" => return Err(MalformedXml),
            XmlEvent::Close("Status", 2, text) => {
                asked.status = Some(match text.trim() {
                    "Enabled" => Versioning::Enabled,
                    "Suspended" => Versioning::Suspended,
                    _ => return Err(MalformedXml),
                });
            }
            XmlEvent::Close("MfaDelete" | "MFADelete", 2, text) => {
                asked.mfa_delete = match text.trim() {
                    "Enabled" => true,
                    "Disabled" => false,
                    _ => return Err(MalformedXml),
                };
            }
            _ => {}
        }
        Ok(())
    })?;
    Ok(asked)
}

/// `GetObjectLockConfiguration`.
pub fn object_lock(default: Option<DefaultRetention>) -> Bytes {
    let mut xml = XmlWriter::s3_document("ObjectLockConfiguration", 256);
    xml.leaf("ObjectLockEnabled", "Enabled");
    if let Some(default) = default {
        xml.open("Rule");
        xml.open("DefaultRetention");
        xml.leaf("Mode", mode_name(default.mode));
        match default.period {
            RetentionPeriod::Days(days) => xml.number("Days", u64::from(days)),
            RetentionPeriod::Years(years) => xml.number("Years", u64::from(years)),
        }
        xml.close("DefaultRetention");
        xml.close("Rule");
    }
    xml.close("ObjectLockConfiguration");
    xml.finish()
}

/// The default retention that an `ObjectLockConfiguration` document asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AskedDefault {
    /// Who may end it early.
    pub mode: RetentionMode,
    /// Days, as sent.
    pub days: Option<i64>,
    /// Years, as sent.
    pub years: Option<i64>,
}

/// Reads an `ObjectLockConfiguration` document; `None` without a rule.
///
/// # Errors
/// [`MalformedXml`], also unless it says `Enabled`, or has a rule without a mode and exactly one period.
pub fn parse_object_lock(document: &[u8]) -> Result<Option<AskedDefault>, MalformedXml> {
    let (mut is_enabled, mut has_rule) = (false, false);
    let (mut mode, mut days, mut years) = (None, None, None);
    walk(document, |event| {
        match event {
            XmlEvent::Open(name, 1) if name != "ObjectLockConfiguration" => return Err(MalformedXml),
            XmlEvent::Open("Rule", 2) if has_rule => return Err(MalformedXml),
            XmlEvent::Open("Rule", 2) => has_rule = true,
            XmlEvent::Close("ObjectLockEnabled", 2, "Enabled") => is_enabled = true,
            XmlEvent::Close("ObjectLockEnabled", 2, _) => return Err(MalformedXml),
            XmlEvent::Close("Mode", 4, text) => mode = Some(parse_mode(text.trim()).ok_or(MalformedXml)?),
            XmlEvent::Close("Days", 4, text) => days = Some(text.trim().parse().map_err(|_| MalformedXml)?),
            XmlEvent::Close("Years", 4, text) => years = Some(text.trim().parse().map_err(|_| MalformedXml)?),
            _ => {}
        }
        Ok(())
    })?;
    match (is_enabled, has_rule, mode) {
        (true, false, _) => Ok(None),
        (true, true, Some(mode)) if days.is_some() != years.is_some() => {
            Ok(Some(AskedDefault { mode, days, years }))
        }
        _ => Err(MalformedXml),
    }
}

/// `GetObjectRetention`.
pub fn retention(retention: Retention) -> Bytes {
    let mut xml = XmlWriter::s3_document("Retention", 128);
    xml.leaf("Mode", mode_name(retention.mode));
    xml.leaf("RetainUntilDate", &iso_8601(retention.until_ms));
    xml.close("Retention");
    xml.finish()
}

/// Reads a `Retention` document: a mode and a date, or neither.
///
/// # Errors
/// [`MalformedXml`].
pub fn parse_retention(document: &[u8]) -> Result<Option<(RetentionMode, String)>, MalformedXml> {
    let (mut mode, mut until) = (None, None);
    walk(document, |event| {
        match event {
            XmlEvent::Open(name, 1) if name != "Retention" => return Err(MalformedXml),
            XmlEvent::Close("Mode", 2, text) => mode = Some(parse_mode(text.trim()).ok_or(MalformedXml)?),
            XmlEvent::Close("RetainUntilDate", 2, text) => until = Some(text.trim().to_owned()),
            _ => {}
        }
        Ok(())
    })?;
    match (mode, until) {
        (None, None) => Ok(None),
        (Some(mode), Some(until)) => Ok(Some((mode, until))),
        _ => Err(MalformedXml),
    }
}

/// `GetObjectLegalHold`.
pub fn legal_hold(is_held: bool) -> Bytes {
    let mut xml = XmlWriter::s3_document("LegalHold", 64);
    xml.leaf("Status", if is_held { "ON" } else { "OFF" });
    xml.close("LegalHold");
    xml.finish()
}

/// Reads a `LegalHold` document.
///
/// # Errors
/// [`MalformedXml`].
pub fn parse_legal_hold(document: &[u8]) -> Result<bool, MalformedXml> {
    let mut is_held = None;
    walk(document, |event| {
        match event {
            XmlEvent::Open(name, 1) if name != "LegalHold" => return Err(MalformedXml),
            XmlEvent::Close("Status", 2, "ON") => is_held = Some(true),
            XmlEvent::Close("Status", 2, "OFF") => is_held = Some(false),
            XmlEvent::Close("Status", 2, _) => return Err(MalformedXml),
            _ => {}
        }
        Ok(())
    })?;
    is_held.ok_or(MalformedXml)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;
    use crate::auth::Person;
    use crate::ops::api::{VersionEntry, VersionId};
    use crate::s3::xml::Encoding;

    #[test]
    fn versions_and_markers_are_elements_of_their_own_and_the_next_place_is_said() {
        let version = VersionId::Named { count: 7, nonce: 9 };
        let marker = VersionEntry {
            key: Bytes::from_static(b"a b"),
            version,
            is_latest: true,
            modified_ms: 784_111_777_000,
            object: None,
        };
        let page = VersionPage {
            versions: vec![marker],
            common_prefixes: Vec::new(),
            next: Some((Bytes::from_static(b"a b"), Some(version))),
        };
        let echo = ListingEcho { bucket: "b", prefix: b"", delimiter: None, max: 1, encoding: Encoding::Url };
        let versions = VersionsEcho { key_marker: b"", version_id_marker: "" };
        let owners = Owners::new(Person::anonymous(), std::iter::empty(), |_| Person::anonymous());
        let text = list_versions(&echo, &versions, &owners, &page);
        let text = std::str::from_utf8(&text).unwrap();
        let next = format!("<NextKeyMarker>a%20b</NextKeyMarker><NextVersionIdMarker>{version}<");
        let element = format!(
            "<DeleteMarker><Key>a%20b</Key><LastModified>1994-11-06T08:49:37.000Z</LastModified>\
             <VersionId>{version}</VersionId><IsLatest>true</IsLatest><Owner>"
        );
        assert!(text.contains(&next) && text.contains(&element), "{text}");
        assert!(!text.contains("StorageClass"));
    }

    #[test]
    fn versioning_documents_are_read_and_unknown_words_are_malformed() {
        let read = |inner: &str| {
            parse_versioning(format!("<VersioningConfiguration>{inner}</VersioningConfiguration>").as_bytes())
        };
        assert_eq!(read("<Status>Enabled</Status>").unwrap().status, Some(Versioning::Enabled));
        assert_eq!(read("<Status>Suspended</Status>").unwrap().status, Some(Versioning::Suspended));
        assert!(read("<Status>Enabled</Status><MfaDelete>Enabled</MfaDelete>").unwrap().mfa_delete);
        assert_eq!(read("").unwrap().status, None);
        assert_eq!(read("<Status>On</Status>"), Err(MalformedXml));
        assert_eq!(parse_versioning(b"<Versioning/>"), Err(MalformedXml));
    }

    #[test]
    fn lock_documents_need_what_s3_needs() {
        let read = |inner: &str| {
            let text = format!("<ObjectLockConfiguration>{inner}</ObjectLockConfiguration>");
            parse_object_lock(text.as_bytes())
        };
        let rule = |inner: &str| {
            let enabled = "<ObjectLockEnabled>Enabled</ObjectLockEnabled>";
            read(&format!("{enabled}<Rule><DefaultRetention>{inner}</DefaultRetention></Rule>"))
        };
        assert_eq!(read("<ObjectLockEnabled>Enabled</ObjectLockEnabled>"), Ok(None));
        let asked = rule("<Mode>GOVERNANCE</Mode><Days>-1</Days>").unwrap().unwrap();
        assert_eq!((asked.mode, asked.days, asked.years), (RetentionMode::Governance, Some(-1), None));
        for wrong in ["<Mode>GOVERNANCE</Mode>", "<Days>1</Days>", "<Mode>abc</Mode><Years>1</Years>"] {
            assert_eq!(rule(wrong), Err(MalformedXml), "{wrong}");
        }
        assert_eq!(rule("<Mode>COMPLIANCE</Mode><Days>1</Days><Years>1</Years>"), Err(MalformedXml));
        assert_eq!(read("<ObjectLockEnabled>Disabled</ObjectLockEnabled>"), Err(MalformedXml));
        assert_eq!(read(""), Err(MalformedXml));
        assert_eq!(parse_retention(b"<Retention/>"), Ok(None));
        assert_eq!(parse_retention(b"<Retention><Mode>GOVERNANCE</Mode></Retention>"), Err(MalformedXml));
        assert_eq!(parse_legal_hold(b"<LegalHold><Status>ON</Status></LegalHold>"), Ok(true));
        assert_eq!(parse_legal_hold(b"<LegalHold><Status>on</Status></LegalHold>"), Err(MalformedXml));
    }
}
