//! Arithmetic of GF(2^8) with the polynomial 0x11D, and the tables of products that kernels share.
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
    fn nibble_tables_give_the_product() {
        for factor in 0..=u8::MAX {
            let [low, high] = NIBBLE_PRODUCTS[usize::from(factor)];
            for x in 0..=u8::MAX {
                let product = low[usize::from(x & 15)] ^ high[usize::from(x >> 4)];
                assert_eq!(product, multiply(factor, x));
            }
        }
    }
}
