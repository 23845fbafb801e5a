//! `:classify` and `:regress`.

use super::super::error::ApiError;
use super::super::json::Writer;
use super::super::predict::{Format, Rows};
use super::examples;
use crate::metrics::Protocol;
use crate::model::{Model, Signature, Task};
use crate::request::InferResponse;

/// `{"results": [[[label, score], ...], ...]}`: of each row every class, by its index.
#[derive(Debug)]
pub(super) struct Classify;

impl Format for Classify {
    const PROTOCOL: Protocol = Protocol::V1;

    fn decode(
        body: &[u8],
        signature: &Signature,
        max_rows: usize,
    ) -> Result<(Self, Rows), ApiError> {
        if !signature.task.is_classification() {
            return Err(wrong_task(signature, ":classify needs a classifier"));
        }
        Ok((Self, examples::decode(body, signature, max_rows)?))
    }

    fn encode(self, model: &Model, response: &InferResponse) -> Result<Writer, ApiError> {
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
                    body.array(|body| match task {
                        Task::BinaryClassification { .. } => {
                            pair(body, &labels[0], 1.0 - scores[0]);
                            pair(body, &labels[1], scores[0]);
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
        Ok(body)
    }
}

/// `{"results": [number, ...]}`: one number a row.
#[derive(Debug)]
pub(super) struct Regress;

impl Format for Regress {
    const PROTOCOL: Protocol = Protocol::V1;

    fn decode(
        body: &[u8],
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

    fn encode(self, _: &Model, response: &InferResponse) -> Result<Writer, ApiError> {
        let mut body = Writer::with_capacity(256);
        body.object(|body| body.key("results").f32s(&response.outputs[0]));
        Ok(body)
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
