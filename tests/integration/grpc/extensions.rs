//! What the services say about the server and its models, streams, health and reflection.

use tokio_stream::iter;
use tonic::Code;

use super::infer::{numbers, typed};
use super::server::proto::grpc::health::v1::{HealthCheckRequest, HealthCheckResponse};
use super::server::proto::grpc::reflection::v1 as reflection;
use super::server::proto::inference;
use super::server::{Serving, refused};

const V2: &str = "inference.GRPCInferenceService";

macro_rules! ask {
    ($client:expr, $method:literal, $request:expr) => {
        $client
            .call(
                concat!("/inference.GRPCInferenceService/", $method),
                $request,
            )
            .await
    };
}

#[tokio::test]
async fn the_server_and_its_models_are_described() {
    let server = Serving::start(&[]).await;
    let client = server.client().await;
    let live: inference::ServerLiveResponse =
        ask!(client, "ServerLive", inference::ServerLiveRequest {}).unwrap();
    let ready: inference::ServerReadyResponse =
        ask!(client, "ServerReady", inference::ServerReadyRequest {}).unwrap();
    assert!(live.live && ready.ready);
    let about: inference::ServerMetadataResponse = ask!(
        client,
        "ServerMetadata",
        inference::ServerMetadataRequest {}
    )
    .unwrap();
    assert_eq!(about.name, "safeserve");
    assert!(about.extensions.contains(&"statistics".to_owned()));

    let model_ready = async |name: &str| -> Result<inference::ModelReadyResponse, _> {
        let request = inference::ModelReadyRequest {
            name: name.to_owned(),
            ..Default::default()
        };
        ask!(client, "ModelReady", request)
    };
    assert!(model_ready("echo").await.unwrap().ready);
    assert!(!model_ready("broken").await.unwrap().ready);
    refused(model_ready("nothing").await, Code::NotFound, "nothing");

    let request = inference::ModelMetadataRequest {
        name: "echo".to_owned(),
        ..Default::default()
    };
    let metadata: inference::ModelMetadataResponse =
        ask!(client, "ModelMetadata", request).unwrap();
    assert_eq!(metadata.versions, ["2", "3"]);
    assert_eq!(metadata.inputs[0].shape, [-1, 2]);
    assert_eq!(metadata.outputs[0].datatype, "FP32");

    let request = inference::ModelConfigRequest {
        name: "echo".to_owned(),
        version: "2".to_owned(),
    };
    let config: inference::ModelConfigResponse = ask!(client, "ModelConfig", request).unwrap();
    let config = config.config.unwrap();
    assert_eq!(config.max_batch_size, 4096);
    assert_eq!(config.input[0].dims, [2]);
    assert!(config.dynamic_batching.is_some());

    client
        .infer(typed("echo", &[("x", &[2, 2], &[0.0; 4])]))
        .await
        .unwrap();
    let request = inference::ModelStatisticsRequest {
        name: "echo".to_owned(),
        version: "3".to_owned(),
    };
    let statistics: inference::ModelStatisticsResponse =
        ask!(client, "ModelStatistics", request).unwrap();
    assert_eq!(statistics.model_stats[0].inference_count, 2);
    let all: inference::ModelStatisticsResponse = ask!(
        client,
        "ModelStatistics",
        inference::ModelStatisticsRequest::default()
    )
    .unwrap();
    assert!(all.model_stats.len() > 5);

    let index = async |ready: bool| -> inference::RepositoryIndexResponse {
        let request = inference::RepositoryIndexRequest {
            ready,
            ..Default::default()
        };
        ask!(client, "RepositoryIndex", request).unwrap()
    };
    let broken = |index: inference::RepositoryIndexResponse| {
        index
            .models
            .into_iter()
            .find(|model| model.name == "broken")
    };
    let entry = broken(index(false).await).unwrap();
    assert_eq!(entry.state, "UNAVAILABLE");
    assert!(!entry.reason.is_empty());
    assert_eq!(broken(index(true).await), None);
}

#[tokio::test]
async fn models_are_loaded_by_operators_alone_and_other_methods_are_not_there() {
    let server = Serving::start(&[]).await;
    let client = server.client().await;
    let loaded: Result<inference::RepositoryModelLoadResponse, _> = ask!(
        client,
        "RepositoryModelLoad",
        inference::RepositoryModelLoadRequest::default()
    );
    refused(loaded, Code::PermissionDenied, "admin.bind");
    let unloaded: Result<inference::RepositoryModelUnloadResponse, _> = ask!(
        client,
        "RepositoryModelUnload",
        inference::RepositoryModelUnloadRequest::default()
    );
    refused(unloaded, Code::PermissionDenied, "admin.bind");
    let other: Result<inference::ServerLiveResponse, _> =
        ask!(client, "TraceSetting", inference::ServerLiveRequest {});
    refused(other, Code::Unimplemented, "TraceSetting");
}

