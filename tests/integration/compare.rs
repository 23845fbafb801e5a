//! `safeserve check --compare`: a model's answers against a file of expected ones.

use std::fs;
use std::path::Path;
use std::process::{Command, Output};

use safetensors::Dtype;
use tempfile::TempDir;

use crate::model_files::{Stored, directory, safetensors, with_header};

/// One input of two numbers; two outputs: the input doubled, and a sum of weights 1 and 10.
const CONFIG: &str = r#"{"model_type": "sequential", "inputs": [{"name": "x", "shape": [2]}],
    "layers": [{"type": "rescaling", "name": "twice", "scale": 2},
               {"type": "dense", "name": "sum", "inputs": ["x"], "use_bias": false}],
    "outputs": [{"name": "twice", "layer": "twice"}, {"name": "sum", "layer": "sum"}]}"#;

fn model() -> TempDir {
    directory(CONFIG, &[Stored::new("sum.weight", &[1, 2], &[1.0, 10.0])])
}

/// Three rows and the answers to them.
fn right() -> [Stored; 3] {
    [
        Stored::new("input.x", &[3, 2], &[1.0, 2.0, 3.0, 4.0, 5.0, 6.0]),
        Stored::new("output.twice", &[3, 2], &[2.0, 4.0, 6.0, 8.0, 10.0, 12.0]),
        Stored::new("output.sum", &[3, 1], &[21.0, 43.0, 65.0]),
    ]
}

/// Runs the comparison of a repository with a file's bytes.
fn compare_in(repository: &Path, file: &[u8], more: &[&str]) -> Output {
    let place = tempfile::tempdir().unwrap();
    fs::write(place.path().join("answers.safetensors"), file).unwrap();
    Command::new(env!("CARGO_BIN_EXE_safeserve"))
        .env_clear()
        .current_dir(place.path())
        .args(["check", "--compare", "answers.safetensors"])
        .arg(repository)
        .args(more)
        .output()
        .unwrap()
}

fn compare(tensors: &[Stored], more: &[&str]) -> (Option<i32>, String, String) {
    said(&compare_in(model().path(), &safetensors(tensors), more))
}

/// The exit code, what stdout holds after the table of models, and stderr.
fn said(output: &Output) -> (Option<i32>, String, String) {
    let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
    let stdout = text(&output.stdout);
    let after = stdout.split_once("every model can be served\n");
    let after = after.map_or_else(|| stdout.clone(), |(_, after)| after.to_owned());
    (output.status.code(), after, text(&output.stderr))
}

#[test]
fn the_right_answers_pass_and_it_says_how_far_off_each_output_is() {
    for datatype in [Dtype::F32, Dtype::F64] {
        let tensors = right().map(|tensor| tensor.stored_as(datatype));
        let (code, stdout, stderr) = compare(&tensors, &[]);
        assert_eq!((code, stderr.as_str()), (Some(0), ""), "{stdout}");
        let lines: Vec<&str> = stdout.lines().skip(1).collect();
        assert_eq!(
            lines,
            [
                "output \"twice\": off by 0.00e0 at row 0, element 0: 2.0 for 2.0, within the \
                 3.00e-5 allowed",
                "output \"sum\": off by 0.00e0 at row 0, element 0: 21.0 for 21.0, within the \
                 2.20e-4 allowed",
                "every answer is as expected, tolerance 1e-5 + 1e-5 * |expected|",
            ]
        );
        assert!(
            stdout.contains(" 1: 3 rows of answers.safetensors\n"),
            "{stdout}"
        );
    }
}

#[test]
fn a_planted_difference_fails_with_its_place() {
    let [x, _, sum] = right();
    // Of the two differences the second is the larger share of what is allowed.
    let twice = Stored::new("output.twice", &[3, 2], &[2.0, 4.0, 6.0, 8.001, 10.0, 12.5]);
    let (code, stdout, stderr) = compare(&[x, twice, sum], &[]);
    assert_eq!((code, stderr.as_str()), (Some(1), ""), "{stdout}");
    let expected = "output \"twice\": off by 5.00e-1 at row 2, element 1: 12.0 for 12.5, beyond \
                    the 1.35e-4 allowed\n";
    assert!(stdout.contains(expected), "{stdout}");
    assert!(
        stdout.contains("output \"sum\": off by 0.00e0 at"),
        "{stdout}"
    );
    assert!(
        stdout.ends_with("the answers are not as expected, tolerance 1e-5 + 1e-5 * |expected|\n"),
        "{stdout}"
    );
}

