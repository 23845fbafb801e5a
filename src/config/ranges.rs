//! The numbers that each setting may have.
//!
//! The upper bounds catch slips such as a wrong unit, before they start a server that cannot serve: a
//! day for any time, a second for microseconds, 4 GiB for a body.

use super::{Admin, Config, Grpc, Limits, Models, Scheduler, Server, Tls};

const MINUTE_MS: u64 = 60 * 1000;
const DAY_MS: u64 = 24 * 60 * MINUTE_MS;
const SECOND_US: u64 = 1_000_000;
const ONE_A_CORE: &str = "use 0 for one thread a core";
const BYTES: &str = "the unit is bytes";
const SLOW_CLIENTS: &str = "without a limit slow clients would take every connection";

/// A well-typed value out of its range.
pub(super) struct Refusal {
    pub(super) key: &'static str,
    pub(super) expected: String,
    pub(super) hint: &'static str,
}

impl Config {
    /// The first setting out of its range.
    pub(super) fn refusal(&self) -> Option<Refusal> {
        first([
            check_tls(&self.tls),
            check_admin(&self.admin),
            check_grpc(&self.grpc),
            check_server(&self.server),
            check_models(&self.models),
            check_scheduler(&self.scheduler),
            check_limits(&self.limits, self.scheduler.max_queued_rows),
        ])
    }
}

fn check_tls(tls: &Tls) -> Option<Refusal> {
    first([
        needs_file(
            "tls.key",
            tls.certificate.is_some(),
            tls.key.is_some(),
            "tls.certificate needs its private key",
        ),
        needs_file(
            "tls.certificate",
            tls.key.is_some() || tls.client_ca.is_some(),
            tls.certificate.is_some(),
            "without it nothing is encrypted, and the other files of tls do nothing",
        ),
    ])
}

fn check_admin(admin: &Admin) -> Option<Refusal> {
    needs_file(
        "admin.keys",
        admin.bind.is_some(),
        admin.keys.is_some(),
        "without it anyone who reaches admin.bind could unload models",
    )
}

fn check_grpc(grpc: &Grpc) -> Option<Refusal> {
    first([
        (grpc.bind.is_some() && !cfg!(feature = "grpc")).then(|| Refusal {
            key: "grpc.bind",
            expected: "\"\"".to_owned(),
            hint: "this program was built without the feature `grpc`",
        }),
        range(
            "grpc.max_connections",
            grpc.max_connections as u64,
            [1, 1_000_000],
            "each connection takes a file descriptor",
        ),
    ])
}

fn check_server(server: &Server) -> Option<Refusal> {
    first([
        range(
            "server.io_threads",
            server.io_threads as u64,
            [0, 1024],
            ONE_A_CORE,
        ),
        range(
            "server.drain_delay_ms",
            server.drain_delay_ms,
            [0, DAY_MS],
            "0 stops accepting at once",
        ),
        range(
            "server.drain_timeout_ms",
            server.drain_timeout_ms,
            [0, DAY_MS],
            "0 cuts off requests in flight at once",
        ),
    ])
}

fn check_models(models: &Models) -> Option<Refusal> {
    first([
        range(
            "models.poll_interval_ms",
            models.poll_interval_ms,
            [0, DAY_MS],
            "0 looks only when the file system reports a change",
        ),
        range(
            "models.settle_ms",
            models.settle_ms,
            [0, DAY_MS],
            "0 loads files at once, even while they are being copied",
        ),
        range(
            "models.load_timeout_ms",
            models.load_timeout_ms,
            [0, DAY_MS],
            "0 waits forever",
        ),
        range(
            "models.incomplete_timeout_ms",
            models.incomplete_timeout_ms,
            [0, DAY_MS],
            "0 refuses incomplete files at once; later changes are still seen",
        ),
        range(
            "models.max_models",
            models.max_models as u64,
            [1, 10_000],
            "each model has its series on the metrics page",
        ),
        range(
            "models.max_versions",
            models.max_versions as u64,
            [1, 1000],
            "every version that serves is in memory",
        ),
        range(
            "models.max_weight_bytes",
            models.max_weight_bytes,
            [0, 1 << 50],
            "the unit is bytes; 0 is a share of the available memory",
        ),
    ])
}

