use super::*;
use crate::json::number::parse_f32;

fn written(value: f32) -> String {
    let mut slot = [0xFF; SLOT];
    let len = write(value, &mut slot);
    let text = std::str::from_utf8(&slot[..len]).expect("ASCII");
    text.strip_suffix(',').expect("a comma").to_owned()
}

/// What another's algorithm gives, with a point also before an exponent.
fn reference(value: f32) -> String {
    let mut buffer = zmij::Buffer::new();
    let text = buffer.format_finite(value);
    match text.find('e') {
        Some(at) if !text.contains('.') => format!("{}.0{}", &text[..at], &text[at..]),
        _ => text.to_owned(),
    }
}

/// Alone and in a block it is the shortest and nearest text, and reads back bit for bit.
fn assert_is_shortest(bits: u32) {
    let value = f32::from_bits(bits);
    if !value.is_finite() {
        return;
    }
    let text = written(value);
    assert_eq!(text, reference(value), "{bits:#010x}");
    let (back, _) = parse_f32(text.as_bytes(), 0).expect("a number");
    assert_eq!(back.to_bits(), bits, "{text}");
}

#[test]
fn numbers_look_as_pinned() {
    for (value, text) in [
        (0.0, "0.0"),
        (-0.0, "-0.0"),
        (1.0, "1.0"),
        (-12.5, "-12.5"),
        (0.1, "0.1"),
        (1e-6, "0.000001"),
        (1.234_567_8e-6, "0.0000012345678"),
        (1e-7, "1.0e-7"),
        (1_234_567.0, "1234567.0"),
        (16_777_216.0, "16777216.0"),
        (1.234_567_9e8, "123456790.0"),
        (9.999_999e12, "9999999000000.0"),
        (1e13, "1.0e+13"),
        (1e20, "1.0e+20"),
        (-1.5e-20, "-1.5e-20"),
        (f32::MAX, "3.4028235e+38"),
        (f32::MIN_POSITIVE, "1.1754944e-38"),
        (f32::from_bits(1), "1.0e-45"),
        (f32::NAN, "NaN"),
        (f32::INFINITY, "Infinity"),
        (f32::NEG_INFINITY, "-Infinity"),
    ] {
        assert_eq!(written(value), text);
    }
}

#[test]
fn a_sample_of_all_patterns_is_shortest() {
    // Every 4,001st pattern: all exponents, both signs, over a million numbers.
    (0..=u32::MAX).step_by(4_001).for_each(assert_is_shortest);
}

#[test]
fn powers_and_their_neighbours_are_shortest() {
    let twos = (0..255).map(|exponent| exponent << 23);
    let tens = (-45..39).map(|power| {
        let ten: f32 = format!("1e{power}").parse().expect("a number");
        ten.to_bits()
    });
    for bits in twos.chain(tens) {
        for neighbour in bits.saturating_sub(50)..bits + 50 {
            assert_is_shortest(neighbour);
        }
    }
}

#[test]
fn a_block_reads_as_its_numbers_alone() {
    let values = [0.0, -1.0, f32::NAN, 1e-30, -3.3e-5, 7e9, 0.3, f32::MIN];
    let mut room = [0; BLOCK_ROOM];
    let len = write_block(&values, &mut room);
    let alone = values.map(|value| written(value) + ",").concat();
    assert_eq!(std::str::from_utf8(&room[..len]), Ok(alone.as_str()));
}

/// Takes minutes. CONTRIBUTING.md has the command.
#[test]
#[ignore = "writes and reads all 2^32 floats"]
fn every_f32_is_shortest() {
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    std::thread::scope(|scope| {
        for first in 0..threads {
            scope.spawn(move || {
                (first as u32..=u32::MAX)
                    .step_by(threads)
                    .for_each(assert_is_shortest);
            });
        }
    });
}
