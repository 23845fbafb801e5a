//! A trained network as a model directory: written beside its place, tried there, moved in whole.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use safetensors::tensor::{Dtype, TensorView};
use serde_json::{Value, json};

use super::error::TrainError;
use super::features::{Features, shortest};
use super::fit::Fit;
use super::options::Options;
use super::report::Report;
use super::target::{Goal, Target};
use crate::model::repository::is_name;
use crate::model::{LoadError, Model};
use crate::versions::canonical;

/// Where a model is to lie.
#[derive(Debug)]
pub(super) struct Place {
    /// The repository, or the model's directory if that is there.
    parent: PathBuf,
    /// The model's directory.
    directory: PathBuf,
    pub(super) name: String,
}

impl Place {
    /// The place that `--out` names, if a model can come there.
    pub(super) fn at(out: &Path) -> Result<Self, TrainError> {
        let refused = |problem: String| Err(TrainError::option("--out", problem));
        let name = out.file_name().and_then(|name| name.to_str());
        let Some(name) = name.filter(|name| is_name(name)) else {
            return refused(format!(
                "expected DIR/NAME, where NAME has up to 128 of A-Z a-z 0-9 _ . - and does not begin \
                 with a dot, got {:?}",
                out.display().to_string()
            ));
        };
        let parent = match out.parent() {
            Some(parent) if !parent.as_os_str().is_empty() => parent.to_owned(),
            _ => PathBuf::from("."),
        };
        if name.starts_with('_') {
            return refused(format!(
                "a server does not look at {name:?}, which begins with _; choose another name"
            ));
        }
        match fs::metadata(out) {
            Ok(found) if !found.is_dir() => {
                return refused(format!(
                    "{} is a file; expected a model's directory",
                    out.display()
                ));
            }
            Ok(_) if out.join("config.json").exists() => {
                return refused(format!(
                    "{0} holds a model without versions; move its files to {0}/1, or choose another name",
                    out.display()
                ));
            }
            _ => {}
        }
        Ok(Self {
            parent,
            directory: out.to_owned(),
            name: name.to_owned(),
        })
    }

    /// A directory for the files until they are whole; nothing that a server looks at.
    fn draft(&self) -> Result<PathBuf, TrainError> {
        fs::create_dir_all(&self.parent).map_err(TrainError::file(&self.parent))?;
        let draft = self
            .parent
            .join(format!(".{}.train-{}", self.name, std::process::id()));
        match fs::create_dir(&draft) {
            Ok(()) => Ok(draft),
            // Of a process of the same number that was killed; nobody else writes here.
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                fs::remove_dir_all(&draft)
                    .and_then(|()| fs::create_dir(&draft))
                    .map_err(TrainError::file(&draft))?;
                Ok(draft)
            }
            Err(error) => Err(TrainError::file(draft)(error)),
        }
    }

    /// The version after those that are there.
    fn next_version(&self) -> Result<u64, TrainError> {
        let entries = match fs::read_dir(&self.directory) {
            Ok(entries) => entries,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(1),
            Err(error) => return Err(TrainError::file(&self.directory)(error)),
        };
        let mut newest = 0;
        for entry in entries {
            let name = entry
                .map_err(TrainError::file(&self.directory))?
                .file_name();
            newest = newest.max(name.to_str().and_then(canonical).unwrap_or(0));
        }
        Ok(newest + 1)
    }
}

/// A model's files, beside their place; removed if they never get there.
#[derive(Debug)]
pub(super) struct Draft<'a> {
    place: &'a Place,
    /// What becomes the model's directory, if there is none.
    model: PathBuf,
    /// In it, what becomes a version's directory.
    directory: PathBuf,
    /// A body of a predict request.
    pub(super) example: String,
}

impl Drop for Draft<'_> {
    fn drop(&mut self) {
        // After the move there is nothing to remove; else it lies where no server looks.
        let _ = fs::remove_dir_all(&self.model);
    }
}

/// Writes the files that a server reads.
pub(super) fn write<'a>(
    place: &'a Place,
    options: &Options,
    target: &Target,
    features: &Features,
    fit: &Fit,
) -> Result<Draft<'a>, TrainError> {
    let model = place.draft()?;
    let draft = Draft {
        place,
        directory: model.join("1"),
        model,
        example: example(features).to_string(),
    };
    fs::create_dir(&draft.directory).map_err(TrainError::file(&draft.directory))?;
    let config = configuration(options, target, features, fit);
    draft.file("config.json", pretty(&config).as_bytes())?;
    draft.file("model.safetensors", &weights(features, fit)?)?;
    draft.file("example.json", format!("{}\n", draft.example).as_bytes())?;
    Ok(draft)
}

