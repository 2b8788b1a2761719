//! The run: log in, check that nobody is hurt, run the table, clean up, report.

use std::cell::RefCell;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use futures_util::future::join_all;
use initiator::{ClientError, Digests, TargetUrl};
use tokio::time::{Instant, timeout};

use crate::check::{Check, Group};
use crate::cleanup;
use crate::exchange::Log;
use crate::fabric::{Fabric, NexusSpec};
use crate::nexus::Nexus;
use crate::outcome::{Stop, Verdict};
use crate::report::{CheckReport, Report, unit_facts};
use crate::request;
use crate::same_unit;
use crate::scene::{Findings, Scene, ScratchRange, Size};
use crate::table::CHECKS;

/// How long one check may take.
const CHECK_LIMIT: Duration = Duration::from_secs(180);
/// How long cleaning up may take.
const CLEANUP_LIMIT: Duration = Duration::from_secs(60);
/// How often a running check looks whether the run is to end.
const INTERRUPT_TICK: Duration = Duration::from_millis(50);
/// Most nexuses of a run.
pub const NEXUSES_MAX: usize = 64;
/// Bytes used for scratch unless a range is given: what the largest copy needs.
const SCRATCH_BYTES: u64 = 160 << 20;

/// What to validate, and what may be done to it.
#[derive(Debug, Clone)]
pub struct Options {
    /// The paths to the logical unit.
    pub urls: Vec<TargetUrl>,
    /// Other logical units that may be used in the same way.
    pub also: Vec<TargetUrl>,
    /// Initiator names, taken in turn by the nexuses.
    pub initiators: Vec<String>,
    /// How many nexuses; more if there are more paths, never less than two.
    pub nexuses: usize,
    /// Only these groups; all if empty.
    pub only: Vec<Group>,
    /// Reservations may be made.
    pub reservations: bool,
    /// Registrations of others may be removed first.
    pub force: bool,
    /// The blocks may be overwritten.
    pub destructive: bool,
    /// Which blocks; the first 160 MiB if none are given.
    pub range: Option<ScratchRange>,
    /// Ends the run early, in good order, once true.
    pub interrupted: Arc<AtomicBool>,
}

/// Why there is no report.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// A session could not be had.
    #[error("{path}: {source}")]
    Connect {
        /// The path's URL.
        path: String,
        /// What happened.
        source: ClientError,
    },
    /// The unit does not say what it is.
    #[error("{0}")]
    NoDisk(String),
    /// Somebody else uses reservations.
    #[error(
        "registered with the logical unit: {0}. Checks of reservations would take it from them; \
         end what uses it, or give --force to remove the registrations"
    )]
    InUse(String),
    /// The options contradict each other or the unit.
    #[error("{0}")]
    Options(String),
}

/// Validates. `progress` hears of each check as it ends.
///
/// # Errors
/// Every kind of [`RunError`]; what the array does wrong is in the report instead.
pub async fn run(
    options: &Options,
    fabric: Rc<dyn Fabric>,
    mut progress: impl FnMut(&CheckReport),
) -> Result<Report, RunError> {
    let scene = open(options, fabric).await?;
    let wanted: Vec<&Check> = CHECKS.iter().filter(|check| is_wanted(check, options)).collect();
    let unit = unit_facts(&scene).await;
    let reserves = options.reservations && wanted.iter().any(|check| check.reserves());
    if reserves {
        cleanup::claim(&scene, options.force).await?;
    }
    scene.log.take();
    let mut checks = Vec::new();
    let mut lost = None;
    for check in wanted {
        if lost.is_none() {
            lost = missing(&scene).await;
        }
        let report = match &lost {
            Some(why) => CheckReport::skipped(check, format!("the array is gone: {why}")),
            None => run_one(&scene, check, options).await,
        };
        progress(&report);
        checks.push(report);
    }
    let left = match lost {
        Some(why) if reserves => {
            vec![format!("the array is gone, perhaps with reservations of this run: {why}")]
        }
        None if reserves => timeout(CLEANUP_LIMIT, cleanup::clean(&scene))
            .await
            .unwrap_or_else(|_| vec!["no answer".to_owned()]),
        _ => Vec::new(),
    };
    let all = scene.nexuses.iter().chain(scene.others.iter().flatten());
    join_all(all.map(Nexus::log_out)).await;
    Ok(Report::new(options, &scene, unit, checks, left))
}

