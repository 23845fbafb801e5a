//! A network as a graph of operators over named inputs and outputs.

use std::fmt;
use std::ops::RangeInclusive;
use std::sync::Arc;

use super::constant::Constant;
use super::op::{OpError, Operand, Operator};
use crate::tensor::{Axis, DataType, Domain, Shape, TensorSpec};

/// A value of one graph: an input, a constant, or what a node computes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ValueId(pub(super) usize);

/// The most numbers in one item of a value: 64 MiB, as much as a picture of 2000 by 2000 with four
/// channels. Few enough that no product of extents and rows overflows and scratch memory can be
/// allocated.
pub const MAX_ROW_ELEMENTS: usize = 1 << 24;

/// One operator applied to values.
#[derive(Clone, Debug)]
pub struct Node {
    /// The name that errors use for it.
    pub name: String,
    /// What it computes.
    pub operator: Arc<dyn Operator>,
    /// The operands, in the operator's order.
    pub inputs: Vec<ValueId>,
    /// The values that it defines, in the operator's order; at least one.
    pub outputs: Vec<ValueId>,
}

impl Node {
    /// The value that the node defines, if it is only one.
    pub(super) fn only_output(&self) -> Option<ValueId> {
        match self.outputs[..] {
            [output] => Some(output),
            _ => None,
        }
    }
}

/// A network: a directed acyclic graph whose nodes are in an order in which they can run.
#[derive(Clone, Debug)]
pub struct Graph {
    /// By [`ValueId`].
    pub(super) values: Vec<Operand>,
    pub(super) nodes: Vec<Node>,
    pub(super) inputs: Vec<(ValueId, TensorSpec)>,
    pub(super) outputs: Vec<(ValueId, TensorSpec)>,
    /// The axes along which rows have several items.
    pub(super) axes: usize,
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
                axes: 0,
                parameters: 0,
            },
        }
    }

    /// Adds an input that each request sends.
    ///
    /// # Panics
    /// If its items are constants, or tokens of an axis while an earlier axis has no input.
    pub fn input(&mut self, spec: TensorSpec) -> ValueId {
        assert!(spec.shape.domain != Domain::Once, "each request sends it");
        if let Some(Axis(axis)) = spec.shape.axis() {
            assert!(axis <= self.graph.axes, "axes are numbered in order");
            self.graph.axes = self.graph.axes.max(axis + 1);
        }
        let value = self.value(Operand {
            datatype: spec.datatype,
            ..Operand::computed(spec.shape.clone())
        });
        self.graph.inputs.push((value, spec));
        value
    }

    /// Adds a trained weight: a constant that counts as the network's parameters.
    pub fn weight(&mut self, values: impl Into<Constant>) -> ValueId {
        let values = values.into();
        self.graph.parameters += values.stored().len();
        self.constant(values)
    }

    /// Adds values that are known at load.
    pub fn constant(&mut self, values: impl Into<Constant>) -> ValueId {
        self.value(Operand::known(values.into()))
    }

    /// Adds a node and returns the value that it computes; of several the first.
    ///
    /// # Errors
    /// [`GraphError`] if the operator refuses the operands.
    ///
    /// # Panics
    /// If an operand is of another graph.
    pub fn node(
        &mut self,
        name: &str,
        operator: impl Operator,
        inputs: &[ValueId],
    ) -> Result<ValueId, GraphError> {
        Ok(self.node_with_outputs(name, operator, inputs)?[0])
    }

    /// Adds a node and returns the values that it computes, in the operator's order.
    ///
    /// # Errors
    /// As [`GraphBuilder::node`].
    ///
    /// # Panics
    /// As [`GraphBuilder::node`].
    pub fn node_with_outputs(
        &mut self,
        name: &str,
        operator: impl Operator,
        inputs: &[ValueId],
    ) -> Result<Vec<ValueId>, GraphError> {
        let operator: Arc<dyn Operator> = Arc::new(operator);
        let operands: Vec<Operand> = inputs
            .iter()
            .map(|input| self.graph.values[input.0].clone())
            .collect();
        let shapes = shapes(&*operator, &operands).map_err(|error| GraphError {
            node: name.to_owned(),
            operator: operator.name(),
            error,
        })?;
        for (position, input) in inputs.iter().enumerate() {
            if let Some(range) = operator.range(&operands, position) {
                self.hold_to(*input, &range);
            }
        }
        let outputs: Vec<ValueId> = shapes
            .into_iter()
            .map(|shape| self.value(Operand::computed(shape)))
            .collect();
        self.graph.nodes.push(Node {
            name: name.to_owned(),
            operator,
            inputs: inputs.to_vec(),
            outputs: outputs.clone(),
        });
        Ok(outputs)
    }

    /// The extents of one item of a value.
    ///
    /// # Panics
    /// If the value is of another graph.
    #[must_use]
    pub fn shape(&self, value: ValueId) -> &[usize] {
        self.graph.values[value.0].extents()
    }

    /// What the items of a value are.
    ///
    /// # Panics
    /// If the value is of another graph.
    #[must_use]
    pub fn domain(&self, value: ValueId) -> Domain {
        self.graph.values[value.0].shape.domain
    }

    /// Makes a value an output under this name.
    ///
    /// # Errors
    /// [`OutputError`] if the value is the same in every pass, or not of single precision.
    ///
    /// # Panics
    /// If the value is of another graph.
    pub fn output(&mut self, name: &str, value: ValueId) -> Result<(), OutputError> {
        let Operand {
            shape, datatype, ..
        } = &self.graph.values[value.0];
        if shape.domain == Domain::Once {
            return Err(OutputError::Constant);
        }
        if *datatype != DataType::Fp32 {
            return Err(OutputError::Datatype(*datatype));
        }
        let spec = TensorSpec::new(name, DataType::Fp32, shape.clone());
        self.graph.outputs.push((value, spec));
        Ok(())
    }

    /// The finished graph.
    #[must_use]
    pub fn build(self) -> Graph {
        self.graph
    }

    fn value(&mut self, operand: Operand) -> ValueId {
        self.graph.values.push(operand);
        ValueId(self.graph.values.len() - 1)
    }

    /// Lets an input of the network have no other values than these.
    fn hold_to(&mut self, value: ValueId, range: &RangeInclusive<i64>) {
        let mut inputs = self.graph.inputs.iter_mut();
        if let Some((_, spec)) = inputs.find(|(input, _)| *input == value) {
            let (start, end) = match &spec.range {
                Some(own) => (*own.start().max(range.start()), *own.end().min(range.end())),
                None => (*range.start(), *range.end()),
            };
            spec.range = Some(start..=end);
        }
    }
}

