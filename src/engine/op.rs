//! What an operator is: a rule for shapes, and a kernel prepared once at load.
//!
//! Operators carry ONNX names and semantics. Their values are items: the rows of a batch, or the
//! tokens of all rows, packed. An operator sees the extents of *one item*; axis 0, the items, is
//! never among them, and only the few operators that ask for offsets know where a row's tokens
//! begin. That is why no operator can mix rows.

use std::any::Any;
use std::fmt;
use std::ops::RangeInclusive;
use std::sync::Arc;

use ndarray::ArrayD;

use super::constant::Constant;
use super::kernels::{Activation, Isa};
use super::run::Run;
use crate::tensor::{DataType, Domain, Shape};

/// One input of a node as its operator sees it.
#[derive(Clone, Debug)]
pub struct Operand {
    /// What its items are and the extents of one item; the whole shape of a constant.
    pub shape: Shape,
    /// The type of its elements: single precision, but for inputs of the network.
    pub datatype: DataType,
    /// The values, if they are known at load.
    pub constant: Option<Constant>,
}

impl Operand {
    /// An operand of single precision that is computed in each pass.
    #[must_use]
    pub fn computed(shape: Shape) -> Self {
        Self {
            shape,
            datatype: DataType::Fp32,
            constant: None,
        }
    }

    /// An operand that is known at load.
    #[must_use]
    pub fn known(values: Constant) -> Self {
        Self {
            shape: Shape::once(values.shape()),
            datatype: DataType::Fp32,
            constant: Some(values),
        }
    }

    /// The extents of one item, or of the whole constant.
    #[must_use]
    pub fn extents(&self) -> &[usize] {
        &self.shape.extents
    }

    /// The number of elements in one item, or in the constant.
    #[must_use]
    pub fn elements(&self) -> usize {
        self.shape.elements()
    }

    /// The weight that this operand is, as it is stored.
    ///
    /// # Panics
    /// If it is computed from the inputs; [`Operator::infer_shapes`] refuses that.
    #[must_use]
    pub fn weight(&self) -> &Constant {
        self.constant
            .as_ref()
            .expect("infer_shapes accepted the operand as a weight")
    }

    /// The weight's numbers in single precision, row-major.
    ///
    /// # Panics
    /// As [`Operand::weight`].
    #[must_use]
    pub fn weights(&self) -> Vec<f32> {
        self.weight().to_vec()
    }

    /// The extent of the last axis; 1 for an item of one number.
    #[must_use]
    pub fn columns(&self) -> usize {
        self.extents().last().copied().unwrap_or(1)
    }
}

/// What tells two operators of the same type apart, so that nodes with the same operator and the
/// same weights can share one kernel. Whatever can be compared has it.
pub trait Comparable: Any {
    /// Whether `other` is of the same type and equal.
    fn equals(&self, other: &dyn Any) -> bool;
}

impl<T: Any + PartialEq> Comparable for T {
    fn equals(&self, other: &dyn Any) -> bool {
        other.downcast_ref::<T>().is_some_and(|other| self == other)
    }
}

/// A step of a network: how shapes follow, and which kernel computes it.
///
/// See ARCHITECTURE.md, "Adding an operator".
pub trait Operator: Comparable + fmt::Debug + Send + Sync {
    /// The ONNX name, for example `Gemm`.
    fn name(&self) -> &'static str;

    /// The shapes of the outputs, at least one. Most operators have one, and compute it item by
    /// item: [`itemwise`].
    ///
    /// # Errors
    /// [`OpError`] if the operands do not fit the operator.
    fn infer_shapes(&self, inputs: &[Operand]) -> Result<Vec<Shape>, OpError>;

    /// Builds the kernel for these operands: packs weights, computes what items share.
    ///
    /// The kernel is later given the operands that are not constants, in order.
    /// Only called after [`Operator::infer_shapes`] accepted the same operands.
    fn prepare(&self, inputs: &[Operand], isa: Isa) -> Box<dyn Kernel>;

    /// The type that the operand must have. Integers feed look-ups only.
    fn datatype(&self, _operand: usize) -> DataType {
        DataType::Fp32
    }

    /// The values that an operand of integers may have, if not all: an input of the network that
    /// is this operand is held to them when a request is decoded.
    fn range(&self, _inputs: &[Operand], _operand: usize) -> Option<RangeInclusive<i64>> {
        None
    }

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

/// The output of an operator that computes each item from the same item of each operand, and from
/// constants.
///
/// # Errors
/// [`OpError::Domains`] if the operands' items are not the same.
pub(super) fn itemwise(inputs: &[Operand], extents: Vec<usize>) -> Result<Vec<Shape>, OpError> {
    let domain = inputs.iter().try_fold(Domain::Once, |domain, operand| {
        let other = operand.shape.domain;
        domain.with(other).ok_or(OpError::Domains(domain, other))
    })?;
    Ok(vec![Shape { domain, extents }])
}

/// Where a scale and shift is applied, as seen from the operator that absorbs it.
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
    /// Computes all items of the outputs, with the help of the team if there is one.
    fn run(&self, run: Run<'_>);

    /// Whether several threads should share this many items of the output.
    fn pays_to_share(&self, _items: usize) -> bool {
        false
    }

    /// Whether the kernel turns its first input into the output where it lies.
    fn in_place(&self) -> bool {
        false
    }

    /// The scratch memory that a run needs apart from inputs and outputs, as the shape of a value;
    /// `None` for none.
    fn scratch(&self) -> Option<Shape> {
        None
    }

    /// Bytes of weights that the kernel owns.
    fn weight_bytes(&self) -> usize {
        0
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
    /// The items of an operand are not what the operator works on.
    Domain {
        /// The operand's name in the operator's documentation.
        operand: &'static str,
        /// What it works on.
        expected: &'static str,
        /// What the operand's items are.
        actual: Domain,
    },
    /// The items of the operands are not the same, so that none belongs to another.
    Domains(Domain, Domain),
    /// The elements of an operand are of the wrong type.
    Datatype {
        /// The position of the operand, from 0.
        operand: usize,
        /// The type that the operator takes.
        expected: DataType,
        /// The type that it has.
        actual: DataType,
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
            Self::Domain {
                operand,
                expected,
                actual,
            } => write!(f, "{operand}: expected {expected}, got {actual}"),
            Self::Domains(first, second) => write!(
                f,
                "expected operands with the same items, got {first} and {second}; pool the tokens \
                 of each row first"
            ),
            Self::Datatype {
                operand,
                expected,
                actual,
            } => write!(f, "operand {operand}: expected {expected}, got {actual}"),
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
) -> Result<&'a Constant, OpError> {
    operand
        .constant
        .as_ref()
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
    if operand.extents() == expected {
        return Ok(());
    }
    Err(OpError::Shape {
        operand: name,
        expected: format!("shape {expected:?}"),
        actual: operand.shape.extents.clone(),
    })
}

#[cfg(test)]
pub(super) mod testing;