fn is_wanted(check: &Check, options: &Options) -> bool {
    options.only.is_empty() || options.only.contains(&check.group)
}

async fn open(options: &Options, fabric: Rc<dyn Fabric>) -> Result<Scene, RunError> {
    if options.urls.is_empty() || options.initiators.is_empty() {
        return Err(RunError::Options("give at least one URL and one initiator name".to_owned()));
    }
    let run = draw();
    let log = Rc::new(Log::default());
    let count = options.nexuses.clamp(2, NEXUSES_MAX).max(options.urls.len());
    let mut opener = Opener { options, fabric: fabric.clone(), log: log.clone(), run, opened: 0 };
    let mut nexuses = Vec::new();
    for url in options.urls.iter().cycle().take(count) {
        nexuses.push(opener.open(url).await?);
    }
    same_unit::demand(nexuses.get(..options.urls.len()).unwrap_or_default()).await?;
    let mut others = Vec::new();
    for url in &options.also {
        others.push(vec![opener.open(url).await?, opener.open(url).await?]);
    }
    let size = size(nexuses.first()).await?;
    let range = range(options, size)?;
    let findings = RefCell::default();
    Ok(Scene { fabric, nexuses, path_count: options.urls.len(), others, size, range, run, log, findings })
}

/// Logs nexuses in, each with a name and an ISID of its own.
struct Opener<'a> {
    options: &'a Options,
    fabric: Rc<dyn Fabric>,
    log: Rc<Log>,
    run: u32,
    opened: usize,
}

impl Opener<'_> {
    async fn open(&mut self, url: &TargetUrl) -> Result<Nexus, RunError> {
        let names = &self.options.initiators;
        let initiator = names.get(self.opened % names.len().max(1)).cloned().unwrap_or_default();
        let [a, b, c, d] = self.run.to_be_bytes();
        let number = u8::try_from(self.opened).unwrap_or(u8::MAX);
        let spec = NexusSpec {
            url: url.clone(),
            initiator,
            isid: [0x80, a, b, c, d, number],
            digests: Digests::default(),
        };
        self.opened += 1;
        let label = format!("nexus {} ({}, LUN {})", self.opened, url.authority(), url.lun);
        let opened = Nexus::open(label, spec, self.fabric.clone(), self.log.clone()).await;
        opened.map_err(|source| RunError::Connect { path: url.to_string(), source })
    }
}

/// A number for this run.
fn draw() -> u32 {
    let [a, b, c, d, ..] = uuid::Uuid::new_v4().into_bytes();
    u32::from_be_bytes([a, b, c, d])
}

async fn size(nexus: Option<&Nexus>) -> Result<Size, RunError> {
    let Some(nexus) = nexus else { return Err(RunError::Options("no nexus".to_owned())) };
    let answer = nexus.good(request::read_capacity_16()).await;
    let data = answer.map_err(|stop| match stop {
        Stop::Failed(why) | Stop::NotSupported(why) | Stop::Skipped(why) => RunError::NoDisk(why),
    })?;
    let size = crate::decode::capacity(&data).filter(|size| size.block_size >= 512 && size.blocks > 0);
    size.ok_or_else(|| RunError::NoDisk(format!("{}: READ CAPACITY(16) makes no sense", nexus.label)))
}

