//! Where a bucket's requests are logged.
//! Invariants: a document names one target, by one form of keys; a grant that is kept is obeyed.
//! Not here: the records and their delivery (`s3::access_log`), whether the target may be one (`handlers::logging`).

use bytes::Bytes;

use super::{Document, malformed};
use crate::ops::api::ConfigKind;
use crate::s3::acl::{GRANTS_MAX, Grant, Grantee, Permission, invalid_uri};
use crate::s3::error::{Code, S3Error};
use crate::s3::xml::{Element, XmlWriter};

/// Longest prefix: a key of 1,024 bytes less the longest that follows: an account of 64, a region, a bucket of 63, dates
/// and a number.
const PREFIX_BYTES_MAX: usize = 768;

/// A bucket's logging.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Logging {
    /// The bucket that gets the logs.
    pub target_bucket: String,
    /// How its objects' keys begin.
    pub target_prefix: String,
    /// How they go on.
    pub key_format: KeyFormat,
    /// What others than the target's owner are granted on the logs.
    pub grants: Vec<Grant>,
}

/// How the key of a log goes on after the prefix.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KeyFormat {
    /// The time and a random number; the client named no form.
    Unnamed,
    /// The same, by name.
    Simple,
    /// Account, region, bucket and date as folders, then time and number.
    Partitioned(DateSource),
}

/// Which date stands in a partitioned key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DateSource {
    /// The day of the requests; the time is midnight.
    Event,
    /// When the log was delivered.
    Delivery,
}

impl Logging {
    /// Reads what a client sent: `None` asks for no logging.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn parse_status(document: &[u8]) -> Result<Option<Logging>, S3Error> {
        let root = Element::parse(document, "BucketLoggingStatus")?;
        root.only(&["LoggingEnabled"])?.child("LoggingEnabled")?.map(parse_enabled).transpose()
    }

    /// As a document; `name_of` says how an account is displayed, if it is.
    pub fn to_document(&self, name_of: impl Fn(&str) -> Option<String>) -> Bytes {
        let mut xml = XmlWriter::s3_document("BucketLoggingStatus", 512 + 256 * self.grants.len());
        xml.open("LoggingEnabled");
        xml.leaf("TargetBucket", &self.target_bucket);
        if !self.grants.is_empty() {
            xml.open("TargetGrants");
            self.grants.iter().for_each(|grant| write_grant(&mut xml, grant, &name_of));
            xml.close("TargetGrants");
        }
        self.write_key_format(&mut xml);
        xml.leaf("TargetPrefix", &self.target_prefix);
        xml.close("LoggingEnabled");
        xml.close("BucketLoggingStatus");
        xml.finish()
    }

    fn write_key_format(&self, xml: &mut XmlWriter) {
        if self.key_format == KeyFormat::Unnamed {
            return;
        }
        xml.open("TargetObjectKeyFormat");
        match self.key_format {
            KeyFormat::Unnamed | KeyFormat::Simple => xml.leaf("SimplePrefix", ""),
            KeyFormat::Partitioned(source) => {
                let source = match source {
                    DateSource::Event => "EventTime",
                    DateSource::Delivery => "DeliveryTime",
                };
                xml.open("PartitionedPrefix");
                xml.leaf("PartitionDateSource", source);
                xml.close("PartitionedPrefix");
            }
        }
        xml.close("TargetObjectKeyFormat");
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
        self.to_document(|_| None)
    }
}

fn write_grant(xml: &mut XmlWriter, grant: &Grant, name_of: &impl Fn(&str) -> Option<String>) {
    xml.open("Grant");
    let kind = if grant.grantee.uri().is_some() { "Group" } else { "CanonicalUser" };
    let attributes = format!("xmlns:xsi=\"http://www.w3.org/2001/XMLSchema-instance\" xsi:type=\"{kind}\"");
    xml.open_with("Grantee", &attributes);
    match &grant.grantee {
        Grantee::Account(id) => {
            xml.leaf("ID", id);
            super::leaf_if(xml, "DisplayName", name_of(id).as_deref());
        }
        group => xml.leaf("URI", group.uri().unwrap_or_default()),
    }
    xml.close("Grantee");
    xml.leaf("Permission", grant.permission.name());
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
    let grants = match enabled.child("TargetGrants")? {
        Some(grants) if grants.children().len() > GRANTS_MAX => return Err(malformed()),
        Some(grants) => {
            grants.only(&["Grant"])?.children().iter().map(parse_grant).collect::<Result<_, _>>()?
        }
        None => Vec::new(),
    };
    Ok(Logging { target_bucket, target_prefix, key_format, grants })
}

fn parse_format(format: &Element) -> Result<KeyFormat, S3Error> {
    format.only(&["SimplePrefix", "PartitionedPrefix"])?;
    match (format.child("SimplePrefix")?, format.child("PartitionedPrefix")?) {
        (Some(_), None) => Ok(KeyFormat::Simple),
        (None, Some(parted)) => {
            match parted.only(&["PartitionDateSource"])?.word_of("PartitionDateSource")? {
                Some("EventTime") | None => Ok(KeyFormat::Partitioned(DateSource::Event)),
                Some("DeliveryTime") => Ok(KeyFormat::Partitioned(DateSource::Delivery)),
                Some(_) => Err(malformed()),
            }
        }
        _ => Err(malformed()),
    }
}

