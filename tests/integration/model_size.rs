//! The largest networks load quickly: if work grew with the cube of the number of layers, these tests would
//! never end.

use safeserve::engine::{Batch, Workspace};
use safeserve::model::Model;
use safeserve::tensor::View;

use crate::model_files::{Stored, directory};

/// The most layers that a model may have.
const MAX_LAYERS: usize = 10_000;

/// A model of one feature whose layers are each applied to the one before.
fn chain(layers: &[String], tensors: &[Stored]) -> Result<Model, String> {
    let config = format!(
        r#"{{"model_type": "sequential", "inputs": [{{"name": "x", "shape": [1]}}],
            "layers": [{}]}}"#,
        layers.join(", ")
    );
    Model::load("m", 1, directory(&config, tensors).path()).map_err(|error| error.to_string())
}

fn answer(model: &Model, x: f32) -> f32 {
    let mut workspace = Workspace::new();
    let x = [View::F32(&[x])];
    model
        .engine
        .run(Batch::of_rows(1, &x), &mut workspace, None)
        .get(0)[0]
}

/// 2 x + 1, and back again.
fn there_and_back(index: usize) -> String {
    match index % 2 {
        0 => r#"{"type": "rescaling", "scale": 2, "offset": 1}"#.to_owned(),
        _ => r#"{"type": "rescaling", "scale": 0.5, "offset": -0.5}"#.to_owned(),
    }
}

const DENSE: &str = r#"{"type": "dense", "name": "dense"}"#;

fn dense() -> [Stored; 2] {
    [
        Stored::new("dense.weight", &[1, 1], &[3.0]),
        Stored::new("dense.bias", &[1], &[0.25]),
    ]
}

#[test]
fn as_many_rescalings_as_may_be_fold_into_one_product_on_either_side() {
    let mut layers: Vec<String> = (0..MAX_LAYERS - 2).map(there_and_back).collect();
    layers.push(DENSE.to_owned());
    let before = chain(&layers, &dense()).unwrap();
    layers.rotate_right(1);
    let after = chain(&layers, &dense()).unwrap();
    for model in [before, after] {
        assert_eq!(answer(&model, 2.0), 6.25);
        assert_eq!(model.engine.steps(), 1);
    }
}

#[test]
fn layers_that_fold_into_nothing_load_too_and_one_more_does_not() {
    let mut layers: Vec<String> = (0..MAX_LAYERS).map(there_and_back).collect();
    assert_eq!(answer(&chain(&layers, &[]).unwrap(), 2.0), 2.0);
    layers.push(there_and_back(0));
    assert_eq!(
        chain(&layers, &[]).unwrap_err(),
        "config.json: layers: expected at most 10000, got 10001"
    );
    let functions = |index| {
        let function = ["relu", "linear", "selu"][index % 3];
        format!(r#"{{"type": "activation", "function": "{function}"}}"#)
    };
    let layers: Vec<String> = (0..MAX_LAYERS).map(functions).collect();
    assert_eq!(answer(&chain(&layers, &[]).unwrap(), -2.0), 0.0);
}

#[test]
fn layers_from_the_last_to_the_first_load_as_well() {
    let layer = |index: usize| {
        let before = match index {
            0 => "x".to_owned(),
            _ => (index - 1).to_string(),
        };
        format!(r#"{{"type": "dropout", "name": "{index}", "inputs": ["{before}"]}}"#)
    };
    let layers: Vec<String> = (0..MAX_LAYERS).rev().map(layer).collect();
    let config = format!(
        r#"{{"model_type": "sequential", "inputs": [{{"name": "x", "shape": [1]}}],
            "outputs": [{{"name": "y", "layer": "{}"}}], "layers": [{}]}}"#,
        MAX_LAYERS - 1,
        layers.join(", ")
    );
    let model = Model::load("m", 1, directory(&config, &[]).path()).unwrap();
    assert_eq!(answer(&model, 2.0), 2.0);
}

#[test]
fn many_branches_load_before_and_after_where_they_meet() {
    const BRANCHES: usize = 1000;
    let names: Vec<String> = (0..BRANCHES)
        .map(|index| format!("{:?}", index.to_string()))
        .collect();
    let mut layers: Vec<String> = names
        .iter()
        .map(|name| {
            format!(r#"{{"type": "rescaling", "name": {name}, "inputs": ["x"], "scale": 2}}"#)
        })
        .collect();
    layers.push(format!(
        r#"{{"type": "maximum", "name": "all", "inputs": [{}]}}"#,
        names.join(", ")
    ));
    assert_eq!(answer(&chain(&layers, &[]).unwrap(), 2.0), 4.0);
    layers.rotate_right(1);
    let config = format!(
        r#"{{"model_type": "sequential", "inputs": [{{"name": "x", "shape": [1]}}],
            "outputs": [{{"name": "y", "layer": "all"}}], "layers": [{}]}}"#,
        layers.join(", ")
    );
    let model = Model::load("m", 1, directory(&config, &[]).path()).unwrap();
    assert_eq!(answer(&model, 2.0), 4.0);
}
