//! A request head: one parse of the received bytes, one split of the buffer, no other copy.
//! Invariants: the target is kept exactly as sent; header names compare without case; a head has exactly one body
//! framing, and a message that RFC 9112 calls ambiguous is refused.
//! Not here: the body (`body`), what the target means (`s3::route`).

use std::ops::Range;

use bytes::{Bytes, BytesMut};
use smallvec::SmallVec;

/// Bounds of a request head.
#[derive(Clone, Copy, Debug)]
pub struct HeadLimits {
    /// Longest head, with its final empty line.
    pub head_bytes_max: usize,
    /// Most header fields.
    pub headers_max: usize,
    /// Longest request target.
    pub target_bytes_max: usize,
}

/// A target holds a key of 1,024 bytes, all percent-encoded (3 KiB), and as much again for a bucket, a prefix, a
/// marker and a presigned query, so 16 KiB; S3 allows 8 KiB of headers; 32 KiB holds both with room. 128 fields:
/// user metadata is at most 2 KiB, and no client sends more than about 40 others.
impl Default for HeadLimits {
    fn default() -> HeadLimits {
        HeadLimits { head_bytes_max: 32 * 1024, headers_max: HEADERS_MAX, target_bytes_max: 16 * 1024 }
    }
}

/// Fields that one parse has room for.
const HEADERS_MAX: usize = 128;

/// Why a head was refused. The connection closes after every one of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HeadError {
    /// Not HTTP: 400.
    Malformed,
    /// The head or the number of its fields passes the limits: 431.
    TooLarge,
    /// The target passes its limit: 414.
    TargetTooLong,
    /// Neither HTTP/1.0 nor HTTP/1.1: 505.
    Version,
    /// HTTP/1.1 demands exactly one Host: 400.
    Host,
    /// Content-Length and Transfer-Encoding together, differing or malformed lengths: 400.
    AmbiguousLength,
    /// A transfer coding other than chunked: 501.
    TransferCoding,
}

impl HeadError {
    /// The status that answers it.
    pub fn status(self) -> u16 {
        match self {
            HeadError::Malformed | HeadError::Host | HeadError::AmbiguousLength => 400,
            HeadError::TooLarge => 431,
            HeadError::TargetTooLong => 414,
            HeadError::Version => 505,
            HeadError::TransferCoding => 501,
        }
    }
}

impl std::fmt::Display for HeadError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            HeadError::Malformed => "the request head is not HTTP",
            HeadError::TooLarge => "the request head is too large",
            HeadError::TargetTooLong => "the request target is too long",
            HeadError::Version => "the HTTP version is not supported",
            HeadError::Host => "HTTP/1.1 requests carry exactly one Host",
            HeadError::AmbiguousLength => "the length of the body is ambiguous",
            HeadError::TransferCoding => "the transfer coding is not supported",
        })
    }
}

impl std::error::Error for HeadError {}

/// The method of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Method {
    /// GET.
    Get,
    /// HEAD.
    Head,
    /// PUT.
    Put,
    /// POST.
    Post,
    /// DELETE.
    Delete,
    /// OPTIONS.
    Options,
    /// Any other token.
    Other,
}

impl Method {
    fn from_token(token: &str) -> Method {
        match token {
            "GET" => Method::Get,
            "HEAD" => Method::Head,
            "PUT" => Method::Put,
            "POST" => Method::Post,
            "DELETE" => Method::Delete,
            "OPTIONS" => Method::Options,
            _ => Method::Other,
        }
    }
}

/// How the body of a request is delimited.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BodyFraming {
    /// Content-Length, or 0 where neither field is given.
    Length(u64),
    /// Transfer-Encoding: chunked.
    Chunked,
}

/// A span of the head's bytes; heads are far shorter than 4 GiB.
type Span = (u32, u32);

