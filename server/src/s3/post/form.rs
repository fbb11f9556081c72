//! `multipart/form-data` of a browser's upload, decoded as it comes: small fields first, then one file as a stream.
//! Invariants: what precedes the file is bounded by [`FIELDS_BYTES_MAX`]; the file passes as slices of what was received, but
//! for what might be the beginning of its end; no bytes make it panic.
//! Not here: what fields mean (`policy`, `mod`). Source: RFC 7578, RFC 2046.

use bytes::Bytes;

/// S3's limit of what precedes the file.
pub const FIELDS_BYTES_MAX: usize = 20 * 1024;
/// RFC 2046's limit.
const BOUNDARY_BYTES_MAX: usize = 70;

/// Why a form is no form.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FormError {
    /// Not `multipart/form-data` with a boundary.
    NotMultipart,
    /// Its parts are not as RFC 7578 has them.
    Malformed,
    /// More than [`FIELDS_BYTES_MAX`] before the file.
    FieldsTooLarge,
    /// It ends without a file.
    NoFile,
}

/// One step of the decoder.
#[derive(Debug, PartialEq, Eq)]
pub enum FormStep {
    /// The input is used up.
    More,
    /// A field: its name and value.
    Field(String, String),
    /// The file begins; its name, without directories.
    File(String),
    /// Bytes of the file, never empty.
    Data(Bytes),
}

/// Decodes one form.
#[derive(Debug)]
pub struct FormDecoder {
    /// A line end, two dashes and the boundary.
    delimiter: Vec<u8>,
    state: State,
}

#[derive(Debug)]
enum State {
    /// Gathered from a part's delimiter on; `seen` bytes of fields were taken before.
    Fields { gathered: Vec<u8>, seen: usize },
    /// `held` may be the beginning of the delimiter.
    File { held: Bytes },
    /// What follows the file does not count.
    After,
}

impl FormDecoder {
    /// Reads the boundary from the value of `Content-Type`.
    ///
    /// # Errors
    /// [`FormError::NotMultipart`].
    pub fn new(content_type: &str) -> Result<FormDecoder, FormError> {
        let mut parameters = split_parameters(content_type);
        let media_type = parameters.next().unwrap_or_default();
        if !media_type.eq_ignore_ascii_case("multipart/form-data") {
            return Err(FormError::NotMultipart);
        }
        let boundary = parameters.find_map(|parameter| value_of(parameter, "boundary"));
        let boundary = boundary.filter(|text| (1..=BOUNDARY_BYTES_MAX).contains(&text.len()));
        let boundary = boundary.ok_or(FormError::NotMultipart)?;
        // The first delimiter has no line end before it.
        let gathered = b"\r\n".to_vec();
        Ok(FormDecoder {
            delimiter: [b"\r\n--", boundary.as_bytes()].concat(),
            state: State::Fields { gathered, seen: 0 },
        })
    }

    /// Takes the next step.
    ///
    /// # Errors
    /// [`FormError`].
    pub fn decode(&mut self, input: &mut Bytes) -> Result<FormStep, FormError> {
        match &mut self.state {
            State::Fields { gathered, seen } => {
                // What is gathered besides is at most one read of the socket.
                gathered.extend_from_slice(&std::mem::take(input));
                let Some(part) = next_part(gathered, &self.delimiter)? else {
                    let is_over = gathered.len() + *seen > FIELDS_BYTES_MAX;
                    return if is_over { Err(FormError::FieldsTooLarge) } else { Ok(FormStep::More) };
                };
                *seen += part.len_bytes;
                if *seen > FIELDS_BYTES_MAX {
                    return Err(FormError::FieldsTooLarge);
                }
                let rest = gathered.split_off(part.len_bytes);
                *gathered = rest;
                Ok(match part.what {
                    What::Field(name, value) => FormStep::Field(name, value),
                    What::File(name) => {
                        *input = Bytes::from(std::mem::take(gathered));
                        self.state = State::File { held: Bytes::new() };
                        FormStep::File(name)
                    }
                })
            }
            State::File { held } => {
                if !held.is_empty() {
                    *input = Bytes::from([&held[..], &input[..]].concat());
                    *held = Bytes::new();
                }
                match find_delimiter(input, &self.delimiter) {
                    Found::At(at) => {
                        let data = input.split_to(at);
                        *input = Bytes::new();
                        self.state = State::After;
                        Ok(if data.is_empty() { FormStep::More } else { FormStep::Data(data) })
                    }
                    Found::MayBeginAt(at) => {
                        *held = input.split_off(at);
                        let data = std::mem::take(input);
                        Ok(if data.is_empty() { FormStep::More } else { FormStep::Data(data) })
                    }
                }
            }
            State::After => {
                *input = Bytes::new();
                Ok(FormStep::More)
            }
        }
    }

