//! Does a tensor whose datatype and shape a client declares fit the model's input?

use std::borrow::Cow;
use std::fmt;

use super::hints::{row_hint, shape_with_rows};
use super::input::InputRows;
use super::json::nested;
use crate::http::error::{ApiError, ErrorCode};
use crate::json::{ErrorKind, Kind, MAX_RANK, Reader};
use crate::messages::excerpt;
use crate::tensor::{DataType, TensorSpec, Values};

/// How a tensor's values come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::http) enum Form {
    /// As decimal text, or as fields of a message.
    Typed,
    /// As the bytes of the values.
    Binary,
}

/// The shape that a client wrote.
#[derive(Debug, Default, PartialEq, Eq)]
pub(in crate::http) struct Declared(Vec<u64>);

/// What an input's declared tensor has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::http) struct Size {
    /// At least 1.
    pub(in crate::http) rows: usize,
    /// The tokens of each row; 1 for an input without tokens.
    pub(in crate::http) tokens: usize,
    /// The datatype that the values come in.
    pub(in crate::http) datatype: DataType,
}

impl Size {
    /// How many values there are. [`check`] refuses shapes for which this overflows.
    pub(in crate::http) fn values(self, spec: &TensorSpec) -> usize {
        self.rows * self.tokens * spec.shape.elements()
    }

    /// The shape, as a client writes it.
    pub(in crate::http) fn shape(self, spec: &TensorSpec) -> Vec<usize> {
        let tokens = spec.shape.axis().map(|_| self.tokens);
        let extents = spec.shape.extents.iter().copied();
        std::iter::once(self.rows)
            .chain(tokens)
            .chain(extents)
            .collect()
    }
}

impl Declared {
    /// A shape that was read already.
    #[cfg(feature = "grpc")]
    pub(in crate::http) fn of(extents: Vec<u64>) -> Self {
        Self(extents)
    }

    /// Reads an array of at most [`MAX_RANK`] extents.
    pub(in crate::http) fn read(reader: &mut Reader<'_>) -> Result<Self, ApiError> {
        let mut extents = Vec::with_capacity(4);
        reader.array(|reader, index| {
            if index == MAX_RANK {
                let place = reader.mark();
                return Err(ApiError::invalid(
                    ErrorCode::ShapeMismatch,
                    format!(
                        "{}: a shape has at most {MAX_RANK} axes",
                        reader.path(place)
                    ),
                )
                .at(reader.path(place)));
            }
            let place = reader.mark();
            match reader.u64() {
                Ok(extent) => extents.push(extent),
                // As metadata writes the number of rows.
                Err(error) if index == 0 && error.kind() == ErrorKind::Range => {
                    return Err(ApiError::invalid(
                        ErrorCode::OutOfRange,
                        format!(
                            "{}: expected a number of rows, 1 or more, found {}; count the rows \
                             of \"data\"",
                            reader.path(place),
                            reader.found()
                        ),
                    )
                    .at(reader.path(place)));
                }
                Err(error) => return Err(error.into()),
            }
            Ok(())
        })?;
        Ok(Self(extents))
    }
}

impl fmt::Display for Declared {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(&self.0).finish()
    }
}

/// Whether values of a datatype are taken for an input of another: where nothing is lost by it.
fn is_taken(given: DataType, spec: &TensorSpec, form: Form) -> bool {
    if given == spec.datatype {
        // Halves have no decimal text of their own, so that no text carries them.
        return form == Form::Binary || !given.is_half();
    }
    match (Values::empty(spec.datatype), Values::empty(given)) {
        (Values::F32(_), Values::F32(_)) => form == Form::Binary,
        (Values::F64(_), Values::F32(_)) => form == Form::Binary || !given.is_half(),
        // The values are checked against the ranges of both.
        (Values::I64(_), Values::I64(_)) => {
            given != DataType::Bool && spec.datatype != DataType::Bool
        }
        _ => false,
    }
}

/// The datatype that a client declares.
pub(in crate::http) struct Given<'a> {
    /// `None` if there is none of this name.
    pub(in crate::http) datatype: Option<DataType>,
    /// Its name for messages, in the words of the protocol.
    pub(in crate::http) shown: Cow<'a, str>,
    /// What to do if it is not the input's.
    pub(in crate::http) fix: fn(&TensorSpec) -> String,
}

impl<'a> Given<'a> {
    /// By the name of the Open Inference Protocol.
    pub(in crate::http) fn named(name: &'a str) -> Self {
        let is_like_one = name.len() <= 6 && name.bytes().all(|b| b.is_ascii_alphanumeric());
        Self {
            datatype: DataType::named(name),
            shown: match is_like_one {
                true => Cow::Borrowed(name),
                false => Cow::Owned(excerpt(name, 20)),
            },
            fix: |spec| format!("send {} values and say so", spec.datatype),
        }
    }
}

