//! One signed request to the admin listener.
//! Invariants: a connection a request, closed after it; the secret never leaves this module but as a signature.
//! Not here: what is asked (`cli`). Source: AWS Signature Version 4 (docs.aws.amazon.com, "Create a signed request").

use std::fmt::Write as _;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use aws_lc_rs::{digest, hmac};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use serde_json::Value;
use time::OffsetDateTime;
use time::macros::format_description;

/// Carries the secret of a user's key: a header, so that it is in no list of targets.
const SECRET_HEADER: &str = "x-amz-basalt-secret-key";
/// Everything but the unreserved characters of RFC 3986 is escaped, as SigV4 wants it.
const ESCAPED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');
/// A server that answers nothing for so long is not there; carrying out a request takes seconds at most.
const ANSWER_DEADLINE: Duration = Duration::from_secs(60);
/// Longest answer that is read: a census lists 1,000 names of at most 1,024 bytes.
const ANSWER_MAX_BYTES: u64 = 16 * 1024 * 1024;

/// Where the server is and who asks.
pub(crate) struct Client {
    /// `host:port`.
    pub(crate) authority: String,
    pub(crate) region: String,
    pub(crate) access_key: String,
    pub(crate) secret_key: String,
}

/// Why there is no answer.
#[derive(Debug)]
pub(crate) enum ClientError {
    /// No server: a sentence.
    Unreachable(String),
    /// The server refused: its sentence.
    Refused(String),
}

impl std::fmt::Display for ClientError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            ClientError::Unreachable(what) | ClientError::Refused(what) => f.write_str(what),
        }
    }
}

impl Client {
    /// The authority of an endpoint such as `http://127.0.0.1:9001`.
    pub(crate) fn authority_of(endpoint: &str) -> Result<String, String> {
        let rest = endpoint.strip_prefix("http://").unwrap_or(endpoint).trim_end_matches('/');
        match rest.contains("://") || rest.contains('/') || !rest.contains(':') {
            true => Err(format!("the endpoint {endpoint} is not of the form http://HOST:PORT")),
            false => Ok(rest.to_owned()),
        }
    }

    /// Sends one request and returns the answer's document.
    pub(crate) fn ask(
        &self,
        method: &str,
        path: &str,
        parameters: &[(&str, &str)],
    ) -> Result<Value, ClientError> {
        let answer = self.ask_for_bytes(method, path, parameters)?;
        serde_json::from_slice(&answer.body).map_err(|_| garbled())
    }

    /// As `ask`, with a secret for a user's access key.
    pub(crate) fn ask_with_secret(
        &self,
        path: &str,
        parameters: &[(&str, &str)],
        secret: Option<&str>,
    ) -> Result<Value, ClientError> {
        let is_field = |secret: &str| secret.bytes().all(|byte| byte.is_ascii_graphic());
        if !secret.is_none_or(is_field) {
            let what = "a secret key is 8 to 128 visible ASCII characters";
            return Err(ClientError::Refused(what.to_owned()));
        }
        let answer = self.exchange_signed("POST", path, parameters, secret)?;
        serde_json::from_slice(&answer.body).map_err(|_| garbled())
    }

    /// Sends one request and returns the answer as it came, if that is no refusal.
    pub(crate) fn ask_for_bytes(
        &self,
        method: &str,
        path: &str,
        parameters: &[(&str, &str)],
    ) -> Result<Answer, ClientError> {
        self.exchange_signed(method, path, parameters, None)
    }

    fn exchange_signed(
        &self,
        method: &str,
        path: &str,
        parameters: &[(&str, &str)],
        secret: Option<&str>,
    ) -> Result<Answer, ClientError> {
        let escape = |text: &str| utf8_percent_encode(text, ESCAPED).to_string();
        let mut pairs: Vec<String> =
            parameters.iter().map(|(name, value)| format!("{}={}", escape(name), escape(value))).collect();
        pairs.sort();
        let query = pairs.join("&");
        let now = now();
        let authorization = self.authorization(method, path, &query, secret, now);
        let target = if query.is_empty() { path.to_owned() } else { format!("{path}?{query}") };
        let secret = secret.map(|secret| format!("{SECRET_HEADER}: {secret}\r\n")).unwrap_or_default();
        let request = format!(
            "{method} {target} HTTP/1.1\r\nHost: {}\r\n{secret}X-Amz-Date: {}\r\nX-Amz-Content-Sha256: {}\r\n\
             Authorization: {authorization}\r\nContent-Length: 0\r\nConnection: close\r\n\r\n",
            self.authority,
            stamp(now),
            hex::encode(digest::digest(&digest::SHA256, b""))
        );
        let answer = self.exchange(&request).map_err(|source| {
            ClientError::Unreachable(format!(
                "no Basalt answers at http://{}: {source}; is it running, and is this its --admin-listen?",
                self.authority
            ))
        })?;
        read_answer(&answer)
    }

    fn exchange(&self, request: &str) -> std::io::Result<Vec<u8>> {
        let mut stream = TcpStream::connect(&self.authority)?;
        stream.set_read_timeout(Some(ANSWER_DEADLINE))?;
        stream.write_all(request.as_bytes())?;
        let mut answer = Vec::new();
        stream.take(ANSWER_MAX_BYTES).read_to_end(&mut answer)?;
        Ok(answer)
    }

