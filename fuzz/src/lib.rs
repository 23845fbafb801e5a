//! The fuzz targets: functions that take bytes from outside and panic if the server breaks a promise on
//! them.
//!
//! `make fuzz` feeds them what libFuzzer invents; `tests/integration/corpus.rs` includes this file
//! and feeds them the committed corpus. If one byte selects what the others are for, it is the
//! first, from `a` on, so that a corpus can be read and written by hand.

mod answer;
mod connection;
mod files;
#[cfg(feature = "grpc")]
mod grpc;
mod models;
mod requests;
#[path = "../../tests/integration/http/server.rs"]
#[allow(dead_code)] // What only the tests of the routes need.
mod server;

pub use connection::connection;
pub use files::{keys, settings};
#[cfg(feature = "grpc")]
pub use grpc::grpc;
pub use models::{config, index, weights};
pub use requests::{infer, paths, predict, tables};

/// A target's name and function.
pub type Target = (&'static str, fn(&[u8]));

/// Every target by its name, which is that of its corpus and of its binary.
#[allow(dead_code)] // The binaries name one each.
pub const TARGETS: &[Target] = &[
    ("infer", infer),
    ("predict", predict),
    ("tables", tables),
    ("paths", paths),
    ("connection", connection),
    ("weights", weights),
    ("index", index),
    ("config", config),
    ("keys", keys),
    ("settings", settings),
    #[cfg(feature = "grpc")]
    ("grpc", grpc),
];

/// The choice that the first byte makes, and the other bytes.
fn choose<'a, T>(data: &'a [u8], choices: &'a [T]) -> Option<(&'a T, &'a [u8])> {
    let (&byte, rest) = data.split_first()?;
    Some((
        &choices[usize::from(byte.wrapping_sub(b'a')) % choices.len()],
        rest,
    ))
}
