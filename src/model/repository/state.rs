//! The state of each version, as requests see it.

use std::collections::BTreeMap;
use std::sync::Arc;

use arc_swap::ArcSwap;

use super::error::LookupError;
use super::served::Served;
use crate::metrics::ModelState;
use crate::versions::canonical;

/// The state of a version.
///
/// ```text
///              +---------------------- unavailable
///              v                         ^    ^
///  (none) -> loading -> ready -> unloading    |
///              |                              |
///              +------------------------------+
/// ```
///
/// From each but `ready` a version may also leave, and a version may be unavailable from the
/// first. `ready` to `ready` is a replacement, or one that failed.
#[derive(Clone, Debug)]
pub(super) enum State {
    /// Being read, or waiting; what for.
    Loading(Arc<str>),
    /// Serving; with the reason if its directory's present files do not serve in its place.
    Ready(Arc<Served>, Option<Arc<str>>),
    /// Finishing its last requests; why.
    Unloading(Arc<str>),
    /// Not to be served; why.
    Unavailable(Arc<str>),
}

impl State {
    pub(super) fn kind(&self) -> ModelState {
        match self {
            Self::Loading(_) => ModelState::Loading,
            Self::Ready(..) => ModelState::Ready,
            Self::Unloading(_) => ModelState::Unloading,
            Self::Unavailable(_) => ModelState::Unavailable,
        }
    }

    /// The reason for the state; may be empty.
    pub(super) fn reason(&self) -> &str {
        match self {
            Self::Ready(_, reason) => reason.as_deref().unwrap_or_default(),
            Self::Loading(reason) | Self::Unloading(reason) | Self::Unavailable(reason) => reason,
        }
    }

    fn is_same(&self, other: &Self) -> bool {
        let served = |state: &Self| state.served().map(Arc::as_ptr);
        self.kind() == other.kind()
            && self.reason() == other.reason()
            && served(self) == served(other)
    }

    pub(super) fn served(&self) -> Option<&Arc<Served>> {
        match self {
            Self::Ready(served, _) => Some(served),
            Self::Loading(_) | Self::Unloading(_) | Self::Unavailable(_) => None,
        }
    }
}

/// Whether a version may go from one state to another; `None` is not in the index.
pub(super) fn may_follow(from: Option<ModelState>, to: Option<ModelState>) -> bool {
    use ModelState::{Loading, Ready, Unavailable, Unloading};
    match (from, to) {
        // Only a version that serves has requests to finish.
        (Some(Ready), to) => matches!(to, Some(Ready | Unloading)),
        (from, Some(Unloading)) => from == Some(Unloading),
        (from, Some(Ready)) => from == Some(Loading),
        (_, Some(Loading | Unavailable) | None) => true,
    }
}

/// One model's versions.
pub(super) type Versions = BTreeMap<u64, State>;

/// All models. A change makes a new map, so that a reader sees a consistent snapshot.
#[derive(Clone, Debug, Default)]
pub(super) struct Models(BTreeMap<Arc<str>, Arc<Versions>>);

impl Models {
    /// These models with other versions of one; `None` if that changes nothing.
    pub(super) fn with(&self, name: &str, versions: Versions) -> Option<Self> {
        let none = Versions::new();
        let before = self.0.get(name).map_or(&none, |before| before);
        let is_same = before.len() == versions.len()
            && before
                .iter()
                .zip(&versions)
                .all(|((a, before), (b, after))| a == b && before.is_same(after));
        if is_same {
            return None;
        }
        let mut models = self.clone();
        match versions.is_empty() {
            true => models.0.remove(name),
            false => models.0.insert(name.into(), Arc::new(versions)),
        };
        Some(models)
    }

