//! The ledger: for every unit, the newest generation known to be kept and the newest ever sent.
//!
//! The file is a header of 4096 bytes and then 8 bytes a unit: `floor` and `ceiling`, two
//! little-endian 32-bit generations. It is sparse where nothing was written.
//!
//! Order is what makes it safe against `kill -9` at any moment: `ceiling` is raised before a
//! write goes to the socket, `floor` after its status came back. An entry never crosses a page,
//! so each is either old or new when the process dies between them. What was not recorded was
//! not sent; what was acknowledged but not recorded only makes the proof weaker by that write.
//! (It is not safe against a crash of the machine the load generator runs on.)
//!
//! No two writes of one unit are ever in flight at once, so while one is, `ceiling` is its
//! generation.

use core::ops::Range;
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use rustix::fs::{FlockOperation, SeekFrom};

use super::stamp::{Generation, RunId, StampSize};

const MAGIC: [u8; 8] = *b"PLSDLDGR";
const VERSION: u32 = 1;
const HEADER_BYTES: usize = 4096;
const HEADER_END: u64 = 4096;
const ENTRY_BYTES: usize = 8;
/// Longest description of a logical unit kept in the header, in bytes.
const UNIT_NAME_BYTES_MAX: usize = 1024;
/// Where the name and the checksum are in the header.
const NAME_AT: usize = 64;
const CHECKSUM_AT: usize = HEADER_BYTES - 8;

/// Units whose entries share one page of the file: the step in which it is scanned.
pub const UNITS_PER_PAGE: u64 = 512;

/// What the ledger allows a unit to hold: any generation from `floor` to `ceiling`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Entry {
    /// The newest generation acknowledged or seen by a read.
    pub floor: Generation,
    /// The newest generation ever sent.
    pub ceiling: Generation,
}

impl Entry {
    fn from_bytes(bytes: [u8; ENTRY_BYTES]) -> Self {
        let both = u64::from_le_bytes(bytes);
        let [floor, ceiling] = [both & u64::from(u32::MAX), both >> 32];
        let generation = |half| Generation(u32::try_from(half).unwrap_or(u32::MAX));
        Self { floor: generation(floor), ceiling: generation(ceiling) }
    }

    fn to_bytes(self) -> [u8; ENTRY_BYTES] {
        (u64::from(self.floor.0) | u64::from(self.ceiling.0) << 32).to_le_bytes()
    }
}

/// Why a ledger cannot be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LedgerError {
    /// The file cannot be opened, read or written.
    #[error("cannot use the verification file {}: {source}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// Another process is using the file.
    #[error("the verification file {} is in use by another process", .0.display())]
    InUse(PathBuf),
    /// The file is something else, or damaged.
    #[error("{} is no verification file of this version; choose another name or delete it", .0.display())]
    NotALedger(PathBuf),
    /// The file records writes to another volume, or with another unit size.
    #[error("{} belongs to {recorded}, not to {asked}", path.display())]
    OtherVolume {
        /// The file.
        path: PathBuf,
        /// What it was made for.
        recorded: String,
        /// What it was to be used for.
        asked: String,
    },
    /// The volume is smaller than when its writes were recorded.
    #[error("the volume has shrunk: {} records {recorded} units, it has {present}", path.display())]
    Shrunk {
        /// The file.
        path: PathBuf,
        /// Units recorded.
        recorded: u64,
        /// Units the volume has now.
        present: u64,
    },
}

/// What a ledger is for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LedgerScope {
    /// Names the logical unit, for example target name and LUN.
    pub volume: String,
    /// Bytes of a unit.
    pub stamp: StampSize,
    /// Units of the volume that this run may write.
    pub units: u64,
    /// Units of the whole volume.
    pub volume_units: u64,
}

/// The open file. Sessions share it; each unit is written by one session only.
#[derive(Debug)]
pub struct Ledger {
    file: File,
    path: PathBuf,
    run: RunId,
    units: u64,
    resumed: bool,
}

