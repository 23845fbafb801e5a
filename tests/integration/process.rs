//! The whole program: what it prints, how it starts, drains and ends.

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, ChildStderr, ChildStdout, Command, Output, Stdio};
use std::sync::mpsc::channel;
use std::thread;

/// The longest delay that a setting allows where a test must not depend on its end.
const FOR_EVER: &str = "3600000";

fn program(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_safeserve"));
    command
        .args(arguments)
        .env_clear()
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .stdin(Stdio::null());
    command
}

/// Runs the program to its end.
fn finish(arguments: &[&str]) -> Output {
    program(arguments).output().unwrap()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).unwrap()
}

/// A running server; killed if the test ends before it does.
pub(super) struct Serving {
    child: Child,
    address: SocketAddr,
    /// What it printed up to the address, and the `curl` after it.
    greeting: String,
    stdout: BufReader<ChildStdout>,
    stderr: BufReader<ChildStderr>,
}

impl Serving {
    pub(super) fn start(settings: &[&str]) -> Self {
        let mut arguments = vec!["--bind", "127.0.0.1:0"];
        for setting in settings {
            arguments.extend(["--set", setting]);
        }
        Self::start_with(&arguments)
    }

    pub(super) fn start_with(arguments: &[&str]) -> Self {
        let mut child = program(arguments)
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut stdout = BufReader::new(child.stdout.take().unwrap());
        let stderr = BufReader::new(child.stderr.take().unwrap());
        let mut greeting = String::new();
        while !greeting.contains("\ncurl ") {
            let count = stdout.read_line(&mut greeting).unwrap();
            assert_ne!(count, 0, "the server ended after printing: {greeting}");
        }
        let address = greeting
            .lines()
            .find_map(|line| line.strip_prefix("listening on http://"))
            .unwrap();
        Self {
            address: address.parse().unwrap(),
            child,
            greeting,
            stdout,
            stderr,
        }
    }

    /// The address of a listener from the log, by its setting.
    pub(super) fn listener(&mut self, setting: &str) -> SocketAddr {
        loop {
            let mut line = String::new();
            let count = self.stderr.read_line(&mut line).unwrap();
            assert_ne!(count, 0, "the log ended");
            let line: serde_json::Value = serde_json::from_str(&line).unwrap();
            if line["setting"] == setting {
                return line["address"].as_str().unwrap().parse().unwrap();
            }
        }
    }

    pub(super) fn signal(&self, name: &str) {
        let status = Command::new("sh")
            .args(["-c", &format!("kill -{name} {}", self.child.id())])
            .status()
            .unwrap();
        assert!(status.success());
    }

    /// One request on a connection of its own.
    pub(super) fn get(&self, path: &str) -> String {
        self.exchange(&format!(
            "GET {path} HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n"
        ))
    }

    pub(super) fn exchange(&self, request: &str) -> String {
        let mut client = self.connect();
        client.write_all(request.as_bytes()).unwrap();
        let mut answer = String::new();
        client.read_to_string(&mut answer).unwrap();
        answer
    }

    fn connect(&self) -> TcpStream {
        TcpStream::connect(self.address).unwrap()
    }

    pub(super) fn value(&self, series: &str) -> f64 {
        let page = self.get("/metrics");
        let line = page.lines().find(|line| line.starts_with(series));
        let value = line.unwrap().rsplit_once(' ').unwrap().1;
        value.parse().unwrap()
    }

    /// Waits until readiness is 503.
    fn draining(&self) {
        while self.get("/v2/health/ready").starts_with("HTTP/1.1 200") {}
    }

    pub(super) fn exit_code(mut self) -> Option<i32> {
        self.child.wait().unwrap().code()
    }
}

