//! Circles of imports: files that cannot be understood, tested or moved without each other.
//!
//! A file imports another if a path in its production code names an item that the other defines. Two
//! things are not imports: to declare a module (`mod bar;`), and to re-export what lies below
//! (`pub use bar::X`), unless the file itself uses `X`. A file that names `foo::X` imports the file that
//! defines `X`, not the `foo.rs` that re-exports it.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use super::paths::{self, is_ident};
use super::{Module, is_in};

/// For each file, the files that it imports, and the names that it takes from each.
pub(super) type Imports = BTreeMap<String, BTreeMap<String, BTreeSet<String>>>;

/// Which file imports which.
pub(super) fn imports(modules: &[Module]) -> Imports {
    let files: BTreeMap<&str, File> = modules
        .iter()
        .map(|module| (&*module.path, File::of(module)))
        .collect();
    let mut imports = Imports::new();
    for (&path, file) in &files {
        let mut targets: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
        for import in &file.imports {
            if let Some((target, name)) = definition(&files, import)
                && target != path
            {
                targets.entry(target).or_default().insert(name);
            }
        }
        imports.insert(path.to_owned(), targets);
    }
    imports
}

/// The circles, each as the set of files that all import each other, directly or by way of others.
pub(super) fn circles(imports: &Imports) -> Vec<BTreeSet<String>> {
    let reached = |start: &str| {
        let mut reached: BTreeSet<&str> = BTreeSet::new();
        let mut waiting = VecDeque::from([start]);
        while let Some(file) = waiting.pop_front() {
            for target in imports.get(file).into_iter().flat_map(BTreeMap::keys) {
                if reached.insert(target) {
                    waiting.push_back(target);
                }
            }
        }
        reached
    };
    let reached: BTreeMap<&str, BTreeSet<&str>> = imports
        .keys()
        .map(|file| (&**file, reached(file)))
        .collect();
    let circles: BTreeSet<BTreeSet<String>> = reached
        .iter()
        .filter(|(file, targets)| targets.contains(*file))
        .map(|(file, targets)| {
            let circle = targets
                .iter()
                .filter(|target| reached[**target].contains(file));
            circle.map(|&file| file.to_owned()).collect()
        })
        .collect();
    circles.into_iter().collect()
}

/// A circle in words: each import between its files.
pub(super) fn describe(circle: &BTreeSet<String>, imports: &Imports) -> String {
    let mut lines = format!("a circle of {} files:\n", circle.len());
    for file in circle {
        for (target, names) in &imports[file] {
            if circle.contains(target) {
                let names: Vec<&str> = names.iter().map(String::as_str).collect();
                let names = names.join(", ");
                lines += &format!("  src/{file}.rs imports src/{target}.rs: {names}\n");
            }
        }
    }
    lines
}

/// What one file names inside the crate.
struct File {
    /// Paths from the root of the crate.
    imports: BTreeSet<Vec<String>>,
    /// What it re-exports from below itself: names, and where each leads.
    re_exports: BTreeMap<String, Vec<String>>,
}

impl File {
    fn of(module: &Module) -> Self {
        let resolve = |path: &[String]| {
            let mut path = paths::resolve(path, &module.path, &module.children)?;
            path.pop_if(|last| last == "self");
            Some(path)
        };
        let (uses, body) = uses(&module.text);
        let mut imports = BTreeSet::new();
        let mut re_exports = BTreeMap::new();
        // Names of this file, and the path of each.
        let mut names = BTreeMap::new();
        for (is_public, text) in uses {
            for (path, name) in paths::named_paths(&text) {
                let Some(path) = resolve(&path) else { continue };
                names.insert(name.clone(), path.clone());
                if is_public && is_in(&path.join("/"), &module.path) {
                    if uses_name(&body, &name) {
                        imports.insert(path.clone());
                    }
                    re_exports.insert(name, path);
                } else {
                    imports.insert(path);
                }
            }
        }
        for path in paths::paths(&body) {
            let named = names.get(&path[0]).map(|start| {
                let rest = path[1..].iter().cloned();
                start.iter().cloned().chain(rest).collect()
            });
            imports.extend(named.or_else(|| resolve(&path)));
        }
        // `use a::b; b::c()` takes `c` from `a::b`, and nothing else.
        let longer = |path: &Vec<String>| {
            imports
                .iter()
                .any(|other| other.len() > path.len() && other.starts_with(path))
        };
        let imports = imports.iter().filter(|path| !longer(path)).cloned();
        Self {
            imports: imports.collect(),
            re_exports,
        }
    }
}

/// The file that defines what a path from the root names, and the name; none for an item of the root.
fn definition(files: &BTreeMap<&str, File>, path: &[String]) -> Option<(String, String)> {
    let mut path = path.to_vec();
    loop {
        let module = (1..=path.len())
            .rev()
            .find(|&length| files.contains_key(&*path[..length].join("/")))?;
        let (module, rest) = path.split_at(module);
        let module = module.join("/");
        let Some(name) = rest.first() else {
            return Some((module, "itself".to_owned()));
        };
        match files[&*module].re_exports.get(name) {
            Some(defined) => path = [defined, &rest[1..]].concat(),
            None => return Some((module, name.clone())),
        }
    }
}

