//! MD5 against the RFC's vectors and the crate `md-5`, alone and in company, on every kind of lanes.

use fastrand::Rng;
use md5::{Digest, Md5};
use shardstore_erasure::md5::{Lanes, Md5State, update_many, update_many_with};

fn random_bytes(rng: &mut Rng, len_bytes: usize) -> Vec<u8> {
    (0..len_bytes).map(|_| rng.u8(..)).collect()
}

fn expected(bytes: &[u8]) -> [u8; 16] {
    Md5::digest(bytes).into()
}

/// Hashes `streams` in company, cut at random places, some of them staying behind in each turn.
fn hashed_in_turns(rng: &mut Rng, lanes: Lanes, streams: &[Vec<u8>]) -> Vec<[u8; 16]> {
    let mut states = vec![Md5State::new(); streams.len()];
    let mut rests: Vec<&[u8]> = streams.iter().map(Vec::as_slice).collect();
    while rests.iter().any(|rest| !rest.is_empty()) {
        let mut turn: Vec<(&mut Md5State, &[u8])> = Vec::new();
        for (state, rest) in states.iter_mut().zip(&mut rests) {
            let (now, later) = rest.split_at(rng.usize(0..=rest.len()));
            *rest = later;
            turn.push((state, now));
        }
        update_many_with(lanes, &mut turn);
    }
    states.into_iter().map(Md5State::finish).collect()
}

#[test]
fn rfc_1321_test_suite() {
    let hex = |bytes: [u8; 16]| bytes.map(|byte| format!("{byte:02x}")).concat();
    for (text, digest) in [
        ("", "d41d8cd98f00b204e9800998ecf8427e"),
        ("a", "0cc175b9c0f1b6a831c399e269772661"),
        ("abc", "900150983cd24fb0d6963f7d28e17f72"),
        ("message digest", "f96b697d7cb7938d525a2f31aaf161d0"),
        ("abcdefghijklmnopqrstuvwxyz", "c3fcd3d76192e4007dfb496cca67e13b"),
        (
            "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789",
            "d174ab98d277d9f5a5611c2c9f419d9f",
        ),
        (
            "12345678901234567890123456789012345678901234567890123456789012345678901234567890",
            "57edf4a22be3c955ac49da2e2107b67a",
        ),
    ] {
        let mut state = Md5State::new();
        state.update(text.as_bytes());
        assert_eq!(hex(state.finish()), digest, "{text}");
    }
}

#[test]
fn every_length_around_the_padding_is_right() {
    let mut rng = Rng::with_seed(1);
    for len_bytes in 0..300 {
        let bytes = random_bytes(&mut rng, len_bytes);
        let mut state = Md5State::new();
        state.update(&bytes);
        assert_eq!(state.len_bytes(), len_bytes as u64);
        assert_eq!(state.finish(), expected(&bytes), "{len_bytes} bytes");
    }
}

#[test]
fn a_stream_in_company_has_the_digest_that_it_has_alone() {
    for lanes in Lanes::available() {
        for seed in 0..40 {
            let mut rng = Rng::with_seed(seed);
            let count = rng.usize(0..=70);
            let longest = *rng.choice(&[1, 63, 64, 65, 200, 3000]).unwrap_or(&1);
            let streams: Vec<Vec<u8>> = (0..count)
                .map(|_| {
                    let len_bytes = rng.usize(0..=longest);
                    random_bytes(&mut rng, len_bytes)
                })
                .collect();
            let digests = hashed_in_turns(&mut rng, lanes, &streams);
            for (digest, stream) in digests.iter().zip(&streams) {
                assert_eq!(*digest, expected(stream), "seed={seed} lanes={} count={count}", lanes.name());
            }
        }
    }
}

#[test]
fn every_number_of_streams_of_one_length_fills_the_lanes_rightly() {
    let mut rng = Rng::with_seed(2);
    for lanes in Lanes::available() {
        for count in 1..=40 {
            let streams: Vec<Vec<u8>> = (0..count).map(|_| random_bytes(&mut rng, 320)).collect();
            let mut states = vec![Md5State::new(); count];
            let mut turn: Vec<(&mut Md5State, &[u8])> =
                states.iter_mut().zip(&streams).map(|(state, bytes)| (state, bytes.as_slice())).collect();
            update_many_with(lanes, &mut turn);
            for (state, stream) in states.into_iter().zip(&streams) {
                assert_eq!(state.finish(), expected(stream), "lanes={} count={count}", lanes.name());
            }
        }
    }
}

#[test]
fn a_cloned_state_goes_on_by_itself() {
    let mut first = Md5State::new();
    update_many(&mut [(&mut first, b"multi".as_slice())]);
    let mut second = first.clone();
    first.update(b"part");
    second.update(b"lane");
    assert_eq!(first.finish(), expected(b"multipart"));
    assert_eq!(second.finish(), expected(b"multilane"));
}

#[test]
fn no_streams_are_no_work() {
    update_many(&mut []);
}
