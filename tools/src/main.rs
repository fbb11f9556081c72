//! basaltctl: what an operator asks a running Basalt, over its signed admin API.
//! Invariants: exit codes are 0 done, 1 refused or failed, 2 wrong usage, 3 something is not whole; `--json` prints
//! exactly what the server answered; what cannot be undone is confirmed, or `--yes` is given.
//! Not here: the server's side (`server/src/admin`), whose description is docs/openapi.yaml.
#![forbid(unsafe_code)]

mod bundle;
mod cli;
mod client;
mod export;
mod profile;
mod render;

use std::process::ExitCode;

fn main() -> ExitCode {
    cli::run()
}
