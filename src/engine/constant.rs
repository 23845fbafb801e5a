//! Numbers that are known when a network is loaded, in the datatype in which they are stored.

use std::sync::Arc;

use half::{bf16, f16};
use ndarray::ArrayD;

use super::kernels::Weights;

/// Numbers that are known at load, in the datatype in which they are stored. Clones share them.
///
/// A trained weight stays as its file has it until a kernel packs it. Operators compute with
/// `f32`: [`Constant::to_f32`] gives every number as one, without loss.
#[derive(Clone, Debug)]
pub struct Constant(Stored);

/// Arrays in standard layout: row-major, without gaps.
#[derive(Clone, Debug)]
enum Stored {
    F32(Arc<ArrayD<f32>>),
    Bf16(Arc<ArrayD<bf16>>),
    F16(Arc<ArrayD<f16>>),
}

impl Constant {
    /// Numbers of 32 bits.
    #[must_use]
    pub fn from_f32(values: ArrayD<f32>) -> Self {
        Self(Stored::F32(Arc::new(standard(values))))
    }

    /// Numbers that are the upper 16 bits of an `f32`.
    #[must_use]
    pub fn from_bf16(values: ArrayD<bf16>) -> Self {
        Self(Stored::Bf16(Arc::new(standard(values))))
    }

    /// Numbers of IEEE 754 half precision.
    #[must_use]
    pub fn from_f16(values: ArrayD<f16>) -> Self {
        Self(Stored::F16(Arc::new(standard(values))))
    }

    /// The extents.
    #[must_use]
    pub fn shape(&self) -> &[usize] {
        match &self.0 {
            Stored::F32(values) => values.shape(),
            Stored::Bf16(values) => values.shape(),
            Stored::F16(values) => values.shape(),
        }
    }

    /// The numbers as they are stored, row-major.
    #[must_use]
    pub fn stored(&self) -> Weights<'_> {
        const LAYOUT: &str = "every array is made in standard layout";
        match &self.0 {
            Stored::F32(values) => Weights::F32(values.as_slice().expect(LAYOUT)),
            Stored::Bf16(values) => Weights::Bf16(values.as_slice().expect(LAYOUT)),
            Stored::F16(values) => Weights::F16(values.as_slice().expect(LAYOUT)),
        }
    }

    /// The numbers as `f32`: themselves if they are stored so, else a widened copy.
    #[must_use]
    pub fn to_f32(&self) -> Arc<ArrayD<f32>> {
        match &self.0 {
            Stored::F32(values) => Arc::clone(values),
            Stored::Bf16(values) => Arc::new(values.mapv(bf16::to_f32)),
            Stored::F16(values) => Arc::new(values.mapv(f16::to_f32)),
        }
    }

    /// A copy of the numbers as `f32`, row-major.
    #[must_use]
    pub fn to_vec(&self) -> Vec<f32> {
        match self.stored() {
            Weights::F32(values) => values.to_vec(),
            Weights::Bf16(values) => values.iter().copied().map(bf16::to_f32).collect(),
            Weights::F16(values) => values.iter().copied().map(f16::to_f32).collect(),
        }
    }

    /// How many clones share the numbers, this one included.
    #[must_use]
    pub fn owners(&self) -> usize {
        match &self.0 {
            Stored::F32(values) => Arc::strong_count(values),
            Stored::Bf16(values) => Arc::strong_count(values),
            Stored::F16(values) => Arc::strong_count(values),
        }
    }
}

/// An array in standard layout: the same if it is so already.
fn standard<T: Clone>(values: ArrayD<T>) -> ArrayD<T> {
    match values.is_standard_layout() {
        true => values,
        false => values.as_standard_layout().into_owned(),
    }
}

impl From<ArrayD<f32>> for Constant {
    fn from(values: ArrayD<f32>) -> Self {
        Self::from_f32(values)
    }
}

impl From<Arc<ArrayD<f32>>> for Constant {
    fn from(values: Arc<ArrayD<f32>>) -> Self {
        match values.is_standard_layout() {
            true => Self(Stored::F32(values)),
            false => Arc::unwrap_or_clone(values).into(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn array() -> ArrayD<f32> {
        let values = [1.0, -0.5, 0.0, 3.140_625, -1e-5, 65_504.0];
        ArrayD::from_shape_vec(vec![2, 3], values.to_vec()).unwrap()
    }

    #[test]
    fn a_constant_of_any_datatype_gives_its_numbers_as_f32() {
        let single = array();
        let (brain, half) = (single.mapv(bf16::from_f32), single.mapv(f16::from_f32));
        let widened = [brain.mapv(f32::from), half.mapv(f32::from)];
        let constants = [
            (Constant::from(single.clone()), &single, 4),
            (Constant::from_bf16(brain), &widened[0], 2),
            (Constant::from_f16(half), &widened[1], 2),
        ];
        for (constant, expected, bytes_each) in constants {
            assert_eq!(*constant.to_f32(), *expected);
            assert_eq!(constant.to_vec(), expected.as_slice().unwrap());
            assert_eq!(constant.shape(), [2, 3]);
            let stored = constant.stored();
            assert_eq!((stored.len(), stored.bytes()), (6, 6 * bytes_each));
        }
    }

    #[test]
    fn what_is_not_row_major_becomes_so() {
        let transposed = array().reversed_axes();
        let expected = [1.0, 3.140_625, -0.5, -1e-5, 0.0, 65_504.0];
        for constant in [
            Constant::from(transposed.clone()),
            Constant::from(Arc::new(transposed)),
        ] {
            assert_eq!(constant.shape(), [3, 2]);
            assert!(matches!(constant.stored(), Weights::F32(values) if values == expected));
        }
    }

    #[test]
    fn clones_share_their_numbers_and_so_does_what_they_were_made_of() {
        let values = Arc::new(array());
        let constant = Constant::from(Arc::clone(&values));
        assert_eq!(constant.owners(), 2);
        let clone = constant.clone();
        assert_eq!(clone.owners(), 3);
        assert!(Arc::ptr_eq(&clone.to_f32(), &values));
        drop((constant, values));
        assert_eq!(clone.owners(), 1);
    }
}
