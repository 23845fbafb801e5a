//! What is sent: bodies made from a model's metadata, or those of a file.

use std::fmt;
use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use bytes::Bytes;
use serde::Deserialize;
use serde_json::{Value, json};

use super::settings::Protocol;

/// The most bytes of all bodies of a run, made or read.
const MAX_BODIES_BYTES: usize = 64 << 20;

/// The most generated bodies. Each connection sends them in turn.
const MADE_BODIES: usize = 16;

/// The length of a generated number with its comma: `-0.1234,`.
const NUMBER_BYTES: usize = 8;

/// A body, and what its answer is checked against.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Body {
    pub(super) bytes: Bytes,
    /// The length of its JSON, if tensors follow.
    pub(super) json_bytes: Option<usize>,
    pub(super) rows: usize,
}

/// The part of a model's metadata that bodies need.
#[derive(Debug, Deserialize)]
pub(super) struct Metadata {
    pub(super) inputs: Vec<Input>,
}

/// An input of a model.
#[derive(Debug, Deserialize)]
pub(super) struct Input {
    name: String,
    datatype: String,
    shape: Vec<i64>,
}

/// Why there are no bodies to send.
#[derive(Debug)]
pub enum BodyError {
    /// The model has an input that cannot be generated.
    Input {
        /// The input's name.
        name: String,
        /// What it is and what was expected.
        problem: String,
    },
    /// One request would be too long.
    TooLong {
        /// Its rows.
        rows: usize,
        /// About how many bytes it would have.
        bytes: usize,
    },
    /// The file cannot be read.
    File(PathBuf, io::Error),
    /// The file holds no bodies that can be checked.
    Data {
        /// The file.
        file: PathBuf,
        /// Where and what.
        problem: String,
    },
}

impl fmt::Display for BodyError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Input { name, problem } => write!(
                f,
                "input {name:?}: {problem}; send bodies of your own with --data FILE"
            ),
            Self::TooLong { rows, bytes } => write!(
                f,
                "--rows {rows}: a request would have about {bytes} bytes, more than {MAX_BODIES_BYTES}; ask \
                 for fewer rows"
            ),
            Self::File(file, error) => write!(f, "--data {}: {error}", file.display()),
            Self::Data { file, problem } => write!(f, "--data {}: {problem}", file.display()),
        }
    }
}

impl std::error::Error for BodyError {}

/// Makes bodies of `rows` rows of random numbers.
pub(super) fn made(
    metadata: &Metadata,
    protocol: Protocol,
    rows: usize,
    seed: u64,
) -> Result<Vec<Body>, BodyError> {
    let inputs: Vec<Rows<'_>> = metadata
        .inputs
        .iter()
        .map(|input| Rows::of(input, rows))
        .collect::<Result<_, _>>()?;
    let numbers = inputs
        .iter()
        .map(|input| input.elements)
        .fold(0, usize::saturating_add);
    let bytes = numbers.saturating_mul(rows).saturating_mul(NUMBER_BYTES);
    if bytes > MAX_BODIES_BYTES {
        return Err(BodyError::TooLong { rows, bytes });
    }
    let count = (MAX_BODIES_BYTES / bytes.max(1)).clamp(1, MADE_BODIES);
    let mut random = Random(seed);
    Ok((0..count)
        .map(|_| match protocol {
            Protocol::V2 => v2(&inputs, rows, &mut random),
            Protocol::V2Binary => v2_binary(&inputs, rows, &mut random),
            Protocol::V1 => v1(&inputs, rows, &mut random),
        })
        .collect())
}

/// An input whose rows can be generated.
struct Rows<'a> {
    name: &'a str,
    datatype: &'a str,
    /// Of one row.
    shape: Vec<usize>,
    elements: usize,
}