impl Drop for Serving {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn post(path: &str, body: &str) -> String {
    format!(
        "POST {path} HTTP/1.1\r\nHost: a\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    )
}

/// Reads one answer with a `content-length` and leaves the connection open.
fn read_answer(client: &mut impl Read) -> std::io::Result<String> {
    let mut answer = Vec::new();
    let mut byte = [0];
    while !answer.ends_with(b"\r\n\r\n") {
        client.read_exact(&mut byte)?;
        answer.extend(byte);
    }
    let head = text(&answer);
    let length = head
        .lines()
        .find_map(|line| line.strip_prefix("content-length: "))
        .unwrap();
    let mut body = vec![0; length.parse().unwrap()];
    client.read_exact(&mut body)?;
    Ok(head + &text(&body))
}

#[test]
fn the_start_prints_each_model_and_a_request_that_works() {
    let server = Serving::start(&[]);
    assert_ne!(server.address.port(), 0);
    let line = server
        .greeting
        .lines()
        .find(|line| line.starts_with("iris "))
        .unwrap();
    for part in [
        " 1 ",
        "features FP32 [-1, 4]",
        "probabilities FP32 [-1, 3]",
        " 139 ",
        "B  ",
        " ms",
    ] {
        assert!(line.contains(part), "{part:?} is not in {line}");
    }
    for name in ["breast-cancer ", "diabetes ", "digits ", "hello-keras "] {
        assert!(server.greeting.contains(&format!("\n{name}")), "{name}");
    }

    let curl = server.greeting.lines().last().unwrap();
    let (url, body) = curl
        .strip_prefix("curl http://")
        .and_then(|rest| rest.split_once(" -d "))
        .unwrap();
    let (host, path) = url.split_at(url.find('/').unwrap());
    assert_eq!(host, server.address.to_string());
    let body = body
        .strip_prefix('\'')
        .and_then(|body| body.strip_suffix('\''));
    let mut client = server.connect();
    client
        .write_all(post(path, body.unwrap()).as_bytes())
        .unwrap();
    let answer = read_answer(&mut client).unwrap();
    assert!(answer.starts_with("HTTP/1.1 200 OK\r\n"), "{answer}");
    assert!(answer.contains("{\"predictions\":[["), "{answer}");
}

#[test]
fn sigterm_under_load_loses_no_request() {
    let server = Serving::start(&[&format!("server.drain_delay_ms={FOR_EVER}")]);
    let request = post(
        "/v1/models/iris:predict",
        r#"{"instances":[[5.8,2.7,5.1,1.9]]}"#,
    );
    let (answered, first_answers) = channel();
    let clients: Vec<_> = (0..8)
        .map(|_| {
            let mut client = server.connect();
            let (request, answered) = (request.clone(), answered.clone());
            thread::spawn(move || {
                let mut answers = 0;
                loop {
                    client.write_all(request.as_bytes()).unwrap();
                    let answer = read_answer(&mut client).unwrap();
                    assert!(answer.starts_with("HTTP/1.1 200 OK\r\n"), "{answer}");
                    assert!(answer.contains("{\"predictions\":[["), "{answer}");
                    answers += 1;
                    if answers == 1 {
                        answered.send(()).unwrap();
                    }
                    if answer.contains("\r\nconnection: close\r\n") {
                        return answers;
                    }
                }
            })
        })
        .collect();
    for _ in &clients {
        first_answers.recv().unwrap();
    }
    server.signal("TERM");
    // Each client's last answer asks it to close, and no request goes unanswered.
    let answers: u32 = clients
        .into_iter()
        .map(|client| client.join().unwrap())
        .sum();
    // The port still answers, not ready and live, and what was sent was counted.
    assert!(server.get("/v2/health/ready").starts_with("HTTP/1.1 503 "));
    assert!(server.get("/v2/health/live").starts_with("HTTP/1.1 200 "));
    assert!(server.exchange(&request).starts_with("HTTP/1.1 200 "));
    let counted = server.value(
        "safeserve_requests_total{code=\"200\",model=\"iris\",protocol=\"v1\",version=\"1\"}",
    );
    assert_eq!(counted, f64::from(answers + 1));
}

#[test]
fn a_drain_ends_with_0_even_with_stalled_clients() {
    let server = Serving::start(&["server.drain_delay_ms=0", "server.drain_timeout_ms=100"]);
    let stalled: Vec<TcpStream> = [
        "",
        "G",
        "GET / HTTP/1.1\r\n",
        &post("/v1/models/iris:predict", "{}")[..70],
    ]
    .iter()
    .map(|part| {
        let mut client = server.connect();
        client.write_all(part.as_bytes()).unwrap();
        client
    })
    .collect();
    server.signal("TERM");
    assert_eq!(server.exit_code(), Some(0));
    drop(stalled);
}

#[test]
fn an_interrupt_skips_the_drain_delay() {
    let server = Serving::start(&[&format!("server.drain_delay_ms={FOR_EVER}")]);
    server.signal("INT");
    assert_eq!(server.exit_code(), Some(0));
}

#[test]
fn a_second_signal_ends_the_process_at_once() {
    for second in ["TERM", "INT"] {
        let server = Serving::start(&[&format!("server.drain_delay_ms={FOR_EVER}")]);
        server.signal("TERM");
        server.draining();
        server.signal(second);
        assert_eq!(server.exit_code(), Some(130));
    }
}

#[test]
fn closed_output_costs_log_lines_and_nothing_else() {
    let mut server = Serving::start(&[]);
    drop(std::mem::replace(
        &mut server.stdout,
        BufReader::new(closed_pipe()),
    ));
    let mut line = String::new();
    server.stderr.read_line(&mut line).unwrap();
    let line: serde_json::Value = serde_json::from_str(&line).unwrap();
    assert_eq!(line["message"], "serving");
    assert_eq!(line["address"], server.address.to_string());
    drop(std::mem::replace(
        &mut server.stderr,
        BufReader::new(closed_stderr()),
    ));
    // Each of these is logged.
    while server.value("safeserve_log_lines_dropped_total") == 0.0 {
        assert!(server.get("/none").starts_with("HTTP/1.1 404 "));
    }
    server.signal("INT");
    assert_eq!(server.exit_code(), Some(0));
}

/// The end of a pipe whose other end is gone.
fn closed_pipe() -> ChildStdout {
    let mut child = Command::new("true").stdout(Stdio::piped()).spawn().unwrap();
    child.wait().unwrap();
    child.stdout.take().unwrap()
}

fn closed_stderr() -> ChildStderr {
    let mut child = Command::new("true").stderr(Stdio::piped()).spawn().unwrap();
    child.wait().unwrap();
    child.stderr.take().unwrap()
}

/// 1.2 times the weights and 40 MB: the packed weights are the only copy that stays.
#[cfg(target_os = "linux")]
#[test]
fn a_loaded_model_takes_little_more_than_its_weights() {
    let directory = tempfile::tempdir().unwrap();
    let weight_bytes = write_large_model(&directory.path().join("large"));
    let server = Serving::start_with(&[
        "--bind",
        "127.0.0.1:0",
        "--models",
        directory.path().to_str().unwrap(),
    ]);
    let resident = server.value("process_resident_memory_bytes");
    let allowed = 1.2 * weight_bytes as f64 + 40e6;
    assert!(
        resident <= allowed,
        "{resident} bytes resident for {weight_bytes} bytes of weights; at most {allowed}"
    );
    // The lower bound shows that the measured process holds the weights.
    assert!(resident >= weight_bytes as f64, "{resident}");
}

/// Two layers of 4096 by 4096: 134 MB, and the bytes of their weights.
#[cfg(target_os = "linux")]
fn write_large_model(directory: &Path) -> usize {
    use safetensors::Dtype;
    use safetensors::tensor::TensorView;

    const WIDTH: usize = 4096;
    fs::create_dir(directory).unwrap();
    let config = format!(
        r#"{{"model_type": "sequential", "inputs": [{{"name": "x", "shape": [{WIDTH}]}}],
            "layers": [{{"type": "dense", "use_bias": false}}, {{"type": "dense", "use_bias": false}}]}}"#
    );
    fs::write(directory.join("config.json"), config).unwrap();
    let values: Vec<u8> = 1e-3_f32.to_le_bytes().repeat(WIDTH * WIDTH);
    let tensor = || TensorView::new(Dtype::F32, vec![WIDTH, WIDTH], &values).unwrap();
    let tensors = [("0.weight", tensor()), ("1.weight", tensor())];
    safetensors::serialize_to_file(tensors, None, &directory.join("model.safetensors")).unwrap();
    2 * values.len()
}

