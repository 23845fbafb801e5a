//! The way of a predict request, whatever its wire format.

use std::sync::Arc;
use std::time::Duration;

use http::{HeaderMap, Method};
use tokio::task::JoinHandle;

use super::answer::Response;
use super::body::{self, RequestBody, expect_json};
use super::budget::Share;
use super::coding::Coding;
use super::deadline::{asked_by, deadline};
use super::error::ApiError;
use super::exchange::Exchange;
use super::intake::Rows;
use super::state::Server;
use crate::metrics::{Protocol, Rejection};
use crate::model::repository::Served;
use crate::model::{Model, Output, OutputSource, Signature};
use crate::request::{InferError, InferRequest, InferResponse};
use crate::tensor::{Axis, DataType, TensorSpec, Values};

/// The size up to which reading a body costs less than another connection.
const SMALL_BODY_BYTES: u64 = 64 << 10;

/// The size from which on decoding a body takes so long, 1 ms and more, that the other connections
/// of its thread should not wait for it.
const LARGE_BODY_BYTES: usize = 512 << 10;

/// The number of values from which on writing an answer takes as long.
const LARGE_ANSWER_VALUES: usize = 64 << 10;

/// The longest text of a value with the comma after it: `-1.1754944e-38,` for single precision.
const SINGLE_TEXT_BYTES: usize = 15;
const DOUBLE_TEXT_BYTES: usize = 25;
const INTEGER_TEXT_BYTES: usize = 21;

/// The most that a byte of a string takes in JSON, as `\u0001` does.
const ESCAPED_BYTES: usize = 6;

/// The bytes of the answer to these rows, as values and as text, which are both there while the one is
/// written from the other.
fn answer_bytes(signature: &Signature, rows: &Rows) -> usize {
    let longest_label = || signature.labels.iter().map(String::len).max().unwrap_or(0);
    let outputs = signature.outputs.iter();
    let outputs = outputs.filter(|output| rows.finish || output.source == OutputSource::Engine);
    let bytes = outputs.map(|Output { spec, .. }| {
        let tokens = spec
            .shape
            .axis()
            .and_then(|Axis(axis)| rows.offsets.get(axis)?.last());
        let items = tokens.copied().unwrap_or(rows.rows);
        let value = match Values::empty(spec.datatype) {
            Values::F32(_) => size_of::<f32>() + SINGLE_TEXT_BYTES,
            Values::F64(_) => size_of::<f64>() + DOUBLE_TEXT_BYTES,
            Values::I64(_) => size_of::<i64>() + INTEGER_TEXT_BYTES,
            Values::Bytes(_) => size_of::<usize>() + 3 + (1 + ESCAPED_BYTES) * longest_label(),
        };
        items
            .saturating_mul(spec.shape.elements())
            .saturating_mul(value)
    });
    bytes.fold(0, usize::saturating_add)
}

/// Runs what takes long on a thread where no one waits for it, anything else here.
///
/// The request's share goes with it: a client that leaves frees none of the memory that the work
/// holds. Work that has not begun by then is not begun.
async fn off_thread<T: Send + 'static>(
    takes_long: bool,
    share: &mut Share<'_>,
    work: impl FnOnce() -> T + Send + 'static,
) -> T {
    if !takes_long {
        return work();
    }
    let held = share.hand_over();
    let mut working = Working(tokio::task::spawn_blocking(move || (work(), held)));
    match (&mut working.0).await {
        Ok((done, held)) => {
            share.take_back(held);
            done
        }
        Err(failed) => match failed.try_into_panic() {
            Ok(panic) => std::panic::resume_unwind(panic),
            // The process ends, and this request with it.
            Err(_cancelled) => std::future::pending().await,
        },
    }
}

/// Work for a client, who may leave.
struct Working<T>(JoinHandle<T>);

impl<T> Drop for Working<T> {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// A request that a model version was found for, on its way to its answer.
pub(super) struct Admitted<'a> {
    server: &'a Server,
    exchange: &'a Exchange,
    served: Arc<Served>,
    /// Why the request has no answer, if that is known already.
    refusal: Option<ApiError>,
}

impl<'a> Admitted<'a> {
    /// Finds the model version; `None` is the newest that is ready.
    ///
    /// # Errors
    /// There is none of that name, or it is not ready.
    pub(super) fn find(
        server: &'a Server,
        exchange: &'a Exchange,
        protocol: Protocol,
        name: &str,
        version: Option<&str>,
    ) -> Result<Self, ApiError> {
        let served = server.app.repository.find(name, version)?;
        exchange.set_model(protocol, &served);
        let refusal = served.lane.refuse().map(ApiError::Infer);
        Ok(Self {
            server,
            exchange,
            served,
            refusal,
        })
    }

    /// Refuses what is known to have no answer, before this many bytes of it are read.
    ///
    /// Shedding load has to cost less than the load: a large body is not read for it. A small one
    /// is, since the connection would have to close otherwise, and the next would cost more.
    ///
    /// # Errors
    /// The model's queue is full, or it closes.
    pub(super) fn refuse_unread(&mut self, bytes: u64) -> Result<(), ApiError> {
        match bytes > SMALL_BODY_BYTES {
            true => self.refuse(),
            false => Ok(()),
        }
    }

