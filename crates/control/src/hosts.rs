//! Changes to hosts: making them known, forgetting them.

use crate::file::FileChange;
use crate::{
    Error, ErrorKind, Force, Group, HostId, HostRecord, Initiator, Name, Network, Outcome, Result, State,
};

/// Most hosts in a group; initiator names and addresses of a host.
const HOSTS_MAX: usize = 16_384;
const ENTRIES_MAX: usize = 64;

/// A host to be made known.
#[derive(Debug, Clone)]
pub struct NewHost {
    /// Name.
    pub name: String,
    /// Initiator names, or `*`.
    pub iqns: Vec<String>,
    /// Networks; empty for any.
    pub addresses: Vec<String>,
}

/// What is to change about a host; what is left out stays.
#[derive(Debug, Clone, Default)]
pub struct HostUpdate {
    /// Initiator names it gets. One it has already is no error.
    pub add_iqns: Vec<String>,
    /// Initiator names it loses. One it has not is no error.
    pub remove_iqns: Vec<String>,
    /// Networks instead of those it has; empty for any.
    pub addresses: Option<Vec<String>>,
}

impl NewHost {
    fn parse(&self) -> Result<(Name, Vec<Initiator>, Vec<Network>)> {
        let name = Name::parse(&self.name)?;
        let initiators = self.iqns.iter().map(|iqn| Initiator::parse(iqn)).collect::<Result<Vec<_>>>()?;
        let addresses = self.addresses.iter().map(|net| Network::parse(net)).collect::<Result<Vec<_>>>()?;
        let fail = |message: &str| Err(Error::invalid(format!("host {name}"), message));
        if initiators.is_empty() || initiators.len() > ENTRIES_MAX || addresses.len() > ENTRIES_MAX {
            return fail("a host has 1 to 64 initiator names (--iqn) and at most 64 addresses");
        }
        if initiators.contains(&Initiator::Any) && addresses.is_empty() {
            return fail(
                "a host that is any initiator (*) needs addresses (--address), or everybody would be it",
            );
        }
        Ok((name, initiators, addresses))
    }
}

impl Group {
    /// Makes a host known. Asking for one that is there, with the same properties, is no error.
    ///
    /// # Errors
    /// `Invalid`; `Exists` for the name, or for an initiator name that another host has.
    pub async fn create_host(&self, new: NewHost) -> Result<(Outcome, HostRecord)> {
        let (name, initiators, addresses) = new.parse()?;
        let _change = self.changes.lock().await;
        {
            let state = self.state.read();
            if let Some(there) = state.hosts().find(|host| host.name == name) {
                if there.initiators == initiators && there.addresses == addresses {
                    return Ok((Outcome::Unchanged, there.clone()));
                }
                let message =
                    "a host of this name is there already, with other properties; choose another name";
                return Err(Error::new(ErrorKind::Exists, format!("host {name}"), message));
            }
            if state.hosts.len() >= HOSTS_MAX {
                let message = format!("a group has at most {HOSTS_MAX} hosts");
                return Err(Error::invalid(format!("host {name}"), message));
            }
            check_unique(&state, &name, &initiators)?;
        }
        let record = HostRecord {
            id: HostId::from_random(self.runtime.random_id()),
            name,
            initiators,
            addresses,
            chap: None,
            created_unix_ms: self.runtime.unix_time_ms(),
        };
        self.persist(vec![FileChange::PutHost(record.clone())]).await?;
        self.state.write().hosts.insert(record.id, record.clone());
        tracing::info!(host = %record.name, "host created");
        Ok((Outcome::Created, record))
    }

    /// Changes a host's initiator names and addresses. Sessions that may not stay end.
    ///
    /// # Errors
    /// `NotFound`, `Invalid`; `Exists` for an initiator name that another host has.
    pub async fn update_host(&self, host: &str, update: HostUpdate) -> Result<(Outcome, HostRecord)> {
        let _change = self.changes.lock().await;
        let old = self.state.read().find_host(host)?.clone();
        let parse =
            |iqns: &[String]| iqns.iter().map(|iqn| Initiator::parse(iqn)).collect::<Result<Vec<_>>>();
        let (added, removed) = (parse(&update.add_iqns)?, parse(&update.remove_iqns)?);
        let kept = old.initiators.iter().chain(added.iter().filter(|new| !old.initiators.contains(new)));
        let iqns = kept.filter(|initiator| !removed.contains(initiator)).map(ToString::to_string).collect();
        let same = || old.addresses.iter().map(ToString::to_string).collect();
        let addresses = update.addresses.unwrap_or_else(same);
        let wanted = NewHost { name: old.name.to_string(), iqns, addresses };
        let (_, initiators, addresses) = wanted.parse()?;
        let record = HostRecord { initiators, addresses, ..old.clone() };
        if record == old {
            return Ok((Outcome::Unchanged, record));
        }
        let new: Vec<_> = record
            .initiators
            .iter()
            .filter(|initiator| !old.initiators.contains(initiator))
            .cloned()
            .collect();
        check_unique(&self.state.read(), &record.name, &new)?;
        self.put_host(&record).await?;
        let granted: Vec<_> =
            self.state.read().grants_of(record.id).map(|(volume, _)| volume.clone()).collect();
        for volume in granted {
            self.frontend.access_changed(&volume).await;
        }
        tracing::info!(host = %record.name, "host changed");
        Ok((Outcome::Changed, record))
    }

    pub(crate) async fn put_host(&self, record: &HostRecord) -> Result<()> {
        self.persist(vec![FileChange::PutHost(record.clone())]).await?;
        self.state.write().hosts.insert(record.id, record.clone());
        Ok(())
    }

    /// Forgets a host. With force its grants go, and its sessions end.
    ///
    /// # Errors
    /// `NotFound`; `InUse` while it has grants, without force; `Offline` if a granted volume's pool is.
    pub async fn delete_host(&self, host: &str, force: Force) -> Result<(Outcome, HostRecord)> {
        let _change = self.changes.lock().await;
        let record = self.state.read().find_host(host)?.clone();
        let granted: Vec<_> =
            self.state.read().grants_of(record.id).map(|(volume, _)| volume.clone()).collect();
        if !granted.is_empty() && force == Force::No {
            let names: Vec<_> = granted.iter().take(3).map(|volume| volume.name.as_str()).collect();
            let message = format!(
                "it is granted {} volumes ({}{}); revoke them first, or use --force to revoke all and end its sessions",
                granted.len(),
                names.join(", "),
                if granted.len() > names.len() { ", …" } else { "" },
            );
            return Err(Error::new(ErrorKind::InUse, format!("host {}", record.name), message));
        }
        for mut volume in granted {
            volume.grants.retain(|grant| grant.host != record.id);
            self.change_grants(volume).await?;
        }
        self.persist(vec![FileChange::RemoveHost(record.id)]).await?;
        self.state.write().hosts.remove(&record.id);
        tracing::info!(host = %record.name, "host deleted");
        Ok((Outcome::Deleted, record))
    }
}

/// Two hosts with one initiator name would make it a matter of chance which one logs in.
fn check_unique(state: &State, name: &Name, initiators: &[Initiator]) -> Result<()> {
    let object = format!("host {name}");
    for initiator in initiators.iter().filter(|initiator| **initiator != Initiator::Any) {
        if let Some(other) = state.hosts().find(|host| host.initiators.contains(initiator)) {
            let message = format!("the initiator name {initiator} belongs to host {} already", other.name);
            return Err(Error::new(ErrorKind::Exists, object, message));
        }
    }
    Ok(())
}
