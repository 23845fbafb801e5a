//! Joining the rows of several calls into one forward pass, and splitting its outputs again.

use super::call::{Answer, ForwardPass};
use super::queue::Part;
use crate::engine::Batch;
use crate::request::{InferError, InferRequest, InferResponse, extend_offsets};
use crate::tensor::{TensorSpec, Values, View};

/// Where the rows of several calls are joined: one buffer an input, and one list of offsets an axis.
/// Each worker has one, reused from batch to batch.
#[derive(Debug, Default)]
pub(super) struct JoinBuffers {
    offsets: Vec<Vec<usize>>,
    inputs: Vec<Values>,
}

impl JoinBuffers {
    /// Calls `run` with the rows of all parts, at least one, in their order; `specs` are the
    /// engine's inputs. A single part's rows are borrowed from the request; only several are copied.
    pub(super) fn join<R>(
        &mut self,
        parts: &[Part],
        specs: &[TensorSpec],
        run: impl FnOnce(Batch<'_>) -> R,
    ) -> R {
        let rows = parts.iter().map(|part| part.rows.len()).sum();
        if let [part] = parts {
            let call = &part.call;
            let offsets = match part.rows.len() == call.rows() {
                true => &call.request().offsets,
                false => self.join_offsets(parts),
            };
            return with_views(
                specs.len(),
                |i| call.input(i, &specs[i].shape, part.rows.clone()),
                |inputs| run(batch(rows, offsets, inputs)),
            );
        }
        for (index, spec) in specs.iter().enumerate() {
            for (position, part) in parts.iter().enumerate() {
                let rows = part.call.input(index, &spec.shape, part.rows.clone());
                if position == 0 {
                    self.start(index, rows);
                }
                self.inputs[index].extend(rows);
            }
        }
        self.join_offsets(parts);
        with_views(
            specs.len(),
            |i| self.inputs[i].view(),
            |inputs| run(batch(rows, &self.offsets, inputs)),
        )
    }

    /// Joins the offsets of the parts: those of each are counted from its own first row.
    fn join_offsets(&mut self, parts: &[Part]) -> &Vec<Vec<usize>> {
        let axes = parts[0].call.request().offsets.len();
        self.offsets.resize_with(axes, Vec::new);
        for (axis, joined) in self.offsets.iter_mut().enumerate() {
            joined.clear();
            joined.push(0);
            for part in parts {
                let offsets = &part.call.request().offsets[axis];
                extend_offsets(joined, &offsets[part.rows.start..=part.rows.end]);
            }
        }
        &self.offsets
    }

    /// Empties the buffer of an input for rows of this type. A worker's batches are of any model, so
    /// the buffer may have held another type before.
    fn start(&mut self, index: usize, rows: View<'_>) {
        match self.inputs.get_mut(index) {
            Some(buffer) if buffer.holds(rows) => buffer.clear(),
            Some(buffer) => *buffer = rows.to_empty(),
            None => self.inputs.push(rows.to_empty()),
        }
    }
}

fn batch<'a>(rows: usize, offsets: &'a [Vec<usize>], inputs: &'a [View<'a>]) -> Batch<'a> {
    Batch {
        rows,
        offsets,
        inputs,
    }
}

/// Calls `run` with `count` views; nearly every model has one, which takes no allocation.
pub(super) fn with_views<'a, R>(
    count: usize,
    view: impl Fn(usize) -> View<'a>,
    run: impl FnOnce(&[View<'a>]) -> R,
) -> R {
    match count {
        1 => run(&[view(0)]),
        _ => run(&(0..count).map(view).collect::<Vec<_>>()),
    }
}

/// Answers each part from the outputs of the pass that computed them all.
///
/// `specs` are the engine's outputs; `output(i)` is the engine's output `i`, of `pass.batch_rows`
/// rows in the order of the parts, with these `offsets`. Unless `allow_non_finite`, a part with NaN
/// or an infinity in its own rows fails its call, and no other. `finish` makes the answer of a
/// request from what the engine computed for all of its rows.
pub(super) fn split<'a>(
    parts: &[Part],
    specs: &[TensorSpec],
    offsets: &[Vec<usize>],
    output: impl Fn(usize) -> &'a [f32],
    allow_non_finite: bool,
    pass: ForwardPass,
    finish: impl Fn(&InferRequest, InferResponse) -> Answer,
) {
    let mut first_row = 0;
    for part in parts {
        let rows = first_row..first_row + part.rows.len();
        first_row = rows.end;
        let elements = |i: usize| specs[i].shape.elements_of(rows.clone(), offsets);
        let own = || (0..specs.len()).map(|i| &output(i)[elements(i)]);
        match first_non_finite(own()) {
            Some((output, element)) if !allow_non_finite => {
                let row = row_of(&specs[output], elements(output).start + element, offsets);
                part.call.fail(InferError::NonFinite {
                    output,
                    row: part.rows.start + row - rows.start,
                });
            }
            _ => {
                let call = &part.call;
                if let Some(response) = call.deliver(part.rows.clone(), specs, own(), pass) {
                    call.reply(finish(call.request(), response));
                }
            }
        }
    }
}

/// The row of an element of an output, among all rows of a pass.
pub(super) fn row_of(spec: &TensorSpec, element: usize, offsets: &[Vec<usize>]) -> usize {
    let item = element / spec.shape.elements();
    spec.shape.domain.row_of(item, offsets)
}

/// The first output with a value that is not finite, and the first such element of it.
pub(super) fn first_non_finite<'a>(
    outputs: impl Iterator<Item = &'a [f32]>,
) -> Option<(usize, usize)> {
    for (index, values) in outputs.enumerate() {
        // Without a branch a value, so that it is computed many at a time.
        if values
            .iter()
            .fold(true, |all, value| all & value.is_finite())
        {
            continue;
        }
        let position = values.iter().position(|value| !value.is_finite());
        return position.map(|position| (index, position));
    }
    None
}
