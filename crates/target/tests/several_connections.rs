//! Sessions of several connections over real sockets (RFC 7143 §4.2.2, §6.3.4, §7.5, §11.14).

#![allow(
    clippy::disallowed_methods,
    clippy::unwrap_used,
    clippy::panic,
    reason = "tests keep their own time"
)]

mod common;

use bytes::Bytes;
use common::*;
use iscsi::initiator::{CloseReason, Command, Completion, Config as InitiatorConfig, Event, Session, TaskId};
use iscsi::parameters::Offer;
use iscsi::pdu::{LoginStatus, ScsiStatus};
use iscsi::{Cid, HeapPool, Isid, Tsih};
use std::collections::{HashMap, HashSet, VecDeque};
use std::net::SocketAddr;
use std::time::{Duration, Instant};
use target::Digests;
use tokio::net::TcpStream;

const CONNECTIONS: u16 = 8;

/// An initiator with a session of several sockets.
struct Host {
    session: Session<HeapPool>,
    sockets: Vec<(Cid, TcpStream, VecDeque<u8>)>,
    origin: Instant,
    logged_in: HashSet<Cid>,
    done: HashMap<TaskId, Completion>,
    closed: HashMap<Cid, CloseReason>,
}

fn config(isid: u8) -> InitiatorConfig {
    let mut config = InitiatorConfig::normal(HOST, TARGET);
    config.isid = Isid([0x80, 0, 0, 0, 0, isid]);
    config.offer = Offer { max_connections: CONNECTIONS, ..Offer::default() };
    config
}

impl Host {
    async fn connect(address: SocketAddr, isid: u8, connections: u16) -> Self {
        let mut host = Self {
            session: Session::new(config(isid), HeapPool, Duration::ZERO),
            sockets: vec![(Cid(1), TcpStream::connect(address).await.unwrap(), VecDeque::new())],
            origin: Instant::now(),
            logged_in: HashSet::new(),
            done: HashMap::new(),
            closed: HashMap::new(),
        };
        host.until(|host| host.logged_in.contains(&Cid(1))).await;
        for cid in 2..=connections {
            host.add(address, Cid(cid)).await;
        }
        host.until(|host| host.logged_in.len() == usize::from(connections)).await;
        host
    }

    /// Makes another connection; its login goes on while pumping.
    async fn add(&mut self, address: SocketAddr, cid: Cid) {
        self.sockets.retain(|(other, ..)| *other != cid);
        self.logged_in.remove(&cid);
        assert!(self.session.connect(cid, self.origin.elapsed()));
        self.sockets.push((cid, TcpStream::connect(address).await.unwrap(), VecDeque::new()));
    }

    /// One connection is gone, with all that is on its way.
    fn cut(&mut self, cid: Cid) {
        self.sockets.retain(|(other, ..)| *other != cid);
        self.session.remove(cid);
    }

    /// Moves what can be moved.
    fn pump(&mut self) {
        let now = self.origin.elapsed();
        let mut gone = Vec::new();
        for (cid, socket, unsent) in &mut self.sockets {
            let mut chunks = VecDeque::new();
            if unsent.len() < 1 << 20 {
                self.session.poll_transmit(*cid, &mut chunks, 1 << 20);
            }
            chunks.into_iter().for_each(|chunk| unsent.extend(chunk));
            while let Ok(sent @ 1..) = socket.try_write(unsent.make_contiguous()) {
                unsent.drain(..sent);
            }
            loop {
                let space = self.session.recv_space(*cid);
                if space.is_empty() {
                    break;
                }
                match socket.try_read(space) {
                    Ok(0) => {
                        gone.push(*cid);
                        break;
                    }
                    Ok(count) => self.session.received(*cid, count, now),
                    Err(_) => break,
                }
            }
        }
        while let Some((cid, event)) = self.session.poll_event() {
            match event {
                Event::LoggedIn(_) => drop(self.logged_in.insert(cid)),
                Event::Completed(completion) => drop(self.done.insert(completion.task, completion)),
                Event::Closed(reason) => drop(self.closed.insert(cid, reason)),
                _ => {}
            }
        }
        gone.into_iter().for_each(|cid| self.cut(cid));
    }

