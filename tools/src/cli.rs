//! The commands and what each asks the server.
//! Invariants: what destroys or moves much is confirmed on a terminal, and refused elsewhere without `--yes`; `--wait`
//! ends when the server says that the work is done.
//! Not here: the wire (`client`), tables (`render`).

use std::ffi::OsString;
use std::io::{BufRead, IsTerminal, Write};
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::{Args, Parser, Subcommand};
use serde_json::Value;

use crate::client::{Client, ClientError};
use crate::profile::{self, Profile, Settings};
use crate::{bundle, export, render};

/// How often the server is asked while something is waited for.
const WAIT_INTERVAL: Duration = Duration::from_secs(1);
/// Refused or failed.
const FAILED: u8 = 1;
/// Something is not whole.
const NOT_WHOLE: u8 = 3;

/// Asks a running Basalt about its drives and data, and tells it what to do.
#[derive(Parser)]
#[command(name = "basaltctl", version)]
struct Cli {
    #[command(flatten)]
    connection: Connection,
    /// Print the server's answer as JSON.
    #[arg(long, global = true)]
    json: bool,
    /// Do not ask for confirmation.
    #[arg(long, global = true)]
    yes: bool,
    #[command(subcommand)]
    command: Command,
}

#[derive(Args)]
struct Connection {
    /// A profile of the configuration file, ~/.config/basalt/config.toml or BASALT_CONFIG_FILE.
    #[arg(long, global = true, env = "BASALT_PROFILE", value_name = "NAME")]
    profile: Option<String>,
    /// The admin listener [default: http://127.0.0.1:9001].
    #[arg(long, global = true, env = "BASALT_ADMIN_ENDPOINT")]
    endpoint: Option<String>,
    /// The region of the server [default: us-east-1].
    #[arg(long, global = true, env = "BASALT_REGION")]
    region: Option<String>,
    /// The root account's access key; before the command.
    #[arg(long, env = "BASALT_ROOT_ACCESS_KEY", hide_env_values = true)]
    access_key: Option<String>,
    /// The root account's secret key, before the command; better from the environment or a profile, so that it is in no
    /// list of processes.
    #[arg(long, env = "BASALT_ROOT_SECRET_KEY", hide_env_values = true)]
    secret_key: Option<String>,
}

impl Connection {
    fn settings(&self) -> Result<Settings, String> {
        let profile = match self.profile.as_deref().filter(|name| !name.is_empty()) {
            Some(name) => profile::read(&profile::file_of(&|name| std::env::var(name).ok())?, name)?,
            None => Profile::default(),
        };
        let said = Profile {
            endpoint: self.endpoint.clone(),
            region: self.region.clone(),
            access_key: self.access_key.clone(),
            secret_key: self.secret_key.clone(),
        };
        Ok(said.or(profile))
    }
}

#[derive(Subcommand)]
enum Command {
    /// The drives of the pool.
    #[command(subcommand)]
    Drive(Drive),
    /// Reading and mending everything in the background.
    #[command(subcommand)]
    Scrub(Scrub),
    /// Rebuilding what lay on drives that are gone.
    #[command(subcommand)]
    Repair(Repair),
    /// Read every page of every drive and say of every object whether all its shards are whole.
    Census,
    /// Compare metadata and volumes in both directions; exit code 3 if they do not agree.
    Fsck {
        /// With the server stopped, on its drives: runs `basalt fsck`.
        #[arg(long, requires = "drives")]
        offline: bool,
        /// The drives, as `basalt serve` takes them.
        #[arg(value_name = "DIR", requires = "offline")]
        drives: Vec<String>,
    },
    /// Give back now what background work would give back by and by.
    Gc {
        /// Only say what that would be.
        #[arg(long)]
        dry_run: bool,
    },
    /// All metadata in one file, and back.
    #[command(subcommand)]
    Meta(Meta),
    /// One archive of what helps whoever is asked for support; no secret is in it.
    SupportBundle {
        /// A new file, such as basalt.tar.
        file: PathBuf,
    },
    /// Users: each has a canonical id, buckets of its own and any number of access keys.
    #[command(subcommand)]
    User(User),
    /// The access keys of users.
    #[command(subcommand)]
    Key(Key),
    /// How one object is stored.
    Inspect {
        /// BUCKET/KEY, also with s3:// before it.
        object: String,
        /// An older version of it.
        #[arg(long)]
        version: Option<String>,
    },
}

