mod accuracy;

use super::*;

/// Every function, with parameters for those that have some.
const ALL: &[Activation] = &[
    Activation::Linear,
    Activation::Relu,
    Activation::Relu6,
    Activation::LeakyRelu { alpha: 0.1 },
    Activation::Elu { alpha: 1.0 },
    Activation::Selu,
    Activation::Celu { alpha: 2.0 },
    Activation::Sigmoid,
    Activation::HardSigmoid {
        alpha: 0.2,
        beta: 0.5,
    },
    Activation::Tanh,
    Activation::Softplus,
    Activation::Softsign,
    Activation::Gelu,
    Activation::GeluTanh,
    Activation::Silu,
    Activation::Mish,
    Activation::HardSwish,
    Activation::Exp,
    Activation::Erf,
    Activation::Clip {
        min: -0.5,
        max: 0.25,
    },
];

/// The function of one value.
fn of(activation: Activation, isa: Isa, x: f32) -> f32 {
    let mut value = [x];
    activation.apply(isa, &mut value);
    value[0]
}

#[test]
fn nan_gives_nan() {
    for isa in Isa::available() {
        for &activation in ALL {
            assert!(
                of(activation, isa, f32::NAN).is_nan(),
                "{isa:?} {activation:?}"
            );
        }
    }
}

#[test]
fn zeros_and_infinities_give_the_limits() {
    use Activation as A;
    const INF: f32 = f32::INFINITY;
    // At minus infinity, minus zero, zero, infinity.
    let limits: &[(Activation, [f32; 4])] = &[
        (A::Linear, [-INF, -0.0, 0.0, INF]),
        (A::Relu, [0.0, -0.0, 0.0, INF]),
        (A::Relu6, [0.0, -0.0, 0.0, 6.0]),
        (A::LeakyRelu { alpha: 0.1 }, [-INF, -0.0, 0.0, INF]),
        (A::Elu { alpha: 1.0 }, [-1.0, -0.0, 0.0, INF]),
        (A::Selu, [-1.758_099_3, -0.0, 0.0, INF]),
        (A::Celu { alpha: 2.0 }, [-2.0, -0.0, 0.0, INF]),
        (A::Sigmoid, [0.0, 0.5, 0.5, 1.0]),
        (
            A::HardSigmoid {
                alpha: 0.2,
                beta: 0.5,
            },
            [0.0, 0.5, 0.5, 1.0],
        ),
        (A::Tanh, [-1.0, -0.0, 0.0, 1.0]),
        (
            A::Softplus,
            [0.0, std::f32::consts::LN_2, std::f32::consts::LN_2, INF],
        ),
        (A::Softsign, [-1.0, -0.0, 0.0, 1.0]),
        (A::Gelu, [-0.0, -0.0, 0.0, INF]),
        (A::GeluTanh, [-0.0, -0.0, 0.0, INF]),
        (A::Silu, [-0.0, -0.0, 0.0, INF]),
        (A::Mish, [-0.0, -0.0, 0.0, INF]),
        (A::HardSwish, [-0.0, -0.0, 0.0, INF]),
        (A::Exp, [0.0, 1.0, 1.0, INF]),
        (A::Erf, [-1.0, -0.0, 0.0, 1.0]),
        (
            A::Clip {
                min: -0.5,
                max: 0.25,
            },
            [-0.5, -0.0, 0.0, 0.25],
        ),
    ];
    assert_eq!(
        limits.len(),
        ALL.len(),
        "every function has its limits here"
    );
    for isa in Isa::available() {
        for &(activation, expected) in limits {
            for (x, expected) in [-INF, -0.0, 0.0, INF].into_iter().zip(expected) {
                let actual = of(activation, isa, x);
                assert!(
                    actual.to_bits() == expected.to_bits(),
                    "{activation:?} of {x} on {isa:?} is {actual} instead of {expected}"
                );
            }
        }
    }
}

#[test]
fn a_result_depends_neither_on_position_nor_on_length() {
    let inputs: Vec<f32> = (0..70).map(|i| (i as f32 - 35.0) * 0.37).collect();
    for isa in Isa::available() {
        for &activation in ALL {
            let alone: Vec<u32> = inputs
                .iter()
                .map(|&x| of(activation, isa, x).to_bits())
                .collect();
            for start in [0, 1, 5] {
                for end in start..=inputs.len() {
                    let mut values = inputs.clone();
                    activation.apply(isa, &mut values[start..end]);
                    for (index, &value) in values.iter().enumerate() {
                        let inside = (start..end).contains(&index);
                        let expected = if inside {
                            alone[index]
                        } else {
                            inputs[index].to_bits()
                        };
                        assert!(
                            value.to_bits() == expected,
                            "{activation:?} on {isa:?}, {start}..{end}, index {index}"
                        );
                    }
                }
            }
        }
    }
}