fn parse_grant(grant: &Element) -> Result<Grant, S3Error> {
    grant.only(&["Grantee", "Permission"])?;
    let grantee = grant.child("Grantee")?.ok_or_else(malformed)?;
    grantee.only(&["ID", "DisplayName", "EmailAddress", "URI"])?;
    let permission = grant.word_of("Permission")?.and_then(Permission::of_name).ok_or_else(malformed)?;
    let named = (grantee.word_of("ID")?, grantee.word_of("URI")?, grantee.word_of("EmailAddress")?);
    let grantee = match named {
        (Some(id), None, None) if !id.is_empty() => Grantee::Account(id.to_owned()),
        (None, Some(uri), None) => Grantee::of_uri(uri).ok_or_else(|| invalid_uri(uri))?,
        (None, None, Some(_)) => return Err(Code::UnresolvableGrantByEmailAddress.into()),
        _ => return Err(malformed()),
    };
    Ok(Grant { grantee, permission })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;

    fn parse(inside: &str) -> Result<Option<Logging>, S3Error> {
        Logging::parse_status(format!("<BucketLoggingStatus>{inside}</BucketLoggingStatus>").as_bytes())
    }

    fn grants(grantee: &str, permission: &str) -> String {
        let attribute = "xmlns:xsi=\"http://www.w3.org/2001/XMLSchema-instance\"";
        format!(
            "<TargetGrants><Grant><Grantee {attribute} xsi:type=\"{}\">{grantee}</Grantee>\
             <Permission>{permission}</Permission></Grant></TargetGrants>",
            if grantee.starts_with("<URI>") { "Group" } else { "CanonicalUser" }
        )
    }

    #[test]
    fn logging_reads_back_in_every_form_and_an_empty_status_is_none() {
        assert_eq!(parse("").unwrap(), None);
        let format = |inside: &str| format!("<TargetObjectKeyFormat>{inside}</TargetObjectKeyFormat>");
        let parted = |source: &str| {
            let source = format!("<PartitionDateSource>{source}</PartitionDateSource>");
            format(&format!("<PartitionedPrefix>{source}</PartitionedPrefix>"))
        };
        for middle in [
            String::new(),
            grants("<ID>abc</ID>", "FULL_CONTROL"),
            grants("<URI>http://acs.amazonaws.com/groups/global/AllUsers</URI>", "READ"),
            format("<SimplePrefix></SimplePrefix>"),
            parted("EventTime"),
            parted("DeliveryTime"),
        ] {
            let inside = format!(
                "<LoggingEnabled><TargetBucket>logs</TargetBucket>{middle}<TargetPrefix>a/</TargetPrefix></LoggingEnabled>"
            );
            let logging = parse(&inside).unwrap().unwrap();
            assert!(String::from_utf8_lossy(&logging.to_kept()).contains(&inside), "{inside}");
            assert_eq!(Logging::parse(&logging.to_kept()).unwrap(), logging);
        }
        let target = "<TargetBucket>b</TargetBucket><TargetPrefix/>";
        let unsaid = format("<PartitionedPrefix/>");
        let logging = parse(&format!("<LoggingEnabled>{target}{unsaid}</LoggingEnabled>")).unwrap().unwrap();
        assert_eq!(logging.key_format, KeyFormat::Partitioned(DateSource::Event));
    }

    #[test]
    fn half_a_target_and_what_names_nobody_are_refused() {
        let code =
            |inside: &str| parse(&format!("<LoggingEnabled>{inside}</LoggingEnabled>")).unwrap_err().code;
        let target = "<TargetBucket>b</TargetBucket><TargetPrefix/>";
        assert_eq!(code("<TargetBucket>b</TargetBucket>"), Code::MalformedXML);
        assert_eq!(code("<TargetPrefix/>"), Code::MalformedXML);
        assert_eq!(code(&format!("{target}<Odd/>")), Code::MalformedXML);
        let long = "p".repeat(PREFIX_BYTES_MAX + 1);
        let long = format!("<TargetBucket>b</TargetBucket><TargetPrefix>{long}</TargetPrefix>");
        assert_eq!(code(&long), Code::KeyTooLongError);
        let granted =
            |grantee: &str, permission: &str| code(&format!("{target}{}", grants(grantee, permission)));
        assert_eq!(granted("<ID>a</ID>", "ALL"), Code::MalformedXML);
        assert_eq!(granted("", "READ"), Code::MalformedXML);
        assert_eq!(granted("<URI>a</URI>", "READ"), Code::InvalidArgument);
        let mail = "<EmailAddress>a@example.com</EmailAddress>";
        assert_eq!(granted(mail, "READ"), Code::UnresolvableGrantByEmailAddress);
        let both = "<TargetObjectKeyFormat><SimplePrefix/><PartitionedPrefix/></TargetObjectKeyFormat>";
        assert_eq!(code(&format!("{target}{both}")), Code::MalformedXML);
    }
}
