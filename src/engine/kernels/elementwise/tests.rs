use super::*;
use crate::engine::kernels::digest::Digests;

const SIZES: &[usize] = if cfg!(miri) {
    &[1, 3, 4, 5, 9]
} else {
    &[
        1, 2, 3, 5, 7, 8, 9, 15, 16, 17, 31, 32, 33, 47, 63, 64, 65, 127, 129,
    ]
};

type OfColumns = fn(Isa, &[f32], &[f32], &[f32], &mut [f32]);
type OfPairs = fn(Isa, &[f32], &mut [f32]);

/// Numbers from -4 to 4 other than zero.
fn numbers(len: usize, seed: usize) -> Vec<f32> {
    (0..len)
        .map(|i| (((i + seed) * 7919) % 2003) as f32 / 250.0 - 4.001)
        .collect()
}

#[test]
fn columns_are_normalized_scaled_and_bent_by_their_own_parameters() {
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
#[cfg_attr(miri, ignore = "held on the CPU itself")]
fn arithmetic_gives_the_same_bits_on_every_cpu() {
    Digests {
        fused: "normalize d1dd84fa9d27e60e\n\
            scale_shift d5ad20cd36861c80\n\
            prelu 8f5ca964f8aeb809\n\
            add f38bdcc038aac632\n\
            multiply 053d26e1f4771e47\n\
            maximum ac909e9a6f3ebce3\n\
            minimum b5909d9904a195bd",
        portable: "normalize d1dd84fa9d27e60e\n\
            scale_shift 5f256b4b6302f45f\n\
            prelu 8f5ca964f8aeb809\n\
            add f38bdcc038aac632\n\
            multiply 053d26e1f4771e47\n\
            maximum ac909e9a6f3ebce3\n\
            minimum b5909d9904a195bd",
    }
    .assert(|isa| {
        let (columns, len) = (33, 5 * 33);
        let (a, b, input) = (numbers(columns, 1), numbers(columns, 2), numbers(len, 3));
        let of_columns = |function: OfColumns| {
            let mut output = vec![f32::NAN; len];
            function(isa, &a, &b, &input, &mut output);
            output
        };
        let of_pairs = |function: OfPairs| {
            let mut into = numbers(len, 4);
            function(isa, &input, &mut into);
            into
        };
        let results = [
            ("normalize", of_columns(normalize)),
            ("scale_shift", of_columns(scale_shift)),
            (
                "prelu",
                of_columns(|isa, slope, _, input, output| prelu(isa, slope, input, output)),
            ),
            ("add", of_pairs(add)),
            ("multiply", of_pairs(multiply)),
            ("maximum", of_pairs(maximum)),
            ("minimum", of_pairs(minimum)),
        ];
        results
            .map(|(name, values)| (name.to_owned(), values))
            .into()
    });
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
