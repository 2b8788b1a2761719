//! The files of the repository: everything but what `.gitignore` names, with or without git.

use anyhow::{Context, Result};
use std::path::{Path, PathBuf};

/// A file of the tree: its path from the root with `/` between the parts, and its text.
pub(crate) struct SourceFile {
    pub(crate) path: String,
    pub(crate) text: String,
}

impl SourceFile {
    /// The crate a path like `crates/NAME/...` belongs to.
    pub(crate) fn crate_name(&self) -> Option<&str> {
        self.path.strip_prefix("crates/")?.split('/').next()
    }

    /// Whether a whole file is test code by where it is: `tests/` and `benches/` of a crate, a file of tests, or
    /// `testing`, which is what a crate offers for the tests of others.
    pub(crate) fn is_test_by_place(&self) -> bool {
        let parts: Vec<&str> = self.path.split('/').collect();
        let (name, folders) = parts.split_last().unwrap_or((&"", &[]));
        folders.iter().any(|f| matches!(*f, "tests" | "testing" | "benches" | "examples"))
            || matches!(*name, "tests.rs" | "testing.rs")
            || name.ends_with("_tests.rs")
    }
}

/// The folder of the workspace's `Cargo.toml`.
pub(crate) fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

/// Every text file of the tree, sorted by path; files that are not UTF-8 are left out.
///
/// # Errors
/// When a folder or file cannot be read.
pub(crate) fn files(root: &Path) -> Result<Vec<SourceFile>> {
    let walk = ignore::WalkBuilder::new(root)
        .hidden(false)
        .require_git(false)
        .parents(false)
        .git_global(false)
        .filter_entry(|entry| entry.file_name() != ".git")
        .build();
    let mut files = Vec::new();
    for entry in walk {
        let entry = entry?;
        if !entry.file_type().is_some_and(|kind| kind.is_file()) {
            continue;
        }
        let bytes = std::fs::read(entry.path()).with_context(|| format!("{}", entry.path().display()))?;
        let Ok(text) = String::from_utf8(bytes) else { continue };
        let path = entry.path().strip_prefix(root)?.to_string_lossy().replace('\\', "/");
        files.push(SourceFile { path, text });
    }
    files.sort_by(|a, b| a.path.cmp(&b.path));
    Ok(files)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(path: &str) -> SourceFile {
        SourceFile { path: path.to_owned(), text: String::new() }
    }

    #[test]
    fn tests_are_known_by_their_place() {
        assert!(file("crates/store/tests/recovery.rs").is_test_by_place());
        assert!(file("crates/store/src/map/tests.rs").is_test_by_place());
        assert!(file("crates/store/src/map_tests.rs").is_test_by_place());
        assert!(!file("crates/store/src/map.rs").is_test_by_place());
    }

    #[test]
    fn a_crate_is_named_by_its_folder() {
        assert_eq!(file("crates/scsi/src/lib.rs").crate_name(), Some("scsi"));
        assert_eq!(file("tests/tidy.toml").crate_name(), None);
    }

    #[test]
    fn the_tree_has_this_file_and_nothing_that_was_built() {
        let files = files(&root()).unwrap();
        assert!(files.iter().any(|f| f.path == "crates/xtask/src/tree.rs"));
        assert!(!files.iter().any(|f| f.path.starts_with("target/") || f.path.starts_with(".git/")));
    }
}
