//! Which disks make up a pool: reading labels, and telling current disks from stale, missing and foreign ones.

use crate::catalog::{Image, Leg, SegmentState};
use crate::format::DiskIndex;
use crate::format::label::{Label, read_newest};
use crate::format::members::{MemberLabel, MemberState};
use block::{BlockError, Disk, ErrorKind, Result};
use std::collections::BTreeSet;
use std::sync::Arc;

/// The disks of a pool that are there and current.
pub(super) struct Assembled {
    pub(super) legs: Vec<Leg>,
    /// What the newest label says.
    pub(super) newest: Label,
    /// Disks that should be there and are not.
    pub(super) missing: BTreeSet<DiskIndex>,
    /// Disks that were given and are not current.
    pub(super) stale: Vec<String>,
}

/// Sorts `disks` out.
///
/// # Errors
/// `NotFound` if no pool is on any of them; `Format` if they are of several pools, or went on apart from each other.
pub(super) fn assemble(disks: Vec<Arc<dyn Disk>>) -> Result<Assembled> {
    let mut labelled: Vec<(Arc<dyn Disk>, Label)> = Vec::new();
    let name = disks.first().map(|disk| disk.info().name.clone()).unwrap_or_default();
    let mut failure = BlockError::new(ErrorKind::NotFound, &name, "holds no pool");
    let several = disks.len() > 1;
    for disk in disks {
        match read_newest(&*disk) {
            Ok(Some(label)) => labelled.push((disk, label)),
            Ok(None) => tracing::warn!(disk = disk.info().name, "holds no label of a pool"),
            Err(error) if several => {
                tracing::warn!(disk = disk.info().name, %error, "its label cannot be read");
                failure = error;
            }
            Err(error) => return Err(error),
        }
    }
    let Some(newest) = newest_of(&labelled).cloned() else { return Err(failure) };
    let fail =
        |kind, disk: &Arc<dyn Disk>, message: String| Err(BlockError::new(kind, &disk.info().name, message));
    let mut assembled =
        Assembled { legs: Vec::new(), newest: newest.clone(), missing: BTreeSet::new(), stale: Vec::new() };
    for (disk, label) in labelled {
        if label.pool != newest.pool {
            let message = format!("is part of the pool \"{}\", the others are not", label.pool_name);
            return fail(ErrorKind::Format, &disk, message);
        }
        if went_apart(&newest, &label) {
            let message = "has been used apart from the other disks: what is on it and what is on these differ. Open \
                           the pool with one part only; erase the disks of the other, then add them";
            return fail(ErrorKind::Format, &disk, message.to_owned());
        }
        let known = newest.member(label.disk_index).filter(|member| member.identity == label.disk);
        if !known.is_some_and(|member| member.state.is_current()) {
            tracing::warn!(disk = disk.info().name, "was lost to the pool once; its content is not used");
            assembled.stale.push(disk.info().name.clone());
            continue;
        }
        if disk.info().size_bytes < label.size_bytes {
            return fail(
                ErrorKind::Device,
                &disk,
                "is smaller than when it was made part of its pool".to_owned(),
            );
        }
        if assembled.legs.iter().any(|leg| leg.index() == label.disk_index) {
            return fail(
                ErrorKind::Invalid,
                &disk,
                "was given twice, or is a copy of another disk".to_owned(),
            );
        }
        // Which copies of the catalog are current, the newest label says.
        let label = Label { members: newest.members.clone(), sharing: newest.sharing, ..label };
        let label = Label { sanitizing: newest.sanitizing, unfinished: false, ..label };
        let label = Label { encrypted: newest.encrypted, ..label };
        assembled.legs.push(Leg::new(disk, label));
    }
    assembled.legs.sort_by_key(Leg::index);
    let current = (0..).map(DiskIndex).zip(&newest.members).filter(|(_, member)| member.state.is_current());
    let given = |index: &DiskIndex| assembled.legs.iter().any(|leg| leg.index() == *index);
    assembled.missing = current.map(|(index, _)| index).filter(|index| !given(index)).collect();
    Ok(assembled)
}

/// The label that counts: the newest, of a disk that no other label calls lost for good. A disk that had only begun to
/// call others lost, when the power failed, is overruled by those that went on without it.
fn newest_of(labelled: &[(Arc<dyn Disk>, Label)]) -> Option<&Label> {
    let labels = || labelled.iter().map(|(_, label)| label).filter(|label| !label.unfinished);
    let overruled = |label: &Label| {
        let calls_lost = |other: &Label| other.pool == label.pool && calls_lost(other, label);
        labels().any(|other| calls_lost(other) && !calls_lost_any(label, other))
    };
    let newest = |label: &&Label| label.generation;
    labels().filter(|label| !overruled(label)).max_by_key(newest).or_else(|| labels().max_by_key(newest))
}

/// True if two labels each say that the other's disk, or one that the other goes by, is lost for good.
fn went_apart(newest: &Label, label: &Label) -> bool {
    let settled = |label: &Label| -> Vec<_> {
        label.members.iter().map(|member| (member.identity, member.state == MemberState::Out)).collect()
    };
    if calls_lost(newest, label) {
        return calls_lost_any(label, newest);
    }
    label.generation == newest.generation && settled(label) != settled(newest)
}

