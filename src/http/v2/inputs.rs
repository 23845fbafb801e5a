//! The tensors of `inputs`, as JSON or as binary data.

use std::borrow::Cow;

use super::binary::{Blobs, bad_length};
use crate::http::error::{ApiError, ErrorCode};
use crate::http::intake::binary::{check_length, strings_in};
use crate::http::intake::{
    Declared, Form, Given, InputRows, ReceivedInputs, Rows, Size, check, too_many_rows,
};
use crate::json::{Mark, Reader};
use crate::model::Signature;

/// The inputs that came so far.
pub(super) struct Inputs<'a, 'b> {
    signature: &'a Signature,
    max_rows: usize,
    /// What follows the JSON, if the head says that something does.
    blobs: Option<Blobs<'b>>,
    taken: ReceivedInputs<'a>,
}

/// One tensor of `inputs`, its members in whatever order they come.
#[derive(Default)]
struct Tensor<'a, 'b> {
    name: Option<Cow<'b, str>>,
    datatype: Option<Cow<'b, str>>,
    shape: Option<Declared>,
    /// Where the data is, if it came before what it must be checked against.
    unread: Option<Mark>,
    data: Option<Data<'a>>,
    /// `binary_data_size`, and where it is.
    binary: Option<(u64, Mark)>,
}

/// The rows of the input at this position in the signature.
type Data<'a> = (usize, InputRows<'a>);

impl Tensor<'_, '_> {
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
        data.and_then(|(index, rows)| self.taken.put(index, rows))
            .map_err(|error| error.at(reader.path(place)))
    }

    fn tensor<'j>(&mut self, reader: &mut Reader<'j>, place: Mark) -> Result<Data<'a>, ApiError> {
        let mut tensor = Tensor::<'a, 'j>::default();
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
                self.check(reader, &tensor, place, Form::Typed)?;
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

    /// The tensor's position in the signature and its size.
    fn check(
        &self,
        reader: &Reader<'_>,
        tensor: &Tensor<'_, '_>,
        place: Mark,
        form: Form,
    ) -> Result<(usize, Size), ApiError> {
        let missing = |key| missing(reader, place, key);
        let inputs = &self.signature.inputs;
        let name = tensor.name.as_deref().ok_or_else(|| missing("name"))?;
        let index = self
            .taken
            .index_of(name, || format!("{}.name", reader.path(place)))?;
        let datatype = tensor.datatype.as_deref();
        let datatype = datatype.ok_or_else(|| missing("datatype"))?;
        let shape = tensor.shape.as_ref().ok_or_else(|| missing("shape"))?;
        let size = check(
            &inputs[index],
            Given::named(datatype),
            shape,
            self.max_rows,
            form,
        )?;
        Ok((index, size))
    }

    /// Reads the data of a tensor whose other members are known.
    fn json(
        &self,
        reader: &mut Reader<'_>,
        tensor: &Tensor<'_, '_>,
        place: Mark,
    ) -> Result<Data<'a>, ApiError> {
        let (index, size) = self.check(reader, tensor, place, Form::Typed)?;
        let mut rows = InputRows::none(&self.signature.inputs[index]);
        rows.read_declared(reader, size)?;
        Ok((index, rows))
    }

    /// Takes the next binary data for a tensor whose members are all known. `at` is where it says
    /// its size.
    fn binary(
        &mut self,
        reader: &Reader<'_>,
        tensor: &Tensor<'_, '_>,
        place: Mark,
        bytes: u64,
        at: Mark,
    ) -> Result<Data<'a>, ApiError> {
        let (index, size) = self.check(reader, tensor, place, Form::Binary)?;
        let spec = &self.signature.inputs[index];
        let here = || reader.path(at).to_string();
        let Some(blobs) = &mut self.blobs else {
            return Err(bad_length(&format!(
                "expected it, as {} announces binary data, got none",
                here()
            )));
        };
        let bytes = usize::try_from(bytes).unwrap_or(usize::MAX);
        check_length(spec, size, bytes, here)?;
        let left = blobs.left();
        let Some(blob) = blobs.take(bytes) else {
            return Err(ApiError::invalid(
                ErrorCode::BinarySizeMismatch,
                format!(
                    "{}: input {:?}: expected {bytes} bytes after the JSON and the inputs before, \
                     got {left}; send all inputs' data, in the order of \"inputs\"",
                    here(),
                    spec.name
                ),
            ));
        };
        let mut rows = InputRows::none(spec);
        rows.read_binary(size, blob, self.signature.allow_non_finite, here)?;
        Ok((index, rows))
    }

    /// The rows of all inputs.
    pub(super) fn finish(self) -> Result<Rows, ApiError> {
        if let Some(left @ 1..) = self.blobs.as_ref().map(Blobs::left) {
            return Err(ApiError::invalid(
                ErrorCode::BinarySizeMismatch,
                format!(
                    "the body: expected its end after the binary data of the inputs, got {left} \
                     bytes more; give each input that sends some its \"binary_data_size\""
                ),
            ));
        }
        self.taken.finish("inputs", self.max_rows)
    }
}

/// The rows of a body that is the only input's values, in the model's own datatype: as many as its
/// bytes hold, or one row of as many tokens.
pub(super) fn raw(body: &[u8], signature: &Signature, max_rows: usize) -> Result<Rows, ApiError> {
    let [spec] = &*signature.inputs else {
        return Err(bad_length(&format!(
            "0 says that the body is the model's only input, but it has {}",
            signature.inputs.len()
        )));
    };
    let values = match spec.datatype.bytes() {
        Some(bytes) => body.len() / bytes,
        None => strings_in(body),
    };
    let items = values / spec.shape.elements().max(1);
    let (rows, tokens) = match spec.shape.axis() {
        None => (items, 1),
        Some(_) => (1, items),
    };
    if rows > max_rows {
        return Err(too_many_rows("the body", rows, max_rows));
    }
    let size = Size {
        rows,
        tokens,
        datatype: spec.datatype,
    };
    let is_whole = values == size.values(spec)
        && spec
            .datatype
            .bytes()
            .is_none_or(|bytes| values * bytes == body.len());
    if rows == 0 || !is_whole {
        let what = spec.shape.axis().map_or("rows", |_| "tokens");
        let elements = spec.shape.elements();
        let each = match spec.datatype.bytes() {
            Some(bytes) => format!("{} bytes", bytes * elements),
            None => format!("{elements} byte strings"),
        };
        return Err(ApiError::invalid(
            ErrorCode::BinarySizeMismatch,
            format!(
                "the body: input {:?}: expected {what} of {each}, as it is {spec}, got {} bytes; send \
                 whole {what}{}",
                spec.name,
                body.len(),
                if what == "rows" { ", at least 1" } else { "" }
            ),
        ));
    }
    let mut input = InputRows::none(spec);
    let place = || "the body".to_owned();
    input.read_binary(size, body, signature.allow_non_finite, place)?;
    Rows::join("the body", vec![input], max_rows)
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
