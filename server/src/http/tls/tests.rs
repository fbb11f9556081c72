//! What a client may rely on of TLS, over an in-memory stream in simulated time.
#![allow(clippy::unwrap_used, reason = "tests")]

use std::rc::Rc;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::aws_lc_rs;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{ClientConfig, ClientConnection, DigitallySignedStruct, ProtocolVersion, SignatureScheme};
use shardstore_reactor::{Clock, Executor};
use shardstore_sim::Sim;

use super::super::test_wire::{Client, TestListener};
use super::*;
use crate::config::{Config, Options};
use crate::http::{
    AcceptLimits, Arrival, ConnectionLimits, CoreContext, Protection, RequestBody, RequestHead, RequestIds,
    Response, Service, serve_listener,
};
use crate::tls::TlsRenewal;

/// Answers the body, and in a header whether it came over TLS.
struct Echo;

impl<E: Executor> Service<E> for Echo {
    type Source = ();

    async fn serve<S: Stream>(
        &self,
        ids: &RequestIds,
        _head: &RequestHead,
        body: &mut RequestBody<'_, S, E>,
    ) -> Response<()> {
        let mut whole = Vec::new();
        while let Ok(Some(data)) = body.next().await {
            whole.extend_from_slice(&data);
        }
        Response::new(200)
            .with_header("x-secure", if ids.seal.is_some() { "yes" } else { "no" })
            .with_bytes("text/plain", whole)
    }

    fn refuse(&self, _ids: &RequestIds, why: Arrival) -> Response<()> {
        Response::new(if why == Arrival::PlainHttp { 400 } else { 503 })
    }
}

/// A listener with a self-signed certificate, in a world of its own.
fn listening() -> (Sim, TestListener) {
    let sim = Sim::new(fastrand::u64(..));
    let flags = Options { drives: vec!["x".to_owned()], tls_self_signed: true, ..Options::default() };
    let config = Config::load(&flags, &|_| None).unwrap();
    let acceptor = TlsAcceptor::new(TlsRenewal::start(&config).unwrap().unwrap().current());
    let limits = AcceptLimits { connections_max: 2, refusals_max: 1, handshakes_max: 2 };
    let context = CoreContext::new(sim.executor(), ConnectionLimits::default(), limits);
    let listener = TestListener::default();
    sim.executor().spawn(serve_listener(listener.clone(), Protection::Tls(acceptor), context, Rc::new(Echo)));
    (sim, listener)
}

#[derive(Debug)]
struct TrustAnything;

impl ServerCertVerifier for TrustAnything {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = aws_lc_rs::default_provider().signature_verification_algorithms;
        rustls::crypto::verify_tls12_signature(message, cert, signed, &algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = aws_lc_rs::default_provider().signature_verification_algorithms;
        rustls::crypto::verify_tls13_signature(message, cert, signed, &algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        aws_lc_rs::default_provider().signature_verification_algorithms.supported_schemes()
    }
}

fn client_config(version: &'static rustls::SupportedProtocolVersion, alpn: &[&str]) -> ClientConfig {
    let mut config = ClientConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
        .with_protocol_versions(&[version])
        .unwrap()
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(TrustAnything))
        .with_no_client_auth();
    config.alpn_protocols = alpn.iter().map(|name| name.as_bytes().to_vec()).collect();
    config
}

/// A client whose bytes are sealed.
struct TlsClient {
    wire: Client,
    session: ClientConnection,
}

impl TlsClient {
    fn new(wire: Client, config: ClientConfig) -> TlsClient {
        let name = ServerName::try_from("localhost").unwrap();
        TlsClient { wire, session: ClientConnection::new(Arc::new(config), name).unwrap() }
    }

    fn send(&mut self, plain: &[u8]) {
        self.session.set_buffer_limit(None);
        self.session.writer().write_all(plain).unwrap();
        self.pass_on();
    }

    fn pass_on(&mut self) {
        let mut sealed = Vec::new();
        while self.session.wants_write() {
            self.session.write_tls(&mut sealed).unwrap();
        }
        self.wire.send(sealed);
    }

    /// Everything until `want_bytes` of plain text have come, or the end.
    async fn receive(&mut self, want_bytes: usize) -> Result<Vec<u8>, rustls::Error> {
        let mut plain = Vec::new();
        while plain.len() < want_bytes {
            let sealed = self.wire.raw().await;
            if sealed.is_empty() {
                break;
            }
            let mut input = &sealed[..];
            while !input.is_empty() {
                self.session.read_tls(&mut input).unwrap();
                self.session.process_new_packets()?;
                while let Ok(found) = self.session.reader().fill_buf().map(<[u8]>::to_vec) {
                    if found.is_empty() {
                        break;
                    }
                    self.session.reader().consume(found.len());
                    plain.extend_from_slice(&found);
                }
            }
            self.pass_on();
        }
        Ok(plain)
    }
}

