//! Workers that are given up.

use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::engine::kernels::Team;
use crate::scheduler::seats::Seats;

const LIMIT: Option<Duration> = Some(Duration::from_secs(1));

#[test]
fn who_helps_with_a_batch_that_hangs_is_given_up_after_its_owner_unless_it_comes_back() {
    let begin = Instant::now();
    let later = begin + Duration::from_secs(2);
    for comes_back in [true, false] {
        let mut seats = Seats::default();
        let [owner, helper, idle] = [(); 3].map(|()| seats.add());
        let team = Arc::new(Team::new());
        team.open();
        seats.took(owner, begin, &[], Some(Arc::clone(&team)));
        seats.helps(helper, Some(Arc::clone(&team)));
        assert!(seats.retire(begin, LIMIT, &[]).seats.is_empty());

        let first = seats.retire(later, LIMIT, &[]);
        assert_eq!((&*first.seats, first.had_batch), (&[owner][..], 1));
        assert!(Arc::ptr_eq(&first.teams[0], &team));
        assert!(!team.help(|| true), "who can leaves it at once");

        if comes_back {
            seats.helps(helper, None);
        }
        let second = seats.retire(later, LIMIT, &[]);
        match comes_back {
            true => assert!(second.seats.is_empty()),
            false => assert_eq!((&*second.seats, second.had_batch), (&[helper][..], 0)),
        }
        assert!(!seats.is_retired(idle));
        assert!(seats.retire(later, LIMIT, &[]).seats.is_empty(), "once");
    }
}

#[test]
fn nobody_is_given_up_for_hanging_without_a_limit() {
    let begin = Instant::now();
    let mut seats = Seats::default();
    let [owner, dead] = [(); 2].map(|()| seats.add());
    seats.took(owner, begin, &[], None);
    let later = begin + Duration::from_secs(3600);
    assert_eq!(seats.retire(later, None, &[dead]).seats, [dead]);
    assert_eq!(seats.busy(), 1);
}