    /// Refuses what is known to have no answer.
    ///
    /// # Errors
    /// As [`Self::refuse_unread`].
    pub(super) fn refuse(&mut self) -> Result<(), ApiError> {
        self.refusal.take().map_or(Ok(()), Err)
    }

    /// Counts, for the model, what found no room in the budget.
    pub(super) fn counted<T>(&self, taken: Result<T, ApiError>) -> Result<T, ApiError> {
        if let Err(ApiError::BodiesOverBudget) = taken {
            self.served.metrics.rejected(Rejection::Memory);
        }
        taken
    }

    /// Decodes a body of this many bytes, which may become as many `decoded_bytes`, submits its rows
    /// and encodes the answer. `asked` is how long the head allows.
    ///
    /// # Errors
    /// All that can go wrong from there on.
    pub(super) async fn answer<F: Send + 'static>(
        self,
        mut share: Share<'_>,
        sizes: Sizes,
        asked: Option<Duration>,
        decode: impl FnOnce(&Signature, usize) -> Result<(F, Rows), ApiError> + Send + 'static,
        encode: impl FnOnce(F, &Model, &InferResponse) -> Result<http::Response<Vec<u8>>, ApiError>
        + Send
        + 'static,
    ) -> Result<Response, ApiError> {
        let limits = &self.server.app.limits;
        let max_rows = limits.max_request_rows;
        self.counted(share.set(sizes.body_bytes + sizes.decoded_bytes))?;
        let (format, rows) = off_thread(sizes.body_bytes > LARGE_BODY_BYTES, &mut share, {
            let served = Arc::clone(&self.served);
            move || decode(&served.model.signature, max_rows)
        })
        .await?;
        // The body is gone, its rows are here until they are answered; and what is computed can be
        // answered.
        let answer_bytes = answer_bytes(&self.served.model.signature, &rows);
        self.counted(share.set(rows.bytes().saturating_add(answer_bytes)))?;

        let started = self.exchange.started;
        let deadline = deadline(asked, rows.timeout, started, limits);
        let submitted = self.served.lane.submit(InferRequest {
            rows: rows.rows,
            offsets: rows.offsets,
            inputs: rows.inputs,
            finish: rows.finish,
            deadline,
        });
        let response = submitted.await.map_err(|error| match (error, deadline) {
            (InferError::DeadlineExceeded, Some(deadline)) => ApiError::DeadlineExceeded {
                allowed: deadline.saturating_duration_since(started),
            },
            (error, _) => error.into(),
        })?;
        let values: usize = response.outputs.iter().map(Values::len).sum();
        let served = self.served;
        let answer = off_thread(values > LARGE_ANSWER_VALUES, &mut share, move || {
            encode(format, &served.model, &response)
        })
        .await?;
        Ok(answer.map(|body| share.of_answer(body)))
    }
}

/// What a request's body takes.
#[derive(Clone, Copy, Debug)]
pub(super) struct Sizes {
    /// Itself.
    pub(super) body_bytes: usize,
    /// The rows that can be decoded from it, at most.
    pub(super) decoded_bytes: usize,
}

impl Sizes {
    /// Those of a body of this many bytes.
    pub(super) fn of(admitted: &Admitted<'_>, body_bytes: usize, least: MinBytes) -> Self {
        let inputs = &admitted.served.model.signature.inputs;
        let max_rows = admitted.server.app.limits.max_request_rows;
        Self {
            body_bytes,
            decoded_bytes: least.decoded_bytes(body_bytes, inputs, max_rows),
        }
    }
}

/// The fewest bytes that a body takes for what is decoded from it.
#[derive(Clone, Copy, Debug)]
pub(super) enum MinBytes {
    /// For each number of single precision, and for any other value.
    PerValue { single: usize, other: usize },
    /// For each row, whatever its width: rows may share numbers that are there once.
    PerRow(usize),
}

impl MinBytes {
    /// The most bytes that a body can be decoded to, for a model with these inputs.
    fn decoded_bytes(self, body_bytes: usize, inputs: &[TensorSpec], max_rows: usize) -> usize {
        let is_single = |spec: &TensorSpec| matches!(Values::empty(spec.datatype), Values::F32(_));
        let all_single = inputs.iter().all(is_single);
        let has_texts = inputs.iter().any(|spec| spec.datatype == DataType::Bytes);
        let has_tokens = inputs.iter().any(|spec| spec.shape.axis().is_some());
        let row: usize = inputs.iter().map(|spec| spec.shape.elements()).sum();
        let values = match self {
            Self::PerValue { single, .. } if all_single => body_bytes / single,
            Self::PerValue { other, .. } => body_bytes / other,
            Self::PerRow(bytes) => (body_bytes / bytes).min(max_rows).saturating_mul(row),
        };
        // Of a string its end, besides its bytes.
        let value_bytes = if all_single { 4 } else { 8 };
        let text_bytes = if has_texts { body_bytes } else { 0 };
        if !has_tokens {
            let values = values.min(row.saturating_mul(max_rows));
            return values
                .saturating_mul(value_bytes)
                .saturating_add(text_bytes);
        }
        // Rows of tokens are shared by no others. They have as many values as fit the body, and one that
        // comes by name is there twice until it is whole; of each row the end of its tokens is kept.
        let values = match self {
            Self::PerValue { .. } => values,
            Self::PerRow(_) => values.saturating_add(body_bytes),
        };
        let offset_bytes = (max_rows + 1).saturating_mul(size_of::<usize>() * inputs.len());
        values
            .saturating_mul(2 * value_bytes)
            .saturating_add(text_bytes)
            .saturating_add(offset_bytes)
    }
}

