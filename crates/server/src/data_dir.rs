//! The data directory: made, kept to its owner, and locked for one daemon.

use api::{ErrorClass, Problem};
use rustix::fs::FlockOperation;
use std::fs::{DirBuilder, File, OpenOptions};
use std::io::{ErrorKind, Read, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

/// The longest path that a Unix socket's address holds (unix(7)), without the zero behind it.
const SOCKET_PATH_BYTES_MAX: usize = 107;

/// A data directory that is this process's alone, until dropped.
pub(crate) struct DataDir {
    path: PathBuf,
    /// Its lock ends with the process, however that ends.
    _lock: File,
}

impl DataDir {
    /// Makes the directory if it is not there, and takes it.
    pub(crate) fn take(path: &Path) -> Result<Self, Problem> {
        let fail = |error: std::io::Error, what: &str| io_problem(path, &error, what);
        let path = std::path::absolute(path).map_err(|error| fail(error, "it is no path"))?;
        DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(&path)
            .map_err(|error| fail(error, "the data directory cannot be made"))?;
        let lock = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .open(path.join("lock"))
            .map_err(|error| fail(error, "the data directory cannot be written to"))?;
        match rustix::fs::flock(&lock, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => {}
            Err(rustix::io::Errno::WOULDBLOCK) => return Err(taken(&path, lock)),
            Err(error) => return Err(fail(error.into(), "the data directory cannot be locked")),
        }
        note_holder(&lock).map_err(|error| fail(error, "the data directory cannot be written to"))?;
        let directory = Self { path, _lock: lock };
        directory.check_socket_path()?;
        Ok(directory)
    }

    /// The directory, absolute.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Where the group's file is.
    pub(crate) fn group_file(&self) -> PathBuf {
        self.path.join("group.redb")
    }

    /// Where the API's socket is.
    pub(crate) fn socket(&self) -> PathBuf {
        self.path.join(api::SOCKET_NAME)
    }

    fn check_socket_path(&self) -> Result<(), Problem> {
        let length = self.socket().as_os_str().len();
        if length <= SOCKET_PATH_BYTES_MAX {
            return Ok(());
        }
        let message = format!(
            "the path of the socket in it has {length} bytes, the system allows {SOCKET_PATH_BYTES_MAX}; choose a \
             shorter --data"
        );
        Err(Problem::new(ErrorClass::Invalid, self.path.display().to_string(), message))
    }
}

fn note_holder(mut lock: &File) -> std::io::Result<()> {
    lock.set_len(0)?;
    writeln!(lock, "{}", std::process::id())
}

fn taken(path: &Path, mut lock: File) -> Problem {
    let mut holder = String::new();
    let process = match lock.read_to_string(&mut holder) {
        Ok(_) if !holder.trim().is_empty() => format!("process {}", holder.trim()),
        _ => "another process".to_owned(),
    };
    let message =
        format!("{process} serves this data directory already; stop it, or choose another with --data");
    Problem::new(ErrorClass::AlreadyServing, path.display().to_string(), message)
}

/// A failure of the file system, in words that help.
pub(crate) fn io_problem(path: &Path, error: &std::io::Error, what: &str) -> Problem {
    let class = match error.kind() {
        ErrorKind::PermissionDenied | ErrorKind::ReadOnlyFilesystem => ErrorClass::Denied,
        ErrorKind::NotADirectory | ErrorKind::AlreadyExists | ErrorKind::InvalidInput => ErrorClass::Invalid,
        ErrorKind::NotFound => ErrorClass::NotFound,
        ErrorKind::StorageFull => ErrorClass::NoSpace,
        _ => ErrorClass::Device,
    };
    Problem::new(class, path.display().to_string(), format!("{what}: {error}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_daemon_at_a_time_has_a_data_directory() {
        let parent = tempfile::tempdir().unwrap();
        let path = parent.path().join("a/b");
        let first = DataDir::take(&path).unwrap();
        let problem = DataDir::take(&path).err().unwrap();
        assert_eq!(problem.code, ErrorClass::AlreadyServing);
        assert_eq!(problem.object, path.display().to_string());
        assert!(problem.message.contains(&std::process::id().to_string()), "says who: {problem}");
        drop(first);
        assert!(DataDir::take(&path).is_ok(), "what a former one left is in nobody's way");
    }

    #[test]
    fn what_cannot_be_a_data_directory_is_said_so() {
        let parent = tempfile::tempdir().unwrap();
        let file = parent.path().join("file");
        std::fs::write(&file, "").unwrap();
        assert_eq!(DataDir::take(&file).err().unwrap().code, ErrorClass::Invalid);
        let deep = parent.path().join("d".repeat(120));
        let problem = DataDir::take(&deep).err().unwrap();
        assert!(problem.message.contains("shorter --data"), "{problem}");
    }
}
