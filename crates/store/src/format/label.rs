//! Labels: what says that a disk belongs to a pool, and where the pool's catalog is.

use super::bytes::{array_at, is_sealed, put, seal, u16_at, u32_at, u64_at};
use super::members::{DISKS_MAX, MEMBER_BYTES, MemberLabel, MemberState};
use super::{
    BLOCK_BYTES, BLOCK_SIZE, DiskIndex, ENCRYPTED_VERSION, FORMAT_VERSION, Invalid, MEMBERS_VERSION, PoolId,
    Redundancy, SANITIZING_VERSION, SHARING_VERSION, SlabIndex,
};
use block::{BlockError, Disk, ErrorKind};

/// Bytes before the first slab, and after the last.
pub(crate) const RESERVED_BYTES: u64 = 1 << 20;
/// Bytes of a pool's name at most.
pub(crate) const NAME_BYTES_MAX: usize = 64;
/// Extents that a catalog may have at most, on the one disk of a pool.
pub(crate) const EXTENTS_MAX: usize = 480;
/// Extents that a catalog may have at most on one of several disks.
const EXTENTS_MAX_OF_SEVERAL: usize = 320;
/// Powers of two that a slab's size may be.
pub(crate) const SLAB_SHIFT: std::ops::RangeInclusive<u32> = 16..=30;

const MAGIC: &[u8; 8] = b"PALISADE";
const EXTENTS_AT: usize = 192;
const CLASS_AT: usize = 148;
const FLAGS_AT: usize = 149;
const FLAG_SHARING: u8 = 1;
const FLAG_UNFINISHED: u8 = 2;
const FLAG_SANITIZING: u8 = 4;
const FLAG_ENCRYPTED: u8 = 8;
const MEMBERS_AT: usize = EXTENTS_AT + 8 * EXTENTS_MAX_OF_SEVERAL;
const _: () = assert!(MEMBERS_AT + DISKS_MAX * MEMBER_BYTES <= BLOCK_SIZE);

/// Some slabs that follow each other.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct SlabExtent {
    /// The first slab.
    pub(crate) first: SlabIndex,
    /// How many.
    pub(crate) count: u32,
}

/// A disk's label.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Label {
    /// Volumes of the pool may share blocks: builds that know nothing of that must not open it.
    pub(crate) sharing: bool,
    /// Volumes of the pool may be being sanitized, and may share blocks: as before.
    pub(crate) sanitizing: bool,
    /// The pool has keys, and volumes may be encrypted: as before.
    pub(crate) encrypted: bool,
    /// The pool of several disks is being made: as long as all its labels say so there is none.
    pub(crate) unfinished: bool,
    /// Index of this disk in the pool.
    pub(crate) disk_index: DiskIndex,
    /// Identity of the pool.
    pub(crate) pool: PoolId,
    /// Identity of the disk.
    pub(crate) disk: [u8; 16],
    /// Each change of the label adds one.
    pub(crate) generation: u64,
    /// Size of the disk in bytes.
    pub(crate) size_bytes: u64,
    /// Slab size in bytes, as a power of two.
    pub(crate) slab_shift: u32,
    /// Number of slabs.
    pub(crate) slabs: u32,
    /// Time of creation, ms since 1970.
    pub(crate) created_unix_ms: u64,
    /// Name of the pool.
    pub(crate) pool_name: String,
    /// How the pool keeps what it stores.
    pub(crate) class: Redundancy,
    /// The disks of the pool, by index.
    pub(crate) members: Vec<MemberLabel>,
    /// Where the catalog is on this disk.
    pub(crate) catalog: Vec<SlabExtent>,
}

impl Label {
    /// Bytes of a slab.
    pub(crate) fn slab_bytes(&self) -> u64 {
        1 << self.slab_shift
    }

    /// Offset of a slab on the disk, in bytes.
    pub(crate) fn slab_offset(&self, slab: SlabIndex) -> u64 {
        RESERVED_BYTES + u64::from(slab.0) * self.slab_bytes()
    }

    /// How many slabs of `1 << slab_shift` bytes fit on a disk of `size_bytes`.
    pub(crate) fn slabs_for(size_bytes: u64, slab_shift: u32) -> u32 {
        let room = size_bytes.saturating_sub(2 * RESERVED_BYTES) >> slab_shift;
        u32::try_from(room).unwrap_or(u32::MAX)
    }

