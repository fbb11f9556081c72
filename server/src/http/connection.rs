//! One connection: heads in, responses out, until either side ends it.
//! Invariants: requests of a connection are served in order, one at a time; `100 Continue` is sent only when the
//! service first asks for the body, and where it was due and not sent the connection ends; a response whose payload fails part way is never finished; an idle
//! connection holds at most one buffer of [`IDLE_BUFFER_BYTES`].
//! Not here: accepting (`accept`), what requests mean (`Service`).

use std::future::Future;
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use futures_util::future::join;
use shardstore_reactor::{Executor, MonotonicTime, Seal, Stream};

use super::accept::{AcceptCounts, AcceptLimits};
use super::arena::{HttpDate, IdSource, OutputArena, RequestIds};
use super::body::{BodyError, FrameDecoder, Framed};
use super::deadline::{DeadlineSlot, Deadlines, Interrupt};
use super::head::{HeadError, HeadLimits, HeadParse, Method, RequestHead, parse_head};
use super::response::{DecimalText, Payload, PayloadSource, Response, Sent, reason};

/// Room for the first read of a request: signed heads are 500 to 1,500 bytes, and with the connection's own state
/// an idle connection stays within 4 KiB.
const IDLE_BUFFER_BYTES: usize = 2048;
/// Room for a body's reads: large enough that a system call costs little beside the copy of its bytes.
const BODY_BUFFER_BYTES: usize = 128 * 1024;
/// Of an unread body, what is read and dropped to keep the connection.
const DRAIN_BYTES_MAX: u64 = 64 * 1024;
/// Of a refused body, what is read and dropped so that the client reads the answer before the reset.
const LINGER_BYTES_MAX: u64 = 64 << 20;

/// Time limits of connections.
#[derive(Clone, Copy, Debug)]
pub struct ConnectionLimits {
    /// Of a head.
    pub head: HeadLimits,
    /// Without a request: longer than the 90 s after which Go clients drop idle connections themselves.
    pub idle: Duration,
    /// From accepting to the end of a TLS handshake, which is two round trips: a slow link has 5 s for each.
    pub handshake: Duration,
    /// From a head's first byte to its last.
    pub head_time: Duration,
    /// A body must bring `body_progress_bytes` in each such time spent waiting for it.
    pub body_window: Duration,
    /// See `body_window`.
    pub body_progress_bytes: u64,
    /// To send one piece, plus a second for each 16 KiB of it.
    pub write: Duration,
    /// To linger after refusing a body.
    pub linger: Duration,
}

impl Default for ConnectionLimits {
    fn default() -> ConnectionLimits {
        ConnectionLimits {
            head: HeadLimits::default(),
            idle: Duration::from_secs(180),
            handshake: Duration::from_secs(10),
            head_time: Duration::from_secs(20),
            body_window: Duration::from_secs(30),
            body_progress_bytes: 4096,
            write: Duration::from_secs(60),
            linger: Duration::from_secs(10),
        }
    }
}

/// Why the connection layer asks the service for a response of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Arrival {
    /// The head was refused.
    BadHead(HeadError),
    /// The head came too slowly.
    SlowHead,
    /// The core has as many connections as it may.
    TooManyConnections,
    /// Plain HTTP where TLS was due.
    PlainHttp,
    /// The payload failed before its first byte.
    PayloadFailed,
}

/// What answers requests.
pub trait Service<E: Executor>: 'static {
    /// Where streamed payloads come from.
    type Source: PayloadSource + 'static;

    /// Answers one request; the future runs to its end unless the connection fails while its body is read.
    fn serve<S: Stream>(
        &self,
        ids: &RequestIds,
        head: &RequestHead,
        body: &mut RequestBody<'_, S, E>,
    ) -> impl Future<Output = Response<Self::Source>>;

    /// Answers in place of a request that cannot be served.
    fn refuse(&self, ids: &RequestIds, why: Arrival) -> Response<Self::Source>;
}

