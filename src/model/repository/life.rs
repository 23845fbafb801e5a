//! The life of every version: what was seen of it, what was tried, where it stands.

mod versions;

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use tracing::{error, info, warn};

use super::discovery::{self, Findings, Shape};
use super::error::RepositoryError;
use super::files::Files;
use super::patience::Patience;
use super::plan::{self, Action, Outcome, Rule, Sight, Situation};
use super::served::{self, Served};
use super::settings::RepositorySettings;
use super::state::{Published, State};
use super::watch::Watch;
use crate::metrics::{LoadResult, Metrics, ModelState};
use crate::scheduler::Scheduler;
use versions::{ModelLife, VersionLife};

/// How often it is asked whether the last request of an unloaded version has ended.
const DRAINING: Duration = Duration::from_millis(100);

/// Why a model is not loaded that came when there were enough.
const TOO_MANY_MODELS: &str = "models.max_models: as many models as it allows are there already; \
     raise it, or take away models";

/// All versions of all models, and all that it takes to load more.
pub(super) struct Life {
    settings: RepositorySettings,
    shape: Shape,
    scheduler: Arc<Scheduler>,
    metrics: Metrics,
    /// With looking at the directory.
    looking: Patience<&'static str>,
    /// With reading versions: one that hangs keeps up no other, and nobody from looking.
    reading: Patience<(String, u64)>,
    published: Arc<Published>,
    models: BTreeMap<String, ModelLife>,
    /// Versions that no new request finds, until their last one ends.
    retired: Vec<Arc<Served>>,
    /// Where changes can be noticed, as of the last look.
    watched: Vec<PathBuf>,
    is_started: bool,
    /// Whether the repository could not be read at the last look.
    is_lost: bool,
    /// In how long files are to be looked at again that were not complete.
    look_after: Option<Duration>,
    /// How long the last look took.
    scan_took: Duration,
}

fn weight_bytes(served: &Served) -> u64 {
    served.model.engine.weight_bytes() as u64
}

/// Why the directory is looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Cause {
    /// The process starts. What is not complete is refused: nobody waits for it, and it is looked
    /// at again when it changes.
    Start,
    /// Something may have changed.
    Change,
    /// Someone wants it to be looked at now: what failed before is tried again, and what is
    /// complete is not waited for.
    Request,
}

