//! Brings what is served in line with the repository's directory: observes it, plans, and applies the plan,
//! version by version.

mod apply;
mod records;

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use tracing::{error, info, warn};

use super::discovery::{self, Findings, Shape};
use super::error::RepositoryError;
use super::file_timeout::FileTimeout;
use super::plan::{self, Action, Observation, Outcome, Rule, VersionStatus};
use super::served::Served;
use super::settings::RepositorySettings;
use super::state::Published;
use super::watch::Watch;
use crate::metrics::Metrics;
use crate::scheduler::Scheduler;
use records::ModelRecord;

/// How often the loader checks whether the last request of an unloaded version has ended.
const DRAINING: Duration = Duration::from_millis(100);

/// Why a model is not loaded when the most models are already served.
const TOO_MANY_MODELS: &str = "models.max_models: as many models as it allows are there already; \
     raise it, or take away models";

/// All versions of all models, and all that it takes to load more.
///
/// What is done with one version is in `apply.rs`, what is known about it in `records.rs`.
pub(super) struct Reconciler {
    settings: RepositorySettings,
    shape: Shape,
    scheduler: Arc<Scheduler>,
    metrics: Metrics,
    /// How long a scan of the directory may take.
    looking: FileTimeout<&'static str>,
    /// How long reading a version may take: one that hangs delays no other version, and no scan.
    reading: FileTimeout<(String, u64)>,
    published: Arc<Published>,
    models: BTreeMap<String, ModelRecord>,
    /// Versions that no new request finds, until their last one ends.
    retired: Vec<Arc<Served>>,
    /// The directories in which changes can be noticed, as of the last scan.
    watched: Vec<PathBuf>,
    is_started: bool,
    /// Whether the repository could not be read at the last scan.
    is_lost: bool,
    /// The time until incomplete files are checked again.
    look_after: Option<Duration>,
    /// How long the last scan took.
    scan_took: Duration,
}

/// Why the directory is scanned.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Cause {
    /// The process starts. Incomplete files are refused without waiting, and checked again when they change.
    Start,
    /// Something may have changed.
    Change,
    /// An operator asked: earlier failures are tried again, and complete files are loaded at once.
    Request,
}

impl Reconciler {
    /// Loads what a directory holds.
    pub(super) fn begin(
        settings: RepositorySettings,
        scheduler: &Arc<Scheduler>,
        metrics: &Metrics,
        published: &Arc<Published>,
    ) -> Result<Self, RepositoryError> {
        let directory = settings.directory.clone();
        let name = settings.name.clone();
        let looking = FileTimeout::new(settings.load_timeout);
        let reading = FileTimeout::new(settings.load_timeout);
        let look = {
            let directory = directory.clone();
            move || {
                let shape = Shape::of(&directory, name.as_ref())?;
                let findings = discovery::find(&directory, &shape)?;
                Ok((shape, findings))
            }
        };
        let looked = looking.wait_for("look", look);
        let (shape, findings) = looked
            .unwrap_or_else(|late| Err(io::Error::other(late)))
            .map_err(|error| RepositoryError::Unreadable {
                directory: directory.clone(),
                error,
            })?;
        let mut reconciler = Self {
            looking,
            reading,
            settings,
            shape,
            scheduler: Arc::clone(scheduler),
            metrics: metrics.clone(),
            published: Arc::clone(published),
            models: BTreeMap::new(),
            retired: Vec::new(),
            watched: Vec::new(),
            is_started: false,
            is_lost: false,
            look_after: None,
            scan_took: Duration::ZERO,
        };
        reconciler.observe(findings);
        if reconciler.models.is_empty() {
            return Err(RepositoryError::Empty { directory });
        }
        reconciler.reconcile_all(Cause::Start, &|| false);
        reconciler.is_started = true;
        Ok(reconciler)
    }

    pub(super) fn settings(&self) -> &RepositorySettings {
        &self.settings
    }

    /// The time until the directory is checked again, if sooner than for other reasons.
    pub(super) fn look_after(&self) -> Option<Duration> {
        self.look_after
    }

    /// How long the last scan took, without the loads that followed.
    pub(super) fn scan_took(&self) -> Duration {
        self.scan_took
    }

    /// The time until [`reap`](Self::reap) may find something.
    pub(super) fn reap_after(&self) -> Option<Duration> {
        (!self.retired.is_empty()).then_some(DRAINING)
    }

