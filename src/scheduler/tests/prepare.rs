//! Rows that are prepared before they are computed.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use crate::request::{InferError, RowError};
use crate::scheduler::SchedulerSettings;
use crate::scheduler::tests::fixture::{
    AN_HOUR, Fixture, Gate, SETTINGS, plus_one, request, submit, values, wait,
    wait_on_a_jumping_clock,
};

/// Preparing this panics.
const PANICS: f32 = -1.0;

/// This cannot be prepared.
const IS_REFUSED: f32 = -2.0;

/// This is prepared to one number too many.
const IS_TOO_LONG: f32 = -3.0;

/// What a step makes of some rows.
type Prepared = Result<Vec<f32>, RowError>;

/// Ten times each row.
fn times_ten(first: usize, rows: &[f32]) -> Prepared {
    assert!(!rows.contains(&PANICS), "a row to panic at");
    if let Some(row) = rows.iter().position(|&row| row == IS_REFUSED) {
        return Err(RowError {
            row: first + row,
            message: "expected a number that is not -2".to_owned(),
        });
    }
    let mut prepared: Vec<f32> = rows.iter().map(|row| 10.0 * row).collect();
    if rows.contains(&IS_TOO_LONG) {
        prepared.push(0.0);
    }
    Ok(prepared)
}

#[test]
fn rows_are_prepared_on_a_worker_and_then_computed() {
    // Everything that may run where it is decoded does.
    let fixture = Fixture::new(SchedulerSettings {
        inline_cost: AN_HOUR,
        ..SETTINGS
    });
    let threads = Arc::new(Mutex::new(Vec::new()));
    let seen = Arc::clone(&threads);
    let step = move |first, rows: &[f32]| {
        let name = thread::current().name().unwrap_or_default().to_owned();
        seen.lock().unwrap().push(name);
        times_ten(first, rows)
    };
    let lane = fixture.preparing_lane("m", step, plus_one);
    lane.warm_up().unwrap();
    let answer = wait(lane.submit(request(&[1.0, 2.0])));
    assert_eq!(values(answer), [11.0, 21.0]);
    let threads = threads.lock().unwrap();
    assert!(!threads.is_empty());
    assert!(threads.iter().all(|name| name == "worker-0"), "{threads:?}");
    assert_eq!((lane.queued_rows(), fixture.scheduler.in_flight()), (0, 0));
}

#[test]
fn a_request_larger_than_a_batch_is_prepared_in_parts_and_put_together_again() {
    let fixture = Fixture::new(SETTINGS);
    let parts = Arc::new(Mutex::new(Vec::new()));
    let seen = Arc::clone(&parts);
    let step = move |first, rows: &[f32]| {
        seen.lock().unwrap().push((first, rows.len()));
        times_ten(first, rows)
    };
    let lane = fixture.preparing_lane("m", step, plus_one);
    let rows: Vec<f32> = (0..11).map(|row| row as f32).collect();
    let answer = wait(lane.submit(request(&rows)));
    let expected: Vec<f32> = rows.iter().map(|row| 10.0 * row + 1.0).collect();
    assert_eq!(values(answer), expected);
    let parts = parts.lock().unwrap();
    assert_eq!(
        parts[..2],
        [(0, 1), (1, 4)],
        "one row until its cost is known"
    );
    assert_eq!(parts.iter().map(|&(_, rows)| rows).sum::<usize>(), 11);
}

/// Has `bad` prepared in one batch with a neighbour on each side; its answer, with theirs as expected.
fn among_neighbours(fixture: &Fixture, bad: &[f32]) -> InferError {
    let (gate, run) = Gate::new();
    let blocker = fixture.lane("blocker", run);
    let lane = fixture.preparing_lane("m", times_ten, plus_one);
    // One row has been prepared, so that the next batch holds several.
    assert_eq!(values(wait(lane.submit(request(&[0.0])))), [1.0]);
    let blocking = submit(&blocker, request(&[0.0]));
    assert_eq!(gate.entered(), [0.0]);
    let before = submit(&lane, request(&[1.0]));
    let failing = submit(&lane, request(bad));
    let after = submit(&lane, request(&[2.0]));
    gate.open();
    let failed = wait(failing).unwrap_err();
    assert_eq!(values(wait(before)), [11.0]);
    assert_eq!(values(wait(after)), [21.0]);
    assert!(wait(blocking).is_ok());
    assert_eq!((lane.queued_rows(), fixture.scheduler.in_flight()), (0, 0));
    failed
}

