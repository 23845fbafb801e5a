//! Intake: what a client sends for an input, checked against the model's declaration of it, and put
//! into the values that the engine or the step before it reads. The same for every protocol.
//!
//! A protocol finds out which bytes are meant for which input, and in which form. From there on it is
//! here: [`InputRows`] takes the rows of one input, from nested arrays of JSON, from a tensor whose
//! datatype and shape were [declared](Declared), from bytes, from cells or from whole rows; and
//! [`Rows::join`] makes a request of all inputs, and says where one has other rows than the rest.

mod base64;
pub(super) mod binary;
mod cell;
mod declared;
#[cfg(feature = "grpc")]
mod fields;
mod hints;
mod input;
mod json;
mod received;
mod rows;

pub(super) use base64::is_base64;
pub(super) use declared::{Declared, Form, Given, Size, check};
pub(super) use hints::{row_hint, too_many_rows, unknown_input};
pub(super) use input::InputRows;
pub(super) use json::{count, read_row};
pub(super) use received::ReceivedInputs;
pub(super) use rows::Rows;

#[cfg(test)]
mod tests;