#[derive(Subcommand)]
enum Drive {
    /// All drives, with state, plan, shards and room.
    List,
    /// An empty directory becomes a drive.
    Add {
        /// The directory, on the server's machine.
        path: PathBuf,
        /// Return when it has taken its part: nothing is left to repair, and all drives are about equally full.
        #[arg(long)]
        wait: bool,
    },
    /// An empty directory takes the place of a drive, which leaves once nothing lies on it.
    Replace {
        /// The drive: its path or its id.
        old: String,
        /// The directory; the same path if a new disk is mounted there.
        new: PathBuf,
        /// Return when the old drive has left.
        #[arg(long)]
        wait: bool,
    },
    /// Move what lies on a drive to others; it stays.
    Drain {
        /// The drive: its path or its id.
        drive: String,
        /// Return when nothing lies on it.
        #[arg(long)]
        wait: bool,
    },
    /// Call a drain, or a removal that is not finished, off.
    Undrain {
        /// The drive: its path or its id.
        drive: String,
    },
    /// Move what lies on a drive to others and take it out of the pool.
    Remove {
        /// The drive: its path or its id.
        drive: String,
        /// Return when it has left.
        #[arg(long)]
        wait: bool,
    },
    /// Use a drive again that was taken out of use after an error.
    Rejoin {
        /// The drive: its path or its id.
        drive: String,
    },
}

#[derive(Subcommand)]
enum Scrub {
    /// Begin now, or go on.
    Start {
        /// Return when the pass has ended.
        #[arg(long)]
        wait: bool,
    },
    /// How it stands, and what it found.
    Status,
    /// Hold it until it is started again.
    Pause,
}

#[derive(Subcommand)]
enum Repair {
    /// How many shards are to be made anew, and what is waited for.
    Status {
        /// Return when nothing is left to do.
        #[arg(long)]
        wait: bool,
    },
}

#[derive(Subcommand)]
enum User {
    /// A new user with a first access key, whose secret is shown this once.
    Add {
        /// Its name: 1 to 64 letters, digits and + = , . @ _ -
        name: String,
        #[command(flatten)]
        key: WantedKey,
    },
    /// All users.
    List,
    /// Remove a user that owns no bucket, with its access keys.
    Remove {
        /// Its name.
        name: String,
    },
}

#[derive(Subcommand)]
enum Key {
    /// One more access key of a user; its secret is shown this once.
    Add {
        /// The user's name.
        user: String,
        #[command(flatten)]
        key: WantedKey,
    },
    /// All access keys, or those of one user.
    List {
        /// The user's name.
        user: Option<String>,
    },
    /// Give an access key another secret; the old one is worth nothing from then on.
    Rotate {
        /// The access key.
        access_key: String,
        /// The secret, if it is not to be made.
        #[arg(long, env = "BASALT_NEW_SECRET_KEY", hide_env_values = true)]
        secret_key: Option<String>,
    },
    /// Let an access key open nothing until it is enabled.
    Disable {
        /// The access key.
        access_key: String,
    },
    /// Let an access key open again what its user may.
    Enable {
        /// The access key.
        access_key: String,
    },
    /// Remove an access key.
    Remove {
        /// The access key.
        access_key: String,
    },
}

#[derive(Args)]
struct WantedKey {
    /// The access key, if it is not to be made: 3 to 128 letters, digits and . _ -
    #[arg(id = "new_access_key", long = "access-key", value_name = "KEY")]
    access_key: Option<String>,
    /// The secret, if it is not to be made: 8 to 128 visible ASCII characters.
    #[arg(
        id = "new_secret_key",
        long = "secret-key",
        value_name = "SECRET",
        env = "BASALT_NEW_SECRET_KEY",
        hide_env_values = true
    )]
    secret_key: Option<String>,
}

#[derive(Subcommand)]
enum Meta {
    /// Write all metadata, as it is at one moment, into a new file.
    Export {
        /// The file; it must not be there yet.
        file: PathBuf,
    },
    /// Restore metadata that is lost onto the drives of a stopped server: runs `basalt import-metadata`.
    Import {
        /// The dump.
        file: PathBuf,
        /// The drives, as `basalt serve` takes them.
        #[arg(value_name = "DIR", required = true)]
        drives: Vec<String>,
        /// Go on though segment files are newer than the dump: what is only in those is removed.
        #[arg(long)]
        discard_newer: bool,
        /// Go on though the dump names bytes that are on no drive any more.
        #[arg(long)]
        accept_loss: bool,
    },
}

