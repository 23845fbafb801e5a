//! The statistics extension: what each model version has done so far.
//!
//! Source: `protocol/extension_statistics.md` of Triton.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use http::StatusCode;

use crate::http::answer::{self, Response};
use crate::http::error::ApiError;
use crate::http::state::Server;
use crate::json::Writer;
use crate::metrics::Total;
use crate::model::repository::Served;

/// What the protocol has and this server does not: a step that it does not measure apart, or a cache.
pub(super) const NONE: Total = Total { count: 0, ns: 0 };

/// The statistics of every version that is ready.
pub(super) fn all(server: &Server) -> Response {
    answer(&server.app.repository.ready())
}

/// The statistics of one version, or of all versions of a model that are ready.
pub(super) fn model(
    server: &Server,
    name: &str,
    version: Option<&str>,
) -> Result<Response, ApiError> {
    Ok(answer(&versions(server, name, version)?))
}

/// One version, or all versions of a model that are ready.
pub(super) fn versions(
    server: &Server,
    name: &str,
    version: Option<&str>,
) -> Result<Vec<Arc<Served>>, ApiError> {
    let repository = &server.app.repository;
    let served = repository.find(name, version)?;
    if version.is_some() {
        return Ok(vec![served]);
    }
    let mut versions = repository.ready();
    versions.retain(|served| served.model.name == name);
    Ok(versions)
}

fn answer(versions: &[Arc<Served>]) -> Response {
    let mut body = Writer::default();
    body.object(|body| {
        body.key("model_stats").array(|body| {
            versions.iter().for_each(|served| version(body, served));
        });
    });
    answer::json(StatusCode::OK, body)
}

fn version(body: &mut Writer, served: &Served) {
    let statistics = served.metrics.statistics();
    let last = statistics
        .last_request_age
        .map_or(0, milliseconds_since_1970);
    body.object(|body| {
        body.key("name").string(&served.model.name);
        body.key("version")
            .string(itoa::Buffer::new().format(served.model.version));
        body.key("last_inference").integer(last);
        body.key("inference_count").integer(statistics.rows);
        body.key("execution_count")
            .integer(statistics.forward_passes);
        body.key("inference_stats").object(|body| {
            total(body, "success", statistics.succeeded);
            total(body, "fail", statistics.failed);
            total(body, "queue", statistics.queue);
            total(body, "compute_input", NONE);
            total(body, "compute_infer", statistics.compute);
            total(body, "compute_output", NONE);
            total(body, "cache_hit", NONE);
            total(body, "cache_miss", NONE);
        });
        // Of answers in several parts, which there are none of.
        body.key("response_stats").object(|_| {});
        body.key("batch_stats").array(|body| {
            for &(rows, passes) in &statistics.forward_passes_by_rows {
                body.object(|body| {
                    body.key("batch_size").integer(rows);
                    total(body, "compute_input", NONE);
                    total(body, "compute_infer", passes);
                    total(body, "compute_output", NONE);
                });
            }
        });
        body.key("memory_usage").array(|body| {
            body.object(|body| {
                body.key("type").string("CPU");
                body.key("id").integer(0);
                body.key("byte_size").integer(statistics.weight_bytes);
            });
        });
    });
}

/// The time of what was so long ago.
pub(super) fn milliseconds_since_1970(age: Duration) -> u64 {
    let at = SystemTime::now().checked_sub(age);
    let since = at.and_then(|at| at.duration_since(SystemTime::UNIX_EPOCH).ok());
    since.map_or(0, |since| {
        u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
    })
}

fn total(body: &mut Writer, key: &str, total: Total) {
    body.key(key).object(|body| {
        body.key("count").integer(total.count);
        body.key("ns").integer(total.ns);
    });
}
