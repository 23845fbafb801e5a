//! Refusals, deadlines and callers that leave.

use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::request::{InferError, InferRequest, Load};
use crate::scheduler::SchedulerSettings;
use crate::scheduler::dispatch::Dispatch;
use crate::scheduler::lanes::{Rules, Work};
use crate::scheduler::policy::HoldPolicy;
use crate::scheduler::tests::fixture::{
    AN_HOUR, Fixture, Gate, SETTINGS, Submitted, request, submit, values, wait,
    wait_on_a_jumping_clock,
};

/// A lane whose queue is all there is, with what a unit of it would cost. A batch has 8.
struct Unworked(Duration);

impl Work for Unworked {
    fn set_queued_rows(&self, _rows: usize) {}

    fn limit(&self) -> Load {
        Load { rows: 8, units: 8 }
    }

    fn cost(&self, units: usize) -> Duration {
        self.0 * u32::try_from(units).unwrap()
    }

    fn pays_to_share(&self, _load: Load) -> bool {
        false
    }
}

fn dispatch(workers: usize) -> Dispatch<Unworked> {
    Dispatch::new(Rules {
        workers,
        max_queued_rows: 100,
        hold: HoldPolicy {
            max_batch_delay: Duration::ZERO,
        },
    })
}

#[test]
fn a_full_lane_says_when_to_come_back() {
    let dispatch = dispatch(2);
    let lane = dispatch.add_lane(Arc::new(Unworked(Duration::from_millis(250))));
    let _waiting = dispatch.push(lane, request(&[0.0; 60])).unwrap();
    let refused = dispatch.push(lane, request(&[0.0; 41])).err();
    assert_eq!(
        refused,
        Some(InferError::Overloaded {
            queued_rows: 60,
            max_queued_rows: 100,
            // 60 rows of 0.25 s each, by two workers.
            retry_after: Duration::from_millis(7_500),
        })
    );
    assert!(dispatch.push(lane, request(&[0.0; 40])).is_ok());
    dispatch.check_invariants();
}

#[test]
fn what_waits_is_counted_in_units_and_what_others_take_by_turns() {
    let dispatch = dispatch(1);
    let [own, other] =
        [1, 100].map(|millis| dispatch.add_lane(Arc::new(Unworked(Duration::from_millis(millis)))));
    let texts = |offsets: Vec<usize>| InferRequest {
        rows: offsets.len() - 1,
        offsets: vec![offsets],
        ..request(&vec![0.0; 100])
    };
    let retry_after = || match dispatch.overload(own, 100) {
        Some(InferError::Overloaded { retry_after, .. }) => retry_after.as_millis(),
        refused => panic!("{refused:?}"),
    };
    // Three texts of 20 tokens: three batches, the tokens being the most of each.
    let _texts = dispatch.push(own, texts(vec![0, 6, 14, 20])).unwrap();
    assert_eq!(retry_after(), 20);
    // Of 40 rows, in five batches, three have their turn meanwhile.
    let _rows = dispatch.push(other, request(&[0.0; 40])).unwrap();
    assert_eq!(retry_after(), 20 + 3 * 8 * 100);
    dispatch.check_invariants();
}

#[test]
fn a_deadline_that_cannot_be_met_is_refused_at_once() {
    let dispatch = dispatch(2);
    let lane = dispatch.add_lane(Arc::new(Unworked(Duration::from_secs(100))));
    let push = |seconds| {
        let mut request = request(&[0.0]);
        request.deadline = Some(Instant::now() + Duration::from_secs(seconds));
        dispatch.push(lane, request)
    };
    // An empty lane refuses none: an estimate far too high is put right by what runs.
    let waiting = push(50).unwrap();
    let _more = dispatch.push(lane, request(&[0.0; 59])).unwrap();
    // 60 rows of 100 s each, by two workers, and then its own.
    assert_eq!(push(2_900).err(), Some(InferError::DeadlineExceeded));
    assert_eq!(push(3_050).err(), Some(InferError::DeadlineExceeded));
    assert!(push(3_200).is_ok());
    drop(waiting);
    dispatch.check_invariants();
    assert_eq!(push(0).err(), Some(InferError::DeadlineExceeded));
}

