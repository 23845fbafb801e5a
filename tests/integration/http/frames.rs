//! Rows by name, as CSV, as JSON lines and as frames: the same rows get the same answer.

use http::Method;
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::test_runner::TestRunner;

use std::fmt::Write;

use safeserve::http::{Naming, VertexRoutes};

use super::server::{Answer, MAX_ROWS, TestServer, request};

const FRUIT: &str = "/v1/models/fruit:predict";
const INVOCATIONS: &str = "/invocations";
const VERTEX: &str = "/v1/endpoints/7/deployedModels/8:predict";
const VERTEX_HEALTH: &str = "/v1/endpoints/7/deployedModels/8";
const FEATURES: [&str; 3] = ["red", "green", "blue"];

/// A server where `model` answers paths that name none.
fn with_default(model: &str) -> TestServer {
    TestServer::start_naming(Naming {
        default_model: Some(model.to_owned()),
        labels: "echo/stable=2, echo/canary=3, echo/gone=9".parse().unwrap(),
        vertex: VertexRoutes {
            health: Some(VERTEX_HEALTH.to_owned()),
            predict: Some(VERTEX.to_owned()),
        },
    })
}

/// Posts a body of a media type; `accept` is empty for none.
async fn post(
    server: &TestServer,
    path: &str,
    media_type: &str,
    accept: &str,
    body: impl Into<axum::body::Body>,
) -> Answer {
    let headers = [("content-type", media_type), ("accept", accept)];
    let headers = match accept {
        "" => &headers[..1],
        _ => &headers[..],
    };
    server
        .send(request(Method::POST, path, headers, body))
        .await
}

/// The text of an answer that is expected to be good.
async fn text(
    server: &TestServer,
    path: &str,
    media_type: &str,
    accept: &str,
    body: &str,
) -> String {
    let answer = post(server, path, media_type, accept, body.to_owned()).await;
    assert_eq!(answer.status, 200, "{body}: {answer:?}");
    answer.body
}

#[tokio::test]
async fn rows_come_by_the_names_of_features_in_any_order() {
    let server = TestServer::start();
    for body in [
        r#"{"instances":[{"red":1,"green":2,"blue":3}]}"#,
        r#"{"instances":[{"blue":3,"red":1,"green":2}]}"#,
        r#"{"instances":[{"blue":[3],"red":1,"green":2}]}"#,
        r#"{"instances":[{"colour":[1,2,3]}]}"#,
        r#"{"instances":[[1,2,3]]}"#,
    ] {
        assert_eq!(
            text(&server, FRUIT, "application/json", "", body).await,
            r#"{"predictions":[[1.0,2.0,3.0]]}"#
        );
    }
    let mixed = r#"{"instances":[{"red":1,"green":2,"blue":3},{"colour":[4,5,6]}]}"#;
    assert_eq!(
        text(&server, FRUIT, "application/json", "", mixed).await,
        r#"{"predictions":[[1.0,2.0,3.0],[4.0,5.0,6.0]]}"#
    );
}

#[tokio::test]
async fn all_names_that_do_not_fit_are_told_at_once() {
    let server = TestServer::start();
    let body = r#"{"instances":[{"Red":1,"grean":2,"mauve":3}]}"#;
    let answer = server.post(FRUIT, body).await;
    assert_eq!(answer.status, 400);
    let error = answer.json();
    assert_eq!(error["code"], "unknown_input");
    assert_eq!(
        error["error"],
        "instances[0]: the model has no feature \"Red\" (did you mean \"red\"?), \"grean\" (did \
         you mean \"green\"?), \"mauve\", and \"red\", \"green\", \"blue\" did not come; it takes \
         \"red\", \"green\", \"blue\", or \"colour\" with all values"
    );
    let body = r#"{"instances":[{"red":1,"green":2,"blue":3},{"green":2}]}"#;
    let error = server.post(FRUIT, body).await.json();
    assert_eq!(error["code"], "missing_input");
    assert_eq!(
        error["error"],
        "instances[1]: expected every feature, got none for \"red\", \"blue\"; add them"
    );
}

