//! Forward passes by how many rows they computed.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;

use super::sharded::Cells;

/// Passes of up to this many rows are counted without a lock. Larger ones take so long that a lock does
/// not matter, and have too many sizes to reserve room for each.
const SMALL_ROWS: usize = 128;

/// How often something happened, and how long it took altogether.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Total {
    /// How often.
    pub count: u64,
    /// The sum of the times, in nanoseconds.
    pub ns: u64,
}

/// A count and a sum of nanoseconds for each number of rows that a pass had.
#[derive(Debug)]
pub(super) struct ForwardPasses {
    /// By the rows less one; made when the first pass of that size is counted.
    small: Box<[OnceLock<Cells>]>,
    large: Mutex<BTreeMap<usize, Total>>,
}

impl Default for ForwardPasses {
    fn default() -> Self {
        Self {
            small: (0..SMALL_ROWS).map(|_| OnceLock::new()).collect(),
            large: Mutex::default(),
        }
    }
}

impl ForwardPasses {
    /// Counts a pass of `rows`, at least 1.
    pub(super) fn observe(&self, rows: usize, took: Duration) {
        let ns = nanoseconds(took);
        match self.small.get(rows.saturating_sub(1)) {
            Some(cells) => {
                let cells = cells.get_or_init(|| Cells::new(2));
                cells.add(0, 1);
                cells.add(1, ns);
            }
            None => {
                let mut large = self.large();
                let total = large.entry(rows).or_default();
                total.count += 1;
                total.ns += ns;
            }
        }
    }

    /// The sizes that there were, from the smallest on.
    pub(super) fn totals(&self) -> Vec<(usize, Total)> {
        let small = self.small.iter().enumerate().filter_map(|(index, cells)| {
            let cells = cells.get()?;
            let total = Total {
                count: cells.total(0),
                ns: cells.total(1),
            };
            Some((index + 1, total))
        });
        let mut totals: Vec<_> = small.collect();
        totals.extend(self.large().iter().map(|(&rows, &total)| (rows, total)));
        totals
    }

    fn large(&self) -> MutexGuard<'_, BTreeMap<usize, Total>> {
        self.large.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A time as counters have it: 584 years are the most.
pub(super) fn nanoseconds(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_size_has_its_own_count_and_time() {
        let forward_passes = ForwardPasses::default();
        assert_eq!(forward_passes.totals(), []);
        let took = Duration::from_nanos;
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    for rows in [1, SMALL_ROWS, SMALL_ROWS + 1, 1, 100_000] {
                        forward_passes.observe(rows, took(rows as u64));
                    }
                });
            }
        });
        let total = |count, ns| Total { count, ns };
        assert_eq!(
            forward_passes.totals(),
            [
                (1, total(8, 8)),
                (SMALL_ROWS, total(4, 4 * 128)),
                (SMALL_ROWS + 1, total(4, 4 * 129)),
                (100_000, total(4, 400_000)),
            ]
        );
    }
}
