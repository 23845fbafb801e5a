//! The part of `config.json` that all families share: what the numbers mean.

use super::classes;
use super::columns::Columns;
use super::error::LoadError;
use super::json::{Field, Fields, JsonError};
use super::names::{is_name, not_a_name};
use super::program::FinishStep;
use super::signature::{Output, OutputSource, Signature, Task};
use crate::tensor::{DataType, Domain, TensorSpec};

/// What a model's inputs and outputs mean, as its configuration says it.
#[derive(Clone, Debug)]
pub(super) struct Description {
    task: Task,
    labels: Vec<String>,
    feature_names: Vec<String>,
    columns: Option<Columns>,
    text: String,
    allow_non_finite: bool,
}

impl Description {
    /// Takes the shared keys of a configuration.
    pub(super) fn take(config: &mut Fields) -> Result<Self, JsonError> {
        Ok(Self {
            task: config.take("task").map_or(Ok(Task::None), task)?,
            labels: names(config.take("labels"))?,
            feature_names: names(config.take("feature_names"))?,
            columns: config.take("columns").map(Columns::take).transpose()?,
            text: config
                .take("description")
                .map_or(Ok(String::new()), Field::string)?,
            allow_non_finite: config
                .take("allow_non_finite")
                .map_or(Ok(false), Field::bool)?,
        })
    }

    /// The name of the model's output if the configuration gives it none.
    pub(super) fn output_name(&self) -> &'static str {
        match self.task {
            Task::None => "output",
            Task::Regression => "prediction",
            Task::BinaryClassification { .. } | Task::MulticlassClassification => "probabilities",
        }
    }

    /// The signature of a model with this description that takes these inputs, whose engine has these
    /// outputs; and the step after the engine. `finish` is the one of its family, if it has one; else
    /// a classifier's names the classes.
    pub(super) fn signature(
        self,
        inputs: &[TensorSpec],
        outputs: &[TensorSpec],
        finish: Option<FinishStep>,
    ) -> Result<(Signature, Option<FinishStep>), LoadError> {
        let feature_names = self.feature_names(inputs)?;
        if let Some(spec) = inputs
            .iter()
            .chain(outputs)
            .find(|spec| !is_name(&spec.name))
        {
            return Err(refuse("inputs, outputs", not_a_name(&spec.name)));
        }
        let labels = self.labels(outputs)?;
        let is_classifier = self.task.is_classification();
        let finish = finish.or_else(|| is_classifier.then(|| classes::finish(self.task, &labels)));
        let of = |specs: &[TensorSpec], source| {
            let outputs = specs.iter().cloned();
            outputs
                .map(|spec| Output { spec, source })
                .collect::<Vec<_>>()
        };
        let mut all = of(outputs, OutputSource::Engine);
        if let Some(finish) = &finish {
            all.extend(of(&finish.outputs, OutputSource::Finish));
        }
        let specs: Vec<TensorSpec> = all.iter().map(|output| output.spec.clone()).collect();
        distinct(&specs)?;
        let signature = Signature {
            inputs: inputs.to_vec(),
            outputs: all,
            task: self.task,
            labels,
            feature_names,
            columns: self.columns,
            description: self.text,
            allow_non_finite: self.allow_non_finite,
        };
        Ok((signature, finish))
    }

    /// The features' names: the configuration's, or those that its columns make.
    fn feature_names(&self, inputs: &[TensorSpec]) -> Result<Vec<String>, LoadError> {
        let key = match self.columns {
            Some(_) => "columns",
            None if self.feature_names.is_empty() => return Ok(Vec::new()),
            None => "feature_names",
        };
        let [spec] = inputs else {
            return Err(refuse(
                key,
                format!(
                    "name the features of a single input; the model has {}",
                    inputs.len()
                ),
            ));
        };
        let shape = &spec.shape;
        if spec.datatype != DataType::Fp32 || shape.domain != Domain::Rows {
            return Err(refuse(
                key,
                format!(
                    "features are FP32 numbers, as many a row; input {:?} is {spec}",
                    spec.name
                ),
            ));
        }
        let names = match &self.columns {
            Some(columns) => columns.feature_names(),
            None => self.feature_names.clone(),
        };
        if shape.extents != [names.len()] {
            return Err(refuse(
                key,
                format!(
                    "expected one name a feature of input shape {:?}, got {}",
                    shape.extents,
                    names.len()
                ),
            ));
        }
        if self.feature_names.is_empty() || self.feature_names == names {
            return Ok(names);
        }
        let differ = |(given, made): (&String, &String)| given != made;
        let at = self.feature_names.iter().zip(&names).position(differ);
        let at = at.unwrap_or(names.len().min(self.feature_names.len()));
        Err(refuse(
            "feature_names",
            format!(
                "expected the names of the features that \"columns\" make: {:?} at [{at}], got {:?}; \
                 leave \"feature_names\" out, or name them so",
                names.get(at).map_or("", |name| name),
                self.feature_names.get(at).map_or("", |name| name),
            ),
        ))
    }

    /// The classes' labels: the configuration's, or the indices in digits.
    fn labels(&self, outputs: &[TensorSpec]) -> Result<Vec<String>, LoadError> {
        let shape = outputs.first().map_or(&[][..], |spec| &spec.shape.extents);
        if let Some(spec) = outputs.first()
            && self.task.is_classification()
            && spec.shape.domain != Domain::Rows
        {
            return Err(refuse(
                "task",
                format!(
                    "a classifier has scores of each row as first output, got {:?}, {spec}; pool the tokens \
                     first",
                    spec.name
                ),
            ));
        }
        let classes = match (self.task, shape) {
            (Task::None | Task::Regression, _) if self.labels.is_empty() => return Ok(Vec::new()),
            (Task::None | Task::Regression, _) => {
                return Err(refuse(
                    "labels",
                    "only classifiers have labels; set \"task\" to \"binary-classification\" or \
                     \"multiclass-classification\""
                        .into(),
                ));
            }
            (Task::BinaryClassification { .. }, [] | [1]) => 2,
            (Task::BinaryClassification { .. }, _) => {
                return Err(refuse(
                    "task",
                    format!(
                        "binary-classification needs one probability a row as first output, got \
                         shape {shape:?}; use multiclass-classification for one score a class"
                    ),
                ));
            }
            (Task::MulticlassClassification, [classes]) if *classes >= 2 => *classes,
            (Task::MulticlassClassification, _) => {
                return Err(refuse(
                    "task",
                    format!(
                        "multiclass-classification needs one score for each of at least 2 classes \
                         as first output, got shape {shape:?}"
                    ),
                ));
            }
        };
        if self.labels.is_empty() {
            return Ok((0..classes).map(|class| class.to_string()).collect());
        }
        if self.labels.len() != classes {
            return Err(refuse(
                "labels",
                format!("expected {classes}, one a class, got {}", self.labels.len()),
            ));
        }
        Ok(self.labels.clone())
    }
}

