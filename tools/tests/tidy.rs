//! The habits of the tree, checked: each rule reads the files of the working tree and names what breaks it.
//!
//! Invariants: no rule is switched off; the ratchet `tidy_ratchet.txt` can only shrink, because a count below its
//! entry fails as surely as one above (`TIDY_TIGHTEN=1 cargo test -p tools --test tidy` lowers entries, never raises).
//! Not here: formatting (rustfmt), lints (clippy), licences and sources (cargo-deny).

#[path = "tidy/source.rs"]
mod source;

use source::{Source, code_of, comments_of, words_of};
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

/// DESIGN section 5: package, folder, and the packages of ours that it may import.
const CRATES: &[(&str, &str, &[&str])] = &[
    ("shardstore-format", "shardstore/format", &[]),
    ("shardstore-erasure", "shardstore/erasure", &[]),
    ("shardstore-reactor", "shardstore/reactor", &[]),
    ("shardstore-sim", "shardstore/sim", &["shardstore-format", "shardstore-reactor"]),
    ("shardstore", "shardstore", &["shardstore-format", "shardstore-erasure", "shardstore-reactor"]),
    ("fdb-schema", "fdb-schema", &["shardstore-format", "shardstore-reactor"]),
    (
        "server",
        "server",
        &["shardstore", "shardstore-format", "shardstore-erasure", "shardstore-reactor", "fdb-schema"],
    ),
    ("bench", "bench", &[]),
    (
        "perf",
        "perf",
        &[
            "shardstore",
            "shardstore-format",
            "shardstore-erasure",
            "shardstore-reactor",
            "fdb-schema",
            "server",
        ],
    ),
    ("tools", "tools", &["shardstore", "shardstore-format", "shardstore-reactor", "fdb-schema"]),
];
/// Imported by tests only, and by those of any crate that may know drives.
const DEV_ONLY: &str = "shardstore-sim";
/// Strangers on the wire: they never see the simulator either.
const NEVER_SIM: &[&str] = &["bench", "shardstore-format", "shardstore-erasure", "tools"];

/// STYLE H3: words with no single meaning. The second field says where each is looked for.
const BANNED: &[(&str, Where)] = &[
    ("helper", Where::Everywhere),
    ("util", Where::Everywhere),
    ("manager", Where::Everywhere),
    ("blob", Where::Everywhere),
    ("chunk", Where::Everywhere),
    // In a comment it is mostly the verb: what blocks a core must be said.
    ("block", Where::Identifiers),
];

#[derive(Clone, Copy, PartialEq)]
enum Where {
    Everywhere,
    Identifiers,
}

/// Unsafe code has an address (STYLE H10).
const UNSAFE_ALLOWED: &[&str] =
    &["shardstore/reactor/", "shardstore/erasure/", "fdb-schema/src/engine/foundationdb.rs"];
/// Crates whose roots say `deny(unsafe_code)` at most, because one of their modules is an address.
const UNSAFE_DENIED_NOT_FORBIDDEN: &[&str] = &["fdb-schema"];

#[test]
fn every_source_file_opens_with_its_contract() {
    let bad = sources().into_iter().filter(|s| !s.text.starts_with("//!")).map(|s| s.path).collect();
    none(bad, "does not open with a `//!` contract (STYLE H1)");
}

#[test]
fn source_and_prose_are_ascii() {
    let mut bad = Vec::new();
    for path in files(&["rs", "md"]) {
        for (number, line) in read(&path).lines().enumerate() {
            if !line.is_ascii() {
                bad.push(format!("{path}:{}", number + 1));
            }
        }
    }
    none(bad, "has a character outside ASCII (STYLE H16)");
}

#[test]
fn banned_words_only_become_fewer() {
    let counts = banned_word_counts();
    let path = root().join("tools/tests/tidy_ratchet.txt");
    let text = fs::read_to_string(&path).expect("the ratchet is readable");
    let allowed = parse_ratchet(&text);
    if std::env::var_os("TIDY_TIGHTEN").is_some() {
        fs::write(&path, tightened(&text, &counts)).expect("the ratchet is writable");
        return;
    }
    let mut bad = Vec::new();
    for key in counts.keys().chain(allowed.keys()).collect::<BTreeSet<_>>() {
        let (have, may) = (counts.get(key).copied().unwrap_or(0), allowed.get(key).copied().unwrap_or(0));
        let (path, word) = key;
        if have > may {
            bad.push(format!("{path}: `{word}` {have} times, {may} allowed"));
        } else if have < may {
            bad.push(format!("{path}: `{word}` {have} times; lower the ratchet's {may} to it"));
        }
    }
    none(bad, "(a word of STYLE H3 that the project does not use, and tools/tests/tidy_ratchet.txt)");
}

