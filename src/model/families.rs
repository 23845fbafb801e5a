//! Model families: how a configuration and weights become a graph.
//!
//! A new family is one file here and one line in [`FAMILIES`].

#[cfg(feature = "faults")]
mod faults;
mod graph;
mod inputs;
mod keras;
mod network;
mod sequential;

use super::LoadError;
use super::json::{Field, Fields, JsonError};
use super::manifest::Description;
use super::program::Program;
use super::weights::Weights;
use crate::engine::MAX_ROW_ELEMENTS;

/// Builds a family's program. Takes from `config` the keys that are the family's own and from
/// `weights` the tensors that its layers use.
type Build = fn(&mut Fields, &Description, &mut Weights) -> Result<Program, LoadError>;

const GRAPH: Build = |config, description, weights| {
    let graph = graph::build(config, description, weights)?;
    Ok(graph.into())
};
const KERAS: Build = |config, description, weights| {
    let graph = keras::build(config, description, weights)?;
    Ok(graph.into())
};
const SEQUENTIAL: Build = |config, description, weights| {
    let graph = sequential::build(config, description, weights)?;
    Ok(graph.into())
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
    weights: &mut Weights,
) -> Result<Program, LoadError> {
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

/// The shape of one row of an input, of the extents that `place` lists.
fn row_shape(place: &Field, extents: Vec<Field>) -> Result<Vec<usize>, JsonError> {
    let shape: Vec<usize> = extents
        .into_iter()
        .map(Field::extent)
        .collect::<Result<_, _>>()?;
    let elements = shape.iter().try_fold(1_usize, |product, extent| {
        product
            .checked_mul(*extent)
            .filter(|elements| *elements <= MAX_ROW_ELEMENTS)
    });
    match elements {
        Some(_) => Ok(shape),
        None => Err(place.error(format!(
            "expected at most {MAX_ROW_ELEMENTS} numbers a row, got shape {shape:?}"
        ))),
    }
}

fn known() -> String {
    let names = FAMILIES.iter().map(|(name, _)| format!("{name:?}"));
    names.collect::<Vec<_>>().join(" or ")
}
