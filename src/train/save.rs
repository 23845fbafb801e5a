//! A trained network as a model directory: written next to its place, tried there, then moved in one step.

use ndarray::{Array1, ArrayD};
use serde_json::{Value, json};

use super::error::TrainError;
use super::features::{Features, shortest};
use super::fit::Fit;
use super::network::Dense;
use super::options::Options;
use super::report::Report;
use super::target::{Goal, Target};
use crate::model::layers::{DENSE, NORMALIZATION};
use crate::model::publish::{Draft, Place};

/// The name of the layer that standardises features.
const SCALER: &str = "scaler";

/// Writes the files that a server reads, and returns the body of a predict request.
pub(super) fn write(
    place: &Place,
    options: &Options,
    target: &Target,
    features: &Features,
    fit: &Fit,
) -> Result<(Draft, String), TrainError> {
    let failed = |error| TrainError::file(&options.out)(error);
    let example = example(features).to_string();
    let config = configuration(options, target, features, fit);
    let weights = weights(features, fit);
    let draft = place.draft().map_err(failed)?;
    draft
        .file("config.json", pretty(&config).as_bytes())
        .and_then(|()| draft.file("example.json", format!("{example}\n").as_bytes()))
        .and_then(|()| draft.weights(weights.iter().map(|(name, values)| (&**name, values))))
        .map_err(failed)?;
    Ok((draft, example))
}

/// Adds the files for people.
pub(super) fn describe(draft: &Draft, name: &str, report: &Report) -> std::io::Result<()> {
    draft.file("training.json", pretty(&report.to_json()).as_bytes())?;
    draft.file("report.html", report.to_html(name).as_bytes())
}

fn pretty(value: &Value) -> String {
    format!("{value:#}\n")
}

/// The name of a layer: of the last, or of one before it.
fn layer_name(index: usize, layers: usize) -> String {
    match index + 1 == layers {
        true => "output".to_owned(),
        false => format!("hidden{}", index + 1),
    }
}

fn configuration(options: &Options, target: &Target, features: &Features, fit: &Fit) -> Value {
    let goal = &target.goal;
    let layers = fit.network.layers.len();
    let last = match goal {
        Goal::Binary(_) => "sigmoid",
        Goal::Multiclass(_) => "softmax",
        Goal::Regression => "linear",
    };
    let mut list = vec![json!({"type": NORMALIZATION.name, "name": SCALER})];
    for (index, dense) in fit.network.layers.iter().enumerate() {
        let activation = fit
            .network
            .activations
            .get(index)
            .map_or(last, |activation| activation.name());
        list.push(json!({
            "type": DENSE.name,
            "name": layer_name(index, layers),
            "units": dense.bias.len(),
            "activation": activation,
        }));
    }
    let file = options
        .data
        .file_name()
        .map_or("a table".into(), |name| name.to_string_lossy());
    let description = options
        .description
        .clone()
        .unwrap_or_else(|| format!("{} by the other columns of {file}.", options.target));
    let mut config = json!({
        "model_type": "sequential",
        "description": description,
        "task": goal.task(),
        "feature_names": features.names,
        "columns": features.configuration(),
        "inputs": [{"name": "features", "shape": [features.width()], "datatype": "FP32"}],
        "layers": list,
    });
    if !goal.labels().is_empty() {
        config["labels"] = json!(goal.labels());
    }
    config
}

/// The weights by their names.
fn weights(features: &Features, fit: &Fit) -> Vec<(String, ArrayD<f32>)> {
    let numbers = |numbers: &[f32]| Array1::from(numbers.to_vec()).into_dyn();
    let scaler = |role| NORMALIZATION.role(role).dotted(SCALER);
    let stored = |role, layer: &str| {
        let tensor = DENSE.role(role).of_torch(layer);
        tensor.expect("PyTorch has a name for each weight of a dense layer")
    };
    let mut tensors = vec![
        (scaler("mean"), numbers(&features.mean)),
        (scaler("scale"), numbers(&features.scale)),
    ];
    let mut layers = fit.network.layers.clone();
    if let Some(last) = layers.last_mut() {
        let [weight, bias] = last.numbers_mut();
        fit.unit.fold(weight, bias);
    }
    let count = layers.len();
    for (index, Dense { weight, bias }) in layers.into_iter().enumerate() {
        let name = layer_name(index, count);
        tensors.push((stored("kernel", &name), weight.into_dyn()));
        tensors.push((stored("bias", &name), bias.into_dyn()));
    }
    tensors
}

/// A request for the first row, by its features' names.
fn example(features: &Features) -> Value {
    let values = features.names.iter().zip(features.row(0));
    let values = values.map(|(name, value)| (name.clone(), whole(shortest(*value))));
    json!({"instances": [Value::Object(values.collect())]})
}

/// A number as people write it: 5 and not 5.0.
fn whole(number: f64) -> Value {
    match number.fract() == 0.0 && number.abs() < 1e15 {
        true => json!(number as i64),
        false => json!(number),
    }
}
