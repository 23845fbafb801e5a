//! The family `graph`: nodes of ONNX' operators, one by one.

use std::collections::HashSet;

use super::inputs;
use crate::engine::Graph;
use crate::model::LoadError;
use crate::model::graph::{Attribute, Attributes, Lowering, Node};
use crate::model::json::{Field, Fields, JsonError};
use crate::model::manifest::Description;
use crate::model::weights::Weights;

/// The most nodes: far more than any network has.
const MAX_NODES: usize = 10_000;

/// Builds the graph that `inputs`, `nodes` and `outputs` describe. An input of a node is what stands
/// before it by that name, else the tensor of that name.
pub(super) fn build(
    config: &mut Fields,
    _description: &Description,
    weights: &mut Weights,
) -> Result<Graph, LoadError> {
    let mut lowering = Lowering::new();
    let inputs = inputs::all(config)?;
    let mut unused: HashSet<String> = HashSet::new();
    for input in inputs {
        unused.insert(input.name.clone());
        let refused = |problem| JsonError::new("inputs", problem);
        lowering.input(input).map_err(refused)?;
    }
    let field = config.require("nodes")?;
    let limit = field.error(format!("expected 1 to {MAX_NODES} nodes"));
    let nodes = field.list()?;
    if nodes.is_empty() || nodes.len() > MAX_NODES {
        return Err(limit.into());
    }
    for (index, field) in nodes.into_iter().enumerate() {
        let node = node(field, index)?;
        for name in &node.inputs {
            unused.remove(name);
            if !name.is_empty() && !lowering.has(name) && weights.contains(name) {
                let refused = |problem| layer(&node, problem);
                lowering
                    .weight(name, weights.take(name)?)
                    .map_err(refused)?;
            }
        }
        lowering
            .node(&node)
            .map_err(|error| layer(&node, format!("{}: {}", error.operator, error.problem)))?;
        unused.insert(node.output);
    }
    let field = config.require("outputs")?;
    let nothing = field.expected("at least one output");
    let outputs = field.list()?;
    if outputs.is_empty() {
        return Err(nothing.into());
    }
    for output in outputs {
        let place = output.clone();
        let (name, value) = self::output(output)?;
        unused.remove(&value);
        let refused = |problem: String| place.error(problem);
        lowering.output(&name, &value).map_err(refused)?;
    }
    match unused.into_iter().min() {
        None => Ok(lowering.build()),
        Some(value) => Err(JsonError::new(
            "nodes",
            format!("no node and no output uses {value:?}; remove what makes it, or name it among the outputs"),
        )
        .into()),
    }
}

fn layer(node: &Node, problem: String) -> LoadError {
    LoadError::Layer {
        layer: node.name.clone(),
        problem,
    }
}

fn output(field: Field) -> Result<(String, String), JsonError> {
    let mut fields = field.object()?;
    let name = fields.require("name")?.string()?;
    let value = match fields.take("value") {
        Some(value) => value.string()?,
        None => name.clone(),
    };
    fields.finish()?;
    Ok((name, value))
}

/// Reads a node. Its name is its index if it has none, its output's name its own.
fn node(field: Field, index: usize) -> Result<Node, JsonError> {
    let mut fields = field.object()?;
    let operator = fields.require("op")?.string()?;
    let name = match fields.take("name") {
        Some(name) => name.string()?,
        None => index.to_string(),
    };
    let inputs = fields.require("inputs")?.strings()?;
    let output = match fields.take("output") {
        Some(output) => output.string()?,
        None => name.clone(),
    };
    let attributes = match fields.take("attributes") {
        None => Attributes::default(),
        Some(attributes) => attributes
            .object()?
            .into_rest()
            .map(|(name, value)| Ok((name, attribute(value)?)))
            .collect::<Result<_, JsonError>>()?,
    };
    fields.finish()?;
    Ok(Node {
        name,
        operator,
        inputs,
        output,
        attributes,
    })
}

fn attribute(field: Field) -> Result<Attribute, JsonError> {
    Ok(if field.is_string() {
        Attribute::Text(field.string()?)
    } else if field.is_list() {
        let items = field.list()?.into_iter().map(Field::integer);
        Attribute::Ints(items.collect::<Result<_, _>>()?)
    } else if let Ok(integer) = field.clone().integer() {
        Attribute::Int(integer)
    } else {
        let refusal = field.expected("a number, text, or a list of whole numbers");
        Attribute::Float(field.single().map_err(|_| refusal)?)
    })
}
