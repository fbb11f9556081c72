//! The `Net` traits: listeners and byte streams.
//! Invariants: a read appends to the buffer it is given and always returns it.

use std::future::Future;
use std::net::SocketAddr;

use bytes::{Bytes, BytesMut};

/// Makes listeners.
pub trait Net: Clone + 'static {
    /// What it makes.
    type Listener: Listener;
    /// Binds and listens on `address`; several cores may bind the same one (SO_REUSEPORT).
    fn listen(&self, address: SocketAddr) -> impl Future<Output = std::io::Result<Self::Listener>>;
}

/// Accepts connections.
pub trait Listener: 'static {
    /// One connection.
    type Stream: Stream;
    /// The next connection and its peer.
    fn accept(&self) -> impl Future<Output = std::io::Result<(Self::Stream, SocketAddr)>>;
    /// The bound address, with the real port.
    ///
    /// # Errors
    /// The kernel's, if the socket is gone.
    fn local_address(&self) -> std::io::Result<SocketAddr>;
}

/// How a stream is sealed, in the words of OpenSSL.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Seal {
    /// The version of the protocol, such as `TLSv1.3`.
    pub protocol: &'static str,
    /// The suite of ciphers.
    pub cipher: &'static str,
}

/// One connection.
pub trait Stream: 'static {
    /// Reads at least one byte into the spare capacity of `buf` (which must have some), appending.
    /// `Ok(0)`: the peer has closed. Dropping the future may lose bytes that had arrived: only close after that.
    fn read(&mut self, buf: BytesMut) -> impl Future<Output = (std::io::Result<usize>, BytesMut)>;
    /// Returns once a read would find bytes or the end. Needs no buffer, so an idle connection holds no memory;
    /// safe to drop at any time, unlike [`Stream::read`]. The default is for streams that cannot tell.
    fn readable(&mut self) -> impl Future<Output = std::io::Result<()>> {
        std::future::ready(Ok(()))
    }
    /// Writes every part in order (vectored where possible).
    fn write_all(&mut self, parts: Vec<Bytes>) -> impl Future<Output = std::io::Result<()>>;
    /// What keeps anybody on the way from reading or changing what it carries. The default is for streams of plain
    /// bytes.
    fn seal(&self) -> Option<Seal> {
        None
    }
    /// Closes the sending side.
    fn shutdown(&mut self) -> impl Future<Output = std::io::Result<()>>;
}
