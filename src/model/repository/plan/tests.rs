use proptest::prelude::*;

use super::*;

const SETTLE: Duration = Duration::from_secs(1);
const INCOMPLETE_TIMEOUT: Duration = Duration::from_secs(30);
const LONG: Duration = Duration::from_secs(3600);

fn rule(policy: &VersionPolicy) -> Rule<'_> {
    Rule {
        policy,
        max_versions: 16,
        settle: SETTLE,
        incomplete_timeout: INCOMPLETE_TIMEOUT,
        is_held: false,
    }
}

/// Files that differ by a number.
fn files(number: u64) -> Observation {
    Observation::Files(Files::of_bytes(number))
}

/// A version that was never tried and has settled.
fn new(observation: Observation) -> VersionStatus {
    VersionStatus {
        observation,
        unchanged_for: LONG,
        tried: None,
        is_ready: false,
        is_given_up: false,
        may_be_tried_again: true,
    }
}

fn tried(outcome: Outcome) -> VersionStatus {
    VersionStatus {
        is_ready: outcome == Outcome::Loaded,
        tried: Some((Files::of_bytes(1), outcome)),
        ..new(files(1))
    }
}

fn ready() -> VersionStatus {
    tried(Outcome::Loaded)
}

/// A version that serves although its files have been replaced.
fn ready_with(observation: Observation) -> VersionStatus {
    VersionStatus {
        observation,
        ..ready()
    }
}

fn refused(reason: &str) -> VersionStatus {
    tried(Outcome::Refused(reason.into()))
}

fn after(unchanged_for: Duration, status: VersionStatus) -> VersionStatus {
    VersionStatus {
        unchanged_for,
        ..status
    }
}

/// What is to be done with a model's only version.
fn alone(status: VersionStatus) -> Action {
    let actions = plan(&rule(&VersionPolicy::All), &[(7, status)].into());
    let [(7, action)] = &actions[..] else {
        panic!("{actions:?}");
    };
    action.clone()
}

/// What is to be done with versions 1, 2, 3 and so on.
fn of_all(rule: &Rule<'_>, statuses: Vec<VersionStatus>) -> Vec<(u64, Action)> {
    plan(rule, &(1..).zip(statuses).collect())
}

fn look_after(action: &Action) -> Option<Duration> {
    match action {
        Action::Wait { look_after, .. } => Some(*look_after),
        _ => None,
    }
}

#[test]
fn what_is_new_is_loaded_and_what_is_loaded_is_kept() {
    assert_eq!(alone(new(files(1))), Action::Load);
    assert_eq!(alone(ready()), Action::Keep);
}

#[test]
fn other_files_replace_what_serves_and_are_tried_again_if_they_failed() {
    assert_eq!(alone(ready_with(files(2))), Action::Load);
    let changed = VersionStatus {
        observation: files(2),
        ..refused("bad")
    };
    assert_eq!(alone(changed), Action::Load);
}

#[test]
fn what_was_refused_is_not_tried_again_as_it_is() {
    assert_eq!(alone(refused("bad")), Action::Refuse("bad".into()));
}

#[test]
fn files_are_loaded_once_they_are_left_alone() {
    for status in [new(files(1)), ready_with(files(2))] {
        let action = alone(after(SETTLE / 4, status.clone()));
        assert_eq!(look_after(&action), Some(SETTLE / 4 * 3), "{action:?}");
        assert_eq!(alone(after(SETTLE, status)), Action::Load);
    }
}

#[test]
fn what_serves_is_unloaded_once_it_is_gone_for_good() {
    let gone = ready_with(Observation::Gone);
    let action = alone(after(SETTLE / 2, gone.clone()));
    assert_eq!(look_after(&action), Some(SETTLE / 2));
    assert_eq!(alone(gone), Action::Unload("its files are gone".into()));
    // A version that does not serve need not stay.
    assert_eq!(
        alone(after(Duration::ZERO, new(Observation::Gone))),
        Action::Forget
    );
}

#[test]
fn half_a_copy_is_looked_at_again_at_growing_intervals_and_not_for_ever() {
    let half = || tried(Outcome::Incomplete("cut".into()));
    let wait = |unchanged_for| look_after(&alone(after(unchanged_for, half())));
    assert_eq!(wait(Duration::ZERO), Some(SOONEST));
    assert_eq!(wait(Duration::from_secs(2)), Some(Duration::from_secs(2)));
    assert_eq!(wait(Duration::from_secs(20)), Some(LATEST));
    let last = Duration::from_millis(1);
    assert_eq!(wait(INCOMPLETE_TIMEOUT - last), Some(last));
    assert_eq!(
        alone(after(INCOMPLETE_TIMEOUT, half())),
        Action::Refuse("cut".into())
    );

    // An empty directory may be a version that is being copied.
    let empty = || new(Observation::Empty("nothing".into()));
    let begun = alone(after(Duration::ZERO, empty()));
    assert_eq!(look_after(&begun), Some(SOONEST));
    assert_eq!(alone(empty()), Action::Refuse("nothing".into()));
}

