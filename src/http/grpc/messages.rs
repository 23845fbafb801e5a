//! The messages of a request, out of its body: a flag and a length before each.
//!
//! Source: `PROTOCOL-HTTP2.md` of gRPC.

use bytes::{Buf, Bytes, BytesMut};
use http::{HeaderMap, HeaderName};
use http_body_util::BodyExt;
use prost::Message;
use tokio::time::timeout;

use super::fields::Malformed;
use crate::http::body::RequestBody;
use crate::http::budget::Share;
use crate::http::coding::Coding;
use crate::http::error::ApiError;
use crate::http::limits::HttpLimits;
use crate::messages::excerpt;

/// The flag, and the length as four bytes.
const PREFIX_BYTES: usize = 5;

/// How messages are compressed that say that they are.
const ENCODING: HeaderName = HeaderName::from_static("grpc-encoding");

/// The most small pieces of one message: one-byte frames cost far more than they carry.
const MAX_PIECES: usize = 65_536;

/// What a read of a long message is never smaller than, unless its client sends it so.
const SMALL_PIECE_BYTES: usize = 1024;

/// The most bytes of a message without tensors: names, and what a client adds to them.
const SMALL_MESSAGE_BYTES: usize = 64 << 10;

/// The messages that a client sends, one after the other.
pub(in crate::http) struct Messages<B> {
    body: B,
    /// What compressed messages are compressed with, or what cannot be inflated.
    coding: Result<Option<Coding>, String>,
    /// What came and belongs to no message that was read.
    received: BytesMut,
}

/// A message whose prefix came.
#[derive(Clone, Copy, Debug)]
pub(in crate::http) struct Begun {
    is_compressed: bool,
    /// Its length as it comes.
    pub(in crate::http) bytes: usize,
}

impl<B: RequestBody> Messages<B> {
    /// The messages of a body under this head.
    pub(super) fn of(headers: &HeaderMap, body: B) -> Self {
        let coding = match headers.get(ENCODING).map(|name| name.as_bytes()) {
            None | Some(b"identity") => Ok(None),
            Some(name) => Coding::named(name)
                .map(Some)
                .ok_or_else(|| excerpt(&String::from_utf8_lossy(name), 40)),
        };
        Self {
            body,
            coding,
            received: BytesMut::new(),
        }
    }

    /// Waits for the next message for as long as it takes, and reads its prefix; `None` at the end.
    ///
    /// # Errors
    /// 413 if it is larger than a body may be, 408 if its prefix has no end, 400 if it breaks off.
    pub(in crate::http) async fn begin(
        &mut self,
        limits: &HttpLimits,
    ) -> Result<Option<Begun>, ApiError> {
        while self.received.is_empty() {
            if !self.read().await? {
                return Ok(None);
            }
        }
        let prefix = async {
            while self.received.len() < PREFIX_BYTES {
                if !self.read().await? {
                    return Err(ApiError::BodyBroken);
                }
            }
            Ok(())
        };
        in_time(limits, prefix).await?;
        let is_compressed = match self.received.get_u8() {
            0 => false,
            1 => true,
            _ => return Err(Malformed.into()),
        };
        let bytes = self.received.get_u32() as usize;
        if bytes > limits.max_body_bytes {
            return Err(ApiError::BodyTooLarge {
                max_body_bytes: limits.max_body_bytes,
            });
        }
        Ok(Some(Begun {
            is_compressed,
            bytes,
        }))
    }

    /// What came so far of a message that has begun; nothing of one that is compressed.
    pub(in crate::http) async fn start(&mut self, begun: Begun) -> Result<&[u8], ApiError> {
        if begun.is_compressed {
            return Ok(&[]);
        }
        // The frame after the prefix, for clients that send the prefix alone.
        while self.received.is_empty() && begun.bytes > 0 {
            if !self.read().await? {
                return Err(ApiError::BodyBroken);
            }
        }
        Ok(&self.received[..begun.bytes.min(self.received.len())])
    }

