//! The shape of stripes, and where the bytes of an extent or a run lie in pages.
//! Invariants: data page j of a stripe holds payload bytes `[j * P, (j + 1) * P)`, P the payload of a page;
//! all stripes of an extent but its last are full; arithmetic on what was read from disk is checked.
//! Not here: headers (`page`), drives and files (`shardstore`).

use crate::extent::Extent;
use crate::page::PAGE_MAX_SECTORS;
use crate::volume::{PAGE_HEADER_BYTES, PAGE_PAYLOAD_MAX_BYTES, Profile, SECTOR_BYTES};

/// Length on disk of a page of so many sectors.
pub const fn page_bytes(page_len_sectors: u8) -> u64 {
    page_len_sectors as u64 * SECTOR_BYTES
}

/// Payload of a page of so many sectors; 0 for 0 sectors.
pub const fn page_payload_bytes(page_len_sectors: u8) -> u64 {
    page_bytes(page_len_sectors).saturating_sub(PAGE_HEADER_BYTES)
}

impl Profile {
    /// k + m.
    pub const fn shards(&self) -> usize {
        self.k as usize + self.m as usize
    }

    /// Payload of a full stripe: k pages of 64 KiB without their headers.
    pub const fn stripe_payload_bytes(&self) -> u64 {
        self.k as u64 * PAGE_PAYLOAD_MAX_BYTES
    }
}

impl std::fmt::Display for Profile {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}+{}", self.k, self.m)
    }
}

/// How many data pages a stripe has, and how long each of its pages is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct StripeShape {
    /// Data pages, 1 to k; data segments from here to k hold nothing at this place.
    pub data_pages: u8,
    /// Length of every page, parity included, in sectors: 1 to 16.
    pub page_len_sectors: u8,
}

impl StripeShape {
    /// A full stripe.
    pub const fn full(profile: Profile) -> StripeShape {
        StripeShape { data_pages: profile.k, page_len_sectors: PAGE_MAX_SECTORS }
    }

    /// The shape that writes the fewest bytes, `(d + m) * page`, for a payload; fewer data pages win a tie.
    ///
    /// `None` if the payload is empty or longer than a full stripe.
    pub fn cheapest(profile: Profile, payload_len_bytes: u64) -> Option<StripeShape> {
        if payload_len_bytes == 0 {
            return None;
        }
        let shapes = (1..=profile.k).filter_map(|data_pages| {
            let page_len_sectors = sectors_of_page(payload_len_bytes.div_ceil(u64::from(data_pages)))?;
            Some(StripeShape { data_pages, page_len_sectors })
        });
        shapes.min_by_key(|shape| {
            (u32::from(shape.data_pages) + u32::from(profile.m)) * u32::from(shape.page_len_sectors)
        })
    }

    /// The shape of a run's last stripe: pages of 64 KiB wherever there is more than one, so that every step of
    /// 65,472 bytes of a run begins a page.
    pub fn of_run_tail(profile: Profile, payload_len_bytes: u64) -> Option<StripeShape> {
        let data_pages = u8::try_from(payload_len_bytes.div_ceil(PAGE_PAYLOAD_MAX_BYTES)).ok()?;
        match data_pages {
            0 => None,
            1 => Some(StripeShape { data_pages, page_len_sectors: sectors_of_page(payload_len_bytes)? }),
            _ if data_pages > profile.k => None,
            _ => Some(StripeShape { data_pages, page_len_sectors: PAGE_MAX_SECTORS }),
        }
    }

    /// The most payload that fits.
    pub const fn payload_bytes(&self) -> u64 {
        self.data_pages as u64 * page_payload_bytes(self.page_len_sectors)
    }
}

/// Sectors of the shortest page with room for a payload; `None` if no page has.
fn sectors_of_page(payload_len_bytes: u64) -> Option<u8> {
    let sectors = u8::try_from((payload_len_bytes + PAGE_HEADER_BYTES).div_ceil(SECTOR_BYTES)).ok()?;
    (sectors <= PAGE_MAX_SECTORS).then_some(sectors)
}

/// Some payload bytes of one page.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PageSpan {
    /// First sector of the page, in its segment.
    pub sector: u32,
    /// Length of the page.
    pub page_len_sectors: u8,
    /// Which data segment.
    pub shard: u8,
    /// First payload byte wanted.
    pub begin: u32,
    /// One past the last payload byte wanted.
    pub end: u32,
}

