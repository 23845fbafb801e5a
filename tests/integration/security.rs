//! Keys, certificates and the listeners apart from the clients', in the real program.

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;

use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned};
use tempfile::TempDir;

const KEY: &str = "0123456789abcdef0123";
const OTHER_KEY: &str = "abcdefghijklmnopqrst";

const BODY: &str =
    r#"{"inputs":[{"name":"features","shape":[1,4],"datatype":"FP32","data":[5.1,3.5,1.4,0.2]}]}"#;

/// A running server and where its listeners are.
struct Serving {
    child: Child,
    clients: SocketAddr,
    operations: Option<SocketAddr>,
    admin: Option<SocketAddr>,
    log: BufReader<std::process::ChildStderr>,
}

impl Serving {
    fn start(arguments: &[&str]) -> Self {
        let mut child = Command::new(env!("CARGO_BIN_EXE_safeserve"))
            .args(["--bind", "127.0.0.1:0", "--models", "models/iris"])
            .args(arguments)
            .env_clear()
            .current_dir(env!("CARGO_MANIFEST_DIR"))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut log = BufReader::new(child.stderr.take().unwrap());
        let (mut operations, mut admin) = (None, None);
        let clients = loop {
            let line = next_line(&mut log);
            let address = line["address"].as_str().map(|text| text.parse().unwrap());
            match (line["message"].as_str(), line["setting"].as_str()) {
                (Some("serving"), _) => break address.unwrap(),
                (_, Some("operations.bind")) => operations = address,
                (_, Some("admin.bind")) => admin = address,
                // What else there is to say, as of the limit of open files.
                _ => {}
            }
        };
        Self {
            child,
            clients,
            operations,
            admin,
            log,
        }
    }

    /// With an operators' API for those who have `KEY`, and one more setting. The directory holds the
    /// file of keys.
    fn with_operators(setting: &str) -> (Self, TempDir) {
        let directory = tempfile::tempdir().unwrap();
        let keys = file(&directory, "keys", &format!("ops {KEY}\n"));
        let server = Self::start(&[
            "--admin-bind",
            "127.0.0.1:0",
            "--admin-keys",
            keys.to_str().unwrap(),
            "--set",
            setting,
        ]);
        (server, directory)
    }

    /// Waits for a line of the log.
    fn logs(&mut self, message: &str) -> serde_json::Value {
        loop {
            let line = next_line(&mut self.log);
            if line["message"] == message {
                return line;
            }
        }
    }

    fn series(&self, series: &str) -> String {
        let page = get(self.operations.unwrap(), "/metrics", "");
        let line = page.lines().find(|line| line.starts_with(series));
        line.unwrap_or_default().to_owned()
    }
}

