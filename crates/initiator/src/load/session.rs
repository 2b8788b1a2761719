//! One session under load: keeps its commands in flight, over any number of connections.

use core::hash::{BuildHasherDefault, Hasher};
use core::time::Duration;
use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

use iscsi::Lun;
use iscsi::initiator::{Command, Completion, Event, TaskId};
use iscsi::pdu::{AsyncEvent, ScsiStatus};
use tokio::sync::watch;
use tokio::time::Instant;

use super::LoadError;
use super::phase::{Order, Phase};
use super::source::{Next, Op, Source, Way};
use super::tally::{Tally, count_kind};
use crate::cdb;
use crate::client::outcome;
use crate::error::ClientError;
use crate::link::{Link, LinkOptions};
use crate::sense::SenseSummary;
use crate::url::TargetUrl;

/// First pause between two attempts to connect again; doubled up to the longest.
const BACK_OFF_MIN: Duration = Duration::from_millis(10);
/// Longest pause between two attempts to connect again.
const BACK_OFF_MAX: Duration = Duration::from_millis(200);
/// Pause before a command is issued again that the target turned away as BUSY.
const BUSY_PAUSE: Duration = Duration::from_millis(20);
/// How long a logout at the end may take.
const LOGOUT_LIMIT: Duration = Duration::from_secs(2);

/// What a session needs to know besides its commands.
#[derive(Debug, Clone)]
pub(crate) struct SessionSetup {
    pub(crate) url: TargetUrl,
    pub(crate) lun: Lun,
    pub(crate) options: LinkOptions,
    pub(crate) block_size: u32,
    pub(crate) depth: usize,
    pub(crate) fua: bool,
    pub(crate) patience: Duration,
    pub(crate) wait_for_target: bool,
}

/// A command on its way, over retries and reconnects.
struct InFlight {
    op: Op,
    since: Instant,
}

/// Why driving a connection ended.
enum Interruption {
    /// The connection is gone; the session goes on over another.
    Lost(ClientError),
    /// The session cannot go on.
    Fatal(LoadError),
}

impl From<ClientError> for Interruption {
    fn from(error: ClientError) -> Self {
        Self::Lost(error)
    }
}

impl From<LoadError> for Interruption {
    fn from(error: LoadError) -> Self {
        Self::Fatal(error)
    }
}

/// A session with its commands and counts.
pub(crate) struct Session<S> {
    setup: SessionSetup,
    phase: Arc<Phase>,
    source: S,
    tally: Tally,
    in_flight: HashMap<TaskId, InFlight, BuildHasherDefault<TaskHasher>>,
    /// To be issued again at once.
    again: VecDeque<InFlight>,
    /// To be issued again after a pause.
    turned_away: VecDeque<(Instant, InFlight)>,
    exhausted: bool,
    /// The target asked for a logout: nothing more is issued over this connection (RFC 7143 §11.9.1).
    leaving: bool,
    last_progress: Instant,
}

impl<S: Source> Session<S> {
    pub(crate) fn new(setup: SessionSetup, phase: Arc<Phase>, source: S) -> Self {
        Self {
            setup,
            phase,
            source,
            tally: Tally::new(),
            in_flight: HashMap::default(),
            again: VecDeque::new(),
            turned_away: VecDeque::new(),
            exhausted: false,
            leaving: false,
            last_progress: Instant::now(),
        }
    }

    /// Connects, waits for the common start, and works until the source ends or the phase stops.
    pub(crate) async fn run(mut self, mut start: watch::Receiver<bool>) -> Result<Tally, LoadError> {
        let mut link = self.first_link().await?;
        self.phase.connected();
        // The sender lives as long as the phase; without it there is nothing to start either.
        let _ = start.wait_for(|started| *started).await;
        self.last_progress = Instant::now();
        loop {
            let error = match self.drive(&mut link).await {
                Ok(()) => {
                    link.log_out(LOGOUT_LIMIT).await;
                    return Ok(self.tally);
                }
                Err(Interruption::Fatal(error)) => return Err(error),
                // Connections can be made, but nothing gets done over any of them.
                Err(Interruption::Lost(error)) if self.last_progress.elapsed() > self.setup.patience * 2 => {
                    return Err(error.into());
                }
                Err(Interruption::Lost(error)) => error,
            };
            self.phase.live.connected.fetch_sub(1, Relaxed);
            match self.reconnect(error).await? {
                Some(next) => link = next,
                None => return Ok(self.tally),
            }
        }
    }

