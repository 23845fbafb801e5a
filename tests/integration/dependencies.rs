//! The versions in `Cargo.lock`, against the lowest without a published vulnerability.

use std::fs;
use std::path::Path;

/// The first releases without the advisories that concern a server: a remote that exhausts memory
/// or ends the process, or memory that is not sound. A crate that is not in the tree passes.
/// `cargo deny check advisories` knows more and needs the network; this holds without it.
const FLOORS: &[(&str, [u64; 3])] = &[
    ("h2", [0, 4, 16]),
    ("memmap2", [0, 9, 11]),
    ("protobuf", [3, 7, 2]),
    ("rustls", [0, 23, 18]),
    ("tokio", [1, 44, 2]),
];

/// `1.44.2` of `1.44.2-rc.1+build`, except that a pre-release comes before its release.
fn version(text: &str) -> [u64; 3] {
    let text = text.split('+').next().unwrap();
    let (numbers, pre_release) = match text.split_once('-') {
        Some((numbers, _)) => (numbers, true),
        None => (text, false),
    };
    let numbers: Vec<u64> = numbers
        .split('.')
        .map(|part| part.parse().unwrap())
        .collect();
    let [major, minor, patch] = numbers[..] else {
        panic!("{text}: three numbers");
    };
    match (patch, pre_release) {
        (patch, false) => [major, minor, patch],
        // No floor is a patch 0, so this is enough to come before the release.
        (patch, true) => [major, minor, patch.saturating_sub(1)],
    }
}

/// The packages of a lock file that are below their floor.
fn below_floor(lock: &str) -> Vec<String> {
    let lock: toml::Table = lock.parse().unwrap();
    let packages = lock["package"].as_array().unwrap();
    assert!(!packages.is_empty());
    let mut below = Vec::new();
    for package in packages {
        let name = package["name"].as_str().unwrap();
        let locked = package["version"].as_str().unwrap();
        for (_, floor) in FLOORS.iter().filter(|(floored, _)| *floored == name) {
            if version(locked) < *floor {
                let [major, minor, patch] = floor;
                below.push(format!("{name} {locked} < {major}.{minor}.{patch}"));
            }
        }
    }
    below
}

#[test]
fn no_locked_dependency_is_below_its_floor() {
    let lock = Path::new(env!("CARGO_MANIFEST_DIR")).join("Cargo.lock");
    let lock = fs::read_to_string(lock).unwrap();
    assert!(lock.contains("name = \"tokio\""), "it is our lock file");
    assert_eq!(below_floor(&lock), [""; 0], "run `cargo update`");
}

#[test]
fn a_version_below_its_floor_is_seen() {
    let package = |name: &str, version: &str| {
        format!("[[package]]\nname = {name:?}\nversion = {version:?}\n")
    };
    let lock = [
        package("h2", "0.4.15"),
        package("h2", "0.3.27"),
        package("memmap2", "0.9.11"),
        package("protobuf", "3.10.0"),
        package("rustls", "0.24.0-dev.0"),
        package("tokio", "1.44.2-rc.1"),
        package("safeserve", "0.1.0"),
    ];
    assert_eq!(
        below_floor(&lock.concat()),
        [
            "h2 0.4.15 < 0.4.16",
            "h2 0.3.27 < 0.4.16",
            "tokio 1.44.2-rc.1 < 1.44.2"
        ]
    );
}
