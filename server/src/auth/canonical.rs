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

/// Appends the canonical path.
pub(super) fn push_path(raw_path: &str, out: &mut Vec<u8>) -> Result<(), BadEscape> {
    let plain = |byte: &u8| byte.is_ascii_alphanumeric() || matches!(byte, b'/' | b'-' | b'.' | b'_' | b'~');
    if raw_path.bytes().all(|byte| plain(&byte)) {
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
    for pair in raw_query.split('&').filter(|pair| !pair.is_empty()) {
        let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
        if omit == Some(name) {
            continue;
        }
        let start = text.len();
        decoded.clear();
        decode(name.as_bytes(), true, &mut decoded)?;
        encode(&decoded, false, &mut text);
        let middle = text.len();
        decoded.clear();
        decode(value.as_bytes(), true, &mut decoded)?;
        encode(&decoded, false, &mut text);
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

/// The first value of a query parameter, decoded.
pub(super) fn query_value<'q>(raw_query: &'q str, name: &str) -> Option<Result<Cow<'q, str>, BadEscape>> {
    raw_query.split('&').find_map(|pair| {
        let (field, value) = pair.split_once('=').unwrap_or((pair, ""));
        (field == name).then(|| {
            if !value.bytes().any(|byte| byte == b'%' || byte == b'+') {
                return Ok(Cow::Borrowed(value));
            }
            let mut decoded = Vec::with_capacity(value.len());
            decode(value.as_bytes(), true, &mut decoded)?;
            String::from_utf8(decoded).map(Cow::Owned).map_err(|_| BadEscape)
        })
    })
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
