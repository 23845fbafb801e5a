//! What every answer promises, for any request.

use http::header::{CONTENT_ENCODING, CONTENT_TYPE, VARY};
use http::{HeaderMap, HeaderName, StatusCode};
use serde_json::Value;

/// How many bytes of an answer are its JSON, if binary data follows.
pub(super) const JSON_LENGTH: HeaderName =
    HeaderName::from_static("inference-header-content-length");

/// Says which promise an answer breaks.
///
/// `may_be_infinite` is for models that say so in their configuration: their answers may hold the
/// tokens `NaN`, `Infinity` and `-Infinity`.
pub(super) fn check(
    status: StatusCode,
    headers: &HeaderMap,
    body: &[u8],
    may_be_infinite: bool,
) -> Result<(), String> {
    if headers.contains_key(CONTENT_ENCODING) {
        // The inputs without `Accept-Encoding` cover the uncompressed answer.
        return match headers.contains_key(VARY) && !body.is_empty() {
            true => Ok(()),
            false => Err("a compressed answer that caches take for all clients".into()),
        };
    }
    let media_type = headers.get(CONTENT_TYPE).map_or(&b""[..], |v| v.as_bytes());
    let length = headers.get(JSON_LENGTH).map(|length| length.to_str());
    let (body, blobs) = match length {
        Some(length) if status == StatusCode::OK => {
            let length = length.ok().and_then(|length| length.parse().ok());
            let parts = length.and_then(|length| body.split_at_checked(length));
            let (json, blobs) = parts.ok_or("a length of the JSON beyond the body")?;
            (json, Some(blobs))
        }
        Some(_) => return Err("a refusal with binary data".into()),
        None => (body, None),
    };
    let text = str::from_utf8(body).map_err(|error| format!("the body: {error}"))?;
    let broken = |what: &str| Err(format!("{what}: {status}: {text}"));
    if status == StatusCode::OK && media_type.starts_with(b"text/plain") {
        return Ok(()); // The metrics page, or the version.
    }
    if status == StatusCode::OK && media_type.is_empty() && body.is_empty() {
        return Ok(()); // Health by its status alone.
    }
    if status == StatusCode::OK && blobs.is_none() {
        match media_type {
            b"text/csv; charset=utf-8; header=present" => return table(text, 1, may_be_infinite),
            b"text/csv; charset=utf-8; header=absent" => return table(text, 0, may_be_infinite),
            b"application/x-ndjson" => return lines(text, may_be_infinite),
            _ => {}
        }
    }
    let expected = match blobs {
        Some(_) => "application/octet-stream",
        None => "application/json",
    };
    if media_type != expected.as_bytes() {
        return broken("another content type than the body is of");
    }
    let json: Result<Value, _> = match may_be_infinite {
        true => serde_json::from_str(&finite(text)),
        false => serde_json::from_str(text),
    };
    let Ok(json) = json else {
        return broken("no JSON");
    };
    if let Some(blobs) = blobs
        && binary_bytes(&json) != Some(blobs.len() as u64)
    {
        return broken("binary data of another size than its outputs say");
    }
    let has = |key: &str| json[key].as_str().is_some_and(|text| !text.is_empty());
    match status.as_u16() {
        200 if is_whole(&json) => Ok(()),
        200 => broken("a null, or a number beyond FP32"),
        400..=499 if has("error") && has("code") => Ok(()),
        400..=499 => broken("no \"error\" or no \"code\""),
        // `:explain` of KServe.
        501 if json["code"] == "not_served" => Ok(()),
        // The corpus asks for deadlines that cannot be met, and for a model that cannot be loaded.
        504 if json["code"] == "deadline_exceeded" => Ok(()),
        503 if json["code"] == "model_not_ready" || json["ready"] == false => Ok(()),
        _ => broken("a status that no client should cause"),
    }
}

/// Whether a table has as many numbers in each line, after `header` lines of names.
fn table(text: &str, header: usize, may_be_infinite: bool) -> Result<(), String> {
    let rows: Vec<&str> = text.lines().skip(header).collect();
    let width = rows.first().map_or(0, |row| row.split(',').count());
    let is_number = |cell: &str| {
        let value = cell.parse::<f32>();
        value.is_ok_and(|value| value.is_finite() || may_be_infinite)
    };
    let is_row = |row: &&str| row.split(',').count() == width && row.split(',').all(is_number);
    match !rows.is_empty() && text.ends_with('\n') && rows.iter().all(is_row) {
        true => Ok(()),
        false => Err(format!("no table of numbers: {text}")),
    }
}

/// Whether each line is a whole prediction.
fn lines(text: &str, may_be_infinite: bool) -> Result<(), String> {
    let is_prediction = |line: &str| {
        let json: Result<Value, _> = match may_be_infinite {
            true => serde_json::from_str(&finite(line)),
            false => serde_json::from_str(line),
        };
        json.is_ok_and(|json| is_whole(&json))
    };
    match text.ends_with('\n') && text.lines().all(is_prediction) {
        true => Ok(()),
        false => Err(format!("not a prediction a line: {text}")),
    }
}

