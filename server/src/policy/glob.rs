//! Patterns of policies: `*`, `?` and policy variables.
//! Invariants: `?` is one character, `*` any number; what a variable stands for is text, never a pattern; a variable
//! that the request has no value for matches nothing unless it has a default.
//! Not here: which keys may stand in a variable (`condition`).

use std::borrow::Cow;

use super::Facts;

/// A parsed pattern.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Glob {
    pieces: Vec<Piece>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Piece {
    Text(String),
    /// `?`
    One,
    /// `*`
    Many,
    Variable {
        key: String,
        default: Option<String>,
    },
}

/// What a pattern's text means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Syntax {
    pub(super) wildcards: bool,
    pub(super) variables: bool,
}

/// No request at all: no key has a value.
pub(super) struct NoFacts;

impl Facts for NoFacts {
    fn values(&self, _key: &str) -> Option<super::Values<'_>> {
        None
    }
}

impl Glob {
    /// Reads a pattern; everything is one.
    pub(super) fn new(pattern: &str, syntax: Syntax) -> Glob {
        let mut pieces = Vec::new();
        let mut text = String::new();
        let mut rest = pattern;
        while let Some(next) = rest.chars().next() {
            let variable = if syntax.variables { read_variable(rest) } else { None };
            let (piece, length) = match variable {
                Some((Piece::Text(literal), length)) => {
                    text.push_str(&literal);
                    rest = &rest[length..];
                    continue;
                }
                Some(found) => found,
                None if syntax.wildcards && next == '*' => (Piece::Many, 1),
                None if syntax.wildcards && next == '?' => (Piece::One, 1),
                None => {
                    text.push(next);
                    rest = &rest[next.len_utf8()..];
                    continue;
                }
            };
            if !text.is_empty() {
                pieces.push(Piece::Text(std::mem::take(&mut text)));
            }
            pieces.push(piece);
            rest = &rest[length..];
        }
        if !text.is_empty() {
            pieces.push(Piece::Text(text));
        }
        Glob { pieces }
    }

    /// A pattern without variables.
    pub(super) fn wildcards(pattern: &str) -> Glob {
        Glob::new(pattern, Syntax { wildcards: true, variables: false })
    }

    /// Whether it is one text only.
    pub(super) fn is_fixed(&self) -> bool {
        self.pieces.iter().all(|piece| matches!(piece, Piece::Text(_)))
    }

    /// Whether a `*` stands in it.
    pub(super) fn has_many(&self) -> bool {
        self.pieces.contains(&Piece::Many)
    }

    /// The keys of its variables.
    pub(super) fn keys(&self) -> impl Iterator<Item = &str> {
        self.pieces.iter().filter_map(|piece| match piece {
            Piece::Variable { key, .. } => Some(key.as_str()),
            Piece::Text(_) | Piece::One | Piece::Many => None,
        })
    }

    /// Whether `text` matches. Cost: at most the product of both lengths, no allocation unless there are variables.
    pub(super) fn matches(&self, text: &str, facts: &dyn Facts) -> bool {
        // Once, not at every place where a `*` may end: a value may take long to make.
        let Some(values) = self.values(facts) else { return false };
        let (mut piece_at, mut text_at) = (0, 0);
        // After the last `*`: the piece that follows it, and where the text that it swallowed ends.
        let mut retry: Option<(usize, usize)> = None;
        loop {
            let step = match self.pieces.get(piece_at) {
                None if text_at == text.len() => return true,
                None => None,
                Some(Piece::Many) => {
                    retry = Some((piece_at + 1, text_at));
                    Some(0)
                }
                Some(Piece::One) => text[text_at..].chars().next().map(char::len_utf8),
                Some(Piece::Text(literal)) => {
                    text[text_at..].starts_with(literal.as_str()).then_some(literal.len())
                }
                Some(Piece::Variable { .. }) => {
                    let value = values.get(piece_at).map(|value| &**value).unwrap_or_default();
                    text[text_at..].starts_with(value).then_some(value.len())
                }
            };
            match (step, retry) {
                (Some(length), _) => {
                    piece_at += 1;
                    text_at += length;
                }
                (None, Some((piece, swallowed))) => {
                    let Some(next) = text[swallowed..].chars().next() else { return false };
                    let swallowed = swallowed + next.len_utf8();
                    retry = Some((piece, swallowed));
                    (piece_at, text_at) = (piece, swallowed);
                }
                (None, None) => return false,
            }
        }
    }

