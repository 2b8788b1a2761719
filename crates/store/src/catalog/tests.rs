//! The catalog comes back as it was, grows, and says when it is damaged.

use super::*;
use crate::format::keys::FamilyId;
use crate::format::label::{SlabExtent, read_newest};
use crate::format::members::{MemberLabel, MemberState};
use crate::format::{DiskIndex, Epoch, LayerId, Location, Redundancy, SegmentId, Seq, SlabIndex, Stream};
use block::{BufferPool, Disk, MemoryDisk};
use std::sync::atomic::{AtomicU32, Ordering};

const SIZE: u64 = 64 << 20;

fn label() -> Label {
    Label {
        sharing: false,
        sanitizing: false,
        encrypted: false,
        unfinished: false,
        disk_index: DiskIndex(0),
        pool: [1; 16],
        disk: [2; 16],
        generation: 0,
        size_bytes: SIZE,
        slab_shift: 18,
        slabs: Label::slabs_for(SIZE, 18),
        created_unix_ms: 0,
        pool_name: "p".to_owned(),
        class: Redundancy::Single,
        members: vec![MemberLabel::new([2; 16], SIZE, true)],
        catalog: vec![SlabExtent { first: SlabIndex(0), count: 1 }],
    }
}

/// Gives slabs 10, 12, 14 ... so that extents do not merge, up to `limit` of them.
fn source(limit: u32) -> SlabSource {
    let given = AtomicU32::new(0);
    Box::new(move |_| {
        let n = given.fetch_add(1, Ordering::Relaxed);
        (n < limit).then_some(SlabIndex(10 + 2 * n))
    })
}

fn disk() -> Arc<dyn Disk> {
    Arc::new(MemoryDisk::new("ram", SIZE, BufferPool::default()))
}

fn legs(disk: &Arc<dyn Disk>, label: Label) -> Vec<Leg> {
    vec![Leg::new(Arc::clone(disk), label)]
}

fn changes() -> Changes {
    let segment = SegmentRecord {
        state: SegmentState::Open,
        stream: Stream::Relocation,
        replay_from: 3,
        used_blocks: 9,
        live_blocks: 4,
        class: Redundancy::Single,
        slabs: vec![Slab { disk: DiskIndex(0), index: SlabIndex(77) }],
    };
    let layer = LayerRecord {
        parent: Some(LayerId(1)),
        frozen: true,
        merging: true,
        detaching: true,
        root: Location::new(SegmentId(3), 9),
        root_checksum: 5,
        root_level: 2,
        mapped_blocks: 1 << 33,
        nodes: 12,
        ..LayerRecord::default()
    };
    let range = LogRange {
        host_first: Seq(1),
        host_end: Seq(9),
        relocation_first: Seq(2),
        relocation_end: Seq(u64::MAX),
    };
    Changes {
        pool: Some(PoolRecord {
            epoch: Epoch(4),
            next_segment: SegmentId(8),
            clean: true,
            ..PoolRecord::default()
        }),
        log_ranges: vec![(Epoch(4), Some(range))],
        disks: vec![(DiskIndex(0), Some(DiskRecord { identity: [2; 16], size_bytes: SIZE, slabs: 248 }))],
        segments: vec![(SegmentId(3), Some(segment))],
        layers: vec![(LayerId(2), Some(layer))],
        aliases: vec![(LayerId(5), Some(LayerId(2)))],
        volumes: vec![(
            [9; 16],
            Some(VolumeRecord {
                top: LayerId(2),
                size_bytes: 1 << 40,
                thick: true,
                buffered: false,
                family: Some(FamilyId(5)),
            }),
        )],
        sanitizing: vec![(
            [9; 16],
            Some(SanitizeRecord {
                phase: SanitizePhase::Filling,
                unrestricted_exit: true,
                pattern: vec![0xa5; 512],
            }),
        )],
        facts: vec![
            ("volume".to_owned(), "a".to_owned(), Some(b"{}".to_vec())),
            ("volumes".to_owned(), "other kind".to_owned(), Some(vec![])),
        ],
    }
}

#[test]
fn records_come_back_as_they_were() {
    let disk = disk();
    let catalog = Catalog::create(legs(&disk, label()), source(99), &changes()).unwrap();
    let image = catalog.image().unwrap();
    assert_eq!(Some(image.pool), changes().pool);
    assert_eq!(image.segments.get(&SegmentId(3)), changes().segments[0].1.as_ref());
    assert_eq!(image.layers.get(&LayerId(2)), changes().layers[0].1.as_ref());
    assert_eq!(image.volumes.get(&[9; 16]), changes().volumes[0].1.as_ref());
    assert_eq!(catalog.facts("volume").unwrap(), [("a".to_owned(), b"{}".to_vec())]);
    drop(catalog);

    let label = read_newest(&*disk).unwrap().expect("a label");
    let again = Catalog::open(legs(&disk, label), DiskIndex(0), source(0)).unwrap();
    assert_eq!(again.image().unwrap(), image);
    let remove = Changes {
        segments: vec![(SegmentId(3), None)],
        facts: vec![("volume".to_owned(), "a".to_owned(), None)],
        ..Changes::default()
    };
    again.commit(&remove).unwrap();
    assert!(again.image().unwrap().segments.is_empty());
    assert!(again.facts("volume").unwrap().is_empty());
}

