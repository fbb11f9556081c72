//! Letting others run.

use std::future::poll_fn;
use std::task::Poll;

/// Returns after every other ready task of the core had its turn.
pub(crate) async fn yield_now() {
    let mut yielded = false;
    poll_fn(|context| {
        if std::mem::replace(&mut yielded, true) {
            return Poll::Ready(());
        }
        context.waker().wake_by_ref();
        Poll::Pending
    })
    .await;
}
