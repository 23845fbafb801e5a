//! The outputs that a request asks for, and how it wants each.

use super::super::error::ApiError;
use super::super::json::{Reader, excerpt};
use super::inputs::missing;
use crate::model::{OutputSource, Signature};

/// An output that is asked for.
#[derive(Clone, Copy, Debug)]
pub(super) struct Asked {
    /// Its position in the signature.
    pub(super) position: usize,
    /// Whether it goes out as binary data, if the request says so of this one.
    pub(super) is_binary: Option<bool>,
    /// How many classes of each row it shall name instead of its values, at least 1.
    pub(super) classes: Option<usize>,
}

/// The parameters of an output.
#[derive(Default)]
struct Parameters {
    is_binary: Option<bool>,
    classes: Option<usize>,
}

impl Asked {
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
        if before.iter().any(|asked| asked.position == position) {
            return Err(ApiError::invalid(
                "duplicate_output",
                format!("output {name:?} is asked for twice"),
            ));
        }
        let Parameters { is_binary, classes } = parameters;
        let source = signature.outputs[position].source;
        if classes.is_some() && !matches!(source, OutputSource::Engine(_)) {
            return Err(ApiError::invalid(
                "wrong_task",
                format!(
                    "{}.parameters.classification: output {name:?} has no scores to name classes \
                     by; ask it of {:?}",
                    reader.path(place),
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
    fn read(reader: &mut Reader<'_>) -> Result<Self, ApiError> {
        let mut parameters = Self::default();
        reader.object(|reader, key| {
            let at = reader.mark();
            match key {
                "binary_data" => parameters.is_binary = Some(reader.bool()?),
                "classification" => {
                    let classes = reader.u64()?;
                    if classes == 0 {
                        return Err(ApiError::invalid(
                            "out_of_range",
                            format!(
                                "{}: expected a number of classes, 1 or more, got 0; leave it out \
                                 for the values themselves",
                                reader.path(at)
                            ),
                        ));
                    }
                    // More than fit is all of them.
                    parameters.classes = Some(usize::try_from(classes).unwrap_or(usize::MAX));
                }
                "shared_memory_region" => {
                    return Err(ApiError::invalid(
                        "not_served",
                        format!(
                            "{}: shared memory is not served; take the values from the answer",
                            reader.path(at)
                        ),
                    ));
                }
                _ => reader.skip()?,
            }
            Ok(())
        })?;
        Ok(parameters)
    }
}
