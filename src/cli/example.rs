//! A predict request to paste into a shell.

use std::io::Read;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::Path;

use serde_json::{Map, Value};

use crate::model::repository::Served;
use crate::model::{Signature, open_regular};
use crate::tensor::{DataType, Extent, TensorSpec};

/// The body of a V1 request that a model's author left beside the model.
const EXAMPLE_FILE: &str = "example.json";

/// The longest example that is read: a longer one is no line to paste.
const MAX_EXAMPLE_BYTES: u64 = 16 * 1024;

/// A `curl` command for the model whose example is shortest; `None` without models.
pub(super) fn curl(models: &[impl AsRef<Served>], address: SocketAddr) -> Option<String> {
    let candidates = models.iter().map(|served| {
        let served = served.as_ref();
        let given = authored(&served.loaded.directory);
        let is_given = given.is_some();
        let body = given.unwrap_or_else(|| zeros(&served.model.signature));
        (is_given, body.to_string(), &served.model.name)
    });
    // An example that its author chose says more than zeros do.
    let (_, body, name) = candidates.min_by_key(|(is_given, body, _)| (!is_given, body.len()))?;
    Some(command(name, &body, address))
}

/// The `curl` command that sends a model this body.
pub(super) fn command(name: &str, body: &str, address: SocketAddr) -> String {
    format!(
        "curl http://{}/v1/models/{name}:predict -d {}",
        reachable(address),
        quoted(body)
    )
}

/// The example in a version's directory or in its model's.
fn authored(directory: &Path) -> Option<Value> {
    let is_version = directory
        .file_name()
        .and_then(|name| name.to_str())
        .is_some_and(|name| name.bytes().all(|byte| byte.is_ascii_digit()));
    let model = directory.parent().filter(|_| is_version);
    [Some(directory), model]
        .into_iter()
        .flatten()
        .find_map(|directory| {
            // What cannot be read as JSON is as good as absent: this is only an example.
            let mut text = String::new();
            let (file, _) = open_regular(&directory.join(EXAMPLE_FILE)).ok()?;
            file.take(MAX_EXAMPLE_BYTES + 1)
                .read_to_string(&mut text)
                .ok()?;
            serde_json::from_str(&text).ok()
        })
}

/// A V1 request of one row of zeros.
fn zeros(signature: &Signature) -> Value {
    let instance = match signature.inputs.as_slice() {
        [only] => zero(only),
        several => several
            .iter()
            .map(|input| (input.name.clone(), zero(input)))
            .collect::<Map<_, _>>()
            .into(),
    };
    serde_json::json!({ "instances": [instance] })
}

/// One row of an input; of one token, if its rows have tokens.
fn zero(input: &TensorSpec) -> Value {
    let value = match input.datatype {
        DataType::Bytes => Value::from(""),
        DataType::Bool => Value::from(false),
        _ => Value::from(0),
    };
    let extents: Vec<Extent> = input.shape.row_extents().collect();
    extents
        .into_iter()
        .rev()
        .fold(value, |inner, extent| match extent {
            Extent::Fixed(extent) => Value::Array(vec![inner; extent]),
            Extent::Any => Value::Array(vec![inner]),
        })
}

/// Where a client on this machine reaches a server that listens on `address`.
fn reachable(address: SocketAddr) -> SocketAddr {
    let ip = match address.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(ip) if ip.is_unspecified() => Ipv6Addr::LOCALHOST.into(),
        ip => ip,
    };
    SocketAddr::new(ip, address.port())
}

/// One word of a POSIX shell.
fn quoted(text: &str) -> String {
    format!("'{}'", text.replace('\'', r"'\''"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Task;
    use crate::tensor::{Axis, Shape};

    fn input(name: &str, row_shape: &[usize]) -> TensorSpec {
        TensorSpec::new(name, DataType::Fp32, Shape::rows(row_shape))
    }

    fn signature(inputs: Vec<TensorSpec>) -> Signature {
        Signature {
            inputs,
            outputs: Vec::new(),
            task: Task::None,
            labels: Vec::new(),
            feature_names: Vec::new(),
            columns: None,
            description: String::new(),
            allow_non_finite: false,
        }
    }

    #[test]
    fn zeros_have_the_shape_of_the_inputs() {
        let one = zeros(&signature(vec![input("x", &[2, 3])]));
        assert_eq!(one.to_string(), r#"{"instances":[[[0,0,0],[0,0,0]]]}"#);
        let ids = TensorSpec::new("ids", DataType::Int64, Shape::tokens(Axis(0), []));
        let text = TensorSpec::new("text", DataType::Bytes, Shape::rows([]));
        let tokens = zeros(&signature(vec![ids, text]));
        assert_eq!(
            tokens.to_string(),
            r#"{"instances":[{"ids":[0],"text":""}]}"#
        );
        let two = zeros(&signature(vec![input("a", &[]), input("b", &[1])]));
        assert_eq!(two.to_string(), r#"{"instances":[{"a":0,"b":[0]}]}"#);
    }

    #[test]
    fn the_example_lies_with_the_version_or_with_its_model() {
        let root = tempfile::tempdir().unwrap();
        let version = root.path().join("iris/1");
        std::fs::create_dir_all(&version).unwrap();
        assert_eq!(authored(&version), None);
        // A directory above a model that is not a version's is not the model's.
        std::fs::write(root.path().join("example.json"), "0").unwrap();
        assert_eq!(authored(&root.path().join("iris")), None);
        std::fs::write(root.path().join("iris/example.json"), "{\n \"a\": 1.50\n}").unwrap();
        assert_eq!(authored(&version).unwrap().to_string(), r#"{"a":1.5}"#);
        std::fs::write(version.join("example.json"), "not json").unwrap();
        assert_eq!(authored(&version).unwrap().to_string(), r#"{"a":1.5}"#);
        std::fs::write(version.join("example.json"), "[2]").unwrap();
        assert_eq!(authored(&version).unwrap().to_string(), "[2]");
    }

    #[test]
    fn an_address_of_all_interfaces_is_reached_at_this_machine() {
        let reached = |text: &str| reachable(text.parse().unwrap()).to_string();
        assert_eq!(reached("0.0.0.0:80"), "127.0.0.1:80");
        assert_eq!(reached("[::]:80"), "[::1]:80");
        assert_eq!(reached("10.1.2.3:80"), "10.1.2.3:80");
    }

    #[test]
    fn quotes_survive_the_shell() {
        assert_eq!(quoted("a"), "'a'");
        assert_eq!(quoted("it's"), r"'it'\''s'");
    }
}
