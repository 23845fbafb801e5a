//! Each type of value in each form, for inputs that no family has by itself.

use super::{Declared, Form, Given, InputRows, Rows, check};
use crate::http::error::{ApiError, Refusal};
use crate::json::Reader;
use crate::tensor::{Axis, ByteStrings, DataType, Shape, TensorSpec, Values};

const MAX_ROWS: usize = 8;

fn spec(datatype: DataType, shape: Shape) -> TensorSpec {
    TensorSpec::new("x", datatype, shape)
}

fn strings(of: &[&[u8]]) -> Values {
    let mut strings = ByteStrings::default();
    of.iter().for_each(|string| strings.push(string));
    Values::Bytes(strings)
}

/// The message of a refusal.
fn told(error: ApiError) -> String {
    let answer = error.into_answer();
    let refusal: &Refusal = answer.extensions().get().unwrap();
    refusal.client_message().to_owned()
}

/// Rows of JSON that has no declared shape.
fn listed(spec: &TensorSpec, text: &str) -> Result<Rows, String> {
    list(spec, text).map_err(told)
}

fn list(spec: &TensorSpec, text: &str) -> Result<Rows, ApiError> {
    let mut input = InputRows::none(spec);
    let mut reader = Reader::new(text.as_bytes())?;
    input.read(&mut reader, MAX_ROWS)?;
    reader.end()?;
    Rows::join("rows", vec![input], MAX_ROWS)
}

/// Rows of a tensor that is declared, of JSON or of bytes.
fn declared(
    spec: &TensorSpec,
    datatype: &str,
    shape: &[u64],
    data: Result<&str, &[u8]>,
) -> Result<Rows, String> {
    declare(spec, datatype, shape, data).map_err(told)
}

fn declare(
    spec: &TensorSpec,
    datatype: &str,
    shape: &[u64],
    data: Result<&str, &[u8]>,
) -> Result<Rows, ApiError> {
    let form = match data {
        Ok(_) => Form::Typed,
        Err(_) => Form::Binary,
    };
    let shape = format!("{shape:?}");
    let shape = Declared::read(&mut Reader::new(shape.as_bytes())?)?;
    let size = check(spec, Given::named(datatype), &shape, MAX_ROWS, form)?;
    let mut input = InputRows::none(spec);
    match data {
        Ok(text) => input.read_declared(&mut Reader::new(text.as_bytes())?, size)?,
        Err(bytes) => input.read_binary(size, bytes, false, || "data".to_owned())?,
    }
    Rows::join("inputs", vec![input], MAX_ROWS)
}

/// Rows of one value a cell.
fn cells(spec: &TensorSpec, rows: &[&[&str]]) -> Result<Rows, String> {
    let mut input = InputRows::none(spec);
    for row in rows {
        for cell in *row {
            let pushed = input.push_cell(cell.as_bytes(), false);
            pushed.map_err(|(code, message)| format!("{}: {message}", code.as_str()))?;
        }
        input.end_row();
    }
    Rows::join("rows", vec![input], MAX_ROWS).map_err(told)
}

fn message(refused: Result<Rows, String>) -> String {
    refused.unwrap_err()
}

