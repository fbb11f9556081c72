//! Reads a ZIP archive by ranges: where its directory is, the directory's entries, where a member's data begins.
//! Invariants: memory is one entry, whatever the archive holds; every offset is checked against the archive's size;
//! bytes that are no archive are an error, never a panic.
//! Not here: reading the ranges and inflating members (`handlers::zip`); archives of several volumes and encryption.

use std::ops::Range;

use bytes::Bytes;

/// How much of an archive's end holds the record that ends it, with the longest comment and the records of ZIP64.
pub const TAIL_BYTES: u64 = 22 + 65_535 + 20 + 56;
/// Length of the fixed part of the header before a member's data.
pub const LOCAL_HEADER_BYTES: u64 = 30;
/// Longest directory that is read, as in MinIO.
const DIRECTORY_BYTES_MAX: u64 = 100 << 20;

const END_BYTES: usize = 22;
const LOCATOR_BYTES: usize = 20;
const END_64_BYTES: usize = 56;
const ENTRY_BYTES: usize = 46;

/// The bytes are no ZIP archive that can be read here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MalformedZip;

/// Where an archive's directory is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Directory {
    /// Its bytes.
    pub range: Range<u64>,
    /// What is to be added to the offsets in it: the length of whatever stands before the archive.
    base_bytes: u64,
}

impl Directory {
    /// Finds it from the archive's last bytes, at most [`TAIL_BYTES`], of an archive of `size_bytes`.
    ///
    /// # Errors
    /// [`MalformedZip`], also for a directory of over 100 MiB.
    pub fn find(tail: &[u8], size_bytes: u64) -> Result<Directory, MalformedZip> {
        let tail_start = size_bytes.checked_sub(tail.len() as u64).ok_or(MalformedZip)?;
        let end_at = end_record(tail).ok_or(MalformedZip)?;
        let end = tail.get(end_at..).unwrap_or_default();
        let mut directory_bytes = u64::from(u32_at(end, 12)?);
        let mut offset_bytes = u64::from(u32_at(end, 16)?);
        let mut end_of_directory = tail_start + end_at as u64;
        if directory_bytes == u64::from(u32::MAX) || offset_bytes == u64::from(u32::MAX) {
            let at = end_64_record(tail, end_at, tail_start)?;
            let end_64 = tail.get(at..).unwrap_or_default();
            directory_bytes = u64_at(end_64, 40)?;
            offset_bytes = u64_at(end_64, 48)?;
            end_of_directory = tail_start + at as u64;
        }
        if directory_bytes > DIRECTORY_BYTES_MAX {
            return Err(MalformedZip);
        }
        let start = end_of_directory.checked_sub(directory_bytes).ok_or(MalformedZip)?;
        let base_bytes = start.checked_sub(offset_bytes).ok_or(MalformedZip)?;
        Ok(Directory { range: start..end_of_directory, base_bytes })
    }

    /// Where the header before a member's data begins.
    ///
    /// # Errors
    /// [`MalformedZip`].
    pub fn local_header(&self, entry: &Entry) -> Result<u64, MalformedZip> {
        let at = self.base_bytes.checked_add(entry.header_offset_bytes).ok_or(MalformedZip)?;
        if at < self.range.start { Ok(at) } else { Err(MalformedZip) }
    }

    /// The range of a member's data, from the fixed part of the header before it, which begins at `header_at`.
    ///
    /// # Errors
    /// [`MalformedZip`].
    pub fn data(&self, entry: &Entry, header_at: u64, header: &[u8]) -> Result<Range<u64>, MalformedZip> {
        if header.get(..4) != Some(b"PK\x03\x04") {
            return Err(MalformedZip);
        }
        let names_bytes = u64::from(u16_at(header, 26)?) + u64::from(u16_at(header, 28)?);
        let start = header_at.checked_add(LOCAL_HEADER_BYTES + names_bytes).ok_or(MalformedZip)?;
        let end = start.checked_add(entry.packed_bytes).ok_or(MalformedZip)?;
        if end <= self.range.start { Ok(start..end) } else { Err(MalformedZip) }
    }
}

