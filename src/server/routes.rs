//! The HTTP routes under the server's settings.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{Request, Response};

use super::{Handler, RequestBody};
use crate::config::Config;
use crate::http::{App, HttpLimits, Routes};
use crate::lifecycle::Lifecycle;
use crate::metrics::Metrics;
use crate::model::repository::ModelRepository;

/// All routes over the models of `repository`, within the limits of `config`.
pub fn routes(
    config: &Config,
    repository: &Arc<ModelRepository>,
    lifecycle: &Arc<Lifecycle>,
    metrics: &Metrics,
) -> Routes {
    let limits = &config.limits;
    Routes::new(Arc::new(App {
        repository: Arc::clone(repository),
        metrics: metrics.clone(),
        lifecycle: Arc::clone(lifecycle),
        limits: HttpLimits {
            max_body_bytes: limits.max_body_bytes,
            body_timeout: Duration::from_millis(limits.body_timeout_ms),
            max_inflight_body_bytes: limits.max_inflight_body_bytes,
            max_request_rows: limits.max_request_rows,
            max_deadline: Duration::from_millis(limits.max_deadline_ms),
            default_deadline: limits.default_deadline(),
        },
    }))
}

impl Handler for Routes {
    async fn answer(&self, request: Request<RequestBody>) -> Response<Bytes> {
        Self::answer(self, request).await
    }
}
