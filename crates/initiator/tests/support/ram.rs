//! A target in memory that does what a test tells it: the `iscsi` crate's other role over plain
//! sockets, with just enough SCSI for a disk. It answers everything of one wake-up at once.

use std::collections::VecDeque;
use std::io::{IoSlice, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex};

use bytes::{Buf, Bytes};
use iscsi::pdu::{ScsiStatus, TaskManagementResponse};
use iscsi::target::{
    Command, CommandSizer, Config, Connection, Event, LoginAccept, Redirect, Response, TargetRecord,
};
use iscsi::{HeapPool, Lun, PortalGroupTag, Tsih};
use tokio::time::Instant;

pub(crate) const RAM_TARGET: &str = "iqn.2026-01.io.palisade.test:ram";
const BLOCK: usize = 512;

/// What the target does wrong. A count of 0 is never; `n` is every nth read or write.
#[derive(Default)]
pub(crate) struct Faults {
    /// Ends the command with BUSY.
    pub(crate) busy_every: AtomicU32,
    /// Ends the command with a unit attention, as after a reset.
    pub(crate) attention_every: AtomicU32,
    /// Carries the command out and closes the connection without an answer.
    pub(crate) hang_up_every: AtomicU32,
    /// Acknowledges a write and drops it.
    pub(crate) lose_every: AtomicU32,
    /// Asks for a logout.
    pub(crate) ask_to_leave_every: AtomicU32,
    /// Where logins are sent, and how many of them.
    pub(crate) redirect: Mutex<Option<(String, u32)>>,
    /// Ends a read with MEDIUM ERROR.
    pub(crate) bad_medium_every: AtomicU32,
    /// Commands at this block are not answered; 0 is no such block.
    pub(crate) hold_block: AtomicU64,
    commands: AtomicU32,
}

/// The target, serving until the process ends.
#[derive(Clone)]
pub(crate) struct RamTarget {
    pub(crate) address: SocketAddr,
    pub(crate) faults: Arc<Faults>,
    data: Arc<Mutex<Vec<u8>>>,
}

impl RamTarget {
    /// Serves `length` bytes at `address`, for example `127.0.0.1:0`.
    pub(crate) fn start(address: &str, length: usize) -> Self {
        let listener = TcpListener::bind(address).expect("bind");
        let target = Self {
            address: listener.local_addr().expect("address"),
            faults: Arc::default(),
            data: Arc::new(Mutex::new(vec![0; length])),
        };
        let shared = target.clone();
        std::thread::spawn(move || {
            for socket in listener.incoming().flatten() {
                let target = shared.clone();
                std::thread::spawn(move || target.serve(socket));
            }
        });
        target
    }

    pub(crate) fn url(&self) -> String {
        format!("iscsi://{}/{RAM_TARGET}/0", self.address)
    }

    fn serve(&self, mut socket: TcpStream) -> Option<()> {
        socket.set_nodelay(true).ok()?;
        let origin = Instant::now();
        let config = Config { command_window: 1024, ..Config::default() };
        let mut connection = Connection::new(config, HeapPool, origin.elapsed());
        let mut unsent = VecDeque::new();
        loop {
            let count = socket.read(connection.recv_space()).ok().filter(|count| *count > 0)?;
            connection.received(count, origin.elapsed(), &Sizer);
            while let Some(event) = connection.poll_event() {
                self.handle(&mut connection, event)?;
            }
            while connection.poll_transmit(&mut unsent, 1 << 20) > 0 {
                send(&mut socket, &mut unsent)?;
            }
            if connection.is_closed() {
                return None;
            }
        }
    }

    /// `None` hangs up.
    fn handle(&self, connection: &mut Connection<HeapPool>, event: Event) -> Option<()> {
        match event {
            Event::LoginRequested(_) | Event::LoginProven(_) => match self.redirect() {
                Some(redirect) => connection.login_redirect(&redirect),
                None => connection.login_accept(LoginAccept {
                    tsih: Tsih(1),
                    portal_group_tag: PortalGroupTag(1),
                    target_alias: None,
                }),
            },
            Event::SendTargets(_) => connection
                .send_targets(&[TargetRecord { name: RAM_TARGET.to_owned(), addresses: Vec::new() }]),
            Event::Command(command) => {
                let task = command.task;
                if let Some(response) = self.execute(connection, &command)? {
                    connection.respond(task, response);
                }
            }
            Event::TaskManagement(function) => {
                connection.task_management_response(function.id, TaskManagementResponse::Complete);
            }
            Event::LogoutRequested(_) => connection.logout_accept(),
            Event::AuthenticationFailed(_)
            | Event::SessionEstablished(_)
            | Event::Ended(_)
            | Event::Closed(_) => {}
        }
        Some(())
    }

