//! `examples` of `:classify` and `:regress`: rows as objects of named features.

use super::signature::signature_name;
use crate::http::error::{ApiError, ErrorCode};
use crate::http::intake::Rows;
use crate::http::predict::MinBytes;
use crate::http::rows::{self, Columns, Row};
use crate::model::Signature;

pub(super) const PLACE: &str = "examples";

/// An empty example, whose values are all in the context, and the comma after it.
pub(super) const MIN_BYTES: MinBytes = MinBytes::PerRow(3);

/// Reads a body with `examples`, and with `context`: features that all examples share.
pub(super) fn decode(
    body: &[u8],
    signature: &Signature,
    max_rows: usize,
) -> Result<Rows, ApiError> {
    let mut reader = rows::reader(body, signature)?;
    let (mut examples, mut context) = (None, None);
    reader.object(|reader, key| {
        match key {
            "examples" => {
                examples = Some(reader.mark());
                reader.skip()?;
            }
            "context" => {
                context = Some(reader.mark());
                reader.skip()?;
            }
            "signature_name" => signature_name(reader)?,
            _ => reader.skip()?,
        }
        Ok::<_, ApiError>(())
    })?;
    reader.end()?;
    let Some(examples) = examples else {
        return Err(ApiError::invalid(
            ErrorCode::MissingField,
            "the body: expected the key \"examples\" with a list of objects",
        ));
    };
    let columns = Columns::of(signature);
    let mut shared = Row::empty(&columns);
    if let Some(context) = context {
        reader.revisit(context, |reader| shared.read(reader, &columns))?;
        shared.expect_shareable(&columns, "context")?;
    }
    reader.revisit(examples, |reader| {
        rows::objects(reader, &columns, Some(&shared), max_rows, PLACE)
    })
}
