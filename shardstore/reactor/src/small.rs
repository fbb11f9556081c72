//! Whole small files over any [`Drive`]: identity, term, keys.
//! Invariants: a replaced file is, after any crash, wholly the old or wholly the new one; when the replacing
//! returns Ok it is the new one.
//! Not here: two writers of one path at once, which is a bug of the caller.

use crate::{AlignedBuf, Drive, DriveFile, IoError, OpenMode, SECTOR_BYTES};

/// Ends the name of the file that is about to replace another; one left over by a crash is harmless.
const NEW_SUFFIX: &str = ".new";

/// Reads a whole file of at most `len_max_bytes`.
///
/// # Errors
/// [`IoError::NotFound`]; [`IoError::ShortRead`] if the file is longer than that; what the drive says.
pub async fn read_small_file<D: Drive>(
    drive: &D,
    path: &str,
    len_max_bytes: usize,
) -> Result<Vec<u8>, IoError> {
    let file = drive.open(path, OpenMode::Read).await?;
    let len_bytes = usize::try_from(file.len_bytes().await?).unwrap_or(usize::MAX);
    if len_bytes > len_max_bytes {
        return Err(IoError::ShortRead { got_bytes: len_max_bytes });
    }
    if len_bytes == 0 {
        return Ok(Vec::new());
    }
    let buf = AlignedBuf::zeroed(len_bytes.next_multiple_of(SECTOR_BYTES));
    match file.read_at(0, buf).await {
        (Ok(()), buf) => Ok(buf[..len_bytes].to_vec()),
        // The last sector of a small file is partial; the bytes before its end are all there.
        (Err(IoError::ShortRead { got_bytes }), buf) if got_bytes == len_bytes => {
            Ok(buf[..len_bytes].to_vec())
        }
        (Err(error), _) => Err(error),
    }
}

/// Replaces a file durably: new file, flush, rename, flush of the directory.
///
/// If the future is dropped, the file is either the old or the new one.
///
/// # Errors
/// What the drive says; then either content may be found later.
pub async fn write_small_file<D: Drive>(drive: &D, path: &str, bytes: Vec<u8>) -> Result<(), IoError> {
    let new_path = format!("{path}{NEW_SUFFIX}");
    let file = match drive.open(&new_path, OpenMode::CreateNew).await {
        Err(IoError::AlreadyExists) => {
            drive.remove(&new_path).await?;
            drive.open(&new_path, OpenMode::CreateNew).await?
        }
        opened => opened?,
    };
    let len_bytes = bytes.len();
    if len_bytes > 0 {
        let mut buf = AlignedBuf::zeroed(len_bytes.next_multiple_of(SECTOR_BYTES));
        buf[..len_bytes].copy_from_slice(&bytes);
        let padded_bytes = buf.capacity_bytes();
        buf.set_len(padded_bytes);
        file.write_durable(0, vec![buf]).await.result?;
    }
    file.set_len(len_bytes as u64).await?;
    file.sync().await?;
    drive.rename(&new_path, path).await?;
    let directory = path.rsplit_once('/').map_or("", |(directory, _)| directory);
    drive.sync_dir(directory).await
}
