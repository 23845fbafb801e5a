//! The family `graph`: nodes of ONNX' operators, one by one.

use super::inputs;
use crate::engine::Graph;
use crate::model::LoadError;
use crate::model::graph::{self, Attribute, Attributes, Node};
use crate::model::json::{Field, Fields, JsonError};
use crate::model::lowering::{Lowering, MAX_STEPS, Refusal, StepError};
use crate::model::manifest::Description;
use crate::model::weights::Weights;

/// Builds the graph that `inputs`, `nodes` and `outputs` describe. An input of a node is the value of
/// that name that was defined before it, else the tensor of that name.
pub(super) fn build(
    config: &mut Fields,
    _description: &Description,
    weights: Weights,
) -> Result<(Graph, Weights), LoadError> {
    let mut lowering = Lowering::over(weights);
    let inputs = inputs::all(config)?;
    if let Some(input) = inputs.iter().find(|input| input.shape.axis().is_some()) {
        let problem = format!(
            "{:?} has tokens, along which ONNX' operators would count their axes; expected known \
             extents",
            input.name
        );
        return Err(JsonError::new("inputs", problem).into());
    }
    inputs::add(&inputs, &mut lowering)?;
    let field = config.require("nodes")?;
    let limit = field.error(format!("expected 1 to {MAX_STEPS} nodes"));
    let nodes = field.list()?;
    if nodes.is_empty() || nodes.len() > MAX_STEPS {
        return Err(limit.into());
    }
    for (index, field) in nodes.into_iter().enumerate() {
        let node = node(field, index)?;
        let added = node.add(&mut lowering);
        added.map_err(|error| load_error(&node.operator, error))?;
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
        let refused = |refusal: Refusal| place.error(refusal.to_string());
        lowering.output(&name, &value).map_err(refused)?;
    }
    lowering.finish().map_err(|unused| {
        let problem = format!(
            "no node and no output uses {:?}; remove what makes it, or name it among the outputs",
            unused.value
        );
        JsonError::new("nodes", problem).into()
    })
}

fn load_error(operator: &str, error: StepError) -> LoadError {
    match *error.refusal {
        Refusal::Tensor(error) => error.into(),
        refusal => LoadError::Layer {
            layer: error.step,
            problem: format!("{operator}: {}", graph::problem(&refusal)),
        },
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
