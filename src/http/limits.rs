//! The bounds of every request.

use std::time::Duration;

/// What one request may take.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HttpLimits {
    /// The most bytes of one body.
    pub max_body_bytes: usize,
    /// How long a body may take to arrive.
    pub body_timeout: Duration,
    /// The most bytes of all bodies together, with the rows and answers that come of them, that are
    /// held at one time.
    pub max_inflight_body_bytes: usize,
    /// The most rows of one request.
    pub max_request_rows: usize,
    /// The longest deadline that a client can ask for; more is cut to this.
    pub max_deadline: Duration,
    /// The deadline of requests that ask for none.
    pub default_deadline: Option<Duration>,
}
