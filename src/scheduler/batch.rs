//! Joining the rows of several calls into one forward pass, and splitting its outputs again.

use super::call::{ForwardPass, rows_of};
use super::queue::Part;
use crate::request::InferError;
use crate::tensor::{Values, View};

/// Where the rows of several calls are joined: one buffer an input. Each worker
/// has one, reused from batch to batch.
#[derive(Debug, Default)]
pub(super) struct JoinBuffers {
    inputs: Vec<Values>,
}

impl JoinBuffers {
    /// Calls `run` with one view an input: the rows of all parts, in their order. A single
    /// part's rows are borrowed from the request; only several are copied.
    pub(super) fn join<R>(&mut self, parts: &[Part], run: impl FnOnce(&[View<'_>]) -> R) -> R {
        if let [part] = parts {
            let inputs = part.call.inputs();
            return with_views(inputs, |i| part.call.input(i, part.rows.clone()), run);
        }
        let inputs = parts.first().map_or(0, |part| part.call.inputs());
        for index in 0..inputs {
            for (position, part) in parts.iter().enumerate() {
                let rows = part.call.input(index, part.rows.clone());
                if position == 0 {
                    self.start(index, rows);
                }
                self.inputs[index].extend(rows);
            }
        }
        with_views(inputs, |i| self.inputs[i].view(), run)
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
/// `output(i)` is the engine's output `i`, of `pass.batch_rows` rows in the order of the parts.
/// Unless `allow_non_finite`, a part with NaN or an infinity in its own rows fails its call, and
/// no other.
pub(super) fn split<'a>(
    parts: &[Part],
    outputs: usize,
    output: impl Fn(usize) -> &'a [f32],
    allow_non_finite: bool,
    pass: ForwardPass,
) {
    let mut first_row = 0;
    for part in parts {
        let rows = first_row..first_row + part.rows.len();
        first_row = rows.end;
        let own = || (0..outputs).map(|i| rows_of(output(i), pass.batch_rows, rows.clone()));
        match first_non_finite(own(), rows.len()) {
            Some((output, row)) if !allow_non_finite => part.call.fail(InferError::NonFinite {
                output,
                row: part.rows.start + row,
            }),
            _ => part.call.deliver(part.rows.clone(), own(), pass),
        }
    }
}

/// The first output with a value that is not finite, and the first such row in it.
pub(super) fn first_non_finite<'a>(
    outputs: impl Iterator<Item = &'a [f32]>,
    rows: usize,
) -> Option<(usize, usize)> {
    for (index, values) in outputs.enumerate() {
        // Without a branch a value, so that it is computed many at a time.
        if values
            .iter()
            .fold(true, |all, value| all & value.is_finite())
        {
            continue;
        }
        let elements = values.len() / rows;
        let position = values.iter().position(|value| !value.is_finite());
        return position.map(|position| (index, position / elements));
    }
    None
}
