//! Are the URLs paths to one logical unit? Checks overwrite and reserve what they find there, so a mistake here is dear.

use std::collections::BTreeSet;

use crate::bytes_at::{slice, text};
use crate::decode::{Association, Designator, designators};
use crate::nexus::Nexus;
use crate::request;
use crate::run::RunError;

/// Refuses when a path shares neither a name nor the serial number with the first one. A unit that says nothing of
/// itself is left to the checks.
pub(crate) async fn demand(paths: &[Nexus]) -> Result<(), RunError> {
    let mut first: Option<(BTreeSet<String>, &Nexus)> = None;
    for nexus in paths {
        let names = identity(nexus).await;
        let (wanted, at) = first.get_or_insert_with(|| (names.clone(), nexus));
        if !names.is_empty() && !wanted.is_empty() && wanted.is_disjoint(&names) {
            return Err(RunError::Options(format!(
                "{} and {} are different logical units; URLs are paths to one, --also names others",
                at.spec.url, nexus.spec.url
            )));
        }
    }
    Ok(())
}

/// The names of a unit and its serial number; empty if it has none.
async fn identity(nexus: &Nexus) -> BTreeSet<String> {
    let mut names = BTreeSet::new();
    if let Ok(page) = nexus.good(request::inquiry(Some(0x83))).await {
        let found = designators(&page).unwrap_or_default();
        let units = found.iter().filter(|name| name.association == Association::Unit);
        names.extend(units.map(Designator::text));
    }
    if let Ok(page) = nexus.good(request::inquiry(Some(0x80))).await {
        let serial = text(slice(&page, 4, usize::MAX));
        names.extend((!serial.is_empty()).then(|| format!("serial number {serial}")));
    }
    names
}