#[test]
fn bad_settings_end_with_2_and_say_where() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("bad.toml");
    fs::write(&file, "[server]\nbindd = \"127.0.0.1:0\"\n").unwrap();
    let file = file.to_str().unwrap();
    for (arguments, expected) in [
        (vec!["--config", file], format!("safeserve: {file}:2: unknown setting server.bindd; did you mean server.bind?")),
        (vec!["serve", "--config", "no/such.toml"], "safeserve: cannot read the settings file no/such.toml\n  because: No such file or directory (os error 2)\n".to_owned()),
        (vec!["--bind", "here"], "safeserve: flag --bind: server.bind: expected an IP address and a port, got \"here\"".to_owned()),
        (vec!["check", "--set", "x"], "safeserve: --set x: expected SECTION.KEY=VALUE".to_owned()),
        (vec!["--nonsense"], "error: unexpected argument '--nonsense'".to_owned()),
    ] {
        let output = finish(&arguments);
        let stderr = text(&output.stderr);
        assert_eq!(output.status.code(), Some(2), "{arguments:?}: {stderr}");
        assert!(stderr.starts_with(&expected), "{arguments:?}: {stderr}");
        assert_eq!(text(&output.stdout), "", "{arguments:?}");
    }
    let output = program(&[])
        .env("SAFESERVE__LIMITS__MAX_HEADERS", "0")
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(2));
    let stderr = text(&output.stderr);
    assert!(
        stderr.starts_with("safeserve: environment variable SAFESERVE__LIMITS__MAX_HEADERS: "),
        "{stderr}"
    );
}

