//! Small matrices over GF(2^8): the systematic code and the inversion that a rebuild needs.
//!
//! Invariants: a matrix has at most [`SHARDS_MAX`] rows and columns and lives on the stack; what lies outside
//! its stated size is zero.
//! Not here: anything as long as a shard.

use crate::galois;

/// Most shards of a stripe, data and parity together. The field allows 256; 32 keeps every matrix at 1 KiB and
/// every set of shards in one word, and no redundancy profile comes near it (8+4 is the widest default).
pub const SHARDS_MAX: usize = 32;

/// One factor per input.
pub(crate) type Row = [u8; SHARDS_MAX];

/// Row-major; see the module's invariants.
pub(crate) type Matrix = [Row; SHARDS_MAX];

pub(crate) const ZERO: Matrix = [[0; SHARDS_MAX]; SHARDS_MAX];

/// The parity rows of the code of `k` data and `m` parity shards: row `p` makes parity shard `p`.
///
/// They are the last `m` rows of V * T^-1, where V is the (k+m) x k Vandermonde matrix, V[r][c] = r^c, and T its
/// first k rows; the first k rows of that product are the identity, so data shards are stored as they are.
/// Source: Backblaze's JavaReedSolomon and klauspost/reedsolomon's default matrix, bit for bit.
pub(crate) fn parity_rows(k: usize, m: usize) -> Matrix {
    let element = |index: usize| u8::try_from(index).expect("fewer than 256 shards");
    let mut top = ZERO;
    for (r, row) in top.iter_mut().enumerate().take(k) {
        for (c, value) in row.iter_mut().enumerate().take(k) {
            *value = galois::power(element(r), c);
        }
    }
    let inverted = invert(&top, k).expect("a Vandermonde matrix of distinct elements can be inverted");
    let mut parity = ZERO;
    for (p, row) in parity.iter_mut().enumerate().take(m) {
        for (c, inverted) in inverted.iter().enumerate().take(k) {
            add_scaled(row, galois::power(element(k + p), c), inverted);
        }
    }
    parity
}

/// The inverse of the first `size` rows and columns of `matrix`, or `None` if there is none.
///
/// Gauss-Jordan elimination: size^3 products.
pub(crate) fn invert(matrix: &Matrix, size: usize) -> Option<Matrix> {
    let mut left = *matrix;
    let mut right = ZERO;
    for (i, row) in right.iter_mut().enumerate().take(size) {
        row[i] = 1;
    }
    for column in 0..size {
        let pivot = (column..size).find(|&row| left[row][column] != 0)?;
        left.swap(column, pivot);
        right.swap(column, pivot);
        let scale = galois::inverse(left[column][column]);
        let (left_pivot, right_pivot) = (scaled(&left[column], scale), scaled(&right[column], scale));
        for row in 0..size {
            let factor = left[row][column];
            if row != column && factor != 0 {
                add_scaled(&mut left[row], factor, &left_pivot);
                add_scaled(&mut right[row], factor, &right_pivot);
            }
        }
        left[column] = left_pivot;
        right[column] = right_pivot;
    }
    Some(right)
}

/// `sum += factor * row`.
pub(crate) fn add_scaled(sum: &mut Row, factor: u8, row: &Row) {
    for (sum, &value) in sum.iter_mut().zip(row) {
        *sum ^= galois::multiply(factor, value);
    }
}

fn scaled(row: &Row, factor: u8) -> Row {
    row.map(|value| galois::multiply(factor, value))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parity_of_4_plus_2_is_the_published_backblaze_matrix() {
        let parity = parity_rows(4, 2);
        assert_eq!(parity[0][..4], [0x1b, 0x1c, 0x12, 0x14]);
        assert_eq!(parity[1][..4], [0x1c, 0x1b, 0x14, 0x12]);
    }

    #[test]
    fn a_matrix_with_equal_rows_has_no_inverse() {
        let mut matrix = ZERO;
        matrix[0][..2].copy_from_slice(&[3, 7]);
        matrix[1][..2].copy_from_slice(&[3, 7]);
        assert!(invert(&matrix, 2).is_none());
    }
}
