//! Loads a running server and measures it: what `safeserve bench` does.
//!
//! ```text
//! target: where it is -> body: what is sent -> step: threads of connections, paced -> tally -> report
//! ```
//!
//! Every request that was begun ends in one class of the [`Tally`], correct or a [`Failure`]; otherwise
//! the report is refused.

mod answer;
mod body;
mod client;
mod pace;
mod report;
mod requests;
mod scrape;
mod settings;
mod step;
mod tally;
mod target;
#[cfg(test)]
mod tests;

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::header::{CONTENT_TYPE, HOST};
use http::{HeaderMap, HeaderValue, Request, Uri};
use http_body_util::Full;

use crate::metrics::{cpu_time, max_open_files};
use body::Metadata;
use client::{Client, Reply};
use requests::Requests;
use scrape::Totals;
use step::Load;
use tally::Failed;
use target::Target;

pub use body::BodyError;
pub use pace::Stop;
pub use report::{Latency, Report, ServerShare, Sizing, Step};
pub use settings::{Protocol, Settings};
pub use step::Progress;
pub use tally::{Failure, Failures, Tally};
pub use target::TargetError;

/// The most connections of a step.
pub const MAX_CONNECTIONS: usize = 10_000;

/// The files that the process has open apart from its connections, with some to spare.
const OTHER_FILES: usize = 64;

/// Why nothing was measured.
#[derive(Debug)]
pub enum BenchError {
    /// The address cannot be that of a server.
    Target(TargetError),
    /// A request before the load got no answer.
    NoAnswer {
        /// The server.
        url: String,
        /// What happened.
        reason: String,
    },
    /// It speaks HTTP, but not the protocol.
    NoServer {
        /// The server.
        url: String,
        /// The request and its answer.
        reason: String,
    },
    /// The key is missing or wrong.
    Unauthorized {
        /// What the server said.
        reason: String,
    },
    /// The server has no such model, or none that is ready.
    Model {
        /// The model.
        model: String,
        /// What the server said.
        reason: String,
    },
    /// There is nothing to send.
    Body(BodyError),
    /// The first request was refused, as all others would be.
    Refused {
        /// The status or other failure, and the server's message.
        reason: String,
    },
    /// The process may not open this many connections.
    Files {
        /// The connections that were asked for.
        connections: usize,
        /// How many files it may open.
        files: usize,
    },
    /// The generator's own counts are wrong.
    Books,
}

impl fmt::Display for BenchError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Target(error) => error.fmt(f),
            Self::Body(error) => error.fmt(f),
            Self::NoAnswer { url, reason } => write!(
                f,
                "no answer from {url}: {reason}; start the server (`safeserve --bind ADDR:PORT`) or say with \
                 --url where it is"
            ),
            Self::NoServer { url, reason } => write!(
                f,
                "{url} is no server of the Open Inference Protocol: {reason}; say with --url where safeserve \
                 is, or send bodies of your own with --data FILE"
            ),
            Self::Unauthorized { reason } => write!(
                f,
                "the server asks for a key: {reason}; give one that it knows with --api-key-file FILE or --header"
            ),
            Self::Model { model, reason } => write!(f, "model {model:?} cannot be loaded with requests: {reason}"),
            Self::Refused { reason } => write!(
                f,
                "the first request failed, so nothing was measured: {reason}"
            ),
            Self::Files { connections, files } => write!(
                f,
                "--connections {connections}: this process may open {files} files; raise the limit with \
                 `ulimit -n {}`",
                connections + OTHER_FILES
            ),
            Self::Books => f.write_str(
                "the counts of requests and answers differ, so the figures are not to be trusted; this is an \
                 error of safeserve, please report it",
            ),
        }
    }
}

impl std::error::Error for BenchError {}

impl From<TargetError> for BenchError {
    fn from(error: TargetError) -> Self {
        Self::Target(error)
    }
}

impl From<BodyError> for BenchError {
    fn from(error: BodyError) -> Self {
        Self::Body(error)
    }
}

