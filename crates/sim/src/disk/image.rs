//! The bytes of a simulated disk: what reads see, and what would be left if the power went now.

use crate::rng::Rng;
use std::collections::BTreeMap;

/// Bytes of one page of the image.
pub(crate) const PAGE: usize = 4096;
/// Bytes of one sector: the unit of tearing.
pub(crate) const SECTOR: usize = 512;

/// A part of a request that lies in one page: page, sectors of it, first byte in the request.
type Part = (usize, std::ops::Range<usize>, usize);

/// The durable content of a page that has unflushed sectors, and which ones those are.
struct Unflushed {
    mask: u8,
    durable: Box<[u8; PAGE]>,
}

/// Which unflushed sectors survive the loss of power.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Survival {
    /// Of 100 units.
    pub percent: u64,
    /// A unit in bytes: 512 or 4096.
    pub unit_bytes: usize,
}

/// A sparse image. `current` is what reads see; pages with unflushed sectors also keep their durable content.
pub(crate) struct Image {
    current: Vec<Option<Box<[u8; PAGE]>>>,
    unflushed: BTreeMap<usize, Unflushed>,
}

fn parts(offset: u64, len: usize) -> impl Iterator<Item = Part> {
    let (first, end) = (offset as usize, offset as usize + len);
    (first / PAGE..end.div_ceil(PAGE)).map(move |page| {
        let from = first.max(page * PAGE);
        let to = end.min((page + 1) * PAGE);
        (page, (from - page * PAGE) / SECTOR..(to - page * PAGE) / SECTOR, from - first)
    })
}

fn mask_of(sectors: &std::ops::Range<usize>) -> u8 {
    sectors.clone().fold(0, |mask, sector| mask | 1 << sector)
}

fn copy_sectors(mask: u8, from: &[u8; PAGE], to: &mut [u8; PAGE]) {
    for sector in (0..PAGE / SECTOR).filter(|sector| mask & (1 << sector) != 0) {
        let range = sector * SECTOR..(sector + 1) * SECTOR;
        to[range.clone()].copy_from_slice(&from[range]);
    }
}

impl Image {
    pub(crate) fn new(size_bytes: u64) -> Self {
        let mut image = Self { current: Vec::new(), unflushed: BTreeMap::new() };
        image.grow(size_bytes);
        image
    }

    pub(crate) fn grow(&mut self, size_bytes: u64) {
        self.current.resize_with(size_bytes as usize / PAGE, || None);
    }

    pub(crate) fn read(&self, offset: u64, buf: &mut [u8]) {
        for (page, sectors, start) in parts(offset, buf.len()) {
            let target = &mut buf[start..start + sectors.len() * SECTOR];
            match &self.current[page] {
                Some(data) => target.copy_from_slice(&data[sectors.start * SECTOR..sectors.end * SECTOR]),
                None => target.fill(0),
            }
        }
    }

    /// Writes `data` to the cache: reads see it, a loss of power may undo it.
    pub(crate) fn write_cached(&mut self, offset: u64, data: &[u8]) {
        for (page, sectors, start) in parts(offset, data.len()) {
            let content = self.current[page].get_or_insert_with(|| Box::new([0; PAGE]));
            let unflushed =
                self.unflushed.entry(page).or_insert_with(|| Unflushed { mask: 0, durable: content.clone() });
            unflushed.mask |= mask_of(&sectors);
            content[sectors.start * SECTOR..sectors.end * SECTOR]
                .copy_from_slice(&data[start..start + sectors.len() * SECTOR]);
        }
    }

    /// Writes `data` to stable storage.
    pub(crate) fn write_durable(&mut self, offset: u64, data: &[u8]) {
        for (page, sectors, start) in parts(offset, data.len()) {
            let content = self.current[page].get_or_insert_with(|| Box::new([0; PAGE]));
            content[sectors.start * SECTOR..sectors.end * SECTOR]
                .copy_from_slice(&data[start..start + sectors.len() * SECTOR]);
            self.settle(page, mask_of(&sectors));
        }
    }

    /// Makes the sectors of `mask` in `page` durable as they are now.
    pub(crate) fn settle(&mut self, page: usize, mask: u8) {
        let Some(unflushed) = self.unflushed.get_mut(&page) else { return };
        if let Some(content) = &self.current[page] {
            copy_sectors(mask, content, &mut unflushed.durable);
        }
        unflushed.mask &= !mask;
        if unflushed.mask == 0 {
            self.unflushed.remove(&page);
        }
    }

    /// All pages with unflushed sectors, and these sectors.
    pub(crate) fn unflushed(&self) -> impl Iterator<Item = (usize, u8)> {
        self.unflushed.iter().map(|(&page, unflushed)| (page, unflushed.mask))
    }

