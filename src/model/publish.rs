//! Writing a version of a model so that a server that watches the directory never sees it incomplete.

use std::collections::hash_map::RandomState;
use std::fs;
use std::hash::{BuildHasher, Hasher};
use std::io;
use std::path::{Path, PathBuf};

use ndarray::ArrayD;
use safetensors::tensor::{Dtype, TensorView, serialize_to_file};

use super::files::{INDEX_FILE, SINGLE_FILE};
use super::{CONFIG_FILE, LoadError, Model};
use crate::names::is_model_name;
use crate::versions::canonical;

/// The directory of a model, existing or not, in which a version can be published.
#[derive(Clone, Debug)]
pub struct Place {
    model: PathBuf,
    name: String,
}

impl Place {
    /// The directory `model`, whose last part is the model's name.
    ///
    /// # Errors
    /// What is wrong with the name, or with what lies there.
    pub fn at(model: &Path) -> io::Result<Self> {
        let name = model.file_name().and_then(|name| name.to_str());
        let name = name.filter(|name| is_model_name(name) && !name.starts_with('_'));
        let Some(name) = name else {
            return Err(invalid(
                "expected a directory whose last part is the model's name: up to 128 letters, \
                 digits, `_`, `.` and `-`, not beginning with `.` or `_`"
                    .into(),
            ));
        };
        let place = Self {
            model: model.to_owned(),
            name: name.to_owned(),
        };
        place.newest_version()?;
        Ok(place)
    }

    /// The model's name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Begins a version: a directory next to the model's, or next to the place of one, whose name begins
    /// with `.` so that servers ignore it.
    ///
    /// # Errors
    /// What the system says.
    pub fn draft(&self) -> io::Result<Draft> {
        let parent = match self.model.parent() {
            Some(parent) if !parent.as_os_str().is_empty() => parent,
            _ => Path::new("."),
        };
        // Random, since processes in other containers on the same volume may have the same process id.
        let unlike = RandomState::new().build_hasher().finish();
        let hidden = parent.join(format!(".{}-{unlike:016x}", self.name));
        let directory = hidden.join("1");
        let made = (!parent.exists()).then(|| parent.to_owned());
        fs::create_dir_all(&directory)?;
        Ok(Draft {
            place: self.clone(),
            made,
            hidden,
            directory,
        })
    }

    /// The newest version that is there; `None` if there is none.
    fn newest_version(&self) -> io::Result<Option<u64>> {
        let entries = match fs::read_dir(&self.model) {
            Ok(entries) => entries,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) if error.kind() == io::ErrorKind::NotADirectory => {
                return Err(invalid(
                    "it, or what it lies in, is a file; expected a model's directory".into(),
                ));
            }
            Err(error) => return Err(error),
        };
        let mut newest = None;
        for entry in entries {
            let name = entry?.file_name();
            let Some(name) = name.to_str() else { continue };
            if [CONFIG_FILE, SINGLE_FILE, INDEX_FILE].contains(&name) {
                return Err(invalid(format!(
                    "holds a model without versions ({name}); move its files into a directory 1 in it, \
                     or choose another name"
                )));
            }
            newest = newest.max(canonical(name));
        }
        Ok(newest)
    }
}

/// A version that is being written. Dropping it deletes it; publishing renames it into its place.
#[derive(Debug)]
pub struct Draft {
    place: Place,
    /// The directory of models, if it was not there before.
    made: Option<PathBuf>,
    /// What becomes the model's directory, if there is none.
    hidden: PathBuf,
    /// In it, what becomes a version's directory.
    directory: PathBuf,
}

impl Draft {
    /// Where the version's files are until it is published.
    #[must_use]
    pub fn directory(&self) -> &Path {
        &self.directory
    }

    /// Loads the files as a server would.
    ///
    /// # Errors
    /// As [`Model::load`].
    pub fn load(&self) -> Result<Model, LoadError> {
        Model::load(&self.place.name, 1, &self.directory)
    }

    /// Writes a file of the version.
    ///
    /// # Errors
    /// What the system says.
    pub fn file(&self, name: &str, bytes: &[u8]) -> io::Result<()> {
        fs::write(self.directory.join(name), bytes)
    }

