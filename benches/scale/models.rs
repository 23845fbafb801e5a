//! Latency and memory over the number of models that are loaded.

use std::time::{Duration, Instant};

use super::generator::{self, Target};
use super::network::{copy_model, infer_body, post};
use super::process::Process;
use super::targets::Targets;
use super::{BINARY, median, memory_bytes, samples};

const COUNTS: [usize; 5] = [1, 10, 50, 100, 200];
const ROUNDS: usize = 9;

pub(crate) fn measure(targets: &mut Targets) {
    let scratch = tempfile::tempdir().expect("a temporary directory");
    let body = infer_body("pixels", 64, 1);
    let servers = COUNTS.map(|count| {
        let repository = scratch.path().join(count.to_string());
        for index in 0..count {
            let to = repository.join(format!("digits-{index}/1"));
            copy_model(&samples().join("digits/2"), &to);
        }
        let started = Instant::now();
        let process = Process::safeserve(BINARY, &repository, &[]);
        let start = started.elapsed();
        let request = |index| post(&format!("/v2/models/digits-{index}/infer"), &body);
        let requests: Vec<Vec<u8>> = (0..count).map(request).collect();
        (process, start, requests)
    });
    let mut p50 = COUNTS.map(|_| [Vec::new(), Vec::new()]);
    // They take turns; the first round warms up.
    for round in 0..=ROUNDS {
        for ((process, _, requests), p50) in servers.iter().zip(&mut p50) {
            let last = &requests[requests.len() - 1..];
            for (requests, p50) in [last, requests].into_iter().zip(p50) {
                let target = Target {
                    address: &process.address,
                    process: Some(process.id()),
                    requests,
                };
                let cell = generator::run(&target, 1, Duration::from_millis(400));
                if round > 0 {
                    p50.push(cell.p50_us);
                }
            }
        }
    }
    println!(
        "\nmodels, copies of digits, one row a request, one connection\n\
         | models | p50 µs, one model | all in turn | start ms | resident MB |\n\
         |---|---|---|---|---|"
    );
    let p50 = p50.map(|figures| figures.map(median));
    for (((process, start, requests), p50), _) in servers.iter().zip(&p50).zip(COUNTS) {
        println!(
            "| {} | {:.1} | {:.1} | {:.0} | {:.1} |",
            requests.len(),
            p50[0],
            p50[1],
            start.as_secs_f64() * 1e3,
            memory_bytes(process.id(), "VmRSS") / 1e6,
        );
    }
    let [first, .., last] = &p50;
    targets.at_most("p50 with 200 models", last[0], 1.1 * first[0], "µs");
}