    async fn first_link(&mut self) -> Result<Link, LoadError> {
        let began = Instant::now();
        let mut pause = BACK_OFF_MIN;
        loop {
            match Link::open(&self.setup.url, &self.setup.options, false).await {
                Ok(link) => return Ok(link),
                Err(error) if !self.setup.wait_for_target || began.elapsed() > self.setup.patience => {
                    return Err(error.into());
                }
                Err(_) => tokio::time::sleep(pause).await,
            }
            pause = (pause * 2).min(BACK_OFF_MAX);
        }
    }

    /// Connects again with back-off; what was in flight will be issued again. `None` if the phase
    /// was aborted meanwhile.
    async fn reconnect(&mut self, mut error: ClientError) -> Result<Option<Link>, LoadError> {
        let began = Instant::now();
        self.leaving = false;
        count_kind(&mut self.tally.reconnects, &error.to_string(), 1);
        self.phase.live.reconnects.fetch_add(1, Relaxed);
        let mut lost: Vec<(TaskId, InFlight)> = self.in_flight.drain().collect();
        lost.sort_by_key(|(task, _)| *task);
        self.again.extend(lost.into_iter().map(|(_, flight)| flight));
        let mut pause = BACK_OFF_MIN;
        while began.elapsed() <= self.setup.patience {
            if self.phase.order() == Order::Abort {
                return Ok(None);
            }
            match Link::open(&self.setup.url, &self.setup.options, false).await {
                Ok(link) => {
                    self.phase.live.connected.fetch_add(1, Relaxed);
                    return Ok(Some(link));
                }
                Err(failure) => error = failure,
            }
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(BACK_OFF_MAX);
        }
        Err(error.into())
    }

    /// Works over one connection until there is no more to do.
    async fn drive(&mut self, link: &mut Link) -> Result<(), Interruption> {
        loop {
            let order = self.phase.order();
            if order == Order::Abort {
                return Ok(());
            }
            self.fill(link, order)?;
            if self.is_idle() && (self.exhausted || order != Order::Go) {
                return Ok(());
            }
            link.flush()?;
            link.wait().await?;
            link.receive()?;
            self.harvest(link)?;
        }
    }

    fn is_idle(&self) -> bool {
        self.in_flight.is_empty() && self.again.is_empty() && self.turned_away.is_empty()
    }

    /// Submits commands until the depth is reached.
    fn fill(&mut self, link: &mut Link, order: Order) -> Result<(), Interruption> {
        let room = self.setup.depth.saturating_sub(self.in_flight.len() + self.turned_away.len());
        if self.leaving || room == 0 && self.turned_away.is_empty() {
            return Ok(());
        }
        let now = Instant::now();
        if self.in_flight.is_empty() && self.turned_away.is_empty() && self.again.is_empty() {
            self.last_progress = now;
        }
        while self.turned_away.front().is_some_and(|(when, _)| *when <= now) {
            self.again.extend(self.turned_away.pop_front().map(|(_, flight)| flight));
        }
        while self.in_flight.len() + self.turned_away.len() < self.setup.depth {
            if let Some(flight) = self.again.pop_front() {
                self.submit(link, flight);
                continue;
            }
            if order != Order::Go || self.exhausted {
                break;
            }
            match self.source.next()? {
                Next::Op(op) => self.submit(link, InFlight { op, since: now }),
                Next::Wait => break,
                Next::End => self.exhausted = true,
            }
        }
        Ok(())
    }

    fn submit(&mut self, link: &mut Link, flight: InFlight) {
        let block_size = self.setup.block_size;
        let (lba, blocks) = (flight.op.offset / u64::from(block_size), flight.op.length / block_size);
        let command = match flight.op.way {
            Way::Read => Command::read(self.setup.lun, cdb::read(lba, blocks), flight.op.length),
            Way::Write => {
                let cdb = cdb::write(lba, blocks, self.setup.fua);
                Command::write(self.setup.lun, cdb, flight.op.data.clone())
            }
        };
        self.in_flight.insert(link.submit(command), flight);
    }

