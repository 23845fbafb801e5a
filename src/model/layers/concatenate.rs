//! Values one after the other along an axis.

use crate::engine::ValueId;
use crate::engine::ops::Concat;
use crate::model::layer::{Definition, KerasLayer, Read, SequentialLayer};
use crate::model::lowering::{Call, Lower, Refusal};

pub(super) const LAYER: Definition = Definition {
    name: "concatenate",
    sequential,
    keras: &["Concatenate"],
    read_keras,
    torch: &[],
    roles: &[],
};

/// The inputs one after the other.
#[derive(Debug)]
struct Concatenate {
    /// Among the axes of a row: 0 is the first, -1 the last.
    axis: isize,
}

fn sequential(layer: &mut SequentialLayer<'_>) -> Read {
    let axis = match layer.fields.take("axis") {
        None => -1,
        Some(field) => {
            let refusal = field.expected("an axis of the row: 0 for the first, -1 for the last");
            isize::try_from(field.integer()?).map_err(|_| refusal)?
        }
    };
    Ok(Box::new(Concatenate { axis }))
}

/// Keras counts the rows as axis 0.
fn read_keras(layer: &mut KerasLayer<'_>) -> Read {
    let axis = match layer.config.take("axis") {
        None => -1,
        Some(field) => {
            let refusal = field.expected("an axis other than the rows");
            let axis = match field.integer()? {
                0 => return Err(refusal),
                axis if axis > 0 => axis - 1,
                axis => axis,
            };
            isize::try_from(axis).map_err(|_| refusal)?
        }
    };
    Ok(Box::new(Concatenate { axis }))
}

impl Lower for Concatenate {
    fn lower(&self, call: &mut Call<'_>) -> Result<ValueId, Refusal> {
        let inputs = call.all()?;
        call.emit(Concat { axis: self.axis }, &inputs)
    }
}
