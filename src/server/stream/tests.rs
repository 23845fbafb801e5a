//! Time is tokio's paused clock: it moves only when every task waits, and then to the next timer.

use std::sync::Mutex;

use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex};

use super::*;

const TIMEOUTS: Timeouts = Timeouts {
    header: Duration::from_secs(10),
    idle: Duration::from_secs(75),
    write: Duration::from_secs(20),
};

const HEAD: &[u8] = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n";

struct Pair {
    server: ClientStream<DuplexStream>,
    shared: Arc<Shared>,
    answers: Arc<Mutex<Vec<Answer>>>,
    start: Instant,
}

fn pair(capacity: usize) -> (DuplexStream, Pair) {
    let (client, server) = duplex(capacity);
    let shared = Arc::new(Shared::default());
    let answers = Arc::new(Mutex::new(Vec::new()));
    let seen = Arc::clone(&answers);
    let on_answer = move |answer| seen.lock().unwrap().push(answer);
    let pair = Pair {
        server: ClientStream::new(server, Arc::clone(&shared), TIMEOUTS, on_answer),
        shared,
        answers,
        start: Instant::now(),
    };
    (client, pair)
}

impl Pair {
    /// Reads until the stream ends; what came and the seconds since the start.
    async fn until_end(&mut self) -> (Vec<u8>, u64) {
        let mut read = Vec::new();
        self.server.read_to_end(&mut read).await.unwrap();
        (read, self.start.elapsed().as_secs())
    }

    async fn read_exactly(&mut self, bytes: &[u8]) {
        let mut read = vec![0; bytes.len()];
        self.server.read_exact(&mut read).await.unwrap();
        assert_eq!(read, bytes);
    }
}

#[tokio::test(start_paused = true)]
async fn a_client_that_sends_nothing_is_cut_at_the_header_timeout_without_an_answer() {
    let (_client, mut pair) = pair(1024);
    assert_eq!(pair.until_end().await, (vec![], 10));
    assert_eq!(pair.shared.closed(), Some(Closed::HeaderTimeout));
    assert_eq!(*pair.answers.lock().unwrap(), []);
}

#[tokio::test(start_paused = true)]
async fn a_head_that_dribbles_is_cut_at_the_header_timeout_with_a_408() {
    let (mut client, mut pair) = pair(1024);
    let dribble = tokio::spawn(async move {
        let mut bytes = b"GET / HTTP/1.1\r\nHost: a.example\r\nX: ".iter();
        while client.write_all(&[*bytes.next().unwrap()]).await.is_ok() {
            tokio::time::sleep(Duration::from_secs(1)).await;
        }
        let mut answer = String::new();
        client.read_to_string(&mut answer).await.unwrap();
        answer
    });
    assert_eq!(pair.until_end().await.1, 10);
    assert_eq!(pair.shared.closed(), Some(Closed::HeaderTimeout));
    drop(pair.server);
    let answer = dribble.await.unwrap();
    assert!(answer.starts_with("HTTP/1.1 408 "), "{answer}");
    assert_eq!(*pair.answers.lock().unwrap(), [answer::HEADER_TIMEOUT]);
}

#[tokio::test(start_paused = true)]
async fn an_idle_connection_is_closed_at_the_idle_timeout() {
    let (mut client, mut pair) = pair(1024);
    client.write_all(HEAD).await.unwrap();
    pair.read_exactly(HEAD).await;
    assert_eq!(pair.until_end().await, (vec![], 75));
    assert_eq!(pair.shared.closed(), Some(Closed::IdleTimeout));
}

#[tokio::test(start_paused = true)]
async fn the_header_timeout_of_a_later_request_starts_with_its_first_byte() {
    let (mut client, mut pair) = pair(1024);
    client.write_all(HEAD).await.unwrap();
    pair.read_exactly(HEAD).await;
    let late = tokio::spawn(async move {
        tokio::time::sleep(Duration::from_secs(60)).await;
        client.write_all(b"P").await.unwrap();
        client
    });
    assert_eq!(pair.until_end().await, (b"P".to_vec(), 70));
    assert_eq!(pair.shared.closed(), Some(Closed::HeaderTimeout));
    drop(late.await.unwrap());
}

