//! TensorFlow Serving's API and what KServe's and OpenAI's clients read of it.

use serde_json::json;
use tempfile::TempDir;

use super::server::{TestServer, add_model};

/// The body of an answer that is expected to be good.
async fn text(server: &TestServer, path: &str, body: &str) -> String {
    let answer = server.post(path, body.to_owned()).await;
    assert_eq!(answer.status, 200, "{answer:?}");
    answer.body
}

#[tokio::test]
async fn tensorflow_servings_first_example_works() {
    let server = TestServer::start();
    let path = "/v1/models/half_plus_two:predict";
    assert_eq!(
        text(&server, path, r#"{"instances": [[1.0], [2.0], [5.0]]}"#).await,
        r#"{"predictions":[[2.5],[3.0],[4.5]]}"#
    );
}

#[tokio::test]
async fn rows_are_values_or_objects() {
    let server = TestServer::start();
    let echo = "/v1/models/echo:predict";
    for body in [
        r#"{"instances":[[1,2],[3,4]]}"#,
        r#"{"instances":[{"x":[1,2]},{"x":[3,4]}]}"#,
        r#"{"instances":[[1,2],[3,4]],"signature_name":"serving_default","else":{}}"#,
    ] {
        assert_eq!(
            text(&server, echo, body).await,
            r#"{"predictions":[[1.0,2.0],[3.0,4.0]]}"#
        );
    }
    assert_eq!(
        text(
            &server,
            "/v1/models/pair:predict",
            r#"{"instances":[{"a":[1,2],"b":[10,20]},{"b":[30,40],"a":[3,4]}]}"#
        )
        .await,
        r#"{"predictions":[{"sum":[11.0,22.0],"joined":[1.0,2.0,10.0,20.0]},"#.to_owned()
            + r#"{"sum":[33.0,44.0],"joined":[3.0,4.0,30.0,40.0]}]}"#
    );
}

#[tokio::test]
async fn columns_answer_columns() {
    let server = TestServer::start();
    for body in [
        r#"{"inputs":[[1,2],[3,4]]}"#,
        r#"{"inputs":{"x":[[1,2],[3,4]]}}"#,
    ] {
        assert_eq!(
            text(&server, "/v1/models/echo:predict", body).await,
            r#"{"outputs":[[1.0,2.0],[3.0,4.0]]}"#
        );
    }
    assert_eq!(
        text(
            &server,
            "/v1/models/pair:predict",
            r#"{"inputs":{"b":[[10,20]],"a":[[1,2]]}}"#
        )
        .await,
        r#"{"outputs":{"sum":[[11.0,22.0]],"joined":[[1.0,2.0,10.0,20.0]]}}"#
    );
}

#[tokio::test]
async fn tokens_pass_where_the_model_allows_them() {
    let server = TestServer::start();
    assert_eq!(
        text(
            &server,
            "/v1/models/matrix:predict",
            r#"{"instances":[[[NaN,Infinity,-Infinity],[1e39,1e20,-0.0]]]}"#
        )
        .await,
        r#"{"predictions":[[[NaN,Infinity,-Infinity],[Infinity,1.0e+20,-0.0]]]}"#
    );
}

#[tokio::test]
async fn classify_gives_every_label_with_its_score() {
    let server = TestServer::start();
    let fruit = r#"{"results":[[["apple",0.5],["pear",0.25],["fig \"sweet\"",0.125]]]}"#;
    for body in [
        r#"{"examples":[{"red":0.5,"green":0.25,"blue":0.125}]}"#,
        r#"{"examples":[{"blue":[0.125],"red":[0.5],"green":0.25}]}"#,
        r#"{"examples":[{"colour":[0.5,0.25,0.125]}]}"#,
        r#"{"examples":[{"red":0.5,"blue":0.125}],"context":{"green":0.25}}"#,
        r#"{"context":{"green":0.25,"red":9},"examples":[{"red":0.5,"blue":0.125}]}"#,
    ] {
        assert_eq!(
            text(&server, "/v1/models/fruit:classify", body).await,
            fruit
        );
    }
    assert_eq!(
        text(
            &server,
            "/v1/models/coin/versions/1:CLASSIFY",
            r#"{"examples":[{"x":[0.25]},{"x":[1]}]}"#
        )
        .await,
        r#"{"results":[[["tails",0.75],["heads",0.25]],[["tails",0.0],["heads",1.0]]]}"#
    );
}

#[tokio::test]
async fn classify_gives_probabilities_of_a_model_that_gives_logits() {
    let directory = TempDir::new().unwrap();
    add_model(
        &directory.path().join("sign/1"),
        r#"{"model_type":"sequential","labels":["no","yes"],
            "task":{"type":"binary-classification","threshold":0},
            "inputs":[{"name":"x","shape":[1],"datatype":"FP32"}],
            "layers":[{"type":"activation","function":"linear"}]}"#,
    );
    let server = TestServer::serving(directory);
    let examples = r#"{"examples":[{"x":[0]},{"x":[40]},{"x":[-40]}]}"#;
    assert_eq!(
        text(&server, "/v1/models/sign:classify", examples).await,
        r#"{"results":[[["no",0.5],["yes",0.5]],"#.to_owned()
            + r#"[["no",4.248354e-18],["yes",1.0]],[["no",1.0],["yes",4.248354e-18]]]}"#
    );
    // What the network gives is the logit itself.
    assert_eq!(
        text(
            &server,
            "/v1/models/sign:predict",
            r#"{"instances":[[-3.5]]}"#
        )
        .await,
        r#"{"predictions":[[-3.5]]}"#
    );
}

