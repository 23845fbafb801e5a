//! Requests per second over HTTP, beside bare axum handlers.
//!
//! `cargo bench --bench load` starts the server and two bare axum handlers as processes of their
//! own and sends each the same Open Inference Protocol bodies over 1, 16, 64 and 256 connections,
//! one row a request, in rounds that take turns; it prints medians. The handlers are what a server
//! could reach at best: `constant` answers without looking at the body, `parsing` reads it with
//! `serde_json` into `Vec<f32>` first; both answer with as many bytes as the model does.
//!
//! `--seconds N` sets the time of one cell of one round (default 1), `--rounds N` their number
//! (default 3), `--connections N,N,...` the columns, a name picks one network. The load goes to
//! 127.0.0.1 only and ends by itself.

// A benchmark prints what it measured.
#![allow(clippy::print_stdout)]

mod bare;
mod generator;
mod network;

use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use generator::{Cell, Target};
use network::Network;

fn main() {
    let mut arguments = std::env::args().skip(1);
    // The bare handlers are this program again, in processes of their own.
    if let Some(kind) = std::env::var_os("SAFESERVE_BENCH_BARE") {
        return bare::serve(kind.to_str().expect("set by this program"));
    }
    let mut options = Options::default();
    while let Some(argument) = arguments.next() {
        let mut value = || arguments.next().expect("the option has a value");
        match argument.as_str() {
            // Cargo passes it to every benchmark.
            "--bench" => {}
            "--seconds" => options.seconds = value().parse().expect("a number of seconds"),
            "--build" => options.builds.push(value()),
            "--rounds" => options.rounds = value().parse().expect("a number of rounds"),
            "--connections" => {
                let list = value();
                let numbers = list.split(',').map(|n| n.parse().expect("a number"));
                options.connections = numbers.collect();
            }
            name => options.network = Some(name.to_owned()),
        }
    }
    let directory = tempfile::tempdir().expect("a temporary directory");
    for network in Network::all(directory.path()) {
        if options
            .network
            .as_ref()
            .is_none_or(|name| *name == network.name)
        {
            measure(&network, &options);
        }
    }
}

struct Options {
    seconds: f64,
    rounds: usize,
    connections: Vec<usize>,
    network: Option<String>,
    /// Other builds of the server, to measure beside this one.
    builds: Vec<String>,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            seconds: 1.0,
            rounds: 3,
            connections: vec![1, 16, 64, 256],
            network: None,
            builds: Vec::new(),
        }
    }
}

/// Measures one network's server and handlers in turns and prints a table.
fn measure(network: &Network, options: &Options) {
    let server = Process::server(network, env!("CARGO_BIN_EXE_safeserve"));
    let request = network.request();
    let answer_bytes = generator::answer_bytes(&server.address, &request);
    let mut processes = vec![
        Process::bare("parsing", answer_bytes),
        Process::bare("constant", answer_bytes),
        server,
    ];
    processes.extend(
        options
            .builds
            .iter()
            .map(|build| Process::server(network, build)),
    );
    println!(
        "\n{}: {} bytes a request, {answer_bytes} bytes an answer, {} rounds of {} s",
        network.name,
        request.len(),
        options.rounds,
        options.seconds
    );
    println!(
        "| connections | server | requests/s | of parsing | p50 µs | p99 µs | CPU µs a request |"
    );
    println!("|---|---|---|---|---|---|---|");
    for &connections in &options.connections {
        let mut cells = vec![Vec::new(); processes.len()];
        // One round more than asked for: the first warms every process up.
        for round in 0..=options.rounds {
            for (process, cells) in processes.iter().zip(&mut cells) {
                let target = Target {
                    address: &process.address,
                    process: process.child.id(),
                    request: &request,
                };
                let length = Duration::from_secs_f64(options.seconds);
                let cell = generator::run(&target, connections, length);
                if round > 0 {
                    cells.push(cell);
                }
            }
        }
        let medians: Vec<Cell> = cells.iter().map(|cells| Cell::median(cells)).collect();
        let parsing = medians[0].requests_per_second;
        for (process, cell) in processes.iter().zip(medians) {
            println!(
                "| {connections} | {} | {:.0} | {:.2} | {:.0} | {:.0} | {:.1} |",
                process.name,
                cell.requests_per_second,
                cell.requests_per_second / parsing,
                cell.p50_us,
                cell.p99_us,
                cell.cpu_us,
            );
        }
    }
}

/// A server under load, ended with its value.
struct Process {
    name: &'static str,
    child: Child,
    address: String,
}

impl Process {
    fn server(network: &Network, binary: &str) -> Self {
        let mut command = Command::new(binary);
        command
            .args(["serve", "--bind", "127.0.0.1:0", "--models"])
            .arg(&network.repository);
        Self::start("safeserve", command)
    }

    fn bare(kind: &'static str, answer_bytes: usize) -> Self {
        let mut command = Command::new(std::env::current_exe().expect("this program has a path"));
        command
            .env("SAFESERVE_BENCH_BARE", kind)
            .env("SAFESERVE_BENCH_BYTES", answer_bytes.to_string());
        Self::start(kind, command)
    }

    /// Starts a process and waits for the line in which it says where it listens.
    fn start(name: &'static str, mut command: Command) -> Self {
        let mut child = command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .expect("the process starts");
        let output = BufReader::new(child.stdout.take().expect("piped"));
        let mut lines = output.lines().map(|line| line.expect("text"));
        let address = lines
            .by_ref()
            .find_map(|line| {
                let (_, address) = line.split_once("http://")?;
                let end = address.find(|c: char| !c.is_ascii_digit() && c != '.' && c != ':');
                Some(address[..end.unwrap_or(address.len())].to_owned())
            })
            .expect("the process says where it listens");
        // Keeps the pipe open and empty, so that the process never waits on it.
        std::thread::spawn(move || lines.for_each(drop));
        Self {
            name,
            child,
            address,
        }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // It is gone already if it failed; there is nothing to end then.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
