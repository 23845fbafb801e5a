//! Safetensors files to checked tensors in memory that the process owns.
//!
//! The files are read once, from front to back. Tensors of 16 and 32 bits are read in their own datatype
//! into the memory where they stay, checked on the way, and hashed there by another thread; those of 64
//! bits are rounded to `f32`. Files are never mapped: truncating a mapped file would kill the server.

mod elements;
mod error;
mod header;

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use safetensors::Dtype;

use super::files::{self, INDEX_FILE, SINGLE_FILE};
use super::fingerprint::Fingerprint;
use super::json::{self, JsonError};
use crate::engine::Constant;
use error::ReadError;
pub use error::WeightsError;

/// Named tensors, each taken by the layer that uses it.
#[derive(Debug, Default)]
pub(super) struct Weights {
    tensors: BTreeMap<String, Stored>,
}

#[derive(Debug)]
struct Stored {
    file: String,
    shape: Vec<usize>,
    datatype: Dtype,
    state: State,
}

#[derive(Debug)]
enum State {
    /// Read and not yet taken.
    Values(Constant),
    /// Of a datatype that no layer computes with, a counter for example.
    Unread,
    /// Taken by a layer, or ignored on purpose.
    Used,
}

/// A tensor that no layer takes.
#[derive(Debug)]
pub(super) struct Tensor {
    /// As stored.
    pub(super) datatype: Dtype,
    pub(super) shape: Vec<usize>,
    /// Of floating-point numbers only.
    pub(super) values: Option<Constant>,
}

impl Weights {
    /// Reads all weight files of a model's directory and adds their bytes to the fingerprint.
    pub(super) fn read(
        directory: &Path,
        fingerprint: &mut Fingerprint,
    ) -> Result<Self, WeightsError> {
        let mut weights = Self::default();
        if directory.join(INDEX_FILE).exists() {
            if directory.join(SINGLE_FILE).exists() {
                // One of the two is left over from an earlier save; it is not known which.
                return Err(WeightsError::Format {
                    file: SINGLE_FILE.to_owned(),
                    problem: format!("{INDEX_FILE} is there too; remove the one that is old"),
                });
            }
            weights.read_shards(directory, fingerprint)?;
        } else {
            weights.read_file(directory, SINGLE_FILE, fingerprint)?;
        }
        Ok(weights)
    }

    /// Reads one file by its path, apart from any model.
    pub(super) fn read_alone(
        path: &str,
        fingerprint: &mut Fingerprint,
    ) -> Result<Self, WeightsError> {
        let mut weights = Self::default();
        weights.read_file(Path::new(""), path, fingerprint)?;
        Ok(weights)
    }

    /// All tensors by name, apart from any layer.
    pub(super) fn into_tensors(self) -> BTreeMap<String, Tensor> {
        let tensors = self.tensors.into_iter().map(|(name, stored)| {
            let values = match stored.state {
                State::Values(values) => Some(values),
                State::Unread | State::Used => None,
            };
            let tensor = Tensor {
                datatype: stored.datatype,
                shape: stored.shape,
                values,
            };
            (name, tensor)
        });
        tensors.collect()
    }

    /// Takes a tensor's values.
    pub(super) fn take(&mut self, name: &str) -> Result<Constant, WeightsError> {
        let Some(stored) = self.tensors.get_mut(name) else {
            return Err(WeightsError::Missing {
                names: vec![name.to_owned()],
                found: self.names(),
            });
        };
        match std::mem::replace(&mut stored.state, State::Used) {
            State::Values(values) => Ok(values),
            State::Unread => Err(WeightsError::Datatype {
                file: stored.file.clone(),
                tensor: name.to_owned(),
                found: stored.datatype,
            }),
            State::Used => Err(WeightsError::UsedTwice {
                file: stored.file.clone(),
                tensor: name.to_owned(),
            }),
        }
    }

    pub(super) fn contains(&self, name: &str) -> bool {
        self.tensors.contains_key(name)
    }

    /// The names of all tensors, sorted.
    pub(super) fn names(&self) -> Vec<String> {
        self.tensors.keys().cloned().collect()
    }

