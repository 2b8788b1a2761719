//! Sessions over real sockets: commands, reinstatement, task management, limits, shutdown.

mod common;

use common::*;
use iscsi::initiator::{CloseReason, Config as InitiatorConfig};
use iscsi::pdu::{LoginStatus, ScsiStatus, TaskManagementFunction, TaskManagementResponse};
use std::sync::atomic::Ordering;
use std::time::Duration;
use tokio::io::AsyncReadExt;
use tokio::net::TcpStream;

#[tokio::test]
async fn what_is_written_is_read_back() {
    let bench = Bench::new();
    let mut client = bench.ready(1).await;
    for (lba, blocks) in [(0, 1), (8, 8), (100, 512), (1000, 8192)] {
        let byte = u8::try_from(lba % 251).unwrap() + 1;
        assert_eq!(soon(client.run(write16(lba, blocks, byte))).await.status, ScsiStatus::Good);
        let back = soon(client.run(read16(lba, blocks))).await;
        assert_eq!(back.status, ScsiStatus::Good);
        assert!(back.data_in.len() == blocks as usize * 512 && back.data_in.iter().all(|b| *b == byte));
    }
    let info = &bench.server.sessions()[0];
    assert_eq!((info.initiator.as_str(), info.target.as_deref()), (HOST, Some(TARGET)));
    assert_eq!(info.bytes_written, (1 + 8 + 512 + 8192) * 512);
    assert!(info.bytes_read >= info.bytes_written && info.commands >= 10);
    assert!(info.parameters.is_some());
    soon(client.logout()).await;
    assert_eq!(client.closed, Some(CloseReason::LoggedOut));
    eventually(|| bench.server.sessions().is_empty() && bench.unit.session_count() == 0).await;
    assert_eq!(bench.server.status().bytes_in_flight, 0, "all memory is given back");
}

#[tokio::test]
async fn many_commands_at_once_each_get_their_own_data() {
    let bench = Bench::new();
    let mut client = bench.ready(1).await;
    let mut writes = Vec::new();
    for number in 0..200u8 {
        writes.push(client.start(write16(u64::from(number) * 8, 8, number)).await);
    }
    for write in writes {
        assert_eq!(soon(client.end_of(write)).await.unwrap().status, ScsiStatus::Good);
    }
    let mut reads = Vec::new();
    for number in 0..200u8 {
        reads.push((number, client.start(read16(u64::from(number) * 8, 8)).await));
    }
    for (number, read) in reads {
        let data = soon(client.end_of(read)).await.unwrap().data_in;
        assert!(data.len() == 4096 && data.iter().all(|byte| *byte == number), "block {number}");
    }
}

#[tokio::test]
async fn failures_of_the_volume_reach_the_host_in_its_words() {
    let bench = Bench::new();
    let mut client = bench.ready(1).await;
    // Promise 5: SPACE ALLOCATION FAILED WRITE PROTECT, and all is well once there is space.
    *bench.volume.fails.lock() = Some(block::ErrorKind::NoSpace);
    assert_eq!(sense(&soon(client.run(write16(0, 8, 1))).await), (0x07, 0x27, 0x07));
    *bench.volume.fails.lock() = Some(block::ErrorKind::Corrupt);
    assert_eq!(sense(&soon(client.run(read16(0, 8))).await).0, 0x03, "MEDIUM ERROR");
    *bench.volume.fails.lock() = None;
    assert_eq!(soon(client.run(write16(0, 8, 1))).await.status, ScsiStatus::Good);
}

