//! The Open Inference Protocol.

use serde_json::json;

use super::server::TestServer;

#[tokio::test]
async fn infer_answers_with_every_output() {
    let server = TestServer::start();
    let answer = server
        .ask(
            "/v2/models/fruit/infer",
            r#"{"id":"a \"b\"","inputs":[{"name":"colour","shape":[2,3],"datatype":"FP32",
                "data":[[0.5,0.25,0.25],[0,0,1]]}]}"#,
        )
        .await;
    assert_eq!(
        answer,
        json!({
            "model_name": "fruit",
            "model_version": "1",
            "id": "a \"b\"",
            "outputs": [
                {"name": "probabilities", "datatype": "FP32", "shape": [2, 3],
                 "data": [0.5, 0.25, 0.25, 0.0, 0.0, 1.0]},
                {"name": "class_id", "datatype": "INT64", "shape": [2], "data": [0, 2]},
                {"name": "label", "datatype": "BYTES", "shape": [2],
                 "data": ["apple", "fig \"sweet\""]},
            ],
        })
    );
}

#[tokio::test]
async fn the_members_of_a_request_come_in_any_order() {
    let server = TestServer::start();
    let answer = server
        .ask(
            "/v2/models/pair/infer/",
            r#"{"model_name":"ignored","outputs":[{"name":"joined"},{"name":"sum"}],
                "inputs":[
                  {"data":[1,2,3,4],"shape":[2,2],"name":"b","datatype":"FP32"},
                  {"name":"a","parameters":{"x":{"y":[1]}},"data":[[10,20],[30,40]],
                   "datatype":"FP32","shape":[2,2]}],
                "parameters":{"timeout":60000000,"priority":1,"anything":"goes"},"id":null}"#,
        )
        .await;
    assert_eq!(
        answer,
        json!({
            "model_name": "pair",
            "model_version": "1",
            "outputs": [
                {"name": "joined", "datatype": "FP32", "shape": [2, 4],
                 "data": [10.0, 20.0, 1.0, 2.0, 30.0, 40.0, 3.0, 4.0]},
                {"name": "sum", "datatype": "FP32", "shape": [2, 2],
                 "data": [11.0, 22.0, 33.0, 44.0]},
            ],
        })
    );
}