/// The offset of the record that ends an archive: the last one whose comment reaches to the end.
fn end_record(tail: &[u8]) -> Option<usize> {
    let last = tail.len().checked_sub(END_BYTES)?;
    (0..=last).rev().find(|&at| {
        let record = &tail[at..];
        let comment_len = u16_at(record, 20).ok().map(usize::from);
        record.starts_with(b"PK\x05\x06") && comment_len == Some(record.len() - END_BYTES)
    })
}

fn end_64_record(tail: &[u8], end_at: usize, tail_start: u64) -> Result<usize, MalformedZip> {
    let locator_at = end_at.checked_sub(LOCATOR_BYTES).ok_or(MalformedZip)?;
    let locator = &tail[locator_at..end_at];
    if !locator.starts_with(b"PK\x06\x07") {
        return Err(MalformedZip);
    }
    // Where it says, or right before the locator if something stands before the archive.
    let said = u64_at(locator, 8)?.checked_sub(tail_start).and_then(|at| usize::try_from(at).ok());
    let before = locator_at.checked_sub(END_64_BYTES);
    let is_record = |at: &usize| {
        at.checked_add(END_64_BYTES).is_some_and(|end| end <= locator_at)
            && tail.get(*at..).is_some_and(|record| record.starts_with(b"PK\x06\x06"))
    };
    said.filter(is_record).or(before.filter(is_record)).ok_or(MalformedZip)
}

/// How a member is packed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Packing {
    /// As it is.
    Stored,
    /// Deflate.
    Deflated,
    /// In a way that is not read here, or encrypted.
    Unknown,
}

/// A member as the directory has it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// Its path.
    pub path: Bytes,
    /// How it is packed.
    pub packing: Packing,
    /// CRC-32 of its bytes.
    pub crc32: u32,
    /// Length as it is packed.
    pub packed_bytes: u64,
    /// Length.
    pub size_bytes: u64,
    header_offset_bytes: u64,
}

impl Entry {
    /// Whether it is a directory.
    pub fn is_directory(&self) -> bool {
        self.path.ends_with(b"/")
    }
}

/// A directory on its way.
#[derive(Debug, Default)]
pub struct DirectoryReader {
    gathered: Vec<u8>,
}

impl DirectoryReader {
    /// Takes bytes off `input`; `None` when it needs more.
    ///
    /// # Errors
    /// [`MalformedZip`].
    pub fn next(&mut self, input: &mut Bytes) -> Result<Option<Entry>, MalformedZip> {
        if !self.gather(input, ENTRY_BYTES) {
            return Ok(None);
        }
        if !self.gathered.starts_with(b"PK\x01\x02") {
            return Err(MalformedZip);
        }
        let lens = [28, 30, 32].map(|at| u16_at(&self.gathered, at).map(usize::from));
        let [path_len, extra_len, comment_len] = [lens[0]?, lens[1]?, lens[2]?];
        if !self.gather(input, ENTRY_BYTES + path_len + extra_len + comment_len) {
            return Ok(None);
        }
        let entry = entry_of(&self.gathered, path_len, extra_len)?;
        self.gathered.clear();
        Ok(Some(entry))
    }

    /// After the last byte: whether the directory is whole.
    ///
    /// # Errors
    /// [`MalformedZip`].
    pub fn finish(&self) -> Result<(), MalformedZip> {
        if self.gathered.is_empty() { Ok(()) } else { Err(MalformedZip) }
    }

    fn gather(&mut self, input: &mut Bytes, len: usize) -> bool {
        let wanted = len.saturating_sub(self.gathered.len()).min(input.len());
        self.gathered.extend_from_slice(&input.split_to(wanted));
        self.gathered.len() >= len
    }
}

