//! Integers and rows of unequal length, in each format that carries them.

use http::Method;
use serde_json::{Value, json};
use tempfile::TempDir;

use super::server::{Answer, MAX_ROWS, TestServer, request};
use crate::model_files::{self, Stored};

/// The mean of a text's words, each of which stands for its own number.
const TEXTS: &str = r#"{"model_type":"sequential","task":"regression",
    "inputs":[{"name":"ids","shape":[null],"datatype":"INT64"}],
    "layers":[{"type":"embedding","name":"words","entries":7,"units":1},
              {"type":"mean_pooling","name":"mean"}],
    "outputs":[{"name":"text","layer":"mean"}]}"#;

/// The same, with an output of each word.
const WORDS: &str = r#"{"model_type":"sequential",
    "inputs":[{"name":"ids","shape":[null],"datatype":"INT64"}],
    "layers":[{"type":"embedding","name":"words","entries":7,"units":1},
              {"type":"mean_pooling","name":"mean"}],
    "outputs":[{"name":"text","layer":"mean"},{"name":"each","layer":"words"}]}"#;

/// Two look-ups a row.
const TWO_WORDS: &str = r#"{"model_type":"sequential",
    "inputs":[{"name":"ids","shape":[2],"datatype":"INT64"}],
    "layers":[{"type":"embedding","name":"words","entries":7,"units":1},
              {"type":"flatten"}],
    "outputs":[{"name":"y","layer":"1"}]}"#;

/// What each word is, and nothing else.
const SPELL: &str = r#"{"model_type":"sequential",
    "inputs":[{"name":"ids","shape":[null],"datatype":"INT64"}],
    "layers":[{"type":"embedding","name":"words","entries":7,"units":1}]}"#;

/// Four look-ups a row.
const FOUR_WORDS: &str = r#"{"model_type":"sequential",
    "inputs":[{"name":"ids","shape":[4],"datatype":"INT64"}],
    "layers":[{"type":"embedding","name":"words","entries":7,"units":1},
              {"type":"flatten"}]}"#;

pub(crate) fn add_token_models(directory: &TempDir) {
    let table: Vec<f32> = (0..7).map(|word| word as f32).collect();
    for (name, config) in [
        ("texts", TEXTS),
        ("words", WORDS),
        ("spell", SPELL),
        ("two_words", TWO_WORDS),
        ("four_words", FOUR_WORDS),
    ] {
        let path = directory.path().join(name).join("1");
        std::fs::create_dir_all(&path).unwrap();
        let table = Stored::new("words.weight", &[7, 1], &table);
        model_files::write(&path, config, &model_files::safetensors(&[table]));
    }
}

fn server() -> TestServer {
    let directory = TempDir::new().unwrap();
    add_token_models(&directory);
    TestServer::serving(directory)
}

async fn send(server: &TestServer, path: &str, kind: &str, body: &str) -> Answer {
    let headers = [("content-type", kind)];
    server
        .send(request(Method::POST, path, &headers, body.to_owned()))
        .await
}

/// The code and the message of a refusal.
fn refusal(answer: &Answer) -> (String, String) {
    assert_eq!(answer.status, 400, "{answer:?}");
    let text = |key: &str| answer.json()[key].as_str().unwrap().to_owned();
    (text("code"), text("error"))
}

#[tokio::test]
async fn metadata_says_integers_and_tokens() {
    let server = server();
    let metadata = server.get("/v2/models/words").await.json();
    assert_eq!(
        metadata["inputs"],
        json!([{"name": "ids", "datatype": "INT64", "shape": [-1, -1]}])
    );
    assert_eq!(metadata["outputs"][0]["shape"], json!([-1, 1]));
    assert_eq!(metadata["outputs"][1]["shape"], json!([-1, -1, 1]));
    let v1 = server.get("/v1/models/texts/metadata").await.json();
    let definition = &v1["metadata"]["signature_def"]["signature_def"]["serving_default"];
    assert_eq!(definition["inputs"]["ids"]["dtype"], "DT_INT64");
}

