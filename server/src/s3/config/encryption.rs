//! Default encryption of a bucket: what new objects get whose requests ask for nothing.
//! Invariants: where there is a configuration new objects are encrypted, with keys of ours: the least that S3 has; what
//! would need a key management service answers 501.
//! Not here: what a request asks for (`s3::encryption`).

use bytes::Bytes;

use super::{Document, malformed};
use crate::ops::api::ConfigKind;
use crate::s3::encryption::AES256;
use crate::s3::error::{Code, S3Error};
use crate::s3::xml::{Element, XmlWriter};

const BY_DEFAULT: &str = "ApplyServerSideEncryptionByDefault";

/// A bucket's default encryption.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DefaultEncryption {
    /// Kept and told; only keys of a key management service would make a difference of it.
    has_bucket_key: bool,
    /// Whether customers' keys are refused, if that was said.
    refuses_customer_keys: Option<bool>,
}

impl DefaultEncryption {
    /// Whether new objects may not be encrypted by customers' keys.
    pub fn refuses_customer_keys(&self) -> bool {
        self.refuses_customer_keys.unwrap_or(false)
    }

    /// The same after `before`: a configuration that does not speak of customers' keys leaves them as they were, as AWS's does.
    #[must_use]
    pub fn after(self, before: Option<&DefaultEncryption>) -> DefaultEncryption {
        let refuses_customer_keys =
            self.refuses_customer_keys.or(before.and_then(|before| before.refuses_customer_keys));
        DefaultEncryption { refuses_customer_keys, ..self }
    }
}

impl Document for DefaultEncryption {
    const KIND: ConfigKind = ConfigKind::Encryption;
    const ABSENT: Code = Code::ServerSideEncryptionConfigurationNotFoundError;

    fn parse(document: &[u8]) -> Result<DefaultEncryption, S3Error> {
        let root = Element::parse(document, "ServerSideEncryptionConfiguration")?;
        let rule = root.only(&["Rule"])?.child("Rule")?.ok_or_else(malformed)?;
        rule.only(&[BY_DEFAULT, "BlockedEncryptionTypes", "BucketKeyEnabled"])?;
        let refuses_customer_keys = rule.child("BlockedEncryptionTypes")?.map(blocked).transpose()?.flatten();
        let has_bucket_key = match rule.word_of("BucketKeyEnabled")? {
            None | Some("false") => false,
            Some("true") => true,
            Some(_) => return Err(malformed()),
        };
        if let Some(default) = rule.child(BY_DEFAULT)? {
            check_default(default)?;
        }
        Ok(DefaultEncryption { has_bucket_key, refuses_customer_keys })
    }

    fn to_kept(&self) -> Bytes {
        let mut xml = XmlWriter::s3_document("ServerSideEncryptionConfiguration", 512);
        xml.open("Rule");
        xml.open(BY_DEFAULT);
        xml.leaf("SSEAlgorithm", AES256);
        xml.close(BY_DEFAULT);
        if let Some(refuses) = self.refuses_customer_keys {
            xml.open("BlockedEncryptionTypes");
            xml.leaf("EncryptionType", if refuses { "SSE-C" } else { "NONE" });
            xml.close("BlockedEncryptionTypes");
        }
        xml.leaf("BucketKeyEnabled", if self.has_bucket_key { "true" } else { "false" });
        xml.close("Rule");
        xml.close("ServerSideEncryptionConfiguration");
        xml.finish()
    }
}

/// Whether the types that may not be used are customers' keys or none; empty says nothing.
fn blocked(types: &Element) -> Result<Option<bool>, S3Error> {
    let mut refuses = None;
    for name in types.only(&["EncryptionType"])?.all("EncryptionType") {
        let this = match name.text().trim() {
            "SSE-C" => true,
            "NONE" => false,
            _ => return Err(malformed()),
        };
        if refuses.is_some_and(|before| before != this) {
            return Err(malformed());
        }
        refuses = Some(this);
    }
    Ok(refuses)
}

