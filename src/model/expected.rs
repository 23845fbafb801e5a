//! Answers that a model is expected to give: rows and the original framework's answers, stored as
//! safetensors (`input.<name>` and `output.<name>`, the rows first).

use std::collections::BTreeMap;
use std::{fmt, io};

use safetensors::Dtype;

use super::fingerprint::Fingerprint;
use super::weights::{Tensor, Weights, WeightsError};
use crate::engine::{Batch, Engine, Workspace};
use crate::tensor::{TensorSpec, View};

/// Rows that run at a time: a row's answer has the same bits with any others, and the scratch memory of
/// this many is small.
const BATCH_ROWS: usize = 256;

/// Rows for a model and the answers expected to them. All numbers are finite.
#[derive(Clone, Debug, PartialEq)]
pub struct Expected {
    rows: usize,
    /// One an input of the engine, in its order.
    inputs: Vec<Vec<f32>>,
    /// One an output of the engine, in its order.
    outputs: Vec<Vec<f32>>,
}

impl Expected {
    /// Reads the file `path` for a model of this engine.
    ///
    /// The file holds `input.<name>` for each input and `output.<name>` for each output of the
    /// engine and nothing else, `F32` or `F64`, each of shape `[rows, ...]` with the same number of
    /// rows. `F64` is rounded to `F32`, as the model's inputs and answers are.
    ///
    /// # Errors
    /// [`ExpectedError`] naming the file, the tensor, what was expected and what is there.
    pub fn read(path: &str, engine: &Engine) -> Result<Self, ExpectedError> {
        let weights = Weights::read_alone(path, &mut Fingerprint::new())
            .map_err(|error| ExpectedError::file(path, error))?;
        Self::of(weights.into_tensors(), engine).map_err(|problem| ExpectedError {
            file: path.to_owned(),
            problem,
        })
    }

    fn of(mut tensors: BTreeMap<String, Tensor>, engine: &Engine) -> Result<Self, Problem> {
        let found: Vec<String> = tensors.keys().cloned().collect();
        let mut rows = None;
        let mut take = |kind: &str, specs: &[TensorSpec]| -> Result<Vec<Vec<f32>>, Problem> {
            let named = specs.iter().map(|spec| {
                let name = format!("{kind}.{}", spec.name);
                let Some(tensor) = tensors.remove(&name) else {
                    return Err(Problem::Missing {
                        name,
                        found: found.clone(),
                    });
                };
                checked(name, tensor, spec, &mut rows)
            });
            named.collect()
        };
        let inputs = take("input", engine.inputs())?;
        let outputs = take("output", engine.outputs())?;
        match (tensors.pop_first(), rows) {
            (Some((name, _)), _) => Err(Problem::Unknown {
                name,
                known: names(engine),
            }),
            (None, rows) => Ok(Self {
                rows: rows.map_or(0, |(rows, _)| rows),
                inputs,
                outputs,
            }),
        }
    }

    /// How many rows there are: at least one.
    #[must_use]
    pub fn rows(&self) -> usize {
        self.rows
    }

    /// What the engine, that of [`Expected::read`], answers: each output's numbers, row-major.
    #[must_use]
    pub fn answers(&self, engine: &Engine) -> Vec<Vec<f32>> {
        let mut workspace = Workspace::new();
        let mut answers: Vec<Vec<f32>> = vec![Vec::new(); engine.outputs().len()];
        for start in (0..self.rows).step_by(BATCH_ROWS) {
            let rows = BATCH_ROWS.min(self.rows - start);
            let inputs: Vec<View<'_>> = self
                .inputs
                .iter()
                .zip(engine.inputs())
                .map(|(values, spec)| {
                    let elements = spec.shape.elements();
                    View::F32(&values[start * elements..(start + rows) * elements])
                })
                .collect();
            let outputs = engine.run(Batch::of_rows(rows, &inputs), &mut workspace, None);
            for (index, answer) in answers.iter_mut().enumerate() {
                answer.extend_from_slice(outputs.get(index));
            }
        }
        answers
    }

