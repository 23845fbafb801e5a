use std::io::Write;

use flate2::Compression;
use flate2::write::{GzEncoder, ZlibEncoder};
use http::HeaderValue;

use super::*;
use crate::http::error::{ApiError, ErrorCode};

const CODINGS: [Coding; 3] = [Coding::Gzip, Coding::Deflate, Coding::Zstd];

fn packed(coding: Coding, body: &[u8]) -> Vec<u8> {
    match coding {
        Coding::Gzip => {
            let mut encoder = GzEncoder::new(Vec::new(), Compression::best());
            encoder.write_all(body).unwrap();
            encoder.finish().unwrap()
        }
        Coding::Deflate => {
            let mut encoder = ZlibEncoder::new(Vec::new(), Compression::best());
            encoder.write_all(body).unwrap();
            encoder.finish().unwrap()
        }
        Coding::Zstd => {
            let mut encoder = ZstdEncoder::new(Vec::new(), 3).unwrap();
            encoder.include_checksum(true).unwrap();
            encoder.write_all(body).unwrap();
            encoder.finish().unwrap()
        }
    }
}

/// A megabyte that compresses, but not to nothing.
fn numbers() -> Vec<u8> {
    (0..1u32 << 17)
        .flat_map(|n| format!("{:07},", n.wrapping_mul(2_654_435_761) % 10_000_000).into_bytes())
        .collect()
}

async fn inflated(coding: Coding, body: Vec<u8>, max_bytes: usize) -> Result<Vec<u8>, ApiError> {
    let budget = Budget::new(64 << 20);
    let mut share = budget.share();
    let body = coding.inflate(body.into(), max_bytes, &mut share).await;
    body.map(|body| body.to_vec())
}

fn is_malformed(result: &Result<Vec<u8>, ApiError>) -> bool {
    matches!(
        result,
        Err(ApiError::Invalid {
            code: ErrorCode::MalformedEncoding,
            ..
        })
    )
}

#[tokio::test]
async fn what_was_compressed_comes_back_whole() {
    let numbers = numbers();
    for coding in CODINGS {
        for length in [
            0,
            1,
            1000,
            STEP_BYTES - 1,
            STEP_BYTES,
            STEP_BYTES + 1,
            1 << 20,
        ] {
            let body = &numbers[..length];
            let back = inflated(coding, packed(coding, body), 1 << 20).await;
            assert!(back.unwrap() == body, "{coding:?} {length}");
        }
    }
}

#[tokio::test]
async fn more_than_a_body_may_have_is_refused_whatever_the_ratio() {
    let zeros = vec![0; 4 << 20];
    for coding in CODINGS {
        let bomb = packed(coding, &zeros);
        assert!(bomb.len() < 8 << 10, "{coding:?} {}", bomb.len());
        let most = inflated(coding, bomb.clone(), zeros.len()).await;
        assert_eq!(most.unwrap().len(), zeros.len());
        for max_bytes in [1, STEP_BYTES, zeros.len() - 1] {
            let refused = inflated(coding, bomb.clone(), max_bytes).await;
            assert!(
                matches!(refused, Err(ApiError::BodyTooLarge { .. })),
                "{coding:?} {max_bytes}"
            );
        }
    }
}

#[tokio::test]
async fn what_a_body_inflates_to_counts_in_the_budget() {
    let body = packed(Coding::Gzip, &numbers());
    let budget = Budget::of_every_byte(2 << 20);
    let mut other = budget.share();
    other.set(1 << 20).unwrap();
    let mut share = budget.share();
    let refused = Coding::Gzip.inflate(body.clone().into(), 4 << 20, &mut share);
    assert!(matches!(refused.await, Err(ApiError::BodiesOverBudget)));
    drop((share, other));
    assert_eq!(budget.used_bytes(), 0);
    let mut share = budget.share();
    let inflated = Coding::Gzip.inflate(body.into(), 4 << 20, &mut share).await;
    assert_eq!(budget.used_bytes(), inflated.unwrap().len());
}

#[tokio::test]
async fn a_stream_that_is_cut_damaged_or_followed_is_refused() {
    let body = &numbers()[..1000];
    for coding in CODINGS {
        let whole = packed(coding, body);
        for length in 0..whole.len() {
            let cut = inflated(coding, whole[..length].to_vec(), 1 << 20).await;
            assert!(is_malformed(&cut), "{coding:?} {length}");
        }
        for more in [&b"\0"[..], &whole] {
            let followed = inflated(coding, [&whole, more].concat(), 1 << 20).await;
            assert!(is_malformed(&followed), "{coding:?}");
        }
        let plain = inflated(coding, b"{\"inputs\":[]}".to_vec(), 1 << 20).await;
        assert!(is_malformed(&plain), "{coding:?}");
    }
    // A bit of the checksum.
    for coding in CODINGS {
        let mut whole = packed(coding, body);
        let at = whole.len() - if coding == Coding::Gzip { 8 } else { 1 };
        whole[at] ^= 1;
        assert!(is_malformed(&inflated(coding, whole, 1 << 20).await));
    }
}