    /// Takes in every completion that has come.
    fn harvest(&mut self, link: &mut Link) -> Result<(), Interruption> {
        let now = Instant::now();
        let mut progressed = false;
        while let Some(event) = link.poll()? {
            match event {
                Event::Completed(completion) => {
                    self.complete(completion, now)?;
                    progressed = true;
                }
                Event::AsyncMessage(message) if message.event == AsyncEvent::LogoutRequest => {
                    self.leaving = true;
                }
                Event::Returned { task, .. } => self.again.extend(self.in_flight.remove(&task)),
                Event::Rejected { reason, .. } => {
                    return Err(ClientError::lost(format!("the target rejected a PDU: {reason:?}")).into());
                }
                _ => {}
            }
        }
        let gap = now.duration_since(self.last_progress);
        if progressed {
            self.tally.longest_stall = self.tally.longest_stall.max(gap);
            self.last_progress = now;
        } else if gap > self.setup.patience && !self.in_flight.is_empty() {
            let error = ClientError::lost(format!("no command was completed for {} s", gap.as_secs()));
            // A connection made for it already did not help: let the run end and say so.
            return Err(if self.phase.order() == Order::Go {
                self.last_progress = now;
                Interruption::Lost(error)
            } else {
                Interruption::Fatal(error.into())
            });
        }
        Ok(())
    }

    fn complete(&mut self, completion: Completion, now: Instant) -> Result<(), LoadError> {
        let Some(InFlight { op, since }) = self.in_flight.remove(&completion.task) else { return Ok(()) };
        let length = usize::try_from(op.length).unwrap_or(usize::MAX);
        let result = outcome(completion.response, completion.status, &completion.sense);
        match result {
            Ok(()) if op.way == Way::Read && completion.data_in.len() != length => {
                self.fail(op, "GOOD status with data missing")
            }
            Ok(()) => {
                let latency = now.duration_since(since);
                self.tally.completed(op.way, op.length, latency);
                self.phase.live.completed(op.length, latency);
                self.source.completed(op, &completion.data_in)
            }
            Err(error) => match Reaction::to(completion.status, &error) {
                Reaction::Again => {
                    self.tally.retries += 1;
                    self.again.push_back(InFlight { op, since });
                    Ok(())
                }
                Reaction::Later => {
                    self.tally.retries += 1;
                    self.turned_away.push_back((now + BUSY_PAUSE, InFlight { op, since }));
                    Ok(())
                }
                Reaction::Count => self.fail(op, &error.to_string()),
            },
        }
    }

    fn fail(&mut self, op: Op, why: &str) -> Result<(), LoadError> {
        count_kind(&mut self.tally.errors, why, 1);
        self.phase.live.errors.fetch_add(1, Relaxed);
        self.source.failed(op, why)
    }
}

/// What a host does about a command that did not end with GOOD.
#[derive(Debug, PartialEq, Eq)]
enum Reaction {
    /// It did not run: issue it again.
    Again,
    /// The target is busy: issue it again in a while.
    Later,
    /// It failed.
    Count,
}

impl Reaction {
    fn to(status: ScsiStatus, error: &ClientError) -> Self {
        match (status, error) {
            (ScsiStatus::Busy | ScsiStatus::TaskSetFull, _) => Self::Later,
            (_, ClientError::CheckCondition { sense }) if sense.key == SenseSummary::UNIT_ATTENTION => {
                Self::Again
            }
            _ => Self::Count,
        }
    }
}

/// Task ids count up, so spreading them is all the hashing they need.
#[derive(Debug, Default, Clone)]
pub(crate) struct TaskHasher(u64);

impl Hasher for TaskHasher {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        bytes.iter().for_each(|byte| self.write_u64(u64::from(*byte)));
    }

    fn write_u64(&mut self, number: u64) {
        self.0 = (self.0 ^ number).wrapping_mul(0x9E37_79B9_7F4A_7C15).rotate_left(29);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sense(key: u8) -> ClientError {
        let sense = SenseSummary { key, code: 0x29, qualifier: 0, information: None };
        ClientError::CheckCondition { sense }
    }

    #[test]
    fn a_session_reacts_as_a_host_does() {
        let check = ScsiStatus::CheckCondition;
        assert_eq!(Reaction::to(check, &sense(6)), Reaction::Again, "UNIT ATTENTION");
        assert_eq!(Reaction::to(check, &sense(3)), Reaction::Count, "MEDIUM ERROR");
        for status in [ScsiStatus::Busy, ScsiStatus::TaskSetFull] {
            assert_eq!(Reaction::to(status, &ClientError::Status { status: status.0 }), Reaction::Later);
        }
        let conflict = ScsiStatus::ReservationConflict;
        assert_eq!(Reaction::to(conflict, &ClientError::Status { status: conflict.0 }), Reaction::Count);
    }

    #[test]
    fn counting_ids_spread_over_the_table() {
        use core::hash::BuildHasher;
        let build = BuildHasherDefault::<TaskHasher>::default();
        let buckets: std::collections::HashSet<u64> =
            (0u64..1024).map(|id| build.hash_one(id) % 4096).collect();
        assert!(buckets.len() > 800, "{} of 1024", buckets.len());
    }
}
