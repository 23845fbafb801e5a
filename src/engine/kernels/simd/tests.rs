//! Each operation of each instruction set against its scalar twin.

use crate::engine::kernels::isa::Isa;
use crate::engine::kernels::simd::{Simd, Task};

/// Where operations treat numbers differently.
const EDGES: &[f32] = &[
    0.0,
    -0.0,
    f32::from_bits(1),
    -f32::MIN_POSITIVE,
    0.1,
    -0.7,
    1.0,
    -1.0,
    1.000_000_1,
    3.0,
    -12_345.678,
    f32::MAX,
    f32::MIN,
    f32::INFINITY,
    f32::NEG_INFINITY,
    f32::NAN,
];

/// Whether two numbers have the same bits; all NaN are one.
fn is_same(a: f32, b: f32) -> bool {
    a.to_bits() == b.to_bits() || a.is_nan() && b.is_nan()
}

/// Each of [`EDGES`] with each other one, and one of them more.
fn triples() -> Vec<[f32; 3]> {
    let count = EDGES.len();
    (0..count * count)
        .map(|i| {
            let (a, b) = (i / count, i % count);
            [EDGES[a], EDGES[b], EDGES[(3 * a + 5 * b + 4) % count]]
        })
        .collect()
}

/// Asserts of every lane of a vector what it holds.
fn assert_lanes<S: Simd>(simd: S, name: &str, actual: S::Vector, expected: &[f32]) {
    let mut lanes = vec![f32::NAN; S::LANES];
    simd.write(actual, &mut lanes);
    for (lane, (&actual, &expected)) in lanes.iter().zip(expected).enumerate() {
        assert!(
            is_same(actual, expected),
            "{name} on {}, lane {lane}: {actual:e} instead of {expected:e}, of {expected:?}",
            S::NAME
        );
    }
}

struct OperationsOfThree;

impl Task for OperationsOfThree {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, simd: S) {
        for chunk in triples().chunks(S::LANES) {
            let [a, b, c]: [Vec<f32>; 3] =
                std::array::from_fn(|place| chunk.iter().map(|triple| triple[place]).collect());
            let (a, b, c) = (simd.read(&a), simd.read(&b), simd.read(&c));
            let check = |name: &str, actual, scalar: fn(f32, f32, f32) -> f32| {
                let expected: Vec<f32> = chunk.iter().map(|&[a, b, c]| scalar(a, b, c)).collect();
                assert_lanes(simd, name, actual, &expected);
            };
            check("add", simd.add(a, b), |a, b, _| a + b);
            check("sub", simd.sub(a, b), |a, b, _| a - b);
            check("mul", simd.mul(a, b), |a, b, _| a * b);
            check("div", simd.div(a, b), |a, b, _| a / b);
            check("sqrt", simd.sqrt(a), |a, _, _| a.sqrt());
            check(
                "mul_add",
                simd.mul_add(a, b, c),
                if S::NAME == "portable" {
                    |a, b, c| a * b + c
                } else {
                    f32::mul_add
                },
            );
            check("min", simd.min(a, b), |a, b, _| if a < b { a } else { b });
            check("max", simd.max(a, b), |a, b, _| if a > b { a } else { b });
            check("and", simd.and(a, 0xFFFF_F000), |a, _, _| {
                f32::from_bits(a.to_bits() & 0xFFFF_F000)
            });
            check("widen_low", simd.widen_low(a), |a, _, _| {
                f32::from_bits(a.to_bits() << 16)
            });
            check("widen_high", simd.widen_high(a), |a, _, _| {
                f32::from_bits(a.to_bits() & 0xFFFF_0000)
            });
            check("copy_sign", simd.copy_sign(a, b), |a, b, _| a.copysign(b));
            let less = simd.less(a, b);
            check(
                "less",
                simd.select(less, b, c),
                |a, b, c| {
                    if a < b { b } else { c }
                },
            );
            let is_nan = simd.is_nan(a);
            check("is_nan", simd.select(is_nan, b, c), |a, b, c| {
                if a.is_nan() { b } else { c }
            });
        }
    }
}

#[test]
fn each_operation_does_in_each_lane_what_a_scalar_does() {
    for isa in Isa::available() {
        isa.run(OperationsOfThree);
    }
}

struct Powers;

impl Task for Powers {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, simd: S) {
        let step = if cfg!(miri) { 25 } else { 1 };
        let exponents: Vec<i32> = (-250..=250).step_by(step).collect();
        for a in [
            0.5_f32,
            0.700_000_05,
            1.0,
            -1.333_333_4,
            1.999_999_9,
            f32::NAN,
        ] {
            for exponents in exponents.chunks(S::LANES) {
                let n: Vec<f32> = exponents.iter().map(|&n| n as f32).collect();
                // Exact in f64, so that it is rounded once.
                let expected: Vec<f32> = exponents
                    .iter()
                    .map(|&n| (f64::from(a) * f64::from(n).exp2()) as f32)
                    .collect();
                let scaled = simd.scale(simd.splat(a), simd.read(&n));
                assert_lanes(simd, "scale", scaled, &expected);
            }
        }
        // Normal numbers of every exponent.
        let numbers: Vec<f32> = (1..255)
            .map(|exponent: u32| {
                f32::from_bits((exponent << 23) | ((exponent * 0x7_F31D) & 0x7F_FFFF))
            })
            .collect();
        for numbers in numbers.chunks(S::LANES) {
            let (mantissa, exponent) = simd.split(simd.read(numbers));
            let of = |part: fn(u32) -> f32| -> Vec<f32> {
                numbers.iter().map(|x| part(x.to_bits())).collect()
            };
            let mantissas = of(|bits| f32::from_bits(bits & 0x7F_FFFF | 0x3F80_0000));
            let exponents = of(|bits| (bits >> 23) as f32 - 127.0);
            assert_lanes(simd, "mantissa", mantissa, &mantissas);
            assert_lanes(simd, "exponent", exponent, &exponents);
        }
    }
}

