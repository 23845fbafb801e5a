//! How far each function may be from its exact value.
//!
//! The bounds are read from where they are stated: docs/models.md for the
//! functions that a model can name, docstrings for the other formulas.

use std::ops::RangeInclusive;
use std::thread;

use crate::engine::kernels::activation::*;
use crate::engine::kernels::{documented_errors, math};

/// A function, its exact value, and the most that may lie between the two.
struct Claim {
    name: &'static str,
    computed: Computed,
    exact: fn(f64) -> f64,
    bound: Bound,
    domain: RangeInclusive<f32>,
}

#[derive(Clone, Copy, Debug)]
enum Computed {
    Function(Activation),
    ExpM1Negative,
    Log,
    Log1pOfFraction,
}

impl Computed {
    fn apply(self, isa: Isa, values: &mut [f32]) {
        match self {
            Self::Function(activation) => activation.apply(isa, values),
            part => isa.run(Part { part, values }),
        }
    }
}

/// A formula that is no activation by itself.
struct Part<'a> {
    part: Computed,
    values: &'a mut [f32],
}

impl Task for Part<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, simd: S) {
        for piece in self.values.chunks_mut(S::LANES) {
            let x = simd.read(piece);
            let y = match self.part {
                Computed::ExpM1Negative => math::exp_m1_negative(simd, x),
                Computed::Log => math::log(simd, x),
                Computed::Log1pOfFraction => math::log_1p_of_fraction(simd, x),
                Computed::Function(_) => unreachable!("functions apply themselves"),
            };
            simd.write(y, piece);
        }
    }
}

enum Bound {
    /// This many ulp; or an absolute error, where a factor is subnormal: its
    /// rounding times `x` is more than the last bit of a subnormal result.
    Ulp { most: f64, absolute: f64 },
    /// The most absolute error by `x` and the exact value.
    Formula(fn(f64, f64) -> f64),
}

impl Bound {
    /// The bound that a text of the documentation states.
    fn documented(text: &str) -> Self {
        let (most, absolute) = documented_errors::ulp(text);
        Self::Ulp { most, absolute }
    }

    /// The most absolute error.
    fn most(&self, x: f64, exact: f64) -> f64 {
        match self {
            Self::Ulp { most, absolute } => (most * ulp(exact)).max(*absolute),
            // Below 1e-43 the factors are subnormal here too.
            Self::Formula(most) => most(x, exact).max(1e-43),
        }
    }
}

/// One rounding, relative to the value.
const ROUNDING: f64 = 1.0 / 16_777_216.0;

/// The distance of two neighbouring `f32` at a value.
fn ulp(value: f64) -> f64 {
    let magnitude = value.abs().max(f64::from(f32::MIN_POSITIVE));
    // Without its mantissa it is the power of two below.
    f64::from_bits(magnitude.to_bits() >> 52 << 52) * f64::exp2(-23.0)
}

/// How far a result is from the exact value. Infinity counts as 2^128, where the
/// next number would be, so that overflow too early by an ulp is that error.
fn error(actual: f32, exact: f64) -> f64 {
    if actual.is_nan() && exact.is_nan() {
        return 0.0;
    }
    let infinity = f64::exp2(128.0);
    let actual = f64::from(actual).clamp(-infinity, infinity);
    let error = (actual - exact.clamp(-infinity, infinity)).abs();
    if error.is_nan() { f64::INFINITY } else { error }
}

fn elu(alpha: f64, x: f64) -> f64 {
    if x < 0.0 { alpha * x.exp_m1() } else { x }
}

