//! The queue of one lane.

use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::request::{InferError, InferRequest, Load};
use crate::scheduler::call::Call;
use crate::scheduler::queue::{LaneQueue, Taken};
use crate::tensor::Values;

fn call(rows: usize, deadline: Option<Instant>) -> Arc<Call> {
    let request = InferRequest {
        rows,
        offsets: Vec::new(),
        inputs: vec![Values::F32(vec![0.0; rows])],
        finish: false,
        deadline,
    };
    Call::new(request, Instant::now(), None).0
}

/// A call whose rows have these units.
fn texts(units: &[usize]) -> Arc<Call> {
    let mut offsets = vec![0];
    for units in units {
        offsets.push(offsets[offsets.len() - 1] + units);
    }
    let request = InferRequest {
        rows: units.len(),
        offsets: vec![offsets],
        inputs: Vec::new(),
        finish: false,
        deadline: None,
    };
    Call::new(request, Instant::now(), None).0
}

fn load(rows: usize, units: usize) -> Load {
    Load { rows, units }
}

fn take(queue: &mut LaneQueue, max_rows: usize) -> Taken {
    take_within(queue, load(max_rows, usize::MAX))
}

fn take_within(queue: &mut LaneQueue, limit: Load) -> Taken {
    let mut taken = Taken::default();
    queue.take(limit, Instant::now(), Duration::ZERO, &mut taken);
    taken
}

/// The first and last row of each part.
fn ranges(taken: &Taken) -> Vec<(usize, usize)> {
    let parts = taken.parts.iter();
    parts
        .map(|part| (part.rows.start, part.rows.end - 1))
        .collect()
}

#[test]
fn a_batch_takes_whole_calls_in_their_order() {
    let mut queue = LaneQueue::default();
    for rows in [3, 4, 2] {
        queue.push(call(rows, None));
    }
    let taken = take(&mut queue, 8);
    assert_eq!(ranges(&taken), [(0, 2), (0, 3)], "the third does not fit");
    assert_eq!((taken.load, queue.load()), (load(7, 7), load(2, 2)));
    assert_eq!(ranges(&take(&mut queue, 8)), [(0, 1)]);
    assert!(queue.is_empty());
    assert!(take(&mut queue, 8).parts.is_empty());
}

#[test]
fn a_call_larger_than_a_batch_fills_several_and_its_neighbours_follow() {
    let mut queue = LaneQueue::default();
    for rows in [3, 20, 2] {
        queue.push(call(rows, None));
    }
    assert_eq!(ranges(&take(&mut queue, 8)), [(0, 2), (0, 4)]);
    assert_eq!(ranges(&take(&mut queue, 8)), [(5, 12)]);
    assert_eq!(ranges(&take(&mut queue, 8)), [(13, 19)]);
    assert_eq!(ranges(&take(&mut queue, 8)), [(0, 1)]);
    assert_eq!(queue.load(), load(0, 0));
}

#[test]
fn a_batch_takes_whole_rows_within_its_units() {
    let mut queue = LaneQueue::default();
    queue.push(texts(&[5, 30, 4, 4]));
    queue.push(texts(&[1, 2]));
    queue.push(texts(&[3, 3]));
    assert_eq!(queue.load(), load(8, 52));
    let mut take = || {
        let taken = take_within(&mut queue, load(4, 10));
        (ranges(&taken), taken.load)
    };
    assert_eq!(take(), (vec![(0, 0)], load(1, 5)), "30 more do not fit");
    assert_eq!(take(), (vec![(1, 1)], load(1, 30)), "a row is never split");
    // The rest, which fits a batch, stays whole; and so does what follows.
    assert_eq!(take(), (vec![(2, 3)], load(2, 8)));
    assert_eq!(take(), (vec![(0, 1), (0, 1)], load(4, 9)));
    assert!(queue.is_empty());
    assert_eq!(queue.load(), load(0, 0));
}

#[test]
fn a_row_beyond_the_units_of_a_batch_has_one_of_its_own() {
    let mut queue = LaneQueue::default();
    queue.push(call(2, None));
    queue.push(texts(&[90]));
    queue.push(call(1, None));
    let mut take = || ranges(&take_within(&mut queue, load(8, 10)));
    assert_eq!(take(), [(0, 1)]);
    assert_eq!(take(), [(0, 0)]);
    assert_eq!(take(), [(0, 0)]);
}

#[test]
fn a_limit_that_falls_splits_a_call_that_fitted_before() {
    let mut queue = LaneQueue::default();
    queue.push(call(6, None));
    assert_eq!(ranges(&take_within(&mut queue, load(8, 1))), [(0, 0)]);
    assert_eq!(ranges(&take_within(&mut queue, load(8, 2))), [(1, 2)]);
    assert_eq!(ranges(&take_within(&mut queue, load(8, 8))), [(3, 5)]);
    assert!(queue.is_empty());
}

#[test]
fn expired_and_failed_calls_leave_uncomputed() {
    let mut queue = LaneQueue::default();
    let failed = call(40, None);
    queue.push(Arc::clone(&failed));
    queue.push(call(2, Some(Instant::now())));
    queue.push(call(1, None));
    assert_eq!(ranges(&take(&mut queue, 8)), [(0, 7)]);
    failed.fail(InferError::Panicked);
    let taken = take(&mut queue, 8);
    assert_eq!(ranges(&taken), [(0, 0)]);
    assert_eq!((taken.failed.len(), taken.expired.len()), (1, 1));
    assert!(queue.is_empty());
    assert_eq!(queue.load(), load(0, 0));
}

#[test]
fn calls_that_would_expire_meanwhile_leave_while_others_have_the_time() {
    const PASS: Duration = Duration::from_secs(10);
    let now = Instant::now();
    let in_seconds = |seconds| Some(now + Duration::from_secs(seconds));
    let mut queue = LaneQueue::default();
    let mut take = |calls: &[Option<Instant>]| {
        for deadline in calls {
            queue.push(call(1, *deadline));
        }
        let mut taken = Taken::default();
        queue.take(load(8, 8), now, PASS, &mut taken);
        assert!(queue.is_empty());
        (taken.load.rows, taken.expired.len())
    };
    let [past, soon, late] = [0, 9, 11].map(in_seconds);
    assert_eq!(take(&[soon, late, soon, None]), (2, 2));
    assert_eq!(take(&[late, soon]), (1, 1));
    // Else nothing would ever show that the pass takes less time by now.
    assert_eq!(take(&[soon, past, soon]), (2, 1));
    assert_eq!(take(&[past]), (0, 1));
}

#[test]
fn a_removed_call_gives_back_the_rows_that_were_not_taken() {
    let mut queue = LaneQueue::default();
    let text = queue.push(texts(&[7, 1, 4]));
    take_within(&mut queue, load(1, 100));
    assert_eq!(queue.load(), load(2, 5));
    assert!(queue.remove(text).is_some());
    assert_eq!(queue.load(), load(0, 0));
    let large = queue.push(call(20, None));
    let small = queue.push(call(3, None));
    take(&mut queue, 8);
    assert_eq!(queue.load(), load(15, 15));
    assert!(queue.remove(large).is_some());
    assert_eq!(queue.load(), load(3, 3));
    assert!(queue.remove(large).is_none(), "it is gone");
    take(&mut queue, 8);
    assert!(queue.remove(small).is_none(), "it was taken");
}
