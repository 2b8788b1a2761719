//! One command, and how the table spells it.

use super::layout::{Attention, Conflict, Feature, Field, Operation, OutLength, Reach, Timeouts, Transfer};
use crate::cdb::Cdb;

/// One supported command.
#[derive(Clone, Copy, Debug)]
pub struct Command {
    /// OPERATION CODE.
    pub opcode: u8,
    /// SERVICE ACTION, in byte 1 bits 4-0, if the operation code has any.
    pub service_action: Option<u8>,
    /// Name in the standards.
    pub name: &'static str,
    /// What it does.
    pub operation: Operation,
    /// Bytes of the CDB.
    pub cdb_len: u8,
    /// CDB USAGE DATA: operation code and service action as they are, and every bit that is evaluated.
    pub usage: [u8; Cdb::LEN],
    /// Bits that mean something only to a thin unit; a subset of `usage`.
    pub thin_bits: [u8; Cdb::LEN],
    /// Bits that may be set though nobody looks: hints and obsolete ones that hosts do send.
    pub ignored: [u8; Cdb::LEN],
    /// LOGICAL BLOCK ADDRESS.
    pub lba: Field,
    /// LIST IDENTIFIER.
    pub list: Field,
    /// TRANSFER LENGTH, ALLOCATION LENGTH and their kin.
    pub length: Field,
    /// What a length of 0 stands for: 256 in the six-byte reads and writes (SBC-3 5.10), else 0.
    pub length_if_zero: u32,
    /// Data direction and amount.
    pub transfer: Transfer,
    /// Timeouts.
    pub timeouts: Timeouts,
    /// Persistent reservation conflict.
    pub conflict: Conflict,
    /// Runs despite another nexus's RESERVE(6) (SPC-2 table 8).
    pub runs_despite_spc2_reserve: bool,
    /// Effect of a pending unit attention.
    pub attention: Attention,
    /// Fails with NOT READY while the unit is not ready.
    pub needs_ready: bool,
    /// Runs while the unit is being sanitized, and after that has failed (SBC-4 4.11); SANITIZE runs after a failure
    /// in any case.
    pub runs_despite_sanitize: bool,
    /// The paths it runs on.
    pub reach: Reach,
    /// Fails with DATA PROTECT while the unit is write-protected.
    pub writes: bool,
    /// Which units have it.
    pub feature: Feature,
}

#[expect(clippy::indexing_slicing, reason = "the table is built by the compiler, which checks each index")]
impl Command {
    /// A command without fields, data, or special rules.
    pub(crate) const fn new(opcode: u8, cdb_len: u8, name: &'static str, operation: Operation) -> Self {
        let mut usage = [0; Cdb::LEN];
        usage[0] = opcode;
        Self {
            opcode,
            service_action: None,
            name,
            operation,
            cdb_len,
            usage,
            thin_bits: [0; Cdb::LEN],
            ignored: [0; Cdb::LEN],
            lba: Field::NONE,
            list: Field::NONE,
            length: Field::NONE,
            length_if_zero: 0,
            transfer: Transfer::None,
            timeouts: Timeouts { nominal_seconds: 0, recommended_seconds: 30 },
            conflict: Conflict::Never,
            runs_despite_spc2_reserve: false,
            attention: Attention::Ends,
            needs_ready: true,
            runs_despite_sanitize: false,
            reach: Reach::Active,
            writes: false,
            feature: Feature::Any,
        }
    }

    pub(crate) const fn service_action(mut self, action: u8) -> Self {
        self.service_action = Some(action);
        self.usage[1] = action;
        self
    }

    pub(crate) const fn bits(mut self, byte: usize, mask: u8) -> Self {
        self.usage[byte] |= mask;
        self
    }

    pub(crate) const fn thin_bits(mut self, byte: usize, mask: u8) -> Self {
        self.thin_bits[byte] |= mask;
        self.bits(byte, mask)
    }

    pub(crate) const fn ignores(mut self, byte: usize, mask: u8) -> Self {
        self.ignored[byte] |= mask;
        self
    }

    pub(crate) const fn lba(mut self, byte: u8, len: u8) -> Self {
        self.lba = Self::field(byte, len);
        self.with_usage_of(self.lba)
    }

    /// LIST IDENTIFIER of the third-party copy commands, which have no LOGICAL BLOCK ADDRESS.
    pub(crate) const fn list_identifier(mut self, byte: u8, len: u8) -> Self {
        self.list = Self::field(byte, len);
        self.with_usage_of(self.list)
    }

    pub(crate) const fn length(mut self, byte: u8, len: u8) -> Self {
        self.length = Self::field(byte, len);
        self.with_usage_of(self.length)
    }

    const fn field(byte: u8, len: u8) -> Field {
        let mut mask = 0;
        let mut at = 0;
        while at < len {
            mask = mask << 8 | 0xff;
            at += 1;
        }
        Field { byte, len, mask }
    }

    /// READ(6), WRITE(6): 21 bits of address, one byte of length.
    pub(crate) const fn six_byte_fields(mut self) -> Self {
        self.lba = Field { byte: 1, len: 3, mask: 0x1f_ffff };
        self.length_if_zero = 256;
        self.bits(1, 0x1f).bits(2, 0xff).bits(3, 0xff).length(4, 1)
    }

    const fn with_usage_of(mut self, field: Field) -> Self {
        // The field's bytes at the start of the CDB read as one number, moved down to where they belong.
        let bits = u128::MAX << (128 - 8 * field.len) >> (8 * field.byte);
        self.usage = (u128::from_be_bytes(self.usage) | bits).to_be_bytes();
        self
    }

