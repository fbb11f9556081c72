//! A connection in memory, and a client that speaks just enough HTTP to check the server's half.

#![allow(clippy::unwrap_used, reason = "tests")]

use std::cell::RefCell;
use std::future::{Future, poll_fn};
use std::net::SocketAddr;
use std::rc::Rc;
use std::task::{Poll, Waker};

use bytes::{Buf, Bytes, BytesMut};
use shardstore_reactor::{Listener, Stream};

#[derive(Default)]
struct Pipe {
    bytes: BytesMut,
    closed: bool,
    /// Most bytes in flight: a writer waits above it.
    capacity_bytes: usize,
    reader: Option<Waker>,
    writer: Option<Waker>,
}

impl Pipe {
    fn wake(&mut self) {
        for waker in [self.reader.take(), self.writer.take()].into_iter().flatten() {
            waker.wake();
        }
    }
}

type SharedPipe = Rc<RefCell<Pipe>>;

/// The server's end.
pub(crate) struct ServerEnd {
    input: SharedPipe,
    output: SharedPipe,
}

/// The client's end.
pub(crate) struct Client {
    output: SharedPipe,
    input: SharedPipe,
    received: BytesMut,
}

/// A pair of ends; `capacity_bytes` of response may be in flight.
pub(crate) fn duplex(capacity_bytes: usize) -> (Client, ServerEnd) {
    let to_server = Rc::new(RefCell::new(Pipe { capacity_bytes: usize::MAX, ..Pipe::default() }));
    let to_client = Rc::new(RefCell::new(Pipe { capacity_bytes, ..Pipe::default() }));
    let client =
        Client { output: Rc::clone(&to_server), input: Rc::clone(&to_client), received: BytesMut::new() };
    (client, ServerEnd { input: to_server, output: to_client })
}

impl Stream for ServerEnd {
    async fn read(&mut self, mut buf: BytesMut) -> (std::io::Result<usize>, BytesMut) {
        let room = buf.capacity() - buf.len();
        assert!(room > 0, "a read needs room");
        let piece = poll_fn(|cx| {
            let mut pipe = self.input.borrow_mut();
            if pipe.bytes.is_empty() && !pipe.closed {
                pipe.reader = Some(cx.waker().clone());
                return Poll::Pending;
            }
            let len = pipe.bytes.len().min(room);
            Poll::Ready(pipe.bytes.split_to(len))
        })
        .await;
        buf.extend_from_slice(&piece);
        (Ok(piece.len()), buf)
    }

    async fn write_all(&mut self, parts: Vec<Bytes>) -> std::io::Result<()> {
        for mut part in parts {
            while part.has_remaining() {
                poll_fn(|cx| {
                    let mut pipe = self.output.borrow_mut();
                    if pipe.closed {
                        return Poll::Ready(Err(std::io::ErrorKind::BrokenPipe.into()));
                    }
                    let room = pipe.capacity_bytes.saturating_sub(pipe.bytes.len()).min(part.len());
                    if room == 0 {
                        pipe.writer = Some(cx.waker().clone());
                        return Poll::Pending;
                    }
                    pipe.bytes.extend_from_slice(&part.split_to(room));
                    pipe.wake();
                    Poll::Ready(std::io::Result::Ok(()))
                })
                .await?;
            }
        }
        Ok(())
    }

    async fn shutdown(&mut self) -> std::io::Result<()> {
        self.close();
        Ok(())
    }
}

impl ServerEnd {
    fn close(&self) {
        let mut pipe = self.output.borrow_mut();
        pipe.closed = true;
        pipe.wake();
    }
}

impl Drop for ServerEnd {
    fn drop(&mut self) {
        self.close();
    }
}

/// A response as the client saw it.
#[derive(Debug)]
pub(crate) struct Seen {
    pub(crate) status: u16,
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) body: Vec<u8>,
}

impl Seen {
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(field, _)| field.eq_ignore_ascii_case(name)).map(|(_, v)| v.as_str())
    }

    pub(crate) fn text(&self) -> &str {
        std::str::from_utf8(&self.body).unwrap()
    }

    /// The error code of an XML body.
    pub(crate) fn code(&self) -> &str {
        let text = self.text();
        let start = text.find("<Code>").map_or(0, |at| at + 6);
        &text[start..text.find("</Code>").unwrap_or(start)]
    }
}

