//! Reading and writing JSON numbers, next to `serde_json`.
//!
//! `cargo bench --bench json` prints nanoseconds a number, the fastest of many rounds in which the
//! two take turns. Each round reads other numbers, some 100,000 before any repeats: the branch
//! predictor would learn a body that repeats, and servers do not get such bodies. Both do
//! the same work: from a body's bytes, whose encoding is checked, to one
//! `Vec<f32>` (for nested rows, `serde_json` gives one a row), and from `f32`s into a buffer that is
//! reused.

// A benchmark prints what it measured.
#![allow(clippy::print_stdout)]

use std::fmt::Write as _;
use std::hint::black_box;
use std::time::{Duration, Instant};

use safeserve::json::{Reader, Writer};

/// How often the two take turns.
const ROUNDS: usize = 60;

/// How many numbers one timing is over, at least, all different.
const NUMBERS_A_TIMING: usize = 100_000;

fn main() {
    println!("| read | numbers | ns | serde_json ns | ratio |");
    println!("|---|---|---|---|---|");
    for (name, text) in TEXTS {
        for count in [64, 784] {
            let bodies = bodies(count, |first| {
                let numbers: Vec<String> = (first..first + count)
                    .map(|index| text(sample(index)))
                    .collect();
                format!("[{}]", numbers.join(","))
            });
            let [ours, theirs] = fastest(
                count,
                &bodies,
                |body| read(body, count),
                |body| {
                    let numbers: Vec<f32> =
                        serde_json::from_slice(body.as_bytes()).expect("numbers");
                    black_box(numbers);
                },
            );
            print(name, count, ours, theirs);
        }
    }
    let count = 32 * 64;
    let nested = bodies(count, |first| {
        let rows: Vec<String> = (0..32)
            .map(|row| {
                let first = first + 64 * row;
                let numbers: Vec<String> = (first..first + 64)
                    .map(|index| format!("{:.4}", sample(index) * 16.0))
                    .collect();
                format!("[{}]", numbers.join(", "))
            })
            .collect();
        format!("[{}]", rows.join(", "))
    });
    let [ours, theirs] = fastest(
        count,
        &nested,
        |body| read(body, count),
        |body| {
            let rows: Vec<Vec<f32>> = serde_json::from_slice(body.as_bytes()).expect("rows");
            black_box(rows);
        },
    );
    print("4 decimals, 32 rows", count, ours, theirs);

    println!("\n| write | numbers | ns | serde_json ns | ratio |");
    println!("|---|---|---|---|---|");
    for (name, value) in VALUES {
        for count in [1, 10, 1000] {
            let answers = bodies(count, |first| {
                let values = (first..first + count).map(|index| value(index) as f32);
                values.collect::<Vec<f32>>()
            });
            let mut buffer = Vec::new();
            let mut writer = Writer::default();
            let [ours, theirs] = fastest(
                count,
                &answers,
                |values| {
                    writer.clear();
                    writer.f32s(values);
                    black_box(&writer);
                },
                |values| {
                    buffer.clear();
                    serde_json::to_writer(&mut buffer, values).expect("it is memory");
                    black_box(&buffer);
                },
            );
            print(name, count, ours, theirs);
        }
    }
}

/// A named way to write a value, or to make one.
type Kind<V, R> = (&'static str, fn(V) -> R);

/// How clients write a number.
const TEXTS: [Kind<f64, String>; 5] = [
    ("4 decimals", |value| format!("{:.4}", value * 16.0)),
    ("Python's repr", |value| format!("{value:?}")),
    ("shortest f32", |value| format!("{:?}", value as f32)),
    ("integers", |value| format!("{:.0}", (value * 255.0).abs())),
    ("exponents", |value| format!("{:.6e}", value * 1e-3)),
];

/// What networks answer.
const VALUES: [Kind<usize, f64>; 3] = [
    ("probabilities", |index| sample(index).abs().powi(4) / 3.0),
    ("regression", |index| 200.0 * sample(index)),
    ("any bits", |index| {
        Some(f32::from_bits(random(index) as u32))
            .filter(|v| v.is_finite())
            .unwrap_or(1.5)
            .into()
    }),
];

/// A number between -1 and 1 with all its digits, without a pattern that a processor could learn.
fn sample(index: usize) -> f64 {
    random(index) as f64 / u64::MAX as f64 * 2.0 - 1.0
}

/// Source: SplitMix64, G. L. Steele et al. 2014.
fn random(index: usize) -> u64 {
    let mut mixed = (index as u64 + 1).wrapping_mul(0x9E37_79B9_7F4A_7C15);
    mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    mixed ^ (mixed >> 31)
}

fn read(text: &str, count: usize) {
    let mut values: Vec<f32> = Vec::with_capacity(count);
    let mut reader = Reader::new(text.as_bytes()).expect("UTF-8");
    reader.nested(&mut values, count).expect("numbers");
    reader.end().expect("nothing after");
    assert_eq!(values.len(), count);
    black_box(values);
}

/// As many bodies of `count` numbers as one timing is over; `make` gets the index of a body's first
/// number.
fn bodies<B>(count: usize, make: impl Fn(usize) -> B) -> Vec<B> {
    let bodies = NUMBERS_A_TIMING.div_ceil(count);
    (0..bodies).map(|body| make(body * count)).collect()
}

/// The fastest of many timings of each, as they take turns; what a thousand numbers take.
fn fastest<B>(
    count: usize,
    bodies: &[B],
    mut ours: impl FnMut(&B),
    mut theirs: impl FnMut(&B),
) -> [Duration; 2] {
    let time = |run: &mut dyn FnMut(&B)| {
        let started = Instant::now();
        bodies.iter().for_each(run);
        started.elapsed()
    };
    let mut best = [Duration::MAX; 2];
    for _ in 0..ROUNDS {
        best[0] = best[0].min(time(&mut ours));
        best[1] = best[1].min(time(&mut theirs));
    }
    best.map(|best| best.div_f64((bodies.len() * count) as f64 / 1000.0))
}

fn print(name: &str, count: usize, ours: Duration, theirs: Duration) {
    let [ours, theirs] = [ours, theirs].map(|time| time.as_nanos() as f64 / 1000.0);
    let mut line = String::new();
    write!(
        line,
        "| {name} | {count} | {ours:.1} | {theirs:.1} | {:.2} |",
        theirs / ours
    )
    .expect("a string takes what is written");
    println!("{line}");
}
