//! Layers in the words of Keras and PyTorch.

use crate::engine::kernels::Activation;

/// How a dense layer's kernel is stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::model::families) enum KernelLayout {
    /// `[inputs, outputs]`, as Keras and scikit-learn have it.
    InOut,
    /// `[outputs, inputs]`, as PyTorch has it.
    OutIn,
}

/// Where a layer finds one of its weights.
#[derive(Clone, Debug)]
pub(in crate::model::families) enum Weight {
    /// In the first of these tensors that is there; for a kernel with the layout that goes with
    /// the name, if the name tells it.
    Tensor(Vec<(String, Option<KernelLayout>)>),
    /// In the configuration.
    Values(Vec<f32>),
}

impl Weight {
    /// The same with a single number of the configuration repeated for each column.
    pub(in crate::model::families) fn over(&self, columns: usize) -> Self {
        match self {
            Self::Values(values) if values.len() == 1 => Self::Values(vec![values[0]; columns]),
            other => other.clone(),
        }
    }
}

/// What a normalisation divides by.
#[derive(Clone, Debug)]
pub(in crate::model::families) enum Spread {
    /// The square root of the variance, as Keras does.
    Variance(Weight),
    /// The deviation itself, as scikit-learn does.
    Scale(Weight),
}

/// An element-wise function or a softmax.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(in crate::model::families) enum Function {
    Elementwise(Activation),
    Softmax,
    LogSoftmax,
}

/// One layer with its parameters.
#[derive(Clone, Debug)]
pub(in crate::model::families) enum Layer {
    Dense {
        kernel: Weight,
        bias: Option<Weight>,
        units: Option<usize>,
        function: Function,
    },
    Normalization {
        mean: Weight,
        spread: Spread,
    },
    Rescaling {
        scale: Vec<f32>,
        offset: Vec<f32>,
    },
    BatchNormalization {
        gamma: Option<Weight>,
        beta: Option<Weight>,
        mean: Weight,
        variance: Weight,
        epsilon: f64,
    },
    #[allow(clippy::enum_variant_names, reason = "the frameworks' own name for it")]
    LayerNormalization {
        gamma: Option<Weight>,
        beta: Option<Weight>,
        epsilon: f32,
    },
    PRelu {
        slope: Weight,
    },
    /// One function after the other.
    Functions(Vec<Function>),
    Identity,
    Flatten,
    Reshape(Vec<i64>),
    Concatenate {
        axis: isize,
    },
    Add,
    Multiply,
    Average,
    Maximum,
}

/// A layer in its place: the values that it is applied to, by name, once for each application.
#[derive(Clone, Debug)]
pub(in crate::model::families) struct Placed {
    pub(in crate::model::families) name: String,
    pub(in crate::model::families) layer: Layer,
    pub(in crate::model::families) calls: Vec<Call>,
    /// The axis that the layer says it works along, the rows counted as axis 0. Only the last is
    /// supported, which is known once the layer's input is.
    pub(in crate::model::families) axis: Option<i64>,
}

/// One application of a layer.
#[derive(Clone, Debug)]
pub(in crate::model::families) struct Call {
    /// The names of the values that go in.
    pub(in crate::model::families) inputs: Vec<String>,
    /// The name of the value that comes out.
    pub(in crate::model::families) output: String,
}