impl Ledger {
    /// Opens the ledger at `path`, or makes it with run id `fresh`.
    ///
    /// # Errors
    /// [`LedgerError`]; a file that is not a ledger of this volume is left as it is.
    pub fn open(path: &Path, scope: &LedgerScope, fresh: RunId) -> Result<Self, LedgerError> {
        let fail = |source| LedgerError::Io { path: path.to_owned(), source };
        let file =
            File::options().read(true).write(true).create(true).truncate(false).open(path).map_err(fail)?;
        rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive)
            .map_err(|_| LedgerError::InUse(path.to_owned()))?;
        let length = file.metadata().map_err(fail)?.len();
        let mut ledger =
            Self { file, path: path.to_owned(), run: fresh, units: scope.units, resumed: length > 0 };
        if ledger.resumed {
            ledger.adopt(scope)?;
        }
        ledger.write_header(scope)?;
        Ok(ledger)
    }

    /// The unit of the ledger at `path`; `None` if there is no such ledger yet.
    pub fn recorded_unit(path: &Path) -> Option<StampSize> {
        let mut header = [0; HEADER_BYTES];
        File::open(path).ok()?.read_exact_at(&mut header, 0).ok()?;
        Header::parse(&header).map(|header| header.stamp)
    }

    /// Identity of the stamps.
    pub fn run(&self) -> RunId {
        self.run
    }

    /// Units recorded, by this run or an earlier one.
    pub fn units(&self) -> u64 {
        self.units
    }

    /// Whether the file was there before.
    pub fn resumed(&self) -> bool {
        self.resumed
    }

    /// The file's path.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Reads the entries of `count` units from `first` on into `entries`, replacing its content.
    ///
    /// # Errors
    /// [`LedgerError::Io`].
    pub fn read(&self, first: u64, count: usize, entries: &mut Vec<Entry>) -> Result<(), LedgerError> {
        let mut bytes = vec![0; count * ENTRY_BYTES];
        let mut filled = 0;
        while let Some(rest) = bytes.get_mut(filled..).filter(|rest| !rest.is_empty()) {
            let at = offset(first) + u64::try_from(filled).unwrap_or(u64::MAX);
            match self.file.read_at(rest, at).map_err(|source| self.io(source))? {
                0 => break,
                read => filled += read,
            }
        }
        entries.clear();
        let chunks = bytes.chunks_exact(ENTRY_BYTES);
        entries.extend(chunks.filter_map(|chunk| chunk.try_into().ok()).map(Entry::from_bytes));
        Ok(())
    }

    /// Records that a write of the next generation of each unit is about to be sent. `entries`
    /// holds what was recorded before, and afterwards what is recorded now.
    ///
    /// # Errors
    /// [`LedgerError::Io`]; the write must not be sent then.
    pub fn begin(&self, first: u64, count: usize, entries: &mut Vec<Entry>) -> Result<(), LedgerError> {
        self.read(first, count, entries)?;
        for entry in entries.iter_mut() {
            entry.ceiling = Generation(entry.ceiling.0.saturating_add(1));
        }
        self.write(first, entries)
    }

    /// Records that the write of these units that was in flight is acknowledged.
    ///
    /// # Errors
    /// [`LedgerError::Io`].
    pub fn acknowledge(&self, first: u64, count: usize, entries: &mut Vec<Entry>) -> Result<(), LedgerError> {
        self.read(first, count, entries)?;
        for entry in entries.iter_mut() {
            entry.floor = entry.ceiling;
        }
        self.write(first, entries)
    }

    /// Records what a read has seen in one unit: from now on it may not hold anything older.
    ///
    /// # Errors
    /// [`LedgerError::Io`].
    pub fn observe(&self, unit: u64, entry: Entry, seen: Generation) -> Result<(), LedgerError> {
        if seen <= entry.floor {
            return Ok(());
        }
        self.write(unit, &[Entry { floor: seen, ..entry }])
    }

    /// The first page of entries at or after the one of `unit` that may hold any, as units.
    /// `None` if there is none up to the end.
    ///
    /// # Errors
    /// [`LedgerError::Io`].
    pub fn next_page(&self, unit: u64) -> Result<Option<Range<u64>>, LedgerError> {
        if unit >= self.units {
            return Ok(None);
        }
        let entry_bytes = offset(1) - offset(0);
        let at = offset(unit - unit % UNITS_PER_PAGE);
        let data = match rustix::fs::seek(&self.file, SeekFrom::Data(at)) {
            Ok(data) => data,
            Err(rustix::io::Errno::NXIO) => return Ok(None),
            Err(rustix::io::Errno::INVAL | rustix::io::Errno::NOTSUP) => at,
            Err(error) => return Err(self.io(error.into())),
        };
        let found = data.saturating_sub(HEADER_END) / entry_bytes;
        let first = found - found % UNITS_PER_PAGE;
        Ok((first < self.units).then(|| first..(first + UNITS_PER_PAGE).min(self.units)))
    }

    fn write(&self, first: u64, entries: &[Entry]) -> Result<(), LedgerError> {
        let bytes: Vec<u8> = entries.iter().flat_map(|entry| entry.to_bytes()).collect();
        self.file.write_all_at(&bytes, offset(first)).map_err(|source| self.io(source))
    }

    fn io(&self, source: io::Error) -> LedgerError {
        LedgerError::Io { path: self.path.clone(), source }
    }

    /// Takes over run id and units from the header of an existing file.
    fn adopt(&mut self, scope: &LedgerScope) -> Result<(), LedgerError> {
        let mut header = [0; HEADER_BYTES];
        let read = self.file.read_at(&mut header, 0).map_err(|source| self.io(source))?;
        let header = (read == HEADER_BYTES).then(|| Header::parse(&header)).flatten();
        let header = header.ok_or_else(|| LedgerError::NotALedger(self.path.clone()))?;
        if header.volume != scope.volume || header.stamp != scope.stamp {
            let describe = |volume: &str, stamp: StampSize| format!("{volume} in units of {}", stamp.bytes());
            return Err(LedgerError::OtherVolume {
                path: self.path.clone(),
                recorded: describe(&header.volume, header.stamp),
                asked: describe(&scope.volume, scope.stamp),
            });
        }
        if header.units > scope.volume_units {
            return Err(LedgerError::Shrunk {
                path: self.path.clone(),
                recorded: header.units,
                present: scope.volume_units,
            });
        }
        self.run = header.run;
        self.units = header.units.max(scope.units);
        Ok(())
    }

    fn write_header(&self, scope: &LedgerScope) -> Result<(), LedgerError> {
        let header =
            Header { run: self.run, units: self.units, stamp: scope.stamp, volume: scope.volume.clone() };
        self.file.write_all_at(&header.to_bytes(), 0).map_err(|source| self.io(source))
    }
}

