//! Tests of the model: what it allows, and what it does not.

use super::{Model, Presence, VolumeId};
use crate::content::{SECTOR, WriteId, fill};
use crate::disk::Crash;

const ID: VolumeId = [1; 16];
const COPY: VolumeId = [2; 16];

fn model(buffered: bool) -> Model {
    let mut model = Model::new();
    model.begin_create(ID, 64 * 1024, buffered);
    model.set_presence(&ID, Presence::Certain);
    model
}

/// The content of sectors `first..` as the writes given left them; 0 stands for zeros.
fn content(first: u32, writes: &[u32]) -> Vec<u8> {
    let mut data = vec![0; writes.len() * SECTOR];
    for ((sector, &write), bytes) in (first..).zip(writes).zip(data.chunks_mut(SECTOR)) {
        if write != 0 {
            fill(bytes, WriteId(write), sector);
        }
    }
    data
}

fn write(model: &mut Model, first: u32, count: u32) -> u32 {
    let write = model.begin_write(&ID, first, count, false, false);
    model.ack_write(&ID, write);
    write.0
}

/// Whether a read of the sectors may find the writes given.
fn reads(model: &mut Model, first: u32, writes: &[u32]) -> bool {
    let start = model.tick();
    model.observe_read(&ID, first, &content(first, writes), start).is_ok()
}

#[test]
fn an_acknowledged_write_is_found_and_nothing_older() {
    let mut model = model(false);
    let first = write(&mut model, 0, 8);
    let second = write(&mut model, 0, 8);
    assert!(!reads(&mut model, 0, &[first; 8]));
    assert!(!reads(&mut model, 0, &[0; 8]));
    assert!(reads(&mut model, 0, &[second; 8]));
}

#[test]
fn writes_at_the_same_time_end_in_either_order_until_a_read_says_which() {
    let mut model = model(false);
    let one = model.begin_write(&ID, 0, 8, false, false);
    let two = model.begin_write(&ID, 0, 8, false, false);
    model.ack_write(&ID, one);
    model.ack_write(&ID, two);
    assert!(reads(&mut model, 0, &[one.0; 8]));
    assert!(!reads(&mut model, 0, &[two.0; 8]), "the first read settled it");
}

#[test]
fn a_read_during_a_write_may_find_either_and_no_later_read_goes_back() {
    let mut model = model(false);
    let old = write(&mut model, 0, 8);
    let new = model.begin_write(&ID, 0, 8, false, false);
    assert!(reads(&mut model, 0, &[old; 8]));
    assert!(reads(&mut model, 0, &[new.0; 8]));
    assert!(!reads(&mut model, 0, &[old; 8]));
}

#[test]
fn a_read_that_began_before_the_acknowledgement_may_find_the_old_content() {
    let mut model = model(false);
    let old = write(&mut model, 0, 8);
    let start = model.tick();
    write(&mut model, 0, 8);
    assert!(model.observe_read(&ID, 0, &content(0, &[old; 8]), start).is_ok());
}

#[test]
fn blocks_are_never_torn_but_writes_of_several_blocks_may_be() {
    let mut model = model(false);
    let old = write(&mut model, 0, 16);
    let new = model.begin_write(&ID, 0, 16, false, false);
    model.crash(Crash::Machine);
    let torn = [vec![new.0; 4], vec![old; 12]].concat();
    assert!(!reads(&mut model, 0, &torn));
    let half = [vec![new.0; 8], vec![old; 8]].concat();
    assert!(model.observe_all(&ID, &[content(0, &half), vec![0; 64 * 1024 - 16 * SECTOR]].concat()).is_ok());
    assert!(reads(&mut model, 0, &half), "what was found stays");
    assert!(!reads(&mut model, 0, &[new.0; 16]));
}

#[test]
fn durable_volumes_lose_nothing_in_any_crash() {
    let mut model = model(false);
    let old = write(&mut model, 0, 8);
    let new = write(&mut model, 0, 8);
    model.crash(Crash::Machine);
    assert!(!reads(&mut model, 0, &[old; 8]));
    assert!(reads(&mut model, 0, &[new; 8]));
}

#[test]
fn buffered_volumes_lose_only_what_was_not_flushed_and_only_with_the_machine() {
    for (crash, flushed, lost) in [
        (Crash::Process, false, false),
        (Crash::Machine, false, true),
        (Crash::Machine, true, false),
        (Crash::Process, true, false),
    ] {
        let mut model = model(true);
        let old = write(&mut model, 0, 8);
        write(&mut model, 0, 8);
        if flushed {
            let start = model.tick();
            model.ack_flush(&ID, start);
        }
        model.crash(crash);
        assert_eq!(reads(&mut model, 0, &[old; 8]), lost, "{crash:?} flushed {flushed}");
    }
}