/// Promise 8: a stuck volume stalls neither NOP nor login nor another volume.
#[tokio::test]
async fn a_stuck_volume_stalls_only_its_own_commands() {
    let bench = Bench::new();
    let other = HangingVolume::new();
    let units = vec![grant(0, &bench.unit), grant(1, &unit_of(&other, 2))];
    bench.directory.units.lock().insert(TARGET.to_owned(), units);
    let mut client = bench.ready(1).await;
    bench.volume.hang(true);
    let stuck = client.start(read16(0, 8)).await;
    bench.volume.until_under_way(1).await;
    soon(client.ping()).await;
    let mut elsewhere = read16(0, 8);
    elsewhere.lun = iscsi::Lun::from_number(1).unwrap();
    let greeting = soon(client.run(elsewhere.clone())).await;
    assert_eq!(sense(&greeting).0, 0x06);
    assert_eq!(soon(client.run(elsewhere)).await.status, ScsiStatus::Good);
    let mut second = soon(bench.login(HOST, 2)).await;
    soon(second.ping()).await;
    assert!(!client.has_ended(stuck));
    bench.volume.hang(false);
    assert_eq!(soon(client.end_of(stuck)).await.unwrap().status, ScsiStatus::Good);
}

/// Promise 7 and RFC 7143 §6.3.5: the old session's writes land before the new session's first command.
#[tokio::test]
async fn a_reinstated_session_waits_for_what_the_old_one_left() {
    let bench = Bench::new();
    let mut old = bench.ready(1).await;
    bench.volume.hang(true);
    old.start(write16(0, 8, 0xaa)).await;
    bench.volume.until_under_way(1).await;
    let mut new = soon(bench.login(HOST, 1)).await;
    soon(old.until_closed()).await;
    soon(new.ping()).await;
    let greeting = new.start(test_unit_ready()).await;
    let write = new.start(write16(0, 8, 0xbb)).await;
    soon(new.ping()).await;
    assert!(!new.has_ended(greeting) && !new.has_ended(write), "held until the old write is over");
    assert_eq!(bench.volume.under_way.load(Ordering::SeqCst), 1);
    bench.volume.hang(false);
    assert_eq!(sense(&soon(new.end_of(greeting)).await.unwrap()), (0x06, 0x29, 0x07), "NEXUS LOSS");
    assert_eq!(soon(new.end_of(write)).await.unwrap().status, ScsiStatus::Good);
    assert_eq!(*bench.volume.writes.lock(), [(0, 0xaa), (0, 0xbb)]);
    assert_eq!(bench.unit.session_count(), 1, "the old nexus is gone");
}

/// A host that logs in again and again while its volume is stuck does not pile up operations on it.
#[tokio::test]
async fn repeated_logins_on_a_stuck_volume_keep_their_order() {
    let bench = Bench::new();
    let mut first = bench.ready(1).await;
    bench.volume.hang(true);
    first.start(write16(0, 8, 1)).await;
    bench.volume.until_under_way(1).await;
    for number in 2..10 {
        let mut client = soon(bench.login(HOST, 1)).await;
        client.start(write16(0, 8, number)).await;
        soon(client.ping()).await;
    }
    let mut last = soon(bench.login(HOST, 1)).await;
    assert_eq!(bench.volume.under_way.load(Ordering::SeqCst), 1);
    bench.volume.hang(false);
    soon(last.run(test_unit_ready())).await;
    assert_eq!(*bench.volume.writes.lock(), [(0, 1)], "what never started is the host's to send again");
    eventually(|| bench.server.sessions().len() == 1).await;
}

/// A connection that dies lets its writes end before the nexus is gone.
#[tokio::test]
async fn a_dead_connection_leaves_no_half_done_work() {
    let bench = Bench::new();
    let mut client = bench.ready(1).await;
    bench.volume.hang(true);
    client.start(write16(0, 8, 7)).await;
    bench.volume.until_under_way(1).await;
    drop(client);
    eventually(|| bench.server.status().connections == 0).await;
    assert_eq!((bench.server.sessions().len(), bench.unit.session_count()), (1, 1));
    bench.volume.hang(false);
    eventually(|| bench.server.sessions().is_empty()).await;
    assert_eq!((bench.unit.session_count(), bench.volume.writes.lock().len()), (0, 1));
}

