//! The process's own numbers, under the names that every Prometheus client library gives them.
//!
//! Read from `/proc` at each scrape; where there is none (not Linux) the series are absent.

use std::fs;
use std::time::Duration;

use prometheus::core::{Collector, Desc};
use prometheus::proto::MetricFamily;
use prometheus::{Counter, Gauge, IntGauge};

/// The unit of the times in `/proc/<pid>/stat`: Linux shows user space 100 ticks a second on
/// every architecture that Rust's standard library supports, whatever the kernel's own rate.
const TICKS_PER_SECOND: f64 = 100.0;

/// Reads `/proc/self` when the registry gathers.
pub(super) struct Process {
    cpu_seconds: Counter,
    start_time_seconds: Gauge,
    resident_memory_bytes: IntGauge,
    virtual_memory_bytes: IntGauge,
    open_fds: IntGauge,
    max_fds: IntGauge,
    threads: IntGauge,
}

impl Process {
    pub(super) fn new() -> prometheus::Result<Self> {
        Ok(Self {
            cpu_seconds: Counter::new(
                "process_cpu_seconds_total",
                "User and system CPU time spent, in seconds.",
            )?,
            start_time_seconds: Gauge::new(
                "process_start_time_seconds",
                "Start of the process, in seconds since the Unix epoch.",
            )?,
            resident_memory_bytes: IntGauge::new(
                "process_resident_memory_bytes",
                "Resident memory, in bytes.",
            )?,
            virtual_memory_bytes: IntGauge::new(
                "process_virtual_memory_bytes",
                "Virtual memory, in bytes.",
            )?,
            open_fds: IntGauge::new("process_open_fds", "Open file descriptors.")?,
            max_fds: IntGauge::new(
                "process_max_fds",
                "The most file descriptors that the process may open.",
            )?,
            threads: IntGauge::new("process_threads", "Threads of the process.")?,
        })
    }

    fn collectors(&self) -> [&dyn Collector; 7] {
        [
            &self.cpu_seconds,
            &self.start_time_seconds,
            &self.resident_memory_bytes,
            &self.virtual_memory_bytes,
            &self.open_fds,
            &self.max_fds,
            &self.threads,
        ]
    }

    /// Reads the current numbers; `None` where the kernel does not show them.
    fn refresh(&self) -> Option<()> {
        let stat = Stat::of_this_process()?;
        // Two scrapes at once may read in either order; a counter does not go back.
        self.cpu_seconds
            .inc_by((stat.cpu_seconds - self.cpu_seconds.get()).max(0.0));
        self.threads.set(stat.threads);
        self.virtual_memory_bytes.set(stat.virtual_memory_bytes);
        let boot = boot_time_seconds(&fs::read_to_string("/proc/stat").ok()?)?;
        self.start_time_seconds
            .set(boot + stat.start_seconds_after_boot);
        self.resident_memory_bytes.set(resident_memory_bytes(
            &fs::read_to_string("/proc/self/status").ok()?,
        )?);
        // The directory that is read counts among the open ones.
        let open_fds = fs::read_dir("/proc/self/fd")
            .ok()?
            .count()
            .saturating_sub(1);
        self.open_fds.set(i64::try_from(open_fds).ok()?);
        self.max_fds.set(match open_files_limit()? {
            Some(limit) => i64::try_from(limit).ok()?,
            None => -1,
        });
        Some(())
    }
}

impl Collector for Process {
    fn desc(&self) -> Vec<&Desc> {
        self.collectors()
            .into_iter()
            .flat_map(Collector::desc)
            .collect()
    }

    fn collect(&self) -> Vec<MetricFamily> {
        match self.refresh() {
            Some(()) => self
                .collectors()
                .into_iter()
                .flat_map(Collector::collect)
                .collect(),
            None => Vec::new(),
        }
    }
}

/// What `/proc/self/stat` tells (proc(5)).
#[derive(Debug, PartialEq)]
struct Stat {
    cpu_seconds: f64,
    threads: i64,
    start_seconds_after_boot: f64,
    virtual_memory_bytes: i64,
}

