//! Element-wise arithmetic between values.

use crate::engine::kernels::{self, Isa};
use crate::engine::op::{Kernel, OpError, Operand, Operator, ScaleShift, itemwise};
use crate::engine::run::Run;
use crate::tensor::Shape;

/// The sum of its operands (ONNX `Sum`, `Add`).
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Sum;

/// The product of its operands (ONNX `Mul`).
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Mul;

/// The largest of its operands (ONNX `Max`).
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Max;

/// The smallest of its operands (ONNX `Min`).
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Min;

/// The mean of its operands (ONNX `Mean`).
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Mean;

impl Operator for Sum {
    fn name(&self) -> &'static str {
        "Sum"
    }

    fn infer_shapes(&self, inputs: &[Operand]) -> Result<Vec<Shape>, OpError> {
        itemwise(inputs, common_extents(inputs)?)
    }

    fn prepare(&self, inputs: &[Operand], isa: Isa) -> Box<dyn Kernel> {
        Box::new(Fold::new(inputs, isa, kernels::add, 1.0))
    }

    fn as_scale_shift(&self, inputs: &[Operand]) -> Option<ScaleShift> {
        let shift = column_constant(inputs)?;
        Some(ScaleShift {
            scale: vec![1.0; shift.len()],
            shift,
        })
    }
}

impl Operator for Mul {
    fn name(&self) -> &'static str {
        "Mul"
    }

    fn infer_shapes(&self, inputs: &[Operand]) -> Result<Vec<Shape>, OpError> {
        itemwise(inputs, common_extents(inputs)?)
    }

    fn prepare(&self, inputs: &[Operand], isa: Isa) -> Box<dyn Kernel> {
        Box::new(Fold::new(inputs, isa, kernels::multiply, 1.0))
    }

    fn as_scale_shift(&self, inputs: &[Operand]) -> Option<ScaleShift> {
        let scale = column_constant(inputs)?;
        Some(ScaleShift {
            shift: vec![0.0; scale.len()],
            scale,
        })
    }
}

impl Operator for Max {
    fn name(&self) -> &'static str {
        "Max"
    }

    fn infer_shapes(&self, inputs: &[Operand]) -> Result<Vec<Shape>, OpError> {
        itemwise(inputs, common_extents(inputs)?)
    }

    fn prepare(&self, inputs: &[Operand], isa: Isa) -> Box<dyn Kernel> {
        Box::new(Fold::new(inputs, isa, kernels::maximum, 1.0))
    }
}

impl Operator for Min {
    fn name(&self) -> &'static str {
        "Min"
    }

    fn infer_shapes(&self, inputs: &[Operand]) -> Result<Vec<Shape>, OpError> {
        itemwise(inputs, common_extents(inputs)?)
    }

    fn prepare(&self, inputs: &[Operand], isa: Isa) -> Box<dyn Kernel> {
        Box::new(Fold::new(inputs, isa, kernels::minimum, 1.0))
    }
}

impl Operator for Mean {
    fn name(&self) -> &'static str {
        "Mean"
    }

    fn infer_shapes(&self, inputs: &[Operand]) -> Result<Vec<Shape>, OpError> {
        itemwise(inputs, common_extents(inputs)?)
    }

    fn prepare(&self, inputs: &[Operand], isa: Isa) -> Box<dyn Kernel> {
        Box::new(Fold::new(inputs, isa, kernels::add, inputs.len() as f32))
    }
}

/// The extents that values share; a constant may also be one number or have a suffix of them.
pub(super) fn common_extents(inputs: &[Operand]) -> Result<Vec<usize>, OpError> {
    // A constant of one number fits any shape, so it only decides where there is nothing else.
    let weight = |operand: &Operand| {
        let is_number = operand.constant.is_some() && operand.elements() == 1;
        (!is_number, operand.extents().len(), operand.elements())
    };
    let Some(largest) = inputs.iter().max_by_key(|operand| weight(operand)) else {
        return Err(OpError::Operands {
            expected: "at least 1 input",
            actual: 0,
        });
    };
    let extents = largest.extents();
    for operand in inputs {
        let broadcasts = operand.constant.is_some()
            && (operand.elements() == 1 || extents.ends_with(operand.extents()));
        if operand.extents() != extents && !broadcasts {
            return Err(OpError::Shape {
                operand: "operand",
                expected: format!("shape {extents:?}, as another operand has"),
                actual: operand.shape.extents.clone(),
            });
        }
    }
    Ok(extents.to_vec())
}

