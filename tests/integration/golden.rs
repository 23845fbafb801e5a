//! The engine's answers against those of the frameworks that trained the networks.
//!
//! `tests/golden/` holds the frameworks' answers and the scripts that wrote them.

use std::fs;
use std::path::{Path, PathBuf};

use safeserve::engine::kernels::Isa;
use safeserve::model::{Expected, Model, Task};
use safetensors::SafeTensors;

use crate::model_files::{Stored, directory};

/// The framework's answers, stored next to a model.
fn golden(path: &Path, model: &Model) -> Expected {
    Expected::read(path.to_str().unwrap(), &model.engine).unwrap_or_else(|error| panic!("{error}"))
}

/// The outputs with a number that differs by more than its tolerance, each with the worst one.
fn beyond(expected: &Expected, model: &Model, tolerance: impl Fn(f64) -> f64) -> Vec<String> {
    let furthest = expected.compare(&model.engine, tolerance);
    assert_eq!(furthest.len(), model.engine.outputs().len());
    let beyond = furthest.iter().filter(|output| !output.is_within());
    beyond.map(|output| format!("{output:?}")).collect()
}

fn golden_directory() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden")
}

/// Each path on each instruction set of this machine.
fn on_each_isa(paths: &[PathBuf]) -> impl Iterator<Item = (&Path, Isa)> {
    let isas = |path| Isa::available().into_iter().map(move |isa| (path, isa));
    paths.iter().map(PathBuf::as_path).flat_map(isas)
}

fn sorted(directory: &Path) -> Vec<PathBuf> {
    let mut paths: Vec<PathBuf> = fs::read_dir(directory)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .collect();
    paths.sort();
    paths
}

/// The samples, held-out rows: 1e-6 absolute for probabilities, 1e-5 relative for regression.
#[test]
fn the_samples_answer_as_their_frameworks_do() {
    let models = Path::new(env!("CARGO_MANIFEST_DIR")).join("models");
    let mut failures = Vec::new();
    let samples = sorted(&golden_directory().join("models"));
    for (path, isa) in on_each_isa(&samples) {
        let stem = path.file_stem().unwrap().to_str().unwrap();
        let (name, version) = stem.rsplit_once('-').unwrap();
        let mut directory = models.join(name).join(version);
        if !directory.exists() {
            directory = models.join(name);
        }
        let model = Model::load_for(name, version.parse().unwrap(), &directory, isa)
            .unwrap_or_else(|error| panic!("{name}: {error}"));
        let golden = golden(path, &model);
        assert!(golden.rows() >= 32, "{name}: {} rows", golden.rows());
        let tolerance = |expected: f64| match model.signature.task {
            Task::Regression => 1e-5 * expected.abs(),
            _ => 1e-6,
        };
        for output in beyond(&golden, &model, tolerance) {
            failures.push(format!("{stem} on {}: {output}", isa.name()));
        }
    }
    assert_eq!(
        samples.len(),
        6,
        "five samples, one of them in two versions"
    );
    assert!(failures.is_empty(), "{}", failures.join("\n"));
}

/// Each layer and activation: small networks with weights of order 1, computed in f32 by us and
/// in f32 or f64 by the framework. 2e-6 of each value, or of 1 for those below it, leaves room for
/// a dozen roundings of either side and none for a wrong constant.
#[test]
fn each_layer_answers_as_its_framework_does() {
    let mut failures = Vec::new();
    let cases = sorted(&golden_directory().join("layers"));
    for (directory, isa) in on_each_isa(&cases) {
        let case = directory.file_name().unwrap().to_str().unwrap();
        let model = match Model::load_for(case, 1, directory, isa) {
            Ok(model) => model,
            Err(error) => {
                failures.push(format!("{case}: {error}"));
                continue;
            }
        };
        let golden = golden(&directory.join("golden.safetensors"), &model);
        let tolerance = |expected: f64| 2e-6 * expected.abs().max(1.0);
        for output in beyond(&golden, &model, tolerance) {
            failures.push(format!("{case} on {}: {output}", isa.name()));
        }
    }
    assert!(cases.len() >= 70, "only {} cases", cases.len());
    assert!(failures.is_empty(), "{}", failures.join("\n"));
}

/// Writers that join Keras' names by dots give the same layers other names for their weights, and
/// these names find the same weights.
#[test]
fn weights_under_keras_names_with_dots_answer_as_under_pytorchs() {
    for (case, names) in [
        (
            "batch_normalization",
            &[
                ("0.weight", "0.gamma"),
                ("0.bias", "0.beta"),
                ("0.running_mean", "0.moving_mean"),
                ("0.running_var", "0.moving_variance"),
            ][..],
        ),
        (
            "layer_normalization",
            &[("0.weight", "0.gamma"), ("0.bias", "0.beta")],
        ),
        ("activation-prelu", &[("0.weight", "0.alpha")]),
    ] {
        let original = golden_directory().join("layers").join(case);
        let bytes = fs::read(original.join("model.safetensors")).unwrap();
        let file = SafeTensors::deserialize(&bytes).unwrap();
        let renamed: Vec<Stored> = names
            .iter()
            .map(|(pytorch, keras)| {
                let tensor = file.tensor(pytorch).unwrap();
                Stored {
                    name: (*keras).to_owned(),
                    datatype: tensor.dtype(),
                    shape: tensor.shape().to_vec(),
                    bytes: tensor.data().to_vec(),
                }
            })
            .collect();
        let config = fs::read_to_string(original.join("config.json")).unwrap();
        let renamed = Model::load(case, 1, directory(&config, &renamed).path()).unwrap();
        let original_model = Model::load(case, 1, &original).unwrap();
        let golden = golden(&original.join("golden.safetensors"), &original_model);
        assert_eq!(
            golden.answers(&renamed.engine),
            golden.answers(&original_model.engine),
            "{case}"
        );
    }
}
