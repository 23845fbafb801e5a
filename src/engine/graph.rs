//! A network as a graph of operators over named inputs and outputs.

use std::fmt;
use std::sync::Arc;

use ndarray::ArrayD;

use super::op::{OpError, Operand, Operator};
use crate::tensor::{DataType, TensorSpec};

/// A value of one graph: an input, a constant, or what a node computes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ValueId(pub(super) usize);

/// The most numbers in one row of a value: 64 MiB, as much as a picture of 2000 by 2000 with four
/// channels. So few that no product of extents and rows overflows and scratch memory is had.
pub const MAX_ROW_ELEMENTS: usize = 1 << 24;

/// One operator applied to values.
#[derive(Clone, Debug)]
pub struct Node {
    /// The name by which errors speak of it.
    pub name: String,
    /// What it computes.
    pub operator: Arc<dyn Operator>,
    /// The operands, in the operator's order.
    pub inputs: Vec<ValueId>,
    /// The value that it defines.
    pub output: ValueId,
}

/// A network: a directed acyclic graph whose nodes stand in an order in which they can run.
#[derive(Clone, Debug)]
pub struct Graph {
    /// By [`ValueId`].
    pub(super) values: Vec<Operand>,
    pub(super) nodes: Vec<Node>,
    pub(super) inputs: Vec<(ValueId, TensorSpec)>,
    pub(super) outputs: Vec<(ValueId, TensorSpec)>,
    pub(super) parameters: usize,
}

impl Graph {
    /// The nodes in the order in which they run.
    #[must_use]
    pub fn nodes(&self) -> &[Node] {
        &self.nodes
    }

    pub(super) fn operands(&self, node: &Node) -> Vec<Operand> {
        node.inputs
            .iter()
            .map(|input| self.values[input.0].clone())
            .collect()
    }
}

/// Builds a [`Graph`] in running order; every shape is checked as a node is added.
#[derive(Debug)]
pub struct GraphBuilder {
    graph: Graph,
    /// Whether a value depends on an input, by [`ValueId`].
    dynamic: Vec<bool>,
}

impl Default for GraphBuilder {
    fn default() -> Self {
        Self::new()
    }
}

impl GraphBuilder {
    /// A graph without nodes.
    #[must_use]
    pub fn new() -> Self {
        Self {
            graph: Graph {
                values: Vec::new(),
                nodes: Vec::new(),
                inputs: Vec::new(),
                outputs: Vec::new(),
                parameters: 0,
            },
            dynamic: Vec::new(),
        }
    }

    /// Adds an input that each request sends.
    pub fn input(&mut self, spec: TensorSpec) -> ValueId {
        let value = self.value(spec.row_shape.clone(), None, true);
        self.graph.inputs.push((value, spec));
        value
    }

    /// Adds a trained weight: a constant that counts as the network's parameters.
    pub fn weight(&mut self, values: impl Into<Arc<ArrayD<f32>>>) -> ValueId {
        let values = values.into();
        self.graph.parameters += values.len();
        self.constant(values)
    }

    /// Adds values that are known at load.
    pub fn constant(&mut self, values: impl Into<Arc<ArrayD<f32>>>) -> ValueId {
        let values = values.into();
        self.value(values.shape().to_vec(), Some(values), false)
    }

    /// Adds a node and returns the value that it computes.
    ///
    /// # Errors
    /// [`GraphError`] if the operator refuses the operands.
    ///
    /// # Panics
    /// If an operand is of another graph.
    pub fn node(
        &mut self,
        name: &str,
        operator: impl Operator + 'static,
        inputs: &[ValueId],
    ) -> Result<ValueId, GraphError> {
        let operator: Arc<dyn Operator> = Arc::new(operator);
        let operands: Vec<Operand> = inputs
            .iter()
            .map(|input| self.graph.values[input.0].clone())
            .collect();
        let shape = operator
            .infer_shape(&operands)
            .and_then(limited)
            .map_err(|error| GraphError {
                node: name.to_owned(),
                operator: operator.name(),
                error,
            })?;
        let dynamic = inputs.iter().any(|input| self.dynamic[input.0]);
        let output = self.value(shape, None, dynamic);
        self.graph.nodes.push(Node {
            name: name.to_owned(),
            operator,
            inputs: inputs.to_vec(),
            output,
        });
        Ok(output)
    }

    /// The extents of one row of a value.
    ///
    /// # Panics
    /// If the value is of another graph.
    #[must_use]
    pub fn shape(&self, value: ValueId) -> &[usize] {
        &self.graph.values[value.0].shape
    }

    /// Makes a value an output under this name.
    ///
    /// # Panics
    /// If the value is of another graph, or depends on no input.
    pub fn output(&mut self, name: &str, value: ValueId) {
        assert!(
            self.dynamic[value.0],
            "output {name:?} is the same for every row"
        );
        let spec = TensorSpec {
            name: name.to_owned(),
            datatype: DataType::Fp32,
            row_shape: self.shape(value).to_vec(),
            description: String::new(),
        };
        self.graph.outputs.push((value, spec));
    }

    /// The finished graph.
    #[must_use]
    pub fn build(self) -> Graph {
        self.graph
    }

    fn value(
        &mut self,
        shape: Vec<usize>,
        constant: Option<Arc<ArrayD<f32>>>,
        dynamic: bool,
    ) -> ValueId {
        self.graph.values.push(Operand { shape, constant });
        self.dynamic.push(dynamic);
        ValueId(self.graph.values.len() - 1)
    }
}

/// Refuses rows of more than [`MAX_ROW_ELEMENTS`].
fn limited(shape: Vec<usize>) -> Result<Vec<usize>, OpError> {
    let mut elements: usize = 1;
    for extent in &shape {
        elements = elements.saturating_mul(*extent);
    }
    if elements <= MAX_ROW_ELEMENTS {
        return Ok(shape);
    }
    Err(OpError::Shape {
        operand: "output",
        expected: format!("at most {MAX_ROW_ELEMENTS} numbers a row"),
        actual: shape,
    })
}

/// A node whose operator refuses its operands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GraphError {
    /// The node's name.
    pub node: String,
    /// The operator's ONNX name.
    pub operator: &'static str,
    /// What it refuses.
    pub error: OpError,
}

impl fmt::Display for GraphError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "layer \"{}\" ({}): {}",
            self.node, self.operator, self.error
        )
    }
}

impl std::error::Error for GraphError {}