#[test]
fn a_row_that_cannot_be_prepared_fails_its_own_request() {
    let fixture = Fixture::new(SETTINGS);
    let failed = among_neighbours(&fixture, &[3.0, IS_REFUSED]);
    let InferError::InvalidRow(RowError { row, .. }) = &failed else {
        panic!("{failed:?}");
    };
    assert_eq!(*row, 1);
    assert_eq!(
        failed.to_string(),
        "row 1: expected a number that is not -2"
    );
    for reason in ["panic", "cancelled", "non_finite"] {
        assert_eq!(fixture.rejected("m", reason), 0.0, "it is a bad request");
    }
}

#[test]
fn a_row_that_panics_when_it_is_prepared_fails_its_own_request() {
    let fixture = Fixture::new(SETTINGS);
    let failed = among_neighbours(&fixture, &[PANICS]);
    assert_eq!(failed, InferError::Panicked);
    assert_eq!(fixture.rejected("m", "panic"), 1.0);
    let panics = r#"safeserve_panics_total{model="m",version="1"}"#;
    assert_eq!(fixture.metric(panics), 1.0);
}

#[test]
fn what_is_prepared_to_another_shape_than_the_engines_fails_its_own_request() {
    let fixture = Fixture::new(SETTINGS);
    let failed = among_neighbours(&fixture, &[IS_TOO_LONG]);
    assert_eq!(failed, InferError::Panicked);
}

/// A gate as a step: `x + 1`.
fn gated() -> (
    Gate,
    impl Fn(usize, &[f32]) -> Prepared + Send + Sync + 'static,
) {
    let (gate, run) = Gate::new();
    let step = move |_first, rows: &[f32]| {
        let mut prepared = vec![0.0; rows.len()];
        run(rows, &mut prepared);
        Ok(prepared)
    };
    (gate, step)
}

#[test]
fn a_caller_that_leaves_takes_its_unprepared_rows_along() {
    let fixture = Fixture::new(SETTINGS);
    let (gate, step) = gated();
    let computed = Arc::new(AtomicUsize::new(0));
    let passes = Arc::clone(&computed);
    let lane = fixture.preparing_lane("m", step, move |x, y| {
        passes.fetch_add(x.len(), Ordering::Relaxed);
        plus_one(x, y);
    });
    let prepared = submit(&lane, request(&[1.0]));
    assert_eq!(gate.entered(), [1.0]);
    let waiting = submit(&lane, request(&[2.0, 2.0]));
    let staying = submit(&lane, request(&[3.0]));
    assert_eq!(lane.queued_rows(), 3);
    drop(waiting);
    assert_eq!(lane.queued_rows(), 1, "what waits to be prepared");
    drop(prepared);
    gate.open();
    assert_eq!(gate.pass(), [3.0]);
    assert_eq!(values(wait(staying)), [5.0]);
    assert_eq!(
        computed.load(Ordering::Relaxed),
        1,
        "what was being prepared"
    );
    assert_eq!(fixture.rejected("m", "cancelled"), 2.0);
    assert_eq!((lane.queued_rows(), fixture.scheduler.in_flight()), (0, 0));
}

#[test]
fn a_caller_that_leaves_takes_its_prepared_rows_along() {
    let fixture = Fixture::new(SchedulerSettings {
        max_batch_rows: 1,
        ..SETTINGS
    });
    let (first_gate, run) = Gate::new();
    let blocker = fixture.lane("blocker", run);
    let (gate, run) = Gate::new();
    let lane = fixture.preparing_lane("m", times_ten, run);
    let blocking = submit(&blocker, request(&[0.0]));
    assert_eq!(first_gate.entered(), [0.0]);
    let computed = submit(&lane, request(&[1.0]));
    let leaving = submit(&lane, request(&[2.0]));
    assert_eq!(lane.queued_rows(), 2);
    first_gate.open();
    // The two steps take turns: by now both are prepared, and the second waits.
    assert_eq!(gate.entered(), [10.0]);
    assert_eq!(lane.queued_rows(), 1);
    drop(leaving);
    assert_eq!(lane.queued_rows(), 0);
    gate.open();
    assert_eq!(values(wait(computed)), [11.0]);
    assert!(wait(blocking).is_ok());
    let rows = r#"safeserve_rows_total{model="m",version="1"}"#;
    assert_eq!(fixture.metric(rows), 1.0);
    assert_eq!(fixture.scheduler.in_flight(), 0);
}

