//! The key area: the wrapped keys of a pool, twice on each of its disks, at a place of its own where it is overwritten.

use super::bytes::{array_at, is_sealed, put, seal, u16_at, u32_at, u64_at};
use super::{BLOCK_SIZE, Invalid, PoolId, crc32c};
use std::collections::BTreeMap;

/// Where the two copies are on each disk, in bytes.
pub(crate) const COPIES_AT: [u64; 2] = [16 << 10, 512 << 10];
/// Bytes of a copy.
pub(crate) const AREA_BYTES: usize = 496 << 10;
/// Key slots of a pool.
pub(crate) const SLOTS: usize = 8;
/// Families whose keys a pool can have.
pub(crate) const FAMILIES_MAX: usize = (AREA_BYTES / BLOCK_SIZE - 1) * PER_BLOCK;

/// Bytes of a key that wraps others.
pub(crate) const WRAPPING_KEY_BYTES: usize = 32;
/// Bytes of a nonce of XChaCha20-Poly1305.
pub(crate) const NONCE_BYTES: usize = 24;
/// Bytes that it adds.
const TAG_BYTES: usize = 16;
/// Bytes of a salt.
pub(crate) const SALT_BYTES: usize = 32;
/// Bytes of a wrapped pool key, and of a wrapped data key.
pub(crate) const POOL_KEY_WRAPPED: usize = WRAPPING_KEY_BYTES + TAG_BYTES;
pub(crate) const DATA_KEY_WRAPPED: usize = 64 + TAG_BYTES;

const MAGIC: &[u8; 8] = b"PALISKEY";
const VERSION: u16 = 1;
const FLAG_ENCRYPT_NEW: u8 = 1;
const SLOTS_AT: usize = 128;
const SLOT_BYTES: usize = 256;
const FAMILY_BYTES: usize = 128;
const PER_BLOCK: usize = BLOCK_SIZE / FAMILY_BYTES;
const _: () = assert!(SLOTS_AT + SLOTS * SLOT_BYTES <= BLOCK_SIZE);
const _: () = assert!(COPIES_AT[0] + 496 * 1024 == COPIES_AT[1] && COPIES_AT[1] + 496 * 1024 <= 1 << 20);

/// The number of a family: volumes, snapshots and clones that have layers in common, and so a data key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct FamilyId(pub(crate) u64);

/// What turns a passphrase into a key: the parameters of Argon2id. Higher ones make guessing, and unlocking, slower.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct KeyCost {
    /// Memory in KiB.
    pub memory_kib: u32,
    /// How often all of it is gone through.
    pub passes: u32,
    /// Parallel lanes.
    pub lanes: u32,
}

impl Default for KeyCost {
    fn default() -> Self {
        Self { memory_kib: 64 << 10, passes: 3, lanes: 1 }
    }
}

impl KeyCost {
    /// True for what is not too much for this machine.
    fn is_sane(self) -> bool {
        let Self { memory_kib, passes, lanes } = self;
        (8..=1 << 20).contains(&memory_kib) && (1..=64).contains(&passes) && (1..=16).contains(&lanes)
    }
}

/// What opens a slot.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum SlotKind {
    Passphrase(KeyCost),
    KeyFile,
}

/// The pool key, wrapped with what a passphrase or key file gives.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Slot {
    pub(crate) kind: SlotKind,
    pub(crate) salt: [u8; SALT_BYTES],
    pub(crate) nonce: [u8; NONCE_BYTES],
    pub(crate) wrapped: [u8; POOL_KEY_WRAPPED],
}

/// A family's data key, wrapped with the pool key.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Family {
    pub(crate) nonce: [u8; NONCE_BYTES],
    pub(crate) wrapped: [u8; DATA_KEY_WRAPPED],
}

/// All of it.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct KeyArea {
    pub(crate) pool: PoolId,
    /// Each change adds one.
    pub(crate) generation: u64,
    /// Names the pool key; a new one has another.
    pub(crate) key: [u8; 16],
    /// Number of the next family.
    pub(crate) next_family: FamilyId,
    /// New volumes are encrypted unless something else is asked for.
    pub(crate) encrypt_new: bool,
    pub(crate) slots: [Option<Slot>; SLOTS],
    pub(crate) families: BTreeMap<FamilyId, Family>,
}