/// What the connections of one core share.
pub struct CoreContext<E> {
    /// The core.
    pub executor: E,
    /// Limits of its connections.
    pub limits: ConnectionLimits,
    /// Limits of accepting.
    pub accept: AcceptLimits,
    /// Time limits, and the signal to stop.
    pub deadlines: Deadlines,
    pub(super) counts: AcceptCounts,
    ids: IdSource,
    arena: OutputArena,
    date: HttpDate,
}

impl<E: Executor> CoreContext<E> {
    /// For one core.
    pub fn new(executor: E, limits: ConnectionLimits, accept: AcceptLimits) -> Rc<CoreContext<E>> {
        let ids = IdSource::new(|| executor.random_u64());
        Rc::new(CoreContext {
            executor,
            limits,
            accept,
            deadlines: Deadlines::new(),
            counts: AcceptCounts::default(),
            ids,
            arena: OutputArena::default(),
            date: HttpDate::default(),
        })
    }

    /// Ids of a request of `peer`.
    pub fn new_ids(&self, peer: SocketAddr, seal: Option<Seal>) -> RequestIds {
        self.ids.next(peer, seal)
    }

    fn format_head<P>(&self, ids: &RequestIds, response: &Response<P>, ending: Ending) -> Bytes {
        let date = self.date.text(self.executor.unix_ms());
        let extra = response.headers.as_bytes();
        self.arena.format(320 + extra.len(), |out| {
            let mut digits = DecimalText::default();
            out.extend_from_slice(b"HTTP/1.1 ");
            out.extend_from_slice(digits.render(u64::from(response.status)));
            out.extend_from_slice(b" ");
            out.extend_from_slice(reason(response.status).as_bytes());
            out.extend_from_slice(b"\r\nDate: ");
            out.extend_from_slice(&date);
            out.extend_from_slice(b"\r\nServer: Basalt\r\nx-amz-request-id: ");
            out.extend_from_slice(ids.request_id().as_bytes());
            out.extend_from_slice(b"\r\nx-amz-id-2: ");
            out.extend_from_slice(ids.host_id().as_bytes());
            out.extend_from_slice(b"\r\n");
            out.extend_from_slice(extra);
            if let Some(len_bytes) = content_length(response) {
                out.extend_from_slice(b"Content-Length: ");
                out.extend_from_slice(digits.render(len_bytes));
                out.extend_from_slice(b"\r\n");
            }
            match ending {
                Ending::KeepAlive => {}
                Ending::KeepAliveHttp10 => out.extend_from_slice(b"Connection: keep-alive\r\n"),
                Ending::Close => out.extend_from_slice(b"Connection: close\r\n"),
            }
            out.extend_from_slice(b"\r\n");
        })
    }
}

/// What becomes of the connection after a response, as the response says it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Ending {
    KeepAlive,
    /// A client of HTTP/1.0 asked for it and wants to be told.
    KeepAliveHttp10,
    Close,
}

/// 1xx, 204 and 304 have no content and state no length.
fn content_length<P>(response: &Response<P>) -> Option<u64> {
    if response.status < 200 || response.status == 204 || response.status == 304 {
        return None;
    }
    Some(match &response.payload {
        Payload::Empty => 0,
        Payload::Full(parts) => parts.iter().map(|part| part.len() as u64).sum(),
        Payload::Stream { len_bytes, .. } | Payload::HeadOf { len_bytes } => *len_bytes,
    })
}

