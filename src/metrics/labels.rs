//! The closed sets that label values come from. Nothing a client sends becomes a label.

/// Defines an enum whose variants are all the values of one label.
macro_rules! label {
    ($(#[$meta:meta])* $name:ident { $($(#[$doc:meta])* $variant:ident => $text:literal,)+ }) => {
        $(#[$meta])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        pub enum $name { $($(#[$doc])* $variant,)+ }

        impl $name {
            /// Every value, in the order of declaration.
            pub const ALL: &'static [Self] = &[$(Self::$variant),+];

            /// The text of the label.
            #[must_use]
            pub const fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $text,)+ }
            }
        }

        impl Label for $name {
            const ALL: &'static [Self] = Self::ALL;

            fn index(self) -> usize {
                self as usize
            }

            fn text(self) -> &'static str {
                self.as_str()
            }
        }
    };
}

/// A label with a closed set of values, so that its handles fit an array.
pub(super) trait Label: Copy + 'static {
    /// Every value, in the order of [`Label::index`].
    const ALL: &'static [Self];

    /// The place of this value in [`Label::ALL`].
    fn index(self) -> usize;

    /// The text of the label.
    fn text(self) -> &'static str;
}

label! {
    /// The wire format of a predict request.
    Protocol {
        /// TensorFlow Serving's REST API and KServe's first protocol.
        V1 => "v1",
        /// The Open Inference Protocol.
        V2 => "v2",
        /// CSV or JSON lines, on the route of the first.
        Table => "table",
        /// MLflow's and SageMaker's `/invocations`.
        Invocations => "invocations",
        /// Vertex AI's path of predictions.
        Vertex => "vertex",
        /// The first two over gRPC.
        Grpc => "grpc",
    }
}

label! {
    /// What made a worker take a batch.
    Release {
        /// It held as many rows as a batch may, or the next request would not have fitted.
        Full => "full",
        /// The worker was free and took all that waited.
        Idle => "idle",
        /// Its oldest row had waited as long as a batch may be held.
        Delay => "delay",
        /// The plan is cheap and the queue was empty: computed where the request was decoded.
        Inline => "inline",
    }
}

label! {
    /// Why a well-formed request got no answer from its model.
    Rejection {
        /// The queue had no room for its rows.
        QueueFull => "queue_full",
        /// The bodies and rows of all requests took the memory that they may.
        Memory => "memory",
        /// Its deadline passed, or could not be met.
        Deadline => "deadline",
        /// The client left.
        Cancelled => "cancelled",
        /// The server or the model was shutting down.
        Closing => "closing",
        /// The model's answer was not finite.
        NonFinite => "non_finite",
        /// The forward pass panicked.
        Panic => "panic",
    }
}

label! {
    /// A model version's state in the repository.
    ModelState {
        /// Being read and prepared, or waited for.
        Loading => "loading",
        /// Serving.
        Ready => "ready",
        /// Refused.
        Unavailable => "unavailable",
        /// Finishing its last requests.
        Unloading => "unloading",
    }
}

label! {
    /// How a try to load a version's files ended.
    LoadResult {
        /// They serve.
        Loaded => "loaded",
        /// They are what serves already, byte for byte.
        Unchanged => "unchanged",
        /// They are not complete.
        Incomplete => "incomplete",
        /// They cannot be served.
        Refused => "refused",
    }
}

label! {
    /// The kind of an HTTP request's path.
    Route {
        /// V2 infer.
        V2Infer => "v2_infer",
        /// V2 metadata of the server.
        V2Server => "v2_server",
        /// V2 metadata of a model.
        V2Model => "v2_model",
        /// V2 readiness of a model.
        V2ModelReady => "v2_model_ready",
        /// V2 configuration of a model.
        V2Config => "v2_config",
        /// V2 statistics of models.
        V2Stats => "v2_stats",
        /// The index of the model repository.
        V2Index => "v2_index",
        /// V1 `:predict`.
        V1Predict => "v1_predict",
        /// V1 `:classify`.
        V1Classify => "v1_classify",
        /// V1 `:regress`.
        V1Regress => "v1_regress",
        /// V1 `:explain`, which no model has.
        V1Explain => "v1_explain",
        /// MLflow's and SageMaker's `/invocations`.
        Invocations => "invocations",
        /// Vertex AI's path of predictions.
        VertexPredict => "vertex_predict",
        /// The list of models.
        V1Models => "v1_models",
        /// Status of a model.
        V1Model => "v1_model",
        /// V1 metadata of a model.
        V1Metadata => "v1_metadata",
        /// `ModelInfer` over gRPC.
        GrpcInfer => "grpc_infer",
        /// A message of `ModelStreamInfer` over gRPC.
        GrpcStreamInfer => "grpc_stream_infer",
        /// What the Open Inference Protocol says of the server and its models over gRPC.
        GrpcModels => "grpc_models",
        /// TensorFlow Serving's `Predict` over gRPC.
        GrpcPredict => "grpc_predict",
        /// TensorFlow Serving's `Classify` over gRPC.
        GrpcClassify => "grpc_classify",
        /// TensorFlow Serving's `Regress` over gRPC.
        GrpcRegress => "grpc_regress",
        /// TensorFlow Serving's status and metadata of models over gRPC.
        GrpcStatus => "grpc_status",
        /// Health checks and reflection over gRPC.
        GrpcHealth => "grpc_health",
        /// Liveness and readiness of the server.
        Health => "health",
        /// This page.
        Metrics => "metrics",
        /// The description of the API, and its page.
        Docs => "docs",
        /// The operators' API.
        Admin => "admin",
        /// Every other path.
        Other => "other",
    }
}

