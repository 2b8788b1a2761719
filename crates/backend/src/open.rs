//! Opening a disk: what it is, how large, whether it is ours alone, and how its bytes travel.

use crate::errors::{errno, open_error};
use crate::file_disk::{Engine, FileDisk, IoMode};
use crate::flush::Flusher;
use crate::request::Files;
use crate::spec::DiskSpec;
use crate::threads::Threads;
use crate::uring_support;
use block::{BlockError, BufferPool, Disk, DiskInfo, ErrorKind, Media, MemoryDisk, Result, format_size};
use rustix::fs::{Advice, FlockOperation};
use rustix::io::Errno;
use std::fs::{File, Metadata, OpenOptions as FileOptions};
use std::io::{Seek, SeekFrom};
use std::os::unix::fs::{FileTypeExt, MetadataExt, OpenOptionsExt};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// What the caller wants of a disk.
#[derive(Clone)]
pub struct OpenOptions {
    /// The least size that is of use, in bytes.
    pub size_min_bytes: u64,
    /// Where the memory of reads comes from.
    pub buffers: BufferPool,
    /// False to use threads even where io_uring works.
    pub uring: bool,
    /// False to go through the page cache even where direct I/O works.
    pub direct: bool,
}

impl Default for OpenOptions {
    /// Any size, io_uring and direct I/O where they work, and buffers of its own.
    fn default() -> Self {
        Self { size_min_bytes: 0, buffers: BufferPool::default(), uring: true, direct: true }
    }
}

/// An open disk, and how its bytes travel.
#[derive(Clone)]
pub struct OpenDisk {
    /// The disk. While it lives no other process can open it through this function.
    pub disk: Arc<dyn Disk>,
    /// How its bytes travel, for status and logs.
    pub mode: IoMode,
    /// The disk again, if it can grow.
    file: Option<Arc<FileDisk>>,
}

impl OpenDisk {
    /// Makes a file `size_bytes` large; without a size, looks how large the device or file has become. Returns the
    /// size, up to which the disk takes requests from now on ([`Disk::info`] still has the size at opening). Blocks.
    ///
    /// # Errors
    /// `Invalid` for less than it has, for a device that has another size, and for memory; `NoSpace`, `Device`.
    pub fn grow(&self, size_bytes: Option<u64>) -> Result<u64> {
        let memory = || {
            let message = "memory does not grow; make another pool";
            BlockError::new(ErrorKind::Invalid, &self.disk.info().name, message)
        };
        self.file.as_ref().ok_or_else(memory)?.grow(size_bytes)
    }
}

/// Opens a disk for exclusive use, creating a file if `spec` gives its size and there is none.
///
/// # Errors
/// `NotFound` if it is gone; `Busy` if it is mounted or another process has it; `Denied` without permission;
/// `Invalid` if it is a directory or something else that is no disk, is too small, or has another size than
/// `spec` says; `NoSpace`, `ReadOnly`, `Device` as the system reports them. Each message says what to do next.
pub fn open_disk(spec: &DiskSpec, options: &OpenOptions) -> Result<OpenDisk> {
    match spec {
        DiskSpec::Ram { size_bytes } => open_memory(spec, *size_bytes, options),
        DiskSpec::Path { path, size_bytes } => open_path(path, *size_bytes, options),
    }
}

fn open_memory(spec: &DiskSpec, size_bytes: u64, options: &OpenOptions) -> Result<OpenDisk> {
    let name = spec.to_string();
    check_size(&name, size_bytes, options)?;
    let disk = Arc::new(MemoryDisk::new(name, size_bytes, options.buffers.clone()));
    Ok(OpenDisk { disk, mode: IoMode { engine: Engine::Memory, direct: false }, file: None })
}