/// SAM-5 §7.2: ABORT TASK is answered when the task no longer touches the medium, and the task never is.
#[tokio::test]
async fn an_abort_waits_for_the_medium_and_silences_the_task() {
    let bench = Bench::new();
    let mut client = bench.ready(1).await;
    bench.volume.hang(true);
    let write = client.start(write16(0, 8, 1)).await;
    bench.volume.until_under_way(1).await;
    let abort = client.start_function(TaskManagementFunction::AbortTask, Some(write)).await;
    soon(client.ping()).await;
    assert_eq!(bench.volume.under_way.load(Ordering::SeqCst), 1);
    bench.volume.hang(false);
    assert_eq!(soon(client.end_of_function(abort)).await, TaskManagementResponse::Complete);
    assert_eq!(bench.volume.writes.lock().len(), 1, "the write was over before the answer");
    soon(client.ping()).await;
    assert!(!client.has_ended(write));
    assert_eq!(soon(client.run(write16(0, 8, 2))).await.status, ScsiStatus::Good);
}

/// SAM-5 §6.3.3: LOGICAL UNIT RESET ends everybody's commands, and everybody is told.
#[tokio::test]
async fn a_reset_ends_the_commands_of_all_sessions() {
    let bench = Bench::new();
    let (mut one, mut two) = (bench.ready(1).await, bench.ready(2).await);
    bench.volume.hang(true);
    let of_one = one.start(write16(0, 8, 1)).await;
    let of_two = two.start(write16(8, 8, 2)).await;
    bench.volume.until_under_way(2).await;
    let reset = one.start_function(TaskManagementFunction::LogicalUnitReset, None).await;
    soon(one.ping()).await;
    bench.volume.hang(false);
    assert_eq!(soon(one.end_of_function(reset)).await, TaskManagementResponse::Complete);
    assert_eq!(bench.volume.writes.lock().len(), 2);
    for (client, task) in [(&mut one, of_one), (&mut two, of_two)] {
        let after = soon(client.run(test_unit_ready())).await;
        assert_eq!((sense(&after).0, sense(&after).1), (0x06, 0x29), "reset");
        assert!(!client.has_ended(task));
        assert_eq!(soon(client.run(test_unit_ready())).await.status, ScsiStatus::Good);
    }
}

/// The same for commands that have not started: here, one that waits behind an ORDERED one.
#[tokio::test]
async fn a_reset_ends_the_commands_that_wait_too() {
    let bench = Bench::new();
    let (mut one, mut two) = (bench.ready(1).await, bench.ready(2).await);
    bench.volume.hang(true);
    let mut ordered = write16(8, 8, 2);
    ordered.attribute = iscsi::pdu::TaskAttribute::Ordered;
    two.start(ordered).await;
    let waiting = two.start(write16(16, 8, 3)).await;
    soon(two.ping()).await;
    let reset = one.start_function(TaskManagementFunction::LogicalUnitReset, None).await;
    soon(one.ping()).await;
    bench.volume.hang(false);
    assert_eq!(soon(one.end_of_function(reset)).await, TaskManagementResponse::Complete);
    assert_eq!(sense(&soon(two.run(test_unit_ready())).await).0, 0x06);
    assert!(!two.has_ended(waiting));
    assert_eq!(*bench.volume.writes.lock(), [(8 * 512, 2)], "it never reached the medium");
}

/// The same for a write whose data is still on its way: it reached the medium after the reset was answered.
#[tokio::test]
async fn a_reset_ends_the_writes_that_still_collect_data() {
    let bench = Bench::new();
    let mut one = bench.ready(1).await;
    let mut config = InitiatorConfig::normal(HOST, TARGET);
    config.isid = iscsi::Isid([0x80, 0, 0, 0, 0, 2]);
    (config.offer.immediate_data, config.offer.initial_r2t) = (false, true);
    let mut two = soon(Client::connect(bench.address(), config)).await.unwrap();
    assert_eq!(sense(&soon(two.run(test_unit_ready())).await).0, 0x06);
    let write = two.start(write16(0, 8, 1)).await;
    eventually(|| bench.server.status().bytes_in_flight > 0).await;
    let reset = one.start_function(TaskManagementFunction::LogicalUnitReset, None).await;
    assert_eq!(soon(one.end_of_function(reset)).await, TaskManagementResponse::Complete);
    let after = soon(two.run(test_unit_ready())).await;
    assert_eq!((sense(&after).0, sense(&after).1), (0x06, 0x29), "reset");
    soon(two.ping()).await;
    assert!(!two.has_ended(write));
    assert_eq!(bench.volume.writes.lock().len(), 0, "it never reached the medium");
    eventually(|| bench.server.status().bytes_in_flight == 0).await;
    assert_eq!(soon(two.run(write16(0, 8, 2))).await.status, ScsiStatus::Good);
}

