//! The tables of layers and activations are what exporters and documentation say of them.
//!
//! Two texts are made of the tables: `python/src/safeserve_export/names.py`, and tables of
//! `docs/models.md`. `UPDATE_TABLES=1 cargo test --lib model::layers` writes them again.

use std::collections::HashSet;
use std::fmt::Write as _;
use std::fs;
use std::path::PathBuf;

use super::*;
use crate::model::activations::{ACTIVATIONS, NamedActivation, Parameter};

const PYTHON: &str = "python/src/safeserve_export/names.py";
const MODELS: &str = "docs/models.md";

fn place(path: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join(path)
}

fn read(path: &str) -> String {
    fs::read_to_string(place(path)).unwrap()
}

/// Holds a file to what it should say, or writes it.
fn hold(path: &str, expected: &str) {
    if std::env::var_os("UPDATE_TABLES").is_some() {
        fs::write(place(path), expected).unwrap();
    }
    let actual = read(path);
    let differs = actual.lines().zip(expected.lines()).find(|(a, b)| a != b);
    assert!(
        actual == expected,
        "{path} is not what the tables of layers and activations say; write it again with \
         UPDATE_TABLES=1 cargo test --lib model::layers\n{differs:#?}"
    );
}

/// A page with the rows of the table under `header` replaced by these.
fn with_rows(page: &str, header: &str, rows: &str) -> String {
    let (before, rest) = page.split_once(header).expect("the page has the table");
    let after = rest.find("\n\n").expect("a table ends with an empty line");
    // The line of dashes stays.
    let dashes = rest.find("|\n").expect("a table has rows") + 2;
    format!(
        "{before}{header}{}{rows}{}",
        &rest[..dashes],
        &rest[after + 1..]
    )
}

fn quoted(names: impl IntoIterator<Item = impl AsRef<str>>) -> String {
    let names = names.into_iter().map(|name| format!("`{}`", name.as_ref()));
    names.collect::<Vec<_>>().join(", ")
}

/// A row of cells, some of them empty.
fn row(cells: &[String]) -> String {
    let cells = cells.iter().map(|cell| match cell.is_empty() {
        true => " |".to_owned(),
        false => format!(" {cell} |"),
    });
    format!("|{}\n", cells.collect::<String>())
}

fn some(name: &'static str) -> Option<&'static str> {
    (!name.is_empty()).then_some(name)
}

/// Names of weights as people read them: layer, role, and the tensors of each framework.
fn weight_rows() -> String {
    let mut rows = String::new();
    for layer in all() {
        for (index, role) in layer.roles.iter().enumerate() {
            let torch = role.of_torch("n");
            let keras = role.of_keras("n").into_iter();
            let first = match index {
                0 => quoted([layer.name]),
                _ => String::new(),
            };
            rows += &row(&[
                first,
                role.name.to_owned(),
                quoted(torch.iter()),
                quoted(keras.filter(|tensor| Some(tensor) != torch.as_ref())),
                quoted(role.of_sklearn("n")),
            ]);
        }
    }
    rows
}

/// Activations by each framework's names.
fn activation_rows() -> String {
    let mut rows = String::new();
    for activation in ACTIVATIONS {
        rows += &row(&[
            quoted(some(activation.name)),
            quoted(
                activation
                    .keras
                    .iter()
                    .copied()
                    .chain(some(activation.keras_layer)),
            ),
            quoted(
                some(activation.torch)
                    .into_iter()
                    .chain(some(activation.torch_module)),
            ),
            quoted(some(activation.onnx)),
            quoted(some(activation.sklearn)),
        ]);
    }
    rows
}

#[test]
fn the_documentation_has_the_names_of_each_framework() {
    let page = read(MODELS);
    let page = with_rows(
        &page,
        "| Layer | Role | PyTorch | Keras | scikit-learn |\n",
        &weight_rows(),
    );
    let page = with_rows(
        &page,
        "| Function | Keras | PyTorch | ONNX | scikit-learn |\n",
        &activation_rows(),
    );
    hold(MODELS, &page);
}

/// The rows of the table of documentation under `header`, as cells.
fn rows<'a>(page: &'a str, header: &str) -> Vec<Vec<&'a str>> {
    let (_, rest) = page.split_once(header).expect("the page has the table");
    let lines = rest.lines().skip(1);
    let lines = lines.take_while(|line| line.starts_with('|'));
    lines
        .map(|line| {
            line.split(" |")
                .map(|cell| cell.trim_start_matches(['|', ' ']))
                .collect()
        })
        .collect()
}