/// Where in the file the entry of `unit` is.
fn offset(unit: u64) -> u64 {
    HEADER_END + unit * 8
}

struct Header {
    run: RunId,
    units: u64,
    stamp: StampSize,
    volume: String,
}

impl Header {
    fn to_bytes(&self) -> [u8; HEADER_BYTES] {
        let mut bytes = [0; HEADER_BYTES];
        let name = self.volume.as_bytes();
        let length = name.len().min(UNIT_NAME_BYTES_MAX);
        bytes[0..8].copy_from_slice(&MAGIC);
        bytes[8..12].copy_from_slice(&VERSION.to_le_bytes());
        bytes[12..16].copy_from_slice(&self.stamp.bytes().to_le_bytes());
        bytes[16..24].copy_from_slice(&self.run.0.to_le_bytes());
        bytes[24..32].copy_from_slice(&self.units.to_le_bytes());
        bytes[32..36].copy_from_slice(&u32::try_from(length).unwrap_or(0).to_le_bytes());
        bytes[NAME_AT..NAME_AT + length].copy_from_slice(&name[..length]);
        let checksum = crc_fast::checksum(crc_fast::CrcAlgorithm::Crc64Nvme, &bytes[..CHECKSUM_AT]);
        bytes[CHECKSUM_AT..].copy_from_slice(&checksum.to_le_bytes());
        bytes
    }