/// A parsed request head.
#[derive(Clone, Debug)]
pub struct RequestHead {
    bytes: Bytes,
    method: Method,
    method_span: Span,
    target: Span,
    /// Where the path ends and, if there is a `?`, the query begins one byte later.
    path_end: u32,
    headers: SmallVec<[(Span, Span); 16]>,
    framing: BodyFraming,
    keep_alive: bool,
    expects_continue: bool,
    http11: bool,
}

impl RequestHead {
    /// The method.
    pub fn method(&self) -> Method {
        self.method
    }

    /// The method's token as sent.
    pub fn method_token(&self) -> &str {
        self.text(self.method_span)
    }

    /// The path exactly as sent, still percent-encoded; it begins with `/` (or is `*`).
    pub fn raw_path(&self) -> &str {
        self.text((self.target.0, self.path_end))
    }

    /// The query exactly as sent, without its `?`; `None` where there is no `?`.
    pub fn raw_query(&self) -> Option<&str> {
        (self.path_end < self.target.1).then(|| self.text((self.path_end + 1, self.target.1)))
    }

    /// The first field of that name, as sent less surrounding blanks.
    pub fn header(&self, name: &str) -> Option<&[u8]> {
        self.headers
            .iter()
            .find(|(field, _)| self.slice(*field).eq_ignore_ascii_case(name.as_bytes()))
            .map(|(_, value)| self.slice(*value))
    }

    /// The first field of that name where it is visible ASCII or UTF-8 text.
    pub fn header_str(&self, name: &str) -> Option<&str> {
        self.header(name).and_then(|value| std::str::from_utf8(value).ok())
    }

    /// All fields in the order sent.
    pub fn headers(&self) -> impl Iterator<Item = (&str, &[u8])> {
        self.headers.iter().map(|(name, value)| (self.text(*name), self.slice(*value)))
    }

    /// The same request without its query, and with those fields only that `keeps` says yes to by their names.
    #[must_use]
    pub fn bare(&self, keeps: impl Fn(&str) -> bool) -> RequestHead {
        let mut bare = self.clone();
        bare.target.1 = bare.path_end;
        bare.headers.retain(|(name, _)| keeps(self.text(*name)));
        bare
    }

    /// How the body is delimited.
    pub fn framing(&self) -> BodyFraming {
        self.framing
    }

    /// Whether the client allows another request on this connection.
    pub fn keep_alive(&self) -> bool {
        self.keep_alive
    }

    /// Whether the client waits for `100 Continue` before it sends the body.
    pub fn expects_continue(&self) -> bool {
        self.expects_continue
    }

    /// Whether the request is HTTP/1.1 rather than 1.0.
    pub fn is_http11(&self) -> bool {
        self.http11
    }

    fn slice(&self, span: Span) -> &[u8] {
        self.bytes.get(span.0 as usize..span.1 as usize).unwrap_or_default()
    }

    fn text(&self, span: Span) -> &str {
        // Names, methods and targets were `&str` slices of these very bytes when they were parsed.
        std::str::from_utf8(self.slice(span)).unwrap_or_default()
    }
}

/// What a parse found.
#[derive(Debug)]
#[allow(clippy::large_enum_variant, reason = "lives on the stack of one call; a box would cost each request")]
pub enum HeadParse {
    /// No whole head yet; `searched` bytes hold no end of head and need not be looked at again.
    Partial {
        /// To be given to the next call.
        searched: usize,
    },
    /// A head; its bytes were split off the buffer.
    Complete(RequestHead),
}