#[test]
fn an_unreadable_or_empty_repository_ends_with_3() {
    let folder = tempfile::tempdir().unwrap();
    for directory in ["no/such/directory", folder.path().to_str().unwrap()] {
        for command in [
            vec!["serve", "--bind", "127.0.0.1:0", "--models"],
            vec!["check"],
        ] {
            let arguments = [command, vec![directory]].concat();
            let output = finish(&arguments);
            let stderr = text(&output.stderr);
            assert_eq!(output.status.code(), Some(3), "{arguments:?}: {stderr}");
            assert!(stderr.contains(directory), "{arguments:?}: {stderr}");
            assert_eq!(text(&output.stdout), "", "{arguments:?}");
        }
    }
}

#[test]
fn a_taken_port_ends_with_4() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let output = finish(&["--bind", &address]);
    let stderr = text(&output.stderr);
    assert_eq!(output.status.code(), Some(4), "{stderr}");
    let expected =
        format!("safeserve: server.bind: cannot listen on {address}; stop what listens there");
    assert!(stderr.contains(&expected), "{stderr}");
    assert!(
        stderr.contains("\n  because: Address already in use"),
        "{stderr}"
    );
}

/// A repository of one sample and a broken copy.
fn repository_with_a_bad_model() -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    let sample = Path::new(env!("CARGO_MANIFEST_DIR")).join("models/iris/1");
    for name in ["bad", "good"] {
        let model = folder.path().join(name);
        fs::create_dir(&model).unwrap();
        for file in ["config.json", "model.safetensors"] {
            fs::copy(sample.join(file), model.join(file)).unwrap();
        }
    }
    fs::write(folder.path().join("bad/model.safetensors"), "cut").unwrap();
    folder
}

#[test]
fn a_bad_model_is_refused_with_its_reason_and_the_others_serve() {
    let folder = repository_with_a_bad_model();
    let directory = folder.path().to_str().unwrap();
    let mut server = Serving::start_with(&["--bind", "127.0.0.1:0", "--models", directory]);
    let mut line = String::new();
    server.stderr.read_line(&mut line).unwrap();
    let line: serde_json::Value = serde_json::from_str(&line).unwrap();
    assert_eq!(
        (&line["level"], &line["model"]),
        (&"ERROR".into(), &"bad".into())
    );
    assert!(
        line["reason"]
            .as_str()
            .unwrap()
            .contains("model.safetensors"),
        "{line}"
    );
    assert!(!server.greeting.contains("bad"), "{}", server.greeting);
    let zeros = r#"/v1/models/good:predict -d '{"instances":[[0,0,0,0]]}'"#;
    assert!(server.greeting.contains(zeros), "{}", server.greeting);
    assert!(
        server
            .get("/v2/models/good/ready")
            .starts_with("HTTP/1.1 200 ")
    );
    assert!(
        server
            .get("/v2/models/bad/ready")
            .starts_with("HTTP/1.1 503 ")
    );
    assert_eq!(server.value("safeserve_models{state=\"unavailable\"}"), 1.0);
}

