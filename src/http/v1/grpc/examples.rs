//! The examples of `Classify` and `Regress`: rows as maps of named features.

use crate::http::error::{ApiError, ErrorCode, Place};
use crate::http::grpc::{Fields, Floats, Malformed};
use crate::http::predict::{MinBytes, Rows};
use crate::http::rows::{Columns, Row, buffers, rows, too_many_rows};
use crate::http::v1::examples::PLACE;
use crate::model::Signature;

/// An empty example, whose values are all in the context: its tag and its length.
pub(super) const MIN_BYTES: MinBytes = MinBytes::PerRow(2);

/// Reads a `ClassificationRequest` or a `RegressionRequest`, which are alike.
///
/// # Errors
/// 400 with the place and what to do.
pub(super) fn decode(
    message: &[u8],
    signature: &Signature,
    max_rows: usize,
) -> Result<Rows, ApiError> {
    let columns = Columns::of(signature);
    let mut examples = Vec::new();
    let mut shared = Row::empty(&columns);
    let mut fields = Fields::of(message);
    while let Some((number, value)) = fields.next()? {
        if number != 2 {
            continue;
        }
        let mut input = value.fields()?;
        while let Some((kind, value)) = input.next()? {
            let mut list = value.fields()?;
            while let Some((number, value)) = list.next()? {
                match (kind, number) {
                    // One more than there may be tells that there are too many.
                    (1 | 2, 1) if examples.len() <= max_rows => examples.push(value.fields()?),
                    (2, 2) => read(&mut shared, value.fields()?, &columns, || "context".into())
                        .map_err(|error| error.at("context"))?,
                    _ => {}
                }
            }
        }
    }
    if examples.len() > max_rows {
        return Err(too_many_rows(PLACE, examples.len(), max_rows));
    }
    let mut inputs = buffers(signature);
    let mut row = shared.clone();
    for (index, example) in examples.iter().enumerate() {
        let place = || format!("{PLACE}[{index}]");
        row.reset_to(&shared);
        let read = read(&mut row, *example, &columns, place);
        read.and_then(|()| row.append(&columns, &mut inputs, place))
            .map_err(|error| error.at(Place::Item(PLACE, index)))?;
    }
    rows(PLACE, examples.len(), max_rows, inputs)
}

/// Reads an `Example` over what is there.
fn read(
    row: &mut Row,
    mut example: Fields<'_>,
    columns: &Columns<'_>,
    place: impl Fn() -> String,
) -> Result<(), ApiError> {
    let mut guess = columns.inputs();
    while let Some((number, value)) = example.next()? {
        if number != 1 {
            continue;
        }
        let mut features = value.fields()?;
        while let Some((number, value)) = features.next()? {
            if number != 1 {
                continue;
            }
            let (name, feature) = entry(value.fields()?)?;
            let index = columns.index_of(name, guess);
            let index = index.ok_or_else(|| columns.unknown_key(name, &place()))?;
            guess = index + 1;
            let allow_non_finite = columns.signature().allow_non_finite;
            let values = row.column(columns, index);
            numbers(feature, values, allow_non_finite, || {
                format!("{}.{name}", place())
            })?;
        }
    }
    Ok(())
}

/// Reads an entry of `feature`: the name and the `Feature`.
fn entry(mut fields: Fields<'_>) -> Result<(&str, Fields<'_>), Malformed> {
    let (mut name, mut feature) = ("", Fields::of(&[]));
    while let Some((number, value)) = fields.next()? {
        match number {
            1 => name = value.text()?,
            2 => feature = value.fields()?,
            _ => {}
        }
    }
    Ok((name, feature))
}

/// Reads a `Feature` into as many values as it shall have.
fn numbers(
    mut feature: Fields<'_>,
    values: &mut [f32],
    allow_non_finite: bool,
    place: impl Fn() -> String,
) -> Result<(), ApiError> {
    let mut floats = Floats::default();
    let mut integers: Vec<i64> = Vec::new();
    let mut integer_count = 0;
    while let Some((kind, value)) = feature.next()? {
        let mut list = value.fields()?;
        while let Some((number, value)) = list.next()? {
            match (kind, number) {
                (2, 1) => floats.add(value)?,
                (3, 1) => value.integers(|integer| {
                    integer_count += 1;
                    if integers.len() < values.len() {
                        integers.push(integer);
                    }
                    Ok::<_, ApiError>(())
                })?,
                (1, _) => {
                    return Err(ApiError::invalid(
                        ErrorCode::WrongType,
                        format!(
                            "{}: expected float_list or int64_list, got bytes_list; send numbers",
                            place()
                        ),
                    ));
                }
                _ => {}
            }
        }
    }
    let (bytes, _) = floats.bytes().unwrap_or_default().as_chunks();
    let found = bytes.len() + integer_count;
    if found != values.len() {
        return Err(ApiError::invalid(
            ErrorCode::ShapeMismatch,
            format!(
                "{}: expected {} values in float_list or int64_list, got {found}",
                place(),
                values.len()
            ),
        ));
    }
    let (first, rest) = values.split_at_mut(bytes.len());
    for (value, bytes) in first.iter_mut().zip(bytes) {
        *value = f32::from_le_bytes(*bytes);
    }
    for (value, integer) in rest.iter_mut().zip(integers) {
        *value = integer as f32;
    }
    match allow_non_finite || values.iter().all(|value| value.is_finite()) {
        true => Ok(()),
        false => Err(ApiError::invalid(
            ErrorCode::NotFinite,
            format!(
                "{}: expected finite numbers, got NaN or an infinity; replace it before sending, or \
                 set \"allow_non_finite\" in the model's config.json",
                place()
            ),
        )),
    }
}
