//! The operators: one file an operator or a tight family.

mod activation;
mod arithmetic;
mod batch_normalization;
mod concat;
mod gemm;
mod layer_normalization;
mod prelu;
mod reshape;
mod scaler;
mod softmax;

pub use activation::Elementwise;
pub use arithmetic::{Max, Mean, Mul, Sum};
pub use batch_normalization::BatchNormalization;
pub use concat::Concat;
pub use gemm::Gemm;
pub use layer_normalization::LayerNormalization;
pub use prelu::PRelu;
pub use reshape::{Identity, Reshape};
pub use scaler::Scaler;
pub use softmax::{LogSoftmax, Softmax};
