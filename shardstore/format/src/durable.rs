//! Proof before publish: metadata commits take evidence that bytes are durable.

use crate::Extent;

/// Evidence that the bytes of these extents are on stable media on every shard of their volumes.
///
/// Made only by the store, after its writes completed. It keeps the volumes pinned while it lives, so a commit
/// takes it by value and drops it when the outcome is known.
pub trait Durable {
    /// The extents, in the order of the bytes.
    fn extents(&self) -> &[Extent];
}