impl<'a> Rows<'a> {
    fn of(input: &'a Input, rows: usize) -> Result<Self, BodyError> {
        let wrong = |problem: String| BodyError::Input {
            name: input.name.clone(),
            problem,
        };
        if input.datatype != "FP32" {
            let given = &input.datatype;
            return Err(wrong(format!("{given} cannot be made up, only FP32 can")));
        }
        let shape = &input.shape;
        let Some((batch, row)) = shape.split_first() else {
            return Err(wrong("expected a shape [-1, ...], got []".to_owned()));
        };
        if *batch != -1 && *batch != rows as i64 {
            return Err(wrong(format!(
                "it takes {batch} rows a request, --rows says {rows}"
            )));
        }
        let row: Option<Vec<usize>> = row
            .iter()
            .map(|extent| usize::try_from(*extent).ok())
            .collect();
        let Some(row) = row else {
            return Err(wrong(format!(
                "expected a shape in which only the first extent is open, got {shape:?}"
            )));
        };
        Ok(Self {
            name: &input.name,
            datatype: &input.datatype,
            elements: row.iter().copied().fold(1, usize::saturating_mul),
            shape: row,
        })
    }

    fn whole_shape(&self, rows: usize) -> Vec<usize> {
        [&[rows], self.shape.as_slice()].concat()
    }
}