/// Why a command did not end well.
pub(crate) enum Failure {
    Client(ClientError),
    Said(String),
}

impl From<ClientError> for Failure {
    fn from(error: ClientError) -> Failure {
        Failure::Client(error)
    }
}

/// Runs the command line; its exit code.
pub(crate) fn run() -> ExitCode {
    let cli = Cli::parse();
    match carry_out(&cli) {
        Ok(code) => code,
        Err(failure) => {
            let what = match failure {
                Failure::Client(error) => error.to_string(),
                Failure::Said(what) => what,
            };
            say_error(&format!("basaltctl: {what}"));
            ExitCode::from(FAILED)
        }
    }
}

fn carry_out(cli: &Cli) -> Result<ExitCode, Failure> {
    match &cli.command {
        Command::Fsck { offline: true, drives } => {
            let json = cli.json.then(|| "--json".into());
            return Err(offline("fsck", json.into_iter().chain(drives.iter().map(Into::into))));
        }
        Command::Meta(Meta::Import { file, drives, discard_newer, accept_loss }) => {
            let flags = [(discard_newer, "--discard-newer"), (accept_loss, "--accept-loss")];
            let flags = flags.into_iter().filter(|(given, _)| **given).map(|(_, flag)| flag.into());
            let flags = flags.chain(cli.json.then(|| "--json".into()));
            let names = std::iter::once(file.into()).chain(drives.iter().map(Into::into));
            return Err(offline("import-metadata", flags.chain(names)));
        }
        _ => {}
    }
    let Settings { endpoint, region, access_key, secret_key } =
        cli.connection.settings().map_err(Failure::Said)?;
    if access_key.is_empty() || secret_key.is_empty() {
        let what = "give the root account's keys by BASALT_ROOT_ACCESS_KEY and BASALT_ROOT_SECRET_KEY, or by --profile";
        return Err(Failure::Said(what.to_owned()));
    }
    let authority = Client::authority_of(&endpoint).map_err(Failure::Said)?;
    let client = Client { authority, region, access_key, secret_key };
    match &cli.command {
        Command::Drive(drive) => drives(cli, &client, drive),
        Command::Scrub(scrub) => scrubbing(cli, &client, scrub),
        Command::Repair(Repair::Status { wait }) => repairing(cli, &client, *wait),
        Command::Census => census(cli, &client),
        Command::Fsck { .. } => fsck(cli, &client),
        Command::Meta(Meta::Export { file }) => export::run(cli.json, &client, file),
        // Carried out by the server's own program, above.
        Command::Meta(Meta::Import { .. }) => Ok(ExitCode::SUCCESS),
        Command::SupportBundle { file } => bundle::run(cli.json, &client, file),
        Command::Gc { dry_run } => {
            let dry_run = if *dry_run { "true" } else { "false" };
            let answer = job(&client, "/v1/gc", &[("dry_run", dry_run)])?;
            show(cli.json, &answer, render::gc);
            Ok(ExitCode::SUCCESS)
        }
        Command::User(user) => users(cli, &client, user),
        Command::Key(key) => keys(cli, &client, key),
        Command::Inspect { object, version } => inspect(cli, &client, object, version.as_deref()),
    }
}

pub(crate) fn show(json: bool, answer: &Value, render: impl Fn(&Value) -> String) {
    let text = if json { format!("{answer:#}\n") } else { render(answer) };
    let mut out = std::io::stdout().lock();
    // A reader that has gone, such as `head`, wants no more.
    out.write_all(text.as_bytes()).and_then(|()| out.flush()).ok();
}

fn say_error(text: &str) {
    writeln!(std::io::stderr(), "{text}").ok();
}

/// A line that is written over on a terminal, and not at all elsewhere.
pub(crate) fn show_progress(text: &str) {
    let mut err = std::io::stderr();
    if err.is_terminal() {
        write!(err, "\r\x1b[K{text}").and_then(|()| err.flush()).ok();
    }
}

pub(crate) fn end_progress() {
    let mut err = std::io::stderr();
    if err.is_terminal() {
        write!(err, "\r\x1b[K").and_then(|()| err.flush()).ok();
    }
}

#[allow(clippy::disallowed_methods, reason = "a command-line tool waits for a server in another process")]
fn wait_a_moment() {
    std::thread::sleep(WAIT_INTERVAL);
}

