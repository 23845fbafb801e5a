//! Digests of results, by which instruction sets are held to the same bits
//! though no machine has all of them: the expected ones are in the tests.

use super::isa::Isa;

/// Digests of named results, for the instruction sets that fuse a multiplication
/// with an addition, and for the portable one, which does not.
pub(super) struct Digests {
    /// `name digest` a line, of AVX-512, AVX2 and NEON.
    pub(super) fused: &'static str,
    /// The same of portable code, on every CPU.
    pub(super) portable: &'static str,
}

impl Digests {
    /// Asserts that every instruction set of this CPU gives results of these
    /// digests.
    pub(super) fn assert(&self, results: impl Fn(Isa) -> Vec<(String, Vec<f32>)>) {
        for isa in Isa::available() {
            let expected = match isa.name() {
                "portable" => self.portable,
                _ => self.fused,
            };
            let expected: Vec<&str> = expected.lines().map(str::trim).collect();
            let actual: Vec<String> = results(isa)
                .into_iter()
                .map(|(name, values)| format!("{name} {:016x}", of(&values)))
                .collect();
            assert_eq!(actual, expected, "on {isa:?}:\n{}", actual.join("\n"));
        }
    }
}

/// FNV-1a over the bits; all NaN are one, since CPUs differ in their signs.
fn of(values: &[f32]) -> u64 {
    values.iter().fold(0xCBF2_9CE4_8422_2325, |digest, value| {
        let bits = if value.is_nan() {
            f32::NAN.to_bits()
        } else {
            value.to_bits()
        };
        (digest ^ u64::from(bits)).wrapping_mul(0x0100_0000_01B3)
    })
}
