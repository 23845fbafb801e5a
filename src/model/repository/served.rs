//! A version that serves: its model, its lane, its series.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Instant, SystemTime};

use bytes::Bytes;

use super::plan::Outcome;
use crate::metrics::{Metrics, ModelMetrics};
use crate::model::{CONFIG_FILE, Model};
use crate::request::InferError;
use crate::scheduler::{Lane, LaneSettings, Scheduler, WarmUp};

/// A model version that answers requests. A request holds one from the check of its inputs to its
/// answer, so that no request is answered by two versions.
#[derive(Debug)]
pub struct Served {
    /// The model.
    pub model: Model,
    /// Its queue in the scheduler.
    pub lane: Lane,
    /// Its series on the metrics page.
    pub metrics: ModelMetrics,
    /// How it was loaded.
    pub loaded: Loaded,
    /// The version's number as text, for every answer that names it.
    pub version: Bytes,
    /// The model's fingerprint, likewise.
    pub fingerprint: Bytes,
}

/// How a model version was loaded.
#[derive(Clone, Debug)]
pub struct Loaded {
    /// The directory of its files.
    pub directory: PathBuf,
    /// When the load ended.
    pub at: SystemTime,
    /// How long it took, in seconds, without the warm-up.
    pub seconds: f64,
    /// What its owner should know although it serves.
    pub warning: Option<String>,
}

/// Reads a version's files and compiles the model; with the seconds that this took.
///
/// # Errors
/// [`Outcome::Incomplete`] or [`Outcome::Refused`].
pub(super) fn read(name: &str, version: u64, directory: &Path) -> Result<(Model, f64), Outcome> {
    let started = Instant::now();
    // A file that triggers a fault of this server must not end the loader.
    let load = || Model::load(name, version, directory);
    match catch_unwind(AssertUnwindSafe(load)) {
        Ok(Ok(model)) => Ok((model, started.elapsed().as_secs_f64())),
        Ok(Err(error)) if error.is_incomplete() => Err(Outcome::Incomplete(error.to_string())),
        Ok(Err(error)) => Err(Outcome::Refused(error.to_string())),
        Err(_panic) => Err(Outcome::Refused(
            "a fault of this server: reading the files panicked".to_owned(),
        )),
    }
}

/// Opens the lane of a loaded model and tries it; the reason if that fails. Versions of the same name and number
/// share their series.
pub(super) fn serve(
    model: Model,
    directory: PathBuf,
    seconds: f64,
    scheduler: &Arc<Scheduler>,
    metrics: &Metrics,
) -> Result<Served, String> {
    let is_new = !metrics.knows(&model.name, model.version);
    let series = metrics.model(&model.name, model.version);
    let settings = LaneSettings {
        name: model.name.clone(),
        allow_non_finite: model.signature.allow_non_finite,
        prepare: model.prepare.clone(),
        finish: model.finish.clone(),
    };
    let lane = scheduler.lane(Arc::clone(&model.engine), series.clone(), settings);
    let WarmUp { non_finite_output } = lane.warm_up().map_err(|error: InferError| {
        // The metrics page shows what serves, and this does not.
        if is_new {
            metrics.forget(&model.name, model.version);
        }
        format!("the forward pass fails on a row of zeros: {error}")
    })?;
    series.loaded(&model.fingerprint, seconds, model.engine.weight_bytes());
    let warning = non_finite_output.map(|output| {
        format!(
            "output {:?} is not a finite number for a row of zeros, and such an answer is refused \
             with 422; try it with a row of your own, or set \"allow_non_finite\" in \
             {CONFIG_FILE}",
            model.engine.outputs()[output].name
        )
    });
    Ok(Served {
        version: model.version.to_string().into(),
        fingerprint: model.fingerprint.clone().into(),
        model,
        lane,
        metrics: series,
        loaded: Loaded {
            directory,
            at: SystemTime::now(),
            seconds,
            warning,
        },
    })
}
