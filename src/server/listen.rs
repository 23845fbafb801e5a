//! Where a server listens, and how many connections the process has file descriptors for.

use std::net::SocketAddr;
use std::sync::Arc;
use std::{fmt, io};

use tracing::warn;

use super::tls::Certificates;
use crate::config::Config;
use crate::metrics::max_open_files;

/// The most connections of a listener that is not for clients.
pub const SIDE_CONNECTIONS: usize = 64;

/// File descriptors that are not for clients: standard streams, the listeners, the runtime's own,
/// the files of models that are being loaded, and the connections of the other two listeners.
pub(super) const RESERVED_FILES: usize = 64 + 2 * SIDE_CONNECTIONS;

/// Where a server listens.
#[derive(Clone, Debug)]
pub struct Listen {
    /// The setting that says where, for messages.
    pub setting: &'static str,
    /// The address; port 0 takes a free one.
    pub address: SocketAddr,
    /// What connections are encrypted with, if they are.
    pub certificates: Option<Arc<Certificates>>,
    /// The most connections open at once.
    pub max_connections: usize,
}

impl Listen {
    /// Where clients are answered: on `server.bind`.
    #[must_use]
    pub fn for_clients(config: &Config, certificates: Option<Arc<Certificates>>) -> Self {
        Self {
            setting: "server.bind",
            address: config.server.bind,
            certificates,
            max_connections: within_open_files(
                config.limits.max_connections,
                max_open_files().map(|files| files - files_of_grpc(config, files)),
            ),
        }
    }

    /// Where clients are answered over gRPC, if they are: on `grpc.bind`.
    #[must_use]
    pub fn for_grpc(config: &Config, certificates: Option<Arc<Certificates>>) -> Option<Self> {
        let files = max_open_files();
        Some(Self {
            setting: "grpc.bind",
            address: config.grpc.bind?,
            certificates,
            max_connections: match files {
                Some(files) => files_of_grpc(config, files),
                None => config.grpc.max_connections,
            },
        })
    }
}

/// The file descriptors that gRPC's connections may take: a quarter of all, at most.
fn files_of_grpc(config: &Config, files: usize) -> usize {
    match config.grpc.bind {
        Some(_) => config.grpc.max_connections.min(files / 4),
        None => 0,
    }
}

/// The address cannot be listened on.
#[derive(Debug)]
pub struct BindError {
    pub(super) setting: &'static str,
    pub(super) address: SocketAddr,
    pub(super) source: io::Error,
}

impl fmt::Display for BindError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let hint = match self.source.kind() {
            io::ErrorKind::AddrInUse => "stop what listens there, or choose another port",
            io::ErrorKind::PermissionDenied => "choose a port above 1023",
            io::ErrorKind::AddrNotAvailable => "choose an address of this machine, or 0.0.0.0",
            _ => "choose another address",
        };
        write!(
            f,
            "{}: cannot listen on {}; {hint} (--{} ADDR:PORT)",
            self.setting,
            self.address,
            match self.setting {
                "server.bind" => "bind",
                "admin.bind" => "admin-bind",
                "grpc.bind" => "grpc-bind",
                _ => "operations-bind",
            }
        )
    }
}

impl std::error::Error for BindError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        Some(&self.source)
    }
}

/// As many connections as wanted and as the process may have files open.
fn within_open_files(wanted: usize, max_open_files: Option<usize>) -> usize {
    let Some(files) = max_open_files else {
        return wanted;
    };
    let possible = files.saturating_sub(RESERVED_FILES).max(1);
    if wanted > possible {
        warn!(
            wanted,
            possible,
            max_open_files = files,
            "limits.max_connections is lowered: the process may not open more files; \
             raise its limit (ulimit -n)"
        );
    }
    wanted.min(possible)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn connections_leave_files_for_everything_else() {
        assert_eq!(within_open_files(4096, None), 4096);
        assert_eq!(within_open_files(4096, Some(1_048_576)), 4096);
        assert_eq!(within_open_files(4096, Some(1024)), 832);
        assert_eq!(within_open_files(4096, Some(10)), 1);
    }
}