/// The second operand as one number a column of the first, if it is a constant of that kind.
fn column_constant(inputs: &[Operand]) -> Option<Vec<f64>> {
    let [x, operand] = inputs else { return None };
    let values = operand.constant.as_ref()?;
    if x.constant.is_some() || x.extents().is_empty() {
        return None;
    }
    match operand.elements() {
        1 => Some(vec![f64::from(*values.to_vec().first()?); x.columns()]),
        elements if elements == x.columns() && operand.extents().len() == 1 => {
            Some(values.to_vec().into_iter().map(f64::from).collect())
        }
        _ => None,
    }
}

/// How often a single number is repeated, so that it is combined by vectors and not one by one.
const SCALAR_RUN: usize = 1024;

/// Combines the operands one by one into the first that is not a constant, then divides.
#[derive(Debug)]
struct Fold {
    /// Constants as they repeat along an item; a single number as a short run of itself.
    constants: Vec<Vec<f32>>,
    combine: fn(Isa, &[f32], &mut [f32]),
    divisor: f32,
    isa: Isa,
}

impl Fold {
    fn new(
        inputs: &[Operand],
        isa: Isa,
        combine: fn(Isa, &[f32], &mut [f32]),
        divisor: f32,
    ) -> Self {
        let extents = common_extents(inputs).expect("infer_shapes checked the operands");
        let elements: usize = extents.iter().product();
        let constants = inputs
            .iter()
            .filter_map(|operand| operand.constant.as_ref())
            .map(|constant| match constant.to_vec() {
                values if values.len() == 1 => vec![values[0]; elements.min(SCALAR_RUN)],
                values => values,
            })
            .collect();
        Self {
            constants,
            combine,
            divisor,
            isa,
        }
    }
}

impl Kernel for Fold {
    fn run(&self, run: Run<'_>) {
        let Run { inputs, output, .. } = run;
        for values in inputs.iter() {
            (self.combine)(self.isa, values, output);
        }
        for constant in &self.constants {
            for part in output.chunks_mut(constant.len()) {
                // Only a run of one number is ever longer than what is left.
                (self.combine)(self.isa, &constant[..part.len()], part);
            }
        }
        if self.divisor != 1.0 {
            for value in output {
                *value /= self.divisor;
            }
        }
    }

    fn in_place(&self) -> bool {
        true
    }

