//! How long a client waits, as gRPC's clients say it.

use std::time::Duration;

use http::HeaderMap;

use crate::http::deadline;
use crate::http::error::{ApiError, ErrorCode};
use crate::messages::excerpt;

const TIMEOUT: &str = "grpc-timeout";

/// How long a request's head says that its client waits: at most eight digits and a unit.
///
/// # Errors
/// 400 if the header is no such time. A time of 0 has passed, and is refused as one.
pub(super) fn asked_by(headers: &HeaderMap) -> Result<Option<Duration>, ApiError> {
    let Some(value) = headers.get(TIMEOUT) else {
        return deadline::asked_by(headers);
    };
    let parse = |text: &str| {
        let (digits, unit) = text.split_at_checked(text.len().checked_sub(1)?)?;
        let is_number =
            (1..=8).contains(&digits.len()) && digits.bytes().all(|b| b.is_ascii_digit());
        let number: u64 = is_number.then(|| digits.parse().ok())??;
        Some(match unit {
            "H" => Duration::from_secs(number * 3600),
            "M" => Duration::from_secs(number * 60),
            "S" => Duration::from_secs(number),
            "m" => Duration::from_millis(number),
            "u" => Duration::from_micros(number),
            "n" => Duration::from_nanos(number),
            _ => return None,
        })
    };
    match value.to_str().ok().and_then(parse) {
        Some(timeout) => Ok(Some(timeout)),
        None => Err(ApiError::invalid(
            ErrorCode::InvalidTimeout,
            format!(
                "metadata {TIMEOUT}: expected up to 8 digits and one of H, M, S, m, u, n, got {}",
                excerpt(&String::from_utf8_lossy(value.as_bytes()), 40)
            ),
        )
        .at(TIMEOUT)),
    }
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    #[test]
    fn a_timeout_is_digits_and_a_unit() {
        let asked = |text: &'static str| {
            let value = HeaderValue::from_static(text);
            asked_by(&HeaderMap::from_iter([(
                http::HeaderName::from_static(TIMEOUT),
                value,
            )]))
            .ok()?
        };
        assert_eq!(asked("1H"), Some(Duration::from_secs(3600)));
        assert_eq!(asked("2M"), Some(Duration::from_secs(120)));
        assert_eq!(asked("99999999S"), Some(Duration::from_secs(99_999_999)));
        assert_eq!(asked("250m"), Some(Duration::from_millis(250)));
        assert_eq!(asked("250u"), Some(Duration::from_micros(250)));
        assert_eq!(asked("7n"), Some(Duration::from_nanos(7)));
        for odd in [
            "",
            "1",
            "S",
            "1s",
            "-1S",
            "+1S",
            "1.5S",
            "123456789S",
            "1 S",
        ] {
            assert_eq!(asked(odd), None, "{odd}");
        }
    }
}
