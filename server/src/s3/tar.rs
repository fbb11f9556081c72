//! Reads a tar archive as it streams by: POSIX ustar, pax records and GNU long names.
//! Invariants: memory is one record and at most one extension, whatever the archive holds; data passes as slices of
//! what came in; bytes that are no archive are an error, never a panic.
//! Not here: what becomes of members (`handlers::snowball`); links, devices and sparse files, which are passed over.

use bytes::Bytes;

/// Everything in an archive is padded to this.
const RECORD_BYTES: usize = 512;
/// Longest extension that is read: a name of 64 KiB, or as many pax records.
const EXTENSION_BYTES_MAX: u64 = 64 << 10;

/// A member of an archive.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Member {
    /// Its path as it stands in the archive.
    pub path: Vec<u8>,
    /// What it is.
    pub kind: MemberKind,
    /// How many bytes of data follow.
    pub size_bytes: u64,
    /// Its pax records but those that are read here.
    pub records: Vec<(Vec<u8>, Vec<u8>)>,
}

/// What a member is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum MemberKind {
    /// A file.
    #[default]
    File,
    /// A directory.
    Directory,
    /// Anything else.
    Other,
}

/// One event of an archive.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TarEvent {
    /// A member begins; its data follows.
    Member(Member),
    /// The next bytes of the member that began last; never empty.
    Data(Bytes),
}

/// The bytes are no tar archive, or it is cut short.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MalformedTar;

/// An archive on its way.
#[derive(Debug, Default)]
pub struct TarReader {
    state: State,
    /// Said by extensions of the member that follows them.
    said: Said,
}

#[derive(Debug)]
enum State {
    /// A header is gathered.
    Header(Vec<u8>),
    /// An extension is gathered.
    Extension { kind: u8, left_bytes: u64, gathered: Vec<u8>, padding_bytes: u64 },
    /// Bytes of a member follow.
    Data { left_bytes: u64, padding_bytes: u64 },
    /// Bytes that mean nothing follow.
    Skip { left_bytes: u64 },
    /// Whatever follows means nothing.
    Ended,
}

impl Default for State {
    fn default() -> State {
        State::Header(Vec::new())
    }
}

#[derive(Debug, Default)]
struct Said {
    path: Option<Vec<u8>>,
    size_bytes: Option<u64>,
    records: Vec<(Vec<u8>, Vec<u8>)>,
}

impl TarReader {
    /// Takes bytes off `input`; `None` when it needs more.
    ///
    /// # Errors
    /// [`MalformedTar`].
    pub fn next(&mut self, input: &mut Bytes) -> Result<Option<TarEvent>, MalformedTar> {
        loop {
            match &mut self.state {
                State::Header(gathered) => {
                    let wanted = RECORD_BYTES - gathered.len();
                    let taken = input.split_to(wanted.min(input.len()));
                    gathered.extend_from_slice(&taken);
                    if gathered.len() < RECORD_BYTES {
                        return Ok(None);
                    }
                    let header = std::mem::take(gathered);
                    if let Some(member) = self.header(&header)? {
                        return Ok(Some(TarEvent::Member(member)));
                    }
                }
                State::Extension { kind, left_bytes, gathered, padding_bytes } => {
                    let taken = take(input, left_bytes);
                    gathered.extend_from_slice(&taken);
                    if *left_bytes > 0 {
                        return Ok(None);
                    }
                    let (kind, gathered, left_bytes) = (*kind, std::mem::take(gathered), *padding_bytes);
                    self.state = State::Skip { left_bytes };
                    self.extension(kind, gathered)?;
                }
                State::Data { left_bytes, padding_bytes } => {
                    let data = take(input, left_bytes);
                    if *left_bytes == 0 {
                        self.state = State::Skip { left_bytes: *padding_bytes };
                    }
                    if !data.is_empty() {
                        return Ok(Some(TarEvent::Data(data)));
                    }
                    if matches!(self.state, State::Data { .. }) {
                        return Ok(None);
                    }
                }
                State::Skip { left_bytes } => {
                    drop(take(input, left_bytes));
                    if *left_bytes > 0 {
                        return Ok(None);
                    }
                    self.state = State::default();
                }
                State::Ended => {
                    input.clear();
                    return Ok(None);
                }
            }
        }
    }

