//! Weights of 16 bits give the bits that their widened values give.

use half::{bf16, f16};
use proptest::prelude::*;

use super::*;

/// Rows around the sizes of tiles, and some of several blocks.
const ROWS: &[usize] = if cfg!(miri) {
    &[1, 2, 9]
} else {
    &[0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 12, 13, 16, 17, 31, 64, 130]
};

fn brains(values: &[f32]) -> Vec<bf16> {
    values.iter().copied().map(bf16::from_f32).collect()
}

fn widened(values: &[bf16]) -> Vec<f32> {
    values.iter().copied().map(bf16::to_f32).collect()
}

/// A layer of bf16, and the same layer of the widened numbers.
fn both(isa: Isa, k: usize, n: usize, layout: Layout, activation: Activation) -> [Gemm; 2] {
    let weights = brains(&numbers(k * n, 21));
    let wide = widened(&weights);
    let bias = numbers(n, 22);
    [Weights::Bf16(&weights), Weights::F32(&wide)]
        .map(|weights| Gemm::new(isa, k, n, weights, layout, Some(&bias), activation))
}

fn assert_same_bits(isa: Isa, k: usize, n: usize, layout: Layout, rows: &[usize]) {
    let activations = [Activation::Linear, Activation::Relu6, Activation::Gelu];
    let [brain, wide] = both(isa, k, n, layout, activations[(k + n) % 3]);
    for &rows in rows {
        let input = numbers(rows * k, 23);
        assert_eq!(
            bits(&run(&brain, rows, &input)),
            bits(&run(&wide, rows, &input)),
            "{isa:?} {layout:?} k {k} n {n} rows {rows}"
        );
    }
}

#[test]
fn bf16_gives_the_bits_of_the_widened_weights_in_every_size() {
    for isa in Isa::available() {
        for &k in SIZES {
            for &n in SIZES {
                let layout = [Layout::InOut, Layout::OutIn][(k + n) % 2];
                assert_same_bits(isa, k, n, layout, &[0, 1, 2, 3, 5, 9, 13]);
            }
        }
    }
}

#[test]
fn bf16_gives_the_bits_of_the_widened_weights_for_every_number_of_rows() {
    let rows: Vec<usize> = match cfg!(miri) {
        true => vec![1, 7, 10],
        false => (1..=130).collect(),
    };
    for isa in Isa::available() {
        for (k, n) in [(3, 10), (9, 2), (22, 15), (41, 17), (64, 48), (131, 65)] {
            assert_same_bits(isa, k, n, Layout::OutIn, &rows);
        }
    }
}

#[test]
#[cfg_attr(miri, ignore = "needs layers too large to interpret")]
fn bf16_gives_the_bits_of_the_widened_weights_in_large_layers_too() {
    // Several blocks of steps, several blocks of rows, and panels of which one
    // fills several blocks.
    for (k, n) in [(300, 230), (2101, 33), (3003, 64), (5000, 49), (66_001, 1)] {
        for isa in Isa::available() {
            assert_same_bits(isa, k, n, Layout::InOut, ROWS);
        }
    }
}

#[test]
#[cfg_attr(miri, ignore = "needs layers too large to interpret")]
fn a_shared_layer_of_bf16_gives_the_bits_of_the_widened_weights() {
    for (k, n) in [(2048, 1000), (299, 6099)] {
        for isa in Isa::available() {
            let [brain, wide] = both(isa, k, n, Layout::OutIn, Activation::Gelu);
            for rows in [1, 2, 9, 33] {
                assert!(brain.pays_to_share(rows));
                let input = numbers(rows * k, 23);
                let expected = bits(&run(&wide, rows, &input));
                for helpers in 0..3 {
                    let mut output = vec![f32::NAN; rows * n];
                    let team = Team::new();
                    team.open();
                    std::thread::scope(|scope| {
                        for _ in 0..helpers {
                            scope.spawn(|| while team.help(|| true) {});
                        }
                        brain.run_shared(rows, &input, &mut output, &team);
                        team.close();
                    });
                    assert_eq!(bits(&output), expected, "{isa:?} k {k} n {n} rows {rows}");
                }
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: if cfg!(miri) { 4 } else { 256 },
        failure_persistence: None,
        ..ProptestConfig::default()
    })]

    #[test]
    fn any_size_of_bf16_gives_the_bits_of_the_widened_weights(
        rows in 0_usize..40,
        k in 0_usize..500,
        n in 0_usize..150,
        layout in prop_oneof![Just(Layout::InOut), Just(Layout::OutIn)],
    ) {
        for isa in Isa::available() {
            assert_same_bits(isa, k, n, layout, &[rows]);
        }
    }
}

