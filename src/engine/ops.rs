//! The operators: one file an operator or a tight family.

mod activation;
mod arithmetic;
mod batch_normalization;
mod binary;
mod concat;
mod expand;
mod gather;
mod gemm;
mod layer_normalization;
mod mean_pooling;
mod prelu;
mod reduce;
mod reshape;
mod scaler;
mod softmax;
mod split;
mod transpose;
mod unary;

pub use activation::Elementwise;
pub use arithmetic::{Max, Mean, Min, Mul, Sum};
pub use batch_normalization::BatchNormalization;
pub use binary::Binary;
pub use concat::Concat;
pub use expand::Expand;
pub use gather::Gather;
pub use gemm::Gemm;
pub use layer_normalization::LayerNormalization;
pub use mean_pooling::MeanPooling;
pub use prelu::PRelu;
pub use reduce::{LpNormalization, Reduce};
pub use reshape::{Identity, Reshape};
pub use scaler::Scaler;
pub use softmax::{LogSoftmax, Softmax};
pub use split::Split;
pub use transpose::Transpose;
pub use unary::Unary;
