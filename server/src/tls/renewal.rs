//! Certificates that are renewed: read again when told to and when their files change.
//! Invariants: connections keep the certificate they began with; a bad file changes nothing and is told once for each
//! change; the exchange is one step for all cores.
//! Not here: reading (`certificates`).

use std::os::unix::fs::MetadataExt;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use metrics::{counter, describe_counter};
use rustls::ServerConfig;
use shardstore_reactor::Clock;

use super::certificates::{CertificateError, server_config};
use super::self_signed::self_signed;
use crate::config::{CertificateFiles, CertificateSource, Config};

/// How often the files are looked at: renewals come weeks before the old certificate ends.
const LOOK_INTERVAL: Duration = Duration::from_secs(10);

/// The certificates of the process.
pub struct TlsRenewal {
    files: Vec<CertificateFiles>,
    current: Arc<ArcSwap<ServerConfig>>,
    /// As the files were before they were first read.
    seen_first: Stamp,
}

/// What tells one state of a file from another.
type Stamp = Vec<Option<(u64, i64, i64, u64)>>;

impl TlsRenewal {
    /// Reads or makes the certificates that `config` names; `None` where it names none.
    ///
    /// # Errors
    /// [`CertificateError`]: nothing can be served with them.
    pub fn start(config: &Config) -> Result<Option<Arc<TlsRenewal>>, CertificateError> {
        let files = match &config.certificates {
            None => return Ok(None),
            Some(CertificateSource::SelfSigned) => Vec::new(),
            Some(CertificateSource::Files(files)) => files.clone(),
        };
        describe_counter!("basalt_tls_handshakes_total", "TLS handshakes by how they ended");
        describe_counter!("basalt_tls_reloads_total", "times that certificate files were read again");
        let seen_first = stamp(&files);
        let first = if files.is_empty() { self_signed(config)? } else { server_config(&files)? };
        Ok(Some(Arc::new(TlsRenewal { files, current: Arc::new(ArcSwap::new(first)), seen_first })))
    }

    /// What new connections begin with, now and after every renewal.
    pub fn current(&self) -> Arc<ArcSwap<ServerConfig>> {
        Arc::clone(&self.current)
    }

    /// Reads the files again; on failure what was served goes on.
    pub fn reload(&self) {
        if self.files.is_empty() {
            tracing::info!("the certificate was made at this start: there is no file to read again");
            return;
        }
        let result = match server_config(&self.files) {
            Ok(config) => {
                self.current.store(config);
                tracing::info!(certificates = self.files.len(), "certificates were read again");
                "ok"
            }
            Err(error) => {
                tracing::error!(%error, "the new certificate is not used; the old one goes on");
                "refused"
            }
        };
        counter!("basalt_tls_reloads_total", "result" => result).increment(1);
    }

    /// Looks at the files for as long as the process lives, and reads them again when one has changed.
    pub async fn watch(self: Arc<TlsRenewal>, clock: impl Clock) {
        let mut seen = self.seen_first.clone();
        while !self.files.is_empty() {
            clock.sleep(LOOK_INTERVAL).await;
            let now = stamp(&self.files);
            if now != seen {
                seen = now;
                self.reload();
            }
        }
    }
}

fn stamp(files: &[CertificateFiles]) -> Stamp {
    let paths = files.iter().flat_map(|files| [&files.cert, &files.key]);
    let of_file = |path| {
        let found = std::fs::metadata(path).ok()?;
        Some((found.ino(), found.mtime(), found.mtime_nsec(), found.size()))
    };
    paths.map(of_file).collect()
}

#[cfg(test)]
mod tests;
