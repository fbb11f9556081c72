//! A support bundle: one archive of what helps whoever is asked for support.
//! Invariants: it holds what the admin API answers and nothing else, none of which is a secret; what cannot be had is said
//! in its place; the archive is the owner's alone and overwrites nothing.
//! Not here: what each part says (docs/openapi.yaml).

use std::fs::File;
use std::path::Path;
use std::process::ExitCode;

use serde_json::json;

use crate::cli::{Failure, show};
use crate::client::Client;
use crate::export::new_file;
use crate::render;

/// Name in the archive, and where it comes from.
const PARTS: &[(&str, &str)] = &[
    ("support.json", "/v1/support"),
    ("drives.json", "/v1/drives"),
    ("scrub.json", "/v1/scrub"),
    ("repair.json", "/v1/repair"),
    ("census.json", "/v1/census"),
    ("fsck.json", "/v1/fsck"),
    ("gc.json", "/v1/gc"),
    ("log.jsonl", "/v1/log"),
    ("metrics.txt", "/metrics"),
    ("readyz.txt", "/readyz"),
];

const ABOUT: &str = "\
What a Basalt server said of itself, for support. It holds no object, no secret and no signature. The reports of the last
census and fsck name objects, and so may the log; the rest names drives, paths, addresses and the machine. log.jsonl is the
last 512 lines since the server's start, without those about single requests; older ones are where its stderr goes.
";

/// Asks for every part and writes the archive.
pub(crate) fn run(json: bool, client: &Client, file: &Path) -> Result<ExitCode, Failure> {
    let said = |what: String| Failure::Said(format!("{}: {what}", file.display()));
    if file.exists() {
        return Err(said("it is there already: choose another name or move it away".to_owned()));
    }
    // Whether there is a server, and the keys are right, before a file is made.
    client.ask("GET", "/v1/support", &[])?;
    let out = new_file(file).map_err(|error| said(error.to_string()))?;
    let bytes = write_archive(client, out).map_err(|error| said(error.to_string()))?;
    show(json, &json!({ "file": file.display().to_string(), "bytes": bytes }), render::bundle);
    Ok(ExitCode::SUCCESS)
}

fn write_archive(client: &Client, out: File) -> std::io::Result<u64> {
    let mut archive = tar::Builder::new(out);
    let about = format!("basaltctl {}\n\n{ABOUT}", env!("CARGO_PKG_VERSION"));
    append(&mut archive, "about.txt", about.as_bytes())?;
    for (name, path) in PARTS {
        match client.ask_for_bytes("GET", path, &[]) {
            Ok(answer) => append(&mut archive, name, &answer.body)?,
            Err(error) => append(&mut archive, name, format!("not to be had: {error}\n").as_bytes())?,
        }
    }
    let out = archive.into_inner()?;
    out.sync_all()?;
    Ok(out.metadata()?.len())
}

fn append(archive: &mut tar::Builder<File>, name: &str, body: &[u8]) -> std::io::Result<()> {
    let mut head = tar::Header::new_gnu();
    head.set_size(body.len() as u64);
    head.set_mode(0o600);
    archive.append_data(&mut head, format!("basalt-support/{name}"), body)
}