    /// The block that holds this label.
    pub(crate) fn encode(&self) -> Vec<u8> {
        assert!(self.pool_name.len() <= NAME_BYTES_MAX && self.catalog.len() <= self.extents_max());
        let extents = u16::try_from(self.catalog.len()).unwrap_or(0);
        let mut block = vec![0; BLOCK_SIZE];
        put(&mut block, 0, MAGIC);
        put(&mut block, 12, &self.version().to_le_bytes());
        put(&mut block, 14, &self.disk_index.0.to_le_bytes());
        put(&mut block, 16, &self.pool);
        put(&mut block, 32, &self.disk);
        put(&mut block, 48, &self.generation.to_le_bytes());
        put(&mut block, 56, &self.size_bytes.to_le_bytes());
        put(&mut block, 64, &self.slab_shift.to_le_bytes());
        put(&mut block, 68, &self.slabs.to_le_bytes());
        put(&mut block, 72, &self.created_unix_ms.to_le_bytes());
        put(&mut block, 80, self.pool_name.as_bytes());
        put(&mut block, 144, &u16::try_from(self.members.len()).unwrap_or(0).to_le_bytes());
        put(&mut block, 146, &extents.to_le_bytes());
        for (i, extent) in self.catalog.iter().enumerate() {
            put(&mut block, EXTENTS_AT + 8 * i, &extent.first.0.to_le_bytes());
            put(&mut block, EXTENTS_AT + 8 * i + 4, &extent.count.to_le_bytes());
        }
        if self.version() >= MEMBERS_VERSION {
            block[CLASS_AT] = self.class.code();
            let flag = |set, flag| if set { flag } else { 0 };
            block[FLAGS_AT] = flag(self.sharing, FLAG_SHARING)
                | flag(self.unfinished, FLAG_UNFINISHED)
                | flag(self.sanitizing, FLAG_SANITIZING)
                | flag(self.encrypted, FLAG_ENCRYPTED);
            for (i, member) in self.members.iter().enumerate() {
                put(&mut block, MEMBERS_AT + MEMBER_BYTES * i, &member.encode());
            }
        }
        seal(&mut block);
        block
    }

    /// The version that says all of this: one that older builds know, if there is one.
    fn version(&self) -> u16 {
        match (self.is_alone(), self.sanitizing, self.sharing) {
            _ if self.encrypted => ENCRYPTED_VERSION,
            (false, ..) => MEMBERS_VERSION,
            (true, true, _) => SANITIZING_VERSION,
            (true, false, true) => SHARING_VERSION,
            (true, false, false) => FORMAT_VERSION,
        }
    }

    /// True if the pool never had another disk than this one.
    pub(crate) fn is_alone(&self) -> bool {
        self.members.len() == 1 && self.class == Redundancy::Single
    }

    /// Extents that the catalog may have on this disk at most.
    pub(crate) fn extents_max(&self) -> usize {
        if self.is_alone() && !self.encrypted { EXTENTS_MAX } else { EXTENTS_MAX_OF_SEVERAL }
    }

    /// True if the label can say that the pool has keys.
    pub(crate) fn can_be_encrypted(&self) -> bool {
        self.catalog.len() <= EXTENTS_MAX_OF_SEVERAL
    }

    /// What this label says of a disk.
    pub(crate) fn member(&self, disk: DiskIndex) -> Option<&MemberLabel> {
        self.members.get(usize::from(disk.0))
    }

