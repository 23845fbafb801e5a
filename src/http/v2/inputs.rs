//! The tensors of `inputs`, as JSON or as binary data.

use std::borrow::Cow;

use super::binary::{Blobs, bad_length};
use super::shape::{Declared, Form, check, needs_values};
use crate::http::error::{ApiError, ErrorCode};
use crate::http::numbers::{Element, finite};
use crate::json::{Kind, Mark, Reader};
use crate::model::Signature;
use crate::spelling::excerpt;

/// The inputs that came so far.
pub(super) struct Inputs<'a, 'b> {
    signature: &'a Signature,
    max_rows: usize,
    /// What follows the JSON, if the head says that something does.
    blobs: Option<Blobs<'b>>,
    taken: ReceivedInputs<'a>,
}

/// The data of each input of a signature that came so far, in whatever format.
pub(super) struct ReceivedInputs<'a> {
    signature: &'a Signature,
    data: Vec<Option<Data>>,
}

/// One tensor of `inputs`, its members in whatever order they come.
#[derive(Default)]
struct Tensor<'b> {
    name: Option<Cow<'b, str>>,
    datatype: Option<Cow<'b, str>>,
    shape: Option<Declared>,
    /// Where the data is, if it came before what it must be checked against.
    unread: Option<Mark>,
    data: Option<Data>,
    /// `binary_data_size`, and where it is.
    binary: Option<(u64, Mark)>,
}

/// The values of one input.
#[derive(Clone)]
pub(super) struct Data {
    /// The input's position in the signature.
    pub(super) index: usize,
    pub(super) rows: usize,
    pub(super) values: Vec<f32>,
}

impl Tensor<'_> {
    /// Whether its data can be checked as it comes.
    fn is_described(&self) -> bool {
        self.name.is_some() && self.datatype.is_some() && self.shape.is_some()
    }
}

impl<'a, 'b> Inputs<'a, 'b> {
    pub(super) fn new(signature: &'a Signature, max_rows: usize, blobs: Option<Blobs<'b>>) -> Self {
        Self {
            signature,
            max_rows,
            blobs,
            taken: ReceivedInputs::none(signature),
        }
    }

    /// Reads one of `inputs`.
    pub(super) fn read(&mut self, reader: &mut Reader<'_>) -> Result<(), ApiError> {
        let place = reader.mark();
        let data = self.tensor(reader, place);
        data.and_then(|data| self.taken.put(data))
            .map_err(|error| error.at(reader.path(place)))
    }

