//! Wrong configurations of family `sequential`.

use std::fs;

use super::{CONFIG, Table, tensors};
use crate::model_files::directory;

pub(super) fn collect(table: &mut Table) {
    table.changed(CONFIG, &tensors(), CASES);
    let deep = format!("{}1{}", "[".repeat(100_000), "]".repeat(100_000));
    let deep = CONFIG.replace("0.001", &deep);
    for (claim, config) in [
        ("an empty file", ""),
        ("no JSON", "model_type: sequential"),
        ("a file that ends early", &CONFIG[..100]),
        ("a list", "[]"),
        ("two objects", "{} {}"),
        ("an empty object", "{}"),
        ("a byte order mark", &format!("\u{feff}{CONFIG}")),
        ("100,000 brackets", &deep),
    ] {
        table.row(claim, directory(config, &tensors()).path());
    }
    let place = directory("", &tensors());
    let file = place.path().join("config.json");
    fs::write(&file, b"{\"model_type\": \"\xff\"}").unwrap();
    table.row("no UTF-8", place.path());
    let large = fs::File::create(&file).unwrap();
    large.set_len((16 << 20) + 1).unwrap();
    table.row("more than 16 MiB", place.path());
    fs::remove_file(&file).unwrap();
    table.row("no file", place.path());
    fs::create_dir(&file).unwrap();
    table.row("a directory", place.path());
}