fn range(options: &Options, size: Size) -> Result<Option<ScratchRange>, RunError> {
    match (options.destructive, options.range) {
        (false, None) => Ok(None),
        (false, Some(_)) => {
            Err(RunError::Options("--range without --destructive would not be used".to_owned()))
        }
        (true, None) => {
            let blocks = (SCRATCH_BYTES / u64::from(size.block_size)).min(size.blocks);
            Ok(Some(ScratchRange { lba: 0, blocks }))
        }
        (true, Some(range)) => match range.lba.checked_add(range.blocks) {
            Some(end) if end <= size.blocks && range.blocks > 0 => Ok(Some(range)),
            _ => Err(RunError::Options(format!(
                "the range is outside the unit, which has {} blocks",
                size.blocks
            ))),
        },
    }
}

/// Gives every nexus a session again that a check has lost, and takes its unit attentions. Why that cannot be.
async fn missing(scene: &Scene) -> Option<String> {
    for nexus in scene.nexuses.iter().chain(scene.others.iter().flatten()) {
        if nexus.settle().await.is_ok() {
            continue;
        }
        let again = async {
            nexus.reopen().await?;
            nexus.settle().await
        };
        if let Err(stop) = again.await {
            return Some(format!("{}: {stop}", nexus.label));
        }
    }
    None
}

async fn run_one(scene: &Scene, check: &'static Check, options: &Options) -> CheckReport {
    let begun = Instant::now();
    scene.findings.take();
    scene.log.take();
    let ended = match check.obstacle(scene, options.reservations) {
        _ if options.interrupted.load(Ordering::Relaxed) => Err(Stop::Skipped("interrupted".to_owned())),
        Some(obstacle) => Err(Stop::Skipped(obstacle)),
        None => perform(scene, check, options).await,
    };
    if matches!(ended, Err(Stop::Failed(_))) {
        scene.log.suspect();
    }
    let (exchanges, not_kept) = scene.log.take();
    if check.reserves() && !exchanges.is_empty() {
        let left = timeout(CLEANUP_LIMIT, cleanup::clean(scene)).await.unwrap_or_default();
        left.into_iter().for_each(|what| scene.wrong(format!("cleaning up: {what}")));
    }
    let (verdict, details) = judge(check, ended, scene.findings.take());
    CheckReport::new(check, verdict, details, exchanges, not_kept, begun.elapsed())
}

async fn perform(scene: &Scene, check: &Check, options: &Options) -> Result<(), Stop> {
    tokio::select! {
        ended = timeout(CHECK_LIMIT, (check.action)(scene)) => ended.unwrap_or_else(|_| {
            Err(Stop::Failed(format!("not finished after {} s", CHECK_LIMIT.as_secs())))
        }),
        () = interrupted(&options.interrupted) => Err(Stop::Skipped("interrupted while running".to_owned())),
    }
}

async fn interrupted(flag: &AtomicBool) {
    while !flag.load(Ordering::Relaxed) {
        tokio::time::sleep(INTERRUPT_TICK).await;
    }
}

/// The verdict of how a check ended and what it found on its way, and the words for it.
fn judge(check: &Check, ended: Result<(), Stop>, findings: Findings) -> (Verdict, Vec<String>) {
    let Findings { mut wrong, warnings, notes } = findings;
    let mut reason = None;
    match ended {
        Ok(()) => {}
        Err(Stop::Failed(message)) => wrong.push(message),
        Err(Stop::NotSupported(message)) if check.required => {
            wrong.push(format!("{message}; hosts cannot do without"));
        }
        Err(Stop::NotSupported(message)) => reason = Some((Verdict::NotSupported, message)),
        Err(Stop::Skipped(message)) => reason = Some((Verdict::Skipped, message)),
    }
    let (verdict, mut details) = match reason {
        _ if !wrong.is_empty() => (Verdict::Failed, wrong),
        Some((verdict, message)) => (verdict, vec![message]),
        None if warnings.is_empty() => (Verdict::Passed, Vec::new()),
        None => (Verdict::Warning, Vec::new()),
    };
    details.extend(warnings);
    details.extend(notes);
    (verdict, details)
}
