//! A closed-loop load generator: each connection sends its next request when it has the answer.

use std::cell::RefCell;
use std::io::{Read, Write};
use std::ops::Range;
use std::rc::Rc;
use std::time::{Duration, Instant};

use memchr::memmem;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::process::{cpu_time, own_cpu_time};

/// What is measured.
pub(crate) struct Target<'a> {
    pub(crate) address: &'a str,
    /// The process whose CPU time counts, with its descendants.
    pub(crate) process: Option<u32>,
    /// Each connection sends them in turns.
    pub(crate) requests: &'a [Vec<u8>],
}

/// What one cell of one round gave.
#[derive(Clone, Copy)]
pub(crate) struct Cell {
    pub(crate) requests_per_second: f64,
    pub(crate) p50_us: f64,
    pub(crate) p99_us: f64,
    /// The target's CPU time, user and system, a request; NaN if its process is not known.
    pub(crate) cpu_us: f64,
    /// The generator's own.
    pub(crate) generator_cpu_us: f64,
}

/// A blocking connection for what is not measured in bulk.
pub(crate) struct Client {
    stream: std::net::TcpStream,
    shape: Shape,
    buffer: Vec<u8>,
}

impl Client {
    pub(crate) fn connect(address: &str) -> Self {
        let stream = std::net::TcpStream::connect(address).expect("it listens");
        stream
            .set_nodelay(true)
            .expect("a TCP socket has the option");
        Self {
            stream,
            shape: Shape::default(),
            buffer: vec![0; 4096],
        }
    }

    /// Sends a request and returns the bytes of its answer's body.
    ///
    /// # Panics
    /// If the answer is not 200.
    pub(crate) fn exchange(&mut self, request: &[u8]) -> usize {
        self.stream.write_all(request).expect("it reads");
        let mut filled = 0;
        while !self.shape.is_whole(&self.buffer[..filled]) {
            if filled == self.buffer.len() {
                self.buffer.resize(2 * filled, 0);
            }
            let read = self.stream.read(&mut self.buffer[filled..]);
            let read = read.expect("it answers");
            assert!(read > 0, "the answer ended early");
            filled += read;
        }
        self.shape.body()
    }
}

/// Loads a target over `connections` connections for about `length`.
///
/// # Panics
/// If an answer is not 200.
pub(crate) fn run(target: &Target<'_>, connections: usize, length: Duration) -> Cell {
    // A server that answers with more than this grows the buffers.
    let answer_bytes = Client::connect(target.address).exchange(&target.requests[0]) + 4096;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .expect("the runtime starts");
    let local = tokio::task::LocalSet::new();
    local.block_on(&runtime, async {
        let mut streams = Vec::with_capacity(connections);
        for _ in 0..connections {
            let stream = TcpStream::connect(target.address)
                .await
                .expect("it listens");
            stream
                .set_nodelay(true)
                .expect("a TCP socket has the option");
            streams.push(stream);
        }
        let requests: Rc<[Vec<u8>]> = target.requests.into();
        let latencies = Rc::new(RefCell::new(Vec::with_capacity(1 << 20)));
        let (used, own) = (target.process.map(cpu_time), own_cpu_time());
        let started = Instant::now();
        let end = started + length;
        let tasks: Vec<_> = streams
            .into_iter()
            .enumerate()
            .map(|(index, stream)| {
                tokio::task::spawn_local(connection(Connection {
                    stream,
                    requests: requests.clone(),
                    next: index % requests.len(),
                    buffer: vec![0; answer_bytes],
                    latencies: latencies.clone(),
                    end,
                }))
            })
            .collect();
        for task in tasks {
            task.await.expect("no connection failed");
        }
        let elapsed = started.elapsed().as_secs_f64();
        let own = own_cpu_time() - own;
        let used = used.zip(target.process.map(cpu_time));
        let mut latencies = latencies.take();
        let count = latencies.len() as f64;
        latencies.sort_unstable();
        let percentile = |of: f64| {
            let index = (count * of) as usize;
            f64::from(latencies[index.min(latencies.len() - 1)]) / 1000.0
        };
        Cell {
            requests_per_second: count / elapsed,
            p50_us: percentile(0.5),
            p99_us: percentile(0.99),
            cpu_us: used.map_or(f64::NAN, |(before, after)| {
                after.saturating_sub(before).as_secs_f64() * 1e6 / count
            }),
            generator_cpu_us: own.as_secs_f64() * 1e6 / count,
        }
    })
}

