//! What a tensor's items are, and the extents of one item.

use std::fmt;
use std::ops::Range;

/// One of the axes of a network whose length a request chooses row by row: the tokens of a text,
/// the frames of a recording. Numbered from 0 in the order in which the network declares them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Axis(pub usize);

/// What the items of a tensor are. The items are always its outermost axis, packed one after the
/// other without padding.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Domain {
    /// One item for the whole pass: constants, and what is computed from constants alone.
    Once,
    /// One item a row of the batch.
    Rows,
    /// One item for each position of a row along an axis: a row has as many as the request says,
    /// also none, and those of the next row follow it.
    Tokens(Axis),
}

impl Domain {
    /// The domain of what is computed, item by item, from values of both domains: what is the
    /// same for the whole pass goes with the items of anything. `None` if the items of one are
    /// not those of the other.
    #[must_use]
    pub fn with(self, other: Self) -> Option<Self> {
        match (self, other) {
            (Self::Once, domain) | (domain, Self::Once) => Some(domain),
            _ => (self == other).then_some(self),
        }
    }

    /// The items of some rows, among those of all rows. `offsets` holds for each axis where the
    /// items of each row start, and where the last row's end.
    ///
    /// # Panics
    /// If the axis or the rows are not there.
    #[must_use]
    pub fn items_of(self, rows: Range<usize>, offsets: &[Vec<usize>]) -> Range<usize> {
        match self {
            Self::Once => 0..1,
            Self::Rows => rows,
            Self::Tokens(Axis(axis)) => offsets[axis][rows.start]..offsets[axis][rows.end],
        }
    }

    /// The row of an item, among all rows; the first for what is the same for all.
    ///
    /// # Panics
    /// If the axis or the item is not there.
    #[must_use]
    pub fn row_of(self, item: usize, offsets: &[Vec<usize>]) -> usize {
        match self {
            Self::Once => 0,
            Self::Rows => item,
            Self::Tokens(Axis(axis)) => offsets[axis].partition_point(|start| *start <= item) - 1,
        }
    }
}

/// Writes `rows`, for example, the form that error messages use.
impl fmt::Display for Domain {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Once => f.write_str("constants"),
            Self::Rows => f.write_str("rows"),
            Self::Tokens(Axis(0)) => f.write_str("tokens"),
            Self::Tokens(Axis(axis)) => write!(f, "tokens of axis {axis}"),
        }
    }
}

/// The shape of a tensor: what its items are, and the extents of one of them.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Shape {
    /// What the items are.
    pub domain: Domain,
    /// The extents of one item; empty for an item of one element.
    pub extents: Vec<usize>,
}

/// One extent of a tensor on the wire.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Extent {
    /// Always this many.
    Fixed(usize),
    /// As many as the request says.
    Any,
}

impl Shape {
    /// A shape with one item a row.
    #[must_use]
    pub fn rows(extents: impl Into<Vec<usize>>) -> Self {
        Self {
            domain: Domain::Rows,
            extents: extents.into(),
        }
    }

    /// A shape with one item a token.
    #[must_use]
    pub fn tokens(axis: Axis, extents: impl Into<Vec<usize>>) -> Self {
        Self {
            domain: Domain::Tokens(axis),
            extents: extents.into(),
        }
    }

    /// The shape of a constant.
    #[must_use]
    pub fn once(extents: impl Into<Vec<usize>>) -> Self {
        Self {
            domain: Domain::Once,
            extents: extents.into(),
        }
    }

    /// The number of elements in one item. Loading refuses shapes for which this overflows.
    #[must_use]
    pub fn elements(&self) -> usize {
        self.extents.iter().product()
    }

    /// The elements of some rows, among those of all rows: as [`Domain::items_of`].
    ///
    /// # Panics
    /// If the axis or the rows are not there.
    #[must_use]
    pub fn elements_of(&self, rows: Range<usize>, offsets: &[Vec<usize>]) -> Range<usize> {
        let items = self.domain.items_of(rows, offsets);
        let elements = self.elements();
        items.start * elements..items.end * elements
    }

    /// The axis along which a row has several items, if it may.
    #[must_use]
    pub fn axis(&self) -> Option<Axis> {
        match self.domain {
            Domain::Tokens(axis) => Some(axis),
            Domain::Once | Domain::Rows => None,
        }
    }

    /// The extents of one row: the tokens first, if the items are those.
    pub fn row_extents(&self) -> impl Iterator<Item = Extent> + '_ {
        let any = self.axis().map(|_| Extent::Any);
        let fixed = self.extents.iter().copied().map(Extent::Fixed);
        any.into_iter().chain(fixed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_constant_goes_with_the_items_of_anything() {
        let tokens = Domain::Tokens(Axis(0));
        for domain in [Domain::Once, Domain::Rows, tokens] {
            assert_eq!(domain.with(Domain::Once), Some(domain));
            assert_eq!(Domain::Once.with(domain), Some(domain));
            assert_eq!(domain.with(domain), Some(domain));
        }
    }

    #[test]
    fn items_of_different_domains_do_not_go_together() {
        let (first, second) = (Domain::Tokens(Axis(0)), Domain::Tokens(Axis(1)));
        assert_eq!(Domain::Rows.with(first), None);
        assert_eq!(first.with(second), None);
    }

    #[test]
    fn rows_have_their_items_and_items_their_row() {
        let offsets = [vec![0, 2, 2, 5], vec![0, 1, 2, 3]];
        let of = |domain: Domain, rows| domain.items_of(rows, &offsets);
        let (first, second) = (Domain::Tokens(Axis(0)), Domain::Tokens(Axis(1)));
        assert_eq!(of(Domain::Rows, 1..3), 1..3);
        assert_eq!(of(first, 0..2), 0..2);
        assert_eq!(of(first, 1..2), 2..2, "a row may have none");
        assert_eq!(of(second, 1..3), 1..3);
        let rows = [0, 1, 2, 3, 4].map(|item| first.row_of(item, &offsets));
        assert_eq!(rows, [0, 0, 2, 2, 2]);
        assert_eq!(Domain::Rows.row_of(2, &offsets), 2);
        let shape = Shape::tokens(Axis(0), [8]);
        assert_eq!(shape.elements_of(2..3, &offsets), 16..40);
    }

    #[test]
    fn a_row_of_tokens_has_as_many_as_the_request_says() {
        let shape = Shape::tokens(Axis(0), [8]);
        let extents: Vec<_> = shape.row_extents().collect();
        assert_eq!(extents, [Extent::Any, Extent::Fixed(8)]);
        assert_eq!(shape.elements(), 8);
        assert_eq!(Shape::rows([]).row_extents().count(), 0);
        assert_eq!(Shape::rows([]).elements(), 1);
    }
}
