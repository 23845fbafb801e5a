//! `Classify` and `Regress`, in the words of the REST API's ([`score`](crate::http::v1::score)).

use super::examples;
use super::method::Method;
use super::spec::model_spec;
use crate::http::error::ApiError;
use crate::http::grpc::{framed, tensorflow};
use crate::http::intake::Rows;
use crate::http::predict::MinBytes;
use crate::http::v1::score::{each_row, expect_classifier, expect_regression};
use crate::model::{Model, Signature};
use crate::request::InferResponse;
use tensorflow::serving;

/// Of each row every class, by its index.
#[derive(Debug)]
pub(super) struct Classify;

impl Method for Classify {
    const MIN_BYTES: MinBytes = examples::MIN_BYTES;

    fn decode(
        message: &[u8],
        signature: &Signature,
        max_rows: usize,
    ) -> Result<(Self, Rows), ApiError> {
        expect_classifier(signature)?;
        Ok((Self, examples::decode(message, signature, max_rows)?))
    }

    fn encode(self, model: &Model, response: &InferResponse) -> Vec<u8> {
        let mut classifications = Vec::with_capacity(response.rows);
        each_row(&model.signature, response, |scores| {
            let classes = model.signature.labels.iter().zip(scores);
            classifications.push(serving::Classifications {
                classes: classes
                    .map(|(label, &score)| serving::Class {
                        label: label.clone(),
                        score,
                    })
                    .collect(),
            });
        });
        framed(&serving::ClassificationResponse {
            result: Some(serving::ClassificationResult { classifications }),
            model_spec: Some(model_spec(model)),
        })
    }
}

/// One number a row.
#[derive(Debug)]
pub(super) struct Regress;

impl Method for Regress {
    const MIN_BYTES: MinBytes = examples::MIN_BYTES;

    fn decode(
        message: &[u8],
        signature: &Signature,
        max_rows: usize,
    ) -> Result<(Self, Rows), ApiError> {
        expect_regression(signature)?;
        Ok((Self, examples::decode(message, signature, max_rows)?))
    }

    fn encode(self, model: &Model, response: &InferResponse) -> Vec<u8> {
        let values = response.outputs[0].view().f32s().iter();
        let regressions = values.map(|&value| serving::Regression { value });
        framed(&serving::RegressionResponse {
            result: Some(serving::RegressionResult {
                regressions: regressions.collect(),
            }),
            model_spec: Some(model_spec(model)),
        })
    }
}
