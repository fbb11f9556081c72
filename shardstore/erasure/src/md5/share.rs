//! Which streams share the lanes, and for how long.
//!
//! Invariants: each stream's inputs are hashed in order, whatever the grouping.
//! Not here: the steps of MD5 (`rounds`, `avx2`, `avx512`).

use super::Input;
use super::lanes::Work;

/// Hashes up to `lanes` streams at a time by `compress(streams, inputs)`, which advances each of them by that
/// many inputs, until at most one stream is left. Longest first, so that few lanes idle at the end.
pub(super) fn share(work: &mut Vec<Work<'_>>, lanes: usize, compress: impl Fn(&mut [Work<'_>], usize)) {
    work.sort_by_key(|stream| stream.inputs.len());
    loop {
        work.retain(|stream| !stream.inputs.is_empty());
        if work.len() < 2 {
            return;
        }
        let waiting = work.len().saturating_sub(lanes);
        let live = &mut work[waiting..];
        let common = live.iter().map(|stream| stream.inputs.len()).min().expect("two streams or more");
        compress(live, common);
        for stream in live {
            stream.inputs = &stream.inputs[common..];
        }
    }
}

/// The words of up to `WIDTH` streams, word by word, a stream to a lane.
pub(super) type LaneWords<const WIDTH: usize> = [[u32; WIDTH]; 4];

/// `SETS` sets of lanes loaded with `live` streams; lanes to spare repeat the first stream's inputs.
pub(super) fn load<'a, const WIDTH: usize, const SETS: usize>(
    live: &[Work<'a>],
    inputs: usize,
) -> ([LaneWords<WIDTH>; SETS], [[&'a [Input]; WIDTH]; SETS]) {
    assert!(!live.is_empty());
    assert!(live.len() <= SETS * WIDTH);
    let mut words = [[[0; WIDTH]; 4]; SETS];
    let mut sources = [[&live[0].inputs[..inputs]; WIDTH]; SETS];
    for (index, stream) in live.iter().enumerate() {
        let (set, lane) = (index / WIDTH, index % WIDTH);
        sources[set][lane] = &stream.inputs[..inputs];
        for (lanes, &word) in words[set].iter_mut().zip(&*stream.words) {
            lanes[lane] = word;
        }
    }
    (words, sources)
}

/// The reverse of [`load`]: gives each stream its words.
pub(super) fn unload<const WIDTH: usize>(words: &[LaneWords<WIDTH>], live: &mut [Work<'_>]) {
    for (index, stream) in live.iter_mut().enumerate() {
        for (word, lanes) in stream.words.iter_mut().zip(&words[index / WIDTH]) {
            *word = lanes[index % WIDTH];
        }
    }
}
