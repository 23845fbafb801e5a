//! `POST .../infer`: the request's JSON to rows, and the answer's outputs to JSON.

use std::borrow::Cow;
use std::time::Duration;

use super::super::error::ApiError;
use super::super::json::{Kind, Mark, Reader, Writer, excerpt};
use super::super::predict::{Format, Rows};
use super::shape::{Declared, check, needs_values};
use crate::metrics::Protocol;
use crate::model::{Model, OutputSource, Signature};
use crate::request::InferResponse;

/// What a request says about its answer.
#[derive(Debug)]
pub(super) struct Infer {
    /// Comes back as it was sent.
    id: Option<String>,
    /// The positions of the outputs asked for, in the order asked for.
    outputs: Vec<usize>,
}

impl Format for Infer {
    const PROTOCOL: Protocol = Protocol::V2;

    fn decode(
        body: &[u8],
        signature: &Signature,
        max_rows: usize,
    ) -> Result<(Self, Rows), ApiError> {
        let mut reader = Reader::new(body)?;
        let mut id = None;
        let mut timeout = None;
        let mut outputs = Vec::new();
        let mut inputs = Inputs::new(signature, max_rows);
        let mut has_inputs = false;
        reader.object(|reader, key| match key {
            "inputs" => {
                has_inputs = true;
                reader.array(|reader, _| inputs.read(reader))
            }
            // Some clients write out what they leave empty.
            "id" | "parameters" | "outputs" if reader.null()? => Ok(()),
            "id" => {
                id = Some(reader.string()?.into_owned());
                Ok(())
            }
            "parameters" => {
                timeout = request_parameters(reader)?;
                Ok(())
            }
            "outputs" => reader.array(|reader, _| read_output(reader, signature, &mut outputs)),
            // Such as the `model_name` that KServe's client sends.
            _ => Ok(reader.skip()?),
        })?;
        reader.end()?;
        if !has_inputs {
            return Err(ApiError::invalid(
                "missing_field",
                "the body: expected the key \"inputs\" with a list of tensors",
            ));
        }
        if outputs.is_empty() {
            outputs.extend(0..signature.outputs.len());
        }
        let (rows, inputs) = inputs.finish()?;
        Ok((
            Self { id, outputs },
            Rows {
                rows,
                inputs,
                timeout,
            },
        ))
    }

    fn encode(self, model: &Model, response: &InferResponse) -> Result<Writer, ApiError> {
        let signature = &model.signature;
        let values: usize = response.outputs.iter().map(Vec::len).sum();
        let mut body = Writer::with_capacity(256 + 12 * values);
        let mut not_finite = None;
        // Worked out once for the two outputs that show classes.
        let mut classes = None;
        body.object(|body| {
            body.key("model_name").string(&model.name);
            body.key("model_version")
                .string(itoa::Buffer::new().format(model.version));
            if let Some(id) = &self.id {
                body.key("id").string(id);
            }
            body.key("outputs").array(|body| {
                for &position in &self.outputs {
                    let output = &signature.outputs[position];
                    body.object(|body| {
                        body.key("name").string(&output.spec.name);
                        body.key("datatype").string(output.spec.datatype.as_str());
                        body.key("shape").array(|body| {
                            body.integer(response.rows);
                            let extents = output.spec.row_shape.iter();
                            extents.for_each(|&extent| body.integer(extent));
                        });
                        body.key("data");
                        if let OutputSource::Engine(index) = output.source {
                            let values = &response.outputs[index];
                            if signature.allow_non_finite
                                && values.iter().any(|value| !value.is_finite())
                            {
                                not_finite = Some(output.spec.name.clone());
                            }
                            return body.f32s(values);
                        }
                        let classes = classes
                            .get_or_insert_with(|| signature.classes(response).unwrap_or_default());
                        body.array(|body| {
                            for &mut class in classes {
                                match output.source {
                                    OutputSource::Label => body.string(&signature.labels[class]),
                                    _ => body.integer(class),
                                }
                            }
                        });
                    });
                }
            });
        });
        match not_finite {
            Some(output) => Err(ApiError::NonFiniteAnswer { output }),
            None => Ok(body),
        }
    }
}

/// The inputs that came so far.
struct Inputs<'a> {
    signature: &'a Signature,
    max_rows: usize,
    /// The data of each input of the signature that came.
    taken: Vec<Option<Data>>,
}

/// One tensor of `inputs`, its members in whatever order they come.
#[derive(Default)]
struct Tensor<'b> {
    name: Option<Cow<'b, str>>,
    datatype: Option<Cow<'b, str>>,
    shape: Option<Declared>,
    /// Where the data stands, if it came before what it must be checked against.
    unread: Option<Mark>,
    data: Option<Data>,
}

