//! One run's scratch memory, reused from run to run.

/// Floats in a cache line: slots start on one, so that no two slots share it.
const LINE: usize = 16;

/// Where the slots of a plan lie for a given number of rows.
///
/// Slots lie one behind the other; each is as large as the largest value that it ever holds.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Layout {
    /// For each slot the sum of the row elements of the slots before it; then the sum of all.
    prefix: Vec<usize>,
}

impl Layout {
    /// Lays out slots with these numbers of elements a row.
    pub(super) fn new(elements: &[usize]) -> Self {
        let mut prefix = vec![0];
        let mut sum = 0;
        for elements in elements {
            sum += elements;
            prefix.push(sum);
        }
        Self { prefix }
    }

    /// Where the slot starts, in floats; a multiple of a cache line.
    ///
    /// Rounding each start up and adding one line a slot keeps neighbours apart:
    /// `start(s) + elements(s) * rows <= start(s + 1)`.
    pub(super) fn start(&self, slot: usize, rows: usize) -> usize {
        (self.prefix[slot] * rows).next_multiple_of(LINE) + slot * LINE
    }

    /// The floats that all slots take together.
    fn len(&self, rows: usize) -> usize {
        self.start(self.prefix.len() - 1, rows)
    }
}

/// Scratch memory for runs of any engine: it grows to the largest run that it has seen, then
/// is reused without allocating. One thread uses it at a time.
#[derive(Debug, Default)]
pub struct Workspace {
    memory: Vec<f32>,
}

impl Workspace {
    /// An empty workspace; the first run sizes it.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// The arena for a run: starts on a cache line, holds what earlier runs left.
    pub(super) fn arena(&mut self, layout: &Layout, rows: usize) -> &mut [f32] {
        let len = layout.len(rows);
        if self.memory.len() < len + LINE {
            // Nothing of the old contents is needed: do not let a growing vector copy it.
            self.memory = Vec::new();
            self.memory = vec![0.0; len + LINE];
        }
        let start = self.memory.as_ptr().align_offset(LINE * size_of::<f32>());
        // `align_offset` may answer "impossible" (as under Miri); alignment is only for speed.
        let start = if start < LINE { start } else { 0 };
        &mut self.memory[start..start + len]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slots_never_overlap() {
        let elements = [1, 0, 17, 64, 3, 10];
        let layout = Layout::new(&elements);
        for rows in [1, 2, 3, 7, 16, 130] {
            for (slot, elements) in elements.iter().enumerate() {
                let start = layout.start(slot, rows);
                assert_eq!(start % LINE, 0);
                assert!(start + elements * rows <= layout.start(slot + 1, rows));
            }
        }
    }

    #[test]
    fn a_second_run_of_the_same_size_reuses_the_memory() {
        let layout = Layout::new(&[64, 10]);
        let mut workspace = Workspace::new();
        let first = workspace.arena(&layout, 32).as_ptr();
        assert_eq!(workspace.arena(&layout, 32).as_ptr(), first);
        assert_eq!(workspace.arena(&layout, 5).as_ptr(), first);
    }
}