impl Life {
    /// Loads what a directory holds.
    pub(super) fn begin(
        settings: RepositorySettings,
        scheduler: &Arc<Scheduler>,
        metrics: &Metrics,
        published: &Arc<Published>,
    ) -> Result<Self, RepositoryError> {
        let directory = settings.directory.clone();
        let name = settings.name.clone();
        let looking = Patience::new(settings.load_timeout);
        let reading = Patience::new(settings.load_timeout);
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
        let mut life = Self {
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
        life.see(findings);
        if life.models.is_empty() {
            return Err(RepositoryError::Empty { directory });
        }
        life.tend_all(Cause::Start, &|| false);
        life.is_started = true;
        Ok(life)
    }

    pub(super) fn settings(&self) -> &RepositorySettings {
        &self.settings
    }

    /// In how long the directory is to be looked at again, if sooner than for other reasons.
    pub(super) fn look_after(&self) -> Option<Duration> {
        self.look_after
    }

    /// How long the last look at the directory took, without what was done then.
    pub(super) fn scan_took(&self) -> Duration {
        self.scan_took
    }

    /// In how long [`reap`](Self::reap) may find something.
    pub(super) fn reap_after(&self) -> Option<Duration> {
        (!self.retired.is_empty()).then_some(DRAINING)
    }

    /// Looks at the directory and does what is to be done, until `is_over` says that it is not
    /// worth it any more.
    pub(super) fn look(&mut self, cause: Cause, is_over: &dyn Fn() -> bool) {
        if self.scan() {
            self.tend_all(cause, is_over);
        }
        self.reap(is_over);
    }

    /// Has a watch follow what the last look found; whether it does so from now on only. A watch that
    /// the file system keeps waiting is gone.
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

    /// Looks at the directory, and loads a model that may have been unloaded.
    pub(super) fn load(&mut self, name: &str) {
        if self.scan()
            && let Some(model) = self.models.get_mut(name)
        {
            model.is_held = false;
            self.tend(name, Cause::Request, &|| false);
            self.reap(&|| false);
        }
    }

    /// Unloads a model until [`load`](Self::load) is called for it.
    pub(super) fn unload(&mut self, name: &str) {
        if let Some(model) = self.models.get_mut(name) {
            model.is_held = true;
            self.tend(name, Cause::Request, &|| false);
            self.reap(&|| false);
        }
    }

    /// Lets go of unloaded versions whose last request has ended.
    pub(super) fn reap(&mut self, is_over: &dyn Fn() -> bool) {
        while self.reap_retired() {
            // There may be room for what had none.
            self.tend_all(Cause::Change, is_over);
        }
    }

    /// Looks at the directory. Returns whether it could be seen: if not, nothing that was seen
    /// before holds any more, and nothing is to be done about it.
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
                self.see(findings);
                true
            }
            _ => false,
        }
    }

    /// Takes note of what a look found.
    fn see(&mut self, findings: Findings) {
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
            model.see(found.remove(name).unwrap_or_default(), now);
        }
        // Those that are there stay, whatever the names of those that come.
        let admitted = self.models.values().filter(|model| !model.is_too_many);
        let mut admitted = admitted.count();
        for model in self.models.values_mut().filter(|model| model.is_too_many) {
            model.is_too_many = admitted >= self.settings.max_models;
            admitted += usize::from(!model.is_too_many);
        }
        for (name, found) in found {
            let mut model = ModelLife {
                is_too_many: admitted >= self.settings.max_models,
                ..ModelLife::default()
            };
            admitted += usize::from(!model.is_too_many);
            model.see(found, now);
            self.models.insert(name, model);
        }
    }

    fn tend_all(&mut self, cause: Cause, is_over: &dyn Fn() -> bool) {
        self.look_after = None;
        let names: Vec<String> = self.models.keys().cloned().collect();
        for name in names {
            if is_over() {
                return;
            }
            self.tend(&name, cause, is_over);
        }
        if !self.is_started {
            self.publish_all();
        }
    }

    /// Does with a model's versions what is to be done.
    fn tend(&mut self, name: &str, cause: Cause, is_over: &dyn Fn() -> bool) {
        if cause == Cause::Request {
            let model = self.models.get_mut(name).expect("it is known");
            for life in model.versions.values_mut() {
                // Once; the next plan has the outcome again.
                life.tried
                    .take_if(|(_, outcome)| *outcome != Outcome::Loaded);
            }
        }
        // Each once: what cannot even be begun must not be tried again and again.
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
                self.act(name, version, action);
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
            patience: match (cause, watch) {
                (Cause::Change | Cause::Request, Some(watch)) => watch.patience,
                // Nobody would look again.
                _ => Duration::ZERO,
            },
            is_held: model.is_held,
        };
        let (now, wall_now) = (Instant::now(), SystemTime::now());
        let situations = model.versions.iter().map(|(&version, life)| {
            let mut sight = life.sight.clone();
            if model.is_too_many && sight != Sight::Gone {
                sight = Sight::Faulty(TOO_MANY_MODELS.to_owned());
            }
            let may_be_tried_again = match (&life.tried, &sight) {
                (Some((_, Outcome::NoRoom(_))), Sight::Files(files)) => {
                    self.room_for(files).is_ok()
                }
                (Some((_, Outcome::Late(_))), _) => {
                    !self.reading.is_overdue(&(name.to_owned(), version))
                        && life.was_left_alone(now, |tries| self.reading.pause(tries))
                }
                _ => true,
            };
            let situation = Situation {
                sight,
                quiet: life.quiet(now, wall_now),
                tried: life.tried.clone(),
                is_ready: life.served().is_some(),
                is_given_up: life.is_given_up,
                may_be_tried_again,
            };
            (version, situation)
        });
        plan::plan(&rule, &situations.collect())
    }

    fn act(&mut self, name: &str, version: u64, action: Action) {
        let life = self.version(name, version);
        let is_draining = matches!(life.state, Some(State::Unloading(_)));
        match action {
            Action::Load => self.load_version(name, version),
            Action::Keep => life.note(None),
            Action::Wait { reason, look_after } => {
                match life.served() {
                    Some(_) => life.note(Some(&reason)),
                    None => life.set(Some(State::Loading(reason.into()))),
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
                life.is_given_up = true;
                let is_news =
                    life.reason() != Some(&*reason) || life.kind() == Some(ModelState::Loading);
                let goes_on = life.served().is_some();
                match goes_on {
                    true => life.note(Some(&reason)),
                    false => life.set(Some(State::Unavailable(reason.as_str().into()))),
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
                let served = life.served().cloned();
                life.set(Some(State::Unloading(reason.into())));
                self.retired.extend(served);
            }
            Action::Leave(_) | Action::Forget if is_draining => {}
            Action::Leave(reason) => {
                life.set(reason.map(|reason| State::Unavailable(reason.into())));
            }
            Action::Forget => {
                life.set(None);
                let model = self.models.get_mut(name).expect("it is known");
                model.versions.remove(&version);
            }
        }
    }

    /// Loads a version, instead of what answers in its place if something does.
    fn load_version(&mut self, name: &str, version: u64) {
        let life = self.version(name, version);
        let before = life.served().cloned();
        let Sight::Files(files) = life.sight.clone() else {
            unreachable!("only files are loaded");
        };
        let directory = life.directory.clone();
        if before.is_none() {
            life.set(Some(State::Loading("its files are being read".into())));
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

    /// Loads files and tries the model that they are; `None` if it is the one that serves.
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
                // Read in the middle of a change, one file may be of one version and the next of
                // another.
                let after = Files::look(&directory);
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

    /// Tells the log of a version that serves from now on.
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

    /// Lets go of unloaded versions whose last request has ended; whether there were any.
    fn reap_retired(&mut self) -> bool {
        // Nobody finds them any more, so the last holder stays the last.
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
            let life = model.and_then(|model| model.versions.get_mut(&version));
            let serves = life.as_ref().is_some_and(|life| life.served().is_some());
            if !serves {
                self.metrics.forget(name, version);
            }
            if let Some(life) = life
                && matches!(life.state, Some(State::Unloading(_)))
            {
                life.set(None);
                info!(model = name, version, "model unloaded");
            }
        }
        !ended.is_empty()
    }

    /// Whether files' weights fit beside those in memory; the reason if not.
    fn room_for(&self, files: &Files) -> Result<(), String> {
        let wanted = files.weight_bytes();
        plan::room(wanted, self.weight_bytes(), self.settings.max_weight_bytes)
    }

    /// The bytes of weights in memory, with those that a read may still bring there that was given
    /// up.
    fn weight_bytes(&self) -> u64 {
        let versions = self.models.iter().flat_map(|(name, model)| {
            let versions = model.versions.iter();
            versions.map(move |(version, life)| (name, *version, life))
        });
        let (mut serving, mut overdue) = (0, 0);
        for (name, version, life) in versions {
            serving += life.served().map_or(0, |served| weight_bytes(served));
            if let Some((files, Outcome::Late(_))) = &life.tried
                && self.reading.is_overdue(&(name.clone(), version))
            {
                overdue += files.weight_bytes();
            }
        }
        let retired: u64 = self.retired.iter().map(|served| weight_bytes(served)).sum();
        serving + overdue + retired
    }

    fn version(&mut self, name: &str, version: u64) -> &mut VersionLife {
        let model = self.models.get_mut(name).expect("it is known");
        model.versions.get_mut(&version).expect("it is known")
    }

    /// Shows where a model's versions stand.
    fn publish(&self, name: &str) {
        // Nobody looks before the start is done, and then at all of them.
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