#[tokio::test]
async fn v1_takes_rows_of_unequal_length_and_answers_with_such() {
    let server = server();
    let texts = "/v1/models/texts:predict";
    let words = "/v1/models/words:predict";
    assert_eq!(
        server
            .ask(texts, r#"{"instances": [[1, 2, 3], [6], []]}"#)
            .await,
        json!({"predictions": [[2.0], [6.0], [0.0]]})
    );
    assert_eq!(
        server
            .ask(texts, r#"{"instances": [{"ids": [1, 2]}, {"ids": [4]}]}"#)
            .await,
        json!({"predictions": [[1.5], [4.0]]})
    );
    assert_eq!(
        server
            .ask(texts, r#"{"inputs": {"ids": [[1, 2], [4]]}}"#)
            .await,
        json!({"outputs": [[1.5], [4.0]]})
    );
    assert_eq!(
        server.ask(words, r#"{"inputs": [[1, 2], [], [4]]}"#).await,
        json!({"outputs": {"text": [[1.5], [0.0], [4.0]], "each": [[[1.0], [2.0]], [], [[4.0]]]}})
    );
    assert_eq!(
        server.ask(words, r#"{"instances": [[1, 2], [4]]}"#).await,
        json!({"predictions": [{"text": [1.5], "each": [[1.0], [2.0]]},
                               {"text": [4.0], "each": [[4.0]]}]})
    );
    assert_eq!(
        server
            .ask(
                "/v1/models/two_words:predict",
                r#"{"instances": [[1, 2], [3, 4]]}"#
            )
            .await,
        json!({"predictions": [[1.0, 2.0], [3.0, 4.0]]})
    );
}

#[tokio::test]
async fn v2_takes_tensors_of_tokens_in_each_form() {
    let server = server();
    let infer = "/v2/models/words/infer";
    let expected = json!([
        {"name": "text", "datatype": "FP32", "shape": [2, 1], "data": [1.5, 4.0]},
        {"name": "each", "datatype": "FP32", "shape": [2, 2, 1], "data": [1.0, 2.0, 3.0, 5.0]},
    ]);
    let tensor = |datatype: &str, data: Value| {
        json!({"inputs": [{"name": "ids", "shape": [2, 2], "datatype": datatype, "data": data}]})
            .to_string()
    };
    for data in [json!([1, 2, 3, 5]), json!([[1, 2], [3, 5]])] {
        // A narrower integer is one too.
        for datatype in ["INT64", "INT32", "UINT8", "UINT64"] {
            let answer = server.ask(infer, &tensor(datatype, data.clone())).await;
            assert_eq!(answer["outputs"], expected, "{datatype} {data}");
        }
    }
    let binary = |datatype: &str, bytes: Vec<u8>| {
        let json = json!({"inputs": [{"name": "ids", "shape": [2, 2], "datatype": datatype,
                                      "parameters": {"binary_data_size": bytes.len()}}]})
        .to_string();
        let length = json.len().to_string();
        let headers = [("inference-header-content-length", &*length)];
        let body = [json.as_bytes(), &bytes].concat();
        request(Method::POST, infer, &headers, body)
    };
    let wide = [1i64, 2, 3, 5]
        .iter()
        .flat_map(|id| id.to_le_bytes())
        .collect();
    let narrow = [1i16, 2, 3, 5]
        .iter()
        .flat_map(|id| id.to_le_bytes())
        .collect();
    for (datatype, bytes) in [
        ("INT64", wide),
        ("INT16", narrow),
        ("INT8", vec![1, 2, 3, 5]),
    ] {
        let answer = server.send(binary(datatype, bytes)).await;
        assert_eq!(answer.status, 200, "{answer:?}");
        assert_eq!(answer.json()["outputs"], expected, "{datatype}");
    }
    // A raw body is one row.
    let bytes: Vec<u8> = [1i64, 2].iter().flat_map(|id| id.to_le_bytes()).collect();
    let headers = [("inference-header-content-length", "0")];
    let path = "/v2/models/texts/infer";
    let answer = server
        .send(request(Method::POST, path, &headers, bytes))
        .await;
    assert_eq!(answer.status, 200, "{answer:?}");
    assert_eq!(
        &answer.bytes[answer.bytes.len() - 4..],
        1.5f32.to_le_bytes()
    );
}

#[tokio::test]
async fn csv_has_a_line_a_row_and_a_cell_a_token() {
    let server = server();
    let texts = "/v1/models/texts:predict";
    let answer = send(&server, texts, "text/csv", "1,2,3\n6\n\"4\", 5\n").await;
    assert_eq!(
        (answer.status, &*answer.body),
        (200, "text\n2.0\n6.0\n4.5\n")
    );
    let answer = send(&server, texts, "text/csv", "ids\n1,2,3\n").await;
    assert_eq!((answer.status, &*answer.body), (200, "text\n2.0\n"));
    let answer = send(
        &server,
        "/v1/models/two_words:predict",
        "text/csv",
        "1,2\n3,4\n",
    )
    .await;
    assert_eq!(
        (answer.status, &*answer.body),
        (200, "y[0],y[1]\n1.0,2.0\n3.0,4.0\n")
    );
    for (body, expected) in [
        (
            "1,2.5\n",
            (
                "wrong_type",
                "line 1, column 2: expected an integer, got \"2.5\"; write for example 12",
            ),
        ),
        (
            "1\n\n2\n",
            (
                "shape_mismatch",
                "line 2: input \"ids\": expected a cell for each token, got 0; take empty lines out",
            ),
        ),
        (
            "1\n9223372036854775808\n",
            (
                "out_of_range",
                "line 2, column 1: expected an integer from -9223372036854775808 to 9223372036854775807, got \"9223372036854775808\"",
            ),
        ),
    ] {
        let (code, message) = refusal(&send(&server, texts, "text/csv", body).await);
        assert_eq!((&*code, &*message), expected);
    }
    // A row without tokens is an empty cell in quotes, which no reader of CSV skips.
    let answer = send(&server, texts, "text/csv", "1,3\n\"\"\n\"2\",\"4\"\r\n").await;
    assert_eq!(
        (answer.status, &*answer.body),
        (200, "text\n2.0\n0.0\n3.0\n")
    );
    let headers = [("accept", "text/csv")];
    let body = r#"{"instances": [[1, 2], [], [3]]}"#;
    let path = "/v1/models/spell:predict";
    let answer = server
        .send(request(Method::POST, path, &headers, body))
        .await;
    assert_eq!(
        (answer.status, &*answer.body),
        (200, "1.0,2.0\n\"\"\n3.0\n")
    );
    // Numbers may name the columns of a frame.
    let (code, _) = refusal(
        &send(
            &server,
            "/v1/models/four_words:predict",
            "text/csv",
            "0,1,2,3\n",
        )
        .await,
    );
    assert_eq!(code, "ambiguous_request");
    let words = "/v1/models/words:predict";
    let (code, message) = refusal(&send(&server, words, "text/csv", "1,2\n").await);
    assert_eq!(code, "wrong_type");
    assert!(message.starts_with("header accept: "), "{message}");
}

#[tokio::test]
async fn lines_and_frames_hold_rows_of_unequal_length() {
    let server = server();
    let ndjson = "application/x-ndjson";
    let answer = send(
        &server,
        "/v1/models/words:predict",
        ndjson,
        "[1,2]\n{\"ids\":[4]}\n[]\n",
    )
    .await;
    assert_eq!(answer.status, 200, "{answer:?}");
    assert_eq!(
        answer.body,
        "{\"text\":[1.5],\"each\":[[1.0],[2.0]]}\n{\"text\":[4.0],\"each\":[[4.0]]}\n\
         {\"text\":[0.0],\"each\":[]}\n"
    );
    let naming = safeserve::http::Naming {
        default_model: Some("texts".to_owned()),
        ..Default::default()
    };
    let directory = TempDir::new().unwrap();
    add_token_models(&directory);
    let server = TestServer::naming(directory, naming);
    for body in [
        r#"{"dataframe_split": {"columns": ["ids"], "data": [[[1, 2]], [[4]]]}}"#,
        r#"{"dataframe_split": {"data": [[1, 2], [4]]}}"#,
        r#"{"dataframe_records": [{"ids": [1, 2]}, {"ids": [4]}]}"#,
        r#"{"inputs": {"ids": [[1, 2], [4]]}}"#,
        r#"{"instances": [[1, 2], [4]]}"#,
        r#"[[1, 2], [4]]"#,
    ] {
        let answer = server.ask("/invocations", body).await;
        assert_eq!(answer, json!({"predictions": [[1.5], [4.0]]}), "{body}");
    }
    let body = r#"{"dataframe_records": [{"foo": 5}]}"#;
    let (code, _) = refusal(&server.post("/invocations", body).await);
    assert_eq!(code, "unknown_input");
    let naming = safeserve::http::Naming {
        default_model: Some("two_words".to_owned()),
        ..Default::default()
    };
    let directory = TempDir::new().unwrap();
    add_token_models(&directory);
    let server = TestServer::naming(directory, naming);
    for body in [
        r#"{"dataframe_records": [{"a": 1, "b": 2}, {"a": 3, "b": 4}]}"#,
        r#"{"dataframe_split": {"columns": ["a", "b"], "data": [[1, 2], [3, 4]]}}"#,
        r#"{"dataframe_split": {"columns": ["ids"], "data": [[[1, 2]], [[3, 4]]]}}"#,
    ] {
        let answer = server.ask("/invocations", body).await;
        assert_eq!(
            answer,
            json!({"predictions": [[1.0, 2.0], [3.0, 4.0]]}),
            "{body}"
        );
    }
}

#[tokio::test]
async fn examples_hold_rows_of_unequal_length_and_share_none() {
    let server = server();
    let regress = "/v1/models/texts:regress";
    assert_eq!(
        server
            .ask(regress, r#"{"examples": [{"ids": [1, 2]}, {"ids": [4]}]}"#)
            .await,
        json!({"results": [1.5, 4.0]})
    );
    let shared = r#"{"context": {"ids": [1, 2]}, "examples": [{}, {}]}"#;
    assert_eq!(
        refusal(&server.post(regress, shared).await),
        (
            "not_served".to_owned(),
            "context: input \"ids\" is INT64 [-1, -1], and only numbers of a fixed shape can be shared; \
             send it in each example"
                .to_owned()
        )
    );
}

#[tokio::test]
async fn an_integer_arrives_as_itself() {
    let server = server();
    // Next to it in double precision is 2^53.
    let exact = (1i64 << 53) + 1;
    let expected = format!("expected integers from 0 to 6, got {exact}");
    let v2 = json!({"inputs": [{"name": "ids", "shape": [2, 1], "datatype": "INT64", "data": [1, exact]}]});
    let instances = format!(r#"{{"instances": [[1], [{exact}]]}}"#);
    let named = format!(r#"{{"instances": [{{"ids": [1]}}, {{"ids": [{exact}]}}]}}"#);
    let columns = format!(r#"{{"inputs": [[1], [{exact}]]}}"#);
    let lines = format!("[1]\n[{exact}]\n");
    let csv = format!("1\n{exact}\n");
    let json = "application/json";
    for (path, kind, body) in [
        ("/v2/models/texts/infer", json, &v2.to_string()),
        ("/v1/models/texts:predict", json, &instances),
        ("/v1/models/texts:predict", json, &named),
        ("/v1/models/texts:predict", json, &columns),
        ("/v1/models/texts:predict", "application/x-ndjson", &lines),
        ("/v1/models/texts:predict", "text/csv", &csv),
    ] {
        let (code, message) = refusal(&send(&server, path, kind, body).await);
        assert_eq!(code, "out_of_range", "{body}");
        assert!(message.contains("input \"ids\": row 1: "), "{message}");
        assert!(message.ends_with(&expected), "{message}");
    }
}

#[tokio::test]
async fn what_is_no_row_of_tokens_is_refused_in_words() {
    let server = server();
    let v1 = "/v1/models/texts:predict";
    let many = format!(r#"{{"instances": [{}]}}"#, ["[1]"; MAX_ROWS + 1].join(","));
    for (body, code, message) in [
        (
            r#"{"instances": [1, 2]}"#,
            "shape_mismatch",
            "instances[0]: input \"ids\": expected INT64 [-1], got one number; send the tokens of a row as one list",
        ),
        (
            r#"{"instances": [[[1], [2]]]}"#,
            "shape_mismatch",
            "instances[0]: input \"ids\": expected INT64 [-1], got INT64 [2, 1]; send the tokens of a row as one list",
        ),
        (
            r#"{"instances": [[1.5]]}"#,
            "wrong_type",
            "instances[0][0]: expected an integer, found 1.5",
        ),
        (
            r#"{"instances": [["a"]]}"#,
            "wrong_type",
            "instances[0][0]: expected an integer, found \"a\"",
        ),
        (
            r#"{"instances": []}"#,
            "shape_mismatch",
            "instances: expected at least 1 row, got none",
        ),
        (
            &many,
            "too_many_rows",
            "instances: expected at most 8 rows, got 9; split the request, or raise limits.max_request_rows",
        ),
        (
            r#"{"instances": [[-1]]}"#,
            "out_of_range",
            "instances: input \"ids\": row 0: expected integers from 0 to 6, got -1",
        ),
    ] {
        let (found, text) = refusal(&server.post(v1, body.to_owned()).await);
        assert_eq!((&*found, &*text), (code, message), "{body}");
    }
    let v2 = "/v2/models/texts/infer";
    let tensor = |shape: Value, datatype: &str, data: Value| {
        json!({"inputs": [{"name": "ids", "shape": shape, "datatype": datatype, "data": data}]})
            .to_string()
    };
    for (body, code, message) in [
        (
            tensor(json!([2]), "INT64", json!([1, 2])),
            "shape_mismatch",
            "input \"ids\": expected INT64 [-1, -1], got INT64 [2]; write the shape as [rows, tokens], the number of rows first",
        ),
        (
            tensor(json!([1, 2]), "FP32", json!([1, 2])),
            "datatype_mismatch",
            "input \"ids\": expected INT64 [-1, -1], got FP32 [1, 2]; send INT64 values and say so",
        ),
        (
            tensor(json!([1, 2]), "UINT8", json!([1, 256])),
            "out_of_range",
            "input \"ids\": row 0: expected UINT8 values, 0 to 255, got 256",
        ),
        (
            tensor(json!([1, 2]), "INT64", json!([1])),
            "shape_mismatch",
            "input \"ids\": shape [1, 2] needs 2 values, got 1; send as many values as the shape says",
        ),
        (
            tensor(json!([2, u64::MAX]), "INT64", json!([1])),
            "shape_mismatch",
            "input \"ids\": expected INT64 [-1, -1], got INT64 [2, 18446744073709551615]; send fewer tokens a row",
        ),
    ] {
        let (found, text) = refusal(&server.post(v2, body.clone()).await);
        assert_eq!((&*found, &*text), (code, message), "{body}");
    }
}
