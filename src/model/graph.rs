//! Networks of ONNX' operators: nodes with names and attributes as ONNX has them, over values whose
//! axis 0 is the rows.
//!
//! Two have such networks: `config.json` of family `graph`, and whoever imports ONNX files. Both go
//! through [`Lowering`], so that what is imported is checked by what will load it. What ONNX has as
//! inputs of whole numbers (a shape, axes, limits) is an attribute here, as in its first versions:
//! a network's shapes are settled when it is loaded.

mod attributes;
mod call;
mod operators;

use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;

use ndarray::ArrayD;

use crate::engine::{Graph, GraphBuilder, MAX_ROW_ELEMENTS, OutputError};
use crate::tensor::TensorSpec;

pub use attributes::{Attribute, Attributes};
use call::{Call, Value};

/// One node of a network.
#[derive(Clone, Debug, PartialEq)]
pub struct Node {
    /// The name by which errors speak of it.
    pub name: String,
    /// ONNX' name of the operator.
    pub operator: String,
    /// The names of the values that go in; empty where an operand is left out.
    pub inputs: Vec<String>,
    /// The name of the value that comes out.
    pub output: String,
    /// How it computes.
    pub attributes: Attributes,
}

/// Why a node cannot be part of a network.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NodeError {
    /// The node's name.
    pub node: String,
    /// Its operator.
    pub operator: String,
    /// What is wrong.
    pub problem: String,
}

impl fmt::Display for NodeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "node {:?} ({}): {}",
            self.node, self.operator, self.problem
        )
    }
}

impl std::error::Error for NodeError {}

/// The operators that nodes may have, sorted.
pub fn operators() -> impl Iterator<Item = &'static str> {
    operators::TABLE.iter().map(|(name, _)| *name)
}

/// Whether nodes may have an operator.
#[must_use]
pub fn has_operator(name: &str) -> bool {
    operators::find(name).is_some()
}

/// Turns nodes into operators of the engine, one by one in running order.
#[derive(Debug, Default)]
pub struct Lowering {
    graph: GraphBuilder,
    values: HashMap<String, Value>,
}

impl Lowering {
    /// A network without nodes.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Whether there is a value of this name.
    #[must_use]
    pub fn has(&self, name: &str) -> bool {
        self.values.contains_key(name)
    }

    /// The extents of one row of a value; nothing for constants and for values that are not there.
    #[must_use]
    pub fn row_shape(&self, name: &str) -> Option<&[usize]> {
        match self.values.get(name)? {
            Value::Rows(value) => Some(self.graph.shape(*value)),
            Value::Constant(_) => None,
        }
    }

    /// Adds an input that each request sends.
    ///
    /// # Errors
    /// What is wrong with its name.
    pub fn input(&mut self, spec: TensorSpec) -> Result<(), String> {
        let name = spec.name.clone();
        let extents = spec.shape.extents.iter();
        let elements = extents.fold(1, |all: usize, extent| all.saturating_mul(*extent));
        if elements > MAX_ROW_ELEMENTS {
            return Err(format!(
                "expected at most {MAX_ROW_ELEMENTS} numbers a row, got shape {:?}",
                spec.shape.extents
            ));
        }
        let value = self.graph.input(spec);
        self.define(&name, Value::Rows(value))
    }

    /// Adds a weight.
    ///
    /// # Errors
    /// What is wrong with its name.
    pub fn weight(&mut self, name: &str, values: Arc<ArrayD<f32>>) -> Result<(), String> {
        self.define(name, Value::Constant(values))
    }

    fn define(&mut self, name: &str, value: Value) -> Result<(), String> {
        match self.values.insert(name.to_owned(), value) {
            None => Ok(()),
            Some(_) => Err(format!(
                "another value has the name {name:?}; each needs its own"
            )),
        }
    }

    /// Adds a node.
    ///
    /// # Errors
    /// [`NodeError`] if there is no such operator, or it refuses its inputs or attributes.
    pub fn node(&mut self, node: &Node) -> Result<(), NodeError> {
        let lowered = self.lower(node);
        lowered.map_err(|problem| NodeError {
            node: node.name.clone(),
            operator: node.operator.clone(),
            problem,
        })
    }

    fn lower(&mut self, node: &Node) -> Result<(), String> {
        let lower = operators::find(&node.operator).ok_or_else(unknown_operator)?;
        let mut operands = Vec::with_capacity(node.inputs.len());
        for name in &node.inputs {
            operands.push(match (name.as_str(), self.values.get(name)) {
                ("", _) => None,
                (_, Some(value)) => Some(value.clone()),
                (_, None) => return Err(format!("there is no value {name:?} before it")),
            });
        }
        // What is left out at the end is as if it were not named.
        while let Some(None) = operands.last() {
            operands.pop();
        }
        let mut call = Call {
            graph: &mut self.graph,
            name: &node.name,
            operands,
            attributes: node.attributes.clone(),
        };
        let output = call.run(lower)?;
        self.define(&node.output, Value::Rows(output))
    }

    /// Makes a value an output under a name.
    ///
    /// # Errors
    /// If there is no such value, or it is the same for all rows.
    pub fn output(&mut self, name: &str, value: &str) -> Result<(), String> {
        match self.values.get(value) {
            Some(Value::Rows(id)) => {
                let output = self.graph.output(name, *id);
                output.map_err(|error| format!("{value:?}: {error}"))
            }
            Some(Value::Constant(_)) => Err(format!("{value:?}: {}", OutputError::Constant)),
            None => Err(format!("there is no value {value:?}")),
        }
    }

    /// The finished network.
    #[must_use]
    pub fn build(self) -> Graph {
        self.graph.build()
    }
}

fn unknown_operator() -> String {
    let names: Vec<_> = operators().collect();
    format!(
        "the engine has no such operator; expected one of: {}",
        names.join(", ")
    )
}
