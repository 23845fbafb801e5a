//! ONNX' tensors as constants.

use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::path::{Component, Path};

use half::{bf16, f16};
use ndarray::{ArrayD, IxDyn};

use super::constants::{Constant, Integer};
use super::proto::TensorProto;
use super::proto::tensor_proto::{DataLocation, DataType};

/// Reads a tensor, whose values may lie in a file of the model's directory.
pub(super) fn constant(tensor: &TensorProto, directory: &Path) -> Result<Constant, String> {
    let datatype = DataType::try_from(tensor.data_type).unwrap_or(DataType::Undefined);
    let shape = shape(&tensor.dims)?;
    let elements: usize = shape.iter().product();
    if datatype == DataType::String {
        let texts = tensor.string_data.iter();
        let texts = texts.map(|text| String::from_utf8_lossy(text).into_owned());
        return Ok(Constant::Texts(texts.collect()));
    }
    let raw = match tensor.data_location == DataLocation::External as i32 {
        true => external(tensor, directory)?,
        false => tensor.raw_data.to_vec(),
    };
    let values = match raw.is_empty() {
        true => typed(tensor, datatype),
        false => untyped(&raw, datatype),
    };
    let values = values.ok_or_else(|| {
        format!(
            "values of type {} are not supported; expected floats, whole numbers or booleans",
            datatype.as_str_name()
        )
    })?;
    let given = match &values {
        Values::Floats(values) => values.len(),
        Values::Integers(values) => values.len(),
    };
    if given != elements {
        return Err(format!(
            "expected {elements} values of type {}, as its shape {shape:?} says, got {given}",
            datatype.as_str_name()
        ));
    }
    let shaped = match values {
        Values::Floats(values) => {
            ArrayD::from_shape_vec(IxDyn(&shape), values).map(Constant::from_floats)
        }
        Values::Integers(values) => {
            let values = values.into_iter().map(Integer::Known).collect();
            ArrayD::from_shape_vec(IxDyn(&shape), values).map(Constant::from_integers)
        }
    };
    shaped.map_err(|error| error.to_string())
}

fn shape(dims: &[i64]) -> Result<Vec<usize>, String> {
    let extents = dims.iter().map(|dim| usize::try_from(*dim).ok());
    let shape: Option<Vec<usize>> = extents.collect();
    let shape = shape.filter(|shape| {
        let elements = shape
            .iter()
            .try_fold(1_usize, |all, extent| all.checked_mul(*extent));
        elements.is_some_and(|elements| elements < 1 << 40)
    });
    shape.ok_or_else(|| format!("the shape {dims:?} is none"))
}

enum Values {
    Floats(Vec<f32>),
    Integers(Vec<i64>),
}

/// Values in the field that is made for their type.
fn typed(tensor: &TensorProto, datatype: DataType) -> Option<Values> {
    // Halves are stored as their bits in 32-bit integers.
    let halves = |of: fn(u16) -> f32| {
        let bits = tensor.int32_data.iter().map(|bits| *bits as u16);
        Values::Floats(bits.map(of).collect())
    };
    Some(match datatype {
        DataType::Float => Values::Floats(tensor.float_data.clone()),
        DataType::Double => Values::Floats(
            tensor
                .double_data
                .iter()
                .map(|value| *value as f32)
                .collect(),
        ),
        DataType::Float16 => halves(|bits| f16::from_bits(bits).to_f32()),
        DataType::Bfloat16 => halves(|bits| bf16::from_bits(bits).to_f32()),
        DataType::Int64 => Values::Integers(tensor.int64_data.clone()),
        DataType::Uint32 | DataType::Uint64 => Values::Integers(
            tensor
                .uint64_data
                .iter()
                .map(|value| i64::try_from(*value).ok())
                .collect::<Option<_>>()?,
        ),
        DataType::Bool
        | DataType::Int8
        | DataType::Int16
        | DataType::Int32
        | DataType::Uint8
        | DataType::Uint16 => Values::Integers(
            tensor
                .int32_data
                .iter()
                .map(|value| i64::from(*value))
                .collect(),
        ),
        _ => return None,
    })
}

