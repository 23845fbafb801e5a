//! Batches, turns, inline runs and the end, over real threads.

use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use crate::request::{InferError, Timing};
use crate::scheduler::SchedulerSettings;
use crate::scheduler::tests::fixture::{
    AN_HOUR, Fixture, Gate, SETTINGS, plus_one, request, submit, values, wait,
};

#[test]
fn what_waits_is_taken_together_when_the_worker_becomes_free() {
    let fixture = Fixture::new(SETTINGS);
    let (gate, run) = Gate::new();
    let lane = fixture.lane("m", run);
    let first = submit(&lane, request(&[1.0]));
    assert_eq!(gate.entered(), [1.0], "a lone request starts at once");
    let second = submit(&lane, request(&[2.0]));
    let third = submit(&lane, request(&[3.0, 4.0]));
    let fourth = submit(&lane, request(&[5.0, 6.0]));
    assert_eq!(lane.queued_rows(), 5);
    assert_eq!(fixture.scheduler.in_flight(), 4);
    gate.open();
    assert_eq!(gate.pass(), [2.0, 3.0, 4.0], "the fourth does not fit");
    assert_eq!(gate.pass(), [5.0, 6.0]);
    assert_eq!(values(wait(first)), [2.0]);
    assert_eq!(values(wait(second)), [3.0]);
    let third = wait(third);
    assert_eq!(third.as_ref().unwrap().timing.batch_rows, 3);
    assert_eq!(values(third), [4.0, 5.0]);
    assert_eq!(values(wait(fourth)), [6.0, 7.0]);
    assert_eq!((lane.queued_rows(), fixture.scheduler.in_flight()), (0, 0));
}

#[test]
fn a_request_larger_than_a_batch_is_split_and_put_together_again() {
    let fixture = Fixture::new(SETTINGS);
    let (gate, run) = Gate::new();
    let lane = fixture.lane("m", run);
    let rows: Vec<f32> = (0..10).map(|row| row as f32).collect();
    let large = submit(&lane, request(&rows));
    assert_eq!(gate.entered(), [0.0, 1.0, 2.0, 3.0]);
    let small = submit(&lane, request(&[100.0]));
    gate.open();
    assert_eq!(gate.pass(), [4.0, 5.0, 6.0, 7.0]);
    assert_eq!(
        gate.pass(),
        [8.0, 9.0, 100.0],
        "its neighbour joins its rest"
    );
    let answer = wait(large);
    assert_eq!(answer.as_ref().unwrap().rows, 10);
    assert_eq!(answer.as_ref().unwrap().timing.batch_rows, 4);
    let expected: Vec<f32> = rows.iter().map(|row| row + 1.0).collect();
    assert_eq!(values(answer), expected);
    assert_eq!(values(wait(small)), [101.0]);
}

#[test]
fn lanes_take_turns() {
    let fixture = Fixture::new(SETTINGS);
    let (gate, run) = Gate::new();
    let run = Arc::new(run);
    let shared = || {
        let run = Arc::clone(&run);
        move |x: &[f32], y: &mut [f32]| run(x, y)
    };
    let (crowded, quiet) = (
        fixture.lane("crowded", shared()),
        fixture.lane("quiet", shared()),
    );
    let blocker = submit(&crowded, request(&[0.0]));
    assert_eq!(gate.entered(), [0.0]);
    let backlog = submit(&crowded, request(&[1.0; 8]));
    let lone = submit(&quiet, request(&[2.0]));
    gate.open();
    assert_eq!(gate.pass(), [1.0; 4]);
    assert_eq!(gate.pass(), [2.0], "before the crowded lane's second batch");
    assert_eq!(gate.pass(), [1.0; 4]);
    for submitted in [blocker, backlog, lone] {
        assert!(wait(submitted).is_ok());
    }
}