fn check_default(default: &Element) -> Result<(), S3Error> {
    default.only(&["SSEAlgorithm", "KMSMasterKeyID"])?;
    let has_key_id = default.word_of("KMSMasterKeyID")?.is_some();
    match default.word_of("SSEAlgorithm")? {
        Some(AES256) if has_key_id => Err(S3Error::argument(
            BY_DEFAULT,
            "",
            "a KMSMasterKeyID is not applicable if the default sse algorithm is not aws:kms or aws:kms:dsse",
        )),
        Some(AES256) => Ok(()),
        Some(algorithm @ ("aws:kms" | "aws:kms:dsse")) => {
            let what = "Server Side Encryption with AWS KMS managed keys is not implemented.";
            Err(S3Error::with_message(Code::NotImplemented, what).and("SSEAlgorithm", algorithm.to_owned()))
        }
        _ => Err(malformed()),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;

    const ROOT: &str = "ServerSideEncryptionConfiguration";

    fn parse(inside: &str) -> Result<DefaultEncryption, S3Error> {
        DefaultEncryption::parse(format!("<{ROOT}>{inside}</{ROOT}>").as_bytes())
    }

    fn by_default(algorithm: &str) -> String {
        format!("<{BY_DEFAULT}><SSEAlgorithm>{algorithm}</SSEAlgorithm></{BY_DEFAULT}>")
    }

    #[test]
    fn a_rule_reads_back_with_its_bucket_key_and_what_it_refuses() {
        let blocked =
            "<BlockedEncryptionTypes><EncryptionType>SSE-C</EncryptionType></BlockedEncryptionTypes>";
        for (inside, has_bucket_key, refuses) in [
            (by_default("AES256"), false, None),
            (by_default("AES256") + "<BucketKeyEnabled>true</BucketKeyEnabled>", true, None),
            (by_default("AES256") + blocked, false, Some(true)),
            (blocked.replace("SSE-C", "NONE"), false, Some(false)),
            ("<BlockedEncryptionTypes/>".to_owned(), false, None),
        ] {
            let found = parse(&format!("<Rule>{inside}</Rule>")).unwrap();
            let expected = DefaultEncryption { has_bucket_key, refuses_customer_keys: refuses };
            assert_eq!(found, expected, "{inside}");
            assert_eq!(DefaultEncryption::parse(&found.to_kept()).unwrap(), expected, "{inside}");
            let shown = String::from_utf8(found.to_kept().to_vec()).unwrap();
            assert!(shown.contains(&by_default("AES256")), "{shown}");
        }
    }

    #[test]
    fn what_does_not_speak_of_customers_keys_leaves_them_blocked() {
        let rule = |refuses_customer_keys| DefaultEncryption { has_bucket_key: false, refuses_customer_keys };
        assert!(rule(None).after(Some(&rule(Some(true)))).refuses_customer_keys());
        assert!(!rule(Some(false)).after(Some(&rule(Some(true)))).refuses_customer_keys());
        assert!(!rule(None).after(None).refuses_customer_keys());
    }

    #[test]
    fn one_rule_of_known_algorithms_is_taken_and_keys_of_kms_are_not_built() {
        let rule = |inside: &str| format!("<Rule>{inside}</Rule>");
        let aes = rule(&by_default("AES256"));
        let with_id = by_default("AES256")
            .replace("</SSEAlgorithm>", "</SSEAlgorithm><KMSMasterKeyID>k</KMSMasterKeyID>");
        let types = |name: &str| {
            rule(&format!(
                "<BlockedEncryptionTypes><EncryptionType>NONE</EncryptionType><EncryptionType>{name}</EncryptionType>\
                 </BlockedEncryptionTypes>"
            ))
        };
        for (inside, code) in [
            (String::new(), Code::MalformedXML),
            (aes.clone() + &aes, Code::MalformedXML),
            (rule(&by_default("aes256")), Code::MalformedXML),
            (rule("<ApplyServerSideEncryptionByDefault/>"), Code::MalformedXML),
            (rule("<BucketKeyEnabled>yes</BucketKeyEnabled>"), Code::MalformedXML),
            (rule("<Odd/>"), Code::MalformedXML),
            (types("SSE-X"), Code::MalformedXML),
            (types("SSE-C"), Code::MalformedXML),
            (rule(&with_id), Code::InvalidArgument),
            (rule(&by_default("aws:kms")), Code::NotImplemented),
            (rule(&by_default("aws:kms:dsse")), Code::NotImplemented),
        ] {
            assert_eq!(parse(&inside).unwrap_err().code, code, "{inside}");
        }
    }
}
