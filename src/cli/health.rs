//! `safeserve health`: asks a running server whether it is ready, for container images that have
//! no shell and no curl.

use std::io::{BufRead, BufReader, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpStream, ToSocketAddrs};
use std::sync::mpsc;
use std::time::Duration;
use std::{fmt, io, thread};

use http::Uri;

use super::console::report;
use super::exit::Exit;
use crate::config::{Config, Settings};

/// How long the whole check may take, including name resolution. Orchestrators wait a little longer.
const TIMEOUT: Duration = Duration::from_secs(2);

const READY: &str = "/v2/health/ready";

/// Why a server is not ready, or cannot be asked.
#[derive(Debug)]
enum Unhealthy {
    /// The address cannot be asked.
    Address { given: String, hint: &'static str },
    /// Nothing answers.
    Unreachable { address: String, error: io::Error },
    /// The answer is another than 200.
    Status { address: String, line: String },
}

impl fmt::Display for Unhealthy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Address { given, hint } => write!(f, "health: cannot ask {given}: {hint}"),
            Self::Unreachable { address, error } => {
                write!(f, "health: no answer from {address}: {error}")
            }
            Self::Status { address, line } => {
                write!(f, "health: {address} is not ready: {line}")
            }
        }
    }
}

impl std::error::Error for Unhealthy {}

/// Asks the server at `url`, or the one that these settings would start.
pub(super) fn run(url: Option<&str>, settings: &Settings) -> Exit {
    let asked = match url {
        Some(url) => target(url),
        None => configured(&settings.config),
    };
    match asked.and_then(|(address, path)| ask(&address, &path)) {
        Ok(()) => Exit::Done,
        Err(unhealthy) => {
            report(&unhealthy);
            Exit::Failed
        }
    }
}

/// The host with its port, and the path, of a URL.
fn target(url: &str) -> Result<(String, String), Unhealthy> {
    let refused = || Unhealthy::Address {
        given: format!("{url:?}"),
        hint: "expected http://HOST:PORT or http://HOST:PORT/PATH",
    };
    let uri: Uri = url.parse().map_err(|_| refused())?;
    if uri.scheme_str() != Some("http") {
        return Err(refused());
    }
    let host = uri.host().ok_or_else(refused)?;
    let path = match uri.path_and_query().map(|path| path.as_str()) {
        None | Some("" | "/") => READY,
        Some(path) => path,
    };
    let address = format!("{host}:{}", uri.port_u16().unwrap_or(80));
    Ok((address, path.to_owned()))
}

/// Where the server of these settings says whether it is ready.
fn configured(config: &Config) -> Result<(String, String), Unhealthy> {
    let mut address = match config.operations.bind {
        Some(address) => address,
        None if config.tls.certificate.is_some() => {
            return Err(Unhealthy::Address {
                given: config.server.bind.to_string(),
                hint: "it speaks TLS; set operations.bind for a listener with health checks",
            });
        }
        None => config.server.bind,
    };
    if address.ip().is_unspecified() {
        address.set_ip(match address {
            SocketAddr::V4(_) => IpAddr::V4(Ipv4Addr::LOCALHOST),
            SocketAddr::V6(_) => IpAddr::V6(Ipv6Addr::LOCALHOST),
        });
    }
    Ok((address.to_string(), READY.to_owned()))
}

/// Sends one request and reads the first line of the answer.
fn ask(address: &str, path: &str) -> Result<(), Unhealthy> {
    let line = in_time(address, path).map_err(|error| Unhealthy::Unreachable {
        address: address.to_owned(),
        error,
    })?;
    let mut words = line.split(' ');
    match (words.next(), words.next()) {
        (Some("HTTP/1.1" | "HTTP/1.0"), Some("200")) => Ok(()),
        _ => Err(Unhealthy::Status {
            address: address.to_owned(),
            line: line.chars().take(80).collect(),
        }),
    }
}

/// The first line of the answer, if the whole line arrives in time.
fn in_time(address: &str, path: &str) -> io::Result<String> {
    let (done, line) = mpsc::channel();
    let (address, path) = (address.to_owned(), path.to_owned());
    // A late thread ends with the process.
    thread::Builder::new().spawn(move || {
        let _ = done.send(status_line(&address, &path));
    })?;
    line.recv_timeout(TIMEOUT).unwrap_or_else(|_late| {
        let late = format!("none within {} s", TIMEOUT.as_secs());
        Err(io::Error::new(io::ErrorKind::TimedOut, late))
    })
}

fn status_line(address: &str, path: &str) -> io::Result<String> {
    let mut last = io::Error::from(io::ErrorKind::AddrNotAvailable);
    let sockets: Vec<SocketAddr> = address.to_socket_addrs()?.collect();
    for socket in &sockets {
        // Each address gets its share of the time.
        let timeout = TIMEOUT / u32::try_from(sockets.len()).unwrap_or(u32::MAX);
        let mut stream = match TcpStream::connect_timeout(socket, timeout) {
            Ok(stream) => stream,
            Err(error) => {
                last = error;
                continue;
            }
        };
        let request =
            format!("GET {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n");
        stream.write_all(request.as_bytes())?;
        let mut line = String::new();
        // A status line is short; a server that sends a longer one is not safeserve.
        io::Read::take(BufReader::new(stream), 1024).read_line(&mut line)?;
        return Ok(line.trim_end().to_owned());
    }
    Err(last)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Overrides;

    #[test]
    fn a_url_may_leave_out_the_path() {
        let asked = |url: &str| target(url).ok();
        let ready = |address: &str| Some((address.to_owned(), READY.to_owned()));
        assert_eq!(asked("http://a:8080"), ready("a:8080"));
        assert_eq!(asked("http://a:8080/"), ready("a:8080"));
        assert_eq!(asked("http://[::1]:8080"), ready("[::1]:8080"));
        assert_eq!(asked("http://a"), ready("a:80"));
        let live = ("a:1".to_owned(), "/v2/health/live".to_owned());
        assert_eq!(asked("http://a:1/v2/health/live"), Some(live));
        for other in ["", "a:1", "https://a:1", "/v2"] {
            assert_eq!(asked(other), None, "{other}");
        }
    }

    #[test]
    fn without_a_url_the_settings_say_where() {
        let asked = |assignments: &[&str]| {
            let settings = Settings::load(Overrides {
                assignments: assignments.iter().map(ToString::to_string).collect(),
                ..Overrides::default()
            });
            configured(&settings.unwrap().config).map(|(address, _)| address)
        };
        assert_eq!(asked(&["server.bind=0.0.0.0:9"]).unwrap(), "127.0.0.1:9");
        assert_eq!(asked(&["server.bind=[::]:9"]).unwrap(), "[::1]:9");
        assert_eq!(
            asked(&["operations.bind=10.0.0.1:7"]).unwrap(),
            "10.0.0.1:7"
        );
        let refusal = asked(&["tls.certificate=a", "tls.key=b"]).unwrap_err();
        assert!(refusal.to_string().contains("operations.bind"), "{refusal}");
    }
}
