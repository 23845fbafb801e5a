//! The measurements, and what they mean for the size of a deployment.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::Serialize;

use super::body::Body;
use super::scrape::Totals;
use super::settings::Settings;
use super::step::{Load, Measured};
use super::tally::Tally;
use super::target::Target;

/// The percentiles of the curve that is drawn.
const CURVE: [f64; 13] = [
    1.0, 10.0, 25.0, 50.0, 75.0, 90.0, 95.0, 98.0, 99.0, 99.5, 99.9, 99.99, 100.0,
];

/// The share of its threads' time from which on the generator itself is the bottleneck.
const BUSY: f64 = 0.9;

/// A whole run.
#[derive(Clone, Debug, Serialize)]
pub struct Report {
    /// The server.
    pub url: String,
    /// The model that was asked.
    pub model: String,
    /// The version that was asked for; null for the newest.
    pub version: Option<String>,
    /// `v2`, `v2-binary` or `v1`.
    pub protocol: String,
    /// `closed`: a connection sends when it has its last answer. `open`: requests at a steady rate, with
    /// latencies from when each was due.
    pub r#loop: &'static str,
    /// Requests a second of an open loop.
    pub rate: Option<f64>,
    /// How many bodies were sent in turn.
    pub bodies: usize,
    /// The mean of their rows.
    pub rows_per_request: f64,
    /// The mean of their lengths.
    pub request_bytes: f64,
    /// How long a step was to take.
    pub duration_seconds: f64,
    /// How long the server was loaded before each.
    pub warm_up_seconds: f64,
    /// The seed of the generated numbers.
    pub seed: u64,
    /// Whether the server is on this machine, whose cores the generator then takes from it.
    pub is_local: bool,
    /// Whether it was ended early.
    pub was_stopped: bool,
    /// Requests that were sent and not measured: the first one, and those of warm-ups.
    pub unmeasured_requests: u64,
    /// What was measured, a number of connections each.
    pub steps: Vec<Step>,
    /// What follows for a deployment; null if no step was without errors and within the wanted latency.
    pub sizing: Option<Sizing>,
    /// Caveats about the figures.
    pub notes: Vec<String>,
}

/// One number of connections.
#[derive(Clone, Debug, Serialize)]
pub struct Step {
    /// Connections.
    pub connections: usize,
    /// Threads that drove them.
    pub threads: usize,
    /// From the start to the last answer.
    pub seconds: f64,
    /// Requests that were sent, or tried to; each is correct or an error.
    pub requests: u64,
    /// Answers of 200 with a prediction for each row.
    pub correct: u64,
    /// All others.
    pub errors: u64,
    /// Those by kind.
    pub errors_by_kind: BTreeMap<String, u64>,
    /// The first message of each kind.
    pub first_errors: BTreeMap<String, String>,
    /// Requests of an open loop that were due and never sent: the server did not keep up.
    pub unsent: u64,
    /// Connections that were made again.
    pub reconnects: u64,
    /// Correct answers a second.
    pub requests_per_second: f64,
    /// Rows of correct answers a second.
    pub rows_per_second: f64,
    /// Of the correct answers; null without any.
    pub latency_ms: Option<Latency>,
    /// For each percentile, the latency in ms that this share of the correct answers did not exceed.
    pub curve: Vec<(f64, f64)>,
    /// The generator's own CPU time; null where the system does not say.
    pub generator_cpu_seconds: Option<f64>,
    /// What the server's metrics say of the same time; null if they cannot be read.
    pub server: Option<ServerShare>,
}

/// Latencies in milliseconds.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
#[allow(missing_docs, reason = "the names say it")]
pub struct Latency {
    pub mean: f64,
    pub p50: f64,
    pub p90: f64,
    pub p99: f64,
    #[serde(rename = "p99.9")]
    pub p99_9: f64,
    pub max: f64,
}