fn check_scheduler(scheduler: &Scheduler) -> Option<Refusal> {
    first([
        range(
            "scheduler.workers",
            scheduler.workers as u64,
            [0, 1024],
            ONE_A_CORE,
        ),
        range(
            "scheduler.max_batch_rows",
            scheduler.max_batch_rows as u64,
            [1, 65_536],
            "use 1 to compute every row alone",
        ),
        range(
            "scheduler.max_batch_ms",
            scheduler.max_batch_ms,
            [0, MINUTE_MS],
            "every request in a batch waits for the whole batch; the unit is milliseconds",
        ),
        range(
            "scheduler.max_scratch_bytes",
            scheduler.max_scratch_bytes as u64,
            [1 << 20, 1 << 40],
            BYTES,
        ),
        range(
            "scheduler.max_batch_delay_us",
            scheduler.max_batch_delay_us,
            [0, SECOND_US],
            "0 never holds a batch; the unit is microseconds",
        ),
        range(
            "scheduler.max_queued_rows",
            scheduler.max_queued_rows as u64,
            [1, 1 << 24],
            "rows that wait take memory and time; a second of work is enough",
        ),
        range(
            "scheduler.inline_cost_us",
            scheduler.inline_cost_us,
            [0, SECOND_US],
            "0 never computes inline; the unit is microseconds",
        ),
        range(
            "scheduler.hang_timeout_ms",
            scheduler.hang_timeout_ms,
            [0, DAY_MS],
            "0 waits forever",
        ),
        range(
            "scheduler.stall_timeout_ms",
            scheduler.stall_timeout_ms,
            [0, DAY_MS],
            "0 is always live",
        ),
    ])
}

fn check_limits(limits: &Limits, max_queued_rows: usize) -> Option<Refusal> {
    first([
        range(
            "limits.max_connections",
            limits.max_connections as u64,
            [1, 1_000_000],
            "each connection takes a file descriptor",
        ),
        range(
            "limits.max_headers",
            limits.max_headers as u64,
            [8, 1024],
            "clients and proxies send 5 to 30",
        ),
        range(
            "limits.max_header_bytes",
            limits.max_header_bytes as u64,
            // The size of one read.
            [8192, 1 << 20],
            BYTES,
        ),
        range(
            "limits.header_timeout_ms",
            limits.header_timeout_ms,
            [1, DAY_MS],
            SLOW_CLIENTS,
        ),
        range(
            "limits.idle_timeout_ms",
            limits.idle_timeout_ms,
            [1, DAY_MS],
            SLOW_CLIENTS,
        ),
        range(
            "limits.write_timeout_ms",
            limits.write_timeout_ms,
            [1, DAY_MS],
            SLOW_CLIENTS,
        ),
        range(
            "limits.max_body_bytes",
            limits.max_body_bytes as u64,
            [1024, 1 << 32],
            BYTES,
        ),
        range(
            "limits.body_timeout_ms",
            limits.body_timeout_ms,
            [1, DAY_MS],
            SLOW_CLIENTS,
        ),
        (limits.max_inflight_body_bytes > 0)
            .then(|| {
                range(
                    "limits.max_inflight_body_bytes",
                    limits.max_inflight_body_bytes as u64,
                    [limits.max_body_bytes as u64, 1 << 40],
                    "it must hold at least one body of limits.max_body_bytes; 0 is a share of the available memory",
                )
            })
            .flatten(),
        range(
            "limits.max_request_rows",
            limits.max_request_rows as u64,
            [1, max_queued_rows as u64],
            "a request is queued whole: raise scheduler.max_queued_rows too",
        ),
        range(
            "limits.max_deadline_ms",
            limits.max_deadline_ms,
            [1, DAY_MS],
            "the unit is milliseconds",
        ),
        range(
            "limits.default_deadline_ms",
            limits.default_deadline_ms,
            [0, limits.max_deadline_ms],
            "0 sets none; else it is at most limits.max_deadline_ms",
        ),
    ])
}

fn first<const N: usize>(checks: [Option<Refusal>; N]) -> Option<Refusal> {
    checks.into_iter().flatten().next()
}

/// Refuses a `value` that is not from `least` to `most`.
fn range(
    key: &'static str,
    value: u64,
    [least, most]: [u64; 2],
    hint: &'static str,
) -> Option<Refusal> {
    (!(least..=most).contains(&value)).then(|| Refusal {
        key,
        expected: format!("a whole number from {least} to {most}"),
        hint,
    })
}

/// Refuses a missing file that another setting needs.
fn needs_file(
    key: &'static str,
    is_needed: bool,
    is_there: bool,
    hint: &'static str,
) -> Option<Refusal> {
    (is_needed && !is_there).then(|| Refusal {
        key,
        expected: "a file".to_owned(),
        hint,
    })
}
