//! Model families: how a configuration and weights become a graph.
//!
//! A new family is one file here, its `mod` and one line in [`FAMILIES`].

#[cfg(feature = "faults")]
mod faults;
mod graph;
mod inputs;
mod keras;
mod network;
mod sequential;

use super::LoadError;
use super::json::{Field, Fields};
use super::manifest::Description;
use super::program::Program;
use super::weights::Weights;

/// Builds a family's program. Takes from `config` the keys that are the family's own and from
/// `weights` the tensors that its layers use; returns the weights that no layer used.
type Build = fn(&mut Fields, &Description, Weights) -> Result<(Program, Weights), LoadError>;

const GRAPH: Build = |config, description, weights| {
    let (graph, weights) = graph::build(config, description, weights)?;
    Ok((graph.into(), weights))
};
const KERAS: Build = |config, description, weights| {
    let (graph, weights) = keras::build(config, description, weights)?;
    Ok((graph.into(), weights))
};
const SEQUENTIAL: Build = |config, description, weights| {
    let (graph, weights) = sequential::build(config, description, weights)?;
    Ok((graph.into(), weights))
};

/// By `model_type`.
const FAMILIES: &[(&str, Build)] = &[
    ("graph", GRAPH),
    ("keras", KERAS),
    ("sequential", SEQUENTIAL),
    #[cfg(feature = "faults")]
    ("faults", faults::build),
];

/// Builds the program of the family that the configuration names.
///
/// A configuration without `model_type` that has Keras' `class_name` is Keras' own.
pub(super) fn build(
    config: &mut Fields,
    description: &Description,
    weights: Weights,
) -> Result<(Program, Weights), LoadError> {
    let family = match config.take("model_type") {
        Some(field) => named(field)?,
        None if config.has("class_name") => KERAS,
        None => {
            return Err(config
                .error(format!(
                    "the key \"model_type\" is missing; expected {}",
                    known()
                ))
                .into());
        }
    };
    family(config, description, weights)
}

fn named(field: Field) -> Result<Build, LoadError> {
    let problem =
        |name: &str| field.error(format!("unknown family {name:?}; expected {}", known()));
    let name = field.clone().string()?;
    FAMILIES
        .iter()
        .find(|(family, _)| *family == name)
        .map(|(_, build)| *build)
        .ok_or_else(|| problem(&name).into())
}

fn known() -> String {
    let names = FAMILIES.iter().map(|(name, _)| format!("{name:?}"));
    names.collect::<Vec<_>>().join(" or ")
}
