//! `safeserve check`: whether every model of a repository can be served.

use super::serve::{repository_settings, scheduler_settings};
use super::table::{Overview, overview};
use super::{Exit, build_info, print, report};
use crate::config::Settings;
use crate::metrics::Metrics;
use crate::model::repository::{ModelRepository, RepositorySettings};
use crate::scheduler::Scheduler;

pub(super) fn run(settings: &Settings) -> Exit {
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
    match refused.is_empty() && repository.ignored().is_empty() {
        true => Exit::Done,
        false => Exit::Failed,
    }
}
