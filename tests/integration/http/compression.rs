//! Bodies and answers that are compressed.

use std::io::{Read, Write};

use flate2::Compression;
use flate2::read::{GzDecoder, ZlibDecoder};
use flate2::write::{GzEncoder, ZlibEncoder};
use http::Method;

use super::server::{Answer, MAX_BODY_BYTES, TestServer, request};

const ECHO: &str = "/v2/models/echo/infer";
const GOOD: &str = r#"{"inputs":[{"name":"x","shape":[1,2],"datatype":"FP32","data":[0.1,-2]}]}"#;

fn gzip(body: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::best());
    encoder.write_all(body).unwrap();
    encoder.finish().unwrap()
}

fn deflate(body: &[u8]) -> Vec<u8> {
    let mut encoder = ZlibEncoder::new(Vec::new(), Compression::best());
    encoder.write_all(body).unwrap();
    encoder.finish().unwrap()
}

fn zstandard(body: &[u8]) -> Vec<u8> {
    zstd::encode_all(body, 3).unwrap()
}

async fn post(server: &TestServer, path: &str, coding: &str, body: Vec<u8>) -> Answer {
    let headers = [("content-encoding", coding)];
    server
        .send(request(Method::POST, path, &headers, body))
        .await
}

#[tokio::test]
async fn every_protocol_takes_compressed_bodies() {
    let server = TestServer::start();
    let v1 = r#"{"instances":[[0.1,-2]]}"#;
    for (path, body) in [
        (ECHO, GOOD),
        ("/v1/models/echo:predict", v1),
        ("/v2/repository/index", r#"{"ready":true}"#),
    ] {
        let plain = server.ask(path, body).await;
        let body = body.as_bytes();
        for (coding, packed) in [
            ("gzip", gzip(body)),
            ("X-Gzip", gzip(body)),
            ("deflate", deflate(body)),
            ("zstd", zstandard(body)),
        ] {
            let answer = post(&server, path, coding, packed).await;
            assert_eq!(answer.status, 200, "{coding} {answer:?}");
            assert_eq!(answer.json(), plain, "{coding}");
        }
    }
}

/// The length of the JSON is that before compression.
#[tokio::test]
async fn binary_data_may_be_compressed_with_its_json() {
    let server = TestServer::start();
    let json = r#"{"inputs":[{"name":"x","shape":[1,2],"datatype":"FP32",
        "parameters":{"binary_data_size":8}}]}"#;
    let blob = [0.1f32, -2.0].map(f32::to_le_bytes).concat();
    let length = json.len().to_string();
    let headers = [
        ("inference-header-content-length", &*length),
        ("content-encoding", "gzip"),
    ];
    let body = gzip(&[json.as_bytes(), &blob].concat());
    let answer = server
        .send(request(Method::POST, ECHO, &headers, body))
        .await;
    assert_eq!(answer.json(), server.ask(ECHO, GOOD).await);
}

#[tokio::test]
async fn what_a_body_inflates_to_has_the_limit_of_bodies() {
    let server = TestServer::start();
    let padded = |bytes: usize| format!("{GOOD}{}", " ".repeat(bytes - GOOD.len()));
    let whole = post(
        &server,
        ECHO,
        "gzip",
        gzip(padded(MAX_BODY_BYTES).as_bytes()),
    )
    .await;
    assert_eq!(whole.status, 200, "{whole:?}");
    for bytes in [MAX_BODY_BYTES + 1, 1 << 20] {
        let over = post(&server, ECHO, "gzip", gzip(padded(bytes).as_bytes())).await;
        assert_eq!(over.status, 413, "{over:?}");
    }
}

#[tokio::test]
async fn large_answers_are_compressed_for_those_who_ask() {
    let server = TestServer::start();
    let page = async |path: &str, accept: &str| {
        let headers = [("accept-encoding", accept)];
        server.send(request(Method::GET, path, &headers, "")).await
    };
    // Errors and small answers go as they are.
    let small = page("/v2", "gzip").await;
    assert_eq!(small.header("content-encoding"), None);
    assert_eq!(small.header("vary"), None);

    let plain = server.get("/v2/models/stats").await;
    assert_eq!(plain.header("content-encoding"), None);
    assert_eq!(plain.header("vary"), Some("accept-encoding"));
    let refused = page("/v2/models/stats", "br, gzip;q=0").await;
    assert_eq!(refused.bytes, plain.bytes);

    let gzip = page("/v2/models/stats", "gzip, deflate, br").await;
    assert_eq!(gzip.header("content-encoding"), Some("gzip"));
    assert_eq!(gzip.header("vary"), Some("accept-encoding"));
    assert_eq!(gzip.header("content-type"), Some("application/json"));
    assert!(gzip.bytes.len() < plain.bytes.len() / 2);
    let mut text = String::new();
    GzDecoder::new(&*gzip.bytes)
        .read_to_string(&mut text)
        .unwrap();
    assert_eq!(text, plain.body);

    let zstandard = page("/v2/models/stats", "gzip, zstd").await;
    assert_eq!(zstandard.header("content-encoding"), Some("zstd"));
    let text = zstd::decode_all(&*zstandard.bytes).unwrap();
    assert_eq!(text, plain.bytes);

    let deflate = page("/v2/models/stats", "deflate").await;
    assert_eq!(deflate.header("content-encoding"), Some("deflate"));
    let mut text = String::new();
    ZlibDecoder::new(&*deflate.bytes)
        .read_to_string(&mut text)
        .unwrap();
    assert_eq!(text, plain.body);
}
