//! A small XML document as a tree, for configuration that must be understood whole.
//! Invariants: memory is bounded by the number of elements and the walk's own limits; an element that may stand once
//! stands once; whoever reads a tree names every child that it knows, and any other is an error, never ignored.
//! Not here: what documents mean (`s3::config`).

use super::reader::{MalformedXml, XmlEvent, walk};

/// 1,000 rules of lifecycle with a dozen elements each, and room.
const ELEMENTS_MAX: usize = 20_000;

/// An element.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Element {
    name: String,
    text: String,
    children: Vec<Element>,
}

impl Element {
    /// Reads a document whose root is `root`.
    ///
    /// # Errors
    /// [`MalformedXml`].
    pub fn parse(document: &[u8], root: &str) -> Result<Element, MalformedXml> {
        let mut open: Vec<Element> = Vec::new();
        let mut whole = None;
        let mut count = 0;
        walk(document, |event| {
            match event {
                XmlEvent::Open(name, _) => {
                    count += 1;
                    if count > ELEMENTS_MAX {
                        return Err(MalformedXml);
                    }
                    open.push(Element { name: name.to_owned(), ..Element::default() });
                }
                XmlEvent::Close(_, _, text) => {
                    let mut element = open.pop().ok_or(MalformedXml)?;
                    if element.children.is_empty() {
                        text.clone_into(&mut element.text);
                    }
                    match open.last_mut() {
                        Some(parent) => parent.children.push(element),
                        None => whole = Some(element),
                    }
                }
            }
            Ok(())
        })?;
        whole.filter(|element| element.name == root).ok_or(MalformedXml)
    }

    /// Its name, without a prefix.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Its text as it stands; empty where it has children.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// Its children, in order.
    pub fn children(&self) -> &[Element] {
        &self.children
    }

    /// Refuses children of any other name.
    ///
    /// # Errors
    /// [`MalformedXml`].
    pub fn only(&self, names: &[&str]) -> Result<&Element, MalformedXml> {
        let is_known = |child: &Element| names.contains(&child.name.as_str());
        if self.children.iter().all(is_known) { Ok(self) } else { Err(MalformedXml) }
    }

    /// All children of a name.
    pub fn all(&self, name: &str) -> impl Iterator<Item = &Element> {
        self.children.iter().filter(move |child| child.name == name)
    }

    /// The child of a name.
    ///
    /// # Errors
    /// [`MalformedXml`] if it stands twice.
    pub fn child(&self, name: &str) -> Result<Option<&Element>, MalformedXml> {
        let mut found = self.all(name);
        let first = found.next();
        if found.next().is_some() { Err(MalformedXml) } else { Ok(first) }
    }

    /// The text of the child of a name, as it stands.
    ///
    /// # Errors
    /// [`MalformedXml`] if it stands twice or has children.
    pub fn text_of(&self, name: &str) -> Result<Option<&str>, MalformedXml> {
        match self.child(name)? {
            Some(child) if !child.children.is_empty() => Err(MalformedXml),
            child => Ok(child.map(Element::text)),
        }
    }

    /// The text of the child of a name, without space around it: a number, a date, a word.
    ///
    /// # Errors
    /// As [`Element::text_of`].
    pub fn word_of(&self, name: &str) -> Result<Option<&str>, MalformedXml> {
        Ok(self.text_of(name)?.map(str::trim))
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;

    #[test]
    fn a_tree_tells_children_texts_and_what_stands_twice() {
        let document = b"<?xml version=\"1.0\"?><A xmlns=\"x\"> <B> b </B><C><D>1</D><D/></C></A>";
        let tree = Element::parse(document, "A").unwrap();
        assert_eq!(tree.text_of("B").unwrap(), Some(" b "));
        assert_eq!(tree.word_of("B").unwrap(), Some("b"));
        assert_eq!(tree.word_of("E").unwrap(), None);
        assert!(tree.only(&["B", "C"]).is_ok());
        assert!(tree.only(&["B"]).is_err());
        let inner = tree.child("C").unwrap().unwrap();
        assert_eq!(inner.all("D").map(Element::text).collect::<Vec<_>>(), ["1", ""]);
        assert!(inner.child("D").is_err());
        assert!(tree.text_of("C").is_err());
        assert!(Element::parse(document, "B").is_err());
        let wide = format!("<A>{}</A>", "<B/>".repeat(ELEMENTS_MAX));
        assert!(Element::parse(wide.as_bytes(), "A").is_err());
    }
}
