//! The model repository: which versions of which models there are, and the state of each.
//!
//! ```text
//! models/<name>/<version>/{config.json, model.safetensors}    any number of versions
//! models/<name>/{config.json, model.safetensors}              the same as version 1
//! ```
//!
//! The directory of one model, with or without versions, is a repository too.

mod discovery;
mod error;
mod served;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use arc_swap::ArcSwap;

pub use self::error::{LookupError, RepositoryError};
pub use self::served::{Loaded, Served};

use self::discovery::{Findings, Found, canonical};
use crate::metrics::{Metrics, ModelState};
use crate::scheduler::Scheduler;

/// All models of one directory, as they were when the server started. Reading it takes no lock.
#[derive(Debug)]
pub struct ModelRepository {
    models: ArcSwap<Models>,
    ignored: Vec<String>,
}

type Models = BTreeMap<String, BTreeMap<u64, State>>;

/// What became of a version's load.
#[derive(Clone, Debug)]
enum State {
    Ready(Arc<Served>),
    Unavailable(Arc<str>),
}

impl State {
    fn kind(&self) -> ModelState {
        match self {
            Self::Ready(_) => ModelState::Ready,
            Self::Unavailable(_) => ModelState::Unavailable,
        }
    }
}

/// One version of one model, as the repository's index shows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IndexEntry {
    /// The model's name.
    pub name: String,
    /// The version.
    pub version: u64,
    /// Where it stands.
    pub state: ModelState,
    /// Why it is not ready; empty if it is.
    pub reason: String,
}

impl ModelRepository {
    /// Loads every version of every model below `directory` and gives each a lane.
    ///
    /// A version that cannot be loaded is unavailable with its reason; the others serve.
    ///
    /// # Errors
    /// [`RepositoryError`] if the directory cannot be read or holds no model.
    pub fn load(
        directory: &Path,
        scheduler: &Arc<Scheduler>,
        metrics: &Metrics,
    ) -> Result<Self, RepositoryError> {
        let mut models = Models::new();
        let found = discovery::find(directory).map_err(|error| RepositoryError::Unreadable {
            directory: directory.to_owned(),
            error,
        })?;
        let Findings { versions, ignored } = found;
        for Found {
            name,
            version,
            directory,
        } in versions
        {
            let state = directory
                .and_then(|directory| served::load(&name, version, directory, scheduler, metrics))
                .map_or_else(
                    |reason| State::Unavailable(reason.into()),
                    |served| State::Ready(Arc::new(served)),
                );
            models.entry(name).or_default().insert(version, state);
        }
        if models.is_empty() {
            return Err(RepositoryError::Empty {
                directory: directory.to_owned(),
            });
        }
        for &kind in ModelState::ALL {
            let states = models.values().flat_map(BTreeMap::values);
            metrics.models_in_state(kind, states.filter(|state| state.kind() == kind).count());
        }
        Ok(Self {
            models: ArcSwap::from_pointee(models),
            ignored,
        })
    }

    /// Directories that look like models and cannot be served under their names, with the reason.
    #[must_use]
    pub fn ignored(&self) -> &[String] {
        &self.ignored
    }

    /// The version that answers a request: the one of that number, or the newest that is ready.
    ///
    /// # Errors
    /// [`LookupError`] if there is none.
    pub fn find(&self, name: &str, version: Option<&str>) -> Result<Arc<Served>, LookupError> {
        let models = self.models.load();
        let Some(versions) = models.get(name) else {
            return Err(LookupError::UnknownModel {
                model: shown(name),
                known: models.keys().cloned().collect(),
            });
        };
        let Some(version) = version else {
            let ready = versions.values().rev().find_map(|state| match state {
                State::Ready(served) => Some(Arc::clone(served)),
                State::Unavailable(_) => None,
            });
            return ready.ok_or_else(|| {
                let (version, state) = versions.last_key_value().expect("a model has a version");
                not_ready(name, *version, state)
            });
        };
        let found = canonical(version).and_then(|version| versions.get_key_value(&version));
        match found {
            Some((_, State::Ready(served))) => Ok(Arc::clone(served)),
            Some((version, state)) => Err(not_ready(name, *version, state)),
            None => Err(LookupError::UnknownVersion {
                model: name.to_owned(),
                version: shown(version),
                known: versions.keys().copied().collect(),
            }),
        }
    }

    /// Every version of every model, by name and version.
    #[must_use]
    pub fn index(&self) -> Vec<IndexEntry> {
        let models = self.models.load();
        models
            .iter()
            .flat_map(|(name, versions)| entries(name, versions))
            .collect()
    }

    /// Every version of one model, oldest first; `None` if there is no such model.
    #[must_use]
    pub fn versions(&self, name: &str) -> Option<Vec<IndexEntry>> {
        let models = self.models.load();
        let (name, versions) = models.get_key_value(name)?;
        Some(entries(name, versions).collect())
    }

    /// The versions that are ready, by name and version.
    #[must_use]
    pub fn ready(&self) -> Vec<Arc<Served>> {
        let models = self.models.load();
        let states = models.values().flat_map(BTreeMap::values);
        states
            .filter_map(|state| match state {
                State::Ready(served) => Some(Arc::clone(served)),
                State::Unavailable(_) => None,
            })
            .collect()
    }
}

fn entries<'a>(
    name: &'a str,
    versions: &'a BTreeMap<u64, State>,
) -> impl Iterator<Item = IndexEntry> + 'a {
    versions.iter().map(move |(version, state)| IndexEntry {
        name: name.to_owned(),
        version: *version,
        state: state.kind(),
        reason: match state {
            State::Ready(_) => String::new(),
            State::Unavailable(reason) => reason.to_string(),
        },
    })
}

fn not_ready(name: &str, version: u64, state: &State) -> LookupError {
    LookupError::NotReady {
        model: name.to_owned(),
        version,
        state: state.kind(),
        reason: match state {
            State::Ready(_) => String::new(),
            State::Unavailable(reason) => reason.to_string(),
        },
    }
}

/// The beginning of what a client sent, for an error message.
fn shown(text: &str) -> String {
    text.chars().take(64).collect()
}