    fn weight_bytes(&self) -> usize {
        self.constants
            .iter()
            .map(|values| size_of_val(&**values))
            .sum()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::engine::op::testing::{assert_computes, numbers, refusal, value, weight};

    const A: &[f32] = &[1.0, -2.0, 3.0, 4.0];
    const B: &[f32] = &[10.0, 20.0, -30.0, 0.5];

    #[test]
    fn values_combine_element_by_element() {
        let operands = [value(&[2]), value(&[2])];
        let inputs = [A, B];
        assert_computes(&Sum, &operands, 2, &inputs, &[11.0, 18.0, -27.0, 4.5], 0.0);
        assert_computes(&Mul, &operands, 2, &inputs, &[10.0, -40.0, -90.0, 2.0], 0.0);
        assert_computes(&Max, &operands, 2, &inputs, &[10.0, 20.0, 3.0, 4.0], 0.0);
        assert_computes(&Min, &operands, 2, &inputs, &[1.0, -2.0, -30.0, 0.5], 0.0);
        assert_computes(&Mean, &operands, 2, &inputs, &[5.5, 9.0, -13.5, 2.25], 0.0);
    }

    #[test]
    fn a_weight_is_repeated_over_columns_and_rows() {
        let one = weight(&[1], &[10.0]);
        let columns = weight(&[2], &[10.0, 20.0]);
        let row = weight(&[2, 2], &[1.0, 2.0, 3.0, 4.0]);
        let x = value(&[2, 2]);
        let rows = [A];
        assert_computes(
            &Sum,
            &[x.clone(), one],
            1,
            &rows,
            &[11.0, 8.0, 13.0, 14.0],
            0.0,
        );
        let expected = [10.0, -40.0, 30.0, 80.0];
        assert_computes(
            &Mul,
            &[x.clone(), columns.clone()],
            1,
            &rows,
            &expected,
            0.0,
        );
        // In any order: these operators commute.
        assert_computes(&Mul, &[columns, x.clone()], 1, &rows, &expected, 0.0);
        assert_computes(&Max, &[x, row], 1, &rows, &[1.0, 2.0, 3.0, 4.0], 0.0);
    }

    #[test]
    fn one_value_is_its_own_sum_and_mean() {
        for shape in [&[4][..], &[2, 2]] {
            assert_computes(&Sum, &[value(shape)], 1, &[A], A, 0.0);
            assert_computes(&Mean, &[value(shape)], 1, &[A], A, 0.0);
        }
    }

    #[test]
    fn values_of_different_shapes_are_refused() {
        let operands = [value(&[4]), value(&[3])];
        let message = "operand: expected shape [4], as another operand has, got shape [3]";
        assert_eq!(refusal(&Sum, &operands), message);
        assert_eq!(refusal(&Mul, &operands), message);
        assert_eq!(refusal(&Max, &operands), message);
        assert_eq!(refusal(&Mean, &operands), message);
        // Only weights are repeated: a value of one column may be a mistake.
        assert_eq!(
            refusal(&Sum, &[value(&[4]), value(&[1])]),
            "operand: expected shape [4], as another operand has, got shape [1]"
        );
        assert_eq!(
            refusal(&Sum, &[value(&[4]), weight(&[2], &[1.0, 2.0])]),
            "operand: expected shape [4], as another operand has, got shape [2]"
        );
        assert_eq!(
            refusal(&Sum, &[]),
            "expected at least 1 input, got 0 inputs"
        );
    }

    #[test]
    fn only_one_weight_a_column_is_a_scale_or_a_shift() {
        let x = value(&[3, 2]);
        let columns = weight(&[2], &[3.0, 4.0]);
        assert_eq!(
            Sum.as_scale_shift(&[x.clone(), columns.clone()]).unwrap(),
            ScaleShift {
                scale: vec![1.0, 1.0],
                shift: vec![3.0, 4.0]
            }
        );
        assert_eq!(
            Mul.as_scale_shift(&[x.clone(), weight(&[1], &[5.0])])
                .unwrap(),
            ScaleShift {
                scale: vec![5.0, 5.0],
                shift: vec![0.0, 0.0]
            }
        );
        let row = weight(&[3, 2], &[1.0; 6]);
        assert!(Sum.as_scale_shift(&[x.clone(), row]).is_none());
        assert!(Sum.as_scale_shift(&[x.clone(), x.clone()]).is_none());
        assert!(
            Mul.as_scale_shift(&[x.clone(), columns.clone(), columns])
                .is_none()
        );
    }

    proptest! {
        #[test]
        fn any_number_of_values_folds_as_a_loop_does(
            columns in 1_usize..40,
            rows in 1_usize..5,
            values in numbers(4 * 40 * 5),
            count in 1_usize..=4,
        ) {
            let inputs: Vec<&[f32]> = values.chunks(40 * 5).take(count)
                .map(|values| &values[..rows * columns]).collect();
            let operands = vec![value(&[columns]); count];
            let fold = |combine: fn(f32, f32) -> f32| -> Vec<f32> {
                (0..rows * columns)
                    .map(|i| inputs.iter().map(|x| x[i]).reduce(combine).unwrap())
                    .collect()
            };
            let sum = fold(|a, b| a + b);
            let mean: Vec<f32> = sum.iter().map(|v| v / count as f32).collect();
            assert_computes(&Sum, &operands, rows, &inputs, &sum, 0.0);
            assert_computes(&Mean, &operands, rows, &inputs, &mean, 0.0);
            assert_computes(&Mul, &operands, rows, &inputs, &fold(|a, b| a * b), 0.0);
            assert_computes(&Max, &operands, rows, &inputs, &fold(f32::max), 0.0);
        }
    }
}
