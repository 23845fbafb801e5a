use ndarray::Array2;
use proptest::prelude::*;

use super::*;
use crate::engine::kernels::digest::Digests;

mod datatypes;

/// Sizes around every boundary of vectors, panels and tiles.
const SIZES: &[usize] = if cfg!(miri) {
    &[0, 1, 3, 4, 5, 17]
} else {
    &[
        0, 1, 2, 3, 5, 7, 8, 15, 16, 17, 31, 33, 47, 48, 49, 63, 64, 65, 127, 128, 129, 130,
    ]
};

/// Numbers from -1 to 1 that repeat only after 2^16.
fn numbers(len: usize, seed: u32) -> Vec<f32> {
    let mut state = seed;
    let mut next = || {
        state = state.wrapping_mul(747_796_405).wrapping_add(2_891_336_453);
        (state >> 8) as f32 / (1 << 23) as f32 - 1.0
    };
    (0..len).map(|_| next()).collect()
}

fn run(gemm: &Gemm, rows: usize, input: &[f32]) -> Vec<f32> {
    // NaN shows an output that was not written.
    let mut output = vec![f32::NAN; rows * gemm.n];
    gemm.run(rows, input, &mut output);
    output
}

fn bits(values: &[f32]) -> Vec<u32> {
    values.iter().map(|value| value.to_bits()).collect()
}

/// One output as the law states it: bias, then one multiply-add for each `k`.
fn by_the_law(isa: Isa, x: &[f32], weights: &[f32], n: usize, column: usize, bias: f32) -> f32 {
    let weights = weights.iter().skip(column).step_by(n.max(1));
    x.iter().zip(weights).fold(bias, |sum, (&x, &w)| {
        if isa.name() == "portable" {
            x * w + sum
        } else {
            x.mul_add(w, sum)
        }
    })
}

#[test]
fn every_output_is_the_bias_then_one_multiply_add_for_each_k() {
    for isa in Isa::available() {
        for &k in SIZES {
            for &n in SIZES {
                let weights = numbers(k * n, 1);
                let bias = numbers(n, 2);
                let layout = Layout::InOut;
                let gemm = Gemm::new(
                    isa,
                    k,
                    n,
                    Weights::F32(&weights),
                    layout,
                    Some(&bias),
                    Activation::Linear,
                );
                for rows in [0, 1, 2, 3, 5, 9] {
                    let input = numbers(rows * k, 3);
                    let output = run(&gemm, rows, &input);
                    for row in 0..rows {
                        let x = &input[row * k..][..k];
                        // Three columns: computing all is slow without FMA.
                        for column in [0, n / 2, n.wrapping_sub(1)] {
                            if column < n {
                                let expected =
                                    by_the_law(isa, x, &weights, n, column, bias[column]);
                                let actual = output[row * n + column];
                                assert_eq!(
                                    actual.to_bits(),
                                    expected.to_bits(),
                                    "{isa:?} k {k} n {n} rows {rows} row {row} column {column}"
                                );
                            }
                        }
                    }
                }
            }
        }
    }
}

#[test]
#[cfg_attr(miri, ignore = "held on the CPU itself")]
fn a_layer_gives_the_same_bits_on_every_cpu() {
    Digests {
        fused: "1x1 db7ac9ce73808456\n\
            9x2 a5d9beddee433204\n\
            22x15 9f3545aa8cc58d9f\n\
            64x48 876e6e3213f8f22b\n\
            300x35 3b9f97c25fc7ce54\n\
            130x129 4aa28fc1536812af",
        portable: "1x1 58fe251e4128bc72\n\
            9x2 de19afd5fa76a605\n\
            22x15 bb7d6e5bf98439fb\n\
            64x48 30aa2f74123b6e2c\n\
            300x35 1ff7028de2f3da74\n\
            130x129 b9092d5734d9ebba",
    }
    .assert(|isa| {
        let layers = [
            (1, 1, Activation::Linear),
            (9, 2, Activation::Relu),
            (22, 15, Activation::Gelu),
            (64, 48, Activation::Tanh),
            (300, 35, Activation::Relu6),
            (130, 129, Activation::Silu),
        ];
        let digested = |(k, n, activation): (usize, usize, Activation)| {
            let (weights, bias) = (numbers(k * n, 20), numbers(n, 21));
            let layout = Layout::OutIn;
            let gemm = Gemm::new(
                isa,
                k,
                n,
                Weights::F32(&weights),
                layout,
                Some(&bias),
                activation,
            );
            let rows = [1, 5, 11];
            let outputs = rows.map(|rows| run(&gemm, rows, &numbers(rows * k, 22)));
            (format!("{k}x{n}"), outputs.concat())
        };
        layers.into_iter().map(digested).collect()
    });
}