fn entry_of(record: &[u8], path_len: usize, extra_len: usize) -> Result<Entry, MalformedZip> {
    let (flags, method) = (u16_at(record, 8)?, u16_at(record, 10)?);
    let is_encrypted = flags & 1 != 0;
    let path = record.get(ENTRY_BYTES..ENTRY_BYTES + path_len).ok_or(MalformedZip)?;
    let extra_at = ENTRY_BYTES + path_len;
    let extra = record.get(extra_at..extra_at + extra_len).ok_or(MalformedZip)?;
    let mut wide = Wide(zip_64_field(extra));
    // The order in which the field holds those that do not fit.
    let size_bytes = wide.or_else(u32_at(record, 24)?)?;
    let packed_bytes = wide.or_else(u32_at(record, 20)?)?;
    let header_offset_bytes = wide.or_else(u32_at(record, 42)?)?;
    Ok(Entry {
        path: Bytes::copy_from_slice(path),
        packing: match method {
            _ if is_encrypted => Packing::Unknown,
            0 if packed_bytes == size_bytes => Packing::Stored,
            8 => Packing::Deflated,
            _ => Packing::Unknown,
        },
        crc32: u32_at(record, 16)?,
        packed_bytes,
        size_bytes,
        header_offset_bytes,
    })
}

/// The numbers of 64 bits of an entry, in order.
struct Wide<'a>(&'a [u8]);

impl Wide<'_> {
    fn or_else(&mut self, narrow: u32) -> Result<u64, MalformedZip> {
        if narrow != u32::MAX {
            return Ok(u64::from(narrow));
        }
        let (number, rest) = self.0.split_first_chunk::<8>().ok_or(MalformedZip)?;
        self.0 = rest;
        Ok(u64::from_le_bytes(*number))
    }
}

/// The field of an entry's extra fields that ZIP64 adds; empty if there is none.
fn zip_64_field(mut extra: &[u8]) -> &[u8] {
    while let (Ok(id), Ok(len)) = (u16_at(extra, 0), u16_at(extra, 2)) {
        let Some((field, rest)) = extra[4..].split_at_checked(usize::from(len)) else { return &[] };
        if id == 1 {
            return field;
        }
        extra = rest;
    }
    &[]
}

fn u16_at(bytes: &[u8], at: usize) -> Result<u16, MalformedZip> {
    let found = bytes.get(at..).and_then(<[u8]>::first_chunk::<2>);
    found.map(|number| u16::from_le_bytes(*number)).ok_or(MalformedZip)
}

fn u32_at(bytes: &[u8], at: usize) -> Result<u32, MalformedZip> {
    let found = bytes.get(at..).and_then(<[u8]>::first_chunk::<4>);
    found.map(|number| u32::from_le_bytes(*number)).ok_or(MalformedZip)
}

fn u64_at(bytes: &[u8], at: usize) -> Result<u64, MalformedZip> {
    let found = bytes.get(at..).and_then(<[u8]>::first_chunk::<8>);
    found.map(|number| u64::from_le_bytes(*number)).ok_or(MalformedZip)
}

/// Reads any bytes as an archive, for the fuzzer.
#[cfg(any(test, feature = "fuzz"))]
#[doc(hidden)]
pub fn fuzz(bytes: &[u8]) {
    let tail = &bytes[bytes.len().saturating_sub(usize::try_from(TAIL_BYTES).unwrap_or(usize::MAX))..];
    let Ok(directory) = Directory::find(tail, bytes.len() as u64) else { return };
    assert!(directory.range.start <= directory.range.end && directory.range.end <= bytes.len() as u64);
    let slice = |range: Range<u64>| {
        let at = |offset: u64| usize::try_from(offset).ok();
        bytes.get(at(range.start)?..at(range.end)?)
    };
    let mut reader = DirectoryReader::default();
    for piece in slice(directory.range.clone()).unwrap_or_default().chunks(7) {
        let mut input = Bytes::copy_from_slice(piece);
        loop {
            match reader.next(&mut input) {
                Ok(Some(entry)) => {
                    let Ok(at) = directory.local_header(&entry) else { continue };
                    let header = slice(at..at.saturating_add(LOCAL_HEADER_BYTES)).unwrap_or_default();
                    if let Ok(data) = directory.data(&entry, at, header) {
                        assert!(slice(data).is_some());
                    }
                }
                Ok(None) => break,
                Err(MalformedZip) => return,
            }
        }
    }
    reader.finish().ok();
}

