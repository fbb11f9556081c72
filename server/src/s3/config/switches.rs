//! Configuration of which only one value is how things are: notification, request payment, acceleration.
//! Invariants: a document that asks for what is not done answers 501, a wrong one AWS's error; nothing is accepted and
//! not obeyed.
//! Not here: websites, replication, inventory, metrics, analytics and tiering, which are 501 altogether.

use bytes::Bytes;

use super::{Document, malformed};
use crate::ops::api::ConfigKind;
use crate::s3::error::{Code, S3Error};
use crate::s3::xml::{Element, XmlWriter};

fn not_implemented(operation: &str) -> S3Error {
    S3Error::from(Code::NotImplemented).and("Operation", operation.to_owned())
}

/// Accepts a notification configuration that asks for none.
///
/// # Errors
/// `MalformedXML`, `NotImplemented`.
pub fn check_notification(document: &[u8]) -> Result<(), S3Error> {
    let root = Element::parse(document, "NotificationConfiguration")?;
    let known = [
        "TopicConfiguration",
        "QueueConfiguration",
        "CloudFunctionConfiguration",
        "EventBridgeConfiguration",
    ];
    if root.only(&known)?.children().is_empty() {
        Ok(())
    } else {
        Err(not_implemented("PutBucketNotificationConfiguration"))
    }
}

/// Accepts that the owner pays.
///
/// # Errors
/// `MalformedXML`, `NotImplemented`.
pub fn check_request_payment(document: &[u8]) -> Result<(), S3Error> {
    let root = Element::parse(document, "RequestPaymentConfiguration")?;
    match root.only(&["Payer"])?.word_of("Payer")? {
        Some("BucketOwner") => Ok(()),
        Some("Requester") => Err(not_implemented("PutBucketRequestPayment")),
        _ => Err(malformed()),
    }
}

/// Acceleration that was suspended, which is how it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SuspendedAcceleration;

impl Document for SuspendedAcceleration {
    const KIND: ConfigKind = ConfigKind::Accelerate;
    const ABSENT: Code = Code::NoSuchConfiguration;

    fn parse(document: &[u8]) -> Result<SuspendedAcceleration, S3Error> {
        let root = Element::parse(document, "AccelerateConfiguration")?;
        match root.only(&["Status"])?.word_of("Status")? {
            Some("Suspended") => Ok(SuspendedAcceleration),
            Some("Enabled") => Err(not_implemented("PutBucketAccelerateConfiguration")),
            _ => Err(malformed()),
        }
    }

    fn to_kept(&self) -> Bytes {
        let mut xml = XmlWriter::s3_document("AccelerateConfiguration", 64);
        xml.leaf("Status", "Suspended");
        xml.close("AccelerateConfiguration");
        xml.finish()
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;

    #[test]
    fn only_what_is_so_already_is_accepted() {
        let code = |result: Result<(), S3Error>| result.err().map(|error| error.code);
        let notify = |inside: &str| {
            let root = "NotificationConfiguration";
            code(check_notification(format!("<{root}>{inside}</{root}>").as_bytes()))
        };
        assert_eq!(notify(""), None);
        assert_eq!(notify("<QueueConfiguration/>"), Some(Code::NotImplemented));
        assert_eq!(notify("<Odd/>"), Some(Code::MalformedXML));
        let pays = |payer: &str| {
            let root = "RequestPaymentConfiguration";
            code(check_request_payment(format!("<{root}><Payer>{payer}</Payer></{root}>").as_bytes()))
        };
        assert_eq!(pays("BucketOwner"), None);
        assert_eq!(pays("Requester"), Some(Code::NotImplemented));
        assert_eq!(pays("Nobody"), Some(Code::MalformedXML));
        let kept = SuspendedAcceleration.to_kept();
        assert_eq!(SuspendedAcceleration::parse(&kept).unwrap(), SuspendedAcceleration);
        let enabled = b"<AccelerateConfiguration><Status>Enabled</Status></AccelerateConfiguration>";
        assert_eq!(SuspendedAcceleration::parse(enabled).unwrap_err().code, Code::NotImplemented);
    }
}