#[test]
fn a_pattern_that_fills_no_block_is_damage() {
    for bytes in [1, 511, 513, 4095, 8192] {
        let mut changes = changes();
        changes.sanitizing[0].1.as_mut().expect("a record").pattern = vec![0xa5; bytes];
        let catalog = Catalog::create(legs(&disk(), label()), source(99), &changes).unwrap();
        let refused = catalog.image().map(drop);
        assert!(refused.is_err_and(|error| error.kind == ErrorKind::Corrupt), "{bytes}");
    }
}

#[test]
fn it_grows_by_slabs_that_the_label_names() {
    let disk = disk();
    let catalog = Catalog::create(legs(&disk, label()), source(99), &changes()).unwrap();
    let before = catalog.label().catalog.len();
    for i in 0..2000u32 {
        let fact = ("big".to_owned(), i.to_string(), Some(vec![7; 4000]));
        catalog.commit(&Changes { facts: vec![fact], ..Changes::default() }).unwrap();
    }
    assert!(catalog.label().catalog.len() > before);
    drop(catalog);
    let label = read_newest(&*disk).unwrap().expect("a label");
    let again = Catalog::open(legs(&disk, label), DiskIndex(0), source(0)).unwrap();
    assert_eq!(again.facts("big").unwrap().len(), 2000);
}

#[test]
fn without_a_free_slab_it_says_that_space_is_out() {
    let disk = disk();
    let Err(error) = Catalog::create(legs(&disk, label()), source(1), &changes()) else {
        panic!("a catalog in 512 KiB")
    };
    assert_eq!(error.kind, ErrorKind::NoSpace);
    assert_eq!(read_newest(&*disk).unwrap(), None, "a pool that could not be made is no pool");
}

#[test]
fn damage_is_an_error_not_a_panic() {
    let disk = disk();
    drop(Catalog::create(legs(&disk, label()), source(99), &changes()).unwrap());
    let label = read_newest(&*disk).unwrap().expect("a label");
    let start = label.slab_offset(label.catalog[0].first);
    for at in (0..label.slab_bytes()).step_by(4096) {
        let mut block = vec![0; 4096];
        disk.read_blocking(start + at, &mut block).unwrap();
        disk.write_blocking(start + at, &[0xa5; 4096]).unwrap();
        let outcome = Catalog::open(legs(&disk, label.clone()), DiskIndex(0), source(99))
            .and_then(|catalog| catalog.image());
        if let Err(error) = outcome {
            assert_eq!(error.kind, ErrorKind::Corrupt, "block {at}: {error}");
        }
        disk.write_blocking(start + at, &block).unwrap();
    }
}

/// The labels of two disks that both have the catalog.
fn two(disks: &[Arc<dyn Disk>; 2]) -> Vec<Leg> {
    let members: Vec<_> = [2, 3].map(|id| MemberLabel::new([id; 16], SIZE, true)).into();
    let label = |index: u16| Label {
        disk_index: DiskIndex(index),
        disk: members[usize::from(index)].identity,
        class: Redundancy::Mirror2,
        members: members.clone(),
        ..label()
    };
    [0, 1].map(|i| Leg::new(Arc::clone(&disks[usize::from(i)]), label(i))).into()
}

#[test]
fn either_of_two_copies_has_all_of_it_and_looking_into_it_writes_nothing() {
    let disks = [disk(), disk()];
    let catalog = Catalog::create(two(&disks), source(99), &changes()).unwrap();
    let image = catalog.image().unwrap();
    assert!(catalog.has_copy_without(DiskIndex(0)) && catalog.failed().is_empty());
    drop(catalog);
    for (index, disk) in (0..).map(DiskIndex).zip(&disks) {
        let label = read_newest(&**disk).unwrap().expect("a label");
        let start = usize::try_from(label.slab_offset(SlabIndex(0))).unwrap();
        let content = || {
            let mut content = vec![0; 1 << 18];
            disk.read_blocking(u64::try_from(start).unwrap(), &mut content).unwrap();
            content
        };
        let before = content();
        assert_eq!(Catalog::peek(legs(disk, label.clone()), index).unwrap(), image);
        assert!(before == content(), "a look changed something");
        assert_eq!(Catalog::open(legs(disk, label), index, source(99)).unwrap().image().unwrap(), image);
    }
}

#[test]
fn the_labels_of_the_others_tell_that_a_disk_is_lost() {
    let disks = [disk(), disk()];
    let catalog = Catalog::create(two(&disks), source(99), &changes()).unwrap();
    catalog.take_out(DiskIndex(0)).unwrap();
    let begun = read_newest(&*disks[1]).unwrap().expect("a label");
    assert_eq!(begun.member(DiskIndex(0)).map(|member| member.state), Some(MemberState::Losing));
    catalog.settle_losses().unwrap();
    let labels = disks.each_ref().map(|disk| read_newest(&**disk).unwrap().expect("a label"));
    let states = labels.each_ref().map(|label| label.members[0].state);
    assert_eq!(states, [MemberState::In, MemberState::Out]);
    assert!(labels[1].generation > labels[0].generation && !labels[1].members[0].catalog);
    assert!(!catalog.has_copy_without(DiskIndex(1)));
}
