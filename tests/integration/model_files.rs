//! Model directories made by tests.

use std::fs;
use std::path::Path;

use safetensors::{Dtype, serialize};
use tempfile::TempDir;

/// A tensor as a file stores it.
#[derive(Clone)]
pub(crate) struct Stored {
    pub(crate) name: String,
    pub(crate) datatype: Dtype,
    pub(crate) shape: Vec<usize>,
    pub(crate) bytes: Vec<u8>,
}

impl Stored {
    /// A tensor of `F32`.
    pub(crate) fn new(name: &str, shape: &[usize], values: &[f32]) -> Self {
        let bytes = values.iter().flat_map(|value| value.to_le_bytes());
        Self {
            name: name.to_owned(),
            datatype: Dtype::F32,
            shape: shape.to_vec(),
            bytes: bytes.collect(),
        }
    }

    /// A tensor of `F32` whose elements are all different and between 0.5 and 1.
    pub(crate) fn filled(name: &str, shape: &[usize]) -> Self {
        let len: usize = shape.iter().product();
        let values: Vec<f32> = (0..len)
            .map(|index| 0.5 + (index + 1) as f32 / (2 * (len + 1)) as f32)
            .collect();
        Self::new(name, shape, &values)
    }

    /// The same values in another datatype, rounded to it.
    pub(crate) fn stored_as(&self, datatype: Dtype) -> Self {
        let (values, rest) = self.bytes.as_chunks();
        assert!(self.datatype == Dtype::F32 && rest.is_empty());
        let values = values.iter().copied().map(f32::from_le_bytes);
        let bytes = match datatype {
            Dtype::F64 => values.flat_map(|v| f64::from(v).to_le_bytes()).collect(),
            Dtype::F32 => self.bytes.clone(),
            Dtype::F16 => values
                .flat_map(|v| half::f16::from_f32(v).to_le_bytes())
                .collect(),
            Dtype::BF16 => values
                .flat_map(|v| half::bf16::from_f32(v).to_le_bytes())
                .collect(),
            Dtype::I64 => values.flat_map(|v| (v as i64).to_le_bytes()).collect(),
            other => panic!("no test stores {other}"),
        };
        Self {
            datatype,
            bytes,
            ..self.clone()
        }
    }
}

/// The bytes of a safetensors file that holds these tensors.
pub(crate) fn safetensors(tensors: &[Stored]) -> Vec<u8> {
    let views = tensors.iter().map(|tensor| {
        let view = safetensors::tensor::TensorView::new(
            tensor.datatype,
            tensor.shape.clone(),
            &tensor.bytes,
        );
        (tensor.name.as_str(), view.unwrap())
    });
    serialize(views, None).unwrap()
}

/// The bytes of a file with this header, right or wrong, followed by this many bytes of ones.
pub(crate) fn with_header(header: &[u8], data_bytes: usize) -> Vec<u8> {
    let mut file = (header.len() as u64).to_le_bytes().to_vec();
    file.extend(header);
    file.extend(1.0_f32.to_le_bytes().iter().cycle().take(data_bytes));
    file
}

/// A directory with this configuration and these weights, removed when dropped.
pub(crate) fn directory(config: &str, tensors: &[Stored]) -> TempDir {
    let directory = tempfile::tempdir().unwrap();
    write(directory.path(), config, &safetensors(tensors));
    directory
}

/// Writes the two files of a model.
pub(crate) fn write(directory: &Path, config: &str, weights: &[u8]) {
    fs::write(directory.join("config.json"), config).unwrap();
    fs::write(directory.join("model.safetensors"), weights).unwrap();
}
