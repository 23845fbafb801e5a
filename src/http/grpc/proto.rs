//! The messages of `proto/`, as `build.rs` makes them. Those that carry tensors in are read with
//! [`fields`](super::fields) instead.

#![allow(
    dead_code,
    missing_docs,
    unreachable_pub,
    clippy::all,
    reason = "made by prost-build"
)]

include!(concat!(env!("OUT_DIR"), "/protos.rs"));

/// All files of `proto/` and those that they import, as a `FileDescriptorSet`.
pub(super) const DESCRIPTORS: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/descriptors.bin"));