impl Stat {
    fn of_this_process() -> Option<Self> {
        Self::parse(&fs::read_to_string("/proc/self/stat").ok()?)
    }

    fn parse(text: &str) -> Option<Self> {
        // The second field is the program's name in parentheses and may itself hold some.
        let fields: Vec<&str> = text.rsplit_once(')')?.1.split_ascii_whitespace().collect();
        // `fields[0]` is proc(5)'s field 3.
        let field = |number: usize| fields.get(number - 3);
        let ticks = |number: usize| field(number)?.parse::<f64>().ok();
        Some(Self {
            cpu_seconds: (ticks(14)? + ticks(15)?) / TICKS_PER_SECOND,
            threads: field(20)?.parse().ok()?,
            start_seconds_after_boot: ticks(22)? / TICKS_PER_SECOND,
            virtual_memory_bytes: field(23)?.parse().ok()?,
        })
    }
}

/// The CPU time that this process has used so far, user and system; `None` where the system does not say.
#[must_use]
pub fn cpu_time() -> Option<Duration> {
    Some(Duration::from_secs_f64(
        Stat::of_this_process()?.cpu_seconds,
    ))
}

/// The line `btime` of `/proc/stat`.
fn boot_time_seconds(text: &str) -> Option<f64> {
    let line = text.lines().find_map(|line| line.strip_prefix("btime "))?;
    line.trim().parse().ok()
}

/// The line `VmRSS` of `/proc/self/status`, which counts in units of 1024 bytes.
fn resident_memory_bytes(text: &str) -> Option<i64> {
    let line = text.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    let kibibytes: i64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    kibibytes.checked_mul(1024)
}

/// The most files that the process may open; `None` if it is not limited or not known.
#[must_use]
pub fn max_open_files() -> Option<usize> {
    open_files_limit()?
}

/// The inner `None` is no limit, the outer one not known.
fn open_files_limit() -> Option<Option<usize>> {
    parse_open_files_limit(&fs::read_to_string("/proc/self/limits").ok()?)
}

/// The soft limit of the line `Max open files` of `/proc/self/limits`.
fn parse_open_files_limit(text: &str) -> Option<Option<usize>> {
    let line = text
        .lines()
        .find_map(|line| line.strip_prefix("Max open files"))?;
    match line.split_ascii_whitespace().next()? {
        "unlimited" => Some(None),
        limit => limit.parse().ok().map(Some),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_program_name_with_blanks_and_parentheses_does_not_shift_the_fields() {
        let text = "7 (a) b (c) S 1 7 7 0 -1 4194560 90 0 0 0 250 50 0 0 20 0 11 0 4200 8192 33 1";
        assert_eq!(
            Stat::parse(text),
            Some(Stat {
                cpu_seconds: 3.0,
                threads: 11,
                start_seconds_after_boot: 42.0,
                virtual_memory_bytes: 8192,
            })
        );
    }

    #[test]
    fn a_cut_stat_file_is_refused() {
        assert_eq!(Stat::parse("7 (a) S 1 7"), None);
        assert_eq!(Stat::parse(""), None);
    }

    #[test]
    fn memory_boot_time_and_limits_are_read_from_their_lines() {
        assert_eq!(
            resident_memory_bytes("VmPeak:\t 9 kB\nVmRSS:\t    2048 kB\n"),
            Some(2_097_152)
        );
        assert_eq!(
            boot_time_seconds("cpu 1 2\nbtime 1700000000\nprocesses 3\n"),
            Some(1.7e9)
        );
        let limits = "Max processes  1  1  processes\nMax open files    1024   4096   files\n";
        assert_eq!(parse_open_files_limit(limits), Some(Some(1024)));
        let unlimited = "Max open files  unlimited unlimited files";
        assert_eq!(parse_open_files_limit(unlimited), Some(None));
        assert_eq!(parse_open_files_limit("Max processes 1 1 processes"), None);
    }
}