#[test]
fn a_layer_agrees_with_ndarray_in_double_precision() {
    for isa in Isa::available() {
        for &k in SIZES {
            for &n in SIZES {
                for rows in [1, 4, 7, 8, 17] {
                    check_against_ndarray(isa, rows, k, n, Layout::InOut, true, Activation::Relu);
                }
            }
        }
    }
}

/// Compares with a product in `f64`; the tolerance is the worst rounding of
/// `k + 1` terms of at most 1.
fn check_against_ndarray(
    isa: Isa,
    rows: usize,
    k: usize,
    n: usize,
    layout: Layout,
    with_bias: bool,
    activation: Activation,
) {
    let weights = numbers(k * n, 4);
    let bias = with_bias.then(|| numbers(n, 5));
    let input = numbers(rows * k, 6);
    let gemm = Gemm::new(
        isa,
        k,
        n,
        Weights::F32(&weights),
        layout,
        bias.as_deref(),
        activation,
    );
    let output = run(&gemm, rows, &input);

    let wide = |values: &[f32]| values.iter().map(|&x| f64::from(x)).collect::<Vec<_>>();
    let x = Array2::from_shape_vec((rows, k), wide(&input)).unwrap();
    let w = match layout {
        Layout::InOut => Array2::from_shape_vec((k, n), wide(&weights)).unwrap(),
        Layout::OutIn => Array2::from_shape_vec((n, k), wide(&weights))
            .unwrap()
            .reversed_axes(),
    };
    let product = x.dot(&w);
    let tolerance = (k + 1) as f64 * (k + 1) as f64 * f64::from(f32::EPSILON);
    for ((row, column), &sum) in product.indexed_iter() {
        let sum = sum + bias.as_ref().map_or(0.0, |bias| f64::from(bias[column]));
        let expected = match activation {
            Activation::Linear => sum,
            Activation::Relu => sum.max(0.0),
            Activation::Tanh => sum.tanh(),
            Activation::LeakyRelu { alpha } if sum < 0.0 => f64::from(alpha) * sum,
            Activation::LeakyRelu { .. } => sum,
            other => unreachable!("{other:?} is not among the tested ones"),
        };
        let actual = f64::from(output[row * n + column]);
        assert!(
            (actual - expected).abs() <= tolerance,
            "{isa:?} {layout:?} {activation:?} [{rows}, {k}] x [{k}, {n}] at [{row}, {column}]: \
             {actual} instead of {expected}"
        );
    }
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: if cfg!(miri) { 4 } else { 256 },
        failure_persistence: None,
        ..ProptestConfig::default()
    })]

    #[test]
    fn any_size_layout_and_activation_agrees_with_ndarray(
        rows in 0_usize..40,
        k in 0_usize..80,
        n in 0_usize..150,
        layout in prop_oneof![Just(Layout::InOut), Just(Layout::OutIn)],
        with_bias: bool,
        activation in prop_oneof![
            Just(Activation::Linear),
            Just(Activation::Relu),
            Just(Activation::Tanh),
            Just(Activation::LeakyRelu { alpha: 0.1 }),
        ],
    ) {
        for isa in Isa::available() {
            check_against_ndarray(isa, rows, k, n, layout, with_bias, activation);
        }
    }
}

