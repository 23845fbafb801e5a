//! A `ModelInferRequest` to rows.
//!
//! Its tensors come in the message (`contents`) or as bytes after them (`raw_input_contents`), all
//! of a request in one way. Either is read once, into the buffer that the engine reads.

use std::time::Duration;

use super::encode::AnswerOptions;
use crate::http::error::{ApiError, ErrorCode, Place};
use crate::http::grpc::{Fields, Malformed, Value};
use crate::http::intake::{Declared, Form, Given, InputRows, ReceivedInputs, Rows, Size, check};
use crate::http::v2::infer::{expect_id, not_in_sequence, reserved};
use crate::http::v2::outputs::{self, RequestedOutput, no_shared_memory};
use crate::json::MAX_RANK;
use crate::messages::excerpt;
use crate::model::Signature;
use crate::tensor::{DataType, TensorSpec};

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
        data.and_then(|(index, rows)| taken.put(index, rows))
            .map_err(|error| error.at(Place::Item("inputs", index)))?;
    }
    let rows = Rows {
        timeout,
        finish: RequestedOutput::any_finished(&outputs, signature),
        ..taken.finish("inputs", max_rows)?
    };
    Ok((AnswerOptions { id, outputs }, rows))
}

/// One of `inputs`, without its raw data.
struct Tensor<'b> {
    /// Its place in the list.
    place: usize,
    name: &'b str,
    datatype: &'b str,
    shape: Declared,
    /// The message itself, for its `contents`: they can be read once it is known what they are.
    message: Fields<'b>,
    has_contents: bool,
}

impl<'b> Tensor<'b> {
    fn read(message: Fields<'b>, place: usize) -> Result<Self, ApiError> {
        let (mut name, mut datatype, mut has_contents) = ("", "", false);
        let mut fields = message;
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
                                "inputs[{place}].shape: expected extents of 0 or more, got {extent}; \
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
                5 => has_contents = true,
                _ => {}
            }
        }
        Ok(Self {
            place,
            name,
            datatype,
            shape: Declared::of(extents),
            message,
            has_contents,
        })
    }

    /// The position of its input and its rows, once it fits the model.
    fn data<'a>(
        &self,
        signature: &'a Signature,
        taken: &ReceivedInputs<'a>,
        raw: Option<&[u8]>,
        max_rows: usize,
    ) -> Result<(usize, InputRows<'a>), ApiError> {
        let place = self.place;
        let index = taken.index_of(self.name, || format!("inputs[{place}].name"))?;
        let spec = &signature.inputs[index];
        let form = match raw {
            Some(_) => Form::Binary,
            None => Form::Typed,
        };
        let size = check(
            spec,
            Given::named(self.datatype),
            &self.shape,
            max_rows,
            form,
        )?;
        let mut rows = InputRows::none(spec);
        match (raw, self.has_contents) {
            (Some(raw), false) => {
                let place = || format!("raw_input_contents[{place}]");
                rows.read_binary(size, raw, signature.allow_non_finite, place)?;
            }
            (None, true) => self.contents(size, &mut rows, signature)?,
            (Some(_), true) => {
                return Err(ApiError::invalid(
                    ErrorCode::AmbiguousRequest,
                    format!(
                        "inputs[{place}]: expected either \"contents\" in each tensor or \
                         \"raw_input_contents\", got both; send the values once"
                    ),
                ));
            }
            (None, false) => {
                return Err(ApiError::invalid(
                    ErrorCode::MissingField,
                    format!(
                        "inputs[{place}]: expected values of input {:?} in \"contents\" or in \
                         \"raw_input_contents\", got none",
                        spec.name
                    ),
                ));
            }
        }
        Ok((index, rows))
    }

    /// Reads the values in `contents`.
    fn contents(
        &self,
        size: Size,
        rows: &mut InputRows<'_>,
        signature: &Signature,
    ) -> Result<(), ApiError> {
        let expected = field_of(size.datatype);
        let spec = rows.spec();
        let place = || format!("inputs[{}].contents", self.place);
        let mut tensor = self.message;
        let mut contents = Fields::of(&[]);
        rows.read_fields(size, signature.allow_non_finite, place, || {
            loop {
                while let Some((number, value)) = contents.next()? {
                    match FIELDS.iter().find(|(field, _)| *field == number) {
                        None => {}
                        Some(_) if number == expected => return Ok(Some(value)),
                        Some((_, name)) => return Err(self.other_field(name, expected, spec)),
                    }
                }
                match tensor.next()? {
                    None => return Ok(None),
                    Some((5, value)) => contents = value.fields()?,
                    Some(_) => {}
                }
            }
        })
    }

    /// The refusal of values in the field of another datatype.
    fn other_field(&self, found: &str, expected: u64, spec: &TensorSpec) -> ApiError {
        let expected = FIELDS.iter().find(|(field, _)| *field == expected);
        ApiError::invalid(
            ErrorCode::DatatypeMismatch,
            format!(
                "inputs[{}].contents: expected {}, as input {:?} is {spec}, got {found}; send its values \
                 there",
                self.place,
                expected.map_or("", |(_, name)| name),
                spec.name
            ),
        )
    }
}

/// The fields of `InferTensorContents`.
const FIELDS: [(u64, &str); 8] = [
    (1, "bool_contents"),
    (2, "int_contents"),
    (3, "int64_contents"),
    (4, "uint_contents"),
    (5, "uint64_contents"),
    (6, "fp32_contents"),
    (7, "fp64_contents"),
    (8, "bytes_contents"),
];

/// The field that has the values of a datatype. Halves have none, and are refused before.
fn field_of(datatype: DataType) -> u64 {
    match datatype {
        DataType::Bool => 1,
        DataType::Int8 | DataType::Int16 | DataType::Int32 => 2,
        DataType::Int64 => 3,
        DataType::Uint8 | DataType::Uint16 | DataType::Uint32 => 4,
        DataType::Uint64 => 5,
        DataType::Fp16 | DataType::Bf16 | DataType::Fp32 => 6,
        DataType::Fp64 => 7,
        DataType::Bytes => 8,
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
