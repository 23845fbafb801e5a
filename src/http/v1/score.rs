//! `:classify` and `:regress`.

use http::{HeaderMap, StatusCode};

use super::examples;
use crate::http::answer;
use crate::http::error::{ApiError, ErrorCode};
use crate::http::intake::Rows;
use crate::http::predict::{Format, MinBytes};
use crate::json::Writer;
use crate::metrics::Protocol;
use crate::model::{Model, Signature, Task};
use crate::request::InferResponse;
use crate::tensor::Domain;

/// `{"results": [[[label, score], ...], ...]}`: of each row every class, by its index.
///
/// A score is what the model gives for its class; of a binary classifier, the class's probability.
/// One that gives logits is scored by their sigmoid, as TensorFlow's estimators sign their binary
/// classifiers.
#[derive(Debug)]
pub(super) struct Classify;

impl Format for Classify {
    const PROTOCOL: Protocol = Protocol::V1;

    const MIN_BYTES: MinBytes = examples::MIN_BYTES;

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
        expect_classifier(signature)?;
        Ok((Self, examples::decode(body, signature, max_rows)?))
    }

    fn encode(
        self,
        model: &Model,
        response: &InferResponse,
    ) -> Result<http::Response<Vec<u8>>, ApiError> {
        let signature = &model.signature;
        let pair = |body: &mut Writer, label: &str, score: f32| {
            body.array(|body| {
                body.string(label);
                body.f32(score);
            });
        };
        let mut body = Writer::with_capacity(256);
        body.object(|body| {
            body.key("results").array(|body| {
                each_row(signature, response, |scores| {
                    body.array(|body| {
                        for (label, &score) in signature.labels.iter().zip(scores) {
                            pair(body, label, score);
                        }
                    });
                });
            });
        });
        Ok(answer::json(StatusCode::OK, body.into_bytes()))
    }
}

/// `{"results": [number, ...]}`: one number a row.
#[derive(Debug)]
pub(super) struct Regress;

impl Format for Regress {
    const PROTOCOL: Protocol = Protocol::V1;

    const MIN_BYTES: MinBytes = examples::MIN_BYTES;

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
        expect_regression(signature)?;
        Ok((Self, examples::decode(body, signature, max_rows)?))
    }

    fn encode(
        self,
        _: &Model,
        response: &InferResponse,
    ) -> Result<http::Response<Vec<u8>>, ApiError> {
        let mut body = Writer::with_capacity(256);
        body.object(|body| body.key("results").values(response.outputs[0].view()));
        Ok(answer::json(StatusCode::OK, body.into_bytes()))
    }
}

/// Gives the scores of each row's classes to `see`.
pub(super) fn each_row(
    signature: &Signature,
    response: &InferResponse,
    mut see: impl FnMut(&[f32]),
) {
    let columns = signature.outputs[0].spec.shape.elements();
    for scores in response.outputs[0].view().f32s().chunks_exact(columns) {
        let both = signature.task.probabilities(scores[0]);
        see(both.as_ref().map_or(scores, |both| &both[..]));
    }
}

/// Checks that a model's rows can be classified.
pub(super) fn expect_classifier(signature: &Signature) -> Result<(), ApiError> {
    match signature.task.is_classification() {
        true => Ok(()),
        false => Err(wrong_task(signature, ":classify needs a classifier")),
    }
}

/// Checks that a model gives a number a row.
pub(super) fn expect_regression(signature: &Signature) -> Result<(), ApiError> {
    match signature.task == Task::Regression && gives_one_number(signature) {
        true => Ok(()),
        false => Err(wrong_task(
            signature,
            ":regress needs a regression of one number a row",
        )),
    }
}

/// Whether the first output is one number a row.
fn gives_one_number(signature: &Signature) -> bool {
    let shape = &signature.outputs[0].spec.shape;
    shape.domain == Domain::Rows && shape.elements() == 1
}

fn wrong_task(signature: &Signature, expected: &str) -> ApiError {
    let (task, calls) = match signature.task {
        Task::None => ("none", ":predict"),
        Task::Regression if gives_one_number(signature) => ("regression", ":regress or :predict"),
        Task::Regression => ("regression of several numbers", ":predict"),
        Task::BinaryClassification { .. } => ("binary-classification", ":classify or :predict"),
        Task::MulticlassClassification => ("multiclass-classification", ":classify or :predict"),
    };
    ApiError::invalid(
        ErrorCode::WrongTask,
        format!("{expected}, but the model's task is {task}; send its rows to {calls}"),
    )
}