#[test]
fn the_tolerance_is_absolute_and_relative() {
    // 64 for 65 is off by 1: allowed are t + 64 t.
    let [x, twice, _] = right();
    let sum = Stored::new("output.sum", &[3, 1], &[21.0, 43.0, 64.0]);
    let tensors = [x, twice, sum];
    for (tolerance, code) in [("0.0153", 1), ("0.0154", 0), ("0", 1), ("1e3", 0)] {
        let (found, stdout, _) = compare(&tensors, &["--tolerance", tolerance]);
        assert_eq!(found, Some(code), "{tolerance}: {stdout}");
    }
    assert_eq!(compare(&right(), &["--tolerance", "0"]).0, Some(0));
}

#[test]
fn answers_that_are_not_finite_are_no_ones_equal() {
    let config = r#"{"model_type": "sequential", "inputs": [{"name": "x", "shape": [1]}],
        "layers": [{"type": "rescaling", "scale": 3e38}], "allow_non_finite": true}"#;
    let model = directory(config, &[]);
    let file = safetensors(&[
        Stored::new("input.x", &[2, 1], &[1.0, 3.0]),
        Stored::new("output.output", &[2, 1], &[3e38, 3.4e38]),
    ]);
    let (code, stdout, _) = said(&compare_in(model.path(), &file, &["--tolerance", "0.1"]));
    assert_eq!(code, Some(1), "{stdout}");
    assert!(
        stdout.contains("off by inf at row 1, element 0: inf for 3.4e38"),
        "{stdout}"
    );
}

#[test]
fn many_rows_are_compared_to_the_last() {
    let rows = 1000;
    let x: Vec<f32> = (0..2 * rows).map(|index| index as f32).collect();
    let twice: Vec<f32> = x.iter().map(|x| 2.0 * x).collect();
    let mut sum: Vec<f32> = x.chunks(2).map(|row| row[0] + 10.0 * row[1]).collect();
    let file = |sum: &[f32]| {
        [
            Stored::new("input.x", &[rows, 2], &x),
            Stored::new("output.twice", &[rows, 2], &twice),
            Stored::new("output.sum", &[rows, 1], sum),
        ]
    };
    assert_eq!(compare(&file(&sum), &[]).0, Some(0));
    sum[rows - 1] += 10.0;
    let (code, stdout, _) = compare(&file(&sum), &[]);
    assert_eq!(code, Some(1));
    assert!(
        stdout.contains("output \"sum\": off by 1.00e1 at row 999, element 0"),
        "{stdout}"
    );
}

#[test]
fn a_bad_file_is_refused_with_the_place_and_what_was_expected() {
    let [x, twice, sum] = right();
    let named = |name: &str, tensor: &Stored| Stored {
        name: name.to_owned(),
        ..tensor.clone()
    };
    let halves = sum.stored_as(Dtype::F16);
    let counts = sum.stored_as(Dtype::I64);
    let wide = Stored::new("output.sum", &[1, 3], &[21.0, 43.0, 65.0]);
    let flat = Stored::new("output.sum", &[3], &[21.0, 43.0, 65.0]);
    let scalar = Stored::new("output.sum", &[], &[21.0]);
    let short = Stored::new("output.sum", &[2, 1], &[21.0, 43.0]);
    let nan = Stored::new("output.sum", &[3, 1], &[21.0, f32::NAN, 65.0]);
    let infinite = Stored::new(
        "input.x",
        &[3, 2],
        &[1.0, 2.0, 3.0, 4.0, 5.0, f32::INFINITY],
    );
    let model = model();
    for (tensors, expected) in [
        (
            vec![x.clone(), twice.clone()],
            "no tensor \"output.sum\"; the file holds: \"input.x\", \"output.twice\"",
        ),
        (
            vec![named("input.y", &x), twice.clone(), sum.clone()],
            "no tensor \"input.x\"; the file holds: \"input.y\", \"output.sum\", \"output.twice\"",
        ),
        (
            vec![x.clone(), twice.clone(), sum.clone(), named("label", &sum)],
            "tensor \"label\" belongs to no input and no output of the model; expected only: \
             \"input.x\", \"output.twice\", \"output.sum\"",
        ),
        (
            vec![x.clone(), twice.clone(), halves],
            "tensor \"output.sum\": expected F32 or F64, got F16",
        ),
        (
            vec![x.clone(), twice.clone(), counts],
            "tensor \"output.sum\": expected F32 or F64, got I64",
        ),
        (
            vec![x.clone(), twice.clone(), wide],
            "tensor \"output.sum\": expected shape [rows, 1], got [1, 3]",
        ),
        (
            vec![x.clone(), twice.clone(), flat],
            "tensor \"output.sum\": expected shape [rows, 1], got [3]",
        ),
        (
            vec![x.clone(), twice.clone(), scalar],
            "tensor \"output.sum\": expected shape [rows, 1], got []",
        ),
        (
            vec![x.clone(), twice.clone(), short],
            "tensor \"output.sum\": expected 3 rows as \"input.x\" has, got 2",
        ),
        (
            vec![x.clone(), twice.clone(), nan],
            "tensor \"output.sum\": element 1 is NaN; only finite 32-bit numbers can be compared",
        ),
        (
            vec![infinite, twice, sum],
            "tensor \"input.x\": element 5 is inf; only finite 32-bit numbers can be compared",
        ),
        (vec![], "no tensor \"input.x\"; the file holds: nothing"),
    ] {
        let output = compare_in(model.path(), &safetensors(&tensors), &[]);
        let (code, _, stderr) = said(&output);
        assert_eq!(code, Some(1), "{stderr}");
        assert_eq!(
            stderr,
            format!("safeserve: --compare: answers.safetensors: {expected}\n")
        );
    }
}