    /// After the last byte: whether the archive is whole. One without its end marker is.
    ///
    /// # Errors
    /// [`MalformedTar`].
    pub fn finish(&self) -> Result<(), MalformedTar> {
        match &self.state {
            State::Ended => Ok(()),
            State::Header(gathered) if gathered.is_empty() => Ok(()),
            State::Skip { .. } => Ok(()),
            State::Header(_) | State::Extension { .. } | State::Data { .. } => Err(MalformedTar),
        }
    }

    /// Reads a header and goes on to what follows it; `None` for one that is no member.
    fn header(&mut self, header: &[u8]) -> Result<Option<Member>, MalformedTar> {
        if header.iter().all(|byte| *byte == 0) {
            self.state = State::Ended;
            return Ok(None);
        }
        let stated = number(field(header, 148, 8)).ok_or(MalformedTar)?;
        if stated != checksum(header) {
            return Err(MalformedTar);
        }
        let kind = header.get(156).copied().unwrap_or_default();
        let in_header = number(field(header, 124, 12)).ok_or(MalformedTar)?;
        if matches!(kind, b'x' | b'g' | b'L' | b'K') {
            if in_header > EXTENSION_BYTES_MAX {
                return Err(MalformedTar);
            }
            self.state = State::Extension {
                kind,
                left_bytes: in_header,
                gathered: Vec::new(),
                padding_bytes: padding_after(in_header),
            };
            return Ok(None);
        }
        let said = std::mem::take(&mut self.said);
        let path = said.path.unwrap_or_else(|| path_of(header));
        let kind = match kind {
            b'5' => MemberKind::Directory,
            b'0' | 0 | b'7' if path.ends_with(b"/") => MemberKind::Directory,
            b'0' | 0 | b'7' => MemberKind::File,
            _ => MemberKind::Other,
        };
        let size_bytes = said.size_bytes.unwrap_or(in_header);
        self.state = State::Data { left_bytes: size_bytes, padding_bytes: padding_after(size_bytes) };
        Ok(Some(Member { path, kind, size_bytes, records: said.records }))
    }

    fn extension(&mut self, kind: u8, gathered: Vec<u8>) -> Result<(), MalformedTar> {
        match kind {
            b'L' => {
                self.said.path = Some(until_nul(&gathered).to_vec());
                Ok(())
            }
            b'x' => {
                // Of several before one member the last counts, so that they cannot pile up.
                self.said.records.clear();
                self.pax(&gathered)
            }
            // Of all members that follow, or of links: nothing here needs it.
            _ => Ok(()),
        }
    }

    /// Records of the form `length key=value\n`.
    fn pax(&mut self, mut rest: &[u8]) -> Result<(), MalformedTar> {
        while !rest.is_empty() {
            let space = rest.iter().position(|byte| *byte == b' ').ok_or(MalformedTar)?;
            let len = decimal(&rest[..space]).and_then(|len| usize::try_from(len).ok());
            let len = len.filter(|len| *len > space + 1).ok_or(MalformedTar)?;
            let (record, after) = rest.split_at_checked(len).ok_or(MalformedTar)?;
            rest = after;
            let record = record[space + 1..].strip_suffix(b"\n").ok_or(MalformedTar)?;
            let equals = record.iter().position(|byte| *byte == b'=').ok_or(MalformedTar)?;
            let (key, value) = (&record[..equals], &record[equals + 1..]);
            match key {
                b"path" => self.said.path = Some(value.to_vec()),
                b"size" => self.said.size_bytes = Some(decimal(value).ok_or(MalformedTar)?),
                _ => self.said.records.push((key.to_vec(), value.to_vec())),
            }
        }
        Ok(())
    }
}

fn take(input: &mut Bytes, left_bytes: &mut u64) -> Bytes {
    let len = usize::try_from(*left_bytes).unwrap_or(usize::MAX).min(input.len());
    *left_bytes -= len as u64;
    input.split_to(len)
}

fn padding_after(size_bytes: u64) -> u64 {
    let record = RECORD_BYTES as u64;
    (record - size_bytes % record) % record
}

fn field(header: &[u8], at: usize, len: usize) -> &[u8] {
    header.get(at..at + len).unwrap_or_default()
}

fn until_nul(bytes: &[u8]) -> &[u8] {
    bytes.split(|byte| *byte == 0).next().unwrap_or_default()
}

