//! gRPC as its clients meet it: over a socket, with a client that is not ours.

mod extensions;
mod infer;
mod server;
mod tensorflow;
mod tokens;
mod transport;
