//! Multiplying shards by a matrix, in as many ways as CPUs have for it.
//!
//! Invariants: the existence of a [`Kernel`] proves that this CPU can run it; every kernel writes the same
//! bytes; an output is overwritten, never added to.
//! Not here: what the matrix means (`codec`, `rebuild`).

#[cfg(target_arch = "x86_64")]
mod avx2;
#[cfg(target_arch = "x86_64")]
mod gfni512;
mod scalar;

use std::fmt;

use crate::matrix::{Row, SHARDS_MAX};

/// A way to run the code on this CPU. A value can be made only where the CPU has what it needs.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Kernel(Kind);

#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    #[cfg(target_arch = "x86_64")]
    Gfni512(gfni512::Gfni512),
    #[cfg(target_arch = "x86_64")]
    Avx2(avx2::Avx2),
    Scalar,
}

impl Kernel {
    /// The fastest kernel of this CPU. Cheap: CPU features are looked up once per process.
    pub fn detect() -> Kernel {
        Kernel::gfni512().or_else(Kernel::avx2).unwrap_or(Kernel::scalar())
    }

    /// Every kernel that this CPU can run, fastest first.
    pub fn available() -> impl Iterator<Item = Kernel> {
        [Kernel::gfni512(), Kernel::avx2(), Some(Kernel::scalar())].into_iter().flatten()
    }

    /// GF2P8AFFINEQB on 64-byte vectors: x86-64 CPUs with GFNI, AVX-512F and AVX-512BW (Ice Lake, Zen 4).
    pub fn gfni512() -> Option<Kernel> {
        #[cfg(target_arch = "x86_64")]
        return gfni512::Gfni512::new().map(|kernel| Kernel(Kind::Gfni512(kernel)));
        #[cfg(not(target_arch = "x86_64"))]
        None
    }

    /// Nibble tables with PSHUFB on 32-byte vectors: x86-64 CPUs with AVX2.
    pub fn avx2() -> Option<Kernel> {
        #[cfg(target_arch = "x86_64")]
        return avx2::Avx2::new().map(|kernel| Kernel(Kind::Avx2(kernel)));
        #[cfg(not(target_arch = "x86_64"))]
        None
    }

    /// A table of 256 products per factor: any CPU.
    pub fn scalar() -> Kernel {
        Kernel(Kind::Scalar)
    }

    /// The name for logs and benchmark records.
    pub fn name(self) -> &'static str {
        match self.0 {
            #[cfg(target_arch = "x86_64")]
            Kind::Gfni512(_) => "gfni-avx512",
            #[cfg(target_arch = "x86_64")]
            Kind::Avx2(_) => "avx2",
            Kind::Scalar => "scalar",
        }
    }

    /// `outputs[o] = sum over i of rows[o][i] * inputs[i]`; no inputs make zeros. All lengths are the same.
    pub(crate) fn multiply(self, rows: &[Row], inputs: &[&[u8]], outputs: &mut [&mut [u8]]) {
        assert_eq!(rows.len(), outputs.len());
        assert!(inputs.len() <= SHARDS_MAX);
        let Some(len_bytes) = outputs.first().map(|output| output.len()) else { return };
        assert!(inputs.iter().all(|input| input.len() == len_bytes), "shards of one length");
        assert!(outputs.iter().all(|output| output.len() == len_bytes), "shards of one length");
        match self.0 {
            #[cfg(target_arch = "x86_64")]
            Kind::Gfni512(kernel) => kernel.multiply(rows, inputs, outputs),
            #[cfg(target_arch = "x86_64")]
            Kind::Avx2(kernel) => kernel.multiply(rows, inputs, outputs),
            Kind::Scalar => scalar::multiply(rows, inputs, outputs),
        }
    }
}

impl fmt::Debug for Kernel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Kernel({})", self.name())
    }
}
