//! A `ModelInferRequest` to rows.
//!
//! Its tensors come in the message (`contents`) or as bytes after them (`raw_input_contents`), all
//! of a request in one way. Either is read once, into the buffer that the engine reads.

use std::time::Duration;

use super::encode::AnswerOptions;
use crate::http::error::{ApiError, ErrorCode, Place};
use crate::http::grpc::{Fields, Floats, Malformed, Value};
use crate::http::numbers::{Element, finite};
use crate::http::predict::Rows;
use crate::http::v2::infer::{expect_id, not_in_sequence, reserved};
use crate::http::v2::inputs::{Data, ReceivedInputs};
use crate::http::v2::outputs::{self, RequestedOutput, no_shared_memory};
use crate::http::v2::shape::{Declared, Form, check, wrong_count};
use crate::json::MAX_RANK;
use crate::model::Signature;
use crate::spelling::excerpt;

/// Reads a request.
///
/// # Errors
/// 400 with the place and what to do.
pub(super) fn decode(
    message: &[u8],
    signature: &Signature,
    max_rows: usize,
) -> Result<(AnswerOptions, Rows), ApiError> {
    // More tensors than the model has inputs are refused for the first that it has not, or has had.
    let most = signature.inputs.len() + 1;
    let mut id = String::new();
    let mut timeout = None;
    let mut inputs = Vec::new();
    let mut outputs = Vec::new();
    let mut raw: Vec<&[u8]> = Vec::new();
    let mut fields = Fields::of(message);
    while let Some((number, value)) = fields.next()? {
        match number {
            3 => id = expect_id(value.text()?)?.to_owned(),
            4 => {
                let asked = parameter(value.fields()?);
                if let Some(asked) = asked.map_err(|error| error.at("parameters"))? {
                    timeout = Some(asked).filter(|timeout| !timeout.is_zero());
                }
            }
            5 if inputs.len() < most => {
                let place = inputs.len();
                let tensor = Tensor::read(value.fields()?, place);
                inputs.push(tensor.map_err(|error| error.at(Place::Item("inputs", place)))?);
            }
            6 => {
                let place = outputs.len();
                let asked = output(value.fields()?, signature, &outputs);
                outputs.push(asked.map_err(|error| error.at(Place::Item("outputs", place)))?);
            }
            7 if raw.len() < most => raw.push(value.bytes()?),
            _ => {}
        }
    }
    if inputs.is_empty() {
        return Err(ApiError::invalid(
            ErrorCode::MissingField,
            "the message: expected \"inputs\" with a tensor for each of the model's, got none",
        ));
    }
    if !raw.is_empty() && raw.len() != inputs.len() {
        return Err(ApiError::invalid(
            ErrorCode::BinarySizeMismatch,
            format!(
                "raw_input_contents: expected as many as \"inputs\", {}, got {}{}; send one for each \
                 tensor, in the order of \"inputs\", or \"contents\" in each tensor and none here",
                inputs.len(),
                raw.len(),
                if raw.len() == most { " or more" } else { "" }
            ),
        ));
    }
    if outputs.is_empty() {
        outputs.extend(RequestedOutput::all(signature));
    }
    let mut taken = ReceivedInputs::none(signature);
    for (index, tensor) in inputs.iter().enumerate() {
        let data = tensor.data(signature, &taken, raw.get(index).copied(), max_rows);
        data.and_then(|data| taken.put(data))
            .map_err(|error| error.at(Place::Item("inputs", index)))?;
    }
    let (rows, inputs) = taken.finish()?;
    let answering = AnswerOptions { id, outputs };
    let rows = Rows {
        rows,
        inputs,
        timeout,
    };
    Ok((answering, rows))
}

/// One of `inputs`, without its raw data.
struct Tensor<'b> {
    /// Its place in the list.
    place: usize,
    name: &'b str,
    datatype: &'b str,
    shape: Declared,
    /// `contents`, if there are any.
    contents: Option<Contents<'b>>,
}

#[derive(Default)]
struct Contents<'b> {
    fp32: Floats<'b>,
    /// The name of another field that has values.
    other: Option<&'static str>,
}

