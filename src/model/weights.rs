//! Safetensors files to checked tensors in memory that the process owns.
//!
//! The files are read once, from front to back: widened or narrowed to `f32` and checked on the
//! way, and hashed behind the reader's back. Tensors of 32 bits are read to where they stay and
//! hashed there. Files are never mapped: a mapped file that someone truncates would kill the server.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fmt;
use std::fs::File;
use std::io::{self, Read};
use std::path::Path;
use std::sync::Arc;

use half::{bf16, f16};
use ndarray::{ArrayD, IxDyn};
use safetensors::Dtype;
use safetensors::tensor::{Metadata, TensorInfo};
use serde::Deserialize;
use serde::de::{Deserializer, Error as _, MapAccess, Visitor};
use zerocopy::IntoBytes;

use super::files;
use super::fingerprint::Fingerprint;
use super::json::{self, JsonError};
use crate::engine::kernels::pages;

/// The weights of a model that is not sharded.
pub(super) const SINGLE_FILE: &str = "model.safetensors";
/// Which shard holds which tensor.
pub(super) const INDEX_FILE: &str = "model.safetensors.index.json";
/// The format allows 100 MB; names and shapes of 10,000 tensors take about 1 MB.
const MAX_HEADER_BYTES: u64 = 8 << 20;
/// Read at once: large enough to hide the call, small enough to stay in the cache.
const CHUNK_BYTES: usize = 256 << 10;

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
    Values(Arc<ArrayD<f32>>),
    /// Of a datatype that no layer computes with, a counter for example.
    Unread,
    /// A layer has it, or ignores it knowingly.
    Used,
}

/// A tensor that no layer takes.
#[derive(Debug)]
pub(super) struct Tensor {
    /// As stored.
    pub(super) datatype: Dtype,
    pub(super) shape: Vec<usize>,
    /// Of floating-point numbers only.
    pub(super) values: Option<Arc<ArrayD<f32>>>,
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
                // One of the two is left over from an earlier save; nobody can tell which.
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
    pub(super) fn take(&mut self, name: &str) -> Result<Arc<ArrayD<f32>>, WeightsError> {
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

    /// Lets a tensor stand that inference has no use for, if it is there.
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
        let truncated = |problem: String| WeightsError::Truncated {
            file: name.to_owned(),
            problem,
        };
        let (mut file, length) = files::open_regular(&directory.join(name)).map_err(io_error)?;
        let (header, header_bytes) = read_header(&mut file, length, fingerprint)
            .map_err(|error| error.into_weights_error(name))?;
        let tensors = parse_header(&header).map_err(format_error)?;
        let data_bytes = length - header_bytes;
        let ends_early = tensors
            .last()
            .is_some_and(|(_, info)| info.data_offsets.1 as u64 > data_bytes);
        check_extents(&tensors, data_bytes).map_err(|problem| match ends_early {
            true => truncated(problem),
            false => format_error(problem),
        })?;

        for (tensor, info) in tensors {
            let (state, non_finite) = read_tensor(&mut file, &info, fingerprint)
                .map_err(|error| error.into_weights_error(name))?;
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
                state,
            };
            if let Some(other) = self.tensors.insert(tensor.clone(), stored) {
                return Err(format_error(format!(
                    "tensor {tensor:?} stands in {} too; a tensor belongs to one shard",
                    other.file
                )));
            }
        }
        Ok(())
    }
}

/// Why a part of a file could not be read.
enum ReadError {
    Io(io::Error),
    Format(String),
    Truncated(String),
}

impl ReadError {
    fn into_weights_error(self, file: &str) -> WeightsError {
        match self {
            Self::Io(error) => WeightsError::io(file, error),
            Self::Format(problem) => WeightsError::Format {
                file: file.to_owned(),
                problem,
            },
            Self::Truncated(problem) => WeightsError::Truncated {
                file: file.to_owned(),
                problem,
            },
        }
    }
}

/// Reads the header's JSON; returns it with the bytes that it takes with its length field.
fn read_header(
    file: &mut File,
    length: u64,
    fingerprint: &mut Fingerprint,
) -> Result<(Vec<u8>, u64), ReadError> {
    let mut size = [0; 8];
    if length < 8 {
        return Err(ReadError::Truncated(format!(
            "{length} bytes are too few for a safetensors file"
        )));
    }
    file.read_exact(&mut size).map_err(ReadError::Io)?;
    fingerprint.update(&size);
    let header_bytes = u64::from_le_bytes(size);
    if header_bytes > MAX_HEADER_BYTES || header_bytes > length - 8 {
        let problem = format!(
            "the header claims {header_bytes} bytes; the file has {} behind its length field and \
             the most allowed is {MAX_HEADER_BYTES}; is the file complete?",
            length - 8
        );
        return Err(match header_bytes > MAX_HEADER_BYTES {
            true => ReadError::Format(problem),
            false => ReadError::Truncated(problem),
        });
    }
    let mut header = vec![0; usize::try_from(header_bytes).expect("at most MAX_HEADER_BYTES")];
    file.read_exact(&mut header).map_err(ReadError::Io)?;
    fingerprint.update(&header);
    Ok((header, 8 + header_bytes))
}

