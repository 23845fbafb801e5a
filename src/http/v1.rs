//! TensorFlow Serving's REST API, version 1, with the keys that KServe's and OpenAI's clients
//! read on the same paths.
//!
//! Sources: `http_rest_api_handler.cc` and `json_tensor.cc` of TensorFlow Serving, KServe's
//! protocol V1.

mod examples;
#[cfg(feature = "grpc")]
mod grpc;
mod predict;
mod score;
mod status;
mod table;

use http::Method;

#[cfg(feature = "grpc")]
pub(super) use grpc::{MODEL_SERVICE, PREDICTION_SERVICE, answer as grpc};

use super::Server;
use super::answer::Response;
use super::body::RequestBody;
use super::error::ApiError;
use super::exchange::Exchange;
use super::health::expect_get;
use super::json::Reader;
use super::media::{self, Given};
use super::predict::predict;
use crate::metrics::Route;
use crate::spelling::excerpt;

/// A path below `/v1/models/`: `NAME[/versions/N | /labels/L][/metadata | :VERB]`.
#[derive(Debug, PartialEq, Eq)]
struct Target<'a> {
    name: &'a str,
    version: Option<&'a str>,
    label: Option<&'a str>,
    call: Call,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Call {
    Status,
    Metadata,
    Predict,
    Classify,
    Regress,
    Explain,
}

impl<'a> Target<'a> {
    /// Reads the segments behind `/v1/models`; all words but the names are free in their case,
    /// as in TensorFlow Serving.
    fn parse(segments: &[&'a str]) -> Option<Self> {
        let (segments, mut call) = match segments {
            [most @ .., last] if last.eq_ignore_ascii_case("metadata") && !most.is_empty() => {
                (most, Call::Metadata)
            }
            _ => (segments, Call::Status),
        };
        let mut end = |segment: &'a str| {
            let Some((name, verb)) = segment.rsplit_once(':') else {
                return Some(segment);
            };
            let verbs = [
                ("predict", Call::Predict),
                ("classify", Call::Classify),
                ("regress", Call::Regress),
                ("explain", Call::Explain),
            ];
            let (_, verb) = verbs
                .into_iter()
                .find(|(text, _)| text.eq_ignore_ascii_case(verb))?;
            // There is no `NAME:VERB/metadata`.
            (call == Call::Status).then(|| call = verb)?;
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

/// The only signature that a model has here.
const SIGNATURE_NAME: &str = "serving_default";

/// Reads `signature_name`, which may only name the signature that there is.
fn signature_name(reader: &mut Reader<'_>) -> Result<(), ApiError> {
    if reader.null()? {
        return Ok(());
    }
    expect_signature(&reader.string()?)
}

/// Checks the name of a signature.
fn expect_signature(name: &str) -> Result<(), ApiError> {
    if !name.is_empty() && name != SIGNATURE_NAME {
        return Err(ApiError::invalid(
            "unknown_signature",
            format!(
                "signature_name: expected {SIGNATURE_NAME:?} or none, got {}",
                excerpt(name, 40)
            ),
        ));
    }
    Ok(())
}

/// Answers what is below `/v1/models`.
pub(super) async fn answer(
    server: &Server,
    exchange: &Exchange,
    body: impl RequestBody,
    segments: &[&str],
) -> Result<Response, ApiError> {
    let method = &exchange.head.method;
    if segments.len() == 2 {
        exchange.is_for(Route::V1Models);
        expect_get(method)?;
        return Ok(status::models(server));
    }
    let target = Target::parse(&segments[2..]);
    let target = target.ok_or_else(|| ApiError::unknown_path(&exchange.head.uri))?;
    let Target { name, version, .. } = target;
    exchange.is_for(match target.call {
        Call::Status => Route::V1Model,
        Call::Metadata => Route::V1Metadata,
        Call::Predict => Route::V1Predict,
        Call::Classify => Route::V1Classify,
        Call::Regress => Route::V1Regress,
        Call::Explain => Route::V1Explain,
    });
    let labelled;
    let version = match target.label {
        None => version,
        Some(label) => {
            labelled = version_of(server, name, label)?;
            Some(&*labelled)
        }
    };
    match target.call {
        Call::Status => {
            expect_get(method)?;
            status::status(server, name, version)
        }
        Call::Metadata => {
            expect_get(method)?;
            status::metadata(server, name, version)
        }
        Call::Explain if *method != Method::POST => Err(ApiError::method("POST", method)),
        Call::Explain => {
            server.app.repository.find(name, version)?;
            Err(ApiError::NotServed {
                message: "explanations are not served, only what models predict; ask with :predict",
            })
        }
        Call::Predict => match media::given(&exchange.head.headers) {
            Given::Json => predict::<predict::Predict>(server, exchange, body, name, version).await,
            _ => predict::<table::Table>(server, exchange, body, name, version).await,
        },
        Call::Classify => predict::<score::Classify>(server, exchange, body, name, version).await,
        Call::Regress => predict::<score::Regress>(server, exchange, body, name, version).await,
    }
}

/// The version that a label stands for.
fn version_of(server: &Server, name: &str, label: &str) -> Result<String, ApiError> {
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
    ) -> Option<(&'a str, Option<&'a str>, Option<&'a str>, Call)> {
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
        assert_eq!(target(&["iris"]), Some(("iris", None, None, Call::Status)));
        assert_eq!(
            target(&["iris:predict"]),
            Some(("iris", None, None, Call::Predict))
        );
        assert_eq!(
            target(&["iris", "VERSIONS", "2:Classify"]),
            Some(("iris", Some("2"), None, Call::Classify))
        );
        assert_eq!(
            target(&["iris", "labels", "canary:regress"]),
            Some(("iris", None, Some("canary"), Call::Regress))
        );
        assert_eq!(
            target(&["iris", "versions", "2", "Metadata"]),
            Some(("iris", Some("2"), None, Call::Metadata))
        );
        assert_eq!(
            target(&["metadata"]),
            Some(("metadata", None, None, Call::Status))
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
