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
    /// The rows count as axis 0; -1 is the last.
    axis: i64,
}

fn sequential(layer: &mut SequentialLayer<'_>) -> Read {
    let axis = match layer.fields.take("axis") {
        None => -1,
        Some(field) => {
            let refusal = field.expected("an axis of the row: 0 for the first, -1 for the last");
            match field.integer()? {
                i64::MAX => return Err(refusal),
                axis if axis >= 0 => axis + 1,
                axis => axis,
            }
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
            match field.integer()? {
                0 => return Err(refusal),
                axis => axis,
            }
        }
    };
    Ok(Box::new(Concatenate { axis }))
}

impl Lower for Concatenate {
    fn lower(&self, call: &mut Call<'_>) -> Result<ValueId, Refusal> {
        let inputs = call.all()?;
        let leading = inputs.first().map_or(1, |x| call.leading_axes(*x));
        let axis = match self.axis {
            axis if axis < 0 => axis,
            axis if axis < leading => {
                return Err(format!(
                    "axis {axis} is that of the tokens, the rows being axis 0; expected an axis of \
                     each token, from {leading} on"
                )
                .into());
            }
            axis => axis - leading,
        };
        let axis = isize::try_from(axis).map_err(|_| format!("axis {axis} is too large"))?;
        call.emit(Concat { axis }, &inputs)
    }
}