/// The tensors of a header in the order of their bytes.
fn parse_header(header: &[u8]) -> Result<Vec<(String, TensorInfo)>, String> {
    if header.first() != Some(&b'{') {
        return Err("the header must begin with '{'".into());
    }
    let mut deserializer = serde_json::Deserializer::from_slice(header);
    let mut tensors = deserializer
        .deserialize_map(HeaderVisitor)
        .and_then(|tensors| deserializer.end().map(|()| tensors))
        .map_err(|error| format!("invalid header: {error}"))?;
    // By name where offsets are equal, so that a refusal always names the same tensor.
    tensors.sort_by(|(a, left), (b, right)| (left.data_offsets, a).cmp(&(right.data_offsets, b)));
    Ok(tensors)
}

/// One tensor's entry in a header. The safetensors crate's own type lets unknown keys pass.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Entry {
    dtype: Dtype,
    shape: Vec<usize>,
    data_offsets: (usize, usize),
}

/// The header's `__metadata__`, read and let go: an object whose values are strings, or `null` for
/// none. The safetensors crate refuses anything else.
struct HeaderMetadata;

impl<'de> Deserialize<'de> for HeaderMetadata {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(MetadataVisitor)
    }
}

struct MetadataVisitor;

impl<'de> Visitor<'de> for MetadataVisitor {
    type Value = HeaderMetadata;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object whose values are strings")
    }

    fn visit_unit<E>(self) -> Result<Self::Value, E> {
        Ok(HeaderMetadata)
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<Self::Value, A::Error> {
        while let Some(key) = entries.next_key::<String>()? {
            let value = entries.next_value::<String>();
            value.map_err(|error| A::Error::custom(format!("key {key:?}: {error}")))?;
        }
        Ok(HeaderMetadata)
    }
}

/// Reads a header and refuses names that stand twice, which the safetensors crate lets pass.
struct HeaderVisitor;

impl<'de> Visitor<'de> for HeaderVisitor {
    type Value = Vec<(String, TensorInfo)>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a safetensors header")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<Self::Value, A::Error> {
        let mut tensors = HashMap::new();
        let mut has_metadata = false;
        while let Some(name) = entries.next_key::<String>()? {
            if name == "__metadata__" {
                if std::mem::replace(&mut has_metadata, true) {
                    return Err(A::Error::custom("__metadata__ stands twice"));
                }
                entries
                    .next_value::<HeaderMetadata>()
                    .map_err(|error| A::Error::custom(format!("__metadata__: {error}")))?;
                continue;
            }
            let Entry {
                dtype,
                shape,
                data_offsets,
            } = entries
                .next_value()
                .map_err(|error| A::Error::custom(format!("tensor {name:?}: {error}")))?;
            let info = TensorInfo {
                dtype,
                shape,
                data_offsets,
            };
            if tensors.insert(name.clone(), info).is_some() {
                return Err(A::Error::custom(format!("tensor {name:?} stands twice")));
            }
        }
        Ok(tensors.into_iter().collect())
    }
}

/// Refuses tensors whose bytes overlap, leave holes or do not end with the file.
fn check_extents(tensors: &[(String, TensorInfo)], data_bytes: u64) -> Result<(), String> {
    let mut end = 0;
    for (name, info) in tensors {
        let (start, stop) = info.data_offsets;
        // No layer computes with nothing, and a shape such as [0, 2^63, 2] overflows further on.
        if info.shape.contains(&0) {
            return Err(format!(
                "tensor {name:?}: shape {:?} holds no element",
                info.shape
            ));
        }
        let bytes = info
            .shape
            .iter()
            .try_fold(info.dtype.bitsize(), |bits, extent| {
                bits.checked_mul(*extent)
            })
            .ok_or_else(|| format!("tensor {name:?}: shape {:?} is too large", info.shape))?
            .div_ceil(8);
        if start != end || stop.checked_sub(start) != Some(bytes) {
            return Err(format!(
                "tensor {name:?}: expected {bytes} bytes from offset {end} for {} {:?}, got \
                 offsets {start} to {stop}",
                info.dtype, info.shape
            ));
        }
        end = stop;
    }
    if end as u64 != data_bytes {
        return Err(format!(
            "the header describes {end} bytes of tensors, the file holds {data_bytes}; is it complete?"
        ));
    }
    // The crate's own rules, in case they ever know more than ours.
    Metadata::new(None, tensors.to_vec()).map_err(|error| format!("invalid header: {error}"))?;
    Ok(())
}

