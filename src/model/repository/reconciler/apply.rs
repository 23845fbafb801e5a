//! Applying a plan to a version: loading it, refusing it, dropping it.

use std::path::PathBuf;
use std::sync::Arc;

use tracing::{error, info, warn};

use super::Reconciler;
use super::records::VersionRecord;
use crate::metrics::{LoadResult, ModelState};
use crate::model::repository::files::Files;
use crate::model::repository::plan::{self, Action, Observation, Outcome};
use crate::model::repository::served::{self, Served};
use crate::model::repository::state::State;

impl Reconciler {
    pub(super) fn apply(&mut self, name: &str, version: u64, action: Action) {
        let record = self.version(name, version);
        let is_draining = matches!(record.state, Some(State::Unloading(_)));
        match action {
            Action::Load => self.load_version(name, version),
            Action::Keep => record.note(None),
            Action::Wait { reason, look_after } => {
                match record.served() {
                    Some(_) => record.note(Some(&reason)),
                    None => record.set(Some(State::Loading(reason.into()))),
                }
                let sooner = self
                    .look_after
                    .map_or(look_after, |after| after.min(look_after));
                self.look_after = Some(sooner);
            }
            Action::Refuse(reason) => {
                if is_draining {
                    return;
                }
                record.is_given_up = true;
                let is_news =
                    record.reason() != Some(&*reason) || record.kind() == Some(ModelState::Loading);
                let goes_on = record.served().is_some();
                match goes_on {
                    true => record.note(Some(&reason)),
                    false => record.set(Some(State::Unavailable(reason.as_str().into()))),
                }
                match (self.is_started && is_news, goes_on) {
                    (false, _) => {}
                    (true, true) => error!(
                        model = name,
                        version, reason, "new files refused: the model goes on as it was"
                    ),
                    (true, false) => error!(model = name, version, reason, "model refused"),
                }
            }
            Action::Unload(reason) => {
                info!(model = name, version, reason, "model unloading");
                let served = record.served().cloned();
                record.set(Some(State::Unloading(reason.into())));
                self.retired.extend(served);
            }
            Action::Leave(_) | Action::Forget if is_draining => {}
            Action::Leave(reason) => {
                record.set(reason.map(|reason| State::Unavailable(reason.into())));
            }
            Action::Forget => {
                record.set(None);
                let model = self.models.get_mut(name).expect("it is known");
                model.versions.remove(&version);
            }
        }
    }

    /// Loads a version; it replaces the one that answers in its place, if any.
    fn load_version(&mut self, name: &str, version: u64) {
        let record = self.version(name, version);
        let before = record.served().cloned();
        let Observation::Files(files) = record.observation.clone() else {
            unreachable!("only files are loaded");
        };
        let directory = record.directory.clone();
        if before.is_none() {
            record.set(Some(State::Loading("its files are being read".into())));
            self.publish(name);
        }
        let room = self.room_for(&files);
        let loaded = room
            .map_err(Outcome::NoRoom)
            .and_then(|()| self.load_files(name, version, directory, &files, before.as_deref()));
        let (outcome, result) = match loaded {
            Ok(Some(served)) => {
                self.report(&served, before.is_some());
                let served = Arc::new(served);
                self.version(name, version)
                    .set(Some(State::Ready(served, None)));
                self.retired.extend(before);
                self.publish(name);
                (Outcome::Loaded, LoadResult::Loaded)
            }
            Ok(None) => {
                self.version(name, version).note(None);
                (Outcome::Loaded, LoadResult::Unchanged)
            }
            Err(outcome @ Outcome::Incomplete(_)) => (outcome, LoadResult::Incomplete),
            Err(outcome) => (outcome, LoadResult::Refused),
        };
        self.metrics.model_load(result);
        self.version(name, version).was_tried(files, outcome);
    }

