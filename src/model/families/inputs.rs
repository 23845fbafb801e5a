//! Inputs of networks, and the key `inputs` of the families whose configuration is ours.

use crate::engine::MAX_ROW_ELEMENTS;
use crate::model::json::{Field, Fields, JsonError};
use crate::model::lowering::{Lowering, Refusal};
use crate::tensor::{DataType, Shape, TensorSpec};

/// Takes the inputs of a configuration, of which there is one at least.
pub(super) fn all(config: &mut Fields) -> Result<Vec<TensorSpec>, JsonError> {
    let inputs = config.require("inputs")?;
    let nobody = inputs.expected("at least one input");
    let inputs: Vec<TensorSpec> = inputs
        .list()?
        .into_iter()
        .map(input)
        .collect::<Result<_, _>>()?;
    match inputs.is_empty() {
        true => Err(nobody),
        false => Ok(inputs),
    }
}

/// Adds inputs to a network.
pub(super) fn add(inputs: &[TensorSpec], lowering: &mut Lowering) -> Result<(), JsonError> {
    for input in inputs {
        lowering.input(input.clone()).map_err(|refusal| {
            let problem = match refusal {
                Refusal::NameTaken(name) => {
                    format!("two have the name {name:?}; each needs its own")
                }
                other => other.to_string(),
            };
            JsonError::new("inputs", problem)
        })?;
    }
    Ok(())
}

fn input(field: Field) -> Result<TensorSpec, JsonError> {
    let mut fields = field.object()?;
    let name = fields.require("name")?.string()?;
    let shape = fields.require("shape")?;
    let row_shape = row_shape(&shape, shape.clone().list()?)?;
    if let Some(datatype) = fields.take("datatype") {
        let refusal = datatype.expected("\"FP32\", the only datatype of inputs");
        if datatype.string()? != DataType::Fp32.as_str() {
            return Err(refusal);
        }
    }
    let description = match fields.take("description") {
        Some(field) => field.string()?,
        None => String::new(),
    };
    fields.finish()?;
    Ok(TensorSpec {
        description,
        ..TensorSpec::new(name, DataType::Fp32, Shape::rows(row_shape))
    })
}

/// The shape of one row of an input, of the extents that `place` lists.
pub(super) fn row_shape(place: &Field, extents: Vec<Field>) -> Result<Vec<usize>, JsonError> {
    let shape: Vec<usize> = extents
        .into_iter()
        .map(Field::extent)
        .collect::<Result<_, _>>()?;
    let elements = shape.iter().try_fold(1_usize, |product, extent| {
        product
            .checked_mul(*extent)
            .filter(|elements| *elements <= MAX_ROW_ELEMENTS)
    });
    match elements {
        Some(_) => Ok(shape),
        None => Err(place.error(format!(
            "expected at most {MAX_ROW_ELEMENTS} numbers a row, got shape {shape:?}"
        ))),
    }
}
