//! What a row costs over the number of rows in a request.

use std::time::Duration;

use super::generator::{self, Target};
use super::network::{Network, infer_body, post};
use super::process::Process;
use super::targets::Targets;
use super::{BINARY, median};

const COUNTS: [usize; 5] = [1, 10, 100, 1_000, 10_000];
const ROUNDS: usize = 5;

pub(crate) fn measure(targets: &mut Targets) {
    let scratch = tempfile::tempdir().expect("a temporary directory");
    let [digits, _] = Network::all(scratch.path());
    // The defaults allow 4,096 rows a request.
    let settings = [
        "limits.max_request_rows=10000",
        "scheduler.max_queued_rows=20000",
    ];
    let process = Process::safeserve(BINARY, &digits.repository, &settings);
    println!(
        "\nrows a request, digits, one connection\n\
         | rows | body kB | p50 µs | µs a row | CPU µs a row |\n|---|---|---|---|---|"
    );
    let requests = COUNTS.map(|rows| post(&digits.path(), &infer_body("pixels", 64, rows)));
    let mut cells = COUNTS.map(|_| Vec::new());
    // They take turns; the first round warms up.
    for round in 0..=ROUNDS {
        for (request, cells) in requests.iter().zip(&mut cells) {
            let target = Target {
                address: &process.address,
                process: Some(process.id()),
                requests: std::slice::from_ref(request),
            };
            let cell = generator::run(&target, 1, Duration::from_secs(1));
            if round > 0 {
                cells.push(cell);
            }
        }
    }
    let mut each = Vec::new();
    for ((rows, request), cells) in COUNTS.into_iter().zip(&requests).zip(&cells) {
        let p50 = median(cells.iter().map(|cell| cell.p50_us).collect());
        let cpu = median(cells.iter().map(|cell| cell.cpu_us).collect());
        println!(
            "| {rows} | {:.1} | {p50:.0} | {:.2} | {:.2} |",
            request.len() as f64 / 1e3,
            p50 / rows as f64,
            cpu / rows as f64,
        );
        each.push(cpu / rows as f64);
    }
    // A busy machine lengthens long requests more than short ones; what they cost stays.
    let [.., tenth, full] = each[..] else {
        unreachable!("several counts");
    };
    targets.at_most(
        "CPU time of 10,000 rows, against 1,000",
        full,
        1.1 * tenth,
        "µs a row",
    );
}