#[test]
fn the_documentation_describes_each_layer_and_its_weights() {
    let page = read(MODELS);
    let rows = rows(
        &page,
        "| `type` | Computes | Keys of its own (default) | Roles |\n",
    );
    let names: Vec<_> = rows
        .iter()
        .map(|cells| cells[0].trim_matches('`'))
        .collect();
    let layers: Vec<_> = all().map(|layer| layer.name).collect();
    assert_eq!(names, layers);
    for (cells, layer) in rows.iter().zip(all()) {
        let said: HashSet<_> = cells[3].split(|c: char| !c.is_alphanumeric()).collect();
        for role in layer.roles {
            assert!(
                said.contains(role.name),
                "{}: {} is not named",
                layer.name,
                role.name
            );
        }
        assert_eq!(
            cells[3].is_empty(),
            layer.roles.is_empty(),
            "{}",
            layer.name
        );
    }
}

/// The number that a default is written as: `0.01`, `1/6`.
fn number(text: &str) -> f32 {
    let (numerator, denominator) = text.split_once('/').unwrap_or((text, "1"));
    numerator.parse::<f32>().unwrap() / denominator.parse::<f32>().unwrap()
}

#[test]
fn the_documentation_describes_each_activation_and_its_parameters() {
    let page = read(MODELS);
    let rows = rows(
        &page,
        "| Function | Formula | Parameters (default) | Error |\n",
    );
    let described: Vec<_> = rows
        .iter()
        .map(|cells| cells[0].trim_matches('`'))
        .collect();
    let activations = ACTIVATIONS
        .iter()
        .filter(|activation| !activation.name.is_empty());
    let names: Vec<_> = activations
        .clone()
        .map(|activation| activation.name)
        .collect();
    assert_eq!(described, names);
    for (cells, activation) in rows.iter().zip(activations) {
        let parameters: Vec<_> = cells[2]
            .split('`')
            .skip(1)
            .step_by(2)
            .zip(cells[2].split('(').skip(1))
            .map(|(name, rest)| (name, number(rest.split_once(')').unwrap().0)))
            .collect();
        let expected = activation.parameters.iter();
        let expected: Vec<_> = expected.map(|each| (each.name, each.default)).collect();
        assert_eq!(parameters, expected, "{}", activation.name);
    }
}

/// `NAME: TYPE = (...)` or `{...}` with an entry a line, and what it is.
fn assignment(text: &mut String, name: &str, brackets: [char; 2], entries: &[String], what: &str) {
    let [open, close] = brackets;
    let entries = entries.iter().map(|entry| format!("    {entry},\n"));
    let entries: String = entries.collect();
    write!(
        text,
        "\n{name} = {open}\n{entries}{close}\n\"\"\"{what}\"\"\"\n"
    )
    .unwrap();
}

