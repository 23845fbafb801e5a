//! `ModelInfer`, and the same in a stream.

use bytes::Bytes;

use super::decode::decode;
use super::encode::Place;
use super::target::Target;
use crate::http::answer::Response;
use crate::http::body::RequestBody;
use crate::http::budget::Share;
use crate::http::error::{ApiError, Refusal};
use crate::http::exchange;
use crate::http::grpc::{
    Call, Fields, MessagePart, Messages, Sender, Streaming, framed, inference, receive,
    until_closing,
};
use crate::http::predict::{Admitted, MinBytes, Sizes};
use crate::metrics::Route;
use crate::request::InferError;

/// The least that a message takes: a half, or an integer of one byte.
const MIN_BYTES: MinBytes = MinBytes::PerValue {
    single: 2,
    other: 1,
};

/// Answers `ModelInfer`.
pub(super) async fn answer(
    call: &Call<'_>,
    messages: Messages<impl RequestBody>,
) -> Result<Response, ApiError> {
    let find = |message: &[u8], part| {
        let target = match part {
            MessagePart::Start => Target::at_the_start(message),
            MessagePart::All => Some(Target::of(message)?),
        };
        let found = target.map(|target| target.find(call.server, call.exchange));
        found.transpose()
    };
    let agree = |start: &[u8], all: &[u8]| Target::at_the_start(start) == Target::of(all).ok();
    let (admitted, message, share) = receive(call, messages, find, agree).await?;
    infer(call, admitted, message, share, Place::Alone).await
}

async fn infer(
    call: &Call<'_>,
    admitted: Admitted<'_>,
    message: Bytes,
    share: Share<'_>,
    place: Place,
) -> Result<Response, ApiError> {
    let sizes = Sizes::of(&admitted, message.len(), MIN_BYTES);
    admitted
        .answer(
            share,
            sizes,
            call.asked,
            move |signature, max_rows| decode(&message, signature, max_rows),
            move |request, model, response| request.encode(model, response, place),
        )
        .await
}

/// Answers `ModelStreamInfer`: message after message, each a request of its own, in their order. One
/// that is refused is answered with its reason, and the next is read.
///
/// # Errors
/// What ends the stream: a message that cannot be read to its end.
pub(in crate::http) async fn stream(
    streaming: Streaming,
    mut messages: Messages<impl RequestBody>,
    sender: Sender,
) -> Result<(), Response> {
    let server = &*streaming.server;
    let app = &server.app;
    loop {
        let begun = match until_closing(server, messages.begin(&app.limits)).await {
            None => return Err(ApiError::Infer(InferError::Closing).into_answer()),
            Some(Ok(None)) => return Ok(()),
            Some(Ok(Some(begun))) => begun,
            Some(Err(error)) => return Err(error.into_answer()),
        };
        let exchange = streaming.next_exchange();
        exchange.set_route(Route::GrpcStreamInfer);
        let mut id = String::new();
        let mut is_read = false;
        let answered = async {
            let mut share = server.budget.whole_share();
            let message = messages.finish(begun, &app.limits, &mut share).await;
            // What came of the next ones waits meanwhile.
            let left = messages.left();
            let mut rest = server.budget.whole_share();
            let answer = async {
                let message = message?;
                rest.set(left)?;
                is_read = true;
                id = id_of(&message).to_owned();
                let call = Call {
                    server,
                    exchange: &exchange,
                    asked: streaming.asked(),
                };
                let mut admitted = Target::of(&message)?.find(server, &exchange)?;
                admitted.refuse()?;
                infer(&call, admitted, message, share, Place::InStream).await
            };
            answer.await.unwrap_or_else(ApiError::into_answer)
        };
        let answer = exchange::carry(app, &exchange, answered).await;
        match answer.extensions().get::<Refusal>() {
            None => sender.send(answer.into_body()).await,
            Some(_) if !is_read => return Err(answer),
            Some(refusal) => {
                let response = inference::ModelStreamInferResponse {
                    error_message: refusal.client_message().to_owned(),
                    // So that clients know whose it is.
                    infer_response: Some(inference::ModelInferResponse {
                        id,
                        ..Default::default()
                    }),
                };
                sender.send(framed(&response).into()).await;
            }
        }
    }
}

/// The id of a request, if it can be read.
fn id_of(message: &[u8]) -> &str {
    let mut fields = Fields::of(message);
    while let Ok(Some((number, value))) = fields.next() {
        if number == 3 {
            return value.text().unwrap_or_default();
        }
    }
    ""
}