    /// Scans the directory and applies the plan, until `is_over` returns true.
    pub(super) fn look(&mut self, cause: Cause, is_over: &dyn Fn() -> bool) {
        if self.scan() {
            self.reconcile_all(cause, is_over);
        }
        self.reap(is_over);
    }

    /// Has a watch follow what the last scan found; returns whether it does so only from now on. A watch
    /// that the file system blocks is dropped.
    pub(super) fn have_followed(&self, watch: &mut Option<Watch>) -> bool {
        if self.is_lost {
            return false;
        }
        let Some(mut taken) = watch.take() else {
            return false;
        };
        let directories = self.watched.clone();
        let followed = self.looking.wait_for("watch", move || {
            let is_new = taken.follow(&directories);
            (taken, is_new)
        });
        match followed {
            Ok((taken, is_new)) => {
                *watch = Some(taken);
                is_new
            }
            Err(reason) => {
                warn!(
                    reason,
                    "the model repository is not watched any more: it is looked at now and then"
                );
                false
            }
        }
    }

    /// Scans the directory, and loads a model that may have been unloaded.
    pub(super) fn load(&mut self, name: &str) {
        if self.scan()
            && let Some(model) = self.models.get_mut(name)
        {
            model.is_held = false;
            self.reconcile(name, Cause::Request, &|| false);
            self.reap(&|| false);
        }
    }

    /// Unloads a model until [`load`](Self::load) is called for it.
    pub(super) fn unload(&mut self, name: &str) {
        if let Some(model) = self.models.get_mut(name) {
            model.is_held = true;
            self.reconcile(name, Cause::Request, &|| false);
            self.reap(&|| false);
        }
    }

    /// Drops unloaded versions whose last request has ended.
    pub(super) fn reap(&mut self, is_over: &dyn Fn() -> bool) {
        while self.reap_retired() {
            // There may now be room for a version that did not fit.
            self.reconcile_all(Cause::Change, is_over);
        }
    }

    /// Scans the directory. Returns whether it could be read: if not, earlier observations no longer hold,
    /// and nothing is done.
    fn scan(&mut self) -> bool {
        let started = Instant::now();
        let find = {
            let (directory, shape) = (self.settings.directory.clone(), self.shape.clone());
            move || discovery::find(&directory, &shape)
        };
        let found = self.looking.wait_for("look", find);
        if found.is_ok() {
            self.scan_took = started.elapsed();
        }
        let found = found.unwrap_or_else(|late| Err(io::Error::other(late)));
        let directory = self.settings.directory.display();
        let problem = match &found {
            Err(error) => error.to_string(),
            // A file system that is not mounted looks like this too.
            Ok(findings) if findings.hold_nothing(&self.shape) => {
                "it holds no model any more".to_owned()
            }
            Ok(_) => String::new(),
        };
        let was_lost = std::mem::replace(&mut self.is_lost, !problem.is_empty());
        match (was_lost, self.is_lost) {
            (false, true) => error!(
                %directory,
                problem,
                "the model repository is lost: what serves goes on serving"
            ),
            (true, false) => info!(%directory, "the model repository is back"),
            _ => {}
        }
        match found {
            Ok(findings) if !self.is_lost => {
                self.observe(findings);
                true
            }
            _ => false,
        }
    }

    /// Records the result of a scan.
    fn observe(&mut self, findings: Findings) {
        let Findings {
            models: mut found,
            ignored,
            watched,
        } = findings;
        self.watched = watched;
        if *self.published.ignored.load_full() != ignored {
            if self.is_started {
                let before = self.published.ignored.load_full();
                for reason in ignored.iter().filter(|reason| !before.contains(reason)) {
                    warn!(reason, "directory ignored");
                }
            }
            self.published.ignored.store(Arc::new(ignored));
        }

        let now = Instant::now();
        for (name, model) in &mut self.models {
            model.observe(found.remove(name).unwrap_or_default(), now);
        }
        // Existing models stay, whatever the names of new ones.
        let admitted = self.models.values().filter(|model| !model.is_too_many);
        let mut admitted = admitted.count();
        for model in self.models.values_mut().filter(|model| model.is_too_many) {
            model.is_too_many = admitted >= self.settings.max_models;
            admitted += usize::from(!model.is_too_many);
        }
        for (name, found) in found {
            let mut model = ModelRecord {
                is_too_many: admitted >= self.settings.max_models,
                ..ModelRecord::default()
            };
            admitted += usize::from(!model.is_too_many);
            model.observe(found, now);
            self.models.insert(name, model);
        }
    }