/// Serves a connection to its end.
pub async fn serve_connection<S: Stream, E: Executor, V: Service<E>>(
    stream: S,
    peer: SocketAddr,
    context: Rc<CoreContext<E>>,
    service: Rc<V>,
) {
    let slot = context.deadlines.slot(&context.executor);
    let mut wire = Wire { stream, buf: BytesMut::new(), slot, context };
    loop {
        let head = match wire.next_head().await {
            Ok(Some(head)) => head,
            Ok(None) => break,
            Err(why) => {
                Box::pin(wire.refuse(peer, &*service, why)).await;
                break;
            }
        };
        // Boxed: an idle connection must not hold the largest state of its largest request.
        match Box::pin(serve_request(&mut wire, peer, &*service, head)).await {
            AfterRequest::Next => {}
            AfterRequest::Close => break,
            AfterRequest::Linger => {
                Box::pin(wire.linger()).await;
                break;
            }
            // Nothing is owed to a peer that must not take what it got for whole.
            AfterRequest::Abort => return,
        }
    }
    // The peer may have gone already; there is nothing to do about it.
    drop(wire.slot.within(wire.context.limits.linger, false, wire.stream.shutdown()).await);
}

/// A connection that is refused before its first request: one response, then the end.
pub(super) async fn refuse_connection<S: Stream, E: Executor, V: Service<E>>(
    stream: S,
    peer: SocketAddr,
    context: Rc<CoreContext<E>>,
    service: Rc<V>,
    why: Arrival,
) {
    let slot = context.deadlines.slot(&context.executor);
    let mut wire = Wire { stream, buf: BytesMut::new(), slot, context };
    wire.refuse(peer, &*service, why).await;
}

enum AfterRequest {
    Next,
    Close,
    Linger,
    Abort,
}

async fn serve_request<S: Stream, E: Executor, V: Service<E>>(
    wire: &mut Wire<S, E>,
    peer: SocketAddr,
    service: &V,
    head: RequestHead,
) -> AfterRequest {
    let ids = wire.context.new_ids(peer, wire.stream.seal());
    let mut body = RequestBody {
        frames: FrameDecoder::new(head.framing()),
        owes_continue: head.expects_continue(),
        failed: false,
        progress: Progress::default(),
        end: BodyEnd::default(),
        wire: &mut *wire,
    };
    let response = service.serve(&ids, &head, &mut body).await;
    let rest = body.rest();
    let RequestBody { frames, progress, .. } = body;
    let is_head = head.method() == Method::Head;
    let keep_alive = head.keep_alive() && !response.close && !wire.context.deadlines.is_stopping();
    let keep_alive = keep_alive && matches!(rest, Rest::None | Rest::Drain);
    let ending = match (keep_alive, head.is_http11()) {
        (true, true) => Ending::KeepAlive,
        (true, false) => Ending::KeepAliveHttp10,
        (false, _) => Ending::Close,
    };
    // The head's bytes go back to the read buffer before a slow client is waited for.
    drop(head);
    if wire.respond(&ids, service, response, ending, is_head).await.is_err() {
        return AfterRequest::Abort;
    }
    match rest {
        Rest::None if keep_alive => AfterRequest::Next,
        Rest::None => AfterRequest::Close,
        Rest::Drain if keep_alive => {
            let (owes_continue, failed, end) = (false, false, BodyEnd::default());
            let mut body = RequestBody { frames, owes_continue, failed, progress, end, wire: &mut *wire };
            if body.drain().await { AfterRequest::Next } else { AfterRequest::Close }
        }
        Rest::Drain | Rest::Refused => AfterRequest::Linger,
    }
}

/// What is left of a body after its request was answered.
enum Rest {
    None,
    /// Little enough to read and drop.
    Drain,
    /// The connection cannot be used again.
    Refused,
}

/// The stream and its read buffer.
struct Wire<S, E> {
    stream: S,
    buf: BytesMut,
    slot: DeadlineSlot,
    context: Rc<CoreContext<E>>,
}

/// The connection failed or was too slow.
struct WireFailed;

