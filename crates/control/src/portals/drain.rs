//! Taking portals out of service and back: hosts go elsewhere without an I/O error.
//!
//! Logins are sent elsewhere from the start. Paths of a group that is drained as a whole become non-optimized: hosts
//! with others turn to them, and hosts without keep a path that works. Then sessions are asked to log out; those hosts
//! that have no other path log in again at once, and are sent to where they are served.

use super::changes::object;
use super::set::{PortalGroupTag, PortalMode, PortalSet};
use super::view::PortalView;
use crate::{Error, ErrorKind, Force, Group, Outcome, Result};
use std::net::SocketAddr;
use std::time::Duration;

/// How long sessions may take to leave a portal before they are cut, unless another time is given; and the most.
pub(super) const DRAIN_TIME_DEFAULT: Duration = Duration::from_secs(30);
const DRAIN_TIME_MAX: Duration = Duration::from_secs(3600);

/// Which portals.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PortalChoice {
    /// This one.
    Portal(SocketAddr),
    /// All of a group.
    Group(PortalGroupTag),
}

/// What is to be drained, and how.
#[derive(Debug, Clone, Copy)]
pub struct DrainRequest {
    /// Which portals.
    pub which: PortalChoice,
    /// Where hosts are sent, rather.
    pub to: Option<SocketAddr>,
    /// How long sessions may take to leave.
    pub within: Option<Duration>,
    /// Also if no other portal serves.
    pub force: Force,
}

impl Group {
    /// Takes portals out of service. Returns when logins are sent elsewhere and sessions are asked to leave;
    /// [`Group::portals`] tells how many are left.
    ///
    /// # Errors
    /// `NotFound`; `InUse` if no other portal serves, without force; `Invalid` if hosts cannot be sent to where they
    /// should.
    pub async fn drain_portals(&self, request: DrainRequest) -> Result<(Outcome, Vec<PortalView>)> {
        let DrainRequest { which, to, within, force } = request;
        let within = within.unwrap_or(DRAIN_TIME_DEFAULT).min(DRAIN_TIME_MAX);
        let _change = self.changes.lock().await;
        let mut set = self.state.read().portals.clone();
        let addresses = chosen(&set, which)?;
        if let Some(to) = to {
            check_destination(&set, &addresses, to)?;
        }
        let left = set
            .portals()
            .any(|(_, portal)| portal.mode == PortalMode::Serving && !addresses.contains(&portal.address));
        if !left && force == Force::No {
            let message = "no other portal serves, so its hosts have nowhere to go; add another portal first, or use \
                           --force to have them wait until it is resumed";
            return Err(Error::new(ErrorKind::InUse, name(which), message));
        }
        let before = set.clone();
        addresses.iter().for_each(|address| set.set_mode(*address, PortalMode::Drained { to }));
        let outcome = if set == before { Outcome::Unchanged } else { Outcome::Changed };
        if outcome == Outcome::Changed {
            self.keep_portals(set).await?;
            tracing::info!(portals = ?addresses, ?to, "portals are drained");
        }
        self.frontend.empty_portals(addresses.clone(), within);
        Ok((outcome, self.views_of(&addresses)))
    }

    /// Puts portals back into service, whatever took them out.
    ///
    /// # Errors
    /// `NotFound`.
    pub async fn resume_portals(&self, which: PortalChoice) -> Result<(Outcome, Vec<PortalView>)> {
        let _change = self.changes.lock().await;
        let mut set = self.state.read().portals.clone();
        let addresses = chosen(&set, which)?;
        let before = set.clone();
        addresses.iter().for_each(|address| set.set_mode(*address, PortalMode::Serving));
        if set == before {
            return Ok((Outcome::Unchanged, self.views_of(&addresses)));
        }
        self.keep_portals(set).await?;
        tracing::info!(portals = ?addresses, "portals serve again");
        Ok((Outcome::Changed, self.views_of(&addresses)))
    }

    fn views_of(&self, addresses: &[SocketAddr]) -> Vec<PortalView> {
        let mut views = self.portals();
        views.retain(|view| addresses.contains(&view.address));
        views
    }
}

fn name(which: PortalChoice) -> String {
    match which {
        PortalChoice::Portal(address) => object(address),
        PortalChoice::Group(tag) => format!("portal group {tag}"),
    }
}

fn chosen(set: &PortalSet, which: PortalChoice) -> Result<Vec<SocketAddr>> {
    let addresses: Vec<_> = match which {
        PortalChoice::Portal(address) => {
            set.portal(address).map(|(_, portal)| portal.address).into_iter().collect()
        }
        PortalChoice::Group(tag) => {
            let group = set.group(tag);
            group.into_iter().flat_map(|group| &group.portals).map(|portal| portal.address).collect()
        }
    };
    if addresses.is_empty() {
        let message = "there is no such portal; `palisade portal list` shows what there is";
        return Err(Error::new(ErrorKind::NotFound, name(which), message));
    }
    Ok(addresses)
}

/// Hosts can be sent only to another portal, which serves.
pub(super) fn check_destination(set: &PortalSet, leaving: &[SocketAddr], to: SocketAddr) -> Result<()> {
    let serves = set.portal(to).is_some_and(|(_, portal)| portal.mode == PortalMode::Serving);
    if leaving.contains(&to) || !serves {
        let message =
            "hosts can be sent only to another portal, which serves; `palisade portal list` shows which do";
        return Err(Error::invalid(object(to), message));
    }
    Ok(())
}