/// RFC 7143 §11.5.1: commands behind the reset are none of its business, even if both come in one segment.
#[tokio::test]
async fn a_reset_spares_what_comes_behind_it_in_the_same_read() {
    let bench = Bench::new();
    let mut client = bench.ready(1).await;
    for round in 0..20 {
        let (reset, ready) = client.start_reset_and(test_unit_ready()).await;
        assert_eq!(soon(client.end_of_function(reset)).await, TaskManagementResponse::Complete);
        let answer = soon(client.end_of(ready)).await.expect("an answer");
        assert_eq!(sense(&answer).0, 0x06, "round {round}");
    }
}

#[tokio::test]
async fn clearing_the_task_set_tells_the_others_only() {
    let bench = Bench::new();
    let (mut one, mut two) = (bench.ready(1).await, bench.ready(2).await);
    let clear = one.start_function(TaskManagementFunction::ClearTaskSet, None).await;
    assert_eq!(soon(one.end_of_function(clear)).await, TaskManagementResponse::Complete);
    assert_eq!(soon(one.run(test_unit_ready())).await.status, ScsiStatus::Good);
    assert_eq!(sense(&soon(two.run(test_unit_ready())).await), (0x06, 0x2f, 0x00));
}

/// RFC 7143 §11.5.1: after TARGET COLD RESET every connection is closed.
#[tokio::test]
async fn a_cold_reset_closes_every_session_of_the_target() {
    let bench = Bench::new();
    let (mut one, mut two) = (bench.ready(1).await, bench.ready(2).await);
    let reset = one.start_function(TaskManagementFunction::TargetColdReset, None).await;
    assert_eq!(soon(one.end_of_function(reset)).await, TaskManagementResponse::Complete);
    soon(one.until_closed()).await;
    soon(two.until_closed()).await;
    eventually(|| bench.server.sessions().is_empty()).await;
}

/// SAM-5 §8.6.3: an ORDERED command starts after all older ones and before all newer ones.
#[tokio::test]
async fn ordered_commands_keep_their_place() {
    let bench = Bench::new();
    let mut client = bench.ready(1).await;
    bench.volume.hang(true);
    let before = client.start(write16(0, 8, 1)).await;
    let mut ordered = write16(0, 8, 2);
    ordered.attribute = iscsi::pdu::TaskAttribute::Ordered;
    let ordered = client.start(ordered).await;
    let after = client.start(write16(0, 8, 3)).await;
    soon(client.ping()).await;
    assert_eq!(bench.volume.under_way.load(Ordering::SeqCst), 1);
    bench.volume.hang(false);
    for task in [before, ordered, after] {
        assert_eq!(soon(client.end_of(task)).await.unwrap().status, ScsiStatus::Good);
    }
    assert_eq!(bench.volume.writes.lock().iter().map(|write| write.1).collect::<Vec<_>>(), [1, 2, 3]);
}

#[tokio::test]
async fn discovery_shows_targets_with_the_address_that_was_asked() {
    let bench = Bench::new();
    let mut client = soon(Client::connect(bench.address(), InitiatorConfig::discovery(HOST))).await.unwrap();
    let targets = soon(client.targets()).await;
    assert_eq!(targets.len(), 1);
    assert_eq!(targets[0].name, TARGET);
    assert_eq!(targets[0].addresses, [format!("{},1", bench.address())]);
    bench.directory.refused.lock().push(HOST.to_owned());
    assert!(soon(client.targets()).await.is_empty(), "no host sees what it was not granted");
}

