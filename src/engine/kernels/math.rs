//! Exponentials, logarithms and error functions on vectors.
//!
//! Each formula is written once for every instruction set. One ulp is the
//! distance of two neighbouring `f32` at the true value. The errors of the
//! functions that a model can name are stated in docs/models.md, those of the
//! others here. The tests of [`activation`](super::activation) read both and hold them:
//! a thinned sweep each time, on demand one over all `f32`.

use super::simd::Simd;

/// Adding and subtracting 1.5 * 2^23 leaves the nearest integer.
const ROUNDER: f32 = 12_582_912.0;

/// Ln 2 in two parts; the first has so few bits that its product with an
/// exponent is exact.
const LN_2_HIGH: f32 = 0.693_359_4;
const LN_2_LOW: f32 = -2.121_944_4e-4;

/// Below this `exp` is less than half the smallest `f32`.
const EXP_LOWEST: f32 = -104.0;
/// Above this `exp` is infinite.
const EXP_HIGHEST: f32 = 89.0;

/// `c[0] x^(m-1) + ... + c[m-1]`, by Horner's rule.
#[inline(always)]
fn polynomial<S: Simd, const M: usize>(simd: S, x: S::Vector, coefficients: [f32; M]) -> S::Vector {
    let mut sum = simd.splat(coefficients[0]);
    for &coefficient in &coefficients[1..] {
        sum = simd.mul_add(sum, x, simd.splat(coefficient));
    }
    sum
}

/// The integer `n` nearest to `x / ln 2`, and `exp(x - n ln 2 + rest) - 1`.
///
/// Source: Cephes, `expf`. The coefficients are our own minimax fit for
/// `|r| <= 0.348`, each rounded before the next was fitted: their error is
/// 2^-33, so that of the result is rounding alone.
#[inline(always)]
fn reduced_exp_m1<S: Simd>(simd: S, x: S::Vector, rest: S::Vector) -> (S::Vector, S::Vector) {
    let rounder = simd.splat(ROUNDER);
    let n = simd.sub(
        simd.mul_add(x, simd.splat(std::f32::consts::LOG2_E), rounder),
        rounder,
    );
    let r = simd.mul_add(n, simd.splat(-LN_2_HIGH), x);
    let r = simd.mul_add(n, simd.splat(-LN_2_LOW), r);
    let r = simd.add(r, rest);
    let tail = polynomial(
        simd,
        r,
        [
            1.974_256_6e-4,
            1.393_549e-3,
            8.333_568e-3,
            4.166_646e-2,
            1.666_666_6e-1,
            0.5,
        ],
    );
    (n, simd.mul_add(tail, simd.mul(r, r), r))
}

/// `exp(x + rest)` for a `rest` that is tiny against `x`: rounding `x + rest`
/// first would cost up to `|x| / 2` ulp.
#[inline(always)]
fn exp_of_sum<S: Simd>(simd: S, x: S::Vector, rest: S::Vector) -> S::Vector {
    // The constant comes first, so that NaN passes.
    let x = simd.max(simd.splat(EXP_LOWEST), x);
    let x = simd.min(simd.splat(EXP_HIGHEST), x);
    let (n, exp_m1) = reduced_exp_m1(simd, x, rest);
    simd.scale(simd.add(exp_m1, simd.splat(1.0)), n)
}

/// `exp(x)` within 1 ulp; subnormal results too.
#[inline(always)]
pub(super) fn exp<S: Simd>(simd: S, x: S::Vector) -> S::Vector {
    exp_of_sum(simd, x, simd.splat(0.0))
}

/// `exp(x) - 1` for `x <= 0` within 1 ulp, without cancellation near zero.
#[inline(always)]
pub(super) fn exp_m1_negative<S: Simd>(simd: S, x: S::Vector) -> S::Vector {
    // exp(-30) is far below half an ulp of 1.
    let x = simd.max(simd.splat(-30.0), x);
    let (n, exp_m1) = reduced_exp_m1(simd, x, simd.splat(0.0));
    let power = simd.scale(simd.splat(1.0), n);
    simd.mul_add(power, exp_m1, simd.sub(power, simd.splat(1.0)))
}

