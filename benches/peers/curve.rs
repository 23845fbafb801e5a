//! The engine's forward pass over the rows of a batch, with one thread and with two, as JSON.
//!
//! `cargo bench --bench curve -- DIRECTORY ROWS,ROWS` loads the model in the directory, of one
//! input, and prints `{"1": {"8": [median, least], ...}, "2": ...}`: by threads, then by rows, in
//! microseconds. `benches/peers/run` measures other engines in the same way and draws both.

// A benchmark prints what it measured.
#![allow(clippy::print_stdout)]

use std::collections::BTreeMap;
use std::hint::black_box;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use safeserve::engine::kernels::Team;
use safeserve::engine::{Batch, Engine, Workspace};
use safeserve::model::Model;
use safeserve::tensor::View;

/// How long each batch size is measured, after a warm-up of a fifth of this time.
const LENGTH: Duration = Duration::from_millis(500);

fn main() {
    // Cargo passes its own flag to every benchmark.
    let mut arguments = std::env::args().skip(1).filter(|a| a != "--bench");
    let (Some(directory), Some(rows)) = (arguments.next(), arguments.next()) else {
        println!("usage: cargo bench --bench curve -- DIRECTORY ROWS,ROWS");
        return;
    };
    let rows: Vec<usize> = rows
        .split(',')
        .map(|rows| rows.parse().expect("a number of rows"))
        .collect();
    let model = Model::load("model", 1, Path::new(&directory)).expect("the model loads");
    let engine = &*model.engine;
    let mut results = BTreeMap::new();
    results.insert(1, over(&rows, engine, None));
    let (team, is_over) = (Team::new(), AtomicBool::new(false));
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !is_over.load(Ordering::Relaxed) {
                team.help(|| true);
                std::hint::spin_loop();
            }
        });
        results.insert(2, over(&rows, engine, Some(&team)));
        is_over.store(true, Ordering::Relaxed);
    });
    println!("{}", serde_json::to_string(&results).expect("plain maps"));
}

/// The median and the least time of a pass, in microseconds, by rows.
fn over(rows: &[usize], engine: &Engine, team: Option<&Team>) -> BTreeMap<usize, [f64; 2]> {
    let mut workspace = Workspace::new();
    let columns = engine.inputs()[0].shape.elements();
    let mut each = BTreeMap::new();
    for &rows in rows {
        let x: Vec<f32> = (0..rows * columns)
            .map(|index| (index * 37 % 101) as f32 / 6.3125)
            .collect();
        let input = [View::F32(&x)];
        let batch = Batch::of_rows(rows, &input);
        let mut run = || {
            let started = Instant::now();
            match team {
                // As the scheduler does: a pass is shared only if that pays.
                Some(team) if engine.pays_to_share(rows, rows) => {
                    team.open();
                    let outputs = engine.run(batch, &mut workspace, Some(team));
                    black_box(outputs.get(0));
                    team.close();
                }
                _ => {
                    black_box(engine.run(batch, &mut workspace, None).get(0));
                }
            }
            started.elapsed().as_secs_f64() * 1e6
        };
        let mut times = Vec::new();
        for length in [LENGTH / 5, LENGTH] {
            times.clear();
            let started = Instant::now();
            while started.elapsed() < length {
                times.push(run());
            }
        }
        times.sort_by(f64::total_cmp);
        each.insert(rows, [times[times.len() / 2], times[0]]);
    }
    each
}
