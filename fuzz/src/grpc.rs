//! Messages of gRPC, without a connection.

use bytes::Bytes;
use http::{HeaderMap, Request};
use http_body_util::{BodyExt, Full};
use safeserve::http::GrpcRoutes;

use super::choose;
use super::requests::{ROUTES, RUNTIME};

/// The message of a call, after the byte that names its method.
pub fn grpc(data: &[u8]) {
    const METHODS: &[&str] = &[
        "/inference.GRPCInferenceService/ModelInfer",
        "/tensorflow.serving.PredictionService/Predict",
        "/tensorflow.serving.PredictionService/Classify",
        "/tensorflow.serving.PredictionService/Regress",
        "/inference.GRPCInferenceService/ModelMetadata",
        "/tensorflow.serving.ModelService/GetModelStatus",
        "/grpc.health.v1.Health/Check",
        "/inference.GRPCInferenceService/ModelStatistics",
    ];
    let Some((path, message)) = choose(data, METHODS) else {
        return;
    };
    let length = u32::try_from(message.len()).unwrap().to_be_bytes();
    let request = Request::post(*path)
        .header("content-type", "application/grpc")
        .body(Full::new(Bytes::from(
            [&[0], &length[..], message].concat(),
        )))
        .unwrap();
    let routes = ROUTES.with(GrpcRoutes::new);
    let (head, body) = RUNTIME.with(|runtime| {
        runtime.block_on(async {
            let (head, body) = routes.answer(request).await.into_parts();
            (head, body.collect().await.unwrap())
        })
    });
    let status = |headers: &HeaderMap| headers.get("grpc-status")?.to_str().ok()?.parse().ok();
    let status: Option<u8> = status(&head.headers).or_else(|| status(body.trailers()?));
    let bytes = body.to_bytes();
    match status {
        Some(0) => {
            let (prefix, message) = bytes.split_at_checked(5).expect("a prefix");
            let length = u32::from_be_bytes(prefix[1..].try_into().unwrap());
            assert_eq!((prefix[0], length as usize), (0, message.len()));
        }
        // Refused for what is in it; 4 and 14 for deadlines and models that the corpus asks for.
        Some(3 | 4 | 5 | 8 | 11 | 14) => {
            assert!(bytes.is_empty() && head.headers.contains_key("grpc-message"));
        }
        other => panic!("a status that no client should cause: {other:?}"),
    }
}
