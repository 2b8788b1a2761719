//! Changes to portals: opening, closing, and what hosts are told of a group.

use super::set::{PathState, PortalGroupTag, PortalMode, PortalRecord, PortalSet};
use super::view::PortalView;
use crate::file::FileChange;
use crate::{Error, ErrorKind, Force, Group, Name, Outcome, Result, VolumeId};
use std::net::SocketAddr;
use std::time::Duration;

/// Most portals, and groups of them: each group is a path that hosts keep.
const PORTALS_MAX: usize = 64;
const GROUPS_MAX: usize = 16;
/// Largest tag: with a target's number it makes a port's relative identifier, of 16 bits.
pub(crate) const TAG_MAX: u16 = 255;

/// How long sessions of a portal that is removed by force may take to go.
const REMOVAL_TIME_MAX: Duration = Duration::from_secs(10);

/// A portal to be opened.
#[derive(Debug, Clone)]
pub struct NewPortal {
    /// Where it listens.
    pub address: SocketAddr,
    /// Its group; none for that of the fabric, or the first.
    pub tag: Option<PortalGroupTag>,
    /// The group's network.
    pub fabric: Option<String>,
}

/// What hosts are to be told of a group; what is left out stays.
#[derive(Debug, Clone, Default)]
pub struct PathUpdate {
    /// The state of its paths.
    pub state: Option<PathState>,
    /// Whether hosts should rather use it.
    pub preferred: Option<bool>,
    /// The network it is on.
    pub fabric: Option<String>,
    /// The volume, by name or identity, whose paths have that state; none for all.
    pub volume: Option<String>,
}

pub(super) fn object(address: SocketAddr) -> String {
    format!("portal {address}")
}

impl Group {
    /// Opens the portals: those that are remembered, else `defaults`. Of those remembered, one that cannot be opened is
    /// logged and tried again by [`Group::retry_portals`]; of the defaults, all must open.
    ///
    /// # Errors
    /// As the frontend's, for the first default that cannot be opened.
    pub async fn serve_portals(&self, defaults: &[SocketAddr]) -> Result<()> {
        let _change = self.changes.lock().await;
        if !self.state.read().portals.groups.is_empty() {
            self.open_remembered();
        } else {
            let mut bound = Vec::with_capacity(defaults.len());
            for address in defaults {
                bound.push(self.frontend.open_portal(*address, PortalGroupTag(1))?);
            }
            self.state.write().portals = PortalSet::of(&bound);
        }
        self.tell_paths();
        Ok(())
    }

    /// Tries the portals again that could not be opened. True if any is still closed.
    pub async fn retry_portals(&self) -> bool {
        if !self.any_portal_closed() {
            return false;
        }
        let _change = self.changes.lock().await;
        self.open_remembered();
        self.tell_paths();
        self.any_portal_closed()
    }

    /// Whether a portal is not open that should be.
    #[must_use]
    pub fn any_portal_closed(&self) -> bool {
        !self.state.read().portal_faults.is_empty()
    }

    /// Opens what is not open.
    fn open_remembered(&self) {
        let open = self.frontend.open_portals();
        let all: Vec<_> =
            self.state.read().portals.portals().map(|(group, portal)| (portal.address, group.tag)).collect();
        for (address, tag) in all.into_iter().filter(|(address, _)| !open.contains(address)) {
            match self.frontend.open_portal(address, tag) {
                Ok(_) => {
                    self.state.write().portal_faults.remove(&address);
                }
                Err(error) => {
                    let before = self.state.write().portal_faults.insert(address, error.message.clone());
                    if before.as_ref() != Some(&error.message) {
                        let message = &error.message;
                        tracing::error!(portal = %address, "{message}; the others serve, it is tried again");
                    }
                }
            }
        }
    }