#[test]
fn a_row_is_bit_identical_in_every_batch_size_and_position() {
    let most = if cfg!(miri) { 10 } else { 130 };
    let shapes = [
        (3, 10),
        (10, 1),
        (9, 2),
        (22, 15),
        (41, 17),
        (17, 33),
        (64, 48),
        (31, 130),
        (130, 65),
    ];
    let activations = [Activation::Relu, Activation::Gelu, Activation::Selu];
    for isa in Isa::available() {
        for (shape, (k, n)) in shapes.into_iter().enumerate() {
            let activation = activations[shape % activations.len()];
            let (weights, bias) = (numbers(k * n, 7), numbers(n, 8));
            let layout = Layout::OutIn;
            let gemm = Gemm::new(
                isa,
                k,
                n,
                Weights::F32(&weights),
                layout,
                Some(&bias),
                activation,
            );
            let input = numbers(most * k, 9);
            let alone: Vec<u32> = (0..most)
                .flat_map(|row| bits(&run(&gemm, 1, &input[row * k..][..k])))
                .collect();
            for rows in 1..=most {
                // A batch that starts at another row each time.
                let first = (rows * 7) % (most - rows + 1);
                let output = run(&gemm, rows, &input[first * k..][..rows * k]);
                assert_eq!(
                    bits(&output),
                    alone[first * n..][..rows * n],
                    "{isa:?} k {k} n {n} rows {rows} from row {first}"
                );
            }
        }
    }
}

#[test]
#[cfg_attr(miri, ignore = "needs layers too large to interpret")]
fn a_row_is_bit_identical_in_large_layers_too() {
    // Large enough for fetching ahead; for several blocks of rows; and for
    // groups of panels narrower than a tile may be.
    for (k, n) in [(300, 230), (2100, 33), (5000, 49), (66_000, 1)] {
        assert!(k * n >= LARGE_WORDS);
        for isa in Isa::available() {
            let (weights, bias) = (numbers(k * n, 14), numbers(n, 15));
            let layout = Layout::InOut;
            let gemm = Gemm::new(
                isa,
                k,
                n,
                Weights::F32(&weights),
                layout,
                Some(&bias),
                Activation::Relu6,
            );
            let input = numbers(130 * k, 16);
            let alone: Vec<u32> = (0..130)
                .flat_map(|row| bits(&run(&gemm, 1, &input[row * k..][..k])))
                .collect();
            for rows in [7, 9, 13, 17, 33, 65, 130] {
                let first = 130 - rows;
                let output = run(&gemm, rows, &input[first * k..]);
                assert_eq!(
                    bits(&output),
                    alone[first * n..],
                    "{isa:?} k {k} n {n} rows {rows}"
                );
            }
        }
    }
}

#[test]
#[cfg_attr(miri, ignore = "needs layers too large to interpret")]
fn a_shared_layer_is_bit_identical_with_any_helpers() {
    for (k, n) in [(784, 2048), (2048, 1000), (300, 4099), (5000, 417)] {
        for isa in Isa::available() {
            let (weights, bias) = (numbers(k * n, 14), numbers(n, 15));
            let layout = Layout::InOut;
            let gemm = Gemm::new(
                isa,
                k,
                n,
                Weights::F32(&weights),
                layout,
                Some(&bias),
                Activation::Gelu,
            );
            for rows in [1, 2, 5, 9, 33] {
                assert!(gemm.pays_to_share(rows));
                let input = numbers(rows * k, 16);
                let alone = bits(&run(&gemm, rows, &input));
                let team = Team::new();
                for helpers in 0..3 {
                    let mut output = vec![f32::NAN; rows * n];
                    team.open();
                    std::thread::scope(|scope| {
                        for _ in 0..helpers {
                            scope.spawn(|| while team.help(|| true) {});
                        }
                        gemm.run_shared(rows, &input, &mut output, &team);
                        team.close();
                    });
                    assert_eq!(bits(&output), alone, "{isa:?} k {k} n {n} rows {rows}");
                }
            }
        }
    }
}