/// Reads the tensor whose bytes come next in the file; returns with it the first element that is
/// NaN or infinite in `f32`.
fn read_tensor(
    file: &mut File,
    info: &TensorInfo,
    fingerprint: &mut Fingerprint,
) -> Result<(State, Option<(usize, f32)>), ReadError> {
    let mut elements = Elements::new(info).map_err(ReadError::Format)?;
    let length = info.data_offsets.1 - info.data_offsets.0;
    let mut followed = 0;
    for start in (0..length).step_by(CHUNK_BYTES) {
        let bytes = CHUNK_BYTES.min(length - start);
        if elements.are_as_stored() {
            let read = elements.read(file, bytes).map_err(ReadError::Io)?;
            followed = fingerprint.follow(read, followed);
        } else {
            let mut part = fingerprint.buffer();
            part.resize(bytes, 0);
            file.read_exact(&mut part).map_err(ReadError::Io)?;
            elements.push(&part);
            fingerprint.take(part);
        }
    }
    let is_as_stored = elements.are_as_stored();
    let Some(values) = elements.values else {
        return Ok((State::Unread, None));
    };
    let values = ArrayD::from_shape_vec(IxDyn(&info.shape), values)
        .expect("the header's shapes were checked against the bytes");
    let values = Arc::new(values);
    if is_as_stored {
        fingerprint.share(Arc::clone(&values), followed);
    }
    Ok((State::Values(values), elements.non_finite))
}

/// One tensor's elements on their way to `f32`.
struct Elements {
    /// `None` for datatypes that no layer computes with.
    values: Option<Vec<f32>>,
    datatype: Dtype,
    /// The first that is NaN or infinite in `f32`.
    non_finite: Option<(usize, f32)>,
}

impl Elements {
    fn new(info: &TensorInfo) -> Result<Self, String> {
        let computable = matches!(
            info.dtype,
            Dtype::F64 | Dtype::F32 | Dtype::F16 | Dtype::BF16
        );
        let mut values = computable.then(Vec::new);
        if let Some(values) = &mut values {
            let elements = info.shape.iter().product();
            values
                .try_reserve_exact(elements)
                .map_err(|_| format!("no memory for a tensor of {elements} elements"))?;
            pages::prefer_large(values.spare_capacity_mut());
        }
        Ok(Self {
            values,
            datatype: info.dtype,
            non_finite: None,
        })
    }

    /// Whether the elements' bytes in memory are those in the file.
    fn are_as_stored(&self) -> bool {
        self.datatype == Dtype::F32 && cfg!(target_endian = "little")
    }

    /// Reads whole elements that [are as stored](Self::are_as_stored); returns the bytes of all that
    /// were read so far.
    fn read(&mut self, file: &mut File, bytes: usize) -> io::Result<&[u8]> {
        let values = self.values.as_mut().expect("32 bits are computed with");
        let start = values.len();
        // Written twice, but the first time in the cache.
        values.resize(start + bytes / size_of::<f32>(), 0.0);
        file.read_exact(values[start..].as_mut_bytes())?;
        self.check(start);
        Ok(self.values.as_deref().unwrap_or_default().as_bytes())
    }

    /// Adds whole elements. A chunk never splits one: its size is a multiple of all widths.
    fn push(&mut self, bytes: &[u8]) {
        let Some(values) = &mut self.values else {
            return;
        };
        let start = values.len();
        match self.datatype {
            Dtype::F64 => widen(values, bytes, |bytes| f64::from_le_bytes(bytes) as f32),
            Dtype::F32 => widen(values, bytes, f32::from_le_bytes),
            Dtype::F16 => widen(values, bytes, |bytes| f16::from_le_bytes(bytes).to_f32()),
            Dtype::BF16 => widen(values, bytes, |bytes| bf16::from_le_bytes(bytes).to_f32()),
            _ => unreachable!("only the datatypes above have values"),
        }
        self.check(start);
    }

