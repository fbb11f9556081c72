//! The certificate of `--tls-self-signed`.
//! Invariants: its key is made at this start, never written down, and gone with the process.
//! Not here: certificates that clients can trust (`certificates`).

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::Arc;

use rcgen::{CertificateParams, DistinguishedName, DnType, KeyPair};
use rustls::ServerConfig;
use rustls::pki_types::PrivateKeyDer;

use super::certificates::{CertificateError, certified, config_of};
use crate::config::Config;

/// A configuration with a certificate for this machine's names.
///
/// # Errors
/// [`CertificateError`], where the machine's names cannot stand in a certificate.
pub fn self_signed(config: &Config) -> Result<Arc<ServerConfig>, CertificateError> {
    let unusable = |source: String| CertificateError(format!("--tls-self-signed: {source}"));
    let mut params = CertificateParams::new(names(config)).map_err(|source| unusable(source.to_string()))?;
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, "Basalt, self-signed");
    let key = KeyPair::generate().map_err(|source| unusable(source.to_string()))?;
    let cert = params.self_signed(&key).map_err(|source| unusable(source.to_string()))?;
    let private = PrivateKeyDer::try_from(key.serialize_der()).map_err(|what| unusable(what.to_owned()))?;
    let key = certified(vec![cert.der().clone()], private).map_err(|source| unusable(source.to_string()))?;
    config_of(vec![key])
}

/// What clients may call this server: its addresses, the machine, the domains and every bucket below them.
fn names(config: &Config) -> Vec<String> {
    let machine = rustix::system::uname().nodename().to_string_lossy().into_owned();
    let mut names = vec!["localhost".to_owned(), machine];
    let loopback = [IpAddr::V4(Ipv4Addr::LOCALHOST), IpAddr::V6(Ipv6Addr::LOCALHOST)];
    let listened = config.listen.iter().map(|listen| listen.address.ip()).filter(|ip| !ip.is_unspecified());
    names.extend(loopback.into_iter().chain(listened).map(|ip| ip.to_string()));
    let domains = config.domain.iter().chain(&config.website_domains);
    names.extend(domains.flat_map(|domain| [domain.clone(), format!("*.{domain}")]));
    names.sort();
    names.dedup();
    names
}
