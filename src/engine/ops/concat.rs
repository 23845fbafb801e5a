//! Joining values along an axis.

use crate::engine::kernels::Isa;
use crate::engine::op::{Kernel, OpError, Operand, Operator, itemwise};
use crate::engine::run::Run;
use crate::tensor::Shape;

/// Its operands one after the other along one axis of the item (ONNX `Concat`). A constant is
/// repeated for each item.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Concat {
    /// The axis among those of the item: 0 is the first, -1 the last.
    pub axis: isize,
}

impl Concat {
    /// The axis counted from the front.
    fn axis(&self, rank: usize) -> Result<usize, OpError> {
        let axis = if self.axis < 0 {
            self.axis + rank as isize
        } else {
            self.axis
        };
        usize::try_from(axis)
            .ok()
            .filter(|axis| *axis < rank)
            .ok_or_else(|| OpError::Attribute {
                attribute: "axis",
                problem: match rank {
                    0 => "a row of one number has no axis".into(),
                    _ => format!("expected -{rank} to {}, got {}", rank - 1, self.axis),
                },
            })
    }
}

impl Operator for Concat {
    fn name(&self) -> &'static str {
        "Concat"
    }

    fn infer_shapes(&self, inputs: &[Operand]) -> Result<Vec<Shape>, OpError> {
        let [first, others @ ..] = inputs else {
            return Err(OpError::Operands {
                expected: "at least 1 input",
                actual: 0,
            });
        };
        let axis = self.axis(first.extents().len())?;
        let mut extents = first.shape.extents.clone();
        for operand in others {
            let other = operand.extents();
            let fits = other.len() == extents.len()
                && (0..extents.len()).all(|i| i == axis || other[i] == extents[i]);
            if !fits {
                return Err(OpError::Shape {
                    operand: "operand",
                    expected: format!("shape {:?} but for axis {axis}", first.extents()),
                    actual: other.to_vec(),
                });
            }
            extents[axis] += other[axis];
        }
        itemwise(inputs, extents)
    }

    fn prepare(&self, inputs: &[Operand], _isa: Isa) -> Box<dyn Kernel> {
        let axis = self
            .axis(inputs[0].extents().len())
            .expect("infer_shapes checked the axis");
        let pieces = inputs.iter().map(|operand| Piece {
            elements: operand.extents()[axis..].iter().product(),
            constant: operand.constant.is_some().then(|| operand.weights()),
        });
        Box::new(ConcatKernel {
            pieces: pieces.collect(),
        })
    }
}

#[derive(Debug)]
struct ConcatKernel {
    pieces: Vec<Piece>,
}

/// What lies together of one operand.
#[derive(Debug)]
struct Piece {
    elements: usize,
    /// The numbers of an operand that is the same for all items.
    constant: Option<Vec<f32>>,
}

impl Kernel for ConcatKernel {
    fn run(&self, run: Run<'_>) {
        let Run { inputs, output, .. } = run;
        let stride: usize = self.pieces.iter().map(|piece| piece.elements).sum();
        let mut inputs = inputs.iter();
        let mut offset = 0;
        for Piece { elements, constant } in &self.pieces {
            let values = match constant {
                Some(values) => values,
                None => inputs
                    .next()
                    .expect("one input for each that is not constant"),
            };
            // A constant has the pieces of one item, which are repeated.
            let pieces = values.chunks_exact((*elements).max(1)).cycle();
            for (group, piece) in output.chunks_exact_mut(stride.max(1)).zip(pieces) {
                group[offset..offset + elements].copy_from_slice(piece);
            }
            offset += elements;
        }
    }

