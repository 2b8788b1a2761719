//! What a run found, for JSON, text and HTML.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::Serialize;

use crate::bytes_at::{slice, text};
use crate::check::{Check, Group};
use crate::decode::{Association, designators};
use crate::exchange::Exchange;
use crate::outcome::Verdict;
use crate::request;
use crate::run::Options;
use crate::scene::Scene;

/// A run, whole.
#[derive(Debug, Clone, Serialize)]
pub struct Report {
    /// The paths, without secrets.
    pub paths: Vec<String>,
    /// What the array says of itself.
    pub unit: UnitFacts,
    /// Initiator names used.
    pub initiators: Vec<String>,
    /// How many nexuses took part.
    pub nexuses: usize,
    /// Whether reservations were permitted.
    pub reservations: bool,
    /// The blocks that were permitted to be overwritten, first and number.
    pub scratch: Option<(u64, u64)>,
    /// How many checks ended how.
    pub counts: Counts,
    /// The run was ended before all checks had run.
    pub interrupted: bool,
    /// What could not be cleaned up; empty if all is as before.
    pub left_behind: Vec<String>,
    /// Every check.
    pub checks: Vec<CheckReport>,
}

/// What the array says of itself.
#[derive(Debug, Clone, Default, Serialize)]
pub struct UnitFacts {
    /// T10 VENDOR IDENTIFICATION.
    pub vendor: String,
    /// PRODUCT IDENTIFICATION.
    pub product: String,
    /// PRODUCT REVISION LEVEL.
    pub revision: String,
    /// Names of the logical unit in VPD page 83h.
    pub names: Vec<String>,
    /// Logical blocks.
    pub blocks: u64,
    /// Bytes in a logical block.
    pub block_size: u32,
}

/// How many checks ended how.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Counts {
    /// Checks that passed.
    pub passed: usize,
    /// Checks with warnings.
    pub warning: usize,
    /// Checks that failed.
    pub failed: usize,
    /// Features that are not there.
    pub not_supported: usize,
    /// Checks that did not run.
    pub skipped: usize,
}

/// One check's result.
#[derive(Debug, Clone, Serialize)]
pub struct CheckReport {
    /// Stable name.
    pub id: &'static str,
    /// The subject.
    pub group: Group,
    /// What holds if it passes.
    pub title: &'static str,
    /// Where that is written.
    pub clause: &'static str,
    /// How it ended.
    pub verdict: Verdict,
    /// Why, and what else is worth knowing.
    pub details: Vec<String>,
    /// Milliseconds it took.
    pub milliseconds: u64,
    /// What was sent and what came back.
    pub exchanges: Vec<Exchange>,
    /// Exchanges beyond those.
    pub exchanges_not_kept: u64,
}

impl CheckReport {
    pub(crate) fn new(
        check: &Check,
        verdict: Verdict,
        details: Vec<String>,
        exchanges: Vec<Exchange>,
        exchanges_not_kept: u64,
        time: Duration,
    ) -> Self {
        let milliseconds = u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
        let Check { id, group, title, clause, .. } = *check;
        Self { id, group, title, clause, verdict, details, milliseconds, exchanges, exchanges_not_kept }
    }
}

impl CheckReport {
    /// A check that did not run.
    pub(crate) fn skipped(check: &Check, why: String) -> Self {
        Self::new(check, Verdict::Skipped, vec![why], Vec::new(), 0, Duration::ZERO)
    }
}

impl Report {
    pub(crate) fn new(
        options: &Options,
        scene: &Scene,
        unit: UnitFacts,
        checks: Vec<CheckReport>,
        left_behind: Vec<String>,
    ) -> Self {
        Self {
            paths: options.urls.iter().map(ToString::to_string).collect(),
            unit,
            initiators: options.initiators.clone(),
            nexuses: scene.nexuses.len(),
            reservations: options.reservations,
            scratch: scene.range.map(|range| (range.lba, range.blocks)),
            counts: Counts::of(&checks),
            interrupted: options.interrupted.load(core::sync::atomic::Ordering::Relaxed),
            left_behind,
            checks,
        }
    }

    /// Whether the array passed: nothing failed, nothing was left behind, and the run was whole.
    pub fn is_clean(&self) -> bool {
        self.counts.failed == 0 && self.left_behind.is_empty() && !self.interrupted
    }

    /// The checks by subject, in the order of the table.
    pub(crate) fn by_group(&self) -> BTreeMap<Group, Vec<&CheckReport>> {
        let mut groups: BTreeMap<Group, Vec<&CheckReport>> = BTreeMap::new();
        for check in &self.checks {
            groups.entry(check.group).or_default().push(check);
        }
        groups
    }
}

impl Counts {
    fn of(checks: &[CheckReport]) -> Self {
        let count = |verdict| checks.iter().filter(|check| check.verdict == verdict).count();
        Self {
            passed: count(Verdict::Passed),
            warning: count(Verdict::Warning),
            failed: count(Verdict::Failed),
            not_supported: count(Verdict::NotSupported),
            skipped: count(Verdict::Skipped),
        }
    }
}

/// What the array says of itself; empty where it does not.
pub(crate) async fn unit_facts(scene: &Scene) -> UnitFacts {
    let mut facts =
        UnitFacts { blocks: scene.size.blocks, block_size: scene.size.block_size, ..UnitFacts::default() };
    let Ok(nexus) = scene.first() else { return facts };
    if let Ok(data) = nexus.good(request::inquiry(None)).await {
        facts.vendor = text(slice(&data, 8, 8));
        facts.product = text(slice(&data, 16, 16));
        facts.revision = text(slice(&data, 32, 4));
    }
    if let Ok(page) = nexus.good(request::inquiry(Some(0x83))).await {
        let all = designators(&page).unwrap_or_default();
        let units = all.iter().filter(|designator| designator.association == Association::Unit);
        facts.names = units.map(|designator| designator.text()).collect();
    }
    facts
}
