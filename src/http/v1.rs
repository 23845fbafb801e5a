//! TensorFlow Serving's REST API, version 1, with the keys that KServe's and OpenAI's clients
//! read on the same paths.
//!
//! Sources: `http_rest_api_handler.cc` and `json_tensor.cc` of TensorFlow Serving, KServe's
//! protocol V1.

mod examples;
#[cfg(feature = "grpc")]
mod grpc;
mod predict;
mod score;
mod signature;
mod status;
mod table;
mod target;

use http::Method;

#[cfg(feature = "grpc")]
pub(super) use grpc::{MODEL_SERVICE, PREDICTION_SERVICE, answer as grpc};

use super::answer::Response;
use super::body::RequestBody;
use super::error::ApiError;
use super::exchange::Exchange;
use super::health::expect_get;
use super::media::{self, BodyForm};
use super::predict::predict;
use super::state::Server;
use crate::metrics::Route;
use target::{Target, TargetCall, version_of};

/// Answers what is below `/v1/models`.
pub(super) async fn answer(
    server: &Server,
    exchange: &Exchange,
    body: impl RequestBody,
    segments: &[&str],
) -> Result<Response, ApiError> {
    let method = &exchange.head.method;
    if segments.len() == 2 {
        exchange.set_route(Route::V1Models);
        expect_get(method)?;
        return Ok(status::models(server));
    }
    let target = Target::parse(&segments[2..]);
    let target = target.ok_or_else(|| ApiError::unknown_path(&exchange.head.uri))?;
    let Target { name, version, .. } = target;
    exchange.set_route(match target.call {
        TargetCall::Status => Route::V1Model,
        TargetCall::Metadata => Route::V1Metadata,
        TargetCall::Predict => Route::V1Predict,
        TargetCall::Classify => Route::V1Classify,
        TargetCall::Regress => Route::V1Regress,
        TargetCall::Explain => Route::V1Explain,
    });
    let labelled;
    let version = match target.label {
        None => version,
        Some(label) => {
            labelled = version_of(server, name, label)?;
            Some(&*labelled)
        }
    };
    match target.call {
        TargetCall::Status => {
            expect_get(method)?;
            status::status(server, name, version)
        }
        TargetCall::Metadata => {
            expect_get(method)?;
            status::metadata(server, name, version)
        }
        TargetCall::Explain if *method != Method::POST => Err(ApiError::method("POST", method)),
        TargetCall::Explain => {
            server.app.repository.find(name, version)?;
            Err(ApiError::NotServed {
                message: "explanations are not served, only what models predict; ask with :predict",
            })
        }
        TargetCall::Predict => match media::body_form(&exchange.head.headers) {
            BodyForm::Json => {
                predict::<predict::Predict>(server, exchange, body, name, version).await
            }
            _ => predict::<table::Table>(server, exchange, body, name, version).await,
        },
        TargetCall::Classify => {
            predict::<score::Classify>(server, exchange, body, name, version).await
        }
        TargetCall::Regress => {
            predict::<score::Regress>(server, exchange, body, name, version).await
        }
    }
}
