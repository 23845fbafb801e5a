use super::*;

/// The value of a text that a run takes for one number, with a comma or with a comma and a blank
/// after it.
fn quick_f32(text: &str) -> Option<f32> {
    let [close, wide] = [",", ", "].map(|gap| {
        // The blank is expected once the numbers before had one.
        let start = format!("0{gap}0{gap}");
        let all = format!("{start}{text}{gap}{}", "x".repeat(40));
        let mut values = Vec::new();
        let end = read_run(all.as_bytes(), &mut values, 3);
        (end == all.len() - 40).then(|| (values.len(), values[2].to_bits()))
    });
    assert_eq!(close, wide, "{text}");
    let (count, bits) = close?;
    assert_eq!(count, 3, "{text}");
    Some(f32::from_bits(bits))
}

/// A small generator with a fixed seed, so that a failure can be seen again.
struct SplitMix(u64);

impl SplitMix {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        mixed ^ (mixed >> 31)
    }

    fn below(&mut self, end: u64) -> u64 {
        self.next() % end
    }
}

fn assert_is_nearest(text: &str) {
    let (value, end) = parse_f32(text.as_bytes(), 0).expect(text);
    let nearest: f32 = text.parse().expect(text);
    assert_eq!(
        value.to_bits(),
        nearest.to_bits(),
        "{text}: {value} for {nearest}"
    );
    assert_eq!(end, text.len(), "{text}");
    if let Some(quick) = quick_f32(text) {
        assert_eq!(
            quick.to_bits(),
            nearest.to_bits(),
            "{text}: {quick} for {nearest}"
        );
    }
}

#[test]
fn known_texts_give_the_nearest_f32() {
    for text in [
        "0",
        "-0",
        "0.0",
        "-0.0",
        "0e0",
        "-0e999",
        "0e-999",
        "1",
        "-1",
        "10",
        "0.1",
        "-0.3",
        "1e0",
        "1E+2",
        "1e-2",
        "123456789",
        "12345678",
        "1234567890123456789012345678901234",
        "0.12345678",
        "0.123456789012345678",
        "0.1234567890123456789012345678901234567890",
        "3.4028235e38",
        "3.4028235677973366e38",
        "3.4028235677973367e38",
        "1e38",
        "1e39",
        "1e400",
        "-1e39",
        "1e99999999999999999999",
        "1e-99999999999999999999",
        "0.11e-9223372036854775807",
        "0.11e9223372036854775807",
        "1.5e9999999999999999999",
        "1.5e-9999999999999999999",
        "1.17549435e-38",
        "1.1754942e-38",
        "1e-45",
        "7e-46",
        "7.1e-46",
        "1e-46",
        "1.4e-45",
        "0.00000000000000000000000000000000000000000000000001",
        "16777216",
        "16777217",
        "16777218",
        "16777219",
        "16777217.000000001",
        "16777216.999999999",
        "9007199254740993",
        "999.9999999999999999",
        "0.9999999999999999999",
        "-0.00123456789012345678",
        "123.1234567890123456",
        "0.0",
        "-0.000",
        "100.0",
        "9223372036854775807",
        "18446744073709551615",
        "99999999999999999999999999999999999999",
        "0.30000001192092896",
        "1.0000000596046448",
        "1.00000005960464477539062500000000000001",
        "1.00000005960464477539062499999999999999",
        "-1234567",
        "-123456",
        "9999999",
        "8388609",
        "16777217.5",
        "1234567.5",
        "12345678.5",
        "-123456789012345",
        "123456789012345",
        "0.1234567890123456789012",
        "-1234567.890123456789012",
        "1.2345678901234567e-05",
        "-1.234567e-38",
        "9.999999999999999e+37",
        "1.1754943508222875e-38",
        "2.3509887016445750e-38",
        "5e-324",
    ] {
        assert_is_nearest(text);
    }
}

#[test]
fn hundreds_of_digits_give_the_nearest_f32() {
    let digits = "1234567890".repeat(30);
    for text in [
        digits.clone(),
        format!("0.{digits}"),
        format!("-{digits}.{digits}e-300"),
        format!("0.{}{digits}", "0".repeat(44)),
        // Halfway between 1 and the next float, and a little more.
        format!("1.000000059604644775390625{}", "0".repeat(300)),
        format!("1.000000059604644775390625{}1", "0".repeat(300)),
    ] {
        assert_is_nearest(&text);
    }
}

