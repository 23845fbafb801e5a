//! The ratios of an earlier run, to find regressions.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::{env, fs};

use serde::{Deserialize, Serialize};

/// The loss that is still noise; a larger one is reported.
const ALLOWED: f64 = 0.9;

/// Ratios to the limit by network and rows, and the CPU that gave them.
#[derive(Default, Deserialize, Serialize)]
pub(crate) struct Baseline {
    cpu: String,
    ratios: BTreeMap<String, f64>,
}

impl Baseline {
    /// An empty one of this machine.
    pub(crate) fn here() -> Self {
        Self {
            cpu: cpu(),
            ratios: BTreeMap::new(),
        }
    }

    /// The committed one.
    pub(crate) fn committed() -> Self {
        let text = fs::read_to_string(path()).unwrap_or_default();
        toml::from_str(&text).unwrap_or_default()
    }

    pub(crate) fn set(&mut self, name: &str, ratio: f64) {
        // Two digits are all that repeats.
        let ratio = (ratio * 100.0).round() / 100.0;
        self.ratios.insert(name.to_owned(), ratio);
    }

    pub(crate) fn get(&self, name: &str) -> Option<f64> {
        self.ratios.get(name).copied()
    }

    /// Whether the ratio now is more than 10 % below.
    pub(crate) fn is_lost(&self, name: &str, ratio: f64) -> bool {
        self.get(name)
            .is_some_and(|before| ratio < ALLOWED * before)
    }

    /// Prints where the ratios are from; returns whether they are of this model of CPU.
    pub(crate) fn introduce(&self) -> bool {
        let here = cpu();
        println!("this CPU: {here}");
        let is_same = self.cpu == here;
        if !is_same {
            println!("the baseline is of another: {}", self.cpu);
        }
        is_same
    }

    /// Writes it where it is committed, if `SAFESERVE_BENCH_SAVE` asks for it.
    pub(crate) fn save_if_asked(&self) {
        if env::var_os("SAFESERVE_BENCH_SAVE").is_some() {
            let text = toml::to_string(self).expect("names and numbers");
            fs::write(path(), text).expect("the repository can be written");
        }
    }
}

fn path() -> PathBuf {
    [env!("CARGO_MANIFEST_DIR"), "benches/engine/baseline.toml"]
        .iter()
        .collect()
}

/// The model of the CPU, as far as the system tells.
fn cpu() -> String {
    let text = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let field = |name: &str| {
        let line = text.lines().find(|line| line.starts_with(name));
        let value = line.and_then(|line| line.split_once(':'));
        value.map_or("?", |(_, value)| value.trim()).to_owned()
    };
    if text.contains("CPU implementer") {
        // ARM has no model names, only numbers of the vendor and the design.
        let [maker, part] = ["CPU implementer", "CPU part"].map(field);
        return format!("ARM, implementer {maker}, part {part}");
    }
    let [name, family, model] = ["model name", "cpu family", "model\t"].map(field);
    format!("{name}, family {family}, model {model}")
}
