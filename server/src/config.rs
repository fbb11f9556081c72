//! Configuration: flags, then environment, then the file, then defaults; checked once, trusted afterwards.
//! Invariants: a [`Config`] is valid; every refusal is one sentence that names the option and what to write instead.
//! Not here: what the values do (`startup`), what is in certificate files (`tls`).

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::{Args, Parser, Subcommand};
use serde::Deserialize;
use shardstore_format::Profile;

use crate::policy::Network;
use crate::s3::bucket_access::Ownership;
use crate::s3::config::lifecycle::DayLength;

/// Memory when nobody says otherwise: 1 GiB, or a quarter of the machine's if that is less.
const MEMORY_DEFAULT_BYTES: u64 = 1 << 30;
/// Below this the write buffers of one core do not fit (see `ops::admit`).
const MEMORY_MIN_BYTES: u64 = 192 << 20;
/// Segments of a volume, k + m.
const SHARDS_MAX: u8 = 32;
/// AWS delivers within hours and mostly sooner; five minutes keep logs few and a look at them timely.
const ACCESS_LOG_INTERVAL_S: u64 = 300;

/// The command line of `basalt`.
#[derive(Debug, Parser)]
#[command(name = "basalt", version, about = "An S3-compatible object store for bare-metal NVMe servers")]
pub struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// What `basalt` can do.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Serve S3 from the given drives; each DIR is one drive.
    Serve(Box<Options>),
    /// Check that metadata and volumes agree, with the server stopped. Changes nothing; exit code 3 if they do not.
    Fsck(Box<FsckOptions>),
    /// Restore metadata that is lost from a dump of `basaltctl meta export`, with the server stopped.
    ImportMetadata(Box<ImportOptions>),
    /// Check the configuration and print what it comes to, without touching a drive.
    CheckConfig(Box<Options>),
    /// Print the version and the kernels that this machine would use.
    Version,
}

/// Options of `serve`; each is also `BASALT_*` in the environment and a key of the configuration file, but for what is
/// meant for one start.
#[derive(Clone, Debug, Default, Args)]
pub struct Options {
    /// Configuration file (TOML); flags and environment win over it.
    #[arg(long, env = "BASALT_CONFIG", value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// Addresses of the S3 listener, such as `[::]:9000` or `http://127.0.0.1:9000,https://:9443`; without a scheme it is
    /// https where there is a certificate [default: 127.0.0.1:9000].
    #[arg(long, env = "BASALT_LISTEN", value_name = "ADDRESS:PORT", value_delimiter = ',')]
    pub listen: Vec<String>,
    /// Certificate chain (PEM), the server's own first. Given several times, clients get the one that names the host
    /// they ask for, else the first. Read again on SIGHUP and when the file changes.
    #[arg(long, env = "BASALT_TLS_CERT", value_name = "FILE", value_delimiter = ',')]
    pub tls_cert: Vec<PathBuf>,
    /// Private key (PEM) of each --tls-cert, in the same order.
    #[arg(long, env = "BASALT_TLS_KEY", value_name = "FILE", value_delimiter = ',')]
    pub tls_key: Vec<PathBuf>,
    /// Serve https with a certificate made at this start, for a trial: clients must be told not to verify it.
    #[arg(long, env = "BASALT_TLS_SELF_SIGNED")]
    pub tls_self_signed: bool,
    /// Address of the admin listener: /healthz, /readyz, /metrics [default: 127.0.0.1:9001].
    #[arg(long, env = "BASALT_ADMIN_LISTEN", value_name = "ADDRESS:PORT")]
    pub admin_listen: Option<String>,
    /// Number of cores, or a list such as 0,2-5 [default: the affinity mask].
    #[arg(long, env = "BASALT_CORES", value_name = "N|LIST")]
    pub cores: Option<String>,
    /// Data and parity shards, such as 4+2 [default: by the number of drives].
    #[arg(long, env = "BASALT_REDUNDANCY", value_name = "K+M")]
    pub redundancy: Option<String>,
    /// Storage class that clients may name beside STANDARD and REDUCED_REDUNDANCY, and the redundancy that it has, such
    /// as STANDARD_IA=4+2; several by commas. A pool has one redundancy, so it is that.
    #[arg(long, env = "BASALT_STORAGE_CLASSES", value_name = "CLASS=K+M", value_delimiter = ',')]
    pub storage_classes: Vec<String>,
    /// Region that signatures must name [default: us-east-1].
    #[arg(long, env = "BASALT_REGION", value_name = "NAME")]
    pub region: Option<String>,
    /// Domain of virtual-host style: BUCKET.NAME.
    #[arg(long, env = "BASALT_DOMAIN", value_name = "NAME")]
    pub domain: Option<String>,
    /// Domain of static websites: BUCKET.NAME shows the website of the bucket, and NAME alone that of the bucket NAME, for
    /// a site with a domain of its own. Several by commas or by giving it again.
    #[arg(long, env = "BASALT_WEBSITE_DOMAIN", value_name = "NAME", value_delimiter = ',')]
    pub website_domain: Vec<String>,
    /// Proxies whose X-Forwarded-For is believed, as networks such as 10.0.0.0/8,192.0.2.7 [default: none].
    #[arg(long, env = "BASALT_TRUSTED_PROXIES", value_name = "NETWORKS")]
    pub trusted_proxies: Option<String>,
    /// Object ownership of buckets that are made without naming one; all but BucketOwnerEnforced let ACLs count
    /// [default: BucketOwnerEnforced].
    #[arg(long, env = "BASALT_DEFAULT_OBJECT_OWNERSHIP", value_name = "NAME")]
    pub default_object_ownership: Option<String>,
    /// Length of a day of lifecycle rules in seconds; less than 86400 is for tests [default: 86400].
    #[arg(long, env = "BASALT_LIFECYCLE_DAY_SECONDS", value_name = "SECONDS")]
    pub lifecycle_day_seconds: Option<u64>,
    /// How often access logs are delivered, in seconds [default: 300].
    #[arg(long, env = "BASALT_ACCESS_LOG_INTERVAL_SECONDS", value_name = "SECONDS")]
    pub access_log_interval_seconds: Option<u64>,
    /// Memory for buffers, page cache and memtables, such as 4GiB [default: 1GiB].
    #[arg(long, env = "BASALT_MEMORY", value_name = "BYTES")]
    pub memory: Option<String>,
    /// Metadata engine: embedded or foundationdb [default: embedded].
    #[arg(long, env = "BASALT_METADATA", value_name = "ENGINE")]
    pub metadata: Option<String>,
    /// Go on though the master key is not the one that the pool's secrets are sealed under. Every object under SSE-S3
    /// and every access key of before is lost unless that key comes back. For one start: never in the environment nor in
    /// the file.
    #[arg(long)]
    pub accept_new_master_key: bool,
    /// Drives: one directory each; '/mnt/d{1...12}' stands for twelve.
    #[arg(value_name = "DIR", env = "BASALT_DRIVES", value_delimiter = ' ')]
    pub drives: Vec<String>,
}