impl PageSpan {
    /// Number of bytes.
    pub const fn len_bytes(&self) -> u64 {
        (self.end - self.begin) as u64
    }
}

/// Where a byte run lies: what extents and metadata runs have in common.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Layout {
    /// First sector of the first stripe.
    pub sector: u32,
    /// First byte within the payload of the first stripe.
    pub byte_in_stripe: u32,
    /// Length of the run.
    pub len_bytes: u64,
    /// Page length of the last stripe; all others are full.
    pub last_page_len_sectors: u8,
    /// Data shards of the volume.
    pub k: u8,
}

impl Layout {
    /// The layout of an extent in a volume of `k` data shards.
    pub const fn of_extent(extent: &Extent, k: u8) -> Layout {
        Layout {
            sector: extent.sector,
            byte_in_stripe: extent.byte_in_stripe,
            len_bytes: extent.len_bytes,
            last_page_len_sectors: extent.page_len_sectors,
            k,
        }
    }

    /// The layout of a metadata run, which begins at the first sector of its volume.
    ///
    /// `None` if the run is empty or the profile has no data shard.
    pub fn of_run(profile: Profile, len_bytes: u64) -> Option<Layout> {
        let full = profile.stripe_payload_bytes();
        let tail_bytes = len_bytes.checked_sub(1)?.checked_rem(full)? + 1;
        let tail = StripeShape::of_run_tail(profile, tail_bytes)?;
        let last_page_len_sectors = tail.page_len_sectors;
        Some(Layout { sector: 0, byte_in_stripe: 0, len_bytes, last_page_len_sectors, k: profile.k })
    }

    /// Payload of a full stripe of the volume.
    const fn full_bytes(&self) -> u64 {
        self.k as u64 * PAGE_PAYLOAD_MAX_BYTES
    }

    /// Stripes that the run touches; `None` if its fields contradict each other.
    pub fn stripe_count(&self) -> Option<u64> {
        let end = u64::from(self.byte_in_stripe).checked_add(self.len_bytes)?;
        let begins_inside = u64::from(self.byte_in_stripe) < self.full_bytes();
        (begins_inside && self.len_bytes > 0).then(|| end.div_ceil(self.full_bytes()))
    }

    /// One past the last sector of the last stripe, in every segment; `None` if fields contradict each other.
    pub fn end_sector(&self) -> Option<u32> {
        let before = (self.stripe_count()? - 1).checked_mul(u64::from(PAGE_MAX_SECTORS))?;
        let end = before.checked_add(u64::from(self.sector) + u64::from(self.last_page_len_sectors))?;
        u32::try_from(end).ok()
    }

