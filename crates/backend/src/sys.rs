//! What no library offers safely: discarding a range of a block device, and a device's size.

use rustix::io::Errno;
use std::fs::File;

/// `_IO(0x12, 119)`: takes two 64-bit numbers, first byte and length.
const BLKDISCARD: rustix::ioctl::Opcode = rustix::ioctl::opcode::none(0x12, 119);

/// Tells a block device that a range is not needed (`BLKDISCARD`).
#[allow(unsafe_code, reason = "the ioctl has no safe wrapper")]
pub(crate) fn discard_device(file: &File, offset: u64, len: u64) -> Result<(), Errno> {
    // SAFETY: BLKDISCARD reads exactly two u64 through its pointer, which is what `Setter` of `[u64; 2]` passes,
    // and changes no memory of this process. On anything but a block device it fails with ENOTTY.
    unsafe {
        let request = rustix::ioctl::Setter::<BLKDISCARD, [u64; 2]>::new([offset, len]);
        rustix::ioctl::ioctl(file, request)
    }
}
