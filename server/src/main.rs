//! The `basalt` binary: reads the command line, sets up logs, and hands over to the library.
//! Not here: everything else (`server::startup`, `server::config`).
#![forbid(unsafe_code)]

use std::io::Write as _;
use std::process::ExitCode;

use clap::Parser;
use server::config::{Cli, Command, Config, Options};
use server::startup::RestoreOptions;

/// Exit code of an fsck that found something, as basaltctl's.
const DISAGREES: u8 = 3;

fn main() -> ExitCode {
    let cli = Cli::parse();
    let done = match cli.command {
        Command::Version => print(&version_text()),
        Command::CheckConfig(options) => load(&options).and_then(|config| print(&check_text(&config))),
        Command::Fsck(how) => {
            server::logs::init("warn");
            return fsck(&how.options, how.json);
        }
        Command::ImportMetadata(how) => {
            server::logs::init("warn");
            let wanted = RestoreOptions { discard_newer: how.discard_newer, accept_loss: how.accept_loss };
            load(&how.options)
                .and_then(|config| {
                    let done = server::startup::import_metadata(config, how.file.clone(), wanted);
                    done.map_err(|error| error.to_string())
                })
                .and_then(|report| print(&if how.json { report.to_json() } else { report.to_string() }))
        }
        Command::Serve(options) => {
            server::logs::init("info,access=off");
            load(&options)
                .and_then(|config| server::startup::serve(config).map_err(|error| error.to_string()))
        }
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(sentence) => failed(&sentence),
    }
}

fn failed(sentence: &str) -> ExitCode {
    // Where stderr is gone too there is nobody to tell.
    drop(writeln!(std::io::stderr(), "basalt: {sentence}"));
    ExitCode::FAILURE
}

fn fsck(options: &Options, json: bool) -> ExitCode {
    let report =
        load(options).and_then(|config| server::startup::fsck(config).map_err(|error| error.to_string()));
    let report = match report {
        Ok(report) => report,
        Err(sentence) => return failed(&sentence),
    };
    let text = if json { report.to_json() } else { report.to_string() };
    match print(&text) {
        Ok(()) if report.all_agree => ExitCode::SUCCESS,
        Ok(()) => ExitCode::from(DISAGREES),
        Err(sentence) => failed(&sentence),
    }
}

fn load(options: &Options) -> Result<Config, String> {
    Config::load(options, &|name| std::env::var(name).ok()).map_err(|error| error.to_string())
}

fn version_text() -> String {
    format!(
        "basalt {}\nerasure kernel: {}\n{}\n",
        env!("CARGO_PKG_VERSION"),
        shardstore_erasure::Kernel::detect().name(),
        shardstore_reactor::flags_in_use()
    )
}

fn check_text(config: &Config) -> String {
    let redundancy = config.redundancy.unwrap_or_else(|| shardstore::default_redundancy(config.drives.len()));
    let websites = match config.website_domains.join(" ") {
        none if none.is_empty() => "none".to_owned(),
        domains => domains,
    };
    let drives: Vec<String> = config.drives.iter().map(|drive| drive.display().to_string()).collect();
    format!(
        "the configuration is valid\n  listen        {}\n  admin-listen  {}\n  cores         {:?}\n  drives        {}\n  \
         redundancy    {}+{}\n  region        {}\n  domain        {}\n  websites      {}\n  memory        {} MiB\n",
        config.listen.iter().map(ToString::to_string).collect::<Vec<_>>().join(" "),
        config.admin_listen,
        config.cpus,
        drives.join(" "),
        redundancy.k,
        redundancy.m,
        config.region,
        config.domain.as_deref().unwrap_or("none"),
        websites,
        config.memory_bytes >> 20
    )
}

fn print(text: &str) -> Result<(), String> {
    std::io::stdout()
        .write_all(text.as_bytes())
        .map_err(|source| format!("cannot write to standard output: {source}"))
}