#[test]
fn a_full_queue_counts_the_rows_of_both_steps() {
    let fixture = Fixture::new(SETTINGS);
    let (gate, step) = gated();
    let lane = fixture.preparing_lane("m", step, plus_one);
    let taken = submit(&lane, request(&[1.0]));
    assert_eq!(gate.entered(), [1.0]);
    let waiting = submit(&lane, request(&[2.0; 8]));
    assert_eq!(lane.queued_rows(), 8);
    let is_overloaded = |refused: Option<InferError>| {
        let refused = refused.expect("it is full");
        assert!(
            matches!(
                refused,
                InferError::Overloaded {
                    queued_rows: 8,
                    max_queued_rows: 8,
                    ..
                }
            ),
            "{refused:?}"
        );
    };
    is_overloaded(lane.refuse());
    is_overloaded(wait(lane.submit(request(&[3.0]))).err());
    let gauge = r#"safeserve_queued_rows{model="m",version="1"}"#;
    assert_eq!(fixture.metric(gauge), 8.0);
    drop(gate);
    assert!(wait(taken).is_ok());
    assert_eq!(values(wait(waiting)), [4.0; 8]);
    assert_eq!(fixture.metric(gauge), 0.0);
}

#[test]
fn a_request_that_expires_before_it_is_prepared_is_not() {
    let fixture = Fixture::new(SETTINGS);
    let (gate, step) = gated();
    let lane = fixture.preparing_lane("m", step, plus_one);
    let taken = submit(&lane, request(&[1.0]));
    assert_eq!(gate.entered(), [1.0]);
    let expired = wait_on_a_jumping_clock(async || {
        let mut request = request(&[2.0]);
        request.deadline = Some(Instant::now() + AN_HOUR);
        lane.submit(request).await
    });
    assert_eq!(expired, Err(InferError::DeadlineExceeded));
    let patient = submit(&lane, request(&[3.0]));
    gate.open();
    assert_eq!(gate.pass(), [3.0]);
    assert!(wait(taken).is_ok());
    assert!(wait(patient).is_ok());
    assert_eq!(fixture.rejected("m", "deadline"), 1.0);
}

#[test]
fn a_worker_that_hangs_in_preparing_is_replaced() {
    let fixture = Fixture::new(SETTINGS);
    let (gate, step) = gated();
    let stuck = fixture.preparing_lane("stuck", step, plus_one);
    let sound = fixture.preparing_lane("sound", times_ten, plus_one);
    let hung = submit(&stuck, request(&[1.0]));
    gate.entered();
    let waiting = submit(&sound, request(&[2.0]));
    thread::yield_now();
    assert_eq!(fixture.scheduler.replace_workers(Some(Duration::ZERO)), 1);
    assert_eq!(wait(hung), Err(InferError::Panicked));
    assert_eq!(values(wait(waiting)), [21.0]);
    // What comes of it in the end is for no one.
    gate.open();
    assert_eq!(values(wait(sound.submit(request(&[3.0])))), [31.0]);
    fixture.scheduler.close();
    assert_eq!(fixture.scheduler.in_flight(), 0);
}

#[test]
fn closing_finishes_what_waits_to_be_prepared() {
    let fixture = Fixture::new(SETTINGS);
    let (gate, step) = gated();
    let lane = fixture.preparing_lane("m", step, plus_one);
    let taken = submit(&lane, request(&[1.0]));
    assert_eq!(gate.entered(), [1.0]);
    let waiting = submit(&lane, request(&[2.0; 6]));
    let scheduler = Arc::clone(&fixture.scheduler);
    let closing = thread::spawn(move || scheduler.close());
    drop(gate);
    closing.join().unwrap();
    assert_eq!(values(wait(taken)), [3.0]);
    assert_eq!(values(wait(waiting)), [4.0; 6]);
    let refused = wait(lane.submit(request(&[3.0])));
    assert_eq!(refused, Err(InferError::Closing));
}
