//! Which models are served, and how their directory is followed.

use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::names::ModelName;
use crate::versions::VersionPolicies;

/// Which models are served, and how their directory is followed.
#[derive(Clone, Debug)]
pub struct RepositorySettings {
    /// The repository.
    pub directory: PathBuf,
    /// The name of its only model; `None` if its directories name the models.
    pub name: Option<ModelName>,
    /// How changes in it are noticed; `None` if only on request.
    pub watch: Option<WatchSettings>,
    /// Which versions are served.
    pub versions: VersionPolicies,
    /// The most models.
    pub max_models: usize,
    /// The most versions of a model that serve.
    pub max_versions: usize,
    /// The most bytes of weights in memory.
    pub max_weight_bytes: u64,
    /// How long a scan of the directory, or reading a version, may take; `None` for no limit.
    pub load_timeout: Option<Duration>,
}

/// How changes in a directory are noticed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WatchSettings {
    /// How often the directory is scanned without a reported change; `None` for never.
    pub poll_interval: Option<Duration>,
    /// How long files must be unchanged before they are loaded.
    pub settle: Duration,
    /// How long the server waits for incomplete files before it refuses them.
    pub incomplete_timeout: Duration,
}

impl RepositorySettings {
    /// All versions of all models of a directory, as they are now, without bounds and without watching.
    #[must_use]
    pub fn all_of(directory: &Path) -> Self {
        Self {
            directory: directory.to_owned(),
            name: None,
            watch: None,
            versions: VersionPolicies::default(),
            max_models: usize::MAX,
            max_versions: usize::MAX,
            max_weight_bytes: u64::MAX,
            load_timeout: None,
        }
    }
}
