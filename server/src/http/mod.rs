//! The server side of HTTP/1.1, over the reactor's `Stream`, `Listener` and `Executor`.
//! Invariants: request bytes never panic; a body is framed by exactly one rule of RFC 9112; what is streamed is
//! never buffered whole.
//! Not here: what a request means (`s3`), who sent it (`auth`), sockets (`reactor`).

mod accept;
mod arena;
mod body;
mod connection;
mod deadline;
mod head;
mod response;
#[cfg(test)]
pub(crate) mod test_wire;
mod tls;
mod transport;

pub use accept::{AcceptLimits, serve_listener};
pub(crate) use arena::format_http_date;
pub use arena::{HttpDate, OutputArena, RequestIds};
pub use body::{AwsChunkedDecoder, BodyError, ChunkCheck, ChunkMismatch, FrameDecoder, Framed, Trailers};
pub use connection::{Arrival, ConnectionLimits, CoreContext, RequestBody, Service, serve_connection};
pub use deadline::{Deadlines, Interrupt};
pub use head::{BodyFraming, HeadError, HeadLimits, HeadParse, Method, RequestHead, parse_head};
pub use response::{AfterSent, HeaderText, Payload, PayloadSource, Response, Sent, StreamFailed};
pub(crate) use response::{DecimalText, is_token, reason};
pub use tls::TlsAcceptor;
pub use transport::Protection;
