//! The results for people.

use super::plot::bars;
use crate::bench::{Report, Sizing, Step};
use crate::cli::table::{align, grouped};

const HEADINGS: [&str; 10] = [
    "CONNECTIONS",
    "REQUESTS/S",
    "ROWS/S",
    "MEAN MS",
    "P50",
    "P90",
    "P99",
    "P99.9",
    "MAX",
    "ERRORS",
];

/// The table, what failed, the plots, what the server says, the size that follows, the notes.
pub(super) fn page(report: &Report) -> String {
    let parts = [
        head(report),
        table(&report.steps),
        errors(&report.steps),
        plots(&report.steps),
        server(&report.steps),
        size(report),
        notes(report),
    ];
    let parts: Vec<String> = parts.into_iter().filter(|part| !part.is_empty()).collect();
    parts.join("\n")
}

fn head(report: &Report) -> String {
    let version = report.version.as_ref();
    let version = version.map_or(String::new(), |version| format!(" version {version}"));
    let load = match report.rate {
        None => "closed loop".to_owned(),
        Some(rate) => format!("open loop of {rate} requests/s"),
    };
    format!(
        "{}{version} at {}: {}, {} a request ({:.0} bytes), {load}, {} s a step after {} s of warm-up\n",
        report.model,
        report.url,
        report.protocol,
        counted(report.rows_per_request, "row"),
        report.request_bytes,
        report.duration_seconds,
        report.warm_up_seconds,
    )
}

/// `1 row`, `2.5 rows`.
fn counted(number: f64, what: &str) -> String {
    let number = (number * 10.0).round() / 10.0;
    match number == 1.0 {
        true => format!("1 {what}"),
        false => format!("{number} {what}s"),
    }
}

fn table(steps: &[Step]) -> String {
    let rows: Vec<[String; 10]> = steps.iter().map(row).collect();
    align(HEADINGS, [true; 10], &rows)
}

fn row(step: &Step) -> [String; 10] {
    let latency = step.latency_ms;
    let latencies = latency.map(|of| [of.mean, of.p50, of.p90, of.p99, of.p99_9, of.max]);
    let [mean, p50, p90, p99, p99_9, max] = match latencies {
        Some(latencies) => latencies.map(ms),
        None => std::array::from_fn(|_| "-".to_owned()),
    };
    [
        step.connections.to_string(),
        rate(step.requests_per_second),
        rate(step.rows_per_second),
        mean,
        p50,
        p90,
        p99,
        p99_9,
        max,
        grouped(step.errors as usize),
    ]
}

/// A rate, with a decimal if that is significant.
fn rate(rate: f64) -> String {
    match rate < 100.0 {
        true => format!("{rate:.1}"),
        false => grouped(rate.round() as usize),
    }
}

/// Milliseconds with at least three significant digits.
fn ms(ms: f64) -> String {
    match ms {
        ms if ms < 10.0 => format!("{ms:.3}"),
        ms if ms < 100.0 => format!("{ms:.2}"),
        ms => format!("{ms:.1}"),
    }
}

/// What failed, a line a kind.
fn errors(steps: &[Step]) -> String {
    let mut text = String::new();
    for step in steps {
        for (kind, count) in &step.errors_by_kind {
            text.push_str(&format!(
                "{} connections: {} of {} requests {}; the first: {}\n",
                step.connections,
                grouped(*count as usize),
                grouped(step.requests as usize),
                described(kind),
                step.first_errors[kind],
            ));
        }
    }
    text
}

/// A kind of error in words.
fn described(kind: &str) -> String {
    match kind {
        "overloaded_503" => "refused for overload (503 with Retry-After)".to_owned(),
        "refused" => "found nothing listening".to_owned(),
        "unreachable" => "got no connection".to_owned(),
        "timed_out" => "timed out".to_owned(),
        "closed" => "lost their connection before the answer was whole".to_owned(),
        "malformed" => "got an answer that is none".to_owned(),
        status => format!("answered with {}", status.replace('_', " ")),
    }
}

/// The latencies of the step with the highest throughput, and a comparison of the steps.
fn plots(steps: &[Step]) -> String {
    let mut text = String::new();
    let best = steps.iter().filter(|step| !step.curve.is_empty());
    if let Some(best) = best.max_by(|a, b| a.requests_per_second.total_cmp(&b.requests_per_second))
    {
        text.push_str(&format!(
            "latency at {} in ms, by percentile\n",
            connections(best)
        ));
        let curve = best.curve.iter();
        let curve: Vec<_> = curve
            .map(|(percent, of)| (format!("p{percent}"), *of, ms(*of)))
            .collect();
        text.push_str(&bars(&curve));
    }
    if steps.len() > 1 {
        let bar =
            |step: &Step, value: f64, shown: String| (step.connections.to_string(), value, shown);
        let rows: Vec<_> = steps
            .iter()
            .map(|step| bar(step, step.rows_per_second, rate(step.rows_per_second)))
            .collect();
        text.push_str(&format!("\nrows/s by connections\n{}", bars(&rows)));
        let p99: Vec<_> = steps
            .iter()
            .filter_map(|step| step.latency_ms.map(|of| bar(step, of.p99, ms(of.p99))))
            .collect();
        text.push_str(&format!("\np99 in ms by connections\n{}", bars(&p99)));
    }
    text
}

fn connections(step: &Step) -> String {
    counted(step.connections as f64, "connection")
}

const SERVER_HEADINGS: [&str; 5] = [
    "CONNECTIONS",
    "SERVER'S CORES",
    "CPU µS/REQUEST",
    "ROWS/S A CORE",
    "ROWS A BATCH",
];

/// What the server's metrics say.
fn server(steps: &[Step]) -> String {
    let known = |number: Option<f64>, decimals: usize| match number {
        Some(number) => format!("{number:.decimals$}"),
        None => "-".to_owned(),
    };
    let rows: Vec<[String; 5]> = steps
        .iter()
        .filter_map(|step| {
            let server = step.server?;
            Some([
                step.connections.to_string(),
                format!("{:.2}", server.cpu_seconds / step.seconds),
                known(server.cpu_us_per_request, 1),
                server.rows_per_cpu_second.map_or("-".to_owned(), rate),
                known(server.rows_per_batch, 1),
            ])
        })
        .collect();
    align(SERVER_HEADINGS, [true; 5], &rows)
}

/// What follows for a deployment.
fn size(report: &Report) -> String {
    let Some(sizing) = report.sizing else {
        return match report.steps.is_empty() {
            true => String::new(),
            false => "No size follows: every step had errors, or latencies above --within-p99.\n"
                .to_owned(),
        };
    };
    let Sizing {
        connections,
        rows_per_second,
        p99_ms,
        ..
    } = sizing;
    let mut text = format!(
        "One such server carried {} rows/s at {} with a p99 of {} ms",
        rate(rows_per_second),
        counted(connections as f64, "connection"),
        ms(p99_ms),
    );
    if let Some(most) = sizing.wanted_p99_ms {
        text.push_str(&format!(", the most within {} ms", ms(most)));
    }
    text.push_str(".\n");
    if let (Some(wanted), Some(servers)) = (sizing.wanted_rows_per_second, sizing.servers) {
        text.push_str(&format!(
            "For {} rows/s that takes {} as loaded as this one; plan more for failures and for peaks.\n",
            rate(wanted),
            counted(servers as f64, "server"),
        ));
    }
    text
}

fn notes(report: &Report) -> String {
    report
        .notes
        .iter()
        .map(|note| format!("{note}\n"))
        .collect()
}