#[test]
fn a_row_of_nan_or_infinity_leaves_its_neighbours_alone() {
    let (k, n) = (20, 35);
    for isa in Isa::available() {
        let weights = numbers(k * n, 10);
        let gemm = Gemm::new(
            isa,
            k,
            n,
            Weights::F32(&weights),
            Layout::InOut,
            None,
            Activation::Sigmoid,
        );
        for rows in [2, 3, 8, 13] {
            let clean = numbers(rows * k, 11);
            let expected = run(&gemm, rows, &clean);
            for poisoned in 0..rows {
                for poison in [f32::NAN, f32::INFINITY] {
                    let mut input = clean.clone();
                    input[poisoned * k..][..k].fill(poison);
                    let output = run(&gemm, rows, &input);
                    for row in (0..rows).filter(|&row| row != poisoned) {
                        assert_eq!(
                            bits(&output[row * n..][..n]),
                            bits(&expected[row * n..][..n]),
                            "{isa:?} rows {rows}, row {row} next to {poisoned}"
                        );
                    }
                }
            }
        }
    }
}

#[test]
fn nan_passes_through_the_bounds_of_an_activation() {
    for isa in Isa::available() {
        for activation in [Activation::Linear, Activation::Relu, Activation::Relu6] {
            let gemm = Gemm::new(
                isa,
                1,
                1,
                Weights::F32(&[1.0]),
                Layout::InOut,
                None,
                activation,
            );
            assert!(
                run(&gemm, 1, &[f32::NAN])[0].is_nan(),
                "{isa:?} {activation:?}"
            );
        }
    }
}

#[test]
fn panels_write_their_own_columns_only() {
    let (rows, k) = (5, 6);
    for isa in Isa::available() {
        let lanes = isa.lanes();
        let n = 4 * lanes + 1;
        let weights = numbers(k * n, 12);
        let gemm = Gemm::new(
            isa,
            k,
            n,
            Weights::F32(&weights),
            Layout::InOut,
            None,
            Activation::Tanh,
        );
        let input = numbers(rows * k, 13);
        let whole = run(&gemm, rows, &input);
        for panels in [0..0, 0..1, 1..3, 3..5, 4..5] {
            let columns = panels.start * lanes..(panels.end * lanes).min(n);
            let mut output = vec![7.0; rows * n];
            // SAFETY: the sizes fit the layer, and no one else has the output.
            unsafe { gemm.run_panels(rows, &input, panels, output.as_mut_ptr()) };
            for (index, &value) in output.iter().enumerate() {
                let expected = if columns.contains(&(index % n)) {
                    whole[index]
                } else {
                    7.0
                };
                assert_eq!(
                    value.to_bits(),
                    expected.to_bits(),
                    "{isa:?} {columns:?} {index}"
                );
            }
        }
    }
}

#[test]
fn both_layouts_of_one_matrix_give_the_same_layer() {
    // y0 = 1 + 3 * 10 + 5 * 100, y1 = 2 + 4 * 10 + 6 * 100, and a bias of 0.5.
    let bias = [0.5, 0.5];
    for isa in Isa::available() {
        for (layout, weights) in [
            (Layout::InOut, [1.0, 2.0, 3.0, 4.0, 5.0, 6.0]),
            (Layout::OutIn, [1.0, 3.0, 5.0, 2.0, 4.0, 6.0]),
        ] {
            let gemm = Gemm::new(
                isa,
                3,
                2,
                Weights::F32(&weights),
                layout,
                Some(&bias),
                Activation::Linear,
            );
            assert_eq!(
                run(&gemm, 1, &[1.0, 10.0, 100.0]),
                [531.5, 642.5],
                "{isa:?}"
            );
        }
    }
}

