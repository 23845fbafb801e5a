//! `safeserve bench`: what a running server carries, to size a deployment.

mod live;
mod page;
mod plot;

use std::fs;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use clap::{Args, ValueEnum};
use http::header::AUTHORIZATION;
use http::{HeaderName, HeaderValue};

use super::console::{print, report};
use super::exit::Exit;
use crate::bench::{self, BenchError, BodyError, MAX_CONNECTIONS, Settings, Stop, TargetError};

/// Longest times that are taken: a day for a step, an hour for a request.
const MAX_SECONDS: f64 = 86_400.0;
const MAX_TIMEOUT_SECONDS: f64 = 3_600.0;

/// More threads would be useless: few machines have more cores.
const MAX_THREADS: usize = 256;

/// The most rows of a made request; a body's bytes are bounded too.
const MAX_ROWS: usize = 1_000_000;

/// The most requests a second that are scheduled.
const MAX_RATE: f64 = 10_000_000.0;

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Protocol {
    /// The Open Inference Protocol in JSON.
    V2,
    /// The Open Inference Protocol with binary tensors.
    V2Binary,
    /// TensorFlow Serving's and KServe's V1.
    V1,
}

#[derive(Debug, Args)]
#[command(after_help = "\
Exit codes: 0 if every request was answered correctly, 1 if one was not or nothing could be measured,
2 for bad arguments, 130 if a second Ctrl-C ended it at once. The first ends the step and shows it.")]
pub(super) struct Flags {
    /// The model to ask.
    #[arg(value_name = "NAME")]
    model: String,
    /// Its version [default: the newest].
    #[arg(long, value_name = "VERSION")]
    version: Option<String>,
    /// The server, http or https.
    #[arg(long, value_name = "URL", default_value = "http://127.0.0.1:8080")]
    url: String,
    /// Where its metrics are, if on a listener of their own (operations.bind).
    #[arg(long, value_name = "URL")]
    metrics_url: Option<String>,
    /// The PEM file of the authorities for https [default: SSL_CERT_FILE or the system's].
    #[arg(long, value_name = "FILE")]
    ca: Option<PathBuf>,
    /// Connections, each with one request at a time; a list is run as steps: 1,8,64.
    #[arg(long, value_name = "N,N,...", value_delimiter = ',', default_value = "1,8,64", value_parser = connections)]
    connections: Vec<usize>,
    /// Rows a request.
    #[arg(long, value_name = "N", default_value = "1", value_parser = rows, conflicts_with = "data")]
    rows: usize,
    /// Seconds that a step takes.
    #[arg(long, value_name = "SECONDS", default_value = "10", value_parser = seconds)]
    duration: Duration,
    /// Seconds of load before each step that do not count.
    #[arg(long, value_name = "SECONDS", default_value = "1", value_parser = seconds_or_none)]
    warm_up: Duration,
    /// The most requests of a step, which may end it before its time.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    requests: Option<u64>,
    /// Send this many requests a second whatever the answers take (open loop), and count latencies from
    /// when each was due [default: each connection sends when its last answer is there].
    #[arg(long, value_name = "REQUESTS/S", value_parser = rate)]
    rate: Option<f64>,
    /// How requests and answers are written.
    #[arg(long, value_enum, default_value = "v2")]
    protocol: Protocol,
    /// Bodies to send in turns, JSON one a line or one after the other [default: random rows].
    #[arg(long, value_name = "FILE")]
    data: Option<PathBuf>,
    /// What the random rows come from: the same seed makes the same rows.
    #[arg(long, value_name = "N", default_value = "0")]
    seed: u64,
    /// A header of each request; may be repeated.
    #[arg(long, value_name = "NAME: VALUE", value_parser = header)]
    header: Vec<(HeaderName, HeaderValue)>,
    /// A file with the key to send: the key alone, or as in the server's file of keys.
    #[arg(long, value_name = "FILE")]
    api_key_file: Option<PathBuf>,
    /// Seconds after which a request counts as an error.
    #[arg(long, value_name = "SECONDS", default_value = "30", value_parser = timeout)]
    timeout: Duration,
    /// Threads that drive the connections; more if the generator is busy all the time.
    #[arg(long, value_name = "N", default_value = "1", value_parser = threads)]
    threads: usize,
    /// Rows a second that all servers are to carry: says how many that takes.
    #[arg(long, value_name = "ROWS/S", value_parser = rate)]
    for_rows: Option<f64>,
    /// The 99th percentile that is still good, in milliseconds: steps above it are no size to plan with.
    #[arg(long, value_name = "MS", value_parser = milliseconds)]
    within_p99: Option<Duration>,
    /// Print the results as JSON.
    #[arg(long)]
    json: bool,
}