#[tokio::test]
async fn logins_are_refused_with_the_standards_reasons() {
    let bench = Bench::with(|config| config.limits.sessions_per_initiator_max = 1);
    let refusal = |result: Result<Client, CloseReason>| match result.err() {
        Some(CloseReason::LoginRefused { status, .. }) => status,
        other => panic!("{other:?}"),
    };
    let config = InitiatorConfig::normal(HOST, "iqn.2026-01.io.palisade:other");
    assert_eq!(refusal(soon(Client::connect(bench.address(), config)).await), LoginStatus::NotFound);
    bench.directory.refused.lock().push("iqn.2026-01.org.example:stranger".to_owned());
    let stranger = bench.try_login("iqn.2026-01.org.example:stranger", 1);
    assert_eq!(refusal(soon(stranger).await), LoginStatus::AuthorizationFailure);
    let _one = bench.login(HOST, 1).await;
    assert_eq!(refusal(soon(bench.try_login(HOST, 2)).await), LoginStatus::OutOfResources);
    let mut config = InitiatorConfig::normal(HOST, TARGET);
    config.tsih = iscsi::Tsih(999);
    assert_eq!(
        refusal(soon(Client::connect(bench.address(), config)).await),
        LoginStatus::SessionDoesNotExist
    );
}

#[tokio::test]
async fn granting_revoking_and_growing_reach_live_sessions() {
    let bench = Bench::new();
    let mut client = bench.ready(1).await;
    bench.volume.grow(SIZE * 2);
    bench.unit.capacity_changed().unwrap();
    assert_eq!(sense(&soon(client.run(test_unit_ready())).await), (0x06, 0x2a, 0x09));
    assert_eq!(soon(client.run(read16(SIZE as u64 / 512, 8))).await.status, ScsiStatus::Good);

    let second = unit_of(&HangingVolume::new(), 2);
    bench.directory.units.lock().get_mut(TARGET).unwrap().push(grant(1, &second));
    bench.server.target_changed(TARGET);
    eventually(|| second.session_count() == 1).await;
    assert_eq!(sense(&soon(client.run(test_unit_ready())).await), (0x06, 0x3f, 0x0e), "LUNS CHANGED");

    bench.directory.units.lock().get_mut(TARGET).unwrap().pop();
    bench.server.target_changed(TARGET);
    eventually(|| second.session_count() == 0).await;
    assert_eq!(sense(&soon(client.run(test_unit_ready())).await), (0x06, 0x3f, 0x0e));
    let mut gone = test_unit_ready();
    gone.lun = iscsi::Lun::from_number(1).unwrap();
    assert_eq!(sense(&soon(client.run(gone)).await), (0x05, 0x25, 0x00), "LOGICAL UNIT NOT SUPPORTED");

    bench.directory.refused.lock().push(HOST.to_owned());
    bench.server.target_changed(TARGET);
    soon(client.until_closed()).await;
    assert!(soon(bench.try_login(HOST, 1)).await.is_err());
}

/// Promise 9: half-open connections are bounded and disturb nobody.
#[tokio::test]
async fn a_flood_of_half_open_connections_disturbs_nobody() {
    let bench = Bench::with(|config| config.limits.half_open_max = 16);
    let mut client = bench.ready(1).await;
    let mut flood = Vec::new();
    for _ in 0..400 {
        flood.push(TcpStream::connect(bench.address()).await.unwrap());
    }
    assert_eq!(soon(client.run(write16(0, 8, 1))).await.status, ScsiStatus::Good);
    eventually(|| bench.server.status().refused >= 400 - 16).await;
    assert!(bench.server.status().half_open <= 16);
    assert_eq!(soon(flood[0].read(&mut [0; 16])).await.unwrap_or(0), 0, "the oldest was closed");
    let mut late = soon(bench.login(HOST, 2)).await;
    soon(late.ping()).await;
    soon(client.ping()).await;
}