    /// The label in `block`.
    pub(crate) fn decode(block: &[u8]) -> Result<Self, Invalid> {
        if block.len() != BLOCK_SIZE || &array_at::<8>(block, 0) != MAGIC {
            return Err(Invalid::Magic);
        }
        if !is_sealed(block) {
            return Err(Invalid::Checksum);
        }
        let version = u16_at(block, 12);
        if !(FORMAT_VERSION..=ENCRYPTED_VERSION).contains(&version) {
            return Err(Invalid::Version(version));
        }
        let several = version >= MEMBERS_VERSION;
        let extents = usize::from(u16_at(block, 146));
        if extents > if several { EXTENTS_MAX_OF_SEVERAL } else { EXTENTS_MAX } {
            return Err(Invalid::Field("number of catalog extents"));
        }
        let disks = usize::from(u16_at(block, 144));
        if disks == 0 || disks > if several { DISKS_MAX } else { 1 } {
            return Err(Invalid::Field("number of disks"));
        }
        let (disk, size_bytes) = (array_at(block, 32), u64_at(block, 56));
        let members = if several {
            let member = |i| MemberLabel::decode(&array_at(block, MEMBERS_AT + MEMBER_BYTES * i));
            (0..disks).map(member).collect::<Result<_, _>>()?
        } else {
            vec![MemberLabel::new(disk, size_bytes, true)]
        };
        let class = if several { block[CLASS_AT] } else { Redundancy::Single.code() };
        let flag = |flag, least| if several { block[FLAGS_AT] & flag != 0 } else { version >= least };
        let sharing = flag(FLAG_SHARING, SHARING_VERSION);
        let sanitizing = flag(FLAG_SANITIZING, SANITIZING_VERSION);
        let name: [u8; NAME_BYTES_MAX] = array_at(block, 80);
        let name = std::str::from_utf8(&name).map_err(|_| Invalid::Field("pool name"))?;
        let label = Self {
            sharing,
            sanitizing,
            encrypted: version >= ENCRYPTED_VERSION,
            unfinished: several && block[FLAGS_AT] & FLAG_UNFINISHED != 0,
            disk_index: DiskIndex(u16_at(block, 14)),
            pool: array_at(block, 16),
            disk,
            generation: u64_at(block, 48),
            size_bytes,
            slab_shift: u32_at(block, 64),
            slabs: u32_at(block, 68),
            created_unix_ms: u64_at(block, 72),
            pool_name: name.trim_end_matches('\0').to_owned(),
            class: Redundancy::from_code(class).ok_or(Invalid::Field("redundancy class"))?,
            members,
            catalog: (0..extents).map(|i| extent_at(block, EXTENTS_AT + 8 * i)).collect(),
        };
        label.check()?;
        Ok(label)
    }

    fn check(&self) -> Result<(), Invalid> {
        if !SLAB_SHIFT.contains(&self.slab_shift) {
            return Err(Invalid::Field("slab size"));
        }
        if !self.size_bytes.is_multiple_of(BLOCK_BYTES)
            || self.slabs > Self::slabs_for(self.size_bytes, self.slab_shift)
        {
            return Err(Invalid::Field("number of slabs"));
        }
        let inside = |extent: &SlabExtent| {
            extent.first.0.checked_add(extent.count).is_some_and(|end| extent.count > 0 && end <= self.slabs)
        };
        if !self.catalog.iter().all(inside) {
            return Err(Invalid::Field("catalog extent"));
        }
        let own = self.member(self.disk_index);
        if own.is_none_or(|own| own.identity != self.disk || own.state == MemberState::Gone) {
            return Err(Invalid::Field("index of the disk"));
        }
        Ok(())
    }

    /// Offsets of the two slots that this generation is written to: head, then tail.
    fn slots(&self) -> [u64; 2] {
        let odd = self.generation % 2;
        [BLOCK_BYTES * (1 + odd), self.size_bytes - BLOCK_BYTES * (2 - odd)]
    }

    /// Writes this label to both ends of `disk`, durably. Blocks the thread.
    ///
    /// # Errors
    /// As the disk's; the former label is still valid then.
    pub(crate) fn write(&self, disk: &dyn Disk) -> block::Result<()> {
        let block = self.encode();
        for offset in self.slots() {
            disk.write_blocking(offset, &block)?;
            disk.flush_blocking()?;
        }
        Ok(())
    }
}

fn extent_at(block: &[u8], offset: usize) -> SlabExtent {
    SlabExtent { first: SlabIndex(u32_at(block, offset)), count: u32_at(block, offset + 4) }
}

