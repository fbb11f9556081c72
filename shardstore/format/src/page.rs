//! Page header: the first 64 bytes of every page, binding it to its place and proving its integrity.
//! Invariants: the CRC32C covers every byte of the page after itself; a page that decodes at its address was
//! written for that address; reserved bytes are zero.
//! Not here: reading, rebuilding (`shardstore`), where pages lie (`stripe`). Bytes: docs/format.md.

use crate::id::{PoolId, VolumeId};
use crate::stripe::{StripeShape, page_bytes, page_payload_bytes};
use crate::volume::{PAGE_HEADER_BYTES, PAGE_MAX_BYTES, Profile, SECTOR_BYTES};

/// Length of a header.
const HEADER_BYTES: usize = 64;
const _: () = assert!(HEADER_BYTES as u64 == PAGE_HEADER_BYTES);
/// Most sectors of a page.
pub const PAGE_MAX_SECTORS: u8 = 16;
const _: () = assert!(PAGE_MAX_SECTORS as u64 * SECTOR_BYTES == PAGE_MAX_BYTES);
/// Most shards of a volume, k + m.
pub const SHARDS_MAX: usize = 32;

const MAGIC: [u8; 3] = *b"BPG";
const VERSION: u8 = 1;

// Offsets, each after the one before.
const AT_CRC: usize = 0;
const AT_MAGIC: usize = AT_CRC + 4;
const AT_VERSION: usize = AT_MAGIC + 3;
const AT_POOL: usize = AT_VERSION + 1;
const AT_VOLUME: usize = AT_POOL + 16;
const AT_SECTOR: usize = AT_VOLUME + 8;
const AT_PAYLOAD_LEN: usize = AT_SECTOR + 4;
const AT_SHARD: usize = AT_PAYLOAD_LEN + 4;
const AT_PAGE_LEN: usize = AT_SHARD + 1;
const AT_DATA_PAGES: usize = AT_PAGE_LEN + 1;
const AT_K: usize = AT_DATA_PAGES + 1;
const AT_M: usize = AT_K + 1;
const AT_RESERVED: usize = AT_M + 1;
const _: () = assert!(AT_RESERVED == 45);

/// The one place where a page may lie.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct PageAddress {
    /// The deployment.
    pub pool: PoolId,
    /// The volume.
    pub volume: VolumeId,
    /// First sector of the stripe, hence of each of its pages, in every segment.
    pub sector: u32,
    /// Which segment: 0..k hold data, k..k+m parity.
    pub shard: u8,
}

/// What every page of a stripe, parity included, says of the stripe.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StripeHeader {
    /// The volume's redundancy.
    pub profile: Profile,
    /// Pages of data and their length.
    pub shape: StripeShape,
    /// Payload bytes of the whole stripe, parity and padding not counted.
    pub payload_len_bytes: u32,
}

/// Why bytes are not the page that should lie at an address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PageError {
    /// Fewer bytes than the page has.
    Truncated,
    /// No page begins here: never written, or overwritten by something else.
    NotAPage,
    /// A page of a later version of this program.
    FutureVersion(u8),
    /// Bytes do not match their checksum: torn or flipped. Rebuild from parity.
    Checksum,
    /// An intact page of another place: stale or misdirected. Rebuild from parity.
    Elsewhere(PageAddress),
    /// The checksum holds and a field is outside its bounds: written by a faulty program.
    Invalid,
}

impl std::fmt::Display for PageError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            PageError::Truncated => f.write_str("page is cut short"),
            PageError::NotAPage => f.write_str("no page begins here"),
            PageError::FutureVersion(version) => write!(f, "page has the future version {version}"),
            PageError::Checksum => f.write_str("page does not match its checksum"),
            PageError::Elsewhere(address) => write!(
                f,
                "page belongs to volume {} sector {} shard {}",
                address.volume.0, address.sector, address.shard
            ),
            PageError::Invalid => f.write_str("page header has a field outside its bounds"),
        }
    }
}

impl std::error::Error for PageError {}

/// Writes the header of `page`, whose payload (and zero padding) is in place after the first 64 bytes.
///
/// Cost: one CRC32C over the page.
pub fn seal_page(page: &mut [u8], address: &PageAddress, stripe: &StripeHeader) {
    let shape = stripe.shape;
    assert_eq!(page.len() as u64, page_bytes(shape.page_len_sectors), "a page is as long as its stripe says");
    assert!(stripe.is_valid(), "{stripe:?}");
    assert!(usize::from(address.shard) < stripe.profile.shards());
    page[AT_MAGIC..AT_VERSION].copy_from_slice(&MAGIC);
    page[AT_VERSION] = VERSION;
    page[AT_POOL..AT_VOLUME].copy_from_slice(&address.pool.0.to_le_bytes());
    page[AT_VOLUME..AT_SECTOR].copy_from_slice(&address.volume.0.to_le_bytes());
    page[AT_SECTOR..AT_PAYLOAD_LEN].copy_from_slice(&address.sector.to_le_bytes());
    page[AT_PAYLOAD_LEN..AT_SHARD].copy_from_slice(&stripe.payload_len_bytes.to_le_bytes());
    page[AT_SHARD] = address.shard;
    page[AT_PAGE_LEN] = shape.page_len_sectors;
    page[AT_DATA_PAGES] = shape.data_pages;
    page[AT_K] = stripe.profile.k;
    page[AT_M] = stripe.profile.m;
    page[AT_RESERVED..HEADER_BYTES].fill(0);
    let crc = crc_fast::crc32_iscsi(&page[AT_MAGIC..]);
    page[AT_CRC..AT_MAGIC].copy_from_slice(&crc.to_le_bytes());
}

