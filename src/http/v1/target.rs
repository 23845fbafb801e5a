//! What a path below `/v1/models` names.

use crate::http::error::ApiError;
use crate::http::state::Server;

/// A path below `/v1/models/`: `NAME[/versions/N | /labels/L][/metadata | :VERB]`.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Target<'a> {
    pub(super) name: &'a str,
    pub(super) version: Option<&'a str>,
    pub(super) label: Option<&'a str>,
    pub(super) call: TargetCall,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum TargetCall {
    Status,
    Metadata,
    Predict,
    Classify,
    Regress,
    Explain,
}

impl<'a> Target<'a> {
    /// Reads the segments after `/v1/models`; all words but the names are free in their case,
    /// as in TensorFlow Serving.
    pub(super) fn parse(segments: &[&'a str]) -> Option<Self> {
        let (segments, mut call) = match segments {
            [most @ .., last] if last.eq_ignore_ascii_case("metadata") && !most.is_empty() => {
                (most, TargetCall::Metadata)
            }
            _ => (segments, TargetCall::Status),
        };
        let mut end = |segment: &'a str| {
            let Some((name, verb)) = segment.rsplit_once(':') else {
                return Some(segment);
            };
            let verbs = [
                ("predict", TargetCall::Predict),
                ("classify", TargetCall::Classify),
                ("regress", TargetCall::Regress),
                ("explain", TargetCall::Explain),
            ];
            let (_, verb) = verbs
                .into_iter()
                .find(|(text, _)| text.eq_ignore_ascii_case(verb))?;
            // There is no `NAME:VERB/metadata`.
            (call == TargetCall::Status).then(|| call = verb)?;
            Some(name)
        };
        let (mut version, mut label) = (None, None);
        let name = match *segments {
            [name] => end(name)?,
            [name, kind, last] if kind.eq_ignore_ascii_case("versions") => {
                version = Some(end(last)?);
                name
            }
            [name, kind, last] if kind.eq_ignore_ascii_case("labels") => {
                label = Some(end(last)?);
                name
            }
            _ => return None,
        };
        Some(Self {
            name,
            version,
            label,
            call,
        })
    }
}

/// The version that a label stands for.
pub(super) fn version_of(server: &Server, name: &str, label: &str) -> Result<String, ApiError> {
    let labels = server.app.naming.labels.of(name);
    if let Some(version) = labels.and_then(|labels| labels.get(label)) {
        return Ok(version.to_string());
    }
    // An unknown model is that, whatever its label.
    server.app.repository.find(name, None)?;
    let known = labels
        .into_iter()
        .flatten()
        .map(|(known, _)| format!("{known:?}"));
    Err(ApiError::unknown_label(name, label, known.collect()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn target<'a>(
        segments: &[&'a str],
    ) -> Option<(&'a str, Option<&'a str>, Option<&'a str>, TargetCall)> {
        Target::parse(segments).map(|target| {
            let Target {
                name,
                version,
                label,
                call,
            } = target;
            (name, version, label, call)
        })
    }

    #[test]
    fn a_path_names_a_model_a_version_and_a_call() {
        assert_eq!(
            target(&["iris"]),
            Some(("iris", None, None, TargetCall::Status))
        );
        assert_eq!(
            target(&["iris:predict"]),
            Some(("iris", None, None, TargetCall::Predict))
        );
        assert_eq!(
            target(&["iris", "VERSIONS", "2:Classify"]),
            Some(("iris", Some("2"), None, TargetCall::Classify))
        );
        assert_eq!(
            target(&["iris", "labels", "canary:regress"]),
            Some(("iris", None, Some("canary"), TargetCall::Regress))
        );
        assert_eq!(
            target(&["iris", "versions", "2", "Metadata"]),
            Some(("iris", Some("2"), None, TargetCall::Metadata))
        );
        assert_eq!(
            target(&["metadata"]),
            Some(("metadata", None, None, TargetCall::Status))
        );
    }

    #[test]
    fn other_paths_name_nothing() {
        for path in [
            &["iris:unexplain"][..],
            &["iris:"],
            &["iris", "versions"],
            &["iris", "versions", "2", "x"],
            &["iris", "2"],
            &["iris:predict", "metadata"],
            &["iris", "versions", "2:predict", "metadata"],
            &[],
        ] {
            assert_eq!(target(path), None, "{path:?}");
        }
    }
}
