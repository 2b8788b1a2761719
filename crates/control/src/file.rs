//! The group's file: what outlives the process and belongs to no single pool.

use crate::growth::GrowthRecord;
use crate::{
    Error, ErrorKind, GroupRecord, HostId, HostRecord, InitiatorName, PoolId, PoolRecord, PortalSet, Result,
    ScheduleId, ScheduleRecord, TargetRecord, VolumeId, VolumeRecord,
};
use redb::{Database, DatabaseError, ReadableDatabase, ReadableTable, TableDefinition, WriteTransaction};
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::path::{Path, PathBuf};

type Table = TableDefinition<'static, &'static str, &'static [u8]>;

const GROUP: Table = TableDefinition::new("group");
const POOLS: Table = TableDefinition::new("pools");
const HOSTS: Table = TableDefinition::new("hosts");
/// One record: all portals. None before the first change of them.
const PORTALS: Table = TableDefinition::new("portals");
/// What pools last said of their volumes, to know them while a pool is offline.
const VOLUMES: Table = TableDefinition::new("volumes");
/// Targets of several volumes.
const TARGETS: Table = TableDefinition::new("targets");

/// Schedules of snapshots.
const SCHEDULES: Table = TableDefinition::new("schedules");
/// Samples of what pools and volumes took.
const GROWTH: Table = TableDefinition::new("growth");

/// The version of records that this build reads and writes.
const VERSION: u32 = 1;

/// The open file. No second process can open it.
pub struct GroupFile {
    database: Database,
    path: PathBuf,
}

/// All that is in the file.
pub(crate) struct Contents {
    pub(crate) group: GroupRecord,
    pub(crate) pools: Vec<PoolRecord>,
    pub(crate) hosts: Vec<HostRecord>,
    pub(crate) volumes: Vec<VolumeRecord>,
    pub(crate) portals: PortalSet,
    pub(crate) targets: Vec<TargetRecord>,
    pub(crate) schedules: Vec<ScheduleRecord>,
    pub(crate) growth: Vec<GrowthRecord>,
}

/// One change to the file.
pub(crate) enum FileChange {
    PutGroup(GroupRecord),
    PutPool(PoolRecord),
    RemovePool(PoolId),
    PutHost(HostRecord),
    RemoveHost(HostId),
    PutVolume(VolumeRecord),
    RemoveVolume(VolumeId),
    PutPortals(PortalSet),
    PutTarget(TargetRecord),
    RemoveTarget(InitiatorName),
    PutSchedule(ScheduleRecord),
    RemoveSchedule(ScheduleId),
    PutGrowth(GrowthRecord),
    RemoveGrowth(String),
}

impl GroupFile {
    /// Opens the file; a new one gets `group`'s record.
    ///
    /// # Errors
    /// `InUse` if another process has it; `Format` if it is of a newer version; `Device`.
    pub fn open(path: &Path, group: impl FnOnce() -> GroupRecord) -> Result<Self> {
        let database = Database::create(path).map_err(|error| open_error(path, &error))?;
        let file = Self { database, path: path.to_owned() };
        let found = file.read_group()?;
        match found {
            Some(record) if record.version != VERSION => {
                let message = format!(
                    "it is of version {}, this program knows version {VERSION}; start a newer program",
                    record.version
                );
                Err(Error::new(ErrorKind::Format, path.display().to_string(), message))
            }
            Some(_) => Ok(file),
            None => {
                let content = file.encode(&group())?;
                file.write(|transaction| {
                    for table in [POOLS, HOSTS, VOLUMES] {
                        transaction.open_table(table)?;
                    }
                    transaction.open_table(GROUP)?.insert("record", content.as_slice())?;
                    Ok(())
                })?;
                Ok(file)
            }
        }
    }

    /// Reads everything.
    pub(crate) fn load(&self) -> Result<Contents> {
        let missing = || Error::new(ErrorKind::Corrupt, self.object(), "the group's own record is missing");
        Ok(Contents {
            group: self.read_group()?.ok_or_else(missing)?,
            pools: self.read_all(POOLS)?,
            hosts: self.read_all(HOSTS)?,
            volumes: self.read_all(VOLUMES)?,
            portals: self.read_all(PORTALS)?.pop().unwrap_or_default(),
            targets: self.read_all(TARGETS)?,
            schedules: self.read_all(SCHEDULES)?,
            growth: self.read_all(GROWTH)?,
        })
    }

    /// Makes the changes, all or none, durably. Blocks.
    pub(crate) fn apply(&self, changes: &[FileChange]) -> Result<()> {
        let mut rows = Vec::with_capacity(changes.len());
        for change in changes {
            rows.push(match change {
                FileChange::PutGroup(record) => (GROUP, "record".to_owned(), Some(self.encode(record)?)),
                FileChange::PutPool(record) => (POOLS, record.id.to_string(), Some(self.encode(record)?)),
                FileChange::RemovePool(id) => (POOLS, id.to_string(), None),
                FileChange::PutHost(record) => (HOSTS, record.id.to_string(), Some(self.encode(record)?)),
                FileChange::RemoveHost(id) => (HOSTS, id.to_string(), None),
                FileChange::PutVolume(record) => (VOLUMES, record.id.to_string(), Some(self.encode(record)?)),
                FileChange::RemoveVolume(id) => (VOLUMES, id.to_string(), None),
                FileChange::PutPortals(set) => (PORTALS, "record".to_owned(), Some(self.encode(set)?)),
                FileChange::PutTarget(record) => {
                    (TARGETS, record.iqn.to_string(), Some(self.encode(record)?))
                }
                FileChange::RemoveTarget(iqn) => (TARGETS, iqn.to_string(), None),
                FileChange::PutSchedule(record) => {
                    (SCHEDULES, record.id.to_string(), Some(self.encode(record)?))
                }
                FileChange::RemoveSchedule(id) => (SCHEDULES, id.to_string(), None),
                FileChange::PutGrowth(record) => (GROWTH, record.object.clone(), Some(self.encode(record)?)),
                FileChange::RemoveGrowth(object) => (GROWTH, object.clone(), None),
            });
        }
        self.write(|transaction| {
            for (table, key, content) in &rows {
                let mut table = transaction.open_table(*table)?;
                match content {
                    Some(content) => table.insert(key.as_str(), content.as_slice())?.is_some(),
                    None => table.remove(key.as_str())?.is_some(),
                };
            }
            Ok(())
        })
    }

