//! The binary tensor data extension.

use half::{bf16, f16};
use http::Method;
use proptest::prelude::*;
use serde_json::{Value, json};

use super::server::{Answer, MAX_ROWS, TestServer, request};

const LENGTH: &str = "inference-header-content-length";
const ECHO: &str = "/v2/models/echo/infer";

/// Little-endian values of two bytes or four.
macro_rules! bytes {
    ($values:expr) => {
        $values
            .iter()
            .flat_map(|value| value.to_le_bytes())
            .collect::<Vec<u8>>()
    };
}

/// Sends JSON with tensors behind it.
async fn infer(server: &TestServer, path: &str, json: &Value, blobs: &[u8]) -> Answer {
    let json = json.to_string();
    let length = json.len().to_string();
    let body = [json.as_bytes(), blobs].concat();
    let headers = [(LENGTH, &*length)];
    server
        .send(request(Method::POST, path, &headers, body))
        .await
}

/// The JSON of a binary answer, and the data of its outputs in order.
fn parts(answer: &Answer) -> (Value, Vec<Vec<u8>>) {
    assert_eq!(answer.status, 200, "{answer:?}");
    assert_eq!(
        answer.header("content-type"),
        Some("application/octet-stream")
    );
    let length: usize = answer.header(LENGTH).unwrap().parse().unwrap();
    let (json, mut rest) = answer.bytes.split_at(length);
    let json: Value = serde_json::from_slice(json).unwrap();
    let mut blobs = Vec::new();
    for output in json["outputs"].as_array().unwrap() {
        let size = &output["parameters"]["binary_data_size"];
        assert_eq!(size.is_null(), output.get("data").is_some(), "{output}");
        let Some(size) = size.as_u64() else { continue };
        let (blob, behind) = rest.split_at(usize::try_from(size).unwrap());
        blobs.push(blob.to_vec());
        rest = behind;
    }
    assert!(rest.is_empty(), "{} bytes are left", rest.len());
    (json, blobs)
}

#[tokio::test]
async fn binary_data_goes_in_and_comes_out() {
    let server = TestServer::start();
    let question = json!({
        "id": "7",
        "inputs": [{"name": "x", "shape": [2, 2], "datatype": "FP32",
                    "parameters": {"binary_data_size": 16}}],
        "outputs": [{"name": "y", "parameters": {"binary_data": true}}],
    });
    let values = bytes!([1.0f32, -0.0, f32::MAX, f32::from_bits(1)]);
    let answer = infer(&server, ECHO, &question, &values).await;
    let (json, blobs) = parts(&answer);
    assert_eq!(
        json,
        json!({
            "model_name": "echo",
            "model_version": "3",
            "id": "7",
            "outputs": [{"name": "y", "datatype": "FP32", "shape": [2, 2],
                         "parameters": {"binary_data_size": 16}}],
        })
    );
    assert_eq!(blobs, [values]);
}

/// The data lies in the order of the inputs that have some, whatever their order in the model.
#[tokio::test]
async fn binary_and_json_tensors_mix() {
    let server = TestServer::start();
    let b = json!({"name": "b", "shape": [1, 2], "datatype": "FP32",
                   "parameters": {"binary_data_size": 8}});
    let a = json!({"parameters": {"binary_data_size": 8}, "datatype": "FP32", "name": "a",
                   "shape": [1, 2]});
    let path = "/v2/models/pair/infer";
    let joined = async |inputs: Value, blobs: &[u8]| {
        let question = json!({
            "inputs": inputs,
            "outputs": [{"name": "sum"}, {"name": "joined", "parameters": {"binary_data": true}}],
        });
        let (json, blobs) = parts(&infer(&server, path, &question, blobs).await);
        (json["outputs"][0]["data"].clone(), blobs)
    };
    let expected = (json!([11.0, 22.0]), vec![bytes!([1f32, 2., 10., 20.])]);
    let both = joined(json!([b, a]), &bytes!([10f32, 20., 1., 2.])).await;
    assert_eq!(both, expected);
    let json = json!({"name": "b", "shape": [1, 2], "datatype": "FP32", "data": [10, 20]});
    assert_eq!(
        joined(json!([a, json]), &bytes!([1f32, 2.])).await,
        expected
    );
    assert_eq!(
        joined(json!([json, a]), &bytes!([1f32, 2.])).await,
        expected
    );
}

#[tokio::test]
async fn what_an_output_says_wins_over_what_the_request_says() {
    let server = TestServer::start();
    let forms = async |outputs: Value, default: Value| {
        let question = json!({
            "inputs": [{"name": "a", "shape": [1, 2], "datatype": "FP32", "data": [1, 2]},
                       {"name": "b", "shape": [1, 2], "datatype": "FP32", "data": [3, 4]}],
            "outputs": outputs,
            "parameters": default,
        });
        let question = question.to_string();
        let answer = server.post("/v2/models/pair/infer", question).await;
        if answer.header(LENGTH).is_none() {
            assert_eq!(answer.header("content-type"), Some("application/json"));
            assert_eq!(
                answer.json()["outputs"][0]["data"]
                    .as_array()
                    .unwrap()
                    .len(),
                2
            );
            return vec![false; 2];
        }
        let (json, _) = parts(&answer);
        let outputs = json["outputs"].as_array().unwrap().iter();
        outputs
            .map(|output| output.get("data").is_none())
            .collect::<Vec<_>>()
    };
    let on = json!({"binary_data_output": true});
    let off = json!({"binary_data_output": false});
    let named = |first: Value, second: Value| json!([{"name": "sum", "parameters": first}, {"name": "joined", "parameters": second}]);
    let binary = |is_binary: bool| json!({"binary_data": is_binary});
    assert_eq!(forms(json!(null), json!(null)).await, [false, false]);
    assert_eq!(forms(json!(null), off.clone()).await, [false, false]);
    assert_eq!(forms(json!(null), on.clone()).await, [true, true]);
    let outputs = named(binary(false), json!({}));
    assert_eq!(forms(outputs, on).await, [false, true]);
    let outputs = named(binary(true), json!(null));
    assert_eq!(forms(outputs, off).await, [true, false]);
}