#[tokio::test]
async fn a_login_that_never_comes_times_out() {
    let bench = Bench::with(|config| config.connection.login_timeout = Duration::from_millis(50));
    let mut silent = TcpStream::connect(bench.address()).await.unwrap();
    assert_eq!(soon(silent.read(&mut [0; 16])).await.unwrap_or(0), 0);
    eventually(|| bench.server.status().connections == 0).await;
}

/// A panic in one connection's code closes that connection, is counted, and disturbs nobody.
#[tokio::test]
async fn a_panic_costs_one_connection() {
    let bench = Bench::with(|config| config.reactors = 1);
    let mut client = bench.ready(1).await;
    let stream = TcpStream::connect(bench.address()).await.unwrap();
    drop(stream);
    let mut poisoned = Box::pin(Client::connect_to(bench.address(), InitiatorConfig::normal(POISON, TARGET)));
    assert!(soon(&mut poisoned).await.is_none(), "closed");
    eventually(|| bench.server.status().panics == 1).await;
    assert_eq!(soon(client.run(write16(0, 8, 1))).await.status, ScsiStatus::Good);
    eventually(|| bench.server.status().connections == 1).await;
}

#[tokio::test]
async fn many_sessions_work_side_by_side() {
    let bench = Bench::with(|config| config.limits.sessions_per_initiator_max = 100);
    let mut clients = Vec::new();
    for isid in 0..50 {
        clients.push(bench.ready(isid).await);
    }
    assert_eq!((bench.server.sessions().len(), bench.unit.session_count()), (50, 50));
    let mut tasks = Vec::new();
    for (number, client) in clients.iter_mut().enumerate() {
        tasks.push(client.start(write16(number as u64 * 8, 8, number as u8)).await);
    }
    for (client, task) in clients.iter_mut().zip(tasks) {
        assert_eq!(soon(client.end_of(task)).await.unwrap().status, ScsiStatus::Good);
    }
    drop(clients);
    eventually(|| bench.server.sessions().is_empty() && bench.server.status().connections == 0).await;
}

/// Promise 9: a peer that does not read its answers makes the server hold a bounded amount.
#[tokio::test]
async fn a_peer_that_does_not_read_does_not_grow_memory() {
    let limit = 4 << 20;
    let bench = Bench::with(|config| config.limits.session_bytes_max = limit);
    let mut client = bench.ready(1).await;
    for _ in 0..100 {
        client.start(read16(0, 2048)).await;
    }
    tokio::time::sleep(Duration::from_millis(300)).await;
    let held = bench.server.status().bytes_in_flight;
    assert!(held <= limit + (1 << 20), "{held} bytes are held");
    let last = client.start(read16(0, 8)).await;
    assert_eq!(
        soon(client.end_of(last)).await.unwrap().status,
        ScsiStatus::Good,
        "all of it arrives in the end"
    );
}

/// When memory runs out hosts are told TASK SET FULL, and each session still gets on.
#[tokio::test]
async fn without_memory_each_session_still_has_one_command() {
    let bench = Bench::with(|config| config.limits.bytes_max = 1);
    let mut client = bench.ready(1).await;
    bench.volume.hang(true);
    let first = client.start(read16(0, 8)).await;
    bench.volume.until_under_way(1).await;
    let second = client.start(read16(0, 8)).await;
    assert_eq!(soon(client.end_of(second)).await.unwrap().status, ScsiStatus::TaskSetFull);
    bench.volume.hang(false);
    assert_eq!(soon(client.end_of(first)).await.unwrap().status, ScsiStatus::Good);
    assert_eq!(soon(client.run(read16(0, 8))).await.status, ScsiStatus::Good);
}

