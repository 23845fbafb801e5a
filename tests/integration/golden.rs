//! The engine's answers against those of the frameworks that trained the networks.
//!
//! `tests/golden/` holds the frameworks' answers and the scripts that wrote them.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use safeserve::engine::Workspace;
use safeserve::engine::kernels::Isa;
use safeserve::model::{Model, Task};
use safetensors::{Dtype, SafeTensors};

use crate::model_files::{Stored, directory};

/// Inputs and outputs by name; shapes with the rows first.
struct Golden {
    inputs: BTreeMap<String, Vec<f64>>,
    outputs: BTreeMap<String, Vec<f64>>,
    rows: usize,
}

impl Golden {
    fn read(path: &Path) -> Self {
        let bytes = fs::read(path).unwrap();
        let file = SafeTensors::deserialize(&bytes).unwrap();
        let mut golden = Self {
            inputs: BTreeMap::new(),
            outputs: BTreeMap::new(),
            rows: 0,
        };
        for (name, tensor) in file.iter() {
            let values = match tensor.dtype() {
                Dtype::F32 => {
                    let (chunks, _) = tensor.data().as_chunks();
                    chunks
                        .iter()
                        .map(|c| f64::from(f32::from_le_bytes(*c)))
                        .collect()
                }
                Dtype::F64 => {
                    let (chunks, _) = tensor.data().as_chunks();
                    chunks.iter().map(|c| f64::from_le_bytes(*c)).collect()
                }
                other => panic!("{name}: unexpected {other}"),
            };
            golden.rows = tensor.shape()[0];
            let (kind, name) = name.split_once('.').unwrap();
            match kind {
                "input" => golden.inputs.insert(name.to_owned(), values),
                "output" => golden.outputs.insert(name.to_owned(), values),
                other => panic!("neither input nor output: {other}"),
            };
        }
        assert!(golden.rows > 0 && !golden.outputs.is_empty());
        golden
    }
}

/// The engine's outputs by name.
fn run(model: &Model, golden: &Golden) -> BTreeMap<String, Vec<f32>> {
    let engine = &model.engine;
    let inputs: Vec<Vec<f32>> = engine
        .inputs()
        .iter()
        .map(|spec| {
            golden.inputs[&spec.name]
                .iter()
                .map(|v| *v as f32)
                .collect()
        })
        .collect();
    assert_eq!(inputs.len(), golden.inputs.len());
    let inputs: Vec<&[f32]> = inputs.iter().map(Vec::as_slice).collect();
    let mut workspace = Workspace::new();
    let outputs = engine.run(golden.rows, &inputs, &mut workspace);
    engine
        .outputs()
        .iter()
        .enumerate()
        .map(|(index, spec)| (spec.name.clone(), outputs.get(index).to_vec()))
        .collect()
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

/// Refuses values of which one differs by more than its tolerance; shows the one furthest off.
fn compare(actual: &[f32], expected: &[f64], tolerance: impl Fn(f64) -> f64) -> Result<(), String> {
    assert_eq!(actual.len(), expected.len());
    let differences = actual.iter().zip(expected).enumerate();
    let furthest = differences
        .map(|(index, (actual, expected))| (index, (f64::from(*actual) - expected).abs()))
        .filter(|(index, off)| off.is_nan() || *off > tolerance(expected[*index]))
        .max_by(|(_, left), (_, right)| left.total_cmp(right));
    match furthest {
        None => Ok(()),
        Some((index, off)) => Err(format!(
            "[{index}]: {} but {}, off by {off:e}",
            actual[index], expected[index]
        )),
    }
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
        let golden = Golden::read(path);
        assert!(golden.rows >= 32, "{name}: {} rows", golden.rows);
        let answers = run(&model, &golden);
        for (output, expected) in &golden.outputs {
            let tolerance = |expected: f64| match model.signature.task {
                Task::Regression => 1e-5 * expected.abs(),
                _ => 1e-6,
            };
            if let Err(problem) = compare(&answers[output], expected, tolerance) {
                failures.push(format!("{stem} on {}: {output}{problem}", isa.name()));
            }
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
        let golden = Golden::read(&directory.join("golden.safetensors"));
        let answers = run(&model, &golden);
        for (output, expected) in &golden.outputs {
            let Some(actual) = answers.get(output) else {
                failures.push(format!("{case}: no output {output}: {:?}", answers.keys()));
                continue;
            };
            let tolerance = |expected: f64| 2e-6 * expected.abs().max(1.0);
            if let Err(problem) = compare(actual, expected, tolerance) {
                failures.push(format!("{case} on {}: {output}{problem}", isa.name()));
            }
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
        let golden = Golden::read(&original.join("golden.safetensors"));
        assert_eq!(
            run(&renamed, &golden),
            run(&original_model, &golden),
            "{case}"
        );
    }
}
