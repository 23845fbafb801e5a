//! A repository of models whose answers tell them apart.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use tempfile::TempDir;

use crate::engine::{Batch, Workspace};
use crate::metrics::{Metrics, ModelState};
use crate::model::repository::*;
use crate::tensor::View;

/// Models `y = scale * x` below a directory, and who serves them.
pub(super) struct Fixture {
    pub(super) root: TempDir,
    pub(super) repository: ModelRepository,
    pub(super) metrics: Metrics,
}

impl Fixture {
    /// Serves the models `name/version` with these scales.
    pub(super) fn of(models: &[(&str, f32)]) -> Self {
        Self::with(models, |_| {})
    }

    /// The same with other settings, and without watching the directory.
    pub(super) fn with(models: &[(&str, f32)], set: impl Fn(&mut RepositorySettings)) -> Self {
        let root = TempDir::new().unwrap();
        for (path, scale) in models {
            write_model(&root.path().join(path), &config(*scale), &weights());
        }
        let metrics = super::metrics();
        let mut settings = RepositorySettings::all_of(root.path());
        set(&mut settings);
        let repository = ModelRepository::open(settings, &super::scheduler(), &metrics).unwrap();
        Self {
            root,
            repository,
            metrics,
        }
    }

    pub(super) fn path(&self, path: &str) -> PathBuf {
        self.root.path().join(path)
    }

    /// Writes a model as a whole, and has the directory looked at.
    pub(super) fn write(&self, path: &str, scale: f32) {
        write_model(&self.path(path), &config(scale), &weights());
        self.repository.rescan();
    }

    /// Puts a file in a model's directory by a rename, as publishers should.
    pub(super) fn put(&self, path: &str, bytes: &[u8]) {
        let staged = self.path(".staged");
        fs::write(&staged, bytes).unwrap();
        fs::rename(staged, self.path(path)).unwrap();
        self.repository.rescan();
    }

    pub(super) fn remove(&self, path: &str) {
        fs::remove_dir_all(self.path(path)).unwrap();
        self.repository.rescan();
    }

    /// The version that answers, and the scale that its answer shows.
    pub(super) fn answer(&self, name: &str) -> (u64, f32) {
        let served = self.repository.find(name, None).unwrap();
        (served.model.version, scale_of(&served))
    }

    /// Name, version and state of all, as the index shows them.
    pub(super) fn states(&self) -> Vec<(String, u64, ModelState)> {
        let index = self.repository.index().into_iter();
        index
            .map(|entry| (entry.name, entry.version, entry.state))
            .collect()
    }

    /// A version's state and the reason for it.
    pub(super) fn entry(&self, name: &str, version: u64) -> (ModelState, String) {
        let entries = self.repository.versions(name).unwrap().into_iter();
        let entry = entries.into_iter().find(|entry| entry.version == version);
        let entry = entry.unwrap_or_else(|| panic!("{name} {version} is not in the index"));
        (entry.state, entry.reason)
    }

    /// The value of a series, named as on the page.
    pub(super) fn metric(&self, series: &str) -> f64 {
        let page = self.metrics.render().unwrap();
        let line = page.lines().find_map(|line| {
            let (name, value) = line.rsplit_once(' ')?;
            (name == series).then(|| value.parse().unwrap())
        });
        line.unwrap_or_else(|| panic!("no {series} in {page}"))
    }

    /// Whether the metrics page counts anything for a version. Its state is shown only while it is in the
    /// index.
    pub(super) fn has_series(&self, name: &str, version: u64) -> bool {
        let page = self.metrics.render().unwrap();
        let label = format!("version=\"{version}\"");
        let name_label = format!("model=\"{name}\"");
        let (states, counts): (Vec<&str>, Vec<&str>) = page
            .lines()
            .filter(|line| line.contains(&name_label) && line.contains(&label))
            .partition(|line| line.starts_with("safeserve_model_state{"));
        let index = self.repository.index();
        let entry = index
            .iter()
            .find(|e| e.name == name && e.version == version);
        let expected = entry.map(|entry| {
            let state = entry.state.as_str();
            format!("safeserve_model_state{{{name_label},state=\"{state}\",{label}}} 1")
        });
        assert_eq!(states, Vec::from_iter(expected.as_deref()));
        !counts.is_empty()
    }
}

/// What a version answers to 1.
pub(super) fn scale_of(served: &Arc<Served>) -> f32 {
    let mut workspace = Workspace::new();
    let outputs = served.model.engine.run(
        Batch::of_rows(1, &[View::F32(&[1.0])]),
        &mut workspace,
        None,
    );
    outputs.get(0)[0]
}

pub(super) fn config(scale: f32) -> Vec<u8> {
    let config = format!(
        r#"{{"model_type": "sequential", "inputs": [{{"name": "x", "shape": [1]}}],
            "layers": [{{"type": "rescaling", "scale": {scale:?}}},
                       {{"type": "dense", "units": 1}}]}}"#
    );
    config.into_bytes()
}

/// The dense layer's: a weight of 1 and a bias of 0.
pub(super) fn weights() -> Vec<u8> {
    safetensors(
        r#"{"1.weight":{"dtype":"F32","shape":[1,1],"data_offsets":[0,4]},"1.bias":{"dtype":"F32","shape":[1],"data_offsets":[4,8]}}"#,
        &[1.0_f32.to_le_bytes(), 0.0_f32.to_le_bytes()].concat(),
    )
}

/// A file with this header and this data, whether they fit or not.
pub(super) fn safetensors(header: &str, data: &[u8]) -> Vec<u8> {
    let length = (header.len() as u64).to_le_bytes();
    [&length[..], header.as_bytes(), data].concat()
}

pub(super) fn write_model(directory: &Path, config: &[u8], weights: &[u8]) {
    fs::create_dir_all(directory).unwrap();
    fs::write(directory.join("config.json"), config).unwrap();
    fs::write(directory.join("model.safetensors"), weights).unwrap();
}