    pub(crate) const fn transfer(mut self, transfer: Transfer) -> Self {
        self.transfer = transfer;
        self
    }

    pub(crate) const fn out(self, length: OutLength) -> Self {
        self.transfer(Transfer::Out(length))
    }

    pub(crate) const fn seconds(mut self, nominal: u32, recommended: u32) -> Self {
        self.timeouts = Timeouts { nominal_seconds: nominal, recommended_seconds: recommended };
        self
    }

    /// Reads the medium.
    pub(crate) const fn reading(mut self) -> Self {
        self.conflict = Conflict::ExclusiveAccess;
        self
    }

    /// Writes the medium.
    pub(crate) const fn writing(mut self) -> Self {
        self.writes = true;
        self.conflicts(Conflict::Any)
    }

    pub(crate) const fn conflicts(mut self, conflict: Conflict) -> Self {
        self.conflict = conflict;
        self
    }

    pub(crate) const fn runs_despite_spc2_reserve(mut self) -> Self {
        self.runs_despite_spc2_reserve = true;
        self
    }

    pub(crate) const fn attention(mut self, attention: Attention) -> Self {
        self.attention = attention;
        self
    }

    /// Describes the unit rather than its medium: runs while the unit is not ready.
    pub(crate) const fn always(mut self) -> Self {
        self.needs_ready = false;
        self
    }

    pub(crate) const fn runs_despite_sanitize(mut self) -> Self {
        self.runs_despite_sanitize = true;
        self
    }

    /// Runs on paths as bad as `reach` says.
    pub(crate) const fn reaches(mut self, reach: Reach) -> Self {
        self.reach = reach;
        self
    }

    /// Exists only where copies are offloaded to the unit.
    pub(crate) const fn offload_only(mut self) -> Self {
        self.feature = Feature::Offload;
        self
    }

    pub(crate) const fn thin_only(mut self) -> Self {
        self.feature = Feature::Thin;
        self
    }

    pub(crate) const fn sanitize_only(mut self) -> Self {
        self.feature = Feature::Sanitize;
        self
    }

    pub(crate) const fn crypto_erase_only(mut self) -> Self {
        self.feature = Feature::CryptoErase;
        self
    }

    pub(crate) const fn atomic_only(mut self) -> Self {
        self.feature = Feature::Atomic;
        self
    }
}

impl Command {
    /// LOGICAL BLOCK ADDRESS of `cdb`.
    pub fn lba_of(&self, cdb: &Cdb) -> u64 {
        self.lba.read(cdb)
    }

    /// LIST IDENTIFIER of `cdb`.
    pub fn list_of(&self, cdb: &Cdb) -> u32 {
        // No list identifier is longer than four bytes.
        u32::try_from(self.list.read(cdb)).unwrap_or(u32::MAX)
    }

    /// The length field of `cdb`, in the unit the command counts in.
    pub fn length_of(&self, cdb: &Cdb) -> u32 {
        // No length field is longer than four bytes, as the table's tests check.
        match u32::try_from(self.length.read(cdb)).unwrap_or(u32::MAX) {
            0 => self.length_if_zero,
            length => length,
        }
    }

    /// Data-Out bytes `cdb` takes, saturating.
    pub fn data_out_len(&self, cdb: &Cdb, block_size: u32) -> u32 {
        let Transfer::Out(length) = self.transfer else { return 0 };
        let blocks = self.length_of(cdb);
        match length {
            OutLength::Bytes => blocks,
            OutLength::Blocks => blocks.saturating_mul(block_size),
            OutLength::TwiceBlocks => blocks.saturating_mul(block_size).saturating_mul(2),
            OutLength::OneBlock => block_size,
            OutLength::OneBlockUnlessNdob => {
                if cdb.bit(1, 0x01) {
                    0
                } else {
                    block_size
                }
            }
            OutLength::ByteCheck => match (cdb.byte(1) >> 1) & 0x03 {
                1 => blocks.saturating_mul(block_size),
                // Nothing is compared when the range is empty.
                3 if blocks != 0 => block_size,
                _ => 0,
            },
        }
    }

    /// CDB USAGE DATA for a unit that is `thin` or not.
    pub fn usage_for(&self, thin: bool) -> [u8; Cdb::LEN] {
        let mut usage = self.usage;
        if !thin {
            usage.iter_mut().zip(self.thin_bits).for_each(|(bits, thin_bits)| *bits &= !thin_bits);
        }
        usage
    }

    /// The most significant bit of `cdb` that must not be set, as byte and bit number.
    ///
    /// What lies behind the command's CDB is padding and not looked at.
    pub(crate) fn reserved_bit(&self, cdb: &Cdb, thin: bool) -> Option<(u16, u8)> {
        let usage = u128::from_be_bytes(if thin { self.usage } else { self.usage_for(false) });
        let header = 0xff_u128 << 120;
        let service_action = if self.service_action.is_some() { 0x1f_u128 << 112 } else { 0 };
        let padding = u128::MAX.checked_shr(8 * u32::from(self.cdb_len)).unwrap_or(0);
        let allowed = usage | u128::from_be_bytes(self.ignored) | header | service_action | padding;
        let wrong = cdb.as_number() & !allowed;
        if wrong == 0 {
            return None;
        }
        let leading = wrong.leading_zeros();
        let byte = u16::try_from(leading / 8).unwrap_or(0);
        let bit = u8::try_from(7 - leading % 8).unwrap_or(0);
        Some((byte, bit))
    }
}