/// One wire format's two directions. The value is what the request says about the answer.
pub(super) trait Format: Sized + Send + 'static {
    const PROTOCOL: Protocol;

    /// The least that a body takes. In JSON a number has a digit, and a comma after it.
    const MIN_BYTES: MinBytes = MinBytes::PerValue {
        single: 2,
        other: 2,
    };

    /// What a head says about how its body is laid out; nothing for formats with one layout.
    type Layout: Send + 'static;

    /// Checks that a head may be that of such a body; says how the body is compressed.
    fn coding(headers: &HeaderMap) -> Result<Option<Coding>, ApiError> {
        expect_json(headers)
    }

    /// Reads the layout from a head.
    fn layout(headers: &HeaderMap) -> Result<Self::Layout, ApiError>;

    /// Reads a body.
    fn decode(
        body: &[u8],
        layout: Self::Layout,
        signature: &Signature,
        max_rows: usize,
    ) -> Result<(Self, Rows), ApiError>;

    /// Writes the answer.
    fn encode(
        self,
        model: &Model,
        response: &InferResponse,
    ) -> Result<http::Response<Vec<u8>>, ApiError>;
}

/// Answers a predict request for a model version; `None` is the newest that is ready.
///
/// # Errors
/// All that can go wrong with one.
pub(super) async fn predict<F: Format>(
    server: &Server,
    exchange: &Exchange,
    body: impl RequestBody,
    name: &str,
    version: Option<&str>,
) -> Result<Response, ApiError> {
    let head = &exchange.head;
    if head.method != Method::POST {
        return Err(ApiError::method("POST", &head.method));
    }
    let limits = &server.app.limits;
    let mut admitted = Admitted::find(server, exchange, F::PROTOCOL, name, version)?;
    let coding = F::coding(&head.headers)?;
    admitted.refuse_unread(body.size_hint().lower())?;
    let mut share = server.budget.share();
    let body = admitted.counted(body::read(body, coding, limits, &mut share).await)?;
    admitted.refuse()?;
    let layout = F::layout(&head.headers)?;
    let sizes = Sizes::of(&admitted, body.len(), F::MIN_BYTES);
    let asked = asked_by(&head.headers)?;
    let decode =
        move |signature: &Signature, max_rows| F::decode(&body, layout, signature, max_rows);
    admitted
        .answer(share, sizes, asked, decode, F::encode)
        .await
}

#[cfg(test)]
mod tests {
    use super::MinBytes;
    use crate::tensor::{Axis, DataType, Shape, TensorSpec};

    const JSON: MinBytes = MinBytes::PerValue {
        single: 2,
        other: 2,
    };

    fn decoded(least: MinBytes, body_bytes: usize, datatype: DataType, shape: Shape) -> usize {
        let spec = TensorSpec::new("x", datatype, shape);
        least.decoded_bytes(body_bytes, &[spec], 4096)
    }

    /// `{"context":{..},"examples":[{},{},..]}` asks for a row in three bytes, however wide.
    #[test]
    fn rows_that_share_their_values_are_charged_whole() {
        let wide = |least| decoded(least, 3_000, DataType::Fp32, Shape::rows([10_000]));
        assert_eq!(wide(JSON), 4 * 1_500);
        assert_eq!(wide(MinBytes::PerRow(3)), 4 * 10_000_000);
        for least in [JSON, MinBytes::PerRow(3)] {
            let most = decoded(least, 1 << 30, DataType::Fp32, Shape::rows([10]));
            assert_eq!(most, 4 * 40_960);
        }
    }

    #[test]
    fn wider_values_tokens_and_texts_are_charged_as_they_are_kept() {
        let of = |datatype, shape| decoded(JSON, 3_000, datatype, shape);
        assert_eq!(of(DataType::Int64, Shape::rows([10])), 8 * 1_500);
        let offsets = 8 * 4_097;
        let tokens = of(DataType::Int64, Shape::tokens(Axis(0), []));
        assert_eq!(tokens, 2 * 8 * 1_500 + offsets);
        assert_eq!(of(DataType::Bytes, Shape::rows([])), 8 * 1_500 + 3_000);
    }
}