impl Drop for Serving {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn next_line(log: &mut impl BufRead) -> serde_json::Value {
    let mut line = String::new();
    assert_ne!(log.read_line(&mut line).unwrap(), 0, "the server ended");
    serde_json::from_str(&line).unwrap()
}

/// Sends a request over any connection and reads to its end.
fn exchange(mut stream: impl Read + Write, head: &str, body: &str) -> String {
    let length = body.len();
    let request =
        format!("{head}Host: a\r\nConnection: close\r\nContent-Length: {length}\r\n\r\n{body}");
    stream.write_all(request.as_bytes()).unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    answer
}

fn get(address: SocketAddr, path: &str, headers: &str) -> String {
    let stream = TcpStream::connect(address).unwrap();
    exchange(stream, &format!("GET {path} HTTP/1.1\r\n{headers}"), "")
}

fn post(address: SocketAddr, path: &str, headers: &str) -> String {
    let stream = TcpStream::connect(address).unwrap();
    exchange(stream, &format!("POST {path} HTTP/1.1\r\n{headers}"), BODY)
}

fn bearer(key: &str) -> String {
    format!("Authorization: Bearer {key}\r\n")
}

fn status(answer: &str) -> u16 {
    answer
        .strip_prefix("HTTP/1.1 ")
        .and_then(|rest| rest.get(..3))
        .and_then(|status| status.parse().ok())
        .unwrap_or_else(|| panic!("{answer}"))
}

/// Replaces a file by a rename.
fn replace(file: &Path, text: &str) {
    let new = file.with_extension("new");
    fs::write(&new, text).unwrap();
    fs::rename(new, file).unwrap();
}

fn file(directory: &TempDir, name: &str, text: &str) -> PathBuf {
    let file = directory.path().join(name);
    fs::write(&file, text).unwrap();
    file
}

const INFER: &str = "/v2/models/iris/infer";

#[test]
fn with_api_keys_only_health_is_for_everybody() {
    let directory = tempfile::tempdir().unwrap();
    let keys = file(&directory, "keys", &format!("billing {KEY}\n"));
    let mut server = Serving::start(&[
        "--api-keys",
        keys.to_str().unwrap(),
        "--operations-bind",
        "127.0.0.1:0",
        "--log-level",
        "debug",
    ]);
    let clients = server.clients;
    for path in ["/", "/v2/health/live", "/v2/health/ready"] {
        assert_eq!(status(&get(clients, path, "")), 200, "{path}");
    }
    for path in ["//", "/v2/health/x", "/v2/health/live/x", "/%2e"] {
        assert_eq!(status(&get(clients, path, "")), 401, "{path}");
    }
    for path in [
        "/v2",
        "/v2/models/iris",
        "/v1/models",
        "/metrics",
        "/nothing",
    ] {
        assert_eq!(status(&get(clients, path, "")), 401, "{path}");
    }
    let refused = post(clients, INFER, "");
    assert_eq!(status(&refused), 401);
    assert!(
        refused.contains("\r\nwww-authenticate: Bearer\r\n"),
        "{refused}"
    );
    assert!(refused.contains(r#""code":"unauthorized""#), "{refused}");
    for wrong in [OTHER_KEY, "", "billing", &KEY[1..]] {
        let refused = post(clients, INFER, &bearer(wrong));
        assert_eq!(status(&refused), 401, "{wrong}");
        assert!(wrong.is_empty() || !refused.contains(wrong), "{refused}");
    }
    assert_eq!(status(&post(clients, INFER, &bearer(KEY))), 200);
    let own_header = format!("X-API-Key: {KEY}\r\n");
    assert_eq!(status(&post(clients, INFER, &own_header)), 200);
    // The metrics have moved.
    assert_eq!(status(&get(clients, "/metrics", &bearer(KEY))), 404);
    assert_eq!(
        server.series("safeserve_api_key_requests_total{key=\"billing\"}"),
        "safeserve_api_key_requests_total{key=\"billing\"} 3"
    );
    // The log has the name and no key.
    let line = loop {
        let line = server.logs("request");
        if line["status"] == 200 && line["path"] == INFER {
            break line;
        }
    };
    assert_eq!(line["client"], "billing");
    assert!(!line.to_string().contains(KEY), "{line}");
}

#[test]
fn keys_are_read_again_and_a_bad_file_changes_nothing() {
    let directory = tempfile::tempdir().unwrap();
    let keys = file(&directory, "keys", &format!("old {KEY}\n"));
    let mut server = Serving::start(&[
        "--api-keys",
        keys.to_str().unwrap(),
        "--operations-bind",
        "127.0.0.1:0",
    ]);
    let ask = |server: &Serving, key| status(&post(server.clients, INFER, &bearer(key)));
    replace(&keys, &format!("old {KEY}\nnew {OTHER_KEY}\n"));
    server.logs("read again");
    assert_eq!((ask(&server, KEY), ask(&server, OTHER_KEY)), (200, 200));

    replace(&keys, "new short\n");
    let line = server.logs("the new version is refused: the one before goes on");
    let reason = line["reason"].as_str().unwrap();
    assert!(reason.contains("line 1: the key is shorter"), "{reason}");
    assert!(!reason.contains("short\n"), "{reason}");
    assert_eq!((ask(&server, KEY), ask(&server, OTHER_KEY)), (200, 200));
    let stale = "safeserve_file_stale{file=\"api_keys\"}";
    assert_eq!(server.series(stale), format!("{stale} 1"));

    replace(&keys, &format!("new {OTHER_KEY}\n"));
    server.logs("read again");
    assert_eq!((ask(&server, KEY), ask(&server, OTHER_KEY)), (401, 200));
    assert_eq!(server.series(stale), format!("{stale} 0"));
}

#[test]
fn the_operations_listener_has_health_and_metrics_and_nothing_else() {
    let server = Serving::start(&["--operations-bind", "127.0.0.1:0"]);
    let operations = server.operations.unwrap();
    for path in ["/v2/health/live", "/v2/health/ready", "/metrics"] {
        assert_eq!(status(&get(operations, path, "")), 200, "{path}");
    }
    for path in ["/", "/v2", "/v2/models/iris", "/v1/models", "/admin/drain"] {
        assert_eq!(status(&get(operations, path, "")), 404, "{path}");
    }
    assert_eq!(status(&post(operations, INFER, "")), 404);
    assert_eq!(status(&post(operations, "/metrics", "")), 405);
    assert_eq!(status(&get(server.clients, "/metrics", "")), 404);
    let health = |url: String| {
        let mut health = Command::new(env!("CARGO_BIN_EXE_safeserve"));
        health.args(["health", &url]).stderr(Stdio::null());
        health.status().unwrap().code()
    };
    assert_eq!(health(format!("http://{operations}")), Some(0));
    assert_eq!(health(format!("http://{operations}/nothing")), Some(1));
    assert_eq!(health("http://127.0.0.1:1".into()), Some(1));
}

#[test]
fn the_operators_api_is_nowhere_without_its_listener_and_never_without_a_key() {
    let (mut server, _keys) = Serving::with_operators("server.drain_delay_ms=0");
    let admin = server.admin.unwrap();
    let calls = ["/admin/log-level", "/admin/log-level/debug", "/admin/drain"];
    for path in calls {
        // On the clients' listener there is nothing, with a key or without.
        assert_eq!(
            status(&get(server.clients, path, &bearer(KEY))),
            404,
            "{path}"
        );
        assert_eq!(
            status(&post(server.clients, path, &bearer(KEY))),
            404,
            "{path}"
        );
        for headers in [String::new(), bearer(OTHER_KEY), bearer("ops")] {
            assert_eq!(status(&get(admin, path, &headers)), 401, "{path}");
            assert_eq!(status(&post(admin, path, &headers)), 401, "{path}");
        }
    }
    assert_eq!(status(&get(admin, "/nothing", "")), 401);
    assert_eq!(status(&get(admin, "/nothing", &bearer(KEY))), 404);
    assert_eq!(status(&get(admin, "/admin/drain", &bearer(KEY))), 405);

    let level = |answer: String| answer.rsplit_once("\r\n\r\n").unwrap().1.to_owned();
    assert_eq!(
        level(get(admin, "/admin/log-level", &bearer(KEY))),
        r#"{"level":"info"}"#
    );
    let bad = post(admin, "/admin/log-level/loud", &bearer(KEY));
    assert_eq!(status(&bad), 400);
    assert!(bad.contains("error, warn, info, debug, trace"), "{bad}");
    post(admin, "/admin/log-level/debug", &bearer(KEY));
    assert_eq!(status(&post(server.clients, INFER, "")), 200);
    while server.logs("request")["path"] != INFER {}

    let model = |call: &str| {
        let path = format!("/v2/repository/models/{call}");
        assert_eq!(status(&post(server.clients, &path, &bearer(KEY))), 404);
        assert_eq!(status(&post(admin, &path, "")), 401);
        let answer = post(admin, &path, &bearer(KEY));
        (
            status(&answer),
            answer.rsplit_once("\r\n\r\n").unwrap().1.to_owned(),
        )
    };
    let (unloaded, entries) = model("iris/unload");
    assert_eq!(unloaded, 200);
    assert!(entries.contains(r#""state":"UNAVAILABLE""#), "{entries}");
    assert_eq!(status(&post(server.clients, INFER, "")), 503);
    // The server itself stays ready.
    assert_eq!(status(&get(server.clients, "/v2/health/ready", "")), 200);
    let (loaded, entries) = model("iris/load");
    assert_eq!(loaded, 200);
    assert!(entries.contains(r#""state":"READY""#), "{entries}");
    assert_eq!(status(&post(server.clients, INFER, "")), 200);
    assert_eq!(model("absent/load").0, 404);
    let index = get(admin, "/v2/repository/index", &bearer(KEY));
    assert!(index.contains(r#""name":"iris""#), "{index}");

    assert_eq!(status(&post(admin, "/admin/drain", &bearer(KEY))), 200);
    assert_eq!(server.child.wait().unwrap().code(), Some(0));
}

#[test]
fn the_operators_api_does_not_start_without_keys() {
    for arguments in [
        &["--admin-bind", "127.0.0.1:0"][..],
        &["--admin-bind", "127.0.0.1:0", "--admin-keys", "absent"],
        &["--api-keys", "absent"],
        &["--tls-certificate", "absent"],
        &["--tls-certificate", "absent", "--tls-key", "absent"],
    ] {
        let output = Command::new(env!("CARGO_BIN_EXE_safeserve"))
            .args(["--models", "models/iris", "--bind", "127.0.0.1:0"])
            .args(arguments)
            .env_clear()
            .current_dir(env!("CARGO_MANIFEST_DIR"))
            .output()
            .unwrap();
        assert_eq!(output.status.code(), Some(2), "{arguments:?}");
        let error = String::from_utf8(output.stderr).unwrap();
        assert!(
            error.contains("admin.keys") || error.contains("absent") || error.contains("tls.key"),
            "{error}"
        );
    }
}

/// A certificate authority, and what it has signed.
pub(crate) struct Authority {
    pub(crate) pem: String,
    issuer: Issuer<'static, KeyPair>,
}

impl Authority {
    pub(crate) fn new() -> Self {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let pem = params.self_signed(&key).unwrap().pem();
        let issuer = Issuer::new(params, key);
        Self { pem, issuer }
    }

    /// A certificate and its key, in PEM.
    pub(crate) fn sign(&self, name: &str) -> (String, String) {
        let key = KeyPair::generate().unwrap();
        let params = CertificateParams::new(vec![name.to_owned()]).unwrap();
        let certificate = params.signed_by(&key, &self.issuer).unwrap();
        (certificate.pem(), key.serialize_pem())
    }
}

/// A connection that accepts certificates of this authority.
fn tls(
    address: SocketAddr,
    authority: &str,
    identity: Option<&(String, String)>,
) -> StreamOwned<ClientConnection, TcpStream> {
    let mut roots = RootCertStore::empty();
    let authority = CertificateDer::from_pem_slice(authority.as_bytes()).unwrap();
    roots.add(authority).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots);
    let config = match identity {
        None => config.with_no_client_auth(),
        Some((certificate, key)) => {
            let certificate = CertificateDer::from_pem_slice(certificate.as_bytes()).unwrap();
            let key = PrivateKeyDer::from_pem_slice(key.as_bytes()).unwrap();
            config
                .with_client_auth_cert(vec![certificate], key)
                .unwrap()
        }
    };
    let name = ServerName::try_from("localhost").unwrap();
    let connection = ClientConnection::new(Arc::new(config), name).unwrap();
    StreamOwned::new(connection, TcpStream::connect(address).unwrap())
}

/// Connects and sends one request; the error of the handshake if that fails.
fn over_tls(
    address: SocketAddr,
    authority: &str,
    identity: Option<&(String, String)>,
) -> std::io::Result<String> {
    let mut stream = tls(address, authority, identity);
    stream.write_all(b"GET /v2/health/ready HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    Ok(answer)
}

#[test]
fn certificates_are_read_again_and_open_connections_keep_theirs() {
    let directory = tempfile::tempdir().unwrap();
    let (first, second) = (Authority::new(), Authority::new());
    let (certificate, key) = first.sign("localhost");
    let certificate = file(&directory, "certificate.pem", &certificate);
    let key = file(&directory, "key.pem", &key);
    let mut server = Serving::start(&[
        "--tls-certificate",
        certificate.to_str().unwrap(),
        "--tls-key",
        key.to_str().unwrap(),
        "--operations-bind",
        "127.0.0.1:0",
    ]);
    let clients = server.clients;
    assert_eq!(status(&over_tls(clients, &first.pem, None).unwrap()), 200);
    assert!(over_tls(clients, &second.pem, None).is_err());
    let mut open = tls(clients, &first.pem, None);
    let ask = |open: &mut StreamOwned<ClientConnection, TcpStream>| {
        open.write_all(b"HEAD /v2 HTTP/1.1\r\nHost: a\r\n\r\n")
            .unwrap();
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            let mut byte = [0];
            open.read_exact(&mut byte).unwrap();
            head.extend(byte);
        }
        status(&String::from_utf8(head).unwrap())
    };
    assert_eq!(ask(&mut open), 200);
    // A client without TLS is disconnected, and counted.
    let mut plain = TcpStream::connect(clients).unwrap();
    plain
        .write_all(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
        .unwrap();
    let _ = plain.read_to_end(&mut Vec::new());

    // A certificate without its key is refused.
    let (new_certificate, new_key) = second.sign("localhost");
    replace(&certificate, &new_certificate);
    let line = server.logs("the new version is refused: the one before goes on");
    assert_eq!(line["file"], "tls");
    assert_eq!(status(&over_tls(clients, &first.pem, None).unwrap()), 200);
    replace(&key, &new_key);
    server.logs("read again");
    assert_eq!(status(&over_tls(clients, &second.pem, None).unwrap()), 200);
    assert!(over_tls(clients, &first.pem, None).is_err());
    assert_eq!(ask(&mut open), 200);
    // A client sees its connection end before that is counted.
    let failed = "safeserve_connections_closed_total{reason=\"tls_handshake\"}";
    while server.series(failed) != format!("{failed} 3") {}
}

#[test]
fn with_authorities_for_clients_only_their_clients_are_served() {
    let directory = tempfile::tempdir().unwrap();
    let (ours, theirs) = (Authority::new(), Authority::new());
    let (certificate, key) = ours.sign("localhost");
    let certificate = file(&directory, "certificate.pem", &certificate);
    let key = file(&directory, "key.pem", &key);
    let authorities = file(&directory, "authorities.pem", &theirs.pem);
    let client_ca = format!("tls.client_ca={}", authorities.display());
    let server = Serving::start(&[
        "--tls-certificate",
        certificate.to_str().unwrap(),
        "--tls-key",
        key.to_str().unwrap(),
        "--set",
        &client_ca,
    ]);
    let ask = |identity: Option<&(String, String)>| over_tls(server.clients, &ours.pem, identity);
    let welcome = theirs.sign("client");
    assert_eq!(status(&ask(Some(&welcome)).unwrap()), 200);
    assert!(ask(None).is_err());
    assert!(ask(Some(&ours.sign("client"))).is_err());
}

#[test]
fn every_answer_says_its_length_once_and_the_same_to_head() {
    let server = Serving::start(&[]);
    for path in [
        "/",
        "/metrics",
        "/nothing",
        "/v2",
        "/v1/models",
        "/v2/health/live",
    ] {
        let lengths = ["GET", "HEAD"].map(|method| {
            let stream = TcpStream::connect(server.clients).unwrap();
            let answer = exchange(stream, &format!("{method} {path} HTTP/1.1\r\n"), "");
            let (head, body) = answer.split_once("\r\n\r\n").unwrap();
            let lengths: Vec<usize> = head
                .lines()
                .filter_map(|line| line.strip_prefix("content-length: "))
                .map(|length| length.parse().unwrap())
                .collect();
            let [length] = lengths[..] else {
                panic!("{method} {path}: {head}");
            };
            assert_eq!(
                body.len(),
                if method == "GET" { length } else { 0 },
                "{path}"
            );
            length
        });
        // The metrics page counts what was asked between the two.
        assert!(lengths[0] == lengths[1] || path == "/metrics", "{path}");
    }
}

#[test]
fn a_signal_after_an_operators_drain_ends_nothing_early() {
    let (mut server, _keys) = Serving::with_operators("server.drain_delay_ms=3600000");
    let drained = post(server.admin.unwrap(), "/admin/drain", &bearer(KEY));
    assert_eq!(status(&drained), 200);
    server.logs("draining: answering, not ready");
    let process = server.child.id();
    let signal = || {
        let kill = format!("kill -TERM {process}");
        assert!(
            Command::new("sh")
                .args(["-c", &kill])
                .status()
                .unwrap()
                .success()
        );
    };
    signal();
    assert_eq!(status(&post(server.clients, INFER, "")), 200);
    // Two that come close together may be one to the process.
    let exit = loop {
        signal();
        if let Some(exit) = server.child.try_wait().unwrap() {
            break exit;
        }
    };
    assert_eq!(exit.code(), Some(130));
}