    /// Reads a message that has begun to its end, and inflates it; its bytes count in `share`, as
    /// they come.
    ///
    /// # Errors
    /// 408 for too slow, 503 when other bodies take all the memory, 400 for too many pieces or a
    /// broken stream, 413 for too many bytes inflated, 415 for what cannot be inflated.
    pub(in crate::http) async fn finish(
        &mut self,
        begun: Begun,
        limits: &HttpLimits,
        share: &mut Share<'_>,
    ) -> Result<Bytes, ApiError> {
        let whole = async {
            let mut small_pieces = 0;
            share.set(self.received.len().min(begun.bytes))?;
            while self.received.len() < begun.bytes {
                let before = self.received.len();
                if !self.read().await? {
                    return Err(ApiError::BodyBroken);
                }
                small_pieces += usize::from(self.received.len() - before < SMALL_PIECE_BYTES);
                if small_pieces > MAX_PIECES {
                    return Err(ApiError::BodyInTooManyPieces);
                }
                share.set(self.received.len())?;
            }
            share.set(begun.bytes)
        };
        in_time(limits, whole).await?;
        let message = self.received.split_to(begun.bytes).freeze();
        if !begun.is_compressed {
            return Ok(message);
        }
        match &self.coding {
            Ok(Some(coding)) => coding.inflate(message, limits.max_body_bytes, share).await,
            Ok(None) => Err(ApiError::MediaType {
                message: "the message says that it is compressed, but grpc-encoding does not say \
                          how; send both or neither"
                    .into(),
            }),
            Err(name) => Err(ApiError::MediaType {
                message: format!(
                    "grpc-encoding {name} is not supported; send messages as {}",
                    Coding::NAMES
                )
                .into(),
            }),
        }
    }

    /// How many bytes came that belong to later messages.
    pub(in crate::http) fn left(&self) -> usize {
        self.received.len()
    }

    /// The only message of a request, which has no tensors.
    ///
    /// # Errors
    /// As [`Self::begin`] and [`Self::finish`], and 400 if it is larger than such a message is, or
    /// none.
    pub(in crate::http) async fn small<M: Message + Default>(
        &mut self,
        limits: &HttpLimits,
        share: &mut Share<'_>,
    ) -> Result<M, ApiError> {
        let limits = &HttpLimits {
            max_body_bytes: limits.max_body_bytes.min(SMALL_MESSAGE_BYTES),
            ..*limits
        };
        match in_time(limits, self.begin(limits)).await? {
            None => Err(ApiError::BodyBroken),
            Some(begun) => self.small_of(begun, limits, share).await,
        }
    }

    /// The same of a message that has begun.
    pub(in crate::http) async fn small_of<M: Message + Default>(
        &mut self,
        begun: Begun,
        limits: &HttpLimits,
        share: &mut Share<'_>,
    ) -> Result<M, ApiError> {
        let max_body_bytes = limits.max_body_bytes.min(SMALL_MESSAGE_BYTES);
        if begun.bytes > max_body_bytes {
            return Err(ApiError::BodyTooLarge { max_body_bytes });
        }
        let limits = &HttpLimits {
            max_body_bytes,
            ..*limits
        };
        let message = self.finish(begun, limits, share).await?;
        M::decode(message).map_err(|_| Malformed.into())
    }

    /// Reads what comes next; whether anything did.
    async fn read(&mut self) -> Result<bool, ApiError> {
        loop {
            let Some(frame) = self.body.frame().await else {
                return Ok(false);
            };
            if let Ok(piece) = frame.map_err(|_| ApiError::BodyBroken)?.into_data() {
                self.received.extend_from_slice(&piece);
                return Ok(true);
            }
        }
    }
}

/// Gives what is read no more time than a body has.
pub(in crate::http) async fn in_time<T>(
    limits: &HttpLimits,
    read: impl Future<Output = Result<T, ApiError>>,
) -> Result<T, ApiError> {
    match timeout(limits.body_timeout, read).await {
        Ok(read) => read,
        Err(_) => Err(ApiError::BodyTimeout {
            limit: limits.body_timeout,
        }),
    }
}