    fn tensor<'j>(&mut self, reader: &mut Reader<'j>, place: Mark) -> Result<Data, ApiError> {
        let mut tensor = Tensor::<'j>::default();
        reader.object(|reader, key| {
            match key {
                "name" => tensor.name = Some(reader.string()?),
                "datatype" => tensor.datatype = Some(reader.string()?),
                "shape" => tensor.shape = Some(Declared::read(reader)?),
                "parameters" if reader.null()? => {}
                "parameters" => tensor.binary = parameters(reader)?,
                "data" if tensor.is_described() => {
                    tensor.data = Some(self.json(reader, &tensor, place)?);
                }
                "data" => {
                    tensor.unread = Some(reader.mark());
                    reader.skip()?;
                }
                _ => reader.skip()?,
            }
            Ok::<_, ApiError>(())
        })?;
        match (tensor.data.take(), tensor.unread, tensor.binary) {
            (Some(data), _, None) => Ok(data),
            (None, Some(unread), None) => {
                reader.revisit(unread, |reader| self.json(reader, &tensor, place))
            }
            (None, None, Some((bytes, at))) => self.binary(reader, &tensor, place, bytes, at),
            (None, None, None) => {
                // What else is wrong comes first: it may be why there is no data.
                self.check(reader, &tensor, place, Form::Json)?;
                Err(missing(reader, place, "data"))
            }
            (_, _, Some(_)) => Err(ApiError::invalid(
                ErrorCode::AmbiguousRequest,
                format!(
                    "{}: expected either \"data\" or \"binary_data_size\", got both; send the \
                     values once",
                    reader.path(place)
                ),
            )),
        }
    }

    /// The tensor's position in the signature and its rows.
    fn check(
        &self,
        reader: &Reader<'_>,
        tensor: &Tensor<'_>,
        place: Mark,
        form: Form,
    ) -> Result<(usize, usize), ApiError> {
        let missing = |key| missing(reader, place, key);
        let inputs = &self.signature.inputs;
        let name = tensor.name.as_deref().ok_or_else(|| missing("name"))?;
        let index = self
            .taken
            .index_of(name, || reader.path(place).to_string())?;
        let datatype = tensor.datatype.as_deref();
        let datatype = datatype.ok_or_else(|| missing("datatype"))?;
        let shape = tensor.shape.as_ref().ok_or_else(|| missing("shape"))?;
        let rows = check(&inputs[index], datatype, shape, self.max_rows, form)?;
        Ok((index, rows))
    }

    /// Reads the data of a tensor whose other members are known.
    fn json(
        &self,
        reader: &mut Reader<'_>,
        tensor: &Tensor<'_>,
        place: Mark,
    ) -> Result<Data, ApiError> {
        let (index, rows) = self.check(reader, tensor, place, Form::Json)?;
        let spec = &self.signature.inputs[index];
        if reader.peek()? != Kind::Array {
            return Err(reader.expected("an array of numbers").into());
        }
        // The shape was checked, so that this cannot overflow; and no body makes more room than
        // its own bytes could fill, two for a number and its comma.
        let count = rows * spec.shape.elements();
        let mut values = Vec::with_capacity(count.min(reader.bytes_left() / 2 + 1));
        let extents = reader.numbers(&mut values, count)?;
        needs_values(spec, rows, values.len(), &extents)?;
        Ok(Data {
            index,
            rows,
            values,
        })
    }

    /// Takes the next binary data for a tensor whose members are all known. `at` is where it says
    /// its size.
    fn binary(
        &mut self,
        reader: &Reader<'_>,
        tensor: &Tensor<'_>,
        place: Mark,
        bytes: u64,
        at: Mark,
    ) -> Result<Data, ApiError> {
        let (index, rows) = self.check(reader, tensor, place, Form::Binary)?;
        let spec = &self.signature.inputs[index];
        let datatype = tensor.datatype.as_deref().unwrap_or_default();
        let element = Element::named(datatype).expect("`check` takes no other datatype");
        // The shape was checked, so that this cannot overflow 128 bits.
        let expected = rows as u128 * spec.shape.elements() as u128 * element.bytes() as u128;
        let Some(blobs) = &mut self.blobs else {
            return Err(bad_length(&format!(
                "expected it, as {} announces binary data, got none",
                reader.path(at)
            )));
        };
        if u128::from(bytes) != expected {
            return Err(ApiError::invalid(
                ErrorCode::BinarySizeMismatch,
                format!(
                    "{}: input {:?}: {datatype} of this shape takes {expected} bytes, got {bytes}; \
                     send {} bytes a value",
                    reader.path(at),
                    spec.name,
                    element.bytes()
                ),
            ));
        }
        let left = blobs.left();
        let blob = usize::try_from(bytes).ok().and_then(|n| blobs.take(n));
        let Some(blob) = blob else {
            return Err(ApiError::invalid(
                ErrorCode::BinarySizeMismatch,
                format!(
                    "{}: input {:?}: expected {bytes} bytes after the JSON and the inputs before, \
                     got {left}; send all inputs' data, in the order of \"inputs\"",
                    reader.path(at),
                    spec.name
                ),
            ));
        };
        Ok(Data {
            index,
            rows,
            values: finite(self.signature, spec, element, blob)?,
        })
    }

    /// The rows of all inputs, and their buffers in the order of the signature.
    pub(super) fn finish(self) -> Result<(usize, Vec<Vec<f32>>), ApiError> {
        if let Some(left @ 1..) = self.blobs.as_ref().map(Blobs::left) {
            return Err(ApiError::invalid(
                ErrorCode::BinarySizeMismatch,
                format!(
                    "the body: expected its end after the binary data of the inputs, got {left} \
                     bytes more; give each input that sends some its \"binary_data_size\""
                ),
            ));
        }
        self.taken.finish()
    }
}

impl<'a> ReceivedInputs<'a> {
    pub(super) fn none(signature: &'a Signature) -> Self {
        Self {
            signature,
            data: vec![None; signature.inputs.len()],
        }
    }

    /// The position of the input of this name; `place` is where the tensor is.
    pub(super) fn index_of(
        &self,
        name: &str,
        place: impl Fn() -> String,
    ) -> Result<usize, ApiError> {
        let inputs = &self.signature.inputs;
        if let Some(index) = inputs.iter().position(|spec| spec.name == name) {
            return Ok(index);
        }
        let known: Vec<_> = inputs
            .iter()
            .map(|spec| format!("{:?}", spec.name))
            .collect();
        Err(ApiError::invalid(
            ErrorCode::UnknownInput,
            format!(
                "{}.name: the model has no input {}; it takes {}",
                place(),
                excerpt(name, 40),
                known.join(", ")
            ),
        ))
    }

