//! Whether an answer holds what was asked for.

use std::sync::Arc;

use bytes::Bytes;
use http::header::RETRY_AFTER;
use serde::Deserialize;
use serde::de::IgnoredAny;

use super::body::Body;
use super::client::Reply;
use super::settings::Protocol;
use super::tally::{Failed, Failure};

/// The header that says how long the JSON is, and so where the tensors begin.
pub(super) const JSON_LENGTH: &str = "inference-header-content-length";

/// Checks answers. The same rows have the same answer, so most are byte for byte one that was checked
/// before, and cost the generator next to nothing.
pub(super) struct Checker {
    protocol: Protocol,
    /// By body, the last answer that was good.
    good: Vec<Option<Bytes>>,
}

impl Checker {
    pub(super) fn new(protocol: Protocol, bodies: &Arc<[Body]>) -> Self {
        Self {
            protocol,
            good: vec![None; bodies.len()],
        }
    }

    /// Checks the answer to body `number`, and returns its rows.
    pub(super) fn check(
        &mut self,
        number: usize,
        body: &Body,
        reply: &Reply,
    ) -> Result<usize, Failed> {
        if reply.status != 200 {
            return Err(refusal(reply));
        }
        // Where the JSON ends follows from the bytes too, so equal ones need no check of the header.
        if self.good[number].as_ref() != Some(&reply.body) {
            rows(self.protocol, reply)
                .and_then(|rows| match rows == body.rows {
                    true => Ok(()),
                    false => Err(format!(
                        "expected predictions for {} rows, got {rows}",
                        body.rows
                    )),
                })
                .map_err(|problem| Failed::new(Failure::Malformed, problem))?;
            self.good[number] = Some(reply.body.clone());
        }
        Ok(body.rows)
    }
}

/// An answer other than 200, with its message.
pub(super) fn refusal(reply: &Reply) -> Failed {
    #[derive(Deserialize)]
    struct ErrorBody {
        error: String,
    }
    let status = reply.status.as_u16();
    let failure = match status {
        503 if reply.headers.contains_key(RETRY_AFTER) => Failure::Overloaded,
        status => Failure::Status(status),
    };
    let message = match serde_json::from_slice::<ErrorBody>(&reply.body) {
        Ok(said) => said.error,
        Err(_) => String::from_utf8_lossy(&reply.body).trim().to_owned(),
    };
    Failed::new(failure, message)
}

/// The answer of an Open Inference Protocol server.
#[derive(Deserialize)]
struct Outputs {
    outputs: Vec<Output>,
}

#[derive(Deserialize)]
struct Output {
    name: String,
    shape: Vec<usize>,
    data: Option<Vec<IgnoredAny>>,
    #[serde(default)]
    parameters: Parameters,
}

#[derive(Default, Deserialize)]
struct Parameters {
    binary_data_size: Option<usize>,
}

/// The answer of a V1 server.
#[derive(Deserialize)]
struct Predictions {
    predictions: Vec<IgnoredAny>,
}

/// The number of rows for which an answer has predictions.
fn rows(protocol: Protocol, reply: &Reply) -> Result<usize, String> {
    let wrong = |error: serde_json::Error| format!("expected the protocol's JSON: {error}");
    if protocol == Protocol::V1 {
        let answer: Predictions = serde_json::from_slice(&reply.body).map_err(wrong)?;
        return Ok(answer.predictions.len());
    }
    let (json, tensors) = match reply.headers.get(JSON_LENGTH) {
        None => (&reply.body[..], &[][..]),
        Some(length) => length
            .to_str()
            .ok()
            .and_then(|length| reply.body.split_at_checked(length.parse().ok()?))
            .ok_or_else(|| {
                format!(
                    "{JSON_LENGTH} says {length:?}, the body has {} bytes",
                    reply.body.len()
                )
            })?,
    };
    let answer: Outputs = serde_json::from_slice(json).map_err(wrong)?;
    let mut binary = 0_usize;
    for output in &answer.outputs {
        let name = &output.name;
        let elements = output.shape.iter().copied().fold(1, usize::saturating_mul);
        match (&output.data, output.parameters.binary_data_size) {
            (Some(data), None) if data.len() == elements => {}
            (Some(data), None) => {
                return Err(format!(
                    "output {name:?}: shape {:?} with {} values",
                    output.shape,
                    data.len()
                ));
            }
            (None, Some(bytes)) => binary = binary.saturating_add(bytes),
            _ => return Err(format!("output {name:?}: expected data, or binary data")),
        }
        if output.shape.first() != answer.outputs[0].shape.first() {
            return Err(format!("output {name:?} has another number of rows"));
        }
    }
    if binary != tensors.len() {
        return Err(format!("outputs of {binary} bytes, got {}", tensors.len()));
    }
    let first = answer.outputs.first().ok_or("expected outputs, got none")?;
    first
        .shape
        .first()
        .copied()
        .ok_or_else(|| format!("output {:?} has no rows", first.name))
}

