//! The outputs that a request asks for, and how it wants each.

use std::borrow::Cow;
use std::cell::OnceCell;

use super::binary::Values;
use super::classes::Ranked;
use super::inputs::missing;
use crate::http::error::{ApiError, ErrorCode};
use crate::json::{Mark, Reader};
use crate::model::{OutputSource, Signature};
use crate::request::InferResponse;
use crate::spelling::excerpt;
use crate::tensor::DataType;

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
        let source = signature.outputs[position].source;
        if classes.is_some() && !matches!(source, OutputSource::Engine(_)) {
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
    pub(super) values: Values<'a>,
}

impl<'a> OutputValues<'a> {
    /// Takes an output that is asked for from a model's answer. `classes` are of all rows, worked out
    /// once for the two outputs that show them.
    ///
    /// # Errors
    /// 422 if classes are to be ranked by what is not finite.
    pub(super) fn of(
        asked: &RequestedOutput,
        signature: &'a Signature,
        response: &'a InferResponse,
        classes: &'a OnceCell<Vec<usize>>,
    ) -> Result<Self, ApiError> {
        let output = &signature.outputs[asked.position];
        let classes = || classes.get_or_init(|| signature.classes(response).unwrap_or_default());
        let mut chosen = Self {
            name: &output.spec.name,
            datatype: output.spec.datatype,
            row_shape: Cow::Borrowed(&output.spec.shape.extents),
            values: match output.source {
                OutputSource::Engine(index) => Values::Numbers(&response.outputs[index]),
                OutputSource::ClassId => Values::ClassIds(classes()),
                OutputSource::Label => Values::Labels(&signature.labels, classes()),
            },
        };
        if let (Some(most), Values::Numbers(values)) = (asked.classes, &chosen.values) {
            if !is_finite(signature, values) {
                return Err(ApiError::NonFiniteAnswer {
                    output: output.spec.name.clone(),
                    is_ranked: true,
                });
            }
            let ranked = Ranked::of(signature, asked.position, values, most);
            chosen.datatype = DataType::Bytes;
            chosen.row_shape = Cow::Owned(vec![ranked.classes]);
            chosen.values = Values::Texts(ranked.texts);
        }
        Ok(chosen)
    }

    /// Checks that its values are what JSON's numbers can carry.
    ///
    /// # Errors
    /// 422 if not.
    pub(super) fn expect_finite(&self, signature: &Signature) -> Result<(), ApiError> {
        match &self.values {
            Values::Numbers(values) if !is_finite(signature, values) => {
                Err(ApiError::NonFiniteAnswer {
                    output: self.name.to_owned(),
                    is_ranked: false,
                })
            }
            _ => Ok(()),
        }
    }
}

/// The engine's own answers are finite unless the model allows others.
fn is_finite(signature: &Signature, values: &[f32]) -> bool {
    !signature.allow_non_finite || values.iter().fold(true, |all, v| all & v.is_finite())
}
