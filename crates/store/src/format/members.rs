//! What a label of a pool of several disks says of each of them.

use super::Invalid;
use super::bytes::{array_at, put, u32_at};

/// Disks that a pool has had at most, with those that have left it and whose place nobody took.
pub(crate) const DISKS_MAX: usize = 48;
/// Bytes of a member in a label.
pub(super) const MEMBER_BYTES: usize = 24;

const STATE_AT: usize = 16;
const FLAGS_AT: usize = 17;
const SIZE_AT: usize = 20;
const FLAG_CATALOG: u8 = 1;
/// Sizes of disks are told in MiB: they are for people who look for the disk.
const SIZE_SHIFT: u32 = 20;

/// How a disk takes part in its pool.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum MemberState {
    /// There is no such disk: it has left the pool, and nothing lies on it.
    Gone,
    /// Its content is current.
    In,
    /// It was lost: its content is not current and never will be.
    Out,
    /// Its content is current; it takes nothing new, and what it has goes to others.
    Leaving,
    /// It is lost, but perhaps not all labels say so yet: nothing has been acknowledged without it.
    Losing,
}

impl MemberState {
    fn code(self) -> u8 {
        match self {
            Self::Gone => 0,
            Self::In => 1,
            Self::Out => 2,
            Self::Leaving => 3,
            Self::Losing => 4,
        }
    }

    fn from_code(code: u8) -> Option<Self> {
        let all = [Self::Gone, Self::In, Self::Out, Self::Leaving, Self::Losing];
        all.into_iter().find(|state| state.code() == code)
    }

    /// True if what lies on the disk may be read.
    pub(crate) fn is_current(self) -> bool {
        matches!(self, Self::In | Self::Leaving)
    }
}

/// A disk of a pool, as the labels of all its disks describe it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct MemberLabel {
    /// Its identity.
    pub(crate) identity: [u8; 16],
    /// How it takes part.
    pub(crate) state: MemberState,
    /// It holds a current copy of the catalog.
    pub(crate) catalog: bool,
    /// Its size in bytes, rounded down to MiB.
    pub(crate) size_bytes: u64,
}

impl MemberLabel {
    /// From now on the labels say that it is lost: `Losing` until each of them does, then `Out`.
    pub(crate) fn lose(&mut self, state: MemberState) {
        (self.state, self.catalog) = (state, false);
    }

    /// A disk that takes part.
    pub(crate) fn new(identity: [u8; 16], size_bytes: u64, catalog: bool) -> Self {
        Self { identity, state: MemberState::In, catalog, size_bytes: size_bytes >> SIZE_SHIFT << SIZE_SHIFT }
    }

    pub(super) fn encode(&self) -> [u8; MEMBER_BYTES] {
        let mut bytes = [0; MEMBER_BYTES];
        put(&mut bytes, 0, &self.identity);
        bytes[STATE_AT] = self.state.code();
        bytes[FLAGS_AT] = if self.catalog { FLAG_CATALOG } else { 0 };
        let mib = u32::try_from(self.size_bytes >> SIZE_SHIFT).unwrap_or(u32::MAX);
        put(&mut bytes, SIZE_AT, &mib.to_le_bytes());
        bytes
    }

    pub(super) fn decode(bytes: &[u8; MEMBER_BYTES]) -> Result<Self, Invalid> {
        Ok(Self {
            identity: array_at(bytes, 0),
            state: MemberState::from_code(bytes[STATE_AT]).ok_or(Invalid::Field("state of a disk"))?,
            catalog: bytes[FLAGS_AT] & FLAG_CATALOG != 0,
            size_bytes: u64::from(u32_at(bytes, SIZE_AT)) << SIZE_SHIFT,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ALL: [MemberState; 5] =
        [MemberState::Gone, MemberState::In, MemberState::Out, MemberState::Leaving, MemberState::Losing];

    #[test]
    fn a_member_comes_back_as_it_was_with_its_size_in_mib() {
        for state in ALL {
            let member = MemberLabel { state, ..MemberLabel::new([7; 16], (5 << 20) + 4096, true) };
            assert_eq!(MemberLabel::decode(&member.encode()), Ok(member));
            assert_eq!(member.size_bytes, 5 << 20);
        }
    }

    #[test]
    fn a_state_that_nobody_knows_is_refused() {
        let mut bytes = MemberLabel::new([7; 16], 0, false).encode();
        bytes[STATE_AT] = 9;
        assert_eq!(MemberLabel::decode(&bytes), Err(Invalid::Field("state of a disk")));
    }

    #[test]
    fn only_disks_that_take_part_are_current() {
        assert_eq!(ALL.map(MemberState::is_current), [false, true, false, true, false]);
    }
}