#[tokio::test]
async fn a_stream_goes_on_behind_a_bad_message() {
    let server = Serving::start(&[]).await;
    let requests: Vec<_> = [
        ("a", 2.0, "echo"),
        ("b", 3.0, "nothing"),
        ("c", 4.0, "echo"),
    ]
    .map(|(id, value, model)| inference::ModelInferRequest {
        id: id.to_owned(),
        ..typed(model, &[("x", &[1, 2], &[value; 2])])
    })
    .into();
    let client = server.client().await;
    let mut answers = client
        .stream::<_, inference::ModelStreamInferResponse>(
            "/inference.GRPCInferenceService/ModelStreamInfer",
            iter(requests),
        )
        .await
        .unwrap();
    let mut seen = Vec::new();
    while let Some(answer) = answers.message().await.unwrap() {
        let response = answer.infer_response.unwrap();
        let values = match &*answer.error_message {
            "" => numbers(&response, 0),
            error => {
                assert!(error.contains("nothing"), "{error}");
                Vec::new()
            }
        };
        seen.push((response.id, values));
    }
    let expected = [("a", vec![2.0; 2]), ("b", vec![]), ("c", vec![4.0; 2])];
    assert_eq!(seen, expected.map(|(id, values)| (id.to_owned(), values)));
    server
        .until("each message is counted", || {
            let route = |code, count| {
                format!("safeserve_http_requests_total{{code=\"{code}\",route=\"grpc_stream_infer\"}} {count}")
            };
            server.shows(&route(200, 2)) && server.shows(&route(404, 1))
        })
        .await;
}

#[tokio::test]
async fn health_is_told_of_the_server_and_its_services() {
    let server = Serving::start(&[]).await;
    let client = server.client().await;
    let check = async |service: &str| -> Result<HealthCheckResponse, _> {
        let request = HealthCheckRequest {
            service: service.to_owned(),
        };
        client.call("/grpc.health.v1.Health/Check", request).await
    };
    for service in ["", V2, "tensorflow.serving.PredictionService"] {
        assert_eq!(check(service).await.unwrap().status, 1);
    }
    refused(
        check("x").await,
        Code::NotFound,
        "no service is named \"x\"",
    );
    server.lifecycle.drain();
    assert_eq!(check("").await.unwrap().status, 2);
}

#[tokio::test]
async fn reflection_lists_the_services_in_both_versions() {
    let server = Serving::start(&[]).await;
    let client = server.client().await;
    for path in [
        "/grpc.reflection.v1.ServerReflection/ServerReflectionInfo",
        "/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo",
    ] {
        use reflection::server_reflection_request::MessageRequest;
        use reflection::server_reflection_response::MessageResponse;
        let questions = [
            MessageRequest::ListServices(String::new()),
            MessageRequest::FileContainingSymbol(V2.to_owned()),
            MessageRequest::FileByFilename("nothing.proto".to_owned()),
        ];
        let requests = questions.map(|question| reflection::ServerReflectionRequest {
            host: "h".to_owned(),
            message_request: Some(question),
        });
        let mut answers = client
            .stream::<_, reflection::ServerReflectionResponse>(path, iter(requests))
            .await
            .unwrap();
        let mut next = async || answers.message().await.unwrap().unwrap().message_response;
        let Some(MessageResponse::ListServicesResponse(list)) = next().await else {
            panic!();
        };
        let mut names: Vec<_> = list
            .service
            .into_iter()
            .map(|service| service.name)
            .collect();
        names.sort();
        assert_eq!(
            names,
            [
                "grpc.health.v1.Health",
                "grpc.reflection.v1.ServerReflection",
                "grpc.reflection.v1alpha.ServerReflection",
                V2,
                "tensorflow.serving.ModelService",
                "tensorflow.serving.PredictionService",
            ]
        );
        let Some(MessageResponse::FileDescriptorResponse(files)) = next().await else {
            panic!();
        };
        assert_eq!(files.file_descriptor_proto.len(), 2);
        let Some(MessageResponse::ErrorResponse(error)) = next().await else {
            panic!();
        };
        assert_eq!(error.error_code, 5);
    }
}
