//! Wrong weight files.

use std::fs;
use std::path::Path;
use std::process::Command;

use safeserve::model::Model;
use safetensors::Dtype;

use super::{Table, refusal, tensors};
use crate::model_files::{Stored, directory, safetensors, with_header, write};

/// A model of one tensor.
pub(super) const CONFIG: &str = r#"{
  "model_type": "sequential",
  "inputs": [{"name": "x", "shape": [2]}],
  "layers": [{"type": "prelu", "weights": {"alpha": "slope"}}]
}"#;

const HEADER: &str = r#"{"slope":{"dtype":"F32","shape":[2],"data_offsets":[0,8]}}"#;

pub(super) fn tensor() -> Stored {
    Stored::filled("slope", &[2])
}

pub(super) fn collect(table: &mut Table) {
    for (claim, header, data_bytes) in HEADERS {
        let place = directory(CONFIG, &[]);
        write(
            place.path(),
            CONFIG,
            &with_header(header.as_bytes(), *data_bytes),
        );
        table.row(claim, place.path());
    }
    for (claim, bytes) in files() {
        let place = directory(CONFIG, &[]);
        write(place.path(), CONFIG, &bytes);
        table.row(claim, place.path());
    }
    for (claim, tensors) in tensor_sets() {
        table.row(claim, directory(super::CONFIG, &tensors).path());
    }
    let negative = [
        Stored::new("scaler/mean", &[2], &[0.0, 0.0]),
        Stored::new("scaler/variance", &[2], &[1.0, -0.25]),
    ];
    let config = CONFIG.replace(
        r#"{"type": "prelu", "weights": {"alpha": "slope"}}"#,
        r#"{"type": "normalization", "name": "scaler"}"#,
    );
    table.row("a negative variance", directory(&config, &negative).path());
    collect_nodes(table);
}

/// What can be in the place of the file.
fn collect_nodes(table: &mut Table) {
    let place = directory(CONFIG, &[]);
    let file = place.path().join("model.safetensors");
    fs::remove_file(&file).unwrap();
    table.row("no file", place.path());
    fs::create_dir(&file).unwrap();
    table.row("a directory", place.path());
    fs::remove_dir(&file).unwrap();
    fs::write(&file, with_header(HEADER.as_bytes(), 8)).unwrap();
    grow(&file, 1 << 40);
    table.row("a sparse file of a terabyte", place.path());
    fs::remove_file(&file).unwrap();
    let made = Command::new("mkfifo").arg(&file).status().unwrap();
    assert!(made.success());
    table.row("a pipe without a writer", place.path());
    fs::remove_file(&file).unwrap();
    std::os::unix::fs::symlink(&file, &file).unwrap();
    table.row("a link to itself", place.path());
}

/// Makes a file longer by a hole that takes no room.
pub(super) fn grow(file: &Path, bytes: u64) {
    let file = fs::File::options().write(true).open(file).unwrap();
    file.set_len(bytes).unwrap();
}