fn celu(alpha: f32, x: f64) -> f64 {
    let alpha = f64::from(alpha);
    if x < 0.0 {
        alpha * (x / alpha).exp_m1()
    } else {
        x
    }
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

/// The `u` in the approximation of `gelu`.
fn gelu_tanh_argument(x: f64) -> f64 {
    (2.0 / std::f64::consts::PI).sqrt() * (x + 0.044_715 * x * x * x)
}

/// The functions of docs/models.md, those with parameters more than once: a
/// factor just below a power of two makes the most of an error in ulp.
fn functions() -> Vec<Claim> {
    use Activation as A;
    let claim = |name, activation, exact: fn(f64) -> f64, bound| Claim {
        name,
        computed: Computed::Function(activation),
        exact,
        bound,
        domain: f32::MIN..=f32::MAX,
    };
    type Row = (&'static str, Activation, fn(f64) -> f64);
    let in_ulp: &[Row] = &[
        ("linear", A::Linear, |x| x),
        ("relu", A::Relu, |x| x.max(0.0)),
        ("relu6", A::Relu6, |x| x.clamp(0.0, 6.0)),
        ("leaky_relu", A::LeakyRelu { alpha: 0.1 }, |x| {
            x.max(f64::from(0.1_f32) * x)
        }),
        ("elu", A::Elu { alpha: 1.0 }, |x| elu(1.0, x)),
        ("elu", A::Elu { alpha: 0.75 }, |x| elu(0.75, x)),
        ("elu", A::Elu { alpha: 1.99 }, |x| {
            elu(f64::from(1.99_f32), x)
        }),
        ("selu", A::Selu, |x| {
            1.050_700_987_355_480_5 * elu(1.673_263_242_354_377_2, x)
        }),
        ("celu", A::Celu { alpha: 1.0 }, |x| celu(1.0, x)),
        ("celu", A::Celu { alpha: 1.5 }, |x| celu(1.5, x)),
        ("celu", A::Celu { alpha: 1.99 }, |x| celu(1.99, x)),
        ("sigmoid", A::Sigmoid, sigmoid),
        ("tanh", A::Tanh, f64::tanh),
        (
            "hard_tanh",
            A::Clip {
                min: -1.0,
                max: 1.0,
            },
            |x| x.clamp(-1.0, 1.0),
        ),
        ("softplus", A::Softplus, softplus),
        ("softsign", A::Softsign, |x| x / (1.0 + x.abs())),
        ("gelu", A::Gelu, gelu),
        ("silu", A::Silu, |x| x * sigmoid(x)),
        ("mish", A::Mish, |x| x * softplus(x).tanh()),
        ("hard_swish", A::HardSwish, |x| {
            x * ((x + 3.0).clamp(0.0, 6.0) / 6.0)
        }),
    ];
    let in_ulp = in_ulp.iter().map(|&(name, activation, exact)| {
        let bound = Bound::documented(documented_errors::function(name));
        claim(name, activation, exact, bound)
    });
    let mut claims: Vec<Claim> = in_ulp.collect();

    // It cancels near its zero, where an error in ulp has no bound.
    assert_eq!(
        documented_errors::function("hard_sigmoid"),
        "2⁻²⁴ · (1 + \\|alpha · x\\|), absolute"
    );
    claims.push(claim(
        "hard_sigmoid",
        A::HardSigmoid {
            alpha: 0.2,
            beta: 0.5,
        },
        |x| (f64::from(0.2_f32) * x + 0.5).clamp(0.0, 1.0),
        Bound::Formula(|x, _| ROUNDING * (1.0 + (0.2 * x).abs())),
    ));
    // The rounding of `u` counts as often as `u` is large.
    assert_eq!(
        documented_errors::function("gelu_tanh"),
        "2⁻²⁴ · (8 + 8 \\|u\\|), relative"
    );
    claims.push(claim(
        "gelu_tanh",
        A::GeluTanh,
        |x| x * sigmoid(2.0 * gelu_tanh_argument(x)),
        Bound::Formula(|x, exact| {
            ROUNDING * (8.0 + 8.0 * gelu_tanh_argument(x).abs()) * exact.abs()
        }),
    ));
    claims
}

/// The formulas that other functions are made of.
fn formulas() -> Vec<Claim> {
    let claim = |name, computed, exact: fn(f64) -> f64, domain| Claim {
        name,
        computed,
        exact,
        bound: Bound::documented(documented_errors::formula(name)),
        domain,
    };
    let function = Computed::Function;
    let all = f32::MIN..=f32::MAX;
    vec![
        claim("exp", function(Activation::Exp), f64::exp, all.clone()),
        claim("erf", function(Activation::Erf), libm::erf, all.clone()),
        claim("log", Computed::Log, f64::ln, all),
        claim(
            "exp_m1_negative",
            Computed::ExpM1Negative,
            f64::exp_m1,
            f32::MIN..=0.0,
        ),
        claim(
            "log_1p_of_fraction",
            Computed::Log1pOfFraction,
            f64::ln_1p,
            0.0..=1.0,
        ),
    ]
}

/// The largest error of a [`Claim`] as a share of what it allows, and where.
#[derive(Clone, Copy, Debug, Default)]
struct Worst {
    share: f64,
    ulp: f64,
    x: f32,
}

impl Claim {
    /// Compares the function of each input inside its domain with the exact value,
    /// on every instruction set, and gives the worst of each.
    fn check(&self, inputs: &[f32]) -> Vec<(Isa, Worst)> {
        let inputs: Vec<f32> = inputs
            .iter()
            .copied()
            .filter(|x| self.domain.contains(x))
            .collect();
        let exact: Vec<f64> = inputs.iter().map(|&x| (self.exact)(x.into())).collect();
        let on = |isa: Isa| {
            let mut values = inputs.clone();
            self.computed.apply(isa, &mut values);
            let mut worst = Worst::default();
            for ((&x, &actual), &exact) in inputs.iter().zip(&values).zip(&exact) {
                let error = error(actual, exact);
                let most = self.bound.most(x.into(), exact);
                assert!(
                    error <= most,
                    "{} of {x:e} ({:#010x}) is {:.4} ulp off on {isa:?}: \
                     {actual:e} instead of {exact:e}",
                    self.name,
                    x.to_bits(),
                    error / ulp(exact),
                );
                let share = error / most;
                if share > worst.share {
                    let ulp = error / ulp(exact);
                    worst = Worst { share, ulp, x };
                }
            }
            worst
        };
        Isa::available()
            .into_iter()
            .map(|isa| (isa, on(isa)))
            .collect()
    }
}

/// Every `STRIDE`-th `f32` of all that exist: a prime, so that exponents and
/// mantissas mix.
const STRIDE: usize = if cfg!(miri) { 50_000_017 } else { 10_007 };

/// Where formulas change or results leave the range of `f32`.
const EDGES: &[f32] = &[
    0.0,
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

/// The bits of the inputs where the sweep over every `f32` found the largest
/// errors, and the last three, whose errors were once larger than stated.
const WORST: &[u32] = &[
    0x8200_0000, // leaky_relu
    0xBEB1_DDB1, // elu, celu, exp_m1_negative
    0xBEBA_4D08, // elu, celu, exp_m1_negative
    0xBEAE_F415, // elu
    0xBE36_9871, // elu
    0xBE93_B06A, // elu
    0xBE94_11F0, // elu
    0xBEAB_33BB, // selu
    0xBEA9_35CE, // selu
    0xBE89_3D6B, // celu
    0xB5E1_23D8, // celu
    0xBB7F_A248, // celu
    0xC085_088D, // sigmoid
    0x4090_29B4, // tanh
    0xBFA4_ABF5, // softplus
    0xBFA1_A99B, // softplus
    0x44FF_EBFF, // softsign
    0x3C79_E57F, // gelu
    0x3A78_F800, // gelu
    0x3FAF_8D3E, // hard_swish
    0x40A7_470F, // exp
    0xC2A2_C846, // exp
    0x3F73_AE6E, // erf
    0x3F75_491C, // erf
    0x3FB4_F239, // log
    0x3FB3_BEB2, // log
    0x3ED4_0C0D, // log_1p_of_fraction
    0x3ED4_0EF2, // log_1p_of_fraction
    0xC2B0_B488, // silu
    0xC2B2_1DC4, // mish
    0x3FA0_0003, // hard_sigmoid
    0xC10E_E78C, // gelu_tanh
    0xC0BC_17A1, // exp
    0xBEA7_F0F3, // gelu
    0xBEA7_8664, // gelu
];

/// A sweep over all bit patterns, the edges, and the worst of all inputs.
fn sweep() -> Vec<f32> {
    let near = |x: f32| [x.next_down(), x, x.next_up()];
    let mut values: Vec<f32> = (0..=u32::MAX).step_by(STRIDE).map(f32::from_bits).collect();
    values.extend(EDGES.iter().flat_map(|&x| [near(x), near(-x)]).flatten());
    // The sweep is sparse where most inputs are.
    let steps = if cfg!(miri) { 50 } else { 100_000 };
    values.extend((-steps..=steps).map(|i| 16.0 * i as f32 / steps as f32));
    values.extend(WORST.iter().copied().map(f32::from_bits));
    values
}

#[test]
fn each_function_keeps_its_stated_error() {
    let inputs = sweep();
    for claim in functions().iter().chain(&formulas()) {
        claim.check(&inputs);
    }
}

/// The whole of `f32`, by which the stated errors were found.
#[test]
#[ignore = "an hour on two cores; see CONTRIBUTING.md"]
#[expect(clippy::print_stdout, reason = "it prints what it found")]
fn each_function_keeps_its_stated_error_for_every_input() {
    const BLOCK: u32 = 1 << 14;
    let threads = thread::available_parallelism().unwrap().get();
    for claim in functions().iter().chain(&formulas()) {
        let part = |first: usize| {
            let mut worst: Vec<(Isa, Worst)> = Vec::new();
            for block in (0..=u32::MAX / BLOCK).skip(first).step_by(threads) {
                let patterns = block * BLOCK..=block * BLOCK + (BLOCK - 1);
                let inputs: Vec<f32> = patterns.map(f32::from_bits).collect();
                let found = claim.check(&inputs);
                if worst.is_empty() {
                    worst = found;
                    continue;
                }
                for ((_, worst), (_, found)) in worst.iter_mut().zip(found) {
                    if found.share > worst.share {
                        *worst = found;
                    }
                }
            }
            worst
        };
        let parts: Vec<Vec<(Isa, Worst)>> = thread::scope(|scope| {
            let started: Vec<_> = (0..threads)
                .map(|first| scope.spawn(move || part(first)))
                .collect();
            started
                .into_iter()
                .map(|thread| thread.join().unwrap())
                .collect()
        });
        for (index, isa) in Isa::available().into_iter().enumerate() {
            let all = parts.iter().map(|part| part[index].1);
            let worst = all.max_by(|a, b| a.share.total_cmp(&b.share)).unwrap();
            println!(
                "{} on {}: {:.4} of its bound, {:.4} ulp, at {:e} ({:#010x})",
                claim.name,
                isa.name(),
                worst.share,
                worst.ulp,
                worst.x,
                worst.x.to_bits()
            );
        }
    }
}

#[test]
fn every_function_of_the_documentation_has_its_error_tested() {
    // Those of whole rows are in the tests of `rows`.
    let mut tested = vec!["softmax", "log_softmax"];
    tested.extend(functions().iter().map(|claim| claim.name));
    for (name, _) in documented_errors::functions() {
        assert!(tested.contains(&name), "nothing tests the error of {name}");
    }
}
