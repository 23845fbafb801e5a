//! The operators' API, on a listener of its own and never without a key.
//!
//! | request | what it does |
//! |---|---|
//! | `GET /admin/log-level` | says the log's level |
//! | `POST /admin/log-level/LEVEL` | sets it until the process ends |
//! | `POST /admin/drain` | stops the server as SIGTERM does |
//! | `POST /v2/repository/models/NAME/load` | loads a model, or what has changed of it |
//! | `POST /v2/repository/models/NAME/unload` | unloads it until it is loaded again |
//! | `GET`, `POST /v2/repository/index` | as on the clients' listener |
//!
//! The last three are Triton's (`protocol/extension_model_repository.md`), whose clients send
//! parameters with them; what a model is comes from its directory, so none changes anything.
//!
//! Nothing here takes a path, a URL or code.

use std::fmt;
use std::sync::Arc;

use bytes::Bytes;
use http::{Method, Request};

use super::answer::{self, Response};
use super::body::RequestBody;
use super::error::{ApiError, ErrorCode};
use super::exchange::{self, Exchange};
use super::health::expect_get;
use super::path::Segments;
use super::routes::Routes;
use super::state::Server;
use super::{access, v2};
use crate::keys::Keys;
use crate::messages::excerpt;
use crate::metrics::Route;
use crate::model::repository::{IndexEntry, ModelRepository};
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
    server: Arc<Server>,
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
    pub fn new(routes: &Routes, keys: Arc<Watched<Keys>>, controls: Arc<dyn Controls>) -> Self {
        Self {
            server: Arc::clone(&routes.server),
            keys,
            controls,
        }
    }

    /// Answers one request.
    pub async fn answer(&self, request: Request<impl RequestBody>) -> http::Response<Bytes> {
        let (head, body) = request.into_parts();
        let exchange = Exchange::new(head);
        exchange.set_route(Route::Admin);
        let answer = async {
            let answer = self.route(&exchange, body).await;
            answer.unwrap_or_else(ApiError::into_answer)
        };
        exchange::carry(&self.server.app, &exchange, answer).await
    }

    async fn route(
        &self,
        exchange: &Exchange,
        body: impl RequestBody,
    ) -> Result<Response, ApiError> {
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
                    ApiError::invalid(ErrorCode::InvalidLevel, message)
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
            Some(["v2", "repository", "index"] | ["v2", "repository", _, "index"]) => {
                v2::index(&self.server, exchange, body).await
            }
            Some(["v2", "repository", "models", name, "load"]) => {
                expect_post(&head.method)?;
                self.change(name, ModelRepository::load).await
            }
            Some(["v2", "repository", "models", name, "unload"]) => {
                expect_post(&head.method)?;
                self.change(name, ModelRepository::unload).await
            }
            _ => Err(ApiError::unknown_path(&head.uri)),
        }
    }

    /// Loads or unloads a model, and answers with what became of its versions.
    async fn change(
        &self,
        name: &str,
        change: fn(&ModelRepository, &str) -> Option<Vec<IndexEntry>>,
    ) -> Result<Response, ApiError> {
        let repository = Arc::clone(&self.server.app.repository);
        let model = name.to_owned();
        // A load may take long, and the connections' own threads have others to serve.
        let (done, changed) = tokio::sync::oneshot::channel();
        let thread = std::thread::Builder::new().name("admin".into());
        let started = thread.spawn(move || done.send(change(&repository, &model)));
        let failed = |reason: &dyn fmt::Display| {
            tracing::error!(%reason, "a model cannot be changed");
            ApiError::Internal
        };
        started.map_err(|error| failed(&error))?;
        let entries = changed.await.map_err(|error| failed(&error))?;
        match entries {
            // The same words as for a request to it.
            None => Err(self
                .server
                .app
                .repository
                .find(name, None)
                .map_or_else(ApiError::from, |_| ApiError::Internal)),
            Some(entries) => Ok(v2::index_of(&entries)),
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
