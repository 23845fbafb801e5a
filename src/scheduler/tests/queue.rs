//! The queue of one lane.

use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::request::{InferError, InferRequest};
use crate::scheduler::call::Call;
use crate::scheduler::queue::{LaneQueue, Taken};
use crate::tensor::Values;

fn call(rows: usize, deadline: Option<Instant>) -> Arc<Call> {
    let request = InferRequest {
        rows,
        offsets: Vec::new(),
        inputs: vec![Values::F32(vec![0.0; rows])],
        deadline,
    };
    Call::new(request, Instant::now()).0
}

fn take(queue: &mut LaneQueue, max_rows: usize) -> Taken {
    let mut taken = Taken::default();
    queue.take(max_rows, Instant::now(), Duration::ZERO, &mut taken);
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
    assert_eq!((taken.rows, queue.rows()), (7, 2));
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
    assert_eq!(queue.rows(), 0);
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
    assert_eq!(queue.rows(), 0);
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
        queue.take(8, now, PASS, &mut taken);
        assert!(queue.is_empty());
        (taken.rows, taken.expired.len())
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
    let large = queue.push(call(20, None));
    let small = queue.push(call(3, None));
    take(&mut queue, 8);
    assert_eq!(queue.rows(), 15);
    assert!(queue.remove(large).is_some());
    assert_eq!(queue.rows(), 3);
    assert!(queue.remove(large).is_none(), "it is gone");
    take(&mut queue, 8);
    assert!(queue.remove(small).is_none(), "it was taken");
}
