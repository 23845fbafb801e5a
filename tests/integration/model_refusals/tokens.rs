//! Wrong configurations of models of tokens.

use super::Table;
use crate::token_models::{KERAS, SEQUENTIAL, keras_tensors, sequential_tensors};

pub(super) fn collect(table: &mut Table) {
    table.changed(SEQUENTIAL, &sequential_tensors(), CASES);
    table.changed(KERAS, &keras_tensors(), KERAS_CASES);
}

/// (what is wrong, the text to replace, its replacement)
const CASES: &[(&str, &str, &str)] = &[
    ("an embedding of floats", "INT64", "FP32"),
    (
        "a function of whole numbers",
        r#""embedding", "name": "words", "entries": 7, "units": 3"#,
        r#""activation", "name": "words", "function": "relu""#,
    ),
    (
        "entries that the embeddings do not have",
        r#""entries": 7"#,
        r#""entries": 8"#,
    ),
    (
        "units that the embeddings do not have",
        r#""units": 3"#,
        r#""units": 4"#,
    ),
    (
        "tokens that are flattened",
        r#""mean_pooling""#,
        r#""flatten""#,
    ),
    (
        "rows that are pooled once more",
        r#""dense", "name": "head", "units": 2"#,
        r#""mean_pooling", "name": "head""#,
    ),
    (
        "tokens within tokens",
        r#""shape": [null]"#,
        r#""shape": [null, null]"#,
    ),
    (
        "classes of tokens",
        r#""model_type": "sequential","#,
        r#""model_type": "sequential", "task": "multiclass-classification", "outputs": [{"name": "y", "layer": "each"}, {"name": "z", "layer": "head"}],"#,
    ),
    (
        "tokens of ONNX' operators",
        r#""model_type": "sequential""#,
        r#""model_type": "graph""#,
    ),
];

const KERAS_CASES: &[(&str, &str, &str)] = &[
    (
        "padding that is masked",
        r#""mask_zero": false"#,
        r#""mask_zero": true"#,
    ),
    (
        "a pooled axis that stays",
        r#""keepdims": false"#,
        r#""keepdims": true"#,
    ),
    (
        "channels before the steps",
        r#""channels_last""#,
        r#""channels_first""#,
    ),
    (
        "tokens that are reshaped",
        r#""GlobalAveragePooling1D", "config": {"name": "pool", "data_format": "channels_last", "keepdims": false"#,
        r#""Reshape", "config": {"name": "pool", "target_shape": [5]"#,
    ),
    (
        "tokens that are joined along the text",
        r#""GlobalAveragePooling1D", "config": {"name": "pool", "data_format": "channels_last", "keepdims": false"#,
        r#""Concatenate", "config": {"name": "pool", "axis": 1"#,
    ),
];