/// Looks for a whole head at the front of `buf` and splits it off. `searched` is 0 at first, then what the last
/// call returned. Cost: bytes not yet searched, and one parse of a whole head.
///
/// # Errors
/// [`HeadError`]: answer with its status and close.
pub fn parse_head(buf: &mut BytesMut, searched: usize, limits: &HeadLimits) -> Result<HeadParse, HeadError> {
    skip_blank_lines(buf, searched);
    let Some(head_len) = find_head_end(buf, searched) else {
        if buf.len() >= limits.head_bytes_max {
            return Err(over_limit(buf, limits));
        }
        // Not even a method and a version after this many bytes: do not wait for more.
        if searched == 0 && buf.first().is_some_and(|byte| !byte.is_ascii_uppercase()) {
            return Err(HeadError::Malformed);
        }
        return Ok(HeadParse::Partial { searched: buf.len().saturating_sub(3) });
    };
    if head_len > limits.head_bytes_max {
        return Err(over_limit(buf, limits));
    }
    let spans = parse_spans(&buf[..head_len], limits)?;
    let bytes = buf.split_to(head_len).freeze();
    spans.into_head(bytes).map(HeadParse::Complete)
}

/// RFC 9112 2.2: blank lines before a request line are skipped.
fn skip_blank_lines(buf: &mut BytesMut, searched: usize) {
    if searched > 0 {
        return;
    }
    let blank = buf.iter().take_while(|&&byte| byte == b'\r' || byte == b'\n').count();
    if blank > 0 {
        drop(buf.split_to(blank));
    }
}

fn over_limit(buf: &[u8], limits: &HeadLimits) -> HeadError {
    let line_len = buf.iter().position(|&byte| byte == b'\n').unwrap_or(buf.len());
    if line_len > limits.target_bytes_max { HeadError::TargetTooLong } else { HeadError::TooLarge }
}

/// The length of the head with its final empty line, `\r\n\r\n` or bare `\n\n`.
fn find_head_end(buf: &[u8], searched: usize) -> Option<usize> {
    let mut at = searched.min(buf.len());
    while let Some(offset) = buf[at..].iter().position(|&byte| byte == b'\n') {
        let newline = at + offset;
        match (buf.get(newline + 1), buf.get(newline + 2)) {
            (Some(b'\n'), _) => return Some(newline + 2),
            (Some(b'\r'), Some(b'\n')) => return Some(newline + 3),
            _ => at = newline + 1,
        }
    }
    None
}

struct HeadSpans {
    method: Method,
    method_span: Range<usize>,
    target: Range<usize>,
    http11: bool,
    headers: SmallVec<[(Span, Span); 16]>,
}

fn parse_spans(head: &[u8], limits: &HeadLimits) -> Result<HeadSpans, HeadError> {
    let mut fields = [const { std::mem::MaybeUninit::uninit() }; HEADERS_MAX];
    let count = limits.headers_max.min(HEADERS_MAX);
    let mut request = httparse::Request::new(&mut []);
    let parsed = httparse::ParserConfig::default().parse_request_with_uninit_headers(
        &mut request,
        head,
        &mut fields[..count],
    );
    match parsed {
        Ok(httparse::Status::Complete(len)) if len == head.len() => {}
        Ok(_) => return Err(HeadError::Malformed),
        Err(httparse::Error::TooManyHeaders) => return Err(HeadError::TooLarge),
        Err(httparse::Error::Version) => return Err(HeadError::Version),
        Err(_) => return Err(HeadError::Malformed),
    }
    let (Some(method), Some(target), Some(version)) = (request.method, request.path, request.version) else {
        return Err(HeadError::Malformed);
    };
    if target.len() > limits.target_bytes_max {
        return Err(HeadError::TargetTooLong);
    }
    let mut headers = SmallVec::new();
    for field in request.headers.iter() {
        let name = span_of(head, field.name.as_bytes())?;
        headers.push((name, span_of(head, trim_blanks(field.value))?));
    }
    let method_span = span_of(head, method.as_bytes())?;
    let target = span_of(head, target.as_bytes())?;
    Ok(HeadSpans {
        method: Method::from_token(method),
        method_span: method_span.0 as usize..method_span.1 as usize,
        target: target.0 as usize..target.1 as usize,
        http11: version == 1,
        headers,
    })
}