label! {
    /// Why a connection was refused before its first request was read.
    Refusal {
        /// As many connections as allowed are open.
        Limit => "limit",
    }
}

label! {
    /// What ended a connection.
    Closed {
        /// The client closed it, or either side said `Connection: close`.
        Done => "done",
        /// A request's head took longer than allowed.
        HeaderTimeout => "header_timeout",
        /// It was idle for longer than allowed between requests.
        IdleTimeout => "idle_timeout",
        /// The client did not read its answer.
        WriteTimeout => "write_timeout",
        /// What came was not HTTP/1.1, or framed ambiguously.
        Malformed => "malformed",
        /// The TLS handshake failed.
        TlsHandshake => "tls_handshake",
        /// The transport failed.
        Io => "io",
        /// The server's drain ran out of time.
        Drain => "drain",
    }
}

label! {
    /// A file that is read again when it changes.
    WatchedFile {
        /// The keys of clients.
        ApiKeys => "api_keys",
        /// The keys of operators.
        AdminKeys => "admin_keys",
        /// The certificate, its key and the clients' authorities.
        Tls => "tls",
    }
}

label! {
    /// An HTTP status code that this server answers with; all others count as `other`.
    Code {
        /// 200
        Ok => "200",
        /// 400
        BadRequest => "400",
        /// 401
        Unauthorized => "401",
        /// 403
        Forbidden => "403",
        /// 404
        NotFound => "404",
        /// 405
        MethodNotAllowed => "405",
        /// 408
        RequestTimeout => "408",
        /// 413
        ContentTooLarge => "413",
        /// 414
        UriTooLong => "414",
        /// 415
        UnsupportedMediaType => "415",
        /// 422
        UnprocessableContent => "422",
        /// 431
        HeadersTooLarge => "431",
        /// 499, by nginx's habit: the client left before its answer.
        ClientLeft => "499",
        /// 500
        InternalError => "500",
        /// 501
        NotImplemented => "501",
        /// 503
        Unavailable => "503",
        /// 504
        GatewayTimeout => "504",
        /// Any other code.
        Other => "other",
    }
}

impl Code {
    /// The label of a status code.
    #[must_use]
    pub const fn from_status(status: u16) -> Self {
        match status {
            200 => Self::Ok,
            400 => Self::BadRequest,
            401 => Self::Unauthorized,
            403 => Self::Forbidden,
            404 => Self::NotFound,
            405 => Self::MethodNotAllowed,
            408 => Self::RequestTimeout,
            413 => Self::ContentTooLarge,
            414 => Self::UriTooLong,
            415 => Self::UnsupportedMediaType,
            422 => Self::UnprocessableContent,
            431 => Self::HeadersTooLarge,
            499 => Self::ClientLeft,
            500 => Self::InternalError,
            501 => Self::NotImplemented,
            503 => Self::Unavailable,
            504 => Self::GatewayTimeout,
            _ => Self::Other,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_known_status_code_has_its_own_label() {
        for &code in Code::ALL {
            match code.as_str().parse() {
                Ok(status) => assert_eq!(Code::from_status(status), code),
                Err(_) => assert_eq!(code, Code::Other),
            }
        }
        assert_eq!(Code::from_status(418), Code::Other);
        assert_eq!(Code::from_status(0), Code::Other);
    }

    #[test]
    fn the_index_of_a_value_is_its_place_among_all() {
        for (place, &route) in Route::ALL.iter().enumerate() {
            assert_eq!(route.index(), place);
        }
    }
}