#[tokio::test]
async fn regress_gives_one_number_a_row() {
    let server = TestServer::start();
    assert_eq!(
        text(
            &server,
            "/v1/models/half_plus_two:regress",
            r#"{"examples":[{"x":[1]},{"x":[2]}]}"#
        )
        .await,
        r#"{"results":[2.5,3.0]}"#
    );
}

#[tokio::test]
async fn the_list_of_models_has_every_clients_keys() {
    let server = TestServer::start();
    let answer = server.get("/v1/models").await.json();
    let names = json!([
        "broken",
        "coin",
        "echo",
        "fruit",
        "half_plus_two",
        "matrix",
        "pair",
        "steep"
    ]);
    assert_eq!(answer["models"], names);
    assert_eq!(answer["object"], "list");
    assert_eq!(answer["data"][2]["id"], "echo");
    assert_eq!(answer["data"][2]["object"], "model");
    assert!(answer["data"][2]["created"].as_u64() > Some(1_700_000_000));
}

#[tokio::test]
async fn status_has_every_clients_keys() {
    let server = TestServer::start();
    let available = |version| {
        json!({"version": version, "state": "AVAILABLE",
               "status": {"error_code": "OK", "error_message": ""}})
    };
    let answer = server.get("/v1/models/echo").await;
    assert_eq!(answer.status, 200);
    assert_eq!(
        answer.json(),
        json!({"name": "echo", "ready": true,
               "model_version_status": [available("2"), available("3")]})
    );
    let answer = server.get("/v1/models/echo/versions/2").await.json();
    assert_eq!(answer["model_version_status"], json!([available("2")]));

    let answer = server.get("/v1/models/broken").await;
    assert_eq!(answer.status, 503);
    let answer = answer.json();
    assert_eq!(answer["ready"], false);
    let status = &answer["model_version_status"][0];
    assert_eq!(status["state"], "END");
    assert_ne!(status["status"]["error_message"], "");
}

#[tokio::test]
async fn metadata_describes_the_signature_as_tensorflow_does() {
    let server = TestServer::start();
    let answer = server.get("/v1/models/fruit/metadata").await.json();
    assert_eq!(
        answer["model_spec"],
        json!({"name": "fruit", "signature_name": "", "version": "1"})
    );
    let signature = &answer["metadata"]["signature_def"]["signature_def"]["serving_default"];
    let tensor = |name: &str| {
        json!({"dtype": "DT_FLOAT", "name": name, "tensor_shape": {
            "dim": [{"size": "-1", "name": ""}, {"size": "3", "name": ""}],
            "unknown_rank": false}})
    };
    assert_eq!(signature["inputs"], json!({"colour": tensor("colour:0")}));
    assert_eq!(
        signature["outputs"],
        json!({"probabilities": tensor("probabilities:0")})
    );
}