    /// The body has ended.
    ///
    /// # Errors
    /// [`FormError::NoFile`], [`FormError::Malformed`] if the file was cut off.
    pub fn finish(&self) -> Result<(), FormError> {
        match self.state {
            State::After => Ok(()),
            State::File { .. } => Err(FormError::Malformed),
            State::Fields { .. } => Err(FormError::NoFile),
        }
    }
}

/// A part at the beginning of what was gathered.
struct Part {
    /// A field with its value and without the delimiter after it; of the file only its head.
    len_bytes: usize,
    what: What,
}

enum What {
    Field(String, String),
    File(String),
}

fn next_part(gathered: &[u8], delimiter: &[u8]) -> Result<Option<Part>, FormError> {
    let Some(after) = gathered.get(delimiter.len()..) else { return Ok(None) };
    if !gathered.starts_with(delimiter) {
        return Err(FormError::Malformed);
    }
    if after.starts_with(b"--") {
        return Err(FormError::NoFile);
    }
    let Some(head_end) = find(after, b"\r\n\r\n") else { return Ok(None) };
    let head = std::str::from_utf8(&after[..head_end]).map_err(|_| FormError::Malformed)?;
    // Blanks may follow a boundary.
    let (padding, head) = head.split_once("\r\n").ok_or(FormError::Malformed)?;
    if !padding.trim_matches([' ', '\t']).is_empty() {
        return Err(FormError::Malformed);
    }
    let disposition = head.split("\r\n").filter_map(|line| line.split_once(':'));
    let disposition = disposition.filter(|(name, _)| name.eq_ignore_ascii_case("content-disposition"));
    let disposition = disposition.map(|(_, value)| value).next().ok_or(FormError::Malformed)?;
    let find_value =
        |name| split_parameters(disposition).skip(1).find_map(|parameter| value_of(parameter, name));
    let name = find_value("name").ok_or(FormError::Malformed)?;
    let body_start = delimiter.len() + head_end + 4;
    if name.eq_ignore_ascii_case("file") {
        let file = find_value("filename").unwrap_or_default();
        // Old browsers send the whole path.
        let file = file.rsplit(['/', '\\']).next().unwrap_or_default().to_owned();
        return Ok(Some(Part { len_bytes: body_start, what: What::File(file) }));
    }
    let Some(len) = find(&gathered[body_start..], delimiter) else { return Ok(None) };
    let value = std::str::from_utf8(&gathered[body_start..body_start + len]);
    let value = value.map_err(|_| FormError::Malformed)?.to_owned();
    Ok(Some(Part { len_bytes: body_start + len, what: What::Field(name, value) }))
}

fn find(text: &[u8], wanted: &[u8]) -> Option<usize> {
    text.windows(wanted.len()).position(|window| window == wanted)
}

enum Found {
    At(usize),
    /// The end of the input may be the beginning of the delimiter; its length if not.
    MayBeginAt(usize),
}

fn find_delimiter(input: &[u8], delimiter: &[u8]) -> Found {
    let mut from = 0;
    while let Some(skipped) = input[from..].iter().position(|byte| *byte == b'\r') {
        let at = from + skipped;
        let rest = &input[at..];
        if rest.starts_with(delimiter) {
            return Found::At(at);
        }
        if delimiter.starts_with(rest) {
            return Found::MayBeginAt(at);
        }
        from = at + 1;
    }
    Found::MayBeginAt(input.len())
}