/// The newest valid label of `disk`, or none if it never had one. Blocks the thread.
///
/// # Errors
/// `Format` if there are labels, but all of another version or damaged; the disk's own errors.
pub(crate) fn read_newest(disk: &dyn Disk) -> block::Result<Option<Label>> {
    let size = disk.info().size_bytes;
    let mut newest: Option<Label> = None;
    let mut damage = Vec::new();
    for offset in
        [BLOCK_BYTES, 2 * BLOCK_BYTES, size.saturating_sub(2 * BLOCK_BYTES), size.saturating_sub(BLOCK_BYTES)]
    {
        if offset + BLOCK_BYTES > size {
            continue;
        }
        let mut block = vec![0; BLOCK_SIZE];
        disk.read_blocking(offset, &mut block)?;
        match Label::decode(&block) {
            Ok(label) if newest.as_ref().is_none_or(|n| n.generation < label.generation) => {
                newest = Some(label)
            }
            Ok(_) | Err(Invalid::Magic) => {}
            Err(invalid) => damage.push((offset, invalid)),
        }
    }
    // The first label of all, torn: as long as it is not at the tail, too, nobody was told that there is a pool.
    let torn_first = |damage: &[_]| matches!(damage, [(at, Invalid::Checksum)] if *at < RESERVED_BYTES);
    match (newest, &damage[..]) {
        (None, [(_, invalid), ..]) if !torn_first(&damage) => {
            let message = format!("has a Palisade label that cannot be used: {invalid}");
            Err(BlockError::new(ErrorKind::Format, &disk.info().name, message))
        }
        (newest, _) => Ok(newest),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use block::{BufferPool, MemoryDisk};

    fn label(generation: u64) -> Label {
        Label {
            sharing: false,
            sanitizing: false,
            encrypted: false,
            unfinished: false,
            disk_index: DiskIndex(0),
            pool: [1; 16],
            disk: [2; 16],
            generation,
            size_bytes: 64 << 20,
            slab_shift: 20,
            slabs: 62,
            created_unix_ms: 1_790_000_000_000,
            pool_name: "göteborg".to_owned(),
            class: Redundancy::Single,
            members: vec![MemberLabel::new([2; 16], 64 << 20, true)],
            catalog: vec![SlabExtent { first: SlabIndex(3), count: 2 }],
        }
    }

    fn disk() -> MemoryDisk {
        MemoryDisk::new("ram", 64 << 20, BufferPool::default())
    }

    #[test]
    fn a_label_comes_back_as_it_was() {
        assert_eq!(Label::decode(&label(7).encode()), Ok(label(7)));
    }

    /// The label of the second of three disks, of which the first has been lost.
    fn of_several() -> Label {
        let mut lost = MemberLabel::new([4; 16], 1 << 40, false);
        lost.state = MemberState::Out;
        let member = |identity, catalog| MemberLabel::new([identity; 16], 64 << 20, catalog);
        let members = vec![lost, member(2, true), member(3, false)];
        Label { disk_index: DiskIndex(1), class: Redundancy::Mirror2, members, sharing: true, ..label(9) }
    }

    #[test]
    fn a_label_of_several_disks_comes_back_as_it_was() {
        let block = of_several().encode();
        assert_eq!(u16_at(&block, 12), MEMBERS_VERSION);
        assert_eq!(Label::decode(&block), Ok(of_several()));
    }

    #[test]
    fn a_pool_of_one_disk_has_labels_that_older_builds_know() {
        let versions = [false, true].map(|sharing| u16_at(&Label { sharing, ..label(1) }.encode(), 12));
        assert_eq!(versions, [FORMAT_VERSION, SHARING_VERSION]);
    }

    #[test]
    fn a_label_whose_disk_is_not_among_the_pools_is_refused() {
        let wrong = Label { disk_index: DiskIndex(2), ..of_several() };
        assert_eq!(Label::decode(&wrong.encode()), Err(Invalid::Field("index of the disk")));
        let wrong = Label { disk_index: DiskIndex(3), ..of_several() };
        assert_eq!(Label::decode(&wrong.encode()), Err(Invalid::Field("index of the disk")));
    }

    #[test]
    fn the_version_says_what_a_build_has_to_know_to_open_the_pool() {
        for (sharing, sanitizing, version) in
            [(false, false, 1), (true, false, 2), (false, true, 3), (true, true, 3)]
        {
            let block = Label { sharing, sanitizing, ..label(7) }.encode();
            assert_eq!(u16_at(&block, 12), version);
            let again = Label::decode(&block).expect("a version of this build");
            assert_eq!((again.sharing, again.sanitizing), (version >= 2, version >= 3));
        }
        let mut unknown = label(7).encode();
        put(&mut unknown, 8, &[0; 4]);
        put(&mut unknown, 12, &6u16.to_le_bytes());
        seal(&mut unknown);
        assert_eq!(Label::decode(&unknown), Err(Invalid::Version(6)));
    }

    #[test]
    fn a_label_of_an_encrypted_pool_is_for_no_older_build() {
        for label in [label(7), of_several()] {
            let encrypted = Label { encrypted: true, sanitizing: true, ..label };
            let block = encrypted.encode();
            assert_eq!(u16_at(&block, 12), ENCRYPTED_VERSION);
            assert_eq!(Label::decode(&block), Ok(encrypted.clone()));
            assert_eq!(
                (encrypted.extents_max(), encrypted.can_be_encrypted()),
                (EXTENTS_MAX_OF_SEVERAL, true)
            );
        }
        let extent = SlabExtent { first: SlabIndex(3), count: 2 };
        assert!(!Label { catalog: vec![extent; EXTENTS_MAX_OF_SEVERAL + 1], ..label(7) }.can_be_encrypted());
    }

    #[test]
    fn any_flipped_byte_is_noticed() {
        let good = label(7).encode();
        for i in 0..good.len() {
            let mut bad = good.clone();
            bad[i] ^= 0x10;
            assert!(Label::decode(&bad).is_err(), "byte {i}");
        }
    }

    #[test]
    fn the_newest_label_wins_and_a_torn_one_leaves_the_former() {
        let disk = disk();
        assert_eq!(read_newest(&disk).unwrap(), None);
        label(6).write(&disk).unwrap();
        label(7).write(&disk).unwrap();
        assert_eq!(read_newest(&disk).unwrap(), Some(label(7)));
        for offset in label(7).slots() {
            disk.write_blocking(offset + 512, &[0xee; 512]).unwrap();
        }
        assert_eq!(read_newest(&disk).unwrap(), Some(label(6)));
    }

    #[test]
    fn either_end_alone_is_enough() {
        for lost in [0, 1] {
            let disk = disk();
            label(6).write(&disk).unwrap();
            disk.write_blocking(label(6).slots()[lost], &[0; BLOCK_SIZE]).unwrap();
            assert_eq!(read_newest(&disk).unwrap(), Some(label(6)));
        }
    }

    #[test]
    fn a_first_label_that_a_crash_tore_is_none_as_nobody_was_told_of_a_pool() {
        let torn = |generation: u64, slots: &[usize]| {
            let disk = disk();
            for slot in slots {
                let mut block = label(generation).encode();
                block[192..].fill(0);
                disk.write_blocking(label(generation).slots()[*slot], &block).unwrap();
            }
            read_newest(&disk).map_err(|error| error.kind)
        };
        for generation in [0, 1] {
            assert_eq!(torn(generation, &[0]), Ok(None));
            assert_eq!(
                torn(generation, &[1]),
                Err(ErrorKind::Format),
                "the one at the head was whole before"
            );
            assert_eq!(torn(generation, &[0, 1]), Err(ErrorKind::Format));
        }
        let disk = disk();
        let mut newer = label(0).encode();
        newer[12..14].copy_from_slice(&99u16.to_le_bytes());
        newer[8..12].fill(0);
        seal(&mut newer);
        disk.write_blocking(label(0).slots()[0], &newer).unwrap();
        assert_eq!(
            read_newest(&disk).unwrap_err().kind,
            ErrorKind::Format,
            "another build's label is none of ours"
        );
    }

    #[test]
    fn labels_of_which_none_is_whole_are_an_error_not_an_empty_disk() {
        let disk = disk();
        label(6).write(&disk).unwrap();
        for offset in label(6).slots() {
            disk.write_blocking(offset + 512, &[0xee; 512]).unwrap();
        }
        assert_eq!(read_newest(&disk).unwrap_err().kind, ErrorKind::Format);
    }

    #[test]
    fn extents_and_slabs_beyond_the_disk_are_refused() {
        let mut wrong = label(1);
        wrong.catalog[0].count = 60;
        assert_eq!(Label::decode(&wrong.encode()), Err(Invalid::Field("catalog extent")));
        let mut wrong = label(1);
        wrong.slabs = 63;
        assert_eq!(Label::decode(&wrong.encode()), Err(Invalid::Field("number of slabs")));
    }
}
