//! The codes of gRPC, and the one place that gives every failure its code.

use super::super::error::ApiError;
use crate::model::repository::LookupError;
use crate::request::InferError;

/// A code of gRPC, those that are used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::http) enum Code {
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

impl Code {
    /// The code of a failure.
    pub(in crate::http) fn of(error: &ApiError) -> Self {
        match error {
            ApiError::Body(_)
            | ApiError::Invalid { .. }
            | ApiError::BodyBroken
            | ApiError::BodyInTooManyPieces
            | ApiError::Infer(InferError::InvalidRow(_)) => Self::InvalidArgument,
            ApiError::Lookup(LookupError::NotReady { .. })
            | ApiError::Infer(InferError::Overloaded { .. } | InferError::Closing)
            | ApiError::BodiesOverBudget => Self::Unavailable,
            ApiError::Lookup(_)
            | ApiError::UnknownLabel { .. }
            | ApiError::UnknownService { .. } => Self::NotFound,
            ApiError::Infer(InferError::DeadlineExceeded)
            | ApiError::DeadlineExceeded { .. }
            | ApiError::BodyTimeout { .. } => Self::DeadlineExceeded,
            ApiError::Infer(InferError::NonFinite { .. }) | ApiError::NonFiniteAnswer { .. } => {
                Self::OutOfRange
            }
            ApiError::Infer(InferError::Panicked) | ApiError::Internal => Self::Internal,
            ApiError::Unauthorized { .. } => Self::Unauthenticated,
            ApiError::OperatorsOnly => Self::PermissionDenied,
            ApiError::BodyTooLarge { .. } => Self::ResourceExhausted,
            ApiError::NotServed { .. }
            | ApiError::UnknownPath { .. }
            | ApiError::UnknownMethod { .. }
            | ApiError::Method { .. }
            | ApiError::MediaType { .. } => Self::Unimplemented,
        }
    }
}
