//! Writing a version of a model so that a server that watches the directory never sees half of it.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use super::{CONFIG_FILE, INDEX_FILE, SINGLE_FILE, is_model_name};
use crate::versions::canonical;

/// A version that is being written: a directory beside its place, whose name begins with `.` so that
/// nobody looks at it. Dropped, it goes; published, it is renamed into its place.
#[derive(Debug)]
pub struct Draft {
    /// What is renamed.
    hidden: PathBuf,
    /// Where it goes.
    place: PathBuf,
    /// Where the files are written.
    directory: PathBuf,
    /// The version's number.
    version: u64,
}

impl Draft {
    /// Begins a version of the model whose directory is `model`: the first one of a model that is not
    /// there yet, else the one behind the newest.
    ///
    /// # Errors
    /// What is wrong with the directory.
    pub fn begin(model: &Path) -> io::Result<Self> {
        let name = file_name(model)?;
        let process = std::process::id();
        let newest = newest_version(model)?;
        let version = newest.map_or(1, |newest| newest + 1);
        let (hidden, place, directory) = match model.is_dir() {
            true => {
                let hidden = model.join(format!(".{version}-{process}"));
                (hidden.clone(), model.join(version.to_string()), hidden)
            }
            false => {
                let parent = model.parent().unwrap_or(Path::new(""));
                let hidden = parent.join(format!(".{name}-{process}"));
                let directory = hidden.join(version.to_string());
                (hidden, model.to_owned(), directory)
            }
        };
        fs::create_dir_all(&directory)?;
        Ok(Self {
            hidden,
            place,
            directory,
            version,
        })
    }

    /// Where the version's files are to be written.
    #[must_use]
    pub fn directory(&self) -> &Path {
        &self.directory
    }

    /// The version's number.
    #[must_use]
    pub fn version(&self) -> u64 {
        self.version
    }

    /// Moves the version into its place and tells its directory there.
    ///
    /// # Errors
    /// What the system says, for example that somebody else was faster.
    pub fn publish(self) -> io::Result<PathBuf> {
        // What a crash leaves behind must be whole too, not only what a running server reads.
        for entry in fs::read_dir(&self.directory)? {
            fs::File::open(entry?.path())?.sync_all()?;
        }
        fs::rename(&self.hidden, &self.place)?;
        Ok(match self.hidden == self.directory {
            true => self.place.clone(),
            false => self.place.join(self.version.to_string()),
        })
    }
}

impl Drop for Draft {
    fn drop(&mut self) {
        // Published, it is not there any more.
        let _ = fs::remove_dir_all(&self.hidden);
    }
}

fn file_name(model: &Path) -> io::Result<&str> {
    let name = model.file_name().and_then(|name| name.to_str());
    match name.filter(|name| is_model_name(name)) {
        Some(name) => Ok(name),
        None => Err(invalid(
            "expected a directory whose last part is the model's name: up to 128 letters, digits, \
             `_`, `.` and `-`, not beginning with `.`"
                .into(),
        )),
    }
}

/// The newest version that a model's directory has; `None` if it has none, or is not there.
fn newest_version(model: &Path) -> io::Result<Option<u64>> {
    let entries = match fs::read_dir(model) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error),
    };
    let mut newest = None;
    for entry in entries {
        let name = entry?.file_name();
        let Some(name) = name.to_str() else { continue };
        if [CONFIG_FILE, SINGLE_FILE, INDEX_FILE].contains(&name) {
            return Err(invalid(format!(
                "it holds a model without versions ({name}); move its files into a directory 1, or \
                 choose another name"
            )));
        }
        newest = newest.max(canonical(name));
    }
    Ok(newest)
}

fn invalid(problem: String) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidInput, problem)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn published(model: &Path) -> io::Result<PathBuf> {
        let draft = Draft::begin(model)?;
        fs::write(draft.directory().join(CONFIG_FILE), "{}")?;
        draft.publish()
    }

    fn names(directory: &Path) -> Vec<String> {
        let entries = fs::read_dir(directory).unwrap();
        let mut names: Vec<_> = entries
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        names
    }

    #[test]
    fn each_version_comes_behind_the_newest() {
        let root = tempfile::tempdir().unwrap();
        let model = root.path().join("iris");
        assert_eq!(published(&model).unwrap(), model.join("1"));
        assert_eq!(published(&model).unwrap(), model.join("2"));
        fs::create_dir(model.join("9")).unwrap();
        fs::create_dir(model.join("007")).unwrap();
        assert_eq!(published(&model).unwrap(), model.join("10"));
        assert_eq!(names(&model), ["007", "1", "10", "2", "9"]);
        assert_eq!(names(root.path()), ["iris"]);
    }

    #[test]
    fn what_is_not_published_is_hidden_and_goes() {
        let root = tempfile::tempdir().unwrap();
        let model = root.path().join("iris");
        for expected in [1, 1] {
            let draft = Draft::begin(&model).unwrap();
            assert_eq!(draft.version(), expected);
            assert!(names(root.path()).iter().all(|name| name.starts_with('.')));
            drop(draft);
            assert!(names(root.path()).is_empty());
        }
        published(&model).unwrap();
        drop(Draft::begin(&model).unwrap());
        assert_eq!(names(&model), ["1"]);
    }

    #[test]
    fn a_version_that_came_meanwhile_stays() {
        let root = tempfile::tempdir().unwrap();
        let model = root.path().join("iris");
        let draft = Draft::begin(&model).unwrap();
        fs::create_dir_all(model.join("1")).unwrap();
        fs::write(model.join("1/config.json"), "other").unwrap();
        assert!(draft.publish().is_err());
        assert_eq!(
            fs::read_to_string(model.join("1/config.json")).unwrap(),
            "other"
        );
        assert_eq!(names(root.path()), ["iris"]);
    }

    #[test]
    fn a_place_that_is_none_is_refused() {
        let root = tempfile::tempdir().unwrap();
        for name in [".hidden", "a b", ".."] {
            assert!(Draft::begin(&root.path().join(name)).is_err(), "{name}");
        }
        let model = root.path().join("plain");
        fs::create_dir(&model).unwrap();
        fs::write(model.join(SINGLE_FILE), "").unwrap();
        let error = Draft::begin(&model).unwrap_err().to_string();
        assert!(error.contains("model without versions"), "{error}");
        let file = root.path().join("file");
        fs::write(&file, "").unwrap();
        assert!(Draft::begin(&file).is_err());
    }
}