    /// Opens a portal, for hosts to use at once. Asking for one that is there, in the same group, is no error.
    ///
    /// # Errors
    /// `Invalid`; `Exists` if it is in another group; what keeps it from being opened.
    pub async fn add_portal(&self, new: NewPortal) -> Result<(Outcome, PortalView)> {
        let NewPortal { address, tag, fabric } = new;
        let fabric = fabric.map(|label| Name::parse(&label)).transpose()?;
        let _change = self.changes.lock().await;
        let mut set = self.state.read().portals.clone();
        let tag = choose_group(&set, address, tag, fabric.as_ref())?;
        let there = set.portal(address).map(|(group, portal)| (group.tag, group.fabric.clone(), portal.mode));
        if let Some((other, _, _)) = there.as_ref().filter(|(other, _, _)| *other != tag) {
            let message = format!("it is in group {other} already; remove it first");
            return Err(Error::new(ErrorKind::Exists, object(address), message));
        }
        let relabels = fabric.is_some() && there.as_ref().is_some_and(|(_, label, _)| *label != fabric);
        if there.is_some() && !relabels {
            return Ok((Outcome::Unchanged, self.portal(address)?));
        }
        check_room(&set, address)?;
        if there.is_none() {
            check_overlap(&set, address)?;
            self.frontend.open_portal(address, tag)?;
        }
        let group = set.group_mut(tag);
        group.fabric = fabric.or(group.fabric.take());
        if there.is_none() {
            group.portals.push(PortalRecord { address, mode: PortalMode::Serving });
        }
        if let Err(error) = self.keep_portals(set).await {
            if there.is_none() {
                self.frontend.close_portal(address).await;
            }
            return Err(error);
        }
        tracing::info!(portal = %address, group = %tag, "portal added");
        let outcome = if there.is_none() { Outcome::Created } else { Outcome::Changed };
        Ok((outcome, self.portal(address)?))
    }

    /// Closes a portal for good. With `moved_to` it stays open to tell hosts that it has moved there, and its sessions
    /// are asked to go; removing it once more closes it.
    ///
    /// # Errors
    /// `NotFound`; `InUse` while it has sessions or is the last that serves, without force; `Invalid` if it has moved
    /// to where nothing serves.
    pub async fn remove_portal(
        &self,
        address: SocketAddr,
        moved_to: Option<SocketAddr>,
        force: Force,
    ) -> Result<(Outcome, PortalView)> {
        let _change = self.changes.lock().await;
        let before = self.portal(address)?;
        let mut set = self.state.read().portals.clone();
        if let Some(to) = moved_to {
            super::drain::check_destination(&set, &[address], to)?;
            set.set_mode(address, PortalMode::Moved { to });
            self.keep_portals(set).await?;
            self.frontend.empty_portals(vec![address], super::drain::DRAIN_TIME_DEFAULT);
            tracing::info!(portal = %address, %to, "portal moved");
            return Ok((Outcome::Changed, self.portal(address)?));
        }
        let last =
            !set.portals().any(|(_, portal)| portal.address != address && portal.mode == PortalMode::Serving);
        if force == Force::No && before.sessions > 0 {
            let message = format!(
                "{} sessions use it; `palisade portal drain {address}` has them go elsewhere, --force ends them",
                before.sessions
            );
            return Err(Error::new(ErrorKind::InUse, object(address), message));
        }
        if force == Force::No && last {
            let message = "no other portal serves: without it no host reaches a volume; add another one first, or use \
                           --force";
            return Err(Error::new(ErrorKind::InUse, object(address), message));
        }
        set.remove(address);
        self.keep_portals(set).await?;
        self.state.write().portal_faults.remove(&address);
        self.frontend.close_portal(address).await;
        self.frontend.empty_portals(vec![address], REMOVAL_TIME_MAX);
        tracing::info!(portal = %address, "portal removed");
        Ok((Outcome::Deleted, before))
    }

    /// Changes what hosts are told of the paths through a group, of all volumes or of one.
    ///
    /// # Errors
    /// `NotFound` for the group or volume; `Invalid` if nothing is to change.
    pub async fn set_path(
        &self,
        tag: PortalGroupTag,
        update: PathUpdate,
    ) -> Result<(Outcome, Vec<PortalView>)> {
        let _change = self.changes.lock().await;
        let PathUpdate { state, preferred, fabric, volume } = update;
        let fabric = fabric.map(|label| Name::parse(&label)).transpose()?;
        let group_object = format!("portal group {tag}");
        let nothing = state.is_none() && preferred.is_none() && fabric.is_none();
        if nothing || volume.is_some() && state.is_none() {
            let message = "say what is to change: --state, --preferred or --fabric; of a volume, --state";
            return Err(Error::invalid(group_object, message));
        }
        let volume = volume.map(|volume| self.volume(&volume)).transpose()?.map(|view| view.record.id);
        let mut set = self.state.read().portals.clone();
        if set.group(tag).is_none() {
            let message = "there is no such group; `palisade portal list` shows what there is";
            return Err(Error::new(ErrorKind::NotFound, group_object, message));
        }
        let before = set.clone();
        let group = set.group_mut(tag);
        group.preferred = preferred.unwrap_or(group.preferred);
        group.fabric = fabric.or(group.fabric.take());
        match (volume, state) {
            (Some(volume), Some(state)) => set_volume_state(&mut group.volumes, volume, state, group.state),
            (None, Some(state)) => {
                group.state = state;
                group.volumes.clear();
            }
            (_, None) => {}
        }
        let outcome = if set == before { Outcome::Unchanged } else { Outcome::Changed };
        if outcome == Outcome::Changed {
            self.keep_portals(set).await?;
            tracing::info!(group = %tag, ?state, ?preferred, "paths changed");
        }
        let views = self.portals().into_iter().filter(|portal| portal.tag == tag).collect();
        Ok((outcome, views))
    }

