//! TLS of one connection: rustls between the stream of bytes and HTTP.
//! Invariants: at most [`SEALED_BYTES`] of sealed output are held, and of input no more than one read; a dropped
//! connection sends no `close_notify`, so a peer cannot take a cut response for whole; what a peer sends never panics:
//! it is an error of the handshake or of a read.
//! Not here: certificates and their renewal (`crate::tls`), deadlines (`accept`). No early data is accepted, because it
//! can be replayed.

use std::io::{self, BufRead, IoSlice, Write};
use std::sync::Arc;

use arc_swap::ArcSwap;
use bytes::{Buf, Bytes, BytesMut};
use rustls::{CipherSuite, ProtocolVersion, ServerConfig, ServerConnection};
use shardstore_reactor::{Seal, Stream};

/// Sealed output between two writes to the socket: eight records, so that a system call costs little beside AES.
const SEALED_BYTES: usize = 128 * 1024;
/// Smallest read of sealed input: requests without a body fit.
const READ_BYTES_MIN: usize = 2048;
/// Slices given to rustls at once.
const SLICES_MAX: usize = 64;
/// The first byte of a TLS handshake (RFC 8446 5.1); no method of HTTP begins with it.
const RECORD_HANDSHAKE: u8 = 22;

/// Makes TLS connections of accepted streams, with the certificates of the moment.
#[derive(Clone)]
pub struct TlsAcceptor {
    config: Arc<ArcSwap<ServerConfig>>,
}

/// Why a stream is no TLS connection.
pub(super) enum HandshakeError<S> {
    /// The client speaks plain HTTP: it is told so on the stream.
    PlainHttp(S),
    /// The client went away or broke the protocol.
    Failed(io::Error),
}

impl TlsAcceptor {
    /// Takes the configuration anew for every connection, so that it can be exchanged under them.
    pub fn new(config: Arc<ArcSwap<ServerConfig>>) -> TlsAcceptor {
        TlsAcceptor { config }
    }

    /// Shakes hands on `stream`.
    pub(super) async fn accept<S: Stream>(&self, stream: S) -> Result<TlsStream<S>, HandshakeError<S>> {
        let session = ServerConnection::new(self.config.load_full());
        let session = session.map_err(|error| HandshakeError::Failed(io::Error::other(error)))?;
        let mut tls = TlsStream { inner: stream, session: Box::new(session), sealed: BytesMut::new() };
        tls.session.set_buffer_limit(Some(SEALED_BYTES));
        match tls.shake_hands().await {
            Ok(()) => Ok(tls),
            Err(Hello::Plain) => Err(HandshakeError::PlainHttp(tls.inner)),
            Err(Hello::Failed(error)) => Err(HandshakeError::Failed(error)),
        }
    }
}

/// Why a handshake ended.
enum Hello {
    Plain,
    Failed(io::Error),
}

impl From<io::Error> for Hello {
    fn from(error: io::Error) -> Hello {
        Hello::Failed(error)
    }
}

/// A connection whose bytes are sealed.
pub(super) struct TlsStream<S> {
    inner: S,
    /// About 2 KiB, and 4 KiB of rustls's own input buffer.
    session: Box<ServerConnection>,
    /// Input that rustls has not taken yet.
    sealed: BytesMut,
}

impl<S: Stream> Stream for TlsStream<S> {
    async fn read(&mut self, mut buf: BytesMut) -> (io::Result<usize>, BytesMut) {
        assert!(buf.capacity() > buf.len(), "a read needs spare capacity");
        let result = self.read_some(&mut buf).await;
        (result, buf)
    }

    async fn readable(&mut self) -> io::Result<()> {
        let waits = self.session.reader().fill_buf().is_err();
        if waits && self.sealed.is_empty() { self.inner.readable().await } else { Ok(()) }
    }

    async fn write_all(&mut self, mut parts: Vec<Bytes>) -> io::Result<()> {
        parts.retain(|part| !part.is_empty());
        let mut first = 0;
        while first < parts.len() {
            let slices: Vec<IoSlice<'_>> =
                parts[first..].iter().take(SLICES_MAX).map(|part| IoSlice::new(part)).collect();
            let mut taken_bytes = self.session.writer().write_vectored(&slices)?;
            if taken_bytes == 0 {
                return Err(io::ErrorKind::WriteZero.into());
            }
            while taken_bytes > 0 {
                let part_bytes = taken_bytes.min(parts[first].len());
                parts[first].advance(part_bytes);
                taken_bytes -= part_bytes;
                first += usize::from(parts[first].is_empty());
            }
            self.flush().await?;
        }
        Ok(())
    }

    fn seal(&self) -> Option<Seal> {
        let protocol = match self.session.protocol_version()? {
            ProtocolVersion::TLSv1_2 => "TLSv1.2",
            ProtocolVersion::TLSv1_3 => "TLSv1.3",
            _ => return None,
        };
        Some(Seal { protocol, cipher: cipher_name(self.session.negotiated_cipher_suite()?.suite()) })
    }

    async fn shutdown(&mut self) -> io::Result<()> {
        self.session.send_close_notify();
        self.flush().await?;
        self.inner.shutdown().await
    }
}