/// Options of `fsck`.
#[derive(Clone, Debug, Args)]
pub struct FsckOptions {
    /// As for `serve`.
    #[command(flatten)]
    pub options: Options,
    /// Print the report as JSON.
    #[arg(long)]
    pub json: bool,
}

/// Options of `import-metadata`.
#[derive(Clone, Debug, Args)]
pub struct ImportOptions {
    /// The dump.
    #[arg(value_name = "FILE")]
    pub file: PathBuf,
    /// Go on though the drives hold segment files that are newer than the dump: what is only in those is removed.
    #[arg(long)]
    pub discard_newer: bool,
    /// Go on though the dump names bytes that are on no drive any more: those objects cannot be read.
    #[arg(long)]
    pub accept_loss: bool,
    /// Print what was restored as JSON.
    #[arg(long)]
    pub json: bool,
    /// As for `serve`.
    #[command(flatten)]
    pub options: Options,
}

/// The configuration file.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct FileOptions {
    listen: Option<OneOrMany>,
    tls_cert: Option<OneOrMany>,
    tls_key: Option<OneOrMany>,
    tls_self_signed: bool,
    admin_listen: Option<String>,
    cores: Option<toml::Value>,
    redundancy: Option<String>,
    storage_classes: Vec<String>,
    region: Option<String>,
    domain: Option<String>,
    website_domain: Option<OneOrMany>,
    trusted_proxies: Option<String>,
    default_object_ownership: Option<String>,
    lifecycle_day_seconds: Option<u64>,
    access_log_interval_seconds: Option<u64>,
    memory: Option<toml::Value>,
    metadata: Option<String>,
    drives: Vec<String>,
    root_access_key: Option<String>,
    root_secret_key: Option<String>,
}

/// A key of the file that may hold a list.
#[derive(Debug, Deserialize)]
#[serde(untagged)]
enum OneOrMany {
    One(String),
    Many(Vec<String>),
}

impl OneOrMany {
    fn into_list(self) -> Vec<String> {
        match self {
            OneOrMany::One(text) => vec![text],
            OneOrMany::Many(list) => list,
        }
    }
}

/// One address of the S3 listener.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ListenAddress {
    /// Where.
    pub address: SocketAddr,
    /// Whether connections begin with a TLS handshake.
    pub is_tls: bool,
}

impl std::fmt::Display for ListenAddress {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}://{}", if self.is_tls { "https" } else { "http" }, self.address)
    }
}

/// Where certificates come from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CertificateSource {
    /// The operator's files; the first is for clients that name no host, or another.
    Files(Vec<CertificateFiles>),
    /// Made at the start.
    SelfSigned,
}

/// A certificate chain and its private key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CertificateFiles {
    /// The chain, PEM.
    pub cert: PathBuf,
    /// The key, PEM.
    pub key: PathBuf,
}

/// The root credentials when the operator chose them.
#[derive(Clone, PartialEq, Eq)]
pub struct RootCredentials {
    /// Access key id.
    pub access_key: String,
    /// Secret key.
    pub secret_key: String,
}

