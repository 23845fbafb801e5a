//! Normalisation by each row's own mean and variance.

use crate::engine::ValueId;
use crate::engine::ops::LayerNormalization as Operator;
use crate::model::layer::{Definition, KerasLayer, Read, Role, SequentialLayer};
use crate::model::lowering::{Call, Lower, Refusal, Weight};

pub(super) const LAYER: Definition = Definition {
    name: "layer_normalization",
    sequential,
    keras: &["LayerNormalization"],
    read_keras,
    torch: &["LayerNorm"],
    roles: &[GAMMA, BETA],
};

/// The factor after a normalisation.
pub(super) const GAMMA: Role = Role {
    name: "gamma",
    torch: "weight",
    keras: "gamma",
    sklearn: "",
};
/// The summand after a normalisation.
pub(super) const BETA: Role = Role {
    name: "beta",
    torch: "bias",
    keras: "beta",
    sklearn: "",
};

/// Keys of Keras' normalisations that inference does not depend on.
pub(super) const IRRELEVANT: &[&str] = &[
    "gamma_initializer",
    "beta_initializer",
    "gamma_regularizer",
    "beta_regularizer",
    "gamma_constraint",
    "beta_constraint",
];

/// `(x - mean) / √(variance + epsilon) · gamma + beta` with the statistics of the last axis.
#[derive(Debug)]
struct LayerNormalization {
    gamma: Option<Weight>,
    beta: Option<Weight>,
    epsilon: f32,
    axis: Option<i64>,
}

fn sequential(layer: &mut SequentialLayer<'_>) -> Read {
    Ok(Box::new(LayerNormalization {
        gamma: layer.optional_weight("scale", &GAMMA)?,
        beta: layer.optional_weight("center", &BETA)?,
        epsilon: layer.epsilon()? as f32,
        axis: None,
    }))
}

fn read_keras(layer: &mut KerasLayer<'_>) -> Read {
    layer.config.ignore(IRRELEVANT);
    layer.expect_off("rms_scaling", "RMS scaling is not supported")?;
    Ok(Box::new(LayerNormalization {
        gamma: layer.optional_weight("scale", &GAMMA)?,
        beta: layer.optional_weight("center", &BETA)?,
        epsilon: layer.config.require("epsilon")?.single()?,
        axis: layer.axis()?,
    }))
}

impl Lower for LayerNormalization {
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
        ];
        let epsilon = self.epsilon;
        call.emit(Operator { epsilon }, &operands)
    }
}