fn confirm(cli: &Cli, what: &str) -> Result<(), Failure> {
    if cli.yes {
        return Ok(());
    }
    if !std::io::stdin().is_terminal() {
        return Err(Failure::Said(format!("{what}: give --yes if that is meant")));
    }
    write!(std::io::stderr(), "{what}. Go on? [y/N] ").ok();
    let mut line = String::new();
    std::io::stdin().lock().read_line(&mut line).map_err(|source| Failure::Said(source.to_string()))?;
    match line.trim() {
        "y" | "Y" | "yes" => Ok(()),
        _ => Err(Failure::Said("not confirmed: nothing was changed".to_owned())),
    }
}

/// The server may run in another directory than this program.
fn absolute(path: &PathBuf) -> Result<String, Failure> {
    let path = std::path::absolute(path).map_err(|source| Failure::Said(source.to_string()))?;
    path.into_os_string()
        .into_string()
        .map_err(|path| Failure::Said(format!("{} is no UTF-8", path.display())))
}

fn drives(cli: &Cli, client: &Client, command: &Drive) -> Result<ExitCode, Failure> {
    let post = |path: &str, parameters: &[(&str, &str)]| client.ask("POST", path, parameters);
    let answer = match command {
        Drive::List => client.ask("GET", "/v1/drives", &[])?,
        Drive::Add { path, wait } => {
            let answer = post("/v1/drives/add", &[("path", &absolute(path)?)])?;
            if *wait { wait_until_even(client)? } else { answer }
        }
        Drive::Replace { old, new, wait } => {
            let new = absolute(new)?;
            confirm(cli, &format!("{new} takes the place of {old}, whose data moves and which then leaves"))?;
            let id = id_of(client, old)?;
            let answer = post("/v1/drives/replace", &[("old", old), ("new", &new)])?;
            if *wait { wait_until_left(client, &id)? } else { answer }
        }
        Drive::Drain { drive, wait } => {
            let id = id_of(client, drive)?;
            let answer = post("/v1/drives/drain", &[("drive", drive)])?;
            if *wait { wait_for_drives(client, &id, |drive| shards(drive) == 0)? } else { answer }
        }
        Drive::Undrain { drive } => post("/v1/drives/undrain", &[("drive", drive)])?,
        Drive::Remove { drive, wait } => {
            confirm(
                cli,
                &format!("what lies on {drive} moves to other drives, and {drive} leaves the pool"),
            )?;
            let id = id_of(client, drive)?;
            let answer = post("/v1/drives/remove", &[("drive", drive)])?;
            if *wait { wait_until_left(client, &id)? } else { answer }
        }
        Drive::Rejoin { drive } => post("/v1/drives/rejoin", &[("drive", drive)])?,
    };
    show(cli.json, &answer, render::drives);
    Ok(ExitCode::SUCCESS)
}

fn listed(answer: &Value) -> &[Value] {
    answer.get("drives").and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default()
}

fn field<'a>(drive: &'a Value, name: &str) -> &'a str {
    drive.get(name).and_then(Value::as_str).unwrap_or_default()
}

fn shards(drive: &Value) -> u64 {
    drive.get("shards").and_then(Value::as_u64).unwrap_or(0)
}

fn id_of(client: &Client, name: &str) -> Result<String, Failure> {
    let answer = client.ask("GET", "/v1/drives", &[])?;
    let is_it = |drive: &&Value| field(drive, "path") == name || field(drive, "id") == name;
    // Of a drive and the one that takes its place at the same path, the one that stays is meant.
    let found = listed(&answer).iter().filter(is_it).min_by_key(|drive| field(drive, "plan") == "leave");
    let found = found.map(|drive| field(drive, "id").to_owned());
    found.ok_or_else(|| Failure::Said(format!("{name} is no drive of this pool: see `basaltctl drive list`")))
}

/// Until a drive is as it should be, or is listed no more.
fn wait_for_drives(client: &Client, id: &str, done: impl Fn(&Value) -> bool) -> Result<Value, Failure> {
    loop {
        let answer = client.ask("GET", "/v1/drives", &[])?;
        let found = listed(&answer).iter().find(|drive| field(drive, "id") == id);
        match found {
            Some(drive) if !done(drive) => {
                show_progress(&format!("{}: {} shards left", field(drive, "path"), shards(drive)));
            }
            _ => {
                end_progress();
                return Ok(answer);
            }
        }
        wait_a_moment();
    }
}

