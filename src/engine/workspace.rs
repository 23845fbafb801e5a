//! One run's scratch memory, reused from run to run.

use super::counts::Counts;
use crate::tensor::{Axis, Domain, Shape};

/// Floats in a cache line: slots start on one, so that no two slots share it.
const LINE: usize = 16;

/// Where the slots of a plan lie for given numbers of rows and tokens.
///
/// Slots lie one after the other; each is as large as the largest value that it ever holds. What
/// kernels use as scratch lies after all slots.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Layout {
    /// For each slot the sums over the slots before it; then the sums over all.
    before: Vec<Footprint>,
    /// As much as the step with the most scratch asks for.
    scratch: Footprint,
}

/// Elements in proportion to the items of each domain.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Footprint {
    once: usize,
    /// For each row.
    rows: usize,
    /// For each token, by axis; axes without any may be missing at the end.
    tokens: Vec<usize>,
}

impl Footprint {
    fn of(shape: &Shape) -> Self {
        let mut footprint = Self::default();
        *footprint.of_domain(shape.domain) = shape.elements();
        footprint
    }

    fn of_domain(&mut self, domain: Domain) -> &mut usize {
        match domain {
            Domain::Once => &mut self.once,
            Domain::Rows => &mut self.rows,
            Domain::Tokens(Axis(axis)) => {
                if self.tokens.len() <= axis {
                    self.tokens.resize(axis + 1, 0);
                }
                &mut self.tokens[axis]
            }
        }
    }

    fn merge(&mut self, other: &Self, merge: impl Fn(usize, usize) -> usize) {
        self.once = merge(self.once, other.once);
        self.rows = merge(self.rows, other.rows);
        for (axis, tokens) in other.tokens.iter().enumerate() {
            let own = self.of_domain(Domain::Tokens(Axis(axis)));
            *own = merge(*own, *tokens);
        }
    }

    /// The most elements, with this many tokens along each axis.
    fn most_elements(&self, rows: usize, tokens: usize) -> usize {
        let by_token: usize = self.tokens.iter().sum();
        let by_row = self.rows.saturating_mul(rows);
        let by_token = by_token.saturating_mul(tokens);
        self.once.saturating_add(by_row).saturating_add(by_token)
    }

    fn elements(&self, counts: Counts<'_>) -> usize {
        let mut elements = self.once + self.rows * counts.rows();
        for (axis, tokens) in self.tokens.iter().enumerate() {
            elements += tokens * counts.items(Domain::Tokens(Axis(axis)));
        }
        elements
    }
}

impl Layout {
    /// Lays out slots for values of these shapes, and scratch for the largest of those.
    pub(super) fn new<'a>(slots: &[Shape], scratch: impl IntoIterator<Item = &'a Shape>) -> Self {
        let mut sum = Footprint::default();
        let mut before = vec![sum.clone()];
        for slot in slots {
            sum.merge(&Footprint::of(slot), |sum, slot| sum + slot);
            before.push(sum.clone());
        }
        let mut largest = Footprint::default();
        for shape in scratch {
            largest.merge(&Footprint::of(shape), usize::max);
        }
        Self {
            before,
            scratch: largest,
        }
    }

    /// Where the slot starts, in floats; a multiple of a cache line.
    ///
    /// Rounding each start up and adding one line a slot keeps neighbours apart: no slot reaches
    /// into the next.
    pub(super) fn start(&self, slot: usize, counts: Counts<'_>) -> usize {
        self.before[slot].elements(counts).next_multiple_of(LINE) + slot * LINE
    }

    /// The floats that all slots take together: where scratch starts.
    pub(super) fn slots_len(&self, counts: Counts<'_>) -> usize {
        self.start(self.before.len() - 1, counts)
    }

    /// The floats that slots and scratch take together.
    pub(super) fn len(&self, counts: Counts<'_>) -> usize {
        self.slots_len(counts) + self.scratch.elements(counts)
    }

    /// The most floats that slots and scratch take together, with this many tokens along each axis.
    pub(super) fn most_len(&self, rows: usize, tokens: usize) -> usize {
        let slots = self.before.len() - 1;
        let elements = self.before[slots].most_elements(rows, tokens);
        let end = elements.saturating_add((slots + 1) * LINE);
        end.saturating_add(self.scratch.most_elements(rows, tokens))
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
    pub(super) fn arena(&mut self, layout: &Layout, counts: Counts<'_>) -> &mut [f32] {
        let len = layout.len(counts);
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

    fn rows(elements: &[usize]) -> Vec<Shape> {
        elements
            .iter()
            .map(|elements| Shape::rows([*elements]))
            .collect()
    }

    #[test]
    fn slots_never_overlap() {
        let (first, second) = (Axis(0), Axis(1));
        let slots = [
            Shape::rows([1]),
            Shape::tokens(first, [0]),
            Shape::tokens(second, [17]),
            Shape::rows([64]),
            Shape::tokens(first, [3]),
            Shape::rows([10]),
        ];
        let scratch = [Shape::once([5]), Shape::tokens(first, [2])];
        let layout = Layout::new(&slots, &scratch);
        for row_tokens in [0, 1, 5, 33] {
            for rows in [1, 2, 3, 7, 16, 130] {
                let offsets =
                    [row_tokens, 3].map(|each| (0..=rows).map(|row| row * each).collect());
                let counts = Counts::new(rows, &offsets);
                for (slot, shape) in slots.iter().enumerate() {
                    let start = layout.start(slot, counts);
                    assert_eq!(start % LINE, 0);
                    let len = shape.elements() * counts.items(shape.domain);
                    assert!(start + len <= layout.start(slot + 1, counts));
                }
                // The largest number of items of each domain.
                let scratch = 5 + 2 * counts.items(Domain::Tokens(first));
                assert_eq!(layout.len(counts), layout.slots_len(counts) + scratch);
                let most = layout.most_len(rows, (row_tokens * rows).max(3 * rows));
                assert!(layout.len(counts) <= most);
            }
        }
    }

    #[test]
    fn the_most_that_a_run_over_rows_takes_is_what_it_takes_but_for_a_cache_line() {
        let layout = Layout::new(&rows(&[64, 3, 10]), &[Shape::rows([7])]);
        for rows in [1, 2, 3, 16, 130] {
            let len = layout.len(Counts::new(rows, &[]));
            let most = layout.most_len(rows, rows);
            assert!((len..=len + LINE).contains(&most), "{len} {most}");
        }
        assert_eq!(layout.most_len(usize::MAX, 1), usize::MAX);
    }

    #[test]
    fn a_second_run_of_the_same_size_reuses_the_memory() {
        let layout = Layout::new(&rows(&[64, 10]), []);
        let mut workspace = Workspace::new();
        let first = workspace.arena(&layout, Counts::new(32, &[])).as_ptr();
        let mut again = |rows| workspace.arena(&layout, Counts::new(rows, &[])).as_ptr();
        assert_eq!(again(32), first);
        assert_eq!(again(5), first);
    }
}
