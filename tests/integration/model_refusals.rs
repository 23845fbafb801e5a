//! Models that must not load, and what is said about each.
//!
//! Every case is one change to a model that does load. All messages are in one snapshot, where
//! a reader can judge them: each names the file and the place in it, what was expected and what is
//! there.

mod graph;
mod keras;
mod sequential;
mod tokens;
mod weights;

use std::fmt::Write as _;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;

use safeserve::model::Model;
use safetensors::Dtype;

use crate::model_files::{Stored, directory};

const CONFIG: &str = r#"{
  "model_type": "sequential",
  "task": {"type": "multiclass-classification"},
  "labels": ["no", "yes", "maybe"],
  "feature_names": ["a", "b", "c", "d"],
  "inputs": [{"name": "features", "shape": [4], "datatype": "FP32"}],
  "layers": [
    {"type": "normalization", "name": "scaler"},
    {"type": "dense", "name": "hidden", "units": 4, "activation": {"type": "elu", "alpha": 0.5}},
    {"type": "batch_normalization", "name": "norm", "epsilon": 0.001},
    {"type": "dropout", "name": "drop", "rate": 0.5},
    {"type": "dense", "name": "head", "units": 3},
    {"type": "activation", "name": "last", "function": "softmax"}
  ],
  "outputs": [{"name": "probabilities", "layer": "last"}]
}"#;

fn tensors() -> Vec<Stored> {
    vec![
        Stored::filled("scaler.mean_", &[4]),
        Stored::filled("scaler.scale_", &[4]),
        Stored::filled("hidden.weight", &[4, 4]),
        Stored::filled("hidden.bias", &[4]),
        Stored::filled("norm.weight", &[4]),
        Stored::filled("norm.bias", &[4]),
        Stored::filled("norm.running_mean", &[4]),
        Stored::filled("norm.running_var", &[4]),
        Stored {
            name: "norm.num_batches_tracked".into(),
            datatype: Dtype::I64,
            shape: vec![],
            bytes: 7_i64.to_le_bytes().to_vec(),
        },
        Stored::filled("head.weight", &[3, 4]),
        Stored::filled("head.bias", &[3]),
    ]
}

/// What is said about a directory that must not load.
fn refusal(claim: &str, directory: &Path) -> String {
    match catch_unwind(AssertUnwindSafe(|| Model::load("m", 1, directory))) {
        Ok(Err(error)) => error.to_string(),
        Ok(Ok(_)) => panic!("{claim}: it loads"),
        Err(_) => panic!("{claim}: it panics"),
    }
}

/// The cases and what was said about them.
struct Table {
    text: String,
    cases: usize,
}

impl Table {
    fn title(&mut self, title: &str) {
        write!(self.text, "\n# {title}\n").unwrap();
    }

    fn row(&mut self, claim: &str, directory: &Path) {
        let message = refusal(claim, directory);
        let place = directory.to_str().unwrap();
        assert!(!message.contains(place), "{claim}: {message}");
        write!(self.text, "\n{claim}\n    {message}\n").unwrap();
        self.cases += 1;
    }

    /// One change of text in a configuration that loads.
    fn changed(&mut self, config: &str, tensors: &[Stored], cases: &[(&str, &str, &str)]) {
        for (claim, found, replacement) in cases {
            assert_eq!(config.matches(found).count(), 1, "{claim}: {found}");
            let config = config.replacen(found, replacement, 1);
            self.row(claim, directory(&config, tensors).path());
        }
    }
}

#[test]
fn the_models_of_these_tests_load_unchanged() {
    for (config, tensors) in [
        (CONFIG, tensors()),
        (keras::CONFIG, keras::tensors()),
        (graph::CONFIG, graph::tensors()),
        (weights::CONFIG, vec![weights::tensor()]),
    ] {
        Model::load("m", 1, directory(config, &tensors).path()).unwrap();
    }
}

#[test]
fn each_wrong_model_is_refused_with_what_is_wrong_and_where() {
    let mut table = Table {
        text: String::new(),
        cases: 0,
    };
    table.title("config.json, family sequential");
    sequential::collect(&mut table);
    table.title("config.json, family keras");
    keras::collect(&mut table);
    table.title("config.json, family graph");
    graph::collect(&mut table);
    table.title("config.json, models of tokens");
    tokens::collect(&mut table);
    table.title("model.safetensors");
    weights::collect(&mut table);
    table.title("model.safetensors.index.json");
    weights::collect_shards(&mut table);
    assert!(table.cases >= 170, "only {} cases", table.cases);
    insta::assert_snapshot!("model_refusals", table.text);
}