/// Verifies that `page` (exactly one page, as long as the reader expects it) is the page of `address`.
///
/// Cost: one CRC32C over the page.
///
/// # Errors
/// [`PageError`]: rebuild the page from the rest of its stripe.
pub fn open_page(page: &[u8], address: &PageAddress) -> Result<StripeHeader, PageError> {
    let header = page.first_chunk::<HEADER_BYTES>().ok_or(PageError::Truncated)?;
    if header[AT_MAGIC..AT_VERSION] != MAGIC {
        return Err(PageError::NotAPage);
    }
    if u32::from_le_bytes(array(header, AT_CRC)) != crc_fast::crc32_iscsi(&page[AT_MAGIC..]) {
        return Err(PageError::Checksum);
    }
    if header[AT_VERSION] != VERSION {
        return Err(PageError::FutureVersion(header[AT_VERSION]));
    }
    let found = PageAddress {
        pool: PoolId(u128::from_le_bytes(array(header, AT_POOL))),
        volume: VolumeId(u64::from_le_bytes(array(header, AT_VOLUME))),
        sector: u32::from_le_bytes(array(header, AT_SECTOR)),
        shard: header[AT_SHARD],
    };
    if found != *address {
        return Err(PageError::Elsewhere(found));
    }
    let stripe = StripeHeader {
        profile: Profile { k: header[AT_K], m: header[AT_M] },
        shape: StripeShape { data_pages: header[AT_DATA_PAGES], page_len_sectors: header[AT_PAGE_LEN] },
        payload_len_bytes: u32::from_le_bytes(array(header, AT_PAYLOAD_LEN)),
    };
    let reserved_is_zero = header[AT_RESERVED..].iter().all(|&byte| byte == 0);
    if !stripe.is_valid() || !reserved_is_zero || usize::from(found.shard) >= stripe.profile.shards() {
        return Err(PageError::Invalid);
    }
    if page.len() as u64 != page_bytes(stripe.shape.page_len_sectors) {
        return Err(PageError::Invalid);
    }
    Ok(stripe)
}

/// As [`open_page`] for a reader that does not know how long the page is: `bytes` begin with it. Returns its header;
/// the page is as long as that says.
///
/// # Errors
/// [`PageError::Truncated`] also if the page, by its own word, is longer than `bytes`: give more. As for any page else.
pub fn open_page_prefix(bytes: &[u8], address: &PageAddress) -> Result<StripeHeader, PageError> {
    let header = bytes.first_chunk::<HEADER_BYTES>().ok_or(PageError::Truncated)?;
    if header[AT_MAGIC..AT_VERSION] != MAGIC {
        return Err(PageError::NotAPage);
    }
    let page_len_sectors = header[AT_PAGE_LEN];
    if !(1..=PAGE_MAX_SECTORS).contains(&page_len_sectors) {
        return Err(PageError::Checksum);
    }
    let len = usize::try_from(page_bytes(page_len_sectors)).map_err(|_| PageError::Invalid)?;
    open_page(bytes.get(..len).ok_or(PageError::Truncated)?, address)
}

impl StripeHeader {
    fn is_valid(&self) -> bool {
        let Profile { k, .. } = self.profile;
        let StripeShape { data_pages, page_len_sectors } = self.shape;
        (1..=SHARDS_MAX).contains(&self.profile.shards())
            && (1..=k).contains(&data_pages)
            && (1..=PAGE_MAX_SECTORS).contains(&page_len_sectors)
            && self.payload_len_bytes > 0
            && u64::from(self.payload_len_bytes)
                <= u64::from(data_pages) * page_payload_bytes(page_len_sectors)
    }
}

