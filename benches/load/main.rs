//! Requests per second over HTTP, next to bare axum handlers.
//!
//! `cargo bench --bench load` starts the server and two bare axum handlers as processes of their
//! own and sends each the same Open Inference Protocol bodies over 1, 16, 64 and 256 connections,
//! one row a request, in rounds that take turns; it prints medians with the least and the most of
//! the rounds, ratios taken round by round. The handlers are what a server could reach at best:
//! `constant` answers without looking at the body, `parsing` reads it with `serde_json` into
//! `Vec<f32>` first; both answer with as many bytes as the model does.
//!
//! The ratios are compared with `baseline.toml`: a cell that lost more than a tenth of its requests/s,
//! or takes more than a tenth more CPU time, is measured once more with as many rounds; if that
//! stays, it is marked and the exit code is 1. On another processor than the baseline's cells are
//! only marked. The load goes to 127.0.0.1 or to
//! where `--against` says, and ends by itself.
//!
//! Options, after `--`:
//!
//! | option | |
//! |---|---|
//! | `NAME` | only the network `digits` or `large` |
//! | `--seconds N` | the time of one cell of one round (1) |
//! | `--rounds N` | how often each cell is measured (5), after one round that warms up |
//! | `--connections N,N` | the numbers of connections (1,16,64,256) |
//! | `--build FILE` | another build of the server, with this one |
//! | `--against NAME=http://ADDRESS[/PATH][,body=FILE][,process=ID]` | a server that runs already, with its own path and body, else safeserve's; with its process its CPU time is measured, descendants counted |
//! | `--json FILE` | writes the results |
//! | `--baseline FILE` | other ratios than `benches/load/baseline.toml` |
//! | `--save-baseline` | writes this run's ratios there |
//! | `--write-networks DIR` | writes the networks for others to load, and ends |

// A benchmark prints what it measured.
#![allow(clippy::print_stdout)]

mod bare;
mod baseline;
mod generator;
mod network;
mod options;
mod process;
mod report;

use std::path::Path;
use std::process::{Command, ExitCode};
use std::time::Duration;

use baseline::Baseline;
use generator::{Cell, Client, Target};
use network::{Network, post};
use options::Options;
use process::Process;
use report::{NetworkReport, Report, Row};

/// What this build of the server is called in the results.
const SAFESERVE: &str = "safeserve";

fn main() -> ExitCode {
    // The bare handlers are this program again, in processes of their own.
    if let Some(kind) = std::env::var_os("SAFESERVE_BENCH_BARE") {
        bare::serve(kind.to_str().expect("set by this program"));
        return ExitCode::SUCCESS;
    }
    let options = Options::parse(std::env::args().skip(1));
    if let Some(directory) = &options.write_networks {
        Network::all(directory);
        return ExitCode::SUCCESS;
    }
    let baseline = Baseline::read(&options.baseline);
    let mut report = Report {
        cpu: process::cpu_name(),
        seconds: options.seconds,
        networks: Vec::new(),
    };
    println!("{}", report.cpu);
    let mut lost = 0;
    let directory = tempfile::tempdir().expect("a temporary directory");
    for network in Network::all(directory.path()) {
        if options.networks.is_empty() || options.networks.iter().any(|name| name == network.name) {
            let (measured, below) = measure(&network, &options, baseline.as_ref());
            report.networks.push(measured);
            lost += below;
        }
    }
    if let Some(file) = &options.json {
        let text = serde_json::to_string_pretty(&report).expect("plain structs");
        std::fs::write(file, text).expect("the results can be written");
    }
    if options.save_baseline {
        Baseline::save(baseline, &report, SAFESERVE, &options.baseline);
        return ExitCode::SUCCESS;
    }
    verdict(lost, baseline.as_ref(), &report.cpu)
}

/// Says how the run compares with the baseline.
fn verdict(lost: usize, baseline: Option<&Baseline>, cpu: &str) -> ExitCode {
    let Some(baseline) = baseline else {
        println!("\nno baseline: --save-baseline writes one");
        return ExitCode::SUCCESS;
    };
    println!("\n{lost} cells lost more than a tenth against the baseline");
    if baseline.cpu() != cpu {
        println!("which was taken on another processor: {}", baseline.cpu());
        return ExitCode::SUCCESS;
    }
    ExitCode::from(u8::from(lost > 0))
}

/// A server under load and what it is sent.
struct Contender {
    name: String,
    address: String,
    process: Option<u32>,
    requests: [Vec<u8>; 1],
    /// Servers that someone else started are not ended.
    _process: Option<Process>,
}

