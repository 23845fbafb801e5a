//! A product with a kernel, then a bias and an activation.

use super::activation::{self, Activation};
use crate::engine::ValueId;
use crate::engine::kernels::Activation as Elementwise;
use crate::engine::ops::Gemm;
use crate::model::json::{Field, JsonError};
use crate::model::layer::{Definition, KerasLayer, Read, Role, SequentialLayer};
use crate::model::lowering::{Call, Lower, Refusal, Weight};

pub(crate) const LAYER: Definition = Definition {
    name: "dense",
    sequential,
    keras: &["Dense"],
    read_keras,
    torch: &["Linear"],
    roles: &[KERNEL, BIAS],
};

const KERNEL: Role = Role {
    name: "kernel",
    torch: "weight",
    keras: "kernel",
    sklearn: "",
};
const BIAS: Role = Role {
    name: "bias",
    torch: "bias",
    keras: "bias",
    sklearn: "",
};

/// How a kernel is stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Layout {
    /// `[inputs, outputs]`, as Keras and scikit-learn have it.
    InOut,
    /// `[outputs, inputs]`, as PyTorch has it.
    OutIn,
}

impl Layout {
    /// The layout that goes with a framework's own name for a kernel.
    fn of(tensor: &str) -> Option<Self> {
        let name = tensor.strip_suffix(":0").unwrap_or(tensor);
        match name.rsplit(['.', '/']).next()? {
            last if last == KERNEL.torch => Some(Self::OutIn),
            last if last == KERNEL.keras => Some(Self::InOut),
            _ => None,
        }
    }
}

/// `activation(x · kernel + bias)` over the last axis.
#[derive(Debug)]
struct Dense {
    kernel: Weight,
    /// Guessed from the kernel's name if the configuration does not give it.
    layout: Option<Layout>,
    bias: Option<Weight>,
    units: Option<usize>,
    activation: Activation,
}

fn sequential(layer: &mut SequentialLayer<'_>) -> Read {
    let fields = &mut layer.fields;
    let units = fields.take("units").map(Field::extent).transpose()?;
    let activation = match fields.take("activation") {
        Some(field) => activation::named(field)?,
        None => Activation::LINEAR,
    };
    let layout = fields.take("kernel_layout").map(layout).transpose()?;
    Ok(Box::new(Dense {
        kernel: layer.weight(&KERNEL)?,
        layout,
        bias: layer.optional_weight("use_bias", &BIAS)?,
        units,
        activation,
    }))
}

fn layout(field: Field) -> Result<Layout, JsonError> {
    let refusal = field.expected("\"in_out\" or \"out_in\"");
    match field.string()?.as_str() {
        "in_out" => Ok(Layout::InOut),
        "out_in" => Ok(Layout::OutIn),
        _ => Err(refusal),
    }
}

fn read_keras(layer: &mut KerasLayer<'_>) -> Read {
    Ok(Box::new(Dense {
        kernel: layer.weight(&KERNEL),
        layout: Some(Layout::InOut),
        units: Some(layer.config.require("units")?.extent()?),
        activation: activation::keras(layer)?,
        bias: layer.optional_weight("use_bias", &BIAS)?,
    }))
}

impl Lower for Dense {
    fn lower(&self, call: &mut Call<'_>) -> Result<ValueId, Refusal> {
        let x = call.only()?;
        let kernel = call.weight(KERNEL.name, &self.kernel)?;
        let Some(layout) = self.layout.or_else(|| Layout::of(&kernel.tensor)) else {
            return Err(format!(
                "kernel: the name of {} does not tell how it is stored; set \"kernel_layout\" to \
                 \"in_out\" ([inputs, outputs], as Keras and scikit-learn) or \"out_in\" ([outputs, \
                 inputs], as PyTorch)",
                kernel.description
            )
            .into());
        };
        if let (Some(units), [rows, columns]) = (self.units, &call.shape(kernel.value)[..]) {
            let outputs = match layout {
                Layout::InOut => *columns,
                Layout::OutIn => *rows,
            };
            if outputs != units {
                return Err(format!(
                    "units: expected the kernel's {outputs}, got {units}; its weights: {}",
                    call.used_weights()
                )
                .into());
            }
        }
        let mut operands = vec![x, kernel.value];
        if let Some(bias) = &self.bias {
            operands.push(call.weight(BIAS.name, bias)?.value);
        }
        let operator = Gemm {
            trans_b: layout == Layout::OutIn,
            activation: Elementwise::Linear,
        };
        let product = call.emit(operator, &operands)?;
        self.activation.apply(call, product)
    }
}