    fn redirect(&self) -> Option<Redirect> {
        let mut redirect = self.faults.redirect.lock().expect("no test panics with it");
        let (address, left) = redirect.as_mut().filter(|(_, left)| *left > 0)?;
        *left -= 1;
        Some(Redirect { permanent: false, address: address.clone() })
    }

    /// `None` hangs up; `Some(None)` leaves the command without an answer.
    fn execute(&self, connection: &mut Connection<HeapPool>, command: &Command) -> Option<Option<Response>> {
        let cdb = command.cdb.bytes();
        let (lba, blocks) = match cdb[0] {
            0x28 | 0x2A => (u64::from(be(&cdb[2..6]) as u32), be(&cdb[7..9]) as usize),
            0x88 | 0x8A => (be(&cdb[2..10]), be(&cdb[10..14]) as usize),
            0x9E => return Some(Some(self.capacity())),
            _ => return Some(Some(Response::good(Vec::new()))),
        };
        if lba != 0 && lba == self.faults.hold_block.load(Relaxed) {
            return Some(None);
        }
        let turn = self.faults.commands.fetch_add(1, Relaxed) + 1;
        let due = |every: &AtomicU32| matches!(every.load(Relaxed), n if n > 0 && turn.is_multiple_of(n));
        if due(&self.faults.busy_every) {
            return Some(Some(Response::status(ScsiStatus::Busy)));
        }
        if due(&self.faults.attention_every) {
            return Some(Some(Response::check_condition(fixed_sense(6, 0x29))));
        }
        if due(&self.faults.ask_to_leave_every) {
            connection.request_logout(core::time::Duration::from_secs(1), core::time::Duration::ZERO);
        }
        let is_read = matches!(cdb[0], 0x28 | 0x88);
        if is_read && due(&self.faults.bad_medium_every) {
            return Some(Some(Response::check_condition(fixed_sense(3, 0x11))));
        }
        let lose = due(&self.faults.lose_every);
        let answer = self.transfer(command, is_read, lba as usize * BLOCK, blocks * BLOCK, lose);
        if due(&self.faults.hang_up_every) { None } else { Some(Some(answer)) }
    }

    fn transfer(
        &self,
        command: &Command,
        is_read: bool,
        start: usize,
        length: usize,
        lose: bool,
    ) -> Response {
        let mut data = self.data.lock().expect("no test panics with it");
        let Some(range) = data.get_mut(start..start + length) else {
            return Response::check_condition(fixed_sense(5, 0x21));
        };
        if is_read {
            return Response::good(vec![Bytes::copy_from_slice(range)]);
        }
        if !lose {
            let mut rest = range;
            for chunk in &command.data_out {
                let (head, tail) = rest.split_at_mut(chunk.len());
                head.copy_from_slice(chunk);
                rest = tail;
            }
        }
        Response::good(Vec::new())
    }

    fn capacity(&self) -> Response {
        let blocks = self.data.lock().expect("no test panics with it").len() / BLOCK;
        let mut data = vec![0; 32];
        data[..8].copy_from_slice(&(blocks as u64 - 1).to_be_bytes());
        data[8..12].copy_from_slice(&(BLOCK as u32).to_be_bytes());
        Response::good(vec![data.into()])
    }
}

struct Sizer;

impl CommandSizer for Sizer {
    fn data_out_len(&self, _: Lun, cdb: &[u8]) -> u32 {
        let blocks = match cdb[0] {
            0x2A => be(&cdb[7..9]),
            0x8A => be(&cdb[10..14]),
            _ => 0,
        };
        blocks as u32 * BLOCK as u32
    }
}

fn be(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0, |sum, byte| sum << 8 | u64::from(*byte))
}

fn fixed_sense(key: u8, code: u8) -> Bytes {
    let mut sense = vec![0; 18];
    (sense[0], sense[2], sense[7], sense[12]) = (0x70, key, 10, code);
    sense.into()
}

fn send(socket: &mut TcpStream, unsent: &mut VecDeque<Bytes>) -> Option<()> {
    while !unsent.is_empty() {
        let slices: Vec<IoSlice<'_>> = unsent.iter().take(512).map(|chunk| IoSlice::new(chunk)).collect();
        let mut sent = socket.write_vectored(&slices).ok()?;
        while let Some(front) = unsent.front_mut() {
            if sent < front.len() {
                front.advance(sent);
                break;
            }
            sent -= front.len();
            unsent.pop_front();
        }
    }
    Some(())
}
