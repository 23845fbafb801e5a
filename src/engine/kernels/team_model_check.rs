//! The team's own source over atomics whose every step [shuttle](https://docs.rs/shuttle) orders.

#![allow(
    clippy::duplicate_mod,
    dead_code,
    unreachable_pub,
    reason = "the product's file, over other threads"
)]
#![cfg(not(miri))]

use std::sync::Arc;

use shuttle::sync::atomic::AtomicUsize;
use shuttle::thread;

mod sync {
    pub(super) use shuttle::sync::atomic::{
        AtomicBool, AtomicPtr, AtomicU64, AtomicUsize, Ordering,
    };
    pub(super) use shuttle::thread::yield_now as pause;

    /// Few enough that helpers also leave in the middle.
    pub(super) const MAX_IDLE_SPINS: usize = 6;
}
#[path = "team.rs"]
mod team;

use sync::Ordering;
use team::Team;

/// One pass of two jobs, then another pass, with helpers that come and go.
fn two_passes(helpers: usize) {
    let team = Arc::new(Team::new());
    let helpers: Vec<_> = (0..helpers)
        .map(|_| {
            let team = Arc::clone(&team);
            thread::spawn(move || {
                team.help(|| true);
            })
        })
        .collect();
    for jobs in [[2, 3], [1, 2]] {
        team.open();
        for shares in jobs {
            // What a share writes lives no longer than its job: a late helper would be caught
            // by shuttle's own bookkeeping of dropped values, or count twice.
            let runs: Vec<AtomicUsize> = (0..shares).map(|_| AtomicUsize::new(0)).collect();
            team.share(shares, &|share| {
                runs[share].fetch_add(1, Ordering::SeqCst);
            });
            assert!(runs.iter().all(|runs| runs.load(Ordering::SeqCst) == 1));
        }
        team.close();
    }
    for helper in helpers {
        helper.join().unwrap();
    }
}

#[test]
fn no_share_is_lost_or_run_twice_in_any_schedule() {
    shuttle::check_random(|| two_passes(2), 2_000);
}
