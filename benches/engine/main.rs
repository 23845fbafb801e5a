//! The engine's forward passes against what the machine allows and against ndarray's `dot`.
//!
//! `cargo bench --bench engine` measures every network at 1, 8, 32, 128 and 256 rows on one thread
//! and prints, after criterion's own lines, one table: the fastest sample of each as microseconds,
//! rows/s and GFLOP/s; the machine's limit, measured in the same run, and the share of it that was
//! reached; the same share in `benches/engine/baseline.toml`; and the speed-up over the same layers
//! in `ndarray`. A second table shows passes that two threads share, a third what bf16 weights save.
//!
//! The exit code is 1 if a network lost more than 10 % against a baseline of the same model of CPU.
//! With `SAFESERVE_BENCH_SAVE=1` the baseline is rewritten.

// A benchmark prints what it measured.
#![allow(clippy::print_stdout)]

mod baseline;
mod limits;
mod network;

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::hint::black_box;
use std::process::ExitCode;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use criterion::{BenchmarkId, Criterion, Throughput};
use half::bf16;
use ndarray::Array2;
use safeserve::engine::kernels::{Isa, Team};
use safeserve::engine::{Batch, Workspace};
use safeserve::tensor::View;

use baseline::Baseline;
use limits::Limits;
use network::{Network, Reference, Stored, dense, sample};

/// The widths of the network whose weights are the most of its time at one row.
const LARGE: &[usize] = &[784, 2048, 2048, 1000];

/// The widths of a network whose weights are in the L2 cache all the time.
const SMALL: &[usize] = &[64, 256, 128, 10];

/// The batches of the published table.
const ROWS: [usize; 5] = [1, 8, 32, 128, 256];

/// What criterion's samples gave for one network and one number of rows.
struct Line {
    rows: usize,
    ours: Duration,
    ndarray: Duration,
}

/// The fastest time of one run that criterion's samples saw.
fn fastest(run: &mut dyn FnMut(), iterations: u64, best: &RefCell<Duration>) -> Duration {
    let started = Instant::now();
    for _ in 0..iterations {
        run();
    }
    let elapsed = started.elapsed();
    let each = elapsed.div_f64(iterations as f64);
    let mut best = best.borrow_mut();
    *best = each.min(*best);
    elapsed
}

fn main() -> ExitCode {
    let networks = [
        sample("hello-keras", "", &[3, 10, 10, 1]),
        sample("iris", "1", &[4, 16, 3]),
        sample("breast-cancer", "1", &[30, 16, 8, 1]),
        sample("diabetes", "1", &[10, 32, 16, 1]),
        sample("digits", "2", &[64, 256, 128, 10]),
        dense("784-2048-2048-1000", LARGE, Stored::F32),
        dense("784-2048-2048-1000 bf16", LARGE, Stored::Bf16),
    ];
    let mut criterion = Criterion::default()
        .warm_up_time(Duration::from_millis(200))
        .measurement_time(Duration::from_secs(1))
        .sample_size(20)
        .without_plots()
        .configure_from_args();
    let mut limits = Limits::new(Isa::detect());
    let mut lines: BTreeMap<usize, Vec<Line>> = BTreeMap::new();
    for (position, network) in networks.iter().enumerate() {
        for rows in ROWS {
            if let Some(line) = measure(&mut criterion, network, rows) {
                limits.measure(network);
                lines.entry(position).or_default().push(line);
            }
        }
    }
    criterion.final_summary();
    if lines.is_empty() {
        return ExitCode::SUCCESS; // Another benchmark's name was asked for.
    }

    println!(
        "\nkernels: {}; limits of one thread: {:.0} GFLOP/s, {:.2} ns a multiply-add",
        Isa::detect().name(),
        limits.flops_a_second / 1e9,
        limits.latency * 1e9,
    );
    let committed = Baseline::committed();
    let is_same_cpu = committed.introduce();
    let mut now = Baseline::here();
    let mut is_lost = false;
    println!(
        "\n| network | rows | µs | rows/s | GFLOP/s | limit µs | of the limit | baseline | \
         ndarray µs | times ndarray |"
    );
    println!("|---|---|---|---|---|---|---|---|---|---|");
    for (&position, lines) in &lines {
        let network = &networks[position];
        for line in lines {
            let limit = limits.of(network, line.rows);
            let ratio = limit.as_secs_f64() / line.ours.as_secs_f64();
            let name = format!("{} {}", network.name, line.rows);
            let mark = if committed.is_lost(&name, ratio) {
                is_lost = true;
                " LOST"
            } else {
                ""
            };
            now.set(&name, ratio);
            let before = committed.get(&name);
            let before = before.map_or("-".to_owned(), |before| format!("{before:.2}{mark}"));
            println!("{}", row(network, line, limit, ratio, &before));
        }
    }
    for (&position, lines) in &lines {
        let network = &networks[position];
        println!(
            "weights of {} read at {:.0} GB/s",
            network.name,
            limits.bytes_a_second(network) / 1e9
        );
        if network.engine.pays_to_share(1, 1) {
            share(network, lines);
        }
    }
    if lines
        .keys()
        .any(|&position| networks[position].bytes_a_weight == size_of::<bf16>())
    {
        compare();
    }
    now.save_if_asked();
    if is_lost && is_same_cpu {
        println!("\nlost more than 10 % against benches/engine/baseline.toml: see LOST above");
        return ExitCode::FAILURE;
    }
    ExitCode::SUCCESS
}