fn v2(inputs: &[Rows<'_>], rows: usize, random: &mut Random) -> Body {
    let inputs: Vec<Value> = inputs
        .iter()
        .map(|input| {
            json!({
                "name": input.name,
                "shape": input.whole_shape(rows),
                "datatype": input.datatype,
                "data": random.numbers(rows * input.elements),
            })
        })
        .collect();
    text(&json!({ "inputs": inputs }), rows)
}

fn v1(inputs: &[Rows<'_>], rows: usize, random: &mut Random) -> Body {
    let instances: Vec<Value> = (0..rows)
        .map(|_| match inputs {
            [only] => random.nested(&only.shape),
            several => several
                .iter()
                .map(|input| (input.name.to_owned(), random.nested(&input.shape)))
                .collect::<serde_json::Map<_, _>>()
                .into(),
        })
        .collect();
    text(&json!({ "instances": instances }), rows)
}

fn text(body: &Value, rows: usize) -> Body {
    Body {
        bytes: body.to_string().into(),
        json_bytes: None,
        rows,
    }
}

fn v2_binary(inputs: &[Rows<'_>], rows: usize, random: &mut Random) -> Body {
    let mut data = Vec::new();
    let heads: Vec<Value> = inputs
        .iter()
        .map(|input| {
            let start = data.len();
            for _ in 0..rows * input.elements {
                data.extend_from_slice(&(random.number() as f32).to_le_bytes());
            }
            json!({
                "name": input.name,
                "shape": input.whole_shape(rows),
                "datatype": input.datatype,
                "parameters": { "binary_data_size": data.len() - start },
            })
        })
        .collect();
    let head = json!({ "inputs": heads, "parameters": { "binary_data_output": true } });
    let mut bytes = head.to_string().into_bytes();
    let json_bytes = Some(bytes.len());
    bytes.append(&mut data);
    Body {
        bytes: bytes.into(),
        json_bytes,
        rows,
    }
}

/// Random numbers from a seed, the same on every machine.
///
/// Source: SplitMix64, Steele, Lea and Flood 2014, "Fast splittable pseudorandom number generators".
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// From -1 to 1, with four decimals, as measurements have.
    fn number(&mut self) -> f64 {
        ((self.next() % 20_001) as f64 - 10_000.0) / 10_000.0
    }

    fn numbers(&mut self, count: usize) -> Vec<f64> {
        (0..count).map(|_| self.number()).collect()
    }

    /// Numbers in lists of lists.
    fn nested(&mut self, shape: &[usize]) -> Value {
        match shape {
            [] => self.number().into(),
            [extent, inner @ ..] => (0..*extent).map(|_| self.nested(inner)).collect(),
        }
    }
}

/// Reads the bodies of a file: JSON values, one a line or not, each sent unchanged.
pub(super) fn read(file: &Path, protocol: Protocol) -> Result<Vec<Body>, BodyError> {
    let mut text = Vec::new();
    let limit = MAX_BODIES_BYTES as u64 + 1;
    File::open(file)
        .and_then(|opened| opened.take(limit).read_to_end(&mut text))
        .map_err(|error| BodyError::File(file.to_owned(), error))?;
    split(text.into(), protocol).map_err(|problem| BodyError::Data {
        file: file.to_owned(),
        problem,
    })
}

fn split(text: Bytes, protocol: Protocol) -> Result<Vec<Body>, String> {
    if text.len() > MAX_BODIES_BYTES {
        return Err(format!(
            "longer than {MAX_BODIES_BYTES} bytes; use a part of it"
        ));
    }
    let mut bodies = Vec::new();
    let mut start = 0;
    let mut values = serde_json::Deserializer::from_slice(&text).into_iter::<Value>();
    while let Some(value) = values.next() {
        let value = value.map_err(|error| format!("no JSON: {error}"))?;
        let end = values.byte_offset();
        let rows = rows(&value, protocol).map_err(|problem| {
            let first = end - text[start..end].trim_ascii_start().len();
            let line = 1 + memchr::memchr_iter(b'\n', &text[..first]).count();
            format!("body {} (line {line}): {problem}", bodies.len() + 1)
        })?;
        bodies.push(Body {
            bytes: text.slice_ref(text[start..end].trim_ascii()),
            json_bytes: None,
            rows,
        });
        start = end;
    }
    match bodies.is_empty() {
        true => Err("expected a body a line, found none".to_owned()),
        false => Ok(bodies),
    }
}

/// The number of rows in a body.
fn rows(body: &Value, protocol: Protocol) -> Result<usize, String> {
    let rows = match protocol {
        Protocol::V1 => body["instances"].as_array().map(Vec::len),
        _ => body["inputs"][0]["shape"][0]
            .as_u64()
            .and_then(|rows| usize::try_from(rows).ok()),
    };
    rows.filter(|rows| *rows > 0).ok_or_else(|| match protocol {
        Protocol::V1 => r#"expected {"instances": [...]} with a row or more"#.to_owned(),
        _ => r#"expected {"inputs": [{"name": ..., "shape": [ROWS, ...], ...}]} with a row or more; V1's bodies need --protocol v1"#.to_owned(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn metadata(inputs: Value) -> Metadata {
        serde_json::from_value(json!({ "name": "m", "inputs": inputs })).unwrap()
    }

    fn pair() -> Metadata {
        metadata(json!([
            {"name": "a", "datatype": "FP32", "shape": [-1, 2, 2]},
            {"name": "b", "datatype": "FP32", "shape": [-1]},
        ]))
    }

    fn parsed(body: &Body) -> Value {
        serde_json::from_slice(&body.bytes).unwrap()
    }

    #[test]
    fn bodies_have_the_shapes_of_the_inputs() {
        let bodies = made(&pair(), Protocol::V2, 3, 1).unwrap();
        assert_eq!(bodies.len(), MADE_BODIES);
        let body = parsed(&bodies[0]);
        assert_eq!(body["inputs"][0]["shape"], json!([3, 2, 2]));
        assert_eq!(body["inputs"][0]["data"].as_array().unwrap().len(), 12);
        assert_eq!(body["inputs"][1]["shape"], json!([3]));
        let body = parsed(&made(&pair(), Protocol::V1, 3, 1).unwrap()[0]);
        let instances = body["instances"].as_array().unwrap();
        assert_eq!(instances.len(), 3);
        assert_eq!(instances[0]["a"][1].as_array().unwrap().len(), 2);
        assert!(instances[0]["b"].is_number());
        let one = metadata(json!([{"name": "x", "datatype": "FP32", "shape": [-1, 4]}]));
        let body = parsed(&made(&one, Protocol::V1, 2, 1).unwrap()[0]);
        assert_eq!(body["instances"][1].as_array().unwrap().len(), 4);
    }

    #[test]
    fn binary_tensors_follow_their_json() {
        let body = &made(&pair(), Protocol::V2Binary, 3, 1).unwrap()[0];
        let json_bytes = body.json_bytes.unwrap();
        let head: Value = serde_json::from_slice(&body.bytes[..json_bytes]).unwrap();
        assert_eq!(head["inputs"][0]["parameters"]["binary_data_size"], 48);
        assert_eq!(head["inputs"][1]["parameters"]["binary_data_size"], 12);
        assert_eq!(body.bytes.len() - json_bytes, 60);
    }

    #[test]
    fn the_seed_alone_decides_about_the_numbers() {
        let bodies = |seed| made(&pair(), Protocol::V2, 3, seed).unwrap();
        assert_eq!(bodies(1), bodies(1));
        assert_ne!(bodies(1), bodies(2));
        assert_ne!(bodies(1)[0], bodies(1)[1]);
        // The published sequence of the generator from seed 1234567.
        let mut random = Random(1_234_567);
        assert_eq!(random.next(), 6_457_827_717_110_365_317);
        assert_eq!(random.next(), 3_203_168_211_198_807_973);
    }

    #[test]
    fn what_cannot_be_generated_is_named_with_a_hint() {
        let refusal = |datatype: &str, shape: Value, rows| {
            let metadata = metadata(json!([{"name": "x", "datatype": datatype, "shape": shape}]));
            made(&metadata, Protocol::V2, rows, 0)
                .unwrap_err()
                .to_string()
        };
        assert_eq!(
            refusal("BYTES", json!([-1, 1]), 1),
            r#"input "x": BYTES cannot be made up, only FP32 can; send bodies of your own with --data FILE"#
        );
        let open = refusal("FP32", json!([-1, -1]), 1);
        assert!(open.contains("got [-1, -1]; send bodies"), "{open}");
        let fixed = refusal("FP32", json!([8, 2]), 3);
        assert!(
            fixed.contains("it takes 8 rows a request, --rows says 3"),
            "{fixed}"
        );
        let long = refusal("FP32", json!([-1, 1000]), 1_000_000);
        assert!(long.contains("ask for fewer rows"), "{long}");
    }

    #[test]
    fn bodies_of_a_file_are_sent_as_they_stand() {
        let lines = "{\"instances\": [[1],  [2]]}\n\n{\n \"instances\":[[3]] }\n";
        let bodies = split(lines.into(), Protocol::V1).unwrap();
        let texts: Vec<&[u8]> = bodies.iter().map(|body| &body.bytes[..]).collect();
        assert_eq!(
            texts,
            [
                &b"{\"instances\": [[1],  [2]]}"[..],
                b"{\n \"instances\":[[3]] }"
            ]
        );
        assert_eq!((bodies[0].rows, bodies[1].rows), (2, 1));
        let v2 = r#"{"inputs":[{"name":"x","shape":[7,1],"datatype":"FP32","data":[]}]}"#;
        assert_eq!(split(v2.into(), Protocol::V2).unwrap()[0].rows, 7);
    }

    #[test]
    fn a_body_that_cannot_be_checked_is_named_by_its_line() {
        let refusal = |text: &'static str| split(text.into(), Protocol::V1).unwrap_err();
        assert_eq!(refusal(" \n"), "expected a body a line, found none");
        let second = refusal("{\"instances\":[1]}\n{\"instances\":[]}");
        assert!(second.starts_with("body 2 (line 2): expected"), "{second}");
        let broken = refusal("{\"instances\":[1]}\n{");
        assert!(
            broken.starts_with("no JSON: ") && broken.contains("line 2"),
            "{broken}"
        );
    }
}
