//! Every way a request can fail, and the one place that turns each into an answer.

mod code;
mod place;

pub(super) use code::ErrorCode;
pub(super) use place::Place;

use std::borrow::Cow;
use std::fmt;
use std::time::Duration;

use axum::body::Body;
use axum::response::IntoResponse;
use http::header::{ALLOW, RETRY_AFTER, WWW_AUTHENTICATE};
use http::{HeaderValue, Method, Uri};

use super::answer::{self, Response};
use crate::json::{self, Writer};
use crate::messages::{escaped, excerpt};
use crate::model::repository::LookupError;
use crate::request::InferError;

/// Why a request has no good answer.
///
/// Its message may quote what the client sent, and is for the client alone: it can be neither
/// displayed nor debugged. The log has the [code](ErrorCode) and the [place](Place).
pub(super) enum ApiError {
    /// The body is not the JSON that it should be.
    Body(json::Error),
    /// The request does not fit the model or its protocol.
    Invalid {
        code: ErrorCode,
        message: String,
        /// Where, if it is at one place.
        place: Option<Place>,
    },
    /// No model version answers.
    Lookup(LookupError),
    /// The model version has no answer.
    Infer(InferError),
    /// An answer that is not finite, in a format that cannot carry it.
    NonFiniteAnswer {
        output: String,
        /// Whether its classes were to be ranked, which no format can do.
        is_ranked: bool,
    },
    /// The deadline passed.
    DeadlineExceeded {
        /// From the request's start to its deadline.
        allowed: Duration,
    },
    /// No key, or one that is not valid.
    Unauthorized {
        /// Whether the request had one.
        has_key: bool,
    },
    /// No such path.
    UnknownPath {
        /// Escaped and cut.
        path: String,
    },
    /// No version label of this name.
    UnknownLabel {
        /// The model.
        model: String,
        /// Escaped and cut.
        label: String,
        /// Those that the model has.
        known: Vec<String>,
    },
    /// A call that clients know and this server does not have.
    NotServed { message: &'static str },
    /// The path takes other methods.
    Method {
        /// Those that it takes.
        allow: &'static str,
        /// The request's, escaped and cut.
        given: String,
    },
    /// The body's media type is not JSON.
    MediaType { message: Cow<'static, str> },
    /// The body is larger than allowed.
    BodyTooLarge { max_body_bytes: usize },
    /// The body came in more pieces than allowed.
    BodyInTooManyPieces,
    /// The body did not come in time.
    BodyTimeout { limit: Duration },
    /// The body ended before its end.
    BodyBroken,
    /// The bodies of all requests together are larger than allowed.
    BodiesOverBudget,
    /// No such method of gRPC.
    #[cfg(feature = "grpc")]
    UnknownMethod {
        /// Escaped and cut.
        path: String,
    },
    /// No such service of gRPC's health checks.
    #[cfg(feature = "grpc")]
    UnknownService {
        /// Escaped and cut.
        name: String,
    },
    /// What is served to operators alone.
    #[cfg(feature = "grpc")]
    OperatorsOnly,
    /// A fault of this server; its log says which.
    Internal,
}

impl ApiError {
    /// A request that does not fit, with the place and what to do in its message.
    pub(super) fn invalid(code: ErrorCode, message: impl Into<String>) -> Self {
        Self::Invalid {
            code,
            message: message.into(),
            place: None,
        }
    }

    /// The same, of a request that does not fit, with the place for the log.
    pub(super) fn at(mut self, at: impl Into<Place>) -> Self {
        if let Self::Invalid { place, .. } = &mut self {
            place.get_or_insert(at.into());
        }
        self
    }

    /// Where it is, if it is at one place.
    fn place(&self) -> Option<Place> {
        match self {
            Self::Body(error) => Some(error.path().clone().into()),
            Self::Invalid { place, .. } => place.clone(),
            _ => None,
        }
    }

    /// A path of no route.
    pub(super) fn unknown_path(uri: &Uri) -> Self {
        Self::UnknownPath {
            path: excerpt(uri.path(), 80),
        }
    }

    /// A version label that the model does not have.
    pub(super) fn unknown_label(model: &str, label: &str, known: Vec<String>) -> Self {
        Self::UnknownLabel {
            model: excerpt(model, 40),
            label: excerpt(label, 40),
            known,
        }
    }

    /// A method that the path does not take.
    pub(super) fn method(allow: &'static str, given: &Method) -> Self {
        Self::Method {
            allow,
            given: escaped(given.as_str(), 20),
        }
    }

    /// The stable name of the cause, for programs.
    fn code(&self) -> ErrorCode {
        match self {
            Self::Body(error) => error.kind().into(),
            Self::Invalid { code, .. } => *code,
            Self::Lookup(LookupError::UnknownModel { .. }) => ErrorCode::UnknownModel,
            Self::Lookup(LookupError::UnknownVersion { .. }) => ErrorCode::UnknownVersion,
            Self::Lookup(LookupError::NotReady { .. }) => ErrorCode::ModelNotReady,
            Self::Infer(InferError::Overloaded { .. }) => ErrorCode::Overloaded,
            Self::Infer(InferError::DeadlineExceeded) | Self::DeadlineExceeded { .. } => {
                ErrorCode::DeadlineExceeded
            }
            Self::Infer(InferError::Closing) => ErrorCode::ShuttingDown,
            Self::Infer(InferError::NonFinite { .. }) | Self::NonFiniteAnswer { .. } => {
                ErrorCode::AnswerNotFinite
            }
            Self::Infer(InferError::InvalidRow(_)) => ErrorCode::InvalidRow,
            Self::Infer(InferError::Panicked) | Self::Internal => ErrorCode::Internal,
            Self::UnknownPath { .. } => ErrorCode::UnknownPath,
            Self::UnknownLabel { .. } => ErrorCode::UnknownLabel,
            Self::NotServed { .. } => ErrorCode::NotImplemented,
            Self::Method { .. } => ErrorCode::MethodNotAllowed,
            Self::MediaType { .. } => ErrorCode::UnsupportedMediaType,
            Self::Unauthorized { .. } => ErrorCode::Unauthorized,
            Self::BodyTooLarge { .. } => ErrorCode::BodyTooLarge,
            Self::BodyInTooManyPieces => ErrorCode::TooManyChunks,
            Self::BodyTimeout { .. } => ErrorCode::BodyTimeout,
            Self::BodyBroken => ErrorCode::IncompleteBody,
            Self::BodiesOverBudget => ErrorCode::Overloaded,
            #[cfg(feature = "grpc")]
            Self::UnknownMethod { .. } => ErrorCode::UnknownMethod,
            #[cfg(feature = "grpc")]
            Self::UnknownService { .. } => ErrorCode::UnknownService,
            #[cfg(feature = "grpc")]
            Self::OperatorsOnly => ErrorCode::OperatorsOnly,
        }
    }

    /// After how many seconds it makes sense to ask again, for what may pass.
    fn retry_after_seconds(&self) -> Option<u64> {
        match self {
            Self::Infer(error) => error.retry_after_seconds(),
            Self::BodiesOverBudget => Some(1),
            // Loads take seconds, and a version that was refused needs a person.
            Self::Lookup(LookupError::NotReady { .. }) => Some(5),
            _ => None,
        }
    }
}

/// The code, which quotes nothing.
impl fmt::Debug for ApiError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("ApiError").field(&self.code()).finish()
    }
}

