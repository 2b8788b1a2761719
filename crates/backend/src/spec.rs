//! How an administrator names a disk: `PATH`, `PATH:SIZE` or `ram:SIZE`.

use block::{Result, format_size, parse_size};
use std::fmt;
use std::path::{Path, PathBuf};

/// A disk as named on the command line or in the API.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum DiskSpec {
    /// Memory of this many bytes, lost when the process ends.
    Ram {
        /// Size in bytes.
        size_bytes: u64,
    },
    /// A block device or a file.
    Path {
        /// Where it is.
        path: PathBuf,
        /// For a file: it is created sparse with this many bytes, or has exactly as many.
        size_bytes: Option<u64>,
    },
}

impl DiskSpec {
    /// Reads a disk's name. What follows the last colon is a size if it reads as one, unless a file of the whole
    /// name exists (`/dev/disk/by-path/…` has colons).
    ///
    /// # Errors
    /// `Invalid` for `ram:` without a size.
    pub fn parse(text: &str) -> Result<Self> {
        if let Some(size) = text.strip_prefix("ram:") {
            return Ok(Self::Ram { size_bytes: parse_size(size)? });
        }
        let sized = text.rsplit_once(':').filter(|(path, _)| !path.is_empty());
        let sized = sized.and_then(|(path, size)| Some((path, parse_size(size).ok()?)));
        Ok(match sized.filter(|_| !Path::new(text).exists()) {
            Some((path, size)) => Self::Path { path: path.into(), size_bytes: Some(size) },
            None => Self::Path { path: text.into(), size_bytes: None },
        })
    }

    /// The same disk named without its size, as it is opened once it exists.
    #[must_use]
    pub fn existing(&self) -> Self {
        match self {
            Self::Path { path, .. } => Self::Path { path: path.clone(), size_bytes: None },
            Self::Ram { .. } => self.clone(),
        }
    }
}

impl std::str::FromStr for DiskSpec {
    type Err = block::BlockError;
    fn from_str(text: &str) -> Result<Self> {
        Self::parse(text)
    }
}

impl fmt::Display for DiskSpec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Ram { size_bytes } => write!(f, "ram:{}", format_size(*size_bytes)),
            Self::Path { path, size_bytes: None } => write!(f, "{}", path.display()),
            Self::Path { path, size_bytes: Some(size) } => {
                write!(f, "{}:{}", path.display(), format_size(*size))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn path(path: &str, size_bytes: Option<u64>) -> DiskSpec {
        DiskSpec::Path { path: path.into(), size_bytes }
    }

    #[test]
    fn names_read_as_path_size_or_memory() {
        let cases = [
            ("ram:1GiB", DiskSpec::Ram { size_bytes: 1 << 30 }),
            ("/dev/sdb", path("/dev/sdb", None)),
            ("data/disk0:10G", path("data/disk0", Some(10 << 30))),
            (
                "/dev/disk/by-path/pci-0000:00:1f.2-ata-1",
                path("/dev/disk/by-path/pci-0000:00:1f.2-ata-1", None),
            ),
        ];
        for (text, spec) in cases {
            assert_eq!(DiskSpec::parse(text).unwrap(), spec, "{text}");
            assert_eq!(DiskSpec::parse(&spec.to_string()).unwrap(), spec, "{spec} reads back");
        }
        assert!(DiskSpec::parse("ram:").is_err());
        assert!(DiskSpec::parse("ram:lots").is_err());
    }

    #[test]
    fn an_existing_file_wins_over_a_size() {
        let dir = tempfile::tempdir().unwrap();
        let name = dir.path().join("pci-0000:00");
        std::fs::write(&name, b"").unwrap();
        let text = name.to_str().unwrap();
        assert_eq!(DiskSpec::parse(text).unwrap(), path(text, None));
    }
}