#[tokio::test]
async fn a_body_may_be_the_only_input_itself() {
    let server = TestServer::start();
    for (media_type, rows) in [("application/octet-stream", 1), ("", MAX_ROWS)] {
        let values: Vec<f32> = (0..2 * rows).map(|value| value as f32 / 3.0).collect();
        let values = bytes!(values);
        let headers = [(LENGTH, "0"), ("content-type", media_type)];
        let sent = request(Method::POST, ECHO, &headers, values.clone());
        let (json, blobs) = parts(&server.send(sent).await);
        assert_eq!(json["outputs"][0]["shape"], json!([rows, 2]));
        assert_eq!(blobs, [values]);
    }
}

#[tokio::test]
async fn halves_become_what_the_model_takes() {
    let server = TestServer::start();
    let sent = async |datatype: &str, blob: Vec<u8>| {
        let question = json!({"inputs": [{"name": "x", "shape": [1, 2], "datatype": datatype,
                                          "parameters": {"binary_data_size": 4}}]});
        infer(&server, ECHO, &question, &blob).await
    };
    let values = [1.5f32, 6.1035156e-5];
    let halves = bytes!(values.map(f16::from_f32));
    let brains = bytes!(values.map(bf16::from_f32));
    for (datatype, blob) in [("FP16", halves), ("BF16", brains)] {
        let answer = sent(datatype, blob).await.json();
        assert_eq!(answer["outputs"][0]["datatype"], "FP32");
        let back = answer["outputs"][0]["data"].clone();
        let back: Vec<f32> = serde_json::from_value(back).unwrap();
        assert_eq!(back, values, "{datatype}");
    }
    let infinite = sent("FP16", bytes!([f16::ONE, f16::INFINITY])).await;
    assert_eq!(infinite.json()["code"], "not_finite");
    let not_a_number = sent("BF16", bytes!([bf16::NAN, bf16::ONE])).await;
    assert_eq!(not_a_number.json()["code"], "not_finite");
}

#[tokio::test]
async fn classes_and_labels_are_binary_too() {
    let server = TestServer::start();
    let question = r#"{"inputs":[{"name":"colour","shape":[2,3],"datatype":"FP32",
            "data":[0.5,0.25,0.25,0,0,1]}],
        "outputs":[{"name":"label"},{"name":"class_id"}],
        "parameters":{"binary_data_output":true}}"#;
    let answer = server.post("/v2/models/fruit/infer", question).await;
    let (_, blobs) = parts(&answer);
    let labels = b"\x05\0\0\0apple\x0b\0\0\0fig \"sweet\"";
    assert_eq!(blobs, [labels.to_vec(), bytes!([0i64, 2])]);
}

#[tokio::test]
async fn a_model_that_allows_it_takes_and_gives_what_is_not_finite() {
    let server = TestServer::start();
    let path = "/v2/models/matrix/infer";
    let values = [f32::NAN, 1.0, f32::INFINITY, 2.0, f32::NEG_INFINITY, 3.0];
    let blob = bytes!(values);
    let question = |is_binary: bool| {
        json!({
            "inputs": [{"name": "x", "shape": [1, 2, 3], "datatype": "FP32",
                        "parameters": {"binary_data_size": 24}}],
            "parameters": {"binary_data_output": is_binary},
        })
    };
    let (_, blobs) = parts(&infer(&server, path, &question(true), &blob).await);
    assert_eq!(blobs, std::slice::from_ref(&blob));
    let refused = infer(&server, path, &question(false), &blob).await;
    assert_eq!(refused.status, 422);
    assert_eq!(refused.json()["code"], "answer_not_finite");
}

fn finite() -> impl Strategy<Value = f32> {
    any::<u32>()
        .prop_map(f32::from_bits)
        .prop_filter("finite", |value| value.is_finite())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// Whichever way values go in and come out, they are the same bits.
    #[test]
    fn both_forms_carry_the_same_bits(
        values in (1..=MAX_ROWS).prop_flat_map(|rows| prop::collection::vec(finite(), 2 * rows)),
    ) {
        thread_local!(static SERVER: TestServer = TestServer::start());
        let rows = values.len() / 2;
        let input = |member: &str, value: Value| {
            let mut input = json!({"name": "x", "shape": [rows, 2], "datatype": "FP32"});
            input[member] = value;
            json!([input])
        };
        let blob = bytes!(values);
        let size = json!({"binary_data_size": blob.len()});
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        SERVER.with(|server| {
            for (inputs, blob) in [(input("data", json!(values)), &b""[..]), (input("parameters", size), &blob)] {
                for is_binary in [false, true] {
                    let question = json!({
                        "inputs": inputs, "parameters": {"binary_data_output": is_binary}});
                    let answer = runtime.block_on(infer(server, ECHO, &question, blob));
                    let back: Vec<u8> = if is_binary {
                        parts(&answer).1.remove(0)
                    } else {
                        let data = answer.json()["outputs"][0]["data"].clone();
                        let data: Vec<f32> = serde_json::from_value(data).unwrap();
                        bytes!(data)
                    };
                    prop_assert_eq!(&back, &bytes!(values));
                }
            }
            Ok(())
        })?;
    }
}