/// Measures one cell, unless the command line leaves it out.
fn measure(criterion: &mut Criterion, network: &Network, rows: usize) -> Option<Line> {
    let reference = Reference::new(network.widths);
    let x = input(network, rows);
    let input = [View::F32(x.as_slice().expect("row-major"))];
    let batch = Batch::of_rows(rows, &input);
    let mut workspace = Workspace::new();
    let mut group = criterion.benchmark_group(network.name);
    group.throughput(Throughput::Elements(rows as u64));
    let [ours, theirs] = [(); 2].map(|()| RefCell::new(Duration::MAX));
    group.bench_function(BenchmarkId::new("safeserve", rows), |bencher| {
        bencher.iter_custom(|iterations| {
            let mut run = || {
                black_box(network.engine.run(batch, &mut workspace, None).get(0));
            };
            fastest(&mut run, iterations, &ours)
        });
    });
    group.bench_function(BenchmarkId::new("ndarray", rows), |bencher| {
        bencher.iter_custom(|iterations| {
            let mut run = || {
                black_box(reference.run(black_box(&x)));
            };
            fastest(&mut run, iterations, &theirs)
        });
    });
    group.finish();
    let (ours, ndarray) = (ours.into_inner(), theirs.into_inner());
    (ours != Duration::MAX && ndarray != Duration::MAX).then_some(Line {
        rows,
        ours,
        ndarray,
    })
}

fn input(network: &Network, rows: usize) -> Array2<f32> {
    Array2::from_shape_fn((rows, network.widths[0]), |(i, j)| {
        ((i * 31 + j) % 17) as f32 / 8.5 - 1.0
    })
}

fn micros(time: Duration) -> f64 {
    time.as_secs_f64() * 1e6
}

fn row(network: &Network, line: &Line, limit: Duration, ratio: f64, before: &str) -> String {
    let flops = network.flops_per_row() as f64 * line.rows as f64;
    let seconds = line.ours.as_secs_f64();
    format!(
        "| {} | {} | {:.2} | {:.0} | {:.1} | {:.2} | {ratio:.2} | {before} | {:.2} | {:.1} |",
        network.name,
        line.rows,
        micros(line.ours),
        line.rows as f64 / seconds,
        flops / seconds / 1e9,
        micros(limit),
        micros(line.ndarray),
        line.ndarray.as_secs_f64() / seconds,
    )
}

/// Prints what a helper saves; passes with and without one take turns.
fn share(network: &Network, lines: &[Line]) {
    const TURNS: usize = 40;
    println!("\n| network | rows | one thread, µs | two threads, µs | times |");
    println!("|---|---|---|---|---|");
    for line in lines {
        let rows = line.rows;
        let x = input(network, rows);
        let input = [View::F32(x.as_slice().expect("row-major"))];
        let batch = Batch::of_rows(rows, &input);
        let mut workspace = Workspace::new();
        let team = Team::new();
        let is_over = AtomicBool::new(false);
        let mut best = [Duration::MAX; 2];
        thread::scope(|scope| {
            scope.spawn(|| {
                while !is_over.load(Ordering::Relaxed) {
                    team.help(|| true);
                    std::hint::spin_loop();
                }
            });
            for _ in 0..TURNS {
                let started = Instant::now();
                black_box(network.engine.run(batch, &mut workspace, None).get(0));
                best[0] = best[0].min(started.elapsed());
                team.open();
                let started = Instant::now();
                let outputs = network.engine.run(batch, &mut workspace, Some(&team));
                black_box(outputs.get(0));
                best[1] = best[1].min(started.elapsed());
                team.close();
            }
            is_over.store(true, Ordering::Relaxed);
        });
        println!(
            "| {} | {rows} | {:.1} | {:.1} | {:.2} |",
            network.name,
            micros(best[0]),
            micros(best[1]),
            best[0].as_secs_f64() / best[1].as_secs_f64(),
        );
    }
}

/// Prints what weights of bf16 save, the same layers in either datatype taking turns.
fn compare() {
    const TURNS: usize = 40;
    println!("\n| network | rows | f32, µs | bf16, µs | of the time |");
    println!("|---|---|---|---|---|");
    for (name, widths, repeats) in [
        ("64-256-128-10", SMALL, 100),
        ("784-2048-2048-1000", LARGE, 1),
    ] {
        let networks = [Stored::F32, Stored::Bf16].map(|stored| dense(name, widths, stored));
        for rows in ROWS {
            let x = input(&networks[0], rows);
            let input = [View::F32(x.as_slice().expect("row-major"))];
            let batch = Batch::of_rows(rows, &input);
            let mut workspace = Workspace::new();
            let mut best = [Duration::MAX; 2];
            for _ in 0..TURNS {
                for (network, best) in networks.iter().zip(&mut best) {
                    // The first run fetches the weights that the other network's evicted.
                    for _ in 0..3 {
                        let started = Instant::now();
                        for _ in 0..repeats {
                            black_box(network.engine.run(batch, &mut workspace, None).get(0));
                        }
                        *best = (started.elapsed() / repeats).min(*best);
                    }
                }
            }
            println!(
                "| {name} | {rows} | {:.1} | {:.1} | {:.2} |",
                micros(best[0]),
                micros(best[1]),
                best[1].as_secs_f64() / best[0].as_secs_f64(),
            );
        }
    }
}