/// True if `label` says that the disk of `other` is lost, and all labels of those it goes by do.
fn calls_lost(label: &Label, other: &Label) -> bool {
    is_out(label, other.disk_index, other.disk)
}

/// True if `label` says so of a disk that `other` calls current.
fn calls_lost_any(label: &Label, other: &Label) -> bool {
    let current = (0..).map(DiskIndex).zip(&other.members).filter(|(_, member)| member.state.is_current());
    current.into_iter().any(|(index, member)| is_out(label, index, member.identity))
}

fn is_out(label: &Label, index: DiskIndex, identity: [u8; 16]) -> bool {
    let member = label.member(index).filter(|member| member.identity == identity);
    member.is_some_and(|member| member.state == MemberState::Out)
}

impl Assembled {
    /// The first segment that no disk has which is there, if there is one.
    pub(super) fn lacks(&self, image: &Image, slab_blocks: u32) -> bool {
        let there = |index: DiskIndex| self.legs.iter().any(|leg| leg.index() == index);
        image.segments.values().any(|record| {
            let empty = record.state == SegmentState::Sealed
                && record.live_blocks == 0
                && record.replay_from >= slab_blocks;
            !empty && !record.slabs.iter().any(|slab| there(slab.disk))
        })
    }

    /// What is wanted, for an administrator.
    pub(super) fn wanted(&self) -> String {
        let describe = |(index, member): (DiskIndex, &MemberLabel)| {
            let identity: String = member.identity.iter().map(|byte| format!("{byte:02x}")).collect();
            format!("disk {index} ({} MiB, identity {identity})", member.size_bytes >> 20)
        };
        let members = (0..).map(DiskIndex).zip(&self.newest.members);
        let missing: Vec<_> =
            members.filter(|(index, _)| self.missing.contains(index)).map(describe).collect();
        let stale = match &self.stale[..] {
            [] => String::new(),
            stale => format!("; not current any more: {}", stale.join(", ")),
        };
        format!("disks are missing without which data would be lost: {}{stale}", missing.join(", "))
    }

    /// Disks whose copy of the catalog is current, as candidates to open it from.
    pub(super) fn with_catalog(&self) -> Vec<DiskIndex> {
        self.legs.iter().filter(|leg| leg.active).map(Leg::index).collect()
    }

