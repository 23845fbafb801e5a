//! Tests of the crate as its users meet it, a module for each behaviour.

// A failed step of a test fails the test; clippy knows test functions but not what they call.
#![allow(clippy::unwrap_used)]
// The fuzzer's library, which `corpus` includes, uses the server of the tests in `http`, and that uses
// `parts`.
#![allow(clippy::duplicate_mod)]

mod architecture;
mod compare;
mod connections;
mod corpus;
mod dependencies;
mod disconnects;
mod gate;
mod golden;
#[cfg(feature = "grpc")]
mod grpc;
mod http;
mod model_files;
mod model_refusals;
mod model_signature;
mod model_size;
mod model_weights;
mod models_doc;
mod parts;
mod process;
mod reload;
mod security;
mod token_models;
#[cfg(feature = "train")]
mod train;
