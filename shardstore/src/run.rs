//! A run of stripes in memory: page buffers filled with payload and parity, ready for a place in a volume.
//! Invariants: all stripes but the last are full; bytes of a page past its payload are zero; parity covers
//! payload only, so it does not depend on where the run will lie.
//! Not here: places and writes (`append`).

use shardstore_erasure::Codec;
use shardstore_format::{
    PAGE_HEADER_BYTES, PAGE_MAX_SECTORS, PAGE_PAYLOAD_MAX_BYTES, PageAddress, PoolId, Profile, StripeHeader,
    StripeShape, VolumeId, page_bytes, seal_page,
};
use shardstore_reactor::{AlignedBuf, BufPool, PoolExhausted};

use crate::options::in_memory;

const HEADER: usize = 64;
const _: () = assert!(HEADER as u64 == PAGE_HEADER_BYTES);

/// How the last stripe of a run is shaped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum TailRule {
    /// The fewest bytes.
    Cheapest,
    /// Every 65,472 bytes begin a page, as metadata runs demand.
    WholePages,
}

impl TailRule {
    fn shape(self, profile: Profile, payload_len_bytes: u64) -> StripeShape {
        let shape = match self {
            TailRule::Cheapest => StripeShape::cheapest(profile, payload_len_bytes),
            TailRule::WholePages => StripeShape::of_run_tail(profile, payload_len_bytes),
        };
        shape.expect("a tail is neither empty nor longer than a stripe")
    }
}

/// One stripe: data pages, then, once encoded, parity pages.
struct Stripe {
    shape: StripeShape,
    payload_len_bytes: u64,
    data: Vec<AlignedBuf>,
    parity: Vec<AlignedBuf>,
}

/// Stripes that lie one after the other.
pub(crate) struct Run {
    profile: Profile,
    tail: TailRule,
    payload_len_bytes: u64,
    stripes: Vec<Stripe>,
}

/// Sectors, in every segment, of a run of so many payload bytes.
pub(crate) fn run_sectors(profile: Profile, tail: TailRule, payload_len_bytes: u64) -> u32 {
    let (full_stripes, tail_bytes) = split(profile, payload_len_bytes);
    let shape = tail.shape(profile, tail_bytes);
    let full = full_stripes * u64::from(PAGE_MAX_SECTORS);
    u32::try_from(full).expect("runs are short") + u32::from(shape.page_len_sectors)
}

/// Page length, in sectors, of the stripe that holds byte `offset_bytes` of such a run.
pub(crate) fn page_len_at(profile: Profile, tail: TailRule, payload_len_bytes: u64, offset_bytes: u64) -> u8 {
    assert!(offset_bytes < payload_len_bytes);
    let (full_stripes, tail_bytes) = split(profile, payload_len_bytes);
    let is_tail = offset_bytes / profile.stripe_payload_bytes() == full_stripes;
    if is_tail { tail.shape(profile, tail_bytes).page_len_sectors } else { PAGE_MAX_SECTORS }
}

/// Stripes before the last one, and the payload of that, which may be full.
fn split(profile: Profile, payload_len_bytes: u64) -> (u64, u64) {
    assert!(payload_len_bytes > 0, "a run is not empty");
    let full = profile.stripe_payload_bytes();
    ((payload_len_bytes - 1) / full, (payload_len_bytes - 1) % full + 1)
}

