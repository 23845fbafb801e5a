//! Products of matrices.

use std::num::NonZero;
use std::thread;

use ndarray::linalg::general_mat_mul;
use ndarray::{Array2, ArrayView2, Axis};

/// The multiplications for which one more thread is worth its start: some hundred microseconds of work.
const A_THREAD: usize = 16 << 20;

/// `a b` of `[m, k]` and `[k, n]`, as `[m, n]`.
///
/// Large ones are shared by all cores, in blocks of rows: an element has the same bits on any of them.
pub(super) fn product(a: ArrayView2<'_, f32>, b: ArrayView2<'_, f32>) -> Array2<f32> {
    let (rows, columns) = (a.nrows(), b.ncols());
    let mut product = Array2::zeros((rows, columns));
    let threads = rows * a.ncols() * columns / A_THREAD;
    let threads = match threads {
        0 | 1 => 1,
        most => thread::available_parallelism()
            .map_or(1, NonZero::get)
            .min(most),
    };
    if threads == 1 {
        general_mat_mul(1.0, &a, &b, 0.0, &mut product);
        return product;
    }
    let block = rows.div_ceil(threads).max(1);
    let blocks = a.axis_chunks_iter(Axis(0), block);
    thread::scope(|scope| {
        for (a, mut product) in blocks.zip(product.axis_chunks_iter_mut(Axis(0), block)) {
            scope.spawn(move || general_mat_mul(1.0, &a, &b, 0.0, &mut product));
        }
    });
    product
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn threads_change_no_bit() {
        let numbers = |count: usize, step: usize| {
            (0..count).map(move |index| (index * step % 97) as f32 / 48.0 - 1.0)
        };
        let (rows, inner, columns) = (301, 160, 701);
        let a = Array2::from_shape_vec((rows, inner), numbers(rows * inner, 7).collect()).unwrap();
        let b = Array2::from_shape_vec((columns, inner), numbers(columns * inner, 5).collect());
        let b = b.unwrap();
        assert!(rows * inner * columns / A_THREAD >= 2, "it is shared");
        let shared = product(a.view(), b.t());
        let mut alone = Array2::zeros((rows, columns));
        general_mat_mul(1.0, &a, &b.t(), 0.0, &mut alone);
        assert_eq!(shared, alone);
        assert_eq!(shared.dim(), (rows, columns));
    }
}