/// (what is wrong, the header, bytes after it)
const HEADERS: &[(&str, &str, usize)] = &[
    (
        "a blank before the header",
        r#" {"slope":{"dtype":"F32","shape":[2],"data_offsets":[0,8]}}"#,
        8,
    ),
    ("a header that is a list", "[]", 0),
    ("a header that is no JSON", "{slope}", 0),
    ("two headers", "{}{}", 0),
    (
        "a tensor that comes twice",
        r#"{"slope":{"dtype":"F32","shape":[2],"data_offsets":[0,8]},"slope":{"dtype":"F32","shape":[2],"data_offsets":[0,8]}}"#,
        8,
    ),
    (
        "an unknown key of a tensor",
        r#"{"slope":{"dtype":"F32","shape":[2],"data_offsets":[0,8],"scale":0.5}}"#,
        8,
    ),
    (
        "a key of a tensor that comes twice",
        r#"{"slope":{"dtype":"F32","shape":[2],"shape":[2],"data_offsets":[0,8]}}"#,
        8,
    ),
    (
        "tensors that overlap",
        r#"{"slope":{"dtype":"F32","shape":[2],"data_offsets":[0,8]},"b":{"dtype":"F32","shape":[2],"data_offsets":[4,12]}}"#,
        12,
    ),
    (
        "tensors of the same bytes",
        r#"{"slope":{"dtype":"F32","shape":[2],"data_offsets":[0,8]},"b":{"dtype":"F32","shape":[2],"data_offsets":[0,8]}}"#,
        8,
    ),
    (
        "a hole between tensors",
        r#"{"slope":{"dtype":"F32","shape":[2],"data_offsets":[0,8]},"b":{"dtype":"F32","shape":[2],"data_offsets":[12,20]}}"#,
        20,
    ),
    (
        "a hole before the first tensor",
        r#"{"slope":{"dtype":"F32","shape":[2],"data_offsets":[4,12]}}"#,
        12,
    ),
    ("bytes after the last tensor", HEADER, 12),
    ("too few bytes", HEADER, 7),
    (
        "offsets the wrong way round",
        r#"{"slope":{"dtype":"F32","shape":[2],"data_offsets":[8,0]}}"#,
        8,
    ),
    (
        "a negative offset",
        r#"{"slope":{"dtype":"F32","shape":[2],"data_offsets":[-8,0]}}"#,
        8,
    ),
    (
        "offsets beyond every file",
        r#"{"slope":{"dtype":"F32","shape":[2],"data_offsets":[0,18446744073709551615]}}"#,
        8,
    ),
    (
        "offsets that do not hold the shape",
        r#"{"slope":{"dtype":"F32","shape":[3],"data_offsets":[0,8]}}"#,
        8,
    ),
    (
        "a shape whose product overflows",
        r#"{"slope":{"dtype":"F32","shape":[4294967296,4294967296],"data_offsets":[0,8]}}"#,
        8,
    ),
    (
        "a shape whose bits overflow",
        r#"{"slope":{"dtype":"F32","shape":[9223372036854775807],"data_offsets":[0,8]}}"#,
        8,
    ),
    (
        "a shape with 0 and 2^63 - 1",
        r#"{"slope":{"dtype":"F32","shape":[0,9223372036854775807],"data_offsets":[0,0]}}"#,
        0,
    ),
    (
        "a shape with 0 whose strides overflow",
        r#"{"slope":{"dtype":"F32","shape":[0,9223372036854775807,2],"data_offsets":[0,0]}}"#,
        0,
    ),
    (
        "a shape without elements",
        r#"{"slope":{"dtype":"F32","shape":[2,0],"data_offsets":[0,0]}}"#,
        0,
    ),
    (
        "half a byte",
        r#"{"slope":{"dtype":"F4","shape":[1],"data_offsets":[0,1]}}"#,
        1,
    ),
    (
        "an unknown datatype",
        r#"{"slope":{"dtype":"FLOAT","shape":[2],"data_offsets":[0,8]}}"#,
        8,
    ),
    (
        "a tensor without a shape",
        r#"{"slope":{"dtype":"F32","data_offsets":[0,8]}}"#,
        8,
    ),
    (
        "a scalar where a column each is expected",
        r#"{"slope":{"dtype":"F32","shape":[],"data_offsets":[0,8]}}"#,
        8,
    ),
];

fn files() -> Vec<(&'static str, Vec<u8>)> {
    let good = safetensors(&[tensor()]);
    let length = |claimed: u64| {
        let mut bytes = good.clone();
        bytes[..8].copy_from_slice(&claimed.to_le_bytes());
        bytes
    };
    let mut no_utf_8 = HEADER.as_bytes().to_vec();
    no_utf_8[3] = 0xff;
    vec![
        ("an empty file", Vec::new()),
        ("seven bytes", good[..7].to_vec()),
        ("a file that ends in its header", good[..30].to_vec()),
        (
            "a file that ends in its data",
            good[..good.len() - 1].to_vec(),
        ),
        ("a header of 0 bytes", length(0)),
        ("a header of 2^63 bytes", length(1 << 63)),
        ("a header of 2^64 - 1 bytes", length(u64::MAX)),
        (
            "a header longer than the file",
            length(good.len() as u64 - 7),
        ),
        ("a header without UTF-8", with_header(&no_utf_8, 8)),
        (
            "100,000 brackets",
            with_header(format!("{{\"slope\":{}", "[".repeat(100_000)).as_bytes(), 8),
        ),
    ]
}

