//! How much a batch holds: by what rows cost, and by scratch memory.

use std::time::Duration;

use crate::engine::Engine;
use crate::scheduler::SchedulerSettings;
use crate::scheduler::tests::fixture::{
    AN_HOUR, Fixture, Gate, SETTINGS, engine, plus_one, request, submit, values, wait,
};

const LIMIT: &str = "safeserve_model_batch_limit_rows";

fn five_ms() -> Fixture {
    Fixture::new(SchedulerSettings {
        max_batch_time: Duration::from_millis(5),
        ..SETTINGS
    })
}

#[test]
fn slow_rows_are_computed_alone_and_cheap_ones_together() {
    let fixture = five_ms();
    let (gate, run) = Gate::new();
    let slow = fixture.lane("slow", run);
    let limit = |name: &str| fixture.metric(&format!(r#"{LIMIT}{{model="{name}",version="1"}}"#));
    assert_eq!(
        limit("slow"),
        4.0,
        "whatever the rows cost, as long as that is unknown"
    );
    slow.0.work.record(1, Duration::from_millis(12));
    assert_eq!(limit("slow"), 1.0);
    let request_of_three = submit(&slow, request(&[1.0, 2.0, 3.0]));
    for row in [1.0, 2.0, 3.0] {
        // No pass of one row takes so long that the next one would hold two.
        assert_eq!(gate.pass(), [row]);
    }
    assert_eq!(values(wait(request_of_three)), [2.0, 3.0, 4.0]);

    let (gate, run) = Gate::new();
    let cheap = fixture.lane("cheap", run);
    cheap.0.work.record(1, Duration::from_micros(1));
    assert_eq!(limit("cheap"), 4.0);
    let request_of_four = submit(&cheap, request(&[1.0, 2.0, 3.0, 4.0]));
    assert_eq!(gate.pass(), [1.0, 2.0, 3.0, 4.0]);
    assert!(wait(request_of_four).is_ok());
}

#[test]
fn a_warm_up_ends_with_the_first_size_that_takes_too_long() {
    // Nothing takes no time, so that nothing fits beside one row.
    let fixture = Fixture::new(SchedulerSettings {
        max_batch_time: Duration::ZERO,
        max_batch_rows: 1024,
        ..SETTINGS
    });
    let (seen, passes) = std::sync::mpsc::channel();
    let lane = fixture.lane("m", move |x, y| {
        let _ = seen.send(x.len());
        // A row takes a thousand times as long as whatever a pass takes beside its rows.
        for _ in 0..100_000 * x.len() {
            std::hint::black_box(());
        }
        plus_one(x, y);
    });
    lane.warm_up().unwrap();
    let passes: Vec<usize> = passes.try_iter().collect();
    assert_eq!(passes[..3], [1, 1, 2]);
    assert!(passes.iter().all(|&rows| rows < 1024), "{passes:?}");
}

#[test]
fn scratch_memory_bounds_batches_and_what_runs_inline() {
    let engine: Engine = engine(plus_one);
    assert!(engine.scratch_bytes(16, 16) < engine.scratch_bytes(17, 17));
    let fixture = Fixture::new(SchedulerSettings {
        max_batch_rows: 64,
        max_queued_rows: 64,
        max_scratch_bytes: engine.scratch_bytes(16, 16),
        inline_cost: AN_HOUR,
        ..SETTINGS
    });
    let (gate, run) = Gate::new();
    let lane = fixture.lane("m", run);
    let rows: Vec<f32> = (0..40).map(|row| row as f32).collect();
    lane.0.work.record(1, Duration::from_nanos(1));
    let large = submit(&lane, request(&rows));
    for batch in rows.chunks(16) {
        assert_eq!(gate.pass(), batch);
    }
    let expected: Vec<f32> = rows.iter().map(|row| row + 1.0).collect();
    assert_eq!(values(wait(large)), expected);
}
