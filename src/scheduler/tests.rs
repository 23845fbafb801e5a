//! Tests of the scheduler over real threads, and of its parts without any.

mod admission;
mod faults;
mod queue;
mod serving;
mod stage;