    /// A tensor in an error: its name, its shape and its file.
    pub(super) fn describe(&self, name: &str) -> String {
        match self.tensors.get(name) {
            Some(Stored { file, shape, .. }) => format!("{name:?} {shape:?} in {file}"),
            None => format!("{name:?}"),
        }
    }

    /// Allows a tensor that inference does not use, if it exists.
    pub(super) fn ignore(&mut self, name: &str) {
        if let Some(stored) = self.tensors.get_mut(name) {
            stored.state = State::Used;
        }
    }

    /// Refuses tensors that no layer took.
    pub(super) fn finish(self) -> Result<(), WeightsError> {
        let mut unused: BTreeMap<String, Vec<String>> = BTreeMap::new();
        for (name, stored) in self.tensors {
            if !matches!(stored.state, State::Used) {
                let tensor = format!("{name:?} {:?}", stored.shape);
                unused.entry(stored.file).or_default().push(tensor);
            }
        }
        match unused.pop_first() {
            None => Ok(()),
            Some((file, tensors)) => Err(WeightsError::Unused { file, tensors }),
        }
    }

    fn read_shards(
        &mut self,
        directory: &Path,
        fingerprint: &mut Fingerprint,
    ) -> Result<(), WeightsError> {
        let text = files::read_small(&directory.join(INDEX_FILE))
            .map_err(|error| WeightsError::io(INDEX_FILE, error))?;
        fingerprint.update(&text);
        let mut shards: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
        let refuse = |error| WeightsError::Index { error };
        let mut index = json::parse(&text).map_err(refuse)?;
        index.ignore(&["metadata"]);
        let map = index.require("weight_map").map_err(refuse)?;
        for (tensor, file) in map.object().map_err(refuse)?.into_rest() {
            let path = file.clone();
            let file = file.string().map_err(refuse)?;
            if file.starts_with('.') || file.contains(['/', '\\', '\0']) {
                return Err(refuse(path.error("expected the plain name of a file here")));
            }
            shards.entry(file).or_default().insert(tensor);
        }
        index.finish().map_err(refuse)?;
        for (file, tensors) in shards {
            self.read_file(directory, &file, fingerprint)?;
            let held = |tensor: &String| {
                let stored = self.tensors.get(tensor);
                stored.is_some_and(|stored| stored.file == file)
            };
            let missing = tensors.iter().find(|tensor| !held(tensor));
            let unlisted = self
                .tensors
                .iter()
                .find(|(name, stored)| stored.file == file && !tensors.contains(*name));
            let problem = match (missing, unlisted) {
                (None, None) => continue,
                (Some(tensor), _) => format!("lists {tensor:?} in {file}, which does not hold it"),
                (None, Some((tensor, _))) => {
                    format!("does not list {tensor:?}, which {file} holds")
                }
            };
            return Err(refuse(JsonError::new("weight_map", problem)));
        }
        Ok(())
    }

    fn read_file(
        &mut self,
        directory: &Path,
        name: &str,
        fingerprint: &mut Fingerprint,
    ) -> Result<(), WeightsError> {
        let io_error = |error| WeightsError::io(name, error);
        let format_error = |problem: String| WeightsError::Format {
            file: name.to_owned(),
            problem,
        };
        let (mut file, length) = files::open_regular(&directory.join(name)).map_err(io_error)?;
        let read_error = |error: ReadError| error.into_weights_error(name);
        let tensors = header::read(&mut file, length, fingerprint).map_err(read_error)?;
        for (tensor, info) in tensors {
            let (values, non_finite) =
                elements::read(&mut file, &info, fingerprint).map_err(read_error)?;
            if let Some((index, value)) = non_finite {
                return Err(WeightsError::NonFinite {
                    file: name.to_owned(),
                    tensor,
                    index,
                    value,
                });
            }
            let stored = Stored {
                file: name.to_owned(),
                shape: info.shape,
                datatype: info.dtype,
                state: values.map_or(State::Unread, State::Values),
            };
            if let Some(other) = self.tensors.insert(tensor.clone(), stored) {
                return Err(format_error(format!(
                    "tensor {tensor:?} is in {} too; a tensor belongs to one shard",
                    other.file
                )));
            }
        }
        Ok(())
    }
}
