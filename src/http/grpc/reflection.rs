//! What services and messages there are, for clients that have no files of the protocol.
//!
//! Source: `reflection.proto` of gRPC; its versions 1 and 1alpha differ in their names alone.

use std::collections::{HashMap, HashSet};
use std::sync::LazyLock;

use bytes::Bytes;

use super::answer::{Sender, framed};
use super::call::{Streaming, until_closing};
use super::fields::{Fields, Malformed};
use super::messages::Messages;
use super::proto::DESCRIPTORS;
use super::proto::grpc::reflection::v1::server_reflection_request::MessageRequest;
use super::proto::grpc::reflection::v1::server_reflection_response::MessageResponse;
use super::proto::grpc::reflection::v1::{
    ErrorResponse, FileDescriptorResponse, ListServiceResponse, ServerReflectionRequest,
    ServerReflectionResponse, ServiceResponse,
};
use super::status::Code;
use crate::http::answer::Response;
use crate::http::body::RequestBody;
use crate::http::error::ApiError;
use crate::metrics::Route;

pub(super) const SERVICE: &str = "grpc.reflection.v1.ServerReflection";
pub(super) const OLD_SERVICE: &str = "grpc.reflection.v1alpha.ServerReflection";

/// Answers a client's questions until it has no more.
pub(super) async fn answer(
    streaming: Streaming,
    mut messages: Messages<impl RequestBody>,
    sender: Sender,
) -> Result<(), Response> {
    let server = &streaming.server;
    streaming.exchange.set_route(Route::GrpcHealth);
    let limits = &server.app.limits;
    loop {
        let begun = until_closing(server, messages.begin(limits)).await;
        let begun = begun.transpose().map_err(ApiError::into_answer)?;
        let Some(begun) = begun.flatten() else {
            return Ok(());
        };
        let request: ServerReflectionRequest = {
            let mut share = server.budget.whole_share();
            let request = messages.small_of(begun, limits, &mut share).await;
            request.map_err(ApiError::into_answer)?
        };
        let response = ServerReflectionResponse {
            valid_host: request.host.clone(),
            message_response: Some(FILES.answer(request.message_request.as_ref())),
            original_request: Some(request),
        };
        sender.send(framed(&response).into()).await;
    }
}

static FILES: LazyLock<Files> =
    LazyLock::new(|| Files::read(DESCRIPTORS).expect("what build.rs wrote is a set of files"));

/// The files of the protocols, each as its descriptor.
#[derive(Debug, Default)]
struct Files {
    files: Vec<File>,
    by_name: HashMap<&'static str, usize>,
    /// Services, methods, messages and enums, by their full names.
    by_symbol: HashMap<String, usize>,
    services: Vec<String>,
}

/// What a descriptor describes: a message with messages and enums within, a service with methods, or
/// what has no names within that are asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Message,
    Service,
    Leaf,
}

#[derive(Debug, Default)]
struct File {
    descriptor: Bytes,
    imports: Vec<&'static str>,
}

impl Files {
    /// Reads a `FileDescriptorSet`. The numbers of fields are those of `descriptor.proto`.
    fn read(set: &'static [u8]) -> Result<Self, Malformed> {
        let mut all = Self::default();
        let mut set = Fields::of(set);
        while let Some((_, file)) = set.next()? {
            all.add(file.bytes()?)?;
        }
        Ok(all)
    }

    fn add(&mut self, descriptor: &'static [u8]) -> Result<(), Malformed> {
        let index = self.files.len();
        let mut file = File {
            descriptor: Bytes::from_static(descriptor),
            imports: Vec::new(),
        };
        let (mut package, mut messages, mut services, mut enums) = ("", vec![], vec![], vec![]);
        let mut fields = Fields::of(descriptor);
        while let Some((number, value)) = fields.next()? {
            match number {
                1 => {
                    self.by_name.insert(value.text()?, index);
                }
                2 => package = value.text()?,
                3 => file.imports.push(value.text()?),
                4 => messages.push(value.fields()?),
                5 => enums.push(value.fields()?),
                6 => services.push(value.fields()?),
                _ => {}
            }
        }
        self.files.push(file);
        for message in messages {
            self.add_symbols(index, package, message, Kind::Message)?;
        }
        for service in services {
            let name = self.add_symbols(index, package, service, Kind::Service)?;
            self.services.push(name);
        }
        for of_enum in enums {
            self.add_symbols(index, package, of_enum, Kind::Leaf)?;
        }
        Ok(())
    }