#[cfg(test)]
mod tests {
    use http::{HeaderMap, StatusCode};

    use super::*;

    fn reply(status: u16, headers: &[(&'static str, &'static str)], body: &'static [u8]) -> Reply {
        let mut map = HeaderMap::new();
        for (name, value) in headers {
            map.insert(*name, value.parse().unwrap());
        }
        Reply {
            status: StatusCode::from_u16(status).unwrap(),
            headers: map,
            body: Bytes::from_static(body),
        }
    }

    /// What two rows' answer is taken for.
    fn checked(protocol: Protocol, reply: &Reply) -> Result<usize, (Failure, String)> {
        let body = Body {
            bytes: Bytes::new(),
            json_bytes: None,
            rows: 2,
        };
        let bodies: Arc<[Body]> = vec![body.clone()].into();
        let mut checker = Checker::new(protocol, &bodies);
        let first = checker.check(0, &body, reply);
        // A bad answer is not remembered as a good one.
        assert_eq!(checker.check(0, &body, reply), first);
        first.map_err(|failed| (failed.failure, failed.message))
    }

    #[test]
    fn an_answer_has_a_prediction_a_row() {
        let v1 = |body| checked(Protocol::V1, &reply(200, &[], body));
        assert_eq!(v1(br#"{"predictions":[[1,2],[3,4]]}"#), Ok(2));
        let malformed = |text: &str| Err((Failure::Malformed, text.to_owned()));
        assert_eq!(
            v1(br#"{"predictions":[1]}"#),
            malformed("expected predictions for 2 rows, got 1")
        );
        let v2 = |body| checked(Protocol::V2, &reply(200, &[], body));
        assert_eq!(
            v2(br#"{"outputs":[{"name":"y","shape":[2,1],"data":[1,2]},{"name":"z","shape":[2],"data":[1,"a"]}]}"#),
            Ok(2)
        );
        assert_eq!(
            v2(br#"{"outputs":[{"name":"y","shape":[2,2],"data":[1,2]}]}"#),
            malformed(r#"output "y": shape [2, 2] with 2 values"#)
        );
        assert_eq!(
            v2(br#"{"outputs":[{"name":"y","shape":[2],"data":[1,2]},{"name":"z","shape":[1],"data":[1]}]}"#),
            malformed(r#"output "z" has another number of rows"#)
        );
        assert_eq!(
            v2(br#"{"outputs":[]}"#),
            malformed("expected outputs, got none")
        );
        for broken in [&b"{"[..], b"", b"<html>", br#"{"predictions":[1,2]}"#] {
            assert!(matches!(v2(broken), Err((Failure::Malformed, _))));
        }
    }

    #[test]
    fn binary_tensors_are_as_long_as_they_say() {
        let json = br#"{"outputs":[{"name":"y","shape":[2],"parameters":{"binary_data_size":8}}]}12345678"#;
        let length = [(JSON_LENGTH, "74")];
        assert_eq!(json.len(), 82);
        assert_eq!(
            checked(Protocol::V2Binary, &reply(200, &length, json)),
            Ok(2)
        );
        let cut = checked(Protocol::V2Binary, &reply(200, &length, &json[..81]));
        assert_eq!(
            cut,
            Err((Failure::Malformed, "outputs of 8 bytes, got 7".to_owned()))
        );
        let over = checked(
            Protocol::V2Binary,
            &reply(200, &[(JSON_LENGTH, "99")], json),
        );
        assert!(over.is_err_and(|(_, message)| message.contains("the body has 82 bytes")));
    }

    #[test]
    fn a_503_that_says_when_to_come_back_is_counted_apart() {
        let body = br#"{"error":"the queue is full","code":"overloaded"}"#;
        let full = "the queue is full".to_owned();
        assert_eq!(
            checked(Protocol::V2, &reply(503, &[("retry-after", "1")], body)),
            Err((Failure::Overloaded, full.clone()))
        );
        assert_eq!(
            checked(Protocol::V2, &reply(503, &[], body)),
            Err((Failure::Status(503), full))
        );
        assert_eq!(
            checked(Protocol::V2, &reply(429, &[], b" slow \n")),
            Err((Failure::Status(429), "slow".to_owned()))
        );
    }
}
