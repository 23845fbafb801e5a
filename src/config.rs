//! Settings: defaults, overridden by a file, by the environment, by flags, in this order.
//!
//! `config/default.toml` is compiled in and is the only list of settings: its keys are the known keys
//! and its values define their types. Overrides are checked against it, so that a misspelt key or a value
//! out of range ends the start with a message that says where.

mod error;
mod foreign;
mod layers;
mod memory;
mod origin;
mod print;
mod ranges;

use std::fmt;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use serde::{Deserialize, Deserializer};

use crate::names::ModelName;
use crate::versions::{VersionLabels, VersionPolicies};

pub use error::ConfigError;
pub use layers::{Overrides, Settings};
pub use memory::memory_budget;
pub use origin::Origin;

/// The compiled-in defaults, with every setting's unit and reason.
pub const DEFAULT_TOML: &str = include_str!("../config/default.toml");

/// All settings, checked. `config/default.toml` says what each means.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// The listening process.
    pub server: Server,
    /// Encryption.
    pub tls: Tls,
    /// Health and metrics on a listener of their own.
    pub operations: Operations,
    /// The operators' API.
    pub admin: Admin,
    /// The gRPC services.
    pub grpc: Grpc,
    /// The model repository.
    pub models: Models,
    /// Paths of Vertex AI.
    pub vertex: Vertex,
    /// Queues and batches.
    pub scheduler: Scheduler,
    /// What clients may ask for.
    pub limits: Limits,
    /// Logging.
    pub log: Log,
}

/// The listening process.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Server {
    /// Address and port to listen on.
    pub bind: SocketAddr,
    /// Threads that read requests and write answers; 0 for the CPU budget.
    pub io_threads: usize,
    /// How long requests are welcome after SIGTERM.
    pub drain_delay_ms: u64,
    /// How long requests in flight may then take.
    pub drain_timeout_ms: u64,
    /// The file of the clients' keys, if they need any.
    #[serde(deserialize_with = "unless_empty")]
    pub api_keys: Option<PathBuf>,
}

/// Encryption.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Tls {
    /// The file of the certificate chain; without one HTTP is plain.
    #[serde(deserialize_with = "unless_empty")]
    pub certificate: Option<PathBuf>,
    /// The file of its private key.
    #[serde(deserialize_with = "unless_empty")]
    pub key: Option<PathBuf>,
    /// The file of the authorities of clients, if they need certificates.
    #[serde(deserialize_with = "unless_empty")]
    pub client_ca: Option<PathBuf>,
}

/// Health and metrics on a listener of their own.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Operations {
    /// Its address and port, if there is one.
    #[serde(deserialize_with = "unless_empty")]
    pub bind: Option<SocketAddr>,
}

/// The operators' API.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Admin {
    /// Its address and port, if there is one.
    #[serde(deserialize_with = "unless_empty")]
    pub bind: Option<SocketAddr>,
    /// The file of the operators' keys.
    #[serde(deserialize_with = "unless_empty")]
    pub keys: Option<PathBuf>,
}

/// The gRPC services.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Grpc {
    /// Their address and port, if there are any.
    #[serde(deserialize_with = "unless_empty")]
    pub bind: Option<SocketAddr>,
    /// The most connections open at once.
    pub max_connections: usize,
}

/// A text that means nothing when it is empty.
fn unless_empty<'de, D, T>(deserializer: D) -> Result<Option<T>, D::Error>
where
    D: Deserializer<'de>,
    T: FromStr<Err: fmt::Display>,
{
    let text = String::deserialize(deserializer)?;
    match &*text {
        "" => Ok(None),
        text => text.parse().map(Some).map_err(serde::de::Error::custom),
    }
}

/// The model repository.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Models {
    /// Its directory.
    pub dir: PathBuf,
    /// The name of its only model, if the directory does not give it.
    #[serde(deserialize_with = "unless_empty")]
    pub name: Option<ModelName>,
    /// Whether one bad model ends the start.
    pub strict: bool,
    /// Whether changes of the directory are followed.
    pub watch: bool,
    /// How often the directory is scanned without a reported change; 0 for never.
    pub poll_interval_ms: u64,
    /// How long files must be unchanged before they are loaded.
    pub settle_ms: u64,
    /// How long the server waits for incomplete files.
    pub incomplete_timeout_ms: u64,
    /// How long a scan of the directory, or reading a version, may take; 0 for no limit.
    pub load_timeout_ms: u64,
    /// Which versions are served.
    pub versions: VersionPolicies,
    /// Names of versions.
    pub labels: VersionLabels,
    /// The model of paths that name none.
    #[serde(deserialize_with = "unless_empty")]
    pub default_model: Option<String>,
    /// The most models.
    pub max_models: usize,
    /// The most versions of one model that serve.
    pub max_versions: usize,
    /// The most bytes of weights in memory; 0 for a share of what the process may use.
    pub max_weight_bytes: u64,
}

