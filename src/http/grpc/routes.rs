//! The listener's routes: which service and method a path names.

use std::sync::Arc;
use std::time::Duration;

use http::header::CONTENT_TYPE;
use http::{Method, Request};

use super::answer::{self, GrpcBody};
use super::call::{Call, Streaming};
use super::messages::Messages;
use super::timeout::asked_by;
use super::{health, reflection};
use crate::http::answer::Response;
use crate::http::body::RequestBody;
use crate::http::error::ApiError;
use crate::http::exchange::{self, Exchange};
use crate::http::routes::Routes;
use crate::http::state::Server;
use crate::http::{access, v1, v2};

/// The gRPC services.
#[derive(Clone, Debug)]
pub struct GrpcRoutes {
    server: Arc<Server>,
}

impl GrpcRoutes {
    /// The services over what `routes` serve, within the same limits.
    #[must_use]
    pub fn new(routes: &Routes) -> Self {
        Self {
            server: Arc::clone(&routes.server),
        }
    }

    /// Answers one request. Of its body no more is read than its method wants.
    pub async fn answer(&self, request: Request<impl RequestBody>) -> http::Response<GrpcBody> {
        let (head, body) = request.into_parts();
        let media_type = head.headers.get(CONTENT_TYPE);
        let is_grpc =
            media_type.is_some_and(|value| value.as_bytes().starts_with(b"application/grpc"));
        if !is_grpc || head.method != Method::POST {
            return answer::not_grpc();
        }
        let messages = Messages::of(&head.headers, body);
        let exchange = Arc::new(Exchange::new(head));
        let app = &self.server.app;
        let path = exchange.head.uri.path();
        let (service, method) = path
            .strip_prefix('/')
            .and_then(|path| path.rsplit_once('/'))
            .unwrap_or_default();
        let streams = matches!(
            (service, method),
            (v2::SERVICE, "ModelStreamInfer")
                | (health::SERVICE, "Watch")
                | (reflection::SERVICE | reflection::OLD_SERVICE, _)
        );
        if streams && let Ok(asked) = self.admit(&exchange, service, method) {
            let streaming = Streaming {
                server: Arc::clone(&self.server),
                exchange: Arc::clone(&exchange),
                asked,
            };
            return match service {
                v2::SERVICE => {
                    answer::stream(|sender| v2::grpc_stream(streaming, messages, sender))
                }
                health::SERVICE => {
                    answer::stream(|sender| health::watch(streaming, messages, sender))
                }
                _ => answer::stream(|sender| reflection::answer(streaming, messages, sender)),
            };
        }
        let answered = async {
            let answer = self.unary(&exchange, service, method, messages).await;
            answer.unwrap_or_else(ApiError::into_answer)
        };
        answer::unary(exchange::carry(app, &exchange, answered).await)
    }

    /// Checks a request's key and its timeout.
    fn admit(
        &self,
        exchange: &Exchange,
        service: &str,
        method: &str,
    ) -> Result<Option<Duration>, ApiError> {
        let is_health = service == health::SERVICE
            || service == v2::SERVICE && matches!(method, "ServerLive" | "ServerReady");
        if let Some(keys) = &self.server.app.keys
            && !is_health
        {
            access::check(&keys.get(), exchange)?;
        }
        asked_by(&exchange.head.headers)
    }

    async fn unary(
        &self,
        exchange: &Exchange,
        service: &str,
        method: &str,
        messages: Messages<impl RequestBody>,
    ) -> Result<Response, ApiError> {
        let call = Call {
            server: &self.server,
            exchange,
            asked: self.admit(exchange, service, method)?,
        };
        match (service, method) {
            (v2::SERVICE, _) => v2::grpc(&call, method, messages).await,
            (v1::PREDICTION_SERVICE | v1::MODEL_SERVICE, _) => {
                v1::grpc(&call, service, method, messages).await
            }
            (health::SERVICE, "Check") => health::check(&call, messages).await,
            _ => Err(call.unknown_method()),
        }
    }
}
