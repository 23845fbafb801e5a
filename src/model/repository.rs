//! The model repository: the versions of each model, and their states.
//!
//! ```text
//! models/<name>/<version>/{config.json, model.safetensors}    any number of versions
//! models/<name>/{config.json, model.safetensors}              the same as version 1
//! ```
//!
//! The directory of one model, with or without versions, is a repository too.
//!
//! Readers take no lock and see a consistent snapshot: the states of all versions are one immutable map,
//! and each change swaps in another. One thread, `loader`, makes all changes, one after the other
//! (`loader.rs`, `reconciler.rs`). It scans the directory (`discovery.rs`, `files.rs`) when the file
//! system reports a change (`watch.rs`), at intervals, and on request; `plan.rs` decides what to do, as a
//! pure function of what was observed.

mod discovery;
mod error;
mod file_timeout;
mod files;
mod loader;
mod message;
mod plan;
mod reconciler;
mod served;
mod settings;
mod state;
#[cfg(test)]
mod tests;
mod watch;

use std::sync::Arc;

pub use self::error::{LookupError, RepositoryError};
pub use self::served::{Loaded, Served};
pub use self::settings::{RepositorySettings, WatchSettings};
pub use self::state::IndexEntry;

use self::loader::Loader;
use self::message::Order;
use self::reconciler::Reconciler;
use self::state::Published;
use crate::metrics::Metrics;
use crate::scheduler::Scheduler;

/// All models of one directory. Reading it takes no lock. It is followed until it is dropped.
#[derive(Debug)]
pub struct ModelRepository {
    published: Arc<Published>,
    loader: Loader,
}

impl ModelRepository {
    /// Loads the models of a directory, gives each version a lane, and follows the directory from then
    /// on. Returns when the models that exist now are loaded.
    ///
    /// A version that cannot be loaded is unavailable with its reason; the others serve.
    ///
    /// # Errors
    /// [`RepositoryError`] if the directory cannot be read or holds no model, or the operating
    /// system refuses a thread.
    pub fn open(
        settings: RepositorySettings,
        scheduler: &Arc<Scheduler>,
        metrics: &Metrics,
    ) -> Result<Self, RepositoryError> {
        let published = Arc::default();
        let reconciler = Reconciler::begin(settings, scheduler, metrics, &published)?;
        let loader =
            Loader::start(reconciler).map_err(|error| RepositoryError::NoThread { error })?;
        Ok(Self { published, loader })
    }

    /// Scans the directory now and applies the plan. Returns when that is done: complete files are
    /// loaded, without waiting until they settle.
    ///
    /// Blocks for as long as the loads take; not for async code.
    pub fn rescan(&self) {
        self.loader.order(Order::Rescan);
    }

    /// Loads a model that was [unloaded](Self::unload), is new since the last scan, or could not be
    /// loaded. Returns its versions when it is done, `None` if there is no such model.
    ///
    /// Blocks for as long as the load takes; not for async code.
    pub fn load(&self, name: &str) -> Option<Vec<IndexEntry>> {
        self.loader.order(Order::Load(name.to_owned()));
        self.versions(name)
    }

    /// Unloads all versions of a model, until [`load`](Self::load) is called for it or the process
    /// ends. Returns its versions when no new request finds them; those in flight are finished.
    /// `None` if there is no such model.
    ///
    /// Blocks while something else is being loaded; not for async code.
    pub fn unload(&self, name: &str) -> Option<Vec<IndexEntry>> {
        self.loader.order(Order::Unload(name.to_owned()));
        self.versions(name)
    }

    /// Directories that look like models and cannot be served under their names, with the reason.
    #[must_use]
    pub fn ignored(&self) -> Arc<Vec<String>> {
        self.published.ignored.load_full()
    }

    /// The version that answers a request: the one of that number, or the newest that is ready.
    ///
    /// # Errors
    /// [`LookupError`] if there is none.
    pub fn find(&self, name: &str, version: Option<&str>) -> Result<Arc<Served>, LookupError> {
        self.published.models.load().find(name, version)
    }

    /// Every version of every model, by name and version.
    #[must_use]
    pub fn index(&self) -> Vec<IndexEntry> {
        self.published.models.load().entries()
    }

    /// Every version of one model, oldest first; `None` if there is no such model.
    #[must_use]
    pub fn versions(&self, name: &str) -> Option<Vec<IndexEntry>> {
        self.published.models.load().entries_of(name)
    }

    /// The versions that are ready, by name and version.
    #[must_use]
    pub fn ready(&self) -> Vec<Arc<Served>> {
        let models = self.published.models.load();
        models
            .states()
            .filter_map(|(_, _, state)| state.served())
            .cloned()
            .collect()
    }
}