fn refuse(key: &str, problem: String) -> LoadError {
    LoadError::from(JsonError::new(key, problem))
}

/// A list of names in which none stands twice.
fn names(field: Option<Field>) -> Result<Vec<String>, JsonError> {
    let Some(field) = field else {
        return Ok(Vec::new());
    };
    let twice = |name: &str| field.error(format!("the name {name:?} stands twice"));
    let names = field.clone().strings()?;
    if let Some(name) = names.iter().find(|name| !is_name(name)) {
        return Err(field.error(not_a_name(name)));
    }
    let mut seen = std::collections::HashSet::new();
    match names.iter().find(|name| !seen.insert(name.as_str())) {
        Some(name) => Err(twice(name)),
        None => Ok(names),
    }
}

/// `"regression"`, or `{"type": "binary-classification", "threshold": 0.5}`.
fn task(field: Field) -> Result<Task, JsonError> {
    let (name, threshold) = if field.is_object() {
        let mut fields = field.object()?;
        let name = fields.require("type")?;
        let threshold = fields.take("threshold");
        fields.finish()?;
        (name, threshold)
    } else {
        (field, None)
    };
    let refusal = name.expected(
        "\"binary-classification\", \"multiclass-classification\", \"regression\" or \
         \"none\"",
    );
    let binary = |threshold: Option<Field>| {
        Ok(Task::BinaryClassification {
            threshold: threshold.map_or(Ok(0.5), Field::single)?,
        })
    };
    let task = match name.string()?.as_str() {
        "binary-classification" => return binary(threshold),
        "multiclass-classification" => Task::MulticlassClassification,
        "regression" => Task::Regression,
        "none" => Task::None,
        _ => return Err(refusal),
    };
    match threshold {
        None => Ok(task),
        Some(threshold) => Err(threshold.error("only binary-classification has a threshold")),
    }
}

/// Refuses outputs of the same name.
fn distinct(specs: &[TensorSpec]) -> Result<(), LoadError> {
    let mut seen = std::collections::HashSet::new();
    match specs.iter().find(|spec| !seen.insert(spec.name.as_str())) {
        Some(spec) => Err(refuse(
            "outputs",
            format!(
                "two have the name {:?}; each needs its own, and a classifier has \"class_id\" \
                 and \"label\" besides",
                spec.name
            ),
        )),
        None => Ok(()),
    }
}
