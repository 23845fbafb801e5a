//! Triton's extensions of the Open Inference Protocol, but for binary data.

use http::Method;
use serde_json::{Value, json};

use super::server::{MAX_ROWS, TestServer, request};

/// The outputs of a model for one request.
async fn outputs(server: &TestServer, model: &str, input: Value, outputs: Value) -> Value {
    let question = json!({"inputs": [input], "outputs": outputs});
    let path = format!("/v2/models/{model}/infer");
    server.ask(&path, &question.to_string()).await["outputs"].clone()
}

#[tokio::test]
async fn the_best_classes_come_with_score_index_and_label() {
    let server = TestServer::start();
    let ranked = async |classes: u64| {
        let colour = json!({"name": "colour", "datatype": "FP32", "shape": [2, 3],
                            "data": [0.5, 0.25, 0.25, 0, 0.125, 1]});
        let asked = json!([{"name": "probabilities", "parameters": {"classification": classes}}]);
        outputs(&server, "fruit", colour, asked).await
    };
    assert_eq!(
        ranked(2).await,
        json!([{"name": "probabilities", "datatype": "BYTES", "shape": [2, 2],
                "data": ["0.5:0:apple", "0.25:1:pear", "1.0:2:fig \"sweet\"", "0.125:1:pear"]}])
    );
    let all = ranked(3).await;
    assert_eq!(all[0]["shape"], json!([2, 3]));
    assert_eq!(ranked(4).await, all);
    assert_eq!(ranked(u64::MAX).await, all);
}

/// What a binary classifier gives is the probability of its second class.
#[tokio::test]
async fn a_binary_classifier_has_both_of_its_classes() {
    let server = TestServer::start();
    let x = json!({"name": "x", "datatype": "FP32", "shape": [2, 1], "data": [0.75, 0.25]});
    let name = server.get("/v2/models/coin").await.json()["outputs"][0]["name"].clone();
    let asked = json!([{"name": name, "parameters": {"classification": 2}}]);
    let ranked = outputs(&server, "coin", x, asked).await;
    assert_eq!(
        ranked[0]["data"],
        json!([
            "0.75:1:heads",
            "0.25:0:tails",
            "0.75:0:tails",
            "0.25:1:heads"
        ])
    );
}

#[tokio::test]
async fn outputs_without_labels_are_ranked_by_index() {
    let server = TestServer::start();
    let x = json!({"name": "x", "datatype": "FP32", "shape": [1, 2, 3],
                   "data": [1, 2, 3, 6, 5, 4]});
    let asked = json!([{"name": "y", "parameters": {"classification": 2}}]);
    let ranked = outputs(&server, "matrix", x, asked).await;
    assert_eq!(ranked[0]["shape"], json!([1, 2]));
    assert_eq!(ranked[0]["data"], json!(["6.0:3", "5.0:4"]));
}

#[tokio::test]
async fn classes_come_as_binary_data_too() {
    let server = TestServer::start();
    let question = r#"{"inputs":[{"name":"colour","shape":[1,3],"datatype":"FP32","data":[1,0,0]}],
        "outputs":[{"name":"probabilities",
                    "parameters":{"classification":1,"binary_data":true}}]}"#;
    let answer = server.post("/v2/models/fruit/infer", question).await;
    let length = answer.header("inference-header-content-length").unwrap();
    let (json, blob) = answer.bytes.split_at(length.parse().unwrap());
    let json: Value = serde_json::from_slice(json).unwrap();
    assert_eq!(
        json["outputs"],
        json!([{"name": "probabilities", "datatype": "BYTES", "shape": [1, 1],
                "parameters": {"binary_data_size": 15}}])
    );
    assert_eq!(blob, b"\x0b\0\0\x001.0:0:apple");
}

#[tokio::test]
async fn what_is_not_finite_has_no_rank() {
    let server = TestServer::start();
    let question = r#"{"instances":[[[NaN,1,2],[3,4,5]]]}"#;
    assert_eq!(
        server
            .post("/v1/models/matrix:predict", question)
            .await
            .status,
        200
    );
    let json = r#"{"inputs":[{"name":"x","shape":[1,2,3],"datatype":"FP32",
            "parameters":{"binary_data_size":24}}],
        "outputs":[{"name":"y","parameters":{"classification":1,"binary_data":true}}]}"#;
    let blob = [f32::NAN; 6].map(f32::to_le_bytes).concat();
    let length = json.len().to_string();
    let headers = [("inference-header-content-length", &*length)];
    let body = [json.as_bytes(), &blob].concat();
    let sent = request(Method::POST, "/v2/models/matrix/infer", &headers, body);
    let answer = server.send(sent).await;
    assert_eq!(answer.status, 422, "{answer:?}");
    assert!(answer.json()["error"].as_str().unwrap().contains("ranked"));
}

