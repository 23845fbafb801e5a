//! gRPC: the same models, limits, keys and failures, on a listener of its own.
//!
//! A request's path names a service and a method. Framing is here, and the services that are
//! gRPC's own; what a protocol's methods mean is the protocol's: [`v2`](super::v2) has the Open
//! Inference Protocol, [`v1`](super::v1) TensorFlow Serving's services. A failure is an
//! [`ApiError`] as everywhere, and becomes a code and a message in [`answer`] alone.
//!
//! No framework for servers is used. Those that there are read a message whole, into memory that its
//! client asked for, before anyone can look at its model, its key or the budget; what they would
//! save is the prefix of five bytes.
//!
//! Source: `PROTOCOL-HTTP2.md` of gRPC.

mod answer;
mod call;
mod fields;
mod health;
mod messages;
mod proto;
mod reflection;
mod routes;
mod status;
mod timeout;

pub(super) use answer::{Sender, framed, message, prefixed};
pub(super) use call::{Call, MessagePart, Streaming, receive, until_closing};
pub(super) use fields::{Fields, Malformed, Packed, Value};
pub(super) use messages::Messages;
pub(super) use proto::{inference, tensorflow};

pub use answer::GrpcBody;
pub use routes::GrpcRoutes;
