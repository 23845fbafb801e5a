use proptest::prelude::*;

use super::{Kind, MAX_DEPTH, Reader};
use crate::json::{Error, ErrorKind, Writer};

fn reader(text: &str) -> Reader<'_> {
    Reader::new(text.as_bytes()).expect("the text is UTF-8")
}

/// The error of skipping a whole document.
fn refused(text: &str) -> Error {
    let mut reader = reader(text);
    reader
        .skip()
        .and_then(|()| reader.end())
        .expect_err("the text is not JSON")
}

fn numbers(text: &str) -> Result<(Vec<f32>, Vec<usize>), Error> {
    let mut values: Vec<f32> = Vec::new();
    let mut reader = reader(text);
    let extents = reader.nested(&mut values, 100)?;
    reader.end()?;
    Ok((values, extents.to_vec()))
}

#[test]
fn a_document_is_read_in_order() {
    let mut reader = reader(r#" {"a" : [1, -2.5e1] , "b":"x\u0041\n", "c":null,"d":true,"e":7} "#);
    let mut keys = String::new();
    reader
        .object(|reader, key| {
            keys.push_str(key);
            match key {
                "a" => reader.array(|reader, index| {
                    assert_eq!(reader.f32()?, [1.0, -25.0][index]);
                    Ok::<_, Error>(())
                }),
                "b" => {
                    assert_eq!(reader.string()?, "xA\n");
                    Ok(())
                }
                "c" => {
                    assert!(reader.null()?);
                    Ok(())
                }
                "d" => {
                    assert!(reader.bool()?);
                    Ok(())
                }
                _ => {
                    assert_eq!(reader.u64()?, 7);
                    Ok(())
                }
            }
        })
        .expect("the document is what is read");
    reader.end().expect("nothing follows");
    assert_eq!(keys, "abcde");
}

#[test]
fn nested_numbers_land_in_one_buffer_with_their_shape() {
    for (text, values, shape) in [
        ("3.5", vec![3.5], vec![]),
        ("[]", vec![], vec![0]),
        ("[1]", vec![1.0], vec![1]),
        (" [ 1 ,2, 3\n] ", vec![1.0, 2.0, 3.0], vec![3]),
        (
            "[[1,2,3],[4,5,6]]",
            vec![1.0, 2.0, 3.0, 4.0, 5.0, 6.0],
            vec![2, 3],
        ),
        (
            "[[[1],[2]] , [ [3] , [4] ]]",
            vec![1.0, 2.0, 3.0, 4.0],
            vec![2, 2, 1],
        ),
        ("[[],[]]", vec![], vec![2, 0]),
        ("[[[[[[1]]]]]]", vec![1.0], vec![1; 6]),
    ] {
        assert_eq!(numbers(text), Ok((values, shape)), "{text}");
    }
}

#[test]
fn ragged_numbers_are_refused_with_the_path_of_the_odd_one() {
    for (text, path, kind) in [
        ("[[1,2],[3]]", "[1]", ErrorKind::Ragged),
        ("[[1,2],[3,4,5]]", "[1]", ErrorKind::Ragged),
        ("[[1,2],[]]", "[1]", ErrorKind::Ragged),
        ("[[],[1]]", "[1]", ErrorKind::Ragged),
        ("[[1],2]", "[1]", ErrorKind::Ragged),
        ("[[[1]],[2]]", "[1][0]", ErrorKind::Ragged),
        ("[1,[2]]", "[1]", ErrorKind::Type),
        ("[[1],[[2]]]", "[1][0]", ErrorKind::Type),
        ("[1,\"2\"]", "[1]", ErrorKind::Type),
        ("[1,null]", "[1]", ErrorKind::Type),
        ("[1,true]", "[1]", ErrorKind::Type),
        ("[1,{}]", "[1]", ErrorKind::Type),
        ("[1,]", "[1]", ErrorKind::Syntax),
        ("[1 2]", "[0]", ErrorKind::Syntax),
        ("[[1],", "[1]", ErrorKind::Ragged),
        ("[1", "[0]", ErrorKind::Syntax),
        ("[0,1e39]", "[1]", ErrorKind::NotFinite),
        ("[NaN]", "[0]", ErrorKind::NotFinite),
        ("[0,-Infinity]", "[1]", ErrorKind::NotFinite),
        ("[1] 2", "the body", ErrorKind::Syntax),
    ] {
        let error = numbers(text).expect_err(text);
        assert_eq!(
            (&*error.path().to_string(), error.kind()),
            (path, kind),
            "{text}: {error}"
        );
    }
}

#[test]
fn no_more_numbers_are_read_than_asked_for() {
    let mut values = vec![9.0];
    let error = reader("[[1,2],[3,4]]")
        .nested(&mut values, 3)
        .expect_err("there are four");
    assert_eq!(
        error.to_string(),
        "[1][1]: expected at most 3 values, found more"
    );
    assert_eq!(values, [9.0, 1.0, 2.0, 3.0]);
}

#[test]
fn tokens_that_are_not_finite_need_permission() {
    let mut values: Vec<f32> = Vec::new();
    reader("[NaN, Infinity,-Infinity ,1e39]")
        .allowing_non_finite(true)
        .nested(&mut values, 4)
        .expect("they are allowed");
    assert!(values[0].is_nan());
    assert_eq!(
        values[1..],
        [f32::INFINITY, f32::NEG_INFINITY, f32::INFINITY]
    );
    reader(r#"{"a":[NaN,-Infinity],"b":Infinity}"#)
        .allowing_non_finite(true)
        .skip()
        .expect("they can be skipped");
    for token in ["NaN", "Infinity", "-Infinity"] {
        let text = format!("[0,{token}]");
        let read = numbers(&text).expect_err("it is not allowed");
        assert_eq!(read.kind(), ErrorKind::NotFinite, "{token}");
        assert_eq!(refused(&text), read, "skipped or read");
    }
}

#[test]
fn an_error_says_where_what_was_expected_and_what_came() {
    let mut values: Vec<f32> = Vec::new();
    let mut reader = reader(r#"{"inputs":[{"data":[1,2,3,"abc"]}]}"#);
    let error = reader
        .object(|reader, _| {
            reader.array(|reader, _| {
                reader.object(|reader, _| reader.nested(&mut values, 9).map(|_| ()))
            })
        })
        .expect_err("a string is not a number");
    assert_eq!(
        error.to_string(),
        r#"inputs[0].data[3]: expected a number, found "abc"; send numbers without quotes"#
    );
}

#[test]
fn what_is_not_json_is_refused() {
    for (text, message) in [
        ("", "the body: expected a value, found the end of the body"),
        (
            "{",
            "the body: expected a key in double quotes, found the end of the body",
        ),
        ("{\"a\"}", "a: expected ':' after the key, found '}'"),
        (
            "{\"a\":1,}",
            "the body: expected no comma before '}'; remove the trailing comma",
        ),
        (
            "{'a':1}",
            "the body: expected a key in double quotes, found '\\''",
        ),
        ("{\"a\":1 \"b\":2}", "a: expected ',' or '}', found \"b\""),
        ("[1,,2]", "[1]: expected a value, found ','"),
        ("[1;2]", "[0]: expected ',' or ']', found ';'"),
        ("[1}", "[0]: expected ',' or ']', found '}'"),
        ("]", "the body: expected a value, found ']'"),
        ("1 1", "the body: expected the end of the body, found 1"),
        (
            "{}{}",
            "the body: expected the end of the body, found an object",
        ),
        ("nul", "the body: expected a value, found nul"),
        ("True", "the body: expected a value, found True"),
        ("Nan", "the body: expected a value, found Nan"),
        ("+1", "the body: expected a value, found +1"),
        (".5", "the body: expected a value, found .5"),
        (
            "1.",
            "the body: expected a digit after the decimal point, found the end of the body",
        ),
        (
            "1.x",
            "the body: expected a digit after the decimal point, found x",
        ),
        (
            "01",
            "the body: a number may not start with a 0 that more digits follow, found 01",
        ),
        ("0x10", "the body: expected the end of the body, found x10"),
        ("/**/1", "the body: expected a value, found '/'"),
        ("\u{0}", "the body: expected a value, found '\\0'"),
        (
            "\"a",
            "the body: the string does not end before the body does",
        ),
        (
            "\"a\nb\"",
            "the body: the string holds the bare control character 0x0a",
        ),
        (
            "\"\\x\"",
            "the body: the string holds an escape that JSON does not know",
        ),
        (
            "\"\\u12g4\"",
            "the body: expected four hexadecimal digits after \\u",
        ),
        (
            "\"\\ud800\"",
            "the body: the string holds half of a surrogate pair",
        ),
        (
            "\"\\ud800\\u0041\"",
            "the body: the string holds half of a surrogate pair",
        ),
        (
            "\"\\udc00\\ud800\"",
            "the body: the string holds half of a surrogate pair",
        ),
    ] {
        assert_eq!(refused(text).to_string(), message, "{text:?}");
    }
}

#[test]
fn a_body_is_utf_8_without_a_byte_order_mark() {
    let error = Reader::new(b"{\"a\":\"\xff\"}").expect_err("0xff is never UTF-8");
    assert_eq!(
        error.to_string(),
        "the body: expected UTF-8, found byte 0xff at position 6"
    );
    assert!(Reader::new(b"\xef\xbb\xbf{}").is_err());
}

#[test]
fn surrogate_pairs_become_one_character() {
    assert_eq!(reader(r#""\ud83d\ude00""#).string(), Ok("😀".into()));
}

#[test]
fn a_key_comes_once_however_it_is_written() {
    let error = reader(r#"{"a":1,"b":2,"\u0061":3}"#)
        .object(|reader, _| reader.skip())
        .expect_err("a comes twice");
    assert_eq!(error.kind(), ErrorKind::DuplicateKey);

    let mut many: Vec<String> = (0..40).map(|key| format!("\"k{key}\":0")).collect();
    let read = |members: &[String]| {
        let text = format!("{{{}}}", members.join(","));
        reader(&text).object(|reader, _| reader.skip())
    };
    assert_eq!(read(&many), Ok(()));
    for again in [3, 30] {
        many.push(format!("\"k{again}\":0"));
        assert_eq!(
            read(&many).map_err(|error| error.kind()),
            Err(ErrorKind::DuplicateKey)
        );
        many.pop();
    }
}

#[test]
fn depth_is_bounded_without_recursion() {
    let nested = |depth: usize| format!("{}1{}", "[".repeat(depth), "]".repeat(depth));
    assert_eq!(reader(&nested(MAX_DEPTH)).skip(), Ok(()));
    assert_eq!(refused(&nested(MAX_DEPTH + 1)).kind(), ErrorKind::TooDeep);
    assert_eq!(refused(&"[".repeat(1_000_000)).kind(), ErrorKind::TooDeep);
    assert_eq!(
        refused(&"{\"a\":".repeat(100_000)).kind(),
        ErrorKind::TooDeep
    );
    let error = numbers(&nested(17)).expect_err("no tensor has 17 axes");
    assert_eq!(error.kind(), ErrorKind::TooDeep);
}

#[test]
fn integers_are_exact_and_bounded() {
    assert_eq!(reader("18446744073709551615").u64(), Ok(u64::MAX));
    for (text, kind) in [
        ("18446744073709551616", ErrorKind::Range),
        ("-1", ErrorKind::Range),
        ("1.0", ErrorKind::Type),
        ("1e3", ErrorKind::Type),
        ("\"1\"", ErrorKind::Type),
        ("true", ErrorKind::Type),
    ] {
        let error = reader(text).u64().expect_err(text);
        assert_eq!(error.kind(), kind, "{text}");
    }
    let huge = "9".repeat(1_000);
    let error = reader(&huge).u64().expect_err("too large");
    assert_eq!(
        error.to_string(),
        format!(
            "the body: expected an integer of 64 bits, found {}…",
            "9".repeat(32)
        )
    );
}

#[test]
fn an_earlier_place_can_be_read_again() {
    let mut reader = reader(r#"{"data":[1,2],"shape":3}"#);
    let mut data = None;
    let mut sum = 0.0;
    reader
        .object(|reader, key| {
            if key == "data" {
                data = Some(reader.mark());
                return reader.skip();
            }
            let mark = data.expect("data comes first");
            assert_eq!(reader.path(mark).to_string(), "data");
            reader.revisit(mark, |reader| {
                let mut values: Vec<f32> = Vec::new();
                reader.nested(&mut values, 9)?;
                sum = values.iter().sum();
                Ok::<_, Error>(())
            })?;
            assert_eq!(reader.u64()?, 3);
            Ok::<_, Error>(())
        })
        .expect("both are read");
    assert_eq!(sum, 3.0);
}

#[test]
fn long_and_odd_text_is_shown_escaped_and_cut() {
    let text = format!("\"{}\"", "a\u{1b}".repeat(100));
    let error = reader(&text.replace('\u{1b}', "\u{85}"))
        .f32()
        .expect_err("a string");
    assert_eq!(
        error.to_string(),
        format!(
            "the body: expected a number, found \"{}…\"; send numbers without quotes",
            "a\\u{85}".repeat(16)
        )
    );
}

proptest! {
    #[test]
    fn no_bytes_make_the_reader_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        let _ = Reader::new(&bytes).and_then(|mut reader| reader.skip());
    }

    /// Skipping agrees with serde_json on what is JSON, up to what is stricter or looser here.
    #[test]
    fn what_is_json_is_agreed(text in r#"([\[\]{},:"\\ae019.+-]|null|true|"a":|\\u00|1,){0,12}"#) {
        let mut reader = reader(&text);
        let ours = reader.skip().and_then(|()| reader.end()).is_ok();
        let theirs = serde_json::from_str::<serde::de::IgnoredAny>(&text).is_ok();
        prop_assert_eq!(ours, theirs, "{}", text);
    }

    #[test]
    fn printed_numbers_read_back_bit_for_bit(bits in prop::collection::vec(any::<u32>(), 0..40)) {
        let floats: Vec<f32> =
            bits.into_iter().map(f32::from_bits).filter(|value| value.is_finite()).collect();
        let mut writer = Writer::default();
        writer.f32s(&floats);
        let text = String::from_utf8(writer.into_bytes()).expect("JSON is UTF-8");
        let (back, shape) = numbers(&text).expect("what is written can be read");
        prop_assert_eq!(shape, [floats.len()]);
        for (value, back) in floats.iter().zip(&back) {
            prop_assert_eq!(value.to_bits(), back.to_bits());
        }
        serde_json::from_str::<Vec<f32>>(&text).expect("others can read it too");
    }

    #[test]
    fn strings_read_back(text in any::<String>()) {
        let mut writer = Writer::default();
        writer.string(&text);
        let written = writer.into_bytes();
        let mut reader = Reader::new(&written).expect("JSON is UTF-8");
        prop_assert_eq!(reader.peek(), Ok(Kind::String));
        prop_assert_eq!(reader.string().expect("a string"), text);
    }
}
