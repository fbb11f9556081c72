//! One record of an access log, as a line of AWS's format: "Amazon S3 server access log format".
//! Invariants: a line has 27 fields and one line end, whatever a client sent: bytes that could end a field or a line are
//! percent-encoded; what is not known is `-`.
//! Not here: what goes into the fields (`handlers::logging`, `lifecycle_pass`).

use std::io::Write;
use std::net::IpAddr;

use bytes::Bytes;
use shardstore_reactor::Seal;

use crate::auth::encode_escapes;
use crate::s3::time_text::at_ms;

/// A record. Fields stand in the order of the line, but for the exchange's.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Record {
    /// Canonical id of the bucket's owner.
    pub bucket_owner: String,
    /// The bucket.
    pub bucket: String,
    /// When the request came, in milliseconds since 1970.
    pub received_ms: u64,
    /// From where.
    pub address: Option<IpAddr>,
    /// Canonical id of who asked.
    pub requester: Option<String>,
    /// `x-amz-request-id`.
    pub request_id: String,
    /// Such as `REST.GET.OBJECT`.
    pub operation: &'static str,
    /// Decoded.
    pub key: Option<Bytes>,
    /// What was said on the wire; none where the record is a part of another request, or of no request.
    pub exchange: Option<Exchange>,
    /// The status.
    pub status: Option<u16>,
    /// S3's code of an error.
    pub error_code: Option<&'static str>,
    /// Bytes of the response's payload.
    pub sent_bytes: u64,
    /// The size of the object.
    pub object_bytes: Option<u64>,
    /// The version that was named.
    pub version: Option<String>,
    /// `x-amz-id-2`.
    pub host_id: Option<String>,
    /// The version of the signature and where it stood.
    pub signature: Option<(&'static str, &'static str)>,
    /// How the connection was sealed.
    pub seal: Option<Seal>,
    /// The host that was asked.
    pub host: Option<Bytes>,
    /// Whether only an access list allowed it.
    pub by_acl: bool,
}

/// What a client said and how long the answer took.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Exchange {
    /// The first line of the request.
    pub request_line: Vec<u8>,
    /// `Referer`.
    pub referer: Option<Bytes>,
    /// `User-Agent`.
    pub user_agent: Option<Bytes>,
    /// From the request's arrival to the last byte of the response.
    pub total_ms: u64,
    /// From the last byte of the request to the first of the response.
    pub turn_around_ms: u64,
}

impl Record {
    /// Adds the line.
    pub fn push_line(&self, out: &mut Vec<u8>) {
        push_word(out, Some(self.bucket_owner.as_bytes()));
        push_word(out, Some(self.bucket.as_bytes()));
        push_time(out, self.received_ms);
        push_shown(out, self.address);
        push_word(out, self.requester.as_deref().map(str::as_bytes));
        push_word(out, Some(self.request_id.as_bytes()));
        push_word(out, Some(self.operation.as_bytes()));
        self.push_key(out);
        let exchange = self.exchange.as_ref();
        push_quoted(out, exchange.map(|exchange| Some(&exchange.request_line[..])));
        push_shown(out, self.status);
        push_word(out, self.error_code.map(str::as_bytes));
        push_shown(out, Some(self.sent_bytes).filter(|bytes| *bytes > 0));
        push_shown(out, self.object_bytes);
        push_shown(out, exchange.map(|exchange| exchange.total_ms));
        push_shown(out, exchange.map(|exchange| exchange.turn_around_ms));
        push_quoted(out, exchange.map(|exchange| exchange.referer.as_deref()));
        push_quoted(out, exchange.map(|exchange| exchange.user_agent.as_deref()));
        push_word(out, self.version.as_deref().map(str::as_bytes));
        push_word(out, self.host_id.as_deref().map(str::as_bytes));
        push_word(out, self.signature.map(|(version, _)| version.as_bytes()));
        push_word(out, self.seal.map(|seal| seal.cipher.as_bytes()));
        push_word(out, self.signature.map(|(_, place)| place.as_bytes()));
        push_word(out, self.host.as_deref());
        push_word(out, self.seal.map(|seal| seal.protocol.as_bytes()));
        // There are no access points.
        push_word(out, None);
        push_word(out, self.by_acl.then_some(b"Yes"));
        // Nor regions of AWS that a request could come from.
        out.extend_from_slice(b"-\n");
    }

