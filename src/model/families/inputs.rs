//! Inputs of networks, and the key `inputs` of the families whose configuration is ours.

use crate::engine::MAX_ROW_ELEMENTS;
use crate::model::json::{Field, Fields, JsonError};
use crate::model::lowering::{Lowering, Refusal};
use crate::tensor::{Axis, DataType, Shape, TensorSpec};

/// The only axis along which rows have tokens.
const TOKENS: Axis = Axis(0);

/// Takes the inputs of a configuration, at least one.
pub(super) fn all(config: &mut Fields) -> Result<Vec<TensorSpec>, JsonError> {
    let inputs = config.require("inputs")?;
    let none = inputs.expected("at least one input");
    let inputs: Vec<TensorSpec> = inputs
        .list()?
        .into_iter()
        .map(input)
        .collect::<Result<_, _>>()?;
    match inputs.is_empty() {
        true => Err(none),
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
    let shape = row_shape(&shape, shape.clone().list()?)?;
    let datatype = fields.take("datatype").map(datatype).transpose()?;
    let description = match fields.take("description") {
        Some(field) => field.string()?,
        None => String::new(),
    };
    fields.finish()?;
    Ok(TensorSpec {
        description,
        ..TensorSpec::new(name, datatype.unwrap_or(DataType::Fp32), shape)
    })
}

fn datatype(field: Field) -> Result<DataType, JsonError> {
    let refusal = field.expected("\"FP32\", or \"INT64\" for what a layer looks up");
    let name = field.string()?;
    let known = [DataType::Fp32, DataType::Int64];
    let found = known.into_iter().find(|known| known.as_str() == name);
    found.ok_or(refusal)
}

/// The shape of an input, of the extents that `place` lists for one row. A first extent of `null` is
/// that of the row's tokens, as many as a request says; all inputs that have it have the same tokens.
pub(super) fn row_shape(place: &Field, mut extents: Vec<Field>) -> Result<Shape, JsonError> {
    let has_tokens = extents.first().is_some_and(Field::is_null);
    let extents = extents.split_off(usize::from(has_tokens));
    let extents: Vec<usize> = extents
        .into_iter()
        .map(Field::extent)
        .collect::<Result<_, _>>()?;
    let elements = extents.iter().try_fold(1_usize, |product, extent| {
        product
            .checked_mul(*extent)
            .filter(|elements| *elements <= MAX_ROW_ELEMENTS)
    });
    match elements {
        Some(_) if has_tokens => Ok(Shape::tokens(TOKENS, extents)),
        Some(_) => Ok(Shape::rows(extents)),
        None => Err(place.error(format!(
            "expected at most {MAX_ROW_ELEMENTS} numbers a row, got shape {extents:?}"
        ))),
    }
}
