//! `docs/http.md` says what is so: its requests get the answers it shows, its codes are all there
//! are.

use std::fs;
use std::path::Path;

use http::Method;
use safeserve::http::Naming;
use serde_json::Value;
use tempfile::TempDir;

use super::server::{TestServer, add_model, request};

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn page() -> String {
    fs::read_to_string(root().join("docs/http.md")).unwrap()
}

/// The requests of the page, each with the answer that it shows right behind, and its form.
fn examples(page: &str) -> Vec<(&str, &str, &str)> {
    page.split("\n```http\n")
        .skip(1)
        .map(|rest| {
            let (request, behind) = rest.split_once("\n```\n\n```").unwrap();
            let (form, behind) = behind.split_once('\n').unwrap();
            (request, form, behind.split_once("```\n").unwrap().0)
        })
        .collect()
}

/// The sample models, and the one that the page defines.
fn server(page: &str) -> TestServer {
    let directory = TempDir::new().unwrap();
    copy_models(&root().join("models"), directory.path());
    let (_, config) = page.split_once("is `pair`:\n\n```json\n").unwrap();
    let (config, _) = config.split_once("\n```\n").unwrap();
    add_model(&directory.path().join("pair"), config);
    TestServer::naming(
        directory,
        Naming {
            default_model: Some("iris".into()),
            labels: "digits/stable=1".parse().unwrap(),
            ..Naming::default()
        },
    )
}

fn copy_models(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let path = entry.unwrap().path();
        let copy = to.join(path.file_name().unwrap());
        if path.is_dir() {
            copy_models(&path, &copy);
        } else if copy.ends_with("config.json") || copy.ends_with("model.safetensors") {
            fs::copy(&path, &copy).unwrap();
        }
    }
}

/// What differs from one run or machine to the next: times, and the size of prepared weights.
const FREE: [&str; 4] = ["created", "last_inference", "ns", "byte_size"];

/// Whether two answers are the same but for rounding: kernels differ from one CPU to another.
fn is_alike(shown: &Value, given: &Value) -> bool {
    match (shown, given) {
        (Value::Array(shown), Value::Array(given)) => {
            shown.len() == given.len() && shown.iter().zip(given).all(|(a, b)| is_alike(a, b))
        }
        (Value::Object(shown), Value::Object(given)) => {
            shown.keys().eq(given.keys())
                && shown
                    .iter()
                    .all(|(key, value)| FREE.contains(&&**key) || is_alike(value, &given[key]))
        }
        (Value::Number(shown), Value::Number(given)) if shown.is_f64() && given.is_f64() => {
            is_near(shown.as_f64().unwrap(), given.as_f64().unwrap())
        }
        // A class: its score, its index, its label.
        (Value::String(shown), Value::String(given)) if shown.contains(':') => {
            let parts = |text: &str| {
                let (score, class) = text.split_once(':')?;
                Some((score.parse::<f64>().ok()?, class.to_owned()))
            };
            match (parts(shown), parts(given)) {
                (Some(shown), Some(given)) => is_near(shown.0, given.0) && shown.1 == given.1,
                _ => shown == given,
            }
        }
        _ => shown == given,
    }
}

/// Whether two texts are the same but for rounding of the numbers in them.
fn are_near(shown: &str, given: &str) -> bool {
    let parts = |text: &str| -> Vec<String> {
        let parts = text.split_inclusive([',', '\n', '[', ']']);
        parts.map(str::to_owned).collect()
    };
    let (shown, given) = (parts(shown), parts(given));
    let number = |text: &str| -> Option<f64> { text.get(..text.len() - 1)?.parse().ok() };
    shown.len() == given.len()
        && shown
            .iter()
            .zip(&given)
            .all(|(shown, given)| match (number(shown), number(given)) {
                (Some(a), Some(b)) => is_near(a, b),
                _ => shown == given,
            })
}

fn is_near(shown: f64, given: f64) -> bool {
    (shown - given).abs() <= 1e-5 * shown.abs()
}

#[tokio::test]
async fn each_request_shown_gets_the_answer_shown() {
    let page = page();
    let examples = examples(&page);
    assert_eq!(examples.len(), page.matches("\n```http\n").count());
    assert!(examples.len() >= 15, "{}", examples.len());
    let server = server(&page);
    for (example, form, shown) in examples {
        let (head, body) = example.split_once("\n\n").unwrap_or((example, ""));
        let mut lines = head.lines();
        let (method, path) = lines.next().unwrap().split_once(' ').unwrap();
        let method: Method = method.parse().unwrap();
        let headers: Vec<(&str, &str)> = lines.map(|line| line.split_once(": ").unwrap()).collect();
        let sent = request(method, path, &headers, body.to_owned());
        let answer = server.send(sent).await;
        if form != "json" {
            assert!(are_near(shown, &answer.body), "{example}\n{answer:?}");
            continue;
        }
        let shown: Value = serde_json::from_str(shown).unwrap();
        assert!(is_alike(&shown, &answer.json()), "{example}\n{answer:?}");
        assert_eq!(
            answer.status >= 400,
            shown.get("error").is_some(),
            "{example}"
        );
    }
}

/// The refusals' snapshot holds nearly every code there is; the rest needs a clock or a fault.
#[test]
fn every_code_has_its_row() {
    let page = page();
    let snapshot =
        root().join("tests/integration/http/snapshots/integration__http__refusals__refusals.snap");
    let table = fs::read_to_string(snapshot).unwrap();
    let mut codes = 0;
    for line in table.lines().filter_map(|line| line.strip_prefix("  ")) {
        let Some((status, rest)) = line.split_once(' ') else {
            continue;
        };
        if !status.parse::<u16>().is_ok_and(|status| status >= 400) {
            continue;
        }
        let code = rest.split([':', ' ']).next().unwrap();
        let row = format!("\n| {status} | `{code}` |");
        assert!(page.contains(&row), "no row for {status} {code}");
        codes += 1;
    }
    assert!(codes >= 200, "{codes}");
}

#[test]
fn every_limit_shown_is_a_setting() {
    let page = page();
    let (_, limits) = page.split_once("\n## Limits\n").unwrap();
    let (limits, _) = limits.split_once("\n## Errors\n").unwrap();
    let settings = safeserve::config::DEFAULT_TOML;
    let names: Vec<&str> = limits
        .split('`')
        .filter_map(|name| {
            name.strip_prefix("limits.")
                .or(name.strip_prefix("scheduler."))
        })
        .collect();
    assert_eq!(names.len(), 10);
    for name in names {
        assert!(settings.contains(&format!("\n{name} = ")), "{name}");
    }
}