/// Paths of Vertex AI, in addition to the default ones.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Vertex {
    /// The path of the platform's health checks.
    #[serde(deserialize_with = "unless_empty")]
    pub health_route: Option<String>,
    /// The path that takes rows of the default model.
    #[serde(deserialize_with = "unless_empty")]
    pub predict_route: Option<String>,
}

/// Queues and batches.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Scheduler {
    /// Threads that compute; 0 for the CPU budget.
    pub workers: usize,
    /// The most rows computed together.
    pub max_batch_rows: usize,
    /// How much longer than one row a batch may take.
    pub max_batch_ms: u64,
    /// The most bytes of scratch memory of a forward pass of several rows.
    pub max_scratch_bytes: usize,
    /// How long a batch may be held while every worker is busy.
    pub max_batch_delay_us: u64,
    /// The most rows that may wait for one model version.
    pub max_queued_rows: usize,
    /// The estimated cost below which a request is computed where it was decoded.
    pub inline_cost_us: u64,
    /// How long a forward pass may take before its worker is replaced; 0 for ever.
    pub hang_timeout_ms: u64,
    /// How long rows may wait while no forward pass ends before the server is not live; 0 for ever.
    pub stall_timeout_ms: u64,
}

/// What clients may ask for.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Limits {
    /// The most connections open at once.
    pub max_connections: usize,
    /// The most header lines of a request.
    pub max_headers: usize,
    /// The most bytes of a request's line and headers.
    pub max_header_bytes: usize,
    /// How long a request's headers may take.
    pub header_timeout_ms: u64,
    /// How long a connection may be idle between requests.
    pub idle_timeout_ms: u64,
    /// How long a client may go without reading its answer.
    pub write_timeout_ms: u64,
    /// The most bytes of a request's body.
    pub max_body_bytes: usize,
    /// How long a request's body may take.
    pub body_timeout_ms: u64,
    /// The most bytes in memory of all bodies, their rows and their answers; 0 for
    /// [a share of the memory](Limits::inflight_bytes).
    pub max_inflight_body_bytes: usize,
    /// The most rows of a request.
    pub max_request_rows: usize,
    /// The deadline of requests that ask for none; 0 for none.
    pub default_deadline_ms: u64,
    /// The longest deadline that a request may ask for.
    pub max_deadline_ms: u64,
}

/// Logging.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Log {
    /// The least severe messages that are logged.
    pub level: Level,
    /// How they are written.
    pub format: Format,
}

/// The severity of a log message.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Level {
    /// The server failed at something.
    Error,
    /// Something is off, the server goes on.
    Warn,
    /// What an operator wants to know.
    Info,
    /// What a developer wants to know.
    Debug,
    /// Everything.
    Trace,
}

/// How log messages are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Format {
    /// Text on a terminal, JSON elsewhere.
    Auto,
    /// One line of text a message.
    Text,
    /// One JSON object a message.
    Json,
}

/// The default is sixteen of the largest bodies: more at a time would not be faster.
const MOST_INFLIGHT_BYTES: usize = 256 << 20;

impl Limits {
    /// The deadline of requests that ask for none.
    #[must_use]
    pub fn default_deadline(&self) -> Option<Duration> {
        (self.default_deadline_ms > 0).then(|| Duration::from_millis(self.default_deadline_ms))
    }

    /// The most bytes in memory of all bodies, their rows and their answers, in a process that may use
    /// `memory` bytes.
    #[must_use]
    pub fn inflight_bytes(&self, memory: Option<u64>) -> usize {
        if self.max_inflight_body_bytes > 0 {
            return self.max_inflight_body_bytes;
        }
        // The rest is for the weights, which may take four fifths, and the process itself.
        let eighth = memory.map_or(u64::MAX, |bytes| bytes / 8);
        let eighth = usize::try_from(eighth).unwrap_or(usize::MAX);
        eighth.min(MOST_INFLIGHT_BYTES).max(self.max_body_bytes)
    }
}

/// The number of threads that 0 means: the cores that this process may use, by its affinity and its
/// cgroup's quota.
#[must_use]
pub fn cpu_budget() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from)
}

impl Level {
    /// Every level, from the fewest messages to the most.
    pub const ALL: [Self; 5] = [
        Self::Error,
        Self::Warn,
        Self::Info,
        Self::Debug,
        Self::Trace,
    ];

    /// As settings write it.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Error => "error",
            Self::Warn => "warn",
            Self::Info => "info",
            Self::Debug => "debug",
            Self::Trace => "trace",
        }
    }
}

impl fmt::Display for Level {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

#[cfg(test)]
mod tests;