/// The shapes of a node's outputs, at most [`MAX_ROW_ELEMENTS`] an item.
fn shapes(operator: &dyn Operator, operands: &[Operand]) -> Result<Vec<Shape>, OpError> {
    for (index, operand) in operands.iter().enumerate() {
        let expected = operator.datatype(index);
        if operand.datatype != expected {
            return Err(OpError::Datatype {
                operand: index,
                expected,
                actual: operand.datatype,
            });
        }
    }
    let shapes = operator.infer_shapes(operands)?;
    for shape in &shapes {
        let elements = shape.extents.iter().fold(1, |elements: usize, extent| {
            elements.saturating_mul(*extent)
        });
        if elements > MAX_ROW_ELEMENTS {
            return Err(OpError::Shape {
                operand: "output",
                expected: format!("at most {MAX_ROW_ELEMENTS} numbers a row"),
                actual: shape.extents.clone(),
            });
        }
    }
    Ok(shapes)
}

/// A value that cannot be an output of a network.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OutputError {
    /// It depends on no input.
    Constant,
    /// It is of this type: an input of look-ups.
    Datatype(DataType),
}

impl fmt::Display for OutputError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Constant => {
                f.write_str("it is a weight: the same for every row; expected what a node computes")
            }
            Self::Datatype(datatype) => write!(
                f,
                "it is an input of {datatype}; expected what a node computes"
            ),
        }
    }
}

impl std::error::Error for OutputError {}

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
