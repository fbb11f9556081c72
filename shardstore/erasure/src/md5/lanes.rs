//! The kinds of lanes, and the choice among them.
//!
//! Invariants: the existence of a [`Lanes`] proves that this CPU can run it.
//! Not here: which streams share the lanes (`share`); the steps of MD5 (`rounds`, `avx2`, `avx512`).

use std::fmt;

use super::{Input, Words};
#[cfg(target_arch = "x86_64")]
use super::{avx2, avx512, share::share};

/// A way to hash several streams at once on this CPU. A value can be made only where the CPU can run it.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Lanes(Kind);

#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    #[cfg(target_arch = "x86_64")]
    Avx512(avx512::Avx512),
    #[cfg(target_arch = "x86_64")]
    Avx2(avx2::Avx2),
    Scalar,
}

/// Whole inputs still to be hashed into one stream's words.
pub(super) struct Work<'a> {
    pub(super) words: &'a mut Words,
    pub(super) inputs: &'a [Input],
}

impl Lanes {
    /// The widest lanes of this CPU. Cheap: CPU features are looked up once per process.
    pub fn detect() -> Lanes {
        Lanes::avx512().or_else(Lanes::avx2).unwrap_or(Lanes::scalar())
    }

    /// Every kind of lanes that this CPU has, widest first.
    pub fn available() -> impl Iterator<Item = Lanes> {
        [Lanes::avx512(), Lanes::avx2(), Some(Lanes::scalar())].into_iter().flatten()
    }

    /// 16 lanes: x86-64 CPUs with AVX-512F.
    pub fn avx512() -> Option<Lanes> {
        #[cfg(target_arch = "x86_64")]
        return avx512::Avx512::new().map(|lanes| Lanes(Kind::Avx512(lanes)));
        #[cfg(not(target_arch = "x86_64"))]
        None
    }

    /// Two sets of 8 lanes: x86-64 CPUs with AVX2.
    pub fn avx2() -> Option<Lanes> {
        #[cfg(target_arch = "x86_64")]
        return avx2::Avx2::new().map(|lanes| Lanes(Kind::Avx2(lanes)));
        #[cfg(not(target_arch = "x86_64"))]
        None
    }

    /// One stream after the other: any CPU.
    pub fn scalar() -> Lanes {
        Lanes(Kind::Scalar)
    }

    /// The name for logs and benchmark records.
    pub fn name(self) -> &'static str {
        match self.0 {
            #[cfg(target_arch = "x86_64")]
            Kind::Avx512(_) => "avx512",
            #[cfg(target_arch = "x86_64")]
            Kind::Avx2(_) => "avx2",
            Kind::Scalar => "scalar",
        }
    }

    /// Hashes all inputs of all streams.
    pub(super) fn run(self, work: &mut Vec<Work<'_>>) {
        match self.0 {
            #[cfg(target_arch = "x86_64")]
            Kind::Avx512(lanes) => share(work, avx512::WIDTH, |live, inputs| lanes.compress(live, inputs)),
            #[cfg(target_arch = "x86_64")]
            Kind::Avx2(lanes) => share(work, 2 * avx2::WIDTH, |live, inputs| lanes.compress(live, inputs)),
            Kind::Scalar => {}
        }
        for stream in work {
            ::md5::block_api::compress(stream.words, stream.inputs);
        }
    }
}

impl fmt::Debug for Lanes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Lanes({})", self.name())
    }
}
