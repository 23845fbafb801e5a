//! TensorFlow Serving's services, as its clients speak to them.

use std::collections::HashMap;

use prost::Message;
use tonic::{Code, Status};

use super::server::proto::tensorflow::serving::input::Kind as InputKind;
use super::server::proto::tensorflow::serving::model_spec::VersionChoice;
use super::server::proto::tensorflow::serving::{
    ClassificationRequest, ClassificationResponse, ExampleList, ExampleListWithContext,
    GetModelMetadataRequest, GetModelMetadataResponse, GetModelStatusRequest,
    GetModelStatusResponse, Input, ModelSpec, PredictRequest, PredictResponse, RegressionRequest,
    RegressionResponse, SignatureDefMap,
};
use super::server::proto::tensorflow::{
    Example, Feature, Features, FloatList, Int64List, TensorProto, TensorShapeProto, feature,
    tensor_shape_proto::Dim,
};
use super::server::{Client, Serving, refused};

const FLOAT: i32 = 1;
const HALF: i32 = 19;

fn spec(name: &str) -> Option<ModelSpec> {
    Some(ModelSpec {
        name: name.to_owned(),
        ..Default::default()
    })
}

fn shape(extents: &[i64]) -> Option<TensorShapeProto> {
    let dim = extents.iter().map(|&size| Dim {
        size,
        ..Default::default()
    });
    Some(TensorShapeProto {
        dim: dim.collect(),
        unknown_rank: false,
    })
}

fn floats(extents: &[i64], values: &[f32]) -> TensorProto {
    TensorProto {
        dtype: FLOAT,
        tensor_shape: shape(extents),
        float_val: values.to_vec(),
        ..Default::default()
    }
}

/// The same as `tf.make_tensor_proto` writes arrays.
fn content(extents: &[i64], values: &[f32]) -> TensorProto {
    let bytes: Vec<u8> = values
        .iter()
        .flat_map(|value| value.to_le_bytes())
        .collect();
    TensorProto {
        dtype: FLOAT,
        tensor_shape: shape(extents),
        tensor_content: bytes.into(),
        ..Default::default()
    }
}

