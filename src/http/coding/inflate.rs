//! Compressed streams, inflated step by step.
//!
//! A stream is one: a second behind the first is refused like anything else there. RFC 1952 and
//! RFC 8878 allow several, but no client of HTTP sends them, and millions of empty ones would keep
//! a thread busy within one step.

use std::io::Read;

use bytes::{Buf, Bytes};
use flate2::{Crc, Decompress, FlushDecompress, Status};
use ruzstd::decoding::{BlockDecodingStrategy, FrameDecoder};

use super::{Coding, STEP_BYTES};

/// The most bytes that a zstd stream may look back, which have to be held. Every level but the
/// `--ultra` ones stays within it, and RFC 8878 asks decoders for no more.
const MAX_WINDOW_BYTES: u64 = 8 << 20;

/// What is wrong with a stream, as the end of `expected ..., `.
type Problem = &'static str;

const CUT: Problem = "got one that ends early";
const CORRUPT: Problem = "got one that is damaged";
const MORE: Problem = "got more bytes behind it";
const WINDOW: Problem = "got one that looks back more than 8 MiB";

/// A stream that is being inflated.
pub(super) enum Stream {
    Deflate {
        input: Bytes,
        state: Decompress,
        /// The checksum so far, of a gzip stream.
        crc: Option<Crc>,
    },
    Zstd {
        input: Bytes,
        decoder: Box<FrameDecoder>,
        window_bytes: usize,
    },
}

impl Stream {
    /// Reads the head of a stream.
    pub(super) fn start(coding: Coding, mut input: Bytes) -> Result<Self, Problem> {
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
                let window = zstd_window(&input).ok_or(CUT)?;
                let mut decoder = Box::new(FrameDecoder::new());
                decoder.init((&mut input).reader()).map_err(|_| CORRUPT)?;
                // Without a window of its own, it is all that there is.
                let window = window.unwrap_or_else(|| decoder.content_size());
                if window > MAX_WINDOW_BYTES {
                    return Err(WINDOW);
                }
                Ok(Self::Zstd {
                    input,
                    decoder,
                    window_bytes: window as usize,
                })
            }
        }
    }

    /// What is held beside the input and the output.
    pub(super) fn window_bytes(&self) -> usize {
        match self {
            Self::Deflate { .. } => STEP_BYTES,
            Self::Zstd { window_bytes, .. } => window_bytes + 2 * STEP_BYTES,
        }
    }

    /// Appends what comes next to `whole`; true at the end, when all checksums are right.
    pub(super) fn step(&mut self, whole: &mut Vec<u8>) -> Result<bool, Problem> {
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
                let ready = decoder.can_collect();
                if ready > 0 {
                    let start = whole.len();
                    whole.resize(start + ready.min(STEP_BYTES), 0);
                    let read = decoder.read(&mut whole[start..]).map_err(|_| CORRUPT)?;
                    whole.truncate(start + read);
                    return Ok(false);
                }
                if !decoder.is_finished() {
                    if !input.has_remaining() {
                        return Err(CUT);
                    }
                    // A block is up to 128 KiB.
                    let one = BlockDecodingStrategy::UptoBlocks(1);
                    let decoded = decoder.decode_blocks((&mut *input).reader(), one);
                    decoded.map_err(|_| CORRUPT)?;
                    return Ok(false);
                }
                let expected = decoder.get_checksum_from_data();
                if expected.is_some() && expected != decoder.get_calculated_checksum() {
                    return Err(CORRUPT);
                }
                ended(input)
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
        let (length, behind) = rest.split_first_chunk()?;
        rest = behind.get(usize::from(u16::from_le_bytes(*length))..)?;
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

/// Reads the checksum and the length behind a gzip stream.
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
