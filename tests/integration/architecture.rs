//! The layers of the crate, held by a test: who may import whom.
//!
//! ARCHITECTURE.md explains the table. A module that needs more is in the wrong layer.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

/// Modules of the crate and what they may import of it; the longest matching path counts.
const LAYERS: &[(&str, &[&str])] = &[
    ("lib", &[]),
    ("main", &["cli"]),
    (
        "cli",
        &[
            "config",
            "engine",
            "lifecycle",
            "metrics",
            "model",
            "scheduler",
            "server",
            "telemetry",
            "tensor",
        ],
    ),
    (
        "server",
        &[
            "config",
            "http",
            "lifecycle",
            "metrics",
            "model",
            "scheduler",
            "telemetry",
        ],
    ),
    (
        "http",
        &[
            "lifecycle",
            "metrics",
            "model",
            "request",
            "scheduler",
            "tensor",
        ],
    ),
    ("model", &["engine", "request", "tensor"]),
    (
        "model/repository",
        &["metrics", "model", "request", "scheduler"],
    ),
    ("scheduler", &["engine", "metrics", "request"]),
    ("engine", &["tensor"]),
    ("request", &[]),
    ("tensor", &[]),
    ("metrics", &[]),
    ("config", &[]),
    ("lifecycle", &[]),
    ("telemetry", &["config"]),
];

/// The same inside the engine.
const ENGINE: &[(&str, &[&str])] = &[
    ("optimize", &["graph", "kernels", "op", "workspace"]),
    ("plan", &["graph", "kernels", "op", "workspace"]),
    ("graph", &["op"]),
    ("ops", &["kernels", "op"]),
    ("op", &["kernels", "workspace"]),
    ("workspace", &[]),
    ("kernels", &[]),
];

#[test]
fn modules_import_only_what_their_layer_may() {
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut faults = Vec::new();
    for path in sources(&source) {
        let module = module_path(&source, &path);
        if module.split('/').any(|part| part == "tests") {
            continue;
        }
        let text = without_tests_and_comments(&fs::read_to_string(&path).unwrap());
        let (layer, allowed) = find_layer(LAYERS, &module)
            .unwrap_or_else(|| panic!("{module} is in no layer: add it to the table"));
        let own = layer.split('/').next().unwrap();
        for import in imports(&text, "crate::") {
            if import != own && !allowed.contains(&import.as_str()) {
                faults.push(format!("{module} imports {import}"));
            }
        }
        let Some(inside) = module.strip_prefix("engine/") else {
            continue;
        };
        let (layer, allowed) = find_layer(ENGINE, inside)
            .unwrap_or_else(|| panic!("{module} is in no layer: add it to the table"));
        let mut found = imports(&text, "crate::engine::");
        if !inside.contains('/') {
            found.extend(imports(&text, "super::"));
        }
        for import in found {
            if import != *layer && !allowed.contains(&import.as_str()) {
                faults.push(format!("{module} imports engine::{import}"));
            }
        }
    }
    assert!(faults.is_empty(), "{}", faults.join("\n"));
}

#[test]
fn unsafe_code_stands_only_in_the_kernels() {
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    for path in sources(&source) {
        let module = module_path(&source, &path);
        if module.starts_with("engine/kernels") {
            continue;
        }
        let text = without_tests_and_comments(&fs::read_to_string(&path).unwrap());
        let found = text.split(|c: char| !c.is_alphanumeric() && c != '_');
        assert!(
            found.clone().all(|word| word != "unsafe"),
            "{module} has unsafe code"
        );
    }
}

#[test]
fn the_check_sees_each_way_to_import() {
    let text = "use crate::a::b;\nuse crate::{c, d::{e, f}, g};\nlet x = crate::h::i();";
    let found: Vec<String> = imports(text, "crate::").into_iter().collect();
    assert_eq!(found, ["a", "c", "d", "g", "h"]);
    let text = "use crate::a;\n// crate::b\n#[cfg(test)]\nmod tests { use crate::c; }";
    assert_eq!(
        imports(&without_tests_and_comments(text), "crate::")
            .into_iter()
            .collect::<Vec<_>>(),
        ["a"]
    );
}

fn find_layer<'a>(
    table: &'a [(&'a str, &'a [&'a str])],
    module: &str,
) -> Option<&'a (&'a str, &'a [&'a str])> {
    table
        .iter()
        .filter(|(layer, _)| {
            module == *layer
                || module
                    .strip_prefix(layer)
                    .is_some_and(|rest| rest.starts_with('/'))
        })
        .max_by_key(|(layer, _)| layer.len())
}

/// All Rust files below a directory.
fn sources(directory: &Path) -> Vec<PathBuf> {
    let mut files = Vec::new();
    for entry in fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            files.extend(sources(&path));
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            files.push(path);
        }
    }
    files
}

/// `engine/ops/gemm` for `src/engine/ops/gemm.rs`.
fn module_path(source: &Path, path: &Path) -> String {
    let relative = path.strip_prefix(source).unwrap().with_extension("");
    relative.to_str().unwrap().replace('\\', "/")
}

/// The text before a file's own test module, without comments that take whole lines.
fn without_tests_and_comments(text: &str) -> String {
    let lines: Vec<&str> = text
        .lines()
        .filter(|line| !line.trim_start().starts_with("//"))
        .collect();
    let tests = lines.windows(2).position(|pair| {
        pair[0].trim() == "#[cfg(test)]" && pair[1].trim_start().starts_with("mod tests {")
    });
    lines[..tests.unwrap_or(lines.len())].join("\n")
}

/// The first segments behind each `prefix`, braces opened.
fn imports(text: &str, prefix: &str) -> BTreeSet<String> {
    let ident = |text: &str| -> String {
        let end = text.find(|c: char| !c.is_alphanumeric() && c != '_');
        text[..end.unwrap_or(text.len())].to_owned()
    };
    let mut found = BTreeSet::new();
    for (start, _) in text.match_indices(prefix) {
        let before = text[..start].chars().next_back();
        if before.is_some_and(|c| c.is_alphanumeric() || c == '_' || c == ':') {
            continue;
        }
        let rest = &text[start + prefix.len()..];
        if !rest.starts_with('{') {
            found.insert(ident(rest));
            continue;
        }
        let mut depth = 0;
        let mut item = String::new();
        for c in rest.chars() {
            match c {
                '{' => depth += 1,
                '}' => depth -= 1,
                ',' if depth == 1 => {
                    found.insert(ident(item.trim()));
                    item.clear();
                    continue;
                }
                _ => {}
            }
            if depth == 0 {
                break;
            }
            if !(c == '{' && depth == 1) {
                item.push(c);
            }
        }
        found.insert(ident(item.trim()));
    }
    found.remove("");
    // Items of the parent itself, in files that import with `super::{...}`.
    found.retain(|name| name.chars().next().is_some_and(char::is_lowercase));
    found
}
