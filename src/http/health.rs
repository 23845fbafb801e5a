//! Health checks, the metrics page and the root: what balancers, scrapers and people ask first.

use std::sync::Arc;

use axum::Router;
use axum::body::Body;
use axum::extract::{Request, State};
use axum::response::IntoResponse;
use axum::routing::any;
use http::header::CONTENT_TYPE;
use http::{HeaderValue, Method, StatusCode};

use super::answer::{self, Response};
use super::error::ApiError;
use super::exchange::Exchange;
use super::state::{App, Server};
use crate::json::Writer;
use crate::metrics::{CONTENT_TYPE as METRICS_TEXT, Route};

pub(super) fn routes(has_metrics_page: bool) -> Router<Arc<Server>> {
    let routes = Router::new().route("/", any(root));
    if has_metrics_page {
        routes.route("/metrics", any(metrics))
    } else {
        routes
    }
}

/// Refuses all methods but GET, and HEAD, whose answer is the same without its body.
pub(super) fn expect_get(method: &Method) -> Result<(), ApiError> {
    match *method {
        Method::GET | Method::HEAD => Ok(()),
        _ => Err(ApiError::method("GET, HEAD", method)),
    }
}

/// Answers `/v2/health/CHECK`; `None` if there is no such check.
pub(super) fn check(
    app: &App,
    exchange: &Exchange,
    check: &str,
) -> Option<Result<Response, ApiError>> {
    let answer = match check {
        "live" => live,
        "ready" => ready,
        _ => return None,
    };
    exchange.set_route(Route::Health);
    Some(expect_get(&exchange.head.method).map(|()| answer(app)))
}

/// What KServe's client reads as the server's sign of life.
async fn root(request: Request) -> Result<impl IntoResponse, ApiError> {
    Exchange::of(&request).set_route(Route::Health);
    expect_get(request.method())?;
    let answer = answer::object(|body| body.key("status").string("alive"));
    Ok(answer.map(Body::from))
}

/// Whether the process does its work: load never makes it fail, only work that no one does. A
/// server that drains is live.
fn live(app: &App) -> Response {
    let is_live = app.lifecycle.is_live();
    let mut body = Writer::default();
    body.object(|body| body.key("live").bool(is_live));
    answer::json(ready_status(is_live), body)
}

/// Whether new requests are welcome, by the status alone: what MLflow's, SageMaker's and Vertex AI's
/// platforms ask.
pub(super) fn bare_ready(app: &App) -> Response {
    let mut answer = Response::default();
    *answer.status_mut() = ready_status(app.lifecycle.is_ready());
    answer
}

/// Whether new requests are welcome.
fn ready(app: &App) -> Response {
    let is_ready = app.lifecycle.is_ready();
    let mut body = Writer::default();
    body.object(|body| body.key("ready").bool(is_ready));
    answer::json(ready_status(is_ready), body)
}

pub(super) fn ready_status(is_ready: bool) -> StatusCode {
    if is_ready {
        StatusCode::OK
    } else {
        StatusCode::SERVICE_UNAVAILABLE
    }
}

async fn metrics(
    State(server): State<Arc<Server>>,
    request: Request,
) -> Result<impl IntoResponse, ApiError> {
    Exchange::of(&request).set_route(Route::Metrics);
    expect_get(request.method())?;
    metrics_page(&server.app).map(|page| page.map(Body::from))
}

/// All series, in Prometheus' text format.
pub(super) fn metrics_page(app: &App) -> Result<Response, ApiError> {
    let page = app.metrics.render().map_err(|error| {
        tracing::error!(%error, "the metrics page cannot be written");
        ApiError::Internal
    })?;
    let mut response = Response::new(page.into());
    let media_type = HeaderValue::from_static(METRICS_TEXT);
    response.headers_mut().insert(CONTENT_TYPE, media_type);
    Ok(response)
}
