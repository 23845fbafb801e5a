//! All of a row in one axis.

use crate::engine::ValueId;
use crate::engine::ops::Reshape;
use crate::model::json::Field;
use crate::model::layer::{Definition, KerasLayer, Read, SequentialLayer};
use crate::model::lowering::{Call, Lower, Refusal};

pub(super) const LAYER: Definition = Definition {
    name: "flatten",
    sequential,
    keras: &["Flatten"],
    read_keras,
    torch: &["Flatten"],
    roles: &[],
};

/// The numbers of a row one after the other.
#[derive(Debug)]
struct Flatten {
    /// The axis that goes to the end first, the rows being axis 0.
    axis: Option<i64>,
}

fn sequential(_layer: &mut SequentialLayer<'_>) -> Read {
    Ok(Box::new(Flatten { axis: None }))
}

fn read_keras(layer: &mut KerasLayer<'_>) -> Read {
    let order = layer.config.take("data_format");
    // The other order moves axis 1 to the end first: nothing moves only if it is the last.
    let axis = match order.map(Field::string).transpose()? {
        Some(order) if order == "channels_first" => Some(1),
        _ => None,
    };
    Ok(Box::new(Flatten { axis }))
}

impl Lower for Flatten {
    fn lower(&self, call: &mut Call<'_>) -> Result<ValueId, Refusal> {
        let x = call.only()?;
        call.expect_rows(x)?;
        call.expect_last_axis(self.axis, x)?;
        call.emit(Reshape::flatten(), &[x])
    }
}
