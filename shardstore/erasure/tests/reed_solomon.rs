//! The codec against an independent one, for every kernel of this CPU.
//!
//! The oracle is the crate `reed-solomon-erasure`, which shares no code with us.

#![allow(clippy::unwrap_used, reason = "tests")]

use fastrand::Rng;
use reed_solomon_erasure::galois_8::ReedSolomon;
use shardstore_erasure::{Codec, CodecError, Kernel, RebuildError, SHARDS_MAX};

/// Lengths around every boundary of the kernels (32, 64, 128 and the verify tile), and some odd ones.
const LENGTHS_BYTES: [usize; 18] =
    [0, 1, 2, 31, 32, 33, 63, 64, 65, 127, 128, 129, 191, 255, 1000, 2047, 2049, 4159];

type Shards = Vec<Vec<u8>>;

fn random_shards(rng: &mut Rng, count: usize, len_bytes: usize) -> Shards {
    (0..count).map(|_| (0..len_bytes).map(|_| rng.u8(..)).collect()).collect()
}

fn slices(shards: &[Vec<u8>]) -> Vec<&[u8]> {
    shards.iter().map(Vec::as_slice).collect()
}

/// All k+m shards of a stripe with `data`, absent data shards as explicit zeros.
fn encoded(codec: &Codec, data: &[Vec<u8>], len_bytes: usize) -> Shards {
    let mut parity = vec![vec![0xEE; len_bytes]; codec.parity_shards()];
    codec.encode(&slices(data), &mut parity.iter_mut().map(Vec::as_mut_slice).collect::<Vec<_>>());
    let mut shards = data.to_vec();
    shards.resize(codec.data_shards(), vec![0; len_bytes]);
    shards.extend(parity);
    shards
}

/// The same from the oracle, which knows no m = 0 and no empty shards.
fn expected(k: usize, m: usize, data: &[Vec<u8>], len_bytes: usize) -> Shards {
    let mut shards = data.to_vec();
    shards.resize(k + m, vec![0; len_bytes]);
    if m > 0 && len_bytes > 0 {
        ReedSolomon::new(k, m).unwrap().encode(&mut shards).unwrap();
    }
    shards
}

/// Rebuilds `wanted` from `known` and returns it, the other shards being at hand to neither side.
fn rebuilt(
    codec: &Codec,
    shards: &[Vec<u8>],
    known: &[usize],
    wanted: &[usize],
    data_pages: usize,
) -> Result<Shards, RebuildError> {
    let present: Vec<_> = known.iter().map(|&index| (index, shards[index].as_slice())).collect();
    let mut made = vec![vec![0xEE; shards[0].len()]; wanted.len()];
    let mut missing: Vec<_> = wanted.iter().copied().zip(made.iter_mut().map(Vec::as_mut_slice)).collect();
    codec.rebuild(&present, &mut missing, data_pages)?;
    Ok(made)
}

/// Runs `check` with many codes of every kernel; a failure names the kernel, the code and the seed.
fn for_every_kernel(rounds: u64, check: impl Fn(&mut Rng, &Codec)) {
    for kernel in Kernel::available() {
        for seed in 0..rounds {
            let mut rng = Rng::with_seed(seed);
            let k = rng.usize(1..=20);
            let m = rng.usize(0..=SHARDS_MAX - k);
            eprintln!("seed={seed} kernel={} k={k} m={m}", kernel.name());
            check(&mut rng, &Codec::with_kernel(k, m, kernel).unwrap());
        }
    }
}

#[test]
fn every_kernel_encodes_what_the_oracle_encodes() {
    for_every_kernel(24, |rng, codec| {
        for len_bytes in LENGTHS_BYTES {
            let (k, m) = (codec.data_shards(), codec.parity_shards());
            let data = random_shards(rng, k, len_bytes);
            assert_eq!(encoded(codec, &data, len_bytes), expected(k, m, &data, len_bytes));
        }
    });
}

#[test]
fn a_short_stripe_encodes_as_one_with_explicit_zero_shards() {
    for_every_kernel(24, |rng, codec| {
        let (k, m) = (codec.data_shards(), codec.parity_shards());
        for data_pages in 0..=k {
            let data = random_shards(rng, data_pages, 193);
            assert_eq!(encoded(codec, &data, 193), expected(k, m, &data, 193));
        }
    });
}

#[test]
fn any_lost_shards_up_to_m_rebuild_from_any_k_others() {
    for_every_kernel(60, |rng, codec| {
        let (k, m) = (codec.data_shards(), codec.parity_shards());
        let data_pages = rng.usize(0..=k);
        let len_bytes = *rng.choice(LENGTHS_BYTES.iter()).unwrap();
        let shards = encoded(codec, &random_shards(rng, data_pages, len_bytes), len_bytes);
        // Known zeros may be passed or not; a shard may be at hand, asked for, or neither.
        let mut order: Vec<usize> = (0..k + m).collect();
        rng.shuffle(&mut order);
        let (wanted, known) = order.split_at(rng.usize(0..=m));
        let useful: Vec<usize> =
            known.iter().copied().filter(|index| !(data_pages..k).contains(index)).collect();
        let known = if useful.len() >= data_pages && rng.bool() { &useful[..data_pages] } else { known };
        let made = rebuilt(codec, &shards, known, wanted, data_pages).unwrap();
        for (made, &index) in made.iter().zip(wanted) {
            assert_eq!(*made, shards[index], "shard {index} from {known:?}");
        }
    });
}