impl Client {
    pub(crate) fn send(&self, bytes: impl AsRef<[u8]>) {
        let mut pipe = self.output.borrow_mut();
        pipe.bytes.extend_from_slice(bytes.as_ref());
        pipe.wake();
    }

    /// Closes the sending side.
    pub(crate) fn finish(&self) {
        let mut pipe = self.output.borrow_mut();
        pipe.closed = true;
        pipe.wake();
    }

    /// Closes both sides, as a client that vanishes does.
    pub(crate) fn vanish(self) {
        self.finish();
        let mut pipe = self.input.borrow_mut();
        pipe.closed = true;
        pipe.wake();
    }

    /// The next bytes as they come; empty at the end.
    pub(crate) async fn raw(&mut self) -> Vec<u8> {
        if self.received.is_empty() {
            self.fill().await;
        }
        self.received.split().to_vec()
    }

    /// Waits for more bytes; false at the end.
    async fn fill(&mut self) -> bool {
        let piece = poll_fn(|cx| {
            let mut pipe = self.input.borrow_mut();
            if pipe.bytes.is_empty() && !pipe.closed {
                pipe.reader = Some(cx.waker().clone());
                return Poll::Pending;
            }
            let piece = pipe.bytes.split();
            pipe.wake();
            Poll::Ready(piece)
        })
        .await;
        self.received.extend_from_slice(&piece);
        !piece.is_empty()
    }

    /// The next response; `None` if the connection ended instead. A body that is cut short is returned as it is.
    pub(crate) async fn response(&mut self, to_head: bool) -> Option<Seen> {
        let head_len = loop {
            if let Some(at) = self.received.windows(4).position(|window| window == b"\r\n\r\n") {
                break at + 4;
            }
            if !self.fill().await {
                return None;
            }
        };
        let head = self.received.split_to(head_len);
        let head = std::str::from_utf8(&head).unwrap();
        let mut lines = head.trim_end().split("\r\n");
        let status = lines.next().unwrap().split(' ').nth(1).unwrap().parse().unwrap();
        let headers: Vec<(String, String)> = lines
            .map(|line| line.split_once(": ").map(|(n, v)| (n.to_owned(), v.to_owned())).unwrap())
            .collect();
        let mut seen = Seen { status, headers, body: Vec::new() };
        if to_head || status == 100 || status == 204 || status == 304 {
            return Some(seen);
        }
        let want: usize = seen.header("content-length").unwrap().parse().unwrap();
        while self.received.len() < want && self.fill().await {}
        let have = want.min(self.received.len());
        seen.body = self.received.split_to(have).to_vec();
        Some(seen)
    }

    /// Whether the server has ended the connection and nothing is left to read.
    pub(crate) async fn ended(&mut self) -> bool {
        self.received.is_empty() && !self.fill().await
    }
}

/// A listener whose connections the test makes.
#[derive(Clone, Default)]
pub(crate) struct TestListener {
    waiting: Rc<RefCell<(Vec<ServerEnd>, Option<Waker>)>>,
}

impl TestListener {
    pub(crate) fn connect(&self) -> Client {
        let (client, server) = duplex(1 << 20);
        let mut waiting = self.waiting.borrow_mut();
        waiting.0.push(server);
        if let Some(waker) = waiting.1.take() {
            waker.wake();
        }
        client
    }
}

impl Listener for TestListener {
    type Stream = ServerEnd;

    fn accept(&self) -> impl Future<Output = std::io::Result<(ServerEnd, SocketAddr)>> {
        poll_fn(|cx| {
            let mut waiting = self.waiting.borrow_mut();
            if waiting.0.is_empty() {
                waiting.1 = Some(cx.waker().clone());
                return Poll::Pending;
            }
            Poll::Ready(Ok((waiting.0.remove(0), SocketAddr::from(([127, 0, 0, 1], 1)))))
        })
    }

    fn local_address(&self) -> std::io::Result<SocketAddr> {
        Ok(SocketAddr::from(([127, 0, 0, 1], 9000)))
    }
}
