//! Integers and rows of unequal length over gRPC, in each form that carries them.

use std::collections::HashMap;

use tonic::Code;

use super::infer::numbers;
use super::server::proto::inference::model_infer_request::InferInputTensor;
use super::server::proto::inference::{InferTensorContents, ModelInferRequest};
use super::server::proto::tensorflow::serving::input::Kind as InputKind;
use super::server::proto::tensorflow::serving::{
    ExampleList, ExampleListWithContext, Input, ModelSpec, PredictRequest, PredictResponse,
    RegressionRequest, RegressionResponse,
};
use super::server::proto::tensorflow::{
    DataType, Example, Feature, Features, FloatList, Int64List, TensorProto, TensorShapeProto,
    feature, tensor_shape_proto::Dim,
};
use super::server::{Serving, refused};

/// A request for the mean of texts and for each of their words.
fn texts(datatype: &str, shape: [i64; 2], contents: InferTensorContents) -> ModelInferRequest {
    ModelInferRequest {
        model_name: "words".to_owned(),
        inputs: vec![InferInputTensor {
            name: "ids".to_owned(),
            datatype: datatype.to_owned(),
            shape: shape.to_vec(),
            contents: Some(contents),
            ..Default::default()
        }],
        ..Default::default()
    }
}

fn int64s(shape: [i64; 2], values: &[i64]) -> ModelInferRequest {
    let contents = InferTensorContents {
        int64_contents: values.to_vec(),
        ..Default::default()
    };
    texts("INT64", shape, contents)
}

#[tokio::test]
async fn integers_come_in_each_field_and_as_bytes() {
    let server = Serving::start(&[]).await;
    let client = server.client().await;
    let mut raw = int64s([2, 2], &[]);
    raw.inputs[0].contents = None;
    let bytes = [1i64, 2, 3, 5].iter().flat_map(|id| id.to_le_bytes());
    raw.raw_input_contents = vec![bytes.collect::<Vec<u8>>().into()];
    let narrow = InferTensorContents {
        int_contents: vec![1, 2, 3, 5],
        ..Default::default()
    };
    let unsigned = InferTensorContents {
        uint64_contents: vec![1, 2, 3, 5],
        ..Default::default()
    };
    for request in [
        raw,
        int64s([2, 2], &[1, 2, 3, 5]),
        texts("INT32", [2, 2], narrow),
        texts("UINT64", [2, 2], unsigned),
    ] {
        let answer = client.infer(request).await.unwrap();
        assert_eq!(answer.outputs[0].shape, [2, 1]);
        assert_eq!(numbers(&answer, 0), [1.5, 4.0]);
        assert_eq!(answer.outputs[1].shape, [2, 2, 1]);
        assert_eq!(numbers(&answer, 1), [1.0, 2.0, 3.0, 5.0]);
    }
}

#[tokio::test]
async fn what_does_not_fit_is_refused_with_the_very_integer() {
    let server = Serving::start(&[]).await;
    let client = server.client().await;
    let exact = (1i64 << 53) + 1;
    let floats = InferTensorContents {
        fp32_contents: vec![1.0, 2.0],
        ..Default::default()
    };
    let beyond = InferTensorContents {
        uint64_contents: vec![1, u64::MAX],
        ..Default::default()
    };
    for (request, words) in [
        (
            int64s([2, 1], &[1, exact]),
            "inputs: input \"ids\": row 1: expected integers from 0 to 6, got 9007199254740993",
        ),
        (
            texts("INT64", [1, 2], floats.clone()),
            "inputs[0].contents: expected int64_contents, as input \"ids\" is INT64 [-1, -1], got \
             fp32_contents",
        ),
        (
            texts("FP32", [1, 2], floats),
            "input \"ids\": expected INT64 [-1, -1], got FP32 [1, 2]",
        ),
        (
            texts("UINT64", [1, 2], beyond),
            "input \"ids\": row 0: expected UINT64 values, 0 to 9223372036854775807, got 18446744073709551615",
        ),
        (int64s([1, 2], &[1]), "shape [1, 2] needs 2 values, got 1"),
        (
            int64s([1, 2], &[1; 9]),
            "shape [1, 2] needs 2 values, got 9",
        ),
    ] {
        refused(client.infer(request).await, Code::InvalidArgument, words);
    }
}

