//! A dump of metadata from a running server into a file.
//! Invariants: the file appears under its name only when it is whole and on disk; it is the owner's alone; nothing that
//! was there is overwritten.
//! Not here: what the bytes are (docs/format.md), restoring (`basalt import-metadata`).

use std::fs::{File, OpenOptions};
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use serde_json::{Value, json};

use crate::cli::{Failure, end_progress, show, show_progress};
use crate::client::{Client, ClientError};
use crate::render;

/// Of its own, so that a lost answer is not the end of an hour's export.
const TRIES_MAX: u32 = 3;

/// Writes all metadata into `file`.
pub(crate) fn run(json: bool, client: &Client, file: &Path) -> Result<ExitCode, Failure> {
    let said = |what: String| Failure::Said(format!("{}: {what}", file.display()));
    if file.exists() {
        return Err(said("it is there already: choose another name or move it away".to_owned()));
    }
    let partial = partial_of(file);
    let mut out = new_file(&partial).map_err(|error| said(format!("it cannot be made: {error}")))?;
    let written = write_all(client, &mut out).and_then(|bytes| {
        out.sync_all()
            .and_then(|()| std::fs::hard_link(&partial, file))
            .map_err(|error| said(error.to_string()))?;
        sync_parent(file).map_err(|error| said(error.to_string()))?;
        Ok(bytes)
    });
    end_progress();
    // Whole or not, what is left under this name is of no use.
    std::fs::remove_file(&partial).ok();
    show(json, &json!({ "file": file.display().to_string(), "bytes": written? }), render::export);
    Ok(ExitCode::SUCCESS)
}

fn partial_of(file: &Path) -> PathBuf {
    let mut name = file.file_name().unwrap_or_default().to_owned();
    name.push(".partial");
    file.with_file_name(name)
}

/// A new file that only its owner may read: names of objects are nobody else's.
pub(crate) fn new_file(path: &Path) -> std::io::Result<File> {
    OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(path)
}

#[allow(clippy::disallowed_methods, reason = "a command-line tool has no core to keep busy")]
fn sync_parent(file: &Path) -> std::io::Result<()> {
    let parent = file.parent().filter(|parent| !parent.as_os_str().is_empty());
    File::open(parent.unwrap_or(Path::new(".")))?.sync_all()
}

fn write_all(client: &Client, out: &mut File) -> Result<u64, Failure> {
    let begun = client.ask("POST", "/v1/meta/export/start", &[])?;
    let id = begun.get("export").and_then(Value::as_str).unwrap_or_default();
    let mut bytes = 0;
    for number in 0u64.. {
        let part = part(client, id, &number.to_string())?;
        out.write_all(&part.body)
            .map_err(|error| Failure::Said(format!("the dump cannot be written: {error}")))?;
        bytes += part.body.len() as u64;
        show_progress(&format!("metadata: {}", render::size(bytes)));
        if part.header("X-Basalt-Last") == Some("true") {
            break;
        }
    }
    Ok(bytes)
}

fn part(client: &Client, id: &str, number: &str) -> Result<crate::client::Answer, ClientError> {
    let mut tries = 0;
    loop {
        tries += 1;
        match client.ask_for_bytes("GET", "/v1/meta/export", &[("export", id), ("part", number)]) {
            Err(ClientError::Unreachable(_)) if tries < TRIES_MAX => {}
            answered => return answered,
        }
    }
}
