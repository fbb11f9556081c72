//! The accept loop of one core.
//! Invariants: a core has at most `connections_max` connections and a few more being told so; an error of one
//! accept does not end the loop; after the stop signal nothing is accepted and what is in flight finishes.
//! Not here: the connection (`connection`).

use std::cell::{Cell, RefCell};
use std::future::poll_fn;
use std::rc::Rc;
use std::task::{Poll, Waker};
use std::time::Duration;

use futures_util::future::{Either, select};
use shardstore_reactor::{Executor, Listener};

use super::connection::{CoreContext, Service, refuse_connection, serve_connection};

/// Limits of accepting.
#[derive(Clone, Copy, Debug)]
pub struct AcceptLimits {
    /// Connections of a core: at 4 KiB when idle 10,000 are 40 MiB; busy ones are bounded by admission.
    pub connections_max: usize,
    /// Connections being refused at once; past them a connection is dropped without a word.
    pub refusals_max: usize,
}

impl Default for AcceptLimits {
    fn default() -> AcceptLimits {
        AcceptLimits { connections_max: 10_000, refusals_max: 64 }
    }
}

/// After a failed accept, most often for lack of file descriptors.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// Accepts until `context.deadlines.stop()`, then returns once every connection has ended.
pub async fn serve_listener<L: Listener, E: Executor, V: Service<E>>(
    listener: L,
    context: Rc<CoreContext<E>>,
    service: Rc<V>,
) {
    let live = Rc::new(LiveCount::default());
    let refusing = Rc::new(LiveCount::default());
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
        if live.count() < context.accept.connections_max {
            let place = live.enter();
            let serve = serve_connection(stream, peer, Rc::clone(&context), Rc::clone(&service));
            context.executor.spawn(async move {
                serve.await;
                drop(place);
            });
        } else if refusing.count() < context.accept.refusals_max {
            let place = refusing.enter();
            let refuse = refuse_connection(stream, peer, Rc::clone(&context), Rc::clone(&service));
            context.executor.spawn(async move {
                refuse.await;
                drop(place);
            });
        }
    }
    drop(listener);
    live.emptied().await;
}

/// How many connections there are, and who waits for there to be none.
#[derive(Default)]
struct LiveCount {
    count: Cell<usize>,
    waker: RefCell<Option<Waker>>,
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
            *self.waker.borrow_mut() = Some(cx.waker().clone());
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
        if count == 1
            && let Some(waker) = self.of.waker.borrow_mut().take()
        {
            waker.wake();
        }
    }
}
