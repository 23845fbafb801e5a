//! Hints of the file system that something in the repository changed.
//!
//! They are only hints: what changed is found by reading the directory. Where there are none, as on
//! network file systems, polling takes their place.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::Sender;

use notify::event::{AccessKind, AccessMode};
use notify::{Event, EventKind, RecommendedWatcher, RecursiveMode, Watcher};
use tracing::warn;

use super::message::Message;
use super::settings::WatchSettings;

/// The directories that are watched, one by one: directories below versions do not matter, and the file
/// system may be too large to watch as a whole.
pub(super) struct Watch {
    /// `None` if the operating system gives no hints.
    watcher: Option<RecommendedWatcher>,
    /// By path: the device and inode, since another directory may take its place.
    watched: BTreeMap<PathBuf, (u64, u64)>,
    /// Whether a hint is on its way: one is enough, and the channel to the loader is unbounded.
    is_hinted: Arc<AtomicBool>,
    settings: WatchSettings,
    has_warned: bool,
}

impl Watch {
    pub(super) fn new(hints: Sender<Message>, settings: WatchSettings) -> Self {
        let is_hinted = Arc::new(AtomicBool::new(false));
        let under_way = Arc::clone(&is_hinted);
        let watcher = notify::recommended_watcher(move |event: notify::Result<Event>| {
            if event.is_ok_and(|event| !is_hint(event.kind)) {
                return;
            }
            if !under_way.swap(true, Ordering::AcqRel) {
                // The loader ends before the watch.
                let _ = hints.send(Message::Changed);
            }
        });
        let mut watch = Self {
            watcher: None,
            watched: BTreeMap::new(),
            is_hinted,
            settings,
            has_warned: false,
        };
        match watcher {
            Ok(watcher) => watch.watcher = Some(watcher),
            Err(error) => watch.warn(&error),
        }
        watch
    }

    /// Acknowledges the last hint: later changes give another.
    pub(super) fn acknowledge(&self) {
        self.is_hinted.store(false, Ordering::Release);
    }

    /// Watches these directories and no others. Returns whether some are watched from now on only:
    /// what changed in them before that gave no hint.
    pub(super) fn follow(&mut self, directories: &[PathBuf]) -> bool {
        let Some(mut watcher) = self.watcher.take() else {
            return false;
        };
        let wanted: BTreeMap<PathBuf, (u64, u64)> = directories
            .iter()
            .filter_map(|directory| {
                let metadata = fs::metadata(directory).ok()?;
                Some((directory.clone(), (metadata.dev(), metadata.ino())))
            })
            .collect();
        self.watched.retain(|directory, identity| {
            let stays = wanted.get(directory) == Some(identity);
            if !stays {
                // It ends by itself if the directory is gone.
                let _ = watcher.unwatch(directory);
            }
            stays
        });
        let mut is_new = false;
        for (directory, identity) in wanted {
            if self.watched.contains_key(&directory) {
                continue;
            }
            match watcher.watch(&directory, RecursiveMode::NonRecursive) {
                Ok(()) => {
                    self.watched.insert(directory, identity);
                    is_new = true;
                }
                // Gone again: its parent says so.
                Err(_) if !directory.exists() => {}
                Err(error) => self.warn(&error),
            }
        }
        self.watcher = Some(watcher);
        is_new
    }

    /// Logs once that changes are noticed late or not at all.
    fn warn(&mut self, error: &notify::Error) {
        if std::mem::replace(&mut self.has_warned, true) {
            return;
        }
        match self.settings.poll_interval {
            Some(interval) => warn!(
                %error,
                poll_interval_ms = interval.as_millis() as u64,
                "no hints of changes in the model repository: it is looked at now and then"
            ),
            None => warn!(
                %error,
                "no hints of changes in the model repository, and models.poll_interval_ms is 0: \
                 they are not noticed"
            ),
        }
    }
}

/// Whether an event may mean that files changed. Reading them, as the loader does, is no change.
fn is_hint(kind: EventKind) -> bool {
    match kind {
        EventKind::Access(AccessKind::Close(AccessMode::Write)) => true,
        EventKind::Access(_) => false,
        EventKind::Any
        | EventKind::Create(_)
        | EventKind::Modify(_)
        | EventKind::Remove(_)
        | EventKind::Other => true,
    }
}
