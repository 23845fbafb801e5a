//! What the server and its models say about themselves.

use crate::http::answer::Response;
use crate::http::error::ApiError;
use crate::http::grpc::{inference, message};
use crate::http::state::Server;
use crate::http::v2::index::state;
use crate::http::v2::metadata::{EXTENSIONS, PLATFORM};
use crate::http::v2::stats::{NONE, milliseconds_since_1970, versions};
use crate::metrics::{ModelState, Total};
use crate::model::repository::{IndexEntry, LookupError, Served};
use crate::tensor::{DataType, TensorSpec};

use inference::model_instance_group::Kind;
use inference::model_queue_policy::TimeoutAction;

pub(super) fn server() -> Response {
    message(&inference::ServerMetadataResponse {
        name: env!("CARGO_PKG_NAME").to_owned(),
        version: env!("CARGO_PKG_VERSION").to_owned(),
        extensions: EXTENSIONS.map(str::to_owned).to_vec(),
    })
}

pub(super) fn ready(
    server: &Server,
    name: &str,
    version: Option<&str>,
) -> Result<Response, ApiError> {
    let ready = match server.app.repository.find(name, version) {
        Ok(_) => true,
        Err(LookupError::NotReady { .. }) => false,
        Err(error) => return Err(error.into()),
    };
    Ok(message(&inference::ModelReadyResponse { ready }))
}

/// Describes the version that would answer a request for `name` and `version`.
pub(super) fn metadata(
    server: &Server,
    name: &str,
    version: Option<&str>,
) -> Result<Response, ApiError> {
    let repository = &server.app.repository;
    let served = repository.find(name, version)?;
    let signature = &served.model.signature;
    let tensor = |spec: &TensorSpec| inference::model_metadata_response::TensorMetadata {
        name: spec.name.clone(),
        datatype: spec.datatype.as_str().to_owned(),
        shape: spec.wire_shape().collect(),
    };
    let outputs = signature.outputs.iter();
    let entries = repository.versions(name).unwrap_or_default();
    let ready = entries
        .iter()
        .filter(|entry| entry.state == ModelState::Ready);
    Ok(message(&inference::ModelMetadataResponse {
        name: served.model.name.clone(),
        versions: ready.map(|entry| entry.version.to_string()).collect(),
        platform: PLATFORM.to_owned(),
        inputs: signature.inputs.iter().map(tensor).collect(),
        outputs: outputs.map(|output| tensor(&output.spec)).collect(),
    }))
}

/// As the REST API's, in which [`config`](crate::http::v2::config) says what each word means.
pub(super) fn config(
    server: &Server,
    name: &str,
    version: Option<&str>,
) -> Result<Response, ApiError> {
    let served = server.app.repository.find(name, version)?;
    let signature = &served.model.signature;
    let scheduling = served.lane.scheduling();
    let limits = &server.app.limits;
    let dims = |spec: &TensorSpec| {
        spec.shape
            .extents
            .iter()
            .map(|&extent| extent as i64)
            .collect()
    };
    let inputs = signature.inputs.iter();
    let outputs = signature.outputs.iter().map(|output| &output.spec);
    let microseconds =
        |duration: std::time::Duration| u64::try_from(duration.as_micros()).unwrap_or(u64::MAX);
    let config = inference::ModelConfig {
        name: served.model.name.clone(),
        platform: PLATFORM.to_owned(),
        backend: env!("CARGO_PKG_NAME").to_owned(),
        max_batch_size: i32::try_from(limits.max_request_rows).unwrap_or(i32::MAX),
        input: inputs
            .map(|spec| inference::ModelInput {
                name: spec.name.clone(),
                data_type: data_type(spec.datatype).into(),
                dims: dims(spec),
            })
            .collect(),
        output: outputs
            .map(|spec| inference::ModelOutput {
                name: spec.name.clone(),
                data_type: data_type(spec.datatype).into(),
                dims: dims(spec),
            })
            .collect(),
        instance_group: vec![inference::ModelInstanceGroup {
            name: served.model.name.clone(),
            count: i32::try_from(scheduling.workers).unwrap_or(i32::MAX),
            kind: Kind::Cpu.into(),
        }],
        dynamic_batching: Some(inference::ModelDynamicBatching {
            preferred_batch_size: Vec::new(),
            max_queue_delay_microseconds: microseconds(scheduling.max_batch_delay),
            default_queue_policy: Some(inference::ModelQueuePolicy {
                timeout_action: TimeoutAction::Reject.into(),
                default_timeout_microseconds: microseconds(
                    limits.default_deadline.unwrap_or_default(),
                ),
                allow_timeout_override: true,
            }),
        }),
    };
    Ok(message(&inference::ModelConfigResponse {
        config: Some(config),
    }))
}

