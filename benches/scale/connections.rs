//! Memory a connection, and speed, over the number of connections.

use std::time::Duration;

use super::generator::{self, Client, Target};
use super::network::{Network, post};
use super::process::Process;
use super::targets::Targets;
use super::{BINARY, memory_bytes};

const COUNTS: [usize; 6] = [1, 16, 64, 256, 1024, 4096];

pub(crate) fn measure(targets: &mut Targets) {
    let scratch = tempfile::tempdir().expect("a temporary directory");
    let [digits, _] = Network::all(scratch.path());
    let request = post(&digits.path(), &digits.body());
    println!(
        "\nconnections, digits, one row a request: idle after one request each, then all loaded\n\
         | connections | resident MB | bytes a connection, idle | loaded | requests/s | p50 µs | p99 µs |\n\
         |---|---|---|---|---|---|---|"
    );
    let mut each = Vec::new();
    for count in COUNTS {
        let process = start(&digits, &request);
        let before = memory_bytes(process.id(), "VmRSS");
        let clients: Vec<Client> = (0..count)
            .map(|_| {
                let mut client = Client::connect(&process.address);
                client.exchange(&request);
                client
            })
            .collect();
        let resident = memory_bytes(process.id(), "VmRSS");
        let idle = (resident - before) / count as f64;
        drop(clients);
        // A new process, since a server may not have noticed yet that connections were closed.
        let process = start(&digits, &request);
        let before = memory_bytes(process.id(), "VmRSS");
        let target = Target {
            address: &process.address,
            process: Some(process.id()),
            requests: std::slice::from_ref(&request),
        };
        let cell = generator::run(&target, count, Duration::from_secs(2));
        let loaded = (memory_bytes(process.id(), "VmHWM") - before) / count as f64;
        println!(
            "| {count} | {:.1} | {idle:.0} | {loaded:.0} | {:.0} | {:.0} | {:.0} |",
            resident / 1e6,
            cell.requests_per_second,
            cell.p50_us,
            cell.p99_us,
        );
        each.push((idle, loaded));
    }
    // Below 256 connections a page more or less hides what a connection takes.
    let [.., quarter, full] = each[..] else {
        unreachable!("several counts");
    };
    let bytes = "bytes a connection";
    targets.at_most(
        "memory of 4,096 idle connections",
        full.0,
        1.1 * quarter.0,
        bytes,
    );
    targets.at_most("the same under load", full.1, 1.1 * quarter.1, bytes);
}

/// A server whose threads have made their first passes: what those allocate is not the
/// connections'.
fn start(network: &Network, request: &[u8]) -> Process {
    // The default is the largest count here, and one that was closed may still be counted.
    // On a busy machine it takes longer than the default allows until all are open and send.
    let settings = [
        "limits.max_connections=8192",
        "limits.header_timeout_ms=60000",
    ];
    let process = Process::safeserve(BINARY, &network.repository, &settings);
    for _ in 0..64 {
        let mut client = Client::connect(&process.address);
        for _ in 0..16 {
            client.exchange(request);
        }
    }
    process
}