fn request(
    model: &str,
    inputs: impl IntoIterator<Item = (&'static str, TensorProto)>,
) -> PredictRequest {
    let inputs = inputs
        .into_iter()
        .map(|(name, tensor)| (name.to_owned(), tensor));
    PredictRequest {
        model_spec: spec(model),
        inputs: inputs.collect(),
        output_filter: Vec::new(),
    }
}

async fn predict(client: &Client, request: PredictRequest) -> Result<PredictResponse, Status> {
    client
        .call("/tensorflow.serving.PredictionService/Predict", request)
        .await
}

#[tokio::test]
async fn content_and_typed_values_are_the_same_and_as_rest_says() {
    let server = Serving::start(&[]).await;
    let client = server.client().await;
    let values = [1.5, -0.0, f32::MIN_POSITIVE, 3.4e38];
    let typed = predict(&client, request("echo", [("x", floats(&[2, 2], &values))]))
        .await
        .unwrap();
    let raw = predict(&client, request("echo", [("x", content(&[2, 2], &values))]))
        .await
        .unwrap();
    assert_eq!(typed, raw);
    let spec = typed.model_spec.unwrap();
    assert_eq!(
        (&*spec.name, spec.version_choice),
        ("echo", Some(VersionChoice::Version(3)))
    );
    let output = &typed.outputs["y"];
    assert_eq!(output.tensor_shape, shape(&[2, 2]));
    let bits = |values: &[f32]| {
        values
            .iter()
            .map(|value| value.to_bits())
            .collect::<Vec<_>>()
    };
    assert_eq!(bits(&output.float_val), bits(&values));
    let body = serde_json::json!({"instances": [[values[0], values[1]], [values[2], values[3]]]});
    let rest = server
        .rest("/v1/models/echo:predict", &body.to_string())
        .await;
    let rest: Vec<f32> = rest["predictions"]
        .as_array()
        .unwrap()
        .iter()
        .flat_map(|row| {
            row.as_array()
                .unwrap()
                .iter()
                .map(|value| value.as_f64().unwrap() as f32)
        })
        .collect();
    assert_eq!(bits(&rest), bits(&values));

    let halves = TensorProto {
        dtype: HALF,
        tensor_shape: shape(&[1, 2]),
        half_val: vec![0x3c00, 0xc000],
        ..Default::default()
    };
    let answer = predict(&client, request("echo", [("x", halves)]))
        .await
        .unwrap();
    assert_eq!(answer.outputs["y"].float_val, [1.0, -2.0]);
}

#[tokio::test]
async fn versions_and_outputs_are_chosen() {
    let server = Serving::start(&[]).await;
    let client = server.client().await;
    let mut older = request("echo", [("x", floats(&[1, 2], &[1.0, 2.0]))]);
    older.model_spec.as_mut().unwrap().version_choice = Some(VersionChoice::Version(2));
    assert_eq!(
        predict(&client, older).await.unwrap().outputs["y"].float_val,
        [2.0, 4.0]
    );

    let pair = [
        ("a", floats(&[1, 2], &[1.0, 2.0])),
        ("b", content(&[1, 2], &[3.0, 4.0])),
    ];
    let mut both = request("pair", pair);
    let answer = predict(&client, both.clone()).await.unwrap();
    assert_eq!(answer.outputs.len(), 2);
    assert_eq!(answer.outputs["sum"].float_val, [4.0, 6.0]);
    both.output_filter.push("joined".to_owned());
    let answer = predict(&client, both).await.unwrap();
    assert_eq!(answer.outputs.len(), 1);
    assert_eq!(answer.outputs["joined"].float_val, [1.0, 2.0, 3.0, 4.0]);
}

#[tokio::test]
async fn what_does_not_fit_is_refused() {
    let server = Serving::start(&[]).await;
    let client = server.client().await;
    let with = |change: &dyn Fn(&mut PredictRequest)| {
        let mut request = request("echo", [("x", floats(&[1, 2], &[1.0, 2.0]))]);
        change(&mut request);
        request
    };
    fn x(request: &mut PredictRequest) -> &mut TensorProto {
        request.inputs.get_mut("x").unwrap()
    }
    fn model(request: &mut PredictRequest) -> &mut ModelSpec {
        request.model_spec.as_mut().unwrap()
    }
    type Change<'a> = &'a dyn Fn(&mut PredictRequest);
    let table: &[(Code, &str, Change<'_>)] = &[
        (Code::NotFound, "nothing", &|r| {
            model(r).name = "nothing".into()
        }),
        (Code::InvalidArgument, "model_spec", &|r| {
            r.model_spec = None
        }),
        (Code::NotFound, "9", &|r| {
            model(r).version_choice = Some(VersionChoice::Version(9))
        }),
        (Code::NotFound, "no version label \"stable\"", &|r| {
            model(r).version_choice = Some(VersionChoice::VersionLabel("stable".into()));
        }),
        (Code::InvalidArgument, "signature_name", &|r| {
            model(r).signature_name = "other".into()
        }),
        (
            Code::InvalidArgument,
            "input \"x\": expected FP32 [-1, 2], got none",
            &|r| r.inputs.clear(),
        ),
        (
            Code::InvalidArgument,
            "the model has no input \"z\"",
            &|r| {
                r.inputs.insert("z".into(), floats(&[1], &[1.0]));
            },
        ),
        (Code::InvalidArgument, "got DT_DOUBLE", &|r| x(r).dtype = 2),
        (Code::InvalidArgument, "got an unknown dtype", &|r| {
            x(r).dtype = 99
        }),
        (
            Code::InvalidArgument,
            "got DT_FLOAT [1, 3]; send 2 values a row",
            &|r| x(r).tensor_shape = shape(&[1, 3]),
        ),
        (
            Code::InvalidArgument,
            "write the shape as [rows, 2]",
            &|r| x(r).tensor_shape = None,
        ),
        (Code::InvalidArgument, "at least 1 row", &|r| {
            x(r).tensor_shape = shape(&[0, 2])
        }),
        (Code::InvalidArgument, "at most 4096 rows", &|r| {
            x(r).tensor_shape = shape(&[1 << 40, 2])
        }),
        (Code::InvalidArgument, "extents of 0 or more", &|r| {
            x(r).tensor_shape = shape(&[-1, 2])
        }),
        (Code::InvalidArgument, "needs 4 values, got 2", &|r| {
            x(r).tensor_shape = shape(&[2, 2])
        }),
        (Code::InvalidArgument, "finite", &|r| {
            x(r).float_val[0] = f32::NAN
        }),
        (Code::InvalidArgument, "no output \"z\"", &|r| {
            r.output_filter.push("z".into())
        }),
    ];
    for (code, words, change) in table {
        refused(predict(&client, with(change)).await, *code, words);
    }
}

fn example(features: &[(&str, feature::Kind)]) -> Example {
    let feature = features.iter().map(|(name, kind)| {
        let kind = Some(kind.clone());
        ((*name).to_owned(), Feature { kind })
    });
    Example {
        features: Some(Features {
            feature: feature.collect::<HashMap<_, _>>(),
        }),
    }
}

fn list(values: &[f32]) -> feature::Kind {
    feature::Kind::FloatList(FloatList {
        value: values.to_vec(),
    })
}

fn input(examples: Vec<Example>) -> Option<Input> {
    Some(Input {
        kind: Some(InputKind::ExampleList(ExampleList { examples })),
    })
}

async fn classify(
    client: &Client,
    model: &str,
    input: Option<Input>,
) -> Result<Vec<Vec<(String, f32)>>, Status> {
    let request = ClassificationRequest {
        model_spec: spec(model),
        input,
    };
    let answer: ClassificationResponse = client
        .call("/tensorflow.serving.PredictionService/Classify", request)
        .await?;
    let rows = answer.result.unwrap().classifications.into_iter();
    Ok(rows
        .map(|row| {
            row.classes
                .into_iter()
                .map(|class| (class.label, class.score))
                .collect()
        })
        .collect())
}

#[tokio::test]
async fn examples_are_classified_by_input_or_by_feature() {
    let server = Serving::start(&[]).await;
    let client = server.client().await;
    let whole = example(&[("colour", list(&[0.5, 0.25, 1.0]))]);
    let expected = [("apple", 0.5), ("pear", 0.25), ("fig \"sweet\"", 1.0)]
        .map(|(label, score)| (label.to_owned(), score))
        .to_vec();
    let answer = classify(&client, "fruit", input(vec![whole.clone()]))
        .await
        .unwrap();
    assert_eq!(answer, std::slice::from_ref(&expected));

    let one = feature::Kind::Int64List(Int64List { value: vec![1] });
    let context = InputKind::ExampleListWithContext(ExampleListWithContext {
        examples: vec![example(&[("green", list(&[0.25])), ("blue", one)])],
        context: Some(example(&[("red", list(&[0.5]))])),
    });
    let context = Some(Input {
        kind: Some(context),
    });
    assert_eq!(
        classify(&client, "fruit", context).await.unwrap(),
        [expected]
    );

    let coin = classify(
        &client,
        "coin",
        input(vec![example(&[("x", list(&[0.75]))])]),
    )
    .await;
    assert_eq!(
        coin.unwrap(),
        [[("tails".to_owned(), 0.25), ("heads".to_owned(), 0.75)]]
    );

    for (words, examples) in [
        ("at least 1 row", vec![]),
        (
            "expected 3 values",
            vec![example(&[("colour", list(&[0.5]))])],
        ),
        (
            "got none for \"green\", \"blue\"",
            vec![example(&[("red", list(&[0.5]))])],
        ),
        ("no feature \"z\"", vec![example(&[("z", list(&[0.5]))])]),
        (
            "finite",
            vec![example(&[("colour", list(&[f32::NAN, 0.0, 0.0]))])],
        ),
        ("at most 4096 rows", vec![whole; 5000]),
    ] {
        let answer = classify(&client, "fruit", input(examples)).await;
        refused(answer, Code::InvalidArgument, words);
    }
    let answer = classify(&client, "echo", input(vec![example(&[])])).await;
    refused(
        answer,
        Code::InvalidArgument,
        ":classify needs a classifier",
    );
}

#[tokio::test]
async fn examples_are_regressed() {
    let server = Serving::start(&[]).await;
    let client = server.client().await;
    let request = RegressionRequest {
        model_spec: spec("half_plus_two"),
        input: input(vec![
            example(&[("x", list(&[1.0]))]),
            example(&[("x", list(&[5.0]))]),
        ]),
    };
    let answer: RegressionResponse = client
        .call("/tensorflow.serving.PredictionService/Regress", request)
        .await
        .unwrap();
    let values: Vec<_> = answer
        .result
        .unwrap()
        .regressions
        .iter()
        .map(|r| r.value)
        .collect();
    assert_eq!(values, [2.5, 4.5]);
}

#[tokio::test]
async fn models_are_described_in_tensorflows_words() {
    let server = Serving::start(&[]).await;
    let client = server.client().await;
    let metadata = async |fields: &[&str]| -> Result<GetModelMetadataResponse, Status> {
        let request = GetModelMetadataRequest {
            model_spec: spec("echo"),
            metadata_field: fields.iter().map(|&field| field.to_owned()).collect(),
        };
        client
            .call(
                "/tensorflow.serving.PredictionService/GetModelMetadata",
                request,
            )
            .await
    };
    let answer = metadata(&["signature_def"]).await.unwrap();
    let any = &answer.metadata["signature_def"];
    assert_eq!(
        any.type_url,
        "type.googleapis.com/tensorflow.serving.SignatureDefMap"
    );
    let map = SignatureDefMap::decode(&*any.value).unwrap();
    let signature = &map.signature_def["serving_default"];
    assert_eq!(signature.method_name, "tensorflow/serving/predict");
    assert_eq!(signature.inputs["x"].name, "x:0");
    assert_eq!(signature.inputs["x"].dtype, FLOAT);
    assert_eq!(signature.inputs["x"].tensor_shape, shape(&[-1, 2]));
    refused(
        metadata(&["x"]).await,
        Code::InvalidArgument,
        "metadata_field",
    );
    refused(metadata(&[]).await, Code::InvalidArgument, "metadata_field");

    let status = async |model: &str| -> Result<GetModelStatusResponse, Status> {
        let request = GetModelStatusRequest {
            model_spec: spec(model),
        };
        client
            .call("/tensorflow.serving.ModelService/GetModelStatus", request)
            .await
    };
    let states = async |model: &str| -> Vec<(i64, i32, i32)> {
        let versions = status(model)
            .await
            .unwrap()
            .model_version_status
            .into_iter();
        versions
            .map(|version| {
                (
                    version.version,
                    version.state,
                    version.status.unwrap().error_code,
                )
            })
            .collect()
    };
    let mut echo = states("echo").await;
    echo.sort_unstable();
    assert_eq!(echo, [(2, 30, 0), (3, 30, 0)]);
    assert_eq!(states("broken").await, [(1, 50, 9)]);
    refused(status("nothing").await, Code::NotFound, "nothing");
}