/// Measures a server step by step. A stop ends the current step and skips the others.
///
/// # Errors
/// Why nothing could be measured: no server, no such model, nothing to send. Failures under load are
/// counted, not returned.
pub async fn run(
    settings: &Settings,
    stop: &Arc<Stop>,
    mut watcher: impl FnMut(Progress),
) -> Result<Report, BenchError> {
    let connections = settings.connections.iter().copied().max().unwrap_or(0);
    if let Some(files) = max_open_files().filter(|files| *files < connections + OTHER_FILES) {
        return Err(BenchError::Files { connections, files });
    }
    let authorities = settings.authorities.as_deref();
    let target = Arc::new(Target::find(&settings.url, authorities).await?);
    let metrics = match &settings.metrics_url {
        Some(url) => Arc::new(Target::find(url, authorities).await?),
        None => Arc::clone(&target),
    };
    let requests = Arc::new(prepare(settings, &target).await?);
    let mut scraper = Scraper {
        client: Client::new(metrics, settings.timeout),
        settings,
    };
    let mut report = Report::new(settings, &target, &requests.bodies);
    report.unmeasured_requests += first(&requests, settings.timeout).await?;
    for &connections in &settings.connections {
        let load = Load {
            connections,
            threads: settings.threads.min(connections),
            length: settings.duration,
            most: settings.requests.unwrap_or(u64::MAX),
            rate: settings.rate,
            timeout: settings.timeout,
        };
        if !settings.warm_up.is_zero() {
            let warm_up = Load {
                length: settings.warm_up,
                most: u64::MAX,
                ..load
            };
            let warmed = step::run(&requests, warm_up, stop, |progress| {
                watcher(Progress {
                    is_warm_up: true,
                    ..progress
                });
            });
            report.unmeasured_requests += warmed.await.tally.requests();
        }
        if stop.is_stopped() {
            break;
        }
        let (before, own_before) = (scraper.totals().await, cpu_time());
        let measured = step::run(&requests, load, stop, &mut watcher).await;
        let own = own_before.zip(cpu_time());
        let server = before.zip(scraper.totals().await);
        if !measured.tally.adds_up() {
            return Err(BenchError::Books);
        }
        report.steps.push(Step::new(
            load,
            &measured,
            server.map(|(before, after)| after - before),
            own.map(|(before, after)| after.saturating_sub(before)),
        ));
    }
    report.conclude(settings, stop.is_stopped());
    Ok(report)
}

/// Finds out what to send.
async fn prepare(settings: &Settings, target: &Arc<Target>) -> Result<Requests, BenchError> {
    let mut headers: HeaderMap = settings.headers.iter().cloned().collect();
    headers.insert(HOST, target.host.clone());
    let bodies = match &settings.data {
        Some(file) => body::read(file, settings.protocol)?,
        None => {
            let metadata = metadata(settings, target, &headers).await?;
            body::made(&metadata, settings.protocol, settings.rows, settings.seed)?
        }
    };
    let media_type = match settings.protocol {
        Protocol::V2Binary => "application/octet-stream",
        Protocol::V2 | Protocol::V1 => "application/json",
    };
    headers
        .entry(CONTENT_TYPE)
        .or_insert(HeaderValue::from_static(media_type));
    Ok(Requests {
        path: uri(&target.path(&predict_path(settings))),
        target: Arc::clone(target),
        headers,
        protocol: settings.protocol,
        bodies: bodies.into(),
    })
}

/// Where predictions are asked for.
fn predict_path(settings: &Settings) -> String {
    let model = model_path(settings);
    match settings.protocol {
        Protocol::V1 => format!("/v1{model}:predict"),
        Protocol::V2 | Protocol::V2Binary => format!("/v2{model}/infer"),
    }
}

fn model_path(settings: &Settings) -> String {
    let version = settings.version.as_ref();
    let version = version.map_or(String::new(), |version| {
        format!("/versions/{}", escaped(version))
    });
    format!("/models/{}{version}", escaped(&settings.model))
}

/// A segment of a path, with what may not appear in one escaped.
fn escaped(segment: &str) -> String {
    let mut text = String::new();
    for byte in segment.bytes() {
        match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => {
                text.push(byte.into())
            }
            byte => text.push_str(&format!("%{byte:02X}")),
        }
    }
    text
}

