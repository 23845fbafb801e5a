//! TLS: certificates, and the handshake before a connection's first request.

use std::path::PathBuf;
use std::sync::Arc;

use rustls::RootCertStore;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::WebPkiClientVerifier;

use crate::config::Tls;
use crate::metrics::{Metrics, WatchedFile};
use crate::watched::Watched;

/// What handshakes are made with, as the files were when they were last good.
pub type Certificates = Watched<rustls::ServerConfig>;

/// Reads the certificate, its key and the clients' authorities; `None` if HTTP is plain.
///
/// # Errors
/// Which file cannot be used, and why.
pub fn certificates(tls: &Tls, metrics: &Metrics) -> Result<Option<Arc<Certificates>>, String> {
    let (Some(certificate), Some(key)) = (&tls.certificate, &tls.key) else {
        return Ok(None);
    };
    let mut files = vec![certificate.clone(), key.clone()];
    files.extend(tls.client_ca.clone());
    Watched::start(WatchedFile::Tls, files, read, metrics).map(Some)
}

/// A configuration whose handshakes agree on a protocol, for clients that ask for one.
pub(super) fn agreeing_on(
    config: Arc<rustls::ServerConfig>,
    protocol: &[u8],
) -> Arc<rustls::ServerConfig> {
    if config.alpn_protocols == [protocol] {
        return config;
    }
    let mut config = rustls::ServerConfig::clone(&config);
    config.alpn_protocols = vec![protocol.to_vec()];
    Arc::new(config)
}

/// Makes a configuration of the files: certificate, key and perhaps authorities.
fn read(files: &[PathBuf]) -> Result<rustls::ServerConfig, String> {
    let wrong = |setting: &str, file: &PathBuf, reason: &dyn std::fmt::Display| {
        format!("{setting}: {}: {reason}", file.display())
    };
    let certificates = |setting: &str, file: &PathBuf| -> Result<Vec<_>, String> {
        let found: Result<Vec<_>, _> = CertificateDer::pem_file_iter(file)
            .and_then(Iterator::collect)
            .map_err(|error| wrong(setting, file, &error));
        match found? {
            found if found.is_empty() => Err(wrong(
                setting,
                file,
                &"expected certificates in PEM, found none",
            )),
            found => Ok(found),
        }
    };
    let chain = certificates("tls.certificate", &files[0])?;
    let key = PrivateKeyDer::from_pem_file(&files[1])
        .map_err(|error| wrong("tls.key", &files[1], &error))?;

    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = rustls::ServerConfig::builder_with_provider(Arc::clone(&provider))
        .with_safe_default_protocol_versions()
        .map_err(|error| error.to_string())?;
    let builder = match files.get(2) {
        None => builder.with_no_client_auth(),
        Some(file) => {
            let mut roots = RootCertStore::empty();
            for authority in certificates("tls.client_ca", file)? {
                roots
                    .add(authority)
                    .map_err(|error| wrong("tls.client_ca", file, &error))?;
            }
            let verifier = WebPkiClientVerifier::builder_with_provider(roots.into(), provider);
            let verifier = verifier
                .build()
                .map_err(|error| wrong("tls.client_ca", file, &error))?;
            builder.with_client_cert_verifier(verifier)
        }
    };
    // That the key is the certificate's is checked here too.
    let mut config = builder
        .with_single_cert(chain, key)
        .map_err(|error| wrong("tls.key", &files[1], &error))?;
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(config)
}
