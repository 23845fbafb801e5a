//! What a forward pass is given, and what each of its kernels sees.

use super::counts::Counts;
use super::kernels::Team;
use super::workspace::Layout;
use crate::tensor::{Domain, Shape, View};

/// The inputs of one forward pass.
#[derive(Clone, Copy, Debug)]
pub struct Batch<'a> {
    /// The number of rows, at least 1.
    pub rows: usize,
    /// For each of the engine's axes where the items of each row start among those of all rows,
    /// and where the last row's end: `rows + 1` places from 0 on, none smaller than the one
    /// before.
    pub offsets: &'a [Vec<usize>],
    /// One view an input: the items of all rows, row-major.
    pub inputs: &'a [View<'a>],
}

impl<'a> Batch<'a> {
    /// A batch for an engine without axes of tokens.
    #[must_use]
    pub fn of_rows(rows: usize, inputs: &'a [View<'a>]) -> Self {
        Self {
            rows,
            offsets: &[],
            inputs,
        }
    }

    pub(super) fn counts(&self) -> Counts<'a> {
        Counts::new(self.rows, self.offsets)
    }
}

/// What a kernel works with.
///
/// All slices are packed item after item, row-major within an item. A kernel that works
/// [in place](super::Kernel::in_place) finds its first input in `output`, and `inputs` without it.
#[derive(Debug)]
pub struct Run<'a> {
    /// The items of each domain.
    pub counts: Counts<'a>,
    /// The operands that are not constants, in order.
    pub inputs: Inputs<'a>,
    /// The output. An operator with several finds them with [`Run::outputs`].
    pub output: &'a mut [f32],
    /// As much as [`Kernel::scratch`](super::Kernel::scratch) asks for, with any contents.
    pub scratch: &'a mut [f32],
    /// Threads that help, if there are any: what they compute is the same to the last bit.
    pub team: Option<&'a Team>,
    /// Where the outputs lie, in slots that follow each other.
    pub(super) places: &'a [Place],
}

impl Run<'_> {
    /// The operator's outputs, in order.
    pub fn outputs(&mut self) -> impl Iterator<Item = &mut [f32]> {
        let (counts, layout) = (self.counts, self.inputs.layout);
        let mut rest = &mut *self.output;
        let mut at = self
            .places
            .first()
            .map_or(0, |place| place.start(layout, counts));
        self.places.iter().map(move |place| {
            let start = place.start(layout, counts);
            let (_, from_start) = std::mem::take(&mut rest).split_at_mut(start - at);
            let (output, others) = from_start.split_at_mut(place.len(counts));
            rest = others;
            at = start + output.len();
            output
        })
    }
}

/// The inputs of a running kernel.
#[derive(Clone, Copy, Debug)]
pub struct Inputs<'a> {
    pub(super) counts: Counts<'a>,
    pub(super) sources: &'a [Source],
    pub(super) external: &'a [View<'a>],
    pub(super) layout: &'a Layout,
    /// The slots before and after those of the outputs.
    pub(super) before: &'a [f32],
    pub(super) after: &'a [f32],
    /// Where in the workspace `after` starts.
    pub(super) after_start: usize,
}

/// Where a value lies during a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Source {
    /// The batch's input of this index.
    Input(usize),
    /// A slot of the workspace.
    Slot(Place),
}

/// A value in a slot of the workspace.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Place {
    pub(super) slot: usize,
    /// What the value's items are.
    pub(super) domain: Domain,
    /// The elements of one item.
    pub(super) elements: usize,
}

impl Place {
    pub(super) fn new(slot: usize, shape: &Shape) -> Self {
        Self {
            slot,
            domain: shape.domain,
            elements: shape.elements(),
        }
    }

    /// The value in the workspace.
    pub(super) fn values<'w>(
        self,
        layout: &Layout,
        counts: Counts<'_>,
        arena: &'w [f32],
    ) -> &'w [f32] {
        &arena[self.start(layout, counts)..][..self.len(counts)]
    }

    /// Where the value starts in the workspace.
    pub(super) fn start(self, layout: &Layout, counts: Counts<'_>) -> usize {
        layout.start(self.slot, counts)
    }

    /// The elements of all items.
    pub(super) fn len(self, counts: Counts<'_>) -> usize {
        self.elements * counts.items(self.domain)
    }
}

impl<'a> Inputs<'a> {
    /// The number of inputs.
    #[must_use]
    pub fn len(&self) -> usize {
        self.sources.len()
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.sources.is_empty()
    }

    /// The values of one input.
    ///
    /// # Panics
    /// If there is no input `index`, or if its elements are not of single precision.
    #[must_use]
    pub fn get(&self, index: usize) -> &'a [f32] {
        match self.sources[index] {
            Source::Input(input) => self.external[input].f32s(),
            Source::Slot(place) => {
                let start = place.start(self.layout, self.counts);
                let len = place.len(self.counts);
                if start < self.before.len() {
                    &self.before[start..start + len]
                } else {
                    let start = start - self.after_start;
                    &self.after[start..start + len]
                }
            }
        }
    }

    /// The values of an input of integers.
    ///
    /// # Panics
    /// If there is no input `index`, or if its elements are not integers.
    #[must_use]
    pub fn i64s(&self, index: usize) -> &'a [i64] {
        match self.sources[index] {
            Source::Input(input) => self.external[input].i64s(),
            Source::Slot(_) => panic!("slots hold f32 values"),
        }
    }

    /// The inputs in order.
    ///
    /// # Panics
    /// If the elements of one are not of single precision.
    pub fn iter(self) -> impl Iterator<Item = &'a [f32]> {
        (0..self.len()).map(move |index| self.get(index))
    }
}