#[test]
fn what_a_process_crash_left_in_the_cache_is_lost_if_the_machine_crashes_before_opening() {
    let mut model = model(true);
    let old = write(&mut model, 0, 8);
    write(&mut model, 0, 8);
    model.crash(Crash::Process);
    model.crash(Crash::Machine);
    assert!(reads(&mut model, 0, &[old; 8]));
}

#[test]
fn a_durable_write_to_a_buffered_volume_stays() {
    let mut model = model(true);
    let old = write(&mut model, 0, 8);
    let new = model.begin_write(&ID, 0, 8, false, true);
    model.ack_write(&ID, new);
    model.crash(Crash::Machine);
    assert!(!reads(&mut model, 0, &[old; 8]));
}

#[test]
fn a_write_that_found_no_space_is_never_seen() {
    let mut model = model(false);
    let refused = model.begin_write(&ID, 0, 8, false, false);
    model.refuse_write(&ID, refused);
    assert!(!reads(&mut model, 0, &[refused.0; 8]));
    assert!(reads(&mut model, 0, &[0; 8]));
}

#[test]
fn a_failed_write_may_be_seen_until_another_is_acknowledged() {
    let mut model = model(false);
    let failed = model.begin_write(&ID, 0, 8, false, false);
    model.fail_write(failed);
    assert!(reads(&mut model, 0, &[0; 8]));
    assert!(reads(&mut model, 0, &[failed.0; 8]));
    write(&mut model, 0, 8);
    assert!(!reads(&mut model, 0, &[failed.0; 8]));
}

#[test]
fn a_snapshot_has_one_moment_and_keeps_it() {
    let mut model = model(false);
    let before = write(&mut model, 0, 8);
    let start = model.tick();
    let during = model.begin_write(&ID, 0, 8, false, false);
    model.fork(COPY, &ID, start, true, false);
    model.ack_write(&ID, during);
    let after = write(&mut model, 0, 8);
    let mut found = |writes: &[u32]| {
        let start = model.tick();
        model.observe_read(&COPY, 0, &content(0, writes), start).is_ok()
    };
    assert!(!found(&[after; 8]));
    assert!(found(&[during.0; 8]));
    assert!(!found(&[before; 8]), "the first read settled it");
}

#[test]
fn a_snapshot_with_a_later_write_has_the_earlier_one_too() {
    for (first_seen, second_seen, allowed) in [(true, true, true), (true, false, true), (false, true, false)]
    {
        let mut model = model(false);
        let start = model.tick();
        let first = write(&mut model, 0, 8);
        let second = write(&mut model, 8, 8);
        model.fork(COPY, &ID, start, true, false);
        let part = |seen: bool, write: u32| vec![if seen { write } else { 0 }; 8];
        let writes = [part(first_seen, first), part(second_seen, second), vec![0; 112]].concat();
        // Both were acknowledged before the end of the call; before its start, neither was there.
        let volume = model.volumes.get_mut(&COPY).unwrap();
        for sector in 0..16 {
            let mut cell = volume.candidates(sector);
            cell.insert(0, super::cell::Candidate::new(super::NOTHING));
            volume.cells.insert(sector, cell);
        }
        assert_eq!(
            model.observe_all(&COPY, &content(0, &writes)).is_ok(),
            allowed,
            "{first_seen} {second_seen}"
        );
    }
}

#[test]
fn of_two_swaps_of_the_same_content_one_must_fail() {
    let mut model = model(false);
    let old = write(&mut model, 0, 8);
    let start = model.tick();
    let expected = content(0, &[old; 8]);
    let one = model.begin_write(&ID, 0, 8, false, false);
    let two = model.begin_write(&ID, 0, 8, false, false);
    assert!(model.ack_swap(&ID, one, &expected, start).is_ok());
    assert!(reads(&mut model, 0, &[one.0; 8]));
    assert!(model.ack_swap(&ID, two, &expected, start).is_ok(), "its start still saw the old content");
    assert!(
        !reads(&mut model, 0, &[one.0; 8]) && !reads(&mut model, 0, &[two.0; 8]),
        "but no order fits both"
    );
}

#[test]
fn volumes_exist_as_acknowledged() {
    let mut model = model(false);
    assert!(model.observe_volumes(&[]).is_err(), "lost");
    assert!(model.observe_volumes(&[(ID, 64 * 1024), (COPY, 4096)]).is_err(), "from nowhere");
    assert!(model.observe_volumes(&[(ID, 4096)]).is_err(), "of another size");
    model.begin_create(COPY, 4096, false);
    assert!(model.observe_volumes(&[(ID, 64 * 1024)]).is_ok(), "its creation was never acknowledged");
    assert!(model.volume(&COPY).is_none());
}

