//! Leaky ReLU with learnt slopes.

use crate::engine::ValueId;
use crate::engine::ops::PRelu as Operator;
use crate::model::layer::{Definition, KerasLayer, Read, Role, SequentialLayer};
use crate::model::lowering::{Call, Lower, Refusal, Weight};

pub(super) const LAYER: Definition = Definition {
    name: "prelu",
    sequential,
    keras: &["PReLU"],
    read_keras,
    torch: &["PReLU"],
    roles: &[ALPHA],
};

const ALPHA: Role = Role {
    name: "alpha",
    torch: "weight",
    keras: "alpha",
    sklearn: "",
};

/// `x`, times `alpha` below zero.
#[derive(Debug)]
struct PRelu {
    alpha: Weight,
}

fn sequential(layer: &mut SequentialLayer<'_>) -> Read {
    Ok(Box::new(PRelu {
        alpha: layer.weight(&ALPHA)?,
    }))
}

fn read_keras(layer: &mut KerasLayer<'_>) -> Read {
    let config = &mut layer.config;
    config.ignore(&["alpha_initializer", "alpha_regularizer", "alpha_constraint"]);
    if let Some(axes) = config.take("shared_axes") {
        let refusal = axes.expected("none (shared axes are not supported)");
        if !axes.list()?.is_empty() {
            return Err(refusal);
        }
    }
    Ok(Box::new(PRelu {
        alpha: layer.weight(&ALPHA),
    }))
}

impl Lower for PRelu {
    fn lower(&self, call: &mut Call<'_>) -> Result<ValueId, Refusal> {
        let x = call.only()?;
        let alpha = call.weight(ALPHA.name, &self.alpha)?.value;
        let (row, slopes) = (call.shape(x), call.shape(alpha));
        if row.len() > 1 && matches!(slopes[..], [columns] if columns > 1) {
            return Err(format!(
                "PyTorch applies slopes of shape {slopes:?} along the first axis of a row, Keras \
                 along the last; for rows of shape {row:?} give one slope, or one for each number \
                 of a row"
            )
            .into());
        }
        call.emit(Operator, &[x, alpha])
    }
}
