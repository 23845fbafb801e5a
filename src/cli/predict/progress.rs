//! How far the scoring of a file is: a bar on a terminal, else a line now and then.

use std::io::{self, IsTerminal};
use std::path::Path;
use std::time::{Duration, Instant};

use indicatif::{HumanCount, HumanDuration, ProgressBar, ProgressDrawTarget, ProgressStyle};

use crate::batch::Tally;
use crate::cli::console::tell;

/// How often a line is written where there is no terminal.
const LINE_INTERVAL: Duration = Duration::from_secs(10);

/// What is shown of a run.
pub(super) struct Progress {
    is_quiet: bool,
    /// On a terminal only.
    bar: Option<ProgressBar>,
    started: Instant,
    told: Instant,
    /// The rows of earlier runs.
    before: u64,
    /// Where in the input this run began.
    first: Option<u64>,
}

impl Progress {
    pub(super) fn new(is_quiet: bool) -> Self {
        let is_terminal = io::stderr().is_terminal();
        let bar = (is_terminal && !is_quiet).then(|| {
            // Redrawn up to 10 times a second.
            let target = ProgressDrawTarget::stderr_with_hz(10);
            ProgressBar::with_draw_target(None, target)
        });
        let now = Instant::now();
        Self {
            is_quiet,
            bar,
            started: now,
            told: now,
            before: 0,
            first: None,
        }
    }

    /// Prints a line once.
    pub(super) fn note(&self, text: &str) {
        if !self.is_quiet {
            tell(text);
        }
    }

    /// The run continues after these rows.
    pub(super) fn start_at(&mut self, tally: Tally) {
        self.before = tally.rows;
    }

    /// Shows how far it is.
    pub(super) fn show(&mut self, tally: Tally, done: u64, total: Option<u64>) {
        let first = *self.first.get_or_insert(match self.before {
            0 => 0,
            _ => done,
        });
        if self.is_quiet {
            return;
        }
        let seconds = self.started.elapsed().as_secs_f64();
        let rate = (tally.rows - self.before) as f64 / seconds.max(1e-3);
        let left =
            total.and_then(|total| remaining(seconds, done - first, total - done.min(total)));
        let text = line(tally, rate, left);
        if let Some(bar) = &self.bar {
            if bar.length() != total {
                bar.set_style(style(total));
                total.inspect(|total| bar.set_length(*total));
            }
            bar.set_position(done);
            bar.set_message(text);
        } else if self.told.elapsed() >= LINE_INTERVAL {
            self.told = Instant::now();
            let percent = total.map(|total| format!("{} %, ", 100 * done / total.max(1)));
            tell(&format!("{}{text}", percent.unwrap_or_default()));
        }
    }

    /// Removes the bar.
    pub(super) fn end(&self) {
        self.bar.iter().for_each(ProgressBar::finish_and_clear);
    }
}

fn style(total: Option<u64>) -> ProgressStyle {
    let template = match total {
        Some(_) => "{wide_bar} {percent} %  {msg}",
        None => "{spinner} {msg}",
    };
    ProgressStyle::with_template(template).expect("the template is sound")
}

/// The remaining time, at the speed so far.
fn remaining(seconds: f64, done: u64, left: u64) -> Option<Duration> {
    let left = seconds * left as f64 / done as f64;
    Duration::try_from_secs_f64(left).ok()
}

/// `1,250,000 rows, 3 bad, 410,000 rows/s, 12 seconds left`.
fn line(tally: Tally, rate: f64, left: Option<Duration>) -> String {
    let mut text = format!("{} rows", HumanCount(tally.rows));
    if tally.bad > 0 {
        text.push_str(&format!(", {} bad", HumanCount(tally.bad)));
    }
    text.push_str(&format!(", {} rows/s", HumanCount(rate as u64)));
    if let Some(left) = left {
        let seconds = Duration::from_secs(left.as_secs());
        text.push_str(&format!(", {} left", HumanDuration(seconds)));
    }
    text
}

/// The summary at the end: each row is accounted for.
pub(super) fn summary(tally: Tally, output: &Path, errors: &Path) -> String {
    let Tally {
        rows,
        scored,
        bad,
        blank,
    } = tally;
    let mut text = format!("{rows} rows in = {scored} rows scored + {bad} rows bad");
    if output != Path::new(crate::batch::STANDARD) {
        text.push_str(&format!("; predictions in {}", output.display()));
    }
    if bad > 0 {
        text.push_str(&format!("; bad rows in {}", errors.display()));
    }
    if blank > 0 {
        text.push_str(&format!("; {blank} blank lines are no rows"));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    const TALLY: Tally = Tally {
        rows: 1_250_000,
        scored: 1_249_997,
        bad: 3,
        blank: 0,
    };

    #[test]
    fn a_line_has_rows_rate_and_what_remains() {
        let left = remaining(10.0, 1 << 20, 3 << 20);
        assert_eq!(left, Some(Duration::from_secs(30)));
        assert_eq!(
            line(TALLY, 125_000.0, left),
            "1,250,000 rows, 3 bad, 125,000 rows/s, 30 seconds left"
        );
        assert_eq!(remaining(10.0, 0, 1), None);
    }

    #[test]
    fn the_end_accounts_for_every_row() {
        let said = summary(TALLY, Path::new("out.csv"), Path::new("out.csv.errors.csv"));
        assert_eq!(
            said,
            "1250000 rows in = 1249997 rows scored + 3 rows bad; predictions in out.csv; bad rows in \
             out.csv.errors.csv"
        );
    }
}
