//! Arithmetic of GF(2^8) with the polynomial 0x11D, and the per-factor tables that the kernels multiply by.
//!
//! Invariants: addition is XOR; 2 generates the multiplicative group; all tables are made at compile time.
//! Not here: vectors or matrices of field elements.

/// x^8 + x^4 + x^3 + x^2 + 1, the field of Backblaze's and klauspost's Reed-Solomon codes.
const POLYNOMIAL: u16 = 0x11D;

/// Order of the multiplicative group.
const GROUP_ORDER: usize = 255;

/// Powers of the generator, twice in a row so that a sum of two logarithms needs no reduction.
const EXP: [u8; 2 * GROUP_ORDER] = powers();

/// Logarithms to the base 2; the entry of 0 is meaningless and never read.
const LOG: [u8; 256] = logarithms();

/// `NIBBLE_PRODUCTS[factor]`: the products of `factor` with 0..16, then with 0x00, 0x10 .. 0xF0. 8 KiB.
pub(crate) static NIBBLE_PRODUCTS: [[[u8; 16]; 2]; 256] = nibble_products();

/// `BIT_MATRICES[factor]`: multiplication by `factor` as the 8x8 bit matrix of GF2P8AFFINEQB. 2 KiB.
///
/// Byte `7 - i` of the word is the row that makes bit `i` of the product: its bit `j` says whether bit `j` of
/// the input takes part. Source: Intel SDM, GF2P8AFFINEQB.
pub(crate) static BIT_MATRICES: [u64; 256] = bit_matrices();

/// The product of two field elements.
pub(crate) const fn multiply(a: u8, b: u8) -> u8 {
    if a == 0 || b == 0 {
        return 0;
    }
    EXP[LOG[a as usize] as usize + LOG[b as usize] as usize]
}

/// The multiplicative inverse of `a`, which must not be 0.
pub(crate) const fn inverse(a: u8) -> u8 {
    assert!(a != 0);
    EXP[GROUP_ORDER - LOG[a as usize] as usize]
}

/// `base` to the power of `exponent`, where anything to the power of 0 is 1, 0 included.
pub(crate) fn power(base: u8, exponent: usize) -> u8 {
    (0..exponent).fold(1, |product, _| multiply(product, base))
}

/// `2 * a`.
const fn double(a: u8) -> u8 {
    let doubled = (a as u16) << 1;
    let [low, _] = (if doubled > 0xFF { doubled ^ POLYNOMIAL } else { doubled }).to_le_bytes();
    low
}

const fn powers() -> [u8; 2 * GROUP_ORDER] {
    let mut table = [0; 2 * GROUP_ORDER];
    let mut value = 1;
    let mut exponent = 0;
    while exponent < table.len() {
        table[exponent] = value;
        value = double(value);
        exponent += 1;
    }
    table
}

const fn logarithms() -> [u8; 256] {
    let mut table = [0; 256];
    let mut exponent: u8 = 0;
    while (exponent as usize) < GROUP_ORDER {
        table[EXP[exponent as usize] as usize] = exponent;
        exponent += 1;
    }
    table
}

const fn nibble_products() -> [[[u8; 16]; 2]; 256] {
    let mut table = [[[0; 16]; 2]; 256];
    let mut factor: u8 = 0;
    loop {
        let mut nibble: u8 = 0;
        while nibble < 16 {
            table[factor as usize][0][nibble as usize] = multiply(factor, nibble);
            table[factor as usize][1][nibble as usize] = multiply(factor, nibble << 4);
            nibble += 1;
        }
        if factor == u8::MAX {
            return table;
        }
        factor += 1;
    }
}

const fn bit_matrices() -> [u64; 256] {
    let mut table = [0; 256];
    let mut factor: u8 = 0;
    loop {
        let mut rows = [0u8; 8];
        let mut input_bit = 0;
        while input_bit < 8 {
            let product = multiply(factor, 1 << input_bit);
            let mut output_bit = 0;
            while output_bit < 8 {
                rows[7 - output_bit] |= ((product >> output_bit) & 1) << input_bit;
                output_bit += 1;
            }
            input_bit += 1;
        }
        table[factor as usize] = u64::from_le_bytes(rows);
        if factor == u8::MAX {
            return table;
        }
        factor += 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Multiplication as the definition has it: shift, add, reduce.
    fn multiply_slowly(a: u8, b: u8) -> u8 {
        let mut product = 0;
        let mut shifted = a;
        for bit in 0..8 {
            if b >> bit & 1 == 1 {
                product ^= shifted;
            }
            shifted = double(shifted);
        }
        product
    }

    #[test]
    fn products_follow_the_polynomial_and_inverses_undo_them() {
        for a in 0..=u8::MAX {
            for b in 0..=u8::MAX {
                assert_eq!(multiply(a, b), multiply_slowly(a, b), "{a} * {b}");
            }
            if a != 0 {
                assert_eq!(multiply(a, inverse(a)), 1, "1 / {a}");
            }
        }
    }

    #[test]
    fn both_kinds_of_table_give_the_product() {
        for factor in 0..=u8::MAX {
            let [low, high] = NIBBLE_PRODUCTS[usize::from(factor)];
            let rows = BIT_MATRICES[usize::from(factor)].to_le_bytes();
            for x in 0..=u8::MAX {
                let product = multiply(factor, x);
                assert_eq!(low[usize::from(x & 15)] ^ high[usize::from(x >> 4)], product);
                for bit in 0..8 {
                    assert_eq!((rows[7 - bit] & x).count_ones() & 1, u32::from(product >> bit & 1));
                }
            }
        }
    }
}
