//! What readers of networks need to know about a layer of Keras or PyTorch: its names, how its
//! configuration is read in each framework, and how its weights are named.
//!
//! The layers themselves are in [`layers`](crate::model::layers).

mod keras;
mod role;
mod sequential;

use crate::model::json::JsonError;
use crate::model::lowering::Lower;

pub(in crate::model) use keras::{KerasLayer, KerasModel, described};
pub use role::Role;
pub(in crate::model) use sequential::SequentialLayer;

/// A layer as a network applies it, or what is wrong with its configuration.
pub(in crate::model) type Read = Result<Box<dyn Lower>, JsonError>;

/// A layer by its names, as its file in `layers/` defines it.
#[derive(Debug)]
pub struct Definition {
    /// Its `type` in family `sequential`.
    pub name: &'static str,
    /// Reads it there.
    pub(in crate::model) sequential: fn(&mut SequentialLayer<'_>) -> Read,
    /// The classes that Keras has for it.
    pub keras: &'static [&'static str],
    /// Reads one of these classes.
    pub(in crate::model) read_keras: fn(&mut KerasLayer<'_>) -> Read,
    /// The modules of `torch.nn` that the exporter makes this layer of.
    pub torch: &'static [&'static str],
    /// Its weights.
    pub roles: &'static [Role],
}

#[cfg(feature = "train")]
impl Definition {
    /// One of the layer's weights by its role.
    ///
    /// # Panics
    /// If the layer has no such role.
    pub(crate) fn role(&self, name: &str) -> &'static Role {
        let found = self.roles.iter().find(|role| role.name == name);
        found.unwrap_or_else(|| panic!("{} has no weight {name}", self.name))
    }
}