impl<S: Stream, E: Executor> Wire<S, E> {
    /// The next head; `None` when the connection ends between requests.
    async fn next_head(&mut self) -> Result<Option<RequestHead>, Arrival> {
        let limits = self.context.limits;
        let mut searched = 0;
        let mut first_byte_ticks = None;
        loop {
            if !self.buf.is_empty() {
                match parse_head(&mut self.buf, searched, &limits.head).map_err(Arrival::BadHead)? {
                    HeadParse::Complete(head) => return Ok(Some(head)),
                    HeadParse::Partial { searched: next } => searched = next,
                }
            }
            let idle = self.buf.is_empty();
            let limit = if idle {
                searched = 0;
                limits.idle
            } else {
                let since = *first_byte_ticks.get_or_insert(self.slot.now_ticks());
                limits.head_time.saturating_sub(self.slot.elapsed(since))
            };
            self.make_room(if idle { IDLE_BUFFER_BYTES } else { limits.head.head_bytes_max });
            match self.read(limit, idle).await {
                Ok(0) => return Ok(None),
                Ok(_) => {}
                Err(Some(Interrupt::Expired)) if !idle => return Err(Arrival::SlowHead),
                Err(_) => return Ok(None),
            }
        }
    }

    /// Leaves an empty buffer of about `want_bytes`, or room for more behind what is in it.
    fn make_room(&mut self, want_bytes: usize) {
        if self.buf.is_empty() && self.buf.capacity() > 2 * want_bytes {
            self.buf = BytesMut::new();
        }
        let have = self.buf.len();
        if self.buf.capacity() == have || (have == 0 && self.buf.capacity() < want_bytes) {
            self.buf.reserve(want_bytes);
        }
    }

    /// Reads once. `Err(None)`: the connection failed.
    async fn read(&mut self, limit: Duration, idle: bool) -> Result<usize, Option<Interrupt>> {
        let buf = std::mem::take(&mut self.buf);
        let (result, buf) = self.slot.within(limit, idle, self.stream.read(buf)).await.map_err(Some)?;
        self.buf = buf;
        result.map_err(|_| None)
    }

    async fn write(&mut self, parts: Vec<Bytes>) -> Result<(), WireFailed> {
        let limit = write_limit(&self.context.limits, &parts);
        match self.slot.within(limit, false, self.stream.write_all(parts)).await {
            Ok(Ok(())) => Ok(()),
            Ok(Err(_)) | Err(_) => Err(WireFailed),
        }
    }

    async fn respond<V: Service<E>>(
        &mut self,
        ids: &RequestIds,
        service: &V,
        response: Response<V::Source>,
        ending: Ending,
        is_head: bool,
    ) -> Result<(), WireFailed> {
        let mut response = response;
        let told = response.after_sent.take();
        let mut sent = Sent { status: response.status, payload_bytes: 0 };
        let result = self.send(ids, service, response, ending, is_head, &mut sent).await;
        if let Some(told) = told {
            told.tell(sent);
        }
        result
    }

    /// Sends a response, counting in `sent`.
    async fn send<V: Service<E>>(
        &mut self,
        ids: &RequestIds,
        service: &V,
        response: Response<V::Source>,
        ending: Ending,
        is_head: bool,
        sent: &mut Sent,
    ) -> Result<(), WireFailed> {
        let head = self.context.format_head(ids, &response, ending);
        match response.payload {
            Payload::Stream { len_bytes, mut source } if !is_head && len_bytes > 0 => {
                match source.next().await {
                    Ok(Some(parts)) => self.stream_payload(head, parts, source, len_bytes, sent).await,
                    Ok(None) | Err(_) => {
                        let response = service.refuse(ids, Arrival::PayloadFailed);
                        *sent = Sent { status: response.status, payload_bytes: response.payload_bytes() };
                        let head = self.context.format_head(ids, &response, Ending::Close);
                        let Payload::Full(mut parts) = response.payload else {
                            return self.write(vec![head]).await;
                        };
                        parts.insert(0, head);
                        self.write(parts).await?;
                        Err(WireFailed)
                    }
                }
            }
            Payload::Full(mut parts) if !is_head => {
                let payload_bytes = sum_len(&parts);
                parts.insert(0, head);
                self.write(parts).await?;
                sent.payload_bytes = payload_bytes;
                Ok(())
            }
            _ => self.write(vec![head]).await,
        }
    }