#[test]
fn what_was_given_up_is_not_waited_for_again_as_it_is() {
    for observation in [
        new(Observation::Empty("cut".into())),
        tried(Outcome::Incomplete("cut".into())),
    ] {
        let given_up = VersionStatus {
            is_given_up: true,
            ..after(SETTLE, observation)
        };
        assert_eq!(alone(given_up), Action::Refuse("cut".into()));
    }
}

#[test]
fn half_a_copy_over_what_serves_waits_and_unloads_nothing() {
    let half = VersionStatus {
        is_ready: true,
        ..tried(Outcome::Incomplete("cut".into()))
    };
    assert!(look_after(&alone(after(SETTLE, half.clone()))).is_some());
    assert_eq!(alone(half), Action::Refuse("cut".into()));
}

#[test]
fn what_cannot_be_looked_at_goes_on_serving() {
    for observation in [
        Observation::Unreadable("stale".into()),
        Observation::Faulty("stale".into()),
    ] {
        assert_eq!(
            alone(ready_with(observation)),
            Action::Refuse("stale".into())
        );
    }
}

#[test]
fn what_had_no_room_is_loaded_when_there_is() {
    let without = VersionStatus {
        may_be_tried_again: false,
        ..tried(Outcome::NoRoom("full".into()))
    };
    assert_eq!(alone(without.clone()), Action::Refuse("full".into()));
    let with = VersionStatus {
        may_be_tried_again: true,
        ..without
    };
    assert_eq!(alone(with), Action::Load);
}

#[test]
fn what_had_to_leave_is_loaded_when_it_is_wanted_again() {
    let left = VersionStatus {
        is_ready: false,
        ..ready()
    };
    assert_eq!(alone(left), Action::Load);
}

#[test]
fn the_newest_are_loaded_and_the_rest_stays_out_of_the_index() {
    let policy = VersionPolicy::Latest(2);
    let actions = of_all(&rule(&policy), vec![new(files(1)); 4]);
    assert_eq!(
        actions,
        [
            (4, Action::Load),
            (3, Action::Load),
            (2, Action::Leave(None)),
            (1, Action::Leave(None)),
        ]
    );
}

#[test]
fn an_older_version_leaves_only_when_the_newer_one_serves() {
    let policy = VersionPolicy::Latest(1);
    let newest = |status| of_all(&rule(&policy), vec![ready(), status]);
    assert_eq!(
        newest(new(files(1))),
        [(2, Action::Load), (1, Action::Keep)]
    );
    let half = tried(Outcome::Incomplete("cut".into()));
    let waiting = newest(after(SETTLE, half));
    assert!(look_after(&waiting[0].1).is_some());
    assert_eq!(waiting[1], (1, Action::Keep));
    let bad = newest(refused("bad"));
    assert_eq!(bad, [(2, Action::Refuse("bad".into())), (1, Action::Keep)]);
    let served = newest(ready());
    assert_eq!(served[0], (2, Action::Keep));
    assert!(matches!(served[1], (1, Action::Unload(_))));
}

#[test]
fn an_older_version_takes_the_place_of_a_bad_or_deleted_one() {
    let policy = VersionPolicy::Latest(1);
    for newest in [refused("bad"), new(Observation::Gone)] {
        let actions = of_all(&rule(&policy), vec![new(files(1)), newest]);
        assert_eq!(actions[0], (1, Action::Load));
    }
}

#[test]
fn the_replacement_of_a_deleted_version_is_loaded_before_that_one_is_unloaded() {
    let policy = VersionPolicy::Latest(1);
    let gone = ready_with(Observation::Gone);
    let of = |status| of_all(&rule(&policy), vec![new(files(1)), status]);
    let actions = of(after(SETTLE / 2, gone.clone()));
    assert_eq!(actions[0], (1, Action::Load));
    assert!(look_after(&actions[1].1).is_some());
    let actions = of(gone);
    assert_eq!(actions[0], (1, Action::Load));
    assert!(matches!(actions[1], (2, Action::Unload(_))));
}

#[test]
fn given_versions_are_served_and_no_others() {
    let policy = VersionPolicy::Only([1, 3, 9].into());
    let actions = of_all(&rule(&policy), vec![new(files(1)); 3]);
    assert_eq!(
        actions,
        [
            (3, Action::Load),
            (1, Action::Load),
            (2, Action::Leave(None))
        ]
    );
}

#[test]
fn more_versions_than_are_allowed_have_their_reason() {
    let policy = VersionPolicy::All;
    let rule = Rule {
        max_versions: 1,
        ..rule(&policy)
    };
    let actions = of_all(&rule, vec![ready(), ready(), new(files(1))]);
    // Not before the newest serves.
    assert_eq!(actions[0], (3, Action::Load));
    assert_eq!(actions[1], (2, Action::Keep));
    let actions = of_all(&rule, vec![new(files(1)), ready(), ready()]);
    assert_eq!(actions[0], (3, Action::Keep));
    let (2, Action::Unload(reason)) = &actions[1] else {
        panic!("{actions:?}");
    };
    assert!(
        reason.starts_with("models.max_versions: 1 newer"),
        "{reason}"
    );
    assert_eq!(actions[2], (1, Action::Leave(Some(reason.clone()))));
}