/// Until nothing is left to repair and the drives are about equally full; the drives then.
fn wait_until_even(client: &Client) -> Result<Value, Failure> {
    loop {
        let answer = client.ask("GET", "/v1/repair", &[])?;
        let count = |name| answer.get(name).and_then(Value::as_u64).unwrap_or(0);
        if count("shards_left") == 0 && answer.get("balanced").and_then(Value::as_bool) != Some(false) {
            end_progress();
            return Ok(client.ask("GET", "/v1/drives", &[])?);
        }
        show_progress(&format!(
            "{} shards left to repair, {} to move {}",
            count("shards_left"),
            count("shards_to_balance"),
            field(&answer, "waits_for")
        ));
        wait_a_moment();
    }
}

fn wait_until_left(client: &Client, id: &str) -> Result<Value, Failure> {
    wait_for_drives(client, id, |_| false)
}

fn users(cli: &Cli, client: &Client, command: &User) -> Result<ExitCode, Failure> {
    let answer = match command {
        User::List => client.ask("GET", "/v1/users", &[])?,
        User::Add { name, key } => add_key(client, "/v1/users/add", name, key)?,
        User::Remove { name } => {
            confirm(cli, &format!("the user {name} and its access keys are removed"))?;
            client.ask("POST", "/v1/users/remove", &[("user", name)])?
        }
    };
    show(cli.json, &answer, render::users);
    Ok(ExitCode::SUCCESS)
}

fn keys(cli: &Cli, client: &Client, command: &Key) -> Result<ExitCode, Failure> {
    let post = |path: &str, key: &str| client.ask("POST", path, &[("access_key", key)]);
    let answer = match command {
        Key::List { user } => {
            let mut answer = client.ask("GET", "/v1/users", &[])?;
            if let (Some(name), Some(users)) = (user, answer.get_mut("users").and_then(Value::as_array_mut)) {
                users.retain(|user| field(user, "name") == name);
                if users.is_empty() {
                    return Err(Failure::Said(format!("there is no user {name}")));
                }
            }
            answer
        }
        Key::Add { user, key } => add_key(client, "/v1/keys/add", user, key)?,
        Key::Rotate { access_key, secret_key } => {
            confirm(cli, &format!("the present secret of {access_key} opens nothing any more"))?;
            let parameters = [("access_key", access_key.as_str())];
            client.ask_with_secret("/v1/keys/rotate", &parameters, secret_key.as_deref())?
        }
        Key::Disable { access_key } => post("/v1/keys/disable", access_key)?,
        Key::Enable { access_key } => post("/v1/keys/enable", access_key)?,
        Key::Remove { access_key } => {
            confirm(cli, &format!("the access key {access_key} is removed"))?;
            post("/v1/keys/remove", access_key)?
        }
    };
    show(cli.json, &answer, render::keys);
    Ok(ExitCode::SUCCESS)
}

fn add_key(client: &Client, path: &str, user: &str, key: &WantedKey) -> Result<Value, Failure> {
    let mut parameters = vec![("user", user)];
    parameters.extend(key.access_key.as_deref().map(|access_key| ("access_key", access_key)));
    Ok(client.ask_with_secret(path, &parameters, key.secret_key.as_deref())?)
}

fn scrubbing(cli: &Cli, client: &Client, command: &Scrub) -> Result<ExitCode, Failure> {
    let answer = match command {
        Scrub::Status => client.ask("GET", "/v1/scrub", &[])?,
        Scrub::Pause => client.ask("POST", "/v1/scrub/pause", &[])?,
        Scrub::Start { wait } => {
            let before = client.ask("GET", "/v1/scrub", &[])?;
            let mut answer = client.ask("POST", "/v1/scrub/start", &[])?;
            let ended = |answer: &Value| {
                answer.get("last_full_ms") != before.get("last_full_ms") && field(answer, "phase") == "idle"
            };
            while *wait && !ended(&answer) {
                let count = |name| answer.get(name).and_then(Value::as_u64).unwrap_or(0);
                show_progress(&format!("{} of {} volumes", count("volumes_done"), count("volumes")));
                wait_a_moment();
                answer = client.ask("GET", "/v1/scrub", &[])?;
            }
            end_progress();
            answer
        }
    };
    show(cli.json, &answer, render::scrub);
    let lost = answer.get("stripes_lost").and_then(Value::as_u64).unwrap_or(0);
    Ok(if lost > 0 { ExitCode::from(NOT_WHOLE) } else { ExitCode::SUCCESS })
}

