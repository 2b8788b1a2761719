//! The one source of chance: a seeded generator whose sequence never changes.
//!
//! Seeds of found bugs are kept for good, so the generator is written here: a library may change its algorithm
//! with a version, and every kept seed would then mean another schedule.

/// A SplitMix64 generator.
#[derive(Debug, Clone)]
pub struct Rng {
    state: u64,
}

impl Rng {
    /// The generator of `seed`.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        Self { state: seed ^ 0x5851_F42D_4C95_7F2D }
    }

    /// A generator of its own for a part of the simulation, so that more or fewer draws by one part do not
    /// shift those of another.
    #[must_use]
    pub fn fork(&mut self) -> Self {
        Self { state: self.draw() }
    }

    /// The next 64 random bits.
    pub fn draw(&mut self) -> u64 {
        self.state = self.state.wrapping_add(0x9E37_79B9_7F4A_7C15);
        mix(self.state)
    }

    /// A number below `end`, which is not 0.
    pub fn below(&mut self, end: u64) -> u64 {
        assert!(end > 0, "a range that holds no number");
        u64::try_from((u128::from(self.draw()) * u128::from(end)) >> 64).unwrap_or(0)
    }

    /// An index below `len`, which is not 0.
    pub fn index(&mut self, len: usize) -> usize {
        self.below(len as u64) as usize
    }

    /// A number from `first` to `last`, both included.
    pub fn between(&mut self, first: u64, last: u64) -> u64 {
        first + self.below(last - first + 1)
    }

    /// True in `percent` of 100 cases.
    pub fn percent(&mut self, percent: u64) -> bool {
        self.below(100) < percent
    }

    /// True in `count` of 65,536 cases.
    pub fn per_64k(&mut self, count: u32) -> bool {
        count > 0 && self.below(65_536) < u64::from(count)
    }

    /// A number from 1 to about `max`, small ones as probable as large ones: each power of two alike.
    pub fn logarithmic(&mut self, max: u64) -> u64 {
        let bits = u64::from(64 - max.max(1).leading_zeros());
        let top = 1 << self.below(bits);
        (top + self.below(top)).min(max.max(1))
    }

    /// One of `choices`, which is not empty.
    pub fn pick<T: Copy>(&mut self, choices: &[T]) -> T {
        choices[self.index(choices.len())]
    }
}

/// A good 64-bit mixing function (the finaliser of SplitMix64).
#[must_use]
pub fn mix(value: u64) -> u64 {
    let value = (value ^ (value >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    let value = (value ^ (value >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    value ^ (value >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seed_means_the_same_numbers_for_good() {
        let mut rng = Rng::new(7);
        let first: Vec<u64> = (0..3).map(|_| rng.draw()).collect();
        let mut again = Rng::new(7);
        assert_eq!(first, (0..3).map(|_| again.draw()).collect::<Vec<_>>());
        assert_ne!(Rng::new(8).draw(), first[0]);
    }

    #[test]
    fn numbers_stay_in_their_ranges() {
        let mut rng = Rng::new(1);
        for _ in 0..10_000 {
            assert!(rng.below(3) < 3);
            assert!((5..=9).contains(&rng.between(5, 9)));
            assert!((1..=1000).contains(&rng.logarithmic(1000)));
        }
        assert!(!rng.percent(0) && rng.percent(100) && !rng.per_64k(0));
    }
}
