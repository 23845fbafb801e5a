//! A row in another shape.

use crate::engine::ValueId;
use crate::engine::ops::Reshape as Operator;
use crate::model::json::{Field, JsonError};
use crate::model::layer::{Definition, KerasLayer, Read, SequentialLayer};
use crate::model::lowering::{Call, Lower, Refusal};

pub(super) const LAYER: Definition = Definition {
    name: "reshape",
    sequential,
    keras: &["Reshape"],
    read_keras,
    torch: &["Unflatten"],
    roles: &[],
};

/// The numbers of a row with these extents; -1 once, for what is left.
#[derive(Debug)]
struct Reshape {
    shape: Vec<i64>,
}

fn sequential(layer: &mut SequentialLayer<'_>) -> Read {
    read(layer.fields.require("shape")?)
}

fn read_keras(layer: &mut KerasLayer<'_>) -> Read {
    read(layer.config.require("target_shape")?)
}

fn read(shape: Field) -> Read {
    let extents = shape.list()?.into_iter().map(Field::integer);
    let shape = extents.collect::<Result<_, JsonError>>()?;
    Ok(Box::new(Reshape { shape }))
}

impl Lower for Reshape {
    fn lower(&self, call: &mut Call<'_>) -> Result<ValueId, Refusal> {
        let x = call.only()?;
        call.expect_rows(x)?;
        let shape = self.shape.clone();
        call.emit(Operator { shape }, &[x])
    }
}
