//! Any history of arrivals, departures, batches and passing time, on one thread: the queue
//! against what a list of calls says must happen.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use proptest::prelude::*;

use super::batch::{JoinBuffers, split};
use super::call::{Answer, ForwardPass};
use super::dispatch::{Dispatch, Pending};
use super::lanes::{Batch, LaneId, Rules, Work};
use super::policy::BatchPolicy;
use super::sync::now;
use crate::request::{InferError, InferRequest};
use crate::scheduler::model_check::threads::{TICK, tick};
use crate::tensor::Values;

const LANES: usize = 3;
const MAX_BATCH_ROWS: usize = 4;
const MAX_QUEUED_ROWS: usize = 12;

/// One event of a history.
#[derive(Clone, Debug)]
enum Event {
    /// A call comes, and is of use for this many ticks.
    Ask {
        lane: usize,
        rows: usize,
        ticks: Option<u32>,
    },
    /// The caller of the call of this index, modulo their number, leaves.
    Leave(usize),
    /// A worker takes a batch and answers it.
    Work,
    /// A tick passes.
    Tick,
}

fn events() -> impl Strategy<Value = Vec<Event>> {
    let event = prop_oneof![
        4 => (0..LANES, 1..=2 * MAX_QUEUED_ROWS, prop::option::of(1..4u32)).prop_map(
            |(lane, rows, ticks)| Event::Ask {
                lane,
                // Mostly small, at times larger than the lane.
                rows: if rows > MAX_QUEUED_ROWS + 2 { rows % 4 + 1 } else { rows },
                ticks,
            }
        ),
        2 => any::<usize>().prop_map(Event::Leave),
        4 => Just(Event::Work),
        1 => Just(Event::Tick),
    ];
    prop::collection::vec(event, 0..60)
}

struct Gauge(AtomicUsize);

impl Work for Gauge {
    fn set_queued_rows(&self, rows: usize) {
        self.0.store(rows, Ordering::Relaxed);
    }

    fn cost(&self, _rows: usize) -> Duration {
        Duration::ZERO
    }

    fn pays_to_share(&self, _rows: usize) -> bool {
        false
    }
}

/// A call as the history remembers it.
struct Call<'a> {
    lane: usize,
    rows: usize,
    /// The ticks of the clock at which it expires.
    expires: Option<u32>,
    /// The rows that were computed: always a beginning.
    computed: usize,
    pending: Option<Pin<Box<Pending<'a, Gauge>>>>,
}

impl Call<'_> {
    /// Whether rows of it wait, at this time, and are of use.
    fn waits(&self, ticks: u32) -> bool {
        self.pending.is_some()
            && self.computed < self.rows
            && self.expires.is_none_or(|expires| ticks < expires)
    }

    /// Its answer, if there is one.
    fn poll(&mut self) -> Option<Answer> {
        let pending = self.pending.as_mut()?;
        match pending
            .as_mut()
            .poll(&mut Context::from_waker(Waker::noop()))
        {
            Poll::Ready(answer) => {
                self.pending = None;
                Some(answer)
            }
            Poll::Pending => None,
        }
    }
}

#[derive(Debug, Default, PartialEq, Eq)]
struct Counts {
    accepted: usize,
    answered: usize,
    cancelled: usize,
    expired: usize,
}

