//! Values that do not depend on the rows.

use std::sync::Arc;

use ndarray::ArrayD;

/// An integer of a shape: known, or the number of rows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Integer {
    Known(i64),
    Rows,
}

/// A tensor whose values are known, except for the number of rows.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Constant {
    Floats(Arc<ArrayD<f32>>),
    Integers(Arc<ArrayD<Integer>>),
    Texts(Vec<String>),
}

impl Constant {
    pub(super) fn from_floats(values: ArrayD<f32>) -> Self {
        Self::Floats(Arc::new(values))
    }

    pub(super) fn from_integers(values: ArrayD<Integer>) -> Self {
        Self::Integers(Arc::new(values))
    }

    /// As floats. Integers are converted: they appear as a power's exponent, for example.
    pub(super) fn floats(&self) -> Result<Arc<ArrayD<f32>>, String> {
        match self {
            Self::Floats(values) => Ok(values.clone()),
            Self::Integers(values) => {
                let known = values.iter().map(|value| match value {
                    Integer::Known(value) => Ok(*value as f32),
                    Integer::Rows => Err(computes_with_rows()),
                });
                let known = known.collect::<Result<Vec<_>, _>>()?;
                let values = ArrayD::from_shape_vec(values.raw_dim(), known);
                Ok(Arc::new(values.map_err(|error| error.to_string())?))
            }
            Self::Texts(_) => Err("expected numbers, got text".into()),
        }
    }

    /// As whole numbers, in order.
    pub(super) fn integers(&self) -> Result<Vec<Integer>, String> {
        match self {
            Self::Integers(values) => Ok(values.iter().copied().collect()),
            Self::Floats(_) => Err("expected whole numbers, got floats".into()),
            Self::Texts(_) => Err("expected whole numbers, got text".into()),
        }
    }

    /// As whole numbers that are known, in order.
    pub(super) fn known(&self) -> Result<Vec<i64>, String> {
        let known = |whole| match whole {
            Integer::Known(value) => Ok(value),
            Integer::Rows => Err(computes_with_rows()),
        };
        self.integers()?.into_iter().map(known).collect()
    }

    /// The only number.
    pub(super) fn single(&self) -> Result<f32, String> {
        let values = self.floats()?;
        match values.len() {
            1 => Ok(values.sum()),
            len => Err(format!("expected one number, got {len}")),
        }
    }
}

fn computes_with_rows() -> String {
    "its result depends on how many rows there are; rows never mix".into()
}