#[test]
fn each_shard_of_4_plus_2_rebuilds_from_each_possible_four_others() {
    let mut rng = Rng::with_seed(1);
    for kernel in Kernel::available() {
        let codec = Codec::with_kernel(4, 2, kernel).unwrap();
        let shards = encoded(&codec, &random_shards(&mut rng, 4, 100), 100);
        for known in (0u32..1 << 6).filter(|set| set.count_ones() == 4) {
            let (known, wanted): (Vec<usize>, Vec<usize>) = (0..6).partition(|index| known >> index & 1 == 1);
            let made = rebuilt(&codec, &shards, &known, &wanted, 4).unwrap();
            assert!(made.iter().zip(&wanted).all(|(made, &index)| *made == shards[index]));
        }
    }
}

#[test]
fn verify_sees_every_flipped_bit_and_nothing_else() {
    for_every_kernel(12, |rng, codec| {
        let k = codec.data_shards();
        let data_pages = rng.usize(1..=k);
        for len_bytes in [1, 65, 2048, 4200] {
            let mut shards = encoded(codec, &random_shards(rng, data_pages, len_bytes), len_bytes);
            let verify =
                |shards: &[Vec<u8>]| codec.verify(&slices(&shards[..data_pages]), &slices(&shards[k..]));
            assert!(verify(&shards));
            if codec.parity_shards() == 0 {
                continue;
            }
            for _ in 0..20 {
                let candidates: Vec<usize> = (0..data_pages).chain(k..shards.len()).collect();
                let shard = *rng.choice(&candidates).unwrap();
                let (byte, bit) = (rng.usize(0..len_bytes), rng.u32(0..8));
                shards[shard][byte] ^= 1 << bit;
                assert!(!verify(&shards), "bit {bit} of byte {byte} of shard {shard}");
                shards[shard][byte] ^= 1 << bit;
            }
            assert!(verify(&shards));
        }
    });
}

#[test]
fn verify_refuses_shards_that_cannot_be_a_stripe_of_the_code() {
    let codec = Codec::new(2, 1).unwrap();
    let shards = encoded(&codec, &[vec![1; 8], vec![2; 8]], 8);
    let [a, b, p] = [&shards[0][..], &shards[1][..], &shards[2][..]];
    assert!(codec.verify(&[a, b], &[p]));
    assert!(!codec.verify(&[a, b, b], &[p]));
    assert!(!codec.verify(&[a, b], &[]));
    assert!(!codec.verify(&[a, b], &[p, p]));
    assert!(!codec.verify(&[a, &b[..7]], &[p]));
    assert!(!codec.verify(&[a, b], &[&p[..7]]));
}

#[test]
fn requests_that_cannot_be_met_are_errors_and_write_nothing() {
    let codec = Codec::new(3, 2).unwrap();
    let shard = [1; 8];
    let short = [1; 7];
    let attempt = |present: &[(usize, &[u8])], index: usize, data_pages: usize| {
        let mut made = [0xEE; 8];
        let outcome = codec.rebuild(present, &mut [(index, &mut made)], data_pages);
        assert_eq!(made, [0xEE; 8]);
        outcome.unwrap_err()
    };
    let two: [(usize, &[u8]); 2] = [(1, &shard), (3, &shard)];
    assert_eq!(attempt(&two, 0, 3), RebuildError::TooFewShards { known: 2, needed: 3 });
    assert_eq!(attempt(&[], 0, 1), RebuildError::TooFewShards { known: 2, needed: 3 });
    assert_eq!(attempt(&two, 5, 3), RebuildError::NoSuchShard { index: 5 });
    assert_eq!(attempt(&[(usize::MAX, &shard)], 0, 3), RebuildError::NoSuchShard { index: usize::MAX });
    assert_eq!(attempt(&two, 1, 3), RebuildError::RepeatedShard { index: 1 });
    assert_eq!(attempt(&[(1, &shard), (1, &shard)], 0, 3), RebuildError::RepeatedShard { index: 1 });
    assert_eq!(attempt(&[(1, &shard), (2, &short)], 0, 3), RebuildError::LengthMismatch { index: 2 });
    assert_eq!(attempt(&two, 0, 4), RebuildError::TooManyDataShards { claimed: 4, k: 3 });
}

#[test]
fn the_absent_shards_of_a_short_stripe_rebuild_as_zeros() {
    let codec = Codec::new(4, 2).unwrap();
    let shards = encoded(&codec, &[vec![7; 70]], 70);
    let made = rebuilt(&codec, &shards, &[5], &[0, 2, 4], 1).unwrap();
    assert_eq!(made, [shards[0].clone(), vec![0; 70], shards[4].clone()]);
}

#[test]
fn codes_of_no_data_shard_or_too_many_shards_are_refused() {
    assert_eq!(Codec::new(0, 4).unwrap_err(), CodecError::NoDataShards);
    assert_eq!(Codec::new(30, 3).unwrap_err(), CodecError::TooManyShards { shards: 33 });
    assert!(Codec::new(usize::MAX, usize::MAX).is_err());
    assert!(Codec::new(SHARDS_MAX, 0).is_ok());
    assert!(Codec::new(1, SHARDS_MAX - 1).is_ok());
}

#[test]
fn cores_can_share_a_codec() {
    fn assert_shareable<T: Send + Sync + Clone>() {}
    assert_shareable::<Codec>();
}
