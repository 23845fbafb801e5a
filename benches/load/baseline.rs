//! The ratios with which a change is compared.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use serde::{Deserialize, Serialize};

use super::report::{Report, Row};

/// What a ratio may lose and still count as noise.
const TOLERANCE: f64 = 0.10;

/// Safeserve's figures as parts of the parsing handler's, and where they were taken.
#[derive(Clone, Serialize, Deserialize)]
pub(crate) struct Baseline {
    /// Ratios move with the processor, less than figures do, but more than the tolerance.
    cpu: String,
    /// Requests/s, by network, then by connections.
    of_parsing: Ratios,
    /// CPU time a request. It stays the same when other processes use the cores, unlike
    /// requests/s.
    cpu_of_parsing: Ratios,
}

type Ratios = BTreeMap<String, BTreeMap<String, f64>>;

impl Baseline {
    /// The committed ratios; `None` if there are none yet.
    pub(crate) fn read(file: &Path) -> Option<Self> {
        let text = fs::read_to_string(file).ok()?;
        Some(toml::from_str(&text).expect("what --save-baseline wrote"))
    }

    /// Writes a run's ratios over those of the same cells; the cells that it did not measure
    /// stay, if they are of the same processor.
    pub(crate) fn save(old: Option<Self>, report: &Report, server: &str, file: &Path) {
        let mut new = old.filter(|old| old.cpu == report.cpu).unwrap_or(Self {
            cpu: report.cpu.clone(),
            of_parsing: Ratios::new(),
            cpu_of_parsing: Ratios::new(),
        });
        for network in &report.networks {
            for row in network.rows.iter().filter(|row| row.server == server) {
                let set = |ratios: &mut Ratios, ratio: f64| {
                    let cells = ratios.entry(network.name.clone()).or_default();
                    let ratio = (ratio * 1000.0).round() / 1000.0;
                    cells.insert(row.connections.to_string(), ratio);
                };
                set(&mut new.of_parsing, row.of_parsing.median);
                set(&mut new.cpu_of_parsing, row.cpu_of_parsing.median);
            }
        }
        let text = toml::to_string(&new).expect("plain maps");
        let head = "# Requests/s and CPU time a request as parts of the bare parsing handler's, by network\n\
                    # and connections: medians of `make bench-serve`, written by --save-baseline.\n";
        fs::write(file, format!("{head}{text}")).expect("the baseline can be written");
    }

    pub(crate) fn cpu(&self) -> &str {
        &self.cpu
    }

    /// What a cell lost beyond noise, in words; `None` if nothing or if it has no baseline.
    pub(crate) fn loss(&self, network: &str, row: &Row) -> Option<String> {
        let of = |ratios: &Ratios| {
            let ratio = ratios.get(network)?.get(&row.connections.to_string());
            ratio.copied()
        };
        let floor = of(&self.of_parsing)? * (1.0 - TOLERANCE);
        let ceiling = of(&self.cpu_of_parsing)? * (1.0 + TOLERANCE);
        let (requests, cpu) = (row.of_parsing.median, row.cpu_of_parsing.median);
        if requests < floor {
            Some(format!("requests/s of parsing below {floor:.2}"))
        } else if cpu > ceiling {
            Some(format!("CPU of parsing {cpu:.2}, above {ceiling:.2}"))
        } else {
            None
        }
    }
}