    /// Looks at the elements from `start` on, while they are in the cache.
    fn check(&mut self, start: usize) {
        let values = self.values.as_deref().unwrap_or_default();
        let new = values[start..].iter();
        // Without a branch for each, so that many are checked at a time.
        if new.fold(true, |all, value| all & value.is_finite()) {
            return;
        }
        let mut all = values.iter().enumerate();
        self.non_finite = all
            .find(|(_, value)| !value.is_finite())
            .map(|(index, value)| (index, *value));
    }
}

fn widen<const N: usize>(values: &mut Vec<f32>, bytes: &[u8], convert: impl Fn([u8; N]) -> f32) {
    let (elements, rest) = bytes.as_chunks::<N>();
    debug_assert!(rest.is_empty(), "chunks hold whole elements");
    values.extend(elements.iter().copied().map(convert));
}

/// Why weights are refused.
#[derive(Debug)]
pub enum WeightsError {
    /// A file cannot be read.
    Io {
        /// Its name.
        file: String,
        /// What the system says.
        error: io::Error,
    },
    /// A file is not what the safetensors format says.
    Format {
        /// Its name.
        file: String,
        /// What is wrong.
        problem: String,
    },
    /// A file is shorter than it says itself.
    Truncated {
        /// Its name.
        file: String,
        /// What is missing.
        problem: String,
    },
    /// The index of the shards is wrong.
    Index {
        /// Where and what.
        error: JsonError,
    },
    /// A layer's tensor is in no file.
    Missing {
        /// The names that it may have.
        names: Vec<String>,
        /// What is there.
        found: Vec<String>,
    },
    /// A layer wants a tensor that holds no floating-point numbers.
    Datatype {
        /// The file.
        file: String,
        /// The tensor.
        tensor: String,
        /// Its datatype.
        found: Dtype,
    },
    /// Two layers want the same tensor.
    UsedTwice {
        /// The file.
        file: String,
        /// The tensor.
        tensor: String,
    },
    /// No layer wants these tensors.
    Unused {
        /// The file, the first of several shards that hold such tensors.
        file: String,
        /// Their names and shapes.
        tensors: Vec<String>,
    },
    /// A weight is NaN, infinite, or too large for 32 bits.
    NonFinite {
        /// The file.
        file: String,
        /// The tensor.
        tensor: String,
        /// The element's index, row-major.
        index: usize,
        /// What it is as `f32`.
        value: f32,
    },
}

impl WeightsError {
    /// Whether this is how a copy looks that is not complete.
    pub(super) fn is_incomplete(&self) -> bool {
        match self {
            Self::Truncated { .. } => true,
            // No place in it: the index as a whole cannot be read.
            Self::Index { error } => error.path.is_empty(),
            Self::Io { error, .. } => files::may_come(error),
            _ => false,
        }
    }

    fn io(file: &str, error: io::Error) -> Self {
        Self::Io {
            file: file.to_owned(),
            error,
        }
    }
}

impl fmt::Display for WeightsError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Io { file, error } => write!(f, "{file}: {error}"),
            Self::Format { file, problem } | Self::Truncated { file, problem } => {
                write!(f, "{file}: {problem}")
            }
            Self::Index { error } => write!(f, "{INDEX_FILE}: {error}"),
            Self::Missing { names, found } => write!(
                f,
                "no tensor {}; the weights hold: {}",
                quoted(names).join(" or "),
                some_of(&quoted(found))
            ),
            Self::Datatype {
                file,
                tensor,
                found,
            } => write!(
                f,
                "{file}: tensor {tensor:?}: expected F64, F32, F16 or BF16, got {found}"
            ),
            Self::UsedTwice { file, tensor } => write!(
                f,
                "{file}: tensor {tensor:?}: two layers use it; give each its own"
            ),
            Self::Unused { file, tensors } => write!(
                f,
                "{file}: no layer uses these tensors: {}; remove them or name them in a layer's \
                 \"weights\"",
                some_of(tensors)
            ),
            Self::NonFinite {
                file,
                tensor,
                index,
                value,
            } => write!(
                f,
                "{file}: tensor {tensor:?}: element {index} is {value}; weights must be finite \
                 32-bit numbers"
            ),
        }
    }
}

impl std::error::Error for WeightsError {}

fn quoted(names: &[String]) -> Vec<String> {
    names.iter().map(|name| format!("{name:?}")).collect()
}

/// A list for people: the first dozen, then how many more.
fn some_of(names: &[String]) -> String {
    const SHOWN: usize = 12;
    if names.is_empty() {
        return "nothing".into();
    }
    let mut text = names[..names.len().min(SHOWN)].join(", ");
    if names.len() > SHOWN {
        text.push_str(&format!(" and {} more", names.len() - SHOWN));
    }
    text
}
