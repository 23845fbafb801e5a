//! The networks that are served under load.

use std::fs;
use std::path::{Path, PathBuf};

use safetensors::Dtype;
use safetensors::tensor::TensorView;

/// A model repository with one model, and what is sent to it.
pub(crate) struct Network {
    pub(crate) name: &'static str,
    pub(crate) repository: PathBuf,
    input: &'static str,
    features: usize,
}

impl Network {
    /// The sample `digits`, and a large network with made-up weights written below `scratch`.
    pub(crate) fn all(scratch: &Path) -> [Self; 2] {
        let samples = Path::new(env!("CARGO_MANIFEST_DIR")).join("models");
        copy_model(&samples.join("digits/2"), &scratch.join("small/digits"));
        let large = scratch.join("large/large");
        write_dense(&large, &[784, 2048, 2048, 1000]);
        [
            Self {
                name: "digits",
                repository: scratch.join("small"),
                input: "pixels",
                features: 64,
            },
            Self {
                name: "large",
                repository: scratch.join("large"),
                input: "features",
                features: 784,
            },
        ]
    }

    /// Where safeserve takes requests for it.
    pub(crate) fn path(&self) -> String {
        format!("/v2/models/{}/infer", self.name)
    }

    /// The body of an Open Inference Protocol request with one row. Only the engine's own output
    /// is asked for.
    pub(crate) fn body(&self) -> Vec<u8> {
        infer_body(self.input, self.features, 1)
    }
}

/// The body of an Open Inference Protocol request. Only the engine's own output is asked for.
pub(crate) fn infer_body(input: &str, features: usize, rows: usize) -> Vec<u8> {
    let numbers: Vec<String> = (0..rows * features)
        .map(|index| format!("{:.4}", (index * 37 % 101) as f64 / 6.3125))
        .collect();
    format!(
        "{{\"inputs\":[{{\"name\":\"{input}\",\"shape\":[{rows},{features}],\"datatype\":\"FP32\",\
         \"data\":[{}]}}],\"outputs\":[{{\"name\":\"probabilities\"}}]}}",
        numbers.join(",")
    )
    .into_bytes()
}

/// A request, head and body.
pub(crate) fn post(path: &str, body: &[u8]) -> Vec<u8> {
    let head = format!(
        "POST {path} HTTP/1.1\r\nhost: 127.0.0.1\r\n\
         content-type: application/json\r\ncontent-length: {}\r\n\r\n",
        body.len()
    );
    [head.as_bytes(), body].concat()
}

/// Copies a model of the samples into a directory that need not exist.
pub(crate) fn copy_model(from: &Path, to: &Path) {
    fs::create_dir_all(to).expect("a directory can be made");
    for file in ["config.json", "model.safetensors"] {
        fs::copy(from.join(file), to.join(file)).expect("copied");
    }
}

/// Writes dense layers with made-up weights, ReLU between them and a softmax at the end.
pub(crate) fn write_dense(directory: &Path, widths: &[usize]) {
    fs::create_dir_all(directory).expect("a directory can be made");
    let mut layers = Vec::new();
    let mut tensors = Vec::new();
    let last = widths.len() - 2;
    for (index, pair) in widths.windows(2).enumerate() {
        let function = if index == last { "softmax" } else { "relu" };
        layers.push(format!(
            "{{\"type\":\"dense\",\"units\":{},\"activation\":\"{function}\"}}",
            pair[1]
        ));
        let scale = (6.0 / (pair[0] + pair[1]) as f32).sqrt();
        let weight: Vec<u8> = (0..pair[0] * pair[1])
            .map(|i| scale * (i as f32 * 0.618_034).fract().mul_add(2.0, -1.0))
            .flat_map(f32::to_le_bytes)
            .collect();
        tensors.push((format!("{index}.weight"), vec![pair[1], pair[0]], weight));
        tensors.push((format!("{index}.bias"), vec![pair[1]], vec![0; pair[1] * 4]));
    }
    let config = format!(
        "{{\"model_type\":\"sequential\",\"task\":\"multiclass-classification\",\
         \"inputs\":[{{\"name\":\"features\",\"shape\":[{}]}}],\"layers\":[{}]}}",
        widths[0],
        layers.join(",")
    );
    fs::write(directory.join("config.json"), config).expect("written");
    let views: Vec<(&String, TensorView<'_>)> = tensors
        .iter()
        .map(|(name, shape, bytes)| {
            let view = TensorView::new(Dtype::F32, shape.clone(), bytes);
            (name, view.expect("the bytes fit the shape"))
        })
        .collect();
    safetensors::serialize_to_file(views, None, &directory.join("model.safetensors"))
        .expect("written");
}
