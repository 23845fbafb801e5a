//! What is known about each model and each of its versions.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use crate::metrics::ModelState;
use crate::model::repository::discovery::{FoundModel, FoundVersion};
use crate::model::repository::files::Files;
use crate::model::repository::plan::{Observation, Outcome};
use crate::model::repository::served::Served;
use crate::model::repository::state::{State, Versions, may_follow};

/// One model's.
#[derive(Default)]
pub(super) struct ModelRecord {
    pub(super) versions: BTreeMap<u64, VersionRecord>,
    /// Whether someone asked that it be unloaded.
    pub(super) is_held: bool,
    /// Whether it is one too many.
    pub(super) is_too_many: bool,
}

/// One version's.
pub(super) struct VersionRecord {
    pub(super) observation: Observation,
    pub(super) directory: PathBuf,
    /// When it came into its present state, by our clock and by the file system's.
    pub(super) since: Instant,
    pub(super) changed: Option<SystemTime>,
    pub(super) tried: Option<(Files, Outcome)>,
    /// Whether it was refused in its present state.
    pub(super) is_given_up: bool,
    /// When reading it last took too long.
    late_at: Option<Instant>,
    /// How often that happened in its present state.
    late_tries: u32,
    /// `None` keeps it out of the index.
    pub(super) state: Option<State>,
}

impl ModelRecord {
    /// Records the result of a scan.
    pub(super) fn observe(&mut self, mut found: FoundModel, now: Instant) {
        for (&version, record) in &mut self.versions {
            let observation = match (found.versions.remove(&version), &found.instead) {
                (Some(found), _) => {
                    record.observe(found, now);
                    continue;
                }
                // It is not known whether it is gone.
                (
                    None,
                    Some(observation @ (Observation::Unreadable(_) | Observation::Faulty(_))),
                ) => observation.clone(),
                // Nothing was there before either.
                (None, Some(observation @ Observation::Empty(_))) if record.tried.is_none() => {
                    observation.clone()
                }
                (None, _) => Observation::Gone,
            };
            record.observe(FoundVersion::nowhere(observation), now);
        }
        let come = found.versions.into_iter();
        self.versions
            .extend(come.map(|(version, found)| (version, VersionRecord::new(found, now))));
        if let Some(observation) = found.instead
            && self.versions.is_empty()
        {
            let stand_in = VersionRecord::new(FoundVersion::nowhere(observation), now);
            self.versions.insert(1, stand_in);
        }
    }

    /// What the index shows for it.
    pub(super) fn states(&self) -> Versions {
        let states = self.versions.iter();
        states
            .filter_map(|(&version, record)| Some((version, record.state.clone()?)))
            .collect()
    }
}

impl VersionRecord {
    pub(super) fn new(found: FoundVersion, now: Instant) -> Self {
        Self {
            observation: found.observation,
            directory: found.directory,
            since: now,
            changed: found.changed,
            tried: None,
            is_given_up: false,
            late_at: None,
            late_tries: 0,
            state: None,
        }
    }

    pub(super) fn observe(&mut self, found: FoundVersion, now: Instant) {
        if self.observation != found.observation {
            self.observation = found.observation;
            self.since = now;
            self.is_given_up = false;
            self.late_tries = 0;
        }
        self.directory = found.directory;
        self.changed = found.changed;
    }

    /// How long it has been in its present state. Files that were moved here with their directory have been
    /// unchanged for longer than they have been observed.
    pub(super) fn unchanged_for(&self, now: Instant, wall_now: SystemTime) -> Duration {
        let seen = now.saturating_duration_since(self.since);
        let changed = self.changed.and_then(|at| wall_now.duration_since(at).ok());
        changed.map_or(seen, |changed| changed.max(seen))
    }

    /// Records the outcome of a load.
    pub(super) fn was_tried(&mut self, files: Files, outcome: Outcome) {
        if let Outcome::Late(_) = outcome {
            self.late_at = Some(Instant::now());
            self.late_tries += 1;
        }
        self.tried = Some((files, outcome));
    }

    /// Whether enough time has passed since reading it took too long: `pause` returns how long to wait after
    /// this many tries.
    pub(super) fn was_left_alone(&self, now: Instant, pause: impl Fn(u32) -> Duration) -> bool {
        let since = self.late_at.map(|at| now.saturating_duration_since(at));
        since.is_none_or(|since| since >= pause(self.late_tries))
    }

    pub(super) fn kind(&self) -> Option<ModelState> {
        self.state.as_ref().map(State::kind)
    }

    pub(super) fn reason(&self) -> Option<&str> {
        self.state.as_ref().map(State::reason)
    }

    pub(super) fn served(&self) -> Option<&Arc<Served>> {
        self.state.as_ref().and_then(State::served)
    }

    /// Sets why its directory's files do not serve in place of the version that does.
    pub(super) fn note(&mut self, reason: Option<&str>) {
        if let Some(State::Ready(_, note)) = &mut self.state {
            *note = reason.map(Into::into);
        }
    }

    pub(super) fn set(&mut self, state: Option<State>) {
        let to = state.as_ref().map(State::kind);
        debug_assert!(may_follow(self.kind(), to), "{:?} to {to:?}", self.kind());
        self.state = state;
    }
}
