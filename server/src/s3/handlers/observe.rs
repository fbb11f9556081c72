//! Metrics and the access log of requests.
//! Invariants: handles are made once; observing a request allocates nothing unless it is logged.
//! Not here: the exporter, log settings.

use std::time::Duration;

use metrics::{Counter, Histogram, counter, histogram};

use crate::http::{BodyFraming, RequestHead, RequestIds, Response};
use crate::s3::route::Operation;

/// The handles of every operation.
pub(super) struct Observer {
    operations: Vec<OperationMetrics>,
}

struct OperationMetrics {
    /// Responses by class, 1xx to 5xx.
    classes: [Counter; 5],
    latency: Histogram,
    sent_bytes: Counter,
    /// By Content-Length; bodies in HTTP chunks do not say.
    received_bytes: Counter,
}

impl Observer {
    pub(super) fn new() -> Observer {
        let operations =
            Operation::ALL.iter().map(|operation| OperationMetrics::new(operation.name())).collect();
        Observer { operations }
    }

    pub(super) fn observe<P>(
        &self,
        operation: Operation,
        ids: &RequestIds,
        head: &RequestHead,
        response: &Response<P>,
        elapsed: Duration,
    ) {
        let status = response.status;
        let sent_bytes = response.payload_bytes();
        let class = usize::from(status / 100).clamp(1, 5) - 1;
        if let Some(metrics) = self.operations.get(operation.index()) {
            metrics.classes[class].increment(1);
            metrics.latency.record(elapsed.as_secs_f64());
            metrics.sent_bytes.increment(sent_bytes);
            if let BodyFraming::Length(len_bytes) = head.framing() {
                metrics.received_bytes.increment(len_bytes);
            }
        }
        if tracing::enabled!(target: "access", tracing::Level::INFO) {
            tracing::info!(
                target: "access",
                request_id = ids.request_id(),
                peer = %ids.peer,
                operation = operation.name(),
                method = head.method_token(),
                path = head.raw_path(),
                status,
                sent_bytes,
                elapsed_us = elapsed.as_micros(),
            );
        }
    }
}

impl OperationMetrics {
    fn new(operation: &'static str) -> OperationMetrics {
        let class = |class: &'static str| counter!("basalt_s3_requests_total", "operation" => operation, "class" => class);
        OperationMetrics {
            classes: [class("1xx"), class("2xx"), class("3xx"), class("4xx"), class("5xx")],
            latency: histogram!("basalt_s3_first_byte_seconds", "operation" => operation),
            sent_bytes: counter!("basalt_s3_sent_bytes_total", "operation" => operation),
            received_bytes: counter!("basalt_s3_received_bytes_total", "operation" => operation),
        }
    }
}
