//! The layers of Keras and PyTorch that networks may have: one file each, or a tight family.
//!
//! A new layer is one file here and one line in [`LAYERS`]. Layers of rows come first; those that work
//! on the tokens of a text go below them, under a heading of their own.

mod activation;
mod batch_normalization;
mod concatenate;
mod dense;
mod dropout;
mod flatten;
mod layer_normalization;
mod merge;
mod normalization;
mod prelu;
mod rescaling;
mod reshape;
mod unit_normalization;

pub use crate::model::layer::{Definition, Role};
#[cfg(feature = "train")]
pub(crate) use dense::LAYER as DENSE;
#[cfg(feature = "train")]
pub(crate) use normalization::LAYER as NORMALIZATION;

/// The layers, in the order in which messages list them.
pub const LAYERS: &[&Definition] = &[
    &dense::LAYER,
    &normalization::LAYER,
    &rescaling::LAYER,
    &batch_normalization::LAYER,
    &layer_normalization::LAYER,
    &unit_normalization::LAYER,
    &activation::LAYER,
    &prelu::LAYER,
    &dropout::LAYER,
    &flatten::LAYER,
    &reshape::LAYER,
    &concatenate::LAYER,
    &merge::ADD,
    &merge::MULTIPLY,
    &merge::AVERAGE,
    &merge::MAXIMUM,
    &merge::MINIMUM,
    &merge::SUBTRACT,
];

/// The layer of this type in family `sequential`.
pub(in crate::model) fn sequential(name: &str) -> Option<&'static Definition> {
    LAYERS.iter().copied().find(|layer| layer.name == name)
}

/// The layer of this class of Keras.
pub(in crate::model) fn keras(class: &str) -> Option<&'static Definition> {
    let mut layers = LAYERS.iter().copied();
    layers.find(|layer| keras_classes(layer).contains(&class))
}

/// The classes that Keras has for a layer.
#[must_use]
pub fn keras_classes(layer: &Definition) -> Vec<&'static str> {
    match layer.name == activation::LAYER.name {
        true => activation::classes().collect(),
        false => layer.keras.to_vec(),
    }
}

#[cfg(test)]
mod tests;
