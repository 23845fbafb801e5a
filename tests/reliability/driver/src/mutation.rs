//! Good requests of both protocols, and what a seed and a number make of them.

/// One mutation in this many is of a request's line and headers, not of its body.
const HEADS_ONE_IN: usize = 10;

/// Calls of the sample models, with bodies that they answer with 200. None asks for a deadline: a
/// mutated one may be too short for any server, and then 504 is right.
pub(crate) const GOOD: &[(&str, &str)] = &[
    (
        "/v2/models/iris/infer",
        r#"{"id":"7","inputs":[{"name":"features","datatype":"FP32","shape":[2,4],"data":[5.8,2.7,5.1,1.9,1,2,3,4]}]}"#,
    ),
    (
        "/v2/models/iris/versions/1/infer",
        r#"{"inputs":[{"name":"features","shape":[1,4],"datatype":"FP32","parameters":{},"data":[[5.8,2.7e0,5.1,-1.9]]}],"parameters":{"a":[1,{"b":null}]}}"#,
    ),
    (
        "/v2/models/diabetes/infer",
        r#"{"inputs":[{"name":"features","shape":[1,10],"datatype":"FP32","data":[54.0,2.0,36.1,115.0,163.0,98.4,43.0,4.0,4.6821,101.0]}]}"#,
    ),
    (
        "/v1/models/iris:predict",
        r#"{"instances":[[5.8,2.7,5.1,1.9],[1,2,3,4]],"signature_name":"serving_default"}"#,
    ),
    (
        "/v1/models/iris:predict",
        r#"{"inputs":{"features":[[5.8,2.7,5.1,1.9]]}}"#,
    ),
    (
        "/v1/models/iris/versions/1:predict",
        r#"{"instances":[{"features":[5.8,2.7,5.1,1.9]},{"features":[1,2,3,4]}]}"#,
    ),
    ("/v1/models/hello-keras:predict", r#"{"inputs":[[1,1,1]]}"#),
    (
        "/v1/models/iris:classify",
        r#"{"context":{"petal_width":1.9},"examples":[{"sepal_length":5.8,"sepal_width":2.7,"petal_length":[5.1]}]}"#,
    ),
    (
        "/v1/models/diabetes:regress",
        r#"{"examples":[{"age":54,"sex":2,"bmi":36.1,"blood_pressure":115,"total_cholesterol":163,"ldl":98.4,"hdl":43,"cholesterol_ratio":4,"log_triglycerides":4.6821,"glucose":101}]}"#,
    ),
];

/// What bodies are made of, and what no body should hold.
const BODY_PIECES: &[&[u8]] = &[
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
    b".",
    b"1e39",
    b"-3.4e38",
    b"1e-50",
    b"1e400",
    b"999999999999999999999999999999",
    b"null",
    b"true",
    b"NaN",
    b"Infinity",
    b" ",
    b"\0",
    b"\xff",
    b"\xef\xbb\xbf",
    b"\xed\xa0\x80",
    b"\"data\":",
    b"\"shape\":",
    b"\"name\":",
    b"\"parameters\":{},",
    b"\"inputs\":",
    b"\"instances\":",
    b"\"outputs\":[{\"name\":\"a\"}],",
    b"[0,4]",
    b"[9223372036854775807,4]",
    b"[1,1,4]",
    b"},{",
    b"[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[",
];

/// The same of requests' lines and headers.
const HEAD_PIECES: &[&[u8]] = &[
    b"\r\n",
    b"\n",
    b"\r",
    b" ",
    b"\t",
    b":",
    b"\0",
    b"\xff",
    b"%",
    b"%00",
    b"%2f",
    b"..",
    b"/",
    b"?",
    b"#",
    b"//",
    b"*",
    b"http://a/",
    b"HTTP/1.0",
    b"HTTP/2.0",
    b"GET",
    b"PUT",
    b"OPTIONS",
    b"/v2/health/ready",
    b"/v1/models/none:predict",
    b"/versions/01",
    b"Host: b\r\n",
    b"Content-Length: 5\r\n",
    b"Content-Length: -1\r\n",
    b"Content-Length: 99999999999999999999\r\n",
    b"Connection: close\r\n",
    b"Transfer-Encoding: chunked\r\n",
    b"Transfer-Encoding: gzip, chunked\r\n",
    b"Content-Encoding: gzip\r\n",
    b"Content-Type: text/plain\r\n",
    b"Expect: a\r\n",
    b"Upgrade: h2c\r\n",
    b"X-Request-Id: \xc3\xa9\r\n",
    b"Inference-Header-Content-Length: 7\r\n",
    b" folded\r\n",
    b"TE: trailers\r\n",
];

/// One mutated request.
pub(crate) struct Mutation {
    pub(crate) bytes: Vec<u8>,
    /// Whether its head is what it would be of a good client, so that it gets exactly one answer.
    pub(crate) is_framed: bool,
}

impl Mutation {
    /// The mutation of a seed and a number: always the same one.
    pub(crate) fn new(seed: u64, number: u64) -> Self {
        let mut chance = Chance(seed ^ number.wrapping_mul(0xa076_1d64_78bd_642f));
        let (path, body) = *chance.one_of(GOOD);
        if chance.below(HEADS_ONE_IN) > 0 {
            let mut body = body.as_bytes().to_vec();
            damage(&mut body, BODY_PIECES, &mut chance);
            return Self {
                bytes: post(path, &body),
                is_framed: true,
            };
        }
        let mut bytes = head(path, body.len());
        damage(&mut bytes, HEAD_PIECES, &mut chance);
        bytes.extend_from_slice(body.as_bytes());
        Self {
            bytes,
            is_framed: false,
        }
    }
}

/// A request as a good client sends it.
pub(crate) fn post(path: &str, body: &[u8]) -> Vec<u8> {
    let mut bytes = head(path, body.len());
    bytes.extend_from_slice(body);
    bytes
}

fn head(path: &str, body_bytes: usize) -> Vec<u8> {
    let line = format!("POST {path} HTTP/1.1\r\nHost: a\r\n");
    format!("{line}Content-Type: application/json\r\nContent-Length: {body_bytes}\r\n\r\n").into()
}

/// Cuts, repeats, overwrites or inserts something, in one to three places.
fn damage(bytes: &mut Vec<u8>, pieces: &[&[u8]], chance: &mut Chance) {
    for _ in 0..=chance.below(3) {
        let at = chance.below(bytes.len() + 1);
        let end = bytes.len().min(at + chance.below(7));
        match chance.below(12) {
            0 => bytes.truncate(at),
            1 | 2 => drop(bytes.drain(at..end)),
            3 | 4 => {
                let again = bytes[at..end].to_vec();
                bytes.splice(at..at, again);
            }
            5 | 6 => drop(bytes.splice(at..end, chance.one_of(pieces).iter().copied())),
            7 | 8 => drop(bytes.splice(at..at, chance.one_of(pieces).iter().copied())),
            // Most numbers stay numbers, which reaches code after the parser.
            9 | 10 => {
                let digits = (at..bytes.len()).find(|place| bytes[*place].is_ascii_digit());
                if let Some(place) = digits {
                    bytes[place] = b'0' + chance.below(10) as u8;
                }
            }
            _ if at < bytes.len() => bytes[at] = chance.below(256) as u8,
            _ => {}
        }
    }
}

/// Numbers that a seed decides: SplitMix64 (Steele, Lea, Flood 2014).
struct Chance(u64);

impl Chance {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    fn below(&mut self, bound: usize) -> usize {
        (self.next() % bound as u64) as usize
    }

    fn one_of<'a, T>(&mut self, choices: &'a [T]) -> &'a T {
        &choices[self.below(choices.len())]
    }
}
