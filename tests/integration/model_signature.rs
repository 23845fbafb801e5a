//! What a model's numbers mean: its outputs, classes and labels.

use safeserve::engine::{Batch, Workspace};
use safeserve::model::{Model, Output, OutputSource, Signature, Task};
use safeserve::tensor::View;

use crate::model_files::{Stored, directory};

/// A model that answers with its input, so that a test chooses the scores.
fn echo(columns: usize, keys: &str) -> Model {
    let config = format!(
        r#"{{"model_type": "sequential", {keys} "inputs": [{{"name": "x", "shape": [{columns}]}}],
            "layers": [{{"type": "dropout"}}]}}"#
    );
    Model::load("echo", 1, directory(&config, &[]).path()).unwrap()
}

fn output_names(signature: &Signature) -> Vec<&str> {
    let outputs = signature.outputs.iter();
    outputs.map(|output| output.spec.name.as_str()).collect()
}

#[test]
fn the_task_names_the_output() {
    for (columns, keys, task, outputs) in [
        (2, "", Task::None, &["output"][..]),
        (2, r#""task": null,"#, Task::None, &["output"]),
        (
            2,
            r#""task": "regression","#,
            Task::Regression,
            &["prediction"],
        ),
        (
            1,
            r#""task": "binary-classification","#,
            Task::BinaryClassification { threshold: 0.5 },
            &["probabilities", "class_id", "label"],
        ),
        (
            2,
            r#""task": {"type": "multiclass-classification", "threshold": null},"#,
            Task::MulticlassClassification,
            &["probabilities", "class_id", "label"],
        ),
    ] {
        let signature = echo(columns, keys).signature;
        assert_eq!(signature.task, task, "{keys}");
        assert_eq!(output_names(&signature), outputs, "{keys}");
    }
}

#[test]
fn classes_without_labels_are_named_by_their_index() {
    let model = echo(3, r#""task": "multiclass-classification","#);
    assert_eq!(model.signature.labels, ["0", "1", "2"]);
    assert!(echo(3, "").signature.labels.is_empty());
}

#[test]
fn a_classifier_offers_its_classes_and_their_labels_with_the_scores() {
    let keys = r#""task": "binary-classification", "labels": ["no", "yes"],"#;
    let signature = echo(1, keys).signature;
    let outputs: Vec<(&str, String, OutputSource)> = signature
        .outputs
        .iter()
        .map(|Output { spec, source }| (spec.name.as_str(), spec.to_string(), *source))
        .collect();
    assert_eq!(
        outputs,
        [
            ("probabilities", "FP32 [-1, 1]".into(), OutputSource::Engine),
            ("class_id", "INT64 [-1]".into(), OutputSource::Finish),
            ("label", "BYTES [-1]".into(), OutputSource::Finish),
        ]
    );
    assert_eq!(signature.output("label"), Some(2));
    assert_eq!(signature.output("class"), None);
}

#[test]
fn layers_may_be_in_any_order() {
    let config = r#"{
      "model_type": "sequential",
      "inputs": [{"name": "x", "shape": [1]}],
      "layers": [
        {"type": "add", "name": "sum", "inputs": ["twice", "x"]},
        {"type": "rescaling", "name": "twice", "inputs": ["x"], "scale": 2}
      ],
      "outputs": [{"name": "y", "layer": "sum"}, {"name": "x", "layer": "x"}]
    }"#;
    let model = Model::load("m", 1, directory(config, &[]).path()).unwrap();
    let inputs = [View::F32(&[5.0, -1.0])];
    let mut workspace = Workspace::new();
    let outputs = model
        .engine
        .run(Batch::of_rows(2, &inputs), &mut workspace, None);
    assert_eq!(outputs.get(0), [15.0, -3.0]);
    assert_eq!(outputs.get(1), [5.0, -1.0]);
    assert_eq!(output_names(&model.signature), ["y", "x"]);
}

/// Keras divides by 1e-7 at least; scikit-learn's deviation is taken as it is.
#[test]
fn a_variance_of_zero_is_divided_by_as_keras_does() {
    let config = r#"{"model_type": "sequential", "inputs": [{"name": "x", "shape": [2]}],
        "layers": [{"type": "normalization", "name": "n"}]}"#;
    let tensors = [
        Stored::new("n/mean", &[2], &[1.0, 1.0]),
        Stored::new("n/variance", &[2], &[0.0, 4.0]),
    ];
    let model = Model::load("m", 1, directory(config, &tensors).path()).unwrap();
    let inputs = [View::F32(&[2.0, 7.0])];
    let mut workspace = Workspace::new();
    let outputs = model
        .engine
        .run(Batch::of_rows(1, &inputs), &mut workspace, None);
    assert_eq!(outputs.get(0), [1.0 / 1e-7, 3.0]);
}
