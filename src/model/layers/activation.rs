//! Activations as layers of their own, and as another layer's `activation`.

use crate::engine::ValueId;
use crate::engine::kernels::Activation as Elementwise;
use crate::model::activations::{self, Function};
use crate::model::json::{Field, Fields, JsonError};
use crate::model::layer::{Definition, KerasLayer, Read, SequentialLayer, described};
use crate::model::lowering::{Call, Lower, Refusal};

/// Keras has more layers that are an activation: those of the table of activations.
pub(super) const LAYER: Definition = Definition {
    name: "activation",
    sequential,
    keras: &["Activation", "ReLU"],
    read_keras,
    torch: &[],
    roles: &[],
};

/// Functions that are applied one after the other.
#[derive(Clone, Debug)]
pub(super) struct Activation {
    functions: Vec<Function>,
    /// The axis that the configuration names for them, the rows being axis 0.
    axis: Option<i64>,
}

impl Activation {
    /// No function at all.
    pub(super) const LINEAR: Self = Self {
        functions: Vec::new(),
        axis: None,
    };

    /// Adds the functions of a value.
    pub(super) fn apply(&self, call: &mut Call<'_>, x: ValueId) -> Result<ValueId, Refusal> {
        call.expect_last_axis(self.axis, x)?;
        let mut functions = self.functions.iter();
        functions.try_fold(x, |x, function| function.lower(call, x))
    }
}

impl From<Function> for Activation {
    fn from(function: Function) -> Self {
        Self {
            functions: vec![function],
            axis: None,
        }
    }
}

impl Lower for Activation {
    fn lower(&self, call: &mut Call<'_>) -> Result<ValueId, Refusal> {
        let x = call.only()?;
        self.apply(call, x)
    }
}

fn sequential(layer: &mut SequentialLayer<'_>) -> Read {
    let function = layer.fields.require("function")?;
    let function = activations::sequential(function, &mut layer.fields)?;
    Ok(Box::new(Activation::from(function)))
}

/// The `activation` of a layer of family `sequential`: a name, or an object with parameters.
pub(super) fn named(field: Field) -> Result<Activation, JsonError> {
    let (name, mut parameters) = match field.is_object() {
        true => {
            let mut parameters = field.object()?;
            (parameters.require("type")?, parameters)
        }
        false => (field, Fields::empty()),
    };
    let function = activations::sequential(name, &mut parameters)?;
    parameters.finish()?;
    Ok(function.into())
}

fn read_keras(layer: &mut KerasLayer<'_>) -> Read {
    Ok(Box::new(keras_layer(layer)?))
}

/// The `activation` of a layer of Keras: a name, or a layer of its own.
pub(super) fn keras(layer: &mut KerasLayer<'_>) -> Result<Activation, JsonError> {
    let Some(field) = layer.config.take("activation") else {
        return Ok(Activation::LINEAR);
    };
    if !field.is_object() {
        let function = activations::keras(&field, layer.model.version)?;
        return Ok(function.into());
    }
    let (class, config, _) = described(field)?;
    let mut inner = layer.nested(&class, config);
    let activation = keras_layer(&mut inner)?;
    inner.finish()?;
    Ok(activation)
}

/// The classes of Keras' layers that are nothing but functions.
pub(super) fn classes() -> impl Iterator<Item = &'static str> {
    let listed = LAYER.keras.iter().copied();
    listed.chain(activations::keras_layers())
}

/// A layer of one of these classes.
fn keras_layer(layer: &mut KerasLayer<'_>) -> Result<Activation, JsonError> {
    let class = layer.class.clone().string()?;
    match class.as_str() {
        "Activation" => return keras(layer),
        "ReLU" => {
            return Ok(Activation {
                functions: relu(&mut layer.config)?,
                axis: None,
            });
        }
        _ => {}
    }
    let function = activations::keras_layer(&class, &mut layer.config)?;
    let Some(function) = function else {
        let known: Vec<_> = classes().collect();
        return Err(layer.class.error(format!(
            "unknown activation {class:?}; expected one of: {}",
            known.join(", ")
        )));
    };
    let axis = match function {
        Function::Elementwise(_) => None,
        Function::Softmax | Function::LogSoftmax => layer.axis()?,
    };
    Ok(Activation {
        functions: vec![function],
        axis,
    })
}

/// `ReLU(max_value, negative_slope, threshold)`.
fn relu(config: &mut Fields) -> Result<Vec<Function>, JsonError> {
    if let Some(threshold) = config.take("threshold") {
        let refusal = threshold.expected("0 (other thresholds are not supported)");
        if threshold.number()? != 0.0 {
            return Err(refusal);
        }
    }
    let alpha = config
        .take("negative_slope")
        .map_or(Ok(0.0), Field::single)?;
    let max = config.take("max_value").map(Field::single).transpose()?;
    let functions = match (alpha, max) {
        (0.0, None) => vec![Elementwise::Relu],
        (0.0, Some(6.0)) => vec![Elementwise::Relu6],
        (0.0, Some(max)) => vec![Elementwise::Clip { min: 0.0, max }],
        (alpha, None) => vec![Elementwise::LeakyRelu { alpha }],
        (alpha, Some(max)) => vec![
            Elementwise::LeakyRelu { alpha },
            Elementwise::Clip { min: f32::MIN, max },
        ],
    };
    Ok(functions.into_iter().map(Function::Elementwise).collect())
}
