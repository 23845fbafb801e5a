//! The queue as it is: every schedule must pass.

#![allow(
    clippy::duplicate_mod,
    reason = "the product's files, over other threads"
)]

mod sync {
    pub(super) use crate::scheduler::model_check::threads::{Mutex, MutexGuard, now};
    pub(super) type Condvar = crate::scheduler::model_check::threads::Condvar<0>;
}
use crate::scheduler::policy;

#[path = "../batch.rs"]
mod batch;
#[path = "../call.rs"]
mod call;
#[path = "../dispatch.rs"]
mod dispatch;
#[path = "history.rs"]
mod history;
#[path = "../lanes.rs"]
mod lanes;
#[path = "../place.rs"]
mod place;
#[path = "../queue.rs"]
mod queue;
#[path = "scenarios.rs"]
mod scenarios;
#[path = "../worker_slots.rs"]
mod worker_slots;

use scenarios::Fault;

/// Schedules a scenario; all of them together take a few seconds.
const SCHEDULES: usize = 10_000;

fn check(scenario: fn(Fault)) {
    shuttle::check_random(move || scenario(Fault::None), SCHEDULES);
}

#[test]
fn every_row_is_computed_once_and_answers_its_own_caller() {
    check(scenarios::mixed_sizes_in_two_lanes);
}

#[test]
fn closing_a_full_lane_answers_what_was_accepted_and_refuses_the_rest() {
    check(scenarios::close_while_full);
}

#[test]
fn cancelled_calls_leave_the_queue_and_harm_no_neighbour() {
    check(scenarios::cancel_while_taken);
}

#[test]
fn expired_calls_are_not_computed_and_harm_no_neighbour() {
    check(scenarios::expire_while_taken);
}

#[test]
fn a_poison_row_fails_only_its_own_call() {
    check(scenarios::poison_among_neighbours);
}

#[test]
fn a_lane_waits_for_at_most_one_batch_of_another() {
    check(scenarios::turns);
}

#[test]
fn a_call_larger_than_a_batch_wakes_every_worker() {
    check(scenarios::parts_in_parallel);
}

#[test]
fn held_rows_are_taken_when_their_delay_ends() {
    check(scenarios::delayed_batches);
}

#[test]
fn a_lane_whose_batches_are_shared_has_one_at_a_time_and_loses_none() {
    check(scenarios::shared_batches);
}

#[test]
fn costly_inline_runs_never_overlap() {
    check(scenarios::inline_while_workers_run);
}

#[test]
fn a_lane_that_leaves_harms_no_other() {
    check(scenarios::lane_leaves);
}

/// Runs the first scenario with workers that misbehave.
fn check_notices(fault: Fault) {
    let scenario = scenarios::mixed_sizes_in_two_lanes;
    shuttle::check_random(move || scenario(fault), SCHEDULES);
}

#[test]
#[should_panic(expected = "was never answered")]
fn the_check_notices_a_lost_part() {
    check_notices(Fault::Loses);
}

#[test]
#[should_panic(expected = "was computed twice")]
fn the_check_notices_a_doubled_part() {
    check_notices(Fault::Doubles);
}

#[test]
#[should_panic(expected = "another row's answer")]
fn the_check_notices_a_misdelivered_part() {
    check_notices(Fault::Swaps);
}

#[test]
fn workers_may_be_given_up_at_any_moment() {
    check(scenarios::given_up_workers);
}

#[test]
fn rows_of_any_load_are_computed_once_while_the_limit_changes() {
    check(scenarios::unequal_rows);
}

#[test]
fn prepared_rows_are_computed_once_and_go_with_their_caller() {
    check(scenarios::prepared_calls);
}

#[test]
fn closing_finishes_what_is_being_prepared() {
    check(scenarios::close_while_preparing);
}