impl Latency {
    fn of(tally: &Tally) -> Option<Self> {
        let percentile = |percent| tally.percentile(percent).map(ms);
        Some(Self {
            mean: tally.mean().map(ms)?,
            p50: percentile(50.0)?,
            p90: percentile(90.0)?,
            p99: percentile(99.0)?,
            p99_9: percentile(99.9)?,
            max: tally.max().map(ms)?,
        })
    }
}

/// The server's side of a step.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct ServerShare {
    /// Requests for the model that the server answered, from all clients.
    pub requests: u64,
    /// Its CPU time.
    pub cpu_seconds: f64,
    /// CPU time a request; null without requests.
    pub cpu_us_per_request: Option<f64>,
    /// Rows computed in a second of CPU time, which is a core's; null if that time is too short to tell.
    pub rows_per_cpu_second: Option<f64>,
    /// The mean rows of a forward pass: the batches that formed.
    pub rows_per_batch: Option<f64>,
}

impl From<Totals> for ServerShare {
    fn from(totals: Totals) -> Self {
        let Totals {
            cpu_seconds,
            requests,
            passes,
            rows,
        } = totals;
        let ratio = |of: f64, by: f64| (by > 0.0).then(|| of / by);
        Self {
            requests,
            cpu_seconds,
            cpu_us_per_request: ratio(cpu_seconds * 1e6, requests as f64),
            rows_per_cpu_second: ratio(rows as f64, cpu_seconds),
            rows_per_batch: ratio(rows as f64, passes as f64),
        }
    }
}

/// The load that one such server carries, and how many servers carry the wanted load.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Sizing {
    /// The connections of the step with the highest throughput.
    pub connections: usize,
    /// Rows a second there.
    pub rows_per_second: f64,
    /// Its 99th percentile.
    pub p99_ms: f64,
    /// The 99th percentile that was still good.
    pub wanted_p99_ms: Option<f64>,
    /// What all servers together are to carry.
    pub wanted_rows_per_second: Option<f64>,
    /// How many such servers that takes, each as loaded as in this step.
    pub servers: Option<u64>,
}

impl Report {
    pub(super) fn new(settings: &Settings, target: &Target, bodies: &[Body]) -> Self {
        let mean = |of: fn(&Body) -> usize| {
            bodies.iter().map(|body| of(body) as f64).sum::<f64>() / bodies.len() as f64
        };
        Self {
            url: target.url().to_owned(),
            model: settings.model.clone(),
            version: settings.version.clone(),
            protocol: settings.protocol.to_string(),
            r#loop: if settings.rate.is_some() {
                "open"
            } else {
                "closed"
            },
            rate: settings.rate,
            bodies: bodies.len(),
            rows_per_request: mean(|body| body.rows),
            request_bytes: mean(|body| body.bytes.len()),
            duration_seconds: settings.duration.as_secs_f64(),
            warm_up_seconds: settings.warm_up.as_secs_f64(),
            seed: settings.seed,
            is_local: target.is_local(),
            was_stopped: false,
            unmeasured_requests: 0,
            steps: Vec::new(),
            sizing: None,
            notes: Vec::new(),
        }
    }

    /// Draws the conclusions from the steps.
    pub(super) fn conclude(&mut self, settings: &Settings, was_stopped: bool) {
        self.was_stopped = was_stopped;
        let wanted_p99_ms = settings.wanted_p99.map(ms);
        // At a set rate a step carries what it was asked, which may be far from what it could.
        let wanted_rows = settings
            .wanted_rows_per_second
            .filter(|_| settings.rate.is_none());
        self.sizing = sizing(&self.steps, wanted_rows, wanted_p99_ms);
        if was_stopped {
            self.notes.push(
                "It was ended early; the figures are of what was measured until then.".to_owned(),
            );
        }
        if self.rate.is_none() {
            self.notes.push(
                "Closed loop: each connection waits for its answer, so a server that stalls is asked less. \
                 --rate R sends at a steady rate and counts from when each request was due."
                    .to_owned(),
            );
        }
        if self.is_local {
            self.notes.push(
                "The server is on this machine: the generator takes a part of its cores, and no network lies \
                 between. Measure from another machine for figures to plan with."
                    .to_owned(),
            );
        }
        for step in &self.steps {
            self.notes.extend(step.notes());
        }
    }

    /// Whether every request got a correct answer.
    #[must_use]
    pub fn is_clean(&self) -> bool {
        !self.steps.is_empty() && self.steps.iter().all(Step::is_clean)
    }
}

