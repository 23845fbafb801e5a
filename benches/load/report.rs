//! What was measured, as a table for people and as JSON for programs.

use std::fmt;

use serde::Serialize;

use super::generator::Cell;

/// All that one run of the benchmark found.
#[derive(Serialize)]
pub(crate) struct Report {
    pub(crate) cpu: String,
    pub(crate) seconds: f64,
    pub(crate) networks: Vec<NetworkReport>,
}

#[derive(Serialize)]
pub(crate) struct NetworkReport {
    pub(crate) name: String,
    pub(crate) request_bytes: usize,
    pub(crate) answer_bytes: usize,
    pub(crate) rows: Vec<Row>,
}

/// One server under one number of connections.
#[derive(Serialize)]
pub(crate) struct Row {
    pub(crate) connections: usize,
    pub(crate) server: String,
    pub(crate) rounds: usize,
    pub(crate) requests_per_second: Spread,
    /// Requests/s, as a part of the parsing handler's in the same round.
    pub(crate) of_parsing: Spread,
    pub(crate) p50_us: Spread,
    /// By how much the median latency lies above the parsing handler's in the same round.
    pub(crate) p50_above_parsing_us: Spread,
    pub(crate) p99_us: Spread,
    /// The 99th percentile, as a multiple of the parsing handler's in the same round.
    pub(crate) p99_of_parsing: Spread,
    /// JSON's null if the server's process is not known.
    pub(crate) cpu_us: Spread,
    /// The CPU time, as a multiple of the parsing handler's in the same round.
    pub(crate) cpu_of_parsing: Spread,
    pub(crate) generator_cpu_us: Spread,
}

impl Row {
    /// The figures of `cells`, one a round, next to those of the parsing handler's same rounds.
    pub(crate) fn new(connections: usize, server: &str, cells: &[Cell], parsing: &[Cell]) -> Self {
        let one = |figure: fn(&Cell) -> f64| Spread::of(cells.iter().map(figure));
        let two = |figure: fn(&Cell, &Cell) -> f64| {
            Spread::of(cells.iter().zip(parsing).map(|(a, b)| figure(a, b)))
        };
        Self {
            connections,
            server: server.to_owned(),
            rounds: cells.len(),
            requests_per_second: one(|cell| cell.requests_per_second),
            of_parsing: two(|cell, base| cell.requests_per_second / base.requests_per_second),
            p50_us: one(|cell| cell.p50_us),
            p50_above_parsing_us: two(|cell, base| cell.p50_us - base.p50_us),
            p99_us: one(|cell| cell.p99_us),
            p99_of_parsing: two(|cell, base| cell.p99_us / base.p99_us),
            cpu_us: one(|cell| cell.cpu_us),
            cpu_of_parsing: two(|cell, base| cell.cpu_us / base.cpu_us),
            generator_cpu_us: one(|cell| cell.generator_cpu_us),
        }
    }

    pub(crate) const HEADINGS: &str = "\
| connections | server | requests/s | of parsing | p50 µs | above parsing µs | p99 µs | of parsing | CPU µs | of parsing | generator µs |
|---|---|---|---|---|---|---|---|---|---|---|";
}

impl fmt::Display for Row {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "| {} | {} | {:.0} | {:.2} | {:.0} | {:.0} | {:.0} | {:.1} | {:.1} | {:.2} | {:.1} |",
            self.connections,
            self.server,
            self.requests_per_second,
            self.of_parsing,
            self.p50_us.median,
            self.p50_above_parsing_us,
            self.p99_us.median,
            self.p99_of_parsing,
            self.cpu_us,
            self.cpu_of_parsing,
            self.generator_cpu_us.median,
        )
    }
}

/// A figure over the rounds.
#[derive(Clone, Copy, Serialize)]
pub(crate) struct Spread {
    pub(crate) median: f64,
    pub(crate) min: f64,
    pub(crate) max: f64,
}

impl Spread {
    fn of(figures: impl Iterator<Item = f64>) -> Self {
        let mut figures: Vec<f64> = figures.collect();
        figures.sort_by(f64::total_cmp);
        let last = figures.len() - 1;
        Self {
            median: (figures[last / 2] + figures[last.div_ceil(2)]) / 2.0,
            min: figures[0],
            max: figures[last],
        }
    }
}

/// `median (min..max)`, each with as many decimals as asked for; a dash for what is not known.
impl fmt::Display for Spread {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { median, min, max } = self;
        let decimals = f.precision().unwrap_or(2);
        match median.is_nan() {
            true => write!(f, "–"),
            false => write!(
                f,
                "{median:.decimals$} ({min:.decimals$}..{max:.decimals$})"
            ),
        }
    }
}
