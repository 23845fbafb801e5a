//! `safeserve train` through its library: refusals and their messages, the written files, and that the same
//! seed gives the same bytes.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};

use safeserve::model::Model;
use safeserve::train::options::Optimizer;
use safeserve::train::{
    Epoch, Goal, Observer, Options, Stop, TaskName, TrainError, Trained, Trouble, train,
};
use tempfile::TempDir;

/// Records what it is told; asks for an end after a number of epochs.
#[derive(Default)]
struct Watcher {
    said: Vec<String>,
    epochs: usize,
    keep_after: Option<usize>,
    abandon_after: Option<usize>,
}

impl Observer for Watcher {
    fn said(&mut self, line: &str) {
        self.said.push(line.to_owned());
    }

    fn epoch(&mut self, epoch: &Epoch) {
        self.epochs = epoch.number;
    }

    fn stop(&self) -> Stop {
        let is_over = |limit: Option<usize>| limit.is_some_and(|limit| self.epochs >= limit);
        match (is_over(self.abandon_after), is_over(self.keep_after)) {
            (true, _) => Stop::Abandon,
            (_, true) => Stop::Keep,
            _ => Stop::No,
        }
    }
}

/// A directory with a table, and the options to learn its column `y` quickly.
fn table(text: impl AsRef<[u8]>) -> (TempDir, Options) {
    let root = tempfile::tempdir().unwrap();
    let data = root.path().join("t.csv");
    fs::write(&data, text).unwrap();
    let mut options = Options::new(data, "y", root.path().join("models/m"));
    options.layers = "4:tanh".parse().unwrap();
    options.epochs = 3;
    (root, options)
}

/// Rows of a number that nearly says the class, categories and gaps.
fn rows(count: usize) -> String {
    let mut text = "size,colour,y\n".to_owned();
    for row in 0..count {
        let colour = ["red", "green", "", "blue"][row % 4];
        let size = match row % 7 {
            3 => String::new(),
            _ => format!("{}", (row * 37 % 101) as f32 / 10.0),
        };
        let class = if row * 37 % 101 + row % 5 > 50 {
            "large"
        } else {
            "small"
        };
        let _ = writeln!(text, "{size},{colour},{class}");
    }
    text
}

fn trained(options: &Options) -> Trained {
    train(options, &mut Watcher::default()).unwrap()
}

fn entries(directory: &Path) -> Vec<String> {
    let mut names: Vec<String> = fs::read_dir(directory)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    names
}

