//! What a person is told when the server starts: on the log, and on standard output.

use std::net::SocketAddr;

use tracing::{error, warn};

use crate::cli::build::VERSION;
use crate::cli::console::print;
use crate::cli::example::curl;
use crate::model::repository::{IndexEntry, ModelRepository};

/// Logs the models that are refused, those that serve with a warning, and the directories that are
/// ignored.
pub(super) fn log_problems(repository: &ModelRepository, refused: &[IndexEntry]) {
    for entry in refused {
        error!(
            model = entry.name,
            version = entry.version,
            reason = entry.reason,
            "model refused"
        );
    }
    for served in repository.ready() {
        if let Some(warning) = &served.loaded.warning {
            let model = &served.model;
            warn!(
                model = model.name,
                version = model.version,
                reason = warning,
                "model may refuse requests"
            );
        }
    }
    for reason in repository.ignored().iter() {
        warn!(reason, "directory ignored");
    }
}

/// Tells the person who started the server what it serves and how to try it.
pub(super) fn greet(
    scheme: &str,
    address: SocketAddr,
    repository: &ModelRepository,
    ready: &str,
    refused: usize,
) {
    let refused = match refused {
        0 => String::new(),
        1 => "1 model version was refused: see the log, or `safeserve check`\n".to_owned(),
        count => {
            format!("{count} model versions were refused: see the log, or `safeserve check`\n")
        }
    };
    let mut text = format!(
        "safeserve {}\n\n{ready}{refused}\nlistening on {scheme}://{address}\n",
        VERSION.as_str()
    );
    if let Some(curl) = curl(&repository.ready(), address) {
        text.push_str(&format!("\n{curl}\n\n"));
    }
    print(&text);
}
