//! A run from its configuration to its report: look at the volume, verify, load.

use core::ops::ControlFlow;
use core::time::Duration;
use std::path::Path;
use std::sync::Arc;

use iscsi::Lun;

use super::config::{ConfigError, LoadConfig};
use super::phase::{self, Outcome, PhasePlan};
use super::report::{LoadReport, Progress, VerifyReport};
use super::scan::{Scan, ScanCursor};
use super::session::SessionSetup;
use super::source::{Plain, Share};
use super::stamped::{Stamped, Zones};
use super::tally::{Tally, float, ranking};
use super::{LoadError, Random};
use crate::cdb::Capacity;
use crate::client::Client;
use crate::error::ClientError;
use crate::link::LinkOptions;
use crate::verify::inspector::Inspector;
use crate::verify::ledger::{Ledger, LedgerScope};
use crate::verify::stamp::{RunId, StampSize};

type ProgressFn<'a> = &'a mut dyn FnMut(&Progress) -> ControlFlow<()>;

/// Pause between attempts to reach a target that is waited for.
const WAIT_STEP: Duration = Duration::from_millis(100);
/// ISID qualifier of the session that looks at the volume first; sessions count from 0.
const PROBE_QUALIFIER: u16 = 0xFFFF;

/// See [`super::run`].
pub(super) fn run(config: &LoadConfig, progress: ProgressFn<'_>) -> Result<LoadReport, LoadError> {
    config.check()?;
    let seed = config.seed.unwrap_or_else(draw);
    let run = Run::prepare(config, seed)?;
    if let Some(proof) = &run.proof {
        let interrupted = proof.inspector.ledger().resumed() && run.scan(proof, progress)?;
        if interrupted || proof.inspector.fault_count() > 0 {
            let nothing =
                Outcome { tally: Tally::new(), seconds: 0.0, cpu: Duration::ZERO, broken_off: true };
            return run.conclude(nothing);
        }
        proof.checked_at_start.set(proof.inspector.checked());
        proof.unacknowledged.set(proof.inspector.unacknowledged());
    }
    let outcome = run.load(progress)?;
    run.conclude(outcome)
}

/// A run whose volume is known.
struct Run {
    config: Arc<LoadConfig>,
    seed: u64,
    capacity: Capacity,
    span: u64,
    proof: Option<Proof>,
}

/// What a verifying run has besides.
struct Proof {
    inspector: Arc<Inspector>,
    checked_at_start: core::cell::Cell<u64>,
    unacknowledged: core::cell::Cell<u64>,
}

impl Run {
    fn prepare(config: &LoadConfig, seed: u64) -> Result<Self, LoadError> {
        let capacity = look(config, seed)?;
        let bytes = capacity.bytes().unwrap_or(0);
        let span = config.span.unwrap_or(bytes);
        let block_size = u64::from(capacity.block_size);
        let problem = if span > bytes {
            Some(format!("the span is longer than the volume, which has {bytes} bytes"))
        } else if !config.block_sizes.are_multiples_of(block_size) {
            Some(format!("block sizes must be multiples of the volume's {block_size} bytes"))
        } else if config.block_sizes.longest() > span {
            Some(format!("block size {} is longer than the volume or span", config.block_sizes.longest()))
        } else {
            None
        };
        if let Some(problem) = problem {
            return Err(ConfigError::new(problem).into());
        }
        let proof = match &config.verify {
            Some(path) => Some(Proof::open(config, path, capacity, span)?),
            None => None,
        };
        Ok(Self { config: Arc::new(config.clone()), seed, capacity, span, proof })
    }

    /// Reads back everything an earlier run wrote. True if the caller broke it off.
    fn scan(&self, proof: &Proof, progress: ProgressFn<'_>) -> Result<bool, LoadError> {
        let cursor = Arc::new(ScanCursor::default());
        let units = float(proof.inspector.ledger().units().max(1));
        let plan = PhasePlan {
            name: "verify",
            duration: None,
            threads: self.threads(),
            done: &|| float(cursor.position()) / units,
            faults: &|| proof.inspector.fault_count(),
            stop_at_fault: false,
        };
        let source = |_| Ok(Scan::new(Arc::clone(&proof.inspector), Arc::clone(&cursor)));
        Ok(phase::run(&plan, self.sessions(source)?, progress)?.broken_off)
    }