/// `N` bytes of a header from a constant offset.
fn array<const N: usize>(header: &[u8; HEADER_BYTES], at: usize) -> [u8; N] {
    let mut out = [0; N];
    out.copy_from_slice(&header[at..at + N]);
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address() -> PageAddress {
        PageAddress {
            pool: PoolId(0x0102_0304_0506_0708_090a_0b0c_0d0e_0f10),
            volume: VolumeId(0x1122_3344_5566_7788),
            sector: 0x0a0b_0c0d,
            shard: 5,
        }
    }

    fn stripe() -> StripeHeader {
        StripeHeader {
            profile: Profile { k: 4, m: 2 },
            shape: StripeShape { data_pages: 3, page_len_sectors: 1 },
            payload_len_bytes: 9000,
        }
    }

    fn sealed() -> Vec<u8> {
        let mut page = vec![0u8; 4096];
        for (index, byte) in page.iter_mut().enumerate().skip(64) {
            *byte = u8::try_from(index % 251).expect("below 251");
        }
        seal_page(&mut page, &address(), &stripe());
        page
    }

    #[test]
    fn a_page_at_the_head_of_longer_bytes_is_found_and_one_that_goes_on_is_asked_for() {
        let mut bytes = sealed();
        bytes.resize(12_000, 7);
        assert_eq!(open_page_prefix(&bytes, &address()), Ok(stripe()));
        assert_eq!(open_page_prefix(&bytes[..4_000], &address()), Err(PageError::Truncated));
        assert_eq!(open_page_prefix(&[0; 4096], &address()), Err(PageError::NotAPage));
        for bit in 0..4096 * 8 {
            let mut flipped = bytes.clone();
            flipped[bit / 8] ^= 1 << (bit % 8);
            assert!(open_page_prefix(&flipped, &address()).is_err(), "bit {bit}");
        }
    }

    #[test]
    fn header_bytes_of_version_1_never_change() {
        let page = sealed();
        let golden = [
            "c68f0e03",
            "42504701",
            "100f0e0d0c0b0a090807060504030201",
            "8877665544332211",
            "0d0c0b0a",
            "28230000",
            "05",
            "01",
            "03",
            "04",
            "02",
            "00000000000000000000000000000000000000",
        ]
        .concat();
        let hex: String = page[..64].iter().map(|byte| format!("{byte:02x}")).collect();
        assert_eq!(hex, golden);
        assert_eq!(open_page(&page, &address()), Ok(stripe()));
    }

    #[test]
    fn any_flipped_bit_is_noticed() {
        let page = sealed();
        for bit in 0..page.len() * 8 {
            let mut torn = page.clone();
            torn[bit / 8] ^= 1 << (bit % 8);
            assert!(open_page(&torn, &address()).is_err(), "bit {bit}");
        }
    }

    #[test]
    fn an_intact_page_of_another_place_is_refused_by_name() {
        let page = sealed();
        let mut elsewhere = address();
        elsewhere.volume = VolumeId(7);
        assert_eq!(open_page(&page, &elsewhere), Err(PageError::Elsewhere(address())));
        elsewhere = address();
        elsewhere.sector += 1;
        assert_eq!(open_page(&page, &elsewhere), Err(PageError::Elsewhere(address())));
        elsewhere = address();
        elsewhere.shard -= 1;
        assert_eq!(open_page(&page, &elsewhere), Err(PageError::Elsewhere(address())));
        elsewhere = address();
        elsewhere.pool = PoolId(1);
        assert_eq!(open_page(&page, &elsewhere), Err(PageError::Elsewhere(address())));
    }

    #[test]
    fn zeros_noise_and_every_prefix_are_refused() {
        assert_eq!(open_page(&[0; 4096], &address()), Err(PageError::NotAPage));
        assert_eq!(open_page(&[], &address()), Err(PageError::Truncated));
        let page = sealed();
        for len in 0..page.len() {
            assert!(open_page(&page[..len], &address()).is_err());
        }
        let mut rng = fastrand::Rng::with_seed(1);
        for _ in 0..1000 {
            let mut noise = vec![0u8; 4096];
            rng.fill(&mut noise);
            noise[AT_MAGIC..AT_VERSION].copy_from_slice(&MAGIC);
            assert!(open_page(&noise, &address()).is_err());
        }
    }

    #[test]
    fn a_valid_checksum_over_impossible_fields_is_refused() {
        for (at, value) in [(AT_PAGE_LEN, 0), (AT_PAGE_LEN, 2), (AT_DATA_PAGES, 5), (AT_K, 0), (63, 1)] {
            let mut page = sealed();
            page[at] = value;
            let crc = crc_fast::crc32_iscsi(&page[AT_MAGIC..]);
            page[..4].copy_from_slice(&crc.to_le_bytes());
            assert_eq!(open_page(&page, &address()), Err(PageError::Invalid), "byte {at}");
        }
        let mut page = sealed();
        page[AT_VERSION] = 2;
        let crc = crc_fast::crc32_iscsi(&page[AT_MAGIC..]);
        page[..4].copy_from_slice(&crc.to_le_bytes());
        assert_eq!(open_page(&page, &address()), Err(PageError::FutureVersion(2)));
    }
}
