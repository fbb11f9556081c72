//! Where a bucket's requests are logged.
//! Invariants: grants are kept only if they say what is so anyway: that the bucket's owner has full control.
//! Not here: the lines and their delivery (`s3::access_log`).

use bytes::Bytes;

use super::{Document, malformed};
use crate::ops::api::ConfigKind;
use crate::s3::error::{Code, S3Error};
use crate::s3::xml::{Element, XmlWriter};

/// Longest prefix: a key of 1,024 bytes less the date and number after it.
const PREFIX_BYTES_MAX: usize = 800;

/// A bucket's logging.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Logging {
    /// The bucket that gets the log.
    pub target_bucket: String,
    /// How its objects' keys begin.
    pub target_prefix: String,
    /// How they go on.
    pub key_format: KeyFormat,
    /// The canonical ids that grants with full control name.
    pub grantees: Vec<String>,
}

/// How the key of a log object goes on after the prefix.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KeyFormat {
    /// The time and a random number; the client named no form.
    Unnamed,
    /// The same, by name.
    Simple,
    /// Account, region, bucket and date as folders, by the time of events or of delivery.
    Partitioned {
        /// Whether the date is that of the events.
        by_event: bool,
    },
}

impl Logging {
    /// Reads what a client sent: `None` asks for no logging.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn parse_status(document: &[u8]) -> Result<Option<Logging>, S3Error> {
        let root = Element::parse(document, "BucketLoggingStatus")?;
        match root.only(&["LoggingEnabled"])?.child("LoggingEnabled")? {
            Some(enabled) => parse_enabled(enabled).map(Some),
            None => Ok(None),
        }
    }
}

impl Document for Logging {
    const KIND: ConfigKind = ConfigKind::Logging;
    // A bucket without logging answers an empty document; the handler does that.
    const ABSENT: Code = Code::NoSuchConfiguration;

    fn parse(document: &[u8]) -> Result<Logging, S3Error> {
        Logging::parse_status(document)?.ok_or_else(malformed)
    }

    fn to_kept(&self) -> Bytes {
        let mut xml = XmlWriter::s3_document("BucketLoggingStatus", 512);
        xml.open("LoggingEnabled");
        xml.leaf("TargetBucket", &self.target_bucket);
        if !self.grantees.is_empty() {
            xml.open("TargetGrants");
            self.grantees.iter().for_each(|id| write_grant(&mut xml, id));
            xml.close("TargetGrants");
        }
        match self.key_format {
            KeyFormat::Unnamed => {}
            KeyFormat::Simple => {
                xml.open("TargetObjectKeyFormat");
                xml.leaf("SimplePrefix", "");
                xml.close("TargetObjectKeyFormat");
            }
            KeyFormat::Partitioned { by_event } => {
                xml.open("TargetObjectKeyFormat");
                xml.open("PartitionedPrefix");
                xml.leaf("PartitionDateSource", if by_event { "EventTime" } else { "DeliveryTime" });
                xml.close("PartitionedPrefix");
                xml.close("TargetObjectKeyFormat");
            }
        }
        xml.leaf("TargetPrefix", &self.target_prefix);
        xml.close("LoggingEnabled");
        xml.close("BucketLoggingStatus");
        xml.finish()
    }
}

fn write_grant(xml: &mut XmlWriter, id: &str) {
    xml.open("Grant");
    xml.open_with(
        "Grantee",
        "xmlns:xsi=\"http://www.w3.org/2001/XMLSchema-instance\" xsi:type=\"CanonicalUser\"",
    );
    xml.leaf("ID", id);
    xml.close("Grantee");
    xml.leaf("Permission", "FULL_CONTROL");
    xml.close("Grant");
}

fn parse_enabled(enabled: &Element) -> Result<Logging, S3Error> {
    enabled.only(&["TargetBucket", "TargetGrants", "TargetObjectKeyFormat", "TargetPrefix"])?;
    let target_bucket = enabled.word_of("TargetBucket")?.ok_or_else(malformed)?.to_owned();
    let target_prefix = enabled.text_of("TargetPrefix")?.ok_or_else(malformed)?.to_owned();
    if target_prefix.len() > PREFIX_BYTES_MAX {
        return Err(Code::KeyTooLongError.into());
    }
    let key_format = enabled.child("TargetObjectKeyFormat")?.map_or(Ok(KeyFormat::Unnamed), parse_format)?;
    let grantees = match enabled.child("TargetGrants")? {
        Some(grants) => {
            grants.only(&["Grant"])?.children().iter().map(parse_grant).collect::<Result<_, _>>()?
        }
        None => Vec::new(),
    };
    Ok(Logging { target_bucket, target_prefix, key_format, grantees })
}