    fn load(&self, progress: ProgressFn<'_>) -> Result<Outcome, LoadError> {
        let faults = || self.proof.as_ref().map_or(0, |proof| proof.inspector.fault_count());
        let plan = PhasePlan {
            name: "load",
            duration: Some(self.config.duration),
            threads: self.threads(),
            done: &|| 0.0,
            faults: &faults,
            stop_at_fault: true,
        };
        let Some(proof) = &self.proof else {
            let source = |share| Ok(Plain::new(&self.config, self.span, share, self.seed));
            return phase::run(&plan, self.sessions(source)?, progress);
        };
        let unit = u64::from(proof.inspector.unit().bytes());
        let source = |share| {
            let zones = Zones::new(self.span / unit, unit, self.config.block_sizes.longest(), share)?;
            let inspector = Arc::clone(&proof.inspector);
            Ok(Stamped::new(Arc::clone(&self.config), inspector, zones, self.seed))
        };
        phase::run(&plan, self.sessions(source)?, progress)
    }

    /// Setup and source of every session.
    fn sessions<S>(
        &self,
        source: impl Fn(Share) -> Result<S, LoadError>,
    ) -> Result<Vec<(SessionSetup, S)>, LoadError> {
        let nexus = self.proof.as_ref().map_or(self.seed, |proof| proof.inspector.run().0);
        let urls = self.config.targets.iter().cycle();
        let mut sessions = Vec::new();
        for (index, url) in (0..self.config.sessions).zip(urls) {
            let qualifier = u16::try_from(index).unwrap_or(0);
            let setup = SessionSetup {
                url: url.clone(),
                lun: Lun::from_number(url.lun).unwrap_or_default(),
                options: LinkOptions {
                    connections: self.config.connections,
                    ..options(&self.config, nexus, qualifier)
                },
                block_size: self.capacity.block_size,
                depth: usize::try_from(self.config.depth).unwrap_or(1),
                fua: self.config.fua,
                patience: self.config.patience,
                wait_for_target: self.config.wait_for_target,
            };
            let share = Share { index: u64::from(index), of: u64::from(self.config.sessions) };
            sessions.push((setup, source(share)?));
        }
        Ok(sessions)
    }

    fn threads(&self) -> usize {
        let processors = std::thread::available_parallelism().map_or(1, usize::from);
        let wanted = self.config.threads.and_then(|threads| usize::try_from(threads).ok());
        let sessions = usize::try_from(self.config.sessions).unwrap_or(1);
        wanted.unwrap_or(processors).min(sessions).max(1)
    }

    fn conclude(&self, outcome: Outcome) -> Result<LoadReport, LoadError> {
        let Outcome { tally, seconds, cpu, .. } = outcome;
        let (reads, writes) = tally.directions(seconds);
        let commands = tally.commands();
        let report = LoadReport {
            targets: self.config.targets.iter().map(ToString::to_string).collect(),
            pattern: self.config.pattern.to_string(),
            block_sizes: self.config.block_sizes.to_string(),
            depth: self.config.depth,
            sessions: self.config.sessions,
            connections: self.config.connections,
            threads: u32::try_from(self.threads()).unwrap_or(u32::MAX),
            seed: self.seed,
            seconds,
            iops: reads.iops + writes.iops,
            bytes_per_second: reads.bytes_per_second + writes.bytes_per_second,
            reads,
            writes,
            errors: tally.errors.values().sum(),
            error_kinds: ranking(&tally.errors),
            retries: tally.retries,
            reconnects: tally.reconnects.values().sum(),
            reconnect_kinds: ranking(&tally.reconnects),
            longest_stall_ms: tally.longest_stall.as_secs_f64() * 1e3,
            cpu_seconds: cpu.as_secs_f64(),
            cpu_us_per_io: if commands == 0 { 0.0 } else { cpu.as_secs_f64() * 1e6 / float(commands) },
            verify: self.proof.as_ref().map(Proof::report),
        };
        match &report.verify {
            Some(verify) if verify.fault_count > 0 => Err(LoadError::Verification(Box::new(report))),
            _ => Ok(report),
        }
    }
}

