//! The mean of each row's tokens.

use crate::engine::ValueId;
use crate::engine::ops::{MeanPooling as Operator, Reduce, Transpose};
use crate::model::layer::{Definition, KerasLayer, Read, SequentialLayer};
use crate::model::lowering::{Call, Lower, Refusal};
use crate::tensor::Domain;

pub(super) const LAYER: Definition = Definition {
    name: "mean_pooling",
    sequential,
    keras: &["GlobalAveragePooling1D"],
    read_keras,
    torch: &[],
    roles: &[],
};

/// The mean along the tokens of a row; of rows of one length, along their first axis.
#[derive(Debug)]
struct MeanPooling;

fn sequential(_layer: &mut SequentialLayer<'_>) -> Read {
    Ok(Box::new(MeanPooling))
}

fn read_keras(layer: &mut KerasLayer<'_>) -> Read {
    if let Some(order) = layer.config.take("data_format") {
        let refusal = order.expected("\"channels_last\", the steps first");
        if order.string()? != "channels_last" {
            return Err(refusal);
        }
    }
    layer.expect_off("keepdims", "the pooled axis goes")?;
    Ok(Box::new(MeanPooling))
}

impl Lower for MeanPooling {
    fn lower(&self, call: &mut Call<'_>) -> Result<ValueId, Refusal> {
        let x = call.only()?;
        if let Domain::Tokens(_) = call.graph.domain(x) {
            return call.emit(Operator, &[x]);
        }
        let rank = call.shape(x).len();
        if rank < 2 {
            return Err(format!(
                "expected the tokens of a row, or rows of at least 2 axes, got rows of shape {:?}",
                call.shape(x)
            )
            .into());
        }
        let moved = call.emit(Transpose::to_the_end(rank, 0), &[x])?;
        call.emit(Reduce::Mean, &[moved])
    }
}
