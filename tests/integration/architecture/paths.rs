//! The paths that a source file names, read without a compiler.

use std::iter::Peekable;
use std::str::Chars;

/// All paths of two segments and more in production code, from where each starts: `use a::{b, c::d}`
/// names `a::b` and `a::c::d`.
pub(super) fn paths(text: &str) -> Vec<Vec<String>> {
    let found = named_paths(text).into_iter();
    found.map(|(path, _)| path).collect()
}

/// As [`paths`], each with the name that it gets in its file: that after `as`, else its last segment.
pub(super) fn named_paths(text: &str) -> Vec<(Vec<String>, String)> {
    let mut found = Vec::new();
    let mut chars = text.chars().peekable();
    let mut before = ' ';
    while let Some(&c) = chars.peek() {
        // After `::` or a letter it is the continuation of another path.
        if is_ident(c) && before != ':' {
            before = 'a';
            tree(&mut chars, Vec::new(), &mut found);
        } else {
            before = c;
            chars.next();
        }
    }
    found.retain(|(path, _)| path.len() > 1);
    found
}

/// Reads `a::b`, `a::*` or `a::{b, c as d}` after the path before the braces.
fn tree(
    chars: &mut Peekable<Chars<'_>>,
    mut path: Vec<String>,
    found: &mut Vec<(Vec<String>, String)>,
) {
    loop {
        let mut segment = String::new();
        while let Some(c) = chars.next_if(|&c| is_ident(c)) {
            segment.push(c);
        }
        if !segment.is_empty() {
            path.push(segment);
        }
        let mut ahead = chars.clone();
        if ahead.next() != Some(':') || ahead.next() != Some(':') {
            break;
        }
        *chars = ahead;
        if chars.next_if_eq(&'{').is_some() {
            while let Some(&c) = chars.peek() {
                match c {
                    '}' => {
                        chars.next();
                        return;
                    }
                    c if is_ident(c) => {
                        tree(chars, path.clone(), found);
                        // What follows up to the comma is the end of `as d`.
                        while chars.next_if(|&c| c != ',' && c != '}').is_some() {}
                    }
                    _ => {
                        chars.next();
                    }
                }
            }
            return;
        }
    }
    let name = match alias(chars.clone()) {
        Some(name) => Some(name),
        None => path.iter().rfind(|segment| *segment != "self").cloned(),
    };
    found.push((path, name.unwrap_or_default()));
}

/// Reads ` as NAME`.
fn alias(mut chars: Peekable<Chars<'_>>) -> Option<String> {
    " as "
        .chars()
        .all(|c| chars.next_if_eq(&c).is_some())
        .then(|| {
            let name = std::iter::from_fn(|| chars.next_if(|&c| is_ident(c)));
            name.collect()
        })
}

pub(super) fn is_ident(c: char) -> bool {
    c.is_alphanumeric() || c == '_'
}

/// A path from the root of the crate, `engine::op::Kernel`; none if it leads out of the crate.
///
/// `module` is where it is used: `engine/ops/gemm`. `children` are the modules declared there.
pub(super) fn resolve(path: &[String], module: &str, children: &[String]) -> Option<Vec<String>> {
    let mut place: Vec<String> = module.split('/').map(str::to_owned).collect();
    // These two are at the root.
    if matches!(module, "lib" | "main") {
        place.clear();
    }
    let mut rest = path;
    match path.first()?.as_str() {
        "crate" | "safeserve" => {
            place.clear();
            rest = &path[1..];
        }
        "self" => rest = &path[1..],
        "super" => {
            while let Some(("super", after)) = rest.split_first().map(|(s, r)| (s.as_str(), r)) {
                place
                    .pop()
                    .expect("compiled code does not climb out of the crate");
                rest = after;
            }
        }
        first if children.iter().any(|child| child == first) => {}
        _ => return None,
    }
    place.extend_from_slice(rest);
    Some(place)
}

/// The modules that a file declares, those for tests apart: `(production, tests)`.
pub(super) fn children(text: &str) -> (Vec<String>, Vec<String>) {
    let (mut production, mut tests) = (Vec::new(), Vec::new());
    let mut for_tests = false;
    for line in text.lines().map(str::trim) {
        let declared = line.strip_suffix(';').and_then(|line| {
            let (visibility, name) = line.rsplit_once("mod ").unwrap_or(("?", ""));
            let visible = visibility.is_empty() || visibility.starts_with("pub");
            (visible && name.chars().all(is_ident)).then(|| name.to_owned())
        });
        match declared {
            Some(name) if for_tests => tests.push(name),
            Some(name) => production.push(name),
            None => {}
        }
        for_tests = line == "#[cfg(test)]";
    }
    (production, tests)
}

/// A file's text before its own test module, without comments that take whole lines and without the
/// paths of visibilities.
pub(super) fn production(text: &str) -> String {
    let lines: Vec<&str> = text
        .lines()
        .filter(|line| !line.trim_start().starts_with("//"))
        .collect();
    let tests = lines.windows(2).position(|pair| {
        pair[0].trim() == "#[cfg(test)]" && pair[1].trim_start().starts_with("mod tests {")
    });
    let mut text = lines[..tests.unwrap_or(lines.len())].join("\n");
    // A visibility is not an import: `pub(in crate::a)`.
    while let Some(start) = text.find("pub(in ") {
        let end = text[start..].find(')').expect("a visibility ends");
        text.replace_range(start..start + end, "pub(crate");
    }
    text
}

#[test]
fn each_way_to_name_a_path_is_seen() {
    let text = "use crate::a::b;\n\
        pub(super) use crate::{c, d::{e as x, f::*}, self};\n\
        let x = <T as super::super::g>::h(i, &mut std::j::<K>(1));";
    let found: Vec<String> = paths(text).iter().map(|path| path.join(" ")).collect();
    assert_eq!(
        found,
        [
            "crate a b",
            "crate c",
            "crate d e",
            "crate d f",
            "crate self",
            "super super g",
            "std j"
        ]
    );
}

#[test]
fn paths_resolve_from_where_they_stand() {
    let from = |path: &str, module: &str| {
        let path: Vec<String> = path.split(' ').map(str::to_owned).collect();
        resolve(&path, module, &["child".to_owned()]).map(|path| path.join("/"))
    };
    assert_eq!(from("crate a b", "x/y").unwrap(), "a/b");
    assert_eq!(from("super a", "x/y").unwrap(), "x/a");
    assert_eq!(from("super super a", "x/y").unwrap(), "a");
    assert_eq!(from("self a", "x/y").unwrap(), "x/y/a");
    assert_eq!(from("child a", "x/y").unwrap(), "x/y/child/a");
    assert_eq!(from("child a", "lib").unwrap(), "child/a");
    assert_eq!(from("safeserve a", "main").unwrap(), "a");
    assert_eq!(from("std fs", "x/y"), None);
}

#[test]
fn modules_and_tests_are_told_apart() {
    let text = "mod a;\npub(crate) mod b;\n#[cfg(test)]\nmod tests;\nlet mod_x = c;\nmod d;";
    let (production, tests) = children(text);
    assert_eq!(production, ["a", "b", "d"]);
    assert_eq!(tests, ["tests"]);
    let text = "use crate::a;\n// crate::b\n#[cfg(test)]\nmod tests { use crate::c; }";
    assert_eq!(super::paths::production(text), "use crate::a;");
    let visibility = super::paths::production("pub(in crate::a) fn f() {}");
    assert_eq!(visibility, "pub(crate) fn f() {}");
}
