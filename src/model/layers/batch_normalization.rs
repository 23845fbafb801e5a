//! Batch normalisation with the statistics of training.

use super::layer_normalization::{BETA, GAMMA, IRRELEVANT};
use crate::engine::ValueId;
use crate::engine::ops::BatchNormalization as Operator;
use crate::model::layer::{Definition, KerasLayer, Read, Role, SequentialLayer};
use crate::model::lowering::{Call, Lower, Refusal, Weight};

pub(super) const LAYER: Definition = Definition {
    name: "batch_normalization",
    sequential,
    keras: &["BatchNormalization"],
    read_keras,
    torch: &["BatchNorm1d"],
    roles: &[GAMMA, BETA, MEAN, VARIANCE],
};

const MEAN: Role = Role {
    name: "mean",
    torch: "running_mean",
    keras: "moving_mean",
    sklearn: "",
};
const VARIANCE: Role = Role {
    name: "variance",
    torch: "running_var",
    keras: "moving_variance",
    sklearn: "",
};
/// How many batches PyTorch has seen; inference has no use for it.
const COUNT: Role = Role {
    name: "count",
    torch: "num_batches_tracked",
    keras: "",
    sklearn: "",
};

/// `(x - mean) / √(variance + epsilon) · gamma + beta`, for each column of the last axis.
#[derive(Debug)]
struct BatchNormalization {
    gamma: Option<Weight>,
    beta: Option<Weight>,
    mean: Weight,
    variance: Weight,
    epsilon: f64,
    axis: Option<i64>,
}

fn sequential(layer: &mut SequentialLayer<'_>) -> Read {
    layer.ignore(&COUNT);
    // PyTorch normalises along the first axis after the rows, Keras along the last.
    let axis = layer.has_torch(&MEAN).then_some(1);
    Ok(Box::new(BatchNormalization {
        gamma: layer.optional_weight("scale", &GAMMA)?,
        beta: layer.optional_weight("center", &BETA)?,
        mean: layer.weight(&MEAN)?,
        variance: layer.weight(&VARIANCE)?,
        epsilon: layer.epsilon()?,
        axis,
    }))
}

fn read_keras(layer: &mut KerasLayer<'_>) -> Read {
    layer.config.ignore(IRRELEVANT);
    layer.config.ignore(&[
        "momentum",
        "synchronized",
        "renorm",
        "renorm_clipping",
        "renorm_momentum",
        "moving_mean_initializer",
        "moving_variance_initializer",
    ]);
    Ok(Box::new(BatchNormalization {
        gamma: layer.optional_weight("scale", &GAMMA)?,
        beta: layer.optional_weight("center", &BETA)?,
        mean: layer.weight(&MEAN),
        variance: layer.weight(&VARIANCE),
        epsilon: layer.config.require("epsilon")?.number()?,
        axis: layer.axis()?,
    }))
}

impl Lower for BatchNormalization {
    fn lower(&self, call: &mut Call<'_>) -> Result<ValueId, Refusal> {
        let x = call.only()?;
        call.expect_last_axis(self.axis, x)?;
        let columns = call.columns(x);
        let operands = [
            x,
            call.weight_or(GAMMA.name, self.gamma.as_ref(), columns, 1.0)?
                .value,
            call.weight_or(BETA.name, self.beta.as_ref(), columns, 0.0)?
                .value,
            call.weight(MEAN.name, &self.mean)?.value,
            call.weight(VARIANCE.name, &self.variance)?.value,
        ];
        let epsilon = self.epsilon;
        call.emit(Operator { epsilon }, &operands)
    }
}