/// Values as the bytes of little-endian numbers. An incomplete last number counts as one too many.
fn untyped(raw: &[u8], datatype: DataType) -> Option<Values> {
    fn each<const N: usize, T>(raw: &[u8], of: fn([u8; N]) -> T) -> Vec<T> {
        let read = |bytes: &[u8]| {
            let mut whole = [0; N];
            whole[..bytes.len()].copy_from_slice(bytes);
            of(whole)
        };
        raw.chunks(N).map(read).collect()
    }
    Some(match datatype {
        DataType::Float => Values::Floats(each(raw, f32::from_le_bytes)),
        DataType::Double => Values::Floats(each(raw, |bytes| f64::from_le_bytes(bytes) as f32)),
        DataType::Float16 => Values::Floats(each(raw, |bytes| f16::from_le_bytes(bytes).to_f32())),
        DataType::Bfloat16 => {
            Values::Floats(each(raw, |bytes| bf16::from_le_bytes(bytes).to_f32()))
        }
        DataType::Int64 => Values::Integers(each(raw, i64::from_le_bytes)),
        DataType::Int32 => Values::Integers(each(raw, |b| i64::from(i32::from_le_bytes(b)))),
        DataType::Int16 => Values::Integers(each(raw, |b| i64::from(i16::from_le_bytes(b)))),
        DataType::Int8 => Values::Integers(each(raw, |b| i64::from(i8::from_le_bytes(b)))),
        DataType::Uint64 => Values::Integers(
            each(raw, |b| i64::try_from(u64::from_le_bytes(b)).ok())
                .into_iter()
                .collect::<Option<_>>()?,
        ),
        DataType::Uint32 => Values::Integers(each(raw, |b| i64::from(u32::from_le_bytes(b)))),
        DataType::Uint16 => Values::Integers(each(raw, |b| i64::from(u16::from_le_bytes(b)))),
        DataType::Uint8 | DataType::Bool => {
            Values::Integers(each(raw, |b| i64::from(u8::from_le_bytes(b))))
        }
        _ => return None,
    })
}

/// The bytes of a tensor that lie in another file. Its path may not leave the model's directory: an
/// ONNX file may come from anyone.
fn external(tensor: &TensorProto, directory: &Path) -> Result<Vec<u8>, String> {
    let entry = |key: &str| {
        let mut entries = tensor.external_data.iter();
        entries
            .find(|entry| entry.key == key)
            .map(|entry| &*entry.value)
    };
    let number = |key: &str| match entry(key) {
        None => Ok(None),
        Some(text) => match text.parse::<u64>() {
            Ok(number) => Ok(Some(number)),
            Err(_) => Err(format!(
                "external data: expected {key} as a number, got {text:?}"
            )),
        },
    };
    let location = entry("location").ok_or("external data: the location is missing")?;
    let inside = Path::new(location)
        .components()
        .all(|part| matches!(part, Component::Normal(_) | Component::CurDir));
    if !inside {
        return Err(format!(
            "external data: expected a file of the model's own directory, got {location:?}"
        ));
    }
    // A link from an unpacked archive may lead anywhere too.
    let place = match directory.as_os_str().is_empty() {
        true => Path::new("."),
        false => directory,
    };
    let path = place.join(location);
    let real = |path: &Path| {
        path.canonicalize()
            .map_err(|error| format!("{}: {error}", path.display()))
    };
    let path = real(&path)?;
    if !path.starts_with(real(place)?) || !path.is_file() {
        return Err(format!(
            "external data: expected a file of the model's own directory, got {location:?}"
        ));
    }
    let read = || -> std::io::Result<Vec<u8>> {
        let mut file = File::open(&path)?;
        let size = file.metadata()?.len();
        let other = |problem| std::io::Error::new(std::io::ErrorKind::InvalidData, problem);
        let start = number("offset").map_err(other)?.unwrap_or(0);
        let length = number("length").map_err(other)?;
        let length = length.unwrap_or(size.saturating_sub(start));
        if start.checked_add(length).is_none_or(|end| end > size) {
            return Err(other(format!(
                "expected {length} bytes from {start} on, the file has {size}"
            )));
        }
        file.seek(SeekFrom::Start(start))?;
        let mut bytes = Vec::new();
        file.take(length).read_to_end(&mut bytes)?;
        Ok(bytes)
    };
    read().map_err(|error| format!("{}: {error}", path.display()))
}
