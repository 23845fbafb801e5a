//! Standardisation by a known mean and deviation.

use crate::engine::ValueId;
use crate::engine::ops::Scaler;
use crate::model::json::{Field, JsonError};
use crate::model::layer::{Definition, KerasLayer, Read, Role, SequentialLayer};
use crate::model::lowering::{Call, Lower, Refusal, Weight};

pub(crate) const LAYER: Definition = Definition {
    name: "normalization",
    sequential,
    keras: &["Normalization"],
    read_keras,
    torch: &[],
    roles: &[MEAN, VARIANCE, SCALE],
};

const MEAN: Role = Role {
    name: "mean",
    torch: "",
    keras: "mean",
    sklearn: "mean_",
};
const VARIANCE: Role = Role {
    name: "variance",
    torch: "",
    keras: "variance",
    sklearn: "",
};
const SCALE: Role = Role {
    name: "scale",
    torch: "",
    keras: "scale",
    sklearn: "scale_",
};
/// How many rows Keras has seen; inference has no use for it.
const COUNT: Role = Role {
    name: "count",
    torch: "",
    keras: "count",
    sklearn: "",
};

/// Keras' smallest deviation, by which its `Normalization` divides at least.
const KERAS_EPSILON: f64 = 1e-7;

/// `(x - mean)` divided by the spread, for each column of the last axis.
#[derive(Debug)]
struct Normalization {
    mean: Weight,
    spread: Spread,
    axis: Option<i64>,
}

/// What a normalisation divides by.
#[derive(Debug)]
enum Spread {
    /// The square root of the variance, as Keras does.
    Variance(Weight),
    /// The deviation itself, as scikit-learn does.
    Scale(Weight),
}

fn sequential(layer: &mut SequentialLayer<'_>) -> Read {
    layer.ignore(&COUNT);
    let spread = match layer.has(&SCALE) {
        true => Spread::Scale(layer.weight(&SCALE)?),
        false => Spread::Variance(layer.weight(&VARIANCE)?),
    };
    Ok(Box::new(Normalization {
        mean: layer.weight(&MEAN)?,
        spread,
        axis: None,
    }))
}

fn read_keras(layer: &mut KerasLayer<'_>) -> Read {
    layer.expect_off("invert", "inverting is not supported")?;
    layer.ignore_adapted(&COUNT);
    let mut fixed = |role: &Role| {
        let values = layer
            .config
            .take(role.keras)
            .map(Field::numbers)
            .transpose()?;
        Ok::<_, JsonError>(match values {
            Some(values) => Weight::Values(values),
            None => layer.adapted_weight(role),
        })
    };
    let (mean, variance) = (fixed(&MEAN)?, fixed(&VARIANCE)?);
    Ok(Box::new(Normalization {
        mean,
        spread: Spread::Variance(variance),
        axis: layer.axis()?,
    }))
}

impl Lower for Normalization {
    fn lower(&self, call: &mut Call<'_>) -> Result<ValueId, Refusal> {
        let x = call.only()?;
        call.expect_last_axis(self.axis, x)?;
        let columns = call.columns(x);
        let mean = call.weight(MEAN.name, &self.mean.over(columns))?;
        let divisor = match &self.spread {
            Spread::Scale(scale) => call.weight(SCALE.name, scale)?,
            Spread::Variance(variance) => {
                call.mapped_weight(VARIANCE.name, &variance.over(columns), |variance| {
                    let deviation = f64::from(variance).sqrt().max(KERAS_EPSILON) as f32;
                    (variance >= 0.0).then_some(deviation)
                })?
            }
        };
        call.emit(Scaler, &[x, mean.value, divisor.value])
    }
}
