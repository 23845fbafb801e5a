//! What an operator is: a rule for shapes, and a kernel prepared once at load.
//!
//! Operators carry ONNX names and semantics. Their values are rows of a batch, so an
//! operator sees the extents of *one row*; axis 0, the rows, is never among them. That is why no
//! operator can mix rows.

use std::fmt;
use std::sync::Arc;

use ndarray::ArrayD;

use super::kernels::{Activation, Isa, Team};

/// One input of a node as its operator sees it.
#[derive(Clone, Debug)]
pub struct Operand {
    /// The extents of one row, or of the whole constant.
    pub shape: Vec<usize>,
    /// The values, if they are known at load.
    pub constant: Option<Arc<ArrayD<f32>>>,
}

impl Operand {
    /// The number of elements in one row, or in the constant.
    #[must_use]
    pub fn elements(&self) -> usize {
        self.shape.iter().product()
    }

    /// The weight that this operand is.
    ///
    /// # Panics
    /// If it is computed from the inputs; [`Operator::infer_shape`] refuses that.
    #[must_use]
    pub fn weight(&self) -> &ArrayD<f32> {
        self.constant
            .as_deref()
            .expect("infer_shape accepted the operand as a weight")
    }

    /// The weight's numbers, row-major.
    ///
    /// # Panics
    /// As [`Operand::weight`].
    #[must_use]
    pub fn weights(&self) -> Vec<f32> {
        self.weight().iter().copied().collect()
    }

    /// The extent of the last axis; 1 for a row of one number.
    #[must_use]
    pub fn columns(&self) -> usize {
        self.shape.last().copied().unwrap_or(1)
    }
}

/// A step of a network: how shapes follow, and which kernel computes it.
///
/// See ARCHITECTURE.md, "Adding an operator".
pub trait Operator: fmt::Debug + Send + Sync {
    /// The ONNX name, for example `Gemm`.
    fn name(&self) -> &'static str;

    /// The extents of one row of the output.
    ///
    /// # Errors
    /// [`OpError`] if the operands do not fit the operator.
    fn infer_shape(&self, inputs: &[Operand]) -> Result<Vec<usize>, OpError>;

    /// Builds the kernel for these operands: packs weights, computes what rows share.
    ///
    /// The kernel is later given the operands that are not constants, in order.
    /// Only called after [`Operator::infer_shape`] accepted the same operands.
    fn prepare(&self, inputs: &[Operand], isa: Isa) -> Box<dyn Kernel>;

    /// Whether the output equals the first input, element for element.
    fn is_identity(&self) -> bool {
        false
    }

    /// The element-wise function that this operator is, if it is one.
    fn as_activation(&self) -> Option<Activation> {
        None
    }

    /// This operator followed by an element-wise function, if its kernel can do both at once.
    fn with_activation(&self, _activation: Activation) -> Option<Arc<dyn Operator>> {
        None
    }

    /// The scale and shift of the last axis that this operator is, if it is that.
    fn as_scale_shift(&self, _inputs: &[Operand]) -> Option<ScaleShift> {
        None
    }

    /// The constants that make this operator compute itself with a scale and shift applied on
    /// the given side; one entry an operand, `None` where it stays.
    fn absorb(
        &self,
        _inputs: &[Operand],
        _side: Side,
        _affine: &ScaleShift,
    ) -> Option<Vec<Option<ArrayD<f32>>>> {
        None
    }
}

/// Where a scale and shift stands beside the operator that absorbs it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    /// It was applied to the operator's first input.
    Input,
    /// It was applied to the operator's output.
    Output,
}

/// `y = x * scale + shift` for each column of the last axis, in double precision because it is
/// used to rewrite weights at load.
#[derive(Clone, Debug, PartialEq)]
pub struct ScaleShift {
    /// One factor a column.
    pub scale: Vec<f64>,
    /// One summand a column.
    pub shift: Vec<f64>,
}

impl ScaleShift {
    /// This scale and shift, and then another of as many columns, as one.
    pub(super) fn then(&self, next: &Self) -> Self {
        let scales = self.scale.iter().zip(&next.scale);
        let shifts = self.shift.iter().zip(next.scale.iter().zip(&next.shift));
        Self {
            scale: scales.map(|(scale, next)| scale * next).collect(),
            shift: shifts
                .map(|(shift, (scale, next))| shift * scale + next)
                .collect(),
        }
    }
}

