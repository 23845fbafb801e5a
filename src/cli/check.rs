//! `safeserve check`: whether every model of a repository can be served, and whether one answers as
//! expected.

use std::collections::BTreeSet;
use std::fmt::Write as _;

use super::build::build_info;
use super::console::{complain, print, report};
use super::exit::Exit;
use super::serve::{repository_settings, scheduler_settings};
use super::table::{Overview, overview};
use crate::config::Settings;
use crate::metrics::Metrics;
use crate::model::repository::{ModelRepository, RepositorySettings};
use crate::model::{Expected, Furthest};
use crate::scheduler::Scheduler;

/// The default tolerance: the error of 32-bit floats after some dozens of layers, computed in another
/// order.
pub(super) const TOLERANCE: f64 = 1e-5;

/// What `--compare` asks for.
#[derive(Clone, Debug)]
pub(super) struct Comparison {
    /// The file of expected answers.
    pub(super) file: String,
    /// The most that an answer `a` may differ from the expected `e`, by itself and by |e|.
    pub(super) tolerance: f64,
}

/// Reads `--tolerance`.
pub(super) fn tolerance(text: &str) -> Result<f64, String> {
    match text.parse() {
        Ok(tolerance) if (0.0..f64::INFINITY).contains(&tolerance) => Ok(tolerance),
        _ => Err("expected a number from 0 on, such as 1e-5".to_owned()),
    }
}

pub(super) fn run(settings: &Settings, comparison: Option<&Comparison>) -> Exit {
    let metrics = Metrics::new(build_info());
    let scheduler = match Scheduler::start(scheduler_settings(&settings.config)) {
        Ok(scheduler) => scheduler,
        Err(error) => {
            report(&error);
            return Exit::Failed;
        }
    };
    // Loading a model ends with its first forward pass.
    let repository = RepositorySettings {
        watch: None,
        ..repository_settings(&settings.config)
    };
    let loaded = ModelRepository::open(repository, &scheduler, &metrics);
    let repository = match loaded {
        Ok(repository) => repository,
        Err(error) => {
            report(&error);
            return Exit::BadRepository;
        }
    };
    let Overview { ready, refused } = overview(&repository);
    let mut text = ready;
    for served in repository.ready() {
        if let Some(warning) = &served.loaded.warning {
            let model = &served.model;
            text.push_str(&format!(
                "{} {}: warning: {warning}\n",
                model.name, model.version
            ));
        }
    }
    for entry in &refused {
        text.push_str(&format!(
            "{} {}: refused: {}\n",
            entry.name, entry.version, entry.reason
        ));
    }
    for reason in repository.ignored().iter() {
        text.push_str(&format!("ignored: {reason}\n"));
    }
    text.push_str(&match refused.len() + repository.ignored().len() {
        0 => "every model can be served\n".to_owned(),
        1 => "1 model version cannot be served\n".to_owned(),
        count => format!("{count} model versions cannot be served\n"),
    });
    print(&text);
    let are_equal = comparison.is_none_or(|comparison| comparison.run(&repository));
    match refused.is_empty() && repository.ignored().is_empty() && are_equal {
        true => Exit::Done,
        false => Exit::Failed,
    }
}

impl Comparison {
    /// Compares the only model's answers with those of the file and prints how far they are off;
    /// whether they are equal within the tolerance.
    fn run(&self, repository: &ModelRepository) -> bool {
        let text = match self.report(repository) {
            Ok((text, are_equal)) => {
                print(&text);
                return are_equal;
            }
            Err(problem) => problem,
        };
        complain(&format!("--compare: {text}"));
        false
    }

    fn report(&self, repository: &ModelRepository) -> Result<(String, bool), String> {
        let ready = repository.ready();
        let names: BTreeSet<&str> = ready
            .iter()
            .map(|served| served.model.name.as_str())
            .collect();
        if names.len() > 1 {
            let names: Vec<&str> = names.into_iter().collect();
            return Err(format!(
                "expected one model, the repository has {}: {}; give the directory of one",
                names.len(),
                names.join(", ")
            ));
        }
        let Some(served) = ready.iter().max_by_key(|served| served.model.version) else {
            return Err("there is no model that can be asked".to_owned());
        };
        let model = &served.model;
        if model.prepare.is_some() {
            return Err(format!(
                "{} {}: its requests are prepared before it computes them, and a file of expected values \
                 is not; serve it and send it requests",
                model.name, model.version
            ));
        }
        let expected =
            Expected::read(&self.file, &model.engine).map_err(|error| error.to_string())?;
        let allowed = |expected: f64| self.tolerance + self.tolerance * expected.abs();
        let furthest = expected.compare(&model.engine, allowed);
        let mut text = format!(
            "{} {}: {} rows of {}\n",
            model.name,
            model.version,
            expected.rows(),
            self.file
        );
        for output in &furthest {
            let _ = writeln!(text, "{}", said(output));
        }
        let are_equal = furthest.iter().all(Furthest::is_within);
        let _ = writeln!(
            text,
            "{} as expected, tolerance {:e} + {:e} * |expected|",
            if are_equal {
                "every answer is"
            } else {
                "the answers are not"
            },
            self.tolerance,
            self.tolerance
        );
        Ok((text, are_equal))
    }
}

/// Where an output is furthest off, in a line.
fn said(furthest: &Furthest) -> String {
    format!(
        "output {:?}: off by {:.2e} at row {}, element {}: {:?} for {:?}, {} {:.2e} allowed",
        furthest.output,
        furthest.difference(),
        furthest.row,
        furthest.element,
        furthest.answer,
        furthest.expected,
        if furthest.is_within() {
            "within the"
        } else {
            "beyond the"
        },
        furthest.allowed
    )
}