/// Files in order whose tensors do not fit the network.
fn tensor_sets() -> Vec<(&'static str, Vec<Stored>)> {
    let with = |name: &str, change: &dyn Fn(&mut Stored)| {
        let mut tensors = tensors();
        change(tensors.iter_mut().find(|t| t.name == name).unwrap());
        tensors
    };
    let without = |name: &str| {
        let mut tensors = tensors();
        tensors.retain(|tensor| tensor.name != name);
        tensors
    };
    let with_extra = |extra: Stored| {
        let mut tensors = tensors();
        tensors.push(extra);
        tensors
    };
    let shaped = |name: &str, shape: &[usize]| with(name, &|t| *t = Stored::filled(name, shape));
    let element = |name: &str, value: f32| {
        with(name, &|t| {
            t.bytes[4..8].copy_from_slice(&value.to_le_bytes())
        })
    };
    vec![
        ("no tensors at all", Vec::new()),
        ("a missing kernel", without("head.weight")),
        ("a missing bias", without("head.bias")),
        ("a missing mean", without("norm.running_mean")),
        (
            "an unused tensor",
            with_extra(Stored::filled("tail.weight", &[3, 3])),
        ),
        (
            "an unused tensor of whole numbers",
            with_extra(Stored::filled("steps", &[1]).stored_as(Dtype::I64)),
        ),
        (
            "an unused tensor with a path for a name",
            with_extra(Stored::filled("../../etc/passwd", &[1])),
        ),
        (
            "many unused tensors",
            (0..20).fold(tensors(), |mut tensors, index| {
                tensors.push(Stored::filled(&format!("extra.{index}"), &[1]));
                tensors
            }),
        ),
        (
            "both names that a kernel may have",
            with_extra(Stored::filled("head/kernel", &[4, 3])),
        ),
        ("a kernel of other inputs", shaped("head.weight", &[3, 5])),
        ("a kernel of other outputs", shaped("head.weight", &[5, 4])),
        ("a kernel of one axis", shaped("head.weight", &[12])),
        ("a bias of other outputs", shaped("head.bias", &[4])),
        ("a bias of two axes", shaped("head.bias", &[1, 3])),
        ("a mean of other columns", shaped("scaler.mean_", &[5])),
        (
            "a variance of other columns",
            shaped("norm.running_var", &[1]),
        ),
        (
            "a kernel of whole numbers",
            with("head.weight", &|t| *t = t.stored_as(Dtype::I64)),
        ),
        ("a weight that is NaN", element("hidden.weight", f32::NAN)),
        (
            "a weight that is infinite",
            element("head.bias", f32::NEG_INFINITY),
        ),
        (
            "a weight in 64 bits that 32 do not hold",
            with("head.bias", &|t| {
                *t = t.stored_as(Dtype::F64);
                t.bytes[8..16].copy_from_slice(&1e39_f64.to_le_bytes());
            }),
        ),
        (
            "a weight in 16 bits that is infinite",
            with("head.bias", &|t| {
                *t = t.stored_as(Dtype::F16);
                t.bytes[..2].copy_from_slice(&0x7c00_u16.to_le_bytes());
            }),
        ),
        ("a scale of 0", element("scaler.scale_", 0.0)),
        (
            "a variance below -epsilon",
            element("norm.running_var", -0.5),
        ),
    ]
}

/// A model in two shards: the tensors of the first layers, and those of the head.
fn shards(index: &str) -> tempfile::TempDir {
    let place = tempfile::tempdir().unwrap();
    let (head, body): (Vec<_>, Vec<_>) = tensors()
        .into_iter()
        .partition(|tensor| tensor.name.starts_with("head"));
    fs::write(place.path().join("config.json"), super::CONFIG).unwrap();
    fs::write(place.path().join("body.safetensors"), safetensors(&body)).unwrap();
    fs::write(place.path().join("head.safetensors"), safetensors(&head)).unwrap();
    fs::write(place.path().join("model.safetensors.index.json"), index).unwrap();
    place
}

const INDEX: &str = r#"{
  "metadata": {"total_size": 272},
  "weight_map": {
    "scaler.mean_": "body.safetensors",
    "scaler.scale_": "body.safetensors",
    "hidden.weight": "body.safetensors",
    "hidden.bias": "body.safetensors",
    "norm.weight": "body.safetensors",
    "norm.bias": "body.safetensors",
    "norm.running_mean": "body.safetensors",
    "norm.running_var": "body.safetensors",
    "norm.num_batches_tracked": "body.safetensors",
    "head.weight": "head.safetensors",
    "head.bias": "head.safetensors"
  }
}"#;