fn tensor(dtype: DataType, shape: &[i64]) -> TensorProto {
    let dim = shape.iter().map(|&size| Dim {
        size,
        ..Default::default()
    });
    TensorProto {
        dtype: dtype.into(),
        tensor_shape: Some(TensorShapeProto {
            dim: dim.collect(),
            unknown_rank: false,
        }),
        ..Default::default()
    }
}

#[tokio::test]
async fn tensorflow_takes_integers_and_unequal_examples() {
    let server = Serving::start(&[]).await;
    let client = server.client().await;
    let spec = |name: &str| {
        Some(ModelSpec {
            name: name.to_owned(),
            ..Default::default()
        })
    };
    let wide = TensorProto {
        int64_val: vec![1, 2, 3, 5],
        ..tensor(DataType::DtInt64, &[2, 2])
    };
    let narrow = TensorProto {
        int_val: vec![1, 2, 3, 5],
        ..tensor(DataType::DtInt32, &[2, 2])
    };
    let bytes = [1i64, 2, 3, 5].iter().flat_map(|id| id.to_le_bytes());
    let content = TensorProto {
        tensor_content: bytes.collect::<Vec<u8>>().into(),
        ..tensor(DataType::DtInt64, &[2, 2])
    };
    for ids in [wide, narrow, content] {
        let request = PredictRequest {
            model_spec: spec("words"),
            inputs: HashMap::from([("ids".to_owned(), ids)]),
            output_filter: Vec::new(),
        };
        let answer: PredictResponse = client
            .call("/tensorflow.serving.PredictionService/Predict", request)
            .await
            .unwrap();
        assert_eq!(answer.outputs["text"].float_val, [1.5, 4.0]);
        assert_eq!(answer.outputs["each"].float_val, [1.0, 2.0, 3.0, 5.0]);
    }

    let example = |kind: feature::Kind| Example {
        features: Some(Features {
            feature: HashMap::from([("ids".to_owned(), Feature { kind: Some(kind) })]),
        }),
    };
    let ids = |ids: &[i64]| {
        example(feature::Kind::Int64List(Int64List {
            value: ids.to_vec(),
        }))
    };
    let ask = async |kind: InputKind| {
        let request = RegressionRequest {
            model_spec: spec("texts"),
            input: Some(Input { kind: Some(kind) }),
        };
        let path = "/tensorflow.serving.PredictionService/Regress";
        client.call::<_, RegressionResponse>(path, request).await
    };
    let examples = vec![ids(&[1, 2, 3]), ids(&[6])];
    let answer = ask(InputKind::ExampleList(ExampleList { examples }))
        .await
        .unwrap();
    let regressions = answer.result.unwrap().regressions;
    let values: Vec<f32> = regressions.iter().map(|row| row.value).collect();
    assert_eq!(values, [2.0, 6.0]);

    let floats = example(feature::Kind::FloatList(FloatList { value: vec![1.0] }));
    let refusal = ask(InputKind::ExampleList(ExampleList {
        examples: vec![floats],
    }));
    refused(
        refusal.await,
        Code::InvalidArgument,
        "examples[0].ids: expected int64_list, as input \"ids\" is INT64 [-1, -1], got float_list",
    );
    let shared = ask(InputKind::ExampleListWithContext(ExampleListWithContext {
        examples: vec![Example::default()],
        context: Some(ids(&[1])),
    }));
    refused(
        shared.await,
        Code::InvalidArgument,
        "context: input \"ids\" is INT64 [-1, -1], and only numbers of a fixed shape can be shared",
    );
}