impl std::fmt::Debug for RootCredentials {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "RootCredentials({})", self.access_key)
    }
}

/// A checked configuration.
#[derive(Clone, Debug)]
pub struct Config {
    /// S3 listener; at least one address.
    pub listen: Vec<ListenAddress>,
    /// Certificates, where an address of `listen` is https.
    pub certificates: Option<CertificateSource>,
    /// Admin listener.
    pub admin_listen: SocketAddr,
    /// CPUs, one core each.
    pub cpus: Vec<usize>,
    /// Redundancy, if the operator chose it.
    pub redundancy: Option<Profile>,
    /// Storage classes that the operator maps to a redundancy.
    pub storage_classes: Vec<(String, Profile)>,
    /// Region.
    pub region: String,
    /// Domain of virtual-host style.
    pub domain: Option<String>,
    /// Domains of static websites, each before those that it lies below.
    pub website_domains: Vec<String>,
    /// Proxies whose `X-Forwarded-For` counts.
    pub trusted_proxies: Vec<Network>,
    /// Object ownership of buckets that are made without naming one.
    pub object_ownership: Ownership,
    /// How long a day of lifecycle rules is.
    pub lifecycle_day: DayLength,
    /// How often access logs are delivered.
    pub access_log_interval: Duration,
    /// Memory budget of the process in bytes.
    pub memory_bytes: u64,
    /// Drive directories, in the order given.
    pub drives: Vec<PathBuf>,
    /// Root credentials, if the operator chose them.
    pub root: Option<RootCredentials>,
    /// Whether another master key than the pool's is taken for the pool's from now on.
    pub accept_new_master_key: bool,
}

/// Why a configuration is refused: one sentence for the operator.
#[derive(Debug, PartialEq, Eq)]
pub struct ConfigError(pub String);

impl std::fmt::Display for ConfigError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for ConfigError {}

fn refuse<T>(sentence: impl Into<String>) -> Result<T, ConfigError> {
    Err(ConfigError(sentence.into()))
}

impl Config {
    /// Joins flags, environment and file, and checks all of it.
    ///
    /// # Errors
    /// [`ConfigError`] names the option, the value and what is accepted.
    pub fn load(
        options: &Options,
        environment: &dyn Fn(&str) -> Option<String>,
    ) -> Result<Config, ConfigError> {
        let file = match &options.config {
            Some(path) => read_file(path)?,
            None => FileOptions::default(),
        };
        let pick = |flag: &Option<String>, file: &Option<String>, default: &str| {
            flag.clone().or_else(|| file.clone()).unwrap_or_else(|| default.to_owned())
        };
        let patterns = if options.drives.is_empty() { &file.drives } else { &options.drives };
        let metadata = pick(&options.metadata, &file.metadata, "embedded");
        check_metadata(&metadata)?;
        let cores = options.cores.clone().or_else(|| file.cores.as_ref().map(plain));
        let memory = options.memory.clone().or_else(|| file.memory.as_ref().map(plain));
        let domain = options.domain.clone().or(file.domain);
        let domain = domain.map(|name| parse_domain("domain", &name)).transpose()?;
        let website_domains =
            parse_website_domains(&given(&options.website_domain, file.website_domain), domain.as_deref())?;
        let is_self_signed = options.tls_self_signed || file.tls_self_signed;
        let certificates = certificates(
            given_paths(&options.tls_cert, file.tls_cert),
            given_paths(&options.tls_key, file.tls_key),
            is_self_signed,
        )?;
        let storage_classes =
            if options.storage_classes.is_empty() { &file.storage_classes } else { &options.storage_classes };
        Ok(Config {
            listen: parse_listen(given(&options.listen, file.listen), certificates.is_some())?,
            certificates,
            admin_listen: parse_address(
                "admin-listen",
                &pick(&options.admin_listen, &file.admin_listen, "127.0.0.1:9001"),
            )?,
            cpus: parse_cores(cores.as_deref(), &allowed_cpus())?,
            redundancy: options
                .redundancy
                .clone()
                .or(file.redundancy)
                .map(|text| parse_redundancy(&text))
                .transpose()?,
            storage_classes: storage_classes
                .iter()
                .map(|text| parse_storage_class(text))
                .collect::<Result<_, _>>()?,
            region: parse_region(pick(&options.region, &file.region, "us-east-1"))?,
            domain,
            website_domains,
            trusted_proxies: parse_networks(&pick(&options.trusted_proxies, &file.trusted_proxies, ""))?,
            object_ownership: parse_ownership(&pick(
                &options.default_object_ownership,
                &file.default_object_ownership,
                Ownership::default().name(),
            ))?,
            lifecycle_day: options
                .lifecycle_day_seconds
                .or(file.lifecycle_day_seconds)
                .map_or(Ok(DayLength::default()), parse_day)?,
            access_log_interval: parse_log_interval(
                options
                    .access_log_interval_seconds
                    .or(file.access_log_interval_seconds)
                    .unwrap_or(ACCESS_LOG_INTERVAL_S),
            )?,
            memory_bytes: memory.map_or(Ok(default_memory_bytes()), |text| parse_memory(&text))?,
            drives: expand_drives(patterns)?,
            root: root_credentials(environment, file.root_access_key, file.root_secret_key)?,
            accept_new_master_key: options.accept_new_master_key,
        })
    }
}

