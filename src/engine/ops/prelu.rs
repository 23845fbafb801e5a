//! Leaky ReLU with learnt slopes.

use crate::engine::kernels::{self, Isa};
use crate::engine::op::{Kernel, OpError, Operand, Operator, constant};
use crate::engine::run::Run;
use crate::tensor::Shape;

/// `x` where it is positive, else `slope · x`.
///
/// Operands: `x`; the weight `slope` of one element (shared by all), of one a column of the last
/// axis, or of the shape of the row (ONNX `PRelu`).
///
/// Source: He et al. 2015, eq. 1.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct PRelu;

impl Operator for PRelu {
    fn name(&self) -> &'static str {
        "PRelu"
    }

    fn infer_shapes(&self, inputs: &[Operand]) -> Result<Vec<Shape>, OpError> {
        let [x, slope] = inputs else {
            return Err(OpError::Operands {
                expected: "2 inputs (x, slope)",
                actual: inputs.len(),
            });
        };
        constant(slope, "slope")?;
        let fits = slope.elements() == 1
            || slope.extents() == [x.columns()]
            || slope.extents() == x.extents();
        if !fits {
            return Err(OpError::Shape {
                operand: "slope",
                expected: format!("shape [1], [{}] or {:?}", x.columns(), x.extents()),
                actual: slope.shape.extents.clone(),
            });
        }
        Ok(vec![x.shape.clone()])
    }

    fn prepare(&self, inputs: &[Operand], isa: Isa) -> Box<dyn Kernel> {
        let slope = inputs[1].weights();
        let columns = inputs[0].columns();
        Box::new(PReluKernel {
            slope: if slope.len() == 1 {
                vec![slope[0]; columns]
            } else {
                slope
            },
            isa,
        })
    }
}

#[derive(Debug)]
struct PReluKernel {
    slope: Vec<f32>,
    isa: Isa,
}

impl Kernel for PReluKernel {
    fn run(&self, run: Run<'_>) {
        let Run { inputs, output, .. } = run;
        kernels::prelu(self.isa, &self.slope, inputs.get(0), output);
    }

    fn weight_bytes(&self) -> usize {
        size_of_val(&*self.slope)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::engine::op::testing::{assert_computes, numbers, refusal, value, weight};

    const ROWS: &[f32] = &[-1.0, 2.0, -4.0, -8.0];

    #[test]
    fn a_slope_is_shared_by_all_or_of_each_column() {
        let x = value(&[2]);
        let one = [x.clone(), weight(&[1], &[0.5])];
        assert_computes(&PRelu, &one, 2, &[ROWS], &[-0.5, 2.0, -2.0, -4.0], 0.0);
        let columns = [x, weight(&[2], &[0.5, -1.0])];
        assert_computes(&PRelu, &columns, 2, &[ROWS], &[-0.5, 2.0, -2.0, 8.0], 0.0);
    }

    #[test]
    fn a_row_of_several_axes_has_a_slope_a_column_or_an_element() {
        let x = value(&[2, 2]);
        let columns = [x.clone(), weight(&[2], &[0.5, 0.25])];
        assert_computes(&PRelu, &columns, 1, &[ROWS], &[-0.5, 2.0, -2.0, -2.0], 0.0);
        let elements = [x, weight(&[2, 2], &[1.0, 2.0, 3.0, 4.0])];
        assert_computes(
            &PRelu,
            &elements,
            1,
            &[ROWS],
            &[-1.0, 2.0, -12.0, -32.0],
            0.0,
        );
    }

    #[test]
    fn slopes_that_do_not_fit_are_refused() {
        assert_eq!(
            refusal(&PRelu, &[value(&[2, 3]), weight(&[2], &[1.0; 2])]),
            "slope: expected shape [1], [3] or [2, 3], got shape [2]"
        );
        assert_eq!(
            refusal(&PRelu, &[value(&[2]), value(&[2])]),
            "slope must be a weight, not computed from the inputs"
        );
        assert_eq!(
            refusal(&PRelu, &[value(&[2])]),
            "expected 2 inputs (x, slope), got 1 inputs"
        );
    }

    proptest! {
        #[test]
        fn any_width_computes_as_a_loop_does(
            columns in 1_usize..40,
            rows in 1_usize..5,
            x in numbers(40 * 5),
            slope in numbers(40),
        ) {
            let (x, slope) = (&x[..rows * columns], &slope[..columns]);
            let expected: Vec<f32> = x.iter().enumerate()
                .map(|(i, x)| if *x < 0.0 { x * slope[i % columns] } else { *x })
                .collect();
            let operands = [value(&[columns]), weight(&[columns], slope)];
            assert_computes(&PRelu, &operands, rows, &[x], &expected, 0.0);
        }
    }
}