#[test]
fn strict_refuses_to_start_with_a_bad_model() {
    let folder = repository_with_a_bad_model();
    let directory = folder.path().to_str().unwrap();
    let strict = ["--strict", "--bind", "127.0.0.1:0", "--models", directory];
    let output = finish(&strict);
    assert_eq!(output.status.code(), Some(3));
    assert!(text(&output.stderr).contains("\"model\":\"bad\""));
    // Without it, a repository of bad models only is refused all the same.
    fs::remove_dir_all(folder.path().join("good")).unwrap();
    let output = finish(&strict[1..]);
    assert_eq!(output.status.code(), Some(3));
    assert_eq!(text(&output.stdout), "");
}

#[test]
fn check_lists_every_sample_as_servable() {
    let output = finish(&["check", "models"]);
    let stdout = text(&output.stdout);
    assert_eq!(output.status.code(), Some(0), "{stdout}");
    assert!(
        stdout.ends_with("\nevery model can be served\n"),
        "{stdout}"
    );
    assert_eq!(stdout.lines().count(), 1 + 6 + 1, "{stdout}");
}

#[test]
fn check_gives_the_reason_of_a_bad_model_and_ends_with_1() {
    let folder = repository_with_a_bad_model();
    let output = finish(&["check", folder.path().to_str().unwrap()]);
    let stdout = text(&output.stdout);
    assert_eq!(output.status.code(), Some(1), "{stdout}");
    assert!(stdout.contains("\ngood "), "{stdout}");
    assert!(
        stdout.contains("\nbad 1: refused: model.safetensors: "),
        "{stdout}"
    );
    assert!(
        stdout.ends_with("\n1 model version cannot be served\n"),
        "{stdout}"
    );
}

#[test]
fn a_model_that_gives_infinities_at_zeros_is_warned_of_and_served() {
    let config = r#"{"model_type": "sequential", "inputs": [{"name": "x", "shape": [1]}],
        "layers": [{"type": "rescaling", "offset": 3e38}, {"type": "rescaling", "scale": 10}]}"#;
    let model = crate::model_files::directory(config, &[]);
    let directory = model.path().to_str().unwrap();
    let output = finish(&["check", directory]);
    let stdout = text(&output.stdout);
    assert_eq!(output.status.code(), Some(0), "{stdout}");
    assert!(
        stdout.contains(" 1: warning: output \"output\" is not a finite number for a row of zeros"),
        "{stdout}"
    );
    assert!(
        stdout.ends_with("\nevery model can be served\n"),
        "{stdout}"
    );
    let mut server = Serving::start_with(&["--bind", "127.0.0.1:0", "--models", directory]);
    let mut line = String::new();
    server.stderr.read_line(&mut line).unwrap();
    let line: serde_json::Value = serde_json::from_str(&line).unwrap();
    assert_eq!(line["level"], "WARN");
    assert!(stdout.contains(line["reason"].as_str().unwrap()), "{line}");
}

#[test]
fn print_config_shows_what_it_would_serve_with() {
    let first = finish(&["print-config", "--set", "limits.max_headers=64"]);
    assert_eq!(first.status.code(), Some(0));
    let first = text(&first.stdout);
    assert!(first.contains("max_headers = 64 "), "{first}");
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("all.toml");
    fs::write(&file, &first).unwrap();
    let again = finish(&["print-config", "--config", file.to_str().unwrap()]);
    let values = |text: &str| -> Vec<String> {
        text.lines()
            .map(|line| line.split("  # ").next().unwrap().trim_end().to_owned())
            .collect()
    };
    assert_eq!(values(&first), values(&text(&again.stdout)));
}

#[test]
fn help_and_version_end_with_0() {
    let help = finish(&["--help"]);
    assert_eq!(help.status.code(), Some(0));
    assert!(text(&help.stdout).contains("Exit codes:"));
    let version = finish(&["--version"]);
    assert_eq!(version.status.code(), Some(0));
    let expected = concat!("safeserve ", env!("CARGO_PKG_VERSION"), " (");
    assert!(text(&version.stdout).starts_with(expected));
}