#[test]
fn numbers_are_split_and_scaled_by_powers_of_two_with_one_rounding() {
    for isa in Isa::available() {
        isa.run(Powers);
    }
}

struct AcrossLanes;

impl Task for AcrossLanes {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, simd: S) {
        // Of such different sizes that another order rounds differently.
        let mut lanes: Vec<f32> = (0..S::LANES)
            .map(|lane| [1e7, -0.3, 12.7, 3e-3][lane % 4] * (1.1 + lane as f32))
            .collect();
        for _ in 0..S::LANES {
            let vector = simd.read(&lanes);
            let mut halves = lanes.clone();
            while halves.len() > 1 {
                let (low, high) = halves.split_at(halves.len() / 2);
                halves = low.iter().zip(high).map(|(low, high)| low + high).collect();
            }
            assert_eq!(simd.reduce_add(vector).to_bits(), halves[0].to_bits());
            let max = lanes.iter().copied().fold(f32::NEG_INFINITY, f32::max);
            assert_eq!(simd.reduce_max(vector), max);
            for count in 0..=S::LANES {
                let one = simd.splat(1.0);
                let mut expected = vec![1.0; S::LANES];
                expected[..count].copy_from_slice(&lanes[..count]);
                let selected = simd.select_first(count, vector, one);
                assert_lanes(simd, "select_first", selected, &expected);
            }
            lanes.rotate_right(1);
        }
    }
}

#[test]
fn lanes_are_added_by_halves_and_chosen_by_their_number() {
    for isa in Isa::available() {
        isa.run(AcrossLanes);
    }
}

/// Memory between two pages that end the process if they are touched.
#[cfg(all(unix, not(miri)))]
struct Guarded {
    start: *mut f32,
    bytes: usize,
}

#[cfg(all(unix, not(miri)))]
impl Guarded {
    fn new() -> Guarded {
        // SAFETY: it only reads a constant of the system.
        let bytes = usize::try_from(unsafe { libc::sysconf(libc::_SC_PAGESIZE) }).unwrap();
        // SAFETY: a new mapping, at a place that the system chooses; the page in
        // its middle belongs to it.
        let start = unsafe {
            let (private, none) = (libc::MAP_PRIVATE | libc::MAP_ANONYMOUS, libc::PROT_NONE);
            let map = libc::mmap(std::ptr::null_mut(), 3 * bytes, none, private, -1, 0);
            assert_ne!(map, libc::MAP_FAILED);
            let middle = map.byte_add(bytes);
            let both = libc::PROT_READ | libc::PROT_WRITE;
            assert_eq!(libc::mprotect(middle, bytes, both), 0);
            middle.cast()
        };
        Guarded { start, bytes }
    }

    /// The page that may be touched.
    fn values(&mut self) -> &mut [f32] {
        // SAFETY: the page is mapped, zeroed by the system, and this value's alone.
        unsafe { std::slice::from_raw_parts_mut(self.start, self.bytes / size_of::<f32>()) }
    }
}

#[cfg(all(unix, not(miri)))]
impl Drop for Guarded {
    fn drop(&mut self) {
        // SAFETY: the three pages that `new` mapped, which nothing borrows any more.
        unsafe { libc::munmap(self.start.byte_sub(self.bytes).cast(), 3 * self.bytes) };
    }
}

/// Reads and writes the first lanes at both ends of a page between guards.
#[cfg(all(unix, not(miri)))]
struct FirstLanes(Guarded);

#[cfg(all(unix, not(miri)))]
impl Task for FirstLanes {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(mut self, simd: S) {
        let page = self.0.values();
        for count in 0..=S::LANES {
            for start in [0, page.len() - count] {
                for (index, value) in page.iter_mut().enumerate() {
                    *value = index as f32;
                }
                let mut expected = page.to_vec();
                let place = page[start..][..count].as_mut_ptr();
                // SAFETY: `count` values of the page are readable and writable there.
                unsafe {
                    let vector = simd.load_first(place, count);
                    let mut lanes = vec![0.0; S::LANES];
                    lanes[..count].copy_from_slice(&expected[start..][..count]);
                    assert_lanes(simd, "load_first", vector, &lanes);
                    simd.store_first(simd.add(vector, simd.splat(0.5)), place, count);
                }
                for value in &mut expected[start..][..count] {
                    *value += 0.5;
                }
                assert_eq!(page, expected, "{} lanes on {}", count, S::NAME);
            }
        }
    }
}

#[cfg(all(unix, not(miri)))]
#[test]
fn the_first_lanes_are_read_and_written_and_nothing_around_them() {
    for isa in Isa::available() {
        isa.run(FirstLanes(Guarded::new()));
    }
}
