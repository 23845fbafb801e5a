//! Checks what ARCHITECTURE.md says about layers: which may import which, and what a layer never names.

mod circles;
mod paths;

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

/// One file of the crate, without its tests.
struct Module {
    /// `engine/ops/gemm` for `src/engine/ops/gemm.rs`.
    path: String,
    text: String,
    children: Vec<String>,
}

impl Module {
    fn new(path: &str, text: &str) -> Self {
        Self {
            text: paths::production(text),
            path: path.to_owned(),
            children: paths::children(text).0,
        }
    }

    /// The paths it names inside the crate, from the root: `engine/op/Kernel`.
    fn imports(&self) -> BTreeSet<String> {
        paths::paths(&self.text)
            .iter()
            .filter_map(|path| paths::resolve(path, &self.path, &self.children))
            .map(|path| path.join("/"))
            .collect()
    }

    /// The paths it names outside the crate: `std/fs/File`.
    fn outside(&self) -> BTreeSet<String> {
        paths::paths(&self.text)
            .iter()
            .filter(|path| paths::resolve(path, &self.path, &self.children).is_none())
            .map(|path| path.join("/"))
            .collect()
    }
}

/// All modules of the crate but those for tests.
fn modules() -> Vec<Module> {
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut modules = Vec::new();
    let mut for_tests = Vec::new();
    for file in sources(&source) {
        let relative = file.strip_prefix(&source).unwrap().with_extension("");
        let path = relative.to_str().unwrap().replace('\\', "/");
        let text = fs::read_to_string(&file).unwrap();
        let (_, tests) = paths::children(&text);
        for_tests.extend(tests.into_iter().map(|name| format!("{path}/{name}")));
        modules.push(Module::new(&path, &text));
    }
    modules.retain(|module| !for_tests.iter().any(|tests| is_in(&module.path, tests)));
    modules
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

/// Whether a path is a module, or lies in it.
fn is_in(path: &str, module: &str) -> bool {
    let rest = path.strip_prefix(module);
    rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

/// The table of ARCHITECTURE.md: each layer, and those that it may import.
fn layers() -> BTreeMap<String, BTreeSet<String>> {
    let page = Path::new(env!("CARGO_MANIFEST_DIR")).join("ARCHITECTURE.md");
    let page = fs::read_to_string(page).unwrap();
    let (_, section) = page.split_once("\n## Layers\n").unwrap();
    let table = section.split("\n```\n").nth(1).unwrap();
    let names = |list: &str| -> Vec<String> {
        let names = list.split(',').map(|name| name.trim().to_owned());
        names.filter(|name| name != "nothing").collect()
    };
    let mut layers = BTreeMap::new();
    for line in table.lines() {
        let (importers, imported) = line
            .split_once("->")
            .expect("each line is `layer -> layers`");
        for layer in names(importers) {
            let twice = layers.insert(layer, names(imported).into_iter().collect());
            assert!(twice.is_none(), "a layer appears twice: {line}");
        }
    }
    layers
}

#[test]
fn modules_import_what_the_table_of_layers_says_and_it_says_no_more() {
    let layers = layers();
    // The layer of a path is the longest that it lies in.
    let layer_of = |path: &str| {
        let found = layers.keys().filter(|layer| is_in(path, layer));
        found.max_by_key(|layer| layer.len())
    };
    let mut faults = BTreeSet::new();
    let mut used = BTreeSet::new();
    for module in modules() {
        let path = &module.path;
        let Some(layer) = layer_of(path) else {
            faults.insert(format!("{path} is in no layer"));
            continue;
        };
        used.insert((layer.as_str(), ""));
        for import in module.imports() {
            // Items of `lib.rs` belong to no layer.
            let Some(target) = layer_of(&import) else {
                continue;
            };
            if target == layer {
                continue;
            }
            // A layer that may import another may import what is inside it, unless it is inside it itself.
            let granted = layers[layer]
                .iter()
                .find(|granted| is_in(&import, granted) && !is_in(path, granted))
                .or_else(|| layers[layer].get(target));
            match granted {
                Some(granted) => {
                    used.insert((layer.as_str(), granted.as_str()));
                }
                None => {
                    faults.insert(format!("{path} imports {import}: {layer} may not"));
                }
            }
        }
    }
    for (layer, granted) in &layers {
        if !used.contains(&(layer.as_str(), "")) {
            faults.insert(format!("no module is in {layer}"));
        }
        for granted in granted {
            if !used.contains(&(layer.as_str(), granted.as_str())) {
                faults.insert(format!("{layer} may import {granted} and does not"));
            }
        }
    }
    let faults: Vec<String> = faults.into_iter().collect();
    assert!(
        faults.is_empty(),
        "the table of layers in ARCHITECTURE.md and the code differ:\n{}",
        faults.join("\n")
    );
}

#[test]
fn no_files_import_each_other_in_a_circle() {
    let imports = circles::imports(&modules());
    assert!(
        imports.values().flatten().count() > 500,
        "imports are not found any more"
    );
    let circles = circles::circles(&imports);
    let described = circles
        .iter()
        .map(|circle| circles::describe(circle, &imports));
    let described: Vec<String> = described.collect();
    assert!(
        circles.is_empty(),
        "{} circles; move what two files share into a file below both:\n{}",
        circles.len(),
        described.join("\n")
    );
}

/// The crates that `Cargo.toml` lists, as code spells them.
fn dependencies() -> BTreeSet<String> {
    let manifest = Path::new(env!("CARGO_MANIFEST_DIR")).join("Cargo.toml");
    let manifest: toml::Table = fs::read_to_string(manifest).unwrap().parse().unwrap();
    let tables = ["dependencies", "dev-dependencies"].map(|table| manifest[table].as_table());
    let names = tables.into_iter().flat_map(|table| table.unwrap().keys());
    names.map(|name| name.replace('-', "_")).collect()
}

#[test]
fn the_engine_knows_no_file_clock_environment_thread_async_or_wire_format() {
    // What it may share memory with (`std::sync`) is not among them.
    let foreign = ["env", "fs", "io", "net", "os", "process", "thread", "time"]
        .map(|module| format!("std/{module}"));
    let crates = dependencies();
    assert!(crates.contains("serde_json") && crates.contains("tokio"));
    let mut engine = 0;
    let mut pages = false;
    for module in modules()
        .iter()
        .filter(|module| is_in(&module.path, "engine"))
    {
        engine += 1;
        for path in module.outside() {
            let of_std = foreign.iter().any(|foreign| is_in(&path, foreign));
            let root = path.split('/').next().unwrap();
            // Arrays and 16-bit numbers are its data types, and one file asks the system for
            // pages.
            let is_of_numbers = ["ndarray", "half"].contains(&root);
            let asks_for_pages = module.path == "engine/kernels/pages" && root == "libc";
            pages |= asks_for_pages;
            let of_crate = crates.contains(root) && !is_of_numbers && !asks_for_pages;
            assert!(!of_std && !of_crate, "{} names {path}", module.path);
        }
    }
    assert!(engine > 10, "the engine is elsewhere");
    assert!(pages, "no file needs the exception for pages");
}

#[test]
fn only_the_model_layer_reads_weights() {
    for module in modules() {
        let reads = module
            .outside()
            .iter()
            .any(|path| is_in(path, "safetensors"));
        assert!(!reads || is_in(&module.path, "model"), "{}", module.path);
    }
}

/// A change of the clock must not expire a request, so waiting and measuring use `Instant`. The wall
/// clock is for people: the index of models, their statistics, when they were loaded, and the date of
/// each answer.
#[test]
fn only_what_is_shown_reads_the_wall_clock() {
    for module in modules() {
        let mut outside = module.outside().into_iter();
        let reads = outside.any(|path| is_in(&path, "std/time/SystemTime"));
        let for_people = [
            "model/repository",
            "metrics/model",
            "http/v2/stats",
            "server/answer",
        ];
        let for_people = for_people.iter().any(|place| is_in(&module.path, place));
        assert!(!reads || for_people, "{}", module.path);
    }
}

#[test]
fn unsafe_code_is_only_in_the_kernels() {
    for module in modules() {
        if is_in(&module.path, "engine/kernels") {
            continue;
        }
        let mut words = module
            .text
            .split(|c: char| !c.is_alphanumeric() && c != '_');
        assert!(
            words.all(|word| word != "unsafe"),
            "{} has unsafe code",
            module.path
        );
    }
}