#[test]
fn a_file_that_is_no_safetensors_file_is_refused() {
    let whole = safetensors(&right());
    let empty = br#"{"input.x": {"dtype": "F32", "shape": [0, 2], "data_offsets": [0, 0]}}"#;
    let model = model();
    for (file, expected) in [
        (
            b"cut".to_vec(),
            "3 bytes are too few for a safetensors file",
        ),
        (whole[..whole.len() - 1].to_vec(), "is it complete?"),
        (with_header(b"[]", 0), "the header must begin with '{'"),
        (
            with_header(empty, 0),
            "tensor \"input.x\": shape [0, 2] holds no element",
        ),
    ] {
        let (code, _, stderr) = said(&compare_in(model.path(), &file, &[]));
        assert_eq!(code, Some(1), "{stderr}");
        assert!(
            stderr.starts_with("safeserve: --compare: answers.safetensors: ")
                && stderr.contains(expected),
            "{stderr}"
        );
    }
    let missing = ["--compare", "nowhere.safetensors"];
    let output = Command::new(env!("CARGO_BIN_EXE_safeserve"))
        .arg("check")
        .arg(model.path())
        .args(missing)
        .output()
        .unwrap();
    let (code, _, stderr) = said(&output);
    assert_eq!(code, Some(1));
    assert!(
        stderr.starts_with("safeserve: --compare: nowhere.safetensors: No such file"),
        "{stderr}"
    );
}

#[test]
fn one_model_is_compared_in_its_newest_version() {
    let repository = tempfile::tempdir().unwrap();
    let weights = [Stored::new("sum.weight", &[1, 2], &[1.0, 10.0])];
    for (place, weights) in [
        ("sums/1", [Stored::new("sum.weight", &[1, 2], &[7.0, 7.0])]),
        ("sums/2", weights.clone()),
    ] {
        let place = repository.path().join(place);
        fs::create_dir_all(&place).unwrap();
        crate::model_files::write(&place, CONFIG, &safetensors(&weights));
    }
    let file = safetensors(&right());
    let (code, stdout, _) = said(&compare_in(repository.path(), &file, &[]));
    assert_eq!(code, Some(0), "{stdout}");
    assert!(
        stdout.starts_with("sums 2: 3 rows of answers.safetensors\n"),
        "{stdout}"
    );

    let other = repository.path().join("other");
    fs::create_dir(&other).unwrap();
    crate::model_files::write(&other, CONFIG, &safetensors(&weights));
    let (code, stdout, stderr) = said(&compare_in(repository.path(), &file, &[]));
    assert_eq!((code, stdout.as_str()), (Some(1), ""));
    assert_eq!(
        stderr,
        "safeserve: --compare: expected one model, the repository has 2: other, sums; give the \
         directory of one\n"
    );
}

#[test]
fn a_tolerance_is_a_number_that_is_not_negative_and_goes_with_a_file() {
    for tolerance in ["-1", "nan", "inf", "much"] {
        let more = format!("--tolerance={tolerance}");
        let (code, _, stderr) = compare(&right(), &[&more]);
        assert_eq!(code, Some(2), "{tolerance}");
        assert!(
            stderr.contains("expected a number from 0 on, such as 1e-5"),
            "{stderr}"
        );
    }
    let output = Command::new(env!("CARGO_BIN_EXE_safeserve"))
        .args(["check", "--tolerance", "1"])
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(2));
}