/// Checks datatype and shape, before any value is read.
///
/// # Errors
/// 400 as `input "x": expected FP32 [-1, 64], got FP32 [2, 63]; send 64 values a row`.
pub(in crate::http) fn check(
    spec: &TensorSpec,
    given: Given<'_>,
    shape: &Declared,
    max_rows: usize,
    form: Form,
) -> Result<Size, ApiError> {
    let datatype = &given.shown;
    let mismatch = |code, hint: fmt::Arguments<'_>| {
        Err(ApiError::invalid(
            code,
            format!(
                "input {:?}: expected {spec}, got {datatype} {shape}; {hint}",
                spec.name
            ),
        ))
    };
    let fits = |form| {
        let datatype = given.datatype;
        datatype.filter(|datatype| is_taken(*datatype, spec, form))
    };
    let Some(taken) = fits(form) else {
        return match fits(Form::Binary) {
            Some(_) => mismatch(
                ErrorCode::DatatypeMismatch,
                format_args!(
                    "send {0} values and say so, or {datatype} values as binary data",
                    spec.datatype
                ),
            ),
            None => {
                let fix = (given.fix)(spec);
                mismatch(ErrorCode::DatatypeMismatch, format_args!("{fix}"))
            }
        };
    };
    let (rows, tokens, extents) = match (&*shape.0, spec.shape.axis()) {
        ([rows, extents @ ..], None) => (*rows, 1, extents),
        ([rows, tokens, extents @ ..], Some(_)) => (*rows, *tokens, extents),
        _ => (0, 0, &[][..]),
    };
    let row_shape = spec.shape.extents.iter().map(|&extent| extent as u64);
    if shape.0.len() != spec.wire_shape().count() {
        let hint = format_args!(
            "write the shape as {}, the number of rows first",
            shape_with_rows(spec)
        );
        return mismatch(ErrorCode::ShapeMismatch, hint);
    }
    if !extents.iter().copied().eq(row_shape) {
        return mismatch(ErrorCode::ShapeMismatch, format_args!("{}", row_hint(spec)));
    }
    if rows == 0 {
        return mismatch(
            ErrorCode::ShapeMismatch,
            format_args!("send at least 1 row"),
        );
    }
    let size = || {
        let size = Size {
            rows: usize::try_from(rows).ok()?,
            tokens: usize::try_from(tokens).ok()?,
            datatype: taken,
        };
        let values = size.rows.checked_mul(size.tokens)?;
        values.checked_mul(spec.shape.elements())?;
        Some(size)
    };
    match size() {
        Some(size) if size.rows <= max_rows => Ok(size),
        None if rows <= max_rows as u64 => mismatch(
            ErrorCode::ShapeMismatch,
            format_args!("send fewer tokens a row"),
        ),
        _ => mismatch(
            ErrorCode::TooManyRows,
            format_args!(
                "send at most {max_rows} rows a request, or raise limits.max_request_rows"
            ),
        ),
    }
}

impl InputRows<'_> {
    /// Reads the values of a tensor of this size, flat or nested as its shape is.
    ///
    /// # Errors
    /// 400 if there are others, or if one is none of the datatype.
    pub(in crate::http) fn read_declared(
        &mut self,
        reader: &mut Reader<'_>,
        size: Size,
    ) -> Result<(), ApiError> {
        let spec = self.spec;
        if reader.peek()? != Kind::Array {
            let what = match spec.datatype {
                DataType::Bytes => "an array of strings",
                DataType::Bool => "an array of true and false",
                _ => "an array of numbers",
            };
            return Err(reader.expected(what).into());
        }
        let start = self.values.len();
        let count = size.values(spec);
        let nesting = nested(reader, spec.datatype, &mut self.values, count)?;
        let found = self.values.len() - start;
        if found != count {
            return Err(self.wrong_count(size, found));
        }
        // Flat is always right, and what holds no values has no nesting to compare.
        if nesting.len() > 1 && count > 0 {
            let shape = size.shape(spec);
            if *nesting != *shape {
                return Err(ApiError::invalid(
                    ErrorCode::ShapeMismatch,
                    format!(
                        "input {:?}: expected data nested as its shape {shape:?}, or flat, got nested as \
                         {:?}",
                        spec.name, &*nesting
                    ),
                ));
            }
        }
        self.end_declared(start, size)
    }

    /// The refusal of values that are not as many as their shape says.
    pub(super) fn wrong_count(&self, size: Size, found: usize) -> ApiError {
        let spec = self.spec;
        ApiError::invalid(
            ErrorCode::ShapeMismatch,
            format!(
                "input {:?}: shape {:?} needs {} values, got {found}; send as many values as the shape \
                 says",
                spec.name,
                size.shape(spec),
                size.values(spec)
            ),
        )
    }

    /// Ends the rows of a tensor whose values are there from `start` on.
    ///
    /// # Errors
    /// 400 if an integer is none of the datatype that the client declared.
    pub(super) fn end_declared(&mut self, start: usize, size: Size) -> Result<(), ApiError> {
        self.end_rows(size.rows, size.tokens);
        let (Values::I64(values), Some(range)) = (&self.values, size.datatype.integers()) else {
            return Ok(());
        };
        // It has all values.
        if size.datatype == DataType::Int64 {
            return Ok(());
        }
        match values[start..]
            .iter()
            .position(|value| !range.contains(value))
        {
            None => Ok(()),
            Some(at) => {
                let value = values[start + at];
                let shown = match size.datatype {
                    // Its bits were read with a sign.
                    DataType::Uint64 => value.cast_unsigned().to_string(),
                    _ => value.to_string(),
                };
                Err(ApiError::invalid(
                    ErrorCode::OutOfRange,
                    format!(
                        "input {:?}: row {}: expected {} values, {} to {}, got {shown}",
                        self.spec.name,
                        self.row_of(start + at),
                        size.datatype,
                        range.start(),
                        range.end(),
                    ),
                ))
            }
        }
    }
}
