use super::*;
use crate::engine::kernels::documented_errors;

const SIZES: &[usize] = if cfg!(miri) {
    &[1, 3, 4, 5, 9]
} else {
    &[
        1, 2, 3, 5, 7, 8, 9, 15, 16, 17, 31, 32, 33, 63, 64, 65, 127, 129, 1000,
    ]
};

/// Numbers from -4 to 4, never twice the same row.
fn numbers(len: usize) -> Vec<f32> {
    (0..len)
        .map(|i| ((i * 7919 + 13) % 2003) as f32 / 250.0 - 4.0)
        .collect()
}

fn bits(values: &[f32]) -> Vec<u32> {
    values.iter().map(|value| value.to_bits()).collect()
}

fn softmax_of(isa: Isa, columns: usize, input: &[f32]) -> Vec<f32> {
    let mut values = input.to_vec();
    softmax(isa, columns, &mut values);
    values
}

fn log_softmax_of(isa: Isa, columns: usize, input: &[f32]) -> Vec<f32> {
    let mut values = input.to_vec();
    log_softmax(isa, columns, &mut values);
    values
}

fn normalized(isa: Isa, columns: usize, input: &[f32]) -> Vec<f32> {
    let mut output = vec![f32::NAN; input.len()];
    let (ones, zeros) = (vec![1.0; columns], vec![0.0; columns]);
    layer_normalization(isa, columns, input, &ones, &zeros, 1e-5, &mut output);
    output
}

/// Asserts agreement within `tolerance`, relative above 1 and absolute below.
fn assert_close(actual: f32, expected: f64, tolerance: f64, place: &str) {
    let error = (f64::from(actual) - expected).abs();
    assert!(
        error <= tolerance * expected.abs().max(1.0),
        "{place}: {actual} instead of {expected}"
    );
}

#[test]
fn softmax_of_logarithms_gives_the_shares() {
    for isa in Isa::available() {
        let input = [1.0_f32, 2.0, 5.0].map(f32::ln);
        let output = softmax_of(isa, 3, &input);
        for (&actual, expected) in output.iter().zip([0.125, 0.25, 0.625]) {
            assert_close(actual, expected, 1e-7, isa.name());
        }
    }
}

#[test]
fn softmax_and_its_logarithm_keep_their_stated_errors() {
    assert_eq!(
        documented_errors::function("softmax"),
        "2⁻²⁴ · (8 + d + n / 2), relative"
    );
    assert_eq!(
        documented_errors::function("log_softmax"),
        "2⁻²⁴ · (8 + 2 \\|y\\| + n / 2), absolute"
    );
    // Where the terms come from: exponentials and the quotient take a few roundings, the difference to the
    // largest is rounded by d, and the sum by n / 4 (of four lanes) and less than that for its terms.
    let rounding = f64::exp2(-24.0);
    for isa in Isa::available() {
        for &columns in SIZES {
            // Rows of close numbers, and rows whose shares reach down to the smallest floats.
            for scale in [0.01, 1.0, 12.0] {
                let input: Vec<f32> = numbers(3 * columns).iter().map(|x| scale * x).collect();
                let softmax = softmax_of(isa, columns, &input);
                let log_softmax = log_softmax_of(isa, columns, &input);
                for (index, &x) in input.iter().enumerate() {
                    let row = &input[index / columns * columns..][..columns];
                    let max = row.iter().fold(f32::MIN, |max, &x| max.max(x));
                    let below = f64::from(max) - f64::from(x);
                    let shares = row.iter().map(|&x| (f64::from(x) - f64::from(max)).exp());
                    let sum: f64 = shares.sum();
                    let n = columns as f64;

                    let share = (-below).exp() / sum;
                    let error = (f64::from(softmax[index]) - share).abs();
                    let most = rounding * (8.0 + below + n / 2.0) * share;
                    assert!(
                        error <= most.max(1e-43),
                        "softmax on {isa:?}, {columns} columns, {index}: {} instead of {share:e}",
                        softmax[index]
                    );

                    let log = -below - sum.ln();
                    let error = (f64::from(log_softmax[index]) - log).abs();
                    assert!(
                        error <= rounding * (8.0 + 2.0 * log.abs() + n / 2.0),
                        "log_softmax on {isa:?}, {columns} columns, {index}: {} instead of {log}",
                        log_softmax[index]
                    );
                }
            }
        }
    }
}

