//! An extent: where a byte run of an object lies inside one volume.
//! Invariants: `len_bytes > 0`; every stripe of an extent but its last has full pages of 64 KiB and begins right
//! after the one before; `byte_in_stripe` counts payload bytes of the first stripe; `page_len_sectors` is the page
//! length of the last stripe (of the only one, for a packed extent).

use crate::id::VolumeId;

/// No extent is longer: far above any volume (32 segments of 256 MiB), and sums of lengths stay within 63 bits.
pub const EXTENT_MAX_BYTES: u64 = 1 << 48;

/// A byte run inside one volume.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Extent {
    /// The volume.
    pub volume: VolumeId,
    /// First sector, in every segment, of the first stripe.
    pub sector: u32,
    /// First byte within the payload of the first stripe.
    pub byte_in_stripe: u32,
    /// Length of the run.
    pub len_bytes: u64,
    /// Page length on disk of the last stripe, in sectors, 1 to 16.
    pub page_len_sectors: u8,
}

/// Why bytes are not an extent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ExtentError {
    /// Fewer bytes than an extent has.
    Truncated,
    /// A field is outside its bounds.
    Invalid,
}

impl std::fmt::Display for ExtentError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            ExtentError::Truncated => "extent record is cut short",
            ExtentError::Invalid => "extent record has a field outside its bounds",
        })
    }
}

impl std::error::Error for ExtentError {}

impl Extent {
    /// Length of the encoded form.
    pub const ENCODED_BYTES: usize = 8 + 4 + 4 + 8 + 1;

    /// Appends the encoded form.
    pub fn encode(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.volume.0.to_le_bytes());
        out.extend_from_slice(&self.sector.to_le_bytes());
        out.extend_from_slice(&self.byte_in_stripe.to_le_bytes());
        out.extend_from_slice(&self.len_bytes.to_le_bytes());
        out.push(self.page_len_sectors);
    }

    /// Decodes one extent and returns what follows it.
    ///
    /// # Errors
    /// [`ExtentError`]: the record that holds it is damaged.
    pub fn decode(bytes: &[u8]) -> Result<(Extent, &[u8]), ExtentError> {
        let (volume, rest) = bytes.split_first_chunk().ok_or(ExtentError::Truncated)?;
        let (sector, rest) = rest.split_first_chunk().ok_or(ExtentError::Truncated)?;
        let (byte_in_stripe, rest) = rest.split_first_chunk().ok_or(ExtentError::Truncated)?;
        let (len_bytes, rest) = rest.split_first_chunk().ok_or(ExtentError::Truncated)?;
        let (&page_len_sectors, rest) = rest.split_first().ok_or(ExtentError::Truncated)?;
        let extent = Extent {
            volume: VolumeId(u64::from_le_bytes(*volume)),
            sector: u32::from_le_bytes(*sector),
            byte_in_stripe: u32::from_le_bytes(*byte_in_stripe),
            len_bytes: u64::from_le_bytes(*len_bytes),
            page_len_sectors,
        };
        let is_length = (1..=EXTENT_MAX_BYTES).contains(&extent.len_bytes);
        if !is_length || !(1..=16).contains(&extent.page_len_sectors) {
            return Err(ExtentError::Invalid);
        }
        Ok((extent, rest))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_length_beyond_any_volume_is_damage_and_not_a_panic_later() {
        let mut extent =
            Extent { volume: VolumeId(7), sector: 1, byte_in_stripe: 2, len_bytes: 3, page_len_sectors: 4 };
        for (len_bytes, is_valid) in [(0, false), (3, true), (EXTENT_MAX_BYTES + 1, false), (u64::MAX, false)]
        {
            extent.len_bytes = len_bytes;
            let mut bytes = Vec::new();
            extent.encode(&mut bytes);
            assert_eq!(Extent::decode(&bytes).is_ok(), is_valid, "{len_bytes}");
        }
    }
}