#[test]
fn crates_import_only_what_design_allows() {
    let mut bad = Vec::new();
    let ours: BTreeSet<&str> = CRATES.iter().map(|c| c.0).collect();
    for (name, folder, may) in CRATES {
        for (section, dependency) in dependencies(&read(&format!("{folder}/Cargo.toml"))) {
            if !ours.contains(dependency.as_str()) || dependency == *name {
                continue;
            }
            let dev_sim =
                section == "dev-dependencies" && dependency == DEV_ONLY && !NEVER_SIM.contains(name);
            if !dev_sim && !may.contains(&dependency.as_str()) {
                bad.push(format!("{folder}/Cargo.toml: [{section}] {dependency}"));
            }
        }
    }
    none(bad, "is an import that DESIGN section 5 does not allow");
}

#[test]
fn every_member_of_the_workspace_has_its_row() {
    let members = section_lines(&read("Cargo.toml"), "workspace")
        .into_iter()
        .filter_map(|l| l.trim().strip_suffix("\",").and_then(|l| l.strip_prefix('"')).map(str::to_owned))
        .collect::<BTreeSet<_>>();
    let rows = CRATES.iter().map(|c| c.1.to_owned()).collect::<BTreeSet<_>>();
    let bad = members.symmetric_difference(&rows).cloned().collect();
    none(bad, "is a member without a row here, or a row without a member");
}

#[test]
fn unsafe_code_stays_at_its_addresses() {
    let mut bad = Vec::new();
    for source in sources() {
        let allowed = UNSAFE_ALLOWED.iter().any(|a| source.path.starts_with(a));
        let lines = code_of(&source.text);
        for (number, line) in lines.iter().enumerate() {
            if !allowed && words_of(line).any(|w| w == "unsafe") {
                bad.push(format!("{}:{}", source.path, number + 1));
            }
        }
    }
    for (name, folder, _) in CRATES {
        if UNSAFE_ALLOWED.iter().any(|a| a.trim_end_matches('/') == *folder) {
            continue;
        }
        for file in ["src/lib.rs", "src/main.rs"] {
            let path = format!("{folder}/{file}");
            if !root().join(&path).exists() {
                continue;
            }
            let text = read(&path);
            let denied = UNSAFE_DENIED_NOT_FORBIDDEN.contains(name) && text.contains("#![deny(unsafe_code)]");
            if !text.contains("#![forbid(unsafe_code)]") && !denied {
                bad.push(format!("{path}: no #![forbid(unsafe_code)]"));
            }
        }
    }
    none(bad, "is unsafe code, or a root that allows it, outside its addresses (STYLE H10)");
}

#[test]
fn no_test_is_ignored() {
    let mut bad = Vec::new();
    for source in sources() {
        for (number, line) in code_of(&source.text).iter().enumerate() {
            let dense: String = line.split_whitespace().collect();
            if dense.contains("#[ignore") || dense.contains(",ignore)") {
                bad.push(format!("{}:{}", source.path, number + 1));
            }
        }
    }
    none(bad, "ignores a test (STYLE H18)");
}

#[test]
fn every_source_file_is_part_of_a_build() {
    let mut reached = BTreeSet::new();
    for manifest in files(&["toml"]).into_iter().filter(|p| p.ends_with("Cargo.toml")) {
        let folder = Path::new(&manifest).parent().unwrap_or(Path::new("")).to_path_buf();
        for path in build_roots(&folder, &read(&manifest)) {
            source::reach(&root(), &path, true, &mut reached);
        }
    }
    let bad = sources().into_iter().map(|s| s.path).filter(|p| !reached.contains(Path::new(p))).collect();
    none(bad, "is reached by no crate, module, test, bench or example");
}

#[test]
fn every_dependency_says_why_it_is_there() {
    let mut bad = Vec::new();
    let mut before = String::new();
    for line in section_lines(&read("Cargo.toml"), "workspace.dependencies") {
        let entry = line.contains('=') && !line.starts_with([' ', '#', '"', ']', '}']);
        let of_ours = line.contains("path =");
        if entry && !of_ours && !before.starts_with('#') {
            bad.push(format!("Cargo.toml: {}", line.split('=').next().unwrap_or_default().trim()));
        }
        before = line;
    }
    none(bad, "has no line of reason above it (STYLE H20)");
}