    /// Adds what a descriptor describes, and what is described within; returns its name.
    fn add_symbols(
        &mut self,
        file: usize,
        scope: &str,
        descriptor: Fields<'_>,
        kind: Kind,
    ) -> Result<String, Malformed> {
        let mut fields = descriptor;
        let mut name = String::new();
        while let Some((number, value)) = fields.next()? {
            if number == 1 {
                name = format!("{scope}.{}", value.text()?);
            }
        }
        self.by_symbol.insert(name.clone(), file);
        let mut fields = descriptor;
        while let Some((number, value)) = fields.next()? {
            let within = match (kind, number) {
                (Kind::Message, 3) => Kind::Message,
                (Kind::Message, 4) | (Kind::Service, 2) => Kind::Leaf,
                _ => continue,
            };
            self.add_symbols(file, &name, value.fields()?, within)?;
        }
        Ok(name)
    }

    fn answer(&self, question: Option<&MessageRequest>) -> MessageResponse {
        let found = match question {
            Some(MessageRequest::ListServices(_)) => {
                let services = self.services.iter().cloned();
                return MessageResponse::ListServicesResponse(ListServiceResponse {
                    service: services.map(|name| ServiceResponse { name }).collect(),
                });
            }
            Some(MessageRequest::FileByFilename(name)) => self.by_name.get(&**name),
            Some(MessageRequest::FileContainingSymbol(symbol)) => self.by_symbol.get(symbol),
            // Version 3 of the language has no extensions.
            Some(
                MessageRequest::FileContainingExtension(_)
                | MessageRequest::AllExtensionNumbersOfType(_),
            )
            | None => None,
        };
        match found {
            Some(&file) => MessageResponse::FileDescriptorResponse(FileDescriptorResponse {
                file_descriptor_proto: self.with_imports(file),
            }),
            None => MessageResponse::ErrorResponse(ErrorResponse {
                error_code: Code::NotFound as i32,
                error_message: "no such file or symbol; ask with list_services for what there is"
                    .to_owned(),
            }),
        }
    }

    /// A file and all that it imports, itself first.
    fn with_imports(&self, file: usize) -> Vec<Bytes> {
        let mut seen = HashSet::from([file]);
        let mut open = vec![file];
        let mut found = Vec::new();
        while let Some(index) = open.pop() {
            let file = &self.files[index];
            found.push(file.descriptor.clone());
            let imports = file
                .imports
                .iter()
                .filter_map(|name| self.by_name.get(name));
            open.extend(imports.filter(|import| seen.insert(**import)));
        }
        found
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn symbols_are_found_in_their_files() {
        for symbol in [
            "inference.GRPCInferenceService",
            "inference.GRPCInferenceService.ModelInfer",
            "inference.ModelInferRequest.InferInputTensor",
            "inference.DataType",
            "tensorflow.serving.PredictionService",
            "grpc.health.v1.HealthCheckResponse.ServingStatus",
        ] {
            let question = MessageRequest::FileContainingSymbol(symbol.to_owned());
            let answer = FILES.answer(Some(&question));
            let MessageResponse::FileDescriptorResponse(files) = answer else {
                panic!("{symbol}: {answer:?}");
            };
            assert!(!files.file_descriptor_proto.is_empty());
        }
        let unknown = MessageRequest::FileContainingSymbol("inference.Nothing".to_owned());
        assert!(matches!(
            FILES.answer(Some(&unknown)),
            MessageResponse::ErrorResponse(_)
        ));
    }

    #[test]
    fn a_file_comes_with_its_imports() {
        let question = MessageRequest::FileByFilename("tensorflow/serving.proto".to_owned());
        let MessageResponse::FileDescriptorResponse(files) = FILES.answer(Some(&question)) else {
            panic!();
        };
        assert_eq!(files.file_descriptor_proto.len(), 4);
    }
}
