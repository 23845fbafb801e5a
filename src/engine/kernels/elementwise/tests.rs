use super::*;

const SIZES: &[usize] = if cfg!(miri) {
    &[1, 3, 4, 5, 9]
} else {
    &[
        1, 2, 3, 5, 7, 8, 9, 15, 16, 17, 31, 32, 33, 47, 63, 64, 65, 127, 129,
    ]
};

/// Numbers from -4 to 4 other than zero.
fn numbers(len: usize, seed: usize) -> Vec<f32> {
    (0..len)
        .map(|i| (((i + seed) * 7919) % 2003) as f32 / 250.0 - 4.001)
        .collect()
}

#[test]
fn columns_are_normalized_scaled_and_bent_by_their_own_parameters() {
    type OfColumns = fn(Isa, &[f32], &[f32], &[f32], &mut [f32]);
    type Expected = fn(f32, f32, f32) -> f32;
    let functions: [(OfColumns, Expected); 3] = [
        (normalize, |x, mean, deviation| (x - mean) / deviation),
        // The product is exact in f64, so this rounds once, as a fused one does.
        (scale_shift, |x, scale, shift| {
            (f64::from(x) * f64::from(scale) + f64::from(shift)) as f32
        }),
        (
            |isa, slope, _, input, output| prelu(isa, slope, input, output),
            |x, slope, _| if x < 0.0 { x * slope } else { x },
        ),
    ];
    for isa in Isa::available() {
        for &columns in SIZES {
            for rows in [0, 1, 2, 5] {
                let (a, b) = (numbers(columns, 1), numbers(columns, 2));
                let input = numbers(rows * columns, 3);
                for (place, (function, expected)) in functions.iter().enumerate() {
                    let mut output = vec![f32::NAN; input.len()];
                    function(isa, &a, &b, &input, &mut output);
                    for (index, &actual) in output.iter().enumerate() {
                        let column = index % columns;
                        let expected = expected(input[index], a[column], b[column]);
                        // Two roundings instead of one where nothing is fused:
                        // half an ulp of a product below 32, and the sum's.
                        assert!(
                            (actual - expected).abs() <= 2e-6,
                            "function {place} on {isa:?}, {columns} columns, {index}: \
                             {actual} instead of {expected}"
                        );
                    }
                }
            }
        }
    }
}

#[test]
fn two_arrays_are_added_multiplied_and_compared_exactly() {
    type OfPairs = fn(Isa, &[f32], &mut [f32]);
    type Expected = fn(f32, f32) -> f32;
    let functions: [(OfPairs, Expected); 4] = [
        (add, |a, b| a + b),
        (multiply, |a, b| a * b),
        (maximum, f32::max),
        (minimum, f32::min),
    ];
    for isa in Isa::available() {
        for len in (0..20).chain([63, 64, 65]) {
            let (a, b) = (numbers(len, 4), numbers(len, 5));
            for (function, expected) in functions {
                let mut into = b.clone();
                function(isa, &a, &mut into);
                let expected: Vec<f32> = a.iter().zip(&b).map(|(&a, &b)| expected(a, b)).collect();
                assert_eq!(into, expected, "{isa:?} {len}");
            }
        }
    }
}

#[test]
fn the_maximum_and_minimum_with_nan_are_nan_on_either_side() {
    for isa in Isa::available() {
        for (a, b) in [(f32::NAN, 1.0), (1.0, f32::NAN), (f32::NAN, f32::INFINITY)] {
            for function in [maximum, minimum] {
                let mut into = [b];
                function(isa, &[a], &mut into);
                assert!(into[0].is_nan(), "{a} and {b} on {isa:?}");
            }
        }
    }
}

#[test]
#[should_panic(expected = "both sides have one shape")]
fn arrays_of_different_lengths_are_refused() {
    add(Isa::detect(), &[1.0], &mut [1.0, 2.0]);
}

#[test]
#[should_panic(expected = "3 values are not whole rows of 2 columns")]
fn half_a_row_is_refused() {
    normalize(
        Isa::detect(),
        &[0.0; 2],
        &[1.0; 2],
        &[0.0; 3],
        &mut [0.0; 3],
    );
}
