//! The one error type of the model.

use std::fmt;

/// The result of an operation on the group.
pub type Result<T> = std::result::Result<T, Error>;

/// What went wrong, in the kinds that callers act on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ErrorKind {
    /// A value is not acceptable.
    Invalid,
    /// There is no such object.
    NotFound,
    /// The name, or another unique property, is taken.
    Exists,
    /// The object is being used.
    InUse,
    /// A network address is another program's, or not this machine's.
    AddressInUse,
    /// No room.
    NoSpace,
    /// The pool behind the object is not open.
    Offline,
    /// A device failed or vanished.
    Device,
    /// Stored data is damaged.
    Corrupt,
    /// The operating system forbids it.
    Denied,
    /// Unknown format or version on disk.
    Format,
    /// A fault of the program's own.
    Internal,
    /// What is encrypted is not open: the pool has to be unlocked.
    Locked,
}

/// An error: the kind to match on, what it happened to, and what a person needs to know.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Error {
    /// What callers act on.
    pub kind: ErrorKind,
    /// What it happened to: `volume mail`, `pool fast`, a path.
    pub object: String,
    /// What happened and what to do next.
    pub message: String,
}

impl Error {
    /// An error of a kind on an object.
    pub fn new(kind: ErrorKind, object: impl Into<String>, message: impl Into<String>) -> Self {
        Self { kind, object: object.into(), message: message.into() }
    }

    pub(crate) fn invalid(object: impl Into<String>, message: impl Into<String>) -> Self {
        Self::new(ErrorKind::Invalid, object, message)
    }

    pub(crate) fn not_found(what: &str, name: &str) -> Self {
        let message = format!("there is no such {what}; `palisade {what} list` shows what there is");
        Self::new(ErrorKind::NotFound, format!("{what} {name}"), message)
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.object, self.message)
    }
}

impl std::error::Error for Error {}

impl From<block::BlockError> for Error {
    fn from(error: block::BlockError) -> Self {
        use block::ErrorKind as Block;
        let kind = match error.kind {
            Block::Invalid | Block::ReadOnly => ErrorKind::Invalid,
            Block::Device => ErrorKind::Device,
            Block::Corrupt => ErrorKind::Corrupt,
            Block::NoSpace => ErrorKind::NoSpace,
            Block::Closed => ErrorKind::Offline,
            Block::Busy => ErrorKind::InUse,
            Block::NotFound => ErrorKind::NotFound,
            Block::Exists => ErrorKind::Exists,
            Block::Format => ErrorKind::Format,
            Block::Denied => ErrorKind::Denied,
            Block::Locked => ErrorKind::Locked,
            _ => ErrorKind::Internal,
        };
        let message = match error.offset {
            Some(offset) => format!("{} (at byte {offset})", error.message),
            None => error.message,
        };
        Self { kind, object: error.object, message }
    }
}
