//! What helps whoever is asked for support: version, machine, configuration, pool.
//! Invariants: each field is named here one by one, so that no secret comes in with a structure; made once, at the start.
//! Not here: what changes while it serves (`gauges`, the admin API).

use serde_json::{Value, json};
use shardstore_reactor::flags_in_use;

use super::Booted;
use crate::config::Config;

/// The facts of this start.
pub(super) fn support_facts(config: &Config, booted: &Booted) -> Value {
    let pool = &booted.pool;
    let member = |member: &shardstore::PoolMember<_>| {
        json!({
            "id": format!("{:032x}", member.id.0),
            "path": member.label,
            "there": member.drive.is_some(),
            "plan": format!("{:?}", member.plan).to_ascii_lowercase(),
        })
    };
    json!({
        "version": env!("CARGO_PKG_VERSION"),
        "machine": machine(),
        "erasure_kernel": shardstore_erasure::Kernel::detect().name(),
        "ring": flags_in_use().to_string(),
        "configuration": {
            "listen": config.listen.iter().map(ToString::to_string).collect::<Vec<_>>(),
            "admin_listen": config.admin_listen.to_string(),
            "cores": config.cpus,
            "redundancy": config.redundancy.map(|profile| profile.to_string()),
            "region": config.region,
            "domain": config.domain,
            "website_domains": config.website_domains,
            "memory_bytes": config.memory_bytes,
            "drives": config.drives.iter().map(|path| path.display().to_string()).collect::<Vec<_>>(),
            "root_credentials_chosen": config.root.is_some(),
            "master_key_file_chosen": std::env::var_os("BASALT_MASTER_KEY_FILE").is_some(),
        },
        "pool": {
            "id": format!("{:032x}", pool.id().0),
            "redundancy": pool.profile().to_string(),
            "created_unix_ms": pool.created_unix_ms(),
            "revision": pool.revision(),
            "members": pool.members().iter().map(member).collect::<Vec<_>>(),
            "notes": pool.notes(),
        },
        "metadata": {
            "term": booted.report.term,
            "writable": booted.report.writable,
            "replayed_records": booted.report.replayed_records,
            "replayed_bytes": booted.report.replayed_bytes,
            "last_version": booted.report.last_version,
            "runs": booted.report.run_volumes.len(),
            "notes": booted.report.notes,
        },
    })
}

fn machine() -> Value {
    let kernel = rustix::system::uname();
    let info = rustix::system::sysinfo();
    // Where /proc is not mounted the rest is told all the same.
    let cpus = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let of_first = |name: &str| {
        let line = cpus.lines().find(|line| line.starts_with(name));
        line.and_then(|line| line.split_once(':')).map(|(_, value)| value.trim().to_owned())
    };
    json!({
        "kernel": format!(
            "{} {} {}",
            kernel.sysname().to_string_lossy(),
            kernel.release().to_string_lossy(),
            kernel.version().to_string_lossy()
        ),
        "architecture": kernel.machine().to_string_lossy(),
        "cpu": of_first("model name"),
        "cpu_flags": of_first("flags"),
        "cpus": cpus.lines().filter(|line| line.starts_with("processor")).count(),
        "memory_bytes": info.totalram.saturating_mul(u64::from(info.mem_unit)),
    })
}
