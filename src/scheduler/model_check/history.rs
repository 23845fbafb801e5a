//! Any history of arrivals, departures, batches and passing time, on one thread: the queue
//! against what a list of calls says must happen.

use std::pin::Pin;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use proptest::prelude::*;

use super::batch::{JoinBuffers, split};
use super::call::{Answer, ForwardPass};
use super::dispatch::{Dispatch, Pending};
use super::lanes::{Rules, Work, WorkerBatch};
use super::place::LaneId;
use super::policy::HoldPolicy;
use super::queue::{Part, Taken};
use super::sync::now;
use crate::request::{InferError, InferRequest, Load};
use crate::scheduler::model_check::threads::{TICK, tick};
use crate::tensor::{Axis, DataType, Shape, TensorSpec, Values};

const LANES: usize = 3;
const MAX_BATCH_ROWS: usize = 4;
const MAX_QUEUED_ROWS: usize = 12;
const MAX_ROW_UNITS: usize = 6;

/// One event of a history.
#[derive(Clone, Debug)]
enum Event {
    /// A call comes, and is of use for this many ticks.
    Ask {
        lane: usize,
        rows: usize,
        /// The units of each row, if they are not one each.
        units: Option<Vec<usize>>,
        ticks: Option<u32>,
    },
    /// A lane's batches hold this much from now on.
    Limit { lane: usize, limit: Load },
    /// The caller of the call of this index, modulo their number, leaves.
    Leave(usize),
    /// A worker takes a batch and answers it.
    Work,
    /// A tick passes.
    Tick,
}

fn events() -> impl Strategy<Value = Vec<Event>> {
    let event = prop_oneof![
        4 => (0..LANES, 1..=2 * MAX_QUEUED_ROWS, units(), prop::option::of(1..4u32)).prop_map(
            |(lane, rows, units, ticks)| {
                // Mostly small, at times larger than the lane.
                let rows = if rows > MAX_QUEUED_ROWS + 2 { rows % 4 + 1 } else { rows };
                let units = units.map(|units| units[..rows].to_vec());
                Event::Ask { lane, rows, units, ticks }
            }
        ),
        1 => (0..LANES, 1..=MAX_BATCH_ROWS, 1..=2 * MAX_ROW_UNITS).prop_map(
            |(lane, rows, units)| Event::Limit { lane, limit: Load { rows, units } }
        ),
        2 => any::<usize>().prop_map(Event::Leave),
        4 => Just(Event::Work),
        1 => Just(Event::Tick),
    ];
    prop::collection::vec(event, 0..60)
}

/// As many as the largest call has rows.
fn units() -> impl Strategy<Value = Option<Vec<usize>>> {
    let rows = 2 * MAX_QUEUED_ROWS;
    prop::option::of(prop::collection::vec(0..=MAX_ROW_UNITS, rows))
}

struct Model {
    queued_rows: AtomicUsize,
    limit: Mutex<Load>,
}

impl Work for Model {
    fn set_queued_rows(&self, rows: usize) {
        self.queued_rows.store(rows, Ordering::Relaxed);
    }

    fn limit(&self) -> Load {
        *self.limit.lock().unwrap()
    }

    fn cost(&self, _units: usize) -> Duration {
        Duration::ZERO
    }

    fn pays_to_share(&self, _load: Load) -> bool {
        false
    }
}

/// A call as the history remembers it.
struct Call<'a> {
    lane: usize,
    rows: usize,
    request: InferRequest,
    /// The ticks of the clock at which it expires.
    expires: Option<u32>,
    /// The rows that were computed: always a beginning.
    computed: usize,
    pending: Option<Pin<Box<Pending<'a, Model>>>>,
}