#[test]
fn the_cost_of_a_layer_is_stated() {
    for isa in Isa::available() {
        let gemm = Gemm::new(
            isa,
            64,
            32,
            Weights::F32(&[0.5; 2048]),
            Layout::InOut,
            None,
            Activation::Relu,
        );
        assert_eq!(gemm.flops_per_row(), 2 * 64 * 32);
        assert_eq!(gemm.bytes(), (64 * 32 + 32) * 4);
    }
}

#[test]
fn a_layer_of_any_width_takes_no_more_memory_than_its_weights() {
    // The bias's padding, the room after a narrow panel and the last lines.
    const SMALL: usize = 4 * 64;
    let k = if cfg!(miri) { 64 } else { 4096 };
    for isa in Isa::available() {
        for n in [1, 2, 15, 16, 17, 33] {
            let weights = numbers(k * n, 17);
            for layout in [Layout::InOut, Layout::OutIn] {
                let gemm = Gemm::new(
                    isa,
                    k,
                    n,
                    Weights::F32(&weights),
                    layout,
                    None,
                    Activation::Linear,
                );
                let needed = k * n * size_of::<f32>();
                let bytes = gemm.bytes();
                assert!(bytes >= needed, "{isa:?} n {n}: {bytes} bytes");
                assert!(
                    bytes <= needed * 105 / 100 + SMALL,
                    "{isa:?} n {n}: {bytes} bytes for {needed}"
                );
            }
        }
    }
}

#[test]
fn a_weight_that_is_not_a_number_spoils_its_own_column_only() {
    // The vectors of a narrow last panel hold the next step's weights too.
    let k = 5;
    for isa in Isa::available() {
        for n in [1, 2, 15, 17, 33] {
            for step in 0..k {
                for column in 0..n {
                    let mut weights = numbers(k * n, 18);
                    weights[step * n + column] = f32::NAN;
                    let layout = Layout::InOut;
                    let gemm = Gemm::new(
                        isa,
                        k,
                        n,
                        Weights::F32(&weights),
                        layout,
                        None,
                        Activation::Linear,
                    );
                    for rows in [1, 3] {
                        let output = run(&gemm, rows, &numbers(rows * k, 19));
                        for (index, value) in output.iter().enumerate() {
                            assert_eq!(
                                value.is_nan(),
                                index % n == column,
                                "{isa:?} n {n} step {step} column {column} at {index}"
                            );
                        }
                    }
                }
            }
        }
    }
}

#[test]
#[should_panic(expected = "the input is [rows, k]")]
fn an_input_of_the_wrong_size_is_refused() {
    let gemm = Gemm::new(
        Isa::detect(),
        2,
        1,
        Weights::F32(&[1.0; 2]),
        Layout::InOut,
        None,
        Activation::Relu,
    );
    gemm.run(2, &[1.0; 3], &mut [0.0; 2]);
}

#[test]
#[should_panic(expected = "the output is [rows, n]")]
fn an_output_of_the_wrong_size_is_refused() {
    let gemm = Gemm::new(
        Isa::detect(),
        2,
        1,
        Weights::F32(&[1.0; 2]),
        Layout::InOut,
        None,
        Activation::Relu,
    );
    gemm.run(2, &[1.0; 4], &mut [0.0; 1]);
}

#[test]
fn pieces_are_balanced_and_cover_everything_once() {
    for len in 1..50 {
        for most in 1..9 {
            let pieces: Vec<_> = balanced(len, most).collect();
            let lengths: Vec<_> = pieces.iter().map(|piece| piece.len()).collect();
            assert!(lengths.is_sorted_by(|a, b| a >= b), "{len} {most}");
            assert!(lengths[0] <= most && lengths[0] - lengths[lengths.len() - 1] <= 1);
            assert_eq!(pieces.len(), len.div_ceil(most));
            assert!(pieces.into_iter().flatten().eq(0..len), "{len} {most}");
        }
    }
}