#[tokio::test]
async fn csv_has_a_header_in_any_order_or_none() {
    let server = TestServer::start();
    let expected = "probabilities[apple],probabilities[pear],\"probabilities[fig \"\"sweet\"\"]\"\n\
                    1.0,2.0,3.0\n4.0,5.0,6.5\n";
    for body in [
        "red,green,blue\n1,2,3\n4,5,6.5\n",
        "blue,red,green\n3,1,2\n6.5,4,5",
        "\u{feff}blue,red,green\r\n3,1,2\r\n6.5,4,5\r\n\r\n",
        "\"blue\", red ,\"green\"\n\"3\", 1 ,2\n6.5,4,5\n \n\n",
        "1,2,3\n4,5,6.5\n",
        "\"1\",2,3\n4,5,6.5\n",
        "1, 2, 3\r\n4,5.0,65e-1",
        " 1,2,3\n\t4,5,6.5\n \t\r\n\n",
    ] {
        assert_eq!(
            text(&server, FRUIT, "text/csv", "", body).await,
            expected,
            "{body:?}"
        );
    }
    assert_eq!(
        text(&server, FRUIT, "text/csv; header=absent", "", "0,1,2\n").await,
        expected.split_once('\n').unwrap().0.to_owned() + "\n0.0,1.0,2.0\n"
    );
    // Without names in the model a header is only counted.
    for (header, body) in [
        ("present", "0,1\n5,6\n"),
        ("absent", "5,6\n"),
        ("", "x,y\n5,6\n"),
    ] {
        let media_type = format!("text/csv; header={header}");
        assert_eq!(
            text(&server, "/v1/models/echo:predict", &media_type, "", body).await,
            "y[0],y[1]\n5.0,6.0\n"
        );
    }
    // A row is the values in their order, whatever its shape; tokens pass where they may.
    assert_eq!(
        text(
            &server,
            "/v1/models/matrix:predict",
            "text/csv",
            "",
            "1,NaN,3,-Infinity,5,1e39\n"
        )
        .await,
        "y[0],y[1],y[2],y[3],y[4],y[5]\n1.0,NaN,3.0,-Infinity,5.0,Infinity\n"
    );
    assert_eq!(
        text(
            &server,
            "/v1/models/half_plus_two:predict",
            "text/csv",
            "",
            "1\n2\n"
        )
        .await,
        "prediction\n2.5\n3.0\n"
    );
}

#[tokio::test]
async fn a_json_document_stands_on_each_line() {
    let server = TestServer::start();
    for media_type in ["application/x-ndjson", "application/jsonlines"] {
        assert_eq!(
            text(
                &server,
                FRUIT,
                media_type,
                "",
                "[1,2,3]\n\n{\"blue\":3,\"red\":1,\"green\":2}\r\n{\"colour\":[4,5,6]}"
            )
            .await,
            "[1.0,2.0,3.0]\n[1.0,2.0,3.0]\n[4.0,5.0,6.0]\n"
        );
    }
    assert_eq!(
        text(
            &server,
            "/v1/models/pair:predict",
            "application/x-ndjson",
            "",
            "{\"a\":[1,2],\"b\":[10,20]}\n"
        )
        .await,
        "{\"sum\":[11.0,22.0],\"joined\":[1.0,2.0,10.0,20.0]}\n"
    );
}

