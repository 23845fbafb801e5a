//! From a table to a model directory: reads CSV, prepares it, trains a network, tries the result as a
//! server would, and publishes it with a report.
//!
//! ```text
//! table -> target, inputs -> split -> features -> fit -> save (-> model::Model) -> score, findings -> report
//! ```
//!
//! Nothing here knows a terminal: the caller watches through an [`Observer`].

mod digits;
mod epoch;
mod error;
mod features;
mod findings;
mod fit;
mod inputs;
mod layers;
mod network;
mod number;
mod observer;
pub mod options;
mod plots;
mod report;
mod save;
mod score;
mod split;
mod table;
mod target;

use std::path::PathBuf;

use crate::engine::{Batch, Workspace};
use crate::model::Model;
use crate::model::publish::Place;
use crate::tensor::View;

pub use self::epoch::{Ending, Epoch};
pub use self::error::TrainError;
pub use self::findings::{Finding, Trouble};
pub use self::inputs::LeftOut;
pub use self::layers::{Activation, Hidden, Layers};
pub use self::observer::{Observer, Stop};
pub use self::options::{Optimizer, Options, TaskName};
pub use self::report::Report;
pub use self::score::{Classification, Regression, Score};
pub use self::target::Goal;

use self::features::Features;
use self::fit::Fit;
use self::split::Split;
use self::table::Table;
use self::target::Target;

/// The result of a training.
#[derive(Debug)]
pub struct Trained {
    /// The model's directory.
    pub directory: PathBuf,
    /// The model's name in its repository.
    pub name: String,
    /// Its version.
    pub version: u64,
    /// A body of a predict request.
    pub example: String,
    /// Its report.
    pub report: Report,
}

/// Trains a network on a table and publishes it as a model.
///
/// # Errors
/// [`TrainError`] naming the line and the column of the table, or the option, that is wrong. Nothing
/// is left in the model's place then.
pub fn train(options: &Options, observer: &mut dyn Observer) -> Result<Trained, TrainError> {
    options.check()?;
    // Before the work: otherwise an invalid name would be found an hour later.
    let place = Place::at(&options.out).map_err(|error| {
        TrainError::option("--out", format!("{}: {error}", options.out.display()))
    })?;
    let table = Table::read(options, &|| observer.stop())?;
    let target = Target::of(&table, options)?;
    for line in &target.said {
        observer.said(line);
    }
    let (inputs, left_out) = inputs::choose(&table, &target, options)?;
    for column in &left_out {
        observer.said(&column.to_string());
    }
    let split = Split::of(&target, options)?;
    let features = Features::encode(&table, &inputs, &target, &split)?;
    let fit = Fit::run(&features, &target, &split, options, observer)?;
    let (draft, example) = save::write(&place, options, &target, &features, &fit)?;
    let model = draft.load()?;
    let answers = answers(&model, &features);
    check(&answers, &features, &target, &fit)?;
    let held_out = split.scored();
    let report = Report {
        options: options.clone(),
        parameters: model.engine.parameters(),
        score: Score::of(&target, &answers, held_out),
        balance: score::balance(&target, &split),
        findings: findings::find(&table, &features, &target, &split),
        columns: features.described(),
        rows_of_training: split.training.len(),
        rows_of_validation: split.validation.len(),
        rows_without_target: table.rows() - target.rows.len(),
        goal: target.goal.clone(),
        left_out,
        ending: fit.ending,
        best_epoch: fit.best_epoch,
        history: fit.history,
    };
    let failed = |error| TrainError::file(&options.out)(error);
    save::describe(&draft, place.name(), &report).map_err(failed)?;
    if observer.stop() == Stop::Abandon {
        return Err(TrainError::Interrupted);
    }
    let (directory, version) = draft.publish().map_err(failed)?;
    Ok(Trained {
        name: place.name().to_owned(),
        directory,
        version,
        example,
        report,
    })
}

/// What the engine answers to all rows, as a server would: the first output, row by row.
fn answers(model: &Model, features: &Features) -> Vec<f32> {
    /// Enough rows to be quick, and few enough to need little memory.
    const ROWS: usize = 1024;
    let mut workspace = Workspace::new();
    let mut answers = Vec::new();
    for rows in features.values.chunks(ROWS * features.width()) {
        let inputs = [View::F32(rows)];
        let count = rows.len() / features.width();
        let outputs = model
            .engine
            .run(Batch::of_rows(count, &inputs), &mut workspace, None);
        answers.extend_from_slice(outputs.get(0));
    }
    answers
}

/// How far the engine's answers may be from those of the network in training, relative to their size, as
/// both round.
const TOLERANCE: f32 = 1e-5;

/// Compares what will be served with what was trained, on every row.
fn check(
    answers: &[f32],
    features: &Features,
    target: &Target,
    fit: &Fit,
) -> Result<(), TrainError> {
    let expected = fit.network.answers(features, target, fit.unit);
    let is_far = |(served, trained): &(&f32, &f32)| {
        let scale = trained.abs().max(target.scale());
        let distance = (*served - *trained).abs();
        distance.is_nan() || distance > TOLERANCE * scale
    };
    let mut pairs = answers.iter().zip(&expected);
    match (answers.len() == expected.len(), pairs.find(is_far)) {
        (true, None) => Ok(()),
        (_, far) => Err(TrainError::SelfCheck {
            pair: far.map(|(served, trained)| (*served, *trained)),
        }),
    }
}
