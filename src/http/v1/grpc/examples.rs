//! The examples of `Classify` and `Regress`: rows as maps of named features.

use crate::http::error::{ApiError, ErrorCode, Place};
use crate::http::grpc::{Fields, Malformed, Packed};
use crate::http::intake::{Rows, row_hint, too_many_rows};
use crate::http::predict::MinBytes;
use crate::http::rows::{Columns, Row, none};
use crate::http::v1::examples::PLACE;
use crate::model::Signature;
use crate::tensor::{DataType, TensorSpec, Values};

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
    shared.expect_shareable(&columns, "context")?;
    let mut inputs = none(signature);
    let mut row = shared.clone();
    for (index, example) in examples.iter().enumerate() {
        let place = || format!("{PLACE}[{index}]");
        row.reset_to(&shared);
        let read = read(&mut row, *example, &columns, place);
        read.and_then(|()| row.append(&columns, &mut inputs, place))
            .map_err(|error| error.at(Place::Item(PLACE, index)))?;
    }
    Rows::join(PLACE, inputs, max_rows)
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
            let place = || format!("{}.{name}", place());
            let allow_non_finite = columns.signature().allow_non_finite;
            let values = row.input(columns, index);
            match (index.checked_sub(columns.inputs()), values) {
                // Only an input of single precision has names for its features.
                (Some(at), Values::F32(values)) => {
                    singles(feature, &mut values[at..=at], allow_non_finite, place)?;
                }
                (_, Values::F32(values)) if columns.has_fixed_rows(index) => {
                    singles(feature, values, allow_non_finite, place)?;
                }
                (_, values) => {
                    let spec = &columns.signature().inputs[index];
                    typed(feature, spec, values, allow_non_finite, place)?;
                }
            }
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

/// Reads a `Feature` into as many values of single precision as it shall have.
fn singles(
    mut feature: Fields<'_>,
    values: &mut [f32],
    allow_non_finite: bool,
    place: impl Fn() -> String,
) -> Result<(), ApiError> {
    let mut floats = Packed::<4>::at_most(values.len());
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
    let (bytes, _) = floats.bytes().as_chunks();
    let found = floats.found() + integer_count;
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
        false => Err(not_finite(&place())),
    }
}

/// Reads a `Feature` into values of any type, as many as it has if the input's rows have tokens. Values
/// that are too many are counted, and not kept.
fn typed(
    mut feature: Fields<'_>,
    spec: &TensorSpec,
    values: &mut Values,
    allow_non_finite: bool,
    place: impl Fn() -> String,
) -> Result<(), ApiError> {
    values.clear();
    let wrong = |list: &str| {
        let expected = match spec.datatype {
            DataType::Bytes => "bytes_list",
            _ if spec.datatype.integers().is_some() => "int64_list",
            _ => "float_list or int64_list",
        };
        ApiError::invalid(
            ErrorCode::WrongType,
            format!(
                "{}: expected {expected}, as input {:?} is {spec}, got {list}; send its values there",
                place(),
                spec.name
            ),
        )
    };
    let elements = spec.shape.elements();
    let most = match spec.shape.axis() {
        None => elements,
        Some(_) => usize::MAX,
    };
    let mut found = 0;
    let mut floats = Packed::<4>::at_most(most);
    while let Some((kind, value)) = feature.next()? {
        let mut list = value.fields()?;
        while let Some((number, value)) = list.next()? {
            match (kind, number, &mut *values) {
                (1, 1, Values::Bytes(strings)) => {
                    found += 1;
                    if found <= most {
                        strings.push(value.bytes()?);
                    }
                }
                (1, 1, _) => return Err(wrong("bytes_list")),
                (2, 1, Values::F32(_) | Values::F64(_)) => floats.add(value)?,
                (2, 1, _) => return Err(wrong("float_list")),
                (3, 1, Values::Bytes(_)) => return Err(wrong("int64_list")),
                (3, 1, values) => value.integers(|integer| {
                    found += 1;
                    if found <= most {
                        push_integer(values, integer);
                    }
                    Ok::<_, ApiError>(())
                })?,
                _ => {}
            }
        }
    }
    found += floats.found();
    let (singles, _) = floats.bytes().as_chunks();
    let singles = singles.iter().map(|bytes| f32::from_le_bytes(*bytes));
    let is_finite = match values {
        Values::F32(all) => {
            all.extend(singles);
            all.iter().all(|value| value.is_finite())
        }
        Values::F64(all) => {
            all.extend(singles.map(f64::from));
            all.iter().all(|value| value.is_finite())
        }
        Values::I64(_) | Values::Bytes(_) => true,
    };
    if !is_finite && !allow_non_finite {
        return Err(not_finite(&place()));
    }
    let fits = match spec.shape.axis() {
        None => found == elements,
        Some(_) => found.is_multiple_of(elements),
    };
    match fits {
        true => Ok(()),
        false => Err(ApiError::invalid(
            ErrorCode::ShapeMismatch,
            format!(
                "{}: input {:?}: expected {spec}, got {found} values; {}",
                place(),
                spec.name,
                row_hint(spec)
            ),
        )),
    }
}

fn push_integer(values: &mut Values, integer: i64) {
    match values {
        Values::F32(all) => all.push(integer as f32),
        Values::F64(all) => all.push(integer as f64),
        Values::I64(all) => all.push(integer),
        Values::Bytes(_) => {}
    }
}

fn not_finite(place: &str) -> ApiError {
    ApiError::invalid(
        ErrorCode::NotFinite,
        format!(
            "{place}: expected finite numbers, got NaN or an infinity; replace it before sending, or \
             set \"allow_non_finite\" in the model's config.json"
        ),
    )
}
