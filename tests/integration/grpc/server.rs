//! A gRPC server in this process, and a client of it.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use http::Request;
use http::uri::PathAndQuery;
use prost::Message;
use safeserve::config::{Overrides, Settings};
use safeserve::http::{GrpcRoutes, Routes};
use safeserve::lifecycle::Lifecycle;
use safeserve::metrics::{Metrics, WatchedFile};
use safeserve::model::repository::ModelRepository;
use safeserve::scheduler::Scheduler;
use safeserve::server::{
    Certificates, Drained, Http2, IoThreads, Listen, Server, Stop, keys, routes,
};
use tempfile::TempDir;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;
use tokio_stream::Stream;
use tonic::client::Grpc;
use tonic::transport::{Channel, Endpoint};
use tonic::{Code, Status, Streaming};
use tonic_prost::ProstCodec;

use crate::http::server::{MODELS, add_model};
use crate::http::tokens::add_token_models;
use crate::parts;

/// The messages, as the server's own build makes them of the same files.
#[allow(clippy::all, dead_code, unreachable_pub)]
pub(super) mod proto {
    include!(concat!(env!("OUT_DIR"), "/protos.rs"));
}

pub(super) struct Serving {
    pub(super) address: SocketAddr,
    pub(super) routes: Routes,
    pub(super) lifecycle: Arc<Lifecycle>,
    pub(super) metrics: Metrics,
    pub(super) repository: Arc<ModelRepository>,
    pub(super) scheduler: Arc<Scheduler>,
    stop: Option<oneshot::Sender<Stop>>,
    running: JoinHandle<Drained>,
    _models: TempDir,
}

impl Serving {
    pub(super) async fn start(settings: &[&str]) -> Self {
        Self::start_with(settings, None).await
    }

    pub(super) async fn start_with(
        settings: &[&str],
        certificates: Option<Arc<Certificates>>,
    ) -> Self {
        let models = TempDir::new().unwrap();
        for (path, config) in MODELS {
            add_model(&models.path().join(path), config);
        }
        add_token_models(&models);
        let mut assignments = vec!["grpc.bind=127.0.0.1:0".to_owned()];
        assignments.extend(settings.iter().map(|&setting| setting.to_owned()));
        let config = Settings::load(Overrides {
            assignments,
            ..Overrides::default()
        })
        .unwrap()
        .config;
        let (metrics, scheduler) = (parts::metrics(), parts::scheduler());
        let repository = parts::repository(models.path(), &scheduler, &metrics);
        let lifecycle = Arc::new(Lifecycle::new());
        let file = config.server.api_keys.as_deref();
        let keys =
            file.map(|file| keys(WatchedFile::ApiKeys, "server.api_keys", file, &metrics).unwrap());
        let routes = routes(&config, &repository, &lifecycle, &metrics, keys);
        let server = Server::bind(
            Listen::for_grpc(&config, certificates).unwrap(),
            &config,
            Http2(GrpcRoutes::new(&routes)),
            Arc::clone(&lifecycle),
            metrics.clone(),
        )
        .await
        .unwrap();
        let address = server.address();
        let threads = Arc::new(IoThreads::start(2).unwrap());
        let (stop, stopped) = oneshot::channel();
        let running =
            tokio::spawn(server.run(threads, async { stopped.await.unwrap_or(Stop::Now) }));
        Self {
            address,
            routes,
            lifecycle,
            metrics,
            repository,
            scheduler,
            stop: Some(stop),
            running,
            _models: models,
        }
    }

    pub(super) async fn client(&self) -> Client {
        let endpoint = Endpoint::from_shared(format!("http://{}", self.address)).unwrap();
        Client(endpoint.connect().await.unwrap())
    }

    /// What REST answers.
    pub(super) async fn rest(&self, path: &str, body: &str) -> serde_json::Value {
        let request = Request::post(path)
            .body(Body::from(body.to_owned()))
            .unwrap();
        let answer = self.routes.answer(request).await;
        assert_eq!(answer.status(), 200, "{answer:?}");
        serde_json::from_slice(answer.body()).unwrap()
    }

    pub(super) fn stop(&mut self, stop: Stop) {
        self.stop.take().unwrap().send(stop).unwrap();
    }

    pub(super) async fn stopped(self) -> Drained {
        self.running.await.unwrap()
    }

    pub(super) fn queued_rows(&self, model: &str) -> usize {
        self.repository
            .find(model, None)
            .unwrap()
            .lane
            .queued_rows()
    }

    /// Whether a line is on the metrics page.
    pub(super) fn shows(&self, line: &str) -> bool {
        self.metrics.render().unwrap().lines().any(|l| l == line)
    }

    /// Waits for a state that the server's threads come to by themselves. The time only ends a test
    /// that fails.
    pub(super) async fn until(&self, state: &str, reached: impl Fn() -> bool) {
        let wait = async {
            while !reached() {
                tokio::task::yield_now().await;
            }
        };
        let waited = tokio::time::timeout(Duration::from_secs(60), wait).await;
        assert!(waited.is_ok(), "not reached: {state}");
    }
}

/// A connection of tonic's client.
#[derive(Clone)]
pub(super) struct Client(pub(super) Channel);

impl Client {
    /// Calls a method of one answer.
    pub(super) async fn call<Q, A>(
        &self,
        path: &'static str,
        request: impl tonic::IntoRequest<Q>,
    ) -> Result<A, Status>
    where
        Q: Message + 'static,
        A: Message + Default + 'static,
    {
        let mut client = Grpc::new(self.0.clone());
        client.ready().await.unwrap();
        let path = PathAndQuery::from_static(path);
        let codec = ProstCodec::<Q, A>::default();
        let answer = client.unary(request.into_request(), path, codec).await?;
        Ok(answer.into_inner())
    }

    /// Calls a method of many answers.
    pub(super) async fn stream<Q, A>(
        &self,
        path: &'static str,
        requests: impl Stream<Item = Q> + Send + 'static,
    ) -> Result<Streaming<A>, Status>
    where
        Q: Message + 'static,
        A: Message + Default + 'static,
    {
        let mut client = Grpc::new(self.0.clone());
        client.ready().await.unwrap();
        let path = PathAndQuery::from_static(path);
        let codec = ProstCodec::<Q, A>::default();
        let request = tonic::Request::new(requests);
        Ok(client.streaming(request, path, codec).await?.into_inner())
    }

    pub(super) async fn infer(
        &self,
        request: impl tonic::IntoRequest<proto::inference::ModelInferRequest>,
    ) -> Result<proto::inference::ModelInferResponse, Status> {
        self.call("/inference.GRPCInferenceService/ModelInfer", request)
            .await
    }
}

/// Checks how a call failed.
pub(super) fn refused<A: std::fmt::Debug>(answer: Result<A, Status>, code: Code, words: &str) {
    let status = answer.expect_err(words);
    assert_eq!(status.code(), code, "{status}");
    assert!(status.message().contains(words), "{}", status.message());
}