/// The step without errors that carried most within the wanted latency, and the deployment's size.
fn sizing(steps: &[Step], wanted_rows: Option<f64>, wanted_p99_ms: Option<f64>) -> Option<Sizing> {
    let good = steps.iter().filter_map(|step| {
        let p99_ms = step.latency_ms?.p99;
        let is_good = step.is_clean() && wanted_p99_ms.is_none_or(|most| p99_ms <= most);
        is_good.then_some((step, p99_ms))
    });
    let (best, p99_ms) = good.max_by(|a, b| a.0.rows_per_second.total_cmp(&b.0.rows_per_second))?;
    Some(Sizing {
        connections: best.connections,
        rows_per_second: best.rows_per_second,
        p99_ms,
        wanted_p99_ms,
        wanted_rows_per_second: wanted_rows,
        servers: wanted_rows.map(|rows| (rows / best.rows_per_second).ceil() as u64),
    })
}

impl Step {
    pub(super) fn new(
        load: Load,
        measured: &Measured,
        server: Option<Totals>,
        generator_cpu: Option<Duration>,
    ) -> Self {
        let tally = &measured.tally;
        let seconds = measured.elapsed.as_secs_f64();
        let failures = || {
            let failures = tally.failures().iter();
            failures.map(|(kind, failures)| (kind.to_string(), failures))
        };
        let per_second = |count: u64| {
            if seconds > 0.0 {
                count as f64 / seconds
            } else {
                0.0
            }
        };
        let curve = CURVE.iter().filter_map(|percent| {
            let latency = tally.percentile(*percent)?;
            Some((*percent, ms(latency)))
        });
        Self {
            connections: load.connections,
            threads: load.threads,
            seconds,
            requests: tally.requests(),
            correct: tally.correct(),
            errors: tally.failed(),
            errors_by_kind: failures()
                .map(|(kind, failures)| (kind, failures.count))
                .collect(),
            first_errors: failures()
                .map(|(kind, failures)| (kind, failures.first.clone()))
                .collect(),
            unsent: measured.unsent,
            reconnects: measured.reconnects,
            requests_per_second: per_second(tally.correct()),
            rows_per_second: per_second(tally.rows()),
            latency_ms: Latency::of(tally),
            curve: curve.collect(),
            generator_cpu_seconds: generator_cpu.map(|time| time.as_secs_f64()),
            server: server.map(ServerShare::from),
        }
    }

    /// Whether every request was sent and answered correctly.
    #[must_use]
    pub fn is_clean(&self) -> bool {
        self.errors == 0 && self.unsent == 0 && self.correct > 0
    }

    fn notes(&self) -> Vec<String> {
        let mut notes = Vec::new();
        let connections = self.connections;
        let time = self.seconds * self.threads as f64;
        if self
            .generator_cpu_seconds
            .is_some_and(|used| used >= BUSY * time)
        {
            notes.push(format!(
                "At {connections} connections the generator was busy all the time: the server may be able to do \
                 more. Give it --threads {}, or run it on another machine.",
                2 * self.threads
            ));
        }
        if self.unsent > 0 {
            notes.push(format!(
                "At {connections} connections {} requests were due and never sent, since no connection was free: \
                 the server cannot keep this rate, and the true latencies are longer than those shown.",
                self.unsent
            ));
        }
        if let Some(server) = self.server
            && server.requests > self.requests
        {
            notes.push(format!(
                "At {connections} connections the server answered {} requests, and {} of them came from this \
                command: another client loads it too.",
                server.requests, self.requests
            ));
        }
        notes
    }
}

fn ms(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1e3
}