#[test]
fn a_held_batch_goes_when_it_is_full() {
    let fixture = Fixture::new(SchedulerSettings {
        workers: 2,
        max_batch_delay: AN_HOUR,
        ..SETTINGS
    });
    let (gate, run) = Gate::new();
    let lane = fixture.lane("m", run);
    let first = submit(&lane, request(&[1.0]));
    assert_eq!(gate.entered(), [1.0], "nothing is held on an idle server");
    let others = [2.0, 3.0].map(|row| submit(&lane, request(&[row, row])));
    assert_eq!(gate.entered(), [2.0, 2.0, 3.0, 3.0]);
    gate.open();
    gate.open();
    assert!(wait(first).is_ok());
    for other in others {
        assert!(wait(other).is_ok());
    }
    let released = |reason: &str| {
        fixture.metric(&format!(
            r#"safeserve_batches_total{{model="m",release="{reason}",version="1"}}"#
        ))
    };
    assert_eq!(
        (released("idle"), released("full"), released("delay")),
        (1.0, 1.0, 0.0)
    );
}

#[test]
fn a_held_batch_goes_with_the_worker_that_becomes_free() {
    let fixture = Fixture::new(SchedulerSettings {
        workers: 2,
        max_batch_delay: AN_HOUR,
        ..SETTINGS
    });
    let (gate, run) = Gate::new();
    let lane = fixture.lane("m", run);
    let first = submit(&lane, request(&[1.0]));
    assert_eq!(gate.entered(), [1.0]);
    let held = submit(&lane, request(&[2.0]));
    gate.open();
    assert_eq!(gate.pass(), [2.0]);
    assert!(wait(first).is_ok());
    assert!(wait(held).is_ok());
}

/// The names of the threads that ran a model, in their order.
type Threads = Arc<Mutex<Vec<String>>>;

/// The model `y = x + 1`, and who runs it.
fn witnessed() -> (Threads, impl Fn(&[f32], &mut [f32]) + Send + Sync) {
    let threads = Arc::new(Mutex::new(Vec::new()));
    let seen = Arc::clone(&threads);
    let run = move |x: &[f32], y: &mut [f32]| {
        let name = thread::current().name().unwrap_or_default().to_owned();
        seen.lock().unwrap().push(name);
        plus_one(x, y);
    };
    (threads, run)
}

#[test]
fn a_cheap_request_on_an_idle_server_runs_on_the_calling_thread() {
    let fixture = Fixture::new(SchedulerSettings {
        inline_cost: AN_HOUR,
        ..SETTINGS
    });
    let (threads, run) = witnessed();
    let lane = fixture.lane("m", run);
    lane.warm_up().unwrap();
    threads.lock().unwrap().clear();
    let answer = wait(lane.submit(request(&[1.0, 2.0])));
    assert_eq!(
        *threads.lock().unwrap(),
        [thread::current().name().unwrap()]
    );
    let Timing {
        queue, batch_rows, ..
    } = answer.as_ref().unwrap().timing;
    assert_eq!((queue, batch_rows), (Duration::ZERO, 2));
    assert_eq!(values(answer), [2.0, 3.0]);
}

#[test]
fn a_request_of_unknown_cost_runs_on_a_worker() {
    let fixture = Fixture::new(SchedulerSettings {
        inline_cost: AN_HOUR,
        ..SETTINGS
    });
    let (threads, run) = witnessed();
    let lane = fixture.lane("m", run);
    assert_eq!(values(wait(lane.submit(request(&[1.0])))), [2.0]);
    assert_eq!(*threads.lock().unwrap(), ["worker-0"]);
}

#[test]
fn a_request_that_costs_much_runs_on_a_worker() {
    let fixture = Fixture::new(SETTINGS);
    let (threads, run) = witnessed();
    let lane = fixture.lane("m", run);
    lane.warm_up().unwrap();
    threads.lock().unwrap().clear();
    assert_eq!(values(wait(lane.submit(request(&[1.0])))), [2.0]);
    assert_eq!(*threads.lock().unwrap(), ["worker-0"]);
}

#[test]
fn warming_up_counts_nothing() {
    let fixture = Fixture::new(SETTINGS);
    let passes = Arc::new(Mutex::new(Vec::new()));
    let seen = Arc::clone(&passes);
    let lane = fixture.lane("m", move |x, y| {
        seen.lock().unwrap().push(x.len());
        plus_one(x, y);
    });
    lane.warm_up().unwrap();
    let passes = passes.lock().unwrap().clone();
    assert_eq!(passes[..2], [1, 1]);
    assert!([1, 1, 2, 4].starts_with(&passes), "{passes:?}");
    let series = r#"{model="m",version="1"}"#;
    for name in [
        "rows_total",
        "batch_rows_count",
        "compute_duration_seconds_count",
    ] {
        assert_eq!(fixture.metric(&format!("safeserve_{name}{series}")), 0.0);
    }
}

