//! Connections of both roles that are sent anything.

use crate::input::Input;
use crate::units::{Unit, check};
use bytes::Bytes;
use core::time::Duration;
use crc_fast::CrcAlgorithm::Crc32Iscsi;
use iscsi::pair::Pair;
use iscsi::parameters::{DigestOffer, Offer};
use iscsi::pdu::{ScsiStatus, TaskManagementResponse};
use iscsi::target::{Command, CommandSizer, LoginAccept, Response, TargetAddress, TargetRecord};
use iscsi::{HeapPool, Lun, PortalGroupTag, Tsih, initiator, target};
use scsi::{BlockSize, DataOut, NexusId};
use std::collections::VecDeque;

const INITIATOR: &str = "iqn.2026-11.local:i";
const TARGET: &str = "iqn.2026-11.local:t";
/// Events that one input may cause at most: more are a loop.
const EVENTS_MAX: usize = 100_000;

/// The sizes that the logical unit would tell.
struct Sizer;

impl CommandSizer for Sizer {
    fn data_out_len(&self, _: Lun, cdb: &[u8]) -> u32 {
        scsi::data_out_len(cdb, BlockSize::B512.bytes()).min(1 << 20)
    }
}

/// How the two sides of a session are set up, as an input's first byte says.
struct Setup {
    logged_in: bool,
    digests: bool,
    fragments: Vec<usize>,
}

impl Setup {
    fn of(input: &mut Input<'_>) -> Self {
        let choice = input.byte();
        let fragments = [vec![], vec![1], vec![48, 5], vec![4096]];
        Self {
            logged_in: choice & 1 == 0,
            digests: choice & 2 != 0,
            fragments: fragments.into_iter().nth(usize::from(choice >> 2 & 3)).unwrap_or_default(),
        }
    }

    /// Two connections, logged in if the setup says so.
    fn pair(&self) -> Pair {
        let digest = if self.digests { DigestOffer::Crc32c } else { DigestOffer::None };
        let offer = Offer {
            header_digest: digest,
            data_digest: digest,
            max_recv_data_segment_length: 8192,
            first_burst_length: 16 << 10,
            max_burst_length: 64 << 10,
            ..Offer::default()
        };
        let target = target::Config {
            command_window: 8,
            write_buffer_bytes: 256 << 10,
            offer: offer.clone(),
            ..target::Config::default()
        };
        let initiator =
            initiator::Config { offer, nop_interval: None, ..initiator::Config::normal(INITIATOR, TARGET) };
        let mut pair = Pair::new(target, initiator, Sizer);
        if self.logged_in {
            pair.run();
            assert!(pair.target.tsih() == Tsih(1), "two sides of ours log in");
        } else {
            let mut unsent = VecDeque::new();
            pair.initiator.poll_transmit(&mut unsent, usize::MAX);
        }
        pair.fragments = self.fragments.clone();
        pair.to_target.clear();
        pair.to_initiator.clear();
        pair
    }

    /// A PDU with the input's header and data, and lengths and digests that fit, unless the input wants otherwise.
    fn pdu(&self, input: &mut Input<'_>) -> Vec<u8> {
        let choice = input.byte();
        let mut header: [u8; 48] = input.array();
        let count = usize::from(input.number() & if choice & 1 == 0 { 0xff } else { 0x3fff });
        let mut data = input.bytes(count).to_vec();
        if choice & 2 == 0 {
            // No additional header segments.
            header[4] = 0;
            let len = u32::try_from(data.len()).unwrap_or(0).to_be_bytes();
            header[5..8].copy_from_slice(&len[1..]);
        }
        data.resize(data.len().next_multiple_of(4), 0);
        let mut bytes = header.to_vec();
        let digest = |of: &[u8]| {
            let right = u32::try_from(crc_fast::checksum(Crc32Iscsi, of)).unwrap_or(0);
            (if choice & 4 == 0 { right } else { !right }).to_le_bytes()
        };
        let digests = self.digests && self.logged_in;
        if digests {
            bytes.extend(digest(&header));
        }
        bytes.extend(&data);
        if digests && !data.is_empty() {
            bytes.extend(digest(&data));
        }
        bytes
    }
}

