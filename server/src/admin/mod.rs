//! The admin listener: `/healthz`, `/readyz`, `/metrics` for everybody, the signed API below `/v1/`.
//! Invariants: it answers from the moment the process has its ports until it ends; it runs on a thread of its own, so
//! rendering metrics delays no request.
//! Not here: what is measured (beside what it measures).

mod api;
mod identities;
mod inspector;

use std::cell::OnceCell;
use std::rc::Rc;
use std::sync::atomic::{AtomicU8, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use metrics_exporter_prometheus::PrometheusHandle;
use shardstore_reactor::{Executor, Stream};

use crate::auth::{CoreAccounts, Verifier};
use crate::http::{Arrival, Method, RequestBody, RequestHead, RequestIds, Response, Service};

pub use api::{AdminApi, ROUTES, Route};
pub use identities::{
    Identities, IdentityError, IdentityHandle, IdentityParts, IdentityRequest, NewKey, ROOT_NAME, ShownKey,
    ShownUser, WantedKey, account_table, identities, opens_access_keys,
};
pub use inspector::{InspectError, InspectedExtent, InspectedShard, Inspection, InspectorHandle, inspector};

/// Where the process is in its life.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    /// Recovering; nothing is served.
    Starting,
    /// Serving.
    Ready,
    /// Finishing what is under way.
    Stopping,
}

/// What is read when somebody asks; called on the admin thread, so it must not wait.
pub trait Live: Send + Sync {
    /// Sets the metrics that nobody counts as they happen.
    fn publish(&self);

    /// Sentences for the operator: missing drives, refused writes.
    fn notes(&self) -> Vec<String>;
}

/// What the probes answer from; shared by all threads.
#[derive(Default)]
pub struct Status {
    phase: AtomicU8,
    live: OnceLock<Box<dyn Live>>,
    api: OnceLock<AdminApi>,
}

impl Status {
    /// Enters a phase.
    pub fn enter(&self, phase: Phase) {
        let value = match phase {
            Phase::Starting => 0,
            Phase::Ready => 1,
            Phase::Stopping => 2,
        };
        self.phase.store(value, Ordering::Release);
    }

    /// The phase now.
    pub fn phase(&self) -> Phase {
        match self.phase.load(Ordering::Acquire) {
            0 => Phase::Starting,
            1 => Phase::Ready,
            _ => Phase::Stopping,
        }
    }

    /// Answers from `live` from now on; there is one for the life of the process.
    pub fn set_live(&self, live: impl Live + 'static) {
        assert!(self.live.set(Box::new(live)).is_ok(), "a process starts once");
    }

    /// Answers signed requests from `api` from now on; there is one for the life of the process.
    pub fn set_api(&self, api: AdminApi) {
        assert!(self.api.set(api).is_ok(), "a process starts once");
    }

    fn publish(&self) {
        if let Some(live) = self.live.get() {
            live.publish();
        }
    }

    fn ready_text(&self) -> (u16, String) {
        let (status, word) = match self.phase() {
            Phase::Starting => (503, "starting"),
            Phase::Ready => (200, "ready"),
            Phase::Stopping => (503, "stopping"),
        };
        let notes = self.live.get().map(|live| live.notes()).unwrap_or_default();
        let notes: String = notes.into_iter().map(|note| note + "\n").collect();
        (status, format!("{word}\n{notes}"))
    }
}

/// Answers the admin listener's requests.
pub struct AdminService<X> {
    status: Arc<Status>,
    metrics: PrometheusHandle,
    executor: X,
    verifier: OnceCell<Verifier<CoreAccounts>>,
}

impl<X: Executor> AdminService<X> {
    /// A service over the process's status and metrics.
    pub fn new(status: Arc<Status>, metrics: PrometheusHandle, executor: X) -> Rc<AdminService<X>> {
        Rc::new(AdminService { status, metrics, executor, verifier: OnceCell::new() })
    }

    fn answer(&self, method: Method, path: &str) -> Response<()> {
        if !matches!(method, Method::Get | Method::Head) {
            return text(405, "only GET and HEAD\n").with_header("Allow", "GET, HEAD");
        }
        match path {
            "/healthz" | "/health" => text(200, "ok\n"),
            "/readyz" => {
                let (status, body) = self.status.ready_text();
                text(status, &body)
            }
            "/metrics" => {
                self.status.publish();
                let body = self.metrics.render();
                Response::new(200).with_bytes("text/plain; version=0.0.4; charset=utf-8", body.into_bytes())
            }
            _ => text(404, "not found: there are /healthz, /readyz, /metrics and, signed, /v1/\n"),
        }
    }
}

fn text(status: u16, body: &str) -> Response<()> {
    Response::new(status).with_bytes("text/plain; charset=utf-8", body.as_bytes().to_vec())
}

impl<E: Executor> Service<E> for AdminService<E> {
    type Source = ();

    async fn serve<S: Stream>(
        &self,
        _ids: &RequestIds,
        head: &RequestHead,
        _body: &mut RequestBody<'_, S, E>,
    ) -> Response<()> {
        if head.raw_path().starts_with("/v1/") {
            let now_ms = self.executor.unix_ms();
            return api::answer(self.status.api.get(), &self.verifier, head, now_ms).await;
        }
        self.answer(head.method(), head.raw_path())
    }

    fn refuse(&self, _ids: &RequestIds, why: Arrival) -> Response<()> {
        match why {
            Arrival::BadHead(error) => text(error.status(), "bad request\n"),
            Arrival::SlowHead => text(408, "request timeout\n"),
            Arrival::TooManyConnections => text(503, "too many connections\n"),
            Arrival::PlainHttp => text(400, "plain HTTP was sent to an HTTPS port\n"),
            Arrival::PayloadFailed => text(500, "internal error\n"),
        }
    }
}

/// How often idle histograms are trimmed.
const UPKEEP_INTERVAL: Duration = Duration::from_secs(5);

/// Trims the histograms for ever.
pub async fn keep_metrics(executor: impl Executor, metrics: PrometheusHandle) {
    loop {
        executor.sleep(UPKEEP_INTERVAL).await;
        metrics.run_upkeep();
    }
}