impl Run {
    /// Copies `parts`, `payload_len_bytes` together, into pages of their own and encodes parity.
    pub(crate) fn gather<'a>(
        bufs: &BufPool,
        codec: &Codec,
        profile: Profile,
        tail: TailRule,
        payload_len_bytes: u64,
        parts: impl Iterator<Item = &'a [u8]>,
    ) -> Result<Run, PoolExhausted> {
        let (full_stripes, tail_bytes) = split(profile, payload_len_bytes);
        let mut stripes = Vec::with_capacity(in_memory(full_stripes) + 1);
        let mut source = Source { parts, part: &[] };
        for index in 0..=full_stripes {
            let payload = if index == full_stripes { tail_bytes } else { profile.stripe_payload_bytes() };
            let shape =
                if index == full_stripes { tail.shape(profile, payload) } else { StripeShape::full(profile) };
            stripes.push(Stripe::gather(bufs, shape, payload, &mut source)?);
        }
        Run { profile, tail, payload_len_bytes, stripes }.encoded(bufs, codec)
    }

    /// Takes full-length pages that were filled in order; the last one may hold less. Only a short last stripe
    /// is copied.
    pub(crate) fn from_pages(
        bufs: &BufPool,
        codec: &Codec,
        profile: Profile,
        payload_len_bytes: u64,
        pages: Vec<AlignedBuf>,
    ) -> Result<Run, PoolExhausted> {
        let (full_stripes, tail_bytes) = split(profile, payload_len_bytes);
        let tail = TailRule::Cheapest;
        let mut pages = pages.into_iter();
        let mut stripes = Vec::with_capacity(in_memory(full_stripes) + 1);
        let shape = StripeShape::full(profile);
        for _ in 0..full_stripes {
            let data = pages.by_ref().take(usize::from(profile.k)).collect();
            let payload_len_bytes = profile.stripe_payload_bytes();
            stripes.push(Stripe { shape, payload_len_bytes, data, parity: Vec::new() });
        }
        let rest: Vec<AlignedBuf> = pages.collect();
        let shape = tail.shape(profile, tail_bytes);
        let last = if shape.page_len_sectors == PAGE_MAX_SECTORS {
            // Pages of full length already lie as the stripe wants them.
            assert_eq!(rest.len(), usize::from(shape.data_pages));
            let mut stripe = Stripe { shape, payload_len_bytes: tail_bytes, data: rest, parity: Vec::new() };
            stripe.zero_padding();
            stripe
        } else {
            let parts = rest.iter().map(|page| &page[HEADER..]);
            Stripe::gather(bufs, shape, tail_bytes, &mut Source { parts, part: &[] })?
        };
        stripes.push(last);
        Run { profile, tail, payload_len_bytes, stripes }.encoded(bufs, codec)
    }

    fn encoded(mut self, bufs: &BufPool, codec: &Codec) -> Result<Run, PoolExhausted> {
        for stripe in &mut self.stripes {
            stripe.encode(bufs, codec, self.profile)?;
        }
        Ok(self)
    }

    /// The same payload in the stripes of another profile.
    pub(crate) fn restriped(
        &self,
        bufs: &BufPool,
        codec: &Codec,
        profile: Profile,
    ) -> Result<Run, PoolExhausted> {
        let parts: Vec<&[u8]> = self.stripes.iter().flat_map(Stripe::payload).collect();
        Run::gather(bufs, codec, profile, self.tail, self.payload_len_bytes, parts.into_iter())
    }

    pub(crate) fn profile(&self) -> Profile {
        self.profile
    }

    pub(crate) fn payload_len_bytes(&self) -> u64 {
        self.payload_len_bytes
    }

    pub(crate) fn sectors(&self) -> u32 {
        run_sectors(self.profile, self.tail, self.payload_len_bytes)
    }

    /// Writes all headers for a place: `sector` of `volume`.
    pub(crate) fn seal(&mut self, pool: PoolId, volume: VolumeId, sector: u32) {
        let mut at = sector;
        for stripe in &mut self.stripes {
            stripe.seal(self.profile, pool, volume, at);
            at += u32::from(stripe.shape.page_len_sectors);
        }
        assert_eq!(at, sector + self.sectors());
    }

    /// Takes the pages out, shard by shard: what each drive writes from the run's first sector on. A shard that
    /// the last stripe does not have is shorter; one that no stripe has is empty.
    pub(crate) fn take_shards(&mut self) -> Vec<Vec<AlignedBuf>> {
        let mut shards: Vec<Vec<AlignedBuf>> = (0..self.profile.shards()).map(|_| Vec::new()).collect();
        for stripe in &mut self.stripes {
            for (shard, page) in stripe.data.drain(..).enumerate() {
                shards[shard].push(page);
            }
            for (index, page) in stripe.parity.drain(..).enumerate() {
                shards[usize::from(self.profile.k) + index].push(page);
            }
        }
        shards
    }

    /// Puts pages back after a write; shards whose buffers the drive kept are computed from the others.
    ///
    /// False if too few buffers came back.
    pub(crate) fn put_back(&mut self, shards: Vec<Vec<AlignedBuf>>, bufs: &BufPool, codec: &Codec) -> bool {
        let mut shards: Vec<std::vec::IntoIter<AlignedBuf>> =
            shards.into_iter().map(Vec::into_iter).collect();
        let profile = self.profile;
        self.stripes.iter_mut().all(|stripe| stripe.put_back(profile, &mut shards, bufs, codec))
    }
}