    /// Writes the weights, as 32-bit floats under their names.
    ///
    /// # Errors
    /// What the system says.
    pub fn weights<'a>(
        &self,
        tensors: impl IntoIterator<Item = (&'a str, &'a ArrayD<f32>)>,
    ) -> io::Result<()> {
        let tensors: Vec<(&str, &[usize], Vec<u8>)> = tensors
            .into_iter()
            .map(|(name, values)| {
                let bytes = values.iter().flat_map(|value| value.to_le_bytes());
                (name, values.shape(), bytes.collect())
            })
            .collect();
        let views = tensors
            .iter()
            .map(|(name, shape, bytes)| {
                let view = TensorView::new(Dtype::F32, shape.to_vec(), bytes);
                view.map(|view| (*name, view))
            })
            .collect::<Result<Vec<_>, _>>()
            .map_err(io::Error::other)?;
        serialize_to_file(views, None, &self.directory.join(SINGLE_FILE)).map_err(io::Error::other)
    }

    /// Moves the files to their place in one step, as the version after those that exist, and returns its
    /// directory and number.
    ///
    /// # Errors
    /// What the system says.
    pub fn publish(self) -> io::Result<(PathBuf, u64)> {
        // The files must be whole after a crash too, not only for a running server.
        for entry in fs::read_dir(&self.directory)? {
            fs::File::open(entry?.path())?.sync_all()?;
        }
        fs::File::open(&self.directory)?.sync_all()?;
        fs::File::open(&self.hidden)?.sync_all()?;
        let model = &self.place.model;
        match fs::rename(&self.hidden, model) {
            Ok(()) => return Ok((model.join("1"), 1)),
            // There is something in its place; files in a directory are never replaced.
            Err(_) if model.is_dir() => {}
            Err(error) => return Err(error),
        }
        loop {
            let version = self.place.newest_version()?.map_or(1, |newest| newest + 1);
            let place = model.join(version.to_string());
            match fs::rename(&self.directory, &place) {
                Ok(()) => return Ok((place, version)),
                // Another process was faster.
                Err(error) if error.kind() == io::ErrorKind::DirectoryNotEmpty => {}
                Err(error) => return Err(error),
            }
        }
    }
}

impl Drop for Draft {
    fn drop(&mut self) {
        // Once published, there is nothing to remove; else it is in a directory that servers ignore.
        let _ = fs::remove_dir_all(&self.hidden);
        if let Some(made) = &self.made {
            // Only if it is empty.
            let _ = fs::remove_dir(made);
        }
    }
}

fn invalid(problem: String) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidInput, problem)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn published(model: &Path) -> io::Result<PathBuf> {
        let draft = Place::at(model)?.draft()?;
        draft.file(CONFIG_FILE, b"{}")?;
        let (directory, version) = draft.publish()?;
        assert!(directory.ends_with(version.to_string()));
        Ok(directory)
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
    fn each_version_comes_after_the_newest() {
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
        for _ in 0..2 {
            let draft = Place::at(&model).unwrap().draft().unwrap();
            let found = names(root.path());
            assert!(found.len() == 1 && found[0].starts_with('.'), "{found:?}");
            drop(draft);
            assert!(names(root.path()).is_empty());
        }
        published(&model).unwrap();
        drop(Place::at(&model).unwrap().draft().unwrap());
        assert_eq!(names(&model), ["1"]);
        assert_eq!(names(root.path()), ["iris"]);
    }

    #[test]
    fn a_directory_of_models_that_was_made_for_it_goes_with_it() {
        let root = tempfile::tempdir().unwrap();
        let models = root.path().join("models");
        drop(Place::at(&models.join("iris")).unwrap().draft().unwrap());
        assert!(names(root.path()).is_empty());
        published(&models.join("iris")).unwrap();
        assert_eq!(names(&models), ["iris"]);
    }

    #[test]
    fn a_version_that_came_meanwhile_stays() {
        let root = tempfile::tempdir().unwrap();
        let model = root.path().join("iris");
        let draft = Place::at(&model).unwrap().draft().unwrap();
        draft.file(CONFIG_FILE, b"mine").unwrap();
        fs::create_dir_all(model.join("1")).unwrap();
        fs::write(model.join("1/config.json"), "other").unwrap();
        assert_eq!(draft.publish().unwrap(), (model.join("2"), 2));
        let read = |version: &str| fs::read_to_string(model.join(version).join(CONFIG_FILE));
        assert_eq!(read("1").unwrap(), "other");
        assert_eq!(read("2").unwrap(), "mine");
        assert_eq!(names(root.path()), ["iris"]);
    }

    #[test]
    fn a_place_that_is_none_is_refused() {
        let root = tempfile::tempdir().unwrap();
        for name in [".hidden", "_hidden", "a b", ".."] {
            assert!(Place::at(&root.path().join(name)).is_err(), "{name}");
        }
        let model = root.path().join("plain");
        fs::create_dir(&model).unwrap();
        fs::write(model.join(SINGLE_FILE), "").unwrap();
        let error = Place::at(&model).unwrap_err().to_string();
        assert!(error.contains("model without versions"), "{error}");
        let file = root.path().join("file");
        fs::write(&file, "").unwrap();
        assert!(Place::at(&file).is_err());
    }
}