fn plain(value: &toml::Value) -> String {
    match value {
        toml::Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}

fn read_file(path: &Path) -> Result<FileOptions, ConfigError> {
    let text = std::fs::read_to_string(path).map_err(|source| {
        ConfigError(format!("cannot read the configuration file {}: {source}", path.display()))
    })?;
    toml::from_str(&text).map_err(|source| {
        let told = source.to_string();
        let lines: Vec<&str> = told.lines().map(str::trim).filter(|line| !line.is_empty()).collect();
        ConfigError(format!("the configuration file {} is not valid: {}", path.display(), lines.join(" ")))
    })
}

fn check_metadata(name: &str) -> Result<(), ConfigError> {
    match name {
        "embedded" => Ok(()),
        "foundationdb" => refuse(
            "--metadata foundationdb is not built into this version; leave the option out to use the embedded engine",
        ),
        other => refuse(format!("--metadata {other} is not an engine; write embedded or foundationdb")),
    }
}

fn given(flags: &[String], file: Option<OneOrMany>) -> Vec<String> {
    if flags.is_empty() { file.map(OneOrMany::into_list).unwrap_or_default() } else { flags.to_vec() }
}

fn given_paths(flags: &[PathBuf], file: Option<OneOrMany>) -> Vec<PathBuf> {
    if flags.is_empty() { given(&[], file).into_iter().map(PathBuf::from).collect() } else { flags.to_vec() }
}

fn certificates(
    certs: Vec<PathBuf>,
    keys: Vec<PathBuf>,
    is_self_signed: bool,
) -> Result<Option<CertificateSource>, ConfigError> {
    if certs.len() != keys.len() {
        return refuse(format!(
            "--tls-cert is given {} times and --tls-key {} times; give each certificate its key, in the same order",
            certs.len(),
            keys.len()
        ));
    }
    match (certs.is_empty(), is_self_signed) {
        (true, false) => Ok(None),
        (true, true) => Ok(Some(CertificateSource::SelfSigned)),
        (false, true) => refuse("--tls-self-signed is for a trial without --tls-cert; leave one of them out"),
        (false, false) => {
            let pair = |(cert, key)| CertificateFiles { cert, key };
            Ok(Some(CertificateSource::Files(certs.into_iter().zip(keys).map(pair).collect())))
        }
    }
}

fn parse_listen(texts: Vec<String>, has_certificate: bool) -> Result<Vec<ListenAddress>, ConfigError> {
    let texts = if texts.is_empty() { vec!["127.0.0.1:9000".to_owned()] } else { texts };
    let mut addresses: Vec<ListenAddress> = Vec::new();
    for text in &texts {
        let (rest, is_tls) = match (text.strip_prefix("https://"), text.strip_prefix("http://")) {
            (Some(rest), _) => (rest, true),
            (None, Some(rest)) => (rest, false),
            (None, None) => (text.as_str(), has_certificate),
        };
        if is_tls && !has_certificate {
            return refuse(format!(
                "--listen {text} needs a certificate: give --tls-cert and --tls-key, or --tls-self-signed for a trial"
            ));
        }
        let address = parse_address("listen", rest)?;
        if address.port() != 0 && addresses.iter().any(|other| other.address == address) {
            return refuse(format!("--listen {address} is named twice; leave one out"));
        }
        addresses.push(ListenAddress { address, is_tls });
    }
    if has_certificate && !addresses.iter().any(|listen| listen.is_tls) {
        return refuse("the certificate would not be used: write https:// before an address of --listen");
    }
    Ok(addresses)
}

fn parse_address(option: &str, text: &str) -> Result<SocketAddr, ConfigError> {
    let with_host = if text.starts_with(':') { format!("0.0.0.0{text}") } else { text.to_owned() };
    with_host.parse().or_else(|_| {
        refuse(format!(
            "--{option} {text} is not an address; write ADDRESS:PORT, such as 127.0.0.1:9000 or [::]:9000"
        ))
    })
}

fn parse_region(name: String) -> Result<String, ConfigError> {
    let valid = (1..=64).contains(&name.len())
        && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_');
    if valid {
        Ok(name)
    } else {
        refuse(format!("--region {name} may hold only letters, digits, '-' and '_'"))
    }
}

fn parse_day(seconds: u64) -> Result<DayLength, ConfigError> {
    if (1..=86_400).contains(&seconds) {
        Ok(DayLength::of_seconds(seconds))
    } else {
        refuse(format!("--lifecycle-day-seconds {seconds} is not a length; write one from 1 to 86400"))
    }
}

fn parse_log_interval(seconds: u64) -> Result<Duration, ConfigError> {
    if (1..=86_400).contains(&seconds) {
        Ok(Duration::from_secs(seconds))
    } else {
        refuse(format!(
            "--access-log-interval-seconds {seconds} is not an interval; write one from 1 to 86400"
        ))
    }
}

fn parse_domain(option: &str, name: &str) -> Result<String, ConfigError> {
    let lower = name.trim_matches('.').to_ascii_lowercase();
    let valid = !lower.is_empty()
        && lower.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'.');
    if valid {
        Ok(lower)
    } else {
        refuse(format!("--{option} {name} is not a host name; write one such as s3.example.com"))
    }
}