/// Where `part`, a slice of `whole`, lies in it.
fn span_of(whole: &[u8], part: &[u8]) -> Result<Span, HeadError> {
    let start = (part.as_ptr() as usize).wrapping_sub(whole.as_ptr() as usize);
    if part.is_empty() {
        return Ok((0, 0));
    }
    let start = u32::try_from(start).map_err(|_| HeadError::TooLarge)?;
    let len = u32::try_from(part.len()).map_err(|_| HeadError::TooLarge)?;
    Ok((start, start + len))
}

fn trim_blanks(value: &[u8]) -> &[u8] {
    let is_blank = |byte: &u8| *byte == b' ' || *byte == b'\t';
    let start = value.iter().position(|byte| !is_blank(byte)).unwrap_or(value.len());
    let end = value.iter().rposition(|byte| !is_blank(byte)).map_or(start, |last| last + 1);
    &value[start..end]
}

impl HeadSpans {
    fn into_head(self, bytes: Bytes) -> Result<RequestHead, HeadError> {
        let (path_start, path_end) = path_of(&bytes[self.target.clone()])?;
        let span = |range: Range<usize>| -> Result<Span, HeadError> {
            let start = u32::try_from(range.start).map_err(|_| HeadError::TooLarge)?;
            Ok((start, u32::try_from(range.end).map_err(|_| HeadError::TooLarge)?))
        };
        let base = self.target.start;
        let target = span(base + path_start..self.target.end)?;
        let mut head = RequestHead {
            bytes,
            method: self.method,
            method_span: span(self.method_span)?,
            target,
            path_end: span(base + path_end..self.target.end)?.0,
            headers: self.headers,
            framing: BodyFraming::Length(0),
            keep_alive: self.http11,
            expects_continue: false,
            http11: self.http11,
        };
        head.read_connection_fields()?;
        Ok(head)
    }
}

/// Start and end of the path within the target: origin form, absolute form or `*`.
fn path_of(target: &[u8]) -> Result<(usize, usize), HeadError> {
    let start = match target {
        [b'/', ..] | b"*" => 0,
        _ => {
            let authority = [&b"http://"[..], b"https://"]
                .iter()
                .find(|scheme| {
                    target.get(..scheme.len()).is_some_and(|start| start.eq_ignore_ascii_case(scheme))
                })
                .map(|scheme| scheme.len())
                .ok_or(HeadError::Malformed)?;
            let slash = target[authority..].iter().position(|&byte| byte == b'/');
            authority + slash.ok_or(HeadError::Malformed)?
        }
    };
    let end = target[start..].iter().position(|&byte| byte == b'?').map_or(target.len(), |at| start + at);
    Ok((start, end))
}

impl RequestHead {
    /// Reads the fields that rule the connection, in one pass.
    fn read_connection_fields(&mut self) -> Result<(), HeadError> {
        let mut length: Option<u64> = None;
        let mut chunked = false;
        let mut hosts = 0;
        let mut keep_alive = self.http11;
        let mut expects_continue = false;
        for (name, value) in self.headers() {
            match name.len() {
                4 if name.eq_ignore_ascii_case("host") => hosts += 1,
                6 if name.eq_ignore_ascii_case("expect") => {
                    expects_continue |= value.eq_ignore_ascii_case(b"100-continue");
                }
                10 if name.eq_ignore_ascii_case("connection") => {
                    if has_token(value, b"close") {
                        keep_alive = false;
                    } else if !self.http11 {
                        keep_alive = has_token(value, b"keep-alive");
                    }
                }
                14 if name.eq_ignore_ascii_case("content-length") => {
                    let value = parse_length(value)?;
                    if length.is_some_and(|earlier| earlier != value) {
                        return Err(HeadError::AmbiguousLength);
                    }
                    length = Some(value);
                }
                17 if name.eq_ignore_ascii_case("transfer-encoding") => {
                    if chunked || !self.http11 {
                        return Err(HeadError::AmbiguousLength);
                    }
                    if !value.eq_ignore_ascii_case(b"chunked") {
                        return Err(HeadError::TransferCoding);
                    }
                    chunked = true;
                }
                _ => {}
            }
        }
        if hosts > 1 || (self.http11 && hosts == 0) {
            return Err(HeadError::Host);
        }
        self.framing = match (length, chunked) {
            (Some(_), true) => return Err(HeadError::AmbiguousLength),
            (None, true) => BodyFraming::Chunked,
            (length, false) => BodyFraming::Length(length.unwrap_or(0)),
        };
        self.keep_alive = keep_alive;
        self.expects_continue = expects_continue && self.http11;
        Ok(())
    }
}