impl<'b> Tensor<'b> {
    fn read(mut fields: Fields<'b>, place: usize) -> Result<Self, ApiError> {
        let (mut name, mut datatype, mut contents) = ("", "", None);
        let mut extents = Vec::with_capacity(4);
        while let Some((number, value)) = fields.next()? {
            match number {
                1 => name = value.text()?,
                2 => datatype = value.text()?,
                3 => value.integers(|extent| {
                    if extents.len() == MAX_RANK {
                        return Err(ApiError::invalid(
                            ErrorCode::ShapeMismatch,
                            format!("inputs[{place}].shape: a shape has at most {MAX_RANK} axes"),
                        ));
                    }
                    let extent = u64::try_from(extent).map_err(|_| {
                        ApiError::invalid(
                            ErrorCode::OutOfRange,
                            format!(
                                "inputs[{place}].shape: expected extents of 1 or more, got {extent}; \
                                 count the rows of the data"
                            ),
                        )
                    })?;
                    extents.push(extent);
                    Ok(())
                })?,
                4 => {
                    let (key, _) = entry(value.fields()?)?;
                    if key == "shared_memory_region" {
                        return Err(ApiError::invalid(
                            ErrorCode::NotServed,
                            format!(
                                "inputs[{place}].parameters: shared memory is not served; send the \
                                 values in \"contents\" or \"raw_input_contents\""
                            ),
                        ));
                    }
                }
                5 => contents
                    .get_or_insert_with(Contents::default)
                    .read(value.fields()?)?,
                _ => {}
            }
        }
        Ok(Self {
            place,
            name,
            datatype,
            shape: Declared::of(extents),
            contents,
        })
    }

    /// Its values, once it fits the model.
    fn data(
        &self,
        signature: &Signature,
        taken: &ReceivedInputs<'_>,
        raw: Option<&[u8]>,
        max_rows: usize,
    ) -> Result<Data, ApiError> {
        let place = self.place;
        let index = taken.index_of(self.name, || format!("inputs[{place}]"))?;
        let spec = &signature.inputs[index];
        let form = match raw {
            Some(_) => Form::Binary,
            None => Form::Json,
        };
        let rows = check(spec, self.datatype, &self.shape, max_rows, form)?;
        let element = Element::named(self.datatype).expect("`check` takes no other datatype");
        let bytes = match (raw, &self.contents) {
            (Some(raw), None) => raw,
            (Some(_), Some(_)) => {
                return Err(ApiError::invalid(
                    ErrorCode::AmbiguousRequest,
                    format!(
                        "inputs[{place}]: expected either \"contents\" in each tensor or \
                         \"raw_input_contents\", got both; send the values once"
                    ),
                ));
            }
            (None, Some(Contents { fp32, other })) => match (fp32.bytes(), other) {
                (Some(bytes), None) => bytes,
                (_, Some(other)) => {
                    return Err(ApiError::invalid(
                        ErrorCode::DatatypeMismatch,
                        format!(
                            "inputs[{place}].contents: expected fp32_contents, as input {:?} is \
                             {spec}, got {other}; send its values there",
                            spec.name
                        ),
                    ));
                }
                (None, None) => &[],
            },
            (None, None) => {
                return Err(ApiError::invalid(
                    ErrorCode::MissingField,
                    format!(
                        "inputs[{place}]: expected values of input {:?} in \"contents\" or in \
                         \"raw_input_contents\", got none",
                        spec.name
                    ),
                ));
            }
        };
        // The shape was checked, so that this cannot overflow 128 bits.
        let expected = rows as u128 * spec.shape.elements() as u128 * element.bytes() as u128;
        if bytes.len() as u128 != expected {
            return Err(match raw {
                None => wrong_count(spec, rows, bytes.len() / element.bytes()),
                Some(_) => ApiError::invalid(
                    ErrorCode::BinarySizeMismatch,
                    format!(
                        "raw_input_contents[{place}]: input {:?}: {} {} takes {expected} bytes, got \
                         {}; send {} bytes a value",
                        spec.name,
                        self.datatype,
                        self.shape,
                        bytes.len(),
                        element.bytes()
                    ),
                ),
            });
        }
        Ok(Data {
            index,
            rows,
            values: finite(signature, spec, element, bytes)?,
        })
    }
}

