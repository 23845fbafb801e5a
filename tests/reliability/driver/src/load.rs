//! Predictions at a rate that does not depend on how fast they are answered.

use std::io::Read;
use std::net::SocketAddr;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant, SystemTime};

use serde_json::{Value, json};

use super::connection::{Answer, Connection};
use super::mutation::post;

const TIMEOUT: Duration = Duration::from_secs(8);

/// A connection that fell behind by more than this does not catch up in a burst.
const MAX_BEHIND: Duration = Duration::from_millis(50);

/// The pause before a connection that no one took is tried again.
const PAUSE: Duration = Duration::from_millis(10);

#[derive(Default)]
struct Results {
    asked: usize,
    /// When each failed, in seconds since 1970, and how.
    failures: Vec<(f64, String)>,
    /// Seconds of those that were answered.
    latencies: Vec<f32>,
}

/// Asks `rate` times a second, over all connections together, until standard input ends, and prints
/// the outcome as JSON. Nothing is sent again.
pub(crate) fn run(address: SocketAddr, rate: u64, connections: u64) -> Value {
    let is_over = AtomicBool::new(false);
    let results = Mutex::new(Results::default());
    let started = Instant::now();
    let interval = Duration::from_secs_f64(connections as f64 / rate as f64);
    thread::scope(|scope| {
        for number in 0..connections {
            let (results, is_over) = (&results, &is_over);
            scope.spawn(move || {
                let first = started + interval.mul_f64(number as f64 / connections as f64);
                let found = client(address, number, first, interval, is_over);
                let mut results = results.lock().unwrap();
                results.asked += found.asked;
                results.failures.extend(found.failures);
                results.latencies.extend(found.latencies);
            });
        }
        // Ends with the process that started it, too.
        let _ = std::io::stdin().read_to_end(&mut Vec::new());
        is_over.store(true, Ordering::Relaxed);
    });
    let seconds = started.elapsed().as_secs_f64();
    let mut results = results.into_inner().unwrap();
    results.latencies.sort_by(f32::total_cmp);
    let count = results.latencies.len();
    let p99 = results.latencies.get(count * 99 / 100);
    json!({
        "asked": results.asked,
        "answered": count,
        "seconds": seconds,
        "failures": results.failures,
        "p99_seconds": p99,
        "slowest_seconds": results.latencies.last(),
    })
}

/// One connection: a request each interval, and the next one only when it has its answer.
#[expect(
    clippy::disallowed_methods,
    reason = "a rate is made of waiting, and nothing else is waited for"
)]
fn client(
    address: SocketAddr,
    number: u64,
    first: Instant,
    interval: Duration,
    is_over: &AtomicBool,
) -> Results {
    let mut results = Results::default();
    let mut kept = None;
    let mut due = first;
    while !is_over.load(Ordering::Relaxed) {
        let now = Instant::now();
        match due.checked_duration_since(now) {
            Some(early) => thread::sleep(early),
            None if now - due > MAX_BEHIND => due = now,
            None => {}
        }
        due += interval;
        let row = [number as f32, (results.asked % 100_000) as f32, 0.5, 0.0];
        results.asked += 1;
        let sent = Instant::now();
        match ask(address, &mut kept, row) {
            Ok(()) => results.latencies.push(sent.elapsed().as_secs_f32()),
            Err(problem) => {
                kept = None;
                let at = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
                results.failures.push((at.unwrap().as_secs_f64(), problem));
                thread::sleep(PAUSE);
            }
        }
    }
    results
}

fn ask(address: SocketAddr, kept: &mut Option<Connection>, row: [f32; 4]) -> Result<(), String> {
    let mut connection = match kept.take() {
        Some(connection) => connection,
        None => Connection::open(address, TIMEOUT).map_err(|error| error.to_string())?,
    };
    let body = json!({ "instances": [row] }).to_string();
    let request = post("/v1/models/echo:predict", body.as_bytes());
    let answer = connection
        .ask(&request)
        .map_err(|error| error.to_string())?;
    is_its_answer(&answer, row)?;
    if !answer.closes() {
        *kept = Some(connection);
    }
    Ok(())
}

/// The model answers with what it was asked.
fn is_its_answer(answer: &Answer, row: [f32; 4]) -> Result<(), String> {
    let body = String::from_utf8_lossy(&answer.body);
    if answer.status != 200 {
        return Err(format!("{} {body}", answer.status.as_u16()));
    }
    let rows = serde_json::from_str::<Value>(&body)
        .and_then(|mut body| serde_json::from_value::<Vec<[f32; 4]>>(body["predictions"].take()));
    match rows {
        Ok(rows) if rows == [row] => Ok(()),
        _ => Err(format!("{body} instead of {row:?}")),
    }
}
