//! `docs/models.md` is correct: its configurations load, its lists are complete, its messages are real.

use std::fs;
use std::path::Path;

use safeserve::engine::{Batch, Workspace};
use safeserve::model::{Model, OutputSource, Task};
use safeserve::tensor::View;
use safetensors::Dtype;

use crate::model_files::{Stored, directory};

fn read(path: &str) -> String {
    fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(path)).unwrap()
}

fn page() -> String {
    read("docs/models.md")
}

/// The code blocks of a language, each with the text after it up to the next code block.
fn blocks<'a>(page: &'a str, language: &str) -> Vec<(&'a str, &'a str)> {
    page.split(&format!("\n```{language}\n"))
        .skip(1)
        .map(|rest| {
            let (block, after) = rest.split_once("\n```\n").unwrap();
            (block, after.split("\n```").next().unwrap())
        })
        .collect()
}

/// The tensors in the table after a configuration: `| name | datatype | shape |`.
fn tensors(after: &str) -> Vec<Stored> {
    let rows = after
        .trim_start()
        .strip_prefix("| Tensor | Datatype | Shape |\n|---|---|---|\n")
        .expect("each configuration has its table of tensors right after it");
    rows.lines()
        .take_while(|line| line.starts_with('|'))
        .map(|line| {
            let cells: Vec<&str> = line.trim_matches('|').split(" | ").map(str::trim).collect();
            let [name, datatype, shape] = cells[..] else {
                panic!("{line}: three cells");
            };
            let shape: Vec<usize> = serde_json::from_str(shape).unwrap();
            let datatype = match datatype {
                "F64" => Dtype::F64,
                "F32" => Dtype::F32,
                "F16" => Dtype::F16,
                "BF16" => Dtype::BF16,
                "I64" => Dtype::I64,
                other => panic!("{line}: {other}"),
            };
            Stored::filled(name.trim_matches('`'), &shape).stored_as(datatype)
        })
        .collect()
}

fn examples() -> Vec<Model> {
    blocks(&page(), "json")
        .into_iter()
        .map(|(config, after)| {
            let place = directory(config, &tensors(after));
            Model::load("example", 1, place.path())
                .unwrap_or_else(|error| panic!("{error}\n{config}"))
        })
        .collect()
}

#[test]
fn each_configuration_loads_and_runs() {
    let models = examples();
    assert_eq!(models.len(), 7);
    for model in models {
        let inputs: Vec<Vec<f32>> = model
            .engine
            .inputs()
            .iter()
            .map(|spec| vec![0.25; 3 * spec.shape.elements()])
            .collect();
        let inputs: Vec<View<'_>> = inputs.iter().map(|values| View::F32(values)).collect();
        let mut workspace = Workspace::new();
        let outputs = model
            .engine
            .run(Batch::of_rows(3, &inputs), &mut workspace, None);
        for (index, spec) in model.engine.outputs().iter().enumerate() {
            let values = outputs.get(index);
            assert_eq!(values.len(), 3 * spec.shape.elements());
            assert!(values.iter().all(|value| value.is_finite()), "{spec}");
        }
    }
}

#[test]
fn the_examples_have_the_outputs_that_the_page_describes() {
    let models = examples();
    let outputs: Vec<Vec<&str>> = models
        .iter()
        .map(|model| {
            let outputs = model.signature.outputs.iter();
            outputs.map(|output| output.spec.name.as_str()).collect()
        })
        .collect();
    assert_eq!(
        outputs,
        [
            &["output"][..],
            &["probabilities", "class_id", "label"],
            &["prediction"],
            &["kind", "sizes"],
            &["probabilities", "class_id", "label"],
            &["probabilities"],
            &["probabilities", "class_id", "label"],
        ]
    );
    let [_, iris, _, branches, keras, _graph, passengers] = &models[..] else {
        panic!("seven examples");
    };
    assert_eq!(iris.signature.task, Task::MulticlassClassification);
    assert_eq!(iris.signature.labels[2], "virginica");
    assert_eq!(iris.signature.feature_names.len(), 4);
    assert_eq!(iris.signature.inputs[0].description, "centimetres");
    assert_eq!(branches.signature.outputs[1].spec.shape.extents, [2, 2]);
    assert_eq!(branches.signature.outputs[1].source, OutputSource::Engine);
    assert_eq!(keras.signature.inputs[0].name, "features");
    assert_eq!(
        keras.signature.task,
        Task::BinaryClassification { threshold: 0.5 }
    );
    let columns = passengers.signature.columns.as_ref().unwrap();
    let mut features = Vec::new();
    for (column, cell) in ["", "7.25", "S", "male"].into_iter().enumerate() {
        columns.encode(column, cell, &mut features).unwrap();
    }
    assert_eq!(features, [29.7, 7.25, 0.0, 0.0, 1.0, 0.0, 1.0]);
    assert_eq!(passengers.signature.feature_names[4], "port=S");
}

/// The names that a message lists after "expected one of: ".
fn listed(config: &str) -> Vec<String> {
    let message = Model::load("m", 1, directory(config, &[]).path())
        .unwrap_err()
        .to_string();
    let (_, names) = message.split_once("expected one of: ").unwrap();
    names.split(", ").map(str::to_owned).collect()
}

