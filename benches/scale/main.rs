//! How cost grows with connections, models and rows a request; and how long a start takes.
//!
//! `cargo bench --bench scale` starts the server as a process and prints a table for each story,
//! with the target next to the figure; names after `--` pick stories: `connections`, `models`,
//! `rows`, `start`. The load goes to 127.0.0.1 only and ends by itself. A missed target is marked
//! and the exit code is 1.

// A benchmark prints what it measured.
#![allow(clippy::print_stdout)]

mod connections;
mod models;
mod rows;
mod start;
mod targets;

// The load benchmark's own parts; this one needs some of them.
#[allow(dead_code)]
#[path = "../load/generator.rs"]
mod generator;
#[allow(dead_code)]
#[path = "../load/network.rs"]
mod network;
#[allow(dead_code)]
#[path = "../load/process.rs"]
mod process;

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use targets::Targets;

/// Measures how one cost grows, prints it, and compares it with the target.
type Story = fn(&mut Targets);

const BINARY: &str = env!("CARGO_BIN_EXE_safeserve");

fn main() -> ExitCode {
    let names: Vec<String> = std::env::args()
        .skip(1)
        // Cargo passes it to every benchmark.
        .filter(|argument| argument != "--bench")
        .collect();
    let stories: [(&str, Story); 4] = [
        ("connections", connections::measure),
        ("models", models::measure),
        ("rows", rows::measure),
        ("start", start::measure),
    ];
    for name in &names {
        let is_known = stories.iter().any(|(story, _)| story == name);
        assert!(is_known, "no story is named {name}");
    }
    println!("{}", process::cpu_name());
    let mut targets = Targets::default();
    for (name, measure) in stories {
        if names.is_empty() || names.iter().any(|wanted| wanted == name) {
            measure(&mut targets);
        }
    }
    targets.print();
    ExitCode::from(u8::from(targets.is_any_missed()))
}

/// The directory of the sample models.
fn samples() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("models")
}

fn median(mut figures: Vec<f64>) -> f64 {
    figures.sort_by(f64::total_cmp);
    let last = figures.len() - 1;
    (figures[last / 2] + figures[last.div_ceil(2)]) / 2.0
}

/// A size in `/proc/<id>/status`, such as `VmRSS`, in bytes.
fn memory_bytes(process: u32, field: &str) -> f64 {
    let text = std::fs::read_to_string(format!("/proc/{process}/status")).expect("it runs");
    let line = text
        .lines()
        .find_map(|line| line.strip_prefix(field)?.strip_prefix(':'));
    let kibibytes = line
        .expect("the field exists")
        .trim()
        .trim_end_matches(" kB");
    kibibytes.parse::<f64>().expect("the kernel's format") * 1024.0
}