fn data_type(datatype: DataType) -> inference::DataType {
    match datatype {
        DataType::Bool => inference::DataType::TypeBool,
        DataType::Uint8 => inference::DataType::TypeUint8,
        DataType::Uint16 => inference::DataType::TypeUint16,
        DataType::Uint32 => inference::DataType::TypeUint32,
        DataType::Uint64 => inference::DataType::TypeUint64,
        DataType::Int8 => inference::DataType::TypeInt8,
        DataType::Int16 => inference::DataType::TypeInt16,
        DataType::Int32 => inference::DataType::TypeInt32,
        DataType::Int64 => inference::DataType::TypeInt64,
        DataType::Fp16 => inference::DataType::TypeFp16,
        DataType::Bf16 => inference::DataType::TypeBf16,
        DataType::Fp32 => inference::DataType::TypeFp32,
        DataType::Fp64 => inference::DataType::TypeFp64,
        DataType::Bytes => inference::DataType::TypeString,
    }
}

/// The statistics of one version, or of all that are ready: of the model that is named, or of every
/// one if none is.
pub(super) fn statistics(
    server: &Server,
    name: &str,
    version: Option<&str>,
) -> Result<Response, ApiError> {
    let served = match name {
        "" => server.app.repository.ready(),
        name => versions(server, name, version)?,
    };
    Ok(message(&inference::ModelStatisticsResponse {
        model_stats: served.iter().map(|served| statistics_of(served)).collect(),
    }))
}

fn statistics_of(served: &Served) -> inference::ModelStatistics {
    let statistics = served.metrics.statistics();
    let duration = |total: Total| {
        Some(inference::StatisticDuration {
            count: total.count,
            ns: total.ns,
        })
    };
    let batches = statistics.forward_passes_by_rows.iter();
    inference::ModelStatistics {
        name: served.model.name.clone(),
        version: served.model.version.to_string(),
        last_inference: statistics
            .last_request_age
            .map_or(0, milliseconds_since_1970),
        inference_count: statistics.rows,
        execution_count: statistics.forward_passes,
        inference_stats: Some(inference::InferStatistics {
            success: duration(statistics.succeeded),
            fail: duration(statistics.failed),
            queue: duration(statistics.queue),
            compute_input: duration(NONE),
            compute_infer: duration(statistics.compute),
            compute_output: duration(NONE),
            cache_hit: duration(NONE),
            cache_miss: duration(NONE),
        }),
        batch_stats: batches
            .map(|&(rows, passes)| inference::InferBatchStatistics {
                batch_size: rows as u64,
                compute_input: duration(NONE),
                compute_infer: duration(passes),
                compute_output: duration(NONE),
            })
            .collect(),
        memory_usage: vec![inference::MemoryUsage {
            r#type: "CPU".to_owned(),
            id: 0,
            byte_size: statistics.weight_bytes,
        }],
    }
}

/// The answer that lists these versions.
pub(super) fn index(entries: Vec<IndexEntry>) -> Response {
    let models =
        entries
            .into_iter()
            .map(|entry| inference::repository_index_response::ModelIndex {
                name: entry.name,
                version: entry.version.to_string(),
                state: state(entry.state).to_owned(),
                reason: entry.reason,
            });
    message(&inference::RepositoryIndexResponse {
        models: models.collect(),
    })
}
