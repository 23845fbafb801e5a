//! Vertex AI's contract for containers: health and predictions on the paths that it says in the
//! environment.
//!
//! Source: Google Cloud's "Custom container requirements for inference".

use http::HeaderMap;

use super::answer::Response;
use super::body::RequestBody;
use super::error::{ApiError, ErrorCode};
use super::exchange::Exchange;
use super::health::{self, expect_get};
use super::intake::Rows;
use super::media::Form;
use super::naming::VertexCall;
use super::predict::{Format, predict};
use super::state::Server;
use super::{predictions, rows, unnamed};
use crate::metrics::{Protocol, Route};
use crate::model::{Model, Signature};
use crate::request::InferResponse;

/// Answers a call of the platform's.
pub(super) async fn answer(
    server: &Server,
    exchange: &Exchange,
    body: impl RequestBody,
    call: VertexCall,
) -> Result<Response, ApiError> {
    match call {
        VertexCall::Health => {
            exchange.set_route(Route::Health);
            expect_get(&exchange.head.method)?;
            Ok(health::bare_ready(&server.app))
        }
        VertexCall::Predict => {
            exchange.set_route(Route::VertexPredict);
            let model = unnamed::model(server)?;
            predict::<Instances>(server, exchange, body, &model, None).await
        }
    }
}

/// `{"instances": [row, ...], "parameters": none}`
#[derive(Debug)]
struct Instances;

impl Format for Instances {
    const PROTOCOL: Protocol = Protocol::Vertex;

    type Layout = ();

    fn layout(_: &HeaderMap) -> Result<(), ApiError> {
        Ok(())
    }

    fn decode(
        body: &[u8],
        (): (),
        signature: &Signature,
        max_rows: usize,
    ) -> Result<(Self, Rows), ApiError> {
        let mut reader = rows::reader(body, signature)?;
        let mut decoded = None;
        reader.object(|reader, key| {
            match key {
                "instances" => {
                    decoded = Some(rows::list(reader, signature, max_rows, "instances")?)
                }
                "parameters" => rows::no_parameters(reader, key)?,
                _ => reader.skip()?,
            }
            Ok::<_, ApiError>(())
        })?;
        reader.end()?;
        let rows = decoded.ok_or_else(|| {
            ApiError::invalid(
                ErrorCode::MissingField,
                "the body: expected the key \"instances\" with a list of rows",
            )
        })?;
        Ok((Self, rows))
    }

    fn encode(
        self,
        model: &Model,
        response: &InferResponse,
    ) -> Result<http::Response<Vec<u8>>, ApiError> {
        Ok(predictions::answer(Form::Json, model, response))
    }
}
