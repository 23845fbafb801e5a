//! The table of refusals: what each malformed request gets, as one snapshot.
//!
//! A change of any message shows here. Classes of attacks that only a socket can carry (framing,
//! slow clients) are not in it.

use std::fmt::Write;

use http::Method;

use super::server::{MAX_BODY_BYTES, TestServer, request};

const V2: &str = "/v2/models/echo/infer";
const INDEX: &str = "/v2/repository/index";
const PAIR: &str = "/v2/models/pair/infer";
const V1: &str = "/v1/models/echo:predict";
const V1_PAIR: &str = "/v1/models/pair:predict";
const CLASSIFY: &str = "/v1/models/fruit:classify";

/// A V2 body with one input, whose shape and data are given.
fn tensor(shape: &str, data: &str) -> String {
    format!(r#"{{"inputs":[{{"name":"x","datatype":"FP32","shape":{shape},"data":{data}}}]}}"#)
}

/// A good V2 body with more members before its inputs.
fn with(members: &str) -> String {
    format!(
        r#"{{{members},"inputs":[{{"name":"x","datatype":"FP32","shape":[1,2],"data":[1,2]}}]}}"#
    )
}

/// Bodies with binary data: the path, what the head says of the JSON's length (`None`: the truth),
/// the JSON, and what is behind it.
fn binary_bodies() -> Vec<(&'static str, Option<String>, String, Vec<u8>)> {
    let input = |name: &str, datatype: &str, shape: &str, size: &str| {
        format!(
            r#"{{"name":"{name}","datatype":"{datatype}","shape":{shape},"parameters":{{"binary_data_size":{size}}}}}"#
        )
    };
    let inputs = |inputs: &[String]| format!(r#"{{"inputs":[{}]}}"#, inputs.join(","));
    let x = |shape: &str, size: &str| inputs(&[input("x", "FP32", shape, size)]);
    let good = x("[1,2]", "8");
    let mut bodies = Vec::new();

    // A length that is none, or not that of the JSON.
    for length in ["", "-1", "+2", "1.5", "0x10", " ", "x", "1, 2"] {
        bodies.push((V2, Some(length.into()), good.clone(), vec![0; 8]));
    }
    for length in ["1000", "9223372036854775808", "18446744073709551616"] {
        bodies.push((V2, Some(length.into()), good.clone(), vec![0; 8]));
    }
    for length in [good.len() - 1, good.len() + 1] {
        bodies.push((V2, Some(length.to_string()), good.clone(), vec![b' '; 8]));
    }
    bodies.push((V2, Some("1".into()), String::new(), vec![0; 8]));

    // Data that is not there, too short, too long, or of another size than the tensor.
    for blob in [0, 7, 9, 16] {
        bodies.push((V2, None, good.clone(), vec![0; blob]));
    }
    for (shape, size) in [
        ("[1,2]", "7"),
        ("[1,2]", "9"),
        ("[1,2]", "0"),
        ("[2,2]", "8"),
        ("[1,2]", "-8"),
        ("[1,2]", "8.0"),
        ("[1,2]", "\"8\""),
        ("[1,2]", "null"),
        ("[1,2]", "9223372036854775808"),
        ("[1,2]", "18446744073709551615"),
        ("[1,2]", "18446744073709551616"),
        ("[0,2]", "0"),
        ("[-1,2]", "8"),
        ("[1,3]", "12"),
        ("[9,2]", "72"),
        ("[4611686018427387904,2]", "8"),
        ("[9223372036854775808,2]", "0"),
        ("[18446744073709551615,2]", "8"),
        ("[2,1,1]", "8"),
    ] {
        bodies.push((V2, None, x(shape, size), vec![0; 8]));
    }
    for datatype in ["FP64", "INT64", "BYTES", "BOOL", "fp32", ""] {
        let json = inputs(&[input("x", datatype, "[1,2]", "8")]);
        bodies.push((V2, None, json, vec![0; 8]));
    }
    for datatype in ["FP16", "BF16"] {
        let json = inputs(&[input("x", datatype, "[1,2]", "8")]);
        bodies.push((V2, None, json, vec![0; 8]));
    }
    let two = [
        input("a", "FP32", "[1,2]", "8"),
        input("b", "FP32", "[1,2]", "8"),
    ];
    bodies.push((PAIR, None, inputs(&two), vec![0; 12]));
    bodies.push((PAIR, None, inputs(&two), vec![0; 20]));
    bodies.push((PAIR, None, inputs(&two[..1]), vec![0; 8]));
    let twice = [two[0].clone(), two[0].clone()];
    bodies.push((PAIR, None, inputs(&twice), vec![0; 16]));
    let rows = [two[0].clone(), input("b", "FP32", "[2,2]", "16")];
    bodies.push((PAIR, None, inputs(&rows), vec![0; 24]));

    // Data in two ways, or in none that is served.
    for members in [
        r#""data":[1,2],"name":"x","datatype":"FP32","shape":[1,2],"parameters":{"binary_data_size":8}"#,
        r#""name":"x","datatype":"FP32","shape":[1,2],"data":[1,2],"parameters":{"binary_data_size":8}"#,
        r#""name":"x","datatype":"FP32","shape":[1,2],"parameters":{"binary_data_size":8,"binary_data_size":8}"#,
        r#""name":"x","datatype":"FP32","shape":[1,2],"parameters":{"shared_memory_region":"r","shared_memory_byte_size":8}"#,
        r#""name":"x","datatype":"FP32","shape":[1,2],"data":[1,2]"#,
        r#""name":"x","datatype":"FP32","shape":[1,2]"#,
        r#""datatype":"FP32","shape":[1,2],"parameters":{"binary_data_size":8}"#,
        r#""name":"x","shape":[1,2],"parameters":{"binary_data_size":8}"#,
        r#""name":"x","datatype":"FP32","parameters":{"binary_data_size":8}"#,
        r#""name":"z","datatype":"FP32","shape":[1,2],"parameters":{"binary_data_size":8}"#,
    ] {
        bodies.push((
            V2,
            None,
            format!(r#"{{"inputs":[{{{members}}}]}}"#),
            vec![0; 8],
        ));
    }

    // Not finite.
    for value in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
        let blob = [1f32.to_le_bytes(), value.to_le_bytes()].concat();
        bodies.push((V2, None, good.clone(), blob));
    }

    // The tensor alone.
    let raw = |path, bytes| (path, Some("0".to_owned()), String::new(), vec![0; bytes]);
    bodies.extend([0, 7, 9, 72].map(|bytes| raw(V2, bytes)));
    bodies.push(raw(PAIR, 8));
    bodies.push((
        V2,
        Some("0".into()),
        String::new(),
        [f32::NAN; 2].map(f32::to_le_bytes).concat(),
    ));
    bodies
}

fn bodies() -> Vec<(&'static str, Vec<u8>)> {
    let mut bodies: Vec<(&str, Vec<u8>)> = Vec::new();
    let mut add_bytes = |path, body: &[u8]| bodies.push((path, body.to_vec()));

    // No UTF-8, or not all of it, wherever it stands: as text, as a key, in what is ignored, beside
    // the document.
    for body in [
        b"\xff\xfe{\0}\0".as_slice(),
        b"{\"id\":\"\xff\",\"inputs\":[]}",
        b"{\"\xff\":1,\"inputs\":[]}",
        b"{\"ignored\":\"caf\xe9\",\"inputs\":[]}",
        b"{\"inputs\":[]}\x80",
        b"{\"inputs\":[{\"name\":\"x\",\"datatype\":\"FP32\",\"shape\":[1,2],\"data\":[1,\xff]}]}",
        // An overlong slash, half of a surrogate pair, and a character that the end cuts.
        b"{\"id\":\"\xc0\xaf\",\"inputs\":[]}",
        b"{\"id\":\"\xed\xa0\x80\",\"inputs\":[]}",
        b"{\"id\":\"\xe2\x82",
    ] {
        add_bytes(V2, body);
    }
    for body in [
        b"\xff\xfe{\0}\0".as_slice(),
        b"{\"\xff\":1,\"instances\":[[1,2]]}",
        b"{\"instances\":[[1,2]],\"signature_name\":\"\xff\"}",
        b"{\"instances\":[[1,2]],\"ignored\":\"caf\xe9\"}",
        b"{\"instances\":[{\"\xc0\xaf\":[1,2]}]}",
        b"{\"instances\":[[1,\xff]]}",
        b"{\"instances\":[[1,2]]}\x80",
    ] {
        add_bytes(V1, body);
    }
    add_bytes(CLASSIFY, b"{\"examples\":[{\"r\xe9d\":1}]}");
    let mut add = |path, body: &str| add_bytes(path, body.as_bytes());

    // Not JSON, or not the right sort of it.
    for body in [
        "",
        " ",
        "{",
        "[]",
        "null",
        "1",
        "\"inputs\"",
        "{}",
        "{}{}",
        "\u{feff}{}",
        "{\u{feff}\"inputs\":[]}",
        "\0",
        "{\"inputs\":[]\0}",
        "{\"inputs\":[]}\0",
        "{\"id\":\"\0\",\"inputs\":[]}",
        "{\"inputs\":[],}",
        "{inputs:[]}",
        "{'inputs':[]}",
        "{\"inputs\":[]} x",
        "// comment\n{}",
        "<xml/>",
        "x=1&y=2",
        "{\"id\":\"\\ud800\",\"inputs\":[]}",
        "{\"id\":\"\\udc00\\ud800\",\"inputs\":[]}",
        "{\"\\ud800\":1,\"inputs\":[]}",
        "{\"ignored\":\"\\ud800x\",\"inputs\":[]}",
        "{\"id\":\"\\q\",\"inputs\":[]}",
        "{\"id\":\"a\nb\",\"inputs\":[]}",
        "{\"id\":\"unfinished",
        "{\"id\":1,\"inputs\":[]}",
        "{\"id\":\"\",\"id\":\"\",\"inputs\":[]}",
        "{\"\\u0069d\":\"\",\"id\":\"\",\"inputs\":[]}",
    ] {
        add(V2, body);
    }
    add(V2, &format!("{{\"ignored\":{}", "[".repeat(1000)));
    add(V2, &format!("{{\"ignored\":{}", "{\"a\":".repeat(500)));

    // The index takes no body, or an object.
    for body in [
        " ",
        "[]",
        r#"{"ready":"yes"}"#,
        r#"{"ready":null}"#,
        r#"{"ready":true,"ready":true}"#,
        r#"{"ready":true"#,
    ] {
        add(INDEX, body);
    }

    // Inputs that are not there, or not the model's.
    for body in [
        r#"{"inputs":null}"#,
        r#"{"inputs":{}}"#,
        r#"{"inputs":[]}"#,
        r#"{"inputs":[1]}"#,
        r#"{"inputs":[{}]}"#,
        r#"{"inputs":[{"name":"x"}]}"#,
        r#"{"inputs":[{"name":"x","datatype":"FP32"}]}"#,
        r#"{"inputs":[{"name":"x","datatype":"FP32","shape":[1,2]}]}"#,
        r#"{"inputs":[{"name":"z","datatype":"FP32","shape":[1,2],"data":[1,2]}]}"#,
        r#"{"inputs":[{"name":7,"datatype":"FP32","shape":[1,2],"data":[1,2]}]}"#,
        r#"{"inputs":[{"name":"x","datatype":"FP64","shape":[1,2],"data":[1,2]}]}"#,
        r#"{"inputs":[{"name":"x","datatype":"fp32","shape":[1,2],"data":[1,2]}]}"#,
        r#"{"inputs":[{"name":"x","datatype":"FP32\u001b[31m","shape":[1,2],"data":[1,2]}]}"#,
        r#"{"inputs":[{"name":"x","datatype":null,"shape":[1,2],"data":[1,2]}]}"#,
        r#"{"inputs":[{"name":"x","name":"x","datatype":"FP32","shape":[1,2],"data":[1,2]}]}"#,
        r#"{"inputs":[{"name":"x","datatype":"FP32","shape":[1,2],"data":[1,2]},{"name":"x","datatype":"FP32","shape":[1,2],"data":[1,2]}]}"#,
        r#"{"inputs":[{"name":"x","datatype":"FP32","shape":[1,2],"parameters":{"binary_data_size":8}}]}"#,
        r#"{"inputs":[{"name":"x","datatype":"FP32","shape":[1,2],"parameters":{"shared_memory_region":"r"}}]}"#,
    ] {
        add(V2, body);
    }
    add(
        V2,
        &format!(
            r#"{{"inputs":[{{"name":"{}","datatype":"FP32","shape":[1,2],"data":[1,2]}}]}}"#,
            "n".repeat(500)
        ),
    );
    add(
        PAIR,
        r#"{"inputs":[{"name":"a","datatype":"FP32","shape":[1,2],"data":[1,2]}]}"#,
    );
    add(
        PAIR,
        r#"{"inputs":[{"name":"a","datatype":"FP32","shape":[1,2],"data":[1,2]},{"name":"b","datatype":"FP32","shape":[2,2],"data":[1,2,3,4]}]}"#,
    );

    // Shapes.
    for shape in [
        "null",
        "2",
        "{}",
        "[]",
        "[2]",
        "[1,3]",
        "[2,1]",
        "[1,2,1]",
        "[0,2]",
        "[-1,2]",
        "[1.0,2]",
        "[1e0,2]",
        "[\"1\",2]",
        "[true,2]",
        "[9,2]",
        "[1099511627776,2]",
        "[1099511627776,64]",
        "[9223372036854775807,2]",
        "[18446744073709551615,2]",
        "[18446744073709551616,2]",
        "[4294967296,4294967296]",
    ] {
        add(V2, &tensor(shape, "[1,2]"));
    }
    add(V2, &tensor(&format!("[{}1]", "1,".repeat(1000)), "[]"));
    add(
        V2,
        r#"{"inputs":[{"name":"x","datatype":"FP32","shape":[1099511627776,64]}]}"#,
    );

    // Data.
    for data in [
        "null",
        "{}",
        "5",
        "\"AAAA\"",
        "[]",
        "[1]",
        "[1,2,3]",
        "[[1],[2]]",
        "[[1,2],[3]]",
        "[[1,2],3]",
        "[1,[2]]",
        "[1,\"2\"]",
        "[1,null]",
        "[1,true]",
        "[1,{}]",
        "[1,2",
        "[1,]",
        "[1,2,]",
        "[[1,2],]",
        "[,1]",
        "[1 2]",
        "[+1,2]",
        "[01,2]",
        "[.5,2]",
        "[1.,2]",
        "[1e,2]",
        "[0x1,2]",
        "[1_0,2]",
        "[-,2]",
        "[NaN,2]",
        "[1,-Infinity]",
        "[1,nan]",
        "[1e39,2]",
        "[1,-3.5e38]",
        "[1e400,2]",
    ] {
        add(V2, &tensor("[1,2]", data));
    }
    add(V2, &tensor("[1,2]", &format!("[1,{}]", "9".repeat(300))));
    add(V2, &tensor("[1,2]", &format!("{}1", "[".repeat(30))));
    add(
        V2,
        r#"{"inputs":[{"data":[1,"x"],"name":"x","datatype":"FP32","shape":[1,2]}]}"#,
    );

    // Outputs and parameters.
    for members in [
        r#""outputs":{}"#,
        r#""outputs":[{}]"#,
        r#""outputs":["y"]"#,
        r#""outputs":[{"name":"z"}]"#,
        r#""outputs":[{"name":"y"},{"name":"y"}]"#,
        r#""outputs":[{"name":"y","parameters":{"binary_data":1}}]"#,
        r#""outputs":[{"name":"y","parameters":{"shared_memory_region":"r"}}]"#,
        r#""outputs":[{"name":"y","parameters":{"classification":0}}]"#,
        r#""outputs":[{"name":"y","parameters":{"classification":-1}}]"#,
        r#""outputs":[{"name":"y","parameters":{"classification":true}}]"#,
        r#""parameters":[]"#,
        r#""parameters":{"sequence_id":7,"sequence_start":true}"#,
        r#""parameters":{"sequence_id":"a"}"#,
        r#""parameters":{"sequence_id":true}"#,
        r#""parameters":{"timeout":-1}"#,
        r#""parameters":{"timeout":"1"}"#,
        r#""parameters":{"timeout":1.5}"#,
        r#""parameters":{"timeout":18446744073709551616}"#,
        r#""parameters":{"binary_data_output":1}"#,
        r#""parameters":{"triton_enable_empty_final_response":true}"#,
        r#""parameters":{"a":1,"a":2}"#,
    ] {
        add(V2, &with(members));
    }

    let fruit = r#"{"inputs":[{"name":"colour","datatype":"FP32","shape":[1,3],"data":[1,2,3]}],
        "outputs":[{"name":"label","parameters":{"classification":1}}]}"#;
    add("/v2/models/fruit/infer", fruit);
    for datatype in ["FP16", "BF16"] {
        add(V2, &tensor("[1,2]", "[1,2]").replace("FP32", datatype));
    }

    // V1, predict.
    for body in [
        "",
        "[]",
        "{}",
        "null",
        "{",
        "{\"instances\":[[1,2]]",
        "{\"instances\":[[1,2]]} x",
        "\u{feff}{\"instances\":[[1,2]]}",
        "{\"instances\":[[1,2]]\0}",
        "{\"instances\":[[1,2]]}\0",
        "{\"instances\":[[1,\0]]}",
        "{\"instances\":[[1,2]],\"signature_name\":\"\0\"}",
        "{\"instances\":[[1,2]],\"signature_name\":\"\\ud800\"}",
        "{\"instances\":[[1,2]],\"ignored\":\"\\udc00\"}",
        "{\"instances\":[{\"\\ud800\":[1,2]}]}",
        "{\"instances\":[{\"x\\u0000\":[1,2]}]}",
        r#"{"instances":[[1,2]],"inputs":[[1,2]]}"#,
        r#"{"instances":[[1,2]],"instances":[[1,2]]}"#,
        r#"{"instances":[[1,2]],"signature_name":"other"}"#,
        r#"{"instances":[[1,2]],"signature_name":1}"#,
        r#"{"instances":null}"#,
        r#"{"instances":{}}"#,
        r#"{"instances":"x"}"#,
        r#"{"instances":[]}"#,
        r#"{"instances":[1,2]}"#,
        r#"{"instances":[[]]}"#,
        r#"{"instances":[[1]]}"#,
        r#"{"instances":[[1,2,3]]}"#,
        r#"{"instances":[[1,2],[3]]}"#,
        r#"{"instances":[[1,2],]}"#,
        r#"{"instances":[[1,2,]]}"#,
        r#"{"instances":[1,2,3,4,5,6,7,8,9,10,11,12,13,14,15,16,17,18]}"#,
        r#"{"instances":[[1,2,3],[1,2,3],[1,2,3],[1,2,3],[1,2,3],[1,2,3]]}"#,
        r#"{"instances":[[1,null]]}"#,
        r#"{"instances":[[1,true]]}"#,
        r#"{"instances":[[[1,2]]]}"#,
        r#"{"instances":[[1,"2"]]}"#,
        r#"{"instances":[[1,NaN]]}"#,
        r#"{"instances":[[1,-Infinity]]}"#,
        r#"{"instances":[[1,1e39]]}"#,
        r#"{"instances":[[1,1e400]]}"#,
        r#"{"instances":[[1,01]]}"#,
        r#"{"instances":[{"b64":"AAAA"}]}"#,
        r#"{"instances":[{"x":[1,2]},[1,2]]}"#,
        r#"{"instances":[[1,2],{"x":[1,2]}]}"#,
        r#"{"instances":[{"x":[1,2],"x":[1,2]}]}"#,
        r#"{"instances":[{"x":[1]}]}"#,
        r#"{"instances":[{"x":1}]}"#,
        r#"{"instances":[{}]}"#,
        r#"{"inputs":5}"#,
        r#"{"inputs":[]}"#,
        r#"{"inputs":{"z":[[1,2]]}}"#,
        r#"{"inputs":{"x":[[1,2]],"x":[[1,2]]}}"#,
        r#"{"inputs":{"x":[[1,2]],"\u0078":[[1,2]]}}"#,
        r#"{"inputs":[[1,"2"]]}"#,
        r#"{"inputs":[[1,2],[3]]}"#,
        r#"{"instances":[[1,2],[1,2],[1,2],[1,2],[1,2],[1,2],[1,2],[1,2],[1,2]]}"#,
        r#"{"instances":[{"x":[1,2]},{"x":[1,2]},{"x":[1,2]},{"x":[1,2]},{"x":[1,2]},{"x":[1,2]},{"x":[1,2]},{"x":[1,2]},{"x":[1,2]}]}"#,
    ] {
        add(V1, body);
    }
    add(V1, &format!(r#"{{"instances":[[1,{}]]}}"#, "9".repeat(300)));
    add(V1, &format!(r#"{{"instances":{}"#, "[".repeat(1000)));
    add(V1, &format!(r#"{{"ignored":{}"#, "[".repeat(1000)));
    for body in [
        r#"{"instances":[[1,2]]}"#,
        r#"{"instances":[{"a":[1,2]}]}"#,
        r#"{"inputs":[[1,2]]}"#,
        r#"{"inputs":{"a":[[1,2]]}}"#,
        r#"{"inputs":{"a":[[1,2]],"b":[[1,2],[3,4]]}}"#,
    ] {
        add(V1_PAIR, body);
    }

    // V1, classify and regress.
    for body in [
        "",
        "{}",
        "\u{feff}{\"examples\":[]}",
        "{\"examples\":[{\"red\":\0}]}",
        "{\"examples\":[{\"red\":1,\"\\ud800\":1}]}",
        r#"{"examples":{}}"#,
        r#"{"examples":[]}"#,
        r#"{"examples":[1]}"#,
        r#"{"examples":[{}]}"#,
        r#"{"examples":[{"red":1}]}"#,
        r#"{"examples":[{"red":1,"red":1,"green":1,"blue":1}]}"#,
        r#"{"examples":[{"red":1,"green":1,"blue":1,"mauve":1}]}"#,
        r#"{"examples":[{"red":[1,2],"green":1,"blue":1}]}"#,
        r#"{"examples":[{"red":[],"green":1,"blue":1}]}"#,
        r#"{"examples":[{"red":"1","green":1,"blue":1}]}"#,
        r#"{"examples":[{"red":null,"green":1,"blue":1}]}"#,
        r#"{"examples":[{"red":true,"green":1,"blue":1}]}"#,
        r#"{"examples":[{"red":NaN,"green":1,"blue":1}]}"#,
        r#"{"examples":[{"red":1e39,"green":1,"blue":1}]}"#,
        r#"{"examples":[{"red":1,"green":1,"blue":1}],"examples":[]}"#,
        r#"{"examples":[{"red":1,"colour":[1,2,3]}]}"#,
        r#"{"examples":[{"colour":[1,2]}]}"#,
        r#"{"examples":[{"red":1,"green":1,"blue":1}],"context":[]}"#,
        r#"{"examples":[{"red":1,"green":1,"blue":1}],"context":{"mauve":1}}"#,
    ] {
        add(CLASSIFY, body);
    }
    add(CLASSIFY, &format!(r#"{{"examples":{}"#, "[".repeat(1000)));
    let nine = [r#"{"red":1,"green":1,"blue":1}"#; 9].join(",");
    add(CLASSIFY, &format!(r#"{{"examples":[{nine}]}}"#));
    let example = r#"{"examples":[{"x":[1]}]}"#;
    add("/v1/models/half_plus_two:classify", example);
    add("/v1/models/coin:regress", example);

    // Answers that cannot be given.
    add(
        "/v2/models/steep/infer",
        r#"{"inputs":[{"name":"x","datatype":"FP32","shape":[2,1],"data":[1,10]}]}"#,
    );
    add("/v1/models/steep:predict", r#"{"instances":[[1],[-10]]}"#);
    add(V2, &" ".repeat(MAX_BODY_BYTES + 1));
    bodies
}

/// Good bodies to bad places.
const PLACES: &[(Method, &str)] = &[
    (Method::GET, "/nowhere"),
    (Method::GET, "//"),
    (Method::GET, "*"),
    (Method::GET, "/v2/nowhere"),
    (Method::GET, "/v2/health"),
    (Method::GET, "/v2/models"),
    (Method::GET, "/v2/models/"),
    (Method::GET, "/v2/models/unknown"),
    (Method::GET, "/v2/models/echo/versions"),
    (Method::GET, "/v2/models/echo/versions/9"),
    (Method::GET, "/v2/models/echo/versions/9/ready"),
    (Method::GET, "/v2/models/echo/what"),
    (Method::GET, "/v2/models/echo/infer"),
    (Method::POST, "/v2"),
    (Method::POST, "/v2/health/live"),
    (Method::DELETE, "/v2/models/echo"),
    (Method::PUT, "/v2/repository/index"),
    (Method::GET, "/v2/repository"),
    (Method::POST, "/v2/repository/models/echo/load"),
    (Method::POST, "/v2/repository/models/echo/unload"),
    (Method::PUT, "/v2/repository/main/index"),
    (Method::POST, "/v2/models/stats"),
    (Method::POST, "/v2/models/echo/stats"),
    (Method::GET, "/v2/models/unknown/stats"),
    (Method::GET, "/v2/models/broken/stats"),
    (Method::GET, "/v2/models/echo/versions/9/stats"),
    (Method::POST, "/v2/models/echo/config"),
    (Method::GET, "/v2/models/unknown/config"),
    (Method::GET, "/v2/models/echo/versions/9/config"),
    (Method::PUT, "/v2/models/echo/infer"),
    (Method::PATCH, "/v2/models/echo/infer"),
    (Method::TRACE, "/v2/models/echo/infer"),
    (Method::CONNECT, "echo:80"),
    (Method::POST, "/v2/models/unknown/infer"),
    (Method::POST, "/v2/models/ECHO/infer"),
    (Method::POST, "/v2/models/broken/infer"),
    (Method::POST, "/v2/models/echo/versions/01/infer"),
    (Method::POST, "/v2/models/echo/versions/+2/infer"),
    (Method::POST, "/v2/models/echo/versions/-1/infer"),
    (Method::POST, "/v2/models/echo/versions/2.0/infer"),
    (Method::POST, "/v2/models/echo/versions/2e0/infer"),
    (Method::POST, "/v2/models/echo/versions/latest/infer"),
    (
        Method::POST,
        "/v2/models/echo/versions/18446744073709551616/infer",
    ),
    (Method::POST, "/v2/models/echo/versions/0/infer"),
    (Method::POST, "/v2/models/echo/versions/%002/infer"),
    (Method::POST, "/v2/models/echo/versions//infer"),
    (Method::POST, "/v2/models/..%2f..%2fetc%2fpasswd/infer"),
    (Method::POST, "/v2/models/../infer"),
    // Overlong forms of "." and "/".
    (Method::POST, "/v2/models/%c0%ae%c0%ae%c0%afecho/infer"),
    (Method::POST, "/v2/models/%00/infer"),
    (Method::POST, "/v2/models/%ff%fe/infer"),
    (Method::POST, "/v2/models/echo%20/infer"),
    (Method::POST, "/v2/models/%1b%5b31m/infer"),
    (Method::GET, "/v1/models/unknown"),
    (Method::GET, "/v1/models/unknown/metadata"),
    (Method::GET, "/v1/models/echo:predict"),
    (Method::GET, "/v1/models/echo/versions/01"),
    (Method::GET, "/v1/models/echo/labels/stable"),
    (Method::POST, "/v1/models"),
    (Method::POST, "/v1/models/echo"),
    (Method::POST, "/v1/models/echo/metadata"),
    (Method::POST, "/v1/models/unknown:predict"),
    (Method::POST, "/v1/models/..%2f..%2fetc%2fpasswd:predict"),
    (Method::POST, "/v1/models/%c0%ae%c0%ae%c0%afecho:predict"),
    (Method::POST, "/v1/models/%00:predict"),
    (Method::POST, "/v1/models/%ff:predict"),
    (Method::POST, "/v1/models/echo:explain"),
    (Method::GET, "/v1/models/echo:explain"),
    (Method::POST, "/v1/models/unknown:explain"),
    (Method::POST, "/invocations"),
    (Method::GET, "/invocations"),
    (Method::POST, "/ping"),
    (Method::POST, "/version"),
    (Method::POST, "/v1/models/echo:predict:predict"),
    (Method::POST, "/v1/models/echo/versions/9:predict"),
    (Method::POST, "/v1/models/echo/versions/1e0:predict"),
    (Method::POST, "/v1/models/echo/versions/02:predict"),
    (Method::POST, "/v1/models/echo/versions/+2:predict"),
    (
        Method::POST,
        "/v1/models/echo/versions/18446744073709551616:predict",
    ),
    (Method::POST, "/v1/models/echo/labels/stable:predict"),
    (Method::POST, "/v1/models/unknown/labels/stable:predict"),
    (Method::POST, "/v1/models/broken:predict"),
    (Method::POST, "/"),
    (Method::POST, "/metrics"),
    (Method::OPTIONS, "/v1/models/echo:predict"),
    (Method::DELETE, "/v1/models/echo:predict"),
    (Method::TRACE, "/v1/models/echo:predict"),
];

/// Good bodies with bad headers.
const HEADERS: &[(&str, &str)] = &[
    ("content-type", "multipart/form-data; boundary=x"),
    ("content-type", "text/csv"),
    ("content-type", "application/xml"),
    ("content-type", "image/png"),
    ("content-encoding", "gzip"),
    ("content-encoding", "br"),
    ("content-encoding", "br, identity"),
    ("content-encoding", "gzip, gzip"),
    ("content-encoding", "deflate"),
    ("content-encoding", "zstd"),
    ("x-request-timeout-ms", "0"),
    ("x-request-timeout-ms", "-5"),
    ("x-request-timeout-ms", "1.5"),
    ("x-request-timeout-ms", "soon"),
    ("x-request-timeout-ms", "1e3"),
    ("x-request-timeout-ms", "+1"),
    ("x-request-timeout-ms", "0x10"),
    ("x-request-timeout-ms", ""),
];

/// The beginning of what was sent, enough to tell one row from the next.
fn cut(text: &str) -> String {
    text.chars().take(150).collect()
}

#[tokio::test]
async fn every_malformed_request_is_refused_with_its_place_and_mend() {
    let server = TestServer::start();
    let mut table = String::new();
    let mut refusals = 0;
    let mut refused = |line: &str, body: &[u8], answer: &super::server::Answer| {
        let shown: String = body.escape_ascii().to_string();
        assert!(
            (400..500).contains(&answer.status) || [501, 503].contains(&answer.status),
            "{line} {shown}: {answer:?}"
        );
        assert_eq!(answer.header("content-type"), Some("application/json"));
        assert_eq!(
            answer.header("retry-after").is_some(),
            answer.status == 503,
            "{line}"
        );
        assert!(answer.body.len() < 1000, "{line}: {}", answer.body.len());
        let problem = answer.json();
        let allow = answer
            .header("allow")
            .map(|allow| format!(" (Allow: {allow})"));
        writeln!(
            table,
            "{}\n  {}\n  {} {}{}: {}",
            cut(line),
            cut(&shown),
            answer.status,
            problem["code"].as_str().unwrap(),
            allow.unwrap_or_default(),
            problem["error"].as_str().unwrap(),
        )
        .unwrap();
        refusals += 1;
    };
    for (path, body) in bodies() {
        let answer = server.post(path, body.clone()).await;
        refused(&format!("POST {path}"), &body, &answer);
    }
    let good = r#"{"instances":[[1,2]]}"#;
    let long = "x".repeat(8 << 10);
    let long = [
        (Method::POST, format!("/v2/models/{long}/infer")),
        (
            Method::POST,
            format!("/v2/models/echo/versions/{long}/infer"),
        ),
        (Method::POST, format!("/v1/models/{long}:predict")),
        (Method::GET, format!("/{}", "x/".repeat(4 << 10))),
    ];
    let long = long.iter().map(|(method, path)| (method, &**path));
    for (method, path) in PLACES
        .iter()
        .map(|(method, path)| (method, *path))
        .chain(long)
    {
        let answer = server.send(request(method.clone(), path, &[], good)).await;
        refused(&format!("{method} {path}"), good.as_bytes(), &answer);
    }
    for header in HEADERS {
        let sent = request(Method::POST, V1, &[*header], good);
        let answer = server.send(sent).await;
        refused(
            &format!("POST {V1} {}: {}", header.0, header.1),
            good.as_bytes(),
            &answer,
        );
    }
    for (path, length, json, blob) in binary_bodies() {
        let length = length.unwrap_or_else(|| json.len().to_string());
        let body = [json.as_bytes(), &blob].concat();
        let headers = [("inference-header-content-length", &*length)];
        let sent = request(Method::POST, path, &headers, body.clone());
        let answer = server.send(sent).await;
        let line = format!("POST {path} {}: {length}", headers[0].0);
        refused(&line, &body, &answer);
    }
    let twice = [("inference-header-content-length", "2"); 2];
    let answer = server.send(request(Method::POST, V2, &twice, "{}")).await;
    refused(&format!("POST {V2} {} twice", twice[0].0), b"{}", &answer);
    assert!(refusals >= 200, "{refusals}");
    insta::assert_snapshot!("refusals", table);
}
