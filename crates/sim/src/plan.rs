//! What a seed stands for: sizes, speeds, faults, and the mixture of work.

use crate::disk::{Faults, Latency};
use crate::engine::Setup;
use crate::rng::{Rng, mix};
use std::time::Duration;
use store::Redundancy;

/// The surroundings of one schedule.
#[derive(Debug, Clone)]
pub struct Plan {
    /// Sizes of the disks at first, in bytes.
    pub disks: Vec<u64>,
    /// What the disk writes whole: 512 or 4096 bytes.
    pub unit_bytes: usize,
    /// How fast the disk is.
    pub latency: Latency,
    /// How the engine is run.
    pub setup: Setup,
    /// How many lives the engine has, each ended by a crash, a kill or a close.
    pub lives: u64,
    /// The mixture of work.
    pub mixture: Mixture,
}

/// Which work a schedule does most.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mixture {
    /// Everything.
    Any,
    /// Small writes to few blocks from many clients.
    Contention,
    /// The pool is filled to the brim, and beyond.
    Full,
    /// Snapshots, clones and deletions.
    Layers,
}

/// What one life of the engine brings.
#[derive(Debug, Clone)]
pub struct LifePlan {
    /// Disk steps after which the opening is interrupted, if it is.
    pub crash_in_opening: Option<u64>,
    /// Disk steps of work after which the engine crashes, unless the work ends first.
    pub crash_after: u64,
    /// Faults during the work.
    pub faults: Faults,
    /// Clients at work at the same time.
    pub clients: u64,
    /// Operations of each.
    pub operations: u64,
}

impl Plan {
    /// The plan of a seed. Engines that never `collects` get a disk that is not filled.
    #[must_use]
    pub fn new(rng: &mut Rng, collects: bool, several: bool) -> Self {
        let mixture = match rng.below(100) {
            0..45 => Mixture::Any,
            45..60 => Mixture::Contention,
            60..80 => Mixture::Full,
            _ => Mixture::Layers,
        };
        let mixture = if collects || mixture != Mixture::Full { mixture } else { Mixture::Any };
        let slab_bytes = rng.pick(&[64 << 10, 64 << 10, 128 << 10, 256 << 10]);
        let slabs = if mixture == Mixture::Full { rng.between(96, 150) } else { rng.between(100, 250) };
        let disk_bytes = if collects { (2 << 20) + slabs * slab_bytes } else { 256 << 20 };
        let mut plan = Self {
            disks: vec![disk_bytes],
            unit_bytes: rng.pick(&[512, 512, 4096]),
            latency: Latency {
                immediate_percent: rng.pick(&[0, 0, 30, 95]),
                max: Duration::from_micros(rng.pick(&[50, 500, 500, 20_000])),
            },
            setup: Self::setup(rng, slab_bytes),
            lives: rng.between(2, 4),
            mixture,
        };
        if several {
            plan.add_disks(rng, slabs * slab_bytes);
        }
        // Not drawn, so that what a seed stood for before stays as it was where nothing is encrypted.
        plan.setup.encrypted = mix(plan.disks.iter().sum::<u64>() ^ plan.lives).is_multiple_of(3);
        plan
    }

    /// A class, and disks that together hold about what the one disk would.
    fn add_disks(&mut self, rng: &mut Rng, bytes: u64) {
        let class = rng.pick(&[
            Redundancy::Single,
            Redundancy::Mirror2,
            Redundancy::Mirror2,
            Redundancy::Mirror2,
            Redundancy::Mirror3,
        ]);
        let least = class.copies() as u64;
        let count = rng.between(least.max(2), 4).max(least);
        let each = bytes * least / count;
        let slab = self.setup.slab_bytes;
        // The catalog, and more than its share, so that unequal disks hold enough.
        let size = |rng: &mut Rng| (4 << 20) + each.next_multiple_of(slab) + slab * rng.between(8, 60);
        self.setup.class = class;
        self.disks = (0..count).map(|_| size(rng)).collect();
    }

    fn setup(rng: &mut Rng, slab_bytes: u64) -> Setup {
        Setup {
            slab_bytes,
            map_cache_bytes: rng.pick(&[4 << 10, 64 << 10, 1 << 20, 64 << 20]),
            checkpoint_log_bytes: rng.pick(&[128 << 10, 1 << 20, 4 << 20, 256 << 20]),
            checkpoint_interval: Duration::from_millis(rng.pick(&[2, 20, 500, 30_000])),
            dirty_nodes_max: rng.pick(&[1, 8, 64, 32 << 10]),
            discard: rng.percent(70),
            class: Redundancy::Single,
            encrypted: false,
        }
    }

    /// What the next life brings.
    #[must_use]
    pub fn life(&self, rng: &mut Rng, first: bool) -> LifePlan {
        let in_opening = if first { 8 } else { 30 };
        LifePlan {
            crash_in_opening: rng.percent(in_opening).then(|| rng.logarithmic(150)),
            crash_after: rng.logarithmic(1200),
            faults: Self::faults(rng),
            clients: if self.mixture == Mixture::Contention { rng.between(3, 8) } else { rng.between(1, 5) },
            operations: rng.logarithmic(40),
        }
    }

    fn faults(rng: &mut Rng) -> Faults {
        let mut faults = Faults::default();
        if rng.percent(75) {
            return faults;
        }
        let rate = 128 * rng.logarithmic(64) as u32;
        match rng.below(6) {
            0 => faults.read_errors = rate,
            1 => faults.write_errors = rate,
            2 => faults.no_space = rate,
            3 => faults.flush_errors = rate,
            4 => faults.stuck = rate / 4,
            _ => faults = Faults { read_errors: rate, write_errors: rate, flush_errors: rate / 4, ..faults },
        }
        faults.blocking = rng.percent(30);
        faults
    }
}
