//! Tensors at the edge of the engine, as a signature names them: element types, shapes and values.
//!
//! Inside the engine values are plain `f32` slices whose shapes were settled at load.

mod element;
mod shape;
mod spec;
mod values;

pub use element::DataType;
pub use shape::{Axis, Domain, Extent, Shape};
pub use spec::TensorSpec;
pub use values::{ByteStrings, ByteStringsView, Values, View};