fn parse_format(format: &Element) -> Result<KeyFormat, S3Error> {
    format.only(&["SimplePrefix", "PartitionedPrefix"])?;
    match (format.child("SimplePrefix")?, format.child("PartitionedPrefix")?) {
        (Some(_), None) => Ok(KeyFormat::Simple),
        (None, Some(parted)) => {
            match parted.only(&["PartitionDateSource"])?.word_of("PartitionDateSource")? {
                Some("EventTime") => Ok(KeyFormat::Partitioned { by_event: true }),
                Some("DeliveryTime") => Ok(KeyFormat::Partitioned { by_event: false }),
                _ => Err(malformed()),
            }
        }
        _ => Err(malformed()),
    }
}

/// A grant of full control to an account; any other would have to be obeyed.
fn parse_grant(grant: &Element) -> Result<String, S3Error> {
    let not_implemented = || S3Error::from(Code::NotImplemented).and("Element", "TargetGrants".to_owned());
    grant.only(&["Grantee", "Permission"])?;
    let grantee = grant.child("Grantee")?.ok_or_else(malformed)?;
    grantee.only(&["ID", "DisplayName", "EmailAddress", "URI"])?;
    match (grantee.word_of("ID")?, grant.word_of("Permission")?) {
        (Some(id), Some("FULL_CONTROL")) if !id.is_empty() => Ok(id.to_owned()),
        (_, Some("FULL_CONTROL" | "READ" | "WRITE")) => Err(not_implemented()),
        _ => Err(malformed()),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;

    fn parse(inside: &str) -> Result<Option<Logging>, S3Error> {
        Logging::parse_status(format!("<BucketLoggingStatus>{inside}</BucketLoggingStatus>").as_bytes())
    }

    #[test]
    fn logging_reads_back_in_every_form_and_an_empty_status_is_none() {
        assert_eq!(parse("").unwrap(), None);
        let grant = "<TargetGrants><Grant><Grantee xmlns:xsi=\"http://www.w3.org/2001/XMLSchema-instance\" \
            xsi:type=\"CanonicalUser\"><ID>abc</ID></Grantee><Permission>FULL_CONTROL</Permission></Grant></TargetGrants>";
        let parted = "<TargetObjectKeyFormat><PartitionedPrefix><PartitionDateSource>EventTime</PartitionDateSource>\
            </PartitionedPrefix></TargetObjectKeyFormat>";
        for middle in [
            "",
            grant,
            parted,
            "<TargetObjectKeyFormat><SimplePrefix></SimplePrefix></TargetObjectKeyFormat>",
        ] {
            let inside = format!(
                "<LoggingEnabled><TargetBucket>logs</TargetBucket>{middle}<TargetPrefix>a/</TargetPrefix></LoggingEnabled>"
            );
            let logging = parse(&inside).unwrap().unwrap();
            assert!(String::from_utf8_lossy(&logging.to_kept()).contains(&inside), "{inside}");
            assert_eq!(Logging::parse(&logging.to_kept()).unwrap(), logging);
        }
    }

    #[test]
    fn half_a_target_and_grants_that_would_have_to_be_obeyed_are_refused() {
        let code =
            |inside: &str| parse(&format!("<LoggingEnabled>{inside}</LoggingEnabled>")).unwrap_err().code;
        let target = "<TargetBucket>b</TargetBucket><TargetPrefix/>";
        assert_eq!(code("<TargetBucket>b</TargetBucket>"), Code::MalformedXML);
        assert_eq!(code("<TargetPrefix/>"), Code::MalformedXML);
        assert_eq!(code(&format!("{target}<Odd/>")), Code::MalformedXML);
        let grant = |id: &str, permission: &str| {
            format!(
                "{target}<TargetGrants><Grant><Grantee>{id}</Grantee><Permission>{permission}</Permission></Grant></TargetGrants>"
            )
        };
        assert_eq!(code(&grant("<ID>a</ID>", "READ")), Code::NotImplemented);
        assert_eq!(code(&grant("<URI>a</URI>", "FULL_CONTROL")), Code::NotImplemented);
        assert_eq!(code(&grant("<ID>a</ID>", "ALL")), Code::MalformedXML);
    }
}