#[test]
fn double_precision_keeps_its_digits() {
    let spec = spec(DataType::Fp64, Shape::rows([2]));
    let values = [0.1, 1.797_693_134_862_315_7e308];
    let expected = [Values::F64(values.to_vec())];
    let text = "[[0.1, 1.7976931348623157e308]]";
    assert_eq!(listed(&spec, text).unwrap().inputs, expected);
    let flat = "[0.1, 1.7976931348623157e308]";
    for datatype in ["FP64", "FP32"] {
        let rows = declared(&spec, datatype, &[1, 2], Ok(flat)).unwrap();
        assert_eq!(rows.inputs, expected, "{datatype}");
    }
    let bytes: Vec<u8> = values.iter().flat_map(|v| v.to_le_bytes()).collect();
    let rows = declared(&spec, "FP64", &[1, 2], Err(&bytes)).unwrap();
    assert_eq!(rows.inputs, expected);
    let singles: Vec<u8> = [0.5f32, -2.0]
        .iter()
        .flat_map(|v| v.to_le_bytes())
        .collect();
    let rows = declared(&spec, "FP32", &[1, 2], Err(&singles)).unwrap();
    assert_eq!(rows.inputs, [Values::F64(vec![0.5, -2.0])]);
    let row: &[&str] = &["0.1", " 1.7976931348623157e308"];
    assert_eq!(cells(&spec, &[row]).unwrap().inputs, expected);

    assert_eq!(
        message(listed(&spec, "[[1, 1e309]]")),
        "[0][1]: expected a number that is finite as FP64 (at most 1.7976931348623157e308), found \
         1e309; send a smaller one"
    );
    let infinite = f64::INFINITY.to_le_bytes().repeat(2);
    assert!(message(declared(&spec, "FP64", &[1, 2], Err(&infinite))).contains("as value 0"));
}

#[test]
fn texts_and_bytes_come_whole() {
    let spec = spec(DataType::Bytes, Shape::rows([]));
    let expected = [strings(&["a\n\u{e4}".as_bytes(), b"", b"\x00\xff"])];
    let text = r#"["a\nä", "", {"b64": "AP8="}]"#;
    assert_eq!(listed(&spec, text).unwrap().inputs, expected);
    let mut bytes = Vec::new();
    for string in ["a\n\u{e4}".as_bytes(), b"", b"\x00\xff"] {
        bytes.extend((string.len() as u32).to_le_bytes());
        bytes.extend(string);
    }
    let rows = declared(&spec, "BYTES", &[3], Err(&bytes)).unwrap();
    assert_eq!(rows.inputs, expected);
    let rows: [&[&str]; 2] = [&["a\n\u{e4}"], &[""]];
    assert_eq!(
        cells(&spec, &rows).unwrap().inputs,
        [strings(&["a\n\u{e4}".as_bytes(), b""])]
    );

    for cut in [1, 4, bytes.len() - 1] {
        let refused = message(declared(&spec, "BYTES", &[3], Err(&bytes[..cut])));
        assert!(refused.contains("takes 3 byte strings"), "{refused}");
    }
    for text in [
        r#"[{"b64": "AP8"}]"#,
        r#"[{"b64": "AP8=", "more": 1}]"#,
        "[{}]",
    ] {
        let refused = message(listed(&spec, text));
        let expected = "[0]: expected an object with base64 under \"b64\" and nothing else";
        assert!(refused.starts_with(expected), "{refused}");
    }
    assert_eq!(
        message(listed(&spec, "[1]")),
        "[0]: expected a string, found 1"
    );
}

#[test]
fn truth_values_are_0_and_1() {
    let spec = spec(DataType::Bool, Shape::rows([2]));
    let expected = [Values::I64(vec![1, 0])];
    assert_eq!(listed(&spec, "[[true, false]]").unwrap().inputs, expected);
    let rows = declared(&spec, "BOOL", &[1, 2], Ok("[true, false]")).unwrap();
    assert_eq!(rows.inputs, expected);
    let rows = declared(&spec, "BOOL", &[1, 2], Err(&[1, 0])).unwrap();
    assert_eq!(rows.inputs, expected);
    let refused = message(declared(&spec, "BOOL", &[1, 2], Err(&[1, 2])));
    assert_eq!(
        refused,
        "input \"x\": row 0: expected BOOL values, 0 to 1, got 2"
    );
    let refused = message(declared(&spec, "INT8", &[1, 2], Err(&[1, 0])));
    assert!(
        refused.contains("expected BOOL [-1, 2], got INT8"),
        "{refused}"
    );
}

