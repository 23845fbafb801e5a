//! Health checks and the metrics page on a listener of their own: for orchestrators and scrapers,
//! who have no keys and should get no models.

use std::sync::Arc;

use bytes::Bytes;
use http::Request;

use super::answer::Response;
use super::body::RequestBody;
use super::error::ApiError;
use super::exchange::{self, Exchange};
use super::health::{self, expect_get, metrics_page};
use super::path::Segments;
use super::state::App;
use crate::metrics::Route;

/// The routes of this listener.
#[derive(Clone, Debug)]
pub struct OperationsRoutes {
    app: Arc<App>,
}

impl OperationsRoutes {
    /// The health and the metrics of an application.
    #[must_use]
    pub fn new(app: Arc<App>) -> Self {
        Self { app }
    }

    /// Answers one request.
    pub async fn answer(&self, request: Request<impl RequestBody>) -> http::Response<Bytes> {
        let (head, _body) = request.into_parts();
        let exchange = Exchange::new(head);
        let answer = async { self.route(&exchange).unwrap_or_else(ApiError::into_answer) };
        exchange::carry(&self.app, &exchange, answer).await
    }

    fn route(&self, exchange: &Exchange) -> Result<Response, ApiError> {
        let head = &exchange.head;
        let segments = Segments::of(head.uri.path());
        let segments = segments.as_ref().map(Segments::as_strs);
        let answer = match segments.as_deref() {
            Some(["v2", "health", check]) => health::check(&self.app, exchange, check),
            Some(["metrics"]) => {
                exchange.set_route(Route::Metrics);
                Some(expect_get(&head.method).and_then(|()| metrics_page(&self.app)))
            }
            _ => None,
        };
        answer.unwrap_or_else(|| Err(ApiError::unknown_path(&head.uri)))
    }
}
