//! The operators' API, on a listener of its own and never without a key.
//!
//! | request | what it does |
//! |---|---|
//! | `GET /admin/log-level` | says the log's level |
//! | `POST /admin/log-level/LEVEL` | sets it until the process ends |
//! | `POST /admin/drain` | stops the server as SIGTERM does |
//!
//! Nothing here takes a path, a URL or code.

use std::fmt;
use std::sync::Arc;

use bytes::Bytes;
use http::{Method, Request};

use super::access;
use super::answer::{self, Response};
use super::body::RequestBody;
use super::error::ApiError;
use super::exchange::{self, Exchange};
use super::health::expect_get;
use super::json::excerpt;
use super::path::Segments;
use crate::keys::Keys;
use crate::metrics::{Metrics, Route};
use crate::watched::Watched;

/// What operators may do to the process.
pub trait Controls: Send + Sync {
    /// The least severe messages that are logged.
    fn log_level(&self) -> &'static str;

    /// Sets it.
    ///
    /// # Errors
    /// The levels that there are, if this is none.
    fn set_log_level(&self, level: &str) -> Result<(), String>;

    /// Stops the server as SIGTERM does.
    fn drain(&self);
}

/// The routes of this listener.
#[derive(Clone)]
pub struct AdminRoutes {
    metrics: Metrics,
    keys: Arc<Watched<Keys>>,
    controls: Arc<dyn Controls>,
}

impl fmt::Debug for AdminRoutes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AdminRoutes").finish_non_exhaustive()
    }
}

impl AdminRoutes {
    /// The operators' API for those with one of `keys`.
    #[must_use]
    pub fn new(metrics: Metrics, keys: Arc<Watched<Keys>>, controls: Arc<dyn Controls>) -> Self {
        Self {
            metrics,
            keys,
            controls,
        }
    }

    /// Answers one request.
    pub async fn answer(&self, request: Request<impl RequestBody>) -> http::Response<Bytes> {
        let (head, _body) = request.into_parts();
        let exchange = Exchange::new(head);
        exchange.is_for(Route::Admin);
        let answer = async { self.route(&exchange).unwrap_or_else(ApiError::into_answer) };
        exchange::carry(&self.metrics, &exchange, answer).await
    }

    fn route(&self, exchange: &Exchange) -> Result<Response, ApiError> {
        // Before anything else: who has no key learns nothing, not even which paths there are.
        access::check(&self.keys.get(), exchange)?;
        let head = &exchange.head;
        let segments = Segments::of(head.uri.path());
        let segments = segments.as_ref().map(Segments::as_strs);
        match segments.as_deref() {
            Some(["admin", "log-level"]) => {
                expect_get(&head.method)?;
                Ok(self.log_level())
            }
            Some(["admin", "log-level", level]) => {
                expect_post(&head.method)?;
                self.controls.set_log_level(level).map_err(|levels| {
                    let level = excerpt(level, 40);
                    let message = format!("expected one of {levels}, got {level}");
                    ApiError::invalid("invalid_level", message)
                })?;
                let level = self.controls.log_level();
                tracing::info!(level, "the log's level was set");
                Ok(self.log_level())
            }
            Some(["admin", "drain"]) => {
                expect_post(&head.method)?;
                tracing::info!("asked to drain");
                self.controls.drain();
                Ok(answer::object(|body| body.key("draining").bool(true)))
            }
            _ => Err(ApiError::unknown_path(&head.uri)),
        }
    }

    fn log_level(&self) -> Response {
        answer::object(|body| body.key("level").string(self.controls.log_level()))
    }
}

fn expect_post(method: &Method) -> Result<(), ApiError> {
    match *method {
        Method::POST => Ok(()),
        _ => Err(ApiError::method("POST", method)),
    }
}