impl Contender {
    fn own(name: String, process: Process, request: &[u8]) -> Self {
        Self {
            name,
            address: process.address.clone(),
            process: Some(process.id()),
            requests: [request.to_vec()],
            _process: Some(process),
        }
    }
}

/// The bare handlers, this build, other builds, other servers; the parsing handler comes first.
fn contenders(network: &Network, options: &Options) -> (Vec<Contender>, usize) {
    let body = network.body();
    let request = post(&network.path(), &body);
    let start = |binary: &str| Process::safeserve(binary, &network.repository, &[]);
    let ours = start(env!("CARGO_BIN_EXE_safeserve"));
    let answer_bytes = Client::connect(&ours.address).exchange(&request);
    let mut contenders: Vec<Contender> = ["parsing", "constant"]
        .map(|kind| Contender::own(kind.to_owned(), bare(kind, answer_bytes), &request))
        .into();
    contenders.push(Contender::own(SAFESERVE.to_owned(), ours, &request));
    for build in &options.builds {
        let path = Path::new(build);
        let name = path.strip_prefix(env!("CARGO_MANIFEST_DIR"));
        let name = name.unwrap_or(path).display().to_string();
        contenders.push(Contender::own(name, start(build), &request));
    }
    for peer in &options.peers {
        let path = peer.path.clone().unwrap_or_else(|| network.path());
        contenders.push(Contender {
            name: peer.name.clone(),
            address: peer.address.clone(),
            process: peer.process,
            requests: [post(&path, peer.body.as_deref().unwrap_or(&body))],
            _process: None,
        });
    }
    (contenders, answer_bytes)
}

/// Starts a bare handler.
fn bare(kind: &str, answer_bytes: usize) -> Process {
    let mut command = Command::new(std::env::current_exe().expect("this program has a path"));
    command
        .env("SAFESERVE_BENCH_BARE", kind)
        .env("SAFESERVE_BENCH_BYTES", answer_bytes.to_string());
    Process::start(command)
}

/// Measures one network's server and handlers in turns and prints a table; also returns how many
/// cells lost against the baseline.
fn measure(
    network: &Network,
    options: &Options,
    baseline: Option<&Baseline>,
) -> (NetworkReport, usize) {
    let (contenders, answer_bytes) = contenders(network, options);
    let mut report = NetworkReport {
        name: network.name.to_owned(),
        request_bytes: contenders[0].requests[0].len(),
        answer_bytes,
        rows: Vec::new(),
    };
    println!(
        "\n{}: {} bytes a request, {answer_bytes} bytes an answer, {} rounds of {} s\n{}",
        report.name,
        report.request_bytes,
        options.rounds,
        options.seconds,
        Row::HEADINGS
    );
    let mut lost = 0;
    for &connections in &options.connections {
        let loss = |row: &Row| {
            let baseline = baseline.filter(|_| row.server == SAFESERVE)?;
            baseline.loss(network.name, row)
        };
        let mut cells = vec![Vec::new(); contenders.len()];
        // The first round warms every process up.
        rounds(&contenders, connections, 1, options.seconds);
        let mut rows = Vec::new();
        for is_last in [false, true] {
            let new = rounds(&contenders, connections, options.rounds, options.seconds);
            for (cells, new) in cells.iter_mut().zip(new) {
                cells.extend(new);
            }
            rows = contenders
                .iter()
                .zip(&cells)
                .map(|(server, own)| Row::new(connections, &server.name, own, &cells[0]))
                .collect();
            if rows.iter().all(|row| loss(row).is_none()) {
                break;
            }
            lost += usize::from(is_last);
        }
        for row in &rows {
            match loss(row) {
                Some(loss) => println!("{row} LOST: {loss}"),
                None => println!("{row}"),
            }
        }
        report.rows.append(&mut rows);
    }
    (report, lost)
}

/// Loads each server in turn, `rounds` times; the cells by server.
fn rounds(
    contenders: &[Contender],
    connections: usize,
    rounds: usize,
    seconds: f64,
) -> Vec<Vec<Cell>> {
    let mut cells = vec![Vec::new(); contenders.len()];
    for _ in 0..rounds {
        for (server, cells) in contenders.iter().zip(&mut cells) {
            let target = Target {
                address: &server.address,
                process: server.process,
                requests: &server.requests,
            };
            cells.push(generator::run(
                &target,
                connections,
                Duration::from_secs_f64(seconds),
            ));
        }
    }
    cells
}