#[test]
fn a_full_lane_refuses_and_an_empty_one_takes_any_request() {
    let fixture = Fixture::new(SETTINGS);
    let (gate, run) = Gate::new();
    let lane = fixture.lane("m", run);
    let taken = submit(&lane, request(&[1.0]));
    assert_eq!(gate.entered(), [1.0]);
    let larger_than_the_lane = submit(&lane, request(&[2.0; 20]));
    assert_eq!(lane.queued_rows(), 20);
    let refused = wait(lane.submit(request(&[3.0])));
    assert!(
        matches!(
            refused,
            Err(InferError::Overloaded {
                queued_rows: 20,
                max_queued_rows: 8,
                ..
            })
        ),
        "{refused:?}"
    );
    assert_eq!(fixture.rejected("m", "queue_full"), 1.0);
    gate.open();
    for _ in 0..5 {
        assert_eq!(gate.pass(), [2.0; 4]);
    }
    assert!(wait(taken).is_ok());
    assert_eq!(values(wait(larger_than_the_lane)), [3.0; 20]);
}

#[test]
fn a_caller_that_leaves_takes_its_rows_along_uncomputed() {
    let fixture = Fixture::new(SETTINGS);
    let (gate, run) = Gate::new();
    let lane = fixture.lane("m", run);
    let taken = submit(&lane, request(&[1.0]));
    assert_eq!(gate.entered(), [1.0]);
    let leaving = submit(&lane, request(&[2.0, 2.0]));
    let staying = submit(&lane, request(&[3.0]));
    assert_eq!(lane.queued_rows(), 3);
    drop(leaving);
    assert_eq!(lane.queued_rows(), 1);
    assert_eq!(fixture.scheduler.in_flight(), 2);
    // Of a batch that is being computed, only the answer is dropped.
    drop(taken);
    gate.open();
    assert_eq!(gate.pass(), [3.0]);
    assert_eq!(values(wait(staying)), [4.0]);
    assert_eq!(fixture.rejected("m", "cancelled"), 2.0);
}

#[test]
fn a_request_that_expires_in_the_queue_is_told_at_once_and_not_computed() {
    let fixture = Fixture::new(SETTINGS);
    let (gate, run) = Gate::new();
    let lane = fixture.lane("m", run);
    let taken = submit(&lane, request(&[1.0]));
    assert_eq!(gate.entered(), [1.0]);
    let expired = wait_on_a_jumping_clock(async || {
        let mut request = request(&[2.0]);
        request.deadline = Some(Instant::now() + AN_HOUR);
        lane.submit(request).await
    });
    assert_eq!(expired, Err(InferError::DeadlineExceeded));
    assert_eq!(lane.queued_rows(), 0, "the worker is still busy");
    let patient = submit(&lane, request(&[3.0]));
    gate.open();
    assert_eq!(gate.pass(), [3.0]);
    assert!(wait(taken).is_ok());
    assert!(wait(patient).is_ok());
    assert_eq!(fixture.rejected("m", "deadline"), 1.0);
}

#[test]
fn a_request_whose_deadline_has_passed_is_refused_where_it_would_have_run() {
    for inline_cost in [Duration::ZERO, AN_HOUR] {
        let fixture = Fixture::new(SchedulerSettings {
            inline_cost,
            ..SETTINGS
        });
        let lane = fixture.lane("m", |x, y| {
            assert_eq!(x[0], 0.0, "only the warm-up runs");
            y.fill(0.0);
        });
        lane.warm_up().unwrap();
        let mut late = request(&[1.0]);
        late.deadline = Some(Instant::now());
        let answer = wait(lane.submit(late));
        assert_eq!(answer, Err(InferError::DeadlineExceeded));
        assert_eq!(fixture.rejected("m", "deadline"), 1.0);
    }
}

#[test]
fn an_answer_in_time_is_not_touched_by_its_deadline() {
    let fixture = Fixture::new(SETTINGS);
    let (gate, run) = Gate::new();
    let lane = fixture.lane("m", run);
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .build()
        .unwrap();
    let mut request = request(&[1.0]);
    request.deadline = Some(Instant::now() + AN_HOUR);
    let _context = runtime.enter();
    let submitted: Submitted<'_> = submit(&lane, request);
    gate.pass();
    assert_eq!(values(runtime.block_on(submitted)), [2.0]);
}
