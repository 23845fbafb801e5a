//! One call of a method: what it gets, and how the message of a predict request is received.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;

use super::messages::{Messages, in_time};
use crate::http::body::RequestBody;
use crate::http::budget::Share;
use crate::http::error::ApiError;
use crate::http::exchange::Exchange;
use crate::http::predict::Admitted;
use crate::http::state::Server;
use crate::messages::excerpt;
use crate::metrics::Route;

/// What every method gets.
pub(in crate::http) struct Call<'a> {
    pub(in crate::http) server: &'a Server,
    pub(in crate::http) exchange: &'a Exchange,
    /// How long the client waits, if it says so.
    pub(in crate::http) asked: Option<Duration>,
}

impl Call<'_> {
    /// Sets the sort of method that this is.
    pub(in crate::http) fn set_route(&self, route: Route) {
        self.exchange.set_route(route);
    }

    pub(in crate::http) fn unknown_method(&self) -> ApiError {
        ApiError::UnknownMethod {
            path: excerpt(self.exchange.head.uri.path(), 80),
        }
    }
}

/// What streams of answers are made of.
#[derive(Clone)]
pub(in crate::http) struct Streaming {
    pub(in crate::http) server: Arc<Server>,
    pub(in crate::http) exchange: Arc<Exchange>,
    pub(in crate::http) asked: Option<Duration>,
}

impl Streaming {
    /// How long the client still waits, if it says so.
    pub(in crate::http) fn asked(&self) -> Option<Duration> {
        let waited = self.exchange.started.elapsed();
        self.asked.map(|asked| asked.saturating_sub(waited))
    }

    /// The exchange of one of the stream's messages.
    pub(in crate::http) fn next_exchange(&self) -> Exchange {
        self.exchange.again()
    }
}

/// Reads the message of a predict request, and finds its model: `find` is asked what the start of the
/// message says, and what all of it does. A large message for a model that is not there, or that has
/// no room, is not read. Fields may come in any order, and the last of a kind counts: `agree` says
/// whether a start and all of the message name the same model.
///
/// # Errors
/// What is wrong with the message or its model.
pub(in crate::http) async fn receive<'s>(
    call: &Call<'s>,
    mut messages: Messages<impl RequestBody>,
    find: impl Fn(&[u8], MessagePart) -> Result<Option<Admitted<'s>>, ApiError>,
    agree: impl Fn(&[u8], &[u8]) -> bool,
) -> Result<(Admitted<'s>, Bytes, Share<'s>), ApiError> {
    let server = call.server;
    let limits = &server.app.limits;
    let begun = in_time(limits, messages.begin(limits)).await?;
    let begun = begun.ok_or(ApiError::BodyBroken)?;
    let start = in_time(limits, messages.start(begun)).await?;
    let start_bytes = start.len();
    let mut admitted = find(start, MessagePart::Start)?;
    if let Some(admitted) = &mut admitted {
        admitted.refuse_unread(begun.bytes as u64)?;
    }
    let mut share = server.budget.whole_share();
    let message = messages.finish(begun, limits, &mut share).await;
    let message = match &admitted {
        Some(admitted) => admitted.counted(message),
        None => message,
    }?;
    let start = &message[..start_bytes.min(message.len())];
    let admitted = match admitted {
        Some(admitted) if agree(start, &message) => Some(admitted),
        _ => find(&message, MessagePart::All)?,
    };
    let mut admitted = admitted.expect("all of a message says which model it is for, or none");
    admitted.refuse()?;
    Ok((admitted, message, share))
}

/// How much of a message there is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::http) enum MessagePart {
    /// Perhaps not all.
    Start,
    All,
}

/// When the message of a stream that is awaited is not awaited any more, because the server closes.
pub(in crate::http) async fn until_closing<T>(
    server: &Server,
    next: impl Future<Output = T>,
) -> Option<T> {
    let lifecycle = &server.app.lifecycle;
    tokio::select! {
        biased;
        next = next => Some(next),
        () = lifecycle.until(|lifecycle| lifecycle.is_closing().then_some(())) => None,
    }
}
