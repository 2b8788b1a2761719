//! From the operating system's errors to ours, with what to do next.

use block::{BlockError, ErrorKind};
use rustix::io::Errno;

/// The error of a request on an open disk.
pub(crate) fn request_error(disk: &str, action: &str, offset: u64, error: Errno) -> BlockError {
    let (kind, advice) = match error {
        Errno::NOSPC | Errno::DQUOT => {
            (ErrorKind::NoSpace, "the file system under it is full; free space there or move the file")
        }
        Errno::NODEV | Errno::NXIO => (ErrorKind::Device, "the disk is gone; check its cable, power or path"),
        Errno::ROFS | Errno::PERM => (ErrorKind::ReadOnly, "the disk became read-only; see the kernel log"),
        _ => (ErrorKind::Device, "the disk reports an error; see the kernel log (dmesg)"),
    };
    BlockError::new(kind, disk, format!("{action} failed: {error}: {advice}")).at(offset)
}

/// The error of opening, locking or measuring a disk.
pub(crate) fn open_error(disk: &str, error: Errno) -> BlockError {
    let (kind, message) = match error {
        Errno::NOENT | Errno::NOTDIR => (
            ErrorKind::NotFound,
            "there is no such file or device; check the path, or give PATH:SIZE to create a file".to_owned(),
        ),
        Errno::NODEV | Errno::NXIO | Errno::NOMEDIUM => {
            (ErrorKind::NotFound, "the device is gone or has no medium".to_owned())
        }
        Errno::ACCESS | Errno::PERM => (
            ErrorKind::Denied,
            "permission denied; run as root, or give this user read and write access to it".to_owned(),
        ),
        Errno::BUSY | Errno::TXTBSY => (
            ErrorKind::Busy,
            "it is mounted or in use (file system, swap, LVM, RAID or another program); `lsblk` shows by what"
                .to_owned(),
        ),
        Errno::AGAIN => (
            ErrorKind::Busy,
            "another process has it open, most likely another `palisade serve`; stop that one first".to_owned(),
        ),
        Errno::ROFS => (ErrorKind::ReadOnly, "it is on a read-only file system".to_owned()),
        Errno::NOSPC | Errno::DQUOT => (ErrorKind::NoSpace, "the file system under it is full".to_owned()),
        Errno::FBIG => {
            (ErrorKind::Invalid, "the file system under it does not take files of that size".to_owned())
        }
        other => (ErrorKind::Device, format!("cannot be opened: {other}")),
    };
    BlockError::new(kind, disk, message)
}

/// The error number in `error`, or `EIO` where there is none.
pub(crate) fn errno(error: &std::io::Error) -> Errno {
    Errno::from_io_error(error).unwrap_or(Errno::IO)
}