#[test]
fn every_bf16_is_widened_as_it_is() {
    // Zeros, subnormal numbers, the largest ones, infinities and NaNs of either
    // sign, as steps of one column and as columns of one step.
    let patterns = [0, 1, 0x7F, 0x80, 0x3F80, 0x7F7F, 0x7F80, 0x7FC0];
    let weights: Vec<bf16> = patterns
        .into_iter()
        .flat_map(|low| [low, 0x8000 | low])
        .map(bf16::from_bits)
        .collect();
    let wide = widened(&weights);
    let len = weights.len();
    for isa in Isa::available() {
        for (k, n) in [(len, 1), (1, len), (2, len / 2), (len / 2, 2)] {
            let [brain, wide] = [Weights::Bf16(&weights), Weights::F32(&wide)].map(|weights| {
                Gemm::new(isa, k, n, weights, Layout::InOut, None, Activation::Linear)
            });
            for rows in [1, 3, 20] {
                let input = vec![1.0; rows * k];
                let output = run(&brain, rows, &input);
                for (output, expected) in output.iter().zip(run(&wide, rows, &input)) {
                    // Which NaN an operation gives is the compiler's choice.
                    assert!(
                        output.to_bits() == expected.to_bits()
                            || output.is_nan() && expected.is_nan(),
                        "{isa:?} k {k} n {n} rows {rows}: {output} instead of {expected}"
                    );
                }
            }
        }
    }
}

#[test]
fn f16_gives_the_bits_of_the_widened_weights() {
    for isa in Isa::available() {
        for (k, n) in [(1, 1), (5, 33), (33, 17), (64, 48)] {
            let weights: Vec<f16> = numbers(k * n, 24).into_iter().map(f16::from_f32).collect();
            let wide: Vec<f32> = weights.iter().copied().map(f16::to_f32).collect();
            for layout in [Layout::InOut, Layout::OutIn] {
                let [half, wide] = [Weights::F16(&weights), Weights::F32(&wide)]
                    .map(|weights| Gemm::new(isa, k, n, weights, layout, None, Activation::Linear));
                assert_eq!(half.bytes(), wide.bytes());
                for rows in [1, 7, 20] {
                    let input = numbers(rows * k, 25);
                    assert_eq!(
                        bits(&run(&half, rows, &input)),
                        bits(&run(&wide, rows, &input)),
                        "{isa:?} {layout:?} k {k} n {n} rows {rows}"
                    );
                }
            }
        }
    }
}

#[test]
fn bf16_takes_half_the_memory() {
    // The bias with its padding, the room after a narrow panel, the last line,
    // and one step of a column that has an odd number of them.
    const SMALL: usize = 6 * 64;
    let k = if cfg!(miri) { 63 } else { 4095 };
    for isa in Isa::available() {
        for n in [1, 2, 15, 16, 17, 33] {
            let [brain, wide] = both(isa, k, n, Layout::OutIn, Activation::Linear);
            let needed = 2 * k * n;
            assert!(brain.bytes() >= needed, "{isa:?} n {n}: {}", brain.bytes());
            assert!(
                brain.bytes() <= needed + 2 * n + SMALL && brain.bytes() <= wide.bytes(),
                "{isa:?} n {n}: {} bytes for {needed}",
                brain.bytes()
            );
        }
    }
}

#[test]
fn a_weight_of_bf16_that_is_not_a_number_spoils_its_own_column_only() {
    // The vectors of a narrow last panel hold the next word's weights too.
    let k = 5;
    for isa in Isa::available() {
        for n in [1, 2, 15, 17, 33] {
            for step in 0..k {
                let column = (step * 7) % n;
                let mut weights = brains(&numbers(k * n, 26));
                weights[step * n + column] = bf16::NAN;
                let weights = Weights::Bf16(&weights);
                let gemm = Gemm::new(isa, k, n, weights, Layout::InOut, None, Activation::Linear);
                for rows in [1, 3, 20] {
                    let output = run(&gemm, rows, &numbers(rows * k, 27));
                    for (index, value) in output.iter().enumerate() {
                        assert_eq!(
                            value.is_nan(),
                            index % n == column,
                            "{isa:?} n {n} step {step} rows {rows} at {index}"
                        );
                    }
                }
            }
        }
    }
}