/// The message of an error, for the client.
struct Message<'a>(&'a ApiError);

impl fmt::Display for Message<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            ApiError::Body(error) => error.fmt(f),
            ApiError::Invalid { message, .. } => f.write_str(message),
            ApiError::Lookup(error) => error.fmt(f),
            ApiError::Infer(error) => error.fmt(f),
            ApiError::NonFiniteAnswer {
                output,
                is_ranked: true,
            } => write!(
                f,
                "output {output:?} holds NaN or an infinity, by which no classes can be ranked; ask \
                 for its values as binary data (\"binary_data\": true), without \"classification\""
            ),
            ApiError::NonFiniteAnswer { output, .. } => write!(
                f,
                "output {output:?} holds NaN or an infinity, which JSON numbers cannot carry; \
                 ask for it as binary data (\"binary_data\": true), or at /v1/models, whose clients \
                 read such tokens"
            ),
            ApiError::DeadlineExceeded { allowed } => write!(
                f,
                "no answer within the request's deadline of {} ms; send fewer rows, or allow more \
                 time with the header x-request-timeout-ms (milliseconds) or, in /v2, \
                 \"parameters\": {{\"timeout\": ...}} (microseconds)",
                allowed.as_secs_f64() * 1e3
            ),
            ApiError::UnknownPath { path } => write!(
                f,
                "nothing is at {path}; predict with POST /v1/models/{{model}}:predict or POST \
                 /v2/models/{{model}}/infer, ask for health with GET /v2/health/ready, for the \
                 models with GET /v1/models"
            ),
            ApiError::UnknownLabel {
                model,
                label,
                known,
            } => {
                write!(f, "model {model} has no version label {label}; ")?;
                match &**known {
                    [] => f.write_str(
                        "it has none: give it one with models.labels, or name a version as \
                         /versions/1, or none for the newest",
                    ),
                    known => write!(f, "it has {}", known.join(", ")),
                }
            }
            ApiError::NotServed { message } => f.write_str(message),
            ApiError::Method { allow, given } => {
                let allow = allow.replace(", ", " or ");
                write!(f, "this path takes {allow}, got {given}; send the request as {allow}")
            }
            ApiError::MediaType { message } => f.write_str(message),
            ApiError::BodyTooLarge { max_body_bytes } => write!(
                f,
                "the body is larger than the {max_body_bytes} bytes allowed; send fewer rows a \
                 request, or raise limits.max_body_bytes"
            ),
            ApiError::Unauthorized { has_key } => f.write_str(match has_key {
                true => "the API key is not valid; ask the operator for one that is",
                false => {
                    "this server asks for an API key; send it in the header \
                     \"Authorization: Bearer KEY\" or \"X-API-Key: KEY\""
                }
            }),
            ApiError::BodyInTooManyPieces => {
                f.write_str("the body came in too many chunks; send larger ones")
            }
            ApiError::BodyTimeout { limit } => write!(
                f,
                "the body did not arrive within {} s; send it faster, or raise \
                 limits.body_timeout_ms",
                limit.as_secs_f64()
            ),
            ApiError::BodyBroken => f.write_str(
                "the body ended before its declared end; send as many bytes as Content-Length says",
            ),
            ApiError::BodiesOverBudget => f.write_str(
                "the bodies of the requests in flight take all the memory allowed; try again in 1 s",
            ),
            #[cfg(feature = "grpc")]
            ApiError::UnknownMethod { path } => write!(
                f,
                "no method is at {path}; infer with /inference.GRPCInferenceService/ModelInfer or \
                 /tensorflow.serving.PredictionService/Predict, and ask reflection for the others"
            ),
            #[cfg(feature = "grpc")]
            ApiError::UnknownService { name } => write!(
                f,
                "no service is named {name}; ask for \"\", the server, whose health all of them have"
            ),
            #[cfg(feature = "grpc")]
            ApiError::OperatorsOnly => f.write_str(
                "models are loaded and unloaded by operators alone; send POST \
                 /v2/repository/models/NAME/load or .../unload to admin.bind, with a key of \
                 admin.keys",
            ),
            ApiError::Internal => f.write_str("a fault of this server; its log has the cause"),
        }
    }
}

