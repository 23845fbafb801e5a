//! Tests of the scheduler over real threads, and of its parts without any.

mod admission;
mod faults;
mod fixture;
mod limits;
mod prepare;
mod queue;
mod serving;
mod tokens;
mod worker_slots;
