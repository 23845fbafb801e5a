//! One application of a step, and what the step can do there.

use std::fmt;
use std::sync::Arc;

use ndarray::ArrayD;

use super::constants::{Constants, GraphWeight, Weight};
use super::refusal::Refusal;
use crate::engine::{Constant, GraphBuilder, Operator, ValueId};
use crate::tensor::{DataType, Domain};

/// A step of a network: a layer, or an ONNX node.
pub(crate) trait Lower: fmt::Debug {
    /// What it takes: whole numbers if it looks them up, else numbers to compute with.
    fn datatype(&self) -> DataType {
        DataType::Fp32
    }

    /// Adds the operators that compute it, and gives the value that it computes.
    ///
    /// # Errors
    /// What it refuses of its inputs, weights or attributes.
    fn lower(&self, call: &mut Call<'_>) -> Result<ValueId, Refusal>;
}

/// A value of a network that is being built.
#[derive(Clone, Debug)]
pub(crate) enum Value {
    /// One for each row of a batch.
    Rows(ValueId),
    /// The same for all rows.
    Constant(Constant),
}

/// One application of a step on its way into the engine's graph.
pub(crate) struct Call<'a> {
    step: &'a str,
    /// What goes in; `None` where an operand is left out.
    pub(crate) operands: Vec<Option<Value>>,
    pub(crate) graph: &'a mut GraphBuilder,
    constants: &'a mut Constants,
}

impl<'a> Call<'a> {
    pub(super) fn new(
        step: &'a str,
        operands: Vec<Option<Value>>,
        graph: &'a mut GraphBuilder,
        constants: &'a mut Constants,
    ) -> Self {
        Self {
            step,
            operands,
            graph,
            constants,
        }
    }

    /// Refuses other numbers of operands.
    pub(crate) fn expect_operands(&self, least: usize, most: usize) -> Result<(), Refusal> {
        let given = self.operands.len();
        if (least..=most).contains(&given) {
            return Ok(());
        }
        let expected = match (least, most) {
            (1, 1) => "1 input".to_owned(),
            (least, most) if least == most => format!("{least} inputs"),
            (least, usize::MAX) => format!("at least {least} inputs"),
            (least, most) => format!("{least} to {most} inputs"),
        };
        Err(format!("expected {expected}, got {given}").into())
    }

    /// The only operand, which depends on the rows.
    pub(crate) fn only(&self) -> Result<ValueId, Refusal> {
        self.expect_operands(1, 1)?;
        self.rows(0)
    }

    /// All operands, which depend on the rows.
    pub(crate) fn all(&self) -> Result<Vec<ValueId>, Refusal> {
        (0..self.operands.len())
            .map(|index| self.rows(index))
            .collect()
    }

    /// An operand that depends on the rows.
    pub(crate) fn rows(&self, index: usize) -> Result<ValueId, Refusal> {
        match self.operands.get(index) {
            Some(Some(Value::Rows(value))) => Ok(*value),
            Some(Some(Value::Constant(_))) => {
                Err(format!("input {index} is a weight; expected what depends on the rows").into())
            }
            Some(None) | None => Err(format!("input {index} is missing").into()),
        }
    }

    /// An operand that is the same for all rows, if it is there.
    pub(crate) fn constant(&self, index: usize) -> Result<Option<Arc<ArrayD<f32>>>, Refusal> {
        let stored = self.stored_constant(index)?;
        Ok(stored.map(|values| values.to_f32()))
    }

    /// As [`Call::constant`], in the datatype in which it is stored.
    pub(crate) fn stored_constant(&self, index: usize) -> Result<Option<Constant>, Refusal> {
        match self.operands.get(index) {
            Some(Some(Value::Constant(values))) => Ok(Some(values.clone())),
            Some(Some(Value::Rows(_))) => {
                Err(format!("input {index} depends on the rows; expected a weight").into())
            }
            Some(None) | None => Ok(None),
        }
    }

    /// An operand that is the same for all rows.
    pub(crate) fn required_constant(&self, index: usize) -> Result<Arc<ArrayD<f32>>, Refusal> {
        self.constant(index)?
            .ok_or_else(|| format!("input {index} is missing").into())
    }

    /// The extents of one row of a value.
    pub(crate) fn shape(&self, value: ValueId) -> Vec<usize> {
        self.graph.shape(value).to_vec()
    }

    /// The extent of a value's last axis; 1 for a row of one number.
    pub(crate) fn columns(&self, value: ValueId) -> usize {
        self.graph.shape(value).last().copied().unwrap_or(1)
    }

    /// The number of axes before those of an item: that of the rows, and of tokens theirs.
    pub(crate) fn leading_axes(&self, value: ValueId) -> i64 {
        match self.graph.domain(value) {
            Domain::Tokens(_) => 2,
            Domain::Rows | Domain::Once => 1,
        }
    }

    /// Refuses a value of tokens.
    pub(crate) fn expect_rows(&self, value: ValueId) -> Result<(), Refusal> {
        match self.graph.domain(value) {
            Domain::Tokens(_) => Err(
                "works on whole rows, and its input has one item a token; pool \
                 the tokens of each row first"
                    .into(),
            ),
            Domain::Rows | Domain::Once => Ok(()),
        }
    }

    /// Refuses an axis, the rows being axis 0, that is not the last of a value.
    pub(crate) fn expect_last_axis(
        &self,
        axis: Option<i64>,
        value: ValueId,
    ) -> Result<(), Refusal> {
        let last = self.leading_axes(value) + self.graph.shape(value).len() as i64 - 1;
        match axis {
            Some(axis) if axis != -1 && axis != last => Err(format!(
                "works along axis {axis}, the rows being axis 0; only the last axis, here {last}, \
                 is supported"
            )
            .into()),
            _ => Ok(()),
        }
    }

    /// Adds an operator of the engine.
    pub(crate) fn emit(
        &mut self,
        operator: impl Operator,
        inputs: &[ValueId],
    ) -> Result<ValueId, Refusal> {
        Ok(self.graph.node(self.step, operator, inputs)?)
    }

    /// One of the step's own weights.
    pub(crate) fn weight(
        &mut self,
        role: &'static str,
        weight: &Weight,
    ) -> Result<GraphWeight, Refusal> {
        self.constants
            .find(self.graph, self.step, role, weight, None)
    }

    /// As [`Call::weight`], with `map` applied to each element. Elements for which it returns `None` are
    /// refused as negative.
    pub(crate) fn mapped_weight(
        &mut self,
        role: &'static str,
        weight: &Weight,
        map: fn(f32) -> Option<f32>,
    ) -> Result<GraphWeight, Refusal> {
        self.constants
            .find(self.graph, self.step, role, weight, Some(map))
    }

    /// As [`Call::weight`]; if there is none, `default` for each column.
    pub(crate) fn weight_or(
        &mut self,
        role: &'static str,
        weight: Option<&Weight>,
        columns: usize,
        default: f32,
    ) -> Result<GraphWeight, Refusal> {
        let default = Weight::Values(vec![default; columns]);
        self.weight(role, weight.unwrap_or(&default))
    }

    /// Names the weights that the step has found so far: role, tensor, shape and file.
    pub(crate) fn used_weights(&self) -> String {
        self.constants.used().join(", ")
    }
}
