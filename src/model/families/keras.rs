//! Family `keras`: a configuration as Keras 2 or 3 itself writes it (`model.to_json()`), with
//! weights named by Keras' variable paths.

use std::collections::HashMap;

use super::inputs::row_shape;
use super::network::{Application, NamedLayer, Network};
use crate::engine::Graph;
use crate::model::LoadError;
use crate::model::activations::KerasVersion;
use crate::model::json::{Field, Fields, JsonError};
use crate::model::layer::{KerasLayer, KerasModel, described};
use crate::model::layers;
use crate::model::lowering::Lower;
use crate::model::manifest::Description;
use crate::model::weights::Weights;
use crate::tensor::{DataType, TensorSpec};

/// Builds the graph of a Keras configuration.
pub(super) fn build(
    config: &mut Fields,
    description: &Description,
    weights: Weights,
) -> Result<(Graph, Weights), LoadError> {
    config.ignore(&[
        "module",
        "registered_name",
        "build_config",
        "compile_config",
        "backend",
    ]);
    // Only `to_json()` of Keras 2 records its version; otherwise the layers' keys tell it.
    let version = match config.take("keras_version") {
        Some(version) if version.clone().string()?.starts_with("2.") => Some(KerasVersion::Keras2),
        Some(_) => Some(KerasVersion::Keras3),
        None if config.mentions("batch_input_shape") => Some(KerasVersion::Keras2),
        None if config.mentions("batch_shape") => Some(KerasVersion::Keras3),
        None => None,
    };
    let class = config.require("class_name")?;
    let mut model = config.require("config")?.object()?;
    model.ignore(&["trainable", "dtype"]);
    let name = model.take("name").map(Field::string).transpose()?;
    let mut reader = Reader(KerasModel {
        version,
        name: name.unwrap_or_default(),
        weights,
    });
    let network = match class.clone().string()?.as_str() {
        "Sequential" => reader.sequential(&mut model, description)?,
        "Functional" | "Model" => reader.functional(&mut model, description)?,
        other => {
            return Err(class
                .error(format!(
                    "expected \"Sequential\" or \"Functional\", got {other:?}"
                ))
                .into());
        }
    };
    model.finish()?;
    network.with_indices().build(reader.0.weights)
}

struct Reader(KerasModel);

impl Reader {
    fn sequential(
        &mut self,
        model: &mut Fields,
        description: &Description,
    ) -> Result<Network, LoadError> {
        let layers = model.require("layers")?;
        let mut shape = model.take("build_input_shape");
        let mut input: Option<TensorSpec> = None;
        let mut read: Vec<NamedLayer> = Vec::new();
        let empty = layers.expected("at least one layer");
        for field in layers.list()? {
            let (class, mut config, _) = described(field)?;
            if class.clone().string()? == "InputLayer" {
                if input.is_some() {
                    return Err(class
                        .error("a Sequential has one InputLayer, its first")
                        .into());
                }
                input = Some(input_layer(config)?);
                continue;
            }
            let name = config.require("name")?.string()?;
            if input.is_none() {
                let said = config
                    .take("batch_shape")
                    .or_else(|| config.take("batch_input_shape"))
                    .or_else(|| shape.take())
                    .ok_or_else(|| {
                        config.error(
                            "the shape of the model's input is not known; add an InputLayer, or \
                             build the model before saving it",
                        )
                    })?;
                input = Some(feature_spec(format!("{name}_input"), said)?);
            }
            let before = read
                .last()
                .map(|layer| layer.name.clone())
                .or_else(|| input.as_ref().map(|input| input.name.clone()))
                .expect("the input was set above");
            let layer = self.layer(&class, config, &name)?;
            read.push(NamedLayer {
                applications: vec![Application {
                    inputs: vec![before],
                    output: name.clone(),
                }],
                name,
                layer,
            });
        }
        let (Some(input), Some(last)) = (input, read.last()) else {
            return Err(empty.into());
        };
        Ok(Network {
            inputs: vec![input],
            outputs: vec![(description.output_name().to_owned(), last.name.clone())],
            layers: read,
        })
    }

    fn functional(
        &mut self,
        model: &mut Fields,
        description: &Description,
    ) -> Result<Network, LoadError> {
        let mut inputs = HashMap::new();
        let mut read = Vec::new();
        for field in model.require("layers")?.list()? {
            let (class, mut config, nodes) = described(field)?;
            if class.clone().string()? == "InputLayer" {
                let spec = input_layer(config)?;
                inputs.insert(spec.name.clone(), spec);
                continue;
            }
            let name = config.require("name")?.string()?;
            let mut applications = Vec::new();
            for (index, node) in nodes
                .map_or(Ok(Vec::new()), Field::list)?
                .into_iter()
                .enumerate()
            {
                applications.push(Application {
                    inputs: inbound(node)?,
                    output: value_name(&name, index as i64),
                });
            }
            let layer = self.layer(&class, config, &name)?;
            read.push(NamedLayer {
                name,
                layer,
                applications,
            });
        }
        let ends = model.require("input_layers")?;
        let unknown = ends.error("names an input that is not among the layers");
        let inputs = references(ends)?
            .into_iter()
            .map(|(layer, _)| inputs.remove(&layer).ok_or_else(|| unknown.clone()))
            .collect::<Result<_, _>>()?;
        let ends = references(model.require("output_layers")?)?;
        let several = ends.len() > 1;
        let outputs = ends
            .into_iter()
            .map(|(layer, node)| {
                let value = value_name(&layer, node);
                let name = if several {
                    value.clone()
                } else {
                    description.output_name().to_owned()
                };
                (name, value)
            })
            .collect();
        Ok(Network {
            inputs,
            layers: read,
            outputs,
        })
    }

