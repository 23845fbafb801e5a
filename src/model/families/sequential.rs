//! Family `sequential`: our own list of layers, with names for any graph without cycles.

use super::inputs;
use super::network::{Application, NamedLayer, Network};
use crate::engine::Graph;
use crate::model::LoadError;
use crate::model::json::{Field, Fields, JsonError};
use crate::model::layer::SequentialLayer;
use crate::model::layers;
use crate::model::manifest::Description;
use crate::model::weights::Weights;

/// Builds the graph of a `sequential` configuration.
pub(super) fn build(
    config: &mut Fields,
    description: &Description,
    mut weights: Weights,
) -> Result<(Graph, Weights), LoadError> {
    let inputs = inputs::all(config)?;
    let field = config.require("layers")?;
    let no_layers = field.expected("at least one layer");
    let mut layers: Vec<NamedLayer> = Vec::new();
    for (index, field) in field.list()?.into_iter().enumerate() {
        let before = match (layers.last(), inputs.as_slice()) {
            (Some(layer), _) => Some(layer.name.clone()),
            (None, [only]) => Some(only.name.clone()),
            (None, _) => None,
        };
        layers.push(layer(field, index, before, &mut weights)?);
    }
    let Some(last) = layers.last() else {
        return Err(no_layers.into());
    };
    let outputs = match config.take("outputs") {
        None => vec![(description.output_name().to_owned(), last.name.clone())],
        Some(field) => outputs(field)?,
    };
    Network {
        inputs,
        layers,
        outputs,
    }
    .build(weights)
}

fn outputs(field: Field) -> Result<Vec<(String, String)>, JsonError> {
    let nothing = field.expected("at least one output (or no such key, for the last layer)");
    let outputs: Vec<_> = field
        .list()?
        .into_iter()
        .map(|output| {
            let mut fields = output.object()?;
            let name = fields.require("name")?.string()?;
            let layer = fields.require("layer")?.string()?;
            fields.finish()?;
            Ok((name, layer))
        })
        .collect::<Result<_, JsonError>>()?;
    match outputs.is_empty() {
        true => Err(nothing),
        false => Ok(outputs),
    }
}

/// Reads one layer. `before` is what it is applied to if it does not say.
fn layer(
    field: Field,
    index: usize,
    before: Option<String>,
    weights: &mut Weights,
) -> Result<NamedLayer, JsonError> {
    let mut fields = field.object()?;
    let kind = fields.require("type")?;
    let name = match fields.take("name") {
        Some(name) => name.string()?,
        None => index.to_string(),
    };
    let inputs = match (fields.take("inputs"), before) {
        (Some(inputs), _) => inputs.strings()?,
        (None, Some(before)) => vec![before],
        (None, None) => {
            return Err(fields
                .error("the model has several inputs: name those of this layer in \"inputs\""));
        }
    };
    let roles = fields.take("weights").map(Field::object).transpose()?;
    let text = kind.clone().string()?;
    let definition = layers::sequential(&text).ok_or_else(|| {
        let known: Vec<_> = layers::all().map(|layer| layer.name).collect();
        kind.error(format!(
            "unknown layer {text:?}; expected one of: {}",
            known.join(", ")
        ))
    })?;
    let mut source = SequentialLayer::new(&name, fields, roles, weights);
    let layer = (definition.sequential)(&mut source)?;
    source.finish()?;
    Ok(NamedLayer {
        applications: vec![Application {
            inputs,
            output: name.clone(),
        }],
        name,
        layer,
    })
}
