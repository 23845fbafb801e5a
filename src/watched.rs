//! Small files that are read again when they change: keys, certificates.
//!
//! A version that cannot be used changes nothing: the last one read stays in use, and the log and
//! `safeserve_file_stale` say so. Changes are found by the file's identity in the system, so that a
//! rename, a replaced link (Kubernetes' secrets) and a file written in place are all seen.

use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use std::{fmt, fs};

use arc_swap::{ArcSwap, Guard};
use tracing::{error, info};

use crate::metrics::{Metrics, WatchedFile};

/// How often files are looked at.
const INTERVAL: Duration = Duration::from_secs(1);

/// Makes a value of the files, or says what is wrong with them.
type Read<T> = Box<dyn Fn(&[PathBuf]) -> Result<T, String> + Send + Sync>;

/// A value read from files, as they were when they were last good.
pub struct Watched<T> {
    label: WatchedFile,
    files: Vec<PathBuf>,
    read: Read<T>,
    current: ArcSwap<T>,
    seen: Mutex<LastRead>,
    metrics: Metrics,
}

/// What was found at the last look.
struct LastRead {
    files: Vec<Option<Identity>>,
    /// Why that could not be used. It is tried again at each look: what is wrong need not be in
    /// the files.
    refusal: Option<String>,
}

impl<T> fmt::Debug for Watched<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Watched")
            .field("files", &self.files)
            .finish_non_exhaustive()
    }
}

/// What changes with a file's content.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Identity {
    device: u64,
    inode: u64,
    bytes: u64,
    modified: (i64, i64),
}

impl<T: Send + Sync + 'static> Watched<T> {
    /// Reads the files for the first time.
    ///
    /// # Errors
    /// What `read` says.
    pub fn start(
        label: WatchedFile,
        files: Vec<PathBuf>,
        read: impl Fn(&[PathBuf]) -> Result<T, String> + Send + Sync + 'static,
        metrics: &Metrics,
    ) -> Result<Arc<Self>, String> {
        // Before the read: what changes after it is read again.
        let seen = LastRead {
            files: identities(&files),
            refusal: None,
        };
        let current = ArcSwap::from_pointee(read(&files)?);
        Ok(Arc::new(Self {
            label,
            files,
            read: Box::new(read),
            current,
            seen: Mutex::new(seen),
            metrics: metrics.clone(),
        }))
    }

    /// The value that counts now. Taking it is a few instructions and waits for no one.
    pub fn get(&self) -> Guard<Arc<T>> {
        self.current.load()
    }

    /// Looks at the files, and reads them if they have changed.
    pub fn look(&self) {
        let now = identities(&self.files);
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        let has_changed = seen.files != now;
        if !has_changed && seen.refusal.is_none() {
            return;
        }
        seen.files = now;
        let file = self.label.as_str();
        match (self.read)(&self.files) {
            Ok(value) => {
                self.metrics.file_read(self.label, true);
                self.current.store(Arc::new(value));
                seen.refusal = None;
                info!(file, "read again");
            }
            // Said before.
            Err(reason) if !has_changed && seen.refusal.as_ref() == Some(&reason) => {}
            Err(reason) => {
                self.metrics.file_read(self.label, false);
                error!(
                    file,
                    reason, "the new version is refused: the one before goes on"
                );
                seen.refusal = Some(reason);
            }
        }
    }

    /// Looks at the files again and again, for ever.
    pub async fn follow(self: Arc<Self>) {
        loop {
            tokio::time::sleep(INTERVAL).await;
            let watched = Arc::clone(&self);
            // Only a panic of `read` fails, and the panic is logged; what was read last goes on.
            let _ = tokio::task::spawn_blocking(move || watched.look()).await;
        }
    }
}

fn identities(files: &[PathBuf]) -> Vec<Option<Identity>> {
    let identity = |file: &PathBuf| {
        let metadata = fs::metadata(file).ok()?;
        Some(Identity {
            device: metadata.dev(),
            inode: metadata.ino(),
            bytes: metadata.size(),
            modified: (metadata.mtime(), metadata.mtime_nsec()),
        })
    };
    files.iter().map(identity).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metrics::BuildInfo;

    #[test]
    fn a_changed_file_is_read_again_and_a_bad_one_changes_nothing() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("number");
        fs::write(&file, "1").unwrap();
        let metrics = Metrics::new(BuildInfo {
            version: "0",
            profile: "test",
            platform: "test",
        });
        let read = |files: &[PathBuf]| -> Result<u32, String> {
            let text = fs::read_to_string(&files[0]).map_err(|error| error.to_string())?;
            text.parse().map_err(|_| format!("{text:?} is no number"))
        };
        let label = WatchedFile::ApiKeys;
        let watched = Watched::start(label, vec![file.clone()], read, &metrics).unwrap();
        let page = |line: &str| metrics.render().unwrap().contains(line);
        let replace = |text: &str| {
            let new = directory.path().join("new");
            fs::write(&new, text).unwrap();
            fs::rename(new, &file).unwrap();
            watched.look();
            **watched.get()
        };
        assert_eq!(**watched.get(), 1);
        assert_eq!(replace("2"), 2);
        assert!(page("safeserve_file_stale{file=\"api_keys\"} 0\n"));
        assert_eq!(replace("x"), 2);
        assert!(page("safeserve_file_stale{file=\"api_keys\"} 1\n"));
        fs::remove_file(&file).unwrap();
        watched.look();
        assert_eq!(**watched.get(), 2);
        // The same again is not said again.
        watched.look();
        assert!(page(
            "safeserve_file_reads_total{file=\"api_keys\",result=\"failed\"} 2\n"
        ));
        assert_eq!(replace("3"), 3);
        assert!(page("safeserve_file_stale{file=\"api_keys\"} 0\n"));
        assert!(page(
            "safeserve_file_reads_total{file=\"api_keys\",result=\"ok\"} 2\n"
        ));
        assert!(Watched::start(label, vec!["absent".into()], read, &metrics).is_err());
    }
}
