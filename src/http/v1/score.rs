//! `:classify` and `:regress`.

use http::{HeaderMap, StatusCode};

use super::super::answer::{self, Response};
use super::super::error::ApiError;
use super::super::json::Writer;
use super::super::predict::{Format, Rows};
use super::examples;
use crate::metrics::Protocol;
use crate::model::{Model, Signature, Task};
use crate::request::InferResponse;

/// `{"results": [[[label, score], ...], ...]}`: of each row every class, by its index.
///
/// A score is what the model gives for its class; of a binary classifier, the class's probability.
/// One that gives logits is scored by their sigmoid, as TensorFlow's estimators sign their binary
/// classifiers.
#[derive(Debug)]
pub(super) struct Classify;

impl Format for Classify {
    const PROTOCOL: Protocol = Protocol::V1;

    type Layout = ();

    fn layout(_: &HeaderMap) -> Result<(), ApiError> {
        Ok(())
    }

    fn decode(
        body: &[u8],
        (): (),
        signature: &Signature,
        max_rows: usize,
    ) -> Result<(Self, Rows), ApiError> {
        if !signature.task.is_classification() {
            return Err(wrong_task(signature, ":classify needs a classifier"));
        }
        Ok((Self, examples::decode(body, signature, max_rows)?))
    }

    fn encode(self, model: &Model, response: &InferResponse) -> Result<Response, ApiError> {
        let Signature { task, labels, .. } = &model.signature;
        let columns = model.signature.outputs[0].spec.row_elements();
        let pair = |body: &mut Writer, label: &str, score: f32| {
            body.array(|body| {
                body.string(label);
                body.f32(score);
            });
        };
        let mut body = Writer::with_capacity(256);
        body.object(|body| {
            body.key("results").array(|body| {
                for scores in response.outputs[0].chunks_exact(columns) {
                    body.array(|body| match *task {
                        Task::BinaryClassification { threshold } => {
                            let [no, yes] = probabilities(scores[0], threshold);
                            pair(body, &labels[0], no);
                            pair(body, &labels[1], yes);
                        }
                        _ => {
                            for (label, &score) in labels.iter().zip(scores) {
                                pair(body, label, score);
                            }
                        }
                    });
                }
            });
        });
        Ok(answer::json(StatusCode::OK, body))
    }
}

/// The probabilities of both classes from the one number that a binary classifier gives.
///
/// A threshold between 0 and 1 is one of probabilities. Any other would put every probability in
/// the same class, so it is one of logits, and 0 is where both classes are as probable.
fn probabilities(output: f32, threshold: f32) -> [f32; 2] {
    if 0.0 < threshold && threshold < 1.0 {
        return [1.0 - output, output];
    }
    // Each from its own side: 1 minus a probability near 1 has lost its digits.
    let sigmoid = |x: f64| (1.0 / (1.0 + (-x).exp())) as f32;
    let logit = f64::from(output);
    [sigmoid(-logit), sigmoid(logit)]
}

/// `{"results": [number, ...]}`: one number a row.
#[derive(Debug)]
pub(super) struct Regress;

impl Format for Regress {
    const PROTOCOL: Protocol = Protocol::V1;

    type Layout = ();

    fn layout(_: &HeaderMap) -> Result<(), ApiError> {
        Ok(())
    }

    fn decode(
        body: &[u8],
        (): (),
        signature: &Signature,
        max_rows: usize,
    ) -> Result<(Self, Rows), ApiError> {
        if signature.task != Task::Regression || signature.outputs[0].spec.row_elements() != 1 {
            return Err(wrong_task(
                signature,
                ":regress needs a regression of one number a row",
            ));
        }
        Ok((Self, examples::decode(body, signature, max_rows)?))
    }

    fn encode(self, _: &Model, response: &InferResponse) -> Result<Response, ApiError> {
        let mut body = Writer::with_capacity(256);
        body.object(|body| body.key("results").f32s(&response.outputs[0]));
        Ok(answer::json(StatusCode::OK, body))
    }
}

fn wrong_task(signature: &Signature, expected: &str) -> ApiError {
    let columns = signature.outputs[0].spec.row_elements();
    let (task, calls) = match signature.task {
        Task::None => ("none", ":predict"),
        Task::Regression if columns == 1 => ("regression", ":regress or :predict"),
        Task::Regression => ("regression of several numbers", ":predict"),
        Task::BinaryClassification { .. } => ("binary-classification", ":classify or :predict"),
        Task::MulticlassClassification => ("multiclass-classification", ":classify or :predict"),
    };
    ApiError::invalid(
        "wrong_task",
        format!("{expected}, but the model's task is {task}; send its rows to {calls}"),
    )
}

#[cfg(test)]
mod tests {
    use super::probabilities;

    #[test]
    fn a_threshold_between_0_and_1_is_one_of_probabilities() {
        for threshold in [f32::MIN_POSITIVE, 0.3, 0.5, 0.999] {
            assert_eq!(probabilities(0.25, threshold), [0.75, 0.25]);
        }
    }

    #[test]
    fn any_other_threshold_is_one_of_logits() {
        // ln 3: three to one.
        let three_to_one = 3f32.ln();
        for threshold in [0.0, -0.0, -2.5, 1.0, 7.0] {
            let [no, yes] = probabilities(three_to_one, threshold);
            // Half a unit in the last place of 0.75, and as much of the rounded logarithm.
            assert!(
                (no - 0.25).abs() < 1e-7 && (yes - 0.75).abs() < 1e-7,
                "{no} {yes}"
            );
        }
        assert_eq!(probabilities(0.0, 0.0), [0.5, 0.5]);
    }

    #[test]
    fn probabilities_of_logits_stay_within_0_and_1_and_keep_their_digits() {
        for (logit, expected) in [
            (40.0, [4.248_354e-18, 1.0]),
            (-40.0, [1.0, 4.248_354e-18]),
            (f32::MAX, [0.0, 1.0]),
            (f32::MIN, [1.0, 0.0]),
            (f32::INFINITY, [0.0, 1.0]),
        ] {
            assert_eq!(probabilities(logit, 0.0), expected, "{logit}");
        }
        assert!(
            probabilities(f32::NAN, 0.0)
                .iter()
                .all(|score| score.is_nan())
        );
    }
}
