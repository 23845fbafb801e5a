//! Workers that are given up.

use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::engine::kernels::Team;
use crate::scheduler::worker_slots::WorkerSlots;

const LIMIT: Option<Duration> = Some(Duration::from_secs(1));

#[test]
fn who_helps_with_a_batch_that_hangs_is_given_up_after_its_owner_unless_it_comes_back() {
    let begin = Instant::now();
    let later = begin + Duration::from_secs(2);
    for comes_back in [true, false] {
        let mut slots = WorkerSlots::default();
        let [owner, helper, idle] = [(); 3].map(|()| slots.add());
        let team = Arc::new(Team::new());
        team.open();
        slots.took(owner, begin, &[], Some(Arc::clone(&team)));
        slots.helps(helper, Some(Arc::clone(&team)));
        assert!(slots.retire(begin, LIMIT, &[]).workers.is_empty());

        let first = slots.retire(later, LIMIT, &[]);
        assert_eq!((&*first.workers, first.had_batch), (&[owner][..], 1));
        assert!(Arc::ptr_eq(&first.teams[0], &team));
        assert!(!team.help(|| true), "who can leaves it at once");

        if comes_back {
            slots.helps(helper, None);
        }
        let second = slots.retire(later, LIMIT, &[]);
        match comes_back {
            true => assert!(second.workers.is_empty()),
            false => assert_eq!((&*second.workers, second.had_batch), (&[helper][..], 0)),
        }
        assert!(!slots.is_retired(idle));
        assert!(slots.retire(later, LIMIT, &[]).workers.is_empty(), "once");
    }
}

#[test]
fn nobody_is_given_up_for_hanging_without_a_limit() {
    let begin = Instant::now();
    let mut slots = WorkerSlots::default();
    let [owner, dead] = [(); 2].map(|()| slots.add());
    slots.took(owner, begin, &[], None);
    let later = begin + Duration::from_secs(3600);
    assert_eq!(slots.retire(later, None, &[dead]).workers, [dead]);
    assert_eq!(slots.busy(), 1);
}
