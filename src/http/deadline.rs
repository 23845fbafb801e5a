//! When a request's answer stops being of use.

use std::time::{Duration, Instant};

use http::HeaderMap;

use super::error::{ApiError, ErrorCode};
use super::limits::HttpLimits;
use crate::messages::excerpt;

const HEADER: &str = "x-request-timeout-ms";

/// The deadline of a request that started at `started`: the earlier of the head's and the body's
/// timeout, else the default.
pub(super) fn deadline(
    head: Option<Duration>,
    body: Option<Duration>,
    started: Instant,
    limits: &HttpLimits,
) -> Option<Instant> {
    let asked = match (head, body) {
        (Some(head), Some(body)) => Some(head.min(body)),
        (head, body) => head.or(body),
    };
    let timeout = asked
        .map(|asked| asked.min(limits.max_deadline))
        .or(limits.default_deadline);
    timeout.and_then(|timeout| started.checked_add(timeout))
}

/// How long a request's head says that its client waits.
///
/// # Errors
/// 400 if the header is not a number of milliseconds, at least 1.
pub(super) fn asked_by(headers: &HeaderMap) -> Result<Option<Duration>, ApiError> {
    let Some(value) = headers.get(HEADER) else {
        return Ok(None);
    };
    let digits = value
        .to_str()
        .ok()
        .filter(|text| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit()));
    let milliseconds = match digits {
        // More digits than fit is a long time, not a mistake.
        Some(digits) => digits.parse().unwrap_or(u64::MAX),
        None => 0,
    };
    if milliseconds == 0 {
        return Err(ApiError::invalid(
            ErrorCode::InvalidTimeout,
            format!(
                "header {HEADER}: expected a number of milliseconds, at least 1, got {}",
                excerpt(&String::from_utf8_lossy(value.as_bytes()), 40)
            ),
        )
        .at(HEADER));
    }
    Ok(Some(Duration::from_millis(milliseconds)))
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    const LIMITS: HttpLimits = HttpLimits {
        max_body_bytes: 1,
        body_timeout: Duration::from_secs(1),
        max_inflight_body_bytes: 1,
        max_request_rows: 1,
        max_deadline: Duration::from_secs(60),
        default_deadline: Some(Duration::from_secs(30)),
    };

    fn asked(header: Option<&str>, timeout: Option<u64>) -> Option<u64> {
        let mut headers = HeaderMap::new();
        if let Some(header) = header {
            headers.insert(HEADER, HeaderValue::from_str(header).unwrap());
        }
        let started = Instant::now();
        let timeout = timeout.map(Duration::from_millis);
        let deadline = deadline(asked_by(&headers).ok()?, timeout, started, &LIMITS)?;
        Some(u64::try_from((deadline - started).as_millis()).unwrap())
    }

    #[test]
    fn the_earlier_of_two_deadlines_counts_and_none_exceeds_the_limit() {
        assert_eq!(asked(None, None), Some(30_000));
        assert_eq!(asked(Some("250"), None), Some(250));
        assert_eq!(asked(None, Some(250)), Some(250));
        assert_eq!(asked(Some("250"), Some(100)), Some(100));
        assert_eq!(asked(Some("100"), Some(250)), Some(100));
        assert_eq!(asked(Some("9223372036854775808"), None), Some(60_000));
        assert_eq!(asked(Some(&"9".repeat(40)), None), Some(60_000));
    }

    #[test]
    fn what_is_no_time_is_refused() {
        for header in ["", "0", "-1", "+1", "1.5", "abc", "1e3", " 1", "0x10"] {
            assert_eq!(asked(Some(header), None), None, "{header:?}");
        }
    }
}
