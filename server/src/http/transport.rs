//! What a connection runs over: the stream as accepted, or TLS on it.
//! Invariants: one type for both, so that everything above is compiled once.
//! Not here: TLS itself (`tls`).

use std::io;
use std::rc::Rc;

use bytes::{Bytes, BytesMut};
use shardstore_reactor::{Executor, Seal, Stream};

use super::connection::CoreContext;
use super::tls::{HandshakeError, TlsAcceptor, TlsStream};

/// How the connections of a listener begin.
#[derive(Clone)]
pub enum Protection {
    /// With HTTP.
    Plain,
    /// With a TLS handshake.
    Tls(TlsAcceptor),
}

/// A stream that HTTP can begin on, or not.
pub(super) enum Opened<S> {
    /// HTTP begins.
    Ready(Transport<S>),
    /// The client sent plain HTTP where TLS was due; it is told so.
    PlainHttp(Transport<S>),
    /// There is nobody to talk to.
    Gone,
}

impl Protection {
    /// Begins the connection, within the time that a handshake may take.
    pub(super) async fn open<S: Stream, E: Executor>(
        &self,
        stream: S,
        context: &Rc<CoreContext<E>>,
    ) -> Opened<S> {
        let acceptor = match self {
            Protection::Plain => return Opened::Ready(Transport::Plain(stream)),
            Protection::Tls(acceptor) => acceptor,
        };
        let slot = context.deadlines.slot(&context.executor);
        let shaken = slot.within(context.limits.handshake, true, acceptor.accept(stream)).await;
        let (result, opened) = match shaken {
            Ok(Ok(tls)) => ("ok", Opened::Ready(Transport::Tls(tls))),
            Ok(Err(HandshakeError::PlainHttp(stream))) => {
                ("plain_http", Opened::PlainHttp(Transport::Plain(stream)))
            }
            Ok(Err(HandshakeError::Failed(error))) => {
                tracing::debug!(%error, "a TLS handshake failed");
                ("failed", Opened::Gone)
            }
            Err(_) => ("late", Opened::Gone),
        };
        count_handshake(result);
        opened
    }

    pub(super) fn is_tls(&self) -> bool {
        matches!(self, Protection::Tls(_))
    }
}

/// Counts a handshake by how it ended.
pub(super) fn count_handshake(result: &'static str) {
    metrics::counter!("basalt_tls_handshakes_total", "result" => result).increment(1);
}

/// A stream, sealed or not.
pub(super) enum Transport<S> {
    Plain(S),
    Tls(TlsStream<S>),
}

impl<S: Stream> Stream for Transport<S> {
    async fn read(&mut self, buf: BytesMut) -> (io::Result<usize>, BytesMut) {
        match self {
            Transport::Plain(stream) => stream.read(buf).await,
            Transport::Tls(stream) => stream.read(buf).await,
        }
    }

    async fn readable(&mut self) -> io::Result<()> {
        match self {
            Transport::Plain(stream) => stream.readable().await,
            Transport::Tls(stream) => stream.readable().await,
        }
    }

    async fn write_all(&mut self, parts: Vec<Bytes>) -> io::Result<()> {
        match self {
            Transport::Plain(stream) => stream.write_all(parts).await,
            Transport::Tls(stream) => stream.write_all(parts).await,
        }
    }

    fn seal(&self) -> Option<Seal> {
        match self {
            Transport::Plain(_) => None,
            Transport::Tls(stream) => stream.seal(),
        }
    }

    async fn shutdown(&mut self) -> io::Result<()> {
        match self {
            Transport::Plain(stream) => stream.shutdown().await,
            Transport::Tls(stream) => stream.shutdown().await,
        }
    }
}