fn uri(path: &str) -> Uri {
    path.parse().expect("its segments are escaped")
}

/// Sends a request before the load or during it.
async fn get(client: &mut Client, path: &str, headers: &HeaderMap) -> Result<Reply, Failed> {
    let mut request = Request::new(Full::<Bytes>::default());
    *request.uri_mut() = uri(path);
    *request.headers_mut() = headers.clone();
    client.ask(request).await
}

/// The server's metadata of the model.
async fn metadata(
    settings: &Settings,
    target: &Arc<Target>,
    headers: &HeaderMap,
) -> Result<Metadata, BenchError> {
    let url = || target.url().to_owned();
    let no_answer = |failed: Failed| BenchError::NoAnswer {
        url: url(),
        reason: failed.message,
    };
    let no_server = |path: &str, reason: &dyn fmt::Display| BenchError::NoServer {
        url: url(),
        reason: format!("{path} answers {reason}"),
    };
    let mut client = Client::new(Arc::clone(target), settings.timeout);
    let path = target.path(&format!("/v2{}", model_path(settings)));
    let reply = get(&mut client, &path, headers).await.map_err(no_answer)?;
    let said = answer::refusal(&reply).message;
    match reply.status.as_u16() {
        200 => serde_json::from_slice(&reply.body).map_err(|error| {
            no_server(
                &path,
                &format_args!("200 without a model's metadata: {error}"),
            )
        }),
        401 | 403 => Err(BenchError::Unauthorized { reason: said }),
        status => {
            // A server that does not know the path does not know the protocol either.
            let root = target.path("/v2");
            let server = get(&mut client, &root, headers).await.map_err(no_answer)?;
            match server.status == 200 && is_server(&server.body) {
                true => Err(BenchError::Model {
                    model: settings.model.clone(),
                    reason: said,
                }),
                false => Err(no_server(&path, &status)),
            }
        }
    }
}

/// Whether this is the metadata of an Open Inference Protocol server.
fn is_server(body: &[u8]) -> bool {
    let value: Option<serde_json::Value> = serde_json::from_slice(body).ok();
    value.is_some_and(|value| value["name"].is_string())
}

/// Sends the first request, and returns how many were sent. A fault in it is a fault in all; an
/// overloaded server is not a fault.
async fn first(requests: &Requests, timeout: Duration) -> Result<u64, BenchError> {
    let mut client = Client::new(Arc::clone(&requests.target), timeout);
    let url = requests.target.url().to_owned();
    let reply = client
        .ask(requests.request(0))
        .await
        .map_err(|failed| BenchError::NoAnswer {
            url,
            reason: failed.message,
        })?;
    let mut checker = answer::Checker::new(requests.protocol, &requests.bodies);
    match checker.check(0, &requests.bodies[0], &reply) {
        Ok(_) => Ok(1),
        Err(Failed {
            failure: Failure::Overloaded | Failure::Status(429 | 500..),
            ..
        }) => Ok(1),
        Err(Failed {
            failure: Failure::Status(401 | 403),
            message,
        }) => Err(BenchError::Unauthorized { reason: message }),
        Err(failed) => Err(BenchError::Refused {
            reason: format!("{}: {}", failed.failure, failed.message),
        }),
    }
}

/// Reads the server's metrics.
struct Scraper<'a> {
    client: Client,
    settings: &'a Settings,
}

impl Scraper<'_> {
    /// The totals of the model; `None` if the server does not have them.
    async fn totals(&mut self) -> Option<Totals> {
        let target = self.client.target();
        // A key is for the server that is loaded, and the metrics may be elsewhere.
        let headers = self.settings.headers.iter().cloned();
        let mut headers: HeaderMap = match self.settings.metrics_url {
            None => headers.collect(),
            Some(_) => HeaderMap::new(),
        };
        headers.insert(HOST, target.host.clone());
        let path = target.path("/metrics");
        let page = get(&mut self.client, &path, &headers).await.ok()?;
        let text = std::str::from_utf8(&page.body)
            .ok()
            .filter(|_| page.status == 200)?;
        Totals::read(text, &self.settings.model, self.settings.version.as_deref())
    }
}