    fn parse(bytes: &[u8; HEADER_BYTES]) -> Option<Self> {
        let u32_at = |at: usize| Some(u32::from_le_bytes(bytes.get(at..at + 4)?.try_into().ok()?));
        let u64_at = |at: usize| Some(u64::from_le_bytes(bytes.get(at..at + 8)?.try_into().ok()?));
        let checksum = crc_fast::checksum(crc_fast::CrcAlgorithm::Crc64Nvme, bytes.get(..CHECKSUM_AT)?);
        if !bytes.starts_with(&MAGIC) || u32_at(8)? != VERSION || u64_at(CHECKSUM_AT)? != checksum {
            return None;
        }
        let length = usize::try_from(u32_at(32)?).ok()?;
        let name = bytes.get(NAME_AT..NAME_AT.checked_add(length)?)?;
        Some(Self {
            run: RunId(u64_at(16)?),
            units: u64_at(24)?,
            stamp: StampSize::from_bytes(u32_at(12)?)?,
            volume: String::from_utf8(name.to_vec()).ok()?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn scope(units: u64) -> LedgerScope {
        LedgerScope { volume: "iqn.a:b lun 0".to_owned(), stamp: StampSize::Page, units, volume_units: units }
    }

    fn open(path: &Path, units: u64, run: u64) -> Result<Ledger, LedgerError> {
        Ledger::open(path, &scope(units), RunId(run))
    }

    fn entry(floor: u32, ceiling: u32) -> Entry {
        Entry { floor: Generation(floor), ceiling: Generation(ceiling) }
    }

    #[test]
    fn sent_acknowledged_and_seen_generations_survive_reopening() {
        let dir = tempfile::tempdir().expect("dir");
        let path = dir.path().join("ledger");
        let mut entries = Vec::new();
        let ledger = open(&path, 1000, 1).expect("new");
        assert!(!ledger.resumed());
        ledger.begin(10, 3, &mut entries).expect("begin");
        assert_eq!(entries, [entry(0, 1); 3]);
        ledger.acknowledge(10, 3, &mut entries).expect("ack");
        ledger.begin(11, 2, &mut entries).expect("begin again");
        ledger.observe(12, entries[1], Generation(2)).expect("seen");
        drop(ledger);
        let ledger = open(&path, 1000, 99).expect("again");
        assert!(ledger.resumed());
        assert_eq!(ledger.run(), RunId(1), "the run id is the file's, not the new one");
        ledger.read(9, 5, &mut entries).expect("read");
        assert_eq!(entries, [entry(0, 0), entry(1, 1), entry(1, 2), entry(2, 2), entry(0, 0)]);
    }

    #[test]
    fn an_older_sight_never_lowers_the_floor() {
        let dir = tempfile::tempdir().expect("dir");
        let ledger = open(&dir.path().join("ledger"), 10, 1).expect("new");
        let mut entries = Vec::new();
        for _ in 0..3 {
            ledger.begin(0, 1, &mut entries).expect("begin");
            ledger.acknowledge(0, 1, &mut entries).expect("ack");
        }
        ledger.observe(0, entries[0], Generation(1)).expect("no effect");
        ledger.read(0, 1, &mut entries).expect("read");
        assert_eq!(entries, [entry(3, 3)]);
    }

    #[test]
    fn another_volume_or_file_is_refused_and_left_alone() {
        let dir = tempfile::tempdir().expect("dir");
        let path = dir.path().join("ledger");
        drop(open(&path, 100, 1).expect("new"));
        let other = LedgerScope { volume: "iqn.a:c lun 0".to_owned(), ..scope(100) };
        let error = Ledger::open(&path, &other, RunId(2)).expect_err("other volume");
        assert!(matches!(error, LedgerError::OtherVolume { .. }), "{error}");
        assert!(matches!(open(&path, 99, 2), Err(LedgerError::Shrunk { .. })));
        let text = dir.path().join("letter");
        std::fs::write(&text, "Dear Sir").expect("write");
        assert!(matches!(open(&text, 100, 1), Err(LedgerError::NotALedger(_))));
        assert_eq!(std::fs::read(&text).expect("read"), b"Dear Sir");
    }

    #[test]
    fn a_volume_may_grow_and_a_later_span_be_smaller() {
        let dir = tempfile::tempdir().expect("dir");
        let path = dir.path().join("ledger");
        drop(open(&path, 100, 1).expect("new"));
        drop(open(&path, 200, 1).expect("grown"));
        let narrow = LedgerScope { units: 50, ..scope(200) };
        assert_eq!(Ledger::open(&path, &narrow, RunId(1)).expect("narrow").units(), 200);
    }

    #[test]
    fn two_processes_cannot_share_it() {
        let dir = tempfile::tempdir().expect("dir");
        let path = dir.path().join("ledger");
        let _first = open(&path, 100, 1).expect("new");
        assert!(matches!(open(&path, 100, 1), Err(LedgerError::InUse(_))));
    }

    #[test]
    fn a_scan_finds_every_written_page_and_skips_the_holes() {
        let dir = tempfile::tempdir().expect("dir");
        let units = 1 << 30;
        let ledger = open(&dir.path().join("ledger"), units, 1).expect("new");
        let mut entries = Vec::new();
        let written = [0, 511, 70_000, 5_000_000, units - 1];
        for unit in written {
            ledger.begin(unit, 1, &mut entries).expect("begin");
        }
        let (mut unit, mut found, mut pages) = (0, Vec::new(), 0);
        while let Some(page) = ledger.next_page(unit).expect("scan") {
            let count = usize::try_from(page.end - page.start).expect("page");
            ledger.read(page.start, count, &mut entries).expect("read");
            let sent = |(entry, unit): (&Entry, u64)| (entry.ceiling.0 > 0).then_some(unit);
            found.extend(entries.iter().zip(page.clone()).filter_map(sent));
            (unit, pages) = (page.end, pages + 1);
        }
        assert_eq!(found, written);
        assert!(pages < 1000, "{pages} pages scanned for {} entries", written.len());
    }

    #[test]
    fn a_scan_ends_after_a_last_page_that_is_not_full() {
        let dir = tempfile::tempdir().expect("dir");
        let ledger = open(&dir.path().join("ledger"), 700, 1).expect("new");
        ledger.begin(699, 1, &mut Vec::new()).expect("begin");
        let page = ledger.next_page(512).expect("scan").expect("the last page");
        assert_eq!(page, 512..700);
        assert_eq!(ledger.next_page(page.end).expect("scan"), None);
    }

    #[test]
    fn an_empty_file_left_by_a_kill_at_birth_is_begun_anew() {
        let dir = tempfile::tempdir().expect("dir");
        let path = dir.path().join("ledger");
        File::create(&path).expect("empty");
        assert!(!open(&path, 10, 5).expect("begun").resumed());
    }
}
