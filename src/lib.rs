//! safeserve serves safetensors models over HTTP on CPUs.
//!
//! A predict request, in one line:
//!
//! ```text
//! http::v2 decode -> request::InferRequest -> scheduler::Lane::submit
//!     => a worker: join rows -> engine::Engine::run -> split rows => http::v2 encode
//! ```
//!
//! From the top: [`cli`] reads arguments and [`config`] settings; [`server`] accepts connections and
//! drains; [`http`] speaks the wire formats; [`model`] turns directories into served versions;
//! [`scheduler`] queues and batches; [`engine`] computes. [`request`], [`tensor`] and [`versions`] are
//! what they pass on; [`metrics`], [`telemetry`] and [`lifecycle`] are what they report to; [`keys`]
//! says who may ask, [`watched`] reads such files again when they change. `bench` is a client: it loads a
//! server that runs and measures it.
//! Apart from serving: [`batch`] scores files; `train`, `onnx` and `bench`, each a cargo feature, make models
//! and load servers. [`csv`] and [`json`] are what rows come in.
//! ARCHITECTURE.md describes a request's path in full and which layer may import which.

#[cfg(all(feature = "faults", not(debug_assertions)))]
compile_error!("the feature `faults` is for tests: no release build has it");

pub mod batch;
#[cfg(feature = "bench")]
pub mod bench;
pub mod cli;
pub mod config;
mod csv;
pub mod engine;
pub mod http;
pub mod json;
pub mod keys;
pub mod lifecycle;
mod messages;
pub mod metrics;
pub mod model;
pub mod names;
#[cfg(feature = "import")]
pub mod onnx;
pub mod request;
pub mod scheduler;
pub mod server;
pub mod telemetry;
pub mod tensor;
#[cfg(feature = "train")]
pub mod train;
pub mod versions;
pub mod watched;