/// Where the configuration ends its inputs and begins its layers.
const SECOND_INPUT: &str = r#"FP32"}],
  "layers": [
    {"type": "normalization""#;

/// (what is wrong, the text to replace, its replacement)
const CASES: &[(&str, &str, &str)] = &[
    (
        "an unknown key at the top",
        r#""labels""#,
        r#""label_names""#,
    ),
    (
        "an unknown key of an input",
        r#""datatype": "FP32""#,
        r#""dtype": "FP32""#,
    ),
    ("an unknown key of a layer", r#""units": 3"#, r#""unit": 3"#),
    (
        "an unknown key of an activation",
        r#""alpha": 0.5"#,
        r#""slope": 0.5"#,
    ),
    (
        "a parameter that the function does not have",
        r#""function": "softmax""#,
        r#""function": "softmax", "alpha": 1"#,
    ),
    (
        "an unknown key of the task",
        r#"{"type": "multiclass-classification"}"#,
        r#"{"type": "multiclass-classification", "classes": 3}"#,
    ),
    (
        "an unknown key of an output",
        r#""layer": "last""#,
        r#""layer": "last", "shape": [3]"#,
    ),
    (
        "an unknown role",
        r#""name": "head""#,
        r#""name": "head", "weights": {"weight": "head.weight"}"#,
    ),
    (
        "a key that appears twice",
        r#""units": 3"#,
        r#""units": 3, "units": 3"#,
    ),
    ("no family", r#""model_type": "sequential","#, ""),
    (
        "an unknown family",
        r#""model_type": "sequential""#,
        r#""model_type": "bert""#,
    ),
    (
        "a family that is no text",
        r#""model_type": "sequential""#,
        r#""model_type": 1"#,
    ),
    (
        "no inputs",
        r#""inputs": [{"name": "features", "shape": [4], "datatype": "FP32"}]"#,
        r#""inputs": []"#,
    ),
    ("an input without a name", r#""name": "features", "#, ""),
    ("an input without a shape", r#""shape": [4], "#, ""),
    ("an extent of 0", r#""shape": [4]"#, r#""shape": [0]"#),
    (
        "a negative extent, as for the rows",
        r#""shape": [4]"#,
        r#""shape": [-1, 4]"#,
    ),
    (
        "an extent that is no whole number",
        r#""shape": [4]"#,
        r#""shape": [4.5]"#,
    ),
    (
        "a shape that is a number",
        r#""shape": [4]"#,
        r#""shape": 4"#,
    ),
    (
        "extents whose product overflows",
        r#""shape": [4]"#,
        r#""shape": [4294967296, 4294967296]"#,
    ),
    (
        "an unknown datatype",
        r#""datatype": "FP32""#,
        r#""datatype": "INT32""#,
    ),
    (
        "two inputs of one name",
        SECOND_INPUT,
        r#"FP32"}, {"name": "features", "shape": [4]}],
  "layers": [
    {"type": "normalization", "inputs": ["features"]"#,
    ),
    (
        "an input that nothing uses",
        SECOND_INPUT,
        r#"FP32"}, {"name": "more", "shape": [4]}],
  "layers": [
    {"type": "normalization", "inputs": ["features"]"#,
    ),
    (
        "several inputs, and a first layer that names none",
        r#""inputs": ["#,
        r#""inputs": [{"name": "more", "shape": [4]}, "#,
    ),
    (
        "layers that are an object",
        r#""layers": ["#,
        r#""layers": {}, "rest": ["#,
    ),
    (
        "a layer that is a text",
        r#"{"type": "activation", "name": "last", "function": "softmax"}"#,
        r#""softmax""#,
    ),
    ("a layer without a type", r#""type": "dropout", "#, ""),
    (
        "an unknown layer",
        r#""type": "dropout""#,
        r#""type": "conv2d""#,
    ),
    (
        "an unknown function",
        r#""function": "softmax""#,
        r#""function": "soft_max""#,
    ),
    (
        "an activation without a function",
        r#", "function": "softmax""#,
        "",
    ),
    (
        "an unknown function of a dense layer",
        r#"{"type": "elu", "alpha": 0.5}"#,
        r#""Elu""#,
    ),
    (
        "a parameter beyond 32-bit floats",
        r#""alpha": 0.5"#,
        r#""alpha": 1e39"#,
    ),
    (
        "celu divided by zero",
        r#"{"type": "elu", "alpha": 0.5}"#,
        r#"{"type": "celu", "alpha": 0}"#,
    ),
    (
        "units that the kernel does not have",
        r#""units": 3"#,
        r#""units": 4"#,
    ),
    ("units that are a text", r#""units": 3"#, r#""units": "3""#),
    (
        "a kernel whose name does not tell its layout, square or not",
        r#""name": "head""#,
        r#""name": "other", "weights": {"kernel": "head.bias"}"#,
    ),
    (
        "an unknown layout",
        r#""units": 3"#,
        r#""units": 3, "kernel_layout": "io""#,
    ),
    (
        "the other layout of a kernel that is not square",
        r#""units": 3"#,
        r#""kernel_layout": "in_out""#,
    ),
    (
        "a role that names no tensor",
        r#""name": "head""#,
        r#""name": "head", "weights": {"bias": "head.offset"}"#,
    ),
    (
        "a tensor used by two layers",
        r#""name": "head""#,
        r#""name": "head", "weights": {"bias": "hidden.bias"}"#,
    ),
    (
        "a bias that is left out while its tensor is there",
        r#""units": 3"#,
        r#""use_bias": false"#,
    ),
    (
        "a flag that is a number",
        r#""units": 3"#,
        r#""use_bias": 0"#,
    ),
    (
        "PyTorch's batch_normalization of rows with two axes",
        r#"    {"type": "batch_normalization""#,
        r#"    {"type": "reshape", "shape": [1, 4]},
    {"type": "batch_normalization""#,
    ),
    (
        "PyTorch's prelu of rows with two axes",
        r#"{"type": "batch_normalization", "name": "norm", "epsilon": 0.001}"#,
        r#"{"type": "reshape", "shape": [1, 4]},
    {"type": "prelu", "name": "norm"}"#,
    ),
    (
        "batch_normalization without epsilon",
        r#", "epsilon": 0.001"#,
        "",
    ),
    (
        "a negative epsilon",
        r#""epsilon": 0.001"#,
        r#""epsilon": -0.001"#,
    ),
    (
        "an epsilon that is a text",
        r#""epsilon": 0.001"#,
        r#""epsilon": "1e-3""#,
    ),
    (
        "layer_normalization without epsilon",
        r#"{"type": "dropout", "name": "drop", "rate": 0.5}"#,
        r#"{"type": "layer_normalization", "name": "drop"}"#,
    ),
    (
        "a layer of the same name",
        r#""name": "drop""#,
        r#""name": "norm""#,
    ),
    (
        "a layer with an input's name",
        r#""name": "drop""#,
        r#""name": "features""#,
    ),
    (
        "a layer that reads what is not there",
        r#""name": "drop""#,
        r#""name": "drop", "inputs": ["nrom"]"#,
    ),
    (
        "a layer that reads itself",
        r#""name": "drop""#,
        r#""name": "drop", "inputs": ["drop"]"#,
    ),
    (
        "a cycle of layers",
        r#""name": "hidden""#,
        r#""name": "hidden", "inputs": ["norm"]"#,
    ),
    (
        "a layer that is passed by",
        r#""name": "last""#,
        r#""name": "last", "inputs": ["norm"]"#,
    ),
    (
        "a layer of one input that reads two",
        r#""name": "drop""#,
        r#""name": "drop", "inputs": ["norm", "hidden"]"#,
    ),
    (
        "a layer that reads nothing",
        r#"{"type": "dropout", "name": "drop", "rate": 0.5}"#,
        r#"{"type": "add", "name": "drop", "inputs": []}, {"type": "add", "name": "sum", "inputs": ["norm", "drop"]}"#,
    ),
    (
        "a sum of values of different shapes",
        r#""name": "last", "function": "softmax"}"#,
        r#""name": "soft", "function": "softmax"}, {"type": "add", "name": "last", "inputs": ["soft", "drop"]}"#,
    ),
    (
        "values that do not join",
        r#"{"type": "dropout", "name": "drop", "rate": 0.5}"#,
        r#"{"type": "reshape", "name": "square", "shape": [2, 2]}, {"type": "concatenate", "name": "drop", "inputs": ["norm", "square"]}"#,
    ),
    (
        "an axis that is not there",
        r#"{"type": "dropout", "name": "drop", "rate": 0.5}"#,
        r#"{"type": "concatenate", "name": "drop", "axis": 1, "inputs": ["norm", "norm"]}"#,
    ),
    (
        "a reshape to more elements",
        r#"{"type": "dropout", "name": "drop", "rate": 0.5}"#,
        r#"{"type": "reshape", "name": "drop", "shape": [2, 3]}"#,
    ),
    (
        "a reshape with two extents left over",
        r#"{"type": "dropout", "name": "drop", "rate": 0.5}"#,
        r#"{"type": "reshape", "name": "drop", "shape": [-1, -1]}"#,
    ),
    (
        "a reshape whose product overflows",
        r#"{"type": "dropout", "name": "drop", "rate": 0.5}"#,
        r#"{"type": "reshape", "name": "drop", "shape": [9223372036854775807, 4]}"#,
    ),
    (
        "a rescaling of another number of columns",
        r#"{"type": "dropout", "name": "drop", "rate": 0.5}"#,
        r#"{"type": "rescaling", "name": "drop", "scale": [1, 2, 3]}"#,
    ),
    (
        "an unknown task",
        r#"{"type": "multiclass-classification"}"#,
        r#""classification""#,
    ),
    (
        "a binary classifier with three outputs",
        r#"{"type": "multiclass-classification"}"#,
        r#""binary-classification""#,
    ),
    (
        "a threshold for many classes",
        r#"{"type": "multiclass-classification"}"#,
        r#"{"type": "multiclass-classification", "threshold": 0.5}"#,
    ),
    (
        "a threshold that is a text",
        r#"{"type": "multiclass-classification"}"#,
        r#"{"type": "binary-classification", "threshold": "half"}"#,
    ),
    (
        "labels of a regression",
        r#"{"type": "multiclass-classification"}"#,
        r#""regression""#,
    ),
    ("a label too few", r#", "maybe""#, ""),
    ("a label that appears twice", r#""maybe""#, r#""yes""#),
    ("a label that is a number", r#""maybe""#, "2"),
    ("a feature name too few", r#", "d""#, ""),
    ("a feature name that appears twice", r#""d""#, r#""a""#),
    (
        "columns that make other features than are named",
        r#""model_type""#,
        r#""columns": [{"name": "a"}, {"name": "b", "categories": ["c", "d", "e"]}], "model_type""#,
    ),
    (
        "columns that make a feature too few",
        r#""feature_names": ["a", "b", "c", "d"]"#,
        r#""columns": [{"name": "a"}, {"name": "b", "categories": ["c", "d"]}]"#,
    ),
    (
        "a column with nothing but its mean",
        r#""model_type""#,
        r#""columns": [{"mean": 1}], "model_type""#,
    ),
    (
        "a column that is filled and has categories",
        r#""model_type""#,
        r#""columns": [{"name": "a", "categories": ["b"], "fill": 0}], "model_type""#,
    ),
    (
        "allow_non_finite that is a text",
        r#""model_type""#,
        r#""allow_non_finite": "yes", "model_type""#,
    ),
    (
        "a description that is a list",
        r#""model_type""#,
        r#""description": ["a model"], "model_type""#,
    ),
    (
        "no outputs",
        r#"[{"name": "probabilities", "layer": "last"}]"#,
        "[]",
    ),
    (
        "an output of a layer that is not there",
        r#""layer": "last""#,
        r#""layer": "lats""#,
    ),
    (
        "an output with the name of a class output",
        r#""name": "probabilities""#,
        r#""name": "label""#,
    ),
    (
        "two outputs of one name",
        r#"{"name": "probabilities", "layer": "last"}"#,
        r#"{"name": "p", "layer": "last"}, {"name": "p", "layer": "head"}"#,
    ),
];