#[test]
fn dependencies_are_pinned_in_one_place() {
    let mut bad = Vec::new();
    for (_, folder, _) in CRATES {
        let text = read(&format!("{folder}/Cargo.toml"));
        for section in ["dependencies", "dev-dependencies", "build-dependencies"] {
            for line in section_lines(&text, section) {
                if line.contains('=') && !line.starts_with('#') && !line.contains("workspace = true") {
                    bad.push(format!("{folder}/Cargo.toml: {line}"));
                }
            }
        }
    }
    none(bad, "names a version outside the root Cargo.toml");
}

// ---- Counting words

type Counts = BTreeMap<(String, String), usize>;

fn banned_word_counts() -> Counts {
    let mut counts = Counts::new();
    for Source { path, text } in sources() {
        // This file and its parser must name the words; the tree's own vocabulary has blocks in its runs.
        if path.starts_with("tools/tests/") {
            continue;
        }
        let (code, comments) = (code_of(&text), comments_of(&text));
        for (word, place) in BANNED {
            let is_of_the_tree =
                path.starts_with("fdb-schema/") || path.starts_with("perf/examples/metadata");
            if *word == "block" && is_of_the_tree {
                continue;
            }
            let about_aws = |line: &str| *word == "chunk" && names_a_chunked_body(&path, line);
            let is = |found: &str| found == *word || found.strip_suffix('s') == Some(word);
            let mut count = 0;
            for line in &code {
                for identifier in words_of(line) {
                    if of_others(identifier) || about_aws(identifier) {
                        continue;
                    }
                    count += segments(identifier).iter().filter(|s| is(s)).count();
                }
            }
            if *place == Where::Everywhere {
                for line in comments.iter().filter(|l| !about_aws(l)) {
                    for identifier in words_of(line).filter(|w| !of_others(w)) {
                        count += segments(identifier).iter().filter(|s| is(s)).count();
                    }
                }
            }
            if count > 0 {
                counts.insert((path.clone(), (*word).to_owned()), count);
            }
        }
    }
    counts
}

/// HTTP and S3 have chunked bodies; what decodes or signs them may call the pieces by their name.
fn names_a_chunked_body(path: &str, text: &str) -> bool {
    let lower = text.to_ascii_lowercase();
    ["server/src/http/", "server/src/auth/", "server/src/s3/body"].iter().any(|p| path.starts_with(p))
        || path.contains("chunked")
        || ["chunked", "chunk-signature"].iter().any(|w| lower.contains(w))
}

/// Names that the standard library, the kernel or a dependency chose.
fn of_others(identifier: &str) -> bool {
    const NAMES: &[&str] = &[
        "futures_util",
        "block_on",
        "block_api",
        "st_blocks",
        "f_blocks",
        "chunks",
        "Chunks",
        "ChunksExact",
        "chunk_by",
    ];
    const STARTS: &[&str] = &["chunks_", "rchunks", "as_chunks", "as_rchunks", "array_chunks"];
    const ENDS: &[&str] = &["first_chunk", "first_chunk_mut", "last_chunk", "last_chunk_mut"];
    NAMES.contains(&identifier)
        || ["PublicAccessBlock", "public_access_block"].iter().any(|s| identifier.contains(s))
        || STARTS.iter().any(|s| identifier.starts_with(s))
        || ENDS.iter().any(|e| identifier.ends_with(e))
}

/// `snake_case` and `CamelCase` in lower-case words.
fn segments(identifier: &str) -> Vec<String> {
    let mut found = vec![String::new()];
    let mut lower_before = false;
    for c in identifier.chars() {
        if c == '_' || (c.is_ascii_uppercase() && lower_before) {
            found.push(String::new());
        }
        lower_before = c.is_ascii_lowercase() || c.is_ascii_digit();
        if c != '_' {
            found.last_mut().expect("never empty").push(c.to_ascii_lowercase());
        }
    }
    found.retain(|s| !s.is_empty());
    found
}

