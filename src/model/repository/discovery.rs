//! Which directories of a repository are versions of which models. Nothing is loaded here.

use std::io;
use std::path::{Path, PathBuf};

use crate::model::CONFIG_FILE;

/// The most bytes of a model's name: it stands in paths, labels and log lines.
const MAX_NAME_BYTES: usize = 128;

/// A version that the directory holds, or why what is there is none.
pub(super) struct Found {
    pub(super) name: String,
    pub(super) version: u64,
    pub(super) directory: Result<PathBuf, String>,
}

/// What a repository's directory holds.
#[derive(Default)]
pub(super) struct Findings {
    pub(super) versions: Vec<Found>,
    /// Directories that look like models and cannot be served under their names.
    pub(super) ignored: Vec<String>,
}

/// Lists the versions below a repository's directory.
pub(super) fn find(root: &Path) -> io::Result<Findings> {
    let entries = directories(root)?;
    let mut findings = Findings::default();
    let holds_models = |directory: &Path| {
        is_model(directory)
            || directories(directory)
                .is_ok_and(|inner| inner.iter().any(|(_, directory)| is_model(directory)))
    };
    let is_versions = !entries.is_empty()
        && entries
            .iter()
            .all(|(name, directory)| canonical(name).is_some() && is_model(directory));
    if is_model(root) || is_versions {
        let full = root.canonicalize()?;
        let name = full.file_name().and_then(|name| name.to_str());
        let name = name.filter(|name| is_name(name)).unwrap_or("model");
        if is_versions || !entries.iter().any(|(_, directory)| holds_models(directory)) {
            findings.add_versions(name, root);
            return Ok(findings);
        }
        findings.versions.push(Found {
            name: name.to_owned(),
            version: 1,
            directory: Err(format!(
                "{} holds both {CONFIG_FILE} and directories of models; move the files into one",
                root.display()
            )),
        });
    }
    for (name, directory) in entries {
        if is_name(&name) {
            findings.add_versions(&name, &directory);
        } else {
            findings.ignored.push(format!(
                "{}: not a model's name: expected up to {MAX_NAME_BYTES} of A-Z a-z 0-9 _ . -",
                directory.display()
            ));
        }
    }
    Ok(findings)
}

impl Findings {
    /// Adds the versions of one model.
    fn add_versions(&mut self, name: &str, directory: &Path) {
        let flat = is_model(directory);
        let (entries, unreadable) = match directories(directory) {
            Ok(entries) => (entries, None),
            Err(error) => (Vec::new(), Some(error)),
        };
        let mut numbered = Vec::new();
        for (name, directory) in entries {
            match canonical(&name) {
                Some(version) => numbered.push((version, directory)),
                None if is_model(&directory) => self.ignored.push(format!(
                    "{}: not a version: expected a whole number from 1 on, without a leading zero",
                    directory.display()
                )),
                None => {}
            }
        }
        let mut add = |version, directory| {
            self.versions.push(Found {
                name: name.to_owned(),
                version,
                directory,
            });
        };
        if let Some(error) = unreadable {
            return add(1, Err(format!("{}: {error}", directory.display())));
        }
        match (flat, numbered.is_empty()) {
            (true, true) => add(1, Ok(directory.to_owned())),
            (true, false) => add(
                1,
                Err(format!(
                    "{} holds both {CONFIG_FILE} and directories of versions; move the files into \
                     one",
                    directory.display()
                )),
            ),
            (false, false) => {
                for (version, directory) in numbered {
                    add(version, Ok(directory));
                }
            }
            (false, true) => add(
                1,
                Err(format!(
                    "{} holds neither {CONFIG_FILE} nor a directory named by a version (1, 2, \
                     ...); if it holds models, it is a repository itself",
                    directory.display()
                )),
            ),
        }
    }
}

/// Whether a directory holds a model's files.
fn is_model(directory: &Path) -> bool {
    directory.join(CONFIG_FILE).exists()
}

/// The directories in a directory that are not hidden, by name, sorted. Links to directories count.
fn directories(directory: &Path) -> io::Result<Vec<(String, PathBuf)>> {
    let mut names = Vec::new();
    for entry in directory.read_dir()? {
        let entry = entry?;
        let name = entry.file_name().to_string_lossy().into_owned();
        if !name.starts_with(['.', '_']) && entry.path().is_dir() {
            names.push((name, entry.path()));
        }
    }
    names.sort();
    Ok(names)
}

/// Whether a directory's name can be a model's name.
fn is_name(name: &str) -> bool {
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"_.-".contains(&byte);
    (1..=MAX_NAME_BYTES).contains(&name.len())
        && !name.starts_with('.')
        && name.bytes().all(allowed)
}

/// A version written as a positive number should be: no sign, no leading zero.
pub(super) fn canonical(text: &str) -> Option<u64> {
    let digits = text.bytes().all(|byte| byte.is_ascii_digit());
    if !digits || text.starts_with('0') {
        return None;
    }
    text.parse().ok()
}
