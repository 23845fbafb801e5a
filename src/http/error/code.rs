//! The stable name of each cause, for programs.

use http::StatusCode;

use crate::json::ErrorKind;

/// Why a request has no good answer, as programs read it. docs/http.md says what each means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::http) enum ErrorCode {
    MalformedJson,
    WrongType,
    OutOfRange,
    NotFinite,
    DuplicateKey,
    RaggedArray,
    TooManyValues,
    NestedTooDeep,
    MissingField,
    ModelNotNamed,
    AmbiguousRequest,
    MissingInput,
    UnknownInput,
    DuplicateInput,
    UnknownOutput,
    DuplicateOutput,
    DatatypeMismatch,
    ShapeMismatch,
    InvalidRow,
    TooManyRows,
    UnknownSignature,
    WrongTask,
    InvalidTimeout,
    ReservedParameter,
    InvalidHeaderLength,
    BinarySizeMismatch,
    /// A part of a request that asks for what this server does not have.
    NotServed,
    #[cfg_attr(
        not(feature = "compression"),
        expect(dead_code, reason = "only bodies that are inflated have it")
    )]
    MalformedEncoding,
    IncompleteBody,
    TooManyChunks,
    IdTooLong,
    InvalidLevel,
    #[cfg(feature = "grpc")]
    MalformedMessage,
    #[cfg(feature = "grpc")]
    UnknownMetadata,
    Unauthorized,
    #[cfg(feature = "grpc")]
    OperatorsOnly,
    UnknownPath,
    UnknownModel,
    UnknownVersion,
    UnknownLabel,
    #[cfg(feature = "grpc")]
    UnknownMethod,
    #[cfg(feature = "grpc")]
    UnknownService,
    MethodNotAllowed,
    BodyTimeout,
    BodyTooLarge,
    UnsupportedMediaType,
    AnswerNotFinite,
    Internal,
    /// A call that clients know and this server does not have.
    NotImplemented,
    Overloaded,
    ModelNotReady,
    ShuttingDown,
    DeadlineExceeded,
}

