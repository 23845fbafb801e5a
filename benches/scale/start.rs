//! What it takes until the first answer, and to load a large model.

use std::fs;
use std::path::Path;
use std::time::Instant;

use super::generator::Client;
use super::network::{infer_body, post, write_dense};
use super::process::Process;
use super::targets::Targets;
use super::{BINARY, median, memory_bytes, samples};

const STARTS: usize = 11;
const LOADS: usize = 5;
/// 87.5 million weights: 350 MB.
const LARGE: [usize; 4] = [784, 8500, 8500, 1000];

pub(crate) fn measure(targets: &mut Targets) {
    let digits = post("/v2/models/digits/infer", &infer_body("pixels", 64, 1));
    let milliseconds: Vec<f64> = (0..STARTS)
        .map(|_| first_answer(&samples(), &digits).1 * 1e3)
        .collect();
    let (least, most) = milliseconds
        .iter()
        .fold((f64::MAX, 0.0_f64), |(least, most), ms| {
            (least.min(*ms), most.max(*ms))
        });
    let middle = median(milliseconds);
    println!("\nstart with the sample models, {STARTS} times, to the first answer:");
    println!("{middle:.1} ms ({least:.1}..{most:.1})");
    targets.at_most("start to the first answer", middle, 50.0, "ms");
    large(targets);
}

/// Starts a server and sends it one request; the seconds until its answer was there.
fn first_answer(repository: &Path, request: &[u8]) -> (Process, f64) {
    let started = Instant::now();
    let process = Process::safeserve(BINARY, repository, &[]);
    Client::connect(&process.address).exchange(request);
    let seconds = started.elapsed().as_secs_f64();
    (process, seconds)
}

/// Loads a model whose file is in the page cache.
fn large(targets: &mut Targets) {
    let scratch = tempfile::tempdir().expect("a temporary directory");
    let directory = scratch.path().join("large/1");
    write_dense(&directory, &LARGE);
    let file = directory.join("model.safetensors");
    let bytes = fs::read(&file).expect("just written").len() as f64;
    let request = post(
        "/v2/models/large/infer",
        &infer_body("features", LARGE[0], 1),
    );
    println!(
        "\na model of {:.0} MB from the page cache\n\
         | loaded in s | GB/s | first answer s | peak MB | of the weights | after MB | of the weights |\n\
         |---|---|---|---|---|---|---|",
        bytes / 1e6
    );
    let (mut rates, mut peaks, mut kept) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..LOADS {
        let (process, answer) = first_answer(scratch.path(), &request);
        let loaded = loaded_in(&process.greeting).expect("the table says so");
        let peak = memory_bytes(process.id(), "VmHWM");
        let after = memory_bytes(process.id(), "VmRSS");
        println!(
            "| {loaded:.3} | {:.2} | {answer:.3} | {:.0} | {:.2} | {:.0} | {:.2} |",
            bytes / loaded / 1e9,
            peak / 1e6,
            peak / bytes,
            after / 1e6,
            after / bytes
        );
        rates.push(bytes / loaded / 1e9);
        peaks.push(peak / bytes);
        kept.push(after / 1e6);
    }
    targets.at_least("loading from the page cache", median(rates), 1.5, "GB/s");
    targets.at_most("peak while loading", median(peaks), 2.1, "x weights");
    let bound = 1.1 * bytes / 1e6 + 40.0;
    targets.at_most("resident after loading", median(kept), bound, "MB");
}

/// The last column of the table that the server prints, in seconds.
fn loaded_in(greeting: &[String]) -> Option<f64> {
    let line = greeting.iter().find(|line| line.starts_with("large"))?;
    let mut words = line.split_whitespace().rev();
    let unit = match words.next()? {
        "ms" => 1e-3,
        "s" => 1.0,
        _ => return None,
    };
    Some(words.next()?.parse::<f64>().ok()? * unit)
}
