//! One node on its way into the engine's graph: what operators see of it.

use std::sync::Arc;

use ndarray::ArrayD;

use super::attributes::Attributes;
use crate::engine::{GraphBuilder, OpError, Operator, ValueId};

/// Adds what computes a node.
pub(super) type Lower = fn(&mut Call<'_>) -> Result<ValueId, String>;

/// A value of a network that is being built.
#[derive(Clone, Debug)]
pub(super) enum Value {
    /// One for each row of a batch.
    Rows(ValueId),
    /// The same for all rows.
    Constant(Arc<ArrayD<f32>>),
}

/// One node on its way into the engine's graph.
pub(super) struct Call<'a> {
    pub(super) graph: &'a mut GraphBuilder,
    pub(super) name: &'a str,
    pub(super) operands: Vec<Option<Value>>,
    pub(super) attributes: Attributes,
}

impl Call<'_> {
    pub(super) fn run(&mut self, lower: Lower) -> Result<ValueId, String> {
        let some = |operand: &Option<Value>| matches!(operand, Some(Value::Rows(_)));
        if !self.operands.iter().any(some) {
            return Err(
                "none of its inputs depends on the rows; expected one, or its result as a weight"
                    .into(),
            );
        }
        let output = lower(self)?;
        self.attributes.finish()?;
        Ok(output)
    }

    /// Refuses other numbers of operands.
    pub(super) fn expect_operands(&self, least: usize, most: usize) -> Result<(), String> {
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
        Err(format!("expected {expected}, got {given}"))
    }

    /// An operand that depends on the rows.
    pub(super) fn rows(&self, index: usize) -> Result<ValueId, String> {
        match self.operands.get(index) {
            Some(Some(Value::Rows(value))) => Ok(*value),
            Some(Some(Value::Constant(_))) => Err(format!(
                "input {index} is a weight; expected what depends on the rows"
            )),
            Some(None) | None => Err(format!("input {index} is missing")),
        }
    }

    /// An operand that is the same for all rows, if it is there.
    pub(super) fn weight(&self, index: usize) -> Result<Option<Arc<ArrayD<f32>>>, String> {
        match self.operands.get(index) {
            Some(Some(Value::Constant(values))) => Ok(Some(values.clone())),
            Some(Some(Value::Rows(_))) => Err(format!(
                "input {index} depends on the rows; expected a weight"
            )),
            Some(None) | None => Ok(None),
        }
    }

    /// An operand that is the same for all rows.
    pub(super) fn required_weight(&self, index: usize) -> Result<Arc<ArrayD<f32>>, String> {
        self.weight(index)?
            .ok_or_else(|| format!("input {index} is missing"))
    }

    /// The extents of one row of a value.
    pub(super) fn shape(&self, value: ValueId) -> Vec<usize> {
        self.graph.shape(value).to_vec()
    }

    /// Adds an operator of the engine.
    pub(super) fn emit(
        &mut self,
        operator: impl Operator + 'static,
        inputs: &[ValueId],
    ) -> Result<ValueId, String> {
        let node = self.graph.node(self.name, operator, inputs);
        node.map_err(|error| self.explained(error.error))
    }

    /// An operator's refusal. Its shapes are those of one row.
    pub(super) fn explained(&self, error: OpError) -> String {
        match error {
            OpError::Shape { .. } => format!("{error} (without the rows' axis)"),
            _ => error.to_string(),
        }
    }

    /// An axis among those of a row, from one that counts the rows as axis 0.
    pub(super) fn row_axis(&self, axis: i64, row_rank: usize) -> Result<usize, String> {
        let rank = row_rank as i64 + 1;
        let counted = if axis < 0 { axis + rank } else { axis };
        match counted {
            0 => Err(format!(
                "axis {axis} is that of the rows, which never mix; expected another"
            )),
            _ if (1..rank).contains(&counted) => Ok(counted as usize - 1),
            _ => Err(format!(
                "axis {axis}: expected -{} to {}, the rows being axis 0",
                rank - 1,
                rank - 1
            )),
        }
    }
}
