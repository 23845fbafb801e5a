//! Finds the models and versions in a repository's directory. Nothing is loaded here.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, DirEntry};
use std::io;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use super::files::{FileStatus, Files};
use super::plan::Observation;
use crate::model::CONFIG_FILE;
use crate::names::{ModelName, NameError, is_model_name};
use crate::versions::canonical;

/// The most subdirectories of a directory that are scanned: a bound on memory and on the time of a
/// scan, far above what anyone serves.
const MAX_DIRECTORIES: usize = 10_000;

/// What is in a version's place, where that is, and when it last changed.
#[derive(Debug)]
pub(super) struct FoundVersion {
    pub(super) observation: Observation,
    pub(super) directory: PathBuf,
    /// By the file system's clock; `None` if there are no files.
    pub(super) changed: Option<SystemTime>,
}

impl FoundVersion {
    /// An observation about a version whose directory was not found.
    pub(super) fn nowhere(observation: Observation) -> Self {
        Self {
            observation,
            directory: PathBuf::new(),
            changed: None,
        }
    }
}

/// A model's versions.
#[derive(Debug, Default)]
pub(super) struct FoundModel {
    pub(super) versions: BTreeMap<u64, FoundVersion>,
    /// An observation about the model as a whole, if its versions cannot be determined.
    pub(super) instead: Option<Observation>,
}

/// What a repository's directory holds.
#[derive(Debug, Default)]
pub(super) struct Findings {
    pub(super) models: BTreeMap<String, FoundModel>,
    /// Directories that look like models and cannot be served under their names.
    pub(super) ignored: Vec<String>,
    /// The directories in which a change may change the result.
    pub(super) watched: Vec<PathBuf>,
}

/// What a repository's directory is. Determined once, at the start: later, a version that is being
/// copied could make one look like the other.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Shape {
    /// A directory of models.
    Models,
    /// The directory of one model, with this name.
    Model(String),
}

impl Shape {
    /// Determines it from the directory's entries now. With a `name`, it is the directory of that model,
    /// whatever it contains.
    ///
    /// # Errors
    /// If it cannot be listed.
    pub(super) fn of(root: &Path, name: Option<&ModelName>) -> io::Result<Self> {
        if let Some(name) = name {
            return Ok(Self::Model(name.as_str().to_owned()));
        }
        let list = |directory: &Path| Findings::default().directories(directory);
        let entries = list(root)?;
        let is_versions = !entries.is_empty()
            && entries
                .iter()
                .all(|(name, directory)| canonical(name).is_some() && is_model(directory));
        let holds_models = |directory: &PathBuf| {
            let inner = list(directory);
            is_model(directory)
                || inner.is_ok_and(|inner| inner.values().any(|directory| is_model(directory)))
        };
        let is_one = is_versions || is_model(root) && !entries.values().any(holds_models);
        match is_one {
            true => Ok(Self::Model(own_name(root)?)),
            false => Ok(Self::Models),
        }
    }
}

/// The name of a model whose directory is the whole repository.
fn own_name(root: &Path) -> io::Result<String> {
    let full = root.canonicalize()?;
    let name = full.file_name().and_then(|name| name.to_str());
    Ok(name
        .filter(|name| is_model_name(name))
        .unwrap_or("model")
        .into())
}

/// Lists the versions below a repository's directory and looks at their files.
///
/// # Errors
/// If the directory cannot be listed.
pub(super) fn find(root: &Path, shape: &Shape) -> io::Result<Findings> {
    let mut findings = Findings::default();
    if let Shape::Model(name) = shape {
        // Refused here, since a model that cannot be listed must not affect the others.
        root.read_dir()?;
        findings.add_model(name, root);
        return Ok(findings);
    }
    let entries = findings.directories(root)?;
    if is_model(root) {
        let problem = format!(
            "{} holds both {CONFIG_FILE} and directories of models; move the files into one",
            root.display()
        );
        findings.add_no_version(&own_name(root)?, Observation::Faulty(problem));
    }
    for (name, directory) in entries {
        if is_model_name(&name) {
            findings.add_model(&name, &directory);
        } else {
            findings
                .ignored
                .push(format!("{}: {NameError}", directory.display()));
        }
    }
    Ok(findings)
}

impl Findings {
    /// Whether there is nothing in a repository of this shape: of the directory of one model, neither
    /// files nor a version.
    pub(super) fn hold_nothing(&self, shape: &Shape) -> bool {
        let is_empty = |model: &FoundModel| {
            model.versions.is_empty() && matches!(model.instead, Some(Observation::Empty(_)))
        };
        match shape {
            Shape::Models => self.models.is_empty(),
            Shape::Model(_) => self.models.values().all(is_empty),
        }
    }