    fn read_group(&self) -> Result<Option<GroupRecord>> {
        Ok(self.read_all(GROUP)?.pop())
    }

    fn read_all<R: DeserializeOwned>(&self, table: Table) -> Result<Vec<R>> {
        let fail = |error: redb::Error| self.error(&error);
        let transaction = self.database.begin_read().map_err(|error| fail(error.into()))?;
        let table = match transaction.open_table(table) {
            Ok(table) => table,
            Err(redb::TableError::TableDoesNotExist(_)) => return Ok(Vec::new()),
            Err(error) => return Err(fail(error.into())),
        };
        let mut records = Vec::new();
        for row in table.iter().map_err(|error| fail(error.into()))? {
            let (key, content) = row.map_err(|error| fail(error.into()))?;
            let record = serde_json::from_slice(content.value()).map_err(|error| {
                let message = format!("the record {} cannot be read: {error}", key.value());
                Error::new(ErrorKind::Format, self.object(), message)
            });
            records.push(record?);
        }
        Ok(records)
    }

    fn write(
        &self,
        work: impl FnOnce(&WriteTransaction) -> std::result::Result<(), redb::Error>,
    ) -> Result<()> {
        let run = || {
            let transaction = self.database.begin_write()?;
            work(&transaction)?;
            transaction.commit()?;
            Ok(())
        };
        run().map_err(|error: redb::Error| self.error(&error))
    }

    fn encode(&self, record: &impl Serialize) -> Result<Vec<u8>> {
        serde_json::to_vec(record)
            .map_err(|error| Error::new(ErrorKind::Internal, self.object(), error.to_string()))
    }

    fn object(&self) -> String {
        self.path.display().to_string()
    }

    fn error(&self, error: &redb::Error) -> Error {
        let message = format!("{error}; check the file system it is on, then start again");
        let kind =
            if matches!(error, redb::Error::Corrupted(_)) { ErrorKind::Corrupt } else { ErrorKind::Device };
        Error::new(kind, self.object(), message)
    }
}

fn open_error(path: &Path, error: &DatabaseError) -> Error {
    let object = path.display().to_string();
    match error {
        DatabaseError::DatabaseAlreadyOpen => Error::new(
            ErrorKind::InUse,
            object,
            "another process serves this data directory; stop it, or use another --data",
        ),
        error => Error::new(
            ErrorKind::Device,
            object,
            format!("it cannot be opened: {error}; check the path, the file system and its permissions"),
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Name;

    fn group() -> GroupRecord {
        GroupRecord {
            version: VERSION,
            id: "g".to_owned(),
            name: Name::parse("group").unwrap(),
            discovery: None,
            isns: None,
        }
    }

    fn pool(number: u8) -> PoolRecord {
        PoolRecord {
            warn_percent: Some(80),
            id: PoolId::from_random([number; 16]),
            name: Name::parse(&format!("p{number}")).unwrap(),
            disks: vec!["/dev/sdb".to_owned()],
            volatile: false,
            key_file: None,
            rules: crate::PoolRules::default(),
            created_unix_ms: 1,
        }
    }

    #[test]
    fn what_was_applied_is_there_after_opening_again() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("group.redb");
        let file = GroupFile::open(&path, group).unwrap();
        file.apply(&[FileChange::PutPool(pool(1)), FileChange::PutPool(pool(2))]).unwrap();
        file.apply(&[FileChange::RemovePool(pool(1).id), FileChange::RemovePool(pool(3).id)]).unwrap();
        drop(file);
        let file = GroupFile::open(&path, || panic!("the group has its record")).unwrap();
        let contents = file.load().unwrap();
        assert_eq!(contents.group, group());
        assert_eq!(contents.pools, [pool(2)]);
        assert!(contents.hosts.is_empty() && contents.volumes.is_empty());
    }

    #[test]
    fn a_second_opener_is_told_why_it_cannot() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("group.redb");
        let _first = GroupFile::open(&path, group).unwrap();
        let error = GroupFile::open(&path, group).err().unwrap();
        assert_eq!(error.kind, ErrorKind::InUse);
        assert!(error.message.contains("another process"), "{error}");
    }

    #[test]
    fn a_file_of_a_newer_version_is_left_alone() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("group.redb");
        drop(GroupFile::open(&path, || GroupRecord { version: 2, ..group() }).unwrap());
        assert_eq!(GroupFile::open(&path, group).err().unwrap().kind, ErrorKind::Format);
    }
}
