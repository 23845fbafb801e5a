//! The codes of gRPC, and the one place that gives every failure its code.

use crate::http::error::ErrorCode;

/// A code of gRPC, those that are used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Code {
    Ok = 0,
    InvalidArgument = 3,
    DeadlineExceeded = 4,
    NotFound = 5,
    PermissionDenied = 7,
    ResourceExhausted = 8,
    OutOfRange = 11,
    Unimplemented = 12,
    Internal = 13,
    Unavailable = 14,
    Unauthenticated = 16,
}

impl From<ErrorCode> for Code {
    fn from(code: ErrorCode) -> Self {
        match code {
            ErrorCode::MalformedJson
            | ErrorCode::WrongType
            | ErrorCode::OutOfRange
            | ErrorCode::NotFinite
            | ErrorCode::DuplicateKey
            | ErrorCode::RaggedArray
            | ErrorCode::TooManyValues
            | ErrorCode::NestedTooDeep
            | ErrorCode::MissingField
            | ErrorCode::ModelNotNamed
            | ErrorCode::AmbiguousRequest
            | ErrorCode::MissingInput
            | ErrorCode::UnknownInput
            | ErrorCode::DuplicateInput
            | ErrorCode::UnknownOutput
            | ErrorCode::DuplicateOutput
            | ErrorCode::DatatypeMismatch
            | ErrorCode::ShapeMismatch
            | ErrorCode::InvalidRow
            | ErrorCode::TooManyRows
            | ErrorCode::UnknownSignature
            | ErrorCode::WrongTask
            | ErrorCode::InvalidTimeout
            | ErrorCode::ReservedParameter
            | ErrorCode::InvalidHeaderLength
            | ErrorCode::BinarySizeMismatch
            | ErrorCode::NotServed
            | ErrorCode::MalformedEncoding
            | ErrorCode::IncompleteBody
            | ErrorCode::TooManyChunks
            | ErrorCode::IdTooLong
            | ErrorCode::InvalidLevel
            | ErrorCode::MalformedMessage
            | ErrorCode::UnknownMetadata => Self::InvalidArgument,
            ErrorCode::DeadlineExceeded | ErrorCode::BodyTimeout => Self::DeadlineExceeded,
            ErrorCode::UnknownModel
            | ErrorCode::UnknownVersion
            | ErrorCode::UnknownLabel
            | ErrorCode::UnknownService => Self::NotFound,
            ErrorCode::OperatorsOnly => Self::PermissionDenied,
            ErrorCode::BodyTooLarge => Self::ResourceExhausted,
            ErrorCode::AnswerNotFinite => Self::OutOfRange,
            ErrorCode::NotImplemented
            | ErrorCode::UnknownPath
            | ErrorCode::UnknownMethod
            | ErrorCode::MethodNotAllowed
            | ErrorCode::UnsupportedMediaType => Self::Unimplemented,
            ErrorCode::Internal => Self::Internal,
            ErrorCode::Overloaded | ErrorCode::ModelNotReady | ErrorCode::ShuttingDown => {
                Self::Unavailable
            }
            ErrorCode::Unauthorized => Self::Unauthenticated,
        }
    }
}
