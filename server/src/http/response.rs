//! A response: status, header text and payload.
//! Invariants: no header value can end its line; the length is known before the head is sent.
//! Not here: the fields that every response carries (`connection` adds them).

use std::future::Future;

use bytes::Bytes;

/// A payload that could not be read to its end: the connection closes without finishing it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StreamFailed;

/// A payload that is read while it is sent.
pub trait PayloadSource {
    /// The next bytes in order; `None` at the end. Never empty.
    fn next(&mut self) -> impl Future<Output = Result<Option<Vec<Bytes>>, StreamFailed>>;
}

/// A source with nothing in it.
impl PayloadSource for () {
    async fn next(&mut self) -> Result<Option<Vec<Bytes>>, StreamFailed> {
        Ok(None)
    }
}

/// The payload of a response.
#[derive(Debug)]
pub enum Payload<P> {
    /// None, and `Content-Length: 0` where the status allows one.
    Empty,
    /// In memory.
    Full(Vec<Bytes>),
    /// Read while it is sent.
    Stream {
        /// What it will yield in all.
        len_bytes: u64,
        /// Where it comes from.
        source: P,
    },
    /// A HEAD response: the length that a GET would have had.
    HeadOf {
        /// What a GET would yield.
        len_bytes: u64,
    },
}

/// Whether a byte may stand in the name of a header field (RFC 9110 5.6.2).
pub(crate) fn is_token(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte)
}

/// Header fields as they will stand on the wire.
#[derive(Clone, Debug, Default)]
pub struct HeaderText {
    text: Vec<u8>,
}

impl HeaderText {
    /// Adds a field; bytes of `value` that could end the line are dropped, and a field whose name is none.
    pub fn push(&mut self, name: &str, value: impl AsRef<[u8]>) {
        let value = value.as_ref();
        // Such a name would end the line, or be another field's: whoever asked for it gets none.
        if name.bytes().any(|byte| byte <= b' ' || byte == b':' || byte >= 0x7f) {
            return;
        }
        self.text.reserve(name.len() + value.len() + 4);
        self.text.extend_from_slice(name.as_bytes());
        self.text.extend_from_slice(b": ");
        if value.iter().any(|&byte| byte < b' ' || byte == 0x7f) {
            self.text.extend(value.iter().filter(|&&byte| byte == b'\t' || (byte >= b' ' && byte != 0x7f)));
        } else {
            self.text.extend_from_slice(value);
        }
        self.text.extend_from_slice(b"\r\n");
    }

    /// Adds a field whose value is a number.
    pub fn push_number(&mut self, name: &str, value: u64) {
        let mut digits = DecimalText::default();
        self.push(name, digits.render(value));
    }

    /// The value of a field, the first of that name.
    pub fn get(&self, name: &str) -> Option<&str> {
        let text = std::str::from_utf8(&self.text).ok()?;
        let mut fields = text.split("\r\n").filter_map(|line| line.split_once(": "));
        fields.find(|(field, _)| field.eq_ignore_ascii_case(name)).map(|(_, value)| value)
    }

    /// The fields so far, each with its line end.
    pub fn as_bytes(&self) -> &[u8] {
        &self.text
    }
}

/// Room for the decimal digits of any u64.
#[derive(Default)]
pub(crate) struct DecimalText {
    digits: [u8; 20],
}

impl DecimalText {
    pub(crate) fn render(&mut self, mut value: u64) -> &[u8] {
        let mut at = self.digits.len();
        loop {
            at -= 1;
            self.digits[at] = b"0123456789"[(value % 10) as usize];
            value /= 10;
            if value == 0 {
                return &self.digits[at..];
            }
        }
    }
}

/// What came of sending a response.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sent {
    /// The status that was sent.
    pub status: u16,
    /// Bytes of the payload that were sent.
    pub payload_bytes: u64,
}

/// Who is told once a response was sent, or could not be.
pub struct AfterSent(Box<dyn FnOnce(Sent)>);

impl AfterSent {
    /// Calls `told`.
    pub fn new(told: impl FnOnce(Sent) + 'static) -> AfterSent {
        AfterSent(Box::new(told))
    }

    pub(super) fn tell(self, sent: Sent) {
        (self.0)(sent);
    }
}

impl std::fmt::Debug for AfterSent {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("AfterSent(..)")
    }
}

/// A response of a service.
#[derive(Debug)]
pub struct Response<P> {
    /// The status code.
    pub status: u16,
    /// Fields other than those every response carries.
    pub headers: HeaderText,
    /// The payload.
    pub payload: Payload<P>,
    /// Whether the connection ends after it.
    pub close: bool,
    /// Who wants to know what came of it.
    pub after_sent: Option<AfterSent>,
}

impl<P> Response<P> {
    /// A response without payload or fields.
    pub fn new(status: u16) -> Response<P> {
        let headers = HeaderText::default();
        Response { status, headers, payload: Payload::Empty, close: false, after_sent: None }
    }

    /// Length of the payload that will be sent.
    pub fn payload_bytes(&self) -> u64 {
        match &self.payload {
            Payload::Empty | Payload::HeadOf { .. } => 0,
            Payload::Full(parts) => parts.iter().map(|part| part.len() as u64).sum(),
            Payload::Stream { len_bytes, .. } => *len_bytes,
        }
    }

    /// The same with a payload in memory.
    #[must_use]
    pub fn with_bytes(mut self, content_type: &str, bytes: impl Into<Bytes>) -> Response<P> {
        self.headers.push("Content-Type", content_type);
        self.payload = Payload::Full(vec![bytes.into()]);
        self
    }

    /// The same with one more field.
    #[must_use]
    pub fn with_header(mut self, name: &str, value: impl AsRef<[u8]>) -> Response<P> {
        self.headers.push(name, value);
        self
    }
}

/// The reason phrase of a status.
pub(crate) fn reason(status: u16) -> &'static str {
    match status {
        100 => "Continue",
        200 => "OK",
        204 => "No Content",
        206 => "Partial Content",
        301 => "Moved Permanently",
        302 => "Found",
        303 => "See Other",
        304 => "Not Modified",
        305 => "Use Proxy",
        307 => "Temporary Redirect",
        308 => "Permanent Redirect",
        400 => "Bad Request",
        401 => "Unauthorized",
        403 => "Forbidden",
        404 => "Not Found",
        405 => "Method Not Allowed",
        408 => "Request Timeout",
        409 => "Conflict",
        411 => "Length Required",
        412 => "Precondition Failed",
        413 => "Content Too Large",
        414 => "URI Too Long",
        416 => "Range Not Satisfiable",
        417 => "Expectation Failed",
        431 => "Request Header Fields Too Large",
        500 => "Internal Server Error",
        501 => "Not Implemented",
        503 => "Service Unavailable",
        505 => "HTTP Version Not Supported",
        507 => "Insufficient Storage",
        _ => "Status",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn neither_a_name_nor_a_value_can_end_its_line() {
        let mut headers = HeaderText::default();
        headers.push("x-amz-meta-a: b\r\ncontent-length: 2\r\n\r\nhi", "v");
        headers.push("X", "a\r\nSet-Cookie: b\tc");
        headers.push_number("N", 0);
        headers.push_number("M", u64::MAX);
        assert_eq!(headers.as_bytes(), b"X: aSet-Cookie: b\tc\r\nN: 0\r\nM: 18446744073709551615\r\n");
    }
}
