//! Tests of the scheduler over real threads, and of its parts without any.

mod admission;
mod faults;
mod fixture;
mod queue;
mod serving;
mod worker_slots;