/// The values of one input.
#[derive(Clone)]
struct Data {
    /// The input's position in the signature.
    index: usize,
    rows: usize,
    values: Vec<f32>,
}

impl Tensor<'_> {
    /// Whether its data can be checked as it comes.
    fn is_described(&self) -> bool {
        self.name.is_some() && self.datatype.is_some() && self.shape.is_some()
    }
}

impl<'a> Inputs<'a> {
    fn new(signature: &'a Signature, max_rows: usize) -> Self {
        Self {
            signature,
            max_rows,
            taken: vec![None; signature.inputs.len()],
        }
    }

    fn read<'b>(&mut self, reader: &mut Reader<'b>) -> Result<(), ApiError> {
        let place = reader.mark();
        let mut tensor = Tensor::<'b>::default();
        reader.object(|reader, key| {
            match key {
                "name" => tensor.name = Some(reader.string()?),
                "datatype" => tensor.datatype = Some(reader.string()?),
                "shape" => tensor.shape = Some(Declared::read(reader)?),
                "parameters" if reader.null()? => {}
                "parameters" => input_parameters(reader)?,
                "data" if tensor.is_described() => {
                    tensor.data = Some(self.data(reader, &tensor, place)?);
                }
                "data" => {
                    tensor.unread = Some(reader.mark());
                    reader.skip()?;
                }
                _ => reader.skip()?,
            }
            Ok::<_, ApiError>(())
        })?;
        let data = match (tensor.data.take(), tensor.unread) {
            (Some(data), _) => data,
            (None, Some(unread)) => {
                reader.revisit(unread, |reader| self.data(reader, &tensor, place))?
            }
            (None, None) => {
                // What else is wrong comes first: it may be why there is no data.
                self.check(reader, &tensor, place)?;
                return Err(missing(reader, place, "data"));
            }
        };
        let index = data.index;
        if self.taken[index].replace(data).is_some() {
            return Err(ApiError::invalid(
                "duplicate_input",
                format!("input {:?} comes twice", self.signature.inputs[index].name),
            ));
        }
        Ok(())
    }

    /// The tensor's position in the signature and its rows.
    fn check(
        &self,
        reader: &Reader<'_>,
        tensor: &Tensor<'_>,
        place: Mark,
    ) -> Result<(usize, usize), ApiError> {
        let missing = |key| missing(reader, place, key);
        let name = tensor.name.as_deref().ok_or_else(|| missing("name"))?;
        let inputs = &self.signature.inputs;
        let Some(index) = inputs.iter().position(|spec| spec.name == name) else {
            let known: Vec<_> = inputs
                .iter()
                .map(|spec| format!("{:?}", spec.name))
                .collect();
            return Err(ApiError::invalid(
                "unknown_input",
                format!(
                    "{}.name: the model has no input {}; it takes {}",
                    reader.path(place),
                    excerpt(name, 40),
                    known.join(", ")
                ),
            ));
        };
        let datatype = tensor.datatype.as_deref();
        let datatype = datatype.ok_or_else(|| missing("datatype"))?;
        let shape = tensor.shape.as_ref().ok_or_else(|| missing("shape"))?;
        let rows = check(&inputs[index], datatype, shape, self.max_rows)?;
        Ok((index, rows))
    }

    /// Reads the data of a tensor whose other members are known.
    fn data(
        &self,
        reader: &mut Reader<'_>,
        tensor: &Tensor<'_>,
        place: Mark,
    ) -> Result<Data, ApiError> {
        let (index, rows) = self.check(reader, tensor, place)?;
        let spec = &self.signature.inputs[index];
        if reader.peek()? != Kind::Array {
            return Err(reader.expected("an array of numbers").into());
        }
        // The shape was checked, so that this cannot overflow; and no body makes more room than
        // its own bytes could fill, two for a number and its comma.
        let count = rows * spec.row_elements();
        let mut values = Vec::with_capacity(count.min(reader.bytes_left() / 2 + 1));
        let extents = reader.numbers(&mut values, count)?;
        needs_values(spec, rows, values.len(), &extents)?;
        Ok(Data {
            index,
            rows,
            values,
        })
    }

    fn finish(self) -> Result<(usize, Vec<Vec<f32>>), ApiError> {
        let mut rows = None;
        let mut buffers = Vec::with_capacity(self.taken.len());
        for (taken, spec) in self.taken.into_iter().zip(&self.signature.inputs) {
            let Some(data) = taken else {
                return Err(ApiError::invalid(
                    "missing_input",
                    format!(
                        "inputs: input {:?}: expected {spec}, got none; add it to \"inputs\"",
                        spec.name
                    ),
                ));
            };
            let (first, first_rows) = *rows.get_or_insert((&spec.name, data.rows));
            if data.rows != first_rows {
                return Err(ApiError::invalid(
                    "shape_mismatch",
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

fn missing(reader: &Reader<'_>, place: Mark, key: &str) -> ApiError {
    ApiError::invalid(
        "missing_field",
        format!("{}: expected the key {key:?}", reader.path(place)),
    )
}

/// Reads one of `outputs`.
fn read_output(
    reader: &mut Reader<'_>,
    signature: &Signature,
    outputs: &mut Vec<usize>,
) -> Result<(), ApiError> {
    let place = reader.mark();
    let mut name = None;
    reader.object(|reader, key| {
        match key {
            "name" => name = Some(reader.string()?.into_owned()),
            "parameters" if reader.null()? => {}
            "parameters" => output_parameters(reader)?,
            _ => reader.skip()?,
        }
        Ok::<_, ApiError>(())
    })?;
    let name = name.ok_or_else(|| missing(reader, place, "name"))?;
    let Some(position) = signature.output(&name) else {
        let specs = signature.outputs.iter().map(|output| &output.spec);
        let known: Vec<_> = specs.map(|spec| format!("{:?}", spec.name)).collect();
        return Err(ApiError::invalid(
            "unknown_output",
            format!(
                "{}.name: the model has no output {}; it gives {}",
                reader.path(place),
                excerpt(&name, 40),
                known.join(", ")
            ),
        ));
    };
    if outputs.contains(&position) {
        return Err(ApiError::invalid(
            "duplicate_output",
            format!("output {name:?} is asked for twice"),
        ));
    }
    outputs.push(position);
    Ok(())
}

/// Reads the parameters of a request; returns how long it may wait.
fn request_parameters(reader: &mut Reader<'_>) -> Result<Option<Duration>, ApiError> {
    let mut timeout = None;
    reader.object(|reader, key| {
        match key {
            // Microseconds; 0 asks for the server's default, as with Triton.
            "timeout" => {
                let microseconds = reader.u64()?;
                timeout = Some(Duration::from_micros(microseconds)).filter(|wait| !wait.is_zero());
            }
            "binary_data_output" => refuse_binary(reader)?,
            _ if key.starts_with("triton_") => {
                return Err(ApiError::invalid(
                    "reserved_parameter",
                    format!(
                        "parameters: the name {} is reserved; choose one without \"triton_\"",
                        excerpt(key, 40)
                    ),
                ));
            }
            _ => reader.skip()?,
        }
        Ok(())
    })?;
    Ok(timeout)
}

fn input_parameters(reader: &mut Reader<'_>) -> Result<(), ApiError> {
    reader.object(|reader, key| match key {
        "binary_data_size" => Err(binary_not_served(&place(reader))),
        "shared_memory_region" => Err(ApiError::invalid(
            "not_served",
            format!(
                "{}: shared memory is not served; send the values as \"data\"",
                place(reader)
            ),
        )),
        _ => Ok(reader.skip()?),
    })
}

fn output_parameters(reader: &mut Reader<'_>) -> Result<(), ApiError> {
    reader.object(|reader, key| match key {
        "binary_data" => refuse_binary(reader),
        "classification" => Err(ApiError::invalid(
            "not_served",
            format!(
                "{}: the classification extension (tritonclient's class_count) is not served; ask \
                 for the outputs \"class_id\" and \"label\"",
                place(reader)
            ),
        )),
        _ => Ok(reader.skip()?),
    })
}

/// Reads whether the client wants binary data, and refuses if so.
fn refuse_binary(reader: &mut Reader<'_>) -> Result<(), ApiError> {
    let place = place(reader);
    if reader.bool()? {
        return Err(binary_not_served(&place));
    }
    Ok(())
}

/// The path of the value that comes next.
fn place(reader: &mut Reader<'_>) -> String {
    let mark = reader.mark();
    reader.path(mark)
}

/// The one place that says so: the binary tensor data extension has its way in and out here.
pub(super) fn binary_not_served(place: &str) -> ApiError {
    ApiError::invalid(
        "not_served",
        format!(
            "{place}: the binary tensor data extension is not served yet; send and ask for JSON \
             data (with tritonclient: binary_data=False for each input and each named output)"
        ),
    )
}
