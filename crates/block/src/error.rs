//! The one error type of disks, pools and volumes.

use std::fmt;

/// The result of an operation on a disk, a pool or a volume.
pub type Result<T> = std::result::Result<T, BlockError>;

/// What went wrong, in the few kinds that callers act on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ErrorKind {
    /// The range is not aligned, not inside the object, or the argument makes no sense.
    Invalid,
    /// The device reported an error, or vanished.
    Device,
    /// Stored data does not have the checksum it was written with, and no good copy is left.
    Corrupt,
    /// No space is left: nothing was changed, and the operation succeeds again once space is freed or added.
    NoSpace,
    /// The object does not take writes.
    ReadOnly,
    /// The object is closed, closing, or not open yet.
    Closed,
    /// Another process or another pool has it.
    Busy,
    /// There is no such object.
    NotFound,
    /// There is one of that name already.
    Exists,
    /// The operating system does not let this process have it.
    Denied,
    /// The on-disk format is of a version that this build does not know, or not Palisade's.
    Format,
    /// The object is encrypted and what opens it is not here: nothing was changed, and the operation succeeds once it is
    /// unlocked.
    Locked,
}

/// An error of a disk, a pool or a volume: the kind to match on, and what a person needs to know.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BlockError {
    /// What callers act on.
    pub kind: ErrorKind,
    /// What it happened to: a disk's path, a volume's name.
    pub object: String,
    /// Byte offset in the object, where one is known.
    pub offset: Option<u64>,
    /// What happened, and what to do next.
    pub message: String,
}

impl BlockError {
    /// An error of `kind` on `object`; `message` says what happened and what to do next.
    pub fn new(kind: ErrorKind, object: impl Into<String>, message: impl Into<String>) -> Self {
        Self { kind, object: object.into(), offset: None, message: message.into() }
    }

    /// The same error, at `offset` bytes in the object.
    #[must_use]
    pub fn at(mut self, offset: u64) -> Self {
        self.offset = Some(offset);
        self
    }
}

impl fmt::Display for BlockError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.object, self.message)?;
        match self.offset {
            Some(offset) => write!(f, " (at byte {offset})"),
            None => Ok(()),
        }
    }
}

impl std::error::Error for BlockError {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_say_what_happened_to_what_and_where() {
        let error = BlockError::new(ErrorKind::Corrupt, "vol1", "the checksum is wrong");
        assert_eq!(error.to_string(), "vol1: the checksum is wrong");
        assert_eq!((error.kind, error.offset), (ErrorKind::Corrupt, None));
        let error = error.at(8192);
        assert_eq!(error.offset, Some(8192));
        assert_eq!(error.to_string(), "vol1: the checksum is wrong (at byte 8192)");
    }
}
