//! The clients' routes.

use std::sync::Arc;

use axum::Router;
use axum::body::Body;
use bytes::Bytes;
use http::header::CONTENT_LENGTH;
use http::{Method, Request, Uri};
use http_body_util::BodyExt;
use tower::ServiceExt;

use crate::http::answer::Response;
use crate::http::body::RequestBody;
use crate::http::error::ApiError;
use crate::http::exchange::{self, Exchange};
use crate::http::naming::VertexCall;
use crate::http::path::Segments;
use crate::http::state::{App, Server};
use crate::http::{access, coding, health, invocations, openapi, v1, v2, vertex};

/// Every route of the server.
///
/// A protocol whose paths hold names with escapes and verbs (`NAME:predict`) reads them itself,
/// straight from the segments; axum routes the rest.
#[derive(Clone, Debug)]
pub struct Routes {
    pub(super) server: Arc<Server>,
    others: Router,
}

impl Routes {
    /// What these routes serve.
    #[must_use]
    pub fn app(&self) -> &Arc<App> {
        &self.server.app
    }

    /// Tells the bytes of bodies, rows and answers that are held now. It holds on to nothing else of
    /// the routes.
    pub fn inflight_body_bytes(&self) -> impl Fn() -> usize + Send + Sync + use<> {
        self.server.budget.usage()
    }

    /// The routes of an application.
    #[must_use]
    pub fn new(app: Arc<App>) -> Self {
        let server = Arc::new(Server::new(app));
        let others = Router::new()
            .merge(health::routes(server.app.has_metrics_page))
            .merge(openapi::routes())
            .fallback(async |uri: Uri| ApiError::unknown_path(&uri))
            .with_state(Arc::clone(&server));
        Self { server, others }
    }

    /// Answers one request. Of its body no more is read than its route wants.
    pub async fn answer(&self, request: Request<impl RequestBody>) -> http::Response<Bytes> {
        let (head, body) = request.into_parts();
        let exchange = Arc::new(Exchange::new(head));
        let answer = async {
            let answer = self.route(&exchange, body).await;
            coding::compressed(&exchange.head.headers, answer, &self.server.budget).await
        };
        exchange::carry(&self.server.app, &exchange, answer).await
    }

    async fn route(&self, exchange: &Arc<Exchange>, body: impl RequestBody) -> Response {
        let server = &*self.server;
        let segments = Segments::of(exchange.head.uri.path());
        let segments = segments.as_ref().map(Segments::as_strs);
        let segments = segments.as_deref();
        let vertex = &server.app.naming.vertex;
        let vertex = vertex.call(&exchange.head.method, exchange.head.uri.path());
        if let Some(keys) = &server.app.keys
            && exchange.head.uri.path() != "/"
            && !matches!(
                segments,
                Some(["v2", "health", "live" | "ready"] | ["ping" | "health"])
            )
            && vertex != Some(VertexCall::Health)
            && let Err(refusal) = access::check(&keys.get(), exchange)
        {
            return refusal.into_answer();
        }
        if let Some(call) = vertex {
            let answer = vertex::answer(server, exchange, body, call).await;
            return answer.unwrap_or_else(ApiError::into_answer);
        }
        let answer = match segments {
            Some(segments @ ["v2", ..]) => v2::answer(server, exchange, body, segments).await,
            // TensorFlow Serving's paths are free in their case.
            Some(segments @ [first, second, ..])
                if first.eq_ignore_ascii_case("v1") && second.eq_ignore_ascii_case("models") =>
            {
                v1::answer(server, exchange, body, segments).await
            }
            Some([segment @ ("invocations" | "ping" | "health" | "version")]) => {
                invocations::answer(server, exchange, body, segment).await
            }
            _ => self.axum(exchange, body).await,
        };
        answer.unwrap_or_else(ApiError::into_answer)
    }