/// Whose hosts are looked up in that order: the longest, and so the narrowest, first.
fn parse_website_domains(names: &[String], domain: Option<&str>) -> Result<Vec<String>, ConfigError> {
    let mut parsed: Vec<String> =
        names.iter().map(|name| parse_domain("website-domain", name)).collect::<Result<_, _>>()?;
    let takes = |name: &&String| {
        let before = domain.and_then(|domain| domain.strip_suffix(name.as_str()));
        before.is_some_and(|before| before.is_empty() || before.ends_with('.'))
    };
    if let Some(name) = parsed.iter().find(takes) {
        return refuse(format!(
            "--website-domain {name} would take the hosts of --domain; write a domain beside it or below it"
        ));
    }
    parsed.sort_by(|one, other| other.len().cmp(&one.len()).then_with(|| one.cmp(other)));
    parsed.dedup();
    Ok(parsed)
}

fn parse_networks(text: &str) -> Result<Vec<Network>, ConfigError> {
    let entries = text.split(',').map(str::trim).filter(|entry| !entry.is_empty());
    entries
        .map(|entry| {
            Network::parse(entry).map_or_else(
                || {
                    refuse(format!(
                        "--trusted-proxies {entry} is not a network; write addresses or networks such as 10.0.0.0/8"
                    ))
                },
                Ok,
            )
        })
        .collect()
}

fn parse_ownership(name: &str) -> Result<Ownership, ConfigError> {
    Ownership::of_name(name).map_or_else(
        || {
            refuse(format!(
                "--default-object-ownership {name} is not known; write BucketOwnerEnforced, BucketOwnerPreferred or \
                 ObjectWriter"
            ))
        },
        Ok,
    )
}

/// `4+2` as a profile.
fn parse_redundancy(text: &str) -> Result<Profile, ConfigError> {
    let parsed =
        text.split_once('+').and_then(|(k, m)| Some((k.trim().parse().ok()?, m.trim().parse().ok()?)));
    match parsed {
        Some((k, m)) if k >= 1u8 && m <= SHARDS_MAX && k <= SHARDS_MAX && k + m <= SHARDS_MAX => {
            Ok(Profile { k, m })
        }
        _ => refuse(format!(
            "--redundancy {text} is not K+M; write data and parity shards such as 4+2, K at least 1, together at most {SHARDS_MAX}"
        )),
    }
}

/// `STANDARD_IA=4+2` as a class and its profile.
fn parse_storage_class(text: &str) -> Result<(String, Profile), ConfigError> {
    let is_class = |class: &str| {
        let part = |byte: u8| byte.is_ascii_uppercase() || byte.is_ascii_digit() || byte == b'_';
        (1..=32).contains(&class.len()) && class.bytes().all(part)
    };
    match text.split_once('=') {
        Some((class, redundancy)) if is_class(class) => Ok((class.to_owned(), parse_redundancy(redundancy)?)),
        _ => refuse(format!(
            "--storage-classes {text} is not CLASS=K+M; write a class of S3 and the pool's redundancy, such as STANDARD_IA=4+2"
        )),
    }
}

/// A size with an optional unit: 1073741824, 512MiB, 4GiB, 4G (binary), 2GB (decimal).
fn parse_memory(text: &str) -> Result<u64, ConfigError> {
    let digits_end = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (digits, unit) = text.split_at(digits_end);
    let scale: Option<u64> = match unit.trim() {
        "" | "B" => Some(1),
        "K" | "KiB" => Some(1 << 10),
        "M" | "MiB" => Some(1 << 20),
        "G" | "GiB" => Some(1 << 30),
        "T" | "TiB" => Some(1 << 40),
        "kB" | "KB" => Some(1_000),
        "MB" => Some(1_000_000),
        "GB" => Some(1_000_000_000),
        "TB" => Some(1_000_000_000_000),
        _ => None,
    };
    let bytes = digits.parse::<u64>().ok().zip(scale).and_then(|(count, scale)| count.checked_mul(scale));
    match bytes {
        Some(bytes) if bytes >= MEMORY_MIN_BYTES => Ok(bytes),
        Some(_) => {
            refuse(format!("--memory {text} is too little; the least is {} MiB", MEMORY_MIN_BYTES >> 20))
        }
        None => {
            refuse(format!("--memory {text} is not a size; write bytes or a size such as 512MiB or 4GiB"))
        }
    }
}