    /// Sends each piece while the next one is read.
    async fn stream_payload<P: PayloadSource>(
        &mut self,
        head: Bytes,
        mut parts: Vec<Bytes>,
        mut source: P,
        len_bytes: u64,
        sent: &mut Sent,
    ) -> Result<(), WireFailed> {
        let mut left = len_bytes.checked_sub(sum_len(&parts)).ok_or(WireFailed)?;
        let mut under_way_bytes = sum_len(&parts);
        parts.insert(0, head);
        while left > 0 {
            let limit = write_limit(&self.context.limits, &parts);
            let write = self.slot.within(limit, false, self.stream.write_all(parts));
            let (written, next) = join(write, source.next()).await;
            let Ok(Ok(())) = written else { return Err(WireFailed) };
            sent.payload_bytes += under_way_bytes;
            let Ok(Some(next)) = next else { return Err(WireFailed) };
            under_way_bytes = sum_len(&next);
            left = left.checked_sub(sum_len(&next)).ok_or(WireFailed)?;
            parts = next;
        }
        // The source ends, and lets go of what it holds, before the last piece is sent to a slow client.
        drop(source);
        self.write(parts).await?;
        sent.payload_bytes += under_way_bytes;
        Ok(())
    }

    /// Answers in place of a request and ends the connection.
    async fn refuse<V: Service<E>>(&mut self, peer: SocketAddr, service: &V, why: Arrival) {
        let ids = self.context.new_ids(peer, self.stream.seal());
        let response = service.refuse(&ids, why);
        if self.respond(&ids, service, response, Ending::Close, false).await.is_ok() {
            self.linger().await;
        }
    }

    /// Reads and drops what a refused client still sends, so that the answer arrives before a reset does.
    async fn linger(&mut self) {
        let limit = self.context.limits.linger;
        if !matches!(self.slot.within(limit, true, self.stream.shutdown()).await, Ok(Ok(()))) {
            return;
        }
        let mut dropped = 0;
        let since = self.slot.now_ticks();
        while dropped < LINGER_BYTES_MAX {
            self.buf.clear();
            self.make_room(BODY_BUFFER_BYTES);
            let left = limit.saturating_sub(self.slot.elapsed(since));
            match self.read(left, true).await {
                Ok(len) if len > 0 => dropped += len as u64,
                _ => return,
            }
        }
    }
}

fn sum_len(parts: &[Bytes]) -> u64 {
    parts.iter().map(|part| part.len() as u64).sum()
}

fn write_limit(limits: &ConnectionLimits, parts: &[Bytes]) -> Duration {
    limits.write + Duration::from_secs(sum_len(parts) / (16 * 1024))
}

/// Bytes received and time waited since the body last made its minimum progress.
#[derive(Clone, Copy, Debug, Default)]
struct Progress {
    waited: Duration,
    received_bytes: u64,
}

/// The body of the request being served.
pub struct RequestBody<'c, S, E> {
    wire: &'c mut Wire<S, E>,
    frames: FrameDecoder,
    owes_continue: bool,
    failed: bool,
    progress: Progress,
    end: BodyEnd,
}

/// When the end of a body was read: the clock is asked only for who wants to know.
#[derive(Clone, Copy, Debug, Default)]
enum BodyEnd {
    #[default]
    NotAsked,
    Asked,
    At(MonotonicTime),
}