impl Call<'_> {
    /// Whether rows of it wait, at this time, and are of use.
    fn waits(&self, ticks: u32) -> bool {
        self.pending.is_some()
            && self.computed < self.rows
            && self.expires.is_none_or(|expires| ticks < expires)
    }

    /// What is not computed yet.
    fn left(&self) -> Load {
        self.request.load_of(self.computed..self.rows)
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
        hold: HoldPolicy {
            max_batch_delay: Duration::ZERO,
        },
    });
    let limit = Load {
        rows: MAX_BATCH_ROWS,
        units: MAX_BATCH_ROWS,
    };
    let model = |_| Model {
        queued_rows: AtomicUsize::new(0),
        limit: Mutex::new(limit),
    };
    let models: Vec<_> = (0..LANES).map(model).map(Arc::new).collect();
    let lanes: Vec<LaneId> = models
        .iter()
        .map(|model| dispatch.add_lane(Arc::clone(model)))
        .collect();
    let gauge = |lane: usize| models[lane].queued_rows.load(Ordering::Relaxed);

    let mut calls: Vec<Call<'_>> = Vec::new();
    let mut counts = Counts::default();
    let mut ticks = 0;
    let mut batch = WorkerBatch::empty(dispatch.add_worker());
    let mut buffers = JoinBuffers::default();
    // Every history ends with a worker that finishes what waits.
    let drain = std::iter::repeat_n(&Event::Work, 2 * LANES + batches_enough(events));
    for event in events.iter().chain(drain) {
        match event {
            &Event::Limit { lane, limit } => *models[lane].limit.lock().unwrap() = limit,
            Event::Tick => {
                tick();
                ticks += 1;
            }
            &Event::Ask {
                lane,
                rows,
                ref units,
                ticks: of_use,
            } => {
                let number = calls.len();
                let one_each = vec![1; rows];
                let units = units.as_ref().unwrap_or(&one_each);
                let mut offsets = vec![0];
                for units in units {
                    offsets.push(offsets[offsets.len() - 1] + units);
                }
                let tags = (0..rows).map(|row| (number * 100 + row) as f32);
                let tokens = tags.clone().zip(units);
                let tokens = tokens.flat_map(|(tag, &units)| vec![tag; units]);
                let inputs = vec![Values::F32(tags.collect()), Values::F32(tokens.collect())];
                let request = InferRequest {
                    rows,
                    offsets: vec![offsets],
                    inputs,
                    finish: false,
                    deadline: of_use.map(|ticks| now() + TICK * ticks),
                };
                let queued = gauge(lane);
                let fits = queued == 0 || queued + rows <= MAX_QUEUED_ROWS;
                assert_eq!(dispatch.overload(lanes[lane], rows).is_none(), fits);
                let pending = match dispatch.push(lanes[lane], request.clone()) {
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
                    request,
                    expires: of_use.map(|of_use| ticks + of_use),
                    computed: 0,
                    pending,
                });
            }
            &Event::Leave(index) => {
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
                if !batch.taken.parts.is_empty() {
                    answer(&batch, &mut buffers, &mut calls, ticks);
                }
            }
        }
        for (number, call) in calls.iter_mut().enumerate() {
            match call.poll() {
                None => {}
                Some(Ok(response)) => {
                    counts.answered += 1;
                    assert_eq!(call.computed, call.rows);
                    assert_eq!(response.outputs, call.request.inputs, "call {number}");
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

/// What a worker does with a batch that holds rows, and what must be true of it: in each lane rows
/// come out in the order in which they went in, and a batch has as many as it holds.
fn answer(
    batch: &WorkerBatch<Model>,
    buffers: &mut JoinBuffers,
    calls: &mut [Call<'_>],
    ticks: u32,
) {
    let parts = &batch.taken.parts;
    let limit = batch.work.as_ref().unwrap().limit();
    check_is_within(&batch.taken, limit);
    let (tags, tokens, offsets) = buffers.join(parts, &specs(), |batch| {
        let [tags, tokens] = [0, 1].map(|input| batch.inputs[input].f32s().to_vec());
        (tags, tokens, batch.offsets.to_vec())
    });
    // Each row has its own tokens, and as many as its request said.
    assert_eq!(tags.len() + 1, offsets[0].len());
    for (&tag, ends) in tags.iter().zip(offsets[0].windows(2)) {
        let (number, row) = (tag as usize / 100, tag as usize % 100);
        let sent = &calls[number].request.offsets[0];
        let count = sent[row + 1] - sent[row];
        assert_eq!(tokens[ends[0]..ends[1]], vec![tag; count]);
    }
    for part in parts {
        let end = part.call.rows();
        let left = part.call.load_of(part.rows.start..end);
        assert!(part.rows.end == end || !left.is_within(limit));
    }
    // Rows come out in the order in which they went in, each once.
    let mut lanes_of_batch = Vec::new();
    let next = |calls: &[Call<'_>], lane: usize| {
        let mut calls = calls.iter();
        calls.position(|call| call.lane == lane && call.waits(ticks))
    };
    for &tag in &tags {
        let (number, row) = (tag as usize / 100, tag as usize % 100);
        let lane = calls[number].lane;
        let first = next(calls, lane);
        assert_eq!((first, row), (Some(number), calls[number].computed));
        calls[number].computed += 1;
        lanes_of_batch.push(lane);
    }
    lanes_of_batch.dedup();
    assert!(lanes_of_batch.len() <= 1, "a batch mixes lanes");
    // What fits is not left.
    if let &[lane] = &*lanes_of_batch
        && let Some(left) = next(calls, lane).map(|number| calls[number].left())
    {
        let fits = (batch.taken.load + left).is_within(limit);
        assert!(!fits, "{left:?} was left");
    }
    let pass = ForwardPass {
        taken_at: batch.taken_at,
        compute: TICK,
        batch_rows: tags.len(),
    };
    let outputs = [&*tags, &*tokens];
    split(
        parts,
        &specs(),
        &offsets,
        |i| outputs[i],
        false,
        pass,
        |_, response| Ok(response),
    );
}

/// One number a row, and one a token.
fn specs() -> [TensorSpec; 2] {
    [
        TensorSpec::new("rows", DataType::Fp32, Shape::rows([])),
        TensorSpec::new("tokens", DataType::Fp32, Shape::tokens(Axis(0), [])),
    ]
}

/// Checks that a batch holds no more than it may: its first row, whatever it is, and others as far
/// as there is room.
fn check_is_within(taken: &Taken, limit: Load) {
    assert_eq!(taken.load, taken.parts.iter().map(Part::load).sum());
    assert!(taken.load.rows <= limit.rows);
    if let Some(first) = taken.parts.first() {
        let alone = first.call.load_of(first.rows.start..first.rows.start + 1);
        assert!(taken.load.units <= limit.units.max(alone.units));
    }
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
