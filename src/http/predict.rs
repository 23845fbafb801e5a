//! The way of a predict request, whatever its wire format.

use std::sync::Arc;
use std::time::Duration;

use http::{HeaderMap, Method};

use super::Server;
use super::answer::Response;
use super::body::{self, RequestBody, expect_json};
use super::coding::Coding;
use super::deadline::deadline;
use super::error::ApiError;
use super::exchange::Exchange;
use crate::metrics::{Protocol, Rejection};
use crate::model::{Model, Signature};
use crate::request::{InferError, InferRequest, InferResponse};
use crate::tensor::TensorSpec;

/// The rows of a request, decoded and checked against the model's signature.
#[derive(Debug)]
pub(super) struct Rows {
    /// At least 1.
    pub(super) rows: usize,
    /// One buffer an input, in the signature's order.
    pub(super) inputs: Vec<Vec<f32>>,
    /// How long the client wants to wait, if the body says so.
    pub(super) timeout: Option<Duration>,
}

/// What to do about rows of another size than the model's.
pub(super) fn row_mend(spec: &TensorSpec) -> String {
    match &*spec.row_shape {
        [] => "send one value a row".into(),
        [values] => format!("send {values} values a row"),
        shape => format!("send {} values a row, as {shape:?}", spec.row_elements()),
    }
}

/// The shape of an input as people write it: `[rows, 6]`.
pub(super) fn shape_with_rows(spec: &TensorSpec) -> String {
    let extents = spec.row_shape.iter().map(|extent| format!(", {extent}"));
    format!("[rows{}]", extents.collect::<String>())
}

/// The size up to which reading a body costs less than another connection.
const SMALL_BODY_BYTES: u64 = 64 << 10;

/// The size from which on decoding a body takes so long, 1 ms and more, that the other connections
/// of its thread should not wait for it.
const LARGE_BODY_BYTES: usize = 512 << 10;

/// The number of values from which on writing an answer takes as long.
const LARGE_ANSWER_VALUES: usize = 64 << 10;

/// The longest text of a number with the comma behind it: `-1.1754944e-38,`.
const NUMBER_TEXT_BYTES: usize = 15;

/// The most bytes of rows that can be decoded from a body of so many bytes: numbers of one digit,
/// as far as the model takes them.
fn most_decoded_bytes(signature: &Signature, body_bytes: usize, max_rows: usize) -> usize {
    let row: usize = signature.inputs.iter().map(TensorSpec::row_elements).sum();
    let numbers = (body_bytes / 2).min(row.saturating_mul(max_rows));
    numbers * size_of::<f32>()
}

/// The bytes of so many rows' answer, as numbers and as text, which are there side by side while the
/// one is written from the other.
fn answer_bytes(signature: &Signature, rows: usize) -> usize {
    let outputs = signature.outputs.iter();
    let row: usize = outputs.map(|output| output.spec.row_elements()).sum();
    row.saturating_mul(rows)
        .saturating_mul(size_of::<f32>() + NUMBER_TEXT_BYTES)
}

/// Runs what takes long on a thread where nobody waits for it, anything else here.
async fn beside_others<T: Send + 'static>(
    takes_long: bool,
    work: impl FnOnce() -> T + Send + 'static,
) -> T {
    if !takes_long {
        return work();
    }
    match tokio::task::spawn_blocking(work).await {
        Ok(done) => done,
        Err(failed) => match failed.try_into_panic() {
            Ok(panic) => std::panic::resume_unwind(panic),
            // The process ends, and this request with it.
            Err(_cancelled) => std::future::pending().await,
        },
    }
}

/// One wire format's two directions. The value is what the request says about the answer.
pub(super) trait Format: Sized + Send + 'static {
    const PROTOCOL: Protocol;

    /// What a head says about how its body is laid out; nothing for formats with one layout.
    type Layout: Send + 'static;

    /// Checks that a head may be that of such a body; says how the body is compressed.
    fn coding(headers: &HeaderMap) -> Result<Option<Coding>, ApiError> {
        expect_json(headers)
    }

    /// Reads the layout from a head.
    fn layout(headers: &HeaderMap) -> Result<Self::Layout, ApiError>;

    /// Reads a body.
    fn decode(
        body: &[u8],
        layout: Self::Layout,
        signature: &Signature,
        max_rows: usize,
    ) -> Result<(Self, Rows), ApiError>;

    /// Writes the answer.
    fn encode(
        self,
        model: &Model,
        response: &InferResponse,
    ) -> Result<http::Response<Vec<u8>>, ApiError>;
}

/// Answers a predict request for a model version; `None` is the newest that is ready.
///
/// # Errors
/// All that can go wrong with one.
pub(super) async fn predict<F: Format>(
    server: &Server,
    exchange: &Exchange,
    body: impl RequestBody,
    name: &str,
    version: Option<&str>,
) -> Result<Response, ApiError> {
    let head = &exchange.head;
    if head.method != Method::POST {
        return Err(ApiError::method("POST", &head.method));
    }
    let app = &*server.app;
    let served = app.repository.find(name, version)?;
    exchange.is_served_by(F::PROTOCOL, &served);

    let coding = F::coding(&head.headers)?;
    // Shedding load has to cost less than the load: a large body is not read for it. A small one
    // is, since the connection would have to close otherwise, and the next would cost more.
    let refusal = served.lane.refuse().map(ApiError::Infer);
    if body.size_hint().lower() > SMALL_BODY_BYTES
        && let Some(refusal) = refusal
    {
        return Err(refusal);
    }
    let count = |error: ApiError| {
        if matches!(error, ApiError::BodiesOverBudget) {
            served.metrics.rejected(Rejection::Memory);
        }
        error
    };
    let mut share = server.budget.share();
    let read = body::read(body, coding, &app.limits, &mut share).await;
    let body = read.map_err(count)?;
    if let Some(refusal) = refusal {
        return Err(refusal);
    }
    let layout = F::layout(&head.headers)?;
    let max_rows = app.limits.max_request_rows;
    let signature = &served.model.signature;
    let decoded = most_decoded_bytes(signature, body.len(), max_rows);
    share.set(body.len() + decoded).map_err(count)?;
    let (format, rows) = beside_others(body.len() > LARGE_BODY_BYTES, {
        let served = Arc::clone(&served);
        move || F::decode(&body, layout, &served.model.signature, max_rows)
    })
    .await?;
    // The body is gone, its rows are here until they are answered; and what is computed can be
    // answered.
    let row_bytes = rows.inputs.iter().map(|input| size_of_val(&input[..]));
    let answer_bytes = answer_bytes(&served.model.signature, rows.rows);
    share
        .set(row_bytes.sum::<usize>() + answer_bytes)
        .map_err(count)?;

    let deadline = deadline(&head.headers, rows.timeout, exchange.started, &app.limits)?;
    let response = served
        .lane
        .submit(InferRequest {
            rows: rows.rows,
            inputs: rows.inputs,
            deadline,
        })
        .await
        .map_err(|error| match (error, deadline) {
            (InferError::DeadlineExceeded, Some(deadline)) => ApiError::DeadlineExceeded {
                allowed: deadline.saturating_duration_since(exchange.started),
            },
            (error, _) => error.into(),
        })?;
    let values: usize = response.outputs.iter().map(Vec::len).sum();
    let answer = beside_others(values > LARGE_ANSWER_VALUES, move || {
        format.encode(&served.model, &response)
    })
    .await?;
    Ok(answer.map(|body| share.of_answer(body)))
}
