//! Configurations of family `graph` that cannot be served.

use super::Table;
use crate::model_files::Stored;

pub(super) fn collect(table: &mut Table) {
    table.changed(CONFIG, &tensors(), CASES);
}

pub(super) const CONFIG: &str = r#"{
  "model_type": "graph",
  "inputs": [{"name": "x", "shape": [2, 3]}],
  "nodes": [
    {"op": "Flatten", "name": "flat", "inputs": ["x"]},
    {"op": "Gemm", "name": "dense", "inputs": ["flat", "weight", "bias"], "attributes": {"transB": 1}},
    {"op": "Clip", "name": "clip", "inputs": ["dense"], "attributes": {"min": -1.5, "max": 2}},
    {"op": "Concat", "name": "join", "inputs": ["clip", "dense"], "attributes": {"axis": 1}},
    {"op": "Reshape", "name": "pairs", "inputs": ["join"], "attributes": {"shape": [0, 4, 2]}},
    {"op": "ReduceSum", "name": "sums", "inputs": ["pairs"], "attributes": {"axes": [2], "keepdims": 0}},
    {"op": "Add", "name": "shifted", "inputs": ["sums", "shift"], "output": "moved"},
    {"op": "Softmax", "name": "last", "inputs": ["moved"]}
  ],
  "outputs": [{"name": "shares", "value": "last"}]
}"#;

pub(super) fn tensors() -> Vec<Stored> {
    vec![
        Stored::filled("weight", &[4, 6]),
        Stored::filled("bias", &[4]),
        Stored::filled("shift", &[1, 4]),
    ]
}

/// (what is wrong, the text to replace, its replacement)
const CASES: &[(&str, &str, &str)] = &[
    (
        "a node that is none",
        r#"{"op": "Flatten", "name": "flat", "inputs": ["x"]},"#,
        r#"7,"#,
    ),
    ("an unknown operator", r#""op": "Clip""#, r#""op": "Conv""#),
    (
        "an unknown key",
        r#""op": "Flatten""#,
        r#""op": "Flatten", "axis": 1"#,
    ),
    ("no operator", r#""op": "Flatten", "#, ""),
    (
        "no inputs",
        r#""name": "flat", "inputs": ["x"]"#,
        r#""name": "flat""#,
    ),
    (
        "a value that is not there",
        r#""inputs": ["flat", "weight""#,
        r#""inputs": ["flat", "kernel""#,
    ),
    (
        "a value that comes later",
        r#""inputs": ["x"]"#,
        r#""inputs": ["last"]"#,
    ),
    (
        "two values of one name",
        r#""name": "clip""#,
        r#""name": "flat""#,
    ),
    (
        "a name for an input",
        r#""output": "moved""#,
        r#""output": "x""#,
    ),
    (
        "too many operands",
        r#""inputs": ["x"]"#,
        r#""inputs": ["x", "x"]"#,
    ),
    (
        "only weights",
        r#""inputs": ["sums", "shift"]"#,
        r#""inputs": ["shift", "shift"]"#,
    ),
    (
        "rows in place of a weight",
        r#"["flat", "weight", "bias"]"#,
        r#"["flat", "flat", "bias"]"#,
    ),
    (
        "a weight in place of rows",
        r#"["clip", "dense"]"#,
        r#"["clip", "shift"]"#,
    ),
    (
        "a weight of another shape",
        r#""attributes": {"transB": 1}"#,
        r#""attributes": {"transB": 0}"#,
    ),
    (
        "an unknown attribute",
        r#"{"transB": 1}"#,
        r#"{"transB": 1, "transC": 1}"#,
    ),
    (
        "an attribute of another type",
        r#"{"transB": 1}"#,
        r#"{"transB": "yes"}"#,
    ),
    (
        "an attribute of no type",
        r#"{"transB": 1}"#,
        r#"{"transB": true}"#,
    ),
    (
        "a transposed A",
        r#"{"transB": 1}"#,
        r#"{"transB": 1, "transA": 1}"#,
    ),
    ("the axis of the rows", r#""axis": 1"#, r#""axis": 0"#),
    (
        "the axis of the rows counted from the end",
        r#""axis": 1"#,
        r#""axis": -2"#,
    ),
    ("an axis that is not there", r#""axis": 1"#, r#""axis": 2"#),
    ("no axis", r#", "attributes": {"axis": 1}"#, ""),
    (
        "rows that mix",
        r#""shape": [0, 4, 2]"#,
        r#""shape": [4, 2]"#,
    ),
    (
        "another number of numbers",
        r#""shape": [0, 4, 2]"#,
        r#""shape": [0, 3, 2]"#,
    ),
    (
        "nothing to copy",
        r#""shape": [0, 4, 2]"#,
        r#""shape": [0, 4, 0]"#,
    ),
    ("all rows together", r#""axes": [2], "#, ""),
    (
        "shapes that do not go together",
        r#""inputs": ["sums", "shift"]"#,
        r#""inputs": ["sums", "flat"]"#,
    ),
    (
        "operands of unlike ranks",
        r#""inputs": ["sums", "shift"]"#,
        r#""inputs": ["sums", "pairs"]"#,
    ),
    (
        "an output that is not there",
        r#""value": "last""#,
        r#""value": "first""#,
    ),
    (
        "an output that is a weight",
        r#""value": "last""#,
        r#""value": "shift""#,
    ),
    (
        "a value that is not used",
        r#""value": "last""#,
        r#""value": "moved""#,
    ),
    (
        "no output",
        r#"[{"name": "shares", "value": "last"}]"#,
        "[]",
    ),
];
