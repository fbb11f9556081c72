//! The accept loop of one core.
//! Invariants: a core has at most `connections_max` connections and a few more being told so, `handshakes_max` of them
//! in a TLS handshake; an error of one accept does not end the loop; after the stop signal nothing is accepted and what
//! is in flight finishes.
//! Not here: the connection (`connection`), what it runs over (`transport`).

use std::cell::{Cell, RefCell};
use std::future::poll_fn;
use std::net::SocketAddr;
use std::rc::Rc;
use std::task::{Poll, Waker};
use std::time::Duration;

use futures_util::future::{Either, select};
use shardstore_reactor::{Executor, Listener, Stream};

use super::connection::{Arrival, CoreContext, Service, refuse_connection, serve_connection};
use super::transport::{Opened, Protection, count_handshake};

/// Limits of accepting.
#[derive(Clone, Copy, Debug)]
pub struct AcceptLimits {
    /// Connections of a core: at 4 KiB when idle 10,000 are 40 MiB; busy ones are bounded by admission.
    pub connections_max: usize,
    /// Connections being refused at once; past them a connection is dropped without a word.
    pub refusals_max: usize,
    /// TLS handshakes at once, each about half a millisecond of the core and 20 KiB: half a second of work is far from
    /// the deadline of a handshake. Past them a connection is dropped without a word.
    pub handshakes_max: usize,
}

impl Default for AcceptLimits {
    fn default() -> AcceptLimits {
        AcceptLimits { connections_max: 10_000, refusals_max: 64, handshakes_max: 1_000 }
    }
}

/// After a failed accept, most often for lack of file descriptors.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// Accepts until `context.deadlines.stop()`, then returns once every connection has ended.
pub async fn serve_listener<L: Listener, E: Executor, V: Service<E>>(
    listener: L,
    protection: Protection,
    context: Rc<CoreContext<E>>,
    service: Rc<V>,
) {
    let AcceptCounts { live, refusing, shaking } = &context.counts;
    while !context.deadlines.is_stopping() {
        let accept = std::pin::pin!(listener.accept());
        let stopped = std::pin::pin!(context.deadlines.stopped());
        let (stream, peer) = match select(accept, stopped).await {
            Either::Right(((), _)) => break,
            Either::Left((Ok(accepted), _)) => accepted,
            Either::Left((Err(error), _)) => {
                tracing::warn!(%error, "accepting a connection failed");
                context.executor.sleep(ACCEPT_PAUSE).await;
                continue;
            }
        };
        if protection.is_tls() && shaking.count() >= context.accept.handshakes_max {
            count_handshake("too_many");
            continue;
        }
        let (place, why) = if live.count() < context.accept.connections_max {
            (live.enter(), None)
        } else if refusing.count() < context.accept.refusals_max {
            (refusing.enter(), Some(Arrival::TooManyConnections))
        } else {
            continue;
        };
        let places = Places { _live: place, shake: protection.is_tls().then(|| shaking.enter()) };
        let (context_of, service_of) = (Rc::clone(&context), Rc::clone(&service));
        let accepted = serve_accepted(stream, peer, protection.clone(), places, context_of, service_of, why);
        // As it is: a block that awaits it would hold it twice.
        context.executor.spawn(accepted);
    }
    drop(listener);
    live.emptied().await;
}

/// One connection from its handshake to its end; `why` it is refused, if it is.
async fn serve_accepted<S: Stream, E: Executor, V: Service<E>>(
    stream: S,
    peer: SocketAddr,
    protection: Protection,
    mut places: Places,
    context: Rc<CoreContext<E>>,
    service: Rc<V>,
    why: Option<Arrival>,
) {
    // Boxed, as refusals are: they hold far more than the idle connection that is served.
    let opened = Box::pin(protection.open(stream, &context)).await;
    places.shake = None;
    match (opened, why) {
        (Opened::Ready(stream), None) => serve_connection(stream, peer, context, service).await,
        (Opened::Ready(stream), Some(why)) => {
            Box::pin(refuse_connection(stream, peer, context, service, why)).await;
        }
        (Opened::PlainHttp(stream), _) => {
            Box::pin(refuse_connection(stream, peer, context, service, Arrival::PlainHttp)).await;
        }
        (Opened::Gone, _) => {}
    }
}

/// What a connection counts as, until it ends.
struct Places {
    _live: Place,
    /// While it shakes hands.
    shake: Option<Place>,
}

/// The connections of a core, whichever listener they came by.
#[derive(Default)]
pub(super) struct AcceptCounts {
    live: Rc<LiveCount>,
    refusing: Rc<LiveCount>,
    shaking: Rc<LiveCount>,
}

/// How many connections there are, and who waits for there to be none.
#[derive(Default)]
struct LiveCount {
    count: Cell<usize>,
    wakers: RefCell<Vec<Waker>>,
}

impl LiveCount {
    fn count(&self) -> usize {
        self.count.get()
    }

    fn enter(self: &Rc<LiveCount>) -> Place {
        self.count.set(self.count.get() + 1);
        Place { of: Rc::clone(self) }
    }

    async fn emptied(&self) {
        poll_fn(|cx| {
            if self.count.get() == 0 {
                return Poll::Ready(());
            }
            self.wakers.borrow_mut().push(cx.waker().clone());
            Poll::Pending
        })
        .await;
    }
}

struct Place {
    of: Rc<LiveCount>,
}

impl Drop for Place {
    fn drop(&mut self) {
        let count = self.of.count.get();
        assert!(count > 0);
        self.of.count.set(count - 1);
        if count == 1 {
            self.of.wakers.take().into_iter().for_each(Waker::wake);
        }
    }
}