#[tokio::test]
async fn an_id_comes_back_and_has_a_longest() {
    let server = TestServer::start();
    let asked = async |bytes: usize| {
        let id = "i".repeat(bytes);
        let tensor = r#"{"name":"x","datatype":"FP32","shape":[1,2],"data":[1,2]}"#;
        let body = format!(r#"{{"id":"{id}","inputs":[{tensor}]}}"#);
        server.post("/v2/models/echo/infer", body).await
    };
    assert_eq!(asked(1024).await.json()["id"], "i".repeat(1024));
    let over = asked(1025).await;
    assert_eq!(over.status, 400);
    assert_eq!(
        over.json(),
        json!({
            "error": "id: expected at most 1024 bytes, got 1025; send a shorter one",
            "code": "id_too_long",
        })
    );
}

#[tokio::test]
async fn the_path_chooses_the_version_and_none_is_the_newest() {
    let server = TestServer::start();
    let body = r#"{"inputs":[{"name":"x","shape":[1,2],"datatype":"FP32","data":[1,2]}]}"#;
    for (path, version, data) in [
        ("/v2/models/echo/infer", "3", json!([1.0, 2.0])),
        ("/v2/models/echo/versions/3/infer", "3", json!([1.0, 2.0])),
        ("/v2/models/echo/versions/2/infer", "2", json!([2.0, 4.0])),
        (
            "/v2/models/%65cho/versions/2/infer/",
            "2",
            json!([2.0, 4.0]),
        ),
    ] {
        let answer = server.ask(path, body).await;
        assert_eq!(answer["model_version"], version, "{path}");
        assert_eq!(answer["outputs"][0]["data"], data, "{path}");
    }
}

#[tokio::test]
async fn a_request_of_more_rows_than_a_batch_comes_back_whole() {
    let server = TestServer::start();
    let data: Vec<f32> = (0..16).map(|value| value as f32 / 3.0).collect();
    let body = json!({"inputs": [
        {"name": "x", "shape": [8, 2], "datatype": "FP32", "data": data}]});
    let answer = server.ask("/v2/models/echo/infer", &body.to_string()).await;
    let back: Vec<f32> = serde_json::from_value(answer["outputs"][0]["data"].clone()).unwrap();
    assert_eq!(back, data);
}

#[tokio::test]
async fn metadata_lists_what_is_served() {
    let server = TestServer::start();
    for path in ["/v2", "/v2/"] {
        let answer = server.get(path).await.json();
        assert_eq!(answer["name"], "safeserve");
        assert_eq!(
            answer["extensions"],
            json!([
                "classification",
                "model_repository",
                "model_configuration",
                "binary_tensor_data",
                "statistics",
            ])
        );
    }
    let answer = server.get("/v2/models/fruit").await;
    assert_eq!(answer.status, 200);
    assert_eq!(
        answer.json(),
        json!({
            "name": "fruit",
            "versions": ["1"],
            "platform": "safetensors",
            "inputs": [{"name": "colour", "datatype": "FP32", "shape": [-1, 3]}],
            "outputs": [
                {"name": "probabilities", "datatype": "FP32", "shape": [-1, 3]},
                {"name": "class_id", "datatype": "INT64", "shape": [-1]},
                {"name": "label", "datatype": "BYTES", "shape": [-1]},
            ],
        })
    );
    let answer = server.get("/v2/models/echo/versions/2/").await.json();
    assert_eq!(answer["versions"], json!(["2", "3"]));
}

#[tokio::test]
async fn health_is_told_by_status_and_body() {
    let server = TestServer::start();
    let told = async |path| {
        let answer = server.get(path).await;
        (answer.status, answer.body)
    };
    assert_eq!(
        told("/v2/health/live").await,
        (200, r#"{"live":true}"#.into())
    );
    assert_eq!(
        told("/v2/health/ready").await,
        (200, r#"{"ready":true}"#.into())
    );
    assert_eq!(
        told("/v2/models/echo/ready").await,
        (200, r#"{"name":"echo","ready":true}"#.into())
    );
    assert_eq!(
        told("/v2/models/broken/versions/1/ready").await,
        (503, r#"{"name":"broken","ready":false}"#.into())
    );
    server.app.lifecycle.drain();
    assert_eq!(
        told("/v2/health/live").await,
        (200, r#"{"live":true}"#.into())
    );
    assert_eq!(
        told("/v2/health/ready").await,
        (503, r#"{"ready":false}"#.into())
    );
}

#[tokio::test]
async fn the_index_says_each_version_with_its_state_and_reason() {
    let server = TestServer::start();
    let all = server.get("/v2/repository/index").await;
    assert_eq!(all.status, 200);
    let all = all.json();
    let entry = |name: &str, version: &str| {
        let mut entries = all.as_array().unwrap().iter();
        entries
            .find(|entry| entry["name"] == name && entry["version"] == version)
            .unwrap()
            .clone()
    };
    assert_eq!(all.as_array().unwrap().len(), 9);
    assert_eq!(
        entry("echo", "2"),
        json!({"name": "echo", "version": "2", "state": "READY", "reason": ""})
    );
    let broken = entry("broken", "1");
    assert_eq!(broken["state"], "UNAVAILABLE");
    let reason = broken["reason"].as_str().unwrap();
    assert!(reason.starts_with("config.json: "), "{reason}");

    // As clients ask: without a body, with an empty one, and for what is ready.
    for body in ["", "{}", r#"{"ready":false}"#, r#"{"unknown":[1]}"#] {
        assert_eq!(server.ask("/v2/repository/index", body).await, all);
    }
    let ready = server
        .ask("/v2/repository/index", r#"{"ready":true}"#)
        .await;
    let without_broken = all.as_array().unwrap().iter().cloned();
    let without_broken = without_broken.filter(|entry| entry["state"] == "READY");
    assert_eq!(
        ready.as_array().unwrap()[..],
        without_broken.collect::<Vec<_>>()[..]
    );
}
