//! What to do about rows that do not fit, in words.

use crate::http::error::{ApiError, ErrorCode};
use crate::messages::excerpt;
use crate::model::Signature;
use crate::tensor::{Extent, TensorSpec};

/// What to do about rows of another size than the model's.
pub(in crate::http) fn row_hint(spec: &TensorSpec) -> String {
    let what = spec.shape.axis().map_or("row", |_| "token");
    match &*spec.shape.extents {
        [] => format!("send one value a {what}"),
        [values] => format!("send {values} values a {what}"),
        shape => format!(
            "send {} values a {what}, as {shape:?}",
            spec.shape.elements()
        ),
    }
}

/// The shape of an input as people write it: `[rows, 6]`, `[rows, tokens]`.
pub(in crate::http) fn shape_with_rows(spec: &TensorSpec) -> String {
    let extents = spec.shape.row_extents().map(|extent| match extent {
        Extent::Fixed(extent) => format!(", {extent}"),
        Extent::Any => ", tokens".to_owned(),
    });
    format!("[rows{}]", extents.collect::<String>())
}

/// The refusal of more rows than a request may have.
pub(in crate::http) fn too_many_rows(place: &str, rows: usize, max_rows: usize) -> ApiError {
    ApiError::invalid(
        ErrorCode::TooManyRows,
        format!(
            "{place}: expected at most {max_rows} rows, got {rows}; split the request, or raise \
             limits.max_request_rows"
        ),
    )
}

/// A number of things: `1 row`, `2 rows`.
pub(super) fn counted(count: usize, what: &str) -> String {
    match count {
        1 => format!("1 {what}"),
        count => format!("{count} {what}s"),
    }
}

/// The refusal of a name that is no input's; `place` is where the client wrote it.
pub(in crate::http) fn unknown_input(name: &str, place: &str, signature: &Signature) -> ApiError {
    let known: Vec<_> = signature
        .inputs
        .iter()
        .map(|spec| format!("{:?}", spec.name))
        .collect();
    ApiError::invalid(
        ErrorCode::UnknownInput,
        format!(
            "{place}: the model has no input {}; it takes {}",
            excerpt(name, 40),
            known.join(", ")
        ),
    )
}
