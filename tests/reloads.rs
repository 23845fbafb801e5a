//! A thousand reloads under load: every answer is of the version that it names, and nothing grows.
//!
//! Alone in its process, since it measures the process.

#![cfg(target_os = "linux")]
// A failed step of a test fails the test; clippy knows test functions but not what they call.
#![allow(clippy::unwrap_used)]

use std::collections::HashMap;
use std::fs;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;

use axum::body::Body;
use http::Request;
use safeserve::http::Routes;
use safeserve::metrics::Metrics;
use safetensors::Dtype;
use safetensors::tensor::TensorView;
use sha2::{Digest, Sha256};

#[path = "integration/parts.rs"]
mod parts;

const RELOADS: usize = 1000;

/// One layer of 256 by 64: 64 KiB of weights, so that a leak of one version in ten shows as 6 MB.
const INPUTS: usize = 256;
const OUTPUTS: usize = 64;

/// What the allocator may keep: it holds some memory for each thread that freed it.
const ALLOWED_BYTES: u64 = 4 << 20;

const CONFIG: &str = r#"{"model_type": "sequential", "inputs": [{"name": "x", "shape": [256]}],
    "layers": [{"type": "dense", "units": 64, "use_bias": false}]}"#;

/// Writes weights that are all the same number; returns the model's fingerprint.
fn write_weights(path: &Path, number: f32) -> String {
    let values = number.to_le_bytes().repeat(INPUTS * OUTPUTS);
    let tensor = TensorView::new(Dtype::F32, vec![OUTPUTS, INPUTS], &values).unwrap();
    let file = safetensors::serialize([("0.weight", tensor)], None).unwrap();
    fs::write(path, &file).unwrap();
    let hash = Sha256::new()
        .chain_update((CONFIG.len() as u64).to_le_bytes())
        .chain_update(CONFIG)
        .chain_update(&file);
    let hash = hash.finalize();
    hash.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// The process as the system and the metrics page see it.
#[derive(Debug)]
struct Size {
    resident_bytes: u64,
    threads: usize,
    files: usize,
    lines: usize,
}

impl Size {
    fn of(metrics: &Metrics) -> Self {
        let pages = fs::read_to_string("/proc/self/statm").unwrap();
        let pages: u64 = pages.split(' ').nth(1).unwrap().parse().unwrap();
        Self {
            resident_bytes: pages * 4096,
            threads: fs::read_dir("/proc/self/task").unwrap().count(),
            files: fs::read_dir("/proc/self/fd").unwrap().count(),
            lines: metrics.render().unwrap().lines().count(),
        }
    }
}

/// A client that asks as fast as it is answered.
struct Client {
    routes: Routes,
    /// What a version with this fingerprint answers.
    numbers: Arc<Mutex<HashMap<String, f32>>>,
    /// How often another version answered than the time before.
    versions: Arc<AtomicUsize>,
}

impl Client {
    /// Asks until told to stop.
    fn ask_until(&self, is_over: &AtomicBool) {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_time()
            .build()
            .unwrap();
        let mut row = vec!["0"; INPUTS];
        row[7] = "1";
        let body = format!(r#"{{"instances":[[{}]]}}"#, row.join(","));
        let mut last = String::new();
        while !is_over.load(Ordering::Relaxed) {
            let request = Request::post("/v1/models/m:predict").body(Body::from(body.clone()));
            let response = runtime.block_on(self.routes.answer(request.unwrap()));
            let (head, body) = response.into_parts();
            assert_eq!(head.status, 200);
            let fingerprint = head.headers["x-safeserve-model-fingerprint"]
                .to_str()
                .unwrap();
            let number = self.numbers.lock().unwrap()[fingerprint];
            let answer: serde_json::Value = serde_json::from_slice(&body).unwrap();
            let row = answer["predictions"][0].as_array().unwrap();
            assert_eq!(row.len(), OUTPUTS);
            for value in row {
                let value = value.as_f64().unwrap() as f32;
                assert_eq!(value.to_bits(), number.to_bits(), "{fingerprint}");
            }
            if last != fingerprint {
                fingerprint.clone_into(&mut last);
                self.versions.fetch_add(1, Ordering::Release);
            }
        }
    }
}

#[test]
fn a_thousand_reloads_lose_and_mix_nothing_and_leave_nothing_behind() {
    let directory = tempfile::tempdir().unwrap();
    let model = directory.path().join("m/1");
    fs::create_dir_all(&model).unwrap();
    fs::write(model.join("config.json"), CONFIG).unwrap();
    let numbers = Arc::new(Mutex::new(HashMap::new()));
    let fingerprint = write_weights(&model.join("model.safetensors"), 0.5);
    numbers.lock().unwrap().insert(fingerprint, 0.5);

    let (metrics, scheduler) = (parts::metrics(), parts::scheduler());
    let repository = parts::repository(directory.path(), &scheduler, &metrics);
    let routes = Routes::new(parts::app(&repository, &metrics, parts::limits(1 << 20)));
    let is_over = Arc::new(AtomicBool::new(false));
    let versions = Arc::new(AtomicUsize::new(0));
    let client = Client {
        routes,
        numbers: Arc::clone(&numbers),
        versions: Arc::clone(&versions),
    };
    let client = thread::spawn({
        let is_over = Arc::clone(&is_over);
        move || client.ask_until(&is_over)
    });

    let mut sizes = Vec::with_capacity(RELOADS);
    for reload in 1..=RELOADS {
        // Each version answers at least once, and the next comes while it does.
        while versions.load(Ordering::Acquire) < reload && !client.is_finished() {
            thread::yield_now();
        }
        let number = reload as f32;
        let staged = directory.path().join(".staged");
        let fingerprint = write_weights(&staged, number);
        numbers.lock().unwrap().insert(fingerprint.clone(), number);
        fs::rename(&staged, model.join("model.safetensors")).unwrap();
        repository.rescan();
        let served = repository.find("m", None).unwrap();
        assert_eq!(served.model.fingerprint, fingerprint);
        drop(served);
        sizes.push(Size::of(&metrics));
    }
    is_over.store(true, Ordering::Relaxed);
    client.join().unwrap();
    // None came back, and the last may not have answered any more.
    let versions = versions.load(Ordering::Acquire);
    assert!((RELOADS..=RELOADS + 1).contains(&versions), "{versions}");
    let page = metrics.render().unwrap();
    assert!(page.contains(&format!(
        "safeserve_model_loads_total{{result=\"loaded\"}} {}\n",
        RELOADS + 1
    )));

    let third = RELOADS / 3;
    let most = |sizes: &[Size], of: fn(&Size) -> u64| sizes.iter().map(of).max().unwrap();
    let grown = |of: fn(&Size) -> u64| {
        let (first, last) = (&sizes[..third], &sizes[RELOADS - third..]);
        most(last, of).saturating_sub(most(first, of))
    };
    let resident = grown(|size| size.resident_bytes);
    assert!(
        resident <= ALLOWED_BYTES,
        "{resident} bytes more: {:?}",
        sizes.last()
    );
    assert_eq!(grown(|size| size.threads as u64), 0, "threads");
    assert_eq!(grown(|size| size.files as u64), 0, "files");
    assert_eq!(grown(|size| size.lines as u64), 0, "lines of metrics");
}
