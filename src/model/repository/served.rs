//! A version that serves: its model, its lane, its series.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Instant, SystemTime};

use bytes::Bytes;

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
    /// Where its files lie.
    pub directory: PathBuf,
    /// When the load ended.
    pub at: SystemTime,
    /// How long it took, in seconds, without the warm-up.
    pub seconds: f64,
    /// What its owner should know although it serves.
    pub warning: Option<String>,
}

/// Loads one version and opens its lane; the reason if that fails.
pub(super) fn load(
    name: &str,
    version: u64,
    directory: PathBuf,
    scheduler: &Arc<Scheduler>,
    metrics: &Metrics,
) -> Result<Served, String> {
    let started = Instant::now();
    let model = Model::load(name, version, &directory).map_err(|error| error.to_string())?;
    let seconds = started.elapsed().as_secs_f64();
    serve(model, directory, seconds, scheduler, metrics)
}

/// Opens the lane of a loaded model and tries it; the reason if that fails.
pub(super) fn serve(
    model: Model,
    directory: PathBuf,
    seconds: f64,
    scheduler: &Arc<Scheduler>,
    metrics: &Metrics,
) -> Result<Served, String> {
    let series = metrics.model(&model.name, model.version);
    let settings = LaneSettings {
        name: model.name.clone(),
        allow_non_finite: model.signature.allow_non_finite,
    };
    let lane = scheduler.lane(Arc::clone(&model.engine), series.clone(), settings);
    let WarmUp { non_finite_output } = lane.warm_up().map_err(|error: InferError| {
        // The metrics page shows what serves, and this does not.
        metrics.forget(&model.name, model.version);
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
