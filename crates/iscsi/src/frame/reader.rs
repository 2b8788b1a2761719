//! Cuts a byte stream into headers and data segments.
//!
//! Bytes are read into a staging buffer, many PDUs at a time. The rest of a long data segment may
//! instead be read straight to where it belongs ([`FrameReader::direct_len`]).

use super::{padding, size};
use crate::digest::{DIGEST_LENGTH, RunningDigest, digest};
use crate::pdu::{BHS_LENGTH, BasicHeader, Bhs};

/// Staging buffer during login: ten thousand half-open connections must stay cheap.
const STAGING_LOGIN_BYTES: usize = 4096;

/// Staging buffer in the full feature phase.
const STAGING_BYTES: usize = 64 << 10;

/// Longest header: BHS, 255 words of AHS, digest. Always fits the staging buffer.
const HEADER_BYTES_MAX: usize = BHS_LENGTH + 255 * 4 + DIGEST_LENGTH;
const _: () = assert!(HEADER_BYTES_MAX <= STAGING_LOGIN_BYTES);

/// Shortest rest of a segment worth a read of its own.
const DIRECT_BYTES_MIN: u32 = 16 << 10;

/// A complete header.
pub(crate) struct Frame {
    pub(crate) bhs: Bhs,
    /// Additional header segments, empty for most PDUs.
    pub(crate) ahs: Vec<u8>,
    /// Bytes of data that follow.
    pub(crate) data_len: u32,
}

/// Why a stream cannot be cut any further.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum FrameError {
    HeaderDigest,
    /// A data segment longer than what this side declared.
    SegmentTooLong,
}

enum Part {
    Header,
    /// So many bytes of data are still to come, then padding and digest.
    Data {
        left: u32,
        padding: u8,
    },
}

/// See the module's description.
pub(crate) struct FrameReader {
    staging: Vec<u8>,
    start: usize,
    end: usize,
    part: Part,
    running: Option<RunningDigest>,
    header_digest: bool,
    data_digest: bool,
    segment_max: u32,
}

impl FrameReader {
    pub(crate) fn new(segment_max: u32) -> Self {
        Self {
            staging: vec![0; STAGING_LOGIN_BYTES],
            start: 0,
            end: 0,
            part: Part::Header,
            running: None,
            header_digest: false,
            data_digest: false,
            segment_max,
        }
    }

    /// From the next PDU on: full feature phase with these digests and segments of up to `segment_max` bytes.
    pub(crate) fn enter_full_feature(&mut self, header_digest: bool, data_digest: bool, segment_max: u32) {
        self.header_digest = header_digest;
        self.data_digest = data_digest;
        self.segment_max = segment_max;
        self.staging.resize(STAGING_BYTES, 0);
    }

    /// Room for more bytes. Never empty after everything cuttable was cut.
    pub(crate) fn space(&mut self) -> &mut [u8] {
        if self.start == self.end {
            (self.start, self.end) = (0, 0);
        } else if self.staging.len() - self.start < HEADER_BYTES_MAX || self.end == self.staging.len() {
            // What is left is a piece of a header or of a trailer: short.
            self.staging.copy_within(self.start..self.end, 0);
            (self.start, self.end) = (0, self.end - self.start);
        }
        self.staging.get_mut(self.end..).unwrap_or_default()
    }

    /// `count` bytes were put into [`FrameReader::space`].
    pub(crate) fn filled(&mut self, count: usize) {
        self.end = self.staging.len().min(self.end + count);
    }

    fn available(&self) -> &[u8] {
        self.staging.get(self.start..self.end).unwrap_or_default()
    }

    /// The next header, once it is there whole.
    pub(crate) fn next_header(&mut self) -> Result<Option<Frame>, FrameError> {
        debug_assert!(matches!(self.part, Part::Header));
        let Some((bhs, rest)) = self.available().split_first_chunk::<BHS_LENGTH>() else { return Ok(None) };
        let basic = BasicHeader::of(bhs);
        let data_len = basic.data_length.get();
        let ahs_len = usize::from(basic.ahs_words) * 4;
        let digest_len = if self.header_digest { DIGEST_LENGTH } else { 0 };
        if rest.len() < ahs_len + digest_len {
            return Ok(None);
        }
        if self.header_digest {
            let (covered, tail) = self.available().split_at(BHS_LENGTH + ahs_len);
            if tail.first_chunk() != Some(&digest(covered)) {
                return Err(FrameError::HeaderDigest);
            }
        }
        if data_len > self.segment_max {
            return Err(FrameError::SegmentTooLong);
        }
        let frame = Frame { bhs: *bhs, ahs: rest.get(..ahs_len).unwrap_or_default().to_vec(), data_len };
        self.start += BHS_LENGTH + ahs_len + digest_len;
        if data_len > 0 {
            self.part = Part::Data { left: data_len, padding: padding(data_len) };
            self.running = self.data_digest.then(RunningDigest::new);
        }
        Ok(Some(frame))
    }

    /// True while a data segment is being received, with its padding and digest.
    pub(crate) const fn in_data(&self) -> bool {
        matches!(self.part, Part::Data { .. })
    }

    /// The bytes of the current data segment that are there; each is seen once.
    pub(crate) fn take_data(&mut self) -> &[u8] {
        let Part::Data { left, .. } = &mut self.part else { return &[] };
        let bytes = self.staging.get(self.start..self.end).unwrap_or_default();
        let bytes = bytes.get(..size(*left)).unwrap_or(bytes);
        self.start += bytes.len();
        *left -= super::length(bytes.len());
        if let Some(running) = &mut self.running {
            running.update(bytes);
        }
        bytes
    }

    /// How many bytes of the current data segment may be read straight to their place; 0 for none.
    pub(crate) fn direct_len(&self) -> usize {
        match self.part {
            Part::Data { left, .. } if left >= DIRECT_BYTES_MIN && self.start == self.end => size(left),
            _ => 0,
        }
    }

    /// `bytes` were read straight to their place.
    pub(crate) fn direct_filled(&mut self, bytes: &[u8]) {
        if let Part::Data { left, .. } = &mut self.part {
            *left = left.saturating_sub(super::length(bytes.len()));
        }
        if let Some(running) = &mut self.running {
            running.update(bytes);
        }
    }

    /// `count` bytes were read to a place that is gone: the data is not to be used.
    pub(crate) fn direct_lost(&mut self, count: usize) {
        if let Part::Data { left, .. } = &mut self.part {
            *left = left.saturating_sub(super::length(count));
        }
    }

    /// Ends the current data segment once padding and digest are there: true when the digest fits.
    pub(crate) fn end_data(&mut self) -> Option<bool> {
        let Part::Data { left: 0, padding } = self.part else { return None };
        let padding = usize::from(padding);
        let digest_len = if self.running.is_some() { DIGEST_LENGTH } else { 0 };
        let trailer = self.staging.get(self.start..self.end)?.get(..padding + digest_len)?;
        let (pad, sent) = trailer.split_at(padding);
        let fits = self.running.as_mut().is_none_or(|running| {
            running.update(pad);
            running.finish() == sent
        });
        self.start += trailer.len();
        self.part = Part::Header;
        self.running = None;
        Some(fits)
    }
}
