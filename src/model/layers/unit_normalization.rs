//! Rows of length 1, as embeddings are compared by.

use ndarray::{ArrayD, IxDyn};

use crate::engine::ValueId;
use crate::engine::ops::{Binary, Expand, Max, Reduce, Reshape};
use crate::model::layer::{Definition, KerasLayer, Read, SequentialLayer};
use crate::model::lowering::{Call, Lower, Refusal};

pub(super) const LAYER: Definition = Definition {
    name: "unit_normalization",
    sequential,
    keras: &["UnitNormalization"],
    read_keras,
    torch: &[],
    roles: &[],
};

/// The least length by which Keras and PyTorch divide.
const EPSILON: f32 = 1e-12;

/// `x / max(√Σx², epsilon)` over the last axis.
#[derive(Debug)]
struct UnitNormalization {
    epsilon: f32,
    axis: Option<i64>,
}

fn sequential(layer: &mut SequentialLayer<'_>) -> Read {
    let epsilon = layer.fields.take("epsilon").map(|field| {
        let refusal = field.expected("a number over 0");
        match field.single()? {
            epsilon if epsilon > 0.0 => Ok(epsilon),
            _ => Err(refusal),
        }
    });
    Ok(Box::new(UnitNormalization {
        epsilon: epsilon.transpose()?.unwrap_or(EPSILON),
        axis: None,
    }))
}

fn read_keras(layer: &mut KerasLayer<'_>) -> Read {
    Ok(Box::new(UnitNormalization {
        epsilon: EPSILON,
        axis: layer.axis()?,
    }))
}

impl Lower for UnitNormalization {
    fn lower(&self, call: &mut Call<'_>) -> Result<ValueId, Refusal> {
        let x = call.only()?;
        call.expect_last_axis(self.axis, x)?;
        let shape = call.shape(x);
        let length = call.emit(Reduce::L2, &[x])?;
        let epsilon = ArrayD::from_elem(IxDyn(&[]), self.epsilon);
        let epsilon = call.graph.constant(epsilon);
        let length = call.emit(Max, &[length, epsilon])?;
        // Along the axis that the length is of, it is the same for each number.
        let mut column: Vec<i64> = shape.iter().map(|extent| *extent as i64).collect();
        if let Some(last) = column.last_mut() {
            *last = 1;
        }
        let length = call.emit(Reshape { shape: column }, &[length])?;
        let length = call.emit(Expand { shape }, &[length])?;
        call.emit(Binary::Div, &[x, length])
    }
}
