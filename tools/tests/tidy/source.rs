//! A Rust source file as `tidy` sees it: its code without literals and comments, its comments, its modules.
//!
//! Invariants: `code_of` and `comments_of` give one entry a line of the file, so line numbers hold for both.
//! Not here: a parser of Rust. Raw strings, nested comments, characters and lifetimes are told apart; macros are text.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

/// One file: its path from the root of the tree, and its text.
pub(crate) struct Source {
    pub(crate) path: String,
    pub(crate) text: String,
}

/// The lines with comments, strings and characters blanked out.
pub(crate) fn code_of(text: &str) -> Vec<String> {
    split(text).0
}

/// What stands in comments, line by line.
pub(crate) fn comments_of(text: &str) -> Vec<String> {
    split(text).1
}

/// The runs of letters, digits and underscores of a line.
pub(crate) fn words_of(line: &str) -> impl Iterator<Item = &str> {
    line.split(|c: char| !c.is_alphanumeric() && c != '_').filter(|w| !w.is_empty())
}

/// Adds `path` and every file that it declares as a module, and theirs, to `reached`.
///
/// `is_root` says that modules of `path` lie beside it (a crate root or `mod.rs`), not in a folder of its name.
pub(crate) fn reach(tree: &Path, path: &Path, is_root: bool, reached: &mut BTreeSet<PathBuf>) {
    if !reached.insert(path.to_path_buf()) {
        return;
    }
    let Ok(text) = fs::read_to_string(tree.join(path)) else { return };
    let beside = path.parent().unwrap_or(Path::new("")).to_path_buf();
    let own = if is_root || path.file_name().is_some_and(|n| n == "mod.rs") {
        beside.clone()
    } else {
        beside.join(path.file_stem().unwrap_or_default())
    };
    for (inline, name, attribute) in modules(&text) {
        let folder = inline.iter().fold(own.clone(), |f, part| f.join(part));
        let candidates = match attribute {
            Some(value) if inline.is_empty() => vec![beside.join(value)],
            Some(value) => vec![folder.join(value)],
            None => vec![folder.join(format!("{name}.rs")), folder.join(&name).join("mod.rs")],
        };
        for candidate in candidates.into_iter().filter(|c| tree.join(c).is_file()) {
            reach(tree, &candidate, false, reached);
        }
    }
}

/// (enclosing inline modules, name, `#[path]` if any) of each `mod name;` of a file.
fn modules(text: &str) -> Vec<(Vec<String>, String, Option<String>)> {
    let mut found = Vec::new();
    let mut open: Vec<(String, usize)> = Vec::new();
    let (mut depth, mut attribute) = (0_usize, None);
    let originals: Vec<&str> = text.lines().collect();
    for (line, original) in code_of(text).iter().zip(originals) {
        if line.trim_start().starts_with("#[path") {
            attribute = original.split('"').nth(1).map(str::to_owned);
        }
        let words: Vec<&str> = words_of(line).collect();
        let declared = words.iter().position(|w| *w == "mod").and_then(|at| words.get(at + 1).copied());
        let starts = words.first().is_some_and(|w| matches!(*w, "mod" | "pub" | "cfg"));
        if let (Some(name), true) = (declared, starts || line.trim_start().starts_with("#[")) {
            if line.contains(';') && !line.contains('{') {
                let inline = open.iter().map(|(n, _)| n.clone()).collect();
                found.push((inline, name.to_owned(), attribute.take()));
            } else if line.contains('{') {
                open.push((name.to_owned(), depth));
            }
        }
        for c in line.chars() {
            match c {
                '{' => depth += 1,
                '}' => depth = depth.saturating_sub(1),
                _ => {}
            }
        }
        while open.last().is_some_and(|(_, at)| depth <= *at) {
            open.pop();
        }
    }
    found
}

#[derive(Clone, Copy, PartialEq)]
enum State {
    Code,
    LineComment,
    Comment { depth: usize },
    Text,
    RawText { hashes: usize },
}

/// (code, comments), each with one entry a line.
fn split(text: &str) -> (Vec<String>, Vec<String>) {
    let chars: Vec<char> = text.chars().collect();
    let (mut code, mut comments) = (vec![String::new()], vec![String::new()]);
    let (mut state, mut at) = (State::Code, 0);
    while let Some(&c) = chars.get(at) {
        let next = chars.get(at + 1).copied().unwrap_or('\n');
        if c == '\n' {
            code.push(String::new());
            comments.push(String::new());
            if state == State::LineComment {
                state = State::Code;
            }
            at += 1;
            continue;
        }
        let (code, comment) =
            (code.last_mut().expect("never empty"), comments.last_mut().expect("never empty"));
        match state {
            State::Code => match (c, next) {
                ('/', '/') => (state, at) = (State::LineComment, at + 2),
                ('/', '*') => (state, at) = (State::Comment { depth: 1 }, at + 2),
                ('"', _) => (state, at) = (State::Text, at + 1),
                ('r', '"' | '#') if !ends_in_word(code, true) => {
                    let hashes = chars[at + 1..].iter().take_while(|c| **c == '#').count();
                    if chars.get(at + 1 + hashes) == Some(&'"') {
                        (state, at) = (State::RawText { hashes }, at + 2 + hashes);
                    } else {
                        code.push(c);
                        at += 1;
                    }
                }
                ('\'', _) => {
                    let width = character_width(&chars[at..]);
                    code.push(' ');
                    at += width;
                }
                _ => {
                    code.push(c);
                    at += 1;
                }
            },
            State::LineComment => {
                comment.push(c);
                at += 1;
            }
            State::Comment { depth } => match (c, next) {
                ('*', '/') => {
                    state = if depth == 1 { State::Code } else { State::Comment { depth: depth - 1 } };
                    at += 2;
                }
                ('/', '*') => (state, at) = (State::Comment { depth: depth + 1 }, at + 2),
                _ => {
                    comment.push(c);
                    at += 1;
                }
            },
            State::Text => match c {
                '\\' if next == '\n' => at += 1,
                '\\' => at += 2,
                '"' => (state, at) = (State::Code, at + 1),
                _ => at += 1,
            },
            State::RawText { hashes } => {
                let closes =
                    c == '"' && chars[at + 1..].iter().take(hashes).filter(|c| **c == '#').count() == hashes;
                if closes {
                    (state, at) = (State::Code, at + 1 + hashes);
                } else {
                    at += 1;
                }
            }
        }
    }
    (code, comments)
}

/// Whether the code so far ends inside a word; `br` and `cr` prefixes of raw strings are not counted.
fn ends_in_word(code: &str, prefix_allowed: bool) -> bool {
    let trimmed = if prefix_allowed { code.strip_suffix(['b', 'c']).unwrap_or(code) } else { code };
    trimmed.chars().next_back().is_some_and(|c| c.is_alphanumeric() || c == '_')
}

/// How many characters a character literal takes; 1 for the quote of a lifetime.
fn character_width(rest: &[char]) -> usize {
    match rest {
        ['\'', '\\', ..] => rest.iter().skip(3).position(|c| *c == '\'').map_or(1, |n| n + 4),
        ['\'', _, '\'', ..] => 3,
        _ => 1,
    }
}
