//! The layers of Keras and PyTorch that networks may have: one file each, or a tight family.
//!
//! A new layer is one file here and one line in [`LAYERS`], or in [`TOKEN_LAYERS`] if it knows of a
//! row's tokens.

mod activation;
mod batch_normalization;
mod concatenate;
mod dense;
mod dropout;
mod embedding;
mod flatten;
mod layer_normalization;
mod mean_pooling;
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

/// The layers that see a row's tokens together; the others do the same to each token. The exporters do
/// not write them, since they compare answers only for rows of one length.
pub const TOKEN_LAYERS: &[&Definition] = &[&embedding::LAYER, &mean_pooling::LAYER];

/// All layers.
pub fn all() -> impl Iterator<Item = &'static Definition> {
    LAYERS.iter().chain(TOKEN_LAYERS).copied()
}

/// The layer of this type in family `sequential`.
pub(in crate::model) fn sequential(name: &str) -> Option<&'static Definition> {
    all().find(|layer| layer.name == name)
}

/// The layer of this class of Keras.
pub(in crate::model) fn keras(class: &str) -> Option<&'static Definition> {
    all().find(|layer| keras_classes(layer).contains(&class))
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
