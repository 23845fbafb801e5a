//! TensorFlow Serving's services over gRPC.
//!
//! Source: `tensorflow_serving/apis/*.proto` of TensorFlow Serving.

mod examples;
mod models;
mod predict;
mod score;
mod spec;
mod tensor;

use crate::http::answer::Response;
use crate::http::body::RequestBody;
use crate::http::error::ApiError;
use crate::http::grpc::{Call, Messages, Part, receive, tensorflow};
use crate::http::predict::{Admitted, Least, Rows, Sizes};
use crate::metrics::Route;
use crate::model::{Model, Signature};
use crate::request::InferResponse;
use spec::Spec;
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
            call.is_for(Route::GrpcPredict);
            run::<predict::Predict>(call, messages).await
        }
        (PREDICTION_SERVICE, "Classify") => {
            call.is_for(Route::GrpcClassify);
            run::<score::Classify>(call, messages).await
        }
        (PREDICTION_SERVICE, "Regress") => {
            call.is_for(Route::GrpcRegress);
            run::<score::Regress>(call, messages).await
        }
        (PREDICTION_SERVICE, "GetModelMetadata") => {
            call.is_for(Route::GrpcStatus);
            let request: serving::GetModelMetadataRequest =
                messages.small(limits, &mut share).await?;
            models::metadata(call.server, request)
        }
        (MODEL_SERVICE, "GetModelStatus") => {
            call.is_for(Route::GrpcStatus);
            let request: serving::GetModelStatusRequest =
                messages.small(limits, &mut share).await?;
            models::status(call.server, request)
        }
        _ => Err(call.unknown_method()),
    }
}

/// A method's two directions. The value is what the request says about the answer.
trait Method: Sized + Send + 'static {
    /// What a message has at the least. A number may be a whole one of one byte.
    const LEAST: Least = Least::OfNumber(1);

    /// Reads a request.
    fn decode(
        message: &[u8],
        signature: &Signature,
        max_rows: usize,
    ) -> Result<(Self, Rows), ApiError>;

    /// Writes the answer, with its prefix.
    fn encode(self, model: &Model, response: &InferResponse) -> Vec<u8>;
}

async fn run<M: Method>(
    call: &Call<'_>,
    messages: Messages<impl RequestBody>,
) -> Result<Response, ApiError> {
    let find = |message: &[u8], part| -> Result<Option<Admitted<'_>>, ApiError> {
        let spec = match part {
            Part::Start => Spec::at_the_start(message),
            Part::All => Some(Spec::of_request(message)?),
        };
        spec.map(|spec| spec.find(call.server, call.exchange))
            .transpose()
    };
    let agree = |start: &[u8], all: &[u8]| Spec::at_the_start(start) == Spec::of_request(all).ok();
    let (admitted, message, share) = receive(call, messages, find, agree).await?;
    let sizes = Sizes::of(&admitted, message.len(), M::LEAST);
    let decode = move |signature: &Signature, max_rows| M::decode(&message, signature, max_rows);
    let encode = |method: M, model: &Model, response: &InferResponse| {
        Ok(http::Response::new(method.encode(model, response)))
    };
    admitted
        .answer(share, sizes, call.asked, decode, encode)
        .await
}

/// What answers say of the model that answered.
fn model_spec(model: &Model) -> serving::ModelSpec {
    serving::ModelSpec {
        name: model.name.clone(),
        signature_name: super::SIGNATURE_NAME.to_owned(),
        version_choice: Some(serving::model_spec::VersionChoice::Version(
            i64::try_from(model.version).unwrap_or(i64::MAX),
        )),
    }
}
