//! The outputs that a request asks for, and how it wants each.

use std::borrow::Cow;

use super::classes::Ranked;
use super::inputs::missing;
use crate::http::error::{ApiError, ErrorCode};
use crate::http::outputs::{OutputRows, TensorValues};
use crate::json::{Mark, Reader};
use crate::messages::excerpt;
use crate::model::{Model, OutputSource, Signature};
use crate::request::InferResponse;
use crate::tensor::{DataType, Domain, Values, View};

/// An output that is asked for.
#[derive(Clone, Copy, Debug)]
pub(super) struct RequestedOutput {
    /// Its position in the signature.
    pub(super) position: usize,
    /// Whether it goes out as binary data, if the request says so of this one.
    pub(super) is_binary: Option<bool>,
    /// How many classes of each row it shall name instead of its values, at least 1.
    pub(super) classes: Option<usize>,
}

/// The parameters of an output.
#[derive(Default)]
pub(super) struct Parameters {
    /// `binary_data`.
    is_binary: Option<bool>,
    /// `classification`.
    classes: Option<usize>,
}

impl RequestedOutput {
    /// All outputs, in the model's order.
    pub(super) fn all(signature: &Signature) -> impl Iterator<Item = Self> {
        (0..signature.outputs.len()).map(|position| Self {
            position,
            is_binary: None,
            classes: None,
        })
    }

    /// Whether any of these is made by the step after the engine.
    pub(super) fn any_finished(outputs: &[Self], signature: &Signature) -> bool {
        let mut outputs = outputs.iter();
        outputs.any(|asked| signature.outputs[asked.position].source == OutputSource::Finish)
    }

    /// Reads one of `outputs`.
    pub(super) fn read(
        reader: &mut Reader<'_>,
        signature: &Signature,
        before: &[Self],
    ) -> Result<Self, ApiError> {
        let place = reader.mark();
        let read = Self::read_at(reader, signature, before, place);
        read.map_err(|error| error.at(reader.path(place)))
    }

    fn read_at(
        reader: &mut Reader<'_>,
        signature: &Signature,
        before: &[Self],
        place: Mark,
    ) -> Result<Self, ApiError> {
        let mut name = None;
        let mut parameters = Parameters::default();
        reader.object(|reader, key| {
            match key {
                "name" => name = Some(reader.string()?),
                "parameters" if reader.null()? => {}
                "parameters" => parameters = Parameters::read(reader)?,
                _ => reader.skip()?,
            }
            Ok::<_, ApiError>(())
        })?;
        let name = name.ok_or_else(|| missing(reader, place, "name"))?;
        let place = || reader.path(place).to_string();
        Self::named(&name, parameters, signature, before, place)
    }

    /// The output of this name; `place` is where it is asked for.
    pub(super) fn named(
        name: &str,
        parameters: Parameters,
        signature: &Signature,
        before: &[Self],
        place: impl Fn() -> String,
    ) -> Result<Self, ApiError> {
        let Some(position) = signature.output(name) else {
            let specs = signature.outputs.iter().map(|output| &output.spec);
            let known: Vec<_> = specs.map(|spec| format!("{:?}", spec.name)).collect();
            return Err(ApiError::invalid(
                ErrorCode::UnknownOutput,
                format!(
                    "{}.name: the model has no output {}; it gives {}",
                    place(),
                    excerpt(name, 40),
                    known.join(", ")
                ),
            ));
        };
        if before.iter().any(|asked| asked.position == position) {
            return Err(ApiError::invalid(
                ErrorCode::DuplicateOutput,
                format!("output {name:?} is asked for twice"),
            ));
        }
        let Parameters { is_binary, classes } = parameters;
        let output = &signature.outputs[position];
        let has_scores =
            output.source == OutputSource::Engine && output.spec.shape.domain == Domain::Rows;
        if classes.is_some() && !has_scores {
            return Err(ApiError::invalid(
                ErrorCode::WrongTask,
                format!(
                    "{}.parameters.classification: output {name:?} has no scores to name classes \
                     by; ask it of {:?}",
                    place(),
                    signature.outputs[0].spec.name
                ),
            ));
        }
        Ok(Self {
            position,
            is_binary,
            classes,
        })
    }
}

