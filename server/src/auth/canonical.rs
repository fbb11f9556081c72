//! Canonical forms of SigV4: percent-coding, the canonical query and headers.
//! Invariants: a path is decoded once and encoded again, never normalised; decoding never panics.
//! Not here: keys and signatures (`sigv4`).

use std::borrow::Cow;

use smallvec::SmallVec;

use crate::http::RequestHead;

/// A percent sign that two hex digits do not follow.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct BadEscape;

/// Decodes percent escapes once; `plus_is_space` in queries.
pub(super) fn decode(text: &[u8], plus_is_space: bool, out: &mut Vec<u8>) -> Result<(), BadEscape> {
    let mut at = 0;
    while let Some(&byte) = text.get(at) {
        match byte {
            b'%' => {
                let high = text.get(at + 1).and_then(|&digit| hex_value(digit)).ok_or(BadEscape)?;
                let low = text.get(at + 2).and_then(|&digit| hex_value(digit)).ok_or(BadEscape)?;
                out.push(high << 4 | low);
                at += 3;
            }
            b'+' if plus_is_space => {
                out.push(b' ');
                at += 1;
            }
            _ => {
                out.push(byte);
                at += 1;
            }
        }
    }
    Ok(())
}

/// Decodes the escapes of a path once.
pub(crate) fn decode_escapes(text: &[u8], out: &mut Vec<u8>) -> Result<(), BadEscape> {
    decode(text, false, out)
}

/// Decodes the escapes of a query's value once; `+` is a space.
pub(crate) fn decode_query_escapes(text: &[u8], out: &mut Vec<u8>) -> Result<(), BadEscape> {
    decode(text, true, out)
}

/// Encodes a name for a listing with `encoding-type=url`: slashes stay, spaces become `%20`.
pub(crate) fn encode_escapes(text: &[u8], out: &mut Vec<u8>) {
    encode(text, true, out);
}

fn hex_value(digit: u8) -> Option<u8> {
    match digit {
        b'0'..=b'9' => Some(digit - b'0'),
        b'a'..=b'f' => Some(digit - b'a' + 10),
        b'A'..=b'F' => Some(digit - b'A' + 10),
        _ => None,
    }
}

/// Encodes with SigV4's set: everything but letters, digits and `-._~` (and `/` where `keep_slash`).
pub(super) fn encode(bytes: &[u8], keep_slash: bool, out: &mut Vec<u8>) {
    const DIGITS: &[u8; 16] = b"0123456789ABCDEF";
    for &byte in bytes {
        match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => out.push(byte),
            b'/' if keep_slash => out.push(byte),
            _ => {
                out.extend_from_slice(&[b'%', DIGITS[usize::from(byte >> 4)], DIGITS[usize::from(byte & 15)]])
            }
        }
    }
}

/// Bytes that stand for themselves in every canonical form.
const UNRESERVED: [bool; 256] = {
    let mut table = [false; 256];
    let mut byte = 0usize;
    while byte < 256 {
        // The index is below 256, so its first byte is all of it.
        let letter = byte.to_le_bytes()[0];
        table[byte] = letter.is_ascii_alphanumeric() || matches!(letter, b'-' | b'.' | b'_' | b'~');
        byte += 1;
    }
    table
};

/// Appends the canonical form of one name or value of a query.
fn push_component(raw: &[u8], decoded: &mut Vec<u8>, out: &mut Vec<u8>) -> Result<(), BadEscape> {
    if raw.iter().all(|&byte| UNRESERVED[usize::from(byte)]) {
        out.extend_from_slice(raw);
        return Ok(());
    }
    decoded.clear();
    decode(raw, true, decoded)?;
    encode(decoded, false, out);
    Ok(())
}

/// Appends the canonical path.
pub(super) fn push_path(raw_path: &str, out: &mut Vec<u8>) -> Result<(), BadEscape> {
    if raw_path.bytes().all(|byte| UNRESERVED[usize::from(byte)] || byte == b'/') {
        out.extend_from_slice(raw_path.as_bytes());
        return Ok(());
    }
    let mut decoded = Vec::with_capacity(raw_path.len());
    decode(raw_path.as_bytes(), false, &mut decoded)?;
    encode(&decoded, true, out);
    Ok(())
}

/// Appends the canonical query, without the parameter `omit`.
pub(super) fn push_query(raw_query: &str, omit: Option<&str>, out: &mut Vec<u8>) -> Result<(), BadEscape> {
    if raw_query.is_empty() {
        return Ok(());
    }
    let mut text = Vec::with_capacity(raw_query.len() + 16);
    let mut pairs: SmallVec<[(usize, usize, usize); 16]> = SmallVec::new();
    let mut decoded = Vec::new();
    for (name, value) in query_pairs(raw_query) {
        if omit.is_some_and(|omit| omit.as_bytes() == name) {
            continue;
        }
        let start = text.len();
        push_component(name, &mut decoded, &mut text)?;
        let middle = text.len();
        push_component(value, &mut decoded, &mut text)?;
        pairs.push((start, middle, text.len()));
    }
    pairs.sort_by(|a, b| (&text[a.0..a.1], &text[a.1..a.2]).cmp(&(&text[b.0..b.1], &text[b.1..b.2])));
    for (at, (start, middle, end)) in pairs.into_iter().enumerate() {
        if at > 0 {
            out.push(b'&');
        }
        out.extend_from_slice(&text[start..middle]);
        out.push(b'=');
        out.extend_from_slice(&text[middle..end]);
    }
    Ok(())
}

