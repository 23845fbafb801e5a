//! What the queue's code uses of threads and time.
//!
//! The model check (`model_check.rs`) compiles the same code with other definitions of these
//! names, whose every step a test's scheduler orders.

pub(super) use std::sync::{Condvar, Mutex, MutexGuard};
use std::time::Instant;

/// The time by which rows age and deadlines pass: monotonic, so that no clock step moves it.
pub(super) fn now() -> Instant {
    Instant::now()
}
