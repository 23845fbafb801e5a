//! What the nightly tests of `tests/reliability` need that Python is too slow for.
//!
//! `driver ADDRESS mutate SEED FIRST COUNT` sends a server mutations of good requests, those of a seed
//! with COUNT numbers from FIRST on: a COUNT of 1 repeats one. `driver ADDRESS load RATE CONNECTIONS`
//! asks a model named `echo` RATE times a second until its standard input ends. Each prints the
//! outcome as one JSON object. Neither judges: the bounds are those of the tests that start it.

// What goes wrong in it is for the test that started it.
#![allow(clippy::unwrap_used)]

#[path = "../../../../fuzz/src/answer.rs"]
mod answer;
mod connection;
mod load;
mod mutate;
mod mutation;

use std::env;

fn main() {
    let arguments: Vec<String> = env::args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let result = match arguments[..] {
        [address, "mutate", seed, first, count] => {
            let [seed, first, count] = [seed, first, count].map(number);
            mutate::run(address.parse().expect("an address"), seed, first, count)
        }
        [address, "load", rate, connections] => {
            let [rate, connections] = [rate, connections].map(number);
            load::run(address.parse().expect("an address"), rate, connections)
        }
        _ => panic!(
            "driver ADDRESS mutate SEED FIRST COUNT, or driver ADDRESS load RATE CONNECTIONS"
        ),
    };
    println!("{result}");
}

fn number(text: &str) -> u64 {
    text.parse().expect("a number")
}