fn repairing(cli: &Cli, client: &Client, wait: bool) -> Result<ExitCode, Failure> {
    let mut answer = client.ask("GET", "/v1/repair", &[])?;
    let count = |answer: &Value, name| answer.get(name).and_then(Value::as_u64).unwrap_or(0);
    while wait && count(&answer, "shards_left") > 0 {
        show_progress(&format!(
            "{} shards left {}",
            count(&answer, "shards_left"),
            field(&answer, "waits_for")
        ));
        wait_a_moment();
        answer = client.ask("GET", "/v1/repair", &[])?;
    }
    end_progress();
    show(cli.json, &answer, render::repair);
    Ok(if count(&answer, "shards_left") > 0 { ExitCode::from(NOT_WHOLE) } else { ExitCode::SUCCESS })
}

fn census(cli: &Cli, client: &Client) -> Result<ExitCode, Failure> {
    let mut answer = client.ask("POST", "/v1/census/start", &[])?;
    while answer.get("running").and_then(Value::as_bool) == Some(true) {
        show_progress(render::census(&answer).trim_end());
        wait_a_moment();
        answer = client.ask("GET", "/v1/census", &[])?;
    }
    end_progress();
    show(cli.json, &answer, render::census);
    if answer.get("error").is_some_and(|error| !error.is_null()) {
        return Ok(ExitCode::from(FAILED));
    }
    let is_whole = answer.pointer("/report/all_whole").and_then(Value::as_bool) == Some(true);
    Ok(if is_whole { ExitCode::SUCCESS } else { ExitCode::from(NOT_WHOLE) })
}

/// Becomes the server's own program, which alone may open drives; what is returned is why that was not possible.
fn offline(command: &str, arguments: impl Iterator<Item = OsString>) -> Failure {
    let beside = std::env::current_exe().ok().map(|own| own.with_file_name("basalt"));
    let program = beside.filter(|path| path.is_file()).unwrap_or_else(|| PathBuf::from("basalt"));
    let mut process = std::process::Command::new(&program);
    process.arg(command).args(arguments);
    Failure::Said(format!("{} cannot be run: {}", program.display(), process.exec()))
}

/// Begins work on the server and waits for its end; the last answer.
fn job(client: &Client, path: &str, parameters: &[(&str, &str)]) -> Result<Value, Failure> {
    let mut answer = client.ask("POST", &format!("{path}/start"), parameters)?;
    while answer.get("running").and_then(Value::as_bool) == Some(true) {
        let done = answer.get("done").and_then(Value::as_u64).unwrap_or(0);
        show_progress(&format!("{}: {done}", field(&answer, "phase")));
        wait_a_moment();
        answer = client.ask("GET", path, &[])?;
    }
    end_progress();
    match answer.get("error").and_then(Value::as_str) {
        Some(error) => Err(Failure::Said(error.to_owned())),
        None => Ok(answer),
    }
}

fn fsck(cli: &Cli, client: &Client) -> Result<ExitCode, Failure> {
    let answer = job(client, "/v1/fsck", &[])?;
    show(cli.json, &answer, render::fsck);
    let agrees = answer.pointer("/report/all_agree").and_then(Value::as_bool) == Some(true);
    Ok(if agrees { ExitCode::SUCCESS } else { ExitCode::from(NOT_WHOLE) })
}

fn inspect(cli: &Cli, client: &Client, object: &str, version: Option<&str>) -> Result<ExitCode, Failure> {
    let name = object.strip_prefix("s3://").unwrap_or(object);
    let Some((bucket, key)) = name.split_once('/').filter(|(_, key)| !key.is_empty()) else {
        return Err(Failure::Said(format!("{object} is not of the form BUCKET/KEY")));
    };
    let named = [("bucket", bucket), ("key", key)];
    let asked: Vec<(&str, &str)> = named.into_iter().chain(version.map(|id| ("version", id))).collect();
    let answer = client.ask("GET", "/v1/inspect", &asked)?;
    show(cli.json, &answer, render::inspection);
    let is_bad = |state: &Value| matches!(field(state, "page"), "bad" | "unread");
    let extents = answer.get("extents").and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
    let shards = extents.iter().filter_map(|extent| extent.get("shards")?.as_array()).flatten();
    Ok(if shards.clone().any(is_bad) { ExitCode::from(NOT_WHOLE) } else { ExitCode::SUCCESS })
}