#[test]
fn what_a_run_takes_is_a_number() {
    let mut random = SplitMix(7);
    let mut taken = 0;
    for round in 0..200_000 {
        let mut text: Vec<char> = if round % 2 == 0 {
            let len = 1 + random.below(26);
            (0..len)
                .map(|_| char::from(b"0123456789.-+eE"[random.below(15) as usize]))
                .collect()
        } else {
            let value = random.next() as f64 / u64::MAX as f64 - 0.5;
            let precision = random.below(20) as usize;
            format!(
                "{:.precision$}",
                value * [1.0, 1e3, 1e7][random.below(3) as usize]
            )
            .chars()
            .collect()
        };
        if round % 4 == 1 {
            let at = random.below(text.len() as u64) as usize;
            text[at] = [
                '.', '-', '+', 'e', '0', ' ', ':', '/', 'x', 'é', '\u{0}', '\u{2028}',
            ][random.below(12) as usize];
        }
        let text: String = text.into_iter().collect();
        if quick_f32(&text).is_some() {
            taken += 1;
            assert_is_nearest(&text);
            assert!(serde_json::from_str::<f64>(&text).is_ok(), "{text}");
        }
    }
    // A third of what is tried, so that both are tried enough.
    assert!((40_000..120_000).contains(&taken), "{taken}");
}

#[test]
fn a_million_texts_give_the_nearest_f32() {
    use std::fmt::Write;
    let mut random = SplitMix(2026);
    let mut text = String::new();
    for round in 0..1_000_000 {
        text.clear();
        let float = f32::from_bits(random.next() as u32);
        let float = if float.is_finite() { float } else { 1.5 };
        let next = f32::from_bits(float.to_bits() ^ 1);
        let halfway = (f64::from(float) + f64::from(next)) / 2.0;
        match round % 10 {
            // What clients send: a few decimals, and what languages print for floats.
            0 | 1 => write!(text, "{:.4}", (random.below(2_000_000) as f64 - 1e6) / 1e4),
            2 => write!(text, "{float:?}"),
            3 => write!(text, "{:?}", f64::from(float)),
            4 => write!(text, "{:?}", random.next() as f64 / u64::MAX as f64),
            5 => write!(text, "{:?}", f64::from_bits(random.next() >> 1).min(1e300)),
            // Halfway points and their neighbours, where rounding is decided.
            6 => write!(text, "{halfway:?}"),
            7 => write!(text, "{halfway:e}"),
            8 => write!(
                text,
                "{:e}",
                f64::from_bits(halfway.to_bits().wrapping_add(random.below(33)) - 16)
            ),
            // Any digits, any exponent.
            _ => write!(
                text,
                "{}.{:0width$}e{}",
                random.below(100),
                random.next() >> random.below(64),
                random.below(100) as i64 - 60,
                width = random.below(24) as usize,
            ),
        }
        .expect("a string takes what is written");
        if text.contains("NaN") || text.contains("inf") {
            continue;
        }
        assert_is_nearest(&text);
    }
}

#[test]
fn a_number_ends_where_its_grammar_ends() {
    for (text, end) in [
        ("1,", 1),
        ("-1.5]", 4),
        ("1.5e3}", 5),
        ("12345678,", 8),
        ("123456789,1", 9),
        ("0.12345678 ", 10),
        ("1e5\n", 3),
        ("0:", 1),
        ("12/", 2),
    ] {
        assert_eq!(number_end(text.as_bytes(), 0), Ok(end), "{text}");
    }
}

#[test]
fn what_json_does_not_allow_is_refused_where_it_stands() {
    for (text, at) in [
        ("", 0),
        ("-", 1),
        ("+1", 0),
        (".5", 0),
        ("1.", 2),
        ("1.e5", 2),
        ("-.5", 1),
        ("01", 0),
        ("-01", 1),
        ("00", 0),
        ("1e", 2),
        ("1e+", 3),
        ("1E-", 3),
        ("--1", 1),
        ("Infinity", 0),
        ("00000000000", 0),
    ] {
        let refused = number_end(text.as_bytes(), 0).expect_err(text);
        assert_eq!(refused.at, at, "{text}");
        assert_eq!(quick_f32(text), None, "{text}");
    }
}

#[test]
fn a_token_is_a_number_and_nothing_else() {
    for text in [
        "1.2.3",
        "1..2",
        "1 2",
        "1,2",
        "1:",
        "12345678/",
        "1234567.1234567:",
        "1x",
        "1.5]",
        "0x10",
        "1e5e5",
        "1.5e-",
        "1e 5",
        "\u{89}",
        "1\u{ff}1",
        "12345678:12345678",
        "1234567.",
        "-1234567.",
        "1234567.e5",
        "123456.",
        "12345678.",
        "0.12345é12345678",
        "0.123456é1234567",
        "0.123456123456é1",
        "00.12345678",
        "-01.5",
        "-00",
        "-",
        "1.5e-",
        "1.5e--5",
        "1.5e-5.",
        "1.5e-123",
        "1.5e-5e",
    ] {
        assert_eq!(quick_f32(text), None, "{text}");
    }
}

#[test]
fn what_clients_send_takes_the_quick_way() {
    for text in [
        "0",
        "-7",
        "255",
        "0.5",
        "-12.3456",
        "0.23606797749978969",
        "-0.0001",
        "1.5e-7",
        "2.360680e-04",
        "1E+12",
        "123456789012",
        "0.9999999999999999",
        "-0.012345678901234567",
        "1.2345678901234567e-05",
        "-1.5E-07",
        "-9999999",
        "-0",
    ] {
        assert!(quick_f32(text).is_some(), "{text}");
    }
}