/// An initiator that sends anything meets a target with a logical unit behind it.
pub fn target_session(input: &[u8]) {
    let mut input = Input::new(input);
    let setup = Setup::of(&mut input);
    let mut pair = setup.pair();
    let mut unit = Unit::new(BlockSize::B512);
    let mut held = VecDeque::new();
    while !input.is_empty() && !pair.target.is_closed() {
        match input.byte() {
            0 => pass(&mut pair, Duration::from_secs(u64::from(input.byte()))),
            1 => release(&mut pair, &mut unit, &mut held),
            choice => {
                pair.to_target.extend(setup.pdu(&mut input));
                deliver(&mut pair, &mut unit, choice & 1 == 0, &mut held);
            }
        }
    }
    release(&mut pair, &mut unit, &mut held);
}

/// Lets the target read all that was sent, and answers what it says; commands are kept if `hold` says so.
fn deliver(pair: &mut Pair, unit: &mut Unit, hold: bool, held: &mut VecDeque<Command>) {
    let mut events = 0;
    while pair.step() || !pair.target_events.is_empty() {
        // The other side is not there: what is sent to it is looked at by nobody.
        pair.to_initiator.clear();
        while let Some(event) = pair.target_events.pop_front() {
            events += 1;
            assert!(events < EVENTS_MAX, "events without end");
            answer(pair, unit, event, hold, held);
        }
    }
}

fn answer(pair: &mut Pair, unit: &mut Unit, event: target::Event, hold: bool, held: &mut VecDeque<Command>) {
    match event {
        target::Event::SendTargets(_) => {
            let address = TargetAddress { address: "[::1]:3260".into(), portal_group_tag: PortalGroupTag(1) };
            pair.target.send_targets(&[TargetRecord { name: TARGET.into(), addresses: vec![address] }]);
        }
        target::Event::Command(command) if hold => held.push_back(command),
        target::Event::Command(command) => respond(pair, unit, &command),
        target::Event::TaskManagement(function) => {
            held.retain(|command| !function.aborted.contains(&command.task));
            pair.target.task_management_response(function.id, TaskManagementResponse::Complete);
        }
        target::Event::LogoutRequested(logout) => {
            held.retain(|command| !logout.aborted.contains(&command.task));
            pair.target.logout_accept();
        }
        target::Event::Ended(tasks) => held.retain(|command| !tasks.contains(&command.task)),
        _ => {}
    }
}

fn respond(pair: &mut Pair, unit: &mut Unit, command: &Command) {
    let sent: usize = command.data_out.iter().map(Bytes::len).sum();
    assert!(sent <= 1 << 20, "{sent} bytes are more than any command takes");
    let data_out = DataOut::new(command.data_out.clone(), command.expected_data_out);
    let response = match unit.execute(NexusId(0), command.cdb.bytes(), data_out) {
        Some(completion) => {
            check(&completion);
            let status = ScsiStatus(completion.status.code());
            Response { status, sense: completion.sense, data_in: completion.data_in }
        }
        None => Response::status(ScsiStatus::Busy),
    };
    pair.target.respond(command.task, response);
}

/// Answers the commands that were kept.
fn release(pair: &mut Pair, unit: &mut Unit, held: &mut VecDeque<Command>) {
    while let Some(command) = held.pop_front() {
        respond(pair, unit, &command);
    }
    deliver(pair, unit, false, held);
}

fn pass(pair: &mut Pair, time: Duration) {
    pair.to_initiator.clear();
    pair.pass(time);
    pair.to_initiator.clear();
}

