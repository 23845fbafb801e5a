//! What the predict methods have in common.

use super::spec::Spec;
use crate::http::answer::Response;
use crate::http::body::RequestBody;
use crate::http::error::ApiError;
use crate::http::grpc::{Call, MessagePart, Messages, receive};
use crate::http::intake::Rows;
use crate::http::predict::{Admitted, MinBytes, Sizes};
use crate::model::{Model, Signature};
use crate::request::InferResponse;

/// A method's two directions. The value is what the request says about the answer.
pub(super) trait Method: Sized + Send + 'static {
    /// The least that a message takes. A number may be a whole one of one byte.
    const MIN_BYTES: MinBytes = MinBytes::PerValue {
        single: 1,
        other: 1,
    };

    /// Reads a request.
    fn decode(
        message: &[u8],
        signature: &Signature,
        max_rows: usize,
    ) -> Result<(Self, Rows), ApiError>;

    /// Writes the answer, with its prefix.
    fn encode(self, model: &Model, response: &InferResponse) -> Vec<u8>;
}

/// Answers a predict method.
pub(super) async fn run<M: Method>(
    call: &Call<'_>,
    messages: Messages<impl RequestBody>,
) -> Result<Response, ApiError> {
    let find = |message: &[u8], part| -> Result<Option<Admitted<'_>>, ApiError> {
        let spec = match part {
            MessagePart::Start => Spec::at_the_start(message),
            MessagePart::All => Some(Spec::of_request(message)?),
        };
        spec.map(|spec| spec.find(call.server, call.exchange))
            .transpose()
    };
    let agree = |start: &[u8], all: &[u8]| Spec::at_the_start(start) == Spec::of_request(all).ok();
    let (admitted, message, share) = receive(call, messages, find, agree).await?;
    let sizes = Sizes::of(&admitted, message.len(), M::MIN_BYTES);
    let decode = move |signature: &Signature, max_rows| M::decode(&message, signature, max_rows);
    let encode = |method: M, model: &Model, response: &InferResponse| {
        Ok(http::Response::new(method.encode(model, response)))
    };
    admitted
        .answer(share, sizes, call.asked, decode, encode)
        .await
}