impl<S: Stream, E: Executor> RequestBody<'_, S, E> {
    /// The next bytes of the body as framed by HTTP; `None` at its end. The first call sends `100 Continue` if the
    /// client waits for it.
    ///
    /// # Errors
    /// [`BodyError`]; the connection ends after the response.
    pub async fn next(&mut self) -> Result<Option<Bytes>, BodyError> {
        let result = self.next_frame().await;
        self.failed |= result.is_err();
        result
    }

    /// Asks for the time of the body's end, before it is read.
    pub fn time_end(&mut self) {
        self.end = BodyEnd::Asked;
    }

    /// When its end was read, if that was asked for and happened.
    pub fn ended(&self) -> Option<MonotonicTime> {
        match self.end {
            BodyEnd::At(time) => Some(time),
            BodyEnd::NotAsked | BodyEnd::Asked => None,
        }
    }

    /// Wire bytes still to come, where the framing says.
    pub fn left_bytes(&self) -> Option<u64> {
        self.frames.left_bytes()
    }

    /// The clocks and randomness of this core.
    pub fn executor(&self) -> &E {
        &self.wire.context.executor
    }

    async fn next_frame(&mut self) -> Result<Option<Bytes>, BodyError> {
        if self.failed {
            return Err(BodyError::Disconnected);
        }
        loop {
            match self.frames.decode(&mut self.wire.buf)? {
                Framed::Data(data) => {
                    // The client did not wait: RFC 9110 10.1.1 lets the answer go unsaid.
                    self.owes_continue = false;
                    return Ok(Some(data));
                }
                Framed::End => {
                    // An empty body too is waited for: botocore, which asks for every file, misreads the next answer
                    // of a connection on which its 100 was left out.
                    self.send_continue().await?;
                    if matches!(self.end, BodyEnd::Asked) {
                        self.end = BodyEnd::At(self.executor().now());
                    }
                    return Ok(None);
                }
                Framed::More if self.wire.buf.is_empty() => {
                    self.send_continue().await?;
                    self.fill().await?;
                }
                Framed::More => self.fill().await?,
            }
        }
    }

    async fn send_continue(&mut self) -> Result<(), BodyError> {
        if !std::mem::take(&mut self.owes_continue) {
            return Ok(());
        }
        let line = Bytes::from_static(b"HTTP/1.1 100 Continue\r\n\r\n");
        self.wire.write(vec![line]).await.map_err(|WireFailed| BodyError::Disconnected)
    }

    async fn fill(&mut self) -> Result<(), BodyError> {
        // A short body gets room for itself and, pipelined, the next head.
        let want = self.frames.left_bytes().map_or(BODY_BUFFER_BYTES, |left| {
            usize::try_from(left).unwrap_or(BODY_BUFFER_BYTES).clamp(IDLE_BUFFER_BYTES, BODY_BUFFER_BYTES)
        });
        self.wire.make_room(want);
        let limits = self.wire.context.limits;
        let since = self.wire.slot.now_ticks();
        let limit = limits.body_window.saturating_sub(self.progress.waited);
        match self.wire.read(limit, false).await {
            Ok(0) => Err(BodyError::Incomplete),
            Ok(len) => {
                self.progress.waited += self.wire.slot.elapsed(since);
                self.progress.received_bytes += len as u64;
                if self.progress.received_bytes >= limits.body_progress_bytes {
                    self.progress = Progress::default();
                }
                Ok(())
            }
            Err(Some(Interrupt::Expired)) => Err(BodyError::Timeout),
            Err(_) => Err(BodyError::Disconnected),
        }
    }

    fn rest(&self) -> Rest {
        // Whether a client that waits for 100 sends its body after a final status is not known, and botocore misreads
        // what follows on that connection.
        if self.failed || self.owes_continue {
            return Rest::Refused;
        }
        if self.frames.is_end() {
            return Rest::None;
        }
        match self.frames.left_bytes() {
            Some(left) if left <= DRAIN_BYTES_MAX => Rest::Drain,
            // A chunked body that was read to its last chunk leaves only its end; any other may be endless.
            None | Some(_) => Rest::Refused,
        }
    }

    /// True if the connection can be used again.
    async fn drain(&mut self) -> bool {
        loop {
            match self.next().await {
                Ok(Some(_)) => {}
                Ok(None) => return true,
                Err(_) => return false,
            }
        }
    }
}

#[cfg(test)]
mod tests;