#[tokio::test]
async fn the_head_of_a_gzip_stream_may_have_all_its_parts() {
    let mut encoder = flate2::GzBuilder::new()
        .filename("name")
        .comment("comment")
        .extra(vec![7; 300])
        .write(Vec::new(), Compression::fast());
    encoder.write_all(b"{}").unwrap();
    let whole = encoder.finish().unwrap();
    assert_eq!(
        inflated(Coding::Gzip, whole.clone(), 9).await.unwrap(),
        b"{}"
    );
    for length in 0..whole.len() {
        assert!(is_malformed(
            &inflated(Coding::Gzip, whole[..length].to_vec(), 9).await
        ));
    }
}

#[tokio::test]
async fn a_zstd_stream_may_not_look_back_without_bounds() {
    // Magic, no single segment, a window of 2^41 or of 16 MiB; one block, the last, empty.
    for window in [31 << 3, 14 << 3] {
        let stream = [0x28, 0xB5, 0x2F, 0xFD, 0, window, 1, 0, 0].to_vec();
        assert!(is_malformed(&inflated(Coding::Zstd, stream, 1 << 20).await));
    }
    let stream = [0x28, 0xB5, 0x2F, 0xFD, 0, 13 << 3, 1, 0, 0].to_vec();
    assert_eq!(inflated(Coding::Zstd, stream, 1).await.unwrap(), b"");
}

/// Blocks without content are read in as many turns as they have steps' bytes.
#[tokio::test]
async fn empty_blocks_end_too() {
    let mut stream = vec![0x78, 0x01];
    stream.extend([0, 0, 0, 0xFF, 0xFF].repeat(100_000));
    stream.extend([1, 0, 0, 0xFF, 0xFF]);
    stream.extend(1u32.to_be_bytes());
    assert_eq!(inflated(Coding::Deflate, stream, 1).await.unwrap(), b"");
}

#[test]
fn a_client_gets_what_it_likes_best() {
    let accepted = |values: &[&'static str]| {
        let mut headers = HeaderMap::new();
        for value in values {
            headers.append(ACCEPT_ENCODING, HeaderValue::from_static(value));
        }
        accepted(&headers)
    };
    let (zstd, gzip) = (Some(Coding::Zstd), Some(Coding::Gzip));
    let deflate = Some(Coding::Deflate);
    for (values, expected) in [
        (&[][..], None),
        (&[""], None),
        (&["identity"], None),
        (&["br"], None),
        (&["br, zstd"], zstd),
        (&["gzip, deflate, br, zstd"], zstd),
        (&["gzip, zstd;q=0.9"], gzip),
        (&["gzip"], gzip),
        (&["X-GZIP"], gzip),
        (&["deflate, gzip"], gzip),
        (&["gzip;q=0.5, deflate"], deflate),
        (&["gzip;q=0.5 , deflate ; q=0.4"], gzip),
        (&["br", "deflate"], deflate),
        (&["*"], zstd),
        (&["zstd;q=0, *"], gzip),
        (&["gzip;q=0, zstd;q=0, *"], deflate),
        (&["*;q=0"], None),
        (&["gzip;q=0"], None),
        (&["gzip;q=0.000"], None),
        (&["gzip;q=0.001"], gzip),
        (&["gzip;q=0.5, identity"], None),
        (&["gzip, identity"], gzip),
        (&["gzip;q=x"], None),
        (&["gzip;q=2"], None),
        (&["gzip;q=-1"], None),
        (&["gzip;q=nan"], None),
    ] {
        assert_eq!(accepted(values), expected, "{values:?}");
    }
}

#[tokio::test]
async fn an_answer_comes_back_whole_and_is_compressed_once() {
    let numbers = numbers();
    for (name, coding) in [
        ("gzip", Coding::Gzip),
        ("deflate", Coding::Deflate),
        ("zstd", Coding::Zstd),
    ] {
        let headers = HeaderMap::from_iter([(ACCEPT_ENCODING, HeaderValue::from_static(name))]);
        let budget = Budget::of_every_byte(64 << 20);
        let answer = Response::new(numbers.clone().into());
        let answer = compressed(&headers, answer, &budget).await;
        assert_eq!(
            budget.used_bytes(),
            answer.body().len(),
            "until it is written"
        );
        assert_eq!(answer.headers()[CONTENT_ENCODING], name);
        assert!(answer.body().len() < numbers.len());
        let back = inflated(coding, answer.body().to_vec(), 1 << 20).await;
        assert!(back.unwrap() == numbers, "{name}");
        let again = compressed(&headers, answer.clone(), &budget).await;
        assert_eq!(again.body(), answer.body());
        assert_eq!(again.headers().get_all(CONTENT_ENCODING).iter().count(), 1);
    }
}
