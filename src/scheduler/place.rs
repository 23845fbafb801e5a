//! Where a call waits: its lane, and its place in the lane's queue.

/// A lane among its dispatch's; never used again for another.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct LaneId(pub(super) u64);

/// Where a call waits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Place {
    /// The lane.
    pub(super) lane: LaneId,
    /// The number of the call in its queue.
    pub(super) number: u64,
}

/// What became of a call whose rows are prepared before they are computed. Its caller waits for one
/// answer and may leave at any moment, and a worker moves the call meanwhile; both look here with
/// the dispatch's lock held.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Handover {
    /// Its rows are not all prepared.
    #[default]
    Preparing,
    /// They are, and wait to be computed.
    Moved(Place),
    /// The caller left.
    Cancelled,
}
