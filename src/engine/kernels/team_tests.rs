use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use super::team::Team;

/// Shares several jobs among as many helpers and checks that each share ran once.
fn share_jobs(helpers: usize, jobs: &[u16]) {
    let team = Team::new();
    team.open();
    thread::scope(|scope| {
        for _ in 0..helpers {
            scope.spawn(|| while team.help(|| true) {});
        }
        for &shares in jobs {
            let runs: Vec<AtomicUsize> = (0..shares).map(|_| AtomicUsize::new(0)).collect();
            team.share(shares, &|share| {
                runs[share].fetch_add(1, Ordering::Relaxed);
            });
            assert!(runs.iter().all(|runs| runs.load(Ordering::Relaxed) == 1));
        }
        team.close();
    });
}

#[test]
fn each_share_runs_once_with_any_helpers() {
    let jobs: Vec<u16> = (0..200).map(|job| job % 17).collect();
    for helpers in 0..4 {
        share_jobs(helpers, &jobs[..if cfg!(miri) { 20 } else { 200 }]);
    }
}

#[test]
fn a_helper_goes_when_the_pass_is_over_or_it_has_something_else_to_do() {
    let team = Team::new();
    assert!(!team.help(|| true), "it is not open yet");
    team.open();
    assert!(!team.help(|| false));
    team.close();
    assert!(!team.help(|| true));
}

#[test]
fn a_helper_does_not_wait_for_ever_for_a_share() {
    let team = Team::new();
    team.open();
    assert!(team.help(|| true));
}

#[test]
fn a_share_that_panics_affects_no_other_thread() {
    let team = Team::new();
    team.open();
    thread::scope(|scope| {
        scope.spawn(|| while team.help(|| true) {});
        let runs = AtomicUsize::new(0);
        let shared = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            team.share(9, &|share| {
                runs.fetch_add(1, Ordering::Relaxed);
                assert_ne!(share, 4, "a bug");
            });
        }));
        assert!(shared.is_err());
        assert_eq!(runs.into_inner(), 9);
        team.share(3, &|_| {});
        team.close();
    });
}
