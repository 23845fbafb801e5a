//! The formulas of [`Activation`](super::Activation).
//!
//! Where an operand may be NaN it comes second in `min` and `max`, which then
//! give NaN.

use super::Function;
use crate::engine::kernels::math;
use crate::engine::kernels::simd::Simd;

/// Declares a function as a type, so that each is compiled into a loop of its
/// own; its parameters are the type's fields.
macro_rules! function {
    ($name:ident, |$simd:ident, $x:ident| $formula:expr) => {
        #[derive(Clone, Copy)]
        pub(super) struct $name;

        impl Function for $name {
            #[inline(always)]
            fn of<S: Simd>(self, $simd: S, $x: S::Vector) -> S::Vector {
                $formula
            }
        }
    };
    ($name:ident($($parameter:ident),*), |$simd:ident, $x:ident| $formula:expr) => {
        #[derive(Clone, Copy)]
        pub(super) struct $name($(pub(super) function!(@number $parameter)),*);

        impl Function for $name {
            #[inline(always)]
            fn of<S: Simd>(self, $simd: S, $x: S::Vector) -> S::Vector {
                let $name($($parameter),*) = self;
                $(let $parameter = $simd.splat($parameter);)*
                $formula
            }
        }
    };
    (@number $parameter:ident) => { f32 };
}

/// `yes` below zero, `no` from zero on and for NaN.
#[inline(always)]
fn below_zero<S: Simd>(simd: S, x: S::Vector, yes: S::Vector, no: S::Vector) -> S::Vector {
    simd.select(simd.less(x, simd.splat(0.0)), yes, no)
}

function!(Linear, |_simd, x| x);

function!(Clip(lower, upper), |simd, x| simd
    .min(upper, simd.max(lower, x)));

function!(LeakyRelu(alpha), |simd, x| below_zero(
    simd,
    x,
    simd.mul(alpha, x),
    x
));

function!(Elu(alpha), |simd, x| {
    let negative = simd.mul(
        alpha,
        math::exp_m1_negative(simd, simd.min(simd.splat(0.0), x)),
    );
    below_zero(simd, x, negative, x)
});

function!(Selu, |simd, x| {
    let scale = simd.splat(1.050_701);
    let negative = math::exp_m1_negative(simd, simd.min(simd.splat(0.0), x));
    // 1.6732632 * 1.050701
    let negative = simd.mul(simd.splat(1.758_099_3), negative);
    below_zero(simd, x, negative, simd.mul(scale, x))
});

function!(Celu(alpha), |simd, x| {
    let exponent = simd.min(simd.splat(0.0), simd.div(x, alpha));
    let negative = simd.mul(alpha, math::exp_m1_negative(simd, exponent));
    below_zero(simd, x, negative, x)
});

function!(Sigmoid, |simd, x| math::sigmoid(simd, x));

function!(HardSigmoid(alpha, beta), |simd, x| {
    let line = simd.add(simd.mul(alpha, x), beta);
    simd.min(simd.splat(1.0), simd.max(simd.splat(0.0), line))
});

function!(Tanh, |simd, x| math::tanh(simd, x));

function!(Softplus, |simd, x| math::softplus(simd, x));

function!(Softsign, |simd, x| {
    let x = simd.min(simd.splat(f32::MAX), math::finite_below(simd, x));
    let magnitude = simd.copy_sign(x, simd.splat(1.0));
    simd.div(x, simd.add(simd.splat(1.0), magnitude))
});

function!(Gelu, |simd, x| math::gelu(simd, x));

// x / 2 (1 + tanh(u)) = x sigmoid(2 u), which keeps the negative tail.
function!(GeluTanh, |simd, x| {
    let x = math::finite_below(simd, x);
    // 2 sqrt(2 / pi), and that times 0.044715
    let cubic = simd.mul(simd.splat(0.071_354_814), simd.mul(x, x));
    let u2 = simd.mul(x, simd.add(simd.splat(1.595_769), cubic));
    simd.mul(x, math::sigmoid(simd, u2))
});

function!(Silu, |simd, x| {
    let x = math::finite_below(simd, x);
    simd.mul(x, math::sigmoid(simd, x))
});

// tanh(log(1 + e)) = n / (n + 2) with n = e (e + 2) and e = exp(x).
function!(Mish, |simd, x| {
    let x = math::finite_below(simd, x);
    let two = simd.splat(2.0);
    // From 20 on the quotient rounds to 1; the bound keeps n finite.
    let e = math::exp(simd, simd.min(simd.splat(20.0), x));
    let n = simd.mul(e, simd.add(e, two));
    simd.mul(x, simd.div(n, simd.add(n, two)))
});

function!(HardSwish, |simd, x| {
    let x = math::finite_below(simd, x);
    let six = simd.splat(6.0);
    let shifted = simd.add(x, simd.splat(3.0));
    let gate = simd.min(six, simd.max(simd.splat(0.0), shifted));
    simd.mul(x, simd.div(gate, six))
});

function!(Exp, |simd, x| math::exp(simd, x));

function!(Erf, |simd, x| math::erf(simd, x));
