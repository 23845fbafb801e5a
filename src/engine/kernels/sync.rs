//! What the team uses of atomics; its model check uses others of the same names.

/// How often a helper looks for work and finds none before it leaves: some 100 µs. Longer than the
/// kernels between two shared ones mostly take, and short against the system's time slices of milliseconds.
pub(super) const MAX_IDLE_SPINS: usize = 4096;

pub(super) use std::hint::spin_loop as pause;
pub(super) use std::sync::atomic::{AtomicBool, AtomicPtr, AtomicU64, AtomicUsize, Ordering};