fn put(body: &[u8]) -> Vec<u8> {
    let mut request =
        format!("PUT /k HTTP/1.1\r\nHost: h\r\nContent-Length: {}\r\n\r\n", body.len()).into_bytes();
    request.extend_from_slice(body);
    request
}

#[test]
fn large_bodies_pass_both_ways_in_tls_1_2_and_1_3_and_the_service_knows() {
    for version in [&rustls::version::TLS12, &rustls::version::TLS13] {
        let (sim, listener) = listening();
        sim.block_on(async move {
            let mut client = TlsClient::new(listener.connect(), client_config(version, &["http/1.1"]));
            let body: Vec<u8> = (0..3_000_000_u32).map(|at| (at % 251) as u8).collect();
            for body in [&b""[..], b"short", &body] {
                client.send(&put(body));
                let answer = client.receive(body.len() + 100).await.unwrap();
                assert!(answer.starts_with(b"HTTP/1.1 200 OK\r\n"));
                assert!(answer.windows(15).any(|line| line == b"x-secure: yes\r\n"));
                assert!(answer.ends_with(body));
            }
            let expected = if version.version == ProtocolVersion::TLSv1_2 { "TLSv1_2" } else { "TLSv1_3" };
            assert_eq!(client.session.protocol_version().unwrap().as_str(), Some(expected));
            assert_eq!(client.session.alpn_protocol(), Some(&b"http/1.1"[..]));
        });
    }
}

#[test]
fn pipelined_requests_in_one_record_are_all_answered() {
    let (sim, listener) = listening();
    sim.block_on(async move {
        let mut client = TlsClient::new(listener.connect(), client_config(&rustls::version::TLS13, &[]));
        let mut three = put(b"one");
        three.extend(put(b"two"));
        three.extend(put(b"six"));
        client.send(&three);
        let mut seen = Vec::new();
        while seen.windows(15).filter(|line| line == b"x-secure: yes\r\n").count() < 3
            || !seen.ends_with(b"six")
        {
            let more = client.receive(1).await.unwrap();
            assert!(!more.is_empty(), "{}", String::from_utf8_lossy(&seen));
            seen.extend(more);
        }
    });
}

#[test]
fn plain_http_on_a_tls_port_is_told_so_in_plain_http() {
    let (sim, listener) = listening();
    sim.block_on(async move {
        let mut client = listener.connect();
        client.send("GET / HTTP/1.1\r\nHost: h\r\n\r\n");
        assert_eq!(client.response(false).await.unwrap().status, 400);
    });
}

#[test]
fn a_client_of_another_protocol_is_refused_in_the_handshake() {
    let (sim, listener) = listening();
    sim.block_on(async move {
        let mut client = TlsClient::new(listener.connect(), client_config(&rustls::version::TLS13, &["h2"]));
        client.pass_on();
        let error = client.receive(1).await.unwrap_err();
        let expected = rustls::Error::AlertReceived(rustls::AlertDescription::NoApplicationProtocol);
        assert_eq!(error, expected);
    });
}

#[test]
fn a_handshake_that_never_comes_ends_within_its_deadline_and_makes_room() {
    let (sim, listener) = listening();
    let clock = sim.executor();
    sim.block_on(async move {
        let (mut first, mut second) = (listener.connect(), listener.connect());
        let mut third = listener.connect();
        assert!(third.raw().await.is_empty(), "handshakes over the limit are dropped");
        clock.sleep(std::time::Duration::from_secs(11)).await;
        assert!(first.raw().await.is_empty());
        assert!(second.raw().await.is_empty());
        let mut fourth = TlsClient::new(listener.connect(), client_config(&rustls::version::TLS13, &[]));
        fourth.send(&put(b"x"));
        assert!(fourth.receive(100).await.unwrap().ends_with(b"x"));
    });
}

#[test]
fn bytes_that_are_no_tls_never_panic() {
    for _ in 0..200 {
        let (sim, listener) = listening();
        sim.block_on(async move {
            let mut config = TlsClient::new(listener.connect(), client_config(&rustls::version::TLS13, &[]));
            let mut hello = Vec::new();
            config.session.write_tls(&mut hello).unwrap();
            for _ in 0..fastrand::usize(1..5) {
                let at = fastrand::usize(..hello.len());
                hello[at] = fastrand::u8(..);
            }
            hello.truncate(fastrand::usize(1..=hello.len()));
            config.wire.send(hello);
            config.wire.finish();
            while !config.wire.raw().await.is_empty() {}
        });
    }
}

#[test]
fn an_idle_connection_over_tls_is_small() {
    let serving = size_of::<TlsStream<()>>() + size_of::<ServerConnection>();
    assert!(serving <= 4096, "{serving} bytes beside the buffers");
}
