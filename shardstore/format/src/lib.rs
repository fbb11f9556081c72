//! Ids, addresses and on-disk codecs: the words that storage and metadata share.
//! Invariants: every codec is explicit little-endian, checked on decode, and never panics on what it reads.
//! Not here: I/O, async, S3. The bytes are drawn in docs/format.md.
#![forbid(unsafe_code)]

mod durable;
mod extent;
mod id;
mod identity;
mod page;
mod stripe;
mod volume;

pub use durable::Durable;
pub use extent::{EXTENT_MAX_BYTES, Extent, ExtentError};
pub use id::{DataId, DriveId, PoolId, VolumeId, WriterId};
pub use identity::{
    DriveIdentity, FormatPhase, IDENTITY_MAX_BYTES, IdentityError, LABEL_MAX_BYTES, MEMBERS_MAX,
    MasterKeyFile, Member, MemberPlan, Membership,
};
pub use page::{
    PAGE_MAX_SECTORS, PageAddress, PageError, SHARDS_MAX, StripeHeader, open_page, open_page_prefix,
    seal_page,
};
pub use stripe::{Layout, PageSpan, StripeShape, page_bytes, page_payload_bytes};
pub use volume::{
    GROWTH_STEP_BYTES, PAGE_HEADER_BYTES, PAGE_MAX_BYTES, PAGE_PAYLOAD_MAX_BYTES, Profile, SECTOR_BYTES,
    SEGMENT_BYTES, VolumeClass, VolumeDecodeError, VolumeRecord, VolumeState,
};