#[test]
fn closing_answers_what_waits_and_refuses_what_comes() {
    let fixture = Fixture::new(SETTINGS);
    let (gate, run) = Gate::new();
    let lane = fixture.lane("m", run);
    let taken = submit(&lane, request(&[1.0]));
    assert_eq!(gate.entered(), [1.0]);
    let waiting = submit(&lane, request(&[2.0; 6]));
    let scheduler = Arc::clone(&fixture.scheduler);
    let closing = thread::spawn(move || scheduler.close());
    gate.open();
    assert_eq!(gate.pass(), [2.0; 4]);
    assert_eq!(gate.pass(), [2.0; 2]);
    closing.join().unwrap();
    assert_eq!(values(wait(taken)), [2.0]);
    assert_eq!(values(wait(waiting)), [3.0; 6]);
    assert_eq!(wait(lane.submit(request(&[3.0]))), Err(InferError::Closing));
    assert_eq!(fixture.rejected("m", "closing"), 1.0);
    assert_eq!(fixture.scheduler.in_flight(), 0);
    fixture.scheduler.close();
}

#[test]
fn an_engine_goes_with_its_lane() {
    let fixture = Fixture::new(SETTINGS);
    let (gate, run) = Gate::new();
    let lane = fixture.lane("m", run);
    let engine = Arc::downgrade(lane.engine());
    let twin = lane.clone();
    let submitted = submit(&lane, request(&[1.0]));
    gate.pass();
    assert_eq!(values(wait(submitted)), [2.0]);
    drop(lane);
    assert!(engine.upgrade().is_some(), "its clone still serves");
    drop(twin);
    // The worker may still be about to put its batch away.
    fixture.scheduler.close();
    assert!(engine.upgrade().is_none());
}

/// Many callers, small and large, some that leave, in three lanes before two workers.
#[test]
fn under_load_every_caller_gets_its_own_rows() {
    let fixture = Fixture::new(SchedulerSettings {
        workers: 2,
        max_batch_rows: 8,
        max_queued_rows: 10_000,
        inline_cost: Duration::from_micros(20),
        ..SETTINGS
    });
    let lanes: Vec<_> = (0..3)
        .map(|number| {
            let lane = fixture.lane(&format!("m{number}"), move |x, y| {
                for (x, y) in x.iter().zip(y) {
                    *y = x * 8.0 + number as f32;
                }
            });
            lane.warm_up().unwrap();
            lane
        })
        .collect();
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .build()
        .unwrap();
    let callers: Vec<_> = (0..12)
        .map(|caller: usize| {
            let lanes = lanes.clone();
            runtime.spawn(async move {
                for turn in 0..200 {
                    let number = (caller + turn) % 3;
                    let count = 1 + (caller * 7 + turn * 5) % 19;
                    let first = caller * 100_000 + turn * 20;
                    let rows: Vec<f32> = (first..first + count).map(|row| row as f32).collect();
                    let submitted = lanes[number].submit(request(&rows));
                    if turn % 10 == caller % 10 {
                        // Leaves after it was queued, or has an answer already.
                        tokio::select! {
                            biased;
                            answer = submitted => assert!(answer.is_ok()),
                            () = std::future::ready(()) => {}
                        }
                        continue;
                    }
                    let expected: Vec<f32> =
                        rows.iter().map(|row| row * 8.0 + number as f32).collect();
                    assert_eq!(values(submitted.await), expected);
                }
            })
        })
        .collect();
    for caller in callers {
        runtime.block_on(caller).unwrap();
    }
    fixture.scheduler.close();
    assert_eq!(fixture.scheduler.in_flight(), 0);
    for (number, lane) in lanes.iter().enumerate() {
        assert_eq!(lane.queued_rows(), 0);
        let gauge = format!(r#"safeserve_queued_rows{{model="m{number}",version="1"}}"#);
        assert_eq!(fixture.metric(&gauge), 0.0);
    }
}
