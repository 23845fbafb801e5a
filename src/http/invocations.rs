//! What MLflow's scoring server and SageMaker's containers answer: `/invocations`, `/ping` and what
//! goes with them.
//!
//! A body of JSON or of CSV with a header is MLflow's and is answered with `{"predictions": ...}`;
//! CSV without a header is SageMaker's and is answered with the same, and so are JSON lines. Accept
//! decides over all of it.
//!
//! Sources: MLflow's `pyfunc/scoring_server`, its documentation "Deploy MLflow Model as a Local
//! Inference Server"; SageMaker's "Use Your Own Inference Code with Hosting Services" and "Common
//! Data Formats for Inference".

mod frame;

use bytes::Bytes;
use http::header::CONTENT_TYPE;
use http::{HeaderMap, HeaderValue, Method};

use super::answer::Response;
use super::body::{self, RequestBody};
use super::coding::Coding;
use super::error::ApiError;
use super::exchange::Exchange;
use super::health::{self, expect_get};
use super::intake::Rows;
use super::media::{self, BodyForm, Form};
use super::predict::{Format, MinBytes, predict};
use super::state::Server;
use super::{csv, ndjson, predictions, unnamed};
use crate::metrics::{Protocol, Route};
use crate::model::{Model, Signature};
use crate::request::InferResponse;

/// Answers `/invocations`, `/ping`, `/health` and `/version`; the path has one of these.
pub(super) async fn answer(
    server: &Server,
    exchange: &Exchange,
    body: impl RequestBody,
    segment: &str,
) -> Result<Response, ApiError> {
    let method = &exchange.head.method;
    match segment {
        "invocations" => {
            exchange.set_route(Route::Invocations);
            if *method != Method::POST {
                return Err(ApiError::method("POST", method));
            }
            let model = unnamed::model(server)?;
            predict::<Invocation>(server, exchange, body, &model, None).await
        }
        "version" => {
            expect_get(method)?;
            let mut answer =
                Response::new(Bytes::from_static(env!("CARGO_PKG_VERSION").as_bytes()));
            let plain = HeaderValue::from_static("text/plain; charset=utf-8");
            answer.headers_mut().insert(CONTENT_TYPE, plain);
            Ok(answer)
        }
        _ => {
            exchange.set_route(Route::Health);
            expect_get(method)?;
            Ok(health::bare_ready(&server.app))
        }
    }
}

/// A request, with the form that its answer has.
#[derive(Debug)]
struct Invocation(Form);

impl Format for Invocation {
    const PROTOCOL: Protocol = Protocol::Invocations;

    const MIN_BYTES: MinBytes = csv::MIN_BYTES;

    /// The form of the body, and that of the answer if the client says one.
    type Layout = (BodyForm, Option<Form>);

    fn coding(headers: &HeaderMap) -> Result<Option<Coding>, ApiError> {
        body::expect_rows(headers)
    }

    fn layout(headers: &HeaderMap) -> Result<Self::Layout, ApiError> {
        Ok((media::body_form(headers), media::accepted(headers)))
    }

    fn decode(
        body: &[u8],
        (given, accepted): Self::Layout,
        signature: &Signature,
        max_rows: usize,
    ) -> Result<(Self, Rows), ApiError> {
        let (form, rows) = match given {
            BodyForm::Json => (Form::Json, frame::decode(body, signature, max_rows)?),
            BodyForm::Ndjson => (Form::Ndjson, ndjson::decode(body, signature, max_rows)?),
            BodyForm::Csv { header } => {
                let (rows, has_header) = csv::decode(body, header, signature, max_rows)?;
                let accepted = accepted.map(|form| match form {
                    Form::Csv { .. } => Form::Csv { has_header },
                    form => form,
                });
                let form = match has_header {
                    true => Form::Json,
                    false => Form::Csv { has_header },
                };
                let form = accepted.unwrap_or(form);
                predictions::expect_holds(form, signature)?;
                return Ok((Self(form), rows));
            }
        };
        let accepted = accepted.map(|form| match form {
            // As SageMaker's own algorithms answer.
            Form::Csv { .. } => Form::Csv { has_header: false },
            form => form,
        });
        let form = accepted.unwrap_or(form);
        predictions::expect_holds(form, signature)?;
        Ok((Self(form), rows))
    }

    fn encode(
        self,
        model: &Model,
        response: &InferResponse,
    ) -> Result<http::Response<Vec<u8>>, ApiError> {
        Ok(predictions::answer(self.0, model, response))
    }
}