    /// For each piece the value of its variable; none at all of a pattern without, `None` if one has no value.
    fn values<'f>(&'f self, facts: &'f dyn Facts) -> Option<Vec<Cow<'f, str>>> {
        if self.keys().next().is_none() {
            return Some(Vec::new());
        }
        let value = |piece: &'f Piece| match piece {
            Piece::Variable { key, default } => value_of(key, default.as_deref(), facts),
            Piece::Text(_) | Piece::One | Piece::Many => Some(Cow::Borrowed("")),
        };
        self.pieces.iter().map(value).collect()
    }

    /// As [`Glob::matches`], of a pattern without variables.
    pub(super) fn matches_text(&self, text: &str) -> bool {
        self.matches(text, &NoFacts)
    }

    /// Whether `text` is the same but for case; a wildcard stands for itself.
    pub(super) fn equals_ignoring_case(&self, text: &str, facts: &dyn Facts) -> bool {
        let mut whole = String::new();
        for piece in &self.pieces {
            match piece {
                Piece::Text(literal) => whole.push_str(literal),
                Piece::One => whole.push('?'),
                Piece::Many => whole.push('*'),
                Piece::Variable { key, default } => match value_of(key, default.as_deref(), facts) {
                    Some(value) => whole.push_str(&value),
                    None => return false,
                },
            }
        }
        whole.to_lowercase() == text.to_lowercase()
    }
}

/// A variable or an escape at the front of `text`, and its length.
fn read_variable(text: &str) -> Option<(Piece, usize)> {
    let inner = text.strip_prefix("${")?;
    let end = inner.find('}')?;
    let (inner, length) = (&inner[..end], end + 3);
    if matches!(inner, "*" | "?" | "$") {
        return Some((Piece::Text(inner.to_owned()), length));
    }
    let (key, default) = match inner.split_once(',') {
        None => (inner.trim(), None),
        Some((key, default)) => {
            let default = default.trim().strip_prefix('\'')?.strip_suffix('\'')?;
            (key.trim(), Some(default.to_owned()))
        }
    };
    let named = key.contains(':') && !key.contains(['{', '$', ' ']);
    named.then(|| (Piece::Variable { key: lower_key(key), default }, length))
}

/// Names of keys have no case; the key of a tag, after the `/`, has.
pub(super) fn lower_key(key: &str) -> String {
    match key.split_once('/') {
        Some((name, tag)) => format!("{}/{tag}", name.to_ascii_lowercase()),
        None => key.to_ascii_lowercase(),
    }
}

/// The one value of a variable's key, else its default.
fn value_of<'v>(key: &str, default: Option<&'v str>, facts: &'v dyn Facts) -> Option<Cow<'v, str>> {
    match facts.values(key) {
        Some(mut values) if values.len() == 1 => values.pop(),
        _ => default.map(Cow::Borrowed),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct User;

    impl Facts for User {
        fn values(&self, key: &str) -> Option<super::super::Values<'_>> {
            (key == "aws:username").then(|| smallvec::smallvec!["an*na".into()])
        }
    }

    fn matches(pattern: &str, text: &str) -> bool {
        Glob::new(pattern, Syntax { wildcards: true, variables: true }).matches(text, &User)
    }

    #[test]
    fn stars_and_marks_match_as_in_aws() {
        for (pattern, text) in [
            ("*", ""),
            ("a*b*c", "a-b-b-c"),
            ("a?c", "a\u{e9}c"),
            ("bucket/*", "bucket/a/b"),
            ("*a*", "bab"),
            ("", ""),
            ("a**b", "ab"),
        ] {
            assert!(matches(pattern, text), "{pattern} {text}");
        }
        for (pattern, text) in [("a?c", "ac"), ("a*b", "a-c"), ("bucket/*", "bucket"), ("", "a"), ("A", "a")]
        {
            assert!(!matches(pattern, text), "{pattern} {text}");
        }
    }

    #[test]
    fn variables_stand_for_text_and_escapes_for_themselves() {
        assert!(matches("home/${aws:username}/*", "home/an*na/x"));
        assert!(!matches("home/${aws:username}/*", "home/anna/x"));
        assert!(matches("${AWS:UserName}", "an*na"));
        assert!(matches("a${*}b${?}${$}", "a*b?$") && !matches("a${*}b", "axb"));
        assert!(matches("${aws:PrincipalTag/Team, 'none'}", "none"));
        assert!(!matches("${aws:PrincipalTag/Team}", "") && !matches("*${aws:userid}", "x"));
        assert!(matches("${", "${") && matches("${nothing}", "${nothing}"));
    }

    #[test]
    fn many_stars_against_a_long_text_end_soon() {
        let pattern = "*a".repeat(5000) + "b";
        assert!(!matches(&pattern, &"a".repeat(1000)));
    }
}
