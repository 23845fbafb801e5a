//! The routes in process: what clients send, and what they get for it.

mod binary;
#[cfg(feature = "compression")]
mod compression;
mod document;
mod edges;
mod extensions;
mod frames;
mod mutations;
mod openapi;
mod refusals;
#[cfg(feature = "grpc")]
mod secrets;
pub(crate) mod server;
pub(crate) mod tokens;
mod v1;
mod v2;
