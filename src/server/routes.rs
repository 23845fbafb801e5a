//! The HTTP routes under the server's settings.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{Request, Response};

use super::{Handler, RequestBody};
use crate::config::{Config, memory_budget};
use crate::http::{AdminRoutes, App, HttpLimits, Naming, OperationsRoutes, Routes, VertexRoutes};
use crate::keys::Keys;
use crate::lifecycle::Lifecycle;
use crate::metrics::{Metrics, WatchedFile};
use crate::model::repository::ModelRepository;
use crate::watched::Watched;

/// All routes over the models of `repository`, within the limits of `config`, for those with one of
/// `keys` if there are any.
pub fn routes(
    config: &Config,
    repository: &Arc<ModelRepository>,
    lifecycle: &Arc<Lifecycle>,
    metrics: &Metrics,
    keys: Option<Arc<Watched<Keys>>>,
) -> Routes {
    let limits = &config.limits;
    Routes::new(Arc::new(App {
        repository: Arc::clone(repository),
        metrics: metrics.clone(),
        lifecycle: Arc::clone(lifecycle),
        limits: HttpLimits {
            max_body_bytes: limits.max_body_bytes,
            body_timeout: Duration::from_millis(limits.body_timeout_ms),
            max_inflight_body_bytes: limits.inflight_bytes(memory_budget()),
            max_request_rows: limits.max_request_rows,
            max_deadline: Duration::from_millis(limits.max_deadline_ms),
            default_deadline: limits.default_deadline(),
        },
        keys,
        naming: Naming {
            default_model: config.models.default_model.clone(),
            labels: config.models.labels.clone(),
            vertex: VertexRoutes {
                health: config.vertex.health_route.clone(),
                predict: config.vertex.predict_route.clone(),
            },
        },
        has_metrics_page: config.operations.bind.is_none(),
    }))
}

/// The most bytes of a file of keys: the most keys, each as long as it may be, with its name.
const MAX_KEYS_BYTES: u64 = 1 << 20;

/// The keys of a file, read again when it changes.
///
/// # Errors
/// What is wrong with the file.
pub fn keys(
    label: WatchedFile,
    setting: &'static str,
    file: &Path,
    metrics: &Metrics,
) -> Result<Arc<Watched<Keys>>, String> {
    let counters = metrics.clone();
    let read = move |files: &[PathBuf]| {
        let file = &files[0];
        let text = match fs::metadata(file) {
            Ok(metadata) if metadata.len() > MAX_KEYS_BYTES => Err(format!(
                "{} bytes; expected at most {MAX_KEYS_BYTES}",
                metadata.len()
            )),
            _ => fs::read_to_string(file).map_err(|error| error.to_string()),
        };
        text.and_then(|text| Keys::parse(&text, |name| counters.requests_by_key(name)))
            .map_err(|reason| format!("{setting}: {}: {reason}", file.display()))
    };
    Watched::start(label, vec![file.to_owned()], read, metrics)
}

impl Handler for AdminRoutes {
    async fn answer(&self, request: Request<RequestBody>) -> Response<Bytes> {
        Self::answer(self, request).await
    }
}

impl Handler for OperationsRoutes {
    async fn answer(&self, request: Request<RequestBody>) -> Response<Bytes> {
        Self::answer(self, request).await
    }
}

#[cfg(feature = "grpc")]
impl super::StreamHandler for crate::http::GrpcRoutes {
    type Body = crate::http::GrpcBody;

    async fn answer(&self, request: Request<super::StreamedBody>) -> Response<Self::Body> {
        Self::answer(self, request).await
    }
}

impl Handler for Routes {
    async fn answer(&self, request: Request<RequestBody>) -> Response<Bytes> {
        Self::answer(self, request).await
    }
}