impl Stripe {
    fn gather<'a>(
        bufs: &BufPool,
        shape: StripeShape,
        payload_len_bytes: u64,
        source: &mut Source<'a, impl Iterator<Item = &'a [u8]>>,
    ) -> Result<Stripe, PoolExhausted> {
        let page_len = in_memory(page_bytes(shape.page_len_sectors));
        let mut left = in_memory(payload_len_bytes);
        let mut data = Vec::with_capacity(usize::from(shape.data_pages));
        for _ in 0..shape.data_pages {
            let mut page = bufs.take(page_len)?;
            let len = left.min(page_len - HEADER);
            source.fill(&mut page[HEADER..HEADER + len]);
            left -= len;
            data.push(page);
        }
        assert_eq!(left, 0, "the shape holds the payload");
        let mut stripe = Stripe { shape, payload_len_bytes, data, parity: Vec::new() };
        stripe.zero_padding();
        Ok(stripe)
    }

    /// Payload of each data page, in order.
    fn payload(&self) -> impl Iterator<Item = &[u8]> {
        let page_payload = in_memory(page_bytes(self.shape.page_len_sectors)) - HEADER;
        let total = in_memory(self.payload_len_bytes);
        self.data.iter().enumerate().map(move |(index, page)| {
            let len = total.saturating_sub(index * page_payload).min(page_payload);
            &page[HEADER..HEADER + len]
        })
    }

    fn zero_padding(&mut self) {
        let page_payload = in_memory(page_bytes(self.shape.page_len_sectors)) - HEADER;
        let total = in_memory(self.payload_len_bytes);
        for (index, page) in self.data.iter_mut().enumerate() {
            let len = total.saturating_sub(index * page_payload).min(page_payload);
            page[HEADER + len..].fill(0);
        }
    }

    fn encode(&mut self, bufs: &BufPool, codec: &Codec, profile: Profile) -> Result<(), PoolExhausted> {
        assert_eq!(self.data.len(), usize::from(self.shape.data_pages));
        let page_len = in_memory(page_bytes(self.shape.page_len_sectors));
        for _ in 0..profile.m {
            self.parity.push(bufs.take(page_len)?);
        }
        let data: Vec<&[u8]> = self.data.iter().map(|page| &page[HEADER..]).collect();
        let mut parity: Vec<&mut [u8]> = self.parity.iter_mut().map(|page| &mut page[HEADER..]).collect();
        codec.encode(&data, &mut parity);
        Ok(())
    }

    fn seal(&mut self, profile: Profile, pool: PoolId, volume: VolumeId, sector: u32) {
        let payload_len_bytes = u32::try_from(self.payload_len_bytes).expect("at most 32 pages");
        let header = StripeHeader { profile, shape: self.shape, payload_len_bytes };
        let parity = (profile.k..).zip(&mut self.parity);
        for (shard, page) in (0u8..).zip(&mut self.data).chain(parity) {
            seal_page(page, &PageAddress { pool, volume, sector, shard }, &header);
        }
    }

    fn put_back(
        &mut self,
        profile: Profile,
        shards: &mut [std::vec::IntoIter<AlignedBuf>],
        bufs: &BufPool,
        codec: &Codec,
    ) -> bool {
        let data_pages = usize::from(self.shape.data_pages);
        let k = usize::from(profile.k);
        let page_len = in_memory(page_bytes(self.shape.page_len_sectors));
        let mut pages: Vec<(usize, AlignedBuf)> = Vec::with_capacity(shards.len());
        let mut lost = Vec::new();
        for (shard, returned) in shards.iter_mut().enumerate() {
            if shard >= data_pages && shard < k {
                continue;
            }
            match returned.next() {
                Some(page) => pages.push((shard, page)),
                None => lost.push(shard),
            }
        }
        let mut rebuilt = Vec::new();
        for shard in lost.into_iter().filter(|shard| *shard < k) {
            let Ok(page) = bufs.take(page_len) else { return false };
            rebuilt.push((shard, page));
        }
        let present: Vec<(usize, &[u8])> =
            pages.iter().map(|(shard, page)| (*shard, &page[HEADER..])).collect();
        let mut missing: Vec<(usize, &mut [u8])> =
            rebuilt.iter_mut().map(|(shard, page)| (*shard, &mut page[HEADER..])).collect();
        if !missing.is_empty() && codec.rebuild(&present, &mut missing, data_pages).is_err() {
            return false;
        }
        pages.append(&mut rebuilt);
        pages.retain(|(shard, _)| *shard < k);
        pages.sort_by_key(|(shard, _)| *shard);
        self.data = pages.into_iter().map(|(_, page)| page).collect();
        self.data.len() == data_pages
    }
}

