//! `RealNet`: TCP over the core's io_uring.
//! Invariants: every core listens on its own socket of the same address (SO_REUSEPORT), so the kernel spreads
//! connections; TCP_NODELAY is set; a connection pins no memory of its own beyond the buffer that a read was given.
//! Not here: TLS, HTTP. A dropped read is cancelled and may lose bytes that had arrived: only close after that.

use std::io;
use std::net::SocketAddr;

use bytes::{Buf, Bytes, BytesMut};
use compio::buf::{BufResult, IntoInner, IoBuf, IoVectoredBuf};
use compio::driver::op::{Interest, PollOnce};
use compio::driver::{SharedFd, ToSharedFd};
use compio::io::{AsyncRead, AsyncWrite};
use compio::net::{TcpListener, TcpStream};
use rustix::net::{AddressFamily, SocketFlags, SocketType, sockopt};

use crate::{Listener, Net, Stream};

/// Connections that wait to be accepted on one core; the kernel caps it at net.core.somaxconn (4,096 by default).
const BACKLOG: i32 = 4096;
/// Parts of one vectored system call: IOV_MAX of Linux.
const IOV_MAX: usize = 1024;

/// TCP on the core that calls.
#[derive(Clone, Copy, Debug, Default)]
pub struct RealNet;

impl Net for RealNet {
    type Listener = RealListener;

    fn listen(&self, address: SocketAddr) -> impl Future<Output = io::Result<RealListener>> {
        // Socket, bind and listen do not wait.
        std::future::ready(listen(address))
    }
}

fn listen(address: SocketAddr) -> io::Result<RealListener> {
    let family = if address.is_ipv4() { AddressFamily::INET } else { AddressFamily::INET6 };
    let socket = rustix::net::socket_with(family, SocketType::STREAM, SocketFlags::CLOEXEC, None)?;
    sockopt::set_socket_reuseaddr(&socket, true)?;
    sockopt::set_socket_reuseport(&socket, true)?;
    if address.is_ipv6() && address.ip().is_unspecified() {
        // [::] serves IPv4 too, whatever the machine's default is.
        sockopt::set_ipv6_v6only(&socket, false)?;
    }
    rustix::net::bind(&socket, &address)?;
    rustix::net::listen(&socket, BACKLOG)?;
    Ok(RealListener { inner: TcpListener::from_std(socket.into())? })
}

/// A listening socket of one core.
pub struct RealListener {
    inner: TcpListener,
}

impl Listener for RealListener {
    type Stream = RealStream;

    async fn accept(&self) -> io::Result<(RealStream, SocketAddr)> {
        loop {
            let (stream, peer) = match self.inner.accept().await {
                Err(error) if error.kind() == io::ErrorKind::ConnectionAborted => continue,
                accepted => accepted?,
            };
            // It fails only on a connection that the peer has reset already: take the next one.
            if stream.set_nodelay(true).is_ok() {
                return Ok((RealStream { inner: stream }, peer));
            }
        }
    }

    fn local_address(&self) -> io::Result<SocketAddr> {
        self.inner.local_addr()
    }
}

/// A TCP connection of one core.
pub struct RealStream {
    inner: TcpStream,
}

impl Stream for RealStream {
    async fn read(&mut self, buf: BytesMut) -> (io::Result<usize>, BytesMut) {
        assert!(buf.capacity() > buf.len(), "a read needs spare capacity");
        let begin = buf.len();
        // The slice begins where the bytes end: it is the spare capacity.
        let BufResult(result, slice) = self.inner.read(buf.slice(begin..)).await;
        (result, slice.into_inner())
    }

    async fn write_all(&mut self, mut parts: Vec<Bytes>) -> io::Result<()> {
        parts.retain(|part| !part.is_empty());
        if let [_] = parts[..] {
            return self.write_one(parts.remove(0)).await;
        }
        let mut rest = Parts { parts, first: 0 };
        while rest.first < rest.parts.len() {
            let BufResult(result, returned) = self.inner.write_vectored(rest).await;
            rest = returned;
            match result {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(sent_bytes) => rest.advance(sent_bytes),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    async fn readable(&mut self) -> io::Result<()> {
        let socket = self.inner.to_poll_fd()?;
        let fd: SharedFd<_> = socket.to_shared_fd();
        compio::runtime::submit(PollOnce::new(fd, Interest::Readable)).await.0?;
        Ok(())
    }

    async fn shutdown(&mut self) -> io::Result<()> {
        AsyncWrite::shutdown(&mut self.inner).await
    }
}

impl RealStream {
    async fn write_one(&mut self, mut part: Bytes) -> io::Result<()> {
        while part.has_remaining() {
            let BufResult(result, returned) = self.inner.write(part).await;
            part = returned;
            match result {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(sent_bytes) => part.advance(sent_bytes),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }
}

/// What a vectored write still has to send; owned by the kernel's operation while it runs.
struct Parts {
    parts: Vec<Bytes>,
    /// The first part that is not wholly sent; it holds only what is left of it.
    first: usize,
}

impl IoVectoredBuf for Parts {
    fn iter_slice(&self) -> impl Iterator<Item = &[u8]> {
        self.parts[self.first..].iter().take(IOV_MAX).map(AsRef::as_ref)
    }
}

impl Parts {
    fn advance(&mut self, mut bytes: usize) {
        while bytes > 0 {
            let part = &mut self.parts[self.first];
            let taken_bytes = bytes.min(part.len());
            part.advance(taken_bytes);
            bytes -= taken_bytes;
            if !part.has_remaining() {
                self.first += 1;
            }
        }
    }
}