impl<S: Stream> TlsStream<S> {
    async fn shake_hands(&mut self) -> Result<(), Hello> {
        let mut is_first = true;
        while self.session.is_handshaking() {
            if self.fill(READ_BYTES_MIN).await? == 0 {
                return Err(Hello::Failed(io::ErrorKind::UnexpectedEof.into()));
            }
            if std::mem::take(&mut is_first) && looks_like_http(&self.sealed) {
                return Err(Hello::Plain);
            }
            while self.session.is_handshaking() && !self.sealed.is_empty() {
                self.open_some().await?;
            }
        }
        self.flush().await?;
        Ok(())
    }

    /// Appends what can be had without waiting, or else waits for the first bytes.
    async fn read_some(&mut self, buf: &mut BytesMut) -> io::Result<usize> {
        let before = buf.len();
        loop {
            let is_closed = self.take_plain(buf);
            let have = buf.len() - before;
            if is_closed || buf.len() == buf.capacity() {
                return Ok(have);
            }
            if !self.sealed.is_empty() {
                self.open_some().await?;
            } else if have > 0 {
                return Ok(have);
            } else if self.fill(buf.capacity() - buf.len()).await? == 0 {
                // Cut off without a farewell: HTTP's framing tells whether anything is missing.
                return Ok(0);
            }
        }
    }

    /// Moves opened bytes to the spare capacity of `buf`; true once the peer has said farewell.
    fn take_plain(&mut self, buf: &mut BytesMut) -> bool {
        let mut reader = self.session.reader();
        while buf.len() < buf.capacity() {
            let taken_bytes = match reader.fill_buf() {
                Ok([]) => return true,
                Ok(plain) => {
                    let taken_bytes = plain.len().min(buf.capacity() - buf.len());
                    buf.extend_from_slice(&plain[..taken_bytes]);
                    taken_bytes
                }
                // Nothing is there yet: the only error, since rustls is never told of an end without farewell.
                Err(_) => return false,
            };
            reader.consume(taken_bytes);
        }
        false
    }

    /// Reads sealed bytes once; 0 at the end.
    async fn fill(&mut self, want_bytes: usize) -> io::Result<usize> {
        assert!(self.sealed.is_empty(), "what was read is opened first");
        let want_bytes = want_bytes.clamp(READ_BYTES_MIN, SEALED_BYTES);
        let mut buf = std::mem::take(&mut self.sealed);
        if buf.capacity() > 2 * want_bytes {
            buf = BytesMut::new();
        }
        buf.reserve(want_bytes);
        let (result, buf) = self.inner.read(buf).await;
        self.sealed = buf;
        result
    }

    /// Gives rustls a piece of the sealed input, and sends what it has to answer: handshakes, alerts, key updates.
    async fn open_some(&mut self) -> io::Result<()> {
        let mut input = &self.sealed[..];
        let taken_bytes = self.session.read_tls(&mut input)?;
        self.sealed.advance(taken_bytes);
        let opened = self.session.process_new_packets();
        if self.session.wants_write() {
            self.flush().await?;
        }
        opened.map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error))?;
        if taken_bytes == 0 {
            return Err(io::ErrorKind::InvalidData.into());
        }
        Ok(())
    }

    async fn flush(&mut self) -> io::Result<()> {
        while self.session.wants_write() {
            let mut sealed = Sealed(Vec::new());
            self.session.write_tls(&mut sealed)?;
            self.inner.write_all(vec![Bytes::from(sealed.0)]).await?;
        }
        Ok(())
    }
}

/// OpenSSL's name of each suite that is offered.
fn cipher_name(suite: CipherSuite) -> &'static str {
    match suite {
        CipherSuite::TLS13_AES_128_GCM_SHA256 => "TLS_AES_128_GCM_SHA256",
        CipherSuite::TLS13_AES_256_GCM_SHA384 => "TLS_AES_256_GCM_SHA384",
        CipherSuite::TLS13_CHACHA20_POLY1305_SHA256 => "TLS_CHACHA20_POLY1305_SHA256",
        CipherSuite::TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256 => "ECDHE-ECDSA-AES128-GCM-SHA256",
        CipherSuite::TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384 => "ECDHE-ECDSA-AES256-GCM-SHA384",
        CipherSuite::TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256 => "ECDHE-ECDSA-CHACHA20-POLY1305",
        CipherSuite::TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256 => "ECDHE-RSA-AES128-GCM-SHA256",
        CipherSuite::TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384 => "ECDHE-RSA-AES256-GCM-SHA384",
        CipherSuite::TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256 => "ECDHE-RSA-CHACHA20-POLY1305",
        other => other.as_str().unwrap_or("-"),
    }
}

/// Gathers records into one buffer.
struct Sealed(Vec<u8>);

impl Write for Sealed {
    fn write(&mut self, data: &[u8]) -> io::Result<usize> {
        self.0.extend_from_slice(data);
        Ok(data.len())
    }

    fn write_vectored(&mut self, slices: &[IoSlice<'_>]) -> io::Result<usize> {
        let len_bytes = slices.iter().map(|slice| slice.len()).sum();
        self.0.reserve_exact(len_bytes);
        slices.iter().for_each(|slice| self.0.extend_from_slice(slice));
        Ok(len_bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// A method's first letters in place of a TLS record.
fn looks_like_http(first: &[u8]) -> bool {
    first[0] != RECORD_HANDSHAKE && first.iter().take(3).all(u8::is_ascii_uppercase)
}

#[cfg(test)]
mod tests;
