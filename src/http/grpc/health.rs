//! gRPC's own health checks: of the server, and of each of its services, which are all as it is.
//!
//! Source: `health-checking.md` of gRPC.

use super::answer::{Sender, framed, message};
use super::call::{Call, Streaming};
use super::messages::Messages;
use super::proto::grpc::health::v1::health_check_response::ServingStatus;
use super::proto::grpc::health::v1::{HealthCheckRequest, HealthCheckResponse};
use crate::http::answer::Response;
use crate::http::body::RequestBody;
use crate::http::error::ApiError;
use crate::http::{v1, v2};
use crate::lifecycle::Lifecycle;
use crate::messages::excerpt;
use crate::metrics::Route;
use crate::request::InferError;

pub(super) const SERVICE: &str = "grpc.health.v1.Health";

/// Whether the server is ready: `""` names it, as each of its services does.
pub(super) async fn check(
    call: &Call<'_>,
    mut messages: Messages<impl RequestBody>,
) -> Result<Response, ApiError> {
    call.set_route(Route::GrpcHealth);
    let app = &call.server.app;
    let mut share = call.server.budget.whole_share();
    let request: HealthCheckRequest = messages.small(&app.limits, &mut share).await?;
    match is_known(&request.service) {
        true => Ok(message(&response(status(&app.lifecycle)))),
        false => Err(ApiError::UnknownService {
            name: excerpt(&request.service, 80),
        }),
    }
}

/// Says how the server is, now and whenever that changes, until it closes.
pub(super) async fn watch(
    streaming: Streaming,
    mut messages: Messages<impl RequestBody>,
    sender: Sender,
) -> Result<(), Response> {
    let Streaming {
        server, exchange, ..
    } = &streaming;
    exchange.set_route(Route::GrpcHealth);
    let app = &server.app;
    let request: HealthCheckRequest = {
        let mut share = server.budget.whole_share();
        let request = messages.small(&app.limits, &mut share).await;
        request.map_err(ApiError::into_answer)?
    };
    let is_known = is_known(&request.service);
    let mut told = None;
    loop {
        let now = |lifecycle: &Lifecycle| match is_known {
            true => status(lifecycle),
            false => ServingStatus::ServiceUnknown,
        };
        let changed = app.lifecycle.until(|lifecycle| {
            let now = now(lifecycle);
            (told != Some(now) || lifecycle.is_closing()).then_some(now)
        });
        let now = changed.await;
        if told != Some(now) {
            told = Some(now);
            sender.send(framed(&response(now)).into()).await;
        }
        if app.lifecycle.is_closing() {
            return Err(ApiError::Infer(InferError::Closing).into_answer());
        }
    }
}

fn status(lifecycle: &Lifecycle) -> ServingStatus {
    match lifecycle.is_ready() {
        true => ServingStatus::Serving,
        false => ServingStatus::NotServing,
    }
}

fn response(status: ServingStatus) -> HealthCheckResponse {
    HealthCheckResponse {
        status: status.into(),
    }
}

/// Whether a name is the server's or a service's.
fn is_known(service: &str) -> bool {
    matches!(
        service,
        "" | SERVICE | v2::SERVICE | v1::PREDICTION_SERVICE | v1::MODEL_SERVICE
    )
}