/// The name, below its prefix in a POSIX header.
fn path_of(header: &[u8]) -> Vec<u8> {
    let name = until_nul(field(header, 0, 100));
    let prefix = until_nul(field(header, 345, 155));
    if field(header, 257, 6) == b"ustar\0" && !prefix.is_empty() {
        return [prefix, b"/", name].concat();
    }
    name.to_vec()
}

/// A number in octal, or in base 256 where its first bit says so.
fn number(field: &[u8]) -> Option<u64> {
    let (first, rest) = field.split_first()?;
    if first & 0x80 != 0 {
        let head = u64::from(first & 0x3f);
        // Below zero, or over 64 bits.
        if first & 0x40 != 0
            || rest.len() > 8 && (head != 0 || rest[..rest.len() - 8].iter().any(|b| *b != 0))
        {
            return None;
        }
        let tail = &rest[rest.len().saturating_sub(8)..];
        let start = if rest.len() < 8 { head } else { 0 };
        return Some(tail.iter().fold(start, |number, byte| (number << 8) | u64::from(*byte)));
    }
    let digits = until_nul(field).trim_ascii();
    digits.iter().try_fold(0u64, |number, digit| match digit {
        b'0'..=b'7' => number.checked_mul(8)?.checked_add(u64::from(digit - b'0')),
        _ => None,
    })
}

fn decimal(digits: &[u8]) -> Option<u64> {
    if digits.is_empty() {
        return None;
    }
    digits.iter().try_fold(0u64, |number, digit| match digit {
        b'0'..=b'9' => number.checked_mul(10)?.checked_add(u64::from(digit - b'0')),
        _ => None,
    })
}

/// The sum of all bytes, its own field taken as blanks.
fn checksum(header: &[u8]) -> u64 {
    let byte = |(at, byte): (usize, &u8)| if (148..156).contains(&at) { 32 } else { u64::from(*byte) };
    header.iter().enumerate().map(byte).sum()
}

/// Reads any bytes in pieces of 7, for the fuzzer.
#[cfg(any(test, feature = "fuzz"))]
#[doc(hidden)]
pub fn fuzz(bytes: &[u8]) {
    let mut reader = TarReader::default();
    for piece in bytes.chunks(7) {
        let mut input = Bytes::copy_from_slice(piece);
        loop {
            match reader.next(&mut input) {
                Ok(Some(TarEvent::Data(data))) => assert!(!data.is_empty()),
                Ok(Some(TarEvent::Member(_))) => {}
                Ok(None) => break,
                Err(MalformedTar) => return,
            }
        }
        assert!(input.is_empty(), "what needs more has taken all");
    }
    reader.finish().ok();
}

/// An archive of a member with pax records and one with a long name, for tests and the fuzzer.
#[cfg(any(test, feature = "fuzz"))]
#[doc(hidden)]
pub fn sample() -> Vec<u8> {
    let mut archive = entry(b"pax", b'x', b"22 path=p/from-record\n");
    archive.extend(entry(b"short", b'0', b"hello"));
    archive.extend(entry(b"@LongLink", b'L', &[b'n'; 300]));
    archive.extend(entry(b"short", b'0', b""));
    archive.resize(archive.len() + 2 * RECORD_BYTES, 0);
    archive
}

