//! What the tests share: a pair that is logged in, and a hand-made initiator that may misbehave.
#![allow(dead_code, unreachable_pub, reason = "every test file is a crate that uses a part")]

use std::collections::VecDeque;
use std::time::Duration;

use bytes::Bytes;
use iscsi::pair::{Pair, SimpleSizer};
use iscsi::parameters::Offer;
use iscsi::pdu::{self, BasicHeader, Bhs, Header, IMMEDIATE, Opcode, U24, flags};
use iscsi::target::{self, Event, LoginAccept};
use iscsi::{HeapPool, Lun, PortalGroupTag, Tsih, initiator};

pub const INITIATOR: &str = "iqn.2026-11.test:host";
pub const TARGET: &str = "iqn.2026-11.test:disk";
pub const LUN: Lun = Lun([0; 8]);

pub fn pair_with(target: target::Config, offer: Offer) -> Pair {
    let config = initiator::Config { offer, ..initiator::Config::normal(INITIATOR, TARGET) };
    let mut pair = Pair::new(target, config, SimpleSizer);
    log_in(&mut pair);
    pair
}

pub fn log_in(pair: &mut Pair) {
    pair.run();
    assert!(pair.initiator_events.iter().any(|event| matches!(event, initiator::Event::LoggedIn(_))));
    pair.initiator_events.clear();
    pair.target_events.clear();
}

pub fn pair() -> Pair {
    pair_with(target::Config::default(), Offer::default())
}

pub fn commands(pair: &mut Pair) -> Vec<target::Command> {
    let events = std::mem::take(&mut pair.target_events);
    events
        .into_iter()
        .filter_map(|event| match event {
            Event::Command(command) => Some(command),
            _ => None,
        })
        .collect()
}

pub fn completions(pair: &mut Pair) -> Vec<initiator::Completion> {
    let events = std::mem::take(&mut pair.initiator_events);
    events
        .into_iter()
        .filter_map(|event| match event {
            initiator::Event::Completed(completion) => Some(completion),
            _ => None,
        })
        .collect()
}

pub fn read_cdb(blocks: u16) -> [u8; 16] {
    let [high, low] = blocks.to_be_bytes();
    [0x28, 0, 0, 0, 0, 0, 0, high, low, 0, 0, 0, 0, 0, 0, 0]
}

pub fn write_cdb(blocks: u16) -> [u8; 16] {
    let mut cdb = read_cdb(blocks);
    cdb[0] = 0x2a;
    cdb
}

/// Bytes that differ from place to place.
pub fn pattern(len: usize) -> Bytes {
    (0..len).map(|at| u8::try_from((at * 7 + at / 251) % 256).unwrap()).collect::<Vec<u8>>().into()
}

/// A PDU as it came over the wire.
#[derive(Debug)]
pub struct Pdu {
    pub bhs: Bhs,
    pub data: Vec<u8>,
}

impl Pdu {
    pub fn opcode(&self) -> Opcode {
        BasicHeader::of(&self.bhs).opcode()
    }

    #[track_caller]
    pub fn as_a<H: Header + Copy>(&self) -> H {
        assert_eq!(self.opcode(), H::OPCODE, "{self:?}");
        *H::of(&self.bhs)
    }
}

/// [`SimpleSizer`] with a stamp and a bound that tests set.
#[derive(Default)]
pub struct TestSizer {
    pub stamp: u64,
    /// Most bytes one command may have; `None` for any number.
    pub room: Option<u32>,
}

impl target::CommandSizer for TestSizer {
    fn data_out_len(&self, lun: Lun, cdb: &[u8]) -> u32 {
        SimpleSizer.data_out_len(lun, cdb)
    }

    fn stamp(&self, _: Lun) -> u64 {
        self.stamp
    }

    fn has_room(&self, bytes: u32) -> bool {
        self.room.is_none_or(|room| bytes <= room)
    }
}

/// A target and the raw bytes to and from it.
pub struct Wire {
    pub sizer: TestSizer,
    pub target: target::Connection<HeapPool>,
    pub now: Duration,
    pub cmd_sn: u32,
    pub exp_stat_sn: u32,
}

