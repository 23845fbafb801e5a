//! Mutations of good requests, sent from several threads.

use std::collections::{BTreeMap, BTreeSet};
use std::io::ErrorKind;
use std::net::SocketAddr;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::Duration;

use serde_json::{Value, json};

use super::answer::check;
use super::connection::{Answer, Connection};
use super::mutation::{GOOD, Mutation, post};

/// Longer than any limit that the server could run into: a server that is silent for this long hangs.
const TIMEOUT: Duration = Duration::from_secs(20);

/// After this many, more of them say nothing new.
const MAX_PROBLEMS: usize = 20;

/// How many are sent side by side.
const THREADS: usize = 4;

/// The outcome of the mutations.
#[derive(Default)]
struct Results {
    /// How often each status came.
    statuses: BTreeMap<u16, u64>,
    /// Heads without an end, whose connection ended without an answer.
    silent: u64,
    problems: Vec<String>,
    /// The numbers of mutations that had one, to send them again.
    numbers: BTreeSet<u64>,
}

/// Sends the mutations of a seed with these numbers and says what came, as JSON.
pub(crate) fn run(address: SocketAddr, seed: u64, first: u64, count: u64) -> Value {
    let results = Mutex::new(Results::default());
    for (path, body) in GOOD {
        let answer = Connection::open(address, TIMEOUT)
            .and_then(|mut connection| connection.ask(&post(path, body.as_bytes())));
        let status = answer.map(|answer| answer.status.as_u16());
        if !matches!(status, Ok(200)) {
            let problem = format!("not mutated: {path} {body}: {status:?}");
            results.lock().unwrap().problems.push(problem);
        }
    }
    let next = AtomicU64::new(first);
    let end = first + count;
    thread::scope(|scope| {
        for _ in 0..THREADS {
            scope.spawn(|| {
                let mut sender = Sender {
                    address,
                    kept: None,
                    results: Results::default(),
                };
                while sender.results.problems.len() < MAX_PROBLEMS {
                    let number = next.fetch_add(1, Ordering::Relaxed);
                    if number >= end {
                        break;
                    }
                    sender.send(number, &Mutation::new(seed, number));
                }
                results.lock().unwrap().add(sender.results);
            });
        }
    });
    let results = results.into_inner().unwrap();
    json!({
        "asked": next.into_inner().min(end) - first,
        "statuses": results.statuses,
        "silent": results.silent,
        "problems": results.problems,
        "numbers": results.numbers,
    })
}

impl Results {
    fn add(&mut self, other: Self) {
        for (status, count) in other.statuses {
            *self.statuses.entry(status).or_default() += count;
        }
        self.silent += other.silent;
        self.problems.extend(other.problems);
        self.numbers.extend(other.numbers);
    }
}

struct Sender {
    address: SocketAddr,
    /// The connection of mutations that leave it as it was.
    kept: Option<Connection>,
    results: Results,
}

impl Sender {
    fn send(&mut self, number: u64, mutation: &Mutation) {
        let sent = match mutation.is_framed {
            true => self.framed(&mutation.bytes),
            false => self.unframed(&mutation.bytes),
        };
        if let Err(problem) = sent {
            self.kept = None;
            let bytes = mutation.bytes.escape_ascii();
            let problem = format!("number {number}: {problem}: \"{bytes}\"");
            self.results.problems.push(problem);
            self.results.numbers.insert(number);
        }
    }

    /// Exactly one answer comes, and the connection stays open unless the answer says otherwise.
    fn framed(&mut self, bytes: &[u8]) -> Result<(), String> {
        let mut connection = match self.kept.take() {
            Some(connection) => connection,
            None => self.open()?,
        };
        let answer = connection.ask(bytes).map_err(|error| error.to_string())?;
        self.take(&answer)?;
        if !answer.closes() {
            self.kept = Some(connection);
        }
        Ok(())
    }

    /// There may be any number of answers, each valid, and then the connection ends.
    fn unframed(&mut self, bytes: &[u8]) -> Result<(), String> {
        let mut connection = self.open()?;
        let sent = connection.send(bytes).and_then(|()| connection.end());
        let mut answers = 0;
        loop {
            match connection.read() {
                Ok(Some(answer)) => {
                    answers += 1;
                    self.take(&answer)?;
                }
                Ok(None) => break,
                // Refused before its end: what was not read yet takes the rest away.
                Err(error) if error.kind() == ErrorKind::ConnectionReset => break,
                Err(error) => return Err(error.to_string()),
            }
        }
        if answers == 0 {
            sent.map_err(|error| error.to_string())?;
            if bytes.windows(4).any(|part| part == b"\r\n\r\n") {
                return Err("no answer to a whole head".into());
            }
            self.results.silent += 1;
        }
        Ok(())
    }

    fn open(&self) -> Result<Connection, String> {
        Connection::open(self.address, TIMEOUT).map_err(|error| error.to_string())
    }

    /// Checks and counts an answer.
    fn take(&mut self, answer: &Answer) -> Result<(), String> {
        let status = answer.status.as_u16();
        *self.results.statuses.entry(status).or_default() += 1;
        if status >= 500 {
            let body = String::from_utf8_lossy(&answer.body);
            return Err(format!("{status} {body}"));
        }
        check(answer.status, &answer.headers, &answer.body, false)
    }
}
