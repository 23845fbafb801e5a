mod accuracy;

use super::*;
use crate::engine::kernels::digest::Digests;

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

#[test]
#[cfg_attr(miri, ignore = "held on the CPU itself")]
fn each_function_gives_the_same_bits_on_every_cpu() {
    // A prime, so that exponents and mantissas mix.
    const STRIDE: usize = 40_009;
    let every = (0..=u32::MAX).step_by(STRIDE).map(f32::from_bits);
    let near = (-5000..=5000).map(|i| i as f32 / 300.0);
    let inputs: Vec<f32> = every.chain(near).collect();
    Digests {
        fused: "Linear 613a35f9f3bb2746\n\
            Relu 075a02b8f59738ea\n\
            Relu6 cecc3676d63bb00e\n\
            LeakyRelu 39a77b35a524c40b\n\
            Elu fe94e0bc2ea24c78\n\
            Selu 0fca74b5f11fe885\n\
            Celu cdd5c84b41deb61a\n\
            Sigmoid 20e8d743c0cb3961\n\
            HardSigmoid b5737cd9ad7f37f0\n\
            Tanh 2dbd5c053bd64d7a\n\
            Softplus 9bcea81132029946\n\
            Softsign f3828bdb9484653d\n\
            Gelu eeb40882ab24628b\n\
            GeluTanh 8e6846e3956ef586\n\
            Silu 54489c4e0b7575fa\n\
            Mish c7f31f812b351a29\n\
            HardSwish 85c2a2d1cc7a367b\n\
            Exp fa09883f6e26c939\n\
            Erf 1feae718e810698c\n\
            Clip ba363586dfff9b66",
        portable: "Linear 613a35f9f3bb2746\n\
            Relu 075a02b8f59738ea\n\
            Relu6 cecc3676d63bb00e\n\
            LeakyRelu 39a77b35a524c40b\n\
            Elu 77643e615397813d\n\
            Selu 28dda8ee6c66b8e5\n\
            Celu d4e92b5a00c4406b\n\
            Sigmoid 5bc9b6bc1b84f44a\n\
            HardSigmoid b5737cd9ad7f37f0\n\
            Tanh bc84eb5bf10382e2\n\
            Softplus 50670f2957bc64ba\n\
            Softsign f3828bdb9484653d\n\
            Gelu 5b28bed106d535b6\n\
            GeluTanh 53ce7d8fce8dc0d8\n\
            Silu 1f052a053e007982\n\
            Mish 5e4300cb793c605f\n\
            HardSwish 85c2a2d1cc7a367b\n\
            Exp a6f726e5e55fb40a\n\
            Erf 79828f61f31e12cf\n\
            Clip ba363586dfff9b66",
    }
    .assert(|isa| {
        let digested = |activation: &Activation| {
            let mut values = inputs.clone();
            activation.apply(isa, &mut values);
            let name = format!("{activation:?}");
            let (name, _) = name.split_once(' ').unwrap_or((&name, ""));
            (name.to_owned(), values)
        };
        ALL.iter().map(digested).collect()
    });
}