#[test]
fn each_width_of_integers_is_read_with_its_sign() {
    let spec = spec(DataType::Int64, Shape::rows([]));
    for (datatype, bytes, value) in [
        ("INT8", &[0xff][..], -1),
        ("UINT8", &[0xff], 255),
        ("INT16", &[0xfe, 0xff], -2),
        ("UINT16", &[0xfe, 0xff], 65_534),
        ("INT32", &[0xfd, 0xff, 0xff, 0xff], -3),
        ("UINT32", &[0xfd, 0xff, 0xff, 0xff], 4_294_967_293),
        ("INT64", &i64::MIN.to_le_bytes(), i64::MIN),
        ("UINT64", &i64::MAX.to_le_bytes(), i64::MAX),
    ] {
        let rows = declared(&spec, datatype, &[1], Err(bytes)).unwrap();
        assert_eq!(rows.inputs, [Values::I64(vec![value])], "{datatype}");
        let text = format!("[{value}]");
        let rows = declared(&spec, datatype, &[1], Ok(&text)).unwrap();
        assert_eq!(rows.inputs, [Values::I64(vec![value])], "{datatype}");
    }
    let beyond = declared(&spec, "UINT64", &[1], Err(&u64::MAX.to_le_bytes()));
    assert!(message(beyond).contains("expected UINT64 values"));
    for (text, problem) in [
        (
            "[9223372036854775808]",
            "expected an integer of 64 bits with a sign",
        ),
        ("[1.0]", "expected an integer"),
        ("[1e3]", "expected an integer"),
        ("[01]", "may not start with a 0"),
        ("[-]", "expected a digit"),
    ] {
        let refused = message(listed(&spec, text));
        assert!(refused.contains(problem), "{text}: {refused}");
    }
    let row: &[&str] = &["-9223372036854775808"];
    assert_eq!(
        cells(&spec, &[row]).unwrap().inputs,
        [Values::I64(vec![i64::MIN])]
    );
    for (cell, problem) in [
        ("", "wrong_type: expected an integer, got \"\""),
        ("-", "wrong_type: expected an integer"),
        ("1.0", "wrong_type: expected an integer"),
        (
            "9223372036854775808",
            "out_of_range: expected an integer from",
        ),
    ] {
        let refused = cells(&spec, &[&[cell]]).unwrap_err();
        assert!(refused.starts_with(problem), "{refused}");
    }
}

#[test]
fn inputs_along_one_axis_have_the_same_tokens() {
    let ids = spec(DataType::Int64, Shape::tokens(Axis(0), []));
    let frames = TensorSpec {
        name: "frames".to_owned(),
        ..spec(DataType::Fp32, Shape::tokens(Axis(0), [2]))
    };
    let read = |spec, text: &str| {
        let mut input = InputRows::none(spec);
        let mut reader = Reader::new(text.as_bytes()).unwrap();
        input.read(&mut reader, MAX_ROWS).map_err(told).unwrap();
        input
    };
    let both = |a: &str, b: &str| {
        let inputs = vec![read(&ids, a), read(&frames, b)];
        Rows::join("inputs", inputs, MAX_ROWS).map_err(told)
    };
    let rows = both("[[1], [], [2, 3]]", "[[[1, 2]], [], [[3, 4], [5, 6]]]").unwrap();
    assert_eq!((rows.rows, &*rows.offsets), (3, &[vec![0, 1, 1, 3]][..]));
    assert_eq!(
        rows.inputs,
        [
            Values::I64(vec![1, 2, 3]),
            Values::F32(vec![1.0, 2.0, 3.0, 4.0, 5.0, 6.0])
        ]
    );
    assert_eq!(rows.bytes(), 3 * 8 + 6 * 4 + 4 * 8);
    assert_eq!(
        message(both("[[1], [2]]", "[[[1, 2]], [[1, 2], [1, 2]]]")),
        "inputs: row 1: input \"frames\" has 2 tokens, but input \"x\" has 1; send as many of each"
    );
    assert_eq!(
        message(both("[[1], [2]]", "[[[1, 2]]]")),
        "inputs: input \"frames\" has 1 row, but input \"x\" has 2; send as many of each"
    );
}
