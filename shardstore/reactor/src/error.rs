//! What can go wrong with a drive, by what the caller must do.

/// Why an operation on a drive failed.
#[derive(Debug)]
pub enum IoError {
    /// No file of that name: the caller decides whether that is a loss.
    NotFound,
    /// The file exists already and the mode demanded a new one.
    AlreadyExists,
    /// The file system has no room: refuse new bytes, fence nothing.
    NoSpace,
    /// The drive was fenced after a failed durable write or by an operator: use other drives.
    Fenced,
    /// Fewer bytes than asked for lie before the end of the file.
    ShortRead {
        /// Bytes that were there.
        got_bytes: usize,
    },
    /// The kernel refused the operation: mark the drive suspect.
    Device(std::io::Error),
}

impl std::fmt::Display for IoError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            IoError::NotFound => f.write_str("no such file"),
            IoError::AlreadyExists => f.write_str("file exists"),
            IoError::NoSpace => f.write_str("no space left on the drive"),
            IoError::Fenced => f.write_str("the drive is fenced"),
            IoError::ShortRead { got_bytes } => {
                write!(f, "file ends after {got_bytes} of the bytes asked for")
            }
            IoError::Device(source) => write!(f, "device error: {source}"),
        }
    }
}

impl std::error::Error for IoError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            IoError::Device(source) => Some(source),
            _ => None,
        }
    }
}