#[tokio::test]
async fn the_answer_has_the_form_that_the_client_accepts() {
    let server = TestServer::start();
    let bodies = [
        ("application/json", r#"{"instances":[[1,2]]}"#),
        ("application/json", r#"{"inputs":[[1,2]]}"#),
        ("text/csv", "1,2"),
        ("application/x-ndjson", "[1,2]"),
    ];
    let path = "/v1/models/echo:predict";
    for (media_type, body) in bodies {
        for (accept, expected, answered) in [
            (
                "text/csv",
                "y[0],y[1]\n1.0,2.0\n",
                "text/csv; charset=utf-8; header=present",
            ),
            (
                "application/x-ndjson",
                "[1.0,2.0]\n",
                "application/x-ndjson",
            ),
        ] {
            let answer = post(&server, path, media_type, accept, body).await;
            assert_eq!(answer.body, expected, "{media_type} {accept}");
            assert_eq!(answer.header("content-type"), Some(answered));
        }
    }
    for (media_type, body) in &bodies[2..] {
        assert_eq!(
            text(&server, path, media_type, "application/json", body).await,
            r#"{"predictions":[[1.0,2.0]]}"#
        );
    }
    assert_eq!(
        text(
            &server,
            "/v1/models/pair:predict",
            "application/json",
            "text/csv",
            r#"{"instances":[{"a":[1,2],"b":[10,20]}]}"#
        )
        .await,
        "sum[0],sum[1],joined[0],joined[1],joined[2],joined[3]\n11.0,22.0,1.0,2.0,10.0,20.0\n"
    );
}

#[tokio::test]
async fn mlflows_forms_are_answered_with_predictions() {
    let server = with_default("fruit");
    for body in [
        r#"{"dataframe_split":{"columns":["blue","red","green"],"index":[7],"data":[[3,1,2]]}}"#,
        r#"{"dataframe_split":{"data":[[1,2,3]],"columns":["red","green","blue"]},"params":{}}"#,
        r#"{"dataframe_records":[{"green":2,"red":1,"blue":3}],"params":null}"#,
        r#"{"instances":[[1,2,3]]}"#,
        r#"{"instances":[{"colour":[1,2,3]}]}"#,
        r#"{"inputs":[[1,2,3]]}"#,
        r#"{"inputs":{"colour":[[1,2,3]]}}"#,
        r#"{"inputs":{"blue":[3],"green":[2],"red":[1]}}"#,
        "[[1,2,3]]",
    ] {
        assert_eq!(
            text(&server, INVOCATIONS, "application/json", "", body).await,
            r#"{"predictions":[[1.0,2.0,3.0]]}"#,
            "{body}"
        );
    }
    assert_eq!(
        text(
            &server,
            INVOCATIONS,
            "text/csv",
            "",
            "blue,green,red\n3,2,1\n"
        )
        .await,
        r#"{"predictions":[[1.0,2.0,3.0]]}"#
    );
}

#[tokio::test]
async fn a_frame_goes_by_position_where_the_model_has_no_names() {
    let server = with_default("echo");
    for body in [
        r#"{"dataframe_split":{"columns":["a","b"],"data":[[1,2]]}}"#,
        r#"{"dataframe_split":{"columns":[0,1],"data":[[1,2]]}}"#,
        r#"{"dataframe_split":{"data":[[1,2]]}}"#,
        r#"{"dataframe_records":[{"b":1,"a":2}]}"#,
        r#"{"dataframe_records":[{"x":[1,2]}]}"#,
        r#"{"inputs":{"x":[[1,2]]}}"#,
    ] {
        assert_eq!(
            text(&server, INVOCATIONS, "application/json", "", body).await,
            r#"{"predictions":[[1.0,2.0]]}"#,
            "{body}"
        );
    }
    // The first row says what the others' keys mean.
    let body = r#"{"dataframe_records":[{"b":1,"a":2},{"a":4,"b":3}]}"#;
    assert_eq!(
        text(&server, INVOCATIONS, "application/json", "", body).await,
        r#"{"predictions":[[1.0,2.0],[3.0,4.0]]}"#
    );
}

#[tokio::test]
async fn a_column_of_a_frame_may_be_an_input() {
    let server = with_default("half_plus_two");
    // A bare number is the only value of a row.
    let body = r#"{"dataframe_split":{"columns":["x"],"data":[[1],[[2]]]}}"#;
    assert_eq!(
        text(&server, INVOCATIONS, "application/json", "", body).await,
        r#"{"predictions":[[2.5],[3.0]]}"#
    );
    let server = with_default("pair");
    let body = r#"{"dataframe_split":{"columns":["b","a"],"data":[[[10,20],[1,2]]]}}"#;
    assert_eq!(
        text(&server, INVOCATIONS, "application/json", "", body).await,
        r#"{"predictions":[{"sum":[11.0,22.0],"joined":[1.0,2.0,10.0,20.0]}]}"#
    );
    let body = r#"{"dataframe_split":{"columns":["b","a"],"data":[[[10,20]]]}}"#;
    let answer = post(&server, INVOCATIONS, "application/json", "", body).await;
    assert_eq!(answer.status, 400);
    assert!(
        answer
            .body
            .contains("dataframe_split.data[0]: expected 2 cells, one a column, got 1"),
        "{answer:?}"
    );
}

#[tokio::test]
async fn sagemakers_forms_are_answered_in_kind() {
    let server = with_default("fruit");
    for (media_type, accept, body, expected) in [
        (
            "text/csv",
            "",
            "1,2,3\n4,5,6\n",
            "1.0,2.0,3.0\n4.0,5.0,6.0\n",
        ),
        (
            "text/csv",
            "application/json",
            "1,2,3",
            r#"{"predictions":[[1.0,2.0,3.0]]}"#,
        ),
        (
            "application/json",
            "text/csv",
            r#"{"instances":[[1,2,3]]}"#,
            "1.0,2.0,3.0\n",
        ),
        (
            "application/jsonlines",
            "",
            "[1,2,3]\n[4,5,6]",
            "[1.0,2.0,3.0]\n[4.0,5.0,6.0]\n",
        ),
        (
            "application/json",
            "application/jsonlines",
            "[[1,2,3]]",
            "[1.0,2.0,3.0]\n",
        ),
    ] {
        assert_eq!(
            text(&server, INVOCATIONS, media_type, accept, body).await,
            expected
        );
    }
}

#[tokio::test]
async fn platforms_ask_for_health_by_its_status() {
    let server = with_default("fruit");
    for path in ["/ping", "/health", VERTEX_HEALTH] {
        let answer = server.get(path).await;
        assert_eq!((answer.status, &*answer.body), (200, ""), "{path}");
        assert_eq!(server.post(path, "").await.status, 405, "{path}");
    }
    assert_eq!(server.get("/version").await.body, env!("CARGO_PKG_VERSION"));
    server.app.lifecycle.drain();
    for path in ["/ping", "/health", VERTEX_HEALTH] {
        assert_eq!(server.get(path).await.status, 503, "{path}");
    }
}

#[tokio::test]
async fn vertex_asks_on_its_own_paths() {
    let server = with_default("fruit");
    let body = r#"{"instances":[{"blue":3,"red":1,"green":2},[1,2,3]]}"#;
    assert_eq!(
        server.post(VERTEX, body).await.status,
        400,
        "rows of one sort"
    );
    for parameters in ["null", "{}"] {
        let body = format!(r#"{{"instances":[[1,2,3]],"parameters":{parameters}}}"#);
        assert_eq!(
            text(&server, VERTEX, "application/json", "", &body).await,
            r#"{"predictions":[[1.0,2.0,3.0]]}"#
        );
    }
    let other = TestServer::start();
    assert_eq!(other.post(VERTEX, body).await.status, 404);
}

#[tokio::test]
async fn the_only_model_needs_no_default() {
    let directory = tempfile::TempDir::new().unwrap();
    super::server::add_model(
        &directory.path().join("only/1"),
        r#"{"model_type":"sequential","inputs":[{"name":"x","shape":[1],"datatype":"FP32"}],
            "layers":[{"type":"activation","function":"linear"}]}"#,
    );
    let server = TestServer::serving(directory);
    assert_eq!(
        text(
            &server,
            INVOCATIONS,
            "application/json",
            "",
            r#"{"inputs":[[1]]}"#
        )
        .await,
        r#"{"predictions":[[1.0]]}"#
    );
    let answer = TestServer::start()
        .post(INVOCATIONS, r#"{"inputs":[[1]]}"#)
        .await;
    assert_eq!(answer.status, 400);
    let error = answer.json();
    assert_eq!(error["code"], "model_not_named");
    let message = error["error"].as_str().unwrap();
    assert!(message.contains("\"echo\", \"fruit\"") && message.contains("models.default_model"));
}

#[tokio::test]
async fn a_label_names_a_version() {
    let server = with_default("fruit");
    let body = r#"{"instances":[[1,2]]}"#;
    for (path, expected) in [
        ("/v1/models/echo/labels/stable:predict", "[[2.0,4.0]]"),
        ("/V1/Models/echo/Labels/canary:PREDICT", "[[1.0,2.0]]"),
    ] {
        let answer = text(&server, path, "application/json", "", body).await;
        assert_eq!(answer, format!("{{\"predictions\":{expected}}}"));
    }
    let status = server.get("/v1/models/echo/labels/stable").await.json();
    assert_eq!(status["model_version_status"][0]["version"], "2");
    let metadata = server
        .get("/v1/models/echo/labels/canary/metadata")
        .await
        .json();
    assert_eq!(metadata["model_spec"]["version"], "3");
    for (label, code) in [("other", "unknown_label"), ("gone", "unknown_version")] {
        let answer = server.get(&format!("/v1/models/echo/labels/{label}")).await;
        assert_eq!(answer.status, 404);
        assert_eq!(answer.json()["code"], code);
    }
}

#[tokio::test]
async fn forms_are_counted_apart() {
    let server = with_default("fruit");
    text(&server, FRUIT, "text/csv", "", "1,2,3").await;
    text(&server, INVOCATIONS, "application/json", "", "[[1,2,3]]").await;
    text(
        &server,
        VERTEX,
        "application/json",
        "",
        r#"{"instances":[[1,2,3]]}"#,
    )
    .await;
    let page = server.app.metrics.render().unwrap();
    for protocol in ["table", "invocations", "vertex"] {
        let line = format!(
            "safeserve_requests_total{{code=\"200\",model=\"fruit\",protocol=\"{protocol}\",version=\"1\"}} 1\n"
        );
        assert!(page.contains(&line), "{line}");
    }
}

/// Bodies that are refused: the path, the media type, the body.
fn refused() -> Vec<(&'static str, &'static str, String)> {
    let csv = "text/csv";
    let named = "red,green,blue\n";
    let mut bodies: Vec<(&str, &str, String)> = Vec::new();
    for body in [
        "",
        "\n\n",
        "red,green,blue",
        "red,green,blue\n\n1,2,3",
        "\n1,2,3",
        "red,green\n1,2",
        "red,green,blue,mauve\n1,2,3,4",
        "red,Green,blu\n1,2,3",
        "red,green,green\n1,2,3",
        ",red,green,blue\n0,1,2,3",
        "red;green;blue\n1;2;3",
        "1;2;3\n4;5;6",
        "0,1,2\n5,6,7",
        "1,2\n",
        "1,2,3,4\n",
        "1,2,x\n4,5,6",
        "5.1,abc,1.4\n",
        "1,2,3\n4,5\n",
        "1,2,3\n4,5,6,7\n",
        "1,2,3\n\n4,5,6",
        "1,2,3\n4,,6",
        "1,2,3\n4,null,6",
        "1,2,3\n4,NaN,6",
        "1,2,3\n4,1e39,6",
        "1,2,3\n4,+5,6",
        "1,2,3\n4,.5,6",
        "1,2,3\n4,05,6",
        "1,2,3\n4,\"5\"\"\",6",
        "1,2,3\n4,\"5\n,6",
        "1,2,3\n4,5 6,6",
        "1,2,3\n4,caf\u{e9},6",
        "1,2,3\n1,2,3\n1,2,3\n1,2,3\n1,2,3\n1,2,3\n1,2,3\n1,2,3\n1,2,3\n",
    ] {
        bodies.push((FRUIT, csv, body.into()));
    }
    bodies.push((FRUIT, csv, format!("{named}1,2,{}", "9".repeat(300))));
    bodies.push((FRUIT, csv, format!("{}1", "1,".repeat(1000))));
    bodies.push((FRUIT, csv, "blue,red,green\n1,2,3\n1,?,3".into()));
    bodies.push((FRUIT, "text/csv; header=absent", format!("{named}1,2,3")));
    bodies.push((FRUIT, "text/csv; header=present", "1,2,3\n4,5,6".into()));
    bodies.push(("/v1/models/pair:predict", csv, "1,2,3,4".into()));
    bodies.push(("/v1/models/echo:predict", csv, "a,b,c\n1,2,3".into()));
    bodies.push(("/v1/models/fruit:classify", csv, "1,2,3".into()));
    bodies.push(("/v1/models/fruit:predict", "text/html", "1,2,3".into()));

    let lines = "application/x-ndjson";
    for body in [
        "",
        "[1,2,3]\n[1,2]",
        "[1,2,3]\n[1,null,3]",
        "[1,2,3]\n[1,2,3] x",
        "[1,2,3]\n[1,2,",
        "[1,2,3]\n{\"red\":1,\"green\":2}",
        "[1,2,3]\n{\"red\":1,\"green\":2,\"blu\":3}",
        "[1,2,3]\n{\"red\":1,\"green\":\"2\",\"blue\":3}",
        "[1,2,3]\n{\"red\":1,\"red\":2}",
        "[[1,2,3]]",
        "5",
        "{\"instances\":[[1,2,3]]}",
    ] {
        bodies.push((FRUIT, lines, body.into()));
    }
    bodies.push((FRUIT, lines, "[1,2,3]\n".repeat(9)));
    bodies.push(("/v1/models/pair:predict", lines, "[1,2,3,4]".into()));

    let json = "application/json";
    for body in [
        "",
        "{}",
        "[]",
        "[1,2,3]",
        r#"{"data":[[1,2,3]]}"#,
        r#"{"instances":[[1,2,3]],"inputs":[[1,2,3]]}"#,
        r#"{"instances":[[1,2,3]],"params":{"a":1}}"#,
        r#"{"instances":[[1,2,3]],"params":[]}"#,
        r#"{"dataframe_split":[]}"#,
        r#"{"dataframe_split":{}}"#,
        r#"{"dataframe_split":{"data":[[1,2,3]]}}"#,
        r#"{"dataframe_split":{"columns":["red","green","blue"]}}"#,
        r#"{"dataframe_split":{"columns":["red","green","blue"],"data":[]}}"#,
        r#"{"dataframe_split":{"columns":["red","green"],"data":[[1,2]]}}"#,
        r#"{"dataframe_split":{"columns":["red","green","blue","x"],"data":[[1,2,3,4]]}}"#,
        r#"{"dataframe_split":{"columns":["red","grean","blue"],"data":[[1,2,3]]}}"#,
        r#"{"dataframe_split":{"columns":["red","blue","blue"],"data":[[1,2,3]]}}"#,
        r#"{"dataframe_split":{"columns":[0,1,2],"data":[[1,2,3]]}}"#,
        r#"{"dataframe_split":{"columns":["red","green",null],"data":[[1,2,3]]}}"#,
        r#"{"dataframe_split":{"columns":["red","green","blue"],"data":[[1,2,3],[1,null,3]]}}"#,
        r#"{"dataframe_split":{"columns":["blue","green","red"],"data":[[1,2,"x"]]}}"#,
        r#"{"dataframe_split":{"columns":["red","green","blue"],"data":[[1,2,NaN]]}}"#,
        r#"{"dataframe_split":{"columns":["red","green","blue"],"data":[[1,2,1e39]]}}"#,
        r#"{"dataframe_split":{"columns":["red","green","blue"],"data":[[1,2]]}}"#,
        r#"{"dataframe_split":{"columns":["red","green","blue"],"data":[1,2,3]}}"#,
        r#"{"dataframe_split":{"columns":["red","green","blue"],"data":[[1,2,3],[1,2]]}}"#,
        r#"{"dataframe_records":{}}"#,
        r#"{"dataframe_records":[]}"#,
        r#"{"dataframe_records":[{}]}"#,
        r#"{"dataframe_records":[{"red":1,"green":2,"blue":3},{"red":1,"green":null,"blue":3}]}"#,
        r#"{"dataframe_records":[{"red":1,"green":2,"blue":3},{"red":1,"green":2}]}"#,
        r#"{"dataframe_records":[{"red":1,"red":2,"blue":3}]}"#,
        r#"{"dataframe_records":[{"red":1,"green":2,"blue":3},[1,2,3]]}"#,
        r#"{"inputs":{"red":[1],"green":[2]}}"#,
        r#"{"inputs":{"red":[1],"green":[2],"blue":[3,4]}}"#,
        r#"{"inputs":{"red":[1],"green":[2],"blue":["3"]}}"#,
        r#"{"inputs":{"red":[1],"green":[2],"blue":3}}"#,
        r#"{"inputs":{"red":[],"green":[],"blue":[]}}"#,
        r#"{"inputs":{"red":[1],"colour":[[1,2,3]]}}"#,
        r#"{"inputs":{}}"#,
    ] {
        bodies.push((INVOCATIONS, json, body.into()));
    }
    let nine = ["[1,2,3]"; 9].join(",");
    bodies.push((
        INVOCATIONS,
        json,
        format!(r#"{{"dataframe_split":{{"columns":["red","green","blue"],"data":[{nine}]}}}}"#),
    ));
    bodies.push((INVOCATIONS, "image/png", "1,2,3".into()));
    for body in [
        "{}",
        r#"{"inputs":[[1,2,3]]}"#,
        r#"{"instances":[[1,2,3]],"parameters":{"confidenceThreshold":0.5}}"#,
        r#"{"instances":[{"red":1,"green":2}]}"#,
    ] {
        bodies.push((VERTEX, json, body.into()));
    }
    bodies
}

#[tokio::test]
async fn every_frame_that_does_not_fit_is_refused_with_its_place_and_mend() {
    let server = with_default("fruit");
    let mut table = String::new();
    for (path, media_type, body) in refused() {
        let answer = post(&server, path, media_type, "", body.clone()).await;
        assert!((400..500).contains(&answer.status), "{body}: {answer:?}");
        assert_eq!(answer.header("content-type"), Some("application/json"));
        assert!(answer.body.len() < 1000, "{answer:?}");
        let problem = answer.json();
        let shown: String = body.escape_default().take(100).collect();
        writeln!(
            table,
            "POST {path} {media_type}\n  {shown}\n  {} {}: {}",
            answer.status,
            problem["code"].as_str().unwrap(),
            problem["error"].as_str().unwrap(),
        )
        .unwrap();
    }
    insta::assert_snapshot!("frames", table);
}

/// Numbers as clients write them: short ones, those of binary floats, with exponents and signs.
fn number() -> impl Strategy<Value = String> {
    prop_oneof![
        any::<f32>()
            .prop_filter("finite", |value| value.is_finite())
            .prop_map(|value| format!("{value:?}")),
        (-1000..1000i32).prop_map(|value| value.to_string()),
        (any::<i32>(), -30..20i32).prop_map(|(digits, power)| format!("{digits}e{power}")),
        (-1e6..1e6f64).prop_map(|value| value.to_string()),
    ]
}

/// The same rows in every form: a path, a media type and a body each.
fn forms(rows: &[Vec<String>], order: &[usize]) -> Vec<(&'static str, &'static str, String)> {
    let list = |row: &Vec<String>| format!("[{}]", row.join(","));
    let object = |row: &Vec<String>| {
        let members: Vec<String> = order
            .iter()
            .map(|&column| format!("\"{}\":{}", FEATURES[column], row[column]))
            .collect();
        format!("{{{}}}", members.join(","))
    };
    let ordered = |row: &Vec<String>| -> Vec<String> {
        order.iter().map(|&column| row[column].clone()).collect()
    };
    let all = |of: &dyn Fn(&Vec<String>) -> String, between: &str| {
        rows.iter().map(of).collect::<Vec<_>>().join(between)
    };
    let names: Vec<&str> = order.iter().map(|&column| FEATURES[column]).collect();
    let cells = |row: &Vec<String>| ordered(row).join(",");
    let quoted = |row: &Vec<String>| format!("\"{}\"", ordered(row).join("\",\""));
    let csv = all(&cells, "\n");
    let json = "application/json";
    vec![
        (
            FRUIT,
            json,
            format!("{{\"instances\":[{}]}}", all(&list, ",")),
        ),
        (
            FRUIT,
            json,
            format!("{{\"instances\":[{}]}}", all(&object, ",")),
        ),
        (FRUIT, "application/x-ndjson", all(&list, "\n")),
        (FRUIT, "application/x-ndjson", all(&object, "\n")),
        (FRUIT, "text/csv", format!("{}\n{csv}\n", names.join(","))),
        (
            FRUIT,
            "text/csv",
            format!("{}\r\n{}", names.join(","), all(&quoted, "\r\n")),
        ),
        (
            FRUIT,
            "text/csv; header=absent",
            all(&|row: &Vec<String>| row.join(","), "\n"),
        ),
        (
            INVOCATIONS,
            json,
            format!(
                "{{\"dataframe_split\":{{\"columns\":{names:?},\"data\":[{}]}}}}",
                all(&|row: &Vec<String>| format!("[{}]", cells(row)), ",")
            ),
        ),
        (
            INVOCATIONS,
            json,
            format!("{{\"dataframe_records\":[{}]}}", all(&object, ",")),
        ),
        (
            INVOCATIONS,
            json,
            format!(
                "{{\"inputs\":{{{}}}}}",
                order
                    .iter()
                    .map(|&column| {
                        let values = all(&|row: &Vec<String>| row[column].clone(), ",");
                        format!("\"{}\":[{values}]", FEATURES[column])
                    })
                    .collect::<Vec<_>>()
                    .join(",")
            ),
        ),
        (
            INVOCATIONS,
            json,
            format!("{{\"inputs\":[{}]}}", all(&list, ",")),
        ),
        (INVOCATIONS, json, format!("[{}]", all(&list, ","))),
        (
            INVOCATIONS,
            "text/csv",
            format!("{}\n{csv}\n", names.join(",")),
        ),
        (INVOCATIONS, "application/jsonlines", all(&list, "\n")),
        (
            VERTEX,
            json,
            format!("{{\"instances\":[{}]}}", all(&object, ",")),
        ),
    ]
}

#[test]
fn the_same_rows_get_the_same_bits_in_every_form() {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .build()
        .unwrap();
    let server = with_default("fruit");
    let rows = vec(vec(number(), 3), 1..=MAX_ROWS);
    let order = Just(vec![0, 1, 2]).prop_shuffle();
    TestRunner::default()
        .run(&(rows, order), |(rows, order)| {
            runtime.block_on(async {
                let mut first: Option<String> = None;
                for (path, media_type, body) in forms(&rows, &order) {
                    let answer = text(&server, path, media_type, "application/json", &body).await;
                    let first = first.get_or_insert_with(|| answer.clone());
                    assert_eq!(answer, *first, "{media_type} {body}");
                }
            });
            Ok(())
        })
        .unwrap();
}