    /// Takes an input's data.
    ///
    /// # Errors
    /// 400 if it came before.
    pub(super) fn put(&mut self, data: Data) -> Result<(), ApiError> {
        let index = data.index;
        match self.data[index].replace(data) {
            None => Ok(()),
            Some(_) => Err(ApiError::invalid(
                ErrorCode::DuplicateInput,
                format!("input {:?} comes twice", self.signature.inputs[index].name),
            )),
        }
    }

    /// The rows of all inputs, and their buffers in the order of the signature.
    ///
    /// # Errors
    /// 400 if one did not come, or with other rows than the first.
    pub(super) fn finish(self) -> Result<(usize, Vec<Vec<f32>>), ApiError> {
        let mut rows = None;
        let mut buffers = Vec::with_capacity(self.data.len());
        for (taken, spec) in self.data.into_iter().zip(&self.signature.inputs) {
            let Some(data) = taken else {
                return Err(ApiError::invalid(
                    ErrorCode::MissingInput,
                    format!(
                        "inputs: input {:?}: expected {spec}, got none; add it to \"inputs\"",
                        spec.name
                    ),
                ));
            };
            let (first, first_rows) = *rows.get_or_insert((&spec.name, data.rows));
            if data.rows != first_rows {
                return Err(ApiError::invalid(
                    ErrorCode::ShapeMismatch,
                    format!(
                        "input {:?} has {} rows, but input {first:?} has {first_rows}; send as many of \
                         each",
                        spec.name, data.rows
                    ),
                ));
            }
            buffers.push(data.values);
        }
        let (_, rows) = rows.expect("a model has at least one input");
        Ok((rows, buffers))
    }
}

/// The rows of a body that is the only input's values, in the model's own datatype.
pub(super) fn raw(
    body: &[u8],
    signature: &Signature,
    max_rows: usize,
) -> Result<(usize, Vec<Vec<f32>>), ApiError> {
    let [spec] = &*signature.inputs else {
        return Err(bad_length(&format!(
            "0 says that the body is the model's only input, but it has {}",
            signature.inputs.len()
        )));
    };
    let element = Element::named(spec.datatype.as_str()).expect("models take FP32");
    let row_bytes = spec.shape.elements() * element.bytes();
    let rows = body.len() / row_bytes.max(1);
    if rows == 0 || rows * row_bytes != body.len() {
        return Err(ApiError::invalid(
            ErrorCode::BinarySizeMismatch,
            format!(
                "the body: input {:?}: expected rows of {row_bytes} bytes, as it is {spec}, got {} \
                 bytes; send whole rows, at least 1",
                spec.name,
                body.len()
            ),
        ));
    }
    if rows > max_rows {
        return Err(ApiError::invalid(
            ErrorCode::TooManyRows,
            format!(
                "the body: input {:?}: expected {spec}, got {rows} rows; send at most {max_rows} \
                 rows a request, or raise limits.max_request_rows",
                spec.name
            ),
        ));
    }
    Ok((rows, vec![finite(signature, spec, element, body)?]))
}

/// Reads the parameters of an input: how many bytes of binary data it has, and where it says so.
fn parameters(reader: &mut Reader<'_>) -> Result<Option<(u64, Mark)>, ApiError> {
    let mut binary = None;
    reader.object(|reader, key| {
        let at = reader.mark();
        match key {
            "binary_data_size" => binary = Some((reader.u64()?, at)),
            "shared_memory_region" => {
                return Err(ApiError::invalid(
                    ErrorCode::NotServed,
                    format!(
                        "{}: shared memory is not served; send the values as \"data\" or as binary \
                         data",
                        reader.path(at)
                    ),
                )
                .at(reader.path(at)));
            }
            _ => reader.skip()?,
        }
        Ok(())
    })?;
    Ok(binary)
}

/// A tensor or an output without one of its keys.
pub(super) fn missing(reader: &Reader<'_>, place: Mark, key: &str) -> ApiError {
    ApiError::invalid(
        ErrorCode::MissingField,
        format!("{}: expected the key {key:?}", reader.path(place)),
    )
    .at(reader.path(place))
}
