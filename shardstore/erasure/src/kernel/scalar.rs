//! The kernel for any CPU, and for the tails of the others: one table look-up per byte and factor.
//!
//! Invariants: no unsafe code.

use crate::galois::NIBBLE_PRODUCTS;
use crate::matrix::Row;

pub(super) fn multiply(rows: &[Row], inputs: &[&[u8]], outputs: &mut [&mut [u8]]) {
    for (row, output) in rows.iter().zip(outputs) {
        output.fill(0);
        for (input, &factor) in inputs.iter().zip(row) {
            add_product(output, input, factor);
        }
    }
}

/// `output += factor * input`.
fn add_product(output: &mut [u8], input: &[u8], factor: u8) {
    let products = products(factor);
    for (sum, &value) in output.iter_mut().zip(input) {
        *sum ^= products[usize::from(value)];
    }
}

fn products(factor: u8) -> [u8; 256] {
    let [low, high] = &NIBBLE_PRODUCTS[usize::from(factor)];
    let mut table = [0; 256];
    for (sixteen, high) in table.as_chunks_mut::<16>().0.iter_mut().zip(high) {
        *sixteen = low.map(|low| low ^ high);
    }
    table
}
