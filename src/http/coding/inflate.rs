//! Compressed streams, inflated step by step.
//!
//! A stream is one: a second after the first is refused like anything else there. RFC 1952 and
//! RFC 8878 allow several, but no client of HTTP sends them, and millions of empty ones would keep
//! a thread busy within one step.

use bytes::{Buf, Bytes};
use flate2::{Crc, Decompress, FlushDecompress, Status};
use zstd::stream::raw::{DParameter, Decoder, InBuffer, Operation, OutBuffer};
use zstd::zstd_safe::get_frame_content_size;

use super::scheme::{Coding, STEP_BYTES};
use crate::http::budget::Share;
use crate::http::error::{ApiError, ErrorCode};

/// The most bytes that a zstd stream may look back, which have to be held, as a power of two. Every
/// level but the `--ultra` ones stays within it, and RFC 8878 asks decoders for no more.
const MAX_WINDOW_LOG: u32 = 23;

/// What is wrong with a stream, as the end of `expected ..., `.
type Problem = &'static str;

const CUT: Problem = "got one that ends early";
const CORRUPT: Problem = "got one that is damaged";
const MORE: Problem = "got more bytes after it";
const WINDOW: Problem = "got one that looks back more than 8 MiB";
const MEMORY: Problem = "and had no memory to read one";

impl Coding {
    /// Inflates a body.
    ///
    /// # Errors
    /// 400 for what is no whole stream or has more after it, 413 for more than `max_bytes`, 503
    /// when other requests take all the memory.
    pub(in crate::http) async fn inflate(
        self,
        body: Bytes,
        max_bytes: usize,
        share: &mut Share<'_>,
    ) -> Result<Bytes, ApiError> {
        let broken = |problem: &str| {
            ApiError::invalid(
                ErrorCode::MalformedEncoding,
                format!(
                    "the body: expected one whole {} stream, {problem}; compress it again, or send \
                     it without Content-Encoding",
                    self.name()
                ),
            )
        };
        let mut held = body.len();
        let mut stream = Stream::start(self, body).map_err(broken)?;
        held += stream.window_bytes();
        let mut whole = Vec::new();
        loop {
            // While it grows, it is there twice.
            share.set(held + 2 * whole.len() + whole.len().max(STEP_BYTES))?;
            let ended = stream.step(&mut whole).map_err(broken)?;
            if whole.len() > max_bytes {
                return Err(ApiError::BodyTooLarge {
                    max_body_bytes: max_bytes,
                });
            }
            if ended {
                whole.shrink_to_fit();
                share.set(whole.len())?;
                return Ok(whole.into());
            }
            tokio::task::yield_now().await;
        }
    }
}

/// A stream that is being inflated.
enum Stream {
    Deflate {
        input: Bytes,
        state: Decompress,
        /// The checksum so far, of a gzip stream.
        crc: Option<Crc>,
    },
    Zstd {
        input: Bytes,
        decoder: Decoder<'static>,
        window_bytes: usize,
    },
}

impl Stream {
    /// Reads the head of a stream.
    fn start(coding: Coding, mut input: Bytes) -> Result<Self, Problem> {
        match coding {
            Coding::Gzip => {
                let head = gzip_head(&input).ok_or(CUT)??;
                input.advance(head);
                Ok(Self::Deflate {
                    input,
                    state: Decompress::new(false),
                    crc: Some(Crc::new()),
                })
            }
            Coding::Deflate => Ok(Self::Deflate {
                input,
                state: Decompress::new(true),
                crc: None,
            }),
            Coding::Zstd => {
                // Without a window of its own, it is all that there is.
                let window = match zstd_window(&input).ok_or(CUT)? {
                    Some(window) => window,
                    None => get_frame_content_size(&input)
                        .map_err(|_| CORRUPT)?
                        .ok_or(CORRUPT)?,
                };
                if window > 1 << MAX_WINDOW_LOG {
                    return Err(WINDOW);
                }
                let decoder = Decoder::new().and_then(|mut decoder| {
                    decoder.set_parameter(DParameter::WindowLogMax(MAX_WINDOW_LOG))?;
                    Ok(decoder)
                });
                let decoder = decoder.map_err(|_| MEMORY)?;
                Ok(Self::Zstd {
                    input,
                    decoder,
                    window_bytes: window as usize,
                })
            }
        }
    }

