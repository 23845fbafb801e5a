//! The messages of `proto/onnx/`, as `build.rs` makes them.

#![allow(
    dead_code,
    missing_docs,
    unreachable_pub,
    clippy::all,
    reason = "made by prost-build"
)]

include!(concat!(env!("OUT_DIR"), "/onnx_file.rs"));

pub(super) use onnx::*;