/// An archive of two stored members, for tests and the fuzzer.
#[cfg(any(test, feature = "fuzz"))]
#[doc(hidden)]
pub fn sample() -> Vec<u8> {
    let (mut archive, mut directory) = (Vec::new(), Vec::new());
    for (path, data) in [(&b"a.txt"[..], &b"hello"[..]), (b"dir/b", b"")] {
        let crc = crc_fast::checksum(crc_fast::CrcAlgorithm::Crc32IsoHdlc, data).to_le_bytes();
        let path_len = u16::try_from(path.len()).unwrap_or_default().to_le_bytes();
        let size = u32::try_from(data.len()).unwrap_or_default().to_le_bytes();
        let at = u32::try_from(archive.len()).unwrap_or_default().to_le_bytes();
        let common = [&[0; 8][..], &crc[..4], &size, &size, &path_len, &[0, 0]].concat();
        archive.extend_from_slice(&[&b"PK\x03\x04"[..], &[20, 0], &common, path, data].concat());
        directory
            .extend_from_slice(&[&b"PK\x01\x02"[..], &[20, 0, 20, 0], &common, &[0; 10], &at, path].concat());
    }
    let at = u32::try_from(archive.len()).unwrap_or_default().to_le_bytes();
    let len = u32::try_from(directory.len()).unwrap_or_default().to_le_bytes();
    let end = [&b"PK\x05\x06"[..], &[0, 0, 0, 0, 2, 0, 2, 0], &len, &at, &[0, 0]].concat();
    [archive, directory, end].concat()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;

    fn entries(archive: &[u8]) -> Result<(Directory, Vec<Entry>), MalformedZip> {
        let directory = Directory::find(archive, archive.len() as u64)?;
        let at = |offset: u64| usize::try_from(offset).unwrap();
        let (mut reader, mut entries) = (DirectoryReader::default(), Vec::new());
        for piece in archive[at(directory.range.start)..at(directory.range.end)].chunks(5) {
            let mut input = Bytes::copy_from_slice(piece);
            while let Some(entry) = reader.next(&mut input)? {
                entries.push(entry);
            }
        }
        reader.finish()?;
        Ok((directory, entries))
    }

    #[test]
    fn members_are_found_also_behind_a_comment_and_something_before_the_archive() {
        let mut commented = sample();
        let len = commented.len();
        commented[len - 2] = 4;
        commented.extend_from_slice(b"PK\x05\x06");
        let prefixed = [b"#!/bin/sh\n".to_vec(), sample()].concat();
        for archive in [sample(), commented, prefixed] {
            let (directory, entries) = entries(&archive).unwrap();
            let names: Vec<&[u8]> = entries.iter().map(|entry| &entry.path[..]).collect();
            assert_eq!(names, [&b"a.txt"[..], b"dir/b"]);
            assert_eq!((entries[0].packing, entries[0].size_bytes), (Packing::Stored, 5));
            let at = directory.local_header(&entries[0]).unwrap();
            let header = &archive[usize::try_from(at).unwrap()..];
            let data = directory.data(&entries[0], at, header).unwrap();
            let data = usize::try_from(data.start).unwrap()..usize::try_from(data.end).unwrap();
            assert_eq!(&archive[data], b"hello");
        }
    }

    #[test]
    fn what_is_near_an_archive_never_panics() {
        let archive = sample();
        fuzz(&archive);
        for at in 0..archive.len() {
            for value in [0, 0xff, archive[at].wrapping_add(1)] {
                let mut near = archive.clone();
                near[at] = value;
                fuzz(&near);
            }
            fuzz(&archive[..at]);
            fuzz(&archive[at..]);
        }
    }
}
