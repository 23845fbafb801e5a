//! Tests of the scheduler over real threads, and of its parts without any.

mod admission;
mod faults;
mod queue;
mod seats;
mod serving;
mod stage;
