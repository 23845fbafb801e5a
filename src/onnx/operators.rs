//! The operators that nodes of a file may have.

use super::proto::NodeProto;
use crate::model::graph::operators;

/// Operators that become others.
const REWRITTEN: &[&str] = &["Cast", "CastLike"];

/// Operators of `ai.onnx.ml` that become others.
const OF_ML: &[&str] = &[
    "LinearClassifier",
    "LinearRegressor",
    "Normalizer",
    "Scaler",
    "ZipMap",
];

/// Whether an operator of ONNX' own becomes another.
pub(super) fn rewrites(operator: &str) -> bool {
    REWRITTEN.contains(&operator)
}

/// Whether an operator of another domain becomes ONNX' own.
pub(super) fn rewrites_of_ml(node: &NodeProto) -> bool {
    node.domain == "ai.onnx.ml" && OF_ML.contains(&&*node.op_type)
}

/// The operators that nodes of a file may have where they depend on the rows, sorted; those of other
/// domains than ONNX' own with their domain.
pub fn understood() -> impl Iterator<Item = String> {
    let core = operators().chain(REWRITTEN.iter().copied());
    let of_ml = OF_ML.iter().map(|name| format!("ai.onnx.ml.{name}"));
    let mut names: Vec<String> = core.map(str::to_owned).collect();
    names.sort();
    names.into_iter().chain(of_ml)
}

/// The name of a node in messages.
pub(super) fn name_of(node: &NodeProto) -> &str {
    match node.name.is_empty() {
        true => node.output.first().map_or("", |output| output),
        false => &node.name,
    }
}

/// Whether a node's operator is one of ONNX' own.
pub(super) fn is_core(node: &NodeProto) -> bool {
    matches!(&*node.domain, "" | "ai.onnx")
}

/// An operator's name, with its domain if it is not ONNX' own.
pub(super) fn qualified(node: &NodeProto) -> String {
    match is_core(node) {
        true => node.op_type.clone(),
        false => format!("{}.{}", node.domain, node.op_type),
    }
}
