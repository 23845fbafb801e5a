//! How models are, and what they take.

use std::collections::HashMap;

use prost::Message;
use prost_types::Any;

use super::spec::model_spec;
use super::tensor::shape;
use crate::http::answer::Response;
use crate::http::error::{ApiError, ErrorCode};
use crate::http::grpc::{message, tensorflow};
use crate::http::state::Server;
use crate::http::v1::signature::SIGNATURE_NAME;
use crate::http::v1::target::version_of;
use crate::messages::excerpt;
use crate::metrics::ModelState;
use crate::model::repository::{IndexEntry, LookupError};
use crate::tensor::{DataType, TensorSpec};
use tensorflow::serving;

use serving::model_spec::VersionChoice;
use serving::model_version_status::State;

/// The only metadata that there is.
const SIGNATURE_DEF: &str = "signature_def";

/// The code of TensorFlow for a version that cannot be loaded.
const FAILED_PRECONDITION: i32 = 9;

/// The name and the version that a request asks for.
fn target(
    server: &Server,
    spec: Option<serving::ModelSpec>,
) -> Result<(String, Option<String>), ApiError> {
    let spec = spec.unwrap_or_default();
    match spec.version_choice {
        None => Ok((spec.name, None)),
        Some(VersionChoice::Version(version)) => Ok((spec.name, Some(version.to_string()))),
        Some(VersionChoice::VersionLabel(label)) => {
            let version = version_of(server, &spec.name, &label)?;
            Ok((spec.name, Some(version)))
        }
    }
}

/// The states of a model's versions, or of the one that is named.
pub(super) fn status(
    server: &Server,
    request: serving::GetModelStatusRequest,
) -> Result<Response, ApiError> {
    let (name, version) = target(server, request.model_spec)?;
    let repository = &server.app.repository;
    match repository.find(&name, version.as_deref()) {
        Ok(_) | Err(LookupError::NotReady { .. }) => {}
        Err(error) => return Err(error.into()),
    }
    let mut entries = repository.versions(&name).unwrap_or_default();
    if let Some(version) = version {
        entries.retain(|entry| entry.version.to_string() == version);
    }
    let entries = entries.into_iter();
    Ok(message(&serving::GetModelStatusResponse {
        model_version_status: entries.map(version_status).collect(),
    }))
}

fn version_status(entry: IndexEntry) -> serving::ModelVersionStatus {
    let (state, error_code) = match entry.state {
        ModelState::Loading => (State::Loading, 0),
        ModelState::Ready => (State::Available, 0),
        ModelState::Unloading => (State::Unloading, 0),
        ModelState::Unavailable => (State::End, FAILED_PRECONDITION),
    };
    serving::ModelVersionStatus {
        version: i64::try_from(entry.version).unwrap_or(i64::MAX),
        state: state.into(),
        status: Some(serving::StatusProto {
            error_code,
            error_message: entry.reason,
        }),
    }
}

/// The signature in the form of TensorFlow's `SignatureDef`.
pub(super) fn metadata(
    server: &Server,
    request: serving::GetModelMetadataRequest,
) -> Result<Response, ApiError> {
    let fields = &request.metadata_field;
    if let Some(other) = fields.iter().find(|field| *field != SIGNATURE_DEF) {
        return Err(ApiError::invalid(
            ErrorCode::UnknownMetadata,
            format!(
                "metadata_field: expected {SIGNATURE_DEF:?}, got {}",
                excerpt(other, 40)
            ),
        ));
    }
    if fields.is_empty() {
        return Err(ApiError::invalid(
            ErrorCode::MissingField,
            format!("metadata_field: expected {SIGNATURE_DEF:?}, got none; add it"),
        ));
    }
    let (name, version) = target(server, request.model_spec)?;
    let served = server.app.repository.find(&name, version.as_deref())?;
    let signature = &served.model.signature;
    let outputs = signature.engine_outputs();
    let definition = tensorflow::SignatureDef {
        inputs: signature.inputs.iter().map(tensor).collect(),
        outputs: outputs.map(|output| tensor(&output.spec)).collect(),
        method_name: "tensorflow/serving/predict".to_owned(),
    };
    let map = serving::SignatureDefMap {
        signature_def: HashMap::from([(SIGNATURE_NAME.to_owned(), definition)]),
    };
    let any = Any {
        type_url: "type.googleapis.com/tensorflow.serving.SignatureDefMap".to_owned(),
        value: map.encode_to_vec(),
    };
    Ok(message(&serving::GetModelMetadataResponse {
        model_spec: Some(serving::ModelSpec {
            signature_name: String::new(),
            ..model_spec(&served.model)
        }),
        metadata: HashMap::from([(SIGNATURE_DEF.to_owned(), any)]),
    }))
}

fn tensor(spec: &TensorSpec) -> (String, tensorflow::TensorInfo) {
    let dtype = match spec.datatype {
        DataType::Bool => tensorflow::DataType::DtBool,
        DataType::Uint8 => tensorflow::DataType::DtUint8,
        DataType::Uint16 => tensorflow::DataType::DtUint16,
        DataType::Uint32 => tensorflow::DataType::DtUint32,
        DataType::Uint64 => tensorflow::DataType::DtUint64,
        DataType::Int8 => tensorflow::DataType::DtInt8,
        DataType::Int16 => tensorflow::DataType::DtInt16,
        DataType::Int32 => tensorflow::DataType::DtInt32,
        DataType::Int64 => tensorflow::DataType::DtInt64,
        DataType::Fp16 => tensorflow::DataType::DtHalf,
        DataType::Bf16 => tensorflow::DataType::DtBfloat16,
        DataType::Fp32 => tensorflow::DataType::DtFloat,
        DataType::Fp64 => tensorflow::DataType::DtDouble,
        DataType::Bytes => tensorflow::DataType::DtString,
    };
    let info = tensorflow::TensorInfo {
        name: format!("{}:0", spec.name),
        dtype: dtype.into(),
        tensor_shape: Some(shape(spec.wire_shape())),
    };
    (spec.name.clone(), info)
}