    /// The version that answers a request: the one of that number, or the newest that is ready.
    pub(super) fn find(
        &self,
        name: &str,
        version: Option<&str>,
    ) -> Result<Arc<Served>, LookupError> {
        let Some(versions) = self.0.get(name) else {
            return Err(LookupError::UnknownModel {
                model: shown(name),
                known: self.0.keys().map(|name| name.to_string()).collect(),
            });
        };
        let Some(version) = version else {
            return versions
                .values()
                .rev()
                .find_map(State::served)
                .cloned()
                .ok_or_else(|| {
                    let newest = versions.last_key_value();
                    let (version, state) = newest.expect("a model has a version");
                    not_ready(name, *version, state)
                });
        };
        let found = canonical(version).and_then(|version| versions.get_key_value(&version));
        match found {
            Some((_, State::Ready(served, _))) => Ok(Arc::clone(served)),
            Some((version, state)) => Err(not_ready(name, *version, state)),
            None => Err(LookupError::UnknownVersion {
                model: name.to_owned(),
                version: shown(version),
                known: versions.keys().copied().collect(),
            }),
        }
    }

    /// Every version of every model, by name and version.
    pub(super) fn entries(&self) -> Vec<IndexEntry> {
        let models = self.0.iter();
        models
            .flat_map(|(name, versions)| entries(name, versions))
            .collect()
    }

    /// Every version of one model, oldest first; `None` if there is no such model.
    pub(super) fn entries_of(&self, name: &str) -> Option<Vec<IndexEntry>> {
        let (name, versions) = self.0.get_key_value(name)?;
        Some(entries(name, versions).collect())
    }

    /// The state of every version, by name and version.
    pub(super) fn states(&self) -> impl Iterator<Item = (&str, u64, &State)> + Clone {
        self.0.iter().flat_map(|(name, versions)| {
            let versions = versions.iter();
            versions.map(move |(version, state)| (&**name, *version, state))
        })
    }
}

impl<'a> FromIterator<(&'a str, Versions)> for Models {
    fn from_iter<I: IntoIterator<Item = (&'a str, Versions)>>(models: I) -> Self {
        let models = models.into_iter();
        let shown = models.filter(|(_, versions)| !versions.is_empty());
        Self(
            shown
                .map(|(name, versions)| (name.into(), Arc::new(versions)))
                .collect(),
        )
    }
}

fn entries<'a>(name: &'a str, versions: &'a Versions) -> impl Iterator<Item = IndexEntry> + 'a {
    versions.iter().map(move |(version, state)| IndexEntry {
        name: name.to_owned(),
        version: *version,
        state: state.kind(),
        reason: state.reason().to_owned(),
    })
}

fn not_ready(name: &str, version: u64, state: &State) -> LookupError {
    LookupError::NotReady {
        model: name.to_owned(),
        version,
        state: state.kind(),
        reason: state.reason().to_owned(),
    }
}

/// The beginning of what a client sent, for an error message.
fn shown(text: &str) -> String {
    text.chars().take(64).collect()
}

/// What the loader shows.
#[derive(Debug, Default)]
pub(super) struct Published {
    pub(super) models: ArcSwap<Models>,
    pub(super) ignored: ArcSwap<Vec<String>>,
}

/// One version of one model, as the repository's index shows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IndexEntry {
    /// The model's name.
    pub name: String,
    /// The version.
    pub version: u64,
    /// Its state.
    pub state: ModelState,
    /// Why it is not ready, or why its newest files do not serve; else empty.
    pub reason: String,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_serves_unloads_and_it_leaves_no_other_way() {
        let every = || {
            let all = ModelState::ALL.iter().copied().map(Some);
            all.chain([None])
        };
        for from in every() {
            for to in every() {
                use ModelState::{Loading, Ready, Unloading};
                let expected = match to {
                    Some(Ready) => matches!(from, Some(Loading | Ready)),
                    Some(Unloading) => matches!(from, Some(Ready | Unloading)),
                    _ => from != Some(Ready),
                };
                assert_eq!(may_follow(from, to), expected, "{from:?} to {to:?}");
            }
        }
    }
}
