//! Loops over slices: the only unsafe code of the crate.
//!
//! Each loop is written once over vectors ([`simd`]) and compiled for AVX-512, for
//! AVX2 with FMA or for NEON, and portably; [`Isa`] chooses at run time. Callers pass
//! slices and sizes. Every function computes a row in an order that depends on
//! the row's length only: neither the number of rows, nor the row's position,
//! nor its neighbours change a bit of its result.

mod activation;
mod aligned;
#[cfg(test)]
mod digest;
#[cfg(test)]
mod documented_errors;
mod elementwise;
mod gemm;
mod isa;
pub mod machine_peak;
mod math;
pub mod pages;
mod rows;
mod simd;
mod sync;
mod team;
#[cfg(test)]
mod team_model_check;
#[cfg(test)]
mod team_tests;

pub use activation::Activation;
pub use elementwise::{add, maximum, minimum, multiply, normalize, prelu, scale_shift};
pub use gemm::{Gemm, Layout, Weights};
pub use isa::Isa;
pub use rows::{layer_normalization, log_softmax, softmax};
pub use team::Team;