/// A number within bounds.
fn within<T>(text: &str, least: T, most: T, what: &str) -> Result<T, String>
where
    T: std::str::FromStr + PartialOrd + std::fmt::Display + Copy,
{
    let number = text
        .parse()
        .ok()
        .filter(|number| (least..=most).contains(number));
    number.ok_or_else(|| format!("expected {what} from {least} to {most}"))
}

fn connections(text: &str) -> Result<usize, String> {
    within(text, 1, MAX_CONNECTIONS, "a number of connections")
}

fn rows(text: &str) -> Result<usize, String> {
    within(text, 1, MAX_ROWS, "a number of rows")
}

fn threads(text: &str) -> Result<usize, String> {
    within(text, 1, MAX_THREADS, "a number of threads")
}

fn rate(text: &str) -> Result<f64, String> {
    within(text, 0.001, MAX_RATE, "a number a second")
}

fn seconds(text: &str) -> Result<Duration, String> {
    within(text, 0.01, MAX_SECONDS, "seconds").map(Duration::from_secs_f64)
}

fn seconds_or_none(text: &str) -> Result<Duration, String> {
    within(text, 0.0, MAX_SECONDS, "seconds").map(Duration::from_secs_f64)
}

fn timeout(text: &str) -> Result<Duration, String> {
    within(text, 0.001, MAX_TIMEOUT_SECONDS, "seconds").map(Duration::from_secs_f64)
}

fn milliseconds(text: &str) -> Result<Duration, String> {
    let most = MAX_TIMEOUT_SECONDS * 1e3;
    within(text, 0.001, most, "milliseconds").map(|ms| Duration::from_secs_f64(ms / 1e3))
}

fn header(text: &str) -> Result<(HeaderName, HeaderValue), String> {
    let wrong = || "expected NAME: VALUE".to_owned();
    let (name, value) = text.split_once(':').ok_or_else(wrong)?;
    let name = name.trim().parse().map_err(|_| wrong())?;
    Ok((name, value.trim().parse().map_err(|_| wrong())?))
}

/// The header of the first key in a file.
fn key(text: &str) -> Result<(HeaderName, HeaderValue), &'static str> {
    let mut lines = text.lines().map(str::trim);
    let line = lines.find(|line| !line.is_empty() && !line.starts_with('#'));
    let mut words = line.ok_or("it has no key")?.split_whitespace();
    let key = match (words.next(), words.next(), words.next()) {
        (Some(key), None, _) | (Some(_), Some(key), None) => key,
        _ => return Err("expected a key, or a name and a key"),
    };
    if key.starts_with("sha256:") {
        return Err("it has only the key's digest; put the key itself into a file");
    }
    let value = HeaderValue::from_str(&format!("Bearer {key}"));
    let mut value = value.map_err(|_| "expected a key of printable ASCII")?;
    value.set_sensitive(true);
    Ok((AUTHORIZATION, value))
}

impl Flags {
    fn settings(&self) -> Result<Settings, String> {
        let mut headers = self.header.clone();
        if let Some(file) = &self.api_key_file {
            let wrong = |reason: &str| format!("--api-key-file {}: {reason}", file.display());
            let text = fs::read_to_string(file).map_err(|error| wrong(&error.to_string()))?;
            headers.push(key(&text).map_err(wrong)?);
        }
        let protocol = match (self.protocol, &self.data) {
            (Protocol::V2Binary, Some(_)) => {
                return Err("--data holds JSON: send it with --protocol v2 or v1".to_owned());
            }
            (Protocol::V2Binary, None) => bench::Protocol::V2Binary,
            (Protocol::V2, _) => bench::Protocol::V2,
            (Protocol::V1, _) => bench::Protocol::V1,
        };
        Ok(Settings {
            model: self.model.clone(),
            version: self.version.clone(),
            url: self.url.clone(),
            authorities: self.ca.clone(),
            metrics_url: self.metrics_url.clone(),
            headers,
            connections: self.connections.clone(),
            threads: self.threads,
            rows: self.rows,
            data: self.data.clone(),
            protocol,
            duration: self.duration,
            warm_up: self.warm_up,
            requests: self.requests,
            rate: self.rate,
            timeout: self.timeout,
            seed: self.seed,
            wanted_rows_per_second: self.for_rows,
            wanted_p99: self.within_p99,
        })
    }
}

