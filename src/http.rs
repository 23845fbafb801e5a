//! The wire: HTTP routes, JSON in and out, one file a protocol.
//!
//! A request passes `exchange`, which gives it an id, times it, counts it and turns a panic
//! into an answer; then its protocol. A protocol decodes a body against the model's
//! signature, submits the rows to the model's lane and encodes the answer: only here is any wire
//! format known. Every failure on the way is an `error::ApiError`.
//!
//! A new protocol is one file with an `answer` function, a type with [`Format`](predict::Format) for each form of its
//! bodies, and its line in [`Routes`]; ARCHITECTURE.md has the rest.

mod access;
mod admin;
mod answer;
mod body;
mod budget;
#[cfg(feature = "compression")]
mod coding;
#[cfg(not(feature = "compression"))]
#[path = "http/plain.rs"]
mod coding;
mod csv;
mod deadline;
mod error;
mod exchange;
#[cfg(feature = "grpc")]
mod grpc;
mod health;
mod intake;
mod invocations;
mod limits;
mod log;
mod media;
mod naming;
mod ndjson;
mod openapi;
mod operations;
mod outputs;
mod path;
mod predict;
mod predictions;
mod routes;
mod rows;
mod state;
mod unnamed;
mod v1;
mod v2;
mod vertex;

pub use admin::{AdminRoutes, Controls};
pub(crate) use exchange::{REQUEST_ID, new_request_id};
#[cfg(feature = "grpc")]
pub use grpc::{GrpcBody, GrpcRoutes};
pub use limits::HttpLimits;
pub use naming::{Naming, VertexRoutes};
pub use operations::OperationsRoutes;
pub use routes::Routes;
pub use state::App;
