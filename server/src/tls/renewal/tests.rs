//! Certificates of files: chosen by host, renewed, and never exchanged for a bad one.
#![allow(clippy::unwrap_used, reason = "tests")]

use std::path::{Path, PathBuf};

use rcgen::{CertificateParams, KeyPair};
use rustls::ClientConfig;
use rustls::ClientConnection;
use rustls::RootCertStore;
use rustls::ServerConnection;
use rustls::crypto::aws_lc_rs;
use rustls::pki_types::{CertificateDer, ServerName};
use shardstore_reactor::Clock as _;
use shardstore_sim::Sim;

use super::*;

/// A folder of its own, gone after the test.
struct Folder(PathBuf);

impl Folder {
    fn new(name: &str) -> Folder {
        let path = std::env::temp_dir().join(format!("basalt-tls-{name}-{}", std::process::id()));
        std::fs::create_dir_all(&path).unwrap();
        Folder(path)
    }

    /// Writes a new certificate for `host` and returns it.
    fn write(&self, name: &str, host: &str) -> (CertificateFiles, CertificateDer<'static>) {
        let key = KeyPair::generate().unwrap();
        let cert = CertificateParams::new(vec![host.to_owned()]).unwrap().self_signed(&key).unwrap();
        let files = CertificateFiles {
            cert: self.0.join(format!("{name}.pem")),
            key: self.0.join(format!("{name}.key")),
        };
        write_pem(&files.cert, "CERTIFICATE", cert.der());
        write_pem(&files.key, "PRIVATE KEY", &key.serialize_der());
        (files, cert.der().clone())
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        std::fs::remove_dir_all(&self.0).unwrap_or_default();
    }
}

fn write_pem(path: &Path, label: &str, der: &[u8]) {
    use base64::Engine as _;
    let text = base64::engine::general_purpose::STANDARD.encode(der);
    let lines: Vec<&str> =
        text.as_bytes().chunks(64).map(|line| std::str::from_utf8(line).unwrap()).collect();
    std::fs::write(path, format!("-----BEGIN {label}-----\n{}\n-----END {label}-----\n", lines.join("\n")))
        .unwrap();
}

fn renewal(files: Vec<CertificateFiles>) -> Arc<TlsRenewal> {
    let current = Arc::new(ArcSwap::new(server_config(&files).unwrap()));
    Arc::new(TlsRenewal { seen_first: stamp(&files), files, current })
}

/// The certificate that a client which asks for `host` is shown, trusting `trusted`.
fn shown(
    renewal: &TlsRenewal,
    host: &'static str,
    trusted: &CertificateDer<'static>,
) -> Result<(), rustls::Error> {
    let mut roots = RootCertStore::empty();
    roots.add(trusted.clone()).unwrap();
    let config = ClientConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    let mut client = ClientConnection::new(Arc::new(config), ServerName::try_from(host).unwrap()).unwrap();
    let mut server = ServerConnection::new(renewal.current().load_full()).unwrap();
    while client.is_handshaking() {
        let mut sent = Vec::new();
        client.write_tls(&mut sent).unwrap();
        server.read_tls(&mut &sent[..]).unwrap();
        server.process_new_packets().unwrap();
        let mut answered = Vec::new();
        while server.wants_write() {
            server.write_tls(&mut answered).unwrap();
        }
        client.read_tls(&mut &answered[..]).unwrap();
        client.process_new_packets()?;
    }
    Ok(())
}

#[test]
fn a_client_gets_the_certificate_of_the_host_it_asks_for_else_the_first() {
    let folder = Folder::new("sni");
    let (first, first_cert) = folder.write("first", "one.test");
    let (second, second_cert) = folder.write("second", "*.two.test");
    let renewal = renewal(vec![first, second]);
    assert!(shown(&renewal, "one.test", &first_cert).is_ok());
    assert!(shown(&renewal, "bucket.two.test", &second_cert).is_ok());
    assert!(shown(&renewal, "three.test", &first_cert).is_err(), "the first does not name it");
    assert!(shown(&renewal, "one.test", &second_cert).is_err());
}

#[test]
fn a_changed_file_is_served_within_seconds_and_a_bad_one_never() {
    let folder = Folder::new("renew");
    let (files, old) = folder.write("a", "one.test");
    let renewal = renewal(vec![files.clone()]);
    let sim = Sim::new(fastrand::u64(..));
    let clock = sim.executor();
    shardstore_reactor::Executor::spawn(&sim.executor(), Arc::clone(&renewal).watch(sim.executor()));
    sim.block_on(async move {
        std::fs::write(&files.cert, "not a certificate").unwrap();
        clock.sleep(2 * LOOK_INTERVAL).await;
        assert!(shown(&renewal, "one.test", &old).is_ok(), "the old one goes on");
        let (_, new) = folder.write("a", "one.test");
        clock.sleep(2 * LOOK_INTERVAL).await;
        assert!(shown(&renewal, "one.test", &new).is_ok());
        assert!(shown(&renewal, "one.test", &old).is_err());
    });
}

#[test]
fn what_cannot_be_served_is_named() {
    let folder = Folder::new("bad");
    let (a, _) = folder.write("a", "one.test");
    let (b, _) = folder.write("b", "one.test");
    let said = |cert: &Path, key: &Path| {
        let files = CertificateFiles { cert: cert.to_owned(), key: key.to_owned() };
        server_config(&[files]).unwrap_err().0
    };
    assert!(said(&a.cert, &b.key).contains("is not the key of --tls-cert"));
    assert!(said(&a.key, &a.key).contains("holds no certificate"));
    assert!(said(&a.cert, &a.cert).contains("holds no private key"));
    assert!(said(&folder.0.join("missing"), &a.key).contains("cannot read --tls-cert"));
}
