//! Panics and numbers that are not finite: they fail the request that caused them, alone.

use std::time::Duration;

use crate::request::InferError;
use crate::scheduler::SchedulerSettings;
use crate::scheduler::tests::fixture::{
    AN_HOUR, Fixture, Gate, SETTINGS, plus_one, request, submit, values, wait,
};

/// `y = x + 1`, but panics if a row is this.
const PANICS: f32 = -1.0;

/// `y = x + 1`, but this row gives an infinity.
const OVERFLOWS: f32 = f32::MAX;

fn poisoned(x: &[f32], y: &mut [f32]) {
    plus_one(x, y);
    assert!(!x.contains(&PANICS), "a row to panic at");
    for (x, y) in x.iter().zip(y) {
        *y = if *x == OVERFLOWS { f32::INFINITY } else { *y };
    }
}

#[test]
fn a_row_that_panics_fails_its_own_request_and_the_worker_lives_on() {
    let fixture = Fixture::new(SETTINGS);
    let (gate, pass) = Gate::new();
    let lane = fixture.lane("m", move |x, y| {
        pass(x, y);
        poisoned(x, y);
    });
    let blocker = submit(&lane, request(&[0.0]));
    assert_eq!(gate.entered(), [0.0]);
    let before = submit(&lane, request(&[1.0]));
    let poison = submit(&lane, request(&[PANICS]));
    let after = submit(&lane, request(&[2.0, 3.0]));
    gate.open();
    assert_eq!(gate.pass(), [1.0, PANICS, 2.0, 3.0]);
    // Each alone.
    assert_eq!(gate.pass(), [1.0]);
    assert_eq!(gate.pass(), [PANICS]);
    assert_eq!(gate.pass(), [2.0, 3.0]);
    assert!(wait(blocker).is_ok());
    assert_eq!(values(wait(before)), [2.0]);
    assert_eq!(wait(poison), Err(InferError::Panicked));
    assert_eq!(values(wait(after)), [3.0, 4.0]);
    let next = submit(&lane, request(&[4.0]));
    gate.pass();
    assert_eq!(values(wait(next)), [5.0]);
    assert_eq!(fixture.rejected("m", "panic"), 1.0);
    // The batch, and the poison alone.
    let panics = r#"safeserve_panics_total{model="m",version="1"}"#;
    assert_eq!(fixture.metric(panics), 2.0);
    // Rows of passes that panicked gave nothing: 1 + 1 + 2 + 1 did.
    let rows = r#"safeserve_rows_total{model="m",version="1"}"#;
    assert_eq!(fixture.metric(rows), 5.0);
}

#[test]
fn the_rest_of_a_request_that_panicked_is_not_computed() {
    let fixture = Fixture::new(SETTINGS);
    let (gate, pass) = Gate::new();
    let lane = fixture.lane("m", move |x, y| {
        pass(x, y);
        poisoned(x, y);
    });
    let poison = submit(&lane, request(&[PANICS; 11]));
    assert_eq!(gate.entered(), [PANICS; 4]);
    let healthy = submit(&lane, request(&[1.0]));
    gate.open();
    assert_eq!(gate.pass(), [1.0]);
    assert_eq!(wait(poison), Err(InferError::Panicked));
    assert_eq!(values(wait(healthy)), [2.0]);
}

#[test]
fn an_answer_that_is_not_finite_fails_its_own_request() {
    let fixture = Fixture::new(SETTINGS);
    let (gate, pass) = Gate::new();
    let lane = fixture.lane("m", move |x, y| {
        pass(x, y);
        poisoned(x, y);
    });
    let blocker = submit(&lane, request(&[0.0]));
    assert_eq!(gate.entered(), [0.0]);
    let healthy = submit(&lane, request(&[1.0]));
    let poison = submit(&lane, request(&[2.0, OVERFLOWS, OVERFLOWS]));
    gate.open();
    gate.pass();
    assert!(wait(blocker).is_ok());
    assert_eq!(values(wait(healthy)), [2.0]);
    let error = InferError::NonFinite { output: 0, row: 1 };
    assert_eq!(wait(poison), Err(error));
    assert_eq!(fixture.rejected("m", "non_finite"), 1.0);
}

#[test]
fn the_row_that_is_not_finite_is_named_by_its_place_in_the_request() {
    let fixture = Fixture::new(SETTINGS);
    let lane = fixture.lane("m", poisoned);
    let mut rows = [1.0; 11];
    rows[9] = OVERFLOWS;
    let error = InferError::NonFinite { output: 0, row: 9 };
    assert_eq!(wait(lane.submit(request(&rows))), Err(error));
}

#[test]
fn a_model_may_be_told_to_give_what_is_not_finite() {
    let fixture = Fixture::new(SETTINGS);
    let lane = fixture.lane_with("m", true, poisoned);
    let answer = wait(lane.submit(request(&[1.0, OVERFLOWS])));
    assert_eq!(values(answer), [2.0, f32::INFINITY]);
}