impl Wire {
    pub fn new(config: target::Config) -> Self {
        let now = Duration::ZERO;
        Self {
            target: target::Connection::new(config, HeapPool, now),
            sizer: TestSizer::default(),
            now,
            cmd_sn: 100,
            exp_stat_sn: 0,
        }
    }

    /// Logged in, with `keys` in the operational stage.
    #[track_caller]
    pub fn logged_in(config: target::Config, keys: &[&str]) -> Self {
        let mut wire = Self::new(config);
        let names = [format!("InitiatorName={INITIATOR}"), format!("TargetName={TARGET}")];
        let mut text: Vec<&str> = names.iter().map(String::as_str).collect();
        text.extend_from_slice(keys);
        wire.send_login(1, Some(3), &text);
        wire.accept();
        let response = wire.receive_one();
        let header: pdu::LoginResponse = response.as_a();
        assert_eq!(header.status.get(), 0);
        assert_eq!(header.flags, 0x87);
        while wire.target.poll_event().is_some() {}
        wire
    }

    #[track_caller]
    pub fn accept(&mut self) {
        let Some(Event::LoginRequested(_)) = self.target.poll_event() else { panic!("no login requested") };
        self.target.login_accept(LoginAccept {
            tsih: Tsih(9),
            portal_group_tag: PortalGroupTag(1),
            target_alias: None,
        });
    }

    pub fn send_login(&mut self, current: u8, next: Option<u8>, keys: &[&str]) {
        let header = pdu::LoginRequest {
            opcode: 0x43,
            flags: current << 2 | next.map_or(0, |next| 0x80 | next),
            isid: [0x80, 1, 2, 3, 4, 5],
            cid: 1.into(),
            itt: 7.into(),
            cmd_sn: self.cmd_sn.into(),
            ..pdu::LoginRequest::blank()
        };
        self.send(header.bytes(), &text(keys));
    }

    pub fn send(&mut self, bhs: &Bhs, data: &[u8]) {
        let bytes = encode(bhs, &[], data);
        self.send_bytes(&bytes);
    }

    pub fn send_bytes(&mut self, mut bytes: &[u8]) {
        while !bytes.is_empty() {
            let space = self.target.recv_space();
            if space.is_empty() {
                return;
            }
            let count = space.len().min(bytes.len());
            space[..count].copy_from_slice(&bytes[..count]);
            bytes = &bytes[count..];
            self.target.received(count, self.now, &self.sizer);
        }
    }

    /// A SCSI command with the next CmdSN; returns its CmdSN.
    pub fn command(&mut self, itt: u32, bits: u8, cdb: [u8; 16], expected: u32, data: &[u8]) -> u32 {
        let cmd_sn = self.cmd_sn;
        self.cmd_sn += 1;
        self.command_at(cmd_sn, itt, bits, cdb, expected, data);
        cmd_sn
    }

    pub fn command_at(&mut self, cmd_sn: u32, itt: u32, bits: u8, cdb: [u8; 16], expected: u32, data: &[u8]) {
        let header = pdu::ScsiCommand {
            flags: bits,
            itt: itt.into(),
            expected_length: expected.into(),
            cmd_sn: cmd_sn.into(),
            cdb,
            ..pdu::ScsiCommand::blank()
        };
        self.send(header.bytes(), data);
    }

    pub fn data_out(&mut self, itt: u32, ttt: u32, data_sn: u32, offset: u32, last: bool, data: &[u8]) {
        let header = pdu::DataOut {
            flags: if last { flags::FINAL } else { 0 },
            itt: itt.into(),
            ttt: ttt.into(),
            data_sn: data_sn.into(),
            buffer_offset: offset.into(),
            ..pdu::DataOut::blank()
        };
        self.send(header.bytes(), data);
    }

    /// A command without a CDB worth looking at, on logical unit `number`, with the next CmdSN.
    pub fn command_on(&mut self, number: u8, itt: u32, bits: u8, data: &[u8]) {
        self.command_on_lun([0, number, 0, 0, 0, 0, 0, 0], itt, bits, data);
    }

