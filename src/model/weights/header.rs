//! The header of a safetensors file: which tensors its bytes hold.

use std::collections::HashMap;
use std::fmt;
use std::fs::File;
use std::io::Read;

use safetensors::Dtype;
use safetensors::tensor::{Metadata, TensorInfo};
use serde::Deserialize;
use serde::de::{Deserializer, Error as _, MapAccess, Visitor};

use super::error::ReadError;
use crate::model::fingerprint::Fingerprint;

/// The format allows 100 MB; names and shapes of 10,000 tensors take about 1 MB.
const MAX_HEADER_BYTES: u64 = 8 << 20;

/// Reads the header of a file of `length` bytes: its tensors in the order of their bytes, which
/// fill the rest of the file without holes. The file is left where the first of them begins.
pub(super) fn read(
    file: &mut File,
    length: u64,
    fingerprint: &mut Fingerprint,
) -> Result<Vec<(String, TensorInfo)>, ReadError> {
    let (header, header_bytes) = read_text(file, length, fingerprint)?;
    let tensors = parse(&header).map_err(ReadError::Format)?;
    let data_bytes = length - header_bytes;
    let ends_early = tensors
        .last()
        .is_some_and(|(_, info)| info.data_offsets.1 as u64 > data_bytes);
    check_extents(&tensors, data_bytes).map_err(|problem| match ends_early {
        true => ReadError::Truncated(problem),
        false => ReadError::Format(problem),
    })?;
    Ok(tensors)
}

/// Reads the header's JSON; returns it with the bytes that it takes with its length field.
fn read_text(
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
            "the header claims {header_bytes} bytes; the file has {} after its length field and \
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
fn parse(header: &[u8]) -> Result<Vec<(String, TensorInfo)>, String> {
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

/// The header's `__metadata__`, read and discarded: an object whose values are strings, or `null`. The
/// safetensors crate refuses anything else.
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

/// Reads a header and refuses duplicate names, which the safetensors crate accepts.
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
                    return Err(A::Error::custom("__metadata__ comes twice"));
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
                return Err(A::Error::custom(format!("tensor {name:?} comes twice")));
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
        // No layer computes with an empty tensor, and a shape such as [0, 2^63, 2] would overflow later.
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
    // The crate's own rules, in case they ever check more than ours.
    Metadata::new(None, tensors.to_vec()).map_err(|error| format!("invalid header: {error}"))?;
    Ok(())
}