pub(super) fn collect_shards(table: &mut Table) {
    Model::load("m", 1, shards(INDEX).path()).unwrap();
    for (claim, found, replacement) in [
        ("no JSON", "{\n  \"metadata\"", "metadata"),
        ("no weight_map", "weight_map", "weights"),
        ("an unknown key", "metadata", "meta"),
        (
            "a path for a shard",
            r#""head.bias": "head.safetensors""#,
            r#""head.bias": "../head.safetensors""#,
        ),
        (
            "an absolute path for a shard",
            r#""head.bias": "head.safetensors""#,
            r#""head.bias": "/etc/passwd""#,
        ),
        (
            "a shard that is a number",
            r#""head.bias": "head.safetensors""#,
            r#""head.bias": 2"#,
        ),
        (
            "a shard that is missing",
            r#""head.bias": "head.safetensors""#,
            r#""head.bias": "tail.safetensors""#,
        ),
        (
            "a tensor that its shard does not hold",
            r#""head.bias": "head.safetensors""#,
            r#""head.bias": "body.safetensors""#,
        ),
        (
            "a tensor that the index leaves out",
            r#",
    "head.bias": "head.safetensors""#,
            "",
        ),
        (
            "a tensor listed twice",
            r#""norm.bias""#,
            r#""norm.weight""#,
        ),
    ] {
        assert_eq!(INDEX.matches(found).count(), 1, "{claim}");
        table.row(claim, shards(&INDEX.replacen(found, replacement, 1)).path());
    }
    let place = shards(INDEX);
    let index = place.path().join("model.safetensors.index.json");
    grow(&index, (16 << 20) + 1);
    table.row("an index of more than 16 MiB", place.path());
    let place = shards(INDEX);
    let twice = [
        Stored::filled("head.weight", &[3, 4]),
        Stored::filled("head.bias", &[3]),
        Stored::filled("norm.bias", &[4]),
    ];
    fs::write(place.path().join("head.safetensors"), safetensors(&twice)).unwrap();
    table.row("a tensor in two shards", place.path());
    let place = shards(INDEX);
    fs::write(
        place.path().join("model.safetensors"),
        safetensors(&tensors()),
    )
    .unwrap();
    table.row("an index next to an unsharded file", place.path());
}

/// Loads a file of these bytes with [`CONFIG`]; returns the message, or `None` if it loads.
fn outcome(place: &Path, bytes: &[u8]) -> Option<String> {
    fs::write(place.join("model.safetensors"), bytes).unwrap();
    Model::load("m", 1, place)
        .err()
        .map(|error| error.to_string())
}

#[test]
fn a_file_cut_anywhere_is_refused() {
    let place = directory(super::CONFIG, &tensors());
    let whole = safetensors(&tensors());
    for length in 0..whole.len() {
        fs::write(place.path().join("model.safetensors"), &whole[..length]).unwrap();
        let message = refusal(&format!("{length} bytes"), place.path());
        assert!(message.starts_with("model.safetensors: "), "{message}");
    }
    assert_eq!(outcome(place.path(), &whole), None);
}

/// Whatever a byte of the header becomes, the file loads or is refused: nothing panics, and
/// nothing of the size that a changed number claims is allocated.
#[test]
fn no_changed_byte_of_a_header_is_a_panic() {
    let place = directory(CONFIG, &[]);
    let whole = safetensors(&[tensor()]);
    let header = 8 + HEADER.len();
    let mut refused = 0;
    for position in 0..header {
        for byte in [0, b' ', b'"', b'0', b'9', b'-', b'[', b'}', 0x7f, 0xff] {
            let mut bytes = whole.clone();
            bytes[position] = byte;
            refused += usize::from(outcome(place.path(), &bytes).is_some());
        }
    }
    assert!(refused > 9 * header, "{refused} of {}", 10 * header);
}

/// The format lets writers pad the header with trailing blanks, and describe the file in it.
#[test]
fn blanks_after_a_header_and_metadata_in_it_are_fine() {
    let place = directory(CONFIG, &[]);
    let padded = format!("{HEADER}     ");
    assert_eq!(
        outcome(place.path(), &with_header(padded.as_bytes(), 8)),
        None
    );
    let described = HEADER.replacen('{', r#"{"__metadata__":{"format":"pt"},"#, 1);
    assert_eq!(
        outcome(place.path(), &with_header(described.as_bytes(), 8)),
        None
    );
}