#[tokio::test(start_paused = true)]
async fn no_time_runs_between_requests_while_one_is_answered() {
    let (mut client, mut pair) = pair(1024);
    client.write_all(HEAD).await.unwrap();
    pair.read_exactly(HEAD).await;
    pair.shared.set_busy(true);
    let long = tokio::time::timeout(Duration::from_secs(600), pair.server.read_u8()).await;
    assert!(long.is_err());
    pair.shared.set_busy(false);
    assert_eq!(pair.until_end().await, (vec![], 675));
}

#[tokio::test(start_paused = true)]
async fn closing_ends_an_idle_connection_at_once_but_serves_what_it_sent_before() {
    let (mut client, mut pair) = pair(1024);
    client.write_all(HEAD).await.unwrap();
    pair.read_exactly(HEAD).await;
    client.write_all(HEAD).await.unwrap();
    pair.shared.close();
    assert_eq!(pair.until_end().await, (HEAD.to_vec(), 0));
    assert_eq!(pair.shared.closed(), Some(Closed::Done));
}

#[tokio::test(start_paused = true)]
async fn closing_gives_a_new_connection_a_moment_for_its_first_byte() {
    let (_client, mut pair) = pair(1024);
    pair.shared.close();
    let (read, _) = pair.until_end().await;
    assert!(read.is_empty());
    assert_eq!(pair.start.elapsed(), FIRST_BYTE_GRACE);
}

#[tokio::test(start_paused = true)]
async fn a_client_that_does_not_read_is_cut_at_the_write_timeout() {
    let (_client, mut pair) = pair(16);
    let error = pair.server.write_all(&[0; 64]).await.unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::TimedOut);
    assert_eq!(pair.start.elapsed().as_secs(), 20);
    assert_eq!(pair.shared.closed(), Some(Closed::WriteTimeout));
}

#[tokio::test(start_paused = true)]
async fn a_client_that_reads_slowly_is_not_cut() {
    let (mut client, mut pair) = pair(16);
    let reader = tokio::spawn(async move {
        let mut count = 0;
        while count < 64 {
            tokio::time::sleep(Duration::from_secs(19)).await;
            count += client.read(&mut [0; 16]).await.unwrap();
        }
    });
    pair.server.write_all(&[0; 64]).await.unwrap();
    reader.await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn the_librarys_bare_answer_goes_out_with_a_body() {
    let (mut client, mut pair) = pair(16);
    let bare = b"HTTP/1.1 400 Bad Request\r\nconnection: close\r\ncontent-length: 0\r\n\
                 date: Mon, 23 Nov 2026 22:19:36 GMT\r\n\r\n";
    let reader = tokio::spawn(async move {
        let mut answer = String::new();
        client.read_to_string(&mut answer).await.unwrap();
        answer
    });
    pair.server.write_all(bare).await.unwrap();
    pair.server.flush().await.unwrap();
    pair.server.shutdown().await.unwrap();
    let answer = reader.await.unwrap();
    assert!(
        answer.starts_with("HTTP/1.1 400 Bad Request\r\n"),
        "{answer}"
    );
    assert!(
        answer.contains("\"code\":\"malformed_request\""),
        "{answer}"
    );
    assert_eq!(pair.answers.lock().unwrap().len(), 1);
}

#[tokio::test(start_paused = true)]
async fn shutting_down_in_a_body_reads_on_until_the_client_is_done() {
    let head = b"POST / HTTP/1.1\r\nContent-Length: 100000\r\n\r\n";
    let (mut client, mut pair) = pair(64);
    let sender = tokio::spawn(async move {
        client.write_all(head).await.unwrap();
        // Nobody has to read this for the answer, and still it must not break the connection.
        client.write_all(&[b'0'; 100_000]).await.unwrap();
    });
    let mut read = vec![0; head.len()];
    pair.server.read_exact(&mut read).await.unwrap();
    pair.server.shutdown().await.unwrap();
    sender.await.unwrap();
    assert_eq!(pair.start.elapsed(), Duration::ZERO);
}

#[tokio::test(start_paused = true)]
async fn shutting_down_does_not_wait_long_for_a_client_that_stalls_in_a_body() {
    let head = b"POST / HTTP/1.1\r\nContent-Length: 100000\r\n\r\n";
    let (mut client, mut pair) = pair(64);
    client.write_all(head).await.unwrap();
    pair.read_exactly(head).await;
    pair.server.shutdown().await.unwrap();
    assert_eq!(pair.start.elapsed(), LINGER);
}
