//! The whole program while its models change: it follows additions, changes and removals by itself.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;

use serde_json::Value;
use tempfile::TempDir;

use super::process::Serving;

/// A model `y = scale * x`. It has no weights.
fn write_model(directory: &Path, scale: u32) {
    let config = format!(
        r#"{{"model_type":"sequential","inputs":[{{"name":"x","shape":[1]}}],
            "layers":[{{"type":"rescaling","scale":{scale}}}]}}"#
    );
    fs::create_dir_all(directory).unwrap();
    fs::write(directory.join("model.safetensors"), b"\x02\0\0\0\0\0\0\0{}").unwrap();
    fs::write(directory.join("config.json"), config).unwrap();
}

/// A server of the model `first`, and its repository.
fn serve(settings: &[&str]) -> (TempDir, Serving) {
    let root = TempDir::new().unwrap();
    write_model(&root.path().join("first"), 1);
    let directory = format!("models.dir={}", root.path().display());
    let server = Serving::start(&[&[directory.as_str()], settings].concat());
    (root, server)
}

impl Serving {
    /// Asks until the answer is as wanted. All the while the server is ready, and the model that is not
    /// changed answers.
    fn until(&self, path: &str, is_wanted: impl Fn(&str) -> bool) -> String {
        loop {
            let answer = self.get(path);
            if is_wanted(&answer) {
                return answer;
            }
            assert!(self.get("/v2/health/ready").starts_with("HTTP/1.1 200 "));
            assert_eq!(self.predict("first"), Some(1.0));
        }
    }

    /// What a model answers to 1; `None` if it does not.
    fn predict(&self, model: &str) -> Option<f64> {
        let body = r#"{"instances":[[1]]}"#;
        let answer = self.exchange(&format!(
            "POST /v1/models/{model}:predict HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\
             Content-Length: {}\r\n\r\n{body}",
            body.len()
        ));
        let (head, body) = answer.split_once("\r\n\r\n").unwrap();
        let body: Value = serde_json::from_str(body).unwrap();
        assert_eq!(
            head.starts_with("HTTP/1.1 200 "),
            body.get("error").is_none()
        );
        body["predictions"][0][0].as_f64()
    }

    fn until_predicts(&self, model: &str, value: f64) {
        while self.predict(model) != Some(value) {
            assert_eq!(self.predict("first"), Some(1.0));
        }
    }
}

/// Only what the file system reports is read.
#[test]
fn a_change_that_the_file_system_reports_is_taken_up() {
    let (root, server) = serve(&["models.poll_interval_ms=0", "models.settle_ms=0"]);
    let path = |name: &str| root.path().join(name);

    // A directory moved in, then another next to it.
    write_model(&path(".staged"), 2);
    fs::create_dir(path("m")).unwrap();
    fs::rename(path(".staged"), path("m/1")).unwrap();
    server.until_predicts("m", 2.0);
    write_model(&path(".staged"), 3);
    fs::rename(path(".staged"), path("m/2")).unwrap();
    server.until_predicts("m", 3.0);

    // A file in the place of another, and an invalid one.
    write_model(&path(".staged"), 4);
    fs::rename(path(".staged/config.json"), path("m/2/config.json")).unwrap();
    server.until_predicts("m", 4.0);
    fs::write(path("m/2/config.json"), r#"{"model_type":"unheard-of"}"#).unwrap();
    let index = server.until("/v2/repository/index", |index| index.contains("unheard-of"));
    let entry = r#"{"name":"m","version":"2","state":"READY","reason":"config.json: "#;
    assert!(index.contains(entry), "{index}");
    assert_eq!(server.predict("m"), Some(4.0));
    assert!(server.value("safeserve_model_loads_total{result=\"refused\"}") >= 1.0);

    // The newest version is removed, then the model.
    fs::remove_dir_all(path("m/2")).unwrap();
    server.until_predicts("m", 2.0);
    fs::remove_dir_all(path("m")).unwrap();
    server.until("/v2/models/m", |answer| answer.starts_with("HTTP/1.1 404 "));
    let page = server.get("/metrics");
    assert!(!page.contains("model=\"m\""), "{page}");

    // As Kubernetes swaps a volume.
    write_model(&path("..1/k"), 5);
    write_model(&path("..2/k"), 6);
    symlink("..1", path("..data")).unwrap();
    symlink("..data/k", path("k")).unwrap();
    server.until_predicts("k", 5.0);
    symlink("..2", path("..new")).unwrap();
    fs::rename(path("..new"), path("..data")).unwrap();
    server.until_predicts("k", 6.0);
}

/// A change behind a link outside of the repository is not reported.
#[test]
fn a_change_that_is_not_reported_is_found_by_polling() {
    let (root, server) = serve(&["models.poll_interval_ms=10", "models.settle_ms=0"]);
    let elsewhere = TempDir::new().unwrap();
    for (name, scale) in [("a", 2), ("b", 3)] {
        write_model(&elsewhere.path().join(name), scale);
    }
    symlink("a", elsewhere.path().join("current")).unwrap();
    symlink(elsewhere.path().join("current"), root.path().join("m")).unwrap();
    server.until_predicts("m", 2.0);
    symlink("b", elsewhere.path().join("next")).unwrap();
    fs::rename(
        elsewhere.path().join("next"),
        elsewhere.path().join("current"),
    )
    .unwrap();
    server.until_predicts("m", 3.0);
}

#[test]
fn a_slow_copy_is_loading_until_it_is_complete() {
    let (root, server) = serve(&["models.settle_ms=1", "models.incomplete_timeout_ms=3600000"]);
    write_model(&root.path().join(".staged"), 2);
    let config = fs::read(root.path().join(".staged/config.json")).unwrap();
    let copy = root.path().join("m");
    fs::create_dir(&copy).unwrap();
    let waits = |what: &str| {
        let entry = r#"{"name":"m","version":"1","state":"LOADING","reason":"waiting for its"#;
        let index = server.until("/v2/repository/index", |index| {
            index.contains(entry) && index.contains(what)
        });
        assert_eq!(server.predict("m"), None, "{index}");
        let ready = server.get("/v2/models/m/ready");
        assert!(ready.starts_with("HTTP/1.1 503 "), "{ready}");
    };
    waits("holds neither config.json nor");
    fs::write(copy.join("config.json"), &config[..50]).unwrap();
    waits("not valid JSON");
    fs::write(copy.join("config.json"), &config).unwrap();
    waits("model.safetensors: No such file");
    fs::write(copy.join("model.safetensors"), b"\x02\0\0\0\0\0\0\0{").unwrap();
    waits("is the file complete?");
    fs::write(copy.join("model.safetensors"), b"\x02\0\0\0\0\0\0\0{}").unwrap();
    server.until_predicts("m", 2.0);
}

#[test]
fn a_copy_that_stays_incomplete_is_given_up_and_tried_again_when_it_goes_on() {
    let (root, server) = serve(&["models.settle_ms=1", "models.incomplete_timeout_ms=1"]);
    write_model(&root.path().join("m"), 2);
    server.until_predicts("m", 2.0);
    write_model(&root.path().join(".staged"), 3);
    let path = |name: &str| root.path().join(name);
    fs::create_dir(path("n")).unwrap();
    fs::rename(path(".staged/config.json"), path("n/config.json")).unwrap();
    let entry = r#"{"name":"n","version":"1","state":"UNAVAILABLE","reason":"model.safetensors: "#;
    server.until("/v2/repository/index", |index| index.contains(entry));
    fs::rename(
        path(".staged/model.safetensors"),
        path("n/model.safetensors"),
    )
    .unwrap();
    server.until_predicts("n", 3.0);
}
