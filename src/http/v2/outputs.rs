//! The outputs that a request asks for, and how it wants each.

use super::super::error::ApiError;
use super::super::json::{Reader, excerpt};
use super::inputs::missing;
use crate::model::Signature;

/// An output that is asked for.
#[derive(Clone, Copy, Debug)]
pub(super) struct Asked {
    /// Its position in the signature.
    pub(super) position: usize,
    /// Whether it goes out as binary data, if the request says so of this one.
    pub(super) is_binary: Option<bool>,
}

impl Asked {
    /// All outputs, in the model's order.
    pub(super) fn all(signature: &Signature) -> impl Iterator<Item = Self> {
        (0..signature.outputs.len()).map(|position| Self {
            position,
            is_binary: None,
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
        let mut is_binary = None;
        reader.object(|reader, key| {
            match key {
                "name" => name = Some(reader.string()?),
                "parameters" if reader.null()? => {}
                "parameters" => is_binary = parameters(reader)?,
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
        Ok(Self {
            position,
            is_binary,
        })
    }
}

fn parameters(reader: &mut Reader<'_>) -> Result<Option<bool>, ApiError> {
    let mut is_binary = None;
    reader.object(|reader, key| {
        let at = reader.mark();
        let not_served = |reader: &Reader<'_>, what: &str| {
            ApiError::invalid("not_served", format!("{}: {what}", reader.path(at)))
        };
        match key {
            "binary_data" => is_binary = Some(reader.bool()?),
            "classification" => {
                return Err(not_served(
                    reader,
                    "the classification extension (tritonclient's class_count) is not served; ask \
                     for the outputs \"class_id\" and \"label\"",
                ));
            }
            "shared_memory_region" => {
                return Err(not_served(
                    reader,
                    "shared memory is not served; take the values from the answer",
                ));
            }
            _ => reader.skip()?,
        }
        Ok(())
    })?;
    Ok(is_binary)
}
