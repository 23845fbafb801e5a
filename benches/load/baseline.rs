//! The ratios that a change is held against.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use serde::{Deserialize, Serialize};

use super::report::Report;

/// What a ratio may lose and still count as noise.
const TOLERANCE: f64 = 0.10;

/// Safeserve's requests/s as parts of the parsing handler's, and where they were taken.
#[derive(Clone, Serialize, Deserialize)]
pub(crate) struct Baseline {
    /// Ratios move with the processor, less than figures do, but more than the tolerance.
    cpu: String,
    /// By network, then by connections.
    of_parsing: BTreeMap<String, BTreeMap<String, f64>>,
}

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
            of_parsing: BTreeMap::new(),
        });
        for network in &report.networks {
            let cells = new.of_parsing.entry(network.name.clone()).or_default();
            for row in network.rows.iter().filter(|row| row.server == server) {
                let ratio = (row.of_parsing.median * 1000.0).round() / 1000.0;
                cells.insert(row.connections.to_string(), ratio);
            }
        }
        let text = toml::to_string(&new).expect("plain maps");
        let head = "# Requests/s as parts of the bare parsing handler's, by network and connections:\n\
                    # the medians of `make bench-serve`, written by its option --save-baseline.\n";
        fs::write(file, format!("{head}{text}")).expect("the baseline can be written");
    }

    pub(crate) fn cpu(&self) -> &str {
        &self.cpu
    }

    /// What a cell has to reach.
    pub(crate) fn floor(&self, network: &str, connections: usize) -> Option<f64> {
        let ratio = self
            .of_parsing
            .get(network)?
            .get(&connections.to_string())?;
        Some(ratio * (1.0 - TOLERANCE))
    }
}