fn default_memory_bytes() -> u64 {
    let info = rustix::system::sysinfo();
    let total_bytes = info.totalram.saturating_mul(u64::from(info.mem_unit));
    (total_bytes / 4).clamp(MEMORY_MIN_BYTES, MEMORY_DEFAULT_BYTES)
}

fn allowed_cpus() -> Vec<usize> {
    match rustix::thread::sched_getaffinity(None) {
        Ok(set) => (0..rustix::thread::CpuSet::MAX_CPU).filter(|&cpu| set.is_set(cpu)).collect(),
        Err(_) => vec![0],
    }
}

/// `4` takes the first four allowed CPUs; `0,2-5` (with a comma or a dash) names them; `0,` is CPU 0 alone.
fn parse_cores(text: Option<&str>, allowed: &[usize]) -> Result<Vec<usize>, ConfigError> {
    let Some(text) = text else { return Ok(allowed.to_vec()) };
    if let Ok(count) = text.parse::<usize>() {
        return match count {
            0 => refuse("--cores 0 leaves nothing to run on; write 1 or more"),
            n if n > allowed.len() => refuse(format!(
                "--cores {n} is more than the {} CPUs that this process may use",
                allowed.len()
            )),
            n => Ok(allowed[..n].to_vec()),
        };
    }
    let mut cpus = std::collections::BTreeSet::new();
    for item in text.split(',').map(str::trim).filter(|item| !item.is_empty()) {
        let (first, last) = item.split_once('-').unwrap_or((item, item));
        let bounds = first.parse::<usize>().ok().zip(last.parse::<usize>().ok());
        match bounds {
            Some((first, last)) if first <= last && last < 4096 => cpus.extend(first..=last),
            _ => return refuse(format!("--cores {text} is neither a number nor a list such as 0,2-5")),
        }
    }
    if let Some(cpu) = cpus.iter().find(|cpu| !allowed.contains(cpu)) {
        return refuse(format!("--cores {text} names CPU {cpu}, which this process may not use"));
    }
    if cpus.is_empty() { refuse("--cores names no CPU") } else { Ok(cpus.into_iter().collect()) }
}

/// Expands `{a...b}` in every pattern, in order, and refuses repetitions.
fn expand_drives(patterns: &[String]) -> Result<Vec<PathBuf>, ConfigError> {
    let mut drives: Vec<PathBuf> = Vec::new();
    for pattern in patterns.iter().filter(|pattern| !pattern.is_empty()) {
        drives.extend(expand_pattern(pattern)?.into_iter().map(PathBuf::from));
    }
    if drives.is_empty() {
        return refuse("no drive is named; write at least one directory, such as: basalt serve ./data");
    }
    if drives.len() > DRIVES_MAX {
        return refuse(format!("{} drives are named; one process serves at most {DRIVES_MAX}", drives.len()));
    }
    let mut seen = std::collections::BTreeSet::new();
    if let Some(twice) = drives.iter().find(|drive| !seen.insert(drive.as_path())) {
        let path = twice.display();
        return refuse(format!("{path} is named twice; each drive must be a directory of its own"));
    }
    Ok(drives)
}

/// Drives of one process: what the largest storage servers hold, and far below descriptor limits.
const DRIVES_MAX: usize = 256;

fn expand_pattern(pattern: &str) -> Result<Vec<String>, ConfigError> {
    let Some(open) = pattern.find('{') else { return Ok(vec![pattern.to_owned()]) };
    let bad = || ConfigError(format!("{pattern} is not a drive pattern; write ranges as {{1...12}}"));
    let close = pattern[open..].find('}').map(|offset| open + offset).ok_or_else(bad)?;
    let (first_text, last_text) = pattern[open + 1..close].split_once("...").ok_or_else(bad)?;
    let first: u32 = first_text.parse().map_err(|_| bad())?;
    let last: u32 = last_text.parse().map_err(|_| bad())?;
    if first > last || (last - first) as usize >= DRIVES_MAX {
        return Err(bad());
    }
    let width = if first_text.starts_with('0') { first_text.len() } else { 0 };
    let mut expanded = Vec::new();
    for number in first..=last {
        let one = format!("{}{number:0width$}{}", &pattern[..open], &pattern[close + 1..]);
        expanded.extend(expand_pattern(&one)?);
    }
    Ok(expanded)
}

