//! The ways of compressing a body.

/// The most bytes that one step reads and that it writes.
pub(super) const STEP_BYTES: usize = 64 << 10;

/// A way of compressing a body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::http) enum Coding {
    Gzip,
    /// A stream of zlib, as RFC 9110 has it.
    Deflate,
    Zstd,
}

impl Coding {
    /// All of them, for messages.
    pub(in crate::http) const NAMES: &str = "gzip, deflate, zstd or not compressed";

    /// The coding of this name.
    pub(in crate::http) fn named(name: &[u8]) -> Option<Self> {
        let names: [(&[u8], Self); 4] = [
            (b"gzip", Self::Gzip),
            (b"x-gzip", Self::Gzip),
            (b"deflate", Self::Deflate),
            (b"zstd", Self::Zstd),
        ];
        let named = names
            .iter()
            .find(|(known, _)| known.eq_ignore_ascii_case(name));
        named.map(|&(_, coding)| coding)
    }

    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Gzip => "gzip",
            Self::Deflate => "deflate",
            Self::Zstd => "zstd",
        }
    }
}
