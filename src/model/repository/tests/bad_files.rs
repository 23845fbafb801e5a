//! Files that are invalid in every way: what serves continues, and nothing waits forever.

use std::fs::{self, File};
use std::os::unix::fs::symlink;
use std::os::unix::net::UnixListener;
use std::path::Path;
use std::process::Command;
use std::sync::Arc;

use super::fixture::{Fixture, config, safetensors, weights, write_model};
use crate::metrics::ModelState;

/// Puts each of many bad files in the place of a version's file, both in a version that serves and in a
/// new version.
fn never_served(file: &str, bad: Vec<(String, Vec<u8>)>) {
    let fixture = Fixture::of(&[("m/1", 2.0)]);
    let served = fixture.repository.find("m", None).unwrap();
    let good = fs::read(fixture.path("m/1").join(file)).unwrap();
    for (what, bytes) in bad {
        write_model(&fixture.path("m/2"), &config(3.0), &weights());
        fs::write(fixture.path("m/2").join(file), &bytes).unwrap();
        fixture.put(&format!("m/1/{file}"), &bytes);
        let now = fixture.repository.find("m", None).unwrap();
        assert!(Arc::ptr_eq(&served, &now), "{what}");
        let (state, reason) = fixture.entry("m", 1);
        assert_eq!(state, ModelState::Ready, "{what}");
        assert!(
            reason.starts_with("config.json: ") || reason.starts_with("model.safe"),
            "{what}"
        );
        let (state, reason) = fixture.entry("m", 2);
        assert_eq!(state, ModelState::Unavailable, "{what}");
        assert!(!reason.is_empty(), "{what}");
        fixture.put(&format!("m/1/{file}"), &good);
        assert_eq!(
            fixture.entry("m", 1),
            (ModelState::Ready, String::new()),
            "{what}"
        );
        fs::remove_dir_all(fixture.path("m/2")).unwrap();
    }
}

#[test]
fn weights_that_are_cut_off_anywhere_are_never_served() {
    let whole = weights();
    let cut = |length: usize| (format!("{length} bytes"), whole[..length].to_vec());
    never_served("model.safetensors", (0..whole.len()).map(cut).collect());
}

