//! What to measure.

use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use http::{HeaderName, HeaderValue};

/// How requests and answers are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Protocol {
    /// The Open Inference Protocol in JSON.
    V2,
    /// The Open Inference Protocol with binary tensors.
    V2Binary,
    /// TensorFlow Serving's and KServe's V1.
    V1,
}

impl fmt::Display for Protocol {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::V2 => "v2",
            Self::V2Binary => "v2-binary",
            Self::V1 => "v1",
        })
    }
}

/// What to measure.
#[derive(Clone, Debug)]
pub struct Settings {
    /// The model's name, and its version if not the newest.
    pub model: String,
    /// The version to ask for.
    pub version: Option<String>,
    /// The server.
    pub url: String,
    /// The PEM file of the authorities that its certificate may come from.
    pub authorities: Option<PathBuf>,
    /// Where its metrics are, if elsewhere.
    pub metrics_url: Option<String>,
    /// The headers of each request.
    pub headers: Vec<(HeaderName, HeaderValue)>,
    /// The steps, by their connections.
    pub connections: Vec<usize>,
    /// Threads that drive the connections.
    pub threads: usize,
    /// Rows a request, of bodies that are made.
    pub rows: usize,
    /// The bodies to send instead.
    pub data: Option<PathBuf>,
    /// How bodies are written.
    pub protocol: Protocol,
    /// How long a step takes.
    pub duration: Duration,
    /// How long the server is loaded before each step, uncounted.
    pub warm_up: Duration,
    /// The most requests of a step.
    pub requests: Option<u64>,
    /// Requests a second of an open loop; `None` for a closed one.
    pub rate: Option<f64>,
    /// How long a request may take.
    pub timeout: Duration,
    /// The seed of the generated numbers.
    pub seed: u64,
    /// Rows a second that all servers together are to carry.
    pub wanted_rows_per_second: Option<f64>,
    /// The 99th percentile of the latency that is still good.
    pub wanted_p99: Option<Duration>,
}