    async fn until(&mut self, condition: impl Fn(&Self) -> bool) {
        soon(async {
            while !condition(self) {
                self.pump();
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        })
        .await;
    }

    /// Gives the other side time to do what it should not do.
    async fn a_while(&mut self) {
        for _ in 0..100 {
            self.pump();
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    }

    fn start(&mut self, cid: u16, command: Command) -> TaskId {
        let task = self.session.submit(Cid(cid), command).unwrap();
        self.pump();
        task
    }

    async fn run(&mut self, cid: u16, command: Command) -> Completion {
        let task = self.start(cid, command);
        self.until(|host| host.done.contains_key(&task)).await;
        self.done.remove(&task).unwrap()
    }

    /// Takes the unit attention that greets a new nexus: one for all its connections.
    async fn greeted(mut self) -> Self {
        assert_eq!(self.run(1, test_unit_ready()).await.status, ScsiStatus::CheckCondition);
        self
    }
}

/// Blocks whose every byte tells where they belong and when they were written.
fn stamped(lba: u64, round: u8) -> Command {
    let byte = u8::try_from(lba % 251).unwrap() ^ round;
    write16(lba, 8, byte)
}

#[tokio::test]
async fn eight_connections_are_one_session() {
    let bench = Bench::new();
    let mut host = Host::connect(bench.address(), 1, CONNECTIONS).await.greeted().await;
    let sessions = bench.server.sessions();
    assert_eq!(sessions.len(), 1);
    let mut cids: Vec<u16> = sessions[0].connections.iter().map(|connection| connection.cid.0).collect();
    cids.sort_unstable();
    assert_eq!(cids, (1..=CONNECTIONS).collect::<Vec<_>>());
    let none = Some(Digests { header: false, data: false });
    assert!(sessions[0].connections.iter().all(|connection| connection.digests == none), "all are logged in");
    let peers: HashSet<SocketAddr> =
        sessions[0].connections.iter().map(|connection| connection.peer).collect();
    assert_eq!(peers.len(), usize::from(CONNECTIONS));
    let mut tasks = Vec::new();
    for number in 0..200_u16 {
        tasks.push(host.start(1 + number % CONNECTIONS, stamped(u64::from(number) * 8, 0)));
    }
    host.until(|host| tasks.iter().all(|task| host.done.contains_key(task))).await;
    assert!(
        host.done.values().all(|completion| completion.status == ScsiStatus::Good),
        "one unit attention in all"
    );
    for number in 0..200_u16 {
        let lba = u64::from(number) * 8;
        let read = host.run(1 + (number + 3) % CONNECTIONS, read16(lba, 8)).await;
        assert_eq!(read.data_in, Bytes::from(vec![u8::try_from(lba % 251).unwrap(); 4096]));
    }
    assert_eq!(bench.server.sessions()[0].commands, 401);
}

/// RFC 7143 §7.5: a connection is cut while writes are under way on all eight, again and again. What was acknowledged
/// is there; other connections go on, or, where a command is missing, the session ends and the host logs in anew
/// (§7.1.4.4).
#[tokio::test]
async fn a_connection_cut_mid_write_under_load_loses_nothing_that_was_acknowledged() {
    let bench = Bench::with(|config| config.connection.command_gap_wait = Duration::from_millis(1));
    let mut acknowledged: HashMap<u64, u8> = HashMap::new();
    let mut goes_on = 0;
    for round in 1..=5_u8 {
        let mut host = Host::connect(bench.address(), 1, CONNECTIONS).await.greeted().await;
        let mut under_way = HashMap::new();
        for number in 0..160_u16 {
            let lba = u64::from(number) * 8;
            let cid = 1 + number % CONNECTIONS;
            let Some(task) = host.session.submit(Cid(cid), stamped(lba, round)) else { continue };
            under_way.insert(task, (cid, lba));
            if number % 3 == 0 {
                host.pump();
            }
            if number == 100 {
                for _ in 0..round {
                    host.pump();
                }
                host.cut(Cid(5));
            }
        }
        let ours = |cid: u16| cid != 5;
        host.until(|host| {
            let all_done =
                under_way.iter().all(|(task, (cid, _))| !ours(*cid) || host.done.contains_key(task));
            all_done || host.session.is_over()
        })
        .await;
        goes_on += u32::from(!host.session.is_over());
        for (task, (_, lba)) in under_way {
            match host.done.get(&task) {
                Some(completion) => {
                    assert_eq!(completion.status, ScsiStatus::Good);
                    acknowledged.insert(lba, round);
                }
                // Written or not.
                None => drop(acknowledged.remove(&lba)),
            }
        }
        drop(host);
        let mut check = Host::connect(bench.address(), 1, 2).await.greeted().await;
        for (lba, round) in &acknowledged {
            let read = check.run(2, read16(*lba, 8)).await;
            let byte = u8::try_from(lba % 251).unwrap() ^ round;
            assert!(read.data_in.iter().all(|read| *read == byte), "block {lba} after round {round}");
        }
    }
    assert!(acknowledged.len() > 30, "{} blocks", acknowledged.len());
    assert_eq!(bench.server.status().panics, 0);
    println!("the session went on {goes_on} times of 5");
}

/// Promise 7: what a lost connection has on the medium ends before anything newer of the session begins there.
#[tokio::test]
async fn a_write_of_a_lost_connection_lands_before_newer_ones() {
    let bench = Bench::new();
    let mut host = Host::connect(bench.address(), 1, 2).await.greeted().await;
    bench.volume.hang(true);
    host.start(2, write16(0, 8, 0xaa));
    bench.volume.until_under_way(1).await;
    host.cut(Cid(2));
    eventually(|| bench.server.sessions()[0].connections.len() == 1).await;
    let newer = host.start(1, write16(0, 8, 0xbb));
    host.a_while().await;
    assert!(!host.done.contains_key(&newer));
    assert_eq!(bench.volume.under_way.load(std::sync::atomic::Ordering::SeqCst), 1, "the newer one waits");
    bench.volume.hang(false);
    host.until(|host| host.done.contains_key(&newer)).await;
    assert_eq!(*bench.volume.writes.lock(), [(0, 0xaa), (0, 0xbb)]);
}

/// RFC 7143 §6.3.4: tasks of the old connection end before the new one goes on.
#[tokio::test]
async fn a_connection_made_anew_waits_for_what_the_old_one_began() {
    let bench = Bench::new();
    let mut host = Host::connect(bench.address(), 1, 2).await.greeted().await;
    let tsih = bench.server.sessions()[0].tsih;
    bench.volume.hang(true);
    let lost = host.start(2, write16(0, 8, 0xaa));
    bench.volume.until_under_way(1).await;
    host.add(bench.address(), Cid(2)).await;
    host.a_while().await;
    assert!(!host.logged_in.contains(&Cid(2)), "the login waits");
    bench.volume.hang(false);
    host.until(|host| host.logged_in.contains(&Cid(2))).await;
    assert_eq!(host.run(2, write16(8, 8, 0xbb)).await.status, ScsiStatus::Good);
    assert!(!host.done.contains_key(&lost), "it gets no answer");
    let sessions = bench.server.sessions();
    assert_eq!((sessions.len(), sessions[0].tsih, sessions[0].connections.len()), (1, tsih, 2));
    assert_eq!(*bench.volume.writes.lock(), [(0, 0xaa), (4096, 0xbb)]);
}

/// RFC 7143 §11.14.1, reason 1, and 0.
#[tokio::test]
async fn a_logout_closes_one_connection_or_all() {
    let bench = Bench::new();
    let mut host = Host::connect(bench.address(), 1, 3).await.greeted().await;
    host.session.logout_connection(Cid(1), Cid(3));
    eventually(|| {
        host.pump();
        bench.server.sessions()[0].connections.len() == 2
    })
    .await;
    assert_eq!(host.run(2, test_unit_ready()).await.status, ScsiStatus::Good, "the others go on");
    host.session.logout(Cid(2));
    eventually(|| {
        host.pump();
        bench.server.sessions().is_empty() && bench.server.status().connections == 0
    })
    .await;
}

/// RFC 7143 §13.2, §11.13.5: status 0206h, and 020Ah for a session that is not there.
#[tokio::test]
async fn logins_that_cannot_join_are_told_why() {
    let bench = Bench::with(|config| config.connection.offer.max_connections = 2);
    let mut host = Host::connect(bench.address(), 1, 2).await.greeted().await;
    host.add(bench.address(), Cid(3)).await;
    host.until(|host| host.closed.contains_key(&Cid(3))).await;
    let refused = |status| CloseReason::LoginRefused { status, address: None };
    assert_eq!(host.closed[&Cid(3)], refused(LoginStatus::TooManyConnections));
    assert_eq!(host.run(2, test_unit_ready()).await.status, ScsiStatus::Good);
    let elsewhere = InitiatorConfig { tsih: Tsih(4711), ..config(1) };
    let answer = soon(Client::connect(bench.address(), elsewhere)).await.err();
    assert_eq!(answer, Some(refused(LoginStatus::SessionDoesNotExist)));
    // RFC 7143 §6.3.1: a TSIH is good for its own initiator port only.
    let tsih = bench.server.sessions()[0].tsih;
    let stranger = InitiatorConfig { tsih, ..config(2) };
    let answer = soon(Client::connect(bench.address(), stranger)).await.err();
    assert_eq!(answer, Some(refused(LoginStatus::SessionDoesNotExist)));
}

/// RFC 7143 §6.3.5: a login of the same port with TSIH 0 ends the old session with all its connections.
#[tokio::test]
async fn a_session_made_anew_ends_all_connections_of_the_old_one() {
    let bench = Bench::new();
    let mut old = Host::connect(bench.address(), 1, CONNECTIONS).await.greeted().await;
    let mut new = Host::connect(bench.address(), 1, 1).await;
    old.until(|host| host.sockets.is_empty()).await;
    eventually(|| bench.server.sessions().len() == 1 && bench.server.status().connections == 1).await;
    assert_eq!(
        new.run(1, test_unit_ready()).await.status,
        ScsiStatus::CheckCondition,
        "it is told of the loss"
    );
}

/// RFC 7143 §11.9.1: every connection is asked, and leaves by itself; the session ends with the last.
#[tokio::test]
async fn a_request_for_logout_goes_to_every_connection() {
    let bench = Bench::new();
    let mut host = Host::connect(bench.address(), 1, CONNECTIONS).await.greeted().await;
    assert!(bench.server.request_logout(bench.server.sessions()[0].id, Duration::from_secs(20)));
    host.until(|host| host.closed.len() == usize::from(CONNECTIONS)).await;
    assert!(host.closed.values().all(|reason| *reason == CloseReason::AskedToLeave), "{:?}", host.closed);
    eventually(|| bench.server.sessions().is_empty()).await;
}