/// The `use` declarations of a file, whether each is public to others, and its text without them and
/// without `mod name;`.
fn uses(text: &str) -> (Vec<(bool, String)>, String) {
    let mut uses = Vec::new();
    let mut body = String::new();
    let mut lines = text.lines();
    while let Some(line) = lines.next() {
        let start = line.trim_start();
        let visibility = start.split("use ").next().unwrap_or_default().trim_end();
        let is_private = visibility.is_empty();
        let is_public = visibility == "pub" || visibility.starts_with("pub(");
        let is_use =
            start.contains("use ") && (is_private || is_public && is_visibility(visibility));
        if is_use {
            let mut declaration = line.to_owned();
            while !declaration.trim_end().ends_with(';') {
                declaration.push('\n');
                declaration += lines.next().expect("a declaration ends with a semicolon");
            }
            uses.push((is_public, declaration));
        } else if !(start.contains("mod ") && start.ends_with(';')) {
            body += line;
            body.push('\n');
        }
    }
    (uses, body)
}

/// Whether a text is `pub` or `pub(...)` and nothing more.
fn is_visibility(text: &str) -> bool {
    text == "pub" || text.find(')').is_some_and(|end| end + 1 == text.len())
}

/// Whether a file's text uses a name that it re-exports: a type or a constant anywhere, a function or
/// a module where it is called or a path goes on, since a variable may have its name.
fn uses_name(body: &str, name: &str) -> bool {
    let is_upper = name.starts_with(|c: char| c.is_uppercase());
    body.match_indices(name).any(|(at, _)| {
        let (before, after) = (&body[..at], &body[at + name.len()..]);
        let is_whole = !before.ends_with(|c: char| is_ident(c) || c == ':' || c == '.')
            && !after.starts_with(is_ident);
        is_whole
            && (is_upper
                || !before.ends_with("fn ")
                    && ["(", "::", "!"].iter().any(|c| after.starts_with(c)))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A crate of files as `(path, text)`, their circles and their imports.
    fn circles_of(files: &[(&str, &str)]) -> (Vec<Vec<String>>, Imports) {
        let modules: Vec<Module> = files
            .iter()
            .map(|(path, text)| Module::new(path, text))
            .collect();
        let imports = imports(&modules);
        let circles = circles(&imports).into_iter();
        let circles = circles.map(|circle| circle.into_iter().collect());
        (circles.collect(), imports)
    }

    #[test]
    fn a_planted_circle_is_found_and_its_files_are_named() {
        let (circles, imports) = circles_of(&[
            ("a", "mod b;\nmod c;\nmod d;\nfn f() { b::g() }"),
            ("a/b", "use crate::a::c::{h, I as J};"),
            ("a/c", "fn h() -> super::d::K {}"),
            ("a/d", "use super::b::g;"),
            ("e", "use crate::a::b::g;"),
        ]);
        assert_eq!(circles, [["a/b", "a/c", "a/d"]]);
        let circle = circles[0].iter().cloned().collect();
        assert_eq!(
            describe(&circle, &imports),
            "a circle of 3 files:\n  \
             src/a/b.rs imports src/a/c.rs: I, h\n  \
             src/a/c.rs imports src/a/d.rs: K\n  \
             src/a/d.rs imports src/a/b.rs: g\n"
        );
    }

    #[test]
    fn a_parent_that_uses_a_child_which_uses_it_is_a_circle() {
        let child = ("a/b", "use super::Item;\npub struct Part;");
        let parent = |text| circles_of(&[("a", text), child]).0;
        let circle = [["a", "a/b"]];
        assert_eq!(parent("mod b;\nuse b::Part;\nstruct Item;"), circle);
        assert_eq!(parent("mod b;\nfn f(_: b::Part) {}"), circle);
        assert_eq!(
            parent("mod b;\npub use b::Part;\nstruct Item(Part);"),
            circle
        );
    }

    #[test]
    fn declaring_and_re_exporting_a_child_ties_no_circle() {
        let child = (
            "a/b",
            "use super::Item;\npub struct Part;\npub fn part() {}",
        );
        for parent in [
            "mod b;\nstruct Item;",
            "mod b;\npub use b::Part;\nstruct Item;",
            "mod b;\npub(crate) use b::{Part as Piece, part};\nstruct Item { part: Part }",
            "pub mod b;\npub use b::part;\nfn f(part: u8) { part.g(); x.part() }",
        ] {
            let (circles, _) = circles_of(&[("a", parent), child]);
            assert_eq!(circles, [[""; 0]; 0], "{parent}");
        }
    }

    #[test]
    fn a_name_is_followed_to_the_file_that_defines_it() {
        let (circles, imports) = circles_of(&[
            ("a", "mod b;\nmod c;\npub use b::Part;\nfn f() { c::g() }"),
            ("a/b", "mod d;\npub(super) use d::Part;"),
            ("a/b/d", "pub struct Part;"),
            ("a/c", "use super::Part;"),
        ]);
        assert_eq!(circles, [[""; 0]; 0]);
        assert!(imports["a/c"].contains_key("a/b/d"));
    }

    #[test]
    fn a_module_under_another_name_is_followed() {
        let (circles, _) = circles_of(&[
            ("a", "pub fn f() {}"),
            ("b", "use crate::a as first;\npub fn g() { first::f() }"),
            ("c", "use crate::b::{self};\nfn h() { b::g() }"),
        ]);
        assert_eq!(circles, [[""; 0]; 0]);
        let (circles, _) = circles_of(&[
            ("a", "pub fn f() { crate::b::g() }"),
            ("b", "use crate::a as first;\npub fn g() { first::f() }"),
        ]);
        assert_eq!(circles, [["a", "b"]]);
    }
}
