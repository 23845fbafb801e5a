//! Valid bodies, damaged at random: never a fault of the server's.

use super::server::TestServer;

/// A small generator with a fixed seed, so that a failure can be seen again.
struct SplitMix(u64);

impl SplitMix {
    fn below(&mut self, end: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        ((mixed ^ (mixed >> 31)) % end as u64) as usize
    }
}

/// Pieces that JSON is made of, and some that it is not.
const PIECES: &[&[u8]] = &[
    b"{",
    b"}",
    b"[",
    b"]",
    b",",
    b":",
    b"\"",
    b"\\",
    b"\\u0000",
    b"\\ud800",
    b"0",
    b"-",
    b"1e39",
    b"1e-50",
    b"9999999999999999999999",
    b".",
    b"null",
    b"true",
    b"NaN",
    b"Infinity",
    b" ",
    b"\n",
    b"\0",
    b"\xff",
    b"\xef\xbb\xbf",
    b"[[[[[[[[",
    b"{\"a\":{\"a\":",
    b"\"data\"",
    b"\"shape\"",
    b"\"name\"",
    b"\"parameters\":{\"timeout\":1},",
];

fn damage(body: &str, random: &mut SplitMix) -> Vec<u8> {
    let mut bytes = body.as_bytes().to_vec();
    for _ in 0..=random.below(3) {
        let at = random.below(bytes.len() + 1);
        let end = (at + random.below(6)).min(bytes.len());
        match random.below(5) {
            0 => bytes.truncate(at),
            1 => drop(bytes.drain(at..end)),
            2 => {
                let copy = bytes[at..end].to_vec();
                bytes.splice(at..at, copy);
            }
            3 => {
                bytes.splice(at..end, PIECES[random.below(PIECES.len())].iter().copied());
            }
            _ => {
                if let Some(byte) = bytes.get_mut(at) {
                    *byte = random.below(256) as u8;
                }
            }
        }
    }
    bytes
}

#[tokio::test]
async fn damaged_bodies_are_answered_or_refused_in_json() {
    const BODIES: &[(&str, &str)] = &[
        (
            "/v2/models/echo/infer",
            r#"{"id":"1","parameters":{"timeout":600000000},"inputs":[{"name":"x","shape":[2,2],"datatype":"FP32","data":[[1.5,-2],[3e1,0.25]]}],"outputs":[{"name":"y"}]}"#,
        ),
        (
            "/v2/models/pair/infer",
            r#"{"inputs":[{"data":[1,2],"name":"a","shape":[1,2],"datatype":"FP32"},{"name":"b","shape":[1,2],"datatype":"FP32","data":[3,4]}]}"#,
        ),
        (
            "/v1/models/echo:predict",
            r#"{"instances":[[1.5,-2],[3e1,0.25]]}"#,
        ),
        (
            "/v1/models/pair:predict",
            r#"{"instances":[{"a":[1,2],"b":[3,4]}],"signature_name":"serving_default"}"#,
        ),
        (
            "/v1/models/matrix:predict",
            r#"{"inputs":[[[1,2,NaN],[4,-Infinity,6]]]}"#,
        ),
        (
            "/v1/models/fruit:classify",
            r#"{"context":{"red":1},"examples":[{"green":[0.5],"blue":0.25}]}"#,
        ),
    ];
    let server = TestServer::start();
    for (path, body) in BODIES {
        assert_eq!(server.post(path, *body).await.status, 200, "{body}");
    }
    let mut random = SplitMix(2026);
    let mut good = 0;
    for round in 0..1_500 {
        let (path, body) = BODIES[round % BODIES.len()];
        let damaged = damage(body, &mut random);
        let answer = server.post(path, damaged.clone()).await;
        let shown = String::from_utf8_lossy(&damaged);
        match answer.status {
            200 => good += 1,
            400..=499 => {
                let answer = answer.json();
                assert!(
                    answer["error"].is_string() && answer["code"].is_string(),
                    "{shown}"
                );
            }
            // A few mutations turn the timeout into one that no answer can meet.
            504 => assert_eq!(answer.json()["code"], "deadline_exceeded", "{shown}"),
            status => panic!("{status} for {path}: {shown}"),
        }
    }
    assert!(
        (50..1_000).contains(&good),
        "{good} were still good: damage neither all nor none"
    );
}