impl Parameters {
    /// Asks for this many classes of each row; `place` is where.
    pub(super) fn classify(
        &mut self,
        classes: u64,
        place: impl Fn() -> String,
    ) -> Result<(), ApiError> {
        if classes == 0 {
            return Err(ApiError::invalid(
                ErrorCode::OutOfRange,
                format!(
                    "{}: expected a number of classes, 1 or more, got 0; leave it out for the \
                     values themselves",
                    place()
                ),
            ));
        }
        // More than fit is all of them.
        self.classes = Some(usize::try_from(classes).unwrap_or(usize::MAX));
        Ok(())
    }

    fn read(reader: &mut Reader<'_>) -> Result<Self, ApiError> {
        let mut parameters = Self::default();
        reader.object(|reader, key| {
            let at = reader.mark();
            match key {
                "binary_data" => parameters.is_binary = Some(reader.bool()?),
                "classification" => {
                    let classes = reader.u64()?;
                    parameters.classify(classes, || reader.path(at).to_string())?;
                }
                "shared_memory_region" => {
                    return Err(no_shared_memory(&reader.path(at).to_string()));
                }
                _ => reader.skip()?,
            }
            Ok(())
        })?;
        Ok(parameters)
    }
}

/// The refusal of an output that should go to shared memory.
pub(super) fn no_shared_memory(place: &str) -> ApiError {
    ApiError::invalid(
        ErrorCode::NotServed,
        format!("{place}: shared memory is not served; take the values from the answer"),
    )
}

/// An output as it goes out, in whatever format.
#[derive(Debug)]
pub(super) struct OutputValues<'a> {
    pub(super) name: &'a str,
    pub(super) datatype: DataType,
    /// The extents of one row.
    pub(super) row_shape: Cow<'a, [usize]>,
    pub(super) values: TensorValues<'a>,
}

impl<'a> OutputValues<'a> {
    /// Takes an output that is asked for from a model's answer.
    ///
    /// # Errors
    /// 422 if classes are to be ranked by what is not finite.
    pub(super) fn of(
        asked: &RequestedOutput,
        model: &'a Model,
        response: &'a InferResponse,
    ) -> Result<Self, ApiError> {
        let rows = OutputRows::at(asked.position, model, response);
        let rows = rows.expect("a request says whether it wants what the last step makes");
        let mut chosen = Self {
            name: &rows.spec().name,
            datatype: rows.spec().datatype,
            row_shape: rows.row_shape(),
            values: rows.padded(),
        };
        let Some(most) = asked.classes else {
            return Ok(chosen);
        };
        let signature = &model.signature;
        if !is_finite(signature, rows.values()) {
            return Err(ApiError::NonFiniteAnswer {
                output: chosen.name.to_owned(),
                is_ranked: true,
            });
        }
        let ranked = Ranked::of(signature, asked.position, rows.values().f32s(), most);
        chosen.datatype = DataType::Bytes;
        chosen.row_shape = Cow::Owned(vec![ranked.classes]);
        chosen.values = TensorValues::Owned(Values::Bytes(ranked.texts));
        Ok(chosen)
    }

    /// Checks that its values are what JSON's numbers can carry.
    ///
    /// # Errors
    /// 422 if not.
    pub(super) fn expect_finite(&self, signature: &Signature) -> Result<(), ApiError> {
        match is_finite(signature, self.values.view()) {
            true => Ok(()),
            false => Err(ApiError::NonFiniteAnswer {
                output: self.name.to_owned(),
                is_ranked: false,
            }),
        }
    }
}

/// The engine's own answers are finite unless the model allows others.
fn is_finite(signature: &Signature, values: View<'_>) -> bool {
    let View::F32(values) = values else {
        return true;
    };
    !signature.allow_non_finite || values.iter().fold(true, |all, v| all & v.is_finite())
}