    /// For each output of the engine, the answer that is furthest from the expected one, relative to the
    /// tolerance: `allowed` returns the largest difference from an expected number that is accepted.
    #[must_use]
    pub fn compare(&self, engine: &Engine, allowed: impl Fn(f64) -> f64) -> Vec<Furthest> {
        let answers = self.answers(engine);
        let outputs = engine.outputs().iter().zip(answers).zip(&self.outputs);
        outputs
            .map(|((spec, answers), expected)| {
                let share = |index: usize| {
                    let (answer, expected) =
                        (f64::from(answers[index]), f64::from(expected[index]));
                    share((answer - expected).abs(), allowed(expected))
                };
                let further = |first: (usize, f64), second: (usize, f64)| match second.1 > first.1 {
                    true => second,
                    false => first,
                };
                let shares = (0..expected.len()).map(|index| (index, share(index)));
                let (index, _) = shares.fold((0, 0.0), further);
                Furthest {
                    output: spec.name.clone(),
                    row: index / spec.shape.elements(),
                    element: index % spec.shape.elements(),
                    answer: answers[index],
                    expected: expected[index],
                    allowed: allowed(f64::from(expected[index])),
                }
            })
            .collect()
    }
}

/// A difference relative to the tolerance: over 1 beyond it, and the largest for NaN.
fn share(difference: f64, allowed: f64) -> f64 {
    match difference {
        _ if difference.is_nan() => f64::INFINITY,
        0.0 => 0.0,
        _ => difference / allowed,
    }
}

/// The names that a file for this engine holds.
fn names(engine: &Engine) -> Vec<String> {
    let named = |kind: &'static str| move |spec: &TensorSpec| format!("{kind}.{}", spec.name);
    let inputs = engine.inputs().iter().map(named("input"));
    inputs
        .chain(engine.outputs().iter().map(named("output")))
        .collect()
}

/// The numbers of a tensor, if its datatype and shape are those of rows of `spec`. `rows` is the
/// number of rows and the name of the tensor that told it.
fn checked(
    name: String,
    tensor: Tensor,
    spec: &TensorSpec,
    rows: &mut Option<(usize, String)>,
) -> Result<Vec<f32>, Problem> {
    let Tensor {
        datatype,
        shape,
        values,
    } = tensor;
    let values = match (datatype, values) {
        (Dtype::F32 | Dtype::F64, Some(values)) => values,
        _ => return Err(Problem::Datatype { name, datatype }),
    };
    if shape.get(1..) != Some(&spec.shape.extents[..]) {
        return Err(Problem::Shape {
            name,
            row_shape: spec.shape.extents.clone(),
            shape,
        });
    }
    let (expected, teller) = rows.get_or_insert_with(|| (shape[0], name.clone()));
    if *expected != shape[0] {
        return Err(Problem::Rows {
            name,
            rows: shape[0],
            expected: *expected,
            teller: teller.clone(),
        });
    }
    Ok(values.to_vec())
}

/// The answer of an output that is furthest from the expected one.
#[derive(Clone, Debug, PartialEq)]
pub struct Furthest {
    /// The output's name.
    pub output: String,
    /// The row, from 0.
    pub row: usize,
    /// The element of the row, from 0, row-major.
    pub element: usize,
    /// The model's number.
    pub answer: f32,
    /// The expected one.
    pub expected: f32,
    /// How much they may differ.
    pub allowed: f64,
}

impl Furthest {
    /// How much the two differ.
    #[must_use]
    pub fn difference(&self) -> f64 {
        (f64::from(self.answer) - f64::from(self.expected)).abs()
    }

    /// Whether they agree within the tolerance; NaN never does.
    #[must_use]
    pub fn is_within(&self) -> bool {
        self.difference() <= self.allowed
    }
}

/// Why a file of expected answers is refused.
#[derive(Debug)]
pub struct ExpectedError {
    file: String,
    problem: Problem,
}