/// `tanh(x)`, odd to the last bit.
#[inline(always)]
pub(super) fn tanh<S: Simd>(simd: S, x: S::Vector) -> S::Vector {
    let negative = simd.copy_sign(x, simd.splat(-1.0));
    let e = exp_m1_negative(simd, simd.add(negative, negative));
    simd.copy_sign(simd.div(e, simd.add(e, simd.splat(2.0))), x)
}

/// `1 / (1 + exp(-x))`; subnormal results too.
#[inline(always)]
pub(super) fn sigmoid<S: Simd>(simd: S, x: S::Vector) -> S::Vector {
    let one = simd.splat(1.0);
    let e = exp(simd, simd.copy_sign(x, simd.splat(-1.0)));
    let numerator = simd.select(simd.less(x, simd.splat(0.0)), e, one);
    simd.div(numerator, simd.add(one, e))
}

/// The natural logarithm of a positive finite normal `x`, plus `rest`, plus
/// `exponent * ln 2`.
///
/// Source of the polynomial: Cephes, `logf`.
#[inline(always)]
fn log_of_normal<S: Simd>(
    simd: S,
    x: S::Vector,
    exponent: S::Vector,
    rest: S::Vector,
) -> S::Vector {
    let (mantissa, own) = simd.split(x);
    let exponent = simd.add(exponent, own);
    // From [1, 2) to [sqrt(1/2), sqrt(2)), around zero of the logarithm.
    let upper = simd.less(simd.splat(std::f32::consts::SQRT_2), mantissa);
    let half = simd.mul(mantissa, simd.splat(0.5));
    let mantissa = simd.select(upper, half, mantissa);
    let one = simd.splat(1.0);
    let exponent = simd.select(upper, simd.add(exponent, one), exponent);

    let f = simd.sub(mantissa, one);
    let square = simd.mul(f, f);
    let tail = polynomial(
        simd,
        f,
        [
            7.037_683_6e-2,
            -1.151_461e-1,
            1.167_699_9e-1,
            -1.242_014_1e-1,
            1.424_932_3e-1,
            -1.666_805_8e-1,
            2.000_071_5e-1,
            -2.499_999_4e-1,
            3.333_333e-1,
        ],
    );
    let low = simd.mul_add(exponent, simd.splat(LN_2_LOW), rest);
    let low = simd.mul_add(simd.mul(tail, square), f, low);
    let low = simd.mul_add(square, simd.splat(-0.5), low);
    simd.mul_add(exponent, simd.splat(LN_2_HIGH), simd.add(f, low))
}

/// The natural logarithm within 1 ulp; minus infinity at zero, NaN below.
#[inline(always)]
pub(super) fn log<S: Simd>(simd: S, x: S::Vector) -> S::Vector {
    let zero = simd.splat(0.0);
    // A subnormal is made normal first.
    let subnormal = simd.less(x, simd.splat(f32::MIN_POSITIVE));
    let enlarged = simd.mul(x, simd.splat(33_554_432.0)); // 2^25
    let exponent = simd.select(subnormal, simd.splat(-25.0), zero);
    let log = log_of_normal(simd, simd.select(subnormal, enlarged, x), exponent, zero);
    // Infinity and NaN are their own logarithm.
    let log = simd.select(simd.less(x, simd.splat(f32::INFINITY)), log, x);
    let negative = simd.less(x, zero);
    let outside = simd.select(
        negative,
        simd.splat(f32::NAN),
        simd.splat(f32::NEG_INFINITY),
    );
    let zero_or_negative = simd.less(x, simd.splat(f32::from_bits(1)));
    simd.select(zero_or_negative, outside, log)
}

/// `log(1 + y)` for `0 <= y <= 1` within 1 ulp, without losing a small `y`.
#[inline(always)]
pub(super) fn log_1p_of_fraction<S: Simd>(simd: S, y: S::Vector) -> S::Vector {
    let one = simd.splat(1.0);
    let u = simd.add(one, y);
    // What rounding 1 + y lost, to first order.
    let lost = simd.div(simd.sub(y, simd.sub(u, one)), u);
    log_of_normal(simd, u, simd.splat(0.0), lost)
}

/// `log(1 + exp(x))`, without losing what is small.
#[inline(always)]
pub(super) fn softplus<S: Simd>(simd: S, x: S::Vector) -> S::Vector {
    let e = exp(simd, simd.copy_sign(x, simd.splat(-1.0)));
    simd.add(simd.max(simd.splat(0.0), x), log_1p_of_fraction(simd, e))
}

