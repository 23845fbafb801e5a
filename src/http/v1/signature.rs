//! The signature that requests may name.

use crate::http::error::{ApiError, ErrorCode};
use crate::json::Reader;
use crate::messages::excerpt;

/// The only signature that a model has here.
pub(super) const SIGNATURE_NAME: &str = "serving_default";

/// Reads `signature_name`, which may only name the signature that there is.
pub(super) fn signature_name(reader: &mut Reader<'_>) -> Result<(), ApiError> {
    if reader.null()? {
        return Ok(());
    }
    expect_signature(&reader.string()?)
}

/// Checks the name of a signature.
pub(super) fn expect_signature(name: &str) -> Result<(), ApiError> {
    if !name.is_empty() && name != SIGNATURE_NAME {
        return Err(ApiError::invalid(
            ErrorCode::UnknownSignature,
            format!(
                "signature_name: expected {SIGNATURE_NAME:?} or none, got {}",
                excerpt(name, 40)
            ),
        )
        .at("signature_name"));
    }
    Ok(())
}
