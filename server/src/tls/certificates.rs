//! From PEM files to the configuration that connections begin with.
//! Invariants: a chain and its key belong together; the first certificate answers where no other names the host;
//! tickets, not a shared table, resume sessions, so cores share nothing that they write.
//! Not here: when files are read again (`renewal`).

use std::path::Path;
use std::sync::Arc;

use rustls::client::verify_server_name;
use rustls::crypto::aws_lc_rs;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::server::{ClientHello, NoServerSessionStorage, ParsedCertificate, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use rustls::{InconsistentKeys, ServerConfig};

use crate::config::CertificateFiles;

/// Longest file that is read: a chain of four RSA certificates is 10 KiB.
const FILE_BYTES_MAX: u64 = 1 << 20;
/// The only protocol spoken; a client that offers others alone is refused in the handshake.
const ALPN_HTTP_1_1: &[u8] = b"http/1.1";

/// Why certificates cannot be used: one sentence that names the file.
#[derive(Debug)]
pub struct CertificateError(pub String);

impl std::fmt::Display for CertificateError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for CertificateError {}

fn refuse<T>(sentence: String) -> Result<T, CertificateError> {
    Err(CertificateError(sentence))
}

/// The configuration that serves these certificates.
///
/// # Errors
/// [`CertificateError`], for the first that cannot be used.
pub fn server_config(files: &[CertificateFiles]) -> Result<Arc<ServerConfig>, CertificateError> {
    config_of(files.iter().map(read_pair).collect::<Result<Vec<_>, _>>()?)
}

/// TLS 1.2 and 1.3 over `keys`, the default first.
pub(super) fn config_of(keys: Vec<Arc<CertifiedKey>>) -> Result<Arc<ServerConfig>, CertificateError> {
    assert!(!keys.is_empty(), "there is a default certificate");
    let unusable = |source: rustls::Error| CertificateError(format!("TLS cannot be set up: {source}"));
    let provider = Arc::new(aws_lc_rs::default_provider());
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(unusable)?
        .with_no_client_auth()
        .with_cert_resolver(Arc::new(ByHost { keys }));
    config.alpn_protocols = vec![ALPN_HTTP_1_1.to_vec()];
    config.session_storage = Arc::new(NoServerSessionStorage {});
    config.ticketer = aws_lc_rs::Ticketer::new().map_err(unusable)?;
    Ok(Arc::new(config))
}

/// A chain with its key, checked against each other.
pub(super) fn certified(
    chain: Vec<CertificateDer<'static>>,
    key: PrivateKeyDer<'static>,
) -> Result<Arc<CertifiedKey>, rustls::Error> {
    CertifiedKey::from_der(chain, key, &aws_lc_rs::default_provider()).map(Arc::new)
}

fn read_pair(files: &CertificateFiles) -> Result<Arc<CertifiedKey>, CertificateError> {
    let (cert, key) = (files.cert.display(), files.key.display());
    let text = read_file("tls-cert", &files.cert)?;
    let chain: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&text).collect();
    let chain = match chain {
        Ok(chain) if !chain.is_empty() => chain,
        _ => return refuse(format!("--tls-cert {cert} holds no certificate; write the path of a PEM file")),
    };
    let text = read_file("tls-key", &files.key)?;
    if text.windows(9).any(|window| window == b"ENCRYPTED") {
        return refuse(format!("--tls-key {key} is encrypted; write the path of a key without a passphrase"));
    }
    let private = PrivateKeyDer::from_pem_slice(&text).map_err(|_| {
        CertificateError(format!("--tls-key {key} holds no private key; write the path of a PEM file"))
    })?;
    certified(chain, private).map_err(|source| match source {
        rustls::Error::InconsistentKeys(InconsistentKeys::KeyMismatch) => {
            CertificateError(format!("--tls-key {key} is not the key of --tls-cert {cert}"))
        }
        source => {
            CertificateError(format!("--tls-cert {cert} with --tls-key {key} cannot be used: {source}"))
        }
    })
}

fn read_file(option: &str, path: &Path) -> Result<Vec<u8>, CertificateError> {
    let unreadable =
        |source| CertificateError(format!("cannot read --{option} {}: {source}", path.display()));
    if std::fs::metadata(path).map_err(unreadable)?.len() > FILE_BYTES_MAX {
        return refuse(format!("--{option} {} is larger than 1 MiB: that is no PEM file", path.display()));
    }
    std::fs::read(path).map_err(unreadable)
}

/// The first certificate that names the host a client asks for, else the first of all.
#[derive(Debug)]
struct ByHost {
    keys: Vec<Arc<CertifiedKey>>,
}

impl ResolvesServerCert for ByHost {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        let host = hello.server_name().and_then(|host| ServerName::try_from(host).ok());
        let named = host.and_then(|host| self.keys.iter().find(|key| names(key, &host)));
        named.or(self.keys.first()).cloned()
    }
}

fn names(key: &CertifiedKey, host: &ServerName<'_>) -> bool {
    let parsed = key.end_entity_cert().and_then(ParsedCertificate::try_from);
    parsed.is_ok_and(|parsed| verify_server_name(&parsed, host).is_ok())
}