/// The error function within 2 ulp, odd to the last bit.
///
/// Source: N. Juffa's minimax polynomials, one for the middle, and one for the
/// logarithm of the complement further out.
#[inline(always)]
pub(super) fn erf<S: Simd>(simd: S, x: S::Vector) -> S::Vector {
    let t = simd.copy_sign(x, simd.splat(1.0));
    let square = simd.mul(x, x);
    let middle = polynomial(
        simd,
        square,
        [
            -5.967_617e-4,
            4.991_194_2e-3,
            -2.676_813_5e-2,
            1.128_199_25e-1,
            -3.761_253_4e-1,
            1.283_791_7e-1,
        ],
    );
    let middle = simd.mul_add(middle, t, t);

    // Beyond 9 the result is 1; the bound keeps infinity out of the powers.
    let t9 = simd.min(simd.splat(9.0), t);
    let outer = polynomial(
        simd,
        t9,
        [
            -1.728_534_7e-5,
            3.831_971_3e-4,
            -3.883_964_4e-3,
            2.425_462_2e-2,
            -1.067_778_8e-1,
            -6.348_467e-1,
            -1.287_175_1e-1,
        ],
    );
    let outer = simd.mul_add(outer, t9, simd.sub(simd.splat(0.0), t9));
    let outer = simd.sub(simd.splat(1.0), exp(simd, outer));
    let is_outer = simd.less(simd.splat(0.927_734_4), t);
    simd.copy_sign(simd.select(is_outer, outer, middle), x)
}

/// `(probability, factor)`: their product is the probability that a standard
/// normal variable exceeds `z >= 0`, that is `erfc(z / sqrt(2)) / 2`, with a
/// small relative error also where it is tiny.
///
/// `exp(-z^2 / 2)` times a polynomial in `(z - 3.5) / (z + 3.5)` over `z + 3.5`,
/// fitted for `0 <= z <= 14.5`, where the product leaves the range of `f32`.
#[inline(always)]
fn upper_tail<S: Simd>(simd: S, z: S::Vector) -> (S::Vector, S::Vector) {
    let z = simd.min(simd.splat(14.5), z);
    // The leading 12 bits have an exact square.
    let head = simd.and(z, 0xFFFF_F000);
    let half = simd.splat(-0.5);
    let exponent = simd.mul(simd.mul(head, head), half);
    let rest = simd.mul(simd.mul(simd.sub(z, head), simd.add(z, head)), half);
    let gaussian = exp_of_sum(simd, exponent, rest);

    let centre = simd.splat(3.5);
    let inverse = simd.div(simd.splat(1.0), simd.add(z, centre));
    let s = simd.mul(simd.sub(z, centre), inverse);
    let ratio = polynomial(
        simd,
        s,
        [
            1.106_894_05e-4,
            4.218_978_6e-4,
            -4.949_437e-4,
            -3.175_310_8e-3,
            6.493_116e-3,
            1.740_637_8e-2,
            -1.160_530_4e-1,
            3.154_250_4e-1,
            -5.655_618e-1,
            7.444_160_6e-1,
        ],
    );
    (gaussian, simd.mul(ratio, inverse))
}

/// `x` times the standard normal distribution function of `x`, with the same
/// small relative error in the negative tail; -0 at minus infinity.
#[inline(always)]
pub(super) fn gelu<S: Simd>(simd: S, x: S::Vector) -> S::Vector {
    let x = finite_below(simd, x);
    let (gaussian, factor) = upper_tail(simd, simd.copy_sign(x, simd.splat(1.0)));
    let negative = simd.mul(simd.mul(x, factor), gaussian);
    let complement = simd.sub(simd.splat(1.0), simd.mul(gaussian, factor));
    let positive = simd.mul(x, complement);
    simd.select(simd.less(x, simd.splat(0.0)), negative, positive)
}

/// `x` with minus infinity replaced by the lowest finite number, so that its
/// product with a vanishing factor is zero and not NaN.
#[inline(always)]
pub(super) fn finite_below<S: Simd>(simd: S, x: S::Vector) -> S::Vector {
    simd.max(simd.splat(f32::MIN), x)
}