    fn push_key(&self, out: &mut Vec<u8>) {
        match &self.key {
            Some(key) => encode_escapes(key, out),
            None => out.push(b'-'),
        }
        out.push(b' ');
    }
}

/// A field without quotes, and the blank after it.
fn push_word(out: &mut Vec<u8>, word: Option<&[u8]>) {
    match word {
        Some(word) if !word.is_empty() => push_clean(out, word, b' '),
        _ => out.push(b'-'),
    }
    out.push(b' ');
}

fn push_shown(out: &mut Vec<u8>, value: Option<impl std::fmt::Display>) {
    match value {
        Some(value) => write!(out, "{value} ").expect("a Vec takes all that is written"),
        None => out.extend_from_slice(b"- "),
    }
}

/// A field in quotes; without them where there was nothing that could have said it.
fn push_quoted(out: &mut Vec<u8>, said: Option<Option<&[u8]>>) {
    match said {
        None => out.push(b'-'),
        Some(text) => {
            out.push(b'"');
            push_clean(out, text.filter(|text| !text.is_empty()).unwrap_or(b"-"), b'"');
            out.push(b'"');
        }
    }
    out.push(b' ');
}

/// The text with everything encoded that ends a line, is no ASCII, or is `end` or a quote.
fn push_clean(out: &mut Vec<u8>, text: &[u8], end: u8) {
    for &byte in text {
        let ends = byte == end || byte == b'"';
        if ends || !(byte == b' ' || byte.is_ascii_graphic()) {
            write!(out, "%{byte:02X}").expect("a Vec takes all that is written");
        } else {
            out.push(byte);
        }
    }
}