fn root_credentials(
    environment: &dyn Fn(&str) -> Option<String>,
    file_access_key: Option<String>,
    file_secret_key: Option<String>,
) -> Result<Option<RootCredentials>, ConfigError> {
    let access_key = environment("BASALT_ROOT_ACCESS_KEY").or(file_access_key);
    let secret_key = environment("BASALT_ROOT_SECRET_KEY").or(file_secret_key);
    match (access_key, secret_key) {
        (None, None) => Ok(None),
        (Some(access_key), Some(secret_key)) => {
            let plain =
                access_key.bytes().all(|byte| byte.is_ascii_graphic() && byte != b'/' && byte != b',');
            if !(3..=128).contains(&access_key.len()) || !plain {
                return refuse(
                    "BASALT_ROOT_ACCESS_KEY must be 3 to 128 visible ASCII characters without '/' and ','",
                );
            }
            if !(8..=128).contains(&secret_key.len()) {
                return refuse("BASALT_ROOT_SECRET_KEY must be 8 to 128 characters long");
            }
            Ok(Some(RootCredentials { access_key, secret_key }))
        }
        (Some(_), None) => {
            refuse("BASALT_ROOT_ACCESS_KEY is set but BASALT_ROOT_SECRET_KEY is not; set both or neither")
        }
        (None, Some(_)) => {
            refuse("BASALT_ROOT_SECRET_KEY is set but BASALT_ROOT_ACCESS_KEY is not; set both or neither")
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn options(drives: &[&str]) -> Options {
        Options { drives: drives.iter().map(|&drive| drive.to_owned()).collect(), ..Options::default() }
    }

    fn nothing(_: &str) -> Option<String> {
        None
    }

    #[test]
    fn minio_style_ranges_expand_in_order_and_nest() {
        let drives = expand_drives(&["/mnt/n{1...2}/d{09...11}".to_owned()]).unwrap();
        let names: Vec<_> = drives.iter().map(|drive| drive.to_str().unwrap()).collect();
        assert_eq!(
            names,
            ["/mnt/n1/d09", "/mnt/n1/d10", "/mnt/n1/d11", "/mnt/n2/d09", "/mnt/n2/d10", "/mnt/n2/d11"]
        );
    }

    #[test]
    fn a_drive_named_twice_is_refused() {
        assert!(Config::load(&options(&["a", "a"]), &nothing).unwrap_err().0.contains("named twice"));
    }

    #[test]
    fn no_drive_is_refused_with_an_example() {
        assert!(Config::load(&options(&[]), &nothing).unwrap_err().0.contains("basalt serve ./data"));
    }

    #[test]
    fn storage_classes_name_a_redundancy() {
        let standard_ia = ("STANDARD_IA".to_owned(), Profile { k: 4, m: 2 });
        assert_eq!(parse_storage_class("STANDARD_IA=4+2").unwrap(), standard_ia);
        for bad in ["STANDARD_IA", "=4+2", "standard=4+2", "GLACIER=4"] {
            assert!(parse_storage_class(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn redundancy_bounds_hold() {
        assert_eq!(parse_redundancy("8+4").unwrap(), Profile { k: 8, m: 4 });
        assert_eq!(parse_redundancy("1+0").unwrap(), Profile { k: 1, m: 0 });
        for bad in ["0+1", "33+0", "30+3", "4", "4+", "+2", "a+b", "-1+2", "255+255"] {
            assert!(parse_redundancy(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn sizes_take_binary_and_decimal_units() {
        assert_eq!(parse_memory("1GiB").unwrap(), 1 << 30);
        assert_eq!(parse_memory("1073741824").unwrap(), 1 << 30);
        assert_eq!(parse_memory("2GB").unwrap(), 2_000_000_000);
        for bad in ["", "1", "4XB", "GiB", "99999999999999999999", "18446744073709551615T"] {
            assert!(parse_memory(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn cores_are_a_count_or_a_list() {
        let allowed = [0, 1, 2, 3];
        assert_eq!(parse_cores(None, &allowed).unwrap(), allowed);
        assert_eq!(parse_cores(Some("2"), &allowed).unwrap(), [0, 1]);
        assert_eq!(parse_cores(Some("1,"), &allowed).unwrap(), [1]);
        assert_eq!(parse_cores(Some("0,2-3"), &allowed).unwrap(), [0, 2, 3]);
        for bad in ["0", "9", "3-1", "x", "7,", "-", ","] {
            assert!(parse_cores(Some(bad), &allowed).is_err(), "{bad}");
        }
    }

    #[test]
    fn flags_win_over_the_file_and_the_file_over_defaults() {
        let path = std::env::temp_dir().join(format!("basalt-config-{}.toml", std::process::id()));
        std::fs::write(
            &path,
            "listen = '127.0.0.1:7000'\nregion = 'eu-1'\nmemory = 268435456\ndrives = ['x']\n",
        )
        .unwrap();
        let flags =
            Options { config: Some(path.clone()), region: Some("here".to_owned()), ..Options::default() };
        let config = Config::load(&flags, &nothing).unwrap();
        std::fs::remove_file(&path).unwrap();
        assert_eq!(config.listen[0].to_string(), "http://127.0.0.1:7000");
        assert_eq!(config.region, "here");
        assert_eq!(config.memory_bytes, 256 << 20);
        assert_eq!(config.admin_listen, "127.0.0.1:9001".parse().unwrap());
        assert_eq!(config.drives, [PathBuf::from("x")]);
    }

    fn listen(texts: &[&str], has_certificate: bool) -> Result<Vec<String>, String> {
        let parsed = parse_listen(texts.iter().map(|&text| text.to_owned()).collect(), has_certificate);
        parsed
            .map(|list| list.iter().map(ListenAddress::to_string).collect())
            .map_err(|ConfigError(sentence)| sentence)
    }

    #[test]
    fn an_address_is_https_where_there_is_a_certificate_unless_it_says_otherwise() {
        assert_eq!(listen(&[], false).unwrap(), ["http://127.0.0.1:9000"]);
        assert_eq!(listen(&["[::]:9000"], true).unwrap(), ["https://[::]:9000"]);
        assert_eq!(
            listen(&["http://127.0.0.1:9000", "https://:9443"], true).unwrap(),
            ["http://127.0.0.1:9000", "https://0.0.0.0:9443"]
        );
    }

    #[test]
    fn addresses_that_cannot_be_served_are_refused_with_the_way_out() {
        for (texts, has_certificate, word) in [
            (&["https://:9443"][..], false, "--tls-cert"),
            (&["http://:9000"], true, "https://"),
            (&["127.0.0.1:9000", "127.0.0.1:9000"], false, "twice"),
            (&["ftp://:9000"], false, "ADDRESS:PORT"),
            (&["localhost"], false, "ADDRESS:PORT"),
        ] {
            let refusal = listen(texts, has_certificate).unwrap_err();
            assert!(refusal.contains(word), "{refusal}");
        }
    }

    #[test]
    fn each_certificate_has_its_key() {
        let files = |names: &[&str]| names.iter().map(PathBuf::from).collect::<Vec<_>>();
        let refusal = certificates(files(&["a", "b"]), files(&["a"]), false).unwrap_err().0;
        assert!(refusal.contains("2 times") && refusal.contains("1 times"), "{refusal}");
        assert!(certificates(files(&["a"]), files(&["a"]), true).is_err());
        assert_eq!(certificates(Vec::new(), Vec::new(), false).unwrap(), None);
    }

    #[test]
    fn an_unknown_key_in_the_file_is_named() {
        let path = std::env::temp_dir().join(format!("basalt-config-bad-{}.toml", std::process::id()));
        std::fs::write(&path, "lisen = '127.0.0.1:7000'\n").unwrap();
        let flags = Options { config: Some(path.clone()), ..options(&["x"]) };
        let refusal = Config::load(&flags, &nothing).unwrap_err().0;
        std::fs::remove_file(&path).unwrap();
        assert!(refusal.contains("lisen"), "{refusal}");
    }

    #[test]
    fn half_a_credential_is_refused_by_name() {
        let half = |name: &str| (name == "BASALT_ROOT_ACCESS_KEY").then(|| "admin".to_owned());
        let refusal = Config::load(&options(&["x"]), &half).unwrap_err().0;
        assert!(refusal.contains("BASALT_ROOT_SECRET_KEY"), "{refusal}");
    }

    #[test]
    fn proxies_and_ownership_are_checked_by_name() {
        let flags = Options {
            trusted_proxies: Some("10.0.0.0/8, ::1".to_owned()),
            default_object_ownership: Some("ObjectWriter".to_owned()),
            ..options(&["x"])
        };
        let config = Config::load(&flags, &nothing).unwrap();
        assert_eq!(config.trusted_proxies.len(), 2);
        assert_eq!(config.object_ownership, Ownership::Writer);
        let flags = Options { trusted_proxies: Some("proxy".to_owned()), ..options(&["x"]) };
        assert!(Config::load(&flags, &nothing).unwrap_err().0.contains("--trusted-proxies proxy"));
        let flags = Options { default_object_ownership: Some("mine".to_owned()), ..options(&["x"]) };
        assert!(Config::load(&flags, &nothing).unwrap_err().0.contains("BucketOwnerEnforced"));
    }

    #[test]
    fn website_domains_are_narrowest_first_and_leave_the_hosts_of_the_api_alone() {
        let load = |domain: Option<&str>, names: &[&str]| {
            let website_domain = names.iter().map(|&name| name.to_owned()).collect();
            let flags = Options { domain: domain.map(str::to_owned), website_domain, ..options(&["x"]) };
            Config::load(&flags, &nothing).map(|config| config.website_domains).map_err(|refusal| refusal.0)
        };
        assert_eq!(load(None, &[]), Ok(Vec::new()));
        let names = ["Web.Test", "www.web.test", "web.test"];
        assert_eq!(load(Some("s3.test"), &names), Ok(vec!["www.web.test".to_owned(), "web.test".to_owned()]));
        assert!(load(Some("s3.test"), &["web.s3.test", "xs3.test"]).is_ok());
        for taking in ["s3.test", "test"] {
            assert!(
                load(Some("s3.test"), &[taking])
                    .unwrap_err()
                    .contains(&format!("--website-domain {taking} "))
            );
        }
        assert!(load(None, &["a/b"]).unwrap_err().contains("--website-domain a/b"));
    }

    #[test]
    fn an_engine_that_is_not_built_is_refused_with_the_way_out() {
        let flags = Options { metadata: Some("foundationdb".to_owned()), ..options(&["x"]) };
        assert!(Config::load(&flags, &nothing).unwrap_err().0.contains("embedded"));
    }
}
