//! Memory that starts at a cache line.

use super::pages;

/// The number of 32-bit values in a cache line.
pub(super) const LINE: usize = 16;

/// Values of 32 bits whose first lies at the start of a cache line, so that no
/// vector straddles two lines.
pub(super) struct AlignedVec<T> {
    /// Up to a line more than is used: memory that is asked for with a larger
    /// alignment than usual comes without zeros, which would be written first.
    memory: Vec<T>,
    start: usize,
    len: usize,
}

impl<T: Copy + Default> AlignedVec<T> {
    /// At least `len` zeros: as many as fill whole cache lines. Large memory is
    /// only touched when it is written.
    pub(super) fn zeros(len: usize) -> AlignedVec<T> {
        const { assert!(size_of::<T>() * LINE == 64, "values of 32 bits") };
        let len = len.next_multiple_of(LINE);
        let mut memory = vec![T::default(); len + LINE - 1];
        pages::prefer_large(&mut memory);
        let start = memory.as_ptr().align_offset(LINE * size_of::<T>());
        AlignedVec {
            // `align_offset` may answer "impossible" (as under Miri); alignment
            // is only for speed.
            start: if start < LINE { start } else { 0 },
            memory,
            len,
        }
    }

    /// The number of values, padding included.
    pub(super) fn len(&self) -> usize {
        self.len
    }

    /// The first value.
    #[inline(always)]
    pub(super) fn as_ptr(&self) -> *const T {
        self.memory.as_ptr().wrapping_add(self.start)
    }

    /// All values, padding included.
    pub(super) fn as_mut_slice(&mut self) -> &mut [T] {
        &mut self.memory[self.start..][..self.len]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check<T: Copy + Default + PartialEq>() {
        for len in [0, 1, 16, 17, 1000, 3 << 20] {
            let mut values = AlignedVec::<T>::zeros(len);
            assert_eq!(values.len(), len.next_multiple_of(LINE));
            assert_eq!(values.as_mut_slice().len(), values.len());
            assert_eq!(values.as_ptr(), values.as_mut_slice().as_ptr());
            let zero = T::default();
            assert!(values.as_mut_slice().iter().all(|value| *value == zero));
            assert!(cfg!(miri) || values.as_ptr().addr().is_multiple_of(64));
        }
    }

    #[test]
    fn values_are_zero_and_fill_lines_from_the_start_of_one() {
        check::<f32>();
        check::<u32>();
    }
}
