//! A closed-loop load generator: each connection sends its next request when the answer is there.

use std::io::{Read, Write};
use std::time::{Duration, Instant};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// What is measured.
pub(crate) struct Target<'a> {
    pub(crate) address: &'a str,
    /// The process whose CPU time counts.
    pub(crate) process: u32,
    pub(crate) request: &'a [u8],
}

/// What one cell of one round gave.
#[derive(Clone, Copy, Default)]
pub(crate) struct Cell {
    pub(crate) requests_per_second: f64,
    pub p50_us: f64,
    pub p99_us: f64,
    /// The process's CPU time, user and system, a request.
    pub(crate) cpu_us: f64,
}

impl Cell {
    /// The median of each figure by itself.
    pub(crate) fn median(cells: &[Self]) -> Self {
        let median = |figure: fn(&Self) -> f64| {
            let mut figures: Vec<f64> = cells.iter().map(figure).collect();
            figures.sort_by(f64::total_cmp);
            figures[figures.len() / 2]
        };
        Self {
            requests_per_second: median(|cell| cell.requests_per_second),
            p50_us: median(|cell| cell.p50_us),
            p99_us: median(|cell| cell.p99_us),
            cpu_us: median(|cell| cell.cpu_us),
        }
    }
}

/// The bytes of the answer's body to one request.
pub(crate) fn answer_bytes(address: &str, request: &[u8]) -> usize {
    let mut stream = std::net::TcpStream::connect(address).expect("it listens");
    stream.write_all(request).expect("it reads");
    let mut answer = Vec::new();
    let mut chunk = [0; 4096];
    loop {
        if let Some((head, body)) = Head::parse(&answer) {
            assert!(head.ok, "{}", String::from_utf8_lossy(&answer));
            if answer.len() >= body + head.body {
                return head.body;
            }
        }
        let read = stream.read(&mut chunk).expect("it answers");
        assert!(read > 0, "the answer ended early");
        answer.extend_from_slice(&chunk[..read]);
    }
}

/// Loads a target over `connections` connections for about `length`.
///
/// # Panics
/// If an answer is not 200.
pub(crate) fn run(target: &Target<'_>, connections: usize, length: Duration) -> Cell {
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
        let request: std::rc::Rc<[u8]> = target.request.into();
        let cpu = cpu_time(target.process);
        let started = Instant::now();
        let end = started + length;
        let tasks: Vec<_> = streams
            .into_iter()
            .map(|stream| tokio::task::spawn_local(connection(stream, request.clone(), end)))
            .collect();
        let mut latencies = Vec::new();
        for task in tasks {
            latencies.extend(task.await.expect("no connection failed"));
        }
        let elapsed = started.elapsed().as_secs_f64();
        let cpu = (cpu_time(target.process) - cpu).as_secs_f64();
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
            cpu_us: cpu * 1e6 / count,
        }
    })
}

/// Sends requests one after the other until `end`; the latencies in nanoseconds.
async fn connection(mut stream: TcpStream, request: std::rc::Rc<[u8]>, end: Instant) -> Vec<u32> {
    let mut latencies = Vec::with_capacity(1 << 16);
    let mut buffer = vec![0; 64 << 10];
    let mut now = Instant::now();
    while now < end {
        stream.write_all(&request).await.expect("it reads");
        let mut filled = 0;
        loop {
            let read = stream
                .read(&mut buffer[filled..])
                .await
                .expect("it answers");
            assert!(read > 0, "the connection was closed");
            filled += read;
            if let Some((head, body)) = Head::parse(&buffer[..filled]) {
                assert!(head.ok, "{}", String::from_utf8_lossy(&buffer[..filled]));
                if filled >= body + head.body {
                    break;
                }
            }
        }
        let done = Instant::now();
        let nanoseconds = (done - now).as_nanos();
        latencies.push(u32::try_from(nanoseconds).unwrap_or(u32::MAX));
        now = done;
    }
    latencies
}

/// The part of an answer's head that matters here.
struct Head {
    ok: bool,
    body: usize,
}

impl Head {
    /// The head and where the body starts, once the head is whole.
    fn parse(answer: &[u8]) -> Option<(Self, usize)> {
        let end = answer.windows(4).position(|window| window == b"\r\n\r\n")?;
        let head = &answer[..end];
        let length = head.split(|byte| *byte == b'\n').find_map(|line| {
            let name = b"content-length:";
            let (start, value) = line.split_at_checked(name.len())?;
            let value = std::str::from_utf8(value).ok()?;
            start
                .eq_ignore_ascii_case(name)
                .then(|| value.trim().parse().ok())?
        });
        let head = Self {
            ok: head.starts_with(b"HTTP/1.1 200"),
            body: length.unwrap_or(0),
        };
        Some((head, end + 4))
    }
}

/// The CPU time that a process has used so far, all its threads, user and system.
fn cpu_time(process: u32) -> Duration {
    let text = std::fs::read_to_string(format!("/proc/{process}/stat")).expect("it runs");
    // Behind the command's name, which is in parentheses and may hold anything.
    let (_, fields) = text.rsplit_once(')').expect("the kernel's format");
    let fields: Vec<&str> = fields.split_whitespace().collect();
    let ticks = |index: usize| fields[index].parse::<u64>().expect("the kernel's format");
    // utime and stime, in ticks of 10 ms on every Linux that there is.
    Duration::from_millis((ticks(11) + ticks(12)) * 10)
}