    /// True if the labels have to be written anew before anything else: disks are missing, some are being lost, or some labels are older.
    pub(super) fn is_uneven(&self) -> bool {
        let newest = self.newest.generation;
        let losing = self.newest.members.iter().any(|member| member.state == MemberState::Losing);
        losing || !self.missing.is_empty() || self.legs.iter().any(|leg| leg.label.generation != newest)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::format::Redundancy;
    use block::{BufferPool, MemoryDisk};

    const SIZE: u64 = 16 << 20;

    /// The label of disk `index` of a mirror of three, at a generation, with these disks lost.
    fn label(index: u16, generation: u64, lost: &[u16]) -> Label {
        let member = |i: u16| {
            let mut member = MemberLabel::new([10 + u8::try_from(i).expect("few"); 16], SIZE, i < 2);
            if lost.contains(&i) {
                (member.state, member.catalog) = (MemberState::Out, false);
            }
            member
        };
        let members: Vec<_> = (0..3).map(member).collect();
        Label {
            sharing: false,
            sanitizing: false,
            encrypted: false,
            unfinished: false,
            disk_index: DiskIndex(index),
            pool: [1; 16],
            disk: members[usize::from(index)].identity,
            generation,
            size_bytes: SIZE,
            slab_shift: 18,
            slabs: Label::slabs_for(SIZE, 18),
            created_unix_ms: 0,
            pool_name: "p".to_owned(),
            class: Redundancy::Mirror2,
            members,
            catalog: Vec::new(),
        }
    }

    fn disk(label: Option<&Label>) -> Arc<dyn Disk> {
        let disk = MemoryDisk::new("ram", SIZE, BufferPool::default());
        if let Some(label) = label {
            label.write(&disk).expect("memory takes a label");
        }
        Arc::new(disk)
    }

    fn of(labels: &[Label]) -> Result<Assembled> {
        assemble(labels.iter().map(|label| disk(Some(label))).collect())
    }

    fn indexes(assembled: &Assembled) -> Vec<u16> {
        assembled.legs.iter().map(|leg| leg.index().0).collect()
    }

    #[test]
    fn disks_are_told_apart_by_their_labels_in_any_order() {
        let found = of(&[label(2, 7, &[]), label(0, 7, &[]), label(1, 7, &[])]).unwrap();
        assert_eq!((indexes(&found), found.missing.len(), found.is_uneven()), (vec![0, 1, 2], 0, false));
        assert_eq!(found.with_catalog(), [DiskIndex(0), DiskIndex(1)]);
    }

    #[test]
    fn a_disk_that_is_not_there_is_missing_and_is_named() {
        let found = of(&[label(0, 7, &[]), label(2, 7, &[])]).unwrap();
        assert_eq!(found.missing, BTreeSet::from([DiskIndex(1)]));
        assert!(found.is_uneven());
        let wanted = found.wanted();
        assert!(wanted.contains("disk 1 (16 MiB, identity 0b0b0b"), "{wanted}");
    }

    #[test]
    fn the_newest_label_says_who_is_lost_whatever_older_ones_say() {
        let found = of(&[label(0, 8, &[1]), label(1, 7, &[]), label(2, 8, &[1])]).unwrap();
        assert_eq!((indexes(&found), found.stale.len()), (vec![0, 2], 1));
        assert!(found.missing.is_empty() && !found.is_uneven());
    }

    #[test]
    fn labels_that_a_crash_left_older_are_to_be_made_even() {
        let found = of(&[label(0, 8, &[1]), label(2, 7, &[])]).unwrap();
        assert_eq!(indexes(&found), [0, 2]);
        assert!(found.is_uneven() && found.missing.is_empty());
        let of_second = found.legs.iter().find(|leg| leg.index() == DiskIndex(2)).expect("it is current");
        assert_eq!(of_second.label.members, found.newest.members, "who has what, the newest says");
    }

    #[test]
    fn each_going_on_without_the_other_is_noticed_at_equal_and_unequal_generations() {
        for generation in [8, 9] {
            let error = of(&[label(0, 8, &[1]), label(1, generation, &[0])]).err().expect("they differ");
            assert_eq!(error.kind, ErrorKind::Format);
            assert!(error.to_string().contains("apart"), "{error}");
        }
    }

    /// The label of disk `index` that had begun to call disk `other` lost.
    fn begun(index: u16, generation: u64, other: u16) -> Label {
        let mut label = label(index, generation, &[]);
        label.members[usize::from(other)].lose(MemberState::Losing);
        label
    }

    #[test]
    fn one_that_had_only_begun_to_go_on_alone_yields_to_those_that_did() {
        // Power failed between two labels of an opening without disk 1; the next opening was without disk 0.
        for generation in [8, 9, 12] {
            let found = of(&[begun(0, generation, 1), label(1, 9, &[0]), label(2, 9, &[0])]).unwrap();
            assert_eq!((indexes(&found), found.stale.len()), (vec![1, 2], 1));
        }
    }

    #[test]
    fn of_two_that_had_only_begun_the_newer_counts_and_the_other_is_made_anew() {
        for (first, second, left) in [(9, 8, [0, 2]), (8, 9, [1, 2])] {
            let found = of(&[begun(0, first, 1), begun(1, second, 0), label(2, 7, &[])]).unwrap();
            assert_eq!(indexes(&found), left);
            assert!(found.is_uneven(), "whoever is being lost has to be lost first");
        }
        let found = of(&[begun(0, 8, 1), begun(1, 8, 0), label(2, 7, &[])]).unwrap();
        assert_eq!(found.legs.len(), 2, "nothing was done by either");
    }

    #[test]
    fn labels_that_all_have_begun_say_who_is_lost() {
        let found = of(&[begun(0, 8, 1), label(1, 7, &[]), begun(2, 8, 1)]).unwrap();
        assert_eq!((indexes(&found), found.is_uneven()), (vec![0, 2], true));
    }

    #[test]
    fn a_disk_that_was_lost_later_than_another_has_not_gone_apart() {
        let found = of(&[label(0, 9, &[1, 2]), label(1, 7, &[]), label(2, 8, &[1])]).unwrap();
        assert_eq!((indexes(&found), found.stale.len()), (vec![0], 2));
    }

    #[test]
    fn a_pool_whose_making_was_not_finished_is_none() {
        let unfinished = |index| Label { unfinished: true, ..label(index, 1, &[]) };
        let error = of(&[unfinished(0), unfinished(1), unfinished(2)]).err().expect("no pool");
        assert_eq!(error.kind, ErrorKind::NotFound);
        let found = of(&[label(0, 2, &[]), unfinished(1), unfinished(2)]).unwrap();
        assert_eq!(indexes(&found), [0, 1, 2], "one label that says so suffices");
        assert!(found.is_uneven() && found.legs.iter().all(|leg| !leg.label.unfinished), "now all say so");
    }

    #[test]
    fn a_copy_of_a_disk_and_a_disk_of_another_pool_are_refused() {
        let twice = of(&[label(0, 7, &[]), label(1, 7, &[]), label(1, 7, &[])]).err().expect("a copy");
        assert_eq!(twice.kind, ErrorKind::Invalid);
        let foreign = Label { pool: [2; 16], ..label(1, 3, &[]) };
        assert_eq!(of(&[label(0, 7, &[]), foreign]).err().map(|error| error.kind), Some(ErrorKind::Format));
    }

    #[test]
    fn disks_without_a_label_are_left_alone() {
        let found = assemble(vec![disk(None), disk(Some(&label(0, 7, &[]))), disk(Some(&label(1, 7, &[])))]);
        assert_eq!(indexes(&found.unwrap()), [0, 1]);
        assert_eq!(assemble(vec![disk(None)]).err().map(|error| error.kind), Some(ErrorKind::NotFound));
    }
}