impl KeyArea {
    /// The area's first blocks; those behind are zeros.
    pub(crate) fn encode(&self) -> Vec<u8> {
        assert!(self.families.len() <= FAMILIES_MAX, "the number of families is checked before");
        let mut area = vec![0; BLOCK_SIZE * (1 + self.families.len().div_ceil(PER_BLOCK))];
        let (header, rest) = area.split_at_mut(BLOCK_SIZE);
        for ((id, family), at) in self.families.iter().zip(rest.chunks_exact_mut(FAMILY_BYTES)) {
            put(at, 0, &id.0.to_le_bytes());
            put(at, 8, &family.nonce);
            put(at, 32, &family.wrapped);
        }
        put(header, 0, MAGIC);
        put(header, 12, &VERSION.to_le_bytes());
        put(header, 16, &self.pool);
        put(header, 32, &self.generation.to_le_bytes());
        let count = u32::try_from(self.families.len()).unwrap_or(0);
        put(header, 40, &count.to_le_bytes());
        put(header, 44, &crc32c(rest).to_le_bytes());
        put(header, 48, &self.next_family.0.to_le_bytes());
        put(header, 56, &[if self.encrypt_new { FLAG_ENCRYPT_NEW } else { 0 }]);
        put(header, 64, &self.key);
        for (slot, at) in self.slots.iter().zip(header[SLOTS_AT..].chunks_exact_mut(SLOT_BYTES)) {
            slot.iter().for_each(|slot| slot.encode(at));
        }
        seal(header);
        area
    }

    /// The keys in `area`.
    pub(crate) fn decode(area: &[u8]) -> Result<Self, Invalid> {
        let Some((header, rest)) = area.split_at_checked(BLOCK_SIZE) else { return Err(Invalid::Magic) };
        if &array_at::<8>(header, 0) != MAGIC {
            return Err(Invalid::Magic);
        }
        if !is_sealed(header) {
            return Err(Invalid::Checksum);
        }
        let version = u16_at(header, 12);
        if version != VERSION {
            return Err(Invalid::Version(version));
        }
        let count = usize::try_from(u32_at(header, 40)).unwrap_or(usize::MAX);
        if count > FAMILIES_MAX {
            return Err(Invalid::Field("number of families"));
        }
        let Some(rest) = rest.get(..count.div_ceil(PER_BLOCK) * BLOCK_SIZE) else {
            return Err(Invalid::Field("number of families"));
        };
        if crc32c(rest) != u32_at(header, 44) {
            return Err(Invalid::Checksum);
        }
        let mut slots = [const { None }; SLOTS];
        for (slot, at) in slots.iter_mut().zip(header[SLOTS_AT..].chunks_exact(SLOT_BYTES)) {
            *slot = Slot::decode(at)?;
        }
        let family = |at: &[u8]| {
            let family = Family { nonce: array_at(at, 8), wrapped: array_at(at, 32) };
            (FamilyId(u64_at(at, 0)), family)
        };
        let families: BTreeMap<_, _> = rest.chunks_exact(FAMILY_BYTES).take(count).map(family).collect();
        let next_family = FamilyId(u64_at(header, 48));
        let last = families.keys().next_back().copied();
        if families.len() != count || families.contains_key(&FamilyId(0)) || last >= Some(next_family) {
            return Err(Invalid::Field("number of a family"));
        }
        Ok(Self {
            pool: array_at(header, 16),
            generation: u64_at(header, 32),
            key: array_at(header, 64),
            next_family,
            encrypt_new: array_at::<1>(header, 56)[0] & FLAG_ENCRYPT_NEW != 0,
            slots,
            families,
        })
    }
}