    /// What is held besides the input and the output.
    fn window_bytes(&self) -> usize {
        match self {
            Self::Deflate { .. } => STEP_BYTES,
            Self::Zstd { window_bytes, .. } => window_bytes + 2 * STEP_BYTES,
        }
    }

    /// Appends what comes next to `whole`; true at the end, when all checksums are right.
    fn step(&mut self, whole: &mut Vec<u8>) -> Result<bool, Problem> {
        match self {
            Self::Deflate { input, state, crc } => {
                let start = whole.len();
                whole.resize(start + STEP_BYTES, 0);
                let piece = &input[..input.len().min(STEP_BYTES)];
                let (read, written) = (state.total_in(), state.total_out());
                let status = state.decompress(piece, &mut whole[start..], FlushDecompress::None);
                let read = (state.total_in() - read) as usize;
                let written = (state.total_out() - written) as usize;
                whole.truncate(start + written);
                input.advance(read);
                if let Some(crc) = crc {
                    crc.update(&whole[start..]);
                }
                match status.map_err(|_| CORRUPT)? {
                    Status::StreamEnd => {
                        if let Some(crc) = crc {
                            gzip_tail(input, crc)?;
                        }
                        ended(input)
                    }
                    Status::Ok | Status::BufError if read + written == 0 => Err(CUT),
                    Status::Ok | Status::BufError => Ok(false),
                }
            }
            Self::Zstd { input, decoder, .. } => {
                let start = whole.len();
                whole.resize(start + STEP_BYTES, 0);
                let mut from = InBuffer::around(&input[..input.len().min(STEP_BYTES)]);
                let mut to = OutBuffer::around(&mut whole[start..]);
                let left = decoder.run(&mut from, &mut to).map_err(|_| CORRUPT)?;
                let (read, written) = (from.pos(), to.pos());
                whole.truncate(start + written);
                input.advance(read);
                match left {
                    // The frame's checksum was right.
                    0 => ended(input),
                    _ if read + written == 0 => Err(CUT),
                    _ => Ok(false),
                }
            }
        }
    }
}

fn ended(input: &Bytes) -> Result<bool, Problem> {
    match input.is_empty() {
        true => Ok(true),
        false => Err(MORE),
    }
}

/// The length of a gzip stream's head (RFC 1952, section 2.3); `None` if it is cut.
fn gzip_head(input: &[u8]) -> Option<Result<usize, Problem>> {
    const HEADER_CRC: u8 = 2;
    const EXTRA: u8 = 4;
    const NAME: u8 = 8;
    const COMMENT: u8 = 16;
    const RESERVED: u8 = 0xE0;
    let (fixed, mut rest) = input.split_at_checked(10)?;
    let flags = fixed[3];
    if fixed[..3] != [0x1F, 0x8B, 8] || flags & RESERVED != 0 {
        return Some(Err("got something else"));
    }
    if flags & EXTRA != 0 {
        let (length, after) = rest.split_first_chunk()?;
        rest = after.get(usize::from(u16::from_le_bytes(*length))..)?;
    }
    for text in [NAME, COMMENT] {
        if flags & text != 0 {
            let end = rest.iter().position(|byte| *byte == 0)?;
            rest = &rest[end + 1..];
        }
    }
    if flags & HEADER_CRC != 0 {
        rest = rest.get(2..)?;
    }
    Some(Ok(input.len() - rest.len()))
}

/// Reads the checksum and the length after a gzip stream.
fn gzip_tail(input: &mut Bytes, crc: &Crc) -> Result<(), Problem> {
    if input.remaining() < 8 {
        return Err(CUT);
    }
    match (input.get_u32_le(), input.get_u32_le()) == (crc.sum(), crc.amount()) {
        true => Ok(()),
        false => Err(CORRUPT),
    }
}

/// The window that the head of a zstd stream asks for (RFC 8878, section 3.1.1.1), or none if it is
/// all of the content; `None` if it is cut.
fn zstd_window(input: &[u8]) -> Option<Option<u64>> {
    const SINGLE_SEGMENT: u8 = 0x20;
    let [descriptor, window] = *input.get(4..6)?.first_chunk()?;
    if descriptor & SINGLE_SEGMENT != 0 {
        return Some(None);
    }
    let base = 1u64 << (10 + (window >> 3));
    Some(Some(base + base / 8 * u64::from(window & 7)))
}