    /// The answer of a route of axum's.
    ///
    /// Axum drops the body of an answer to HEAD and says a length of its own; both are the
    /// connection's business, which would say the length again.
    async fn axum(
        &self,
        exchange: &Arc<Exchange>,
        body: impl RequestBody,
    ) -> Result<Response, ApiError> {
        let mut request = Request::from_parts(exchange.head.clone(), Body::new(body));
        if request.method() == Method::HEAD {
            *request.method_mut() = Method::GET;
        }
        request.extensions_mut().insert(Arc::clone(exchange));
        let Ok(response) = self.others.clone().oneshot(request).await;
        let (mut head, body) = response.into_parts();
        head.headers.remove(CONTENT_LENGTH);
        let body = body.collect().await.map_err(|error| {
            tracing::error!(%error, "an answer breaks off");
            ApiError::Internal
        })?;
        Ok(Response::from_parts(head, body.to_bytes()))
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;
    use std::time::Duration;

    use axum::routing::get;
    use http::Request;

    use super::*;
    use crate::http::budget::Budget;
    use crate::http::limits::HttpLimits;
    use crate::http::naming::Naming;
    use crate::lifecycle::Lifecycle;
    use crate::metrics::{BuildInfo, Metrics};
    use crate::model::repository::{ModelRepository, RepositorySettings};
    use crate::scheduler::{Scheduler, SchedulerSettings};

    fn server() -> Arc<Server> {
        let metrics = Metrics::new(BuildInfo {
            version: "0",
            profile: "test",
            platform: "test",
        });
        let scheduler = Scheduler::start(SchedulerSettings {
            workers: 1,
            max_batch_rows: 1,
            max_batch_time: Duration::from_secs(3600),
            max_scratch_bytes: 64 << 20,
            max_batch_delay: Duration::ZERO,
            max_queued_rows: 1,
            inline_cost: Duration::ZERO,
        })
        .unwrap();
        let models = Path::new(env!("CARGO_MANIFEST_DIR")).join("models");
        let settings = RepositorySettings::all_of(&models);
        let repository = ModelRepository::open(settings, &scheduler, &metrics).unwrap();
        Arc::new(Server {
            app: Arc::new(App {
                repository: Arc::new(repository),
                metrics,
                lifecycle: Arc::new(Lifecycle::new()),
                limits: HttpLimits {
                    max_body_bytes: 100,
                    body_timeout: Duration::from_secs(60),
                    max_inflight_body_bytes: 100,
                    max_request_rows: 1,
                    max_deadline: Duration::from_secs(60),
                    default_deadline: None,
                },
                keys: None,
                naming: Naming::default(),
                has_metrics_page: true,
            }),
            budget: Budget::new(100),
        })
    }

    /// A server whose only route is the test's own.
    fn with_route(server: &Arc<Server>, route: axum::routing::MethodRouter) -> Routes {
        Routes {
            server: Arc::clone(server),
            others: Router::new().route("/", route),
        }
    }

    #[tokio::test]
    async fn a_handler_that_panics_is_answered_with_500() {
        async fn panics() {
            panic!("a bug");
        }
        let server = server();
        let request = Request::get("/").body(Body::empty()).unwrap();
        let response = with_route(&server, get(panics)).answer(request).await;
        assert_eq!(response.status(), 500);
        assert!(response.headers().contains_key("x-request-id"));
        assert_eq!(
            response.into_body(),
            r#"{"error":"a fault of this server; its log has the cause","code":"internal"}"#
        );
        let metrics = &server.app.metrics;
        assert_eq!(metrics.handler_panics_total().get(), 1);
    }

    /// What a server logs at level info about one request.
    async fn logged(routes: &Routes, request: http::request::Builder, body: &str) -> String {
        let (pipe, log) = std::sync::mpsc::channel();
        let subscriber = tracing_subscriber::fmt()
            .json()
            .flatten_event(true)
            .with_writer(move || Lines(pipe.clone()))
            .finish();
        let _guard = tracing::subscriber::set_default(subscriber);
        let request = request.body(Body::from(body.to_owned())).unwrap();
        routes.answer(request).await;
        let lines: Vec<u8> = log.try_iter().flatten().collect();
        String::from_utf8(lines).unwrap()
    }

    /// What a server logs at level info about a body sent to a model.
    async fn logged_predict(body: &str) -> serde_json::Value {
        let routes = Routes::new(Arc::clone(&server().app));
        let log = logged(&routes, Request::post("/v1/models/iris:predict"), body).await;
        serde_json::from_str(&log).unwrap()
    }

    struct Lines(std::sync::mpsc::Sender<Vec<u8>>);

    impl std::io::Write for Lines {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            let _ = self.0.send(bytes.to_vec());
            Ok(bytes.len())
        }

        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }

    #[tokio::test]
    async fn the_log_says_why_a_request_was_refused() {
        let line = logged_predict(r#"{"inputs":{"\u001b[31m":1}}"#).await;
        assert_eq!(line["level"], "INFO");
        assert_eq!(line["status"], 400);
        assert_eq!(line["code"], "unknown_input");
        assert_eq!(line["path"], "/v1/models/iris:predict");
        assert_eq!(
            (&line["place"], &line["offset"]),
            (&"inputs".into(), &11.into())
        );
    }

    #[tokio::test]
    async fn overload_adds_no_lines_to_the_log() {
        let log = async |refusal: fn() -> ApiError| {
            let route = get(async move || refusal());
            logged(&with_route(&server(), route), Request::get("/"), "").await
        };
        assert_eq!(log(|| ApiError::BodiesOverBudget).await, "");
        assert!(
            log(|| ApiError::BodyBroken)
                .await
                .contains("incomplete_body")
        );
    }

    #[tokio::test]
    async fn a_client_that_leaves_is_counted_as_such() {
        let server = server();
        let routes = with_route(&server, get(std::future::pending::<()>));
        let request = Request::get("/").body(Body::empty()).unwrap();
        let mut answer = Box::pin(routes.answer(request));
        let started = std::future::poll_fn(|context| {
            std::task::Poll::Ready(Future::poll(answer.as_mut(), context).is_pending())
        });
        assert!(started.await);
        let metrics = &server.app.metrics;
        drop(answer);
        let page = metrics.render().unwrap();
        let counted = "safeserve_http_requests_total{code=\"499\",route=\"other\"} 1\n";
        assert!(page.contains(counted), "{page}");
    }
}
