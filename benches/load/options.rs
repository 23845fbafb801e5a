//! The options of the command line.

use std::path::PathBuf;

pub(crate) struct Options {
    pub(crate) seconds: f64,
    pub(crate) rounds: usize,
    pub(crate) connections: Vec<usize>,
    /// The networks to measure; empty for all.
    pub(crate) networks: Vec<String>,
    /// Other builds of the server, to measure with this one.
    pub(crate) builds: Vec<String>,
    /// Servers that run already, to measure with this one.
    pub(crate) peers: Vec<Peer>,
    /// Where the results go as JSON.
    pub(crate) json: Option<PathBuf>,
    pub(crate) baseline: PathBuf,
    pub(crate) save_baseline: bool,
    /// Where to write the networks, instead of measuring.
    pub(crate) write_networks: Option<PathBuf>,
}

/// A server that someone else started.
pub(crate) struct Peer {
    pub(crate) name: String,
    pub(crate) address: String,
    /// Where it takes requests; `None` for where safeserve does.
    pub(crate) path: Option<String>,
    /// What it is sent; `None` for what safeserve is sent.
    pub(crate) body: Option<Vec<u8>>,
    /// Whose CPU time counts.
    pub(crate) process: Option<u32>,
}

impl Options {
    /// Reads the command line.
    ///
    /// # Panics
    /// If it has an unknown option.
    pub(crate) fn parse(mut arguments: impl Iterator<Item = String>) -> Self {
        let mut options = Self {
            seconds: 1.0,
            rounds: 5,
            connections: vec![1, 16, 64, 256],
            networks: Vec::new(),
            builds: Vec::new(),
            peers: Vec::new(),
            json: None,
            baseline: concat!(env!("CARGO_MANIFEST_DIR"), "/benches/load/baseline.toml").into(),
            save_baseline: false,
            write_networks: None,
        };
        while let Some(argument) = arguments.next() {
            let mut value = || {
                let value = arguments.next();
                value.unwrap_or_else(|| panic!("{argument} needs a value"))
            };
            match argument.as_str() {
                // Cargo passes it to every benchmark.
                "--bench" => {}
                "--seconds" => options.seconds = value().parse().expect("a number of seconds"),
                "--rounds" => options.rounds = value().parse().expect("a number of rounds"),
                "--connections" => {
                    let list = value();
                    let numbers = list.split(',').map(|n| n.parse().expect("a number"));
                    options.connections = numbers.collect();
                }
                "--build" => options.builds.push(value()),
                "--against" => options.peers.push(Peer::parse(&value())),
                "--json" => options.json = Some(value().into()),
                "--baseline" => options.baseline = value().into(),
                "--save-baseline" => options.save_baseline = true,
                "--write-networks" => options.write_networks = Some(value().into()),
                name if !name.starts_with('-') => options.networks.push(name.to_owned()),
                other => panic!("there is no option {other}; see benches/load/main.rs"),
            }
        }
        assert!(options.rounds > 0, "--rounds must be at least 1");
        options
    }
}

impl Peer {
    /// Reads `NAME=http://ADDRESS[/PATH][,body=FILE][,process=ID]`.
    fn parse(text: &str) -> Self {
        const SYNTAX: &str =
            "--against takes NAME=http://ADDRESS[/PATH][,body=FILE][,process=ID], got";
        let mut fields = text.split(',');
        let (name, url) = fields
            .next()
            .and_then(|field| field.split_once("=http://"))
            .unwrap_or_else(|| panic!("{SYNTAX} {text}"));
        let (address, path) = match url.find('/') {
            Some(slash) => (&url[..slash], Some(url[slash..].to_owned())),
            None => (url, None),
        };
        let mut peer = Self {
            name: name.to_owned(),
            address: address.to_owned(),
            path,
            body: None,
            process: None,
        };
        for field in fields {
            match field.split_once('=') {
                Some(("body", file)) => {
                    peer.body = Some(std::fs::read(file).expect("the body can be read"));
                }
                Some(("process", id)) => peer.process = Some(id.parse().expect("a process id")),
                _ => panic!("{SYNTAX} {text}"),
            }
        }
        peer
    }
}