fn parse_ratchet(text: &str) -> Counts {
    let mut counts = Counts::new();
    for line in text.lines().filter(|l| !l.is_empty() && !l.starts_with('#')) {
        let fields: Vec<&str> = line.split_whitespace().collect();
        let [path, word, count] = fields[..] else {
            panic!("the ratchet has a line of another form: {line}")
        };
        counts.insert((path.to_owned(), word.to_owned()), count.parse().expect("a count"));
    }
    counts
}

/// The ratchet with lower counts where the tree is better than it says; nothing is added or raised.
fn tightened(text: &str, counts: &Counts) -> String {
    let mut out: String = text.lines().filter(|l| l.starts_with('#')).map(|l| format!("{l}\n")).collect();
    for (key, may) in parse_ratchet(text) {
        let now = counts.get(&key).copied().unwrap_or(0).min(may);
        if now > 0 {
            out.push_str(&format!("{} {} {now}\n", key.0, key.1));
        }
    }
    out
}

// ---- Manifests, as far as this workspace's own style of writing them

/// (section, dependency) of every entry, target-specific sections included.
fn dependencies(manifest: &str) -> Vec<(String, String)> {
    let mut found = Vec::new();
    let mut section = String::new();
    for line in manifest.lines() {
        if let Some(name) = line.strip_prefix('[') {
            let name = name.trim_end_matches(']');
            section = name.rsplit('.').next().unwrap_or(name).to_owned();
            if let Some((kind, dependency)) = name.rsplit_once("dependencies.") {
                found.push((format!("{kind}dependencies"), dependency.to_owned()));
            }
        } else if section.ends_with("dependencies") && line.contains('=') && !line.starts_with('#') {
            let name = line.split(['=', '.']).next().unwrap_or_default().trim();
            found.push((section.clone(), name.trim_matches('"').to_owned()));
        }
    }
    found
}

fn section_lines(manifest: &str, section: &str) -> Vec<String> {
    let header = format!("[{section}]");
    let rest = manifest.lines().skip_while(|l| l.trim() != header).skip(1);
    rest.take_while(|l| !l.starts_with('[')).map(str::to_owned).collect()
}

/// The files that cargo compiles as crate roots for the package in `folder`.
fn build_roots(folder: &Path, manifest: &str) -> Vec<PathBuf> {
    let mut roots: Vec<PathBuf> =
        ["src/lib.rs", "src/main.rs", "build.rs"].iter().map(|f| folder.join(f)).collect();
    for line in manifest.lines() {
        if let Some(value) = line.trim().strip_prefix("path = ") {
            roots.push(folder.join(value.trim_matches('"')));
        }
    }
    for group in ["src/bin", "tests", "benches", "examples"] {
        let Ok(entries) = fs::read_dir(root().join(folder).join(group)) else { continue };
        for entry in entries.flatten() {
            let path = folder.join(group).join(entry.file_name());
            roots.push(if entry.path().is_dir() { path.join("main.rs") } else { path });
        }
    }
    roots.retain(|p| p.extension().is_some_and(|e| e == "rs") && root().join(p).is_file());
    roots
}

// ---- Files

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("tools/ has a parent").to_path_buf()
}

fn read(path: &str) -> String {
    fs::read_to_string(root().join(path)).unwrap_or_else(|e| panic!("{path}: {e}"))
}

fn sources() -> Vec<Source> {
    files(&["rs"]).into_iter().map(|path| Source { text: read(&path), path }).collect()
}

/// Paths from the root of every file with one of these extensions, in order. What git ignores is left out.
fn files(extensions: &[&str]) -> Vec<String> {
    let mut found = Vec::new();
    let mut folders = vec![PathBuf::new()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(root().join(&folder)).expect("folders are readable").flatten() {
            let name = entry.file_name().into_string().expect("names are UTF-8");
            let path = folder.join(&name);
            let is_dir = entry.file_type().is_ok_and(|t| t.is_dir());
            let ignored = name.starts_with('.')
                || name == "target"
                || name.starts_with("target-")
                || name == "__pycache__";
            if is_dir && !ignored && path != Path::new("data") {
                folders.push(path);
            } else if !is_dir && path.extension().is_some_and(|e| extensions.iter().any(|x| e == *x)) {
                found.push(path.to_str().expect("names are UTF-8").to_owned());
            }
        }
    }
    found.sort();
    found
}

fn none(bad: Vec<String>, what: &str) {
    assert!(bad.is_empty(), "{} {what}:\n  {}", bad.len(), bad.join("\n  "));
}