fn python() -> String {
    /// What `python/pyproject.toml` allows, less the indentation and a comma.
    const MAX_COLUMNS: usize = 115;
    const TUPLE: [char; 2] = ['(', ')'];
    const DICT: [char; 2] = ['{', '}'];
    let strings = |names: Vec<&'static str>| -> Vec<String> {
        let names = names.into_iter().filter(|name| !name.is_empty());
        names.map(|name| format!("{name:?}")).collect()
    };
    let pairs = |pairs: Vec<(&'static str, &'static str)>| -> Vec<String> {
        let pairs = pairs.into_iter().filter(|(name, _)| !name.is_empty());
        pairs
            .map(|(name, ours)| format!("{name:?}: {ours:?}"))
            .collect()
    };
    let activations = |names: fn(&NamedActivation) -> (&'static str, &'static str)| {
        pairs(ACTIVATIONS.iter().map(names).collect())
    };
    let mut text = String::from(
        "\"\"\"What the server has, by its own names and by those of each framework.\n\n\
         Written from src/model/layers.rs and src/model/activations.rs by\n\n    \
         UPDATE_TABLES=1 cargo test --lib model::layers\n\n\
         which without UPDATE_TABLES holds this file to them.\n\"\"\"\n",
    );
    let layers = all().map(|layer| {
        let mut names: Vec<String> = Vec::new();
        let tensors = layer.roles.iter().flat_map(|role| role.tensors(""));
        for name in tensors.filter_map(|tensor| tensor.strip_prefix('.').map(str::to_owned)) {
            if !names.contains(&name) {
                names.push(name);
            }
        }
        let names: Vec<_> = names.iter().map(|name| format!("{name:?}")).collect();
        let comma = if names.len() == 1 { "," } else { "" };
        let line = format!("{:?}: ({}{comma})", layer.name, names.join(", "));
        match line.len() < MAX_COLUMNS {
            true => line,
            false => {
                let names = names.iter().map(|name| format!("        {name},\n"));
                format!("{:?}: (\n{}    )", layer.name, names.collect::<String>())
            }
        }
    });
    assignment(
        &mut text,
        "LAYERS: dict[str, tuple[str, ...]]",
        DICT,
        &layers.collect::<Vec<_>>(),
        "Types of layers of family `sequential`, each with the names of its tensors after the layer's and a dot.",
    );
    assignment(
        &mut text,
        "ACTIVATIONS",
        TUPLE,
        &strings(
            ACTIVATIONS
                .iter()
                .map(|activation| activation.name)
                .collect(),
        ),
        "Functions of family `sequential`.",
    );
    let classes = LAYERS.iter().flat_map(|layer| keras_classes(layer));
    assignment(
        &mut text,
        "KERAS_LAYERS",
        TUPLE,
        &strings(["InputLayer"].into_iter().chain(classes).collect()),
        "Classes of Keras.",
    );
    assignment(
        &mut text,
        "KERAS_FUNCTION_LAYERS",
        TUPLE,
        &strings(keras_classes(&activation::LAYER)),
        "Classes of Keras that are nothing but functions, and so can be another layer's activation.",
    );
    assignment(
        &mut text,
        "KERAS_ACTIVATIONS",
        TUPLE,
        &strings(
            ACTIVATIONS
                .iter()
                .flat_map(|activation| activation.keras)
                .copied()
                .collect(),
        ),
        "Functions by Keras' names, with Keras' default parameters.",
    );
    let modules = LAYERS.iter().flat_map(|layer| {
        let names = layer.torch.iter();
        names.map(|name| (*name, layer.name))
    });
    assignment(
        &mut text,
        "TORCH_MODULES",
        DICT,
        &pairs(modules.collect()),
        "The type of layer that a module of `torch.nn` becomes.",
    );
    assignment(
        &mut text,
        "TORCH_ACTIVATIONS",
        DICT,
        &activations(|activation| (activation.torch_module, activation.torch)),
        "The function that a module of `torch.nn` is.",
    );
    assignment(
        &mut text,
        "TORCH_FUNCTIONS",
        DICT,
        &activations(|activation| (activation.torch, activation.name)),
        "The server's name for a function of `torch.nn.functional`.",
    );
    let parameters = ACTIVATIONS.iter().filter_map(|activation| {
        let parameters = activation.parameters.iter();
        let parameters = parameters.filter(|parameter| !parameter.torch.is_empty());
        let parameters: Vec<_> = parameters
            .map(
                |Parameter {
                     torch,
                     name,
                     default,
                     ..
                 }| { format!("{torch:?}: ({name:?}, {default:?})") },
            )
            .collect();
        let parameters = (!parameters.is_empty()).then(|| parameters.join(", "))?;
        Some(format!("{:?}: {{{parameters}}}", activation.torch))
    });
    assignment(
        &mut text,
        "TORCH_PARAMETERS: dict[str, dict[str, tuple[str, float]]]",
        DICT,
        &parameters.collect::<Vec<_>>(),
        "The parameters of such a function in PyTorch's order: the server's name, and the default of both.",
    );
    assignment(
        &mut text,
        "SKLEARN_ACTIVATIONS",
        DICT,
        &activations(|activation| (activation.sklearn, activation.name)),
        "The server's name for a function of scikit-learn's perceptrons.",
    );
    text
}

#[test]
fn the_exporters_have_the_names_of_each_framework() {
    hold(PYTHON, &python());
}

#[test]
fn the_page_of_the_exporters_has_their_names() {
    let page = read("docs/exporting.md");
    let classes = LAYERS.iter().flat_map(|layer| keras_classes(layer));
    let classes: Vec<_> = ["InputLayer"].into_iter().chain(classes).collect();
    let line = format!("\nthe server has: {}\n", classes.join(", "));
    assert!(page.contains(&line), "expected {line}");
    let (_, table) = page.split_once("| What | Exported |\n").unwrap();
    let (table, _) = table.split_once("\n\n").unwrap();
    let functions = ACTIVATIONS.iter().map(|activation| activation.torch);
    let modules = LAYERS.iter().flat_map(|layer| layer.torch.iter().copied());
    let modules = modules.filter(|module| !module.contains("Dropout"));
    for name in functions.chain(modules).filter(|name| !name.is_empty()) {
        assert!(table.contains(&format!("`{name}`")), "{name} is not named");
    }
}

#[test]
fn no_two_layers_share_a_name() {
    let columns: [fn(&Definition) -> Vec<&'static str>; 3] = [
        |layer| vec![layer.name],
        keras_classes,
        |layer| layer.torch.to_vec(),
    ];
    for column in columns {
        let mut seen = HashSet::new();
        for name in all().flat_map(column) {
            assert!(seen.insert(name), "{name} names two layers");
        }
        assert!(seen.len() > 5);
    }
}