#[test]
fn a_model_that_is_held_serves_nothing_until_it_is_not() {
    let policy = VersionPolicy::All;
    let rule = Rule {
        is_held: true,
        ..rule(&policy)
    };
    let actions = of_all(&rule, vec![ready(), new(files(1)), new(Observation::Gone)]);
    let reason = "it was unloaded on request";
    assert_eq!(
        actions,
        [
            (3, Action::Forget),
            (2, Action::Leave(Some(reason.into()))),
            (1, Action::Unload(reason.into())),
        ]
    );
}

#[test]
fn weights_fit_up_to_the_last_byte() {
    assert_eq!(room(4, 6, 10), Ok(()));
    let reason = room(5, 6, 10).unwrap_err();
    assert!(reason.starts_with("its weights take 5 bytes and 6 are taken of the 10 that"));
    assert!(room(u64::MAX, 1, 10).is_err() && room(1, u64::MAX, 10).is_err());
    assert_eq!(room(u64::MAX, 0, u64::MAX), Ok(()));
}

/// A repository whose files are numbers: the number determines the outcome of its load.
#[derive(Debug, Default)]
struct World {
    versions: BTreeMap<u64, VersionStatus>,
    is_held: bool,
}

fn is_good(observation: &Observation) -> bool {
    matches!(observation, Observation::Files(files) if files.weight_bytes() % 3 == 0)
}

impl World {
    /// Puts files with this number into a version's place, or takes away what is there.
    fn change(&mut self, version: u64, number: Option<u64>) {
        let observation = number.map_or(Observation::Gone, files);
        let status = self
            .versions
            .entry(version)
            .or_insert_with(|| new(Observation::Gone));
        if status.observation != observation {
            status.observation = observation;
            status.is_given_up = false;
        }
    }

    /// Applies plans until nothing changes any more; returns how many there were.
    fn settle(&mut self, policy: &VersionPolicy, max_versions: usize) -> usize {
        let rule = Rule {
            max_versions,
            is_held: self.is_held,
            ..rule(policy)
        };
        for round in 1.. {
            let before = self.versions.clone();
            for (version, action) in plan(&rule, &self.versions) {
                let status = self.versions.get_mut(&version).unwrap();
                match action {
                    Action::Load => {
                        let Observation::Files(files) = status.observation.clone() else {
                            panic!("{status:?}");
                        };
                        let outcome = match files.weight_bytes() % 3 {
                            0 => Outcome::Loaded,
                            1 => Outcome::Refused("bad".into()),
                            _ => Outcome::Incomplete("cut".into()),
                        };
                        status.is_ready |= outcome == Outcome::Loaded;
                        status.tried = Some((files, outcome));
                    }
                    Action::Refuse(_) => status.is_given_up = true,
                    Action::Unload(_) => status.is_ready = false,
                    Action::Forget => drop(self.versions.remove(&version)),
                    Action::Wait { .. } | Action::Leave(_) | Action::Keep => {}
                }
            }
            if self.versions == before {
                return round;
            }
        }
        unreachable!("it ends or goes on for ever")
    }
}

fn policies() -> impl Strategy<Value = VersionPolicy> {
    prop_oneof![
        Just(VersionPolicy::All),
        (1..3_usize).prop_map(VersionPolicy::Latest),
        prop::collection::btree_set(1..6_u64, 1..4).prop_map(VersionPolicy::Only),
    ]
}

proptest! {
    /// Whatever happens to the files, in any order: the newest valid versions are served, as many as are
    /// wanted, and bad files never end what serves.
    #[test]
    fn the_newest_good_versions_serve_after_any_history(
        policy in policies(),
        max_versions in 1..4_usize,
        steps in prop::collection::vec(
            (1..6_u64, prop::option::weighted(0.8, 0..12_u64), prop::bool::weighted(0.1)),
            1..30,
        ),
    ) {
        let most = match &policy {
            VersionPolicy::Latest(count) => max_versions.min(*count),
            _ => max_versions,
        };
        let mut world = World::default();
        for (version, number, toggle) in steps {
            world.is_held ^= toggle;
            world.change(version, number);
            let served_before: Vec<u64> = world
                .versions
                .iter()
                .filter(|(_, status)| status.is_ready)
                .map(|(&version, _)| version)
                .collect();
            let rounds = world.settle(&policy, max_versions);
            prop_assert!(rounds <= 2 * 5 + 1, "{rounds} rounds");

            let mut ready = 0;
            for (version, status) in world.versions.iter().rev() {
                let is_listed = match &policy {
                    VersionPolicy::Only(listed) => listed.contains(version),
                    _ => true,
                };
                let serves_or_could =
                    is_good(&status.observation) || served_before.contains(version);
                let should = !world.is_held && is_listed && ready < most && serves_or_could;
                prop_assert_eq!(status.is_ready, should, "{}: {:?}", version, status);
                ready += usize::from(status.is_ready);
            }
        }
    }
}
