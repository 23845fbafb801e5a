//! The way of a predict request, whatever its wire format.

use std::time::Duration;

use axum::body::{Body, HttpBody as _};
use axum::response::Response;
use http::{Method, StatusCode};

use super::Server;
use super::answer;
use super::body::expect_json;
use super::deadline::deadline;
use super::error::ApiError;
use super::exchange::Exchange;
use super::json::Writer;
use crate::metrics::Protocol;
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

/// One wire format's two directions. The value is what the request says about the answer.
pub(super) trait Format: Sized {
    const PROTOCOL: Protocol;

    /// Reads a body.
    fn decode(
        body: &[u8],
        signature: &Signature,
        max_rows: usize,
    ) -> Result<(Self, Rows), ApiError>;

    /// Writes the answer.
    fn encode(self, model: &Model, response: &InferResponse) -> Result<Writer, ApiError>;
}

/// Answers a predict request for a model version; `None` is the newest that is ready.
///
/// # Errors
/// All that can go wrong with one.
pub(super) async fn predict<F: Format + Send>(
    server: &Server,
    exchange: &Exchange,
    body: Body,
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

    expect_json(&head.headers)?;
    // Shedding load has to cost less than the load: a large body is not read for it. A small one
    // is, since the connection would have to close otherwise, and the next would cost more.
    let refusal = served.lane.refuse().map(ApiError::Infer);
    if body.size_hint().lower() > SMALL_BODY_BYTES
        && let Some(refusal) = refusal
    {
        return Err(refusal);
    }
    let body = server.bodies.read(body, &app.limits).await?;
    exchange.has_read_body();
    if let Some(refusal) = refusal {
        return Err(refusal);
    }
    let (format, rows) = F::decode(&body, &served.model.signature, app.limits.max_request_rows)?;
    // The body is not needed any longer: while its rows wait, others may use its memory.
    drop(body);

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
    Ok(answer::json(
        StatusCode::OK,
        format.encode(&served.model, &response)?,
    ))
}