#[test]
fn an_inline_run_fails_like_a_batch() {
    let fixture = Fixture::new(SchedulerSettings {
        inline_cost: AN_HOUR,
        ..SETTINGS
    });
    let lane = fixture.lane("m", poisoned);
    lane.warm_up().unwrap();
    let inline = |rows: &[f32]| {
        let answer = wait(lane.submit(request(rows)));
        if let Ok(response) = &answer {
            assert_eq!(response.timing.queue, Duration::ZERO);
        }
        answer
    };
    assert_eq!(inline(&[PANICS]), Err(InferError::Panicked));
    let error = InferError::NonFinite { output: 0, row: 1 };
    assert_eq!(inline(&[1.0, OVERFLOWS]), Err(error));
    assert_eq!(values(inline(&[1.0])), [2.0]);
    let inline_batches = r#"safeserve_batches_total{model="m",release="inline",version="1"}"#;
    assert_eq!(fixture.metric(inline_batches), 3.0);
}

#[test]
fn a_model_that_panics_at_zeros_is_found_out_by_its_warm_up() {
    let fixture = Fixture::new(SETTINGS);
    let lane = fixture.lane("m", |_, _| panic!("whatever comes"));
    assert_eq!(lane.warm_up(), Err(InferError::Panicked));
    let panics = r#"safeserve_panics_total{model="m",version="1"}"#;
    assert_eq!(fixture.metric(panics), 0.0, "it is no request's");
}

#[test]
fn a_warm_up_tells_which_output_is_not_finite_and_its_model_serves_on() {
    let fixture = Fixture::new(SETTINGS);
    let reciprocal = |x: &[f32], y: &mut [f32]| {
        for (x, y) in x.iter().zip(y) {
            *y = x.recip();
        }
    };
    let lane = fixture.lane("m", reciprocal);
    let found = lane.warm_up().map(|warm_up| warm_up.non_finite_output);
    assert_eq!(found, Ok(Some(0)));
    assert_eq!(values(wait(lane.submit(request(&[2.0])))), [0.5]);
    assert_eq!(
        fixture.rejected("m", "non_finite"),
        0.0,
        "it is no request's"
    );
    let allowed = fixture.lane_with("allowed", true, reciprocal);
    let found = allowed.warm_up().map(|warm_up| warm_up.non_finite_output);
    assert_eq!(found, Ok(None));
}

#[test]
fn a_worker_that_hangs_is_replaced_and_its_request_is_answered() {
    let fixture = Fixture::new(SETTINGS);
    let (gate, pass) = Gate::new();
    let stuck = fixture.lane("stuck", pass);
    let sound = fixture.lane("sound", plus_one);
    let hung = submit(&stuck, request(&[1.0]));
    gate.entered();
    let waiting = submit(&sound, request(&[2.0]));
    // Nothing is wrong yet.
    assert_eq!(fixture.scheduler.replace_workers(Some(AN_HOUR)), 0);
    assert!(!fixture.scheduler.is_stalled(AN_HOUR));
    std::thread::yield_now();
    assert!(fixture.scheduler.is_stalled(Duration::ZERO));

    assert_eq!(fixture.scheduler.replace_workers(Some(Duration::ZERO)), 1);
    assert_eq!(wait(hung), Err(InferError::Panicked));
    assert_eq!(values(wait(waiting)), [3.0]);
    assert_eq!(fixture.scheduler.replace_workers(Some(AN_HOUR)), 0);
    assert!(!fixture.scheduler.is_stalled(Duration::ZERO));

    // The pass ends after all: its worker ends with it, and the other goes on.
    gate.open();
    for row in [3.0, 4.0] {
        let next = submit(&sound, request(&[row]));
        assert_eq!(values(wait(next)), [row + 1.0]);
    }
    fixture.scheduler.close();
}

/// What a panic is called with, and whose own end is a panic with the next: one more than the
/// worker catches.
struct Grenade(usize);

impl Drop for Grenade {
    fn drop(&mut self) {
        if self.0 > 0 {
            std::panic::panic_any(Self(self.0 - 1));
        }
    }
}

#[test]
fn a_worker_that_dies_is_replaced_and_its_requests_are_answered() {
    let fixture = Fixture::new(SETTINGS);
    let lane = fixture.lane("m", |x, y| {
        plus_one(x, y);
        if x.contains(&PANICS) {
            std::panic::panic_any(Grenade(2));
        }
    });
    assert_eq!(fixture.scheduler.replace_workers(None), 0);
    let fatal = submit(&lane, request(&[PANICS]));
    while fixture.scheduler.replace_workers(None) == 0 {
        std::thread::yield_now();
    }
    assert_eq!(wait(fatal), Err(InferError::Panicked));
    let next = submit(&lane, request(&[1.0]));
    assert_eq!(values(wait(next)), [2.0]);
}