/// The numbers are those that were measured: they fit each other and what was asked.
#[tokio::test]
async fn statistics_count_what_was_asked() {
    let server = TestServer::start();
    let never = server.get("/v2/models/echo/versions/3/stats").await.json();
    let none = json!({"count": 0, "ns": 0});
    assert_eq!(
        never,
        json!({"model_stats": [{
            "name": "echo",
            "version": "3",
            "last_inference": 0,
            "inference_count": 0,
            "execution_count": 0,
            "inference_stats": {
                "success": none, "fail": none, "queue": none, "compute_input": none,
                "compute_infer": none, "compute_output": none, "cache_hit": none,
                "cache_miss": none,
            },
            "response_stats": {},
            "batch_stats": [],
            "memory_usage": [{"type": "CPU", "id": 0, "byte_size": 0}],
        }]})
    );
    let question = |rows: usize| {
        let data = vec![1; 2 * rows];
        json!({"inputs": [{"name": "x", "datatype": "FP32", "shape": [rows, 2], "data": data}]})
            .to_string()
    };
    for rows in [1, 1, 3] {
        server.ask("/v2/models/echo/infer", &question(rows)).await;
    }
    let predict = r#"{"instances":[[1,2]]}"#;
    server.ask("/v1/models/echo:predict", predict).await;
    server.post("/v2/models/echo/infer", "{}").await;
    let older = "/v2/models/echo/versions/2/infer";
    server.ask(older, &question(2)).await;

    let stats = server.get("/v2/models/echo/stats").await.json();
    let stats = stats["model_stats"].as_array().unwrap();
    let versions: Vec<&Value> = stats.iter().map(|stats| &stats["version"]).collect();
    assert_eq!(versions, ["2", "3"]);
    let newest = &stats[1];
    assert_eq!(newest["inference_count"], 6);
    assert_eq!(newest["execution_count"], 4);
    // After 2020 by any clock that a test machine has.
    assert!(newest["last_inference"].as_u64().unwrap() > 1_577_000_000_000);
    let of = |key: &str| {
        let total = &newest["inference_stats"][key];
        (
            total["count"].as_u64().unwrap(),
            total["ns"].as_u64().unwrap(),
        )
    };
    assert_eq!((of("success").0, of("fail").0), (4, 1));
    assert_eq!((of("queue").0, of("compute_infer").0), (4, 4));
    assert!(of("fail").1 > 0);
    assert!(of("success").1 >= of("queue").1 + of("compute_infer").1);
    let batches = newest["batch_stats"].as_array().unwrap();
    let sizes: Vec<_> = batches
        .iter()
        .map(|batch| (&batch["batch_size"], &batch["compute_infer"]["count"]))
        .collect();
    assert_eq!(sizes, [(&json!(1), &json!(3)), (&json!(3), &json!(1))]);
    let passes = batches.iter().map(|batch| &batch["compute_infer"]["ns"]);
    // No pass had rows of two requests.
    let ns: u64 = passes.map(|ns| ns.as_u64().unwrap()).sum();
    assert_eq!(ns, of("compute_infer").1);

    let all = server.get("/v2/models/stats").await.json();
    let all = all["model_stats"].as_array().unwrap();
    assert_eq!(all.len(), 8, "all that are ready");
    assert!(all.contains(newest));
    assert_eq!(
        server.get("/v2/models/echo/versions/2/stats").await.json()["model_stats"],
        json!([stats[0]])
    );
}

#[tokio::test]
async fn a_configuration_says_what_is_so() {
    let server = TestServer::start();
    for path in [
        "/v2/models/fruit/config",
        "/v2/models/fruit/versions/1/config",
    ] {
        assert_eq!(
            server.get(path).await.json(),
            json!({
                "name": "fruit",
                "platform": "safetensors",
                "backend": "safeserve",
                "max_batch_size": MAX_ROWS,
                "input": [{"name": "colour", "data_type": "TYPE_FP32", "dims": [3],
                           "is_shape_tensor": false, "optional": false}],
                "output": [
                    {"name": "probabilities", "data_type": "TYPE_FP32", "dims": [3],
                     "is_shape_tensor": false},
                    {"name": "class_id", "data_type": "TYPE_INT64", "dims": [],
                     "is_shape_tensor": false},
                    {"name": "label", "data_type": "TYPE_STRING", "dims": [],
                     "is_shape_tensor": false},
                ],
                "instance_group": [{"name": "fruit", "kind": "KIND_CPU", "count": 1}],
                "dynamic_batching": {
                    "preferred_batch_size": [],
                    "max_queue_delay_microseconds": 0,
                    "preserve_ordering": false,
                    "priority_levels": 0,
                    "default_priority_level": 0,
                    "default_queue_policy": {
                        "timeout_action": "REJECT",
                        "default_timeout_microseconds": 0,
                        "allow_timeout_override": true,
                    },
                },
            })
        );
    }
}

#[tokio::test]
async fn the_repository_answers_to_any_name() {
    let server = TestServer::start();
    let index = server.get("/v2/repository/index").await.json();
    let named = "/v2/repository/main/index";
    assert_eq!(server.get(named).await.json(), index);
    assert_eq!(server.ask(named, "").await, index);
    let ready = server.ask(named, r#"{"ready":true}"#).await;
    assert_eq!(ready.as_array().unwrap().len(), 8);
}

#[tokio::test]
async fn no_sequence_is_none() {
    let server = TestServer::start();
    for none in [json!(0), json!("")] {
        let question = json!({
            "inputs": [{"name": "x", "datatype": "FP32", "shape": [1, 2], "data": [1, 2]}],
            "parameters": {"sequence_id": none, "sequence_start": false, "sequence_end": false},
        });
        server
            .ask("/v2/models/echo/infer", &question.to_string())
            .await;
    }
}