/// The data of writes was let in on their headers, whatever the limit on all sessions' memory.
#[tokio::test]
async fn writes_without_memory_for_their_data_are_turned_away() {
    let limit = 1 << 20;
    let bench = Bench::with(|config| config.limits.bytes_max = limit);
    let mut client = bench.ready(1).await;
    let mut writes = Vec::new();
    for number in 0..20 {
        writes.push(client.start(write16(0, 2048, number + 1)).await);
    }
    tokio::time::sleep(Duration::from_millis(200)).await;
    let held = bench.server.status().bytes_in_flight;
    assert!(held <= 2 * limit, "{held} bytes are held");
    let mut ends = Vec::new();
    for write in writes {
        ends.push(soon(client.end_of(write)).await.unwrap().status);
    }
    assert!(
        ends.iter().all(|status| [ScsiStatus::Good, ScsiStatus::TaskSetFull].contains(status)),
        "{ends:?}"
    );
    assert!(ends.contains(&ScsiStatus::Good) && ends.contains(&ScsiStatus::TaskSetFull), "{ends:?}");
    assert_eq!(soon(client.run(write16(0, 8192, 9))).await.status, ScsiStatus::Good, "one may always go");
}

/// One reactor, and a host that reads as fast as it can: the others on that reactor still have their turn.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_busy_connection_leaves_others_their_turn() {
    let bench = Bench::with(|config| config.reactors = 1);
    let (mut busy, mut quiet) = (bench.ready(1).await, bench.ready(2).await);
    let work = tokio::spawn(async move {
        for _ in 0..20 {
            let mut reads = Vec::new();
            for _ in 0..16 {
                reads.push(busy.start(read16(0, 8192)).await);
            }
            for read in reads {
                assert_eq!(busy.end_of(read).await.unwrap().status, ScsiStatus::Good);
            }
        }
    });
    let mut pings = 0;
    while !work.is_finished() {
        soon(quiet.ping()).await;
        pings += 1;
    }
    work.await.unwrap();
    assert!(pings > 20, "{pings} in the time of 20 rounds of 64 MiB");
}

#[tokio::test]
async fn shutdown_answers_what_is_under_way() {
    let bench = Bench::new();
    let mut client = bench.ready(1).await;
    bench.volume.hang(true);
    let write = client.start(write16(0, 8, 5)).await;
    bench.volume.until_under_way(1).await;
    let shutdown = bench.server.shutdown(Duration::from_secs(10));
    let observe = async {
        bench.volume.hang(false);
        let answer = client.end_of(write).await.expect("answered before the close");
        client.until_closed().await;
        answer
    };
    let (clean, answer) = soon(async { tokio::join!(shutdown, observe) }).await;
    assert!(clean);
    assert_eq!(answer.status, ScsiStatus::Good);
    assert!(TcpStream::connect(bench.address()).await.is_err(), "no more connections");
}

#[tokio::test]
async fn shutdown_does_not_wait_for_a_stuck_volume_forever() {
    let bench = Bench::new();
    let mut client = bench.ready(1).await;
    bench.volume.hang(true);
    client.start(write16(0, 8, 5)).await;
    bench.volume.until_under_way(1).await;
    assert!(!soon(bench.server.shutdown(Duration::from_millis(50))).await);
    soon(client.until_closed()).await;
}

#[tokio::test]
async fn a_taken_port_is_explained() {
    let bench = Bench::new();
    let config = target::Config::new(&[bench.address()]);
    let directory = std::sync::Arc::new(TestDirectory::default());
    let error = target::Server::start(config, directory).err().unwrap().to_string();
    assert!(error.contains("taken") && error.contains(&bench.address().to_string()), "{error}");
}

#[tokio::test]
async fn ipv6_portals_serve_too() {
    let bench = Bench::with(|config| {
        let portal = target::Config::new(&["[::1]:0".parse().unwrap()]).portals[0];
        config.portals.push(portal);
    });
    let address = bench.server.addresses()[1];
    let config = InitiatorConfig::normal(HOST, TARGET);
    let mut client = soon(Client::connect(address, config)).await.unwrap();
    soon(client.ping()).await;
    assert_eq!(bench.server.sessions()[0].portal, address);
}