fn open_path(path: &Path, size_bytes: Option<u64>, options: &OpenOptions) -> Result<OpenDisk> {
    let name = path.display().to_string();
    let failed = |error: std::io::Error| open_error(&name, errno(&error));
    let metadata = match (std::fs::metadata(path), size_bytes) {
        (Err(error), Some(size)) if error.kind() == std::io::ErrorKind::NotFound => {
            check_size(&name, size, options)?;
            create_sparse(path, size).map_err(failed)?
        }
        (metadata, _) => metadata.map_err(failed)?,
    };
    let kind = metadata.file_type();
    let files = if kind.is_file() {
        check_file_size(&name, metadata.len(), size_bytes)?;
        open_file(path, &name, options)?
    } else if kind.is_block_device() {
        open_device(path, &name, &metadata, options)?
    } else {
        let what = if kind.is_dir() { "is a directory" } else { "is neither a file nor a block device" };
        let message = format!("{what}; give a block device, or PATH:SIZE to create a file");
        return Err(BlockError::new(ErrorKind::Invalid, name, message));
    };
    check_size(&name, files.info.size_bytes, options)?;
    let engine = if options.uring && uring_support().is_ok() { Engine::Uring } else { Engine::Threads };
    let disk = FileDisk::new(files, engine, options.buffers.clone());
    let mode = disk.mode();
    tracing::info!(disk = %name, size = %format_size(disk.info().size_bytes), %mode, "disk opened");
    let disk = Arc::new(disk);
    Ok(OpenDisk { disk: disk.clone(), mode, file: Some(disk) })
}

fn check_size(name: &str, size_bytes: u64, options: &OpenOptions) -> Result<()> {
    if size_bytes >= options.size_min_bytes.max(4096) {
        return Ok(());
    }
    let (is, least) = (format_size(size_bytes), format_size(options.size_min_bytes.max(4096)));
    let message = format!("too small: it has {is}, at least {least} are needed; choose a larger disk");
    Err(BlockError::new(ErrorKind::Invalid, name, message))
}

fn check_file_size(name: &str, is: u64, wanted: Option<u64>) -> Result<()> {
    match wanted {
        Some(wanted) if wanted != is => {
            let (is, wanted) = (format_size(is), format_size(wanted));
            let message = format!(
                "the file exists and has {is}, not {wanted}; name it without a size to use it as it is, or choose \
                 another path"
            );
            Err(BlockError::new(ErrorKind::Exists, name, message))
        }
        _ => Ok(()),
    }
}

/// Creates a file without data, durably: the file and its name are on disk when this returns.
fn create_sparse(path: &Path, size_bytes: u64) -> std::io::Result<Metadata> {
    let file = FileOptions::new().read(true).write(true).create_new(true).mode(0o600).open(path)?;
    let sized = file.set_len(size_bytes).and_then(|()| file.sync_all());
    if let Err(error) = sized {
        let _ = std::fs::remove_file(path);
        return Err(error);
    }
    let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    File::open(parent)?.sync_all()?;
    file.metadata()
}

fn open_file(path: &Path, name: &str, options: &OpenOptions) -> Result<Files> {
    let failed = |error: std::io::Error| open_error(name, errno(&error));
    let buffered = FileOptions::new().read(true).write(true).open(path).map_err(failed)?;
    // On the open file: it ends with the process, however that ends, and a second open in this process hits it.
    rustix::fs::flock(&buffered, FlockOperation::NonBlockingLockExclusive)
        .map_err(|e| open_error(name, e))?;
    let flushing = open_flushing(path, name, &buffered)?;
    let direct = open_direct(path, name, options, 0)?;
    let size = buffered.metadata().map_err(failed)?.len();
    // File systems on 4 KiB sectors refuse smaller direct requests, and tear larger units.
    let size_bytes = size - size % 4096;
    let name = name.to_owned();
    let info = DiskInfo { name, size_bytes, alignment_bytes: 4096, media: Media::File, rotational: false };
    Ok(files(info, direct, buffered, flushing))
}