/// A header with its checksum, the data and its padding.
#[cfg(any(test, feature = "fuzz"))]
fn entry(name: &[u8], kind: u8, data: &[u8]) -> Vec<u8> {
    let mut entry = vec![0u8; RECORD_BYTES];
    entry[..name.len()].copy_from_slice(name);
    entry[124..135].copy_from_slice(format!("{:011o}", data.len()).as_bytes());
    entry[156] = kind;
    entry[257..263].copy_from_slice(b"ustar\0");
    let sum = format!("{:06o}\0 ", checksum(&entry));
    entry[148..156].copy_from_slice(sum.as_bytes());
    entry.extend_from_slice(data);
    entry.resize(entry.len().next_multiple_of(RECORD_BYTES), 0);
    entry
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;

    fn read(archive: &[u8], piece_len: usize) -> Result<Vec<(Member, Vec<u8>)>, MalformedTar> {
        let mut reader = TarReader::default();
        let mut members: Vec<(Member, Vec<u8>)> = Vec::new();
        for piece in archive.chunks(piece_len) {
            let mut input = Bytes::copy_from_slice(piece);
            while let Some(event) = reader.next(&mut input)? {
                match event {
                    TarEvent::Member(member) => members.push((member, Vec::new())),
                    TarEvent::Data(data) => members.last_mut().unwrap().1.extend_from_slice(&data),
                }
            }
        }
        reader.finish()?;
        Ok(members)
    }

    /// Story: extended headers in a row were all kept until a member came, so a small packed archive of nothing else took
    /// all memory. Found by reading.
    #[test]
    fn of_extended_headers_in_a_row_the_last_counts() {
        let archive = [
            entry(b"pax", b'x', b"6 a=1\n"),
            entry(b"pax", b'x', b"6 b=2\n"),
            entry(b"k", b'0', b""),
            vec![0; 1_024],
        ]
        .concat();
        let members = read(&archive, 512).unwrap();
        assert_eq!(members[0].0.records, [(b"b".to_vec(), b"2".to_vec())]);
    }

    #[test]
    fn members_come_with_their_data_however_the_archive_is_cut() {
        let long = vec![b'n'; 300];
        let pax = b"22 path=p/from-record\n33 minio.metadata.x-amz-meta-a=1\n";
        let archive = [
            entry(b"a/b.txt", b'0', b"hello"),
            entry(b"dir/", b'5', b""),
            entry(b"@LongLink", b'L', &long),
            entry(b"short", b'0', &[7; 1_024]),
            entry(b"pax", b'x', pax),
            entry(b"other", 0, b""),
            entry(b"link", b'2', b""),
            vec![0; 1_024],
            b"anything".to_vec(),
        ]
        .concat();
        for piece_len in [1, 511, 512, 10_000] {
            let members = read(&archive, piece_len).unwrap();
            let seen: Vec<(&[u8], MemberKind, usize)> =
                members.iter().map(|(member, data)| (&member.path[..], member.kind, data.len())).collect();
            assert_eq!(
                seen,
                [
                    (&b"a/b.txt"[..], MemberKind::File, 5),
                    (b"dir/", MemberKind::Directory, 0),
                    (&long, MemberKind::File, 1_024),
                    (b"p/from-record", MemberKind::File, 0),
                    (b"link", MemberKind::Other, 0),
                ]
            );
            let record = (b"minio.metadata.x-amz-meta-a".to_vec(), b"1".to_vec());
            assert_eq!(members[3].0.records, [record]);
        }
    }

    #[test]
    fn what_is_no_archive_or_cut_short_is_refused() {
        let whole = entry(b"a", b'0', b"hello");
        assert!(read(&whole, 100).is_ok(), "the end marker may be missing");
        assert_eq!(read(&whole[..514], 100), Err(MalformedTar));
        assert_eq!(read(&whole[..100], 100), Err(MalformedTar));
        let mut wrong = whole;
        wrong[0] ^= 1;
        assert_eq!(read(&wrong, 100), Err(MalformedTar), "the checksum of a header is checked");
        assert_eq!(read(&[b'x'; 600], 100), Err(MalformedTar));
        let pax = entry(b"pax", b'x', b"99 path=short\n");
        assert_eq!(read(&pax, 100), Err(MalformedTar));
    }

    #[test]
    fn numbers_are_octal_or_base_256() {
        assert_eq!(number(b"00000000144\0"), Some(100));
        assert_eq!(number(b" 144 \0"), Some(100));
        assert_eq!(number(b""), None);
        assert_eq!(number(b"9\0"), None);
        let large = [0x80, 0, 0, 0, 0, 0, 0, 2, 0, 0, 0, 0];
        assert_eq!(number(&large), Some(2 << 32));
        assert_eq!(number(&[0xff; 12]), None, "below zero");
    }

    #[test]
    fn what_is_near_an_archive_never_panics() {
        let archive =
            [entry(b"a", b'0', b"hello"), entry(b"pax", b'x', b"10 path=s\n"), entry(b"b", 0, b"")].concat();
        for at in 0..archive.len() {
            let mut near = archive.clone();
            near[at] = near[at].wrapping_add(1);
            fuzz(&near);
            fuzz(&archive[..at]);
        }
    }
}