impl From<json::Error> for ApiError {
    fn from(error: json::Error) -> Self {
        Self::Body(error)
    }
}

impl From<LookupError> for ApiError {
    fn from(error: LookupError) -> Self {
        Self::Lookup(error)
    }
}

impl From<InferError> for ApiError {
    fn from(error: InferError) -> Self {
        Self::Infer(error)
    }
}

/// Why an answer is a refusal. It travels with the answer, as an extension.
#[derive(Clone)]
pub(super) struct Refusal {
    /// The stable name of the cause.
    pub(super) code: ErrorCode,
    /// Where it is, if it is at one place.
    pub(super) place: Option<Place>,
    message: String,
}

impl Refusal {
    /// The message for the client, which may quote what it sent: not for the log.
    pub(super) fn client_message(&self) -> &str {
        &self.message
    }
}

impl ApiError {
    /// The answer `{"error": "<message>", "code": "<code>"}`.
    pub(super) fn into_answer(self) -> Response {
        let refusal = Refusal {
            code: self.code(),
            place: self.place(),
            message: Message(&self).to_string(),
        };
        let mut body = Writer::with_capacity(256);
        body.object(|body| {
            body.key("error").string(refusal.client_message());
            body.key("code").string(refusal.code.as_str());
        });
        let mut response = answer::json(refusal.code.status(), body);
        response.extensions_mut().insert(refusal);
        let headers = response.headers_mut();
        if let Some(seconds) = self.retry_after_seconds() {
            headers.insert(RETRY_AFTER, HeaderValue::from(seconds));
        }
        match self {
            Self::Method { allow, .. } => {
                headers.insert(ALLOW, HeaderValue::from_static(allow));
            }
            Self::Unauthorized { .. } => {
                headers.insert(WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
            }
            _ => {}
        }
        response
    }
}

impl IntoResponse for ApiError {
    fn into_response(self) -> axum::response::Response {
        self.into_answer().map(Body::from)
    }
}
