//! The line that shows how far a run is.

use std::time::Duration;

use indicatif::{ProgressBar, ProgressStyle};

use crate::bench::Progress;
use crate::cli::table::grouped;

/// A bar on stderr; nothing if that is no terminal.
pub(super) struct Line(ProgressBar);

impl Line {
    pub(super) fn new() -> Self {
        let bar = ProgressBar::new(0);
        let style = ProgressStyle::with_template("{prefix} [{bar:24}] {msg}");
        bar.set_style(style.expect("the template is one"));
        Self(bar)
    }

    pub(super) fn show(&self, progress: &Progress) {
        let Self(bar) = self;
        bar.set_length(progress.length.as_millis() as u64);
        bar.set_position(progress.elapsed.min(progress.length).as_millis() as u64);
        bar.set_prefix(prefix(progress));
        bar.set_message(message(progress));
    }

    pub(super) fn clear(&self) {
        self.0.finish_and_clear();
    }
}

fn prefix(progress: &Progress) -> String {
    let step = match progress.connections {
        1 => "1 connection".to_owned(),
        several => format!("{several} connections"),
    };
    match progress.is_warm_up {
        true => format!("{step}, warm-up"),
        false => step,
    }
}

fn message(progress: &Progress) -> String {
    let rate =
        progress.correct as f64 / progress.elapsed.max(Duration::from_millis(1)).as_secs_f64();
    let left = progress
        .length
        .saturating_sub(progress.elapsed)
        .as_secs_f64()
        .ceil();
    let errors = match progress.failed {
        0 => String::new(),
        1 => ", 1 error".to_owned(),
        failed => format!(", {} errors", grouped(failed as usize)),
    };
    format!(
        "{} requests/s{errors}, {left} s left",
        grouped(rate as usize)
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_line_says_how_fast_and_how_long() {
        let progress = Progress {
            is_warm_up: true,
            connections: 8,
            elapsed: Duration::from_secs(2),
            length: Duration::from_secs(10),
            correct: 5000,
            failed: 3,
        };
        assert_eq!(prefix(&progress), "8 connections, warm-up");
        assert_eq!(message(&progress), "2,500 requests/s, 3 errors, 8 s left");
    }
}