    /// Loads files and tries their model; `None` if it is the one that serves.
    fn load_files(
        &self,
        name: &str,
        version: u64,
        directory: PathBuf,
        files: &Files,
        before: Option<&Served>,
    ) -> Result<Option<Served>, Outcome> {
        let read = {
            let (name, directory, files) = (name.to_owned(), directory.clone(), files.clone());
            move || {
                let read = served::read(&name, version, &directory)?;
                // In the middle of a change, one file may be of one version and the next of another.
                let after = Files::observe(&directory);
                match after.is_ok_and(|after| after.files == files) {
                    true => Ok(read),
                    false => {
                        let reason = "its files changed while they were read";
                        Err(Outcome::Incomplete(reason.to_owned()))
                    }
                }
            }
        };
        let key = (name.to_owned(), version);
        let read = self.reading.wait_for(key, read);
        let (model, seconds) = read.unwrap_or_else(|late| Err(Outcome::Late(late)))?;
        if before.is_some_and(|before| before.model.fingerprint == model.fingerprint) {
            return Ok(None);
        }
        served::serve(model, directory, seconds, &self.scheduler, &self.metrics)
            .map(Some)
            .map_err(Outcome::Refused)
    }

    /// Logs that a version serves from now on.
    fn report(&self, served: &Served, is_replacement: bool) {
        if !self.is_started {
            return;
        }
        let model = &served.model;
        let (name, version) = (&model.name, model.version);
        info!(
            model = name,
            version,
            fingerprint = model.fingerprint,
            seconds = served.loaded.seconds,
            is_replacement,
            "model loaded"
        );
        if let Some(reason) = &served.loaded.warning {
            warn!(model = name, version, reason, "model may refuse requests");
        }
    }

    /// Drops unloaded versions whose last request has ended; returns whether there were any.
    pub(super) fn reap_retired(&mut self) -> bool {
        // No request finds them any more, so the last holder stays the last.
        let ended = |served: &mut Arc<Served>| Arc::strong_count(served) == 1;
        let ended: Vec<Arc<Served>> = self.retired.extract_if(.., ended).collect();
        for served in &ended {
            let (name, version) = (&served.model.name, served.model.version);
            let same =
                |other: &Arc<Served>| other.model.name == *name && other.model.version == version;
            if self.retired.iter().any(same) {
                continue;
            }
            let model = self.models.get_mut(name);
            let record = model.and_then(|model| model.versions.get_mut(&version));
            let serves = record
                .as_ref()
                .is_some_and(|record| record.served().is_some());
            if !serves {
                self.metrics.forget(name, version);
            }
            if let Some(record) = record
                && matches!(record.state, Some(State::Unloading(_)))
            {
                record.set(None);
                info!(model = name, version, "model unloaded");
            }
        }
        !ended.is_empty()
    }

    /// Whether files' weights fit into memory with those already loaded; the reason if not.
    pub(super) fn room_for(&self, files: &Files) -> Result<(), String> {
        let wanted = files.weight_bytes();
        plan::room(wanted, self.weight_bytes(), self.settings.max_weight_bytes)
    }

    /// The bytes of weights in memory, including those that an abandoned read may still load.
    fn weight_bytes(&self) -> u64 {
        let versions = self.models.iter().flat_map(|(name, model)| {
            let versions = model.versions.iter();
            versions.map(move |(version, record)| (name, *version, record))
        });
        let (mut serving, mut overdue) = (0, 0);
        for (name, version, record) in versions {
            serving += record.served().map_or(0, |served| weight_bytes(served));
            if let Some((files, Outcome::Late(_))) = &record.tried
                && self.reading.is_overdue(&(name.clone(), version))
            {
                overdue += files.weight_bytes();
            }
        }
        let retired: u64 = self.retired.iter().map(|served| weight_bytes(served)).sum();
        serving + overdue + retired
    }

    fn version(&mut self, name: &str, version: u64) -> &mut VersionRecord {
        let model = self.models.get_mut(name).expect("it is known");
        model.versions.get_mut(&version).expect("it is known")
    }
}

fn weight_bytes(served: &Served) -> u64 {
    served.model.engine.weight_bytes() as u64
}
