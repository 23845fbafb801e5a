//! In which form rows come, and in which their predictions go.

use http::HeaderMap;
use http::header::{ACCEPT, CONTENT_TYPE};

/// The form of a body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Form {
    /// One JSON document.
    Json,
    /// RFC 4180.
    Csv {
        /// Whether its first line names the columns.
        has_header: bool,
    },
    /// A JSON document a line.
    Ndjson,
}

impl Form {
    /// The media type of an answer.
    pub(super) fn media_type(self) -> &'static str {
        match self {
            Self::Json => "application/json",
            Self::Csv { has_header: true } => "text/csv; charset=utf-8; header=present",
            Self::Csv { has_header: false } => "text/csv; charset=utf-8; header=absent",
            Self::Ndjson => "application/x-ndjson",
        }
    }

    /// The form of a media type, by all the names that clients have for it.
    fn named(media_type: &[u8]) -> Option<Self> {
        const NAMES: [(&str, Form); 8] = [
            ("application/json", Form::Json),
            ("text/csv", Form::Csv { has_header: true }),
            ("application/csv", Form::Csv { has_header: true }),
            ("application/x-ndjson", Form::Ndjson),
            ("application/ndjson", Form::Ndjson),
            ("application/jsonlines", Form::Ndjson),
            ("application/x-jsonlines", Form::Ndjson),
            ("application/jsonl", Form::Ndjson),
        ];
        let named = NAMES
            .iter()
            .find(|(name, _)| name.as_bytes().eq_ignore_ascii_case(media_type));
        named.map(|&(_, form)| form)
    }
}

/// What a head says of the form of its body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum BodyForm {
    Json,
    Csv {
        /// Whether the first line names the columns, if the head says so.
        header: Option<bool>,
    },
    Ndjson,
}

/// The form of a body; what names no other is taken for JSON.
pub(super) fn body_form(headers: &HeaderMap) -> BodyForm {
    let Some(value) = headers.get(CONTENT_TYPE) else {
        return BodyForm::Json;
    };
    let (media_type, mut parameters) = parts(value.as_bytes());
    match Form::named(media_type) {
        None | Some(Form::Json) => BodyForm::Json,
        Some(Form::Ndjson) => BodyForm::Ndjson,
        // RFC 4180 has this parameter.
        Some(Form::Csv { .. }) => BodyForm::Csv {
            header: parameters.find_map(|parameter| match parameter.to_ascii_lowercase() {
                present if present == b"header=present" => Some(true),
                absent if absent == b"header=absent" => Some(false),
                _ => None,
            }),
        },
    }
}

/// The form that a client likes best of those that there are; `None` if it has no wish, or one for
/// something else.
pub(super) fn accepted(headers: &HeaderMap) -> Option<Form> {
    let first = headers.get(ACCEPT)?.as_bytes();
    // What most clients send.
    if matches!(first, b"*/*" | b"application/json, */*" | b"") {
        return None;
    }
    let mut best: Option<(f32, Option<Form>)> = None;
    for value in headers.get_all(ACCEPT) {
        for entry in value.as_bytes().split(|byte| *byte == b',') {
            let (media_type, mut parameters) = parts(entry);
            let weight = parameters.find_map(|parameter| {
                let (name, value) = parameter.split_at_checked(2)?;
                let value = str::from_utf8(value).ok()?;
                name.eq_ignore_ascii_case(b"q=")
                    .then(|| value.parse().unwrap_or(0.0))
            });
            let weight = weight.unwrap_or(1.0);
            let form = Form::named(media_type);
            let is_better = best.is_none_or(|(before, _)| weight > before);
            if weight > 0.0 && is_better && (form.is_some() || media_type == b"*/*") {
                best = Some((weight, form));
            }
        }
    }
    best?.1
}

/// A media type and its parameters.
fn parts(value: &[u8]) -> (&[u8], impl Iterator<Item = &[u8]>) {
    let mut parts = value.split(|byte| *byte == b';').map(<[u8]>::trim_ascii);
    (parts.next().unwrap_or_default(), parts)
}

#[cfg(test)]
mod tests {
    use http::{HeaderName, HeaderValue};

    use super::*;

    fn headers(name: HeaderName, value: &'static str) -> HeaderMap {
        HeaderMap::from_iter([(name, HeaderValue::from_static(value))])
    }

    #[test]
    fn a_body_is_of_the_form_that_its_head_says() {
        let given = |value| body_form(&headers(CONTENT_TYPE, value));
        assert_eq!(super::body_form(&HeaderMap::new()), BodyForm::Json);
        assert_eq!(given("application/json"), BodyForm::Json);
        assert_eq!(given("text/plain"), BodyForm::Json);
        assert_eq!(given("Text/CSV"), BodyForm::Csv { header: None });
        assert_eq!(
            given("text/csv; charset=utf-8; Header=Present"),
            BodyForm::Csv { header: Some(true) }
        );
        assert_eq!(
            given("text/csv;header=absent"),
            BodyForm::Csv {
                header: Some(false)
            }
        );
        assert_eq!(
            given("application/x-ndjson; charset=utf-8"),
            BodyForm::Ndjson
        );
        assert_eq!(given("application/jsonlines"), BodyForm::Ndjson);
    }

    #[test]
    fn the_answer_is_of_the_form_that_is_liked_best() {
        let accepted = |value| accepted(&headers(ACCEPT, value));
        let csv = Some(Form::Csv { has_header: true });
        assert_eq!(super::accepted(&HeaderMap::new()), None);
        assert_eq!(accepted("*/*"), None);
        assert_eq!(accepted("text/html"), None);
        assert_eq!(accepted("application/json"), Some(Form::Json));
        assert_eq!(accepted("text/csv"), csv);
        assert_eq!(
            accepted("text/csv;q=0.5, application/x-ndjson"),
            Some(Form::Ndjson)
        );
        assert_eq!(accepted("text/html, text/csv;q=0.9, */*;q=0.1"), csv);
        assert_eq!(accepted("*/*, text/csv;q=0.9"), None);
        assert_eq!(accepted("text/csv;q=0"), None);
        assert_eq!(accepted("application/json;q=x, text/csv;q=0.1"), csv);
    }
}