#[test]
fn weights_that_are_garbled_are_never_served() {
    let data = [1.0_f32.to_le_bytes(), 0.0_f32.to_le_bytes()].concat();
    let bias = r#""1.bias":{"dtype":"F32","shape":[1],"data_offsets":[4,8]}"#;
    let weight = r#""1.weight":{"dtype":"F32","shape":[1,1],"data_offsets":[0,4]}"#;
    let header = |members: &[&str]| safetensors(&format!("{{{}}}", members.join(",")), &data);
    let named = |what: &str, bytes: Vec<u8>| (what.to_owned(), bytes);
    let tensor = |text: &str| header(&[bias, &format!(r#""1.weight":{{{text}}}"#)]);
    let lengths = [
        u64::MAX,
        u64::MAX - 7,
        1 << 63,
        1 << 40,
        100_000_001,
        9 << 20,
        0,
        1,
        2,
    ];
    let mut bad: Vec<(String, Vec<u8>)> = lengths
        .iter()
        .map(|length| {
            let mut bytes = weights();
            bytes[..8].copy_from_slice(&length.to_le_bytes());
            (format!("a header of {length} bytes"), bytes)
        })
        .collect();
    bad.extend([
        named(
            "text",
            b"this is not a safetensors file, and it never was one".to_vec(),
        ),
        named("zeros", vec![0; 4096]),
        named("ones", vec![0xff; 4096]),
        named("a pickle", b"\x80\x04\x95\x10\0\0\0\0\0\0\0}\x94.".to_vec()),
        named("a zip", b"PK\x03\x04\x14\0\0\0\x08\0abcdefgh".to_vec()),
        named("no tensors", safetensors("{}", &[])),
        named("an array", safetensors("[]", &data)),
        named(
            "blanks first",
            safetensors(&format!(" {{{weight},{bias}}}"), &data),
        ),
        named(
            "something after the header",
            safetensors(&format!("{{{weight},{bias}}}x"), &data),
        ),
        named("no UTF-8", {
            let mut bytes = weights();
            bytes[10] = 0xff;
            bytes
        }),
        named("a tensor twice", header(&[weight, bias, weight])),
        named(
            "only one tensor",
            safetensors(&format!("{{{weight}}}"), &data[..4]),
        ),
        named("one too many", {
            let third = r#""2.bias":{"dtype":"F32","shape":[1],"data_offsets":[8,12]}"#;
            safetensors(
                &format!("{{{weight},{bias},{third}}}"),
                &[&data[..], &[0; 4]].concat(),
            )
        }),
        named(
            "offsets overlap",
            tensor(r#""dtype":"F32","shape":[1,1],"data_offsets":[2,6]"#),
        ),
        named(
            "offsets are shared",
            tensor(r#""dtype":"F32","shape":[1,1],"data_offsets":[4,8]"#),
        ),
        named(
            "offsets backwards",
            tensor(r#""dtype":"F32","shape":[1,1],"data_offsets":[4,0]"#),
        ),
        named(
            "offsets negative",
            tensor(r#""dtype":"F32","shape":[1,1],"data_offsets":[-4,0]"#),
        ),
        named("offsets too large", {
            let largest = u64::MAX;
            tensor(&format!(
                r#""dtype":"F32","shape":[1,1],"data_offsets":[0,{largest}]"#
            ))
        }),
        named(
            "three offsets",
            tensor(r#""dtype":"F32","shape":[1,1],"data_offsets":[0,4,8]"#),
        ),
        named("a hole", {
            let late = r#""1.bias":{"dtype":"F32","shape":[1],"data_offsets":[8,12]}"#;
            safetensors(
                &format!("{{{weight},{late}}}"),
                &[&data[..], &[0; 4]].concat(),
            )
        }),
        named(
            "bytes after the last tensor",
            safetensors(&format!("{{{weight},{bias}}}"), &[0; 9]),
        ),
        named(
            "a shape of nothing",
            tensor(r#""dtype":"F32","shape":[1,0],"data_offsets":[0,4]"#),
        ),
        named("a shape that overflows", {
            let huge = i64::MAX;
            tensor(&format!(
                r#""dtype":"F32","shape":[{huge},{huge}],"data_offsets":[0,4]"#
            ))
        }),
        named(
            "another shape",
            tensor(r#""dtype":"F32","shape":[1,1,1],"data_offsets":[0,4]"#),
        ),
        named(
            "another datatype",
            tensor(r#""dtype":"I32","shape":[1,1],"data_offsets":[0,4]"#),
        ),
        named(
            "no datatype",
            tensor(r#""dtype":"F33","shape":[1,1],"data_offsets":[0,4]"#),
        ),
        named(
            "an unknown key",
            tensor(r#""dtype":"F32","shape":[1,1],"data_offsets":[0,4],"x":1"#),
        ),
        named(
            "no number",
            safetensors(&format!("{{{weight},{bias}}}"), &[0xff; 8]),
        ),
    ]);
    never_served("model.safetensors", bad);
}

#[test]
fn configurations_that_are_no_good_are_never_served() {
    let whole = config(2.0);
    let cut = (0..whole.len()).step_by(7);
    let mut bad: Vec<(String, Vec<u8>)> = cut
        .map(|length| (format!("{length} bytes"), whole[..length].to_vec()))
        .collect();
    for text in [
        "null",
        "[]",
        "1",
        "\"\"",
        "{}",
        "{}{}",
        "\u{feff}{}",
        "\0\0\0\0",
        r#"{"model_type": "unheard-of"}"#,
        r#"{"model_type": "sequential", "model_type": "sequential"}"#,
        r#"{"model_type": "sequential", "inputs": [], "layers": []}"#,
    ] {
        bad.push((text.to_owned(), text.as_bytes().to_vec()));
    }
    bad.push(("deep".to_owned(), "[".repeat(1_000_000).into_bytes()));
    never_served("config.json", bad);
}

/// Something in the place of a file that is none.
type Node = fn(&Path);

const NODES: &[(&str, Node)] = &[
    ("a pipe", |path| {
        let made = Command::new("mkfifo").arg(path).status().unwrap();
        assert!(made.success());
    }),
    ("a socket", |path| drop(UnixListener::bind(path).unwrap())),
    ("a directory", |path| fs::create_dir(path).unwrap()),
    ("a device without an end", |path| {
        symlink("/dev/zero", path).unwrap()
    }),
    ("a device that is empty", |path| {
        symlink("/dev/null", path).unwrap()
    }),
    ("a link to nothing", |path| {
        symlink("nowhere", path).unwrap()
    }),
    ("a link to itself", |path| symlink(path, path).unwrap()),
    ("a file of a terabyte", |path| {
        File::create(path).unwrap().set_len(1 << 40).unwrap()
    }),
];

#[test]
fn nodes_that_are_no_files_are_never_served_and_hang_nothing() {
    let fixture = Fixture::of(&[("m/1", 2.0)]);
    let served = fixture.repository.find("m", None).unwrap();
    for (what, make) in NODES {
        for file in ["config.json", "model.safetensors"] {
            let good = fs::read(fixture.path("m/1").join(file)).unwrap();
            write_model(&fixture.path("m/2"), &config(3.0), &weights());
            for version in ["m/1", "m/2"] {
                fs::remove_file(fixture.path(version).join(file)).unwrap();
                make(&fixture.path(version).join(file));
            }
            fixture.repository.rescan();
            let now = fixture.repository.find("m", None).unwrap();
            assert!(Arc::ptr_eq(&served, &now), "{what} as {file}");
            let (state, reason) = fixture.entry("m", 1);
            assert_eq!(state, ModelState::Ready, "{what} as {file}");
            assert!(!reason.is_empty(), "{what} as {file}");
            let (state, _) = fixture.entry("m", 2);
            assert_eq!(state, ModelState::Unavailable, "{what} as {file}");
            fs::remove_dir_all(fixture.path("m/2")).unwrap();
            fs::remove_dir_all(fixture.path("m/1")).unwrap();
            write_model(&fixture.path("m/1"), &config(2.0), &weights());
            fs::write(fixture.path("m/1").join(file), good).unwrap();
            fixture.repository.rescan();
            assert_eq!(fixture.entry("m", 1), (ModelState::Ready, String::new()));
        }
    }
}

/// A header may be right about a sparse file that takes no room on the disk.
#[test]
fn a_terabyte_of_weights_is_refused_before_it_is_read() {
    let fixture = Fixture::with(&[("m/1", 2.0)], |settings| {
        settings.max_weight_bytes = 1 << 30
    });
    let values = (1_u64 << 40) / 4;
    let header = format!(
        r#"{{"1.weight":{{"dtype":"F32","shape":[{values},1],"data_offsets":[0,{}]}}}}"#,
        1_u64 << 40
    );
    let bytes = safetensors(&header, &[]);
    fs::write(fixture.path(".staged"), &bytes).unwrap();
    let file = File::options()
        .write(true)
        .open(fixture.path(".staged"))
        .unwrap();
    file.set_len(bytes.len() as u64 + (1 << 40)).unwrap();
    fs::rename(
        fixture.path(".staged"),
        fixture.path("m/1/model.safetensors"),
    )
    .unwrap();
    fixture.repository.rescan();
    assert_eq!(fixture.answer("m"), (1, 2.0));
    let (state, reason) = fixture.entry("m", 1);
    assert_eq!(state, ModelState::Ready);
    assert!(reason.contains("models.max_weight_bytes"), "{reason}");
}

/// The weights were read into memory: changes to the file no longer matter.
#[test]
fn a_live_file_that_is_truncated_or_overwritten_changes_no_answer() {
    let fixture = Fixture::of(&[("m/1", 2.0)]);
    let served = fixture.repository.find("m", None).unwrap();
    let file = File::options()
        .write(true)
        .open(fixture.path("m/1/model.safetensors"))
        .unwrap();
    file.set_len(0).unwrap();
    assert_eq!(fixture.answer("m"), (1, 2.0));
    fixture.repository.rescan();
    assert_eq!(fixture.answer("m"), (1, 2.0));
    fs::write(fixture.path("m/1/model.safetensors"), [0xff; 512]).unwrap();
    fixture.repository.rescan();
    assert_eq!(fixture.answer("m"), (1, 2.0));
    assert!(Arc::ptr_eq(
        &served,
        &fixture.repository.find("m", None).unwrap()
    ));
}

#[test]
fn directories_with_odd_names_are_no_versions() {
    let fixture = Fixture::of(&[("m/1", 2.0)]);
    let odd = [
        "0",
        "01",
        "+2",
        "-2",
        "2e0",
        " 2",
        "2.0",
        "v2",
        "18446744073709551616",
        "２",
    ];
    for name in odd {
        write_model(&fixture.path("m").join(name), &config(3.0), &weights());
    }
    fixture.repository.rescan();
    assert_eq!(fixture.states(), [("m".into(), 1, ModelState::Ready)]);
    assert_eq!(fixture.repository.ignored().len(), odd.len());
    // The largest that there can be is one.
    fixture.write("m/18446744073709551615", 4.0);
    assert_eq!(fixture.answer("m"), (u64::MAX, 4.0));
}