/// A case of the table of refusals: the claim, the file, a change of the options.
type Case = (&'static str, Vec<u8>, fn(&mut Options));

fn cases() -> Vec<Case> {
    let plain = |_: &mut Options| {};
    let good = || b"x,y\n1,a\n2,b\n3,a\n4,b\n5,a\n6,b\n7,a\n8,b\n9,a\n10,b\n".to_vec();
    let text = |text: &str| text.as_bytes().to_vec();
    let many = |header: &str, row: fn(usize) -> String, count: usize| {
        let rows: Vec<String> = (0..count).map(row).collect();
        format!("{header}\n{}\n", rows.join("\n")).into_bytes()
    };
    vec![
        ("an empty file", text(""), plain),
        ("a file of blank lines", text("\n\n"), plain),
        ("a header alone", text("x,y\n"), plain),
        (
            "the target alone",
            many("y", |row| format!("{}", row % 2), 12),
            plain,
        ),
        ("a column without a name", text("x,,y\n1,2,3\n"), plain),
        ("a name twice", text("x,y,x\n1,2,3\n"), plain),
        (
            "a name with a control character",
            text("\"x\u{1b}[2J\",y\n1,2\n"),
            plain,
        ),
        (
            "a name that is not UTF-8",
            b"x\xff,y\n1,2\n".to_vec(),
            plain,
        ),
        (
            "a cell that is not UTF-8",
            b"x,y\n1,2\n3\xff,4\n".to_vec(),
            plain,
        ),
        ("a row with a cell too few", text("x,y\n1,2\n\n3\n"), plain),
        (
            "a row with a cell too many",
            text("x,y\n1,2\n3,4,5\n"),
            plain,
        ),
        (
            "a quote that is not closed, with cells missing",
            text("x,y\n1,2\n\"3,4\n5,6\n"),
            plain,
        ),
        (
            "a quote that is not closed in the last column",
            text("x,y\n1,2\n3,\"4\n5,6\n"),
            plain,
        ),
        ("semicolons", text("x;y\n1;2\n"), plain),
        ("an unknown target", good(), |options| {
            options.target = "z".into()
        }),
        (
            "a target that is nearly a column",
            text("price,n\n1,2\n"),
            |options| {
                options.target = "Prize".into();
            },
        ),
        ("no target in any row", text("x,y\n1,\n2,\n"), plain),
        (
            "a constant target",
            many("x,y", |row| format!("{row},a"), 12),
            plain,
        ),
        (
            "a constant target that is a number",
            many("x,y", |row| format!("{row},5"), 12),
            |options| {
                options.task = Some(TaskName::Regression);
            },
        ),
        (
            "too few rows to hold some out",
            text("x,y\n1,a\n2,b\n"),
            plain,
        ),
        ("one row", text("x,y\n1,a\n"), |options| {
            options.validation = 0.0
        }),
        (
            "a slip in a column of numbers",
            text("x,y\n1,a\n2,b\nthree,a\n4,b\n"),
            plain,
        ),
        (
            "nan in a column of numbers",
            text("x,y\n1,a\n2,b\nnan,a\n4,b\n"),
            plain,
        ),
        (
            "inf in a column of numbers",
            text("x,y\n1,a\n-inf,b\n3,a\n4,b\n"),
            plain,
        ),
        (
            "a number too large",
            text("x,y\n1,a\n2,b\n1e39,a\n4,b\n"),
            plain,
        ),
        (
            "a text in a target of numbers",
            text("x,y\n1,1.5\n2,2.5\n3,x\n4,1\n"),
            |options| {
                options.task = Some(TaskName::Regression);
            },
        ),
        (
            "three classes for a binary task",
            text("x,y\n1,a\n2,b\n3,c\n"),
            |options| {
                options.task = Some(TaskName::Binary);
            },
        ),
        (
            "a name of the row as target",
            many("x,y", |row| format!("{row},n{row}"), 1001),
            plain,
        ),
        (
            "no column left",
            many("x,y", |row| format!("n{row},{}", row % 2), 60),
            plain,
        ),
        ("all columns ignored", good(), |options| {
            options.ignore = vec!["x".into()]
        }),
        ("an unknown column to ignore", good(), |options| {
            options.ignore = vec!["xx".into()]
        }),
        ("the target ignored", good(), |options| {
            options.ignore = vec!["y".into()]
        }),
        ("the target as categories", good(), |options| {
            options.categories = vec!["y".into()]
        }),
        ("a column ignored and of categories", good(), |options| {
            options.ignore = vec!["x".into()];
            options.categories = vec!["x".into()];
        }),
        (
            "too many categories",
            many("x,y", |row| format!("n{row},{}", row % 2), 1001),
            |options| {
                options.categories = vec!["x".into()];
            },
        ),
        (
            "a category with a control character",
            text("x,y\na\u{7},1\nb,2\n"),
            plain,
        ),
        (
            "two columns of one feature",
            many(
                "\"x=a\",x,y",
                |row| format!("1,{},{}", ["a", "b"][row % 2], row % 3),
                12,
            ),
            plain,
        ),
        (
            "a class with a control character",
            text("x,y\n1,a\u{7}\n2,b\n"),
            plain,
        ),
        ("a learning rate of 0", good(), |options| {
            options.optimizer = Optimizer::adamw(Some(0.0), None)
        }),
        ("a learning rate that is no number", good(), |options| {
            options.optimizer = Optimizer::adamw(Some(f64::NAN), None);
        }),
        ("a momentum of 1", good(), |options| {
            options.optimizer = Optimizer::sgd(None, Some(1.0), None)
        }),
        ("a negative weight decay", good(), |options| {
            options.optimizer = Optimizer::sgd(None, None, Some(-1.0));
        }),
        ("nothing to learn from", good(), |options| {
            options.validation = 1.0
        }),
        ("no epochs", good(), |options| options.epochs = 0),
        ("no rows in a batch", good(), |options| {
            options.batch_rows = 0
        }),
        ("no name of a model", good(), |options| {
            options.out = PathBuf::from("models/..")
        }),
        ("a bad name of a model", good(), |options| {
            options.out = PathBuf::from("models/a b")
        }),
        ("a hidden name of a model", good(), |options| {
            options.out = PathBuf::from("models/_a")
        }),
        ("steps that are too long", good(), |options| {
            options.layers = "8:linear,8:linear".parse().unwrap();
            options.optimizer = Optimizer::sgd(Some(1e3), Some(0.0), None);
            options.task = None;
            options.epochs = 50;
            options.target = "x".into();
            options.ignore = vec![];
            options.batch_rows = 1;
        }),
    ]
}

#[test]
fn what_cannot_be_learned_from_is_refused_with_its_place_and_a_hint() {
    let mut text = String::new();
    for (claim, file, change) in cases() {
        let (root, mut options) = table(file);
        change(&mut options);
        let error = train(&options, &mut Watcher::default());
        let error = error
            .err()
            .unwrap_or_else(|| panic!("{claim}: it was accepted"));
        let message = error
            .to_string()
            .replace(root.path().to_str().unwrap(), "DIR");
        let _ = writeln!(text, "{claim}\n    {message}\n");
        assert_eq!(entries(root.path()), ["t.csv"], "{claim}: nothing is left");
    }
    insta::assert_snapshot!(text);
}

#[test]
fn layers_that_make_no_network_are_refused_with_the_known_activations() {
    let refusals: Vec<String> = [
        "10:reluu",
        "10:softmax",
        "x",
        "0:relu",
        "10:relu,,3",
        "99999",
        "-1:relu",
    ]
    .iter()
    .map(|text| text.parse::<safeserve::train::Layers>().unwrap_err())
    .collect();
    insta::assert_snapshot!(refusals.join("\n"));
}

#[test]
fn files_that_cannot_be_read_or_written_are_named() {
    let (root, mut options) = table("x,y\n");
    options.data = root.path().join("none.csv");
    let error = train(&options, &mut Watcher::default())
        .unwrap_err()
        .to_string();
    assert!(error.contains("none.csv: No such file"), "{error}");
    options.data = root.path().to_owned();
    let error = train(&options, &mut Watcher::default())
        .unwrap_err()
        .to_string();
    assert!(
        error.ends_with("a directory; expected a CSV file"),
        "{error}"
    );
    let (root, mut options) = table(rows(40));
    options.out = root.path().join("t.csv/m");
    let error = train(&options, &mut Watcher::default()).unwrap_err();
    assert!(
        matches!(error, TrainError::Option { flag: "--out", .. }),
        "{error}"
    );
}

#[test]
fn a_place_that_holds_something_else_is_left_as_it_is() {
    let (root, options) = table(rows(40));
    fs::create_dir_all(&options.out).unwrap();
    fs::write(options.out.join("config.json"), "{}").unwrap();
    let error = train(&options, &mut Watcher::default())
        .unwrap_err()
        .to_string();
    assert!(
        error.contains("holds a model without versions (config.json); move its files into"),
        "{error}"
    );
    assert_eq!(entries(&options.out), ["config.json"]);
    let (_root, mut options) = table(rows(40));
    options.out = root.path().join("t.csv");
    let error = train(&options, &mut Watcher::default())
        .unwrap_err()
        .to_string();
    assert!(
        error.contains("is a file; expected a model's directory"),
        "{error}"
    );
}

#[test]
fn the_model_is_whole_and_each_training_adds_a_version() {
    let (root, options) = table(rows(60));
    let first = trained(&options);
    assert_eq!((first.name.as_str(), first.version), ("m", 1));
    assert_eq!(first.directory, options.out.join("1"));
    assert_eq!(
        entries(&first.directory),
        [
            "config.json",
            "example.json",
            "model.safetensors",
            "report.html",
            "training.json"
        ]
    );
    // A gap in the numbers is not filled, and other directories do not count.
    fs::create_dir_all(options.out.join("7")).unwrap();
    fs::create_dir_all(options.out.join(".9")).unwrap();
    fs::create_dir_all(options.out.join("x")).unwrap();
    assert_eq!(trained(&options).version, 8);
    assert_eq!(
        entries(&root.path().join("models")),
        ["m"],
        "no draft is left"
    );

    let model = Model::load("m", 1, &first.directory).unwrap();
    let signature = &model.signature;
    assert_eq!(signature.labels, ["large", "small"]);
    assert_eq!(
        signature.feature_names,
        [
            "size",
            "colour=",
            "colour=blue",
            "colour=green",
            "colour=red"
        ]
    );
    let columns = signature.columns.as_ref().unwrap();
    assert_eq!(columns.feature_names(), signature.feature_names);
    assert_eq!(
        first.report.goal,
        Goal::Binary(["large".into(), "small".into()])
    );
    assert_eq!(
        first.example,
        r#"{"instances":[{"colour=":0,"colour=blue":0,"colour=green":0,"colour=red":1,"size":0}]}"#
    );
}

#[test]
fn the_same_seed_gives_the_same_bytes_and_another_seed_others() {
    let bytes = |seed| {
        let (_root, mut options) = table(rows(60));
        options.seed = seed;
        let directory = trained(&options).directory;
        ["config.json", "model.safetensors"].map(|file| fs::read(directory.join(file)).unwrap())
    };
    let first = bytes(3);
    assert_eq!(first, bytes(3));
    assert_ne!(first[1], bytes(4)[1]);
}

#[test]
fn every_activation_is_served_as_it_was_trained() {
    // The command compares both on each row, and fails if they differ.
    for activation in safeserve::train::Activation::ALL {
        let (_root, mut options) = table(rows(60));
        options.layers = format!("6:{}", activation.name()).parse().unwrap();
        train(&options, &mut Watcher::default())
            .unwrap_or_else(|error| panic!("{}: {error}", activation.name()));
    }
}

#[test]
fn numbers_far_from_zero_are_learned_in_their_own_unit() {
    let mut text = "x,y\n".to_owned();
    for row in 0..80 {
        let _ = writeln!(
            text,
            "{},{}",
            1.0e6 + f64::from(row),
            5.0e7 + 1.0e5 * f64::from(row)
        );
    }
    let (_root, mut options) = table(text);
    options.layers = "".parse().unwrap();
    options.epochs = 300;
    options.optimizer = Optimizer::adamw(Some(0.03), Some(0.0));
    let trained = trained(&options);
    let (measure, score) = trained.report.score.main();
    assert_eq!(measure, "R²");
    assert!(score > 0.999, "{score}");
    assert_eq!(trained.report.goal, Goal::Regression);
}

#[test]
fn gradient_descent_with_momentum_learns_too() {
    let (_root, mut options) = table(rows(200));
    options.optimizer = Optimizer::sgd(None, None, None);
    options.epochs = 60;
    let report = trained(&options).report;
    assert!(report.score.main().1 > 0.75, "{:?}", report.score);
    let losses: Vec<f64> = report.history.iter().map(|epoch| epoch.loss).collect();
    assert!(losses[losses.len() - 1] < 0.7 * losses[0], "{losses:?}");
}

#[test]
fn patience_ends_it_and_the_best_weights_are_kept() {
    let (_root, mut options) = table(rows(100));
    options.epochs = 2000;
    options.patience = 5;
    options.optimizer = Optimizer::adamw(Some(0.1), None);
    let report = trained(&options).report;
    let best = report.history.iter().min_by(|a, b| {
        let loss = |epoch: &Epoch| epoch.validation_loss.unwrap();
        loss(a).total_cmp(&loss(b))
    });
    assert_eq!(best.unwrap().number, report.best_epoch);
    assert_eq!(report.history.len(), report.best_epoch + 5);
    // The score told is that of the weights kept, as the served model answers.
    let kept = report.history[report.best_epoch - 1]
        .validation_score
        .unwrap();
    assert_eq!(report.score.main().1, kept);
}

#[test]
fn a_stop_keeps_the_best_so_far_and_an_abandonment_leaves_nothing() {
    let (root, options) = table(rows(60));
    let mut watcher = Watcher {
        keep_after: Some(2),
        ..Watcher::default()
    };
    let trained = train(&options, &mut watcher).unwrap();
    assert_eq!(trained.report.history.len(), 2);
    fs::remove_dir_all(root.path().join("models")).unwrap();
    let mut watcher = Watcher {
        abandon_after: Some(1),
        ..Watcher::default()
    };
    let error = train(&options, &mut watcher).unwrap_err();
    assert!(matches!(error, TrainError::Interrupted));
    assert_eq!(entries(root.path()), ["t.csv"]);
}

#[test]
fn what_was_not_asked_for_is_said() {
    let mut text = "id,gone,x,y\n".to_owned();
    for row in 0..60 {
        let class = if row == 5 {
            String::new()
        } else {
            format!("{}", row % 3)
        };
        let _ = writeln!(text, "name {row},,{row},{class}");
    }
    let (_root, options) = table(text);
    let mut watcher = Watcher::default();
    let trained = train(&options, &mut watcher).unwrap();
    insta::assert_snapshot!(watcher.said.join("\n"));
    assert_eq!(trained.report.rows_without_target, 1);
    assert_eq!(
        trained.report.goal,
        Goal::Multiclass(["0", "1", "2"].map(String::from).to_vec())
    );
}

#[test]
fn columns_that_hurt_are_found_and_others_are_not() {
    let mut text = "x,seven,again,doubled,late,harmless,renamed,n,y\n".to_owned();
    for row in 0..120_u32 {
        let x = row * 37 % 101;
        let class = x + row * 13 % 40 > 60;
        let late = if class { "after" } else { "before" };
        let renamed = if class { "B" } else { "A" };
        let harmless = row * 7 % 11;
        let _ = writeln!(
            text,
            "{x},7,{x},{},{late},{harmless},{renamed},{row},{}",
            2 * x + 1,
            u32::from(class)
        );
    }
    let (_root, options) = table(text);
    let report = trained(&options).report;
    let mut found: BTreeMap<&str, Vec<&Trouble>> = BTreeMap::new();
    for finding in &report.findings {
        found
            .entry(&finding.column)
            .or_default()
            .push(&finding.trouble);
    }
    let duplicate = |of: &str, is_exact| Trouble::Duplicate {
        of: of.into(),
        is_exact,
    };
    assert_eq!(found["seven"], [&Trouble::Constant]);
    assert_eq!(found["again"], [&duplicate("x", true)]);
    assert_eq!(found["doubled"], [&duplicate("x", false)]);
    assert!(
        matches!(found["late"][..], [Trouble::Leak { score: 1.0, .. }]),
        "{found:?}"
    );
    assert!(found["renamed"].contains(&&duplicate("late", true)));
    assert_eq!(found["n"], [&Trouble::Counts]);
    assert!(
        !found.contains_key("x") && !found.contains_key("harmless"),
        "{found:?}"
    );
}

#[test]
fn a_column_that_gives_a_regression_away_is_found() {
    let mut text = "copy,noise,y\n".to_owned();
    for row in 0..200_u32 {
        let target = f64::from(row * 37 % 211) / 7.0;
        let _ = writeln!(text, "{},{},{target}", 3.0 - 2.0 * target, row * 13 % 17);
    }
    let (_root, options) = table(text);
    let report = trained(&options).report;
    let leaks: Vec<&str> = report
        .findings
        .iter()
        .filter(|finding| matches!(finding.trouble, Trouble::Leak { .. }))
        .map(|finding| finding.column.as_str())
        .collect();
    assert_eq!(leaks, ["copy"]);
}

#[test]
fn a_byte_order_mark_quotes_blanks_and_words_for_missing_are_read() {
    let mut text = "\u{feff}\"size, cm\" , kind,y\r\n".to_owned();
    for row in 0..20 {
        let size = if row == 3 {
            "NA".to_owned()
        } else {
            format!(" {row} ")
        };
        let _ = write!(text, "{size},\"a \"\"b\"\" {}\",{}\r\n", row % 2, row % 2);
    }
    let (_root, mut options) = table(text);
    options.missing = vec!["NA".into()];
    let trained = trained(&options);
    let model = Model::load("m", 1, &trained.directory).unwrap();
    assert_eq!(
        model.signature.feature_names,
        ["size, cm", "kind=a \"b\" 0", "kind=a \"b\" 1"]
    );
}