#[test]
fn softmax_takes_numbers_whose_exponential_overflows() {
    for isa in Isa::available() {
        assert_eq!(softmax_of(isa, 2, &[3e38, 3e38]), [0.5, 0.5]);
        assert_eq!(softmax_of(isa, 2, &[-3e38, 3e38]), [0.0, 1.0]);
        assert_eq!(
            softmax_of(isa, 3, &[f32::NEG_INFINITY, 7.0, 7.0]),
            [0.0, 0.5, 0.5]
        );
        assert_eq!(log_softmax_of(isa, 2, &[-200.0, 200.0]), [-400.0, 0.0]);
    }
}

#[test]
fn layer_normalization_of_a_small_row_is_right_by_hand() {
    // Mean 3, variance 5, with epsilon 4 a deviation of 3.
    let input = [0.0, 2.0, 4.0, 6.0];
    let gamma = [1.0, 3.0, 3.0, 2.0];
    let beta = [0.0, 1.0, 0.0, -1.0];
    for isa in Isa::available() {
        let mut output = [f32::NAN; 4];
        layer_normalization(isa, 4, &input, &gamma, &beta, 4.0, &mut output);
        assert_eq!(output, [-1.0, 0.0, 1.0, 1.0], "{isa:?}");
    }
}

#[test]
fn layer_normalization_agrees_with_double_precision() {
    for isa in Isa::available() {
        for &columns in SIZES {
            // Far from zero, where a variance by sums of squares would cancel.
            let input: Vec<f32> = numbers(3 * columns).iter().map(|x| x + 1000.0).collect();
            let output = normalized(isa, columns, &input);
            for (row, x) in input.chunks_exact(columns).enumerate() {
                let count = columns as f64;
                let mean = x.iter().map(|&x| f64::from(x)).sum::<f64>() / count;
                let squares = x.iter().map(|&x| (f64::from(x) - mean).powi(2));
                let deviation = (squares.sum::<f64>() / count + 1e-5).sqrt();
                for (column, &x) in x.iter().enumerate() {
                    let place = format!("{isa:?} {columns} columns, {row}, {column}");
                    let expected = (f64::from(x) - mean) / deviation;
                    // The mean itself is rounded to 6e-5 at 1000.
                    let tolerance = 1e-6 + 1.3e-4 / deviation;
                    assert_close(output[row * columns + column], expected, tolerance, &place);
                }
            }
        }
    }
}

#[test]
fn a_row_is_bit_identical_alone_and_among_others_even_poisoned_ones() {
    type OfRows = fn(Isa, usize, &[f32]) -> Vec<f32>;
    let functions: [OfRows; 3] = [softmax_of, log_softmax_of, normalized];
    for isa in Isa::available() {
        for &columns in SIZES {
            let clean = numbers(5 * columns);
            let mut poisoned = clean.clone();
            poisoned[columns..][..columns].fill(f32::NAN);
            poisoned[3 * columns..][..columns].fill(f32::INFINITY);
            for function in functions {
                let together = function(isa, columns, &clean);
                let beside_poison = function(isa, columns, &poisoned);
                for row in 0..5 {
                    let range = row * columns..(row + 1) * columns;
                    let alone = function(isa, columns, &clean[range.clone()]);
                    assert_eq!(
                        bits(&alone),
                        bits(&together[range.clone()]),
                        "{isa:?} {columns}"
                    );
                    if row % 2 == 0 {
                        assert_eq!(
                            bits(&alone),
                            bits(&beside_poison[range]),
                            "{isa:?} {columns}"
                        );
                    } else {
                        assert!(
                            beside_poison[range].iter().all(|x| x.is_nan()),
                            "{isa:?} {columns}"
                        );
                    }
                }
            }
        }
    }
}

#[test]
fn no_rows_and_no_columns_are_nothing_to_do() {
    for isa in Isa::available() {
        for columns in [0, 1, 5] {
            softmax(isa, columns, &mut []);
            log_softmax(isa, columns, &mut []);
            assert!(normalized(isa, columns, &[]).is_empty());
        }
    }
}

#[test]
#[should_panic(expected = "5 values are not whole rows of 3 columns")]
fn half_a_row_is_refused() {
    softmax(Isa::detect(), 3, &mut [0.0; 5]);
}

#[test]
#[should_panic(expected = "one parameter for each column")]
fn a_parameter_too_few_is_refused() {
    layer_normalization(
        Isa::detect(),
        2,
        &[0.0; 2],
        &[1.0],
        &[0.0; 2],
        1e-5,
        &mut [0.0; 2],
    );
}
