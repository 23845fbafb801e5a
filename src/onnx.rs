//! ONNX files become models: initializers go into `model.safetensors`, nodes into a `config.json` of
//! family `graph`.
//!
//! Axis 0 of every value is the rows, whose number is free; all other extents are known. What does not
//! depend on the rows is computed here, shapes above all; every other node is checked by
//! [`Lowering`](crate::model::lowering::Lowering), which loads such models.
//!
//! Source of the format and of the operators' semantics: <https://onnx.ai/onnx/>.

mod attributes;
mod constants;
mod error;
mod fold;
mod network;
mod nodes;
mod operators;
mod proto;
mod reader;
mod tensors;
mod walk;
mod write;

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use prost::Message;

use error::format;
use reader::Reader;

pub use error::ImportError;
pub use network::Options;
pub use operators::understood;

/// The most bytes of a file: as many as its format can hold. Larger weights are in files of their own.
const MAX_FILE_BYTES: u64 = 2 << 30;

/// The result of an import.
#[derive(Debug)]
pub struct Imported {
    /// The directory of the new version.
    pub directory: PathBuf,
    /// How often each operator occurs, as it is in the file.
    pub operators: BTreeMap<String, usize>,
    /// What was left out or changed, in words.
    pub notes: Vec<String>,
}

/// Makes the next version of the model in directory `out` of the ONNX file at `path`.
///
/// # Errors
/// [`ImportError`]; nothing is written then.
pub fn import(path: &Path, out: &Path, options: &Options) -> Result<Imported, ImportError> {
    let model = read(path)?;
    let network = Reader::new(&model, path, options)?.read()?;
    let directory = write::write(&network, out, options)?;
    Ok(Imported {
        directory,
        operators: network.operators,
        notes: network.notes,
    })
}

fn read(path: &Path) -> Result<proto::ModelProto, ImportError> {
    let failed = |error| ImportError::File {
        path: path.to_owned(),
        error,
    };
    let length = fs::metadata(path).map_err(failed)?.len();
    if length > MAX_FILE_BYTES {
        return Err(format(format!(
            "{}: expected at most {MAX_FILE_BYTES} bytes, the file has {length}; save its weights \
             as external data",
            path.display()
        )));
    }
    let bytes = bytes::Bytes::from(fs::read(path).map_err(failed)?);
    proto::ModelProto::decode(bytes).map_err(|error| {
        format(format!(
            "{}: expected an ONNX model, got something else or a part of one: {error}",
            path.display()
        ))
    })
}
