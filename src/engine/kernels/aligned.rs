//! Memory that starts at a cache line.

/// The number of values in a cache line.
pub(super) const LINE: usize = 16;

/// A cache line.
#[derive(Clone, Copy)]
#[repr(C, align(64))]
struct Line([f32; LINE]);

/// Values whose first lies at the start of a cache line, so that no vector
/// straddles two lines.
pub(super) struct AlignedVec(Vec<Line>);

impl AlignedVec {
    /// At least `len` zeros: as many as fill whole cache lines.
    pub(super) fn zeros(len: usize) -> AlignedVec {
        AlignedVec(vec![Line([0.0; LINE]); len.div_ceil(LINE)])
    }

    /// The number of values, padding included.
    pub(super) fn len(&self) -> usize {
        self.0.len() * LINE
    }

    /// The first value.
    pub(super) fn as_ptr(&self) -> *const f32 {
        self.0.as_ptr().cast()
    }

    /// All values, padding included.
    pub(super) fn as_mut_slice(&mut self) -> &mut [f32] {
        let len = self.len();
        // SAFETY: a `Line` is an array of `LINE` values without padding, and
        // the borrow of `self` covers all of them.
        unsafe { std::slice::from_raw_parts_mut(self.0.as_mut_ptr().cast(), len) }
    }
}