impl ErrorCode {
    /// The name, which never changes.
    pub(in crate::http) fn as_str(self) -> &'static str {
        match self {
            Self::MalformedJson => "malformed_json",
            Self::WrongType => "wrong_type",
            Self::OutOfRange => "out_of_range",
            Self::NotFinite => "not_finite",
            Self::DuplicateKey => "duplicate_key",
            Self::RaggedArray => "ragged_array",
            Self::TooManyValues => "too_many_values",
            Self::NestedTooDeep => "nested_too_deep",
            Self::MissingField => "missing_field",
            Self::ModelNotNamed => "model_not_named",
            Self::AmbiguousRequest => "ambiguous_request",
            Self::MissingInput => "missing_input",
            Self::UnknownInput => "unknown_input",
            Self::DuplicateInput => "duplicate_input",
            Self::UnknownOutput => "unknown_output",
            Self::DuplicateOutput => "duplicate_output",
            Self::DatatypeMismatch => "datatype_mismatch",
            Self::ShapeMismatch => "shape_mismatch",
            Self::InvalidRow => "invalid_row",
            Self::TooManyRows => "too_many_rows",
            Self::UnknownSignature => "unknown_signature",
            Self::WrongTask => "wrong_task",
            Self::InvalidTimeout => "invalid_timeout",
            Self::ReservedParameter => "reserved_parameter",
            Self::InvalidHeaderLength => "invalid_header_length",
            Self::BinarySizeMismatch => "binary_size_mismatch",
            Self::NotServed | Self::NotImplemented => "not_served",
            Self::MalformedEncoding => "malformed_encoding",
            Self::IncompleteBody => "incomplete_body",
            Self::TooManyChunks => "too_many_chunks",
            Self::IdTooLong => "id_too_long",
            Self::InvalidLevel => "invalid_level",
            #[cfg(feature = "grpc")]
            Self::MalformedMessage => "malformed_message",
            #[cfg(feature = "grpc")]
            Self::UnknownMetadata => "unknown_metadata",
            Self::Unauthorized => "unauthorized",
            #[cfg(feature = "grpc")]
            Self::OperatorsOnly => "operators_only",
            Self::UnknownPath => "unknown_path",
            Self::UnknownModel => "unknown_model",
            Self::UnknownVersion => "unknown_version",
            Self::UnknownLabel => "unknown_label",
            #[cfg(feature = "grpc")]
            Self::UnknownMethod => "unknown_method",
            #[cfg(feature = "grpc")]
            Self::UnknownService => "unknown_service",
            Self::MethodNotAllowed => "method_not_allowed",
            Self::BodyTimeout => "body_timeout",
            Self::BodyTooLarge => "body_too_large",
            Self::UnsupportedMediaType => "unsupported_media_type",
            Self::AnswerNotFinite => "answer_not_finite",
            Self::Internal => "internal",
            Self::Overloaded => "overloaded",
            Self::ModelNotReady => "model_not_ready",
            Self::ShuttingDown => "shutting_down",
            Self::DeadlineExceeded => "deadline_exceeded",
        }
    }

    /// The status of HTTP.
    pub(in crate::http) fn status(self) -> StatusCode {
        match self {
            Self::MalformedJson
            | Self::WrongType
            | Self::OutOfRange
            | Self::NotFinite
            | Self::DuplicateKey
            | Self::RaggedArray
            | Self::TooManyValues
            | Self::NestedTooDeep
            | Self::MissingField
            | Self::ModelNotNamed
            | Self::AmbiguousRequest
            | Self::MissingInput
            | Self::UnknownInput
            | Self::DuplicateInput
            | Self::UnknownOutput
            | Self::DuplicateOutput
            | Self::DatatypeMismatch
            | Self::ShapeMismatch
            | Self::InvalidRow
            | Self::TooManyRows
            | Self::UnknownSignature
            | Self::WrongTask
            | Self::InvalidTimeout
            | Self::ReservedParameter
            | Self::InvalidHeaderLength
            | Self::BinarySizeMismatch
            | Self::NotServed
            | Self::MalformedEncoding
            | Self::IncompleteBody
            | Self::TooManyChunks
            | Self::IdTooLong
            | Self::InvalidLevel => StatusCode::BAD_REQUEST,
            #[cfg(feature = "grpc")]
            Self::MalformedMessage | Self::UnknownMetadata => StatusCode::BAD_REQUEST,
            Self::Unauthorized => StatusCode::UNAUTHORIZED,
            #[cfg(feature = "grpc")]
            Self::OperatorsOnly => StatusCode::FORBIDDEN,
            Self::UnknownPath | Self::UnknownModel | Self::UnknownVersion | Self::UnknownLabel => {
                StatusCode::NOT_FOUND
            }
            #[cfg(feature = "grpc")]
            Self::UnknownMethod | Self::UnknownService => StatusCode::NOT_FOUND,
            Self::MethodNotAllowed => StatusCode::METHOD_NOT_ALLOWED,
            Self::BodyTimeout => StatusCode::REQUEST_TIMEOUT,
            Self::BodyTooLarge => StatusCode::PAYLOAD_TOO_LARGE,
            Self::UnsupportedMediaType => StatusCode::UNSUPPORTED_MEDIA_TYPE,
            Self::AnswerNotFinite => StatusCode::UNPROCESSABLE_ENTITY,
            Self::Internal => StatusCode::INTERNAL_SERVER_ERROR,
            Self::NotImplemented => StatusCode::NOT_IMPLEMENTED,
            Self::Overloaded | Self::ModelNotReady | Self::ShuttingDown => {
                StatusCode::SERVICE_UNAVAILABLE
            }
            Self::DeadlineExceeded => StatusCode::GATEWAY_TIMEOUT,
        }
    }
}

impl From<ErrorKind> for ErrorCode {
    fn from(kind: ErrorKind) -> Self {
        match kind {
            ErrorKind::Syntax => Self::MalformedJson,
            ErrorKind::Type => Self::WrongType,
            ErrorKind::Range => Self::OutOfRange,
            ErrorKind::NotFinite => Self::NotFinite,
            ErrorKind::DuplicateKey => Self::DuplicateKey,
            ErrorKind::Ragged => Self::RaggedArray,
            ErrorKind::TooMany => Self::TooManyValues,
            ErrorKind::TooDeep => Self::NestedTooDeep,
        }
    }
}