    pub fn command_on_lun(&mut self, lun: [u8; 8], itt: u32, bits: u8, data: &[u8]) {
        let header = pdu::ScsiCommand {
            flags: bits,
            lun,
            itt: itt.into(),
            cmd_sn: self.cmd_sn.into(),
            ..pdu::ScsiCommand::blank()
        };
        self.cmd_sn += 1;
        self.send(header.bytes(), data);
    }

    /// A ping with `cmd_sn`.
    pub fn ping(&mut self, cmd_sn: u32, itt: u32, data: &[u8]) {
        let header = pdu::NopOut {
            flags: 0x80,
            itt: itt.into(),
            ttt: u32::MAX.into(),
            cmd_sn: cmd_sn.into(),
            ..pdu::NopOut::blank()
        };
        self.send(header.bytes(), data);
    }

    pub fn task_management(&mut self, itt: u32, function: u8, referenced: u32, ref_cmd_sn: u32) {
        self.task_management_on([0; 8], itt, function, referenced, ref_cmd_sn);
    }

    pub fn task_management_on(
        &mut self,
        lun: [u8; 8],
        itt: u32,
        function: u8,
        referenced: u32,
        ref_cmd_sn: u32,
    ) {
        let header = pdu::TaskManagementRequest {
            opcode: 0x02 | IMMEDIATE,
            flags: 0x80 | function,
            lun,
            itt: itt.into(),
            referenced_tag: referenced.into(),
            cmd_sn: self.cmd_sn.into(),
            ref_cmd_sn: ref_cmd_sn.into(),
            ..pdu::TaskManagementRequest::blank()
        };
        self.send(header.bytes(), &[]);
    }

    /// All PDUs the target has to send (no digests).
    pub fn receive(&mut self) -> Vec<Pdu> {
        let mut out = VecDeque::new();
        while self.target.poll_transmit(&mut out, 1 << 20) > 0 {}
        let bytes: Vec<u8> = out.into_iter().flatten().collect();
        decode(&bytes)
    }

    #[track_caller]
    pub fn receive_one(&mut self) -> Pdu {
        let mut all = self.receive();
        assert_eq!(all.len(), 1, "{all:?}");
        all.remove(0)
    }

    pub fn commands(&mut self) -> Vec<target::Command> {
        self.events()
            .into_iter()
            .filter_map(|event| match event {
                Event::Command(command) => Some(command),
                _ => None,
            })
            .collect()
    }

    pub fn events(&mut self) -> Vec<Event> {
        std::iter::from_fn(|| self.target.poll_event()).collect()
    }
}

pub fn text(keys: &[&str]) -> Vec<u8> {
    keys.iter().flat_map(|key| key.bytes().chain([0])).collect()
}

/// A PDU's bytes without digests.
pub fn encode(bhs: &Bhs, ahs: &[u8], data: &[u8]) -> Vec<u8> {
    let mut bytes = bhs.to_vec();
    bytes[4] = u8::try_from(ahs.len() / 4).unwrap();
    let len = U24::new(u32::try_from(data.len()).unwrap()).get().to_be_bytes();
    bytes[5..8].copy_from_slice(&len[1..]);
    bytes.extend_from_slice(ahs);
    bytes.extend_from_slice(data);
    bytes.resize(bytes.len().next_multiple_of(4), 0);
    bytes
}

pub fn decode(mut bytes: &[u8]) -> Vec<Pdu> {
    let mut pdus = Vec::new();
    while let Some((bhs, rest)) = bytes.split_first_chunk::<48>() {
        let len = usize::try_from(BasicHeader::of(bhs).data_length.get()).unwrap();
        pdus.push(Pdu { bhs: *bhs, data: rest[..len].to_vec() });
        bytes = &rest[len.next_multiple_of(4)..];
    }
    assert!(bytes.is_empty(), "half a PDU: {bytes:?}");
    pdus
}
