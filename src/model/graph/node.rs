//! One node on its way into the engine's graph.

use std::ops::{Deref, DerefMut};

use super::attributes::Attributes;
use crate::model::lowering::{Call, Refusal, Value};

/// The application of a step that is a node, with the node's attributes.
pub(super) struct NodeCall<'c, 'a> {
    call: &'c mut Call<'a>,
    pub(super) attributes: Attributes,
}

impl<'c, 'a> NodeCall<'c, 'a> {
    pub(super) fn new(call: &'c mut Call<'a>, attributes: Attributes) -> Self {
        Self { call, attributes }
    }

    /// Refuses a node that computes the same for all rows.
    pub(super) fn expect_rows(&self) -> Result<(), Refusal> {
        let depends = |operand: &Option<Value>| matches!(operand, Some(Value::Rows(_)));
        match self.operands.iter().any(depends) {
            true => Ok(()),
            false => {
                Err("no input depends on the rows; expected one, or its result as a weight".into())
            }
        }
    }

    /// An axis among those of a row, from one that counts the rows as axis 0.
    pub(super) fn row_axis(&self, axis: i64, row_rank: usize) -> Result<usize, Refusal> {
        let rank = row_rank as i64 + 1;
        let counted = if axis < 0 { axis + rank } else { axis };
        match counted {
            0 => Err(
                format!("axis {axis} is that of the rows, which never mix; expected another")
                    .into(),
            ),
            _ if (1..rank).contains(&counted) => Ok(counted as usize - 1),
            _ => Err(format!(
                "axis {axis}: expected -{} to {}, the rows being axis 0",
                rank - 1,
                rank - 1
            )
            .into()),
        }
    }
}

impl<'a> Deref for NodeCall<'_, 'a> {
    type Target = Call<'a>;

    fn deref(&self) -> &Self::Target {
        self.call
    }
}

impl DerefMut for NodeCall<'_, '_> {
    fn deref_mut(&mut self) -> &mut Self::Target {
        self.call
    }
}
