//! `ModelInfer`: what goes in, what comes out, and what is refused.

use std::collections::HashMap;

use bytes::Bytes;
use proptest::prelude::*;
use tonic::Code;

use super::server::proto::inference::infer_parameter::ParameterChoice;
use super::server::proto::inference::model_infer_request::{
    InferInputTensor, InferRequestedOutputTensor,
};
use super::server::proto::inference::{
    InferParameter, InferTensorContents, ModelInferRequest, ModelInferResponse,
};
use super::server::{Serving, refused};

pub(super) fn parameters(key: &str, value: ParameterChoice) -> HashMap<String, InferParameter> {
    let value = InferParameter {
        parameter_choice: Some(value),
    };
    HashMap::from([(key.to_owned(), value)])
}

/// A request with typed contents.
pub(super) fn typed(model: &str, tensors: &[(&str, &[i64], &[f32])]) -> ModelInferRequest {
    let inputs = tensors
        .iter()
        .map(|(name, shape, values)| InferInputTensor {
            name: (*name).to_owned(),
            datatype: "FP32".to_owned(),
            shape: shape.to_vec(),
            contents: Some(InferTensorContents {
                fp32_contents: values.to_vec(),
                ..Default::default()
            }),
            ..Default::default()
        });
    ModelInferRequest {
        model_name: model.to_owned(),
        inputs: inputs.collect(),
        ..Default::default()
    }
}

/// The same with raw contents.
fn raw(mut request: ModelInferRequest) -> ModelInferRequest {
    for input in &mut request.inputs {
        let values = input.contents.take().unwrap().fp32_contents;
        let bytes: Vec<u8> = values
            .iter()
            .flat_map(|value| value.to_le_bytes())
            .collect();
        request.raw_input_contents.push(bytes.into());
    }
    request
}

/// The numbers of an output.
pub(super) fn numbers(response: &ModelInferResponse, output: usize) -> Vec<f32> {
    let (values, rest) = response.raw_output_contents[output].as_chunks();
    assert!(rest.is_empty());
    values
        .iter()
        .map(|value| f32::from_le_bytes(*value))
        .collect()
}

fn echo(rows: &[f32]) -> ModelInferRequest {
    typed("echo", &[("x", &[rows.len() as i64 / 2, 2], rows)])
}