/// RFC 9112 allows a list of equal lengths; signs and blanks inside are refused.
fn parse_length(value: &[u8]) -> Result<u64, HeadError> {
    let mut length = None;
    for item in value.split(|&byte| byte == b',') {
        let item = trim_blanks(item);
        if item.is_empty() || !item.iter().all(u8::is_ascii_digit) {
            return Err(HeadError::AmbiguousLength);
        }
        let text = std::str::from_utf8(item).map_err(|_| HeadError::AmbiguousLength)?;
        let value: u64 = text.parse().map_err(|_| HeadError::AmbiguousLength)?;
        if length.is_some_and(|earlier| earlier != value) {
            return Err(HeadError::AmbiguousLength);
        }
        length = Some(value);
    }
    length.ok_or(HeadError::AmbiguousLength)
}

fn has_token(value: &[u8], token: &[u8]) -> bool {
    value.split(|&byte| byte == b',').any(|item| trim_blanks(item).eq_ignore_ascii_case(token))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;

    fn parse(text: &str) -> Result<RequestHead, HeadError> {
        let mut buf = BytesMut::from(text.as_bytes());
        match parse_head(&mut buf, 0, &HeadLimits::default())? {
            HeadParse::Complete(head) => Ok(head),
            HeadParse::Partial { .. } => Err(HeadError::Malformed),
        }
    }

    #[test]
    fn target_and_headers_are_kept_exactly_as_sent() {
        let head = parse("GET /b//./%2F+(a)?x=1&y HTTP/1.1\r\nHost: h\r\nX-Amz-Date:  now \r\n\r\n").unwrap();
        assert_eq!(head.method(), Method::Get);
        assert_eq!(head.raw_path(), "/b//./%2F+(a)");
        assert_eq!(head.raw_query(), Some("x=1&y"));
        assert_eq!(head.header("x-amz-date"), Some(&b"now"[..]));
        assert_eq!(head.framing(), BodyFraming::Length(0));
        assert!(head.keep_alive());
    }

    #[test]
    fn absolute_form_keeps_its_path() {
        let head = parse("GET http://h:9000/b/k?q HTTP/1.1\r\nHost: h\r\n\r\n").unwrap();
        assert_eq!((head.raw_path(), head.raw_query()), ("/b/k", Some("q")));
    }

    #[test]
    fn bytes_after_the_head_stay_in_the_buffer() {
        let mut buf = BytesMut::from(&b"PUT /b/k HTTP/1.1\r\nHost: h\r\nContent-Length: 3\r\n\r\nabc"[..]);
        let HeadParse::Complete(head) = parse_head(&mut buf, 0, &HeadLimits::default()).unwrap() else {
            panic!("whole head")
        };
        assert_eq!(head.framing(), BodyFraming::Length(3));
        assert_eq!(&buf[..], b"abc");
    }

    #[test]
    fn a_head_arriving_byte_by_byte_is_parsed_once_whole() {
        let whole = b"GET /b HTTP/1.1\r\nHost: h\r\n\r\n";
        let mut buf = BytesMut::new();
        let mut searched = 0;
        for (at, byte) in whole.iter().enumerate() {
            buf.extend_from_slice(&[*byte]);
            match parse_head(&mut buf, searched, &HeadLimits::default()).unwrap() {
                HeadParse::Partial { searched: next } => searched = next,
                HeadParse::Complete(_) => assert_eq!(at, whole.len() - 1),
            }
        }
        assert!(buf.is_empty());
    }

    #[test]
    fn ambiguous_lengths_are_refused() {
        let with = |fields: &str| parse(&format!("PUT / HTTP/1.1\r\nHost: h\r\n{fields}\r\n")).map(|_| ());
        assert_eq!(
            with("Content-Length: 3\r\nTransfer-Encoding: chunked\r\n"),
            Err(HeadError::AmbiguousLength)
        );
        assert_eq!(with("Content-Length: 3\r\nContent-Length: 4\r\n"), Err(HeadError::AmbiguousLength));
        assert_eq!(with("Content-Length: 3, 4\r\n"), Err(HeadError::AmbiguousLength));
        assert_eq!(with("Content-Length: +3\r\n"), Err(HeadError::AmbiguousLength));
        assert_eq!(with("Content-Length: 3, 3\r\nContent-Length: 3\r\n"), Ok(()));
        assert_eq!(with("Transfer-Encoding: gzip, chunked\r\n"), Err(HeadError::TransferCoding));
        assert_eq!(with("Content-Length : 3\r\n"), Err(HeadError::Malformed));
    }

    #[test]
    fn limits_answer_their_own_status() {
        assert_eq!(parse("GET / HTTP/2.0\r\nHost: h\r\n\r\n").map(|_| ()).unwrap_err().status(), 505);
        let long = "a".repeat(17_000);
        assert_eq!(
            parse(&format!("GET /{long} HTTP/1.1\r\nHost: h\r\n\r\n")).map(|_| ()).unwrap_err().status(),
            414
        );
        let many = "X: y\r\n".repeat(200);
        assert_eq!(
            parse(&format!("GET / HTTP/1.1\r\nHost: h\r\n{many}\r\n")).map(|_| ()).unwrap_err().status(),
            431
        );
        let big = format!("X: {}\r\n", "y".repeat(40_000));
        assert_eq!(
            parse(&format!("GET / HTTP/1.1\r\nHost: h\r\n{big}\r\n")).map(|_| ()).unwrap_err().status(),
            431
        );
        assert_eq!(parse("GET / HTTP/1.1\r\n\r\n").map(|_| ()), Err(HeadError::Host));
    }

    #[test]
    fn keep_alive_follows_version_and_connection() {
        let keep = |text: &str| parse(text).unwrap().keep_alive();
        assert!(!keep("GET / HTTP/1.0\r\n\r\n"));
        assert!(keep("GET / HTTP/1.0\r\nConnection: Keep-Alive\r\n\r\n"));
        assert!(!keep("GET / HTTP/1.1\r\nHost: h\r\nConnection: foo, Close\r\n\r\n"));
    }

    #[test]
    fn random_and_mutated_heads_never_panic() {
        let seed = fastrand::u64(..);
        let mut rng = fastrand::Rng::with_seed(seed);
        let good =
            b"PUT /b/k?uploadId=x HTTP/1.1\r\nHost: h\r\nContent-Length: 3\r\nExpect: 100-continue\r\n\r\n";
        for _ in 0..20_000 {
            let mut bytes = good.to_vec();
            for _ in 0..rng.usize(0..6) {
                let at = rng.usize(0..bytes.len());
                bytes[at] = rng.u8(..);
            }
            bytes.truncate(rng.usize(0..=bytes.len()));
            let mut buf = BytesMut::from(&bytes[..]);
            if let Ok(HeadParse::Complete(head)) = parse_head(&mut buf, 0, &HeadLimits::default()) {
                assert!(head.raw_path().starts_with('/') || head.raw_path() == "*", "seed={seed}");
            }
        }
    }
}