/// Measures, and prints what was found.
pub(super) fn run(flags: &Flags) -> Exit {
    let settings = match flags.settings() {
        Ok(settings) => settings,
        Err(message) => {
            report(&*Box::<dyn std::error::Error>::from(message));
            return Exit::BadSettings;
        }
    };
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build();
    let runtime = match runtime {
        Ok(runtime) => runtime,
        Err(error) => {
            report(&error);
            return Exit::Failed;
        }
    };
    let stop = Arc::new(Stop::default());
    let measured = runtime.block_on(async {
        let live = live::Line::new();
        tokio::spawn(interrupts(Arc::clone(&stop)));
        let measured = bench::run(&settings, &stop, |progress| live.show(&progress)).await;
        live.clear();
        measured
    });
    match measured {
        Ok(measured) => {
            print(&match flags.json {
                true => serde_json::to_string_pretty(&measured).expect("plain structs") + "\n",
                false => page::page(&measured),
            });
            match measured.is_clean() {
                true => Exit::Done,
                false => Exit::Failed,
            }
        }
        Err(error) => {
            report(&error);
            exit(&error)
        }
    }
}

/// The first Ctrl-C ends the measuring, a second one the process.
#[allow(
    clippy::disallowed_methods,
    reason = "who signals twice does not want to wait for what is in flight"
)]
async fn interrupts(stop: Arc<Stop>) {
    // If signals cannot be caught, the system ends the process, as it does without this.
    if tokio::signal::ctrl_c().await.is_ok() {
        stop.stop();
        let _ = tokio::signal::ctrl_c().await;
        std::process::exit(Exit::Forced as i32);
    }
}

/// Whether the arguments or what they name is wrong.
fn exit(error: &BenchError) -> Exit {
    match error {
        BenchError::Target(TargetError::Url(_) | TargetError::Authorities { .. })
        | BenchError::Body(
            BodyError::File(..) | BodyError::Data { .. } | BodyError::TooLong { .. },
        )
        | BenchError::Files { .. } => Exit::BadSettings,
        _ => Exit::Failed,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_alone_or_after_its_name() {
        let sent = |text: &str| {
            key(text).map(|(name, value)| {
                assert_eq!(name, AUTHORIZATION);
                value.to_str().unwrap().to_owned()
            })
        };
        let bearer = Ok("Bearer 0123456789abcdef".to_owned());
        assert_eq!(sent("0123456789abcdef\n"), bearer);
        assert_eq!(sent("# keys\n\nme  0123456789abcdef\nother x\n"), bearer);
        assert_eq!(sent("# none\n"), Err("it has no key"));
        assert!(sent("me sha256:9f86").is_err_and(|reason| reason.contains("digest")));
        assert!(sent("a b c").is_err());
    }

    #[test]
    fn numbers_out_of_bounds_are_refused_with_the_bounds() {
        assert_eq!(connections("64"), Ok(64));
        assert_eq!(
            connections("0").unwrap_err(),
            "expected a number of connections from 1 to 10000"
        );
        assert!(connections("10001").is_err());
        assert!(rate("0").is_err());
        assert!(rate("nan").is_err());
        assert!(seconds("inf").is_err());
        assert_eq!(seconds_or_none("0"), Ok(Duration::ZERO));
        assert_eq!(milliseconds("2.5"), Ok(Duration::from_micros(2500)));
    }

    #[test]
    fn a_header_is_a_name_and_a_value() {
        let (name, value) = header("X-Team: a:b").unwrap();
        assert_eq!((name.as_str(), value.to_str().unwrap()), ("x-team", "a:b"));
        for wrong in ["", "a", "a b: c", ": c", "a: \u{7}"] {
            assert_eq!(
                header(wrong).unwrap_err(),
                "expected NAME: VALUE",
                "{wrong:?}"
            );
        }
    }
}
