use super::*;
use crate::engine::kernels::math;

/// Every `STRIDE`-th `f32` of all that exist: a prime, so that exponents and
/// mantissas mix.
const STRIDE: usize = if cfg!(miri) { 50_000_017 } else { 10_007 };

/// A sweep over all bit patterns, and where formulas change or results leave
/// the range of `f32`.
fn sweep() -> Vec<f32> {
    let edges = [
        0.0_f32,
        0.927_734_4,
        1.0,
        3.0,
        3.5,
        9.0,
        13.0,
        14.0,
        14.5,
        17.0,
        20.0,
        87.336_54,
        88.722_84,
        88.8,
        103.28,
        103.97,
        104.0,
        105.0,
        1e10,
        2e19,
        f32::MIN_POSITIVE,
        f32::MAX,
    ];
    let near = |x: f32| [x.next_down(), x, x.next_up()];
    let mut values: Vec<f32> = (0..=u32::MAX).step_by(STRIDE).map(f32::from_bits).collect();
    values.extend(
        edges
            .into_iter()
            .flat_map(|x| [near(x), near(-x)])
            .flatten(),
    );
    // NaN and infinities have tests of their own.
    values.retain(|value| value.is_finite());
    // The sweep is sparse where most inputs are.
    let steps = if cfg!(miri) { 50 } else { 100_000 };
    values.extend((-steps..=steps).map(|i| 16.0 * i as f32 / steps as f32));
    values
}

/// The distance from the true value in ulp: the spacing of `f32` there.
fn ulp_error(actual: f32, expected: f64) -> f64 {
    if actual.is_nan() || expected.is_nan() {
        return if actual.is_nan() && expected.is_nan() {
            0.0
        } else {
            f64::INFINITY
        };
    }
    if actual.is_infinite() || expected.is_infinite() {
        // The true value may round to infinity.
        return if f64::from(actual) == f64::from(expected as f32) {
            0.0
        } else {
            f64::INFINITY
        };
    }
    let exponent = (expected.abs().max(f64::from(f32::MIN_POSITIVE)))
        .log2()
        .floor();
    (f64::from(actual) - expected).abs() / (exponent - 23.0).exp2()
}

fn sigmoid(x: f64) -> f64 {
    1.0 / (1.0 + (-x).exp())
}

fn softplus(x: f64) -> f64 {
    x.max(0.0) + (-x.abs()).exp().ln_1p()
}

/// `x` times the standard normal distribution function.
fn gelu(x: f64) -> f64 {
    0.5 * x * libm::erfc(-x * std::f64::consts::FRAC_1_SQRT_2)
}

#[test]
fn each_function_keeps_its_stated_error() {
    use Activation as A;
    type Reference = fn(f64) -> f64;
    // Beside the error in ulp an absolute one: where a factor is subnormal, its
    // rounding times `x` is more than the last bit of a subnormal result.
    let functions: &[(Activation, f64, f64, Reference)] = &[
        (A::Exp, 1.0, 0.0, f64::exp),
        (A::Erf, 2.0, 0.0, libm::erf),
        (A::Tanh, 3.0, 0.0, f64::tanh),
        (A::Sigmoid, 3.0, 0.0, sigmoid),
        (A::Softplus, 2.0, 0.0, softplus),
        (A::Softsign, 2.0, 0.0, |x| x / (1.0 + x.abs())),
        (A::HardSwish, 2.0, 0.0, |x| {
            x * ((x + 3.0).clamp(0.0, 6.0) / 6.0)
        }),
        (A::Gelu, 6.0, 0.0, gelu),
        (A::Silu, 4.0, 1e-43, |x| x * sigmoid(x)),
        (A::Mish, 6.0, 1e-43, |x| x * softplus(x).tanh()),
        (A::Elu { alpha: 0.75 }, 2.0, 0.0, |x| {
            if x < 0.0 { 0.75 * x.exp_m1() } else { x }
        }),
        (A::Selu, 2.0, 0.0, |x| {
            let scale = 1.050_700_987_355_480_5;
            let alpha = 1.673_263_242_354_377_2;
            scale * if x < 0.0 { alpha * x.exp_m1() } else { x }
        }),
        (A::Celu { alpha: 1.5 }, 2.0, 0.0, |x| {
            if x < 0.0 { 1.5 * (x / 1.5).exp_m1() } else { x }
        }),
        (
            A::HardSigmoid {
                alpha: 0.25,
                beta: 0.5,
            },
            1.0,
            0.0,
            |x| (0.25 * x + 0.5).clamp(0.0, 1.0),
        ),
        (A::LeakyRelu { alpha: 0.25 }, 0.5, 0.0, |x| {
            if x < 0.0 { 0.25 * x } else { x }
        }),
    ];
    let inputs = sweep();
    for &(activation, most_ulp, most_absolute, reference) in functions {
        let expected: Vec<f64> = inputs.iter().map(|&x| reference(f64::from(x))).collect();
        for isa in Isa::available() {
            let mut values = inputs.clone();
            activation.apply(isa, &mut values);
            for ((&x, &actual), &expected) in inputs.iter().zip(&values).zip(&expected) {
                let error = ulp_error(actual, expected);
                assert!(
                    error <= most_ulp || (f64::from(actual) - expected).abs() <= most_absolute,
                    "{activation:?} of {x:e} is {error:.2} ulp off on {isa:?}: \
                     {actual:e} instead of {expected:e}"
                );
            }
        }
    }
}

#[test]
fn the_approximated_gelu_loses_no_more_than_its_formula_does() {
    let inputs = sweep();
    for isa in Isa::available() {
        let mut values = inputs.clone();
        Activation::GeluTanh.apply(isa, &mut values);
        for (&x, &actual) in inputs.iter().zip(&values) {
            let x = f64::from(x);
            let u = (2.0 / std::f64::consts::PI).sqrt() * (x + 0.044_715 * x * x * x);
            let expected = x * sigmoid(2.0 * u);
            let error = (f64::from(actual) - expected).abs();
            let most = (8.0 + 8.0 * u.abs()) * f64::exp2(-24.0) * expected.abs();
            assert!(
                error <= most.max(1e-43) || f64::from(actual) == expected || !x.is_finite(),
                "gelu_tanh of {x:e} on {isa:?}: {actual:e} instead of {expected:e}"
            );
        }
    }
}

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

/// The logarithm that the row functions take; no activation by itself.
#[derive(Clone, Copy)]
struct Log;

impl Function for Log {
    #[inline(always)]
    fn of<S: Simd>(self, simd: S, x: S::Vector) -> S::Vector {
        math::log(simd, x)
    }
}

fn logarithms(isa: Isa, inputs: &[f32]) -> Vec<f32> {
    let mut values = inputs.to_vec();
    isa.run(Map {
        block: Block::of(&mut values),
        function: Log,
    });
    values
}

#[test]
fn the_logarithm_keeps_its_stated_error_and_is_nan_below_zero() {
    let inputs = sweep();
    for isa in Isa::available() {
        for (&x, actual) in inputs.iter().zip(logarithms(isa, &inputs)) {
            let error = ulp_error(actual, f64::from(x).ln());
            assert!(
                error <= 1.0,
                "log of {x:e} is {error:.2} ulp off on {isa:?}"
            );
        }
        let [infinity, nan] = [f32::INFINITY, f32::NAN].map(|x| logarithms(isa, &[x])[0]);
        assert!(infinity == f32::INFINITY && nan.is_nan(), "{isa:?}");
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