    /// Adds the versions of one model.
    fn add_model(&mut self, name: &str, directory: &Path) {
        let is_flat = is_model(directory);
        let entries = match self.directories(directory) {
            Ok(entries) => entries,
            Err(error) => {
                let problem = format!("{}: {error}", directory.display());
                return self.add_no_version(name, Observation::Unreadable(problem));
            }
        };
        let mut numbered = BTreeMap::new();
        for (name, directory) in entries {
            match canonical(&name) {
                Some(version) => {
                    numbered.insert(version, directory);
                }
                None if is_model(&directory) => self.ignored.push(format!(
                    "{}: not a version: expected a whole number from 1 on, without a leading zero",
                    directory.display()
                )),
                None => {}
            }
        }
        match (is_flat, numbered.is_empty()) {
            (true, true) => self.add_files(name, 1, directory),
            (true, false) => {
                let problem = format!(
                    "{} holds both {CONFIG_FILE} and directories of versions; move the files into \
                     one",
                    directory.display()
                );
                self.add_no_version(name, Observation::Faulty(problem));
            }
            (false, false) => {
                for (version, directory) in numbered {
                    self.watched.push(directory.clone());
                    self.add_files(name, version, &directory);
                }
            }
            (false, true) => {
                let problem = format!(
                    "{} holds neither {CONFIG_FILE} nor a directory named by a version (1, 2, \
                     ...); if it holds models, it is a repository itself",
                    directory.display()
                );
                self.add_no_version(name, Observation::Empty(problem));
            }
        }
    }

    /// Adds a version by the files in its directory.
    fn add_files(&mut self, name: &str, version: u64, directory: &Path) {
        let (observation, changed) = match Files::observe(directory) {
            Ok(FileStatus { files, changed }) => (Observation::Files(files), Some(changed)),
            Err(error) => (Observation::Unreadable(error.to_string()), None),
        };
        let found = FoundVersion {
            observation,
            directory: directory.to_owned(),
            changed,
        };
        let model = self.models.entry(name.to_owned()).or_default();
        model.versions.insert(version, found);
    }

    /// Adds a model whose versions cannot be determined.
    fn add_no_version(&mut self, name: &str, instead: Observation) {
        let model = self.models.entry(name.to_owned()).or_default();
        model.instead = Some(instead);
    }

    /// The directories in a directory that are not hidden, by name. Links to directories count.
    ///
    /// # Errors
    /// If it cannot be listed, or an entry's file system does not answer.
    fn directories(&mut self, directory: &Path) -> io::Result<BTreeMap<String, PathBuf>> {
        self.watched.push(directory.to_owned());
        // The newest versions, and the first names: always the same ones, in any order of the listing.
        let mut versions = BTreeSet::new();
        let mut names = BTreeSet::new();
        let mut left_out: usize = 0;
        for entry in directory.read_dir()? {
            let entry = entry?;
            let name = entry.file_name().to_string_lossy().into_owned();
            if name.starts_with(['.', '_']) || !is_directory(&entry)? {
                continue;
            }
            match canonical(&name) {
                Some(version) => versions.insert(version),
                None => names.insert(name),
            };
            let is_too_many = [versions.len(), names.len()].map(|count| count > MAX_DIRECTORIES);
            if is_too_many[0] {
                versions.pop_first();
            }
            if is_too_many[1] {
                names.pop_last();
            }
            left_out += is_too_many.into_iter().filter(|&it_is| it_is).count();
        }
        if left_out > 0 {
            self.ignored.push(format!(
                "{}: {left_out} of its directories: at most {MAX_DIRECTORIES} are looked at",
                directory.display()
            ));
        }
        names.extend(versions.iter().map(u64::to_string));
        let names = names.into_iter();
        Ok(names
            .map(|name| (name.clone(), directory.join(name)))
            .collect())
    }
}

/// Whether a directory holds a model's files.
fn is_model(directory: &Path) -> bool {
    directory.join(CONFIG_FILE).exists()
}

/// Whether an entry is a directory or a link to one.
///
/// # Errors
/// If that cannot be determined now: an entry that does not answer must not be taken for one that is
/// gone.
fn is_directory(entry: &DirEntry) -> io::Result<bool> {
    let kind = entry.file_type()?;
    if !kind.is_symlink() {
        return Ok(kind.is_dir());
    }
    match fs::metadata(entry.path()) {
        Ok(metadata) => Ok(metadata.is_dir()),
        Err(error) => match error.raw_os_error() {
            Some(libc::EIO | libc::ESTALE | libc::ETIMEDOUT | libc::ENOTCONN) => Err(error),
            // A link that is dangling, circular, or leads to where this process has no access.
            _ => Ok(false),
        },
    }
}