impl Draft<'_> {
    fn file(&self, name: &str, bytes: &[u8]) -> Result<(), TrainError> {
        let path = self.directory.join(name);
        fs::write(&path, bytes).map_err(TrainError::file(path))
    }

    /// Loads the files as a server would.
    pub(super) fn load(&self) -> Result<Model, LoadError> {
        Model::load(&self.place.name, 1, &self.directory)
    }

    /// Adds what people read.
    pub(super) fn describe(&self, report: &Report) -> Result<(), TrainError> {
        self.file("training.json", pretty(&report.to_json()).as_bytes())?;
        self.file("report.html", report.to_html(&self.place.name).as_bytes())
    }

    /// Moves the files to their place, in one step, as the version after those that are there.
    pub(super) fn publish(self) -> Result<(PathBuf, u64), TrainError> {
        let directory = &self.place.directory;
        match fs::rename(&self.model, directory) {
            Ok(()) => return Ok((directory.join("1"), 1)),
            // There is something in its place; files in a directory are never replaced.
            Err(_) if directory.is_dir() => {}
            Err(error) => return Err(TrainError::file(directory)(error)),
        }
        loop {
            let version = self.place.next_version()?;
            let place = directory.join(version.to_string());
            match fs::rename(&self.directory, &place) {
                Ok(()) => return Ok((place, version)),
                // Somebody else was quicker; a directory with files in it is never replaced.
                Err(error) if error.kind() == io::ErrorKind::DirectoryNotEmpty => {}
                Err(error) => return Err(TrainError::file(place)(error)),
            }
        }
    }
}

fn pretty(value: &Value) -> String {
    format!("{value:#}\n")
}

/// The name of a layer: of the last, or of one before it.
fn layer_name(index: usize, layers: usize) -> String {
    match index + 1 == layers {
        true => "output".to_owned(),
        false => format!("hidden{}", index + 1),
    }
}

fn configuration(options: &Options, target: &Target, features: &Features, fit: &Fit) -> Value {
    let goal = &target.goal;
    let layers = fit.network.layers.len();
    let last = match goal {
        Goal::Binary(_) => "sigmoid",
        Goal::Multiclass(_) => "softmax",
        Goal::Regression => "linear",
    };
    let mut list = vec![json!({"type": "normalization", "name": "scaler"})];
    for (index, dense) in fit.network.layers.iter().enumerate() {
        let activation = fit
            .network
            .activations
            .get(index)
            .map_or(last, |activation| activation.name());
        list.push(json!({
            "type": "dense",
            "name": layer_name(index, layers),
            "units": dense.bias.elem_count(),
            "activation": activation,
        }));
    }
    let file = options
        .data
        .file_name()
        .map_or("a table".into(), |name| name.to_string_lossy());
    let description = options
        .description
        .clone()
        .unwrap_or_else(|| format!("{} by the other columns of {file}.", options.target));
    let mut config = json!({
        "model_type": "sequential",
        "description": description,
        "task": goal.task(),
        "feature_names": features.names,
        "columns": features.configuration(),
        "inputs": [{"name": "features", "shape": [features.width()], "datatype": "FP32"}],
        "layers": list,
    });
    if !goal.labels().is_empty() {
        config["labels"] = json!(goal.labels());
    }
    config
}

/// The weights as a file of safetensors.
fn weights(features: &Features, fit: &Fit) -> Result<Vec<u8>, TrainError> {
    let width = features.width();
    let mut tensors: BTreeMap<String, (Vec<usize>, Vec<u8>)> = BTreeMap::new();
    let bytes = |numbers: &[f32]| {
        numbers
            .iter()
            .flat_map(|number| number.to_le_bytes())
            .collect()
    };
    tensors.insert(
        "scaler.mean".to_owned(),
        (vec![width], bytes(&features.mean)),
    );
    tensors.insert(
        "scaler.scale".to_owned(),
        (vec![width], bytes(&features.scale)),
    );
    let mut layers = fit.network.weights()?;
    if let Some((weight, bias)) = layers.last_mut() {
        fit.unit.fold(weight, bias);
    }
    let count = layers.len();
    for (index, (weight, bias)) in layers.iter().enumerate() {
        let name = layer_name(index, count);
        let shape = vec![bias.len(), weight.len() / bias.len()];
        tensors.insert(format!("{name}.weight"), (shape, bytes(weight)));
        tensors.insert(format!("{name}.bias"), (vec![bias.len()], bytes(bias)));
    }
    let views = tensors.iter().map(|(name, (shape, bytes))| {
        let view = TensorView::new(Dtype::F32, shape.clone(), bytes);
        (name, view.expect("as many bytes as the shape says"))
    });
    Ok(safetensors::serialize(views, None).expect("the tensors are whole and few"))
}

/// A request for the first row, by its features' names.
fn example(features: &Features) -> Value {
    let values = features.names.iter().zip(features.row(0));
    let values = values.map(|(name, value)| (name.clone(), whole(shortest(*value))));
    json!({"instances": [Value::Object(values.collect())]})
}

/// A number as people write it: 5 and not 5.0.
fn whole(number: f64) -> Value {
    match number.fract() == 0.0 && number.abs() < 1e15 {
        true => json!(number as i64),
        false => json!(number),
    }
}
