//! Configuration documents of buckets: what they may say, and the form in which they are kept and answered.
//! Invariants: what is kept was understood whole, and reads back as the same value; limits and errors are AWS's.
//! Not here: requests (`handlers`), rows (`fdb-schema`), policies and access lists (`policy`).

pub mod cors;
pub mod encryption;
pub mod lifecycle;
pub mod logging;
pub mod switches;
pub mod website;

use bytes::Bytes;

use crate::ops::api::ConfigKind;
use crate::s3::error::{Code, S3Error};
use crate::s3::xml::XmlWriter;

/// A kind of document that is put, read and deleted whole.
pub trait Document: Sized {
    /// Under which kind it is kept.
    const KIND: ConfigKind;
    /// What a read answers where there is none.
    const ABSENT: Code;

    /// Reads what a client sent, or what is kept.
    ///
    /// # Errors
    /// What is wrong with it.
    fn parse(document: &[u8]) -> Result<Self, S3Error>;

    /// The form in which it is kept.
    fn to_kept(&self) -> Bytes;

    /// The form in which it is answered.
    fn to_reply(&self) -> Bytes {
        self.to_kept()
    }
}

fn malformed() -> S3Error {
    Code::MalformedXML.into()
}

fn leaf_if(xml: &mut XmlWriter, name: &str, text: Option<&str>) {
    if let Some(text) = text {
        xml.leaf(name, text);
    }
}