impl Proof {
    fn open(config: &LoadConfig, path: &Path, capacity: Capacity, span: u64) -> Result<Self, LoadError> {
        let stamp = choose_unit(config, path, capacity)?;
        let volume = config.targets.first().map(|url| format!("{} LUN {}", url.iqn, url.lun));
        let unit = u64::from(stamp.bytes());
        let scope = LedgerScope {
            volume: volume.unwrap_or_default(),
            stamp,
            units: span / unit,
            volume_units: capacity.bytes().unwrap_or(0) / unit,
        };
        let ledger = Ledger::open(path, &scope, RunId(draw()))?;
        Ok(Self {
            inspector: Arc::new(Inspector::new(ledger, stamp)),
            checked_at_start: core::cell::Cell::new(0),
            unacknowledged: core::cell::Cell::new(0),
        })
    }

    fn report(&self) -> VerifyReport {
        let ledger = self.inspector.ledger();
        VerifyReport {
            file: ledger.path().display().to_string(),
            run_id: ledger.run().to_string(),
            stamp_bytes: self.inspector.unit().bytes(),
            resumed: ledger.resumed(),
            checked_at_start: self.checked_at_start.get(),
            unacknowledged_found: self.unacknowledged.get(),
            checked_while_running: self.inspector.checked().saturating_sub(self.checked_at_start.get()),
            fault_count: self.inspector.fault_count(),
            faults: self.inspector.faults(),
        }
    }
}

/// The unit of an existing ledger if it fits, else the largest that fits all block sizes.
fn choose_unit(config: &LoadConfig, path: &Path, capacity: Capacity) -> Result<StampSize, LoadError> {
    let fits = |unit: &StampSize| {
        unit.bytes() >= capacity.block_size && config.block_sizes.are_multiples_of(u64::from(unit.bytes()))
    };
    if let Some(recorded) = Ledger::recorded_unit(path) {
        if !fits(&recorded) {
            let text = format!(
                "{} holds units of {} bytes; block sizes must be multiples of that",
                path.display(),
                recorded.bytes()
            );
            return Err(ConfigError::new(text).into());
        }
        return Ok(recorded);
    }
    let unit = [StampSize::Page, StampSize::Sector].into_iter().find(fits);
    unit.ok_or_else(|| ConfigError::new("verify needs logical blocks of 512 or 4096 bytes").into())
}

/// The same name and ISID for the same session every time, so that a target drops what an
/// interrupted connection left before it serves the next.
fn options(config: &LoadConfig, nexus: u64, qualifier: u16) -> LinkOptions {
    let [a, b, c, ..] = Random::new(nexus).next().to_le_bytes();
    let [high, low] = qualifier.to_be_bytes();
    LinkOptions {
        initiator_name: config.initiator_name.clone(),
        isid: Some([0x80, a, b, c, high, low]),
        digests: config.digests,
        silence_limit: config.silence_limit,
        ..LinkOptions::default()
    }
}

/// Asks for the volume's size, through the first path that answers.
fn look(config: &LoadConfig, seed: u64) -> Result<Capacity, LoadError> {
    let options = options(config, seed, PROBE_QUALIFIER);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let began = tokio::time::Instant::now();
        loop {
            let mut failure = ClientError::lost("no target is named");
            for url in &config.targets {
                match capacity_at(url, &options).await {
                    Ok(capacity) => return Ok(capacity),
                    Err(error) => failure = error,
                }
            }
            if !config.wait_for_target || began.elapsed() > config.patience {
                return Err(failure.into());
            }
            tokio::time::sleep(WAIT_STEP).await;
        }
    })
}

async fn capacity_at(url: &crate::TargetUrl, options: &LinkOptions) -> Result<Capacity, ClientError> {
    let client = Client::connect(url, options).await?;
    let capacity = client.capacity().await;
    client.log_out().await;
    capacity
}

/// A random number from the system.
fn draw() -> u64 {
    uuid::Uuid::new_v4().as_u64_pair().0.rotate_left(32) ^ uuid::Uuid::new_v4().as_u64_pair().1
}
