//! Configurations of Keras that cannot be served.

use super::Table;
use crate::model_files::Stored;

pub(super) fn collect(table: &mut Table) {
    table.changed(CONFIG, &tensors(), CASES);
}

/// A Keras configuration as `model.to_json()` writes it, without what inference ignores.
pub(super) const CONFIG: &str = r#"{
  "task": "binary-classification",
  "class_name": "Functional",
  "config": {
    "name": "model",
    "layers": [
      {"class_name": "InputLayer", "config": {"name": "x", "batch_shape": [null, 2, 2]},
       "name": "x", "inbound_nodes": []},
      {"class_name": "LayerNormalization", "name": "norm", "inbound_nodes": [[["x", 0, 0, {}]]],
       "config": {"name": "norm", "axis": [2], "epsilon": 0.001, "center": false, "scale": false}},
      {"class_name": "ReLU", "name": "relu", "inbound_nodes": [[["norm", 0, 0, {}]]],
       "config": {"name": "relu", "max_value": 6.0, "negative_slope": 0.0, "threshold": 0.0}},
      {"class_name": "Flatten", "config": {"name": "flatten"}, "name": "flatten",
       "inbound_nodes": [[["relu", 0, 0, {}]]]},
      {"class_name": "Concatenate", "config": {"name": "join", "axis": -1}, "name": "join",
       "inbound_nodes": [[["flatten", 0, 0, {}], ["flatten", 0, 0, {}]]]},
      {"class_name": "Dense", "name": "dense", "inbound_nodes": [[["join", 0, 0, {}]]],
       "config": {"name": "dense", "units": 1, "activation": "sigmoid", "use_bias": true}}
    ],
    "input_layers": [["x", 0, 0]],
    "output_layers": [["dense", 0, 0]]
  },
  "keras_version": "3.13.2",
  "backend": "tensorflow"
}"#;

pub(super) fn tensors() -> Vec<Stored> {
    vec![
        Stored::filled("dense/kernel", &[8, 1]),
        Stored::filled("dense/bias", &[1]),
    ]
}

/// (what is wrong, the text to replace, its replacement)
const CASES: &[(&str, &str, &str)] = &[
    (
        "neither family nor class",
        r#""class_name": "Functional","#,
        "",
    ),
    (
        "a class that is no network",
        r#""class_name": "Functional""#,
        r#""class_name": "MyModel""#,
    ),
    ("an unknown key at the top", r#""backend""#, r#""labls""#),
    (
        "a nested model",
        r#"{"class_name": "Flatten", "config": {"name": "flatten"}"#,
        r#"{"class_name": "Sequential", "config": {"name": "flatten", "layers": []}"#,
    ),
    (
        "an unknown layer class",
        r#""class_name": "Flatten""#,
        r#""class_name": "Conv2D""#,
    ),
    (
        "an unknown activation",
        r#""activation": "sigmoid""#,
        r#""activation": "my_function""#,
    ),
    (
        "an unknown key of a layer",
        r#""use_bias": true"#,
        r#""use_bias": true, "lora_rank": 4"#,
    ),
    (
        "an axis that is not the last",
        r#""axis": [2]"#,
        r#""axis": [1]"#,
    ),
    ("several axes", r#""axis": [2]"#, r#""axis": [1, 2]"#),
    ("joining along the rows", r#""axis": -1"#, r#""axis": 0"#),
    (
        "a threshold of ReLU",
        r#""threshold": 0.0"#,
        r#""threshold": 1.0"#,
    ),
    (
        "RMS scaling",
        r#""center": false"#,
        r#""center": false, "rms_scaling": true"#,
    ),
    (
        "a negative epsilon",
        r#""epsilon": 0.001"#,
        r#""epsilon": -0.001"#,
    ),
    (
        "an extent that is not known",
        r#"[null, 2, 2]"#,
        r#"[null, null, 2]"#,
    ),
    ("a fixed number of rows", r#"[null, 2, 2]"#, r#"[8, 2, 2]"#),
    (
        "an input of whole numbers",
        r#""batch_shape": [null, 2, 2]"#,
        r#""batch_shape": [null, 2, 2], "dtype": "int64""#,
    ),
    (
        "a layer that reads what is not there",
        r#"["relu", 0, 0, {}]"#,
        r#"["rule", 0, 0, {}]"#,
    ),
    (
        "an application that is not there",
        r#"["relu", 0, 0, {}]"#,
        r#"["relu", 1, 0, {}]"#,
    ),
    (
        "a second output of a layer",
        r#"["relu", 0, 0, {}]"#,
        r#"["relu", 0, 1, {}]"#,
    ),
    (
        "an output that is not there",
        r#"[["dense", 0, 0]]"#,
        r#"[["head", 0, 0]]"#,
    ),
    (
        "an input that is not there",
        r#"[["x", 0, 0]]"#,
        r#"[["y", 0, 0]]"#,
    ),
    (
        "units that the kernel does not have",
        r#""units": 1"#,
        r#""units": 2"#,
    ),
    (
        "a task of many classes with one output",
        r#""task": "binary-classification""#,
        r#""task": "multiclass-classification""#,
    ),
];
