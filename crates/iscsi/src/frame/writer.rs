//! Puts PDUs into a list of chunks for a gathering write.
//!
//! Headers, digests, padding and short data share buffers; long data goes out as the `Bytes` it came in.

use std::collections::VecDeque;

use bytes::{Buf, BufMut, Bytes, BytesMut};

use super::{length, padding, size};
use crate::digest::{RunningDigest, digest};
use crate::pdu::Bhs;

/// Data up to this length is copied behind its header: cheaper than one more entry in the write.
const COPY_BYTES_MAX: usize = 256;

/// Buffer for headers and short data; taken anew as it is used up.
const SCRATCH_BYTES: usize = 8 << 10;

/// See the module's description.
pub(crate) struct FrameWriter {
    scratch: BytesMut,
    header_digest: bool,
    data_digest: bool,
    running: Option<RunningDigest>,
    data_len: u32,
    written: usize,
}

impl FrameWriter {
    pub(crate) fn new() -> Self {
        Self {
            scratch: BytesMut::new(),
            header_digest: false,
            data_digest: false,
            running: None,
            data_len: 0,
            written: 0,
        }
    }

    pub(crate) fn set_digests(&mut self, header_digest: bool, data_digest: bool) {
        self.header_digest = header_digest;
        self.data_digest = data_digest;
    }

    /// Starts a PDU. Its header says how long the data is that follows.
    pub(crate) fn header(&mut self, bhs: &Bhs) {
        if self.scratch.capacity() - self.scratch.len() < bhs.len() {
            self.scratch.reserve(SCRATCH_BYTES);
        }
        self.scratch.put_slice(bhs);
        self.written += bhs.len();
        if self.header_digest {
            self.put(&digest(bhs));
        }
        self.data_len = 0;
        self.running = self.data_digest.then(RunningDigest::new);
    }

    fn put(&mut self, bytes: &[u8]) {
        self.scratch.put_slice(bytes);
        self.written += bytes.len();
    }

    /// A piece of the data.
    pub(crate) fn data(&mut self, bytes: Bytes, out: &mut VecDeque<Bytes>) {
        if let Some(running) = &mut self.running {
            running.update(&bytes);
        }
        self.data_len += length(bytes.len());
        if bytes.len() <= COPY_BYTES_MAX {
            self.put(&bytes);
        } else {
            self.flush(out);
            self.written += bytes.len();
            out.push_back(bytes);
        }
    }

    /// Ends a PDU: padding and digest.
    pub(crate) fn end(&mut self) {
        if self.data_len == 0 {
            return;
        }
        let pad = [0; 3];
        let pad = pad.get(..usize::from(padding(self.data_len))).unwrap_or_default();
        self.put(pad);
        if let Some(mut running) = self.running.take() {
            running.update(pad);
            self.put(&running.finish());
        }
    }

    /// Moves what is buffered to `out`.
    pub(crate) fn flush(&mut self, out: &mut VecDeque<Bytes>) {
        if !self.scratch.is_empty() {
            out.push_back(self.scratch.split().freeze());
        }
    }

    /// Bytes written since the last call.
    pub(crate) fn take_written(&mut self) -> usize {
        core::mem::take(&mut self.written)
    }

    /// Bytes written so far, since the last [`FrameWriter::take_written`].
    pub(crate) const fn written(&self) -> usize {
        self.written
    }
}

/// Data in pieces, consumed from the front.
#[derive(Debug, Default)]
pub(crate) struct Chunks {
    parts: VecDeque<Bytes>,
    len: u32,
}

impl Chunks {
    /// The first `len_max` bytes of `parts`.
    pub(crate) fn new(parts: Vec<Bytes>, len_max: u32) -> Self {
        let total: usize = parts.iter().map(Bytes::len).sum();
        Self { parts: VecDeque::from(parts), len: length(total).min(len_max) }
    }

    /// Bytes left.
    pub(crate) const fn len(&self) -> u32 {
        self.len
    }

    /// Sends the next `count` bytes through `writer`.
    pub(crate) fn write(&mut self, count: u32, writer: &mut FrameWriter, out: &mut VecDeque<Bytes>) {
        let mut count = count.min(self.len);
        self.len -= count;
        while count > 0 {
            let Some(part) = self.parts.front_mut() else { break };
            let piece = if part.len() > size(count) {
                part.split_to(size(count))
            } else {
                self.parts.pop_front().unwrap_or_default()
            };
            count -= length(piece.len());
            if piece.has_remaining() {
                writer.data(piece, out);
            }
        }
    }
}