    /// The span of one page that holds byte `offset_bytes` of the run, and what follows it in that page, at most
    /// `len_max_bytes`; `None` if the byte is outside the run, or its fields contradict each other.
    ///
    /// Cost: a few divisions; a reader walks a run by calling this again past each span.
    pub fn span_at(&self, offset_bytes: u64, len_max_bytes: u64) -> Option<PageSpan> {
        if offset_bytes >= self.len_bytes || len_max_bytes == 0 {
            return None;
        }
        let stripes = self.stripe_count()?;
        let at = u64::from(self.byte_in_stripe) + offset_bytes;
        let stripe = at / self.full_bytes();
        let is_last = stripe + 1 == stripes;
        let page_len_sectors = if is_last { self.last_page_len_sectors } else { PAGE_MAX_SECTORS };
        let payload = page_payload_bytes(page_len_sectors);
        let in_stripe = at % self.full_bytes();
        let shard = u8::try_from(in_stripe.checked_div(payload)?).ok().filter(|shard| *shard < self.k)?;
        let sector = u64::from(self.sector).checked_add(stripe.checked_mul(u64::from(PAGE_MAX_SECTORS))?)?;
        let begin = in_stripe % payload;
        let len = (payload - begin).min(len_max_bytes).min(self.len_bytes - offset_bytes);
        Some(PageSpan {
            sector: u32::try_from(sector).ok()?,
            page_len_sectors,
            shard,
            begin: u32::try_from(begin).ok()?,
            end: u32::try_from(begin + len).ok()?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::id::VolumeId;
    use proptest::prelude::*;

    const FOUR_TWO: Profile = Profile { k: 4, m: 2 };

    #[test]
    fn short_stripes_take_the_fewest_bytes_then_the_fewest_pages() {
        let shape = |k, m, len| StripeShape::cheapest(Profile { k, m }, len);
        assert_eq!(shape(1, 0, 1), Some(StripeShape { data_pages: 1, page_len_sectors: 1 }));
        assert_eq!(shape(1, 0, 4032), Some(StripeShape { data_pages: 1, page_len_sectors: 1 }));
        assert_eq!(shape(1, 0, 4033), Some(StripeShape { data_pages: 1, page_len_sectors: 2 }));
        assert_eq!(shape(4, 2, 4096), Some(StripeShape { data_pages: 2, page_len_sectors: 1 }));
        assert_eq!(shape(4, 2, 65_536), Some(StripeShape { data_pages: 3, page_len_sectors: 6 }));
        assert_eq!(shape(4, 2, 4 * 65_472), Some(StripeShape::full(FOUR_TWO)));
        assert_eq!(shape(4, 2, 4 * 65_472 + 1), None);
        assert_eq!(shape(4, 2, 0), None);
    }

    #[test]
    fn a_run_begins_a_page_every_65472_bytes() {
        for len in [1, 65_472, 65_473, 4 * 65_472, 4 * 65_472 + 70_000] {
            let layout = Layout::of_run(FOUR_TWO, len).expect("not empty");
            for step in 0..len.div_ceil(65_472) {
                let span = layout.span_at(step * 65_472, 1).expect("inside");
                assert_eq!(span.begin, 0, "step {step} of {len}");
                assert_eq!(u64::from(span.sector), step / 4 * 16);
                assert_eq!(u64::from(span.shard), step % 4);
            }
        }
        assert_eq!(Layout::of_run(FOUR_TWO, 0), None);
    }

    #[test]
    fn contradicting_extents_have_no_spans() {
        let extent = Extent {
            volume: VolumeId(1),
            sector: u32::MAX,
            byte_in_stripe: u32::MAX,
            len_bytes: u64::MAX,
            page_len_sectors: 16,
        };
        let layout = Layout::of_extent(&extent, 4);
        assert_eq!(layout.end_sector(), None);
        assert_eq!(layout.span_at(0, 1), None);
        let past_the_end = Extent { byte_in_stripe: 0, len_bytes: 1 << 40, ..extent };
        assert_eq!(Layout::of_extent(&past_the_end, 4).end_sector(), None);
        let too_long =
            Extent { sector: 0, byte_in_stripe: 0, len_bytes: 200_000, page_len_sectors: 1, ..extent };
        assert_eq!(Layout::of_extent(&too_long, 4).span_at(199_999, 1), None);
        assert_eq!(Layout::of_extent(&too_long, 0).span_at(0, 1), None);
    }

    proptest! {
        #[test]
        fn spans_of_a_run_tile_it_without_overlap(
            k in 1u8..9, m in 0u8..5, len in 1u64..3_000_000, cut in 1u64..100_000,
        ) {
            let profile = Profile { k, m };
            let tail = (len - 1) % profile.stripe_payload_bytes() + 1;
            let shape = StripeShape::cheapest(profile, tail).expect("fits");
            prop_assert!(shape.payload_bytes() >= tail);
            let layout = Layout {
                sector: 7, byte_in_stripe: 0, len_bytes: len,
                last_page_len_sectors: shape.page_len_sectors, k,
            };
            let mut offset = 0;
            while offset < len {
                let span = layout.span_at(offset, cut).expect("inside");
                prop_assert!(span.len_bytes() >= 1);
                prop_assert!(span.len_bytes() <= cut);
                prop_assert!(u64::from(span.end) <= page_payload_bytes(span.page_len_sectors));
                let stripe = u64::from(span.sector - 7) / 16;
                let place = stripe * profile.stripe_payload_bytes()
                    + u64::from(span.shard) * page_payload_bytes(span.page_len_sectors)
                    + u64::from(span.begin);
                prop_assert_eq!(place, offset);
                offset += span.len_bytes();
            }
            prop_assert_eq!(offset, len);
            prop_assert_eq!(layout.span_at(len, 1), None);
        }
    }
}