    /// Remembers the set and tells hosts.
    pub(super) async fn keep_portals(&self, set: PortalSet) -> Result<()> {
        self.persist(vec![FileChange::PutPortals(set.clone())]).await?;
        self.state.write().portals = set;
        self.tell_paths();
        Ok(())
    }

    pub(super) fn tell_paths(&self) {
        let set = self.state.read().portals.clone();
        self.frontend.portals_changed(set);
    }
}

/// A volume's own state is kept only while it differs from the group's.
fn set_volume_state(
    volumes: &mut Vec<(VolumeId, PathState)>,
    volume: VolumeId,
    state: PathState,
    of_group: PathState,
) {
    volumes.retain(|(id, _)| *id != volume);
    if state != of_group {
        volumes.push((volume, state));
    }
}

/// The group a portal goes to: the one named, the one it is in, the fabric's, a new one for a new fabric, the first.
fn choose_group(
    set: &PortalSet,
    address: SocketAddr,
    tag: Option<PortalGroupTag>,
    fabric: Option<&Name>,
) -> Result<PortalGroupTag> {
    if tag.is_some_and(|tag| !(1..=TAG_MAX).contains(&tag.0)) {
        return Err(Error::invalid(
            object(address),
            format!("the number of a portal group is 1 to {TAG_MAX}"),
        ));
    }
    let of_fabric = set.groups.iter().find(|group| fabric.is_some() && group.fabric.as_ref() == fabric);
    let own = set.portal(address).map(|(group, _)| group.tag).filter(|_| fabric.is_none());
    let known = tag.or(own).or(of_fabric.map(|group| group.tag));
    if let Some(tag) = known {
        let other = set.group(tag).and_then(|group| group.fabric.as_ref());
        if let (Some(label), Some(other)) = (fabric, other)
            && label != other
        {
            let message =
                format!("group {tag} is on fabric {other}; choose another --group, or leave --fabric out");
            return Err(Error::invalid(object(address), message));
        }
        return Ok(tag);
    }
    if fabric.is_none() {
        return Ok(PortalGroupTag(1));
    }
    let free = (1..=TAG_MAX).map(PortalGroupTag).find(|tag| set.group(*tag).is_none());
    free.ok_or_else(|| Error::invalid(object(address), "all group tags are taken"))
}

fn check_room(set: &PortalSet, address: SocketAddr) -> Result<()> {
    if address.port() == 0 {
        return Err(Error::invalid(object(address), "a portal needs a port; 3260 is the usual one"));
    }
    if set.portals().count() >= PORTALS_MAX || set.groups.len() >= GROUPS_MAX {
        let message = format!("there are at most {PORTALS_MAX} portals in {GROUPS_MAX} groups");
        return Err(Error::invalid(object(address), message));
    }
    Ok(())
}

/// A portal on every address and one on one of them cannot share a port.
fn check_overlap(set: &PortalSet, address: SocketAddr) -> Result<()> {
    let new = PortalRecord { address, mode: PortalMode::Serving };
    let other = set.portals().map(|(_, portal)| portal);
    match other.into_iter().find(|other| other.takes(address) || new.takes(other.address)) {
        Some(other) => {
            let message = format!(
                "{0} takes connections to this address and port already; remove it first (`palisade portal remove {0} \
                 --force`), or choose another port",
                other.address
            );
            Err(Error::new(ErrorKind::InUse, object(address), message))
        }
        None => Ok(()),
    }
}