fn open_device(path: &Path, name: &str, metadata: &Metadata, options: &OpenOptions) -> Result<Files> {
    let failed = |error: std::io::Error| open_error(name, errno(&error));
    let exclusive = rustix::fs::OFlags::EXCL.bits() as i32;
    // On a block device O_EXCL without O_CREAT is refused while a file system, LVM, or another O_EXCL has it.
    let mut locked =
        FileOptions::new().read(true).write(true).custom_flags(exclusive).open(path).map_err(failed)?;
    let size = locked.seek(SeekFrom::End(0)).map_err(failed)?;
    let sector = rustix::fs::ioctl_blksszget(&locked).map_err(|error| open_error(name, error))?;
    let flushing = open_flushing(path, name, &locked)?;
    let direct = open_direct(path, name, options, 0)?;
    let info = DiskInfo {
        name: name.to_owned(),
        size_bytes: size - size % 4096,
        alignment_bytes: sector.clamp(512, 4096),
        media: Media::Device,
        rotational: is_rotational(metadata.rdev()),
    };
    Ok(files(info, direct, locked, flushing))
}

/// A descriptor past the page cache, if the file system has such.
fn open_direct(path: &Path, name: &str, options: &OpenOptions, flags: i32) -> Result<Option<File>> {
    if !options.direct {
        return Ok(None);
    }
    let flags = flags | rustix::fs::OFlags::DIRECT.bits() as i32;
    match FileOptions::new().read(true).write(true).custom_flags(flags).open(path) {
        Ok(file) => Ok(Some(file)),
        Err(error) if errno(&error) == Errno::INVAL => Ok(None),
        Err(error) => Err(open_error(name, errno(&error))),
    }
}

/// A description for flushes alone of the file or device that `locked` is. It is opened for writing as well, since
/// a file system in user space may sync only what it knows a writer of; the lock stays with `locked`.
fn open_flushing(path: &Path, name: &str, locked: &File) -> Result<File> {
    let failed = |error: std::io::Error| open_error(name, errno(&error));
    let file = FileOptions::new().read(true).write(true).open(path).map_err(failed)?;
    let (ours, theirs) = (file.metadata().map_err(failed)?, locked.metadata().map_err(failed)?);
    let identity = |of: &Metadata| (of.dev(), of.ino(), of.rdev());
    if identity(&ours) == identity(&theirs) {
        return Ok(file);
    }
    let message = "something else took its place while it was being opened; try again";
    Err(BlockError::new(ErrorKind::Busy, name, message))
}

fn files(info: DiskInfo, direct: Option<File>, buffered: File, flushing: File) -> Files {
    static KEYS: AtomicU64 = AtomicU64::new(0);
    // Sequential read-in fills the page cache with large folios, in which small writes are slow.
    let _ = rustix::fs::fadvise(&buffered, 0, None, Advice::Random);
    // What an earlier run wrote and the kernel could not write back is still cached, as if it were on the disk.
    let _ = rustix::fs::fadvise(&buffered, 0, None, Advice::DontNeed);
    let key = KEYS.fetch_add(1, Ordering::Relaxed);
    let flusher = Flusher::new(&info.name, flushing);
    let (threads, flush_threads) = (Threads::default(), Threads::default());
    Files { info, key, direct, buffered, threads, flusher, flush_threads }
}

/// Whether the kernel says that the device, or the one it is a partition of, spins.
fn is_rotational(device: u64) -> bool {
    let (major, minor) = (rustix::fs::major(device), rustix::fs::minor(device));
    let base = format!("/sys/dev/block/{major}:{minor}");
    let places = [format!("{base}/queue/rotational"), format!("{base}/../queue/rotational")];
    let found = places.iter().find_map(|place| std::fs::read_to_string(place).ok());
    found.is_some_and(|text| text.trim() == "1")
}

/// What [`open_disk`] makes a disk of.
#[cfg(test)]
pub(crate) fn open_for_tests(path: &Path, options: &OpenOptions) -> Result<Files> {
    open_file(path, &path.display().to_string(), options)
}
