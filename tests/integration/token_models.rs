//! Models of texts: embeddings of tokens, a layer for each, and their mean.

use std::collections::BTreeMap;

use safeserve::engine::{Batch, Workspace};
use safeserve::model::Model;
use safeserve::tensor::{DataType, View};

use crate::model_files::{Stored, directory};

pub(crate) const SEQUENTIAL: &str = r#"{
  "model_type": "sequential",
  "inputs": [{"name": "ids", "shape": [null], "datatype": "INT64"}],
  "layers": [
    {"type": "embedding", "name": "words", "entries": 7, "units": 3},
    {"type": "dense", "name": "each", "units": 5, "activation": "tanh"},
    {"type": "mean_pooling", "name": "text"},
    {"type": "dense", "name": "head", "units": 2}
  ]
}"#;

/// As Keras 3 writes it; of its own accord it says `float32` of what an Embedding looks up.
pub(crate) const KERAS: &str = r#"{
  "class_name": "Sequential",
  "config": {"name": "text", "layers": [
    {"class_name": "InputLayer", "config": {"name": "ids", "batch_shape": [null, null], "dtype": "float32"}},
    {"class_name": "Embedding", "config": {"name": "words", "input_dim": 7, "output_dim": 3, "mask_zero": false}},
    {"class_name": "Dense", "config": {"name": "each", "units": 5, "activation": "tanh", "use_bias": true}},
    {"class_name": "GlobalAveragePooling1D", "config": {"name": "pool", "data_format": "channels_last", "keepdims": false}},
    {"class_name": "Dense", "config": {"name": "head", "units": 2, "activation": "linear", "use_bias": true}}
  ]},
  "keras_version": "3.15.1"
}"#;

pub(crate) fn sequential_tensors() -> Vec<Stored> {
    vec![
        Stored::filled("words.weight", &[7, 3]),
        Stored::filled("each/kernel", &[3, 5]),
        Stored::filled("each.bias", &[5]),
        Stored::filled("head/kernel", &[5, 2]),
        Stored::filled("head.bias", &[2]),
    ]
}

pub(crate) fn keras_tensors() -> Vec<Stored> {
    vec![
        Stored::filled("words/embeddings", &[7, 3]),
        Stored::filled("each/kernel", &[3, 5]),
        Stored::filled("each/bias", &[5]),
        Stored::filled("head/kernel", &[5, 2]),
        Stored::filled("head/bias", &[2]),
    ]
}

/// The answers to texts in one pass.
fn answers(model: &Model, texts: &[&[i64]]) -> Vec<Vec<u32>> {
    let mut offsets = vec![0];
    for text in texts {
        offsets.push(offsets[offsets.len() - 1] + text.len());
    }
    let ids = texts.concat();
    let inputs = [View::I64(&ids)];
    let batch = Batch {
        rows: texts.len(),
        offsets: &[offsets],
        inputs: &inputs,
    };
    let mut workspace = Workspace::new();
    let outputs = model.engine.run(batch, &mut workspace, None);
    let rows = outputs.get(0).chunks_exact(2);
    rows.map(|row| row.iter().map(|x| x.to_bits()).collect())
        .collect()
}

#[test]
fn a_text_has_the_same_bits_in_any_company_and_from_either_framework() {
    let mut models = BTreeMap::new();
    for (family, config, tensors) in [
        ("sequential", SEQUENTIAL, sequential_tensors()),
        ("keras", KERAS, keras_tensors()),
    ] {
        let model = Model::load("m", 1, directory(config, &tensors).path()).unwrap();
        let [ids] = model.engine.inputs() else {
            panic!("one input");
        };
        assert_eq!(ids.datatype, DataType::Int64);
        assert_eq!(ids.to_string(), "INT64 [-1, -1]");
        assert_eq!(ids.range, Some(0..=6));
        models.insert(family, model);
    }
    let texts: [&[i64]; 4] = [&[3, 0, 6, 6, 1], &[2], &[], &[5, 4]];
    let together = answers(&models["sequential"], &texts);
    assert_eq!(answers(&models["keras"], &texts), together);
    for (text, answer) in texts.iter().zip(&together) {
        assert_eq!(
            answers(&models["sequential"], &[text]),
            std::slice::from_ref(answer)
        );
    }
    assert_ne!(together[0], together[1]);
}

#[test]
fn the_mean_of_rows_of_one_length_is_along_their_first_axis() {
    let config = r#"{
      "model_type": "sequential",
      "inputs": [{"name": "steps", "shape": [3, 2]}],
      "layers": [{"type": "mean_pooling"}]
    }"#;
    let model = Model::load("m", 1, directory(config, &[]).path()).unwrap();
    let steps = [
        1.0, 10.0, 2.0, 20.0, 6.0, 60.0, 0.0, 0.0, 0.0, 3.0, 0.0, 0.0,
    ];
    let inputs = [View::F32(&steps)];
    let mut workspace = Workspace::new();
    let batch = Batch::of_rows(2, &inputs);
    let outputs = model.engine.run(batch, &mut workspace, None);
    assert_eq!(outputs.get(0), [3.0, 30.0, 0.0, 1.0]);
}