    /// Reads a layer's own configuration.
    fn layer(
        &mut self,
        class: &Field,
        config: Fields,
        name: &str,
    ) -> Result<Box<dyn Lower>, JsonError> {
        let text = class.clone().string()?;
        let definition = layers::keras(&text).ok_or_else(|| {
            let classes = layers::all().flat_map(layers::keras_classes);
            let known: Vec<_> = ["InputLayer"].into_iter().chain(classes).collect();
            class.error(format!(
                "unknown layer class {text:?}; expected one of: {}",
                known.join(", ")
            ))
        })?;
        let mut layer = KerasLayer::new(class, name, config, &mut self.0);
        let read = (definition.read_keras)(&mut layer)?;
        layer.finish()?;
        Ok(read)
    }
}

fn input_layer(mut config: Fields) -> Result<TensorSpec, JsonError> {
    config.ignore(&["sparse", "ragged", "optional", "trainable"]);
    let name = config.require("name")?.string()?;
    let shape = config
        .take("batch_shape")
        .or_else(|| config.take("batch_input_shape"))
        .ok_or_else(|| config.error("the key \"batch_shape\" is missing"))?;
    let mut datatype = DataType::Fp32;
    if let Some(dtype) = config.take("dtype")
        && dtype.is_string()
    {
        let refusal = dtype.expected("floats or whole numbers");
        let name = dtype.string()?;
        datatype = match () {
            () if name.contains("float") => DataType::Fp32,
            () if name.contains("int") => DataType::Int64,
            () => return Err(refusal),
        };
    }
    config.finish()?;
    Ok(TensorSpec {
        datatype,
        ..feature_spec(name, shape)?
    })
}

/// An input of this batch shape, whose first extent is `null`: any number of rows. Where the second is
/// too, a row has as many tokens as a request says.
fn feature_spec(name: String, batch_shape: Field) -> Result<TensorSpec, JsonError> {
    let refusal = batch_shape.expected("null for the rows, then known extents");
    let mut extents = batch_shape.clone().list()?;
    if !extents.first().is_some_and(Field::is_null) {
        return Err(refusal);
    }
    let shape = row_shape(&batch_shape, extents.split_off(1))?;
    Ok(TensorSpec::new(name, DataType::Fp32, shape))
}

/// The name of the value that a layer's node computes.
fn value_name(layer: &str, node: i64) -> String {
    match node {
        0 => layer.to_owned(),
        node => format!("{layer}:{node}"),
    }
}

/// The values that go into one inbound node, of Keras 3 (`{"args": ...}`) or Keras 2 (a list).
fn inbound(node: Field) -> Result<Vec<String>, JsonError> {
    let mut inputs = Vec::new();
    if node.is_object() {
        let mut node = node.object()?;
        for argument in node.require("args")?.list()? {
            if argument.is_list() {
                for tensor in argument.list()? {
                    inputs.push(keras_tensor(tensor)?);
                }
            } else {
                inputs.push(keras_tensor(argument)?);
            }
        }
        // What inference sets itself: `training`, `mask`.
        node.ignore(&["kwargs"]);
        node.finish()?;
    } else {
        for reference in node.list()? {
            let (layer, index) = reference_of(reference)?;
            inputs.push(value_name(&layer, index));
        }
    }
    Ok(inputs)
}

fn keras_tensor(field: Field) -> Result<String, JsonError> {
    let mut tensor = field.object()?;
    let class = tensor.require("class_name")?;
    let refusal = class.expected("\"__keras_tensor__\"");
    if class.string()? != "__keras_tensor__" {
        return Err(refusal);
    }
    let mut config = tensor.require("config")?.object()?;
    let (layer, node) = reference_of(config.require("keras_history")?)?;
    Ok(value_name(&layer, node))
}

/// `[[layer, node, tensor], ...]`, or just `[layer, node, tensor]` if there is one.
fn references(field: Field) -> Result<Vec<(String, i64)>, JsonError> {
    let items = field.clone().list()?;
    if items.first().is_some_and(Field::is_string) {
        return Ok(vec![reference_of(field)?]);
    }
    items.into_iter().map(reference_of).collect()
}

/// `[layer, node, tensor, ...]`: the layer and which of its nodes.
fn reference_of(field: Field) -> Result<(String, i64), JsonError> {
    let refusal = field.expected("[layer name, node index, 0]");
    let mut parts = field.list()?.into_iter();
    match (parts.next(), parts.next(), parts.next()) {
        (Some(layer), Some(node), Some(tensor)) if tensor.clone().integer() == Ok(0) => {
            Ok((layer.string()?, node.integer()?))
        }
        _ => Err(refusal),
    }
}
