//! The server under load: where it is, and connections to it.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::{fmt, io};

use http::{HeaderValue, Uri};
use rustls::RootCertStore;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

/// Where systems keep trusted authorities, in PEM; `SSL_CERT_FILE` takes precedence.
const AUTHORITIES: [&str; 3] = [
    "/etc/ssl/certs/ca-certificates.crt",
    "/etc/pki/tls/certs/ca-bundle.crt",
    "/etc/ssl/cert.pem",
];

/// A connection that HTTP is spoken over.
pub(super) trait Socket: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> Socket for T {}

/// A server's address.
pub(super) struct Target {
    /// The URL as given, for messages.
    url: String,
    addresses: Vec<SocketAddr>,
    /// The value of `Host`.
    pub(super) host: HeaderValue,
    /// The prefix of each path; empty or `/something`.
    prefix: String,
    tls: Option<(TlsConnector, ServerName<'static>)>,
}

/// Why there is no server to load at an address.
#[derive(Debug)]
pub enum TargetError {
    /// No URL of a server.
    Url(String),
    /// Its name has no address.
    Name {
        /// The name and the port.
        name: String,
        /// What the resolver said.
        error: io::Error,
    },
    /// The authorities that HTTPS needs cannot be read.
    Authorities {
        /// Where they were expected.
        file: PathBuf,
        /// What is wrong.
        reason: String,
    },
}

impl fmt::Display for TargetError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Url(url) => write!(
                f,
                "--url {url:?}: expected http://HOST:PORT or https://HOST:PORT, with a path if the server \
                is below one"
            ),
            Self::Name { name, error } => write!(f, "--url: no address of {name}: {error}"),
            Self::Authorities { file, reason } => write!(
                f,
                "--ca {}: {reason}; give the PEM file of the authorities that signed the server's certificate",
                file.display()
            ),
        }
    }
}

impl std::error::Error for TargetError {}

impl Target {
    /// The server of a URL, its name looked up once. `authorities` is the PEM file of those that a
    /// certificate may come from; `None` for those of the system.
    pub(super) async fn find(url: &str, authorities: Option<&Path>) -> Result<Self, TargetError> {
        let wrong = || TargetError::Url(url.to_owned());
        let uri: Uri = url.parse().map_err(|_| wrong())?;
        let is_tls = match uri.scheme_str() {
            Some("http") => false,
            Some("https") => true,
            _ => return Err(wrong()),
        };
        let authority = uri.authority().ok_or_else(wrong)?;
        // User names and passwords in URLs are not supported; --header sets what to send.
        if authority.as_str().contains('@') || uri.query().is_some() {
            return Err(wrong());
        }
        let host = authority.host();
        let bare = host.trim_start_matches('[').trim_end_matches(']');
        let port = uri.port_u16().unwrap_or(if is_tls { 443 } else { 80 });
        let looked_up = tokio::net::lookup_host((bare, port)).await;
        let addresses: Vec<SocketAddr> = looked_up
            .map_err(|error| TargetError::Name {
                name: format!("{host}:{port}"),
                error,
            })?
            .collect();
        let tls = match is_tls {
            true => {
                let name = ServerName::try_from(bare.to_owned()).map_err(|_| wrong())?;
                Some((connector(authorities)?, name))
            }
            false => None,
        };
        Ok(Self {
            url: url.trim_end_matches('/').to_owned(),
            addresses,
            host: HeaderValue::from_str(authority.as_str()).map_err(|_| wrong())?,
            prefix: uri.path().trim_end_matches('/').to_owned(),
            tls,
        })
    }

    pub(super) fn url(&self) -> &str {
        &self.url
    }

    /// A path of the server.
    pub(super) fn path(&self, path: &str) -> String {
        format!("{}{path}", self.prefix)
    }

    /// Whether it is this machine, whose cores the generator takes from the server.
    pub(super) fn is_local(&self) -> bool {
        self.addresses
            .iter()
            .all(|address| address.ip().is_loopback())
    }

    pub(super) async fn connect(&self) -> io::Result<Box<dyn Socket>> {
        let stream = TcpStream::connect(self.addresses.as_slice()).await?;
        stream.set_nodelay(true)?;
        Ok(match &self.tls {
            None => Box::new(stream),
            Some((connector, name)) => Box::new(connector.connect(name.clone(), stream).await?),
        })
    }
}

fn connector(authorities: Option<&Path>) -> Result<TlsConnector, TargetError> {
    let file = match authorities {
        Some(file) => file.to_owned(),
        None => of_the_system(),
    };
    let wrong = |reason: String| TargetError::Authorities {
        file: file.clone(),
        reason,
    };
    let mut roots = RootCertStore::empty();
    let certificates: Result<Vec<_>, _> =
        CertificateDer::pem_file_iter(&file).and_then(Iterator::collect);
    let certificates = certificates.map_err(|error| wrong(error.to_string()))?;
    // The system's authorities may include some that this library does not accept.
    let (added, _) = roots.add_parsable_certificates(certificates);
    if added == 0 {
        return Err(wrong("expected certificates in PEM, found none".to_owned()));
    }
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|error| wrong(error.to_string()))?
        .with_root_certificates(roots)
        .with_no_client_auth();
    Ok(TlsConnector::from(Arc::new(config)))
}

fn of_the_system() -> PathBuf {
    let given = std::env::var_os("SSL_CERT_FILE").map(PathBuf::from);
    let known = || AUTHORITIES.iter().map(PathBuf::from);
    given
        .or_else(|| known().find(|file| file.is_file()))
        .unwrap_or_else(|| PathBuf::from(AUTHORITIES[0]))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_url_names_host_port_and_perhaps_a_path() {
        let target = Target::find("http://127.0.0.1:81/serving/", None)
            .await
            .unwrap();
        assert_eq!(target.addresses, ["127.0.0.1:81".parse().unwrap()]);
        assert_eq!(target.host, "127.0.0.1:81");
        assert_eq!(target.path("/v2"), "/serving/v2");
        assert!(target.is_local());
        let target = Target::find("http://[::1]", None).await.unwrap();
        assert_eq!(target.addresses, ["[::1]:80".parse().unwrap()]);
        assert_eq!(target.path("/v2"), "/v2");
        let target = Target::find("http://10.1.2.3", None).await.unwrap();
        assert!(!target.is_local());
        for url in [
            "",
            "127.0.0.1:80",
            "ftp://a",
            "/v2",
            "http://me:it@a",
            "http://a?b",
        ] {
            let refusal = Target::find(url, None)
                .await
                .err()
                .map(|error| error.to_string());
            assert!(
                refusal.is_some_and(|text| text.contains("http://HOST:PORT")),
                "{url}"
            );
        }
    }

    #[tokio::test]
    async fn https_needs_authorities() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let refusal = Target::find("https://127.0.0.1", Some(file.path())).await;
        let refusal = refusal.err().unwrap().to_string();
        assert!(
            refusal.contains("found none; give the PEM file"),
            "{refusal}"
        );
    }
}
