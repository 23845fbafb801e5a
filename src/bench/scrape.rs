//! The metrics page of the server under load.

use std::ops::Sub;

/// Totals since the server's start, or between two scrapes.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Totals {
    /// The process's CPU time.
    pub(super) cpu_seconds: f64,
    /// Requests for the model that were answered, with any status.
    pub(super) requests: u64,
    /// Forward passes of the model.
    pub(super) passes: u64,
    /// The rows in them.
    pub(super) rows: u64,
}

impl Totals {
    /// Reads a page of metrics in Prometheus' text format; `None` if it is not safeserve's.
    pub(super) fn read(page: &str, model: &str, version: Option<&str>) -> Option<Self> {
        let label = format!("model={}", quoted(model));
        let version = version.map(|version| format!("version={}", quoted(version)));
        let is_of_model = |labels: &str| {
            let mut labels = labels.split(',');
            let wanted = [Some(&label), version.as_ref()];
            wanted
                .into_iter()
                .flatten()
                .all(|wanted| labels.clone().any(|label| label == *wanted))
                && labels.next().is_some()
        };
        let sum = |name: &str| -> Option<f64> {
            let values = page.lines().filter_map(|line| {
                let (labels, value) = line
                    .strip_prefix(name)?
                    .strip_prefix('{')?
                    .split_once("} ")?;
                is_of_model(labels).then(|| value.parse::<f64>().ok())?
            });
            values.fold(None, |sum, value| Some(sum.unwrap_or(0.0) + value))
        };
        let plain = |name: &str| {
            let mut values = page
                .lines()
                .filter_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
            values.next()?.parse().ok()
        };
        Some(Self {
            cpu_seconds: plain("process_cpu_seconds_total")?,
            requests: sum("safeserve_requests_total")? as u64,
            passes: sum("safeserve_batch_rows_count")? as u64,
            rows: sum("safeserve_batch_rows_sum")? as u64,
        })
    }
}

/// What happened between the right and the left. A server that restarted in between counts from zero.
impl Sub for Totals {
    type Output = Self;

    fn sub(self, earlier: Self) -> Self {
        Self {
            cpu_seconds: (self.cpu_seconds - earlier.cpu_seconds).max(0.0),
            requests: self.requests.saturating_sub(earlier.requests),
            passes: self.passes.saturating_sub(earlier.passes),
            rows: self.rows.saturating_sub(earlier.rows),
        }
    }
}

/// A label's value as the format writes it.
fn quoted(value: &str) -> String {
    let escaped = value
        .replace('\\', r"\\")
        .replace('"', "\\\"")
        .replace('\n', r"\n");
    format!("\"{escaped}\"")
}

#[cfg(test)]
mod tests {
    use super::*;

    const PAGE: &str = r#"# TYPE process_cpu_seconds_total counter
process_cpu_seconds_total 1.5
safeserve_requests_total{code="200",model="iris",protocol="v2",version="1"} 7
safeserve_requests_total{code="503",model="iris",protocol="v2",version="2"} 2
safeserve_requests_total{code="200",model="iris-2",protocol="v2",version="1"} 100
safeserve_batch_rows_bucket{model="iris",version="1",le="+Inf"} 9
safeserve_batch_rows_sum{model="iris",version="1"} 20
safeserve_batch_rows_count{model="iris",version="1"} 4
"#;

    #[test]
    fn the_totals_are_those_of_the_model() {
        let all = Totals {
            cpu_seconds: 1.5,
            requests: 9,
            passes: 4,
            rows: 20,
        };
        assert_eq!(Totals::read(PAGE, "iris", None), Some(all));
        let first = Totals::read(PAGE, "iris", Some("1")).unwrap();
        assert_eq!(first.requests, 7);
        assert_eq!(
            all - first,
            Totals {
                cpu_seconds: 0.0,
                requests: 2,
                passes: 0,
                rows: 0
            }
        );
        assert_eq!(
            first - all,
            Totals {
                cpu_seconds: 0.0,
                requests: 0,
                passes: 0,
                rows: 0
            }
        );
    }

    #[test]
    fn another_servers_page_says_nothing() {
        assert_eq!(Totals::read("<html>", "iris", None), None);
        assert_eq!(Totals::read(PAGE, "digits", None), None);
    }
}