/// One connection and what it does.
struct Connection {
    stream: TcpStream,
    requests: Rc<[Vec<u8>]>,
    next: usize,
    buffer: Vec<u8>,
    /// In nanoseconds, those of all connections.
    latencies: Rc<RefCell<Vec<u32>>>,
    end: Instant,
}

/// Sends requests one after the other until the end.
async fn connection(mut this: Connection) {
    let mut shape = Shape::default();
    let mut now = Instant::now();
    while now < this.end {
        let request = &this.requests[this.next];
        this.next = (this.next + 1) % this.requests.len();
        this.stream.write_all(request).await.expect("it reads");
        let mut filled = 0;
        while !shape.is_whole(&this.buffer[..filled]) {
            if filled == this.buffer.len() {
                this.buffer.resize(2 * filled, 0);
            }
            let read = this.stream.read(&mut this.buffer[filled..]).await;
            let read = read.expect("it answers");
            assert!(read > 0, "the connection was closed");
            filled += read;
        }
        let done = Instant::now();
        let nanoseconds = (done - now).as_nanos();
        let mut latencies = this.latencies.borrow_mut();
        latencies.push(u32::try_from(nanoseconds).unwrap_or(u32::MAX));
        now = done;
    }
}

/// Where a connection's answers end. They are alike, so each head is compared with the previous one
/// and parsed only if its status, length or end differs.
#[derive(Default)]
struct Shape {
    /// The bytes of the head, its blank line counted; 0 before the first answer.
    head: usize,
    /// Where the head says how long the body is, and the line that says so.
    length_at: Range<usize>,
    length: Vec<u8>,
    body: usize,
}

const OK: &[u8] = b"HTTP/1.1 200";
const BLANK: &[u8] = b"\r\n\r\n";

impl Shape {
    /// The bytes of the last answer's body.
    fn body(&self) -> usize {
        self.body
    }

    /// Whether this is an answer to its end.
    ///
    /// # Panics
    /// If it is not 200, or does not say how long its body is, or goes on after it.
    fn is_whole(&mut self, answer: &[u8]) -> bool {
        if !self.fits(answer) {
            let Some(end) = memmem::find(answer, BLANK) else {
                return false;
            };
            self.read(&answer[..end + BLANK.len()]);
        }
        assert!(answer.len() <= self.head + self.body, "{}", text(answer));
        answer.len() == self.head + self.body
    }

    fn fits(&self, answer: &[u8]) -> bool {
        self.head > 0
            && answer.len() >= self.head
            && answer.starts_with(OK)
            && answer[self.length_at.clone()] == self.length
            && answer[..self.head].ends_with(BLANK)
    }

    fn read(&mut self, head: &[u8]) {
        assert!(head.starts_with(OK), "{}", text(head));
        let name = b"content-length:";
        let mut start = 0;
        for line in head.split_inclusive(|byte| *byte == b'\n') {
            let at = start..start + line.len();
            start = at.end;
            if let Some((field, value)) = line.split_at_checked(name.len())
                && field.eq_ignore_ascii_case(name)
            {
                let value = std::str::from_utf8(value).ok();
                self.body = value
                    .and_then(|value| value.trim().parse().ok())
                    .expect("a length");
                self.head = head.len();
                self.length = line.to_vec();
                self.length_at = at;
                return;
            }
        }
        panic!("no content-length: {}", text(head));
    }
}

fn text(bytes: &[u8]) -> std::borrow::Cow<'_, str> {
    String::from_utf8_lossy(bytes)
}