/// Appends `name:value\n` of every field of that name, joined by commas, blanks collapsed.
pub(super) fn push_header(head: &RequestHead, name: &str, out: &mut Vec<u8>) {
    out.extend_from_slice(name.as_bytes());
    out.push(b':');
    let mut first = true;
    for (_, value) in head.headers().filter(|(field, _)| field.eq_ignore_ascii_case(name)) {
        if !std::mem::take(&mut first) {
            out.push(b',');
        }
        let mut blank = false;
        for &byte in value {
            if byte == b' ' {
                blank = true;
                continue;
            }
            if std::mem::take(&mut blank) {
                out.push(b' ');
            }
            out.push(byte);
        }
    }
    out.push(b'\n');
}

/// Names and values as sent; a parameter without `=` has an empty value.
fn query_pairs(raw_query: &str) -> impl Iterator<Item = (&[u8], &[u8])> {
    raw_query.as_bytes().split(|&byte| byte == b'&').filter(|pair| !pair.is_empty()).map(|pair| {
        match pair.iter().position(|&byte| byte == b'=') {
            Some(at) => (&pair[..at], &pair[at + 1..]),
            None => (pair, &pair[pair.len()..]),
        }
    })
}

/// A value of a query, decoded.
pub(super) fn decode_value(raw: &[u8]) -> Result<Cow<'_, str>, BadEscape> {
    if !raw.iter().any(|&byte| byte == b'%' || byte == b'+') {
        return std::str::from_utf8(raw).map(Cow::Borrowed).map_err(|_| BadEscape);
    }
    let mut decoded = Vec::with_capacity(raw.len());
    decode(raw, true, &mut decoded)?;
    String::from_utf8(decoded).map(Cow::Owned).map_err(|_| BadEscape)
}

/// The parameters of signatures in a query as sent, found in one pass; of equal names the first counts.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct SignedQuery<'q> {
    pub(super) algorithm: Option<&'q [u8]>,
    pub(super) credential: Option<&'q [u8]>,
    pub(super) date: Option<&'q [u8]>,
    pub(super) expires: Option<&'q [u8]>,
    pub(super) signed_headers: Option<&'q [u8]>,
    pub(super) signature: Option<&'q [u8]>,
    pub(super) security_token: Option<&'q [u8]>,
    pub(super) content_sha256: Option<&'q [u8]>,
    pub(super) v2_access_key: Option<&'q [u8]>,
    pub(super) v2_expires: Option<&'q [u8]>,
    pub(super) v2_signature: Option<&'q [u8]>,
}

impl<'q> SignedQuery<'q> {
    pub(super) fn read(raw_query: &'q str) -> SignedQuery<'q> {
        let mut found = SignedQuery::default();
        for (name, value) in query_pairs(raw_query) {
            let place = match name {
                b"X-Amz-Algorithm" => &mut found.algorithm,
                b"X-Amz-Credential" => &mut found.credential,
                b"X-Amz-Date" => &mut found.date,
                b"X-Amz-Expires" => &mut found.expires,
                b"X-Amz-SignedHeaders" => &mut found.signed_headers,
                b"X-Amz-Signature" => &mut found.signature,
                b"X-Amz-Security-Token" | b"x-amz-security-token" => &mut found.security_token,
                b"X-Amz-Content-Sha256" => &mut found.content_sha256,
                b"AWSAccessKeyId" => &mut found.v2_access_key,
                b"Expires" => &mut found.v2_expires,
                b"Signature" => &mut found.v2_signature,
                _ => continue,
            };
            place.get_or_insert(value);
        }
        found
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;

    fn path(raw: &str) -> String {
        let mut out = Vec::new();
        push_path(raw, &mut out).unwrap();
        String::from_utf8(out).unwrap()
    }

    fn query(raw: &str) -> String {
        let mut out = Vec::new();
        push_query(raw, Some("X-Amz-Signature"), &mut out).unwrap();
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn paths_are_encoded_again_and_never_normalised() {
        assert_eq!(path("/b//./../a/"), "/b//./../a/");
        assert_eq!(path("/b/(a)+%2f%20$"), "/b/%28a%29%2B/%20%24");
        assert_eq!(path("/b/%C3%A9~"), "/b/%C3%A9~");
        assert_eq!(push_path("/%2", &mut Vec::new()), Err(BadEscape));
        assert_eq!(push_path("/%zz", &mut Vec::new()), Err(BadEscape));
    }

    #[test]
    fn queries_are_sorted_by_their_encoded_bytes() {
        assert_eq!(query("prefix=a/b&max-keys=2&acl"), "acl=&max-keys=2&prefix=a%2Fb");
        assert_eq!(query("b=2&a=%20&a=+1&X-Amz-Signature=ff&&"), "a=%20&a=%201&b=2");
        assert_eq!(query("a-b=1&a=2"), "a=2&a-b=1");
    }
}