    fn weight_bytes(&self) -> usize {
        let constants = self
            .pieces
            .iter()
            .filter_map(|piece| piece.constant.as_ref());
        constants.map(|values| size_of_val(&**values)).sum()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::engine::op::testing::{assert_computes, refusal, value, weight};

    #[test]
    fn values_follow_each_other_in_each_row() {
        let operands = [value(&[2]), value(&[1]), value(&[2])];
        let inputs: [&[f32]; 3] = [&[1.0, 2.0, 6.0, 7.0], &[3.0, 8.0], &[4.0, 5.0, 9.0, 10.0]];
        let expected = [1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0, 8.0, 9.0, 10.0];
        for axis in [0, -1] {
            assert_computes(&Concat { axis }, &operands, 2, &inputs, &expected, 0.0);
        }
    }

    #[test]
    fn the_axis_counts_from_either_end_of_the_row() {
        let operands = [value(&[2, 1]), value(&[2, 2])];
        let inputs: [&[f32]; 2] = [&[1.0, 2.0], &[3.0, 4.0, 5.0, 6.0]];
        let last = [1.0, 3.0, 4.0, 2.0, 5.0, 6.0];
        assert_computes(&Concat { axis: 1 }, &operands, 1, &inputs, &last, 0.0);
        assert_computes(&Concat { axis: -1 }, &operands, 1, &inputs, &last, 0.0);
        let operands = [value(&[1, 2]), value(&[2, 2])];
        let first = [1.0, 2.0, 3.0, 4.0, 5.0, 6.0];
        assert_computes(&Concat { axis: -2 }, &operands, 1, &inputs, &first, 0.0);
    }

    #[test]
    fn values_that_differ_off_the_axis_are_refused() {
        let concat = Concat { axis: -1 };
        assert_eq!(
            refusal(&concat, &[value(&[2, 3]), value(&[3, 3])]),
            "operand: expected shape [2, 3] but for axis 1, got shape [3, 3]"
        );
        assert_eq!(
            refusal(&concat, &[value(&[3]), value(&[1, 3])]),
            "operand: expected shape [3] but for axis 0, got shape [1, 3]"
        );
        assert_eq!(
            refusal(&concat, &[]),
            "expected at least 1 input, got 0 inputs"
        );
    }

    #[test]
    fn an_axis_beyond_the_row_is_refused() {
        let on = |axis, shape: &[usize]| refusal(&Concat { axis }, &[value(shape)]);
        assert_eq!(on(2, &[2, 2]), "axis: expected -2 to 1, got 2");
        assert_eq!(on(-3, &[2, 2]), "axis: expected -2 to 1, got -3");
        assert_eq!(
            on(isize::MIN, &[2]),
            format!("axis: expected -1 to 0, got {}", isize::MIN)
        );
        assert_eq!(on(0, &[]), "axis: a row of one number has no axis");
    }

    #[test]
    fn a_weight_is_repeated_for_each_item() {
        let constant = weight(&[2], &[8.0, 9.0]);
        let operands = [constant.clone(), value(&[1]), constant];
        let expected = [8.0, 9.0, 1.0, 8.0, 9.0, 8.0, 9.0, 2.0, 8.0, 9.0];
        assert_computes(
            &Concat { axis: 0 },
            &operands,
            2,
            &[&[1.0, 2.0]],
            &expected,
            0.0,
        );
        // Along the last axis, each slice of the item is joined with its slice of the weight.
        let operands = [value(&[2, 1]), weight(&[2, 1], &[8.0, 9.0])];
        let expected = [1.0, 8.0, 2.0, 9.0, 3.0, 8.0, 4.0, 9.0];
        let x = [1.0, 2.0, 3.0, 4.0];
        assert_computes(&Concat { axis: -1 }, &operands, 2, &[&x], &expected, 0.0);
    }

    proptest! {
        #[test]
        fn any_pieces_lie_where_a_loop_puts_them(
            rows in 1_usize..4,
            groups in 1_usize..4,
            widths in proptest::collection::vec(1_usize..9, 1..5),
        ) {
            // Each number tells its operand and its place in it.
            let inputs: Vec<Vec<f32>> = widths.iter().enumerate().map(|(operand, width)| {
                (0..rows * groups * width).map(|i| (1000 * operand + i) as f32).collect()
            }).collect();
            let mut expected = Vec::new();
            for group in 0..rows * groups {
                for (values, width) in inputs.iter().zip(&widths) {
                    for column in 0..*width {
                        expected.push(values[group * width + column]);
                    }
                }
            }
            let operands: Vec<Operand> = widths.iter().map(|w| value(&[groups, *w])).collect();
            let inputs: Vec<&[f32]> = inputs.iter().map(Vec::as_slice).collect();
            assert_computes(&Concat { axis: 1 }, &operands, rows, &inputs, &expected, 0.0);
        }
    }
}
