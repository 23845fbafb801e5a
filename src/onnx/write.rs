//! A network as a version of a model.

use std::path::{Path, PathBuf};

use serde_json::{Map, Value, json};

use super::error::ImportError;
use super::network::{Network, Options};
use crate::model::CONFIG_FILE;
use crate::model::graph::{Attribute, Node};
use crate::model::publish::Place;

/// Writes the next version of the model in `out`, and has it loaded before it is moved in.
pub(super) fn write(
    network: &Network,
    out: &Path,
    options: &Options,
) -> Result<PathBuf, ImportError> {
    let failed = |error| ImportError::File {
        path: out.to_owned(),
        error,
    };
    let place = Place::at(out).map_err(failed)?;
    let draft = place.draft().map_err(failed)?;
    let config = config(network, options).to_string() + "\n";
    draft
        .file(CONFIG_FILE, config.as_bytes())
        .and_then(|()| {
            let weights = network.weights.iter();
            draft.weights(weights.map(|(name, values)| (name.as_str(), &**values)))
        })
        .map_err(failed)?;
    draft.load().map_err(|error| ImportError::Load { error })?;
    let (directory, _) = draft.publish().map_err(failed)?;
    Ok(directory)
}

fn config(network: &Network, options: &Options) -> Value {
    let labels = match options.labels.is_empty() {
        true => &network.labels,
        false => &options.labels,
    };
    let mut config = Map::new();
    config.insert("model_type".into(), "graph".into());
    if let Some(description) = &options.description {
        config.insert("description".into(), description.as_str().into());
    }
    let task = match &options.task {
        Some(task) => Some(task.as_str()),
        None if labels.is_empty() => None,
        None => Some("multiclass-classification"),
    };
    if let Some(task) = task {
        config.insert("task".into(), task.into());
    }
    if !labels.is_empty() {
        config.insert("labels".into(), json!(labels));
    }
    if !options.feature_names.is_empty() {
        config.insert("feature_names".into(), json!(options.feature_names));
    }
    let inputs = network
        .inputs
        .iter()
        .map(|input| json!({"name": input.name, "shape": input.shape.extents, "datatype": "FP32"}));
    config.insert("inputs".into(), inputs.collect());
    config.insert("nodes".into(), network.nodes.iter().map(node).collect());
    let outputs = network
        .outputs
        .iter()
        .map(|(name, value)| match name == value {
            true => json!({"name": name}),
            false => json!({"name": name, "value": value}),
        });
    config.insert("outputs".into(), outputs.collect());
    Value::Object(config)
}

fn node(node: &Node) -> Value {
    let mut value = Map::new();
    value.insert("op".into(), node.operator.as_str().into());
    value.insert("name".into(), node.name.as_str().into());
    value.insert("inputs".into(), json!(node.inputs));
    value.insert("output".into(), node.output.as_str().into());
    let attributes: Map<String, Value> = node
        .attributes
        .iter()
        .map(|(name, attribute)| {
            let value = match attribute {
                Attribute::Int(value) => json!(value),
                Attribute::Ints(values) => json!(values),
                Attribute::Float(value) => json!(value),
                Attribute::Text(text) => json!(text),
            };
            (name.to_owned(), value)
        })
        .collect();
    if !attributes.is_empty() {
        value.insert("attributes".into(), Value::Object(attributes));
    }
    Value::Object(value)
}