/// The bytes of binary data that the outputs of an answer announce; each has either that or `data`.
fn binary_bytes(json: &Value) -> Option<u64> {
    let outputs = json["outputs"].as_array()?.iter();
    outputs
        .map(|output| {
            let size = output["parameters"]["binary_data_size"].as_u64();
            match output.get("data") {
                None => size,
                Some(_) => size.is_none().then_some(0),
            }
        })
        .sum()
}

/// Whether every value is present and every number is in the range of the models' type.
fn is_whole(json: &Value) -> bool {
    match json {
        Value::Null => false,
        Value::Bool(_) | Value::String(_) => true,
        Value::Number(number) => number.as_f64().is_some_and(|n| (n as f32).is_finite()),
        Value::Array(values) => values.iter().all(is_whole),
        Value::Object(members) => members.values().all(is_whole),
    }
}

/// The text with a zero for each token that is no JSON number.
fn finite(text: &str) -> String {
    let mut finite = String::with_capacity(text.len());
    let (mut in_string, mut rest) = (false, text);
    while let Some(next) = rest.chars().next() {
        let token = ["NaN", "-Infinity", "Infinity"]
            .into_iter()
            .find(|token| !in_string && rest.starts_with(token));
        let length = match (token, next) {
            (Some(token), _) => {
                finite.push('0');
                rest = &rest[token.len()..];
                continue;
            }
            (None, '\\') if in_string && rest.len() > 1 => {
                1 + rest[1..].chars().next().map_or(0, char::len_utf8)
            }
            (None, '"') => {
                in_string = !in_string;
                1
            }
            (None, other) => other.len_utf8(),
        };
        finite.push_str(&rest[..length]);
        rest = &rest[length..];
    }
    finite
}

#[cfg(test)]
mod tests {
    use super::*;

    fn checked(status: u16, body: &str, may_be_infinite: bool) -> Result<(), String> {
        let mut headers = HeaderMap::new();
        headers.insert(CONTENT_TYPE, "application/json".parse().unwrap());
        let status = StatusCode::from_u16(status).unwrap();
        check(status, &headers, body.as_bytes(), may_be_infinite)
    }

    #[test]
    fn answers_that_keep_the_promises_pass() {
        for (status, body) in [
            (
                200,
                r#"{"predictions":[[1.5,-2],[3.4e38,1e-40]],"label":"NaN"}"#,
            ),
            (400, r#"{"error":"e","code":"c"}"#),
            (504, r#"{"error":"e","code":"deadline_exceeded"}"#),
        ] {
            assert_eq!(checked(status, body, false), Ok(()));
        }
        let infinite = r#"{"predictions":[NaN,-Infinity,[Infinity]],"\"NaN":"\\"}"#;
        assert_eq!(checked(200, infinite, true), Ok(()));
    }

    #[test]
    fn binary_data_has_the_size_that_is_said() {
        let json = r#"{"outputs":[{"data":[1]},{"parameters":{"binary_data_size":4}}]}"#;
        let checked = |length: usize, blob: &[u8], media_type: &str| {
            let mut headers = HeaderMap::new();
            headers.insert(CONTENT_TYPE, media_type.parse().unwrap());
            headers.insert(JSON_LENGTH, length.into());
            check(
                StatusCode::OK,
                &headers,
                &[json.as_bytes(), blob].concat(),
                false,
            )
        };
        let binary = "application/octet-stream";
        assert_eq!(checked(json.len(), &[0; 4], binary), Ok(()));
        assert!(checked(json.len(), &[0; 3], binary).is_err());
        assert!(checked(json.len(), &[0; 5], binary).is_err());
        assert!(checked(json.len() + 1, &[b' '; 4], binary).is_err());
        assert!(checked(1000, &[0; 4], binary).is_err());
        assert!(checked(json.len(), &[0; 4], "application/json").is_err());
    }

    /// Planted faults that the fuzzer must find.
    #[test]
    fn an_answer_that_breaks_a_promise_is_found() {
        for (status, body) in [
            (200, r#"{"predictions":[[1,null]]}"#),
            (200, r#"{"predictions":[[1,NaN]]}"#),
            (200, r#"{"predictions":[[1e39]]}"#),
            (200, r#"{"predictions":[[1]]"#),
            (200, ""),
            (204, "{}"),
            (302, "{}"),
            (400, "{}"),
            (400, r#"{"error":"e"}"#),
            (400, r#"{"error":"","code":"c"}"#),
            (404, "not found"),
            (500, r#"{"error":"e","code":"internal"}"#),
            (503, r#"{"error":"e","code":"overloaded"}"#),
            (504, r#"{"error":"e","code":"c"}"#),
        ] {
            let found = checked(status, body, false);
            assert!(found.is_err(), "{status} {body}");
        }
        assert!(checked(200, r#"{"predictions":[NaN,null]}"#, true).is_err());
        let bytes = check(
            StatusCode::OK,
            &HeaderMap::new(),
            b"{\"a\":\"\xff\"}",
            false,
        );
        assert!(bytes.is_err());
        assert!(check(StatusCode::OK, &HeaderMap::new(), b"{}", false).is_err());
    }
}
