//! Networks of ONNX' operators: nodes with names and attributes as ONNX has them, over values whose
//! axis 0 is the rows.
//!
//! Such networks come from `config.json` of family `graph` and from the import of ONNX files. In both a
//! node is a step of a [`Lowering`](crate::model::lowering::Lowering), so the code that will load an
//! import also checks it. Integer inputs of ONNX (a shape, axes, limits) are attributes here, as in its
//! first versions: a network's shapes are settled when it is loaded.

mod attributes;
mod node;
mod operators;

use crate::engine::{OpError, ValueId};
use crate::model::lowering::{Call, Lower, Lowering, Refusal, StepError};

pub(crate) use attributes::{Attribute, Attributes};
use node::NodeCall;

/// One node of a network.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Node {
    /// The name that errors use for it.
    pub(crate) name: String,
    /// ONNX' name of the operator.
    pub(crate) operator: String,
    /// The names of the values that go in; empty where an operand is left out.
    pub(crate) inputs: Vec<String>,
    /// The name of the value that comes out.
    pub(crate) output: String,
    /// How it computes.
    pub(crate) attributes: Attributes,
}

impl Node {
    /// Adds the node to a network.
    ///
    /// # Errors
    /// If there is no such operator, or it refuses its inputs or attributes.
    pub(crate) fn add(&self, lowering: &mut Lowering) -> Result<(), StepError> {
        lowering.apply(self, &self.name, &self.inputs, &self.output)
    }
}

impl Lower for Node {
    fn lower(&self, call: &mut Call<'_>) -> Result<ValueId, Refusal> {
        let operator = operators::find(&self.operator).ok_or_else(unknown_operator)?;
        let mut node = NodeCall::new(call, self.attributes.clone());
        node.expect_rows()?;
        let output = operator.lower(&mut node)?;
        node.attributes.finish()?;
        Ok(output)
    }
}

/// The operators that nodes may have, sorted.
pub(crate) fn operators() -> impl Iterator<Item = &'static str> {
    operators::names().into_iter()
}

/// Whether nodes may have an operator.
#[cfg(feature = "import")]
pub(crate) fn has_operator(name: &str) -> bool {
    operators::find(name).is_some()
}

fn unknown_operator() -> String {
    let names: Vec<_> = operators().collect();
    format!(
        "the engine has no such operator; expected one of: {}",
        names.join(", ")
    )
}

/// Why a node is refused, in words. The engine describes shapes and axes of one row; people who write
/// nodes count the rows as axis 0.
pub(crate) fn problem(refusal: &Refusal) -> String {
    match refusal {
        Refusal::Missing(_) => format!("{refusal} before it"),
        Refusal::Operator(error) if matches!(error.error, OpError::Shape { .. }) => {
            format!("{refusal} (without the rows' axis)")
        }
        _ => refusal.to_string(),
    }
}
