//! Writes XML.
//! Invariants: text is escaped; a character that XML 1.0 cannot carry is written as a reference, as AWS does.
//! Not here: the shape of documents (`replies`).

use bytes::Bytes;

/// A document being written.
#[derive(Debug, Default)]
pub struct XmlWriter {
    out: Vec<u8>,
}

impl XmlWriter {
    /// With the XML declaration.
    pub fn document() -> XmlWriter {
        let mut out = Vec::with_capacity(512);
        out.extend_from_slice(b"<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n");
        XmlWriter { out }
    }

    /// A document whose root is in S3's namespace.
    pub fn s3_document(root: &str, capacity_bytes: usize) -> XmlWriter {
        let mut xml = XmlWriter::document();
        xml.out.reserve(capacity_bytes);
        xml.out.push(b'<');
        xml.out.extend_from_slice(root.as_bytes());
        xml.out.extend_from_slice(b" xmlns=\"http://s3.amazonaws.com/doc/2006-03-01/\">");
        xml
    }

    /// Begins an element.
    pub fn open(&mut self, name: &str) {
        self.out.push(b'<');
        self.out.extend_from_slice(name.as_bytes());
        self.out.push(b'>');
    }

    /// Begins an element with attributes, written as they stand.
    pub fn open_with(&mut self, name: &str, attributes: &str) {
        self.out.push(b'<');
        self.out.extend_from_slice(name.as_bytes());
        self.out.push(b' ');
        self.out.extend_from_slice(attributes.as_bytes());
        self.out.push(b'>');
    }

    /// Ends an element.
    pub fn close(&mut self, name: &str) {
        self.out.extend_from_slice(b"</");
        self.out.extend_from_slice(name.as_bytes());
        self.out.push(b'>');
    }

    /// An element with text.
    pub fn leaf(&mut self, name: &str, text: &str) {
        self.open(name);
        self.text(text.as_bytes());
        self.close(name);
    }

    /// An element with bytes that were checked to be UTF-8 when they came in.
    pub fn leaf_bytes(&mut self, name: &str, text: &[u8]) {
        self.open(name);
        self.text(text);
        self.close(name);
    }

    /// An element with a number.
    pub fn number(&mut self, name: &str, value: u64) {
        self.open(name);
        let mut digits = crate::http::DecimalText::default();
        self.out.extend_from_slice(digits.render(value));
        self.close(name);
    }

    /// An element with `true` or `false`.
    pub fn flag(&mut self, name: &str, value: bool) {
        self.leaf(name, if value { "true" } else { "false" });
    }

    /// An element with a quoted entity tag.
    pub fn etag(&mut self, etag: &crate::ops::api::ETag) {
        use std::io::Write as _;
        self.out.extend_from_slice(b"<ETag>&quot;");
        // Writing to a Vec does not fail.
        drop(write!(self.out, "{etag}"));
        self.out.extend_from_slice(b"&quot;</ETag>");
    }

    /// Text of the element that is open.
    pub fn text_of(&mut self, text: &str) {
        self.text(text.as_bytes());
    }

    fn text(&mut self, text: &[u8]) {
        let mut rest = text;
        while let Some(at) = rest.iter().position(|byte| needs_escape(*byte)) {
            self.out.extend_from_slice(&rest[..at]);
            let byte = rest[at];
            match byte {
                b'&' => self.out.extend_from_slice(b"&amp;"),
                b'<' => self.out.extend_from_slice(b"&lt;"),
                b'>' => self.out.extend_from_slice(b"&gt;"),
                b'"' => self.out.extend_from_slice(b"&quot;"),
                _ => {
                    const DIGITS: &[u8; 16] = b"0123456789ABCDEF";
                    self.out.extend_from_slice(b"&#x");
                    if byte >= 16 {
                        self.out.push(DIGITS[usize::from(byte >> 4)]);
                    }
                    self.out.push(DIGITS[usize::from(byte & 15)]);
                    self.out.push(b';');
                }
            }
            rest = &rest[at + 1..];
        }
        self.out.extend_from_slice(rest);
    }

    /// The document.
    pub fn finish(self) -> Bytes {
        Bytes::from(self.out)
    }
}

fn needs_escape(byte: u8) -> bool {
    byte < b' ' && byte != b'\n' && byte != b'\t' || matches!(byte, b'&' | b'<' | b'>' | b'"')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_is_escaped_and_controls_are_references() {
        let mut xml = XmlWriter::default();
        xml.leaf("K", "a<b>&\"c\"\u{1}\r\u{e9}");
        xml.number("N", 42);
        xml.flag("F", true);
        assert_eq!(
            &xml.finish()[..],
            "<K>a&lt;b&gt;&amp;&quot;c&quot;&#x1;&#xD;\u{e9}</K><N>42</N><F>true</F>".as_bytes()
        );
    }
}
