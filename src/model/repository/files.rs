//! What a version's files are, without reading them.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use crate::model::CONFIG_FILE;
use crate::model::files::{INDEX_FILE, SINGLE_FILE};

/// The most files of a version whose weights are in shards: 64 GB in shards of 16 MB.
const MAX_SHARDS: usize = 4096;

/// The identity of a version's files. It changes when one of them is written, replaced, added or
/// removed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Files(BTreeMap<String, Stamp>);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Stamp {
    device: u64,
    inode: u64,
    bytes: u64,
    /// Seconds and nanoseconds.
    modified: (i64, i64),
}

/// A version's files, and the last change of one of them by the file system's clock. That is later than
/// the modification time if a file was moved in with an old one.
pub(super) struct FileStatus {
    pub(super) files: Files,
    pub(super) changed: SystemTime,
}

impl Files {
    /// Observes the files of the version in a directory. Missing files are left out.
    ///
    /// # Errors
    /// If the directory or a file cannot be read, or there are too many files.
    pub(super) fn observe(directory: &Path) -> io::Result<FileStatus> {
        let mut look = FileStatus {
            files: Self::default(),
            changed: UNIX_EPOCH,
        };
        for name in [CONFIG_FILE, SINGLE_FILE, INDEX_FILE] {
            look.add(directory, name)?;
        }
        if look.files.0.contains_key(INDEX_FILE) {
            // Shards may have any names.
            for entry in directory.read_dir()? {
                let name = entry?.file_name().to_string_lossy().into_owned();
                if !name.starts_with('.') {
                    look.add(directory, &name)?;
                }
                if look.files.0.len() > MAX_SHARDS {
                    let problem = format!("more than {MAX_SHARDS} files with {INDEX_FILE}");
                    return Err(io::Error::other(problem));
                }
            }
        }
        Ok(look)
    }

    /// The bytes of all files but the configuration: at least what the weights take on disk.
    pub(super) fn weight_bytes(&self) -> u64 {
        let weights = self.0.iter().filter(|(name, _)| *name != CONFIG_FILE);
        weights
            .map(|(_, stamp)| stamp.bytes)
            .fold(0, u64::saturating_add)
    }
}

#[cfg(test)]
impl Files {
    /// One file of weights of `bytes` bytes.
    pub(super) fn of_bytes(bytes: u64) -> Self {
        let stamp = Stamp {
            device: 1,
            inode: 1,
            bytes,
            modified: (0, 0),
        };
        Self([(SINGLE_FILE.to_owned(), stamp)].into())
    }
}

impl FileStatus {
    fn add(&mut self, directory: &Path, name: &str) -> io::Result<()> {
        let metadata = match fs::metadata(directory.join(name)) {
            Ok(metadata) => metadata,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            Err(error) => {
                return Err(io::Error::new(error.kind(), format!("{name}: {error}")));
            }
        };
        let stamp = Stamp {
            device: metadata.dev(),
            inode: metadata.ino(),
            bytes: metadata.len(),
            modified: (metadata.mtime(), metadata.mtime_nsec()),
        };
        self.files.0.insert(name.to_owned(), stamp);
        let seconds = metadata.ctime().try_into().unwrap_or(0);
        let nanoseconds = metadata.ctime_nsec().try_into().unwrap_or(0);
        let changed = UNIX_EPOCH + Duration::new(seconds, nanoseconds);
        self.changed = self.changed.max(changed);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::fs::File;
    use std::os::unix::fs::symlink;

    use super::*;

    fn files(directory: &Path) -> Files {
        Files::observe(directory).unwrap().files
    }

    #[test]
    fn writing_replacing_adding_and_removing_are_all_noticed() {
        let directory = tempfile::tempdir().unwrap();
        let path = |name: &str| directory.path().join(name);
        let mut before = files(directory.path());
        assert_eq!(before, Files::default());
        let mut differs = |step: &str| {
            let now = files(directory.path());
            assert_ne!(now, before, "{step}");
            before = now;
        };
        fs::write(path(CONFIG_FILE), "{}").unwrap();
        differs("a file came");
        fs::write(path(SINGLE_FILE), "1234").unwrap();
        differs("another came");
        fs::write(path(SINGLE_FILE), "12345").unwrap();
        differs("it grew");
        let old = File::options().write(true).open(path(CONFIG_FILE)).unwrap();
        old.set_modified(UNIX_EPOCH + Duration::from_nanos(1))
            .unwrap();
        differs("it was modified");
        fs::write(path("other"), "{}").unwrap();
        let other = File::options().write(true).open(path("other")).unwrap();
        other
            .set_modified(UNIX_EPOCH + Duration::from_nanos(1))
            .unwrap();
        fs::rename(path("other"), path(CONFIG_FILE)).unwrap();
        differs("another took its place, of the same size and time");
        fs::remove_file(path(SINGLE_FILE)).unwrap();
        differs("one went");
    }

    #[test]
    fn other_files_count_only_with_an_index() {
        let directory = tempfile::tempdir().unwrap();
        let path = |name: &str| directory.path().join(name);
        fs::write(path(CONFIG_FILE), "{}").unwrap();
        fs::write(path("part-1.safetensors"), "1234").unwrap();
        let look = files(directory.path());
        assert_eq!((look.0.len(), look.weight_bytes()), (1, 0));
        fs::write(path(INDEX_FILE), "{}").unwrap();
        fs::write(path(".hidden"), "1234").unwrap();
        let look = files(directory.path());
        assert_eq!((look.0.len(), look.weight_bytes()), (3, 4 + 2));
    }

    #[test]
    fn links_are_followed_and_one_in_a_circle_is_an_error() {
        let directory = tempfile::tempdir().unwrap();
        let path = |name: &str| directory.path().join(name);
        for (name, bytes) in [("old", "1"), ("new", "1")] {
            fs::create_dir(path(name)).unwrap();
            fs::write(path(name).join(CONFIG_FILE), bytes).unwrap();
        }
        symlink("old", path("data")).unwrap();
        symlink("data/config.json", path(CONFIG_FILE)).unwrap();
        symlink("nowhere", path(SINGLE_FILE)).unwrap();
        let before = files(directory.path());
        assert_eq!(before.0.len(), 1);
        symlink("new", path("next")).unwrap();
        fs::rename(path("next"), path("data")).unwrap();
        assert_ne!(files(directory.path()), before);
        fs::remove_file(path("data")).unwrap();
        symlink("data", path("data")).unwrap();
        let error = Files::observe(directory.path()).err().unwrap().to_string();
        assert!(error.starts_with("config.json: "), "{error}");
    }
}
