//! One kernel with the places that it reads and writes.

use std::sync::Arc;

use super::counts::Counts;
use super::kernels::Team;
use super::op::Kernel;
use super::run::{Inputs, Place, Run, Source};
use super::workspace::Layout;
use crate::tensor::{Domain, Shape, View};

/// One kernel with the places that it reads and writes.
#[derive(Debug)]
pub(super) struct Step {
    pub(super) kernel: Arc<dyn Kernel>,
    /// What the kernel reads; without the first input if it works in place.
    pub(super) inputs: Vec<Source>,
    /// What to copy into the output first: the first input of a kernel that works in place,
    /// if it lies elsewhere.
    pub(super) copy: Option<Source>,
    /// Where the outputs go: in slots that follow each other.
    pub(super) outputs: Vec<Place>,
    /// What the kernel needs apart from these.
    pub(super) scratch: Option<Shape>,
}

impl Step {
    /// Runs the kernel over the values in `arena`, which `layout` lays out.
    pub(super) fn run(
        &self,
        counts: Counts<'_>,
        external: &[View<'_>],
        layout: &Layout,
        arena: &mut [f32],
        team: Option<&Team>,
    ) {
        let (slots, scratch) = arena.split_at_mut(layout.slots_len(counts));
        let (first, last) = (self.outputs[0], self.outputs[self.outputs.len() - 1]);
        let start = first.start(layout, counts);
        let end = last.start(layout, counts) + last.len(counts);
        let (before, rest) = slots.split_at_mut(start);
        let (output, after) = rest.split_at_mut(end - start);
        let inputs = |sources| Inputs {
            counts,
            sources,
            external,
            layout,
            before,
            after,
            after_start: end,
        };
        if let Some(source) = &self.copy {
            output.copy_from_slice(inputs(std::slice::from_ref(source)).get(0));
        }
        self.kernel.run(Run {
            counts,
            inputs: inputs(&self.inputs),
            output,
            scratch: &mut scratch[..self.scratch_len(counts)],
            team,
            places: &self.outputs,
        });
    }

    fn scratch_len(&self, counts: Counts<'_>) -> usize {
        let shape = self.scratch.as_ref();
        shape.map_or(0, |shape| shape.elements() * counts.items(shape.domain))
    }

    /// Whether several threads should share the step in a pass of these counts.
    pub(super) fn pays_to_share(&self, rows: usize, tokens: usize) -> bool {
        let items = match self.outputs[0].domain {
            Domain::Once => 1,
            Domain::Rows => rows,
            Domain::Tokens(_) => tokens,
        };
        self.kernel.pays_to_share(items)
    }
}
