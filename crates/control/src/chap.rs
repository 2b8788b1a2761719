//! CHAP secrets: of hosts and of discovery. They come in, are sealed, and leave only to be proven at a login.

use crate::file::FileChange;
use crate::group::blocking;
use crate::sealed::Place;
use crate::{
    ChapRecord, Error, Group, GroupRecord, HostId, HostRecord, LoginAttempt, MutualRecord, Outcome, Result,
};
use std::fmt;
use zeroize::Zeroizing;

/// Length of a secret, bytes. RFC 7143 §9.2.1 wants at least 96 bits wherever no IPsec is used.
const SECRET_BYTES_MIN: usize = 12;
const SECRET_BYTES_MAX: usize = 255;

/// Longest user name, bytes: of a value in a login (RFC 7143 §6.1).
const USER_BYTES_MAX: usize = 255;

/// User name of the group, unless another is given.
const MUTUAL_USER: &str = "palisade";

/// Most accounts that are good for discovery: the group's, and those of hosts the initiator can be.
const ACCOUNTS_MAX: usize = 4;

/// A secret: never printed, wiped when dropped.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(Zeroizing<Vec<u8>>);

impl Secret {
    /// Takes a secret.
    ///
    /// # Errors
    /// `Invalid` if it is too short or too long, or cannot be typed elsewhere.
    pub fn parse(text: &str) -> Result<Self> {
        let fail = |message: String| Err(Error::invalid("CHAP secret", message));
        if !(SECRET_BYTES_MIN..=SECRET_BYTES_MAX).contains(&text.len()) {
            return fail(format!(
                "it has {} bytes, and must have {SECRET_BYTES_MIN} to {SECRET_BYTES_MAX} (Windows takes 12 to 16)",
                text.len()
            ));
        }
        if text.contains(char::is_control) {
            return fail("it may have no control characters in it".to_owned());
        }
        Ok(Self(Zeroizing::new(text.as_bytes().to_vec())))
    }

    pub(crate) fn from_bytes(bytes: Zeroizing<Vec<u8>>) -> Self {
        Self(bytes)
    }

    /// The secret's bytes, to be proven.
    #[must_use]
    pub fn bytes(&self) -> &[u8] {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret")
    }
}

/// What is to be proven from now on.
#[derive(Debug, Clone)]
pub struct NewChap {
    /// User name; none for the initiator's own name.
    pub user: Option<String>,
    /// What the initiator proves.
    pub secret: Secret,
    /// What the group proves in turn to an initiator that asks.
    pub mutual: Option<NewMutual>,
}

/// What the group is to prove.
#[derive(Debug, Clone)]
pub struct NewMutual {
    /// User name; none for `palisade`.
    pub user: Option<String>,
    /// What it proves.
    pub secret: Secret,
}

/// A user name with its secret.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Credential {
    /// User name.
    pub user: String,
    /// Secret.
    pub secret: Secret,
}

/// Credentials that let an initiator in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Account {
    /// What the initiator proves.
    pub initiator: Credential,
    /// What the group proves to one that asks.
    pub target: Option<Credential>,
}

/// What discovery demands.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct DiscoveryDemand {
    /// Any of these will do. None at all if nothing is demanded.
    pub accounts: Vec<Account>,
    /// An initiator may do without.
    pub optional: bool,
}

fn host_object(id: HostId) -> String {
    format!("host {id}")
}

fn group_object(group: &GroupRecord) -> String {
    format!("group {}", group.id)
}

fn check_user(user: &str) -> Result<()> {
    if user.is_empty() || user.len() > USER_BYTES_MAX || user.contains(char::is_control) {
        let message =
            format!("a CHAP user name has 1 to {USER_BYTES_MAX} characters, none a control character");
        return Err(Error::invalid(format!("user name {user:?}"), message));
    }
    Ok(())
}

impl NewChap {
    fn check(&self) -> Result<()> {
        self.user.as_deref().map_or(Ok(()), check_user)?;
        let Some(mutual) = &self.mutual else { return Ok(()) };
        mutual.user.as_deref().map_or(Ok(()), check_user)?;
        if mutual.secret == self.secret {
            let message = "the secrets of the two directions must differ (RFC 7143 §9.2.1)";
            return Err(Error::invalid("CHAP secret", message));
        }
        Ok(())
    }
}

impl Group {
    /// Sets what a host has to prove. It holds from the next login on.
    ///
    /// # Errors
    /// `NotFound`, `Invalid`; `Corrupt` if the key of the secrets cannot be used.
    pub async fn set_host_chap(&self, host: &str, new: NewChap) -> Result<(Outcome, HostRecord)> {
        let _change = self.changes.lock().await;
        let mut record = self.state.read().find_host(host)?.clone();
        record.chap = Some(self.seal(host_object(record.id), new).await?);
        self.put_host(&record).await?;
        tracing::info!(host = %record.name, "CHAP set; it holds from the next login on");
        Ok((Outcome::Changed, record))
    }