#[tokio::test]
async fn an_answer_says_all_of_itself_and_is_raw() {
    let server = Serving::start(&[]).await;
    let mut request = echo(&[1.0, 2.0, 3.0, 4.0]);
    request.id = "seven".to_owned();
    let answer = server.client().await.infer(request).await.unwrap();
    assert_eq!(answer.model_name, "echo");
    assert_eq!(answer.model_version, "3");
    assert_eq!(answer.id, "seven");
    assert_eq!(answer.outputs.len(), 1);
    assert_eq!(answer.outputs[0].name, "y");
    assert_eq!(answer.outputs[0].datatype, "FP32");
    assert_eq!(answer.outputs[0].shape, [2, 2]);
    assert_eq!(answer.outputs[0].contents, None);
    assert_eq!(numbers(&answer, 0), [1.0, 2.0, 3.0, 4.0]);
    server
        .until("the request is counted", || {
            server.shows(
                r#"safeserve_requests_total{code="200",model="echo",protocol="grpc",version="3"} 1"#,
            ) && server.shows(r#"safeserve_http_requests_total{code="200",route="grpc_infer"} 1"#)
        })
        .await;
}

#[tokio::test]
async fn a_version_and_outputs_are_chosen() {
    let server = Serving::start(&[]).await;
    let client = server.client().await;
    let mut request = echo(&[1.0, 2.0]);
    request.model_version = "2".to_owned();
    let answer = client.infer(request).await.unwrap();
    assert_eq!(
        (&*answer.model_version, numbers(&answer, 0)),
        ("2", vec![2.0, 4.0])
    );

    let tensors: [(&str, &[i64], &[f32]); 2] =
        [("b", &[1, 2], &[3.0, 4.0]), ("a", &[1, 2], &[1.0, 2.0])];
    let mut request = typed("pair", &tensors);
    let both = client.infer(raw(request.clone())).await.unwrap();
    assert_eq!(numbers(&both, 0), [4.0, 6.0]);
    assert_eq!(numbers(&both, 1), [1.0, 2.0, 3.0, 4.0]);
    request.outputs.push(InferRequestedOutputTensor {
        name: "joined".to_owned(),
        ..Default::default()
    });
    let joined = client.infer(request).await.unwrap();
    assert_eq!(joined.outputs.len(), 1);
    assert_eq!(numbers(&joined, 0), [1.0, 2.0, 3.0, 4.0]);
}

#[tokio::test]
async fn classes_are_named_where_they_are_asked_for() {
    let server = Serving::start(&[]).await;
    let mut request = typed("fruit", &[("colour", &[1, 3], &[0.5, 0.25, 1.0])]);
    request.outputs.push(InferRequestedOutputTensor {
        name: "output".to_owned(),
        parameters: parameters("classification", ParameterChoice::Int64Param(2)),
    });
    let client = server.client().await;
    let name = server.repository.find("fruit", None).unwrap();
    request.outputs[0].name = name.model.signature.outputs[0].spec.name.clone();
    let answer = client.infer(request).await.unwrap();
    assert_eq!(answer.outputs[0].datatype, "BYTES");
    assert_eq!(answer.outputs[0].shape, [1, 2]);
    let texts = ["1.0:2:fig \"sweet\"", "0.5:0:apple"];
    let expected: Vec<u8> = texts
        .iter()
        .flat_map(|text| [&(text.len() as u32).to_le_bytes()[..], text.as_bytes()].concat())
        .collect();
    assert_eq!(answer.raw_output_contents, [Bytes::from(expected)]);
}

#[tokio::test]
async fn halves_come_raw_and_what_is_not_finite_where_the_model_takes_it() {
    let server = Serving::start(&[]).await;
    let client = server.client().await;
    let mut request = echo(&[1.0, 2.0]);
    request.inputs[0].contents = None;
    request.inputs[0].datatype = "FP16".to_owned();
    request.raw_input_contents = vec![Bytes::from_static(&[0x00, 0x3c, 0x00, 0xc0])];
    assert_eq!(
        numbers(&client.infer(request).await.unwrap(), 0),
        [1.0, -2.0]
    );

    let values = [f32::NAN, f32::INFINITY, f32::NEG_INFINITY, -0.0, 1.0, 2.0];
    let request = typed("matrix", &[("x", &[1, 2, 3], &values)]);
    let answer = client.infer(request).await.unwrap();
    let bits = |values: &[f32]| {
        values
            .iter()
            .map(|value| value.to_bits())
            .collect::<Vec<_>>()
    };
    assert_eq!(bits(&numbers(&answer, 0)), bits(&values));
    refused(
        client.infer(echo(&[f32::NAN, 1.0])).await,
        Code::InvalidArgument,
        "expected finite numbers",
    );
    refused(
        client
            .infer(typed("steep", &[("x", &[1, 1], &[10.0])]))
            .await,
        Code::OutOfRange,
        "not a finite number",
    );
}

#[tokio::test]
async fn what_does_not_fit_is_refused_with_its_place_and_its_mend() {
    let server = Serving::start(&[]).await;
    let client = server.client().await;
    let with = |change: &dyn Fn(&mut ModelInferRequest)| {
        let mut request = echo(&[1.0, 2.0]);
        change(&mut request);
        request
    };
    type Change<'a> = &'a dyn Fn(&mut ModelInferRequest);
    let table: &[(Code, &str, Change<'_>)] = &[
        (Code::NotFound, "there is no model \"nothing\"", &|r| {
            r.model_name = "nothing".into()
        }),
        (Code::NotFound, "version", &|r| r.model_version = "9".into()),
        (Code::Unavailable, "broken", &|r| {
            r.model_name = "broken".into()
        }),
        (Code::InvalidArgument, "expected \"inputs\"", &|r| {
            r.inputs.clear()
        }),
        (
            Code::InvalidArgument,
            "id: expected at most 1024 bytes, got 1025",
            &|r| r.id = "i".repeat(1025),
        ),
        (
            Code::InvalidArgument,
            "inputs[0].name: the model has no input \"z\"; it takes \"x\"",
            &|r| r.inputs[0].name = "z".into(),
        ),
        (
            Code::InvalidArgument,
            "input \"x\": expected FP32 [-1, 2], got INT32 [1, 2]; send FP32 values",
            &|r| r.inputs[0].datatype = "INT32".into(),
        ),
        (
            Code::InvalidArgument,
            "or FP16 values as binary data",
            &|r| r.inputs[0].datatype = "FP16".into(),
        ),
        (
            Code::InvalidArgument,
            "got FP32 [1, 3]; send 2 values a row",
            &|r| r.inputs[0].shape = vec![1, 3],
        ),
        (
            Code::InvalidArgument,
            "shape [2, 2] needs 4 values, got 2",
            &|r| r.inputs[0].shape = vec![2, 2],
        ),
        (Code::InvalidArgument, "send at least 1 row", &|r| {
            r.inputs[0].shape = vec![0, 2]
        }),
        (
            Code::InvalidArgument,
            "expected extents of 0 or more, got -1",
            &|r| r.inputs[0].shape = vec![-1, 2],
        ),
        (Code::InvalidArgument, "rows a request", &|r| {
            r.inputs[0].shape = vec![1 << 40, 2]
        }),
        (Code::InvalidArgument, "rows a request", &|r| {
            r.inputs[0].shape = vec![i64::MAX, 2]
        }),
        (Code::InvalidArgument, "at most 16 axes", &|r| {
            r.inputs[0].shape = vec![1; 17]
        }),
        (Code::InvalidArgument, "comes twice", &|r| {
            r.inputs.push(r.inputs[0].clone())
        }),
        (
            Code::InvalidArgument,
            "expected either \"contents\" in each tensor or \"raw_input_contents\", got both",
            &|r| r.raw_input_contents.push(Bytes::from_static(&[0; 8])),
        ),
        (
            Code::InvalidArgument,
            "expected values of input \"x\" in \"contents\"",
            &|r| r.inputs[0].contents = None,
        ),
        (
            Code::InvalidArgument,
            "expected fp32_contents, as input \"x\" is FP32 [-1, 2], got fp64_contents",
            &|r| {
                r.inputs[0]
                    .contents
                    .as_mut()
                    .unwrap()
                    .fp64_contents
                    .push(1.0)
            },
        ),
        (
            Code::InvalidArgument,
            "outputs[0].name: the model has no output \"z\"; it gives \"y\"",
            &|r| {
                r.outputs.push(InferRequestedOutputTensor {
                    name: "z".into(),
                    ..Default::default()
                })
            },
        ),
        (
            Code::InvalidArgument,
            "outputs[0].parameters.classification: expected a number of classes",
            &|r| {
                r.outputs.push(InferRequestedOutputTensor {
                    name: "y".into(),
                    parameters: parameters("classification", ParameterChoice::Uint64Param(0)),
                })
            },
        ),
        (Code::InvalidArgument, "shared memory is not served", &|r| {
            r.inputs[0].parameters = parameters(
                "shared_memory_region",
                ParameterChoice::StringParam("a".into()),
            )
        }),
        (Code::InvalidArgument, "leave the sequence out", &|r| {
            r.parameters = parameters("sequence_id", ParameterChoice::Int64Param(1))
        }),
        (Code::InvalidArgument, "is reserved", &|r| {
            r.parameters = parameters("triton_x", ParameterChoice::BoolParam(true))
        }),
        (
            Code::InvalidArgument,
            "parameters.timeout: expected int64_param",
            &|r| r.parameters = parameters("timeout", ParameterChoice::StringParam("1".into())),
        ),
    ];
    for (code, words, change) in table {
        refused(client.infer(with(change)).await, *code, words);
    }
    let raw_table: &[(&str, Change<'_>)] = &[
        (
            "raw_input_contents[0]: input \"x\": FP32 [1, 2] takes 8 bytes, got 7; send 4 bytes a value",
            &|r| r.raw_input_contents[0] = Bytes::from_static(&[0; 7]),
        ),
        ("expected as many as \"inputs\", 1, got 2 or more", &|r| {
            r.raw_input_contents.push(Bytes::new())
        }),
    ];
    for (words, change) in raw_table {
        let mut request = raw(echo(&[1.0, 2.0]));
        change(&mut request);
        refused(client.infer(request).await, Code::InvalidArgument, words);
    }
    for ignored in ["sequence_id", "priority", "anything"] {
        let mut request = echo(&[1.0, 2.0]);
        request.parameters = parameters(ignored, ParameterChoice::Int64Param(0));
        client.infer(request).await.unwrap();
    }
}

#[test]
fn typed_raw_and_rest_are_the_same_bits() {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let (server, client) = runtime.block_on(async {
        let server = Serving::start(&[]).await;
        let client = server.client().await;
        (server, client)
    });
    let finite = any::<f32>().prop_filter("finite", |value| value.is_finite());
    let rows = prop::collection::vec([finite.clone(), finite], 1..8);
    proptest!(ProptestConfig::with_cases(64), |(rows in rows)| {
        let values = rows.as_flattened();
        let request = echo(values);
        let json = serde_json::json!({"inputs": [{
            "name": "x", "datatype": "FP32", "shape": [rows.len(), 2], "data": values,
        }]});
        let (typed, raw, rest) = runtime.block_on(async {
            (
                client.infer(request.clone()).await.unwrap(),
                client.infer(raw(request)).await.unwrap(),
                server.rest("/v2/models/echo/infer", &json.to_string()).await,
            )
        });
        prop_assert_eq!(&typed, &raw);
        let rest: Vec<u32> = rest["outputs"][0]["data"]
            .as_array()
            .unwrap()
            .iter()
            .map(|value| (value.as_f64().unwrap() as f32).to_bits())
            .collect();
        let bits: Vec<u32> = numbers(&typed, 0).iter().map(|value| value.to_bits()).collect();
        prop_assert_eq!(bits, rest);
    });
}