impl<'b> Contents<'b> {
    fn read(&mut self, mut fields: Fields<'b>) -> Result<(), Malformed> {
        while let Some((number, value)) = fields.next()? {
            let other = match number {
                6 => {
                    self.fp32.add(value)?;
                    continue;
                }
                1 => "bool_contents",
                2 => "int_contents",
                3 => "int64_contents",
                4 => "uint_contents",
                5 => "uint64_contents",
                7 => "fp64_contents",
                8 => "bytes_contents",
                _ => continue,
            };
            self.other = Some(other);
        }
        Ok(())
    }
}

/// Reads one of `outputs`.
fn output(
    mut fields: Fields<'_>,
    signature: &Signature,
    before: &[RequestedOutput],
) -> Result<RequestedOutput, ApiError> {
    let place = || format!("outputs[{}]", before.len());
    let mut name = "";
    let mut parameters = outputs::Parameters::default();
    while let Some((number, value)) = fields.next()? {
        match number {
            1 => name = value.text()?,
            2 => {
                let (key, value) = entry(value.fields()?)?;
                let place = || format!("{}.parameters.{key}", place());
                match key {
                    "classification" => {
                        let classes = value.number(place)?;
                        parameters.classify(classes, place)?;
                    }
                    "shared_memory_region" => return Err(no_shared_memory(&place())),
                    _ => {}
                }
            }
            _ => {}
        }
    }
    RequestedOutput::named(name, parameters, signature, before, place)
}

/// Reads one of the request's parameters; the time it may wait if it says that.
fn parameter(fields: Fields<'_>) -> Result<Option<Duration>, ApiError> {
    let (key, value) = entry(fields)?;
    let place = || format!("parameters.{key}");
    match key {
        // Microseconds; 0 asks for the server's default, as with Triton.
        "timeout" => Ok(Some(Duration::from_micros(value.number(place)?))),
        "sequence_id" if !value.is_none() => Err(not_in_sequence(&place())),
        _ if key.starts_with("triton_") => Err(reserved(key)),
        _ => Ok(None),
    }
}

/// The value of an `InferParameter`.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Parameter<'b> {
    Nothing,
    Bool(bool),
    Int(i64),
    Uint(u64),
    Double,
    Text(&'b str),
}

impl Parameter<'_> {
    /// A whole number, 0 or more.
    fn number(self, place: impl Fn() -> String) -> Result<u64, ApiError> {
        let number = match self {
            Self::Int(number) => u64::try_from(number).ok(),
            Self::Uint(number) => Some(number),
            Self::Nothing | Self::Bool(_) | Self::Double | Self::Text(_) => None,
        };
        number.ok_or_else(|| {
            ApiError::invalid(
                ErrorCode::WrongType,
                format!(
                    "{}: expected int64_param or uint64_param, 0 or more, got {}",
                    place(),
                    self.shown()
                ),
            )
        })
    }

    /// What it is, for messages: a text may be as long as the message.
    fn shown(self) -> String {
        match self {
            Self::Nothing => "nothing".into(),
            Self::Bool(value) => format!("bool_param {value}"),
            Self::Int(number) => format!("int64_param {number}"),
            Self::Uint(number) => format!("uint64_param {number}"),
            Self::Double => "double_param".into(),
            Self::Text(text) => format!("string_param {}", excerpt(text, 40)),
        }
    }

    /// Whether it is a client's word for nothing.
    fn is_none(self) -> bool {
        matches!(
            self,
            Self::Nothing | Self::Int(0) | Self::Uint(0) | Self::Text("")
        )
    }
}

/// Reads an entry of `parameters`.
fn entry(mut fields: Fields<'_>) -> Result<(&str, Parameter<'_>), Malformed> {
    let (mut key, mut parameter) = ("", Parameter::Nothing);
    while let Some((number, value)) = fields.next()? {
        match number {
            1 => key = value.text()?,
            2 => parameter = read_parameter(value.fields()?)?,
            _ => {}
        }
    }
    Ok((key, parameter))
}

fn read_parameter(mut fields: Fields<'_>) -> Result<Parameter<'_>, Malformed> {
    let mut parameter = Parameter::Nothing;
    while let Some((number, value)) = fields.next()? {
        parameter = match (number, value) {
            (1, value) => Parameter::Bool(value.number()? != 0),
            (2, value) => Parameter::Int(value.number()?.cast_signed()),
            (3, value) => Parameter::Text(value.text()?),
            (4, Value::Fixed64(_)) => Parameter::Double,
            (5, value) => Parameter::Uint(value.number()?),
            _ => parameter,
        };
    }
    Ok(parameter)
}