fn atomic(model: &mut Model, first: u32, count: u32) -> WriteId {
    let write = model.begin_write(&ID, first, count, false, false);
    model.set_whole(write);
    write
}

#[test]
fn of_an_atomic_write_one_read_sees_all_or_nothing() {
    for in_flight in [false, true] {
        let mut model = model(false);
        let old = write(&mut model, 0, 24);
        let new = atomic(&mut model, 4, 16);
        if !in_flight {
            model.ack_write(&ID, new);
        }
        let parts = |inside: u32, from: u32| {
            let is_new = move |sector: u32| (from..20).contains(&sector);
            (0..24).map(|sector| if is_new(sector) { inside } else { old }).collect::<Vec<_>>()
        };
        assert!(!reads(&mut model, 0, &parts(new.0, 8)), "its first sectors are missing");
        assert_eq!(reads(&mut model, 0, &parts(old, 4)), in_flight);
        assert!(reads(&mut model, 0, &parts(new.0, 4)));
    }
}

#[test]
fn an_atomic_write_may_be_overwritten_in_part() {
    let mut model = model(false);
    let new = atomic(&mut model, 0, 16);
    model.ack_write(&ID, new);
    let later = write(&mut model, 8, 8);
    let both: Vec<_> = [[new.0; 8], [later; 8]].concat();
    assert!(reads(&mut model, 0, &both));
}

#[test]
fn a_crash_leaves_all_of_an_atomic_write_or_nothing() {
    for crash in [Crash::Process, Crash::Machine] {
        let after = |found: fn(u32, u32) -> Vec<u32>| {
            let mut model = model(false);
            let old = write(&mut model, 0, 128);
            let new = atomic(&mut model, 0, 16);
            model.crash(crash);
            let data = content(0, &[found(old, new.0), vec![old; 112]].concat());
            model.observe_all(&ID, &data).is_ok()
        };
        assert!(after(|old, _| vec![old; 16]));
        assert!(after(|_, new| vec![new; 16]));
        assert!(!after(|old, new| [[old; 8], [new; 8]].concat()), "torn between blocks");
        assert!(!after(|old, new| [[new; 8], [old; 8]].concat()), "torn between blocks");
    }
}

/// What sectors `first..` hold after a copy of what `write` wrote to those from `from` on.
fn copied(from: u32, write: u32, count: usize) -> Vec<u8> {
    content(from, &vec![write; count])
}

#[test]
fn a_copy_brings_what_its_source_held_and_nothing_else() {
    let mut model = model(false);
    let (older, newer) = (write(&mut model, 0, 8), write(&mut model, 0, 8));
    let copy = model.begin_copy(&ID, 40, 8, (&ID, 0));
    model.ack_write(&ID, copy);
    let start = model.tick();
    assert!(
        model.observe_read(&ID, 40, &copied(0, older, 8), start).is_err(),
        "overwritten before the copy began"
    );
    assert!(model.observe_read(&ID, 40, &content(40, &[copy.0; 8]), start).is_err(), "nobody wrote that");
    assert!(model.observe_read(&ID, 40, &copied(0, newer, 8), start).is_ok());
    write(&mut model, 0, 8);
    let start = model.tick();
    assert!(
        model.observe_read(&ID, 40, &copied(0, newer, 8), start).is_ok(),
        "the source has changed, not the copy"
    );
}

#[test]
fn what_is_written_during_a_copy_is_in_it_or_not_until_a_read_says() {
    let mut model = model(false);
    let before = write(&mut model, 0, 8);
    let copy = model.begin_copy(&ID, 40, 8, (&ID, 0));
    // A copy of what the first brings may bring the same.
    let second = model.begin_copy(&ID, 80, 8, (&ID, 40));
    let during = write(&mut model, 0, 8);
    model.ack_write(&ID, copy);
    model.ack_write(&ID, second);
    let after = write(&mut model, 0, 8);
    let start = model.tick();
    assert!(model.observe_read(&ID, 40, &copied(0, after, 8), start).is_err());
    assert!(model.observe_read(&ID, 40, &copied(0, during, 8), start).is_ok());
    assert!(model.observe_read(&ID, 40, &copied(0, before, 8), start).is_err(), "it was the other");
    assert!(model.observe_read(&ID, 80, &copied(0, during, 8), start).is_ok());
    model.crash(Crash::Machine);
    let start = model.tick();
    assert!(
        model.observe_read(&ID, 40, &copied(0, before, 8), start).is_err(),
        "nor does a crash change that"
    );
}
