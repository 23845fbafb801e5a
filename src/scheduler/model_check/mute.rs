//! The queue over a condition variable that loses one wake-up in four: the check must notice.

#![allow(
    clippy::duplicate_mod,
    reason = "the product's files, over other threads"
)]

mod sync {
    pub(super) use crate::scheduler::model_check::threads::{Mutex, MutexGuard, now};
    pub(super) type Condvar = crate::scheduler::model_check::threads::Condvar<4>;
}
use crate::scheduler::policy;

#[path = "../batch.rs"]
mod batch;
#[allow(dead_code, reason = "one scenario does not call all of it")]
#[path = "../call.rs"]
mod call;
#[allow(dead_code, reason = "one scenario does not call all of it")]
#[path = "../dispatch.rs"]
mod dispatch;
#[allow(dead_code, reason = "one scenario does not call all of it")]
#[path = "../lanes.rs"]
mod lanes;
#[allow(dead_code, reason = "one scenario does not call all of it")]
#[path = "../place.rs"]
mod place;
#[path = "../queue.rs"]
mod queue;
#[allow(dead_code, reason = "one scenario is enough to show a deadlock")]
#[path = "scenarios.rs"]
mod scenarios;
#[path = "../worker_slots.rs"]
mod worker_slots;

#[test]
#[should_panic(expected = "deadlock")]
fn the_check_notices_a_lost_wake_up() {
    let scenario = || scenarios::mixed_sizes_in_two_lanes(scenarios::Fault::None);
    shuttle::check_random(scenario, 10_000);
}