/// `a; b=c; d="e;f"` at its semicolons, those in quotes aside.
fn split_parameters(text: &str) -> impl Iterator<Item = &str> {
    let mut is_quoted = false;
    let mut is_escaped = false;
    text.split(move |letter| {
        let was_escaped = std::mem::take(&mut is_escaped);
        match letter {
            '\\' if is_quoted && !was_escaped => is_escaped = true,
            '"' if !was_escaped => is_quoted = !is_quoted,
            ';' => return !is_quoted,
            _ => {}
        }
        false
    })
    .map(str::trim)
}

/// The value of a parameter of that name, its quotes taken off.
fn value_of(parameter: &str, name: &str) -> Option<String> {
    let (own, value) = parameter.split_once('=')?;
    if !own.trim().eq_ignore_ascii_case(name) {
        return None;
    }
    let value = value.trim();
    let Some(quoted) = value.strip_prefix('"').and_then(|rest| rest.strip_suffix('"')) else {
        return Some(value.to_owned());
    };
    // Browsers escape only quotes; a backslash before anything else is a file name's own.
    Some(quoted.replace("\\\"", "\"").replace("%22", "\""))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;

    const TYPE: &str = "multipart/form-data; boundary=xyz";
    const FORM: &str = "--xyz\r\nContent-Disposition: form-data; name=\"key\"\r\n\r\na/${filename}\r\n\
        --xyz\r\ncontent-disposition: form-data; name=\"acl\"\r\nContent-Type: text/plain\r\n\r\nprivate\r\n\
        --xyz\r\nContent-Disposition: form-data; name=\"file\"; filename=\"C:\\dir\\b;c.txt\"\r\n\
        Content-Type: text/plain\r\n\r\nhel\r\nlo\r\n--xy\r\n--xyz--\r\n";

    /// The fields, the file's name and the file.
    type Decoded = (Vec<(String, String)>, String, Vec<u8>);

    /// Decodes a form that comes in pieces of a length.
    fn decode(form: &[u8], piece: usize) -> Result<Decoded, FormError> {
        let mut decoder = FormDecoder::new(TYPE)?;
        let (mut fields, mut name, mut data) = (Vec::new(), String::new(), Vec::new());
        for piece in form.chunks(piece) {
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

    #[test]
    fn a_form_is_the_same_however_it_is_cut() {
        for piece in 1..FORM.len() {
            let (fields, name, data) = decode(FORM.as_bytes(), piece).unwrap();
            let fields: Vec<_> = fields.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
            assert_eq!(fields, [("key", "a/${filename}"), ("acl", "private")], "{piece}");
            assert_eq!((name.as_str(), &data[..]), ("b;c.txt", &b"hel\r\nlo\r\n--xy"[..]), "{piece}");
        }
    }

    #[test]
    fn what_is_no_form_says_why() {
        for (content_type, is_good) in [
            ("multipart/form-data; boundary=\"a b\"", true),
            ("Multipart/Form-Data;boundary=x", true),
            ("multipart/form-data", false),
            ("multipart/form-data; boundary=", false),
            ("application/x-www-form-urlencoded", false),
        ] {
            assert_eq!(FormDecoder::new(content_type).is_ok(), is_good, "{content_type}");
        }
        assert_eq!(decode(b"--xyz--\r\n", 100).unwrap_err(), FormError::NoFile);
        assert_eq!(decode(b"", 100).unwrap_err(), FormError::NoFile);
        assert_eq!(decode(b"nothing of the kind", 100).unwrap_err(), FormError::Malformed);
        assert_eq!(decode(&FORM.as_bytes()[..FORM.len() - 10], 100).unwrap_err(), FormError::Malformed);
        let long =
            format!("--xyz\r\nContent-Disposition: form-data; name=\"a\"\r\n\r\n{}", "v".repeat(30_000));
        assert_eq!(decode(long.as_bytes(), 100).unwrap_err(), FormError::FieldsTooLarge);
    }
}
