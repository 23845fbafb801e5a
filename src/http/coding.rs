//! Content codings: bodies that come compressed, and answers that go so (RFC 9110, section 8.4).
//!
//! Everything goes in steps of [`STEP_BYTES`], and between two steps the other connections of the
//! thread have their turn: whatever a body inflates to, they wait half a millisecond at the most.
//! What a body inflates to is bounded by what a body may have, not by a ratio; it is charged to the
//! budget before there is memory for it.
//!
//! Without the feature `compression`, `plain.rs` replaces this.

mod inflate;
mod scheme;

pub(super) use scheme::Coding;

use std::io::Write;

use bytes::Bytes;
use flate2::Compression;
use flate2::write::{GzEncoder, ZlibEncoder};
use http::header::{ACCEPT_ENCODING, CONTENT_ENCODING, VARY};
use http::{HeaderMap, HeaderValue};

use super::answer::Response;
use super::budget::Budget;
use scheme::STEP_BYTES;
use zstd::stream::write::Encoder as ZstdEncoder;

/// Answers up to this go as they are: they fit one packet either way.
const MIN_ANSWER_BYTES: usize = 1024;

/// The fastest, as of the others: an answer is read once.
const ZSTD_LEVEL: i32 = 1;

/// An answer, compressed if the client takes that and it makes the answer smaller.
///
/// It counts in the budget instead of what it is made from, until it is written.
pub(super) async fn compressed(
    headers: &HeaderMap,
    mut answer: Response,
    budget: &Budget,
) -> Response {
    let is_coded = answer.headers().contains_key(CONTENT_ENCODING);
    if is_coded || answer.body().len() <= MIN_ANSWER_BYTES {
        return answer;
    }
    let may_differ = HeaderValue::from_static("accept-encoding");
    answer.headers_mut().append(VARY, may_differ);
    let Some(coding) = accepted(headers) else {
        return answer;
    };
    let Some(body) = deflated(coding, answer.body()).await else {
        return answer;
    };
    let name = HeaderValue::from_static(coding.name());
    answer.headers_mut().insert(CONTENT_ENCODING, name);
    answer.map(|_| budget.share().of_answer(body))
}

/// A compressed body; `None` if it would not be smaller.
async fn deflated(coding: Coding, body: &Bytes) -> Option<Vec<u8>> {
    let level = Compression::fast();
    let room = Vec::with_capacity(body.len() / 2);
    let body_bytes = body.len();
    let written = match coding {
        Coding::Gzip => {
            let mut encoder = GzEncoder::new(room, level);
            write_all(&mut encoder, body).await;
            encoder.finish()
        }
        Coding::Deflate => {
            let mut encoder = ZlibEncoder::new(room, level);
            write_all(&mut encoder, body).await;
            encoder.finish()
        }
        Coding::Zstd => {
            let mut encoder = ZstdEncoder::new(room, ZSTD_LEVEL).ok()?;
            write_all(&mut encoder, body).await;
            encoder.finish()
        }
    };
    let written = written.expect("memory takes every write");
    (written.len() < body_bytes).then_some(written)
}

async fn write_all(encoder: &mut impl Write, body: &[u8]) {
    for piece in body.chunks(STEP_BYTES) {
        encoder.write_all(piece).expect("memory takes every write");
        tokio::task::yield_now().await;
    }
}

/// The coding that a client likes best; of equals zstd, which is the fastest, then gzip, which is the
/// most widespread. `None` if it likes none better than an answer as it is.
fn accepted(headers: &HeaderMap) -> Option<Coding> {
    let [mut zstd, mut gzip, mut deflate, mut identity, mut others] = [None; 5];
    for value in headers.get_all(ACCEPT_ENCODING) {
        for entry in value.as_bytes().split(|byte| *byte == b',') {
            let mut parts = entry.split(|byte| *byte == b';').map(<[u8]>::trim_ascii);
            let name = parts.next().unwrap_or_default();
            let weight = Some(weight(parts));
            match Coding::named(name) {
                Some(Coding::Zstd) => zstd = weight,
                Some(Coding::Gzip) => gzip = weight,
                Some(Coding::Deflate) => deflate = weight,
                None if name == b"*" => others = weight,
                None if name.eq_ignore_ascii_case(b"identity") => identity = weight,
                None => {}
            }
        }
    }
    let named = [
        (deflate, Coding::Deflate),
        (gzip, Coding::Gzip),
        (zstd, Coding::Zstd),
    ];
    let weighed = named.map(|(weight, coding)| (weight.or(others).unwrap_or(0), coding));
    // Of equals the last.
    let (best, coding) = weighed.into_iter().max_by_key(|(weight, _)| *weight)?;
    (best > 0 && best >= identity.unwrap_or(0)).then_some(coding)
}

/// The weight among the parameters of an entry, in thousandths; 0, which is refused, if it is none.
fn weight<'a>(mut parameters: impl Iterator<Item = &'a [u8]>) -> u16 {
    let weight = parameters.find_map(|parameter| {
        let (name, value) = parameter.split_at_checked(2)?;
        name.eq_ignore_ascii_case(b"q=").then_some(value)
    });
    let Some(weight) = weight else { return 1000 };
    let number = str::from_utf8(weight).ok().and_then(|text| {
        let is_number = text.bytes().all(|b| b.is_ascii_digit() || b == b'.');
        text.parse::<f32>().ok().filter(|_| is_number)
    });
    match number {
        Some(number) if number <= 1.0 => (number * 1000.0) as u16,
        _ => 0,
    }
}

#[cfg(test)]
mod tests;