fn live_through(events: &[Event]) {
    let dispatch = Dispatch::new(Rules {
        workers: 1,
        max_queued_rows: MAX_QUEUED_ROWS,
        batch: BatchPolicy {
            max_batch_rows: MAX_BATCH_ROWS,
            max_batch_delay: Duration::ZERO,
        },
    });
    let gauges: Vec<_> = (0..LANES)
        .map(|_| Arc::new(Gauge(AtomicUsize::new(0))))
        .collect();
    let lanes: Vec<LaneId> = gauges
        .iter()
        .map(|gauge| dispatch.add_lane(Arc::clone(gauge)))
        .collect();
    let gauge = |lane: usize| gauges[lane].0.load(Ordering::Relaxed);

    let mut calls: Vec<Call<'_>> = Vec::new();
    let mut counts = Counts::default();
    let mut ticks = 0;
    let mut batch = Batch::empty(dispatch.add_worker());
    let mut buffers = JoinBuffers::default();
    // Every history ends with a worker that finishes what waits.
    let drain = std::iter::repeat_n(&Event::Work, 2 * LANES + batches_enough(events));
    for event in events.iter().chain(drain) {
        match *event {
            Event::Tick => {
                tick();
                ticks += 1;
            }
            Event::Ask {
                lane,
                rows,
                ticks: of_use,
            } => {
                let number = calls.len();
                let request = InferRequest {
                    rows,
                    offsets: Vec::new(),
                    inputs: vec![Values::F32(
                        (0..rows).map(|row| (number * 100 + row) as f32).collect(),
                    )],
                    deadline: of_use.map(|ticks| now() + TICK * ticks),
                };
                let queued = gauge(lane);
                let fits = queued == 0 || queued + rows <= MAX_QUEUED_ROWS;
                assert_eq!(dispatch.overload(lanes[lane], rows).is_none(), fits);
                let pending = match dispatch.push(lanes[lane], request) {
                    Ok(pending) => {
                        assert!(fits);
                        counts.accepted += 1;
                        Some(Box::pin(pending))
                    }
                    Err(error) => {
                        assert!(matches!(error, InferError::Overloaded { .. }) && !fits);
                        None
                    }
                };
                calls.push(Call {
                    lane,
                    rows,
                    expires: of_use.map(|of_use| ticks + of_use),
                    computed: 0,
                    pending,
                });
            }
            Event::Leave(index) => {
                let count = calls.len().max(1);
                if let Some(call) = calls.get_mut(index % count)
                    && call.pending.take().is_some()
                {
                    counts.cancelled += 1;
                }
            }
            Event::Work => {
                if (0..LANES).all(|lane| gauge(lane) == 0) {
                    continue; // The worker would wait for ever.
                }
                assert!(dispatch.next_batch(&mut batch));
                for call in &batch.taken.expired {
                    call.fail(InferError::DeadlineExceeded);
                }
                let parts = &batch.taken.parts;
                assert!(batch.taken.rows <= MAX_BATCH_ROWS);
                let tags = buffers.join(parts, |inputs| {
                    inputs
                        .first()
                        .map_or(Vec::new(), |tags| tags.f32s().to_vec())
                });
                // Rows come out in the order in which they went in, each once.
                let mut lanes_of_batch = Vec::new();
                for &tag in &tags {
                    let (number, row) = (tag as usize / 100, tag as usize % 100);
                    let lane = calls[number].lane;
                    let next = calls
                        .iter()
                        .position(|call| call.lane == lane && call.waits(ticks));
                    assert_eq!((next, row), (Some(number), calls[number].computed));
                    calls[number].computed += 1;
                    lanes_of_batch.push(lane);
                }
                lanes_of_batch.dedup();
                assert!(lanes_of_batch.len() <= 1, "a batch mixes lanes");
                for part in parts {
                    assert!(
                        part.rows.len() == part.call.rows() || part.call.rows() > MAX_BATCH_ROWS
                    );
                }
                if !tags.is_empty() {
                    let pass = ForwardPass {
                        taken_at: batch.taken_at,
                        compute: TICK,
                        batch_rows: tags.len(),
                    };
                    split(parts, 1, |_| tags.as_slice(), false, pass);
                }
            }
        }
        for (number, call) in calls.iter_mut().enumerate() {
            match call.poll() {
                None => {}
                Some(Ok(response)) => {
                    counts.answered += 1;
                    assert_eq!(call.computed, call.rows);
                    let tags = (0..call.rows).map(|row| (number * 100 + row) as f32);
                    assert_eq!(response.outputs, [tags.collect::<Vec<_>>()]);
                }
                Some(Err(error)) => {
                    assert_eq!(error, InferError::DeadlineExceeded);
                    assert!(call.expires.is_some_and(|expires| expires <= ticks));
                    counts.expired += 1;
                }
            }
        }
        dispatch.check_invariants();
        for (lane, &id) in lanes.iter().enumerate() {
            // Expired calls leave when a worker finds them.
            let waiting = calls
                .iter()
                .filter(|call| call.lane == lane && call.pending.is_some())
                .map(|call| call.rows - call.computed);
            assert_eq!(gauge(lane), waiting.sum::<usize>());
            assert_eq!(gauge(lane), dispatch.queued_rows(id));
        }
    }
    assert_eq!(
        counts.accepted,
        counts.answered + counts.cancelled + counts.expired,
        "{counts:?}"
    );
    assert!(calls.iter().all(|call| call.pending.is_none()));
}

/// More batches than the calls of a history can need.
fn batches_enough(events: &[Event]) -> usize {
    let rows = events.iter().map(|event| match event {
        Event::Ask { rows, .. } => *rows,
        _ => 0,
    });
    rows.sum()
}

proptest! {
    #[test]
    fn accepted_is_answered_and_cancelled_and_expired(events in events()) {
        shuttle::check_random(move || live_through(&events), 1);
    }
}