/// Bytes of parts, one after the other.
struct Source<'a, I> {
    parts: I,
    part: &'a [u8],
}

impl<'a, I: Iterator<Item = &'a [u8]>> Source<'a, I> {
    fn fill(&mut self, mut target: &mut [u8]) {
        while !target.is_empty() {
            if self.part.is_empty() {
                self.part = self.parts.next().expect("parts are as long as the caller says");
                continue;
            }
            let len = target.len().min(self.part.len());
            let (now, later) = self.part.split_at(len);
            target[..len].copy_from_slice(now);
            self.part = later;
            target = &mut target[len..];
        }
    }
}

/// Full-length pages being filled with payload in order.
pub(crate) struct PageFill {
    pages: Vec<AlignedBuf>,
    payload_len_bytes: u64,
}

impl PageFill {
    pub(crate) fn new() -> PageFill {
        PageFill { pages: Vec::new(), payload_len_bytes: 0 }
    }

    pub(crate) fn payload_len_bytes(&self) -> u64 {
        self.payload_len_bytes
    }

    /// Copies what fits into the last page, or a new one; returns how much that was.
    pub(crate) fn push(&mut self, bufs: &BufPool, bytes: &[u8]) -> Result<usize, PoolExhausted> {
        let in_page = self.payload_len_bytes % PAGE_PAYLOAD_MAX_BYTES;
        if in_page == 0 {
            self.pages.push(bufs.take(in_memory(page_bytes(PAGE_MAX_SECTORS)))?);
        }
        let len = bytes.len().min(in_memory(PAGE_PAYLOAD_MAX_BYTES - in_page));
        let begin = HEADER + in_memory(in_page);
        let page = self.pages.last_mut().expect("pushed above or partly filled");
        page[begin..begin + len].copy_from_slice(&bytes[..len]);
        self.payload_len_bytes += len as u64;
        Ok(len)
    }

    /// The pages and their payload's length, leaving nothing.
    pub(crate) fn take(&mut self) -> (Vec<AlignedBuf>, u64) {
        (std::mem::take(&mut self.pages), std::mem::take(&mut self.payload_len_bytes))
    }
}
