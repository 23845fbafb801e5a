//! `:predict` with a table for a body: CSV, or JSON a line. The answer is one too.

use http::HeaderMap;

use crate::http::body;
use crate::http::coding::Coding;
use crate::http::error::ApiError;
use crate::http::intake::Rows;
use crate::http::media::{self, BodyForm, Form};
use crate::http::predict::{Format, MinBytes};
use crate::http::{csv, ndjson, predictions};
use crate::metrics::Protocol;
use crate::model::{Model, Signature};
use crate::request::InferResponse;

/// A request that came as a table, with the form that its answer has.
#[derive(Debug)]
pub(super) struct Table(Form);

impl Format for Table {
    const PROTOCOL: Protocol = Protocol::Table;

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
            BodyForm::Csv { header } => {
                let (rows, _) = csv::decode(body, header, signature, max_rows)?;
                (Form::Csv { has_header: true }, rows)
            }
            BodyForm::Ndjson | BodyForm::Json => {
                (Form::Ndjson, ndjson::decode(body, signature, max_rows)?)
            }
        };
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