    /// Lets a host in without proof.
    ///
    /// # Errors
    /// `NotFound`.
    pub async fn clear_host_chap(&self, host: &str) -> Result<(Outcome, HostRecord)> {
        let _change = self.changes.lock().await;
        let mut record = self.state.read().find_host(host)?.clone();
        if record.chap.take().is_none() {
            return Ok((Outcome::Unchanged, record));
        }
        self.put_host(&record).await?;
        tracing::info!(host = %record.name, "CHAP no longer demanded");
        Ok((Outcome::Changed, record))
    }

    /// Sets what discovery demands of everybody, or that it demands nothing.
    ///
    /// # Errors
    /// `Invalid`; `Corrupt` if the key of the secrets cannot be used.
    pub async fn set_discovery_chap(&self, new: Option<NewChap>) -> Result<(Outcome, Option<ChapRecord>)> {
        let _change = self.changes.lock().await;
        let mut record = self.state.read().group().clone();
        let chap = match new {
            Some(new) => Some(self.seal(group_object(&record), new).await?),
            None if record.discovery.is_none() => return Ok((Outcome::Unchanged, None)),
            None => None,
        };
        record.discovery.clone_from(&chap);
        self.persist(vec![FileChange::PutGroup(record.clone())]).await?;
        self.state.write().group = record;
        tracing::info!(demanded = chap.is_some(), "CHAP of discovery set");
        Ok((Outcome::Changed, chap))
    }

    async fn seal(&self, object: String, new: NewChap) -> Result<ChapRecord> {
        new.check()?;
        let (key, runtime) = (self.key.clone(), self.runtime.clone());
        let work = move || {
            let seal =
                |role, user: &str, secret| key.seal(&*runtime, Place { object: &object, role, user }, secret);
            let secret = seal("initiator", new.user.as_deref().unwrap_or_default(), &new.secret)?;
            let mutual = match &new.mutual {
                Some(mutual) => {
                    let user = mutual.user.clone().unwrap_or_else(|| MUTUAL_USER.to_owned());
                    Some(MutualRecord { secret: seal("target", &user, &mutual.secret)?, user })
                }
                None => None,
            };
            Ok(ChapRecord { user: new.user, secret, mutual })
        };
        blocking(&*self.runtime, work).await?
    }

    fn unseal(&self, object: &str, chap: &ChapRecord, initiator: &str) -> Result<Account> {
        let open = |role, user: &str, sealed| self.key.open(Place { object, role, user }, sealed);
        let secret = open("initiator", chap.user.as_deref().unwrap_or_default(), &chap.secret)?;
        let target = match &chap.mutual {
            Some(mutual) => Some(Credential {
                user: mutual.user.clone(),
                secret: open("target", &mutual.user, &mutual.secret)?,
            }),
            None => None,
        };
        let user = chap.user.clone().unwrap_or_else(|| initiator.to_owned());
        Ok(Account { initiator: Credential { user, secret }, target })
    }

    /// What an initiator has to prove that logs in as a host; none for nothing.
    ///
    /// # Errors
    /// `NotFound`; `Corrupt` if the secret cannot be read: the host is to be refused.
    pub fn host_account(&self, host: HostId, initiator: &str) -> Result<Option<Account>> {
        let record = self.state.read().find_host(&host.to_string())?.clone();
        let account = record.chap.map(|chap| self.unseal(&host_object(host), &chap, initiator));
        account.transpose().map_err(|error| Error { object: format!("host {}", record.name), ..error })
    }

    /// What an initiator has to prove before discovery shows it anything: the group's secret or its host's own. With none
    /// of the group's it may do without.
    ///
    /// # Errors
    /// `Corrupt` if the group's secret cannot be read: nobody is to discover.
    pub fn discovery_demand(&self, attempt: LoginAttempt<'_>) -> Result<DiscoveryDemand> {
        let (group, hosts): (GroupRecord, Vec<HostRecord>) = {
            let state = self.state.read();
            let hosts = state.hosts_of(attempt).into_iter().filter(|host| host.chap.is_some());
            (state.group().clone(), hosts.take(ACCOUNTS_MAX).cloned().collect())
        };
        let object = group_object(&group);
        let common =
            group.discovery.map(|chap| self.unseal(&object, &chap, attempt.initiator)).transpose()?;
        let optional = common.is_none();
        // A host's own that cannot be read lets nobody in; what is wrong with it is said at its login.
        let own = hosts.iter().filter_map(|host| {
            self.unseal(&host_object(host.id), host.chap.as_ref()?, attempt.initiator).ok()
        });
        Ok(DiscoveryDemand { accounts: common.into_iter().chain(own).take(ACCOUNTS_MAX).collect(), optional })
    }

    /// The secrets that cannot be read, each with what to do: hosts that are refused.
    #[must_use]
    pub fn unreadable_secrets(&self) -> Vec<Error> {
        let (group, hosts): (GroupRecord, Vec<HostRecord>) = {
            let state = self.state.read();
            (state.group().clone(), state.hosts().filter(|host| host.chap.is_some()).cloned().collect())
        };
        let own = hosts.iter().filter_map(|host| self.host_account(host.id, "").err());
        let common = group.discovery.as_ref();
        let common = common.and_then(|chap| self.unseal(&group_object(&group), chap, "").err());
        own.chain(common.map(|error| Error { object: "discovery".to_owned(), ..error })).collect()
    }
}
