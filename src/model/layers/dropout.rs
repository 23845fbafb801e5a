//! Layers that change something in training only.

use crate::engine::ValueId;
use crate::engine::ops::Identity;
use crate::model::layer::{Definition, KerasLayer, Read, SequentialLayer};
use crate::model::lowering::{Call, Lower, Refusal};

pub(super) const LAYER: Definition = Definition {
    name: "dropout",
    sequential,
    keras: &[
        "Dropout",
        "GaussianDropout",
        "GaussianNoise",
        "AlphaDropout",
    ],
    read_keras,
    torch: &[
        "Identity",
        "Dropout",
        "Dropout1d",
        "Dropout2d",
        "Dropout3d",
        "AlphaDropout",
        "FeatureAlphaDropout",
    ],
    roles: &[],
};

/// `x`: nothing is dropped when serving.
#[derive(Debug)]
struct Dropout;

fn sequential(layer: &mut SequentialLayer<'_>) -> Read {
    layer.fields.ignore(&["rate"]);
    Ok(Box::new(Dropout))
}

fn read_keras(layer: &mut KerasLayer<'_>) -> Read {
    layer
        .config
        .ignore(&["rate", "stddev", "seed", "noise_shape"]);
    Ok(Box::new(Dropout))
}

impl Lower for Dropout {
    fn lower(&self, call: &mut Call<'_>) -> Result<ValueId, Refusal> {
        let x = call.only()?;
        call.emit(Identity, &[x])
    }
}
