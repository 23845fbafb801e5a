//! TensorFlow Serving's services over gRPC.
//!
//! Source: `tensorflow_serving/apis/*.proto` of TensorFlow Serving.

mod examples;
mod method;
mod models;
mod predict;
mod score;
mod spec;
mod tensor;

use crate::http::answer::Response;
use crate::http::body::RequestBody;
use crate::http::error::ApiError;
use crate::http::grpc::{Call, Messages, tensorflow};
use crate::metrics::Route;
use method::run;
use tensorflow::serving;

pub(in crate::http) const PREDICTION_SERVICE: &str = "tensorflow.serving.PredictionService";
pub(in crate::http) const MODEL_SERVICE: &str = "tensorflow.serving.ModelService";

/// Answers a method.
pub(in crate::http) async fn answer(
    call: &Call<'_>,
    service: &str,
    method: &str,
    mut messages: Messages<impl RequestBody>,
) -> Result<Response, ApiError> {
    let limits = &call.server.app.limits;
    let mut share = call.server.budget.whole_share();
    match (service, method) {
        (PREDICTION_SERVICE, "Predict") => {
            call.set_route(Route::GrpcPredict);
            run::<predict::Predict>(call, messages).await
        }
        (PREDICTION_SERVICE, "Classify") => {
            call.set_route(Route::GrpcClassify);
            run::<score::Classify>(call, messages).await
        }
        (PREDICTION_SERVICE, "Regress") => {
            call.set_route(Route::GrpcRegress);
            run::<score::Regress>(call, messages).await
        }
        (PREDICTION_SERVICE, "GetModelMetadata") => {
            call.set_route(Route::GrpcStatus);
            let request: serving::GetModelMetadataRequest =
                messages.small(limits, &mut share).await?;
            models::metadata(call.server, request)
        }
        (MODEL_SERVICE, "GetModelStatus") => {
            call.set_route(Route::GrpcStatus);
            let request: serving::GetModelStatusRequest =
                messages.small(limits, &mut share).await?;
            models::status(call.server, request)
        }
        _ => Err(call.unknown_method()),
    }
}