/// `[06/Feb/2019:00:00:38 +0000]`.
fn push_time(out: &mut Vec<u8>, unix_ms: u64) {
    let format = time::macros::format_description!(
        "[[[day]/[month repr:short]/[year]:[hour]:[minute]:[second] +0000] "
    );
    at_ms(unix_ms).format_into(out, &format).expect("a Vec takes all that is written");
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;

    const OWNER: &str = "79a59df900b949e55d96a1e698fbacedfd6e09d98eacf8f8d5218e7cd47ef2be";

    fn line(record: &Record) -> String {
        let mut out = Vec::new();
        record.push_line(&mut out);
        String::from_utf8(out).unwrap()
    }

    fn asked(operation: &'static str, request_line: &str) -> Record {
        Record {
            bucket_owner: OWNER.to_owned(),
            bucket: "amzn-s3-demo-bucket1".to_owned(),
            // 2019-02-06T00:00:38Z.
            received_ms: 1_549_411_238_000,
            address: Some("192.0.2.3".parse().unwrap()),
            requester: Some(OWNER.to_owned()),
            request_id: "3E57427F3EXAMPLE".to_owned(),
            operation,
            exchange: Some(Exchange {
                request_line: request_line.as_bytes().to_vec(),
                user_agent: Some(Bytes::from_static(b"S3Console/0.4")),
                total_ms: 7,
                ..Exchange::default()
            }),
            status: Some(200),
            sent_bytes: 113,
            host_id: Some(
                "s9lzHYrFp76ZVxRcpX9+5cjAnEH2ROuNkd2BHfIa6UkFVdtjf5mKR3/eTPFvsiP/XV/VLi31234=".to_owned(),
            ),
            signature: Some(("SigV4", "AuthHeader")),
            seal: Some(Seal { protocol: "TLSv1.2", cipher: "ECDHE-RSA-AES128-GCM-SHA256" }),
            host: Some(Bytes::from_static(b"amzn-s3-demo-bucket1.s3.us-west-1.amazonaws.com")),
            ..Record::default()
        }
    }

    /// Modelled on the examples of "Amazon S3 server access log format".
    #[test]
    fn lines_are_those_of_the_format_of_aws() {
        let get = asked("REST.GET.VERSIONING", "GET /amzn-s3-demo-bucket1?versioning HTTP/1.1");
        let begin = format!(
            "{OWNER} amzn-s3-demo-bucket1 [06/Feb/2019:00:00:38 +0000] 192.0.2.3 {OWNER} 3E57427F3EXAMPLE"
        );
        let end = "s9lzHYrFp76ZVxRcpX9+5cjAnEH2ROuNkd2BHfIa6UkFVdtjf5mKR3/eTPFvsiP/XV/VLi31234= SigV4 \
             ECDHE-RSA-AES128-GCM-SHA256 AuthHeader amzn-s3-demo-bucket1.s3.us-west-1.amazonaws.com TLSv1.2 -";
        assert_eq!(
            line(&get),
            format!(
                "{begin} REST.GET.VERSIONING - \"GET /amzn-s3-demo-bucket1?versioning HTTP/1.1\" 200 - 113 - 7 0 \"-\" \
                 \"S3Console/0.4\" - {end} - -\n"
            )
        );
        let put = Record {
            key: Some(Bytes::from_static(b"s3-dg.pdf")),
            sent_bytes: 0,
            object_bytes: Some(4_406_583),
            version: Some("3HL4kqtJvjVBH40Nrjfkd".to_owned()),
            by_acl: true,
            ..asked("REST.PUT.OBJECT", "PUT /amzn-s3-demo-bucket1/s3-dg.pdf HTTP/1.1")
        };
        assert_eq!(
            line(&put),
            format!(
                "{begin} REST.PUT.OBJECT s3-dg.pdf \"PUT /amzn-s3-demo-bucket1/s3-dg.pdf HTTP/1.1\" 200 - - 4406583 7 0 \
                 \"-\" \"S3Console/0.4\" 3HL4kqtJvjVBH40Nrjfkd {end} Yes -\n"
            )
        );
        let part = Record {
            operation: "BATCH.DELETE.OBJECT",
            key: Some(Bytes::from_static(b"a b")),
            exchange: None,
            status: Some(403),
            error_code: Some("AccessDenied"),
            sent_bytes: 0,
            ..get
        };
        assert_eq!(
            line(&part),
            format!("{begin} BATCH.DELETE.OBJECT a%20b - 403 AccessDenied - - - - - - - {end} - -\n")
        );
    }

    #[test]
    fn what_no_request_made_is_by_the_service_and_from_nowhere() {
        let expired = Record {
            bucket_owner: "o".to_owned(),
            bucket: "b".to_owned(),
            requester: Some("AmazonS3".to_owned()),
            request_id: "R".to_owned(),
            operation: "S3.EXPIRE.OBJECT",
            key: Some(Bytes::from_static(b"k")),
            ..Record::default()
        };
        let line = line(&expired);
        let dashes = "- ".repeat(18);
        assert_eq!(
            line,
            format!("o b [01/Jan/1970:00:00:00 +0000] - AmazonS3 R S3.EXPIRE.OBJECT k {dashes}-\n")
        );
    }

    #[test]
    fn nothing_that_a_client_sends_ends_a_field_or_a_line() {
        let forged = b"x\" 200 \"\n\x00\xff\x7f \x0b";
        let record = Record {
            key: Some(Bytes::from_static(forged)),
            version: Some("v \"\n".to_owned()),
            host: Some(Bytes::from_static(forged)),
            exchange: Some(Exchange {
                request_line: forged.to_vec(),
                referer: Some(Bytes::from_static(forged)),
                user_agent: Some(Bytes::from_static(forged)),
                ..Exchange::default()
            }),
            ..asked("REST.GET.OBJECT", "")
        };
        let line = line(&record);
        assert_eq!((line.matches('\n').count(), line.matches('"').count()), (1, 6), "{line}");
        assert!(line.is_ascii());
        let outside: String = line.split('"').step_by(2).collect();
        assert_eq!(outside.split_whitespace().count(), 28 - 3, "{line}");
        assert!(line.contains("\"x%22 200 %22%0A%00%FF%7F %0B\""), "{line}");
    }
}