    fn authorization(
        &self,
        method: &str,
        path: &str,
        query: &str,
        secret: Option<&str>,
        now: OffsetDateTime,
    ) -> String {
        let empty = hex::encode(digest::digest(&digest::SHA256, b""));
        let stamp = stamp(now);
        let (name, line) = match secret {
            Some(secret) => (format!("{SECRET_HEADER};"), format!("{SECRET_HEADER}:{secret}\n")),
            None => (String::new(), String::new()),
        };
        let signed_headers = format!("host;{name}x-amz-content-sha256;x-amz-date");
        let canonical = format!(
            "{method}\n{path}\n{query}\nhost:{}\n{line}x-amz-content-sha256:{empty}\nx-amz-date:{stamp}\n\n\
             {signed_headers}\n{empty}",
            self.authority
        );
        let date = &stamp[..8];
        let scope = format!("{date}/{}/s3/aws4_request", self.region);
        let digest = hex::encode(digest::digest(&digest::SHA256, canonical.as_bytes()));
        let to_sign = format!("AWS4-HMAC-SHA256\n{stamp}\n{scope}\n{digest}");
        let mut key = format!("AWS4{}", self.secret_key).into_bytes();
        for part in [date, &self.region, "s3", "aws4_request"] {
            key = sign(&key, part.as_bytes());
        }
        let signature = hex::encode(sign(&key, to_sign.as_bytes()));
        let mut out = String::from("AWS4-HMAC-SHA256 ");
        let credential = format!("Credential={}/{scope}", self.access_key);
        // Writing to a string does not fail.
        write!(out, "{credential}, SignedHeaders={signed_headers}, Signature={signature}").ok();
        out
    }
}

fn sign(key: &[u8], text: &[u8]) -> Vec<u8> {
    hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, key), text).as_ref().to_vec()
}

fn stamp(now: OffsetDateTime) -> String {
    let form = format_description!("[year][month][day]T[hour][minute][second]Z");
    now.format(form).unwrap_or_default()
}

#[allow(clippy::disallowed_methods, reason = "a command-line tool reads the machine's clock")]
fn now() -> OffsetDateTime {
    OffsetDateTime::from(std::time::SystemTime::now())
}

/// An answer that is no refusal.
#[derive(Debug)]
pub(crate) struct Answer {
    head: String,
    pub(crate) body: Vec<u8>,
}

impl Answer {
    /// The value of a header field.
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        let fields = self.head.lines().skip(1).filter_map(|line| line.split_once(':'));
        let mut of_name = fields.filter(|(field, _)| field.eq_ignore_ascii_case(name));
        of_name.next().map(|(_, value)| value.trim())
    }
}

fn garbled() -> ClientError {
    ClientError::Unreachable("the answer is no HTTP of a Basalt admin listener".to_owned())
}

fn read_answer(answer: &[u8]) -> Result<Answer, ClientError> {
    let end = answer.windows(4).position(|window| window == b"\r\n\r\n").ok_or_else(garbled)?;
    let head = String::from_utf8_lossy(&answer[..end]).into_owned();
    let status: u16 = head.split(' ').nth(1).and_then(|status| status.parse().ok()).ok_or_else(garbled)?;
    let answer = Answer { head, body: answer[end + 4..].to_vec() };
    let len: Option<usize> = answer.header("Content-Length").and_then(|len| len.parse().ok());
    if len.is_some_and(|len| len != answer.body.len()) {
        return Err(ClientError::Unreachable("the answer was cut off: try again".to_owned()));
    }
    if (200..300).contains(&status) {
        return Ok(answer);
    }
    let body: Value = serde_json::from_slice(&answer.body).map_err(|_| garbled())?;
    let message = body.get("message").and_then(Value::as_str).unwrap_or("the server gave no reason");
    Err(ClientError::Refused(message.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sigv4_example_get_bucket_lifecycle() {
        // The published example signs other headers; what it shares is the derivation of the key.
        let mut key = b"AWS4wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY".to_vec();
        for part in ["20130524", "us-east-1", "s3", "aws4_request"] {
            key = sign(&key, part.as_bytes());
        }
        let to_sign = "AWS4-HMAC-SHA256\n20130524T000000Z\n20130524/us-east-1/s3/aws4_request\n\
                       9766c798316ff2757b517bc739a67f6213b4ab36dd5da2f94eaebf79c77395ca";
        let signature = hex::encode(sign(&key, to_sign.as_bytes()));
        assert_eq!(signature, "fea454ca298b7da1c68078a5d1bdbfbbe0d65c699e0f91ac7a200a0136783543");
    }

    #[test]
    fn an_endpoint_is_host_and_port() {
        assert_eq!(Client::authority_of("http://127.0.0.1:9001/"), Ok("127.0.0.1:9001".to_owned()));
        assert_eq!(Client::authority_of("[::1]:9001"), Ok("[::1]:9001".to_owned()));
        for wrong in ["https://a:1", "http://a", "http://a:1/path"] {
            assert!(Client::authority_of(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_refusal_is_its_sentence() {
        let answer =
            b"HTTP/1.1 409 Conflict\r\nContent-Length: 33\r\n\r\n{\"code\":\"Refused\",\"message\":\"no\"}";
        assert!(matches!(read_answer(answer), Err(ClientError::Refused(what)) if what == "no"));
        assert!(matches!(read_answer(b"SSH-2.0"), Err(ClientError::Unreachable(_))));
        assert!(read_answer(b"HTTP/1.1 200 OK\r\n\r\n{}").is_ok());
        let answer = read_answer(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\nX-A: b\r\n\r\n{}").unwrap();
        assert_eq!((answer.header("x-a"), answer.header("x-b")), (Some("b"), None));
        assert!(read_answer(b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\n{}").is_err(), "cut off");
    }
}
