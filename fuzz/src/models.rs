//! Files of a model: configuration, weights, the index of shards.

use std::fs;
use std::path::Path;

use safeserve::engine::{Batch, Workspace};
use safeserve::model::Model;
use safeserve::tensor::View;
use tempfile::TempDir;

use super::choose;

/// A model that is run after it is loaded has rows no larger than this.
const MAX_RUN_ELEMENTS: usize = 1 << 14;

/// The files of a model that the tests have.
macro_rules! golden {
    ($layer:literal) => {
        (
            include_str!(concat!(
                "../../tests/golden/layers/",
                $layer,
                "/config.json"
            )),
            include_bytes!(concat!(
                "../../tests/golden/layers/",
                $layer,
                "/model.safetensors"
            )),
        )
    };
}

/// Networks of all operators and of all formats; each has the weights that its configuration needs.
const GOLDEN: &[(&str, &[u8])] = &[
    golden!("activation-relu"),
    golden!("dense-relu"),
    golden!("dense-no-bias"),
    golden!("batch_normalization"),
    golden!("batch_normalization-folded"),
    golden!("layer_normalization"),
    golden!("normalization-keras"),
    golden!("activation-prelu"),
    golden!("add"),
    golden!("two-inputs-two-outputs"),
    golden!("storage-bf16"),
    golden!("storage-f64"),
    golden!("keras-dense"),
    golden!("keras-batch-normalization"),
    golden!("keras-layer-normalization"),
    golden!("keras-normalization"),
    golden!("keras-flatten-reshape"),
    golden!("keras2-sequential"),
    golden!("keras2-batch-normalization"),
    golden!("keras2-normalization"),
];

thread_local! {
    /// One directory a thread: overwriting a file is cheaper than creating one.
    static DIRECTORY: TempDir = TempDir::new().unwrap();
}

/// A `config.json`, for the weights of the network that the first byte says.
pub fn config(data: &[u8]) {
    if let Some(((_, weights), config)) = choose(data, GOLDEN) {
        load(&[("config.json", config), ("model.safetensors", weights)]);
    }
}

/// A `model.safetensors`, for the configuration that the first byte says.
///
/// If the rest begins with `{`, the header ends at the first line and its length is added: a fuzzer that
/// had to change a length with every byte that it inserts would get nowhere.
pub fn weights(data: &[u8]) {
    let Some(((config, _), file)) = choose(data, GOLDEN) else {
        return;
    };
    let config = ("config.json", config.as_bytes());
    if file.first() != Some(&b'{') {
        return load(&[config, ("model.safetensors", file)]);
    }
    let end = file.iter().position(|byte| *byte == b'\n');
    let (header, values) = match end {
        Some(end) => (&file[..end], &file[end + 1..]),
        None => (file, &[][..]),
    };
    let length = (header.len() as u64).to_le_bytes();
    let file = [&length, header, values].concat();
    load(&[config, ("model.safetensors", &file)]);
}

/// A `model.safetensors.index.json`, next to two shards that exist.
pub fn index(data: &[u8]) {
    /// The names and values of the weights of `dense-relu`, a shard each.
    fn shard(name: &str, shape: &[usize]) -> Vec<u8> {
        let values = vec![0; 4 * shape.iter().product::<usize>()];
        let view =
            safetensors::tensor::TensorView::new(safetensors::Dtype::F32, shape.to_vec(), &values);
        safetensors::serialize([(name, view.unwrap())], None).unwrap()
    }
    let (config, _) = golden!("dense-relu");
    load(&[
        ("config.json", config.as_bytes()),
        ("model.safetensors.index.json", data),
        ("a.safetensors", &shard("0.weight", &[3, 5])),
        ("b.safetensors", &shard("0.bias", &[3])),
    ]);
}

/// Loads a model of these files, and if that is possible computes with it.
fn load(files: &[(&str, &[u8])]) {
    DIRECTORY.with(|directory| {
        // Another target of the same thread has left other files.
        for other in ["model.safetensors", "model.safetensors.index.json"] {
            let _ = fs::remove_file(directory.path().join(other));
        }
        for (name, bytes) in files {
            fs::write(directory.path().join(name), bytes).unwrap();
        }
        load_and_run(directory.path());
    });
}

fn load_and_run(directory: &Path) {
    let model = match Model::load("fuzz", 1, directory) {
        Ok(model) => model,
        Err(error) => {
            let error = error.to_string();
            assert!(!error.is_empty() && error.len() < 10_000, "{error}");
            assert!(!error.contains(char::is_control), "{error:?}");
            return;
        }
    };
    let engine = &model.engine;
    let specs = || engine.inputs().iter().chain(engine.outputs());
    let elements = specs().map(|spec| spec.shape.elements());
    if elements.fold(0, usize::saturating_add) > MAX_RUN_ELEMENTS {
        return;
    }
    let mut workspace = Workspace::new();
    for rows in [1, 3] {
        let inputs = engine.inputs().iter();
        let inputs: Vec<_> = inputs
            .map(|spec| vec![0.5; rows * spec.shape.elements()])
            .collect();
        let inputs: Vec<View<'_>> = inputs.iter().map(|values| View::F32(values)).collect();
        let outputs = engine.run(Batch::of_rows(rows, &inputs), &mut workspace, None);
        for (index, spec) in engine.outputs().iter().enumerate() {
            assert_eq!(outputs.get(index).len(), rows * spec.shape.elements());
        }
    }
}
