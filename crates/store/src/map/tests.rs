//! The page table against a plain model, through loads, evictions and cuts.

use super::*;
use crate::format::{LayerId, SegmentId};
use std::collections::BTreeMap;

/// A place for nodes, so that cuts can be "written" and loaded again.
#[derive(Default)]
struct Stored {
    nodes: BTreeMap<Location, Node>,
    next: u32,
}

impl Stored {
    fn write(&mut self, map: &mut Map) -> (Entry, u8, u64) {
        let mut cut = map.cut();
        for location in std::mem::take(&mut cut.freed) {
            self.nodes.remove(&location).expect("freed nodes were written");
        }
        for i in 0..cut.nodes.len() {
            let key = cut.nodes[i].key;
            let entries = Box::new(*map.entries_of(&cut.nodes[i]));
            self.next += 1;
            let location = Location::new(SegmentId(9), self.next);
            let node = Node { level: key.level(), layer: LayerId(1), index: key.index(), entries };
            self.nodes.insert(location, node);
            let former = map.assign(&mut cut, key, Entry { location, checksum: self.next });
            self.nodes.remove(&former);
        }
        map.settle(&cut);
        (cut.root, cut.root_level, cut.count)
    }

    fn ensure(&self, map: &mut Map, leaf: u64) {
        while let Find::Load(load) = map.find(leaf) {
            assert!(map.insert_loaded(load, self.nodes[&load.entry.location].clone()));
        }
    }
}

fn put(map: &mut Map, address: u64, entry: Entry) {
    let address = BlockAddress(address);
    let leaf = leaf_of(address);
    if map.find(leaf) == Find::Absent {
        let before = map.count();
        let promised = map.nodes_to_create(leaf);
        map.create(leaf);
        assert_eq!(map.count() - before, promised);
    }
    let slot = slot_of(address);
    map.edit(leaf, slot..slot + 1, |_, old| *old = entry);
}

fn data(n: u64) -> Entry {
    Entry { location: Location::new(SegmentId(n + 1), 5), checksum: 1 }
}

#[test]
fn the_root_is_at_the_lowest_level_that_covers_what_is_mapped() {
    for (address, level, nodes) in [(0, 0, 1), (255, 0, 1), (256, 1, 2), (1 << 16, 2, 3), (1 << 34, 4, 5)] {
        let mut map = Map::new(Entry::default(), 0, 0);
        put(&mut map, address, data(1));
        assert_eq!((map.root_level, map.count()), (level, nodes), "{address}");
        assert_eq!(map.get(BlockAddress(address)), data(1));
    }
}

#[test]
fn random_changes_cuts_evictions_and_reloads_agree_with_a_model() {
    let mut seed = 7u64;
    let mut random = move |below: u64| {
        seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (seed >> 33) % below
    };
    let mut stored = Stored::default();
    let mut map = Map::new(Entry::default(), 0, 0);
    let mut model: BTreeMap<u64, Entry> = BTreeMap::new();
    for step in 0..20_000u64 {
        let spread = [100, 3000, 200_000, 20_000_000][usize::try_from(random(4)).unwrap()];
        let address = random(spread);
        stored.ensure(&mut map, leaf_of(BlockAddress(address)));
        match random(10) {
            0..5 => {
                put(&mut map, address, data(step));
                model.insert(address, data(step));
            }
            5..8 => {
                put(&mut map, address, Entry::default());
                model.remove(&address);
            }
            8 => {
                let expected = model.get(&address).copied().unwrap_or_default();
                assert_eq!(map.get(BlockAddress(address)), expected);
            }
            _ => {
                map.evict(leaf_of(BlockAddress(address)));
            }
        }
        if step % 500 == 499 {
            let (root, level, count) = stored.write(&mut map);
            let nodes = u64::try_from(stored.nodes.len()).unwrap();
            assert_eq!((map.dirty_count(), count, map.count()), (0, nodes, nodes), "no node leaks");
            if step % 1000 == 999 {
                map = Map::new(root, level, count);
            }
        }
    }
    let mut seen = Vec::new();
    let mut from = 0;
    loop {
        match map.next_leaf(from) {
            Next::End => break,
            Next::Load(load) => {
                assert!(map.insert_loaded(load, stored.nodes[&load.entry.location].clone()));
            }
            Next::Leaf(leaf) => {
                stored.ensure(&mut map, leaf);
                let entries = map.leaf(leaf).unwrap();
                let used = entries.iter().enumerate().filter(|(_, entry)| entry.location != Location::NONE);
                seen.extend(used.map(|(i, entry)| (leaf * 256 + u64::try_from(i).unwrap(), *entry)));
                from = leaf + 1;
            }
        }
    }
    assert_eq!(seen, model.into_iter().collect::<Vec<_>>());
}

#[test]
fn changes_during_a_cut_belong_to_the_next_one() {
    let mut stored = Stored::default();
    let mut map = Map::new(Entry::default(), 0, 0);
    put(&mut map, 1, data(1));
    let mut cut = map.cut();
    put(&mut map, 1, data(2));
    put(&mut map, 70_000, data(3)); // the map grows two levels meanwhile
    assert_eq!(map.entries_of(&cut.nodes[0])[1], data(1));
    let place = Entry { location: Location::new(SegmentId(9), 77), checksum: 1 };
    let key = cut.nodes[0].key;
    assert_eq!(map.assign(&mut cut, key, place), Location::NONE);
    map.settle(&cut);
    assert_eq!((cut.root, cut.root_level), (place, 0));
    assert_eq!(map.evict(0), Evicted::Kept, "changed since");
    stored.nodes.insert(
        place.location,
        Node { level: 0, layer: LayerId(1), index: 0, entries: Box::default_entries() },
    );
    let (root, level, count) = stored.write(&mut map);
    assert_eq!((level, count), (2, 5));
    let mut again = Map::new(root, level, count);
    stored.ensure(&mut again, 0);
    assert_eq!(again.get(BlockAddress(1)), data(2));
}

#[test]
fn a_cut_that_failed_is_written_again() {
    let mut map = Map::new(Entry::default(), 0, 0);
    put(&mut map, 300, data(1));
    let cut = map.cut();
    assert_eq!(map.dirty_count(), 0);
    map.undo(&cut);
    assert_eq!(map.dirty_count(), 2);
}

#[test]
fn an_emptied_leaf_that_is_held_does_not_come_back_from_disk() {
    let mut stored = Stored::default();
    let mut map = Map::new(Entry::default(), 0, 0);
    put(&mut map, 3, data(1));
    stored.write(&mut map);
    map.pin(0);
    put(&mut map, 3, Entry::default());
    let (root, level, count) = stored.write(&mut map);
    let mut again = Map::new(root, level, count);
    stored.ensure(&mut again, 0);
    assert_eq!(again.get(BlockAddress(3)), Entry::default());
    map.unpin(0);
}

trait DefaultEntries {
    fn default_entries() -> Self;
}

impl DefaultEntries for Box<Entries> {
    fn default_entries() -> Self {
        Box::new([Entry::default(); FAN_OUT])
    }
}
