//! Redundancy classes: how many copies of a segment there are, each on a disk of its own.

/// How a pool keeps what it stores.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Redundancy {
    /// One copy: what is on a disk is lost with it.
    #[default]
    Single,
    /// Two copies: any one disk may be lost.
    Mirror2,
    /// Three copies: any two disks may be lost.
    Mirror3,
}

impl Redundancy {
    /// All classes, in the order of their codes.
    pub const ALL: [Self; 3] = [Self::Single, Self::Mirror2, Self::Mirror3];

    /// Copies of each segment, and disks that a new pool needs at the least.
    #[must_use]
    pub fn copies(self) -> usize {
        usize::from(self.code()) + 1
    }

    /// The name that people use.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Single => "single",
            Self::Mirror2 => "mirror2",
            Self::Mirror3 => "mirror3",
        }
    }

    /// The class with this name.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|class| class.name() == name)
    }

    /// The code on disk.
    pub(crate) fn code(self) -> u8 {
        match self {
            Self::Single => 0,
            Self::Mirror2 => 1,
            Self::Mirror3 => 2,
        }
    }

    /// The class with this code.
    pub(crate) fn from_code(code: u8) -> Option<Self> {
        Self::ALL.into_iter().find(|class| class.code() == code)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn classes_are_known_by_code_and_by_name() {
        for class in Redundancy::ALL {
            assert_eq!(Redundancy::from_code(class.code()), Some(class));
            assert_eq!(Redundancy::from_name(class.name()), Some(class));
        }
        assert_eq!(Redundancy::ALL.map(Redundancy::copies), [1, 2, 3]);
        assert_eq!((Redundancy::from_code(3), Redundancy::from_name("raid5")), (None, None));
    }
}