#[derive(Debug)]
enum Problem {
    Io(io::Error),
    Format(String),
    Missing {
        name: String,
        found: Vec<String>,
    },
    Unknown {
        name: String,
        known: Vec<String>,
    },
    Datatype {
        name: String,
        datatype: Dtype,
    },
    Shape {
        name: String,
        row_shape: Vec<usize>,
        shape: Vec<usize>,
    },
    Rows {
        name: String,
        rows: usize,
        expected: usize,
        teller: String,
    },
    NonFinite {
        name: String,
        index: usize,
        value: f32,
    },
}

impl ExpectedError {
    fn file(path: &str, error: WeightsError) -> Self {
        let problem = match error {
            WeightsError::Io { error, .. } => Problem::Io(error),
            WeightsError::NonFinite {
                tensor,
                index,
                value,
                ..
            } => Problem::NonFinite {
                name: tensor,
                index,
                value,
            },
            WeightsError::Format { problem, .. } | WeightsError::Truncated { problem, .. } => {
                Problem::Format(problem)
            }
            other => Problem::Format(other.to_string()),
        };
        Self {
            file: path.to_owned(),
            problem,
        }
    }
}

impl fmt::Display for ExpectedError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: ", self.file)?;
        match &self.problem {
            Problem::Io(error) => write!(f, "{error}"),
            Problem::Format(problem) => f.write_str(problem),
            Problem::Missing { name, found } => {
                write!(f, "no tensor {name:?}; the file holds: {}", quoted(found))
            }
            Problem::Unknown { name, known } => write!(
                f,
                "tensor {name:?} belongs to no input and no output of the model; expected only: {}",
                quoted(known)
            ),
            Problem::Datatype { name, datatype } => {
                write!(f, "tensor {name:?}: expected F32 or F64, got {datatype}")
            }
            Problem::Shape {
                name,
                row_shape,
                shape,
            } => {
                write!(f, "tensor {name:?}: expected shape [rows")?;
                for extent in row_shape {
                    write!(f, ", {extent}")?;
                }
                write!(f, "], got {shape:?}")
            }
            Problem::Rows {
                name,
                rows,
                expected,
                teller,
            } => write!(
                f,
                "tensor {name:?}: expected {expected} rows as {teller:?} has, got {rows}"
            ),
            Problem::NonFinite { name, index, value } => write!(
                f,
                "tensor {name:?}: element {index} is {value}; only finite 32-bit numbers can be \
                 compared"
            ),
        }
    }
}

impl std::error::Error for ExpectedError {}

fn quoted(names: &[String]) -> String {
    let names: Vec<String> = names.iter().map(|name| format!("{name:?}")).collect();
    match names.is_empty() {
        true => "nothing".to_owned(),
        false => names.join(", "),
    }
}

#[cfg(test)]
mod tests {
    use super::{Furthest, share};

    fn furthest(answer: f32, expected: f32, allowed: f64) -> Furthest {
        Furthest {
            output: "y".into(),
            row: 0,
            element: 0,
            answer,
            expected,
            allowed,
        }
    }

    #[test]
    fn what_is_allowed_is_within_and_what_is_more_is_beyond() {
        assert!(furthest(1.0, 1.0, 0.0).is_within());
        assert!(furthest(1.5, 1.0, 0.5).is_within());
        assert!(!furthest(1.5, 1.0, 0.499).is_within());
        assert!(!furthest(f32::INFINITY, 1.0, 1e30).is_within());
        assert!(!furthest(f32::NAN, 1.0, f64::MAX).is_within());
    }

    #[test]
    fn what_is_beyond_counts_for_more_than_what_is_within() {
        assert_eq!(share(f64::NAN, 1.0), f64::INFINITY);
        assert_eq!(share(0.0, 0.0), 0.0);
        assert_eq!(share(0.1, 0.0), f64::INFINITY);
        // A small difference from a small number may be worse than a large one from a large.
        assert!(share(0.002, 0.001) > share(1.0, 2.0));
    }
}