/// A target that sends anything meets an initiator with commands under way.
pub fn initiator_session(input: &[u8]) {
    let mut input = Input::new(input);
    let setup = Setup::of(&mut input);
    let mut pair = setup.pair();
    let mut cdb = [0; 16];
    while !input.is_empty() && !pair.initiator.is_closed() {
        let choice = input.byte();
        cdb[0] = choice;
        let command = match choice {
            0 => {
                pass(&mut pair, Duration::from_secs(u64::from(input.byte())));
                continue;
            }
            1 => initiator::Command::read(Lun([0; 8]), cdb, u32::from(input.number())),
            2 => {
                initiator::Command::write(Lun([0; 8]), cdb, Bytes::from(vec![1; usize::from(input.number())]))
            }
            3 => {
                pair.initiator.nop(Bytes::from_static(b"ping"));
                continue;
            }
            4 => {
                pair.initiator.send_targets();
                continue;
            }
            _ => {
                pair.to_initiator.extend(setup.pdu(&mut input));
                hear(&mut pair);
                continue;
            }
        };
        if pair.initiator.tasks() < 16 {
            pair.initiator.submit(command);
        }
    }
}

/// Lets the initiator read all that was sent; what it sends is looked at by nobody.
fn hear(pair: &mut Pair) {
    let mut out = VecDeque::new();
    let mut events = 0;
    while !pair.to_initiator.is_empty() && !pair.initiator.is_closed() {
        let now = pair.now();
        let space = pair.initiator.recv_space();
        let count = space.len().min(pair.to_initiator.len());
        assert!(count > 0, "an open connection takes bytes");
        for (place, byte) in space.iter_mut().zip(pair.to_initiator.drain(..count)) {
            *place = byte;
        }
        pair.initiator.received(count, now);
        while let Some(event) = pair.initiator.poll_event() {
            events += 1;
            assert!(events < EVENTS_MAX, "events without end");
            if let initiator::Event::Completed(completion) = event {
                assert!(completion.data_in.len() <= 1 << 16, "more than there was room for");
            }
        }
        while pair.initiator.poll_transmit(&mut out, 1 << 20) > 0 {
            out.clear();
        }
    }
    pair.to_initiator.clear();
}

/// Any bytes, in pieces of any size, as the first that each role hears.
pub fn pdu(input: &[u8]) {
    let mut choice = Input::new(input);
    let piece = usize::from(choice.number()).max(1);
    let now = Duration::ZERO;
    let mut target = target::Connection::new(target::Config::default(), HeapPool, now);
    let config = initiator::Config::normal(INITIATOR, TARGET);
    let mut initiator = initiator::Connection::new(config, HeapPool, now);
    let bytes = choice.bytes(input.len());
    for mut rest in bytes.chunks(piece) {
        while !rest.is_empty() && !target.is_closed() {
            let space = target.recv_space();
            let count = space.len().min(rest.len());
            space[..count].copy_from_slice(&rest[..count]);
            rest = &rest[count..];
            target.received(count, now, &Sizer);
            while let Some(event) = target.poll_event() {
                if matches!(event, target::Event::LoginRequested(_)) {
                    target.login_accept(LoginAccept {
                        tsih: Tsih(1),
                        portal_group_tag: PortalGroupTag(1),
                        target_alias: Some("alias".into()),
                    });
                }
            }
            let mut out = VecDeque::new();
            while target.poll_transmit(&mut out, 1 << 16) > 0 {}
        }
    }
    for mut rest in bytes.chunks(piece) {
        while !rest.is_empty() && !initiator.is_closed() {
            let space = initiator.recv_space();
            let count = space.len().min(rest.len());
            space[..count].copy_from_slice(&rest[..count]);
            rest = &rest[count..];
            initiator.received(count, now);
            while initiator.poll_event().is_some() {}
            let mut out = VecDeque::new();
            while initiator.poll_transmit(&mut out, 1 << 16) > 0 {}
        }
    }
}