impl Slot {
    fn encode(&self, at: &mut [u8]) {
        let cost = match self.kind {
            SlotKind::Passphrase(cost) => cost,
            SlotKind::KeyFile => KeyCost { memory_kib: 0, passes: 0, lanes: 0 },
        };
        put(at, 0, &[if self.kind == SlotKind::KeyFile { 2 } else { 1 }]);
        put(at, 4, &cost.memory_kib.to_le_bytes());
        put(at, 8, &cost.passes.to_le_bytes());
        put(at, 12, &cost.lanes.to_le_bytes());
        put(at, 16, &self.salt);
        put(at, 48, &self.nonce);
        put(at, 72, &self.wrapped);
    }

    fn decode(at: &[u8]) -> Result<Option<Self>, Invalid> {
        let cost = KeyCost { memory_kib: u32_at(at, 4), passes: u32_at(at, 8), lanes: u32_at(at, 12) };
        let kind = match array_at::<1>(at, 0)[0] {
            0 => return Ok(None),
            1 if cost.is_sane() => SlotKind::Passphrase(cost),
            1 => return Err(Invalid::Field("cost of a passphrase")),
            2 => SlotKind::KeyFile,
            _ => return Err(Invalid::Field("kind of a key slot")),
        };
        Ok(Some(Self { kind, salt: array_at(at, 16), nonce: array_at(at, 48), wrapped: array_at(at, 72) }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn area(families: u64) -> KeyArea {
        let slot = |kind| Slot {
            kind,
            salt: [1; SALT_BYTES],
            nonce: [2; NONCE_BYTES],
            wrapped: [3; POOL_KEY_WRAPPED],
        };
        let mut slots = [const { None }; SLOTS];
        slots[0] = Some(slot(SlotKind::Passphrase(KeyCost::default())));
        slots[7] = Some(slot(SlotKind::KeyFile));
        let family = |id| (FamilyId(id), Family { nonce: [4; NONCE_BYTES], wrapped: [5; DATA_KEY_WRAPPED] });
        KeyArea {
            pool: [6; 16],
            generation: 9,
            key: [7; 16],
            next_family: FamilyId(families + 1),
            encrypt_new: true,
            slots,
            families: (1..=families).map(family).collect(),
        }
    }

    fn whole(area: &KeyArea) -> Vec<u8> {
        let mut bytes = area.encode();
        bytes.resize(AREA_BYTES, 0);
        bytes
    }

    #[test]
    fn keys_come_back_as_they_were_from_none_to_the_most() {
        assert_eq!(FAMILIES_MAX, 3936, "as docs/format.md says");
        for families in [0, 1, 32, 33, 3936] {
            let area = area(families);
            assert!(KeyArea::decode(&whole(&area)) == Ok(area), "{families} families");
        }
    }

    #[test]
    fn any_flipped_byte_of_what_is_used_is_noticed() {
        let good = area(3).encode();
        for at in 0..BLOCK_SIZE + 3 * FAMILY_BYTES {
            let mut bad = good.clone();
            bad[at] ^= 1;
            assert!(KeyArea::decode(&bad).is_err(), "byte {at}");
        }
    }

    #[test]
    fn what_makes_no_sense_is_refused_though_its_checksum_fits() {
        let changed = |at: usize, bytes: &[u8]| {
            let mut area = whole(&area(1));
            put(&mut area, at, bytes);
            put(&mut area, 8, &[0; 4]);
            seal(&mut area[..BLOCK_SIZE]);
            KeyArea::decode(&area).err()
        };
        assert_eq!(changed(12, &[2, 0]), Some(Invalid::Version(2)));
        assert_eq!(changed(40, &u32::MAX.to_le_bytes()), Some(Invalid::Field("number of families")));
        assert_eq!(changed(48, &1u64.to_le_bytes()), Some(Invalid::Field("number of a family")));
        assert_eq!(changed(SLOTS_AT, &[9]), Some(Invalid::Field("kind of a key slot")));
        // Four TiB of memory for a passphrase.
        let cost = changed(SLOTS_AT + 4, &u32::MAX.to_le_bytes());
        assert_eq!(cost, Some(Invalid::Field("cost of a passphrase")));
        assert_eq!(KeyArea::decode(&[]).err(), Some(Invalid::Magic));
        assert_eq!(
            KeyArea::decode(&area(40).encode()[..2 * BLOCK_SIZE]).err(),
            Some(Invalid::Field("number of families"))
        );
    }
}