fn sequential(layer: &str) -> String {
    format!(
        r#"{{"model_type": "sequential", "inputs": [{{"name": "x", "shape": [1]}}],
            "layers": [{layer}]}}"#
    )
}

#[test]
fn every_layer_and_function_has_its_row() {
    let page = page();
    let layers = listed(&sequential(r#"{"type": "?"}"#));
    let functions = listed(&sequential(r#"{"type": "activation", "function": "?"}"#));
    assert!(layers.len() >= 15 && functions.len() >= 19);
    for name in layers.iter().chain(&functions) {
        let row = format!("\n| `{name}` |");
        assert!(page.contains(&row), "no row for {name}");
    }
}

/// The rows of the table of weights' names: layer, role, and every name that the role may have.
fn weight_names(page: &str) -> Vec<(&str, &str, Vec<&str>)> {
    let (_, section) = page.split_once("### Names of weights\n").unwrap();
    let (_, table) = section.split_once("\n|---|---|---|---|---|\n").unwrap();
    let mut layer = "";
    table
        .lines()
        .take_while(|line| line.starts_with('|'))
        .map(|line| {
            let cells: Vec<&str> = line.split('|').map(str::trim).collect();
            let [_, of, role, names @ ..] = &cells[..] else {
                panic!("{line}: a layer and a role");
            };
            if !of.is_empty() {
                layer = of.trim_matches('`');
            }
            let names = names.iter().flat_map(|cell| cell.split(", "));
            let names = names.map(|name| name.trim_matches('`'));
            (
                layer,
                *role,
                names.filter(|name| !name.is_empty()).collect(),
            )
        })
        .collect()
}

#[test]
fn each_name_that_a_weight_may_have_is_found() {
    let page = page();
    let rows = weight_names(&page);
    let mut tried = 0;
    for (layer, role, names) in &rows {
        let epsilon = match *layer {
            "batch_normalization" | "layer_normalization" => r#", "epsilon": 0.001"#,
            _ => "",
        };
        let datatype = match *layer {
            "embedding" => "INT64",
            _ => "FP32",
        };
        let config = format!(
            r#"{{"model_type": "sequential",
                "inputs": [{{"name": "x", "shape": [2], "datatype": "{datatype}"}}],
                "layers": [{{"type": "{layer}", "name": "n"{epsilon}}}]}}"#
        );
        let shape = |role: &str| match role {
            "kernel" | "embeddings" => &[2, 2][..],
            _ => &[2],
        };
        // A normalisation has either a variance or a scale.
        let instead = match *role {
            "scale" => "variance",
            _ => "scale",
        };
        for name in names {
            let mut tensors = vec![Stored::filled(name, shape(role))];
            for (other, its_role, its_names) in &rows {
                if other == layer && its_role != role && *its_role != instead {
                    tensors.push(Stored::filled(its_names[0], shape(its_role)));
                }
            }
            if let Err(error) = Model::load("m", 1, directory(&config, &tensors).path()) {
                panic!("{layer}: {role}: {name}: {error}");
            }
            tried += 1;
        }
    }
    assert!(tried >= 45, "only {tried} names");
}

#[test]
fn every_class_and_activation_of_keras_is_named() {
    let page = page();
    let keras = |layer: &str| {
        let input =
            r#"{"class_name": "InputLayer", "config": {"name": "x", "batch_shape": [null, 1]}}"#;
        format!(r#"{{"class_name": "Sequential", "config": {{"layers": [{input}, {layer}]}}}}"#)
    };
    let classes = listed(&keras(r#"{"class_name": "?", "config": {"name": "y"}}"#));
    let activations = listed(&keras(
        r#"{"class_name": "Activation", "config": {"name": "y", "activation": "?"}}"#,
    ));
    assert!(classes.len() >= 23 && activations.len() >= 19);
    let (_, keras) = page.split_once("family `keras`\n").unwrap();
    for name in classes.iter().chain(&activations) {
        assert!(keras.contains(&format!("`{name}`")), "{name} is not named");
    }
}

#[test]
fn every_key_is_described() {
    let page = page();
    let top = listed(
        r#"{"model_type": "sequential", "?": 1, "inputs": [{"name": "x", "shape": [1]}],
        "layers": [{"type": "flatten"}]}"#,
    );
    let dense = listed(&sequential(r#"{"type": "dense", "?": 1}"#));
    let norm = listed(&sequential(
        r#"{"type": "layer_normalization", "epsilon": 1, "?": 1}"#,
    ));
    assert!(top.len() == 10 && dense.len() == 8, "{top:?} {dense:?}");
    for key in top.iter().chain(&dense).chain(&norm) {
        assert!(page.contains(&format!("`{key}`")), "{key} is not described");
    }
}

/// The tests of refusals hold the snapshot to what the code says.
#[test]
fn the_messages_shown_are_those_of_the_code() {
    let snapshot =
        read("tests/integration/snapshots/integration__model_refusals__model_refusals.snap");
    let page = page();
    let [(messages, _)] = blocks(&page, "text")[..] else {
        panic!("one block of messages");
    };
    assert_eq!(messages.lines().count(), 8);
    for message in messages.lines() {
        assert!(
            snapshot.contains(&format!("\n    {message}\n")),
            "nothing says: {message}"
        );
    }
}
