//! A bounded walk over a small XML document.
//! Invariants: see the folder; only the five predefined entities and character references are known; nothing
//! panics on any bytes.
//! Not here: the documents themselves (`requests`).

use quick_xml::Reader;
use quick_xml::events::Event;

/// Deepest element of any S3 request is 4; 8 leaves room.
const DEPTH_MAX: usize = 8;
/// Longest text of one element: a key of 1,024 bytes, with room.
const TEXT_BYTES_MAX: usize = 8 * 1024;

/// The document is not what S3 expects.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MalformedXml;

/// One step of a walk; names are without namespace prefixes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum XmlEvent<'a> {
    /// An element begins; its depth is 1 for the root.
    Open(&'a str, usize),
    /// An element ends, with the text directly inside it, trimmed by no one.
    Close(&'a str, usize, &'a str),
}

/// Walks `document`, calling `visit` for every element.
///
/// # Errors
/// [`MalformedXml`], also where `visit` returns it.
pub fn walk(
    document: &[u8],
    mut visit: impl FnMut(XmlEvent<'_>) -> Result<(), MalformedXml>,
) -> Result<(), MalformedXml> {
    let text = std::str::from_utf8(document).map_err(|_| MalformedXml)?;
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let mut reader = Reader::from_str(text);
    reader.config_mut().expand_empty_elements = true;
    let mut texts: Vec<String> = Vec::new();
    let mut roots = 0;
    loop {
        match reader.read_event().map_err(|_| MalformedXml)? {
            Event::Start(start) => {
                if texts.len() == DEPTH_MAX {
                    return Err(MalformedXml);
                }
                if texts.is_empty() {
                    roots += 1;
                }
                texts.push(String::new());
                visit(XmlEvent::Open(start.local_name().as_ref(), texts.len()))?;
            }
            Event::End(end) => {
                let depth = texts.len();
                let text = texts.pop().ok_or(MalformedXml)?;
                visit(XmlEvent::Close(end.local_name().as_ref(), depth, &text))?;
            }
            Event::Text(part) => push_text(&mut texts, &part.xml10_content())?,
            Event::CData(part) => push_text(&mut texts, &part)?,
            Event::GeneralRef(name) => {
                let mut utf8 = [0; 4];
                push_text(&mut texts, resolve(&name)?.encode_utf8(&mut utf8))?;
            }
            Event::DocType(_) => return Err(MalformedXml),
            Event::Eof => break,
            Event::Decl(_) | Event::PI(_) | Event::Comment(_) | Event::Empty(_) => {}
        }
    }
    if texts.is_empty() && roots == 1 { Ok(()) } else { Err(MalformedXml) }
}

fn push_text(texts: &mut [String], part: &str) -> Result<(), MalformedXml> {
    let Some(text) = texts.last_mut() else {
        return if part.trim().is_empty() { Ok(()) } else { Err(MalformedXml) };
    };
    if text.len() + part.len() > TEXT_BYTES_MAX {
        return Err(MalformedXml);
    }
    text.push_str(part);
    Ok(())
}

/// A predefined entity or a character reference.
fn resolve(name: &str) -> Result<char, MalformedXml> {
    match name {
        "amp" => Ok('&'),
        "lt" => Ok('<'),
        "gt" => Ok('>'),
        "quot" => Ok('"'),
        "apos" => Ok('\''),
        _ => {
            let digits = name.strip_prefix('#').ok_or(MalformedXml)?;
            let code = match digits.strip_prefix(['x', 'X']) {
                Some(hex) => u32::from_str_radix(hex, 16),
                None => digits.parse(),
            };
            code.ok().and_then(char::from_u32).ok_or(MalformedXml)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn texts(document: &str) -> Result<Vec<(String, String)>, MalformedXml> {
        let mut found = Vec::new();
        walk(document.as_bytes(), |event| {
            if let XmlEvent::Close(name, _, text) = event {
                found.push((name.to_owned(), text.to_owned()));
            }
            Ok(())
        })?;
        Ok(found)
    }

    #[test]
    fn texts_are_resolved_and_prefixes_dropped() {
        let found = texts(
            "<?xml version=\"1.0\"?><s:A xmlns:s=\"x\"><B>a&amp;b&#x1;&#233;<![CDATA[<c>]]></B><C/></s:A>",
        );
        let expected = [("B", "a&b\u{1}\u{e9}<c>"), ("C", ""), ("A", "")];
        assert_eq!(found, Ok(expected.map(|(name, text)| (name.to_owned(), text.to_owned())).to_vec()));
    }

    #[test]
    fn entities_depth_and_size_are_bounded() {
        let bomb = "<!DOCTYPE a [<!ENTITY b \"bbb\">]><a>&b;</a>";
        for document in [bomb, "<a>&b;</a>", "", "<a>", "</a>", "<a></b>", "<a/><b/>", "x<a/>", "{}"] {
            assert_eq!(texts(document), Err(MalformedXml), "{document}");
        }
        assert_eq!(texts(&"<a>".repeat(1000)), Err(MalformedXml));
        assert_eq!(texts(&format!("<a>{}</a>", "x".repeat(10_000))), Err(MalformedXml));
    }

    #[test]
    fn random_and_mutated_documents_never_panic() {
        let good = b"<?xml version=\"1.0\"?><Delete><Object><Key>a&amp;b</Key></Object><!-- c --><Quiet>true</Quiet></Delete>";
        let mut rng = fastrand::Rng::new();
        for _ in 0..20_000 {
            let mut bytes = good.to_vec();
            for _ in 0..rng.usize(0..6) {
                let at = rng.usize(0..bytes.len());
                bytes[at] = rng.u8(..);
            }
            bytes.truncate(rng.usize(0..=bytes.len()));
            assert!(matches!(walk(&bytes, |_| Ok(())), Ok(()) | Err(MalformedXml)));
        }
    }
}
