//! Fuzzes the forms of browsers' uploads, and the policies in them.
//! Invariants: a form is the same however the network cuts it; the file holds no delimiter; fields stay within their limit.
#![no_main]

use bytes::Bytes;
use server::s3::post::{FIELDS_BYTES_MAX, FormDecoder, FormError, FormStep, PostPolicy};

/// Fields, the file's name and its bytes, of a form that comes in pieces of a length.
fn decode(form: &[u8], piece_bytes: usize) -> Result<(Vec<(String, String)>, String, Vec<u8>), FormError> {
    let mut decoder = FormDecoder::new("multipart/form-data; boundary=xyz")?;
    let (mut fields, mut name, mut data) = (Vec::new(), String::new(), Vec::new());
    for piece in form.chunks(piece_bytes) {
        let mut input = Bytes::copy_from_slice(piece);
        loop {
            match decoder.decode(&mut input)? {
                FormStep::More => break,
                FormStep::Field(name, value) => fields.push((name, value)),
                FormStep::File(file) => name = file,
                FormStep::Data(bytes) => data.extend_from_slice(&bytes),
            }
        }
    }
    decoder.finish()?;
    Ok((fields, name, data))
}

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    let Some((&piece_bytes, form)) = bytes.split_first() else { return };
    if let Ok(text) = std::str::from_utf8(form) {
        FormDecoder::new(text).ok();
        PostPolicy::parse(text).ok();
    }
    let policy = std::str::from_utf8(form).ok().and_then(|text| PostPolicy::parse_document(text).ok());
    if let Some(policy) = policy {
        policy.length_range();
        policy.check(&[("key".to_owned(), "k".to_owned())], 0).ok();
    }
    let whole = decode(form, form.len().max(1));
    let pieces = decode(form, usize::from(piece_bytes).max(1));
    if let (Ok(whole), Ok(pieces)) = (&whole, &pieces) {
        assert_eq!(whole, pieces);
        assert!(!whole.2.windows(7).any(|bytes| bytes == b"\r\n--xyz"));
        let fields_bytes: usize = whole.0.iter().map(|(name, value)| name.len() + value.len()).sum();
        assert!(fields_bytes <= FIELDS_BYTES_MAX);
    }
});
