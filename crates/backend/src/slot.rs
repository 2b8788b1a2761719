//! A request in the kernel's words, and the memory that the kernel reads them from.

use crate::request::{Request, VECTORS_MAX, Work};
use block::Persist;
use io_uring::{opcode, squeue, types};
use std::os::fd::AsRawFd;

/// A chunk of memory in the kernel's layout (`struct iovec`).
#[repr(C)]
struct Vector {
    base: *const u8,
    len: usize,
}

/// A request the kernel has, with the vectors it reads.
pub(crate) struct Slot {
    pub(crate) request: Request,
    vectors: Vec<Vector>,
}

impl Slot {
    pub(crate) fn new(request: Request) -> Self {
        Self { request, vectors: Vec::new() }
    }

    /// The kernel's description of the request's next step.
    pub(crate) fn entry(&mut self) -> squeue::Entry {
        let fd = types::Fd(self.request.file().as_raw_fd());
        let position = self.request.position();
        match &self.request.work {
            Work::Read(_) => {
                let target = self.request.read_target();
                opcode::Read::new(fd, target.as_mut_ptr(), clamp(target.len())).offset(position).build()
            }
            Work::Write { persist, .. } => {
                let flags = match persist {
                    Persist::Cached => 0,
                    Persist::Durable => rustix::io::ReadWriteFlags::DSYNC.bits() as i32,
                };
                self.write_entry(fd, position, flags)
            }
            Work::Discard { .. } | Work::Flush => unreachable!("discards and flushes go to the threads"),
        }
    }

    fn write_entry(&mut self, fd: types::Fd, position: u64, flags: i32) -> squeue::Entry {
        let sources =
            self.request.write_sources().map(|part| Vector { base: part.as_ptr(), len: part.len() });
        self.vectors = sources.collect();
        if let [only] = self.vectors.as_slice() {
            let write = opcode::Write::new(fd, only.base, clamp(only.len));
            return write.offset(position).rw_flags(flags).build();
        }
        debug_assert!(self.vectors.len() <= VECTORS_MAX);
        let count = self.vectors.len() as u32;
        opcode::Writev::new(fd, self.vectors.as_ptr().cast(), count).offset(position).rw_flags(flags).build()
    }
}

/// What one system call takes; the rest follows in another.
fn clamp(len: usize) -> u32 {
    u32::try_from(len).unwrap_or(u32::MAX).min(1 << 30)
}