    /// Some unflushed page, as write-back would choose it.
    pub(crate) fn some_unflushed(&self, rng: &mut Rng) -> Option<(usize, u8)> {
        let from = rng.index(self.current.len());
        let next = self.unflushed.range(from..).next().or_else(|| self.unflushed.iter().next());
        next.map(|(&page, unflushed)| (page, unflushed.mask))
    }

    /// The power goes: of what was not flushed, what `survival` says is left.
    pub(crate) fn lose_power(&mut self, survival: Survival, rng: &mut Rng) {
        for (page, unflushed) in std::mem::take(&mut self.unflushed) {
            let mut lost = 0;
            for sector in (0..PAGE).step_by(survival.unit_bytes) {
                if !rng.percent(survival.percent) {
                    let unit = sector / SECTOR..(sector + survival.unit_bytes) / SECTOR;
                    lost |= mask_of(&unit);
                }
            }
            if let Some(content) = &mut self.current[page] {
                copy_sectors(lost & unflushed.mask, &unflushed.durable, content);
            }
        }
    }

    /// Flips bits of the sector at `offset`, in the cache and on the medium.
    pub(crate) fn corrupt(&mut self, offset: u64, rng: &mut Rng) {
        let mut sector = [0; SECTOR];
        self.read(offset, &mut sector);
        sector[rng.index(SECTOR)] ^= 1 << rng.below(8);
        self.write_durable(offset, &sector);
    }

    /// Offsets of the sectors for which `choose` says yes.
    pub(crate) fn sectors_where(&self, choose: impl Fn(&[u8]) -> bool) -> Vec<u64> {
        let pages = self.current.iter().enumerate();
        let pages = pages.filter_map(|(page, data)| data.as_ref().map(|data| (page, data)));
        pages
            .flat_map(|(page, data)| {
                data.chunks(SECTOR).enumerate().map(move |(at, sector)| (page, at, sector))
            })
            .filter(|(_, _, sector)| choose(sector))
            .map(|(page, at, _)| (page * PAGE + at * SECTOR) as u64)
            .collect()
    }

    /// Offsets of the sectors of pages that are not flushed whose durable content `choose` accepts.
    pub(crate) fn durable_sectors_where(&self, choose: impl Fn(&[u8]) -> bool) -> Vec<u64> {
        let sectors = self.unflushed.iter().flat_map(|(&page, unflushed)| {
            unflushed.durable.chunks(SECTOR).enumerate().map(move |(at, sector)| (page, at, sector))
        });
        let chosen = sectors.filter(|(_, _, sector)| choose(sector));
        chosen.map(|(page, at, _)| (page * PAGE + at * SECTOR) as u64).collect()
    }

    /// Bytes of memory that hold content.
    pub(crate) fn resident_bytes(&self) -> usize {
        (self.current.iter().flatten().count() + self.unflushed.len()) * PAGE
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOTHING: Survival = Survival { percent: 0, unit_bytes: SECTOR };

    fn sector_at(image: &Image, offset: u64) -> u8 {
        let mut buf = [0; SECTOR];
        image.read(offset, &mut buf);
        assert!(buf.iter().all(|&byte| byte == buf[0]));
        buf[0]
    }

    #[test]
    fn lost_sectors_return_to_their_durable_content_and_flushed_ones_stay() {
        let mut image = Image::new(1 << 20);
        image.write_durable(0, &[1; 8192]);
        image.write_cached(3584, &[2; 1024]);
        assert_eq!((sector_at(&image, 3584), sector_at(&image, 4096)), (2, 2));
        image.settle(1, 0xFF);
        image.lose_power(NOTHING, &mut Rng::new(1));
        assert_eq!((sector_at(&image, 3584), sector_at(&image, 4096)), (1, 2));
        assert!(image.unflushed.is_empty());
    }

    #[test]
    fn a_durable_write_settles_its_own_sectors_only() {
        let mut image = Image::new(1 << 20);
        image.write_cached(0, &[3; 4096]);
        image.write_durable(512, &[4; 512]);
        image.lose_power(NOTHING, &mut Rng::new(1));
        assert_eq!([0, 512, 1024].map(|at| sector_at(&image, at)), [0, 4, 0]);
    }

    #[test]
    fn units_survive_independently() {
        let mut image = Image::new(1 << 20);
        image.write_cached(0, &[5; 65_536]);
        image.lose_power(Survival { percent: 50, unit_bytes: SECTOR }, &mut Rng::new(1));
        let survivors = (0..128).filter(|at| sector_at(&image, at * 512) == 5).count();
        assert!((40..90).contains(&survivors), "{survivors}");
        image.write_cached(0, &[6; 65_536]);
        image.lose_power(Survival { percent: 50, unit_bytes: PAGE }, &mut Rng::new(1));
        for page in 0..16 {
            let whole = (0..8).map(|at| sector_at(&image, page * 4096 + at * 512) == 6).collect::<Vec<_>>();
            assert!(whole.iter().all(|&new| new == whole[0]), "a page tore");
        }
    }
}
