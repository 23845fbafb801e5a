//! Inputs that come in any order, each with its rows.

use super::hints::unknown_input;
use super::input::InputRows;
use super::rows::Rows;
use crate::http::error::{ApiError, ErrorCode};
use crate::model::Signature;

/// The inputs of a signature that came so far.
pub(in crate::http) struct ReceivedInputs<'a> {
    signature: &'a Signature,
    /// Of each input its rows, once they are there.
    inputs: Vec<Option<InputRows<'a>>>,
}

impl<'a> ReceivedInputs<'a> {
    pub(in crate::http) fn none(signature: &'a Signature) -> Self {
        Self {
            signature,
            inputs: vec![None; signature.inputs.len()],
        }
    }

    /// The position of the input of this name; `place` is where the client names it.
    ///
    /// # Errors
    /// 400 if the model has none.
    pub(in crate::http) fn index_of(
        &self,
        name: &str,
        place: impl Fn() -> String,
    ) -> Result<usize, ApiError> {
        let mut inputs = self.signature.inputs.iter();
        let found = inputs.position(|spec| spec.name == name);
        found.ok_or_else(|| unknown_input(name, &place(), self.signature))
    }

    /// Takes the rows of the input at this position.
    ///
    /// # Errors
    /// 400 if they came before.
    pub(in crate::http) fn put(
        &mut self,
        index: usize,
        rows: InputRows<'a>,
    ) -> Result<(), ApiError> {
        match self.inputs[index].replace(rows) {
            None => Ok(()),
            Some(before) => Err(ApiError::invalid(
                ErrorCode::DuplicateInput,
                format!("input {:?} comes twice", before.spec.name),
            )),
        }
    }

    /// The rows of all inputs. `place` is what they are called in messages.
    ///
    /// # Errors
    /// 400 if one did not come, and as [`Rows::join`].
    pub(in crate::http) fn finish(
        self,
        place: &'static str,
        max_rows: usize,
    ) -> Result<Rows, ApiError> {
        let mut inputs = Vec::with_capacity(self.inputs.len());
        for (input, spec) in self.inputs.into_iter().zip(&self.signature.inputs) {
            inputs.push(input.ok_or_else(|| {
                ApiError::invalid(
                    ErrorCode::MissingInput,
                    format!(
                        "{place}: input {:?}: expected {spec}, got none; add it to {place:?}",
                        spec.name
                    ),
                )
            })?);
        }
        Rows::join(place, inputs, max_rows)
    }
}
