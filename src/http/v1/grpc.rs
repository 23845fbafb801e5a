//! TensorFlow Serving's services over gRPC.

use super::super::answer::Response;
use super::super::body::RequestBody;
use super::super::error::ApiError;
use super::super::grpc::{Call, Messages};

pub(in crate::http) const PREDICTION_SERVICE: &str = "tensorflow.serving.PredictionService";
pub(in crate::http) const MODEL_SERVICE: &str = "tensorflow.serving.ModelService";

/// Answers a method.
pub(in crate::http) async fn answer(
    call: &Call<'_>,
    _service: &str,
    _method: &str,
    _messages: Messages<impl RequestBody>,
) -> Result<Response, ApiError> {
    Err(call.unknown_method())
}