    fn reconcile_all(&mut self, cause: Cause, is_over: &dyn Fn() -> bool) {
        self.look_after = None;
        let names: Vec<String> = self.models.keys().cloned().collect();
        for name in names {
            if is_over() {
                return;
            }
            self.reconcile(&name, cause, is_over);
        }
        if !self.is_started {
            self.publish_all();
        }
    }

    /// Plans what is to be done with a model's versions, and applies it, until nothing is left to load.
    fn reconcile(&mut self, name: &str, cause: Cause, is_over: &dyn Fn() -> bool) {
        if cause == Cause::Request {
            let model = self.models.get_mut(name).expect("it is known");
            for record in model.versions.values_mut() {
                // Once; the next plan has the outcome again.
                record
                    .tried
                    .take_if(|(_, outcome)| *outcome != Outcome::Loaded);
            }
        }
        // Each once: a load that cannot even begin must not be tried in a loop.
        let mut loaded = BTreeSet::new();
        loop {
            let mut actions = self.plan(name, cause);
            actions
                .retain(|(version, action)| *action != Action::Load || !loaded.contains(version));
            let loads = actions.iter().any(|(_, action)| *action == Action::Load);
            for (version, action) in actions {
                if action == Action::Load {
                    if is_over() {
                        return;
                    }
                    loaded.insert(version);
                }
                self.apply(name, version, action);
            }
            self.publish(name);
            if !loads {
                break;
            }
        }
        if self.models[name].versions.is_empty() {
            self.models.remove(name);
        }
    }

    fn plan(&self, name: &str, cause: Cause) -> Vec<(u64, Action)> {
        let watch = self.settings.watch;
        let model = &self.models[name];
        let rule = Rule {
            policy: self.settings.versions.of(name),
            max_versions: self.settings.max_versions,
            settle: match (cause, watch) {
                (Cause::Change, Some(watch)) => watch.settle,
                _ => Duration::ZERO,
            },
            incomplete_timeout: match (cause, watch) {
                (Cause::Change | Cause::Request, Some(watch)) => watch.incomplete_timeout,
                // No further scan would find the rest.
                _ => Duration::ZERO,
            },
            is_held: model.is_held,
        };
        let (now, wall_now) = (Instant::now(), SystemTime::now());
        let statuses = model.versions.iter().map(|(&version, record)| {
            let mut observation = record.observation.clone();
            if model.is_too_many && observation != Observation::Gone {
                observation = Observation::Faulty(TOO_MANY_MODELS.to_owned());
            }
            let may_be_tried_again = match (&record.tried, &observation) {
                (Some((_, Outcome::NoRoom(_))), Observation::Files(files)) => {
                    self.room_for(files).is_ok()
                }
                (Some((_, Outcome::Late(_))), _) => {
                    !self.reading.is_overdue(&(name.to_owned(), version))
                        && record.was_left_alone(now, |tries| self.reading.pause(tries))
                }
                _ => true,
            };
            let status = VersionStatus {
                observation,
                unchanged_for: record.unchanged_for(now, wall_now),
                tried: record.tried.clone(),
                is_ready: record.served().is_some(),
                is_given_up: record.is_given_up,
                may_be_tried_again,
            };
            (version, status)
        });
        plan::plan(&rule, &statuses.collect())
    }

    /// Shows the states of a model's versions.
    fn publish(&self, name: &str) {
        // No request is answered before the start is done, and then all are shown.
        if !self.is_started {
            return;
        }
        let shown = self.published.models.load();
        if let Some(models) = shown.with(name, self.models[name].states()) {
            self.show(models);
        }
    }

    fn publish_all(&self) {
        let models = self.models.iter();
        let models = models.map(|(name, model)| (name.as_str(), model.states()));
        self.show(models.collect());
    }

    fn show(&self, models: super::state::Models) {
        let states = models.states();
        self.metrics
            .show_states(states.map(|(name, version, state)| (name, version, state.kind())));
        self.published.models.store(Arc::new(models));
    }
}