/// The computation of one node, ready to run.
pub trait Kernel: fmt::Debug + Send + Sync {
    /// Computes `rows` rows.
    ///
    /// `output` holds `rows` rows of the output's elements, row-major. For a kernel that works
    /// [in place](Kernel::in_place) it holds the first input on entry, and `inputs` leaves that
    /// one out.
    fn run(&self, rows: usize, inputs: Inputs<'_>, output: &mut [f32]);

    /// As [`Kernel::run`], with the help of whoever helps the team; the same to the last bit.
    fn run_shared(&self, rows: usize, inputs: Inputs<'_>, output: &mut [f32], _team: &Team) {
        self.run(rows, inputs, output);
    }

    /// Whether several threads should share this many rows: [`Kernel::run_shared`] does.
    fn pays_to_share(&self, _rows: usize) -> bool {
        false
    }

    /// Whether the kernel turns its first input into the output where it lies.
    fn in_place(&self) -> bool {
        false
    }

    /// Floating-point operations for one row, to a rough factor for what is not a product.
    fn flops_per_row(&self) -> u64;

    /// Bytes of weights that the kernel owns.
    fn weight_bytes(&self) -> usize {
        0
    }
}

/// The inputs of a running kernel: `rows` rows each, row-major.
#[derive(Clone, Copy, Debug)]
pub struct Inputs<'a> {
    pub(super) rows: usize,
    pub(super) sources: &'a [Source],
    pub(super) external: &'a [&'a [f32]],
    pub(super) layout: &'a super::workspace::Layout,
    /// The arena before and after the slot of the output.
    pub(super) before: &'a [f32],
    pub(super) after: &'a [f32],
    /// Where in the arena `after` starts.
    pub(super) after_start: usize,
}

/// Where a value lies during a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Source {
    /// The request's input of this index.
    Input(usize),
    /// A slot of the workspace and the elements of a row in it.
    Slot { slot: usize, elements: usize },
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
    /// If there is no input `index`.
    #[must_use]
    pub fn get(&self, index: usize) -> &'a [f32] {
        match self.sources[index] {
            Source::Input(input) => self.external[input],
            Source::Slot { slot, elements } => {
                let start = self.layout.start(slot, self.rows);
                let len = elements * self.rows;
                if start < self.before.len() {
                    &self.before[start..start + len]
                } else {
                    let start = start - self.after_start;
                    &self.after[start..start + len]
                }
            }
        }
    }

    /// The inputs in order.
    pub fn iter(self) -> impl Iterator<Item = &'a [f32]> {
        (0..self.len()).map(move |index| self.get(index))
    }
}

/// Why an operator refuses its operands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum OpError {
    /// The number of operands is wrong.
    Operands {
        /// What the operator takes.
        expected: &'static str,
        /// How many there are.
        actual: usize,
    },
    /// An operand's shape does not fit.
    Shape {
        /// The operand's name in the operator's documentation.
        operand: &'static str,
        /// What would fit.
        expected: String,
        /// The extents it has.
        actual: Vec<usize>,
    },
    /// An operand must be known at load.
    NotConstant {
        /// The operand's name in the operator's documentation.
        operand: &'static str,
    },
    /// An attribute is out of its range.
    Attribute {
        /// The attribute's name.
        attribute: &'static str,
        /// What is wrong with it.
        problem: String,
    },
}

impl fmt::Display for OpError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Operands { expected, actual } => {
                write!(f, "expected {expected}, got {actual} inputs")
            }
            Self::Shape {
                operand,
                expected,
                actual,
            } => write!(f, "{operand}: expected {expected}, got shape {actual:?}"),
            Self::NotConstant { operand } => {
                write!(
                    f,
                    "{operand} must be a weight, not computed from the inputs"
                )
            }
            Self::Attribute { attribute, problem } => write!(f, "{attribute}: {problem}"),
        }
    }
}

impl std::error::Error for OpError {}

/// The only operand of an operator that takes one.
///
/// # Errors
/// [`OpError::Operands`] if there is not exactly one.
pub(super) fn only(inputs: &[Operand]) -> Result<&Operand, OpError> {
    match inputs {
        [input] => Ok(input),
        _ => Err(OpError::Operands {
            expected: "1 input",
            actual: inputs.len(),
        }),
    }
}

/// The values of an operand that must be known at load.
///
/// # Errors
/// [`OpError::NotConstant`] if they are not.
pub(super) fn constant<'a>(
    operand: &'a Operand,
    name: &'static str,
) -> Result<&'a ArrayD<f32>, OpError> {
    operand
        .constant
        .as_deref()
        .ok_or(OpError::NotConstant { operand: name })
}

/// Refuses an operand whose extents are not exactly `expected`.
///
/// # Errors
/// [`OpError::Shape`] with both.
pub(super) fn expect_shape(
    operand: &Operand,
    name: &'static str,
    expected: &[usize],
) -> Result<(), OpError> {
    if operand.shape == expected {
        return Ok(());
    }
    Err(OpError::Shape {
        operand: name,
        expected: format!("shape {expected:?}"),
        actual: operand.shape.clone(),
    })
}

#[cfg(test)]
pub(super) mod trial;
