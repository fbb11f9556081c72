//! The query parameters of a request, decoded when they are asked for.
//! Invariants: the first of equal names counts; a value that cannot be decoded is an error, not a guess.
//! Not here: routing (`route`), signing (`auth`).

use std::borrow::Cow;

use crate::auth::decode_query_escapes;
use crate::s3::error::{Code, S3Error};

/// A query as sent.
#[derive(Clone, Copy, Debug)]
pub struct Query<'q> {
    raw: &'q str,
}

impl<'q> Query<'q> {
    /// Of a head's raw query.
    pub fn new(raw: Option<&'q str>) -> Query<'q> {
        Query { raw: raw.unwrap_or_default() }
    }

    /// The decoded value; `None` where there is none or it is no text.
    pub fn get(&self, name: &str) -> Option<Cow<'q, str>> {
        self.text(name).ok().flatten()
    }

    /// False where no name or value holds `part`: cheaper than looking for each of many names.
    pub fn may_hold(&self, part: &str) -> bool {
        !self.raw.is_empty() && self.raw.contains(part)
    }

    /// The decoded value as bytes.
    ///
    /// # Errors
    /// `InvalidURI` for broken escapes.
    pub fn bytes(&self, name: &str) -> Result<Option<Vec<u8>>, S3Error> {
        let Some(raw) = self.raw_value(name) else { return Ok(None) };
        let mut value = Vec::with_capacity(raw.len());
        decode_query_escapes(raw.as_bytes(), &mut value).map_err(|_| S3Error::from(Code::InvalidURI))?;
        Ok(Some(value))
    }

    /// The decoded value as text.
    ///
    /// # Errors
    /// `InvalidURI` for broken escapes; `InvalidArgument` for what is no UTF-8.
    pub fn text(&self, name: &str) -> Result<Option<Cow<'q, str>>, S3Error> {
        let Some(raw) = self.raw_value(name) else { return Ok(None) };
        if !raw.bytes().any(|byte| byte == b'%' || byte == b'+') {
            return Ok(Some(Cow::Borrowed(raw)));
        }
        let bytes = self.bytes(name)?.unwrap_or_default();
        let text = String::from_utf8(bytes)
            .map_err(|_| S3Error::with_message(Code::InvalidArgument, "A query parameter is no UTF-8."))?;
        Ok(Some(Cow::Owned(text)))
    }

    /// A number; an empty value counts as absent.
    ///
    /// # Errors
    /// `InvalidArgument` for anything but a decimal number from 0 to 2^31-1, as AWS answers.
    pub fn number(&self, name: &str) -> Result<Option<u32>, S3Error> {
        let Some(text) = self.text(name)?.filter(|text| !text.is_empty()) else { return Ok(None) };
        match text.parse::<u32>() {
            Ok(value) if value <= i32::MAX.unsigned_abs() => Ok(Some(value)),
            _ => Err(S3Error::argument(name, &text, "Argument must be an integer between 0 and 2147483647")),
        }
    }

    fn raw_value(&self, name: &str) -> Option<&'q str> {
        if self.raw.is_empty() {
            return None;
        }
        self.raw.split('&').find_map(|pair| {
            let (field, value) = pair.split_once('=').unwrap_or((pair, ""));
            (field == name).then_some(value)
        })
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;

    #[test]
    fn values_are_decoded_once() {
        let query = Query::new(Some("prefix=a%2Bb+c&max-keys=7&bad=%f&empty=&n=-1"));
        assert_eq!(query.get("prefix").unwrap(), "a+b c");
        assert_eq!(query.number("max-keys").unwrap(), Some(7));
        assert_eq!(query.number("empty").unwrap(), None);
        assert!(query.number("n").is_err());
        assert!(query.bytes("bad").is_err());
        assert_eq!(query.get("none"), None);
    }
}
